//! The deadlines of a link, one table.

use crate::time::Instant;

/// What a deadline is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timer {
    /// Nothing was heard for too long, or the link has not started in time.
    Silence,
    /// Nothing was sent for a while: ask whether the peer is there.
    Keepalive,
    /// An acknowledgement has waited long enough.
    Ack,
    /// Lossy transports: no progress.
    Resend,
    /// The peer takes no bytes.
    Write,
}

/// At most one deadline for each [`Timer`]: [`NEVER`] where there is none.
#[derive(Debug, Clone)]
pub(super) struct Timers([Instant; Timer::Write as usize + 1]);

/// Half a million years after the driver's origin.
const NEVER: Instant = Instant::from_micros(u64::MAX);

impl Default for Timers {
    fn default() -> Self {
        Timers([NEVER; Timer::Write as usize + 1])
    }
}

impl Timers {
    pub(super) fn set(&mut self, timer: Timer, at: Instant) {
        self.0[timer as usize] = at;
    }

    pub(super) fn set_if_unset(&mut self, timer: Timer, at: Instant) {
        if !self.is_set(timer) {
            self.set(timer, at);
        }
    }

    pub(super) fn stop(&mut self, timer: Timer) {
        self.0[timer as usize] = NEVER;
    }

    pub(super) fn is_set(&self, timer: Timer) -> bool {
        self.0[timer as usize] != NEVER
    }

    /// Whether the timer's deadline has come. It stays set.
    pub(super) fn is_due(&self, timer: Timer, now: Instant) -> bool {
        self.0[timer as usize] <= now
    }

    /// The nearest deadline; there is one, as [`Timer::Silence`] is never stopped.
    pub(super) fn next(&self) -> Instant {
        self.0.iter().fold(NEVER, |next, at| next.min(*at))
    }

    /// The nearest of those that end the link.
    pub(super) fn next_end(&self) -> Instant {
        self.0[Timer::Silence as usize].min(self.0[Timer::Write as usize])
    }
}
