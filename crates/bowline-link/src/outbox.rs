//! Messages to send, in order: numbered, stored, sent and acknowledged.

mod best_effort;
mod callers;
mod holes;

use std::collections::VecDeque;

use bowline_proto::legacy::Queue;
use bowline_proto::time::Instant;

use self::callers::Caller;
use crate::policy::Options;
use crate::status::DownReason;
use crate::{DropReason, Message, Policy, Receipt, SendError};

/// Names one message of an outbox in this process. Later messages have higher tickets.
pub(crate) type Ticket = u64;

/// The reason of a gap whose own is not known any more (§11.5).
pub(crate) const REASON_LOST: u8 = 0;

/// Qos and best-effort messages waiting to be sent, or to be acknowledged.
///
/// Qos messages for which there is room are *accepted*: they get a seq, are stored, and will be sent
/// whatever becomes of their callers. Those behind wait for room and leave with their callers. Both stand
/// in one queue, so that the order of calls is the order of messages. An accepted message that is
/// dropped leaves a hole: its seq is told to the peer as a gap.
#[derive(Debug)]
pub(crate) struct Outbox {
    entries: VecDeque<Entry>,
    /// Entries at the front that have a seq. Their seqs follow each other without a break.
    numbered: usize,
    /// Of those: messages; the others are holes.
    live: usize,
    live_bytes: usize,
    capacity: usize,
    capacity_bytes: usize,
    /// The highest seq given to a message.
    last: u64,
    /// Everything up to here is stored. Nothing behind it is sent.
    pub(crate) stored: u64,
    /// The store was given messages up to here.
    offered: u64,
    /// Everything up to here has arrived and is gone.
    acked: u64,
    /// Stored messages that were dropped, for the store to drop too.
    taken: Vec<u64>,
    best_effort: VecDeque<Entry>,
    best_effort_capacity: usize,
    /// Best-effort messages handed to the link, with the place in its output where they end.
    writing: VecDeque<(Entry, u64)>,
    /// Messages that have arrived, whose callers wait until they are processed.
    handled: VecDeque<Entry>,
    next_ticket: Ticket,
    /// What went wrong with messages whose callers have not looked yet.
    failed: Vec<(Ticket, SendError)>,
    /// Dropped, and still in the store: until it is gone there, a crash would bring it back.
    leaving: Vec<Leaving>,
    pub(crate) closed: bool,
    /// Messages accepted and given up.
    pub(crate) lost: usize,
    /// Messages dropped by policies since somebody asked.
    dropped: u64,
}

#[derive(Debug)]
struct Entry {
    ticket: Ticket,
    /// 0 while it waits for room. The last one of a hole.
    seq: u64,
    content: Content,
    policy: Policy,
    receipt: Receipt,
    expires: Option<Instant>,
    caller: Caller,
    /// The caller asked for best effort, but the message opens the epoch of ids (§2.4): it is kept
    /// until acknowledged, and the caller is told when it is written.
    upgraded: bool,
}

#[derive(Debug)]
enum Content {
    Message(Message),
    /// Messages dropped, from `first` to the entry's seq.
    Hole {
        first: u64,
        reason: u8,
    },
}

/// A dropped message, and who is to be told once the store has it no more.
#[derive(Debug)]
struct Leaving {
    ticket: Ticket,
    error: SendError,
    caller: Caller,
    /// Its removal is on its way to the store.
    given: bool,
}

/// What stands in the outbox under a seq.
pub(crate) enum Item<'a> {
    Message(&'a Message),
    Dropped { last: u64, reason: u8 },
}

/// A message of the outbox for the store.
pub(crate) struct ToStore<'a> {
    pub(crate) seq: u64,
    pub(crate) message: &'a Message,
    pub(crate) policy: Policy,
    pub(crate) expires: Option<Instant>,
}

impl Entry {
    fn wake(&mut self) {
        std::mem::replace(&mut self.caller, Caller::Silent).wake();
    }

