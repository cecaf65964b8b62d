//! The random source of the engines' random worlds, with the fuzzer behind it.
//!
//! The worlds of `crates/bowline-proto/tests` take all their decisions from one place. Here that place
//! hands out the fuzzer's bytes, so that it is the fuzzer who decides who crashes when.

use std::rc::Rc;

use bowline_proto::time::Duration;

/// The fuzzer's bytes, and what comes when they are used up: numbers that hang on nothing but their count.
#[derive(Debug, Clone)]
pub struct Rng {
    bytes: Rc<[u8]>,
    at: usize,
}

impl Rng {
    /// Decides by these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Rng { bytes: bytes.into(), at: 0 }
    }

    /// Decides by none: seeds are the tests'.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Rng::of(&seed.to_be_bytes())
    }

    fn byte(&mut self) -> u8 {
        let at = self.at;
        self.at += 1;
        let mixed = (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.bytes.get(at).copied().unwrap_or((mixed >> 56) as u8)
    }

    /// A number from `low` to `high`, both included.
    pub fn range(&mut self, low: u64, high: u64) -> u64 {
        let span = high - low + 1;
        let (mut value, mut reach) = (0, 1);
        while reach < span {
            value = value << 8 | u64::from(self.byte());
            reach <<= 8;
        }
        low + value % span
    }

    /// A time between these milliseconds. In whole ones: more bytes would decide nothing more.
    pub fn millis(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_millis(self.range(low, high))
    }

    /// Yes, in so many of a hundred cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.range(1, 100) <= percent
    }

    /// A place in something of this length.
    pub fn index(&mut self, len: usize) -> usize {
        self.range(0, len as u64 - 1) as usize
    }
}
