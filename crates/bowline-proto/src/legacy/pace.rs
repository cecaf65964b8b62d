//! Pacing: small boards keep 5 (H) or 20 (U) unread messages and drop the link at one more (§2.7).

use crate::time::{Duration, Instant};

/// How fast messages may go to a peer: at most `burst` at once, then one every `interval`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Messages that may go at once. At least 1.
    pub burst: u32,
    /// Time after which one more may go. Zero switches pacing off.
    pub interval: Duration,
}

impl Pace {
    /// As fast as acknowledgements allow.
    pub const OFF: Pace = Pace { burst: 1, interval: Duration::ZERO };
}

/// A token bucket over [`Pace`], kept as the time at which it would be full.
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    pace: Pace,
    full_at: Instant,
}

impl Bucket {
    pub(super) fn new(pace: Pace, now: Instant) -> Self {
        Bucket { pace: Pace { burst: pace.burst.max(1), ..pace }, full_at: now }
    }

    /// `Ok` if a message may go now while `spare` tokens are left, else when it may.
    pub(super) fn ready(&self, now: Instant, spare: u32) -> Result<(), Instant> {
        // Tokens missing now = (full_at - now) / interval, rounded up; one goes, `spare` stay.
        let may_miss = u64::from(self.pace.burst.saturating_sub(spare.min(self.pace.burst - 1) + 1));
        let wait = self.full_at.since(now);
        let allowed = self.pace.interval.scaled(may_miss, 1);
        if wait <= allowed { Ok(()) } else { Err(now + Duration::from_micros(wait.as_micros() - allowed.as_micros())) }
    }

    /// A message goes.
    pub(super) fn take(&mut self, now: Instant) {
        self.full_at = self.full_at.max(now) + self.pace.interval;
    }
}
