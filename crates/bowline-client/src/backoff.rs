//! Waiting between attempts to connect.

use std::time::Duration;

use bowline_proto::time::Duration as Span;

/// Doubling pauses between a first and a longest one, each shortened at random by up to a half, so
/// that a thousand boards do not come back in the same moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Pause after the first failure.
    pub first: Duration,
    /// Longest pause.
    pub longest: Duration,
}

impl Backoff {
    /// Pauses of at most `timeout`, so that what is pending arrives within three of it after the
    /// server is back.
    #[must_use]
    pub fn within(timeout: Duration) -> Self {
        Backoff { first: timeout / 12, longest: timeout }
    }

    /// The pause after this many failures in a row (at least 1), with `random` in `0.0..1.0`.
    #[must_use]
    pub fn pause(&self, failures: u32, random: f64) -> Duration {
        let micros = |span: Duration| Span::from_micros(u64::try_from(span.as_micros()).unwrap_or(u64::MAX));
        let rules = bowline_proto::Backoff { first: micros(self.first), longest: micros(self.longest) };
        let random = (random.clamp(0.0, 1.0) * f64::from(u32::MAX)) as u32;
        Duration::from_micros(rules.pause(failures, random).as_micros())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_jitter_only_shortens_them() {
        let backoff = Backoff { first: Duration::from_millis(100), longest: Duration::from_secs(1) };
        let millis = |failures, random| backoff.pause(failures, random).as_millis();
        assert_eq!([1, 2, 3, 4, 5, 60].map(|failures| millis(failures, 0.0)), [100, 200, 400, 800, 1000, 1000]);
        assert_eq!(millis(1, 1.0), 50);
        assert_eq!(millis(u32::MAX, 1.0), 500);
    }
}
