//! The deadlines of a link, one table.

use crate::time::Instant;

/// What a deadline is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timer {
    /// Nothing was sent for a while: say that we are alive.
    Keepalive,
    /// Nothing was heard for too long: an outage.
    Silence,
    /// The message in flight was not acknowledged: send it again.
    Resend,
    /// The peer has had its pause after the login: messages may go.
    Settle,
    /// A pacing token is due.
    Pace,
    /// The peer takes no bytes.
    Write,
}

const COUNT: usize = Timer::Write as usize + 1;

/// At most one deadline for each [`Timer`].
#[derive(Debug, Clone, Default)]
pub(super) struct Timers([Option<Instant>; COUNT]);

impl Timers {
    pub(super) fn set(&mut self, timer: Timer, at: Instant) {
        self.0[timer as usize] = Some(at);
    }

    /// Sets the timer unless it is due earlier anyway.
    pub(super) fn set_earlier(&mut self, timer: Timer, at: Instant) {
        let slot = &mut self.0[timer as usize];
        *slot = Some(slot.map_or(at, |old| old.min(at)));
    }

    pub(super) fn stop(&mut self, timer: Timer) {
        self.0[timer as usize] = None;
    }

    pub(super) fn is_set(&self, timer: Timer) -> bool {
        self.0[timer as usize].is_some()
    }

    /// Whether the timer's deadline has come. It stays set.
    pub(super) fn is_due(&self, timer: Timer, now: Instant) -> bool {
        self.0[timer as usize].is_some_and(|at| at <= now)
    }

    /// The nearest deadline.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.iter().flatten().min().copied()
    }
}
