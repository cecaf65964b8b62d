//! Which of the last accepted messages can come again.

use crate::wire::MessageId;

/// Most messages remembered: on U a sender may have several unacknowledged at once.
pub(super) const DEPTH: usize = 32;

/// The last accepted messages that their sender may send again, newest last.
///
/// The ids are 8 bits and come round: a bit map of all ids goes stale. This is a short window
/// instead, and a message is known again only by its id *and* its bytes, so that an id that comes
/// round with another message is never taken for the old one (§2.5).
#[derive(Debug, Clone)]
pub(super) struct Recent {
    entries: [Entry; DEPTH],
    len: usize,
    /// Entries kept; 1 where a sender has one message in flight.
    depth: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    id: MessageId,
    digest: u64,
}

impl Recent {
    pub(super) const fn new(depth: usize) -> Self {
        let depth = if depth == 0 || depth > DEPTH { DEPTH } else { depth };
        Recent { entries: [Entry { id: MessageId::FIRST, digest: 0 }; DEPTH], len: 0, depth }
    }

    /// How many messages are remembered, as many as their sender may have in flight.
    pub(super) const fn depth(&self) -> usize {
        self.depth
    }

    /// Says whether there was anything.
    pub(super) fn clear(&mut self) -> bool {
        core::mem::take(&mut self.len) > 0
    }

    /// Id and digest of each, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (MessageId, u64)> {
        self.entries[..self.len].iter().map(|entry| (entry.id, entry.digest))
    }

    pub(super) fn contains(&self, id: MessageId, digest: u64) -> bool {
        if crate::planted!(DedupeWrap) {
            return self.iter().any(|(old, _)| old.number() % 32 == id.number() % 32);
        }
        self.entries[..self.len].contains(&Entry { id, digest })
    }

    pub(super) fn contains_id(&self, id: MessageId) -> bool {
        self.entries[..self.len].iter().any(|entry| entry.id == id)
    }

    /// Whether this was the last one accepted.
    pub(super) fn ends_with(&self, id: MessageId, digest: u64) -> bool {
        self.entries[..self.len].last() == Some(&Entry { id, digest })
    }

    pub(super) fn push(&mut self, id: MessageId, digest: u64) {
        if self.len == self.depth {
            self.entries.copy_within(1..self.len, 0);
            self.len -= 1;
        }
        self.entries[self.len] = Entry { id, digest };
        self.len += 1;
    }

    /// The sender stands at `id`: it will not send anything again that is far from there. Says whether
    /// there was any of that.
    pub(super) fn forget_far_from(&mut self, id: MessageId) -> bool {
        let mut kept = 0;
        for at in 0..self.len {
            let entry = self.entries[at];
            if !entry.id.is_far_from(id) {
                self.entries[kept] = entry;
                kept += 1;
            }
        }
        let forgot = kept < self.len;
        self.len = kept;
        forgot
    }
}

/// A digest of a line, to tell a resend from another message under the same id (FNV-1a, 64 bits).
/// Saved sessions contain it, so it stays what it is (§6.3).
/// Not against forgery: a device that forges its own lines harms only itself.
pub(super) fn digest(line: &[u8]) -> u64 {
    line.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