    fn message(&self) -> Option<&Message> {
        match &self.content {
            Content::Message(message) => Some(message),
            Content::Hole { .. } => None,
        }
    }

    fn first(&self) -> u64 {
        match self.content {
            Content::Message(_) => self.seq,
            Content::Hole { first, .. } => first,
        }
    }

    fn is_of(&self, policy: Policy, header: &[u8]) -> bool {
        self.policy == policy && self.message().is_some_and(|message| message.header() == header)
    }
}

impl Outbox {
    pub(crate) fn new(capacity: usize, capacity_bytes: usize, best_effort_capacity: usize) -> Self {
        Outbox {
            entries: VecDeque::new(),
            numbered: 0,
            live: 0,
            live_bytes: 0,
            capacity: capacity.max(1),
            capacity_bytes,
            last: 0,
            stored: 0,
            offered: 0,
            acked: 0,
            taken: Vec::new(),
            best_effort: VecDeque::new(),
            best_effort_capacity: best_effort_capacity.max(1),
            writing: VecDeque::new(),
            handled: VecDeque::new(),
            next_ticket: 0,
            failed: Vec::new(),
            leaving: Vec::new(),
            closed: false,
            lost: 0,
            dropped: 0,
        }
    }

    /// Goes on behind `acked`; what was stored behind it comes by [`Outbox::restore`].
    pub(crate) fn start_behind(&mut self, acked: u64) {
        (self.acked, self.last, self.stored, self.offered) = (acked, acked, acked, acked);
    }

    /// Puts back a stored message. Seqs left out before it were dropped.
    pub(crate) fn restore(&mut self, seq: u64, message: Message, policy: Policy, expires: Option<Instant>) {
        self.restore_holes(seq - 1);
        let ticket = self.ticket();
        self.live += 1;
        self.live_bytes += message.size();
        let content = Content::Message(message);
        let receipt = Receipt::Accepted;
        let entry = Entry { ticket, seq, content, policy, receipt, expires, caller: Caller::Gone, upgraded: false };
        self.put_back(entry);
    }

    fn put_back(&mut self, entry: Entry) {
        (self.last, self.stored, self.offered) = (entry.seq, entry.seq, entry.seq);
        self.entries.push_back(entry);
        self.numbered += 1;
    }

    /// A qos message. What was sent, up to `sent`, is not touched by its policy.
    pub(crate) fn push_qos(&mut self, message: Message, options: Options, now: Instant, sent: u64) -> Ticket {
        if options.policy == Policy::KeepLatest {
            self.drop_stream(Policy::KeepLatest, message.header(), sent);
        } else if !self.has_room(message.size()) {
            self.expire(now, sent);
            if options.policy == Policy::DropOldest {
                self.drop_oldest(&message, sent);
            }
        }
        self.push(message, options, now, false)
    }

    fn entry(&self, ticket: Ticket, message: Message, options: Options, now: Instant, upgraded: bool) -> Entry {
        let Options { policy, ttl, receipt, .. } = options;
        let expires = ttl.map(|ttl| {
            let micros = u64::try_from(ttl.as_micros()).unwrap_or(u64::MAX);
            now + bowline_proto::time::Duration::from_micros(micros)
        });
        let content = Content::Message(message);
        Entry { ticket, seq: 0, content, policy, receipt, expires, caller: Caller::Silent, upgraded }
    }

    fn push(&mut self, message: Message, options: Options, now: Instant, upgraded: bool) -> Ticket {
        let ticket = self.ticket();
        let entry = self.entry(ticket, message, options, now, upgraded);
        self.entries.push_back(entry);
        self.admit();
        ticket
    }

    fn ticket(&mut self) -> Ticket {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        ticket
    }

    /// Whether one more message of this size would be accepted.
    pub(crate) fn has_room(&self, size: usize) -> bool {
        self.numbered == self.entries.len() && self.fits(size)
    }

    fn fits(&self, size: usize) -> bool {
        self.live < self.capacity && (self.live == 0 || self.live_bytes + size <= self.capacity_bytes)
    }

