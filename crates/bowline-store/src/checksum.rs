//! What tells damage: a checksum of 64 bits.
//!
//! Damage is not only a flipped bit in a row: a flipped pointer makes SQLite read a row out of any other
//! bytes. So that none of them passes for a row, ever, it has 64 bits; it mixes them word by word, as
//! xxHash does, so that it costs little also where messages are large.

/// The checksum of numbers and bytes, in order.
///
/// Each step maps words one to one, and states one to one: damage within one word of eight bytes always
/// changes the checksum. Any other damage leaves it with a chance of one in 2^64.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Checksum(u64);

/// Odd, and without a pattern.
const FACTORS: [u64; 3] = [0x9e37_79b1_85eb_ca87, 0xc2b2_ae3d_27d4_eb4f, 0x85eb_ca77_c2b2_ae63];

impl Checksum {
    /// Of nothing yet. What is said of one table is never true of another one.
    pub(crate) const fn new(table: u64) -> Self {
        Checksum(FACTORS[2]).with(table)
    }

    /// And this number.
    pub(crate) const fn with(self, word: u64) -> Self {
        let word = word.wrapping_mul(FACTORS[1]).rotate_left(31).wrapping_mul(FACTORS[0]);
        Checksum((self.0 ^ word).rotate_left(27).wrapping_mul(FACTORS[0]).wrapping_add(FACTORS[2]))
    }

    /// And these bytes, which end here.
    pub(crate) fn with_bytes(self, bytes: &[u8]) -> Self {
        let (words, rest) = bytes.as_chunks::<8>();
        let whole = words.iter().fold(self.with(bytes.len() as u64), |sum, word| sum.with(u64::from_le_bytes(*word)));
        if rest.is_empty() {
            return whole;
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        whole.with(u64::from_le_bytes(last))
    }

    /// As SQLite's signed number.
    pub(crate) const fn value(self) -> i64 {
        let mixed = (self.0 ^ self.0 >> 33).wrapping_mul(FACTORS[1]);
        let mixed = (mixed ^ mixed >> 29).wrapping_mul(FACTORS[0]);
        (mixed ^ mixed >> 32).cast_signed()
    }
}

#[cfg(test)]
mod tests {
    use super::Checksum;

    fn of(bytes: &[u8]) -> i64 {
        Checksum::new(1).with_bytes(bytes).value()
    }

    /// They are in databases: the same for ever.
    #[test]
    fn checksums_stay_what_they_are() {
        let seen = [of(b""), of(b"bowline"), of(&[200; 5_000]), Checksum::new(2).with(7).value()];
        let made = [2695004324840978612, 1143550925498510128, 1065350475905116728, 6042504091340636940];
        assert_eq!(seen, made);
    }

    #[test]
    fn any_one_or_two_bits_change_it() {
        let mut bytes: Vec<u8> = (0..61).collect();
        let whole = of(&bytes);
        let bits = bytes.len() * 8;
        let flip = |bytes: &mut Vec<u8>, bit: usize| bytes[bit / 8] ^= 1 << (bit % 8);
        for one in 0..bits {
            flip(&mut bytes, one);
            assert_ne!(of(&bytes), whole, "bit {one}");
            for other in one + 1..bits {
                flip(&mut bytes, other);
                assert_ne!(of(&bytes), whole, "bits {one} and {other}");
                flip(&mut bytes, other);
            }
            flip(&mut bytes, one);
        }
    }

    #[test]
    fn where_bytes_end_matters() {
        assert_ne!(of(b"a\0"), of(b"a"));
        assert_ne!(of(b""), of(b"\0"));
        let two = |one: &[u8], other| Checksum::new(1).with_bytes(one).with_bytes(other).value();
        assert_ne!(two(b"ab", b"c"), two(b"a", b"bc"));
        assert_ne!(two(b"", b"12345678"), two(b"12345678", b""));
    }
}
