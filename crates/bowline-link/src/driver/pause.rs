//! When a link does not read.

use bowline_proto::time::{Duration, Instant};

/// Whether a link reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pause {
    No,
    /// The peer is too fast.
    Until(Instant),
    /// The application takes nothing. It wakes the link when it does.
    UntilRoom,
    /// The peer does not take our answers. The socket wakes the link when it does.
    UntilWritten,
    /// The store is slow. It wakes the link.
    UntilStored,
}

/// Counts messages against a limit a second.
#[derive(Debug)]
pub(crate) struct Rate {
    limit: u32,
    count: u32,
    window: Instant,
}

impl Rate {
    pub(crate) fn new(limit: Option<u32>) -> Self {
        Rate { limit: limit.unwrap_or(u32::MAX).max(1), count: 0, window: Instant::ZERO }
    }

    pub(crate) fn count(&mut self) {
        self.count = self.count.saturating_add(1);
    }

    /// If this second's messages are used up: when the next second starts.
    pub(crate) fn exhausted(&mut self, now: Instant) -> Option<Instant> {
        let end = self.window + Duration::from_millis(1_000);
        if now >= end {
            self.window = now;
            self.count = 0;
            return None;
        }
        (self.count >= self.limit).then_some(end)
    }
}
