//! What fuzz targets share: decisions taken from bytes, and the checksums that would otherwise keep
//! mutated bytes from getting anywhere.

pub mod rng;

/// Decisions, taken from the front of the fuzzer's bytes.
///
/// When they are used up every decision is 0: a target that goes on until [`Choices::is_empty`] comes
/// to an end, and a shorter input is a shorter run.
#[derive(Debug, Clone)]
pub struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    /// All decisions there will be.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Choices(bytes)
    }

    /// Nothing is left to decide.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Any byte.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// Yes or no.
    pub fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// A number below `limit`, of one byte as long as that reaches.
    ///
    /// # Panics
    /// If `limit` is 0.
    pub fn below(&mut self, limit: usize) -> usize {
        let mut value = 0;
        let mut reach = 1;
        while reach < limit {
            value = value << 8 | usize::from(self.byte());
            reach <<= 8;
        }
        value % limit
    }

    /// One of these.
    ///
    /// # Panics
    /// If there is none.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// Mostly a small number, now and then one of the ends of 64 bits.
    pub fn number(&mut self) -> u64 {
        match self.byte() {
            small @ 0..=199 => small.into(),
            200..=219 => u64::from(self.byte()) << 8 | u64::from(self.byte()),
            220..=234 => (1 << 62) - u64::from(self.byte()),
            235..=244 => u64::MAX - u64::from(self.byte()),
            _ => (1 << 32) + u64::from(self.byte()) - 128,
        }
    }

    /// Some of the bytes as they are, at most `most`.
    pub fn bytes(&mut self, most: usize) -> &'a [u8] {
        let len = self.below(most + 1).min(self.0.len());
        let (front, rest) = self.0.split_at(len);
        self.0 = rest;
        front
    }

    /// All bytes that are left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }
}

/// CRC-32 of IEEE 802.3, as it stands in saved sessions and serial frames (§8.5).
#[must_use]
pub fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc: u32, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    })
}
