//! Waiting between attempts to connect.

use crate::time::Duration;

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
    /// Where trying again soon is in vain, the pause is so many of the longest ones.
    pub const LONG: u32 = 10;

    /// Pauses of at most `timeout`, so that what is pending arrives within three of it after the
    /// server is back.
    #[must_use]
    pub const fn within(timeout: Duration) -> Self {
        Backoff { first: timeout.scaled(1, 12), longest: timeout }
    }

    /// The pause after this many failures in a row (at least 1), with `random` any number.
    #[must_use]
    pub fn pause(&self, failures: u32, random: u32) -> Duration {
        // 2^20 times any pause worth configuring is beyond the longest.
        let doublings = failures.saturating_sub(1).min(20);
        let pause = self.first.scaled(1 << doublings, 1).min(self.longest);
        // In units of 2^-17: no product of a pause of less than five years is cut off.
        pause.scaled((1 << 17) - u64::from(random >> 16), 1 << 17)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_jitter_only_shortens_them() {
        let backoff = Backoff { first: Duration::from_millis(100), longest: Duration::from_millis(1_000) };
        let micros = |failures, random| backoff.pause(failures, random).as_micros();
        assert_eq!(
            [1, 2, 3, 4, 5, 60].map(|failures| micros(failures, 0)),
            [100_000, 200_000, 400_000, 800_000, 1_000_000, 1_000_000]
        );
        assert_eq!((micros(1, 1 << 31), micros(1, u32::MAX)), (75_000, 50_000));
        assert_eq!(micros(u32::MAX, u32::MAX), 500_007);
    }
}
