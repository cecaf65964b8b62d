//! Messages received.

use std::collections::VecDeque;

use bowline_proto::{legacy, native};

use crate::Message;
use crate::message::Origin;

/// Most qos messages that wait for room in a full inbox. The engine refuses more.
const PARKED: usize = 16;

/// Bytes of dead letters kept in memory, whatever their number; the newest is kept in any case.
const DEAD_BYTES: usize = 64 * 1024;

/// A message that nobody can handle, with its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The line as it came, or the message's payload.
    pub bytes: Vec<u8>,
    /// What is wrong with it.
    pub reason: String,
}

/// Received messages until the application has handled them.
///
/// A qos message gets a seq and is handed out once it is durable, and so is everything before it. On the
/// dialects of lines one that finds no room is *parked* with its ticket: it is neither acknowledged nor
/// forgotten, its resends are recognised, and acknowledgements behind it still get through, so that an
/// application that sends before it receives cannot lock itself out. On N nobody sends what there is
/// no room for.
#[derive(Debug)]
pub(crate) struct Inbox {
    messages: VecDeque<Item>,
    bytes: usize,
    parked: VecDeque<(legacy::Ticket, Message)>,
    capacity: usize,
    capacity_bytes: usize,
    /// The highest seq given to a message.
    last: u64,
    /// Everything up to here is durable.
    durable: u64,
    /// Handed out and not handled, in order of seqs; handled ones wait for those before them.
    out: VecDeque<Out>,
    /// Of those, by [`Inbox::take`] without `until_next`, and not handled: they still take up room.
    held: usize,
    held_bytes: usize,
    /// Everything up to here was handled.
    processed: u64,
    /// Of the message up to which everything was handled.
    native_processed: Option<native::Ticket>,
    /// Handled before others that came earlier, for the store to drop.
    taken: Vec<u64>,
    /// Messages handled since somebody asked.
    handled: u64,
    dead: VecDeque<DeadLetter>,
    dead_capacity: usize,
    dead_bytes: usize,
    /// Dead letters since the start, those the box has dropped since included.
    pub(crate) buried: u64,
    /// New messages are not accepted any more; they come again to whoever comes after us. On N none are
    /// asked for any more: what there is credit for still comes.
    pub(crate) draining: bool,
}

#[derive(Debug)]
struct Item {
    /// 0: best effort.
    seq: u64,
    ticket: Option<native::Ticket>,
    message: Message,
}

/// A message that the application has.
#[derive(Debug)]
struct Out {
    seq: u64,
    ticket: Option<native::Ticket>,
    handled: bool,
    /// It counts as handled when the next one is asked for.
    until_next: bool,
    size: usize,
}

/// What became of a message received on a line dialect.
pub(crate) enum Accepted {
    /// It is in, with this seq if it is to be stored. The ticket may be given back as accepted when it
    /// is durable.
    In(legacy::Ticket, Option<u64>),
    /// It waits for room.
    Parked,
    /// There is no room: the ticket is to be given back as refused.
    Refused(legacy::Ticket),
}

impl Inbox {
    pub(crate) fn new(capacity: usize, capacity_bytes: usize, dead_capacity: usize) -> Self {
        Inbox {
            messages: VecDeque::new(),
            bytes: 0,
            parked: VecDeque::new(),
            capacity: capacity.max(4),
            capacity_bytes,
            last: 0,
            durable: 0,
            out: VecDeque::new(),
            held: 0,
            held_bytes: 0,
            processed: 0,
            native_processed: None,
            taken: Vec::new(),
            handled: 0,
            dead: VecDeque::new(),
            dead_capacity: dead_capacity.max(1),
            dead_bytes: 0,
            buried: 0,
            draining: false,
        }
    }

    /// Goes on behind `last`, of which everything up to `processed` was handled.
    pub(crate) fn start_behind(&mut self, last: u64, processed: u64) {
        (self.last, self.durable, self.processed) = (last, last, processed);
    }

    /// Puts back a stored message.
    pub(crate) fn restore(&mut self, message: Message, ticket: Option<native::Ticket>) {
        let seq = message.seq().unwrap_or(0);
        self.bytes += message.size();
        self.messages.push_back(Item { seq, ticket, message });
    }

    /// Takes in a message of a line dialect. `lasting` if it is to survive a restart; `waits` if its
    /// sender keeps it until it is acknowledged.
    pub(crate) fn accept(&mut self, ticket: legacy::Ticket, message: Message, lasting: bool, waits: bool) -> Accepted {
        if self.draining {
            return Accepted::Refused(ticket);
        }
        // A quarter of the room is for messages whose sender waits: best effort never delays them.
        let capacity = if waits { self.capacity } else { self.capacity - self.capacity / 4 };
        if self.parked.is_empty() && self.fits(capacity, message.size()) {
            Accepted::In(ticket, self.push(message, lasting))
        } else if waits && self.parked.len() < PARKED {
            self.parked.push_back((ticket, message));
            Accepted::Parked
        } else {
            Accepted::Refused(ticket)
        }
    }

