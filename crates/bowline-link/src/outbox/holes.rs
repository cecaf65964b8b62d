//! Messages that are not sent after all, and the holes they leave.

use bowline_proto::time::Instant;

use super::callers::{Caller, Place};
use super::{Content, Entry, Leaving, Outbox, REASON_LOST, Ticket};
use crate::{Dialect, DropReason, Message, Policy, Receipt, SendError};

impl Outbox {
    /// Everything up to `last` that was not put back was dropped.
    pub(crate) fn restore_holes(&mut self, last: u64) {
        if self.last < last {
            let content = Content::Hole { first: self.last + 1, reason: REASON_LOST };
            let entry = Entry {
                ticket: self.ticket(),
                seq: last,
                content,
                policy: Policy::Block,
                receipt: Receipt::Accepted,
                expires: None,
                caller: Caller::Gone,
                upgraded: false,
            };
            self.put_back(entry);
        }
    }

    /// Removes holes from the front: a line dialect cannot tell of them.
    pub(crate) fn skip_holes(&mut self) {
        while self.numbered > 0 && self.entries[0].message().is_none() {
            self.handle_acked(self.entries[0].seq);
        }
    }

    /// Drops messages whose time is up and which were not sent: those behind `sent`.
    pub(crate) fn expire(&mut self, now: Instant, sent: u64) {
        let due = |entry: &Entry| entry.expires.is_some_and(|at| at <= now);
        self.drop_where(sent, DropReason::Expired, due);
    }

    /// The caller's patience is at its end: drops the message if its time is up and it was not sent.
    pub(crate) fn expire_ticket(&mut self, ticket: Ticket, now: Instant, sent: u64) {
        if let Some(Place::Qos(at)) = self.place(ticket) {
            let entry = &self.entries[at];
            let unsent = entry.seq == 0 || entry.seq > sent;
            if unsent && entry.message().is_some() && entry.expires.is_some_and(|at| at <= now) {
                self.drop_at(at, DropReason::Expired);
                self.admit();
            }
        }
    }

    /// Whether the time of the message under `seq` is up.
    pub(crate) fn is_expired(&self, seq: u64, now: Instant) -> bool {
        let entry = self.entries.get(self.index(seq)).filter(|entry| entry.seq == seq);
        entry.and_then(|entry| entry.expires).is_some_and(|at| at <= now)
    }

    pub(super) fn drop_stream(&mut self, policy: Policy, header: &[u8], sent: u64) {
        self.drop_where(sent, DropReason::Replaced, |entry| entry.is_of(policy, header));
    }

    fn drop_where(&mut self, sent: u64, reason: DropReason, which: impl Fn(&Entry) -> bool) {
        let mut at = self.index(sent + 1);
        while at < self.entries.len() {
            if self.entries[at].message().is_some() && which(&self.entries[at]) {
                at = self.drop_at(at, reason);
            } else {
                at += 1;
            }
        }
        self.admit();
    }

    pub(super) fn drop_oldest(&mut self, newer: &Message, sent: u64) {
        let from = self.index(sent + 1);
        let is_of_stream = |entry: &Entry| entry.is_of(Policy::DropOldest, newer.header());
        if let Some(at) = (from..self.entries.len()).find(|&at| is_of_stream(&self.entries[at])) {
            self.drop_at(at, DropReason::Oldest);
            self.admit();
        }
    }

    /// Drops the message under `seq`, which was not sent. Gives it back if nobody waits for it.
    pub(crate) fn drop_seq(&mut self, seq: u64, reason: DropReason, error: SendError) -> Option<Message> {
        let at = self.index(seq);
        let entry = self.entries.get_mut(at).filter(|entry| entry.seq == seq)?;
        let message = entry.message()?.clone();
        let orphan = matches!(entry.caller, Caller::Gone);
        self.dropped += u64::from(reason == DropReason::Expired);
        self.drop_for(at, reason, error);
        self.admit();
        orphan.then_some(message)
    }

    /// Removes messages at the head that `dialect` cannot carry: what a device speaks is known only
    /// when it is there. Returns those nobody waits for. Not to be called with one in flight.
    pub(crate) fn drop_unsendable(
        &mut self,
        dialect: Dialect,
        limit: usize,
        now: Instant,
    ) -> Vec<(Message, SendError)> {
        let mut orphans = Vec::new();
        self.skip_holes();
        while let Some(head) = self.head() {
            let seq = self.entries[0].seq;
            let error = match head.check(dialect, true, limit) {
                Err(error) => SendError::from(error),
                Ok(()) if self.is_expired(seq, now) => {
                    self.drop_at(0, DropReason::Expired);
                    self.skip_holes();
                    continue;
                }
                Ok(()) => break,
            };
            let orphan = self.drop_seq(seq, DropReason::TooLarge, error.clone());
            orphans.extend(orphan.map(|message| (message, error)));
            self.skip_holes();
        }
        orphans
    }

    fn drop_at(&mut self, at: usize, reason: DropReason) -> usize {
        self.dropped += 1;
        self.drop_for(at, reason, SendError::Dropped(reason))
    }

    /// Makes a hole of a message, or removes it if it has no seq. Says where the entry behind it is.
    fn drop_for(&mut self, at: usize, reason: DropReason, error: SendError) -> usize {
        let entry = &mut self.entries[at];
        // The store has it, or is being given it.
        let stored = entry.seq > 0 && entry.seq <= self.offered;
        match std::mem::replace(&mut entry.caller, Caller::Gone) {
            Caller::Gone => {}
            caller if stored => self.leaving.push(Leaving { ticket: entry.ticket, error, caller, given: false }),
            caller => {
                self.failed.push((entry.ticket, error));
                caller.wake();
            }
        }
        if entry.seq == 0 {
            self.entries.remove(at);
            return at;
        }
        let seq = entry.seq;
        let hole = Content::Hole { first: seq, reason: reason.code() };
        if let Content::Message(message) = std::mem::replace(&mut entry.content, hole) {
            self.live -= 1;
            self.live_bytes -= message.size();
            // What the store was never given, it need not drop.
            if seq <= self.offered {
                self.taken.push(seq);
            }
        }
        // Neighbours become one, so that a stream of which only the latest counts takes no memory
        // however long the peer is away.
        self.merge(at + 1);
        if self.merge(at) { at } else { at + 1 }
    }

    /// Merges the hole at `at` into the one before it, if both are holes.
    fn merge(&mut self, at: usize) -> bool {
        let Some(before) = at.checked_sub(1).filter(|_| at < self.numbered) else { return false };
        let (Content::Hole { first, reason: a }, Content::Hole { reason: b, .. }) =
            (&self.entries[before].content, &self.entries[at].content)
        else {
            return false;
        };
        let (first, a, b) = (*first, *a, *b);
        // Holes of different reasons stay apart, as far as that is affordable.
        if a != b && self.numbered < 4 * self.capacity {
            return false;
        }
        let reason = if a == b { a } else { REASON_LOST };
        self.entries[at].content = Content::Hole { first, reason };
        self.entries.remove(before);
        self.numbered -= 1;
        true
    }
}

#[cfg(test)]
mod tests;
