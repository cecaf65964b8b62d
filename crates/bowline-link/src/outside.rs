//! What no program knows by itself, and what is not the same in two runs.

use std::io;
use std::time::SystemTime;

/// Where random bytes and the wall clock come from. Everything else that happens follows from what comes in and from
/// the runtime's clock, so that a simulation that gives these repeats itself.
#[derive(Debug, Clone, Copy)]
pub struct Outside {
    /// Fills a buffer with bytes that nobody can guess.
    pub random: fn(&mut [u8]) -> io::Result<()>,
    /// The time of day. For people, and for lifetimes across restarts; nothing else depends on it.
    pub wall: fn() -> SystemTime,
}

impl Default for Outside {
    /// The system's.
    fn default() -> Self {
        let random = |bytes: &mut [u8]| getrandom::fill(bytes).map_err(|error| io::Error::other(error.to_string()));
        Outside { random, wall: SystemTime::now }
    }
}

impl Outside {
    /// Random bytes.
    ///
    /// # Errors
    /// When the system gives none.
    pub fn bytes<const N: usize>(&self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        (self.random)(&mut bytes)?;
        Ok(bytes)
    }
}