    /// Takes in a qos message of dialect N under the seq it has there.
    pub(crate) fn accept_native(&mut self, seq: u64, ticket: native::Ticket, message: Message) {
        debug_assert!(seq > self.last, "{seq} comes behind {}", self.last);
        let gap = if bowline_proto::planted!(GapNotReported) { 0 } else { seq.saturating_sub(self.last + 1) };
        let origin = Origin { seq, gap, ..message.origin() };
        self.last = self.last.max(seq);
        self.insert(Item { seq, ticket: Some(ticket), message: message.with_origin(origin) });
    }

    /// Takes in a best-effort message of dialect N, if there is room.
    pub(crate) fn accept_best_effort(&mut self, message: Message) -> bool {
        let fits = !self.draining && self.fits(self.capacity - self.capacity / 4, message.size());
        if fits {
            self.insert(Item { seq: 0, ticket: None, message });
        }
        fits
    }

    /// Takes in a dead letter, behind everything that was received, up to `last` at least, if there is
    /// room. On N the peer keeps the room it was told of: the inbox may hold as many more. Says its seq.
    pub(crate) fn put_back_dead(&mut self, last: u64, message: Message) -> Option<u64> {
        if !self.parked.is_empty() || !self.fits(self.capacity, message.size()) {
            return None;
        }
        let seq = self.last.max(last) + 1;
        let origin = Origin { seq, gap: seq - (self.last + 1), ..message.origin() };
        self.last = seq;
        self.insert(Item { seq, ticket: None, message: message.with_origin(origin) });
        Some(seq)
    }

    fn fits(&self, capacity: usize, size: usize) -> bool {
        let fits = self.bytes + self.held_bytes + size <= self.capacity_bytes;
        self.len() < capacity && (self.is_empty() || fits)
    }

    fn push(&mut self, message: Message, lasting: bool) -> Option<u64> {
        let seq = if lasting { self.last + 1 } else { 0 };
        let origin = Origin { seq, ..message.origin() };
        self.last += u64::from(lasting);
        self.insert(Item { seq, ticket: None, message: message.with_origin(origin) });
        lasting.then_some(seq)
    }

    fn insert(&mut self, item: Item) {
        self.bytes += item.message.size();
        self.messages.push_back(item);
    }

    /// What can be received beside what is here: messages, and bytes of payload. When empty, at least
    /// one of the `largest` payload.
    pub(crate) fn room(&self, largest: usize) -> native::Room {
        if self.draining {
            return native::Room::default();
        }
        let bytes = self.capacity_bytes.saturating_sub(self.bytes + self.held_bytes);
        let bytes = if self.is_empty() { bytes.max(largest) } else { bytes };
        native::Room { messages: self.capacity.saturating_sub(self.len()) as u64, bytes: bytes as u64 }
    }

    /// Whether a message would be accepted at once.
    pub(crate) fn has_room(&self) -> bool {
        !self.draining && self.parked.is_empty() && self.fits(self.capacity - self.capacity / 4, 0)
    }

    // For the store.

    /// Messages with a seq above `seq`, in order.
    pub(crate) fn behind(&self, seq: u64) -> impl Iterator<Item = &Message> {
        let new = self.messages.iter().rev().take_while(|item| item.seq == 0 || item.seq > seq).count();
        self.messages.range(self.messages.len() - new..).filter(|item| item.seq > 0).map(|item| &item.message)
    }

    /// The lowest seq of a message that is here.
    pub(crate) fn first(&self) -> Option<u64> {
        self.messages.iter().map(|item| item.seq).find(|seq| *seq > 0)
    }

    /// The highest seq given to a message.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// Everything up to `seq` is durable. Says whether there is something to hand out.
    pub(crate) fn handle_durable(&mut self, seq: u64) -> bool {
        self.durable = self.durable.max(seq);
        self.has_next()
    }

    /// Everything up to here was handled.
    pub(crate) fn processed(&self) -> u64 {
        self.processed
    }

    /// Of the message up to which everything was handled, if it came on N in this process.
    pub(crate) fn native_processed(&self) -> Option<native::Ticket> {
        self.native_processed
    }

