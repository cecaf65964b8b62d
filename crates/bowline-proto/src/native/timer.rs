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

/// At most one deadline for each [`Timer`].
#[derive(Debug, Clone, Default)]
pub(super) struct Timers([Option<Instant>; Timer::Write as usize + 1]);

impl Timers {
    pub(super) fn set(&mut self, timer: Timer, at: Instant) {
        self.0[timer as usize] = Some(at);
    }

    pub(super) fn set_if_unset(&mut self, timer: Timer, at: Instant) {
        self.0[timer as usize].get_or_insert(at);
    }

    pub(super) fn stop(&mut self, timer: Timer) {
        self.0[timer as usize] = None;
    }

    pub(super) fn get(&self, timer: Timer) -> Option<Instant> {
        self.0[timer as usize]
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
