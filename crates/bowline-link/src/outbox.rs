//! Messages to send, in order.

use std::collections::VecDeque;
use std::task::{Poll, Waker};

use bowline_proto::legacy::Queue;
use bowline_proto::time::Instant;

use crate::policy::Options;
use crate::status::DownReason;
use crate::{Dialect, DropReason, Message, Policy, Receipt, SendError};

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

/// Who waits for a message.
#[derive(Debug)]
enum Caller {
    /// Has not polled yet, or needs no waking.
    Silent,
    Waiting(Waker),
    /// Has dropped its future, or has been told.
    Gone,
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
        if let Caller::Waiting(waker) = std::mem::replace(&mut self.caller, Caller::Silent) {
            waker.wake();
        }
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

    /// A best-effort message. `fresh` if it would be the first of the process.
    pub(crate) fn push_best_effort(&mut self, message: Message, fresh: bool) -> Result<Ticket, SendError> {
        if fresh && self.entries.is_empty() {
            return Ok(self.push(message, Options::default(), Instant::ZERO, true));
        }
        if self.best_effort.len() >= self.best_effort_capacity {
            return Err(SendError::Full { limit: self.best_effort_capacity });
        }
        let ticket = self.ticket();
        let entry = self.entry(ticket, message, Options::default(), Instant::ZERO, false);
        self.best_effort.push_back(entry);
        Ok(ticket)
    }