    /// Messages handled before others that came earlier, since the last call.
    pub(crate) fn take_taken(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.taken)
    }

    /// Messages handled since the last call.
    pub(crate) fn take_handled(&mut self) -> u64 {
        std::mem::take(&mut self.handled)
    }

    // For the application.

    /// Whether there is something to hand out.
    pub(crate) fn has_next(&self) -> bool {
        self.messages.front().is_some_and(|item| item.seq <= self.durable)
    }

    /// The oldest message. `until_next`: it counts as handled when the next one is asked for. Otherwise it takes
    /// up room until [`Inbox::handled`], so that what an application holds is bounded as what waits for it is.
    pub(crate) fn take(&mut self, until_next: bool) -> Option<Message> {
        let item = self.messages.pop_front_if(|item| item.seq <= self.durable)?;
        self.bytes -= item.message.size();
        if item.seq > 0 {
            // What was put back comes before what is out.
            let at = self.out.partition_point(|out| out.seq < item.seq);
            let size = item.message.size();
            self.out.insert(at, Out { seq: item.seq, ticket: item.ticket, handled: false, until_next, size });
            if !until_next {
                self.held += 1;
                self.held_bytes += size;
            }
        }
        Some(item.message)
    }

    /// The application asks for the next message, so that it has handled those it had. Says whether
    /// that is news.
    pub(crate) fn handled_until_next(&mut self) -> bool {
        let mut news = false;
        while let Some(at) = self.out.iter().position(|out| out.until_next && !out.handled) {
            self.handled(self.out[at].seq);
            news = true;
        }
        news
    }

    /// The application has handled the message with this seq.
    pub(crate) fn handled(&mut self, seq: u64) {
        let Ok(at) = self.out.binary_search_by_key(&seq, |out| out.seq) else { return };
        if !std::mem::replace(&mut self.out[at].handled, true) {
            self.handled += 1;
            self.lets_go(at);
        }
        // One that was put back is not handled.
        let waiting = self.messages.iter().find(|item| item.seq > 0).map_or(u64::MAX, |item| item.seq);
        if at > 0 || seq > waiting {
            self.taken.push(seq);
            // Only what the store is told of by its own number may lose its place.
            self.merge(at);
        }
        while let Some(out) = self.out.pop_front_if(|out| out.handled && out.seq < waiting) {
            self.processed = self.processed.max(out.seq);
            self.native_processed = out.ticket.or(self.native_processed);
        }
    }

    /// What is handled and waits beside another one for the same message before them needs no place of its own:
    /// a message that takes long costs no memory for each one behind it.
    fn merge(&mut self, at: usize) {
        let is_handled = |out: &VecDeque<Out>, at: usize| out.get(at).is_some_and(|out| out.handled);
        if is_handled(&self.out, at + 1) {
            self.out.remove(at);
        }
        if at > 0 && is_handled(&self.out, at - 1) && is_handled(&self.out, at) {
            self.out.remove(at - 1);
        }
    }

    /// The application has the message no more.
    fn lets_go(&mut self, at: usize) {
        let out = &self.out[at];
        if !out.until_next {
            self.held -= 1;
            self.held_bytes -= out.size;
        }
    }

    /// The application gives the message back, unhandled: it is the next to be handed out.
    pub(crate) fn put_back(&mut self, message: Message) {
        let seq = message.seq().unwrap_or(0);
        let at = self.out.binary_search_by_key(&seq, |out| out.seq).ok();
        let out = at.and_then(|at| {
            self.lets_go(at);
            self.out.remove(at)
        });
        let ticket = out.and_then(|out| out.ticket);
        self.bytes += message.size();
        let at = self.messages.iter().position(|item| item.seq > seq).unwrap_or(self.messages.len());
        self.messages.insert(if seq == 0 { 0 } else { at }, Item { seq, ticket, message });
    }

    /// Moves the oldest parked message in, if there is room, and returns its ticket and seq.
    pub(crate) fn unpark(&mut self) -> Option<(legacy::Ticket, u64)> {
        if !self.fits(self.capacity, self.parked.front()?.1.size()) {
            return None;
        }
        let (ticket, message) = self.parked.pop_front()?;
        let seq = self.push(message, true)?;
        Some((ticket, seq))
    }

    /// Moves all parked messages in, whether there is room or not, and returns their tickets: they come before
    /// what another dialect numbers from here on.
    pub(crate) fn unpark_all(&mut self) -> Vec<legacy::Ticket> {
        let parked = std::mem::take(&mut self.parked);
        let (tickets, messages): (Vec<_>, Vec<_>) = parked.into_iter().unzip();
        for message in messages {
            self.push(message, true);
        }
        tickets
    }

    /// Messages that wait for the application, and those that it has and has not handled.
    pub(crate) fn len(&self) -> usize {
        self.messages.len() + self.held
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Messages that the application has and has not handled.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// Whether nothing is here or waits for room, and the application has nothing that it has not handled.
    pub(crate) fn is_idle(&self) -> bool {
        self.messages.is_empty() && self.parked.is_empty() && self.out.is_empty()
    }

    /// Keeps what nobody can handle. The oldest goes when the box is full; `buried` tells.
    pub(crate) fn bury(&mut self, bytes: Vec<u8>, reason: String) {
        self.dead_bytes += bytes.len();
        while self.dead.len() == self.dead_capacity || self.dead_bytes > DEAD_BYTES && !self.dead.is_empty() {
            if let Some(oldest) = self.dead.pop_front() {
                self.dead_bytes -= oldest.bytes.len();
            }
        }
        self.dead.push_back(DeadLetter { bytes, reason });
        self.buried += 1;
    }

    pub(crate) fn dead_letters(&self) -> Vec<DeadLetter> {
        self.dead.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests;
