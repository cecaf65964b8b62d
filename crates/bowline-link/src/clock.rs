//! The engine's monotonic clock over tokio's, and beside it that on the wall.

use std::time::SystemTime;

use bowline_proto::time::Instant;
use bowline_store::Millis;

use crate::Outside;

/// Turns tokio's monotonic time into the engine's and back. Wall-clock time never comes into it: a clock
/// that is set changes nothing.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    origin: tokio::time::Instant,
    wall: fn() -> SystemTime,
}

impl Clock {
    /// A clock whose origin is now.
    #[must_use]
    pub fn start(outside: Outside) -> Self {
        Clock { origin: tokio::time::Instant::now(), wall: outside.wall }
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> Instant {
        let micros = self.origin.elapsed().as_micros();
        // 2^64 microseconds are 584,000 years.
        Instant::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }

    /// When `at` is on tokio's clock.
    #[must_use]
    pub fn at(&self, at: Instant) -> tokio::time::Instant {
        self.origin + std::time::Duration::from_micros(at.as_micros())
    }

    /// The time for what people read and for lifetimes across restarts; nothing else depends on it.
    pub(crate) fn wall(&self) -> Millis {
        let since = (self.wall)().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Millis(u64::try_from(since.as_millis()).unwrap_or(0))
    }
}
