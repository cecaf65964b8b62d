//! What the messages say: which run, which device, which message, and filling. Each is different from all others, and
//! known without being kept.

/// Bytes that every payload has: quotes, run, device, number.
const FIXED: usize = 2 + 8 + 8 + 12;

/// One device's payloads, each a JSON string of the same length.
#[derive(Debug)]
pub(super) struct Payload {
    /// The payload written last, or read last.
    text: Box<[u8]>,
}

/// What a payload turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// The message of this device with this number, whole.
    Number(u64),
    /// Of another run, or not the generator's.
    Foreign,
    /// Of this run and not as it was sent.
    Wrong,
}

impl Payload {
    /// Payloads of `bytes` bytes, or of as many as it takes at least.
    pub(super) fn new(run: u32, device: u32, bytes: usize) -> Self {
        let mut text = format!("\"{run:08x}{device:08x}{:012x}", 0).into_bytes();
        let filling = (0..bytes.saturating_sub(FIXED)).map(|at| b'a' + (at % 26) as u8);
        text.extend(filling);
        text.push(b'"');
        Payload { text: text.into() }
    }

    pub(super) fn len(&self) -> usize {
        self.text.len()
    }

    /// The payload of this number.
    pub(super) fn write(&mut self, number: u64) -> &[u8] {
        for (at, byte) in self.text[17..29].iter_mut().enumerate() {
            *byte = b"0123456789abcdef"[(number >> (44 - 4 * at)) as usize & 15];
        }
        &self.text
    }

    /// Compares every byte of what has come with what was sent.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Read {
        if bytes.get(..9) != Some(&self.text[..9]) {
            return Read::Foreign;
        }
        let number = bytes.get(17..29).and_then(|digits| str::from_utf8(digits).ok());
        match number.and_then(|digits| u64::from_str_radix(digits, 16).ok()) {
            Some(number) if self.write(number) == bytes => Read::Number(number),
            _ => Read::Wrong,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let mut ours = Payload::new(0x1234_abcd, 7, 64);
        let mut bytes = ours.write(0x00ab_cdef).to_vec();
        assert_eq!(bytes.len(), 64);
        assert!(serde_json::from_slice::<String>(&bytes).is_ok(), "boards on H take JSON only");
        assert_eq!(ours.read(&bytes), Read::Number(0x00ab_cdef));
        for at in 9..bytes.len() {
            bytes[at] ^= 1;
            assert_ne!(ours.read(&bytes), Read::Number(0x00ab_cdef), "byte {at}");
            bytes[at] ^= 1;
        }
        assert_eq!(ours.read(&bytes[..63]), Read::Wrong);
        assert_eq!(Payload::new(0x1234_abcd, 8, 64).read(&bytes), Read::Wrong, "another device's");
        assert_eq!(Payload::new(0x1234_abce, 7, 64).read(&bytes), Read::Foreign, "another run's");
        assert_eq!(ours.read(b"hello"), Read::Foreign);
    }

    #[test]
    fn a_payload_has_its_length() {
        for bytes in [30, 32, 256, 65_000] {
            assert_eq!(Payload::new(1, 2, bytes).write(3).len(), bytes);
        }
    }
}
