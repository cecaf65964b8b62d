//! The engine's monotonic clock over tokio's.

use bowline_proto::time::Instant;

/// Turns tokio's monotonic time into the engine's and back. Wall-clock time never comes in: a clock
/// that is set changes nothing.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    origin: tokio::time::Instant,
}

impl Clock {
    /// A clock whose origin is now.
    #[must_use]
    pub fn start() -> Self {
        Clock { origin: tokio::time::Instant::now() }
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
}
