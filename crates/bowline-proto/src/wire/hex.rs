//! Hexadecimal digits as they stand in the legacy dialects: lower case sent, either case accepted.

/// The value of one digit, or `None`.
const fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// The byte that two digits stand for, or `None`.
pub(crate) const fn pair(high: u8, low: u8) -> Option<u8> {
    match (digit(high), digit(low)) {
        (Some(high), Some(low)) => Some(high << 4 | low),
        _ => None,
    }
}

/// The two digits of `byte`.
pub(crate) const fn digits(byte: u8) -> [u8; 2] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    [DIGITS[(byte >> 4) as usize], DIGITS[(byte & 0x0f) as usize]]
}

/// Bytes written as hexadecimal digits: a checked view, decoded as it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HexBytes<'a> {
    /// An even number of digits; checked in `parse`.
    digits: &'a [u8],
}

impl<'a> HexBytes<'a> {
    /// No bytes.
    pub const EMPTY: HexBytes<'static> = HexBytes { digits: &[] };

    /// Checks that `digits` are pairs of hexadecimal digits.
    pub(crate) fn parse(digits: &'a [u8]) -> Option<Self> {
        let whole = digits.len().is_multiple_of(2);
        (whole && digits.iter().all(|&byte| digit(byte).is_some())).then_some(HexBytes { digits })
    }

    /// How many bytes the digits stand for.
    #[must_use]
    pub const fn len(self) -> usize {
        self.digits.len() / 2
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.digits.is_empty()
    }

    /// The bytes, decoded one by one.
    pub fn bytes(self) -> impl ExactSizeIterator<Item = u8> + 'a {
        // `parse` has seen every digit, so the fallback value cannot occur.
        self.digits.chunks_exact(2).map(|two| pair(two[0], two[1]).unwrap_or(0))
    }
}