    fn entry(&self, ticket: Ticket, message: Message, options: Options, now: Instant, upgraded: bool) -> Entry {
        let Options { policy, ttl, receipt } = options;
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

    /// Stored messages dropped since the last call.
    pub(crate) fn take_taken(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.taken)
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

    /// Removes holes from the front: a line dialect cannot tell of them.
    pub(crate) fn skip_holes(&mut self) {
        while self.numbered > 0 && self.entries[0].message().is_none() {
            self.handle_acked(self.entries[0].seq);
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

    // Dropping.

    /// Drops messages whose time is up and which were not sent: those behind `sent`.
    pub(crate) fn expire(&mut self, now: Instant, sent: u64) {
        let due = |entry: &Entry| entry.expires.is_some_and(|at| at <= now);
        self.drop_where(sent, DropReason::Expired, due);
    }

    /// Whether the time of the message under `seq` is up.
    pub(crate) fn is_expired(&self, seq: u64, now: Instant) -> bool {
        let entry = self.entries.get(self.index(seq)).filter(|entry| entry.seq == seq);
        entry.and_then(|entry| entry.expires).is_some_and(|at| at <= now)
    }

    fn drop_stream(&mut self, policy: Policy, header: &[u8], sent: u64) {
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

    fn drop_oldest(&mut self, newer: &Message, sent: u64) {
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
        if !matches!(entry.caller, Caller::Gone) {
            self.failed.push((entry.ticket, error));
            entry.wake();
            entry.caller = Caller::Gone;
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

    // Best effort.

    /// The link takes the next best-effort message. `put` puts it into the link's output and says where
    /// it ends there.
    pub(crate) fn take_best_effort(&mut self, put: impl FnOnce(&Message) -> u64) {
        if let Some(entry) = self.best_effort.pop_front()
            && let Some(message) = entry.message()
        {
            let end = put(message);
            self.writing.push_back((entry, end));
        }
    }

    /// Fails the best-effort message at the front: the peer cannot take it.
    pub(crate) fn fail_best_effort(&mut self, error: SendError) {
        if let Some(mut entry) = self.best_effort.pop_front()
            && !matches!(entry.caller, Caller::Gone)
        {
            self.failed.push((entry.ticket, error));
            entry.wake();
        }
    }

    /// The best-effort message at the front.
    pub(crate) fn best_effort(&self) -> Option<&Message> {
        self.best_effort.front().and_then(Entry::message)
    }

    /// The link has written its output up to here, and the `head` with it if that was not before.
    pub(crate) fn written(&mut self, up_to: u64, head: bool) {
        while self.writing.front().is_some_and(|(_, end)| *end <= up_to) {
            if let Some((mut entry, _)) = self.writing.pop_front() {
                entry.wake();
            }
        }
        if let Some(entry) = self.entries.front_mut().filter(|entry| head && entry.upgraded) {
            entry.wake();
            // Told: `poll` takes it from here.
            entry.caller = Caller::Gone;
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
        for entry in gone.iter_mut().chain(&mut self.entries) {
            if !matches!(entry.caller, Caller::Gone) {
                self.failed.push((entry.ticket, SendError::Closed));
                entry.wake();
                entry.caller = Caller::Gone;
            }
        }
    }

    // Callers.

    /// How the message with this ticket is doing. Wakes `waker` when that changes.
    pub(crate) fn poll(&mut self, ticket: Ticket, waker: &Waker) -> Poll<Result<(), SendError>> {
        let stored = self.stored;
        if let Some(entry) = self.find(ticket) {
            let accepted = entry.receipt == Receipt::Accepted && entry.seq > 0 && entry.seq <= stored;
            match &entry.caller {
                Caller::Gone => {}
                _ if accepted => entry.caller = Caller::Gone,
                Caller::Waiting(old) if old.will_wake(waker) => return Poll::Pending,
                Caller::Silent | Caller::Waiting(_) => {
                    entry.caller = Caller::Waiting(waker.clone());
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(match self.failed.iter().position(|(failed, _)| *failed == ticket) {
            Some(at) => Err(self.failed.swap_remove(at).1),
            None => Ok(()),
        })
    }

    /// Whether the message will be sent, or was, whatever becomes of its caller.
    pub(crate) fn is_accepted(&mut self, ticket: Ticket) -> bool {
        let stored = self.stored;
        if self.failed.iter().any(|(failed, _)| *failed == ticket) {
            return false;
        }
        match self.place(ticket) {
            Some(Place::Qos(at)) => (1..=stored).contains(&self.entries[at].seq),
            _ => true,
        }
    }

    /// Whether the message has a seq, or had one: it stays whatever becomes of its caller.
    pub(crate) fn is_placed(&self, ticket: Ticket) -> bool {
        !matches!(self.place(ticket), Some(Place::Qos(at)) if at >= self.numbered)
    }

    /// The caller is gone. A message that has no seq yet goes with it, any other stays.
    pub(crate) fn abandon(&mut self, ticket: Ticket) {
        self.failed.retain(|(failed, _)| *failed != ticket);
        match self.place(ticket) {
            Some(Place::Qos(at)) if at >= self.numbered => {
                self.entries.remove(at);
            }
            Some(_) => {
                if let Some(entry) = self.find(ticket) {
                    entry.caller = Caller::Gone;
                }
                // Kept only for its caller.
                self.handled.retain(|entry| entry.ticket != ticket);
            }
            None => {}
        }
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

    fn place(&self, ticket: Ticket) -> Option<Place> {
        if let Ok(at) = self.entries.binary_search_by_key(&ticket, |entry| entry.ticket) {
            return Some(Place::Qos(at));
        }
        let is_it = |entry: &Entry| entry.ticket == ticket;
        let elsewhere = self.best_effort.iter().any(is_it)
            || self.writing.iter().any(|(entry, _)| is_it(entry))
            || self.handled.iter().any(is_it);
        elsewhere.then_some(Place::Elsewhere)
    }

    fn find(&mut self, ticket: Ticket) -> Option<&mut Entry> {
        if let Ok(at) = self.entries.binary_search_by_key(&ticket, |entry| entry.ticket) {
            return self.entries.get_mut(at);
        }
        self.best_effort
            .iter_mut()
            .chain(self.writing.iter_mut().map(|(entry, _)| entry))
            .chain(self.handled.iter_mut())
            .find(|entry| entry.ticket == ticket)
    }
}

enum Place {
    Qos(usize),
    Elsewhere,
}

#[cfg(test)]
mod holes;

#[cfg(test)]
mod tests {
    use super::*;

    fn outbox() -> Outbox {
        Outbox::new(2, 1024, 8)
    }

    fn push(outbox: &mut Outbox, text: &str) -> Ticket {
        let ticket = outbox.push_qos(text.into(), Options::default(), Instant::ZERO, 0);
        outbox.handle_stored(outbox.last());
        ticket
    }

    fn is_done(outbox: &mut Outbox, ticket: Ticket) -> bool {
        outbox.poll(ticket, Waker::noop()).is_ready()
    }

    #[test]
    fn a_best_effort_message_is_done_when_its_own_bytes_are_written() {
        let mut outbox = outbox();
        let [first, second] = ["1", "2"].map(|text| outbox.push_best_effort(text.into(), false).unwrap());
        outbox.take_best_effort(|_| 10);
        outbox.take_best_effort(|_| 20);
        outbox.written(9, false);
        assert!(!is_done(&mut outbox, first));
        outbox.written(10, false);
        assert!(is_done(&mut outbox, first) && !is_done(&mut outbox, second));
        outbox.link_ended(DownReason::PeerClosed, false);
        assert_eq!(outbox.poll(second, Waker::noop()), Poll::Ready(Err(SendError::LinkEnded(DownReason::PeerClosed))));
    }

    #[test]
    fn what_waits_for_room_leaves_with_its_caller_and_what_is_accepted_stays() {
        let mut outbox = outbox();
        let tickets = ["1", "2", "3", "4"].map(|text| push(&mut outbox, text));
        assert_eq!(tickets.map(|ticket| outbox.is_accepted(ticket)), [true, true, false, false]);
        for ticket in tickets {
            if ticket != tickets[3] {
                outbox.abandon(ticket);
            }
        }
        let mut sent = Vec::new();
        while let Some(message) = outbox.head() {
            sent.push(message.text().unwrap().to_owned());
            outbox.delivered();
            outbox.handle_stored(outbox.last());
        }
        assert_eq!(sent, ["1", "2", "4"], "3 was taken back, 4 moved up");
        assert!(is_done(&mut outbox, tickets[3]));
    }

    #[test]
    fn what_a_close_gives_up_is_counted() {
        let mut outbox = outbox();
        let tickets = ["1", "2", "3"].map(|text| push(&mut outbox, text));
        outbox.delivered();
        outbox.close(false);
        assert_eq!(outbox.lost, 2, "one was delivered, the last one had moved up");
        assert_eq!(outbox.poll(tickets[1], Waker::noop()), Poll::Ready(Err(SendError::Closed)));
    }
}
