//! Between the time of embassy and that of the engine.

use bowline_proto::time::{Duration, Instant};
use embassy_time::{TICK_HZ, Timer};

/// Microseconds of a tick, less one, where a tick is longer than that.
const ROUND_UP: u64 = if TICK_HZ < 1_000_000 { 1_000_000 / TICK_HZ } else { 0 };

pub(crate) fn now() -> Instant {
    Instant::from_micros(embassy_time::Instant::now().as_micros())
}

/// Rings at `at` or within a tick after it: never before it, or the engine would be asked again and again.
pub(crate) fn at(at: Instant) -> Timer {
    Timer::at(embassy_time::Instant::from_micros(at.as_micros().saturating_add(ROUND_UP)))
}

pub(crate) const fn span(span: embassy_time::Duration) -> Duration {
    Duration::from_micros(span.as_micros())
}

/// So much later, or never where clocks end.
pub(crate) fn after(span: embassy_time::Duration) -> embassy_time::Instant {
    embassy_time::Instant::now().checked_add(span).unwrap_or(embassy_time::Instant::MAX)
}

/// At most a day, which no conversion between the two is too short for.
pub(crate) fn wait(span: Duration) -> embassy_time::Duration {
    const DAY: u64 = 86_400_000_000;
    embassy_time::Duration::from_micros(span.as_micros().min(DAY))
}
