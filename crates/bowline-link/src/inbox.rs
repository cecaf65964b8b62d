//! Messages received.

use std::collections::VecDeque;

use bowline_proto::legacy::Ticket;

use crate::Message;

/// Most qos messages that wait for room in a full inbox. The engine refuses more.
const PARKED: usize = 16;

/// Bytes of dead letters kept, whatever their number; the newest is kept in any case.
const DEAD_BYTES: usize = 64 * 1024;

/// A message that nobody can handle, with its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The line as it came, or the message's payload.
    pub bytes: Vec<u8>,
    /// What is wrong with it.
    pub reason: String,
}

/// Received messages until the application takes them.
///
/// A qos message that finds no room is *parked* with its ticket: it is neither acknowledged nor
/// forgotten, its resends are recognised, and acknowledgements behind it still get through, so that an
/// application that sends before it receives cannot lock itself out.
#[derive(Debug)]
pub(crate) struct Inbox {
    messages: VecDeque<Message>,
    parked: VecDeque<(Ticket, Message)>,
    capacity: usize,
    dead: VecDeque<DeadLetter>,
    dead_capacity: usize,
    dead_bytes: usize,
    /// Dead letters since the start, those the box has dropped since included.
    pub(crate) buried: u64,
    /// New messages are not accepted any more; they come again to whoever comes after us.
    pub(crate) draining: bool,
}

/// What became of a received message.
pub(crate) enum Accepted {
    /// The ticket may be given back as accepted.
    Now(Ticket),
    /// It waits for room.
    Parked,
    /// There is no room: the ticket is to be given back as refused.
    Refused(Ticket),
}

impl Inbox {
    pub(crate) fn new(capacity: usize, dead_capacity: usize) -> Self {
        Inbox {
            messages: VecDeque::new(),
            parked: VecDeque::new(),
            capacity: capacity.max(4),
            dead: VecDeque::new(),
            dead_capacity: dead_capacity.max(1),
            dead_bytes: 0,
            buried: 0,
            draining: false,
        }
    }

    /// Takes a message in.
    pub(crate) fn accept(&mut self, ticket: Ticket, message: Message, waits: bool) -> Accepted {
        if self.draining {
            return Accepted::Refused(ticket);
        }
        // A quarter of the room is for messages whose sender waits: best effort never delays them.
        let capacity = if waits { self.capacity } else { self.capacity - self.capacity / 4 };
        if self.parked.is_empty() && self.messages.len() < capacity {
            self.messages.push_back(message);
            Accepted::Now(ticket)
        } else if waits && self.parked.len() < PARKED {
            self.parked.push_back((ticket, message));
            Accepted::Parked
        } else {
            Accepted::Refused(ticket)
        }
    }

    /// Whether a message would be accepted at once.
    pub(crate) fn has_room(&self) -> bool {
        !self.draining && self.parked.is_empty() && self.messages.len() < self.capacity - self.capacity / 4
    }

    /// The oldest message.
    pub(crate) fn take(&mut self) -> Option<Message> {
        self.messages.pop_front()
    }

    /// Moves the oldest parked message in, if there is room, and returns its ticket.
    pub(crate) fn unpark(&mut self) -> Option<Ticket> {
        if self.messages.len() >= self.capacity {
            return None;
        }
        let (ticket, message) = self.parked.pop_front()?;
        self.messages.push_back(message);
        Some(ticket)
    }

    pub(crate) fn len(&self) -> usize {
        self.messages.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
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