    /// Accepts what there is room for.
    fn admit(&mut self) {
        while let Some(size) = self.entries.get(self.numbered).and_then(Entry::message).map(Message::size)
            && self.fits(size)
        {
            self.last += 1;
            self.entries[self.numbered].seq = self.last;
            self.numbered += 1;
            self.live += 1;
            self.live_bytes += size;
        }
    }

    // For the store.

    /// Messages numbered after `seq`, which the store has not been given.
    pub(crate) fn behind(&self, seq: u64) -> impl Iterator<Item = ToStore<'_>> {
        let from = self.index(seq + 1);
        self.entries.range(from..self.numbered).filter_map(|entry| {
            let message = entry.message()?;
            Some(ToStore { seq: entry.seq, message, policy: entry.policy, expires: entry.expires })
        })
    }

    /// The highest seq given to a message.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// Everything up to here has arrived.
    pub(crate) fn acked(&self) -> u64 {
        self.acked
    }

    /// Messages dropped by policies since the last call.
    pub(crate) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// Stored messages dropped since the last call: they are removed from the store by the next transaction.
    pub(crate) fn take_taken(&mut self) -> Vec<u64> {
        self.leaving.iter_mut().for_each(|leaving| leaving.given = true);
        std::mem::take(&mut self.taken)
    }

    /// That transaction is committed: who waited is told.
    pub(crate) fn handle_taken(&mut self) {
        for leaving in self.leaving.extract_if(.., |leaving| leaving.given) {
            self.failed.push((leaving.ticket, leaving.error));
            leaving.caller.wake();
        }
    }

    /// The store is given messages up to `seq`.
    pub(crate) fn handle_offered(&mut self, seq: u64) {
        self.offered = self.offered.max(seq);
    }

    /// Everything up to `seq` is stored.
    pub(crate) fn handle_stored(&mut self, seq: u64) {
        let from = self.index(self.stored + 1);
        self.stored = self.stored.max(seq);
        for entry in self.entries.range_mut(from..self.numbered) {
            if entry.seq <= seq && entry.receipt == Receipt::Accepted {
                entry.wake();
            }
        }
    }

    // For the link.

    /// What the engine of a line dialect is told.
    pub(crate) fn queue(&self) -> Queue {
        Queue { qos: self.head().is_some(), best_effort: !self.best_effort.is_empty() }
    }

    /// Whether no qos message is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.live == 0 && self.numbered == self.entries.len()
    }

    /// Qos messages accepted and not yet acknowledged.
    pub(crate) fn accepted(&self) -> usize {
        self.live
    }

    /// The stored message in flight on a line dialect, or the next to be.
    pub(crate) fn head(&self) -> Option<&Message> {
        let head = self.entries.front().filter(|entry| entry.seq > 0 && entry.seq <= self.stored)?;
        head.message()
    }

    /// What stands under `seq`, which is numbered and has not been acknowledged.
    pub(crate) fn item(&self, seq: u64) -> Option<Item<'_>> {
        let entry = self.entries.get(self.index(seq)).filter(|entry| entry.first() <= seq && seq <= entry.seq)?;
        Some(match &entry.content {
            Content::Message(message) => Item::Message(message),
            Content::Hole { reason, .. } => Item::Dropped { last: entry.seq, reason: *reason },
        })
    }

    /// The first numbered entry whose seq is not below `seq`.
    fn index(&self, seq: u64) -> usize {
        // Seqs follow each other: without holes it is found at once.
        let guess = usize::try_from(seq.saturating_sub(self.acked + 1)).unwrap_or(usize::MAX);
        if guess < self.numbered && self.entries[guess].seq == seq {
            return guess;
        }
        let (mut low, mut high) = (0, self.numbered);
        while low < high {
            let middle = usize::midpoint(low, high);
            if self.entries[middle].seq < seq { low = middle + 1 } else { high = middle }
        }
        low
    }

    /// Everything up to `seq` has arrived. Says how many messages that are, holes left out.
    pub(crate) fn handle_acked(&mut self, seq: u64) -> u64 {
        let before = self.live;
        while self.numbered > 0 && self.entries[0].first() <= seq {
            if self.entries[0].seq > seq {
                if let Content::Hole { first, .. } = &mut self.entries[0].content {
                    *first = seq + 1;
                }
                break;
            }
            self.pop();
        }
        self.acked = self.acked.max(seq);
        let arrived = before - self.live;
        self.admit();
        arrived as u64
    }

    /// The message in flight on a line dialect has arrived.
    pub(crate) fn delivered(&mut self) {
        if let Some(head) = self.entries.front().filter(|entry| entry.seq > 0) {
            self.handle_acked(head.seq);
        }
    }

    fn pop(&mut self) {
        let Some(mut entry) = self.entries.pop_front() else { return };
        self.numbered -= 1;
        if let Some(message) = entry.message() {
            self.live -= 1;
            self.live_bytes -= message.size();
        }
        entry.wake();
        if entry.receipt == Receipt::Processed && !matches!(entry.caller, Caller::Gone) {
            // Its bytes are not needed any more.
            entry.content = Content::Hole { first: entry.seq, reason: REASON_LOST };
            self.handled.push_back(entry);
        }
    }

    /// The peer's app has handled everything up to `seq`.
    pub(crate) fn handle_processed(&mut self, seq: u64) {
        while let Some(mut entry) = self.handled.pop_front_if(|entry| entry.seq <= seq) {
            entry.wake();
        }
    }

    /// The peer will not say any more what its app has handled.
    pub(crate) fn forget_handled(&mut self) {
        for mut entry in self.handled.drain(..) {
            if !matches!(entry.caller, Caller::Gone) {
                self.failed.push((entry.ticket, SendError::NoReceipt(entry.receipt)));
                entry.wake();
            }
        }
    }

    // Ends.

    /// The link has ended: best-effort messages go with it. One that opens the epoch and is
    /// `in_flight` stays, for the peer may have it; only its caller is told.
    pub(crate) fn link_ended(&mut self, reason: DownReason, in_flight: bool) {
        if let Some(entry) = self.entries.front_mut().filter(|entry| entry.upgraded) {
            let seq = entry.seq;
            if !matches!(entry.caller, Caller::Gone) {
                self.failed.push((entry.ticket, SendError::LinkEnded(reason)));
                entry.wake();
                entry.caller = Caller::Gone;
            }
            if !in_flight {
                self.drop_seq(seq, DropReason::Removed, SendError::LinkEnded(reason));
                self.skip_holes();
            }
        }
        let writing = self.writing.drain(..).map(|(entry, _)| entry);
        for mut entry in self.best_effort.drain(..).chain(writing) {
            if !matches!(entry.caller, Caller::Gone) {
                self.failed.push((entry.ticket, SendError::LinkEnded(reason)));
                entry.wake();
            }
        }
    }

    /// Nothing will be sent any more, and all callers are told. Accepted messages are lost with the
    /// memory they are in, and counted, unless they are `kept` by a store.
    pub(crate) fn close(&mut self, kept: bool) {
        self.closed = true;
        let writing = self.writing.drain(..).map(|(entry, _)| entry);
        let mut gone: Vec<Entry> = self.best_effort.drain(..).chain(self.handled.drain(..)).chain(writing).collect();
        if !kept {
            self.lost += self.live;
            (self.numbered, self.live, self.live_bytes) = (0, 0, 0);
        }
        gone.extend(self.entries.drain(self.numbered..));
        for Leaving { ticket, error, caller, .. } in self.leaving.drain(..) {
            self.failed.push((ticket, if kept { SendError::Closed } else { error }));
            caller.wake();
        }
        for entry in gone.iter_mut().chain(&mut self.entries) {
            if !matches!(entry.caller, Caller::Gone) {
                self.failed.push((entry.ticket, SendError::Closed));
                entry.wake();
                entry.caller = Caller::Gone;
            }
        }
    }
}

#[cfg(test)]
mod tests;
