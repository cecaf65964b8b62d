//! Messages to send, in order.

use std::collections::VecDeque;
use std::task::{Poll, Waker};

use bowline_proto::Dialect;
use bowline_proto::legacy::Queue;

use crate::status::DownReason;
use crate::{Message, SendError};

/// Names one message of an outbox. Later messages have higher tickets.
pub(crate) type Ticket = u64;

/// Qos and best-effort messages waiting to be sent, or to be acknowledged.
///
/// The first `capacity` qos messages are *accepted*: they will be sent whatever becomes of their
/// callers. Those behind wait for room and leave with their callers. Both stand in one queue, so that
/// the order of calls is the order of messages.
#[derive(Debug)]
pub(crate) struct Outbox {
    qos: VecDeque<Entry>,
    accepted: usize,
    capacity: usize,
    best_effort: VecDeque<Entry>,
    best_effort_capacity: usize,
    /// Best-effort messages handed to the link, whose bytes may not all be written.
    writing: VecDeque<Entry>,
    next_ticket: Ticket,
    /// What went wrong with messages whose callers have not looked yet.
    failed: Vec<(Ticket, SendError)>,
    pub(crate) closed: bool,
}

#[derive(Debug)]
struct Entry {
    ticket: Ticket,
    message: Message,
    caller: Caller,
    /// The caller asked for best effort, but the message opens the epoch of ids (§2.4): it is kept
    /// until acknowledged, and the caller is told when it is written.
    upgraded: bool,
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

impl Entry {
    fn wake(&mut self) {
        if let Caller::Waiting(waker) = std::mem::replace(&mut self.caller, Caller::Silent) {
            waker.wake();
        }
    }
}

impl Outbox {
    pub(crate) fn new(capacity: usize, best_effort_capacity: usize) -> Self {
        Outbox {
            qos: VecDeque::new(),
            accepted: 0,
            capacity: capacity.max(1),
            best_effort: VecDeque::new(),
            best_effort_capacity: best_effort_capacity.max(1),
            writing: VecDeque::new(),
            next_ticket: 0,
            failed: Vec::new(),
            closed: false,
        }
    }

    pub(crate) fn push_qos(&mut self, message: Message) -> Ticket {
        self.push(message, false)
    }

    /// A best-effort message. `fresh` if it would be the first of the process.
    pub(crate) fn push_best_effort(&mut self, message: Message, fresh: bool) -> Result<Ticket, SendError> {
        if fresh && self.qos.is_empty() {
            return Ok(self.push(message, true));
        }
        if self.best_effort.len() >= self.best_effort_capacity {
            return Err(SendError::Full { limit: self.best_effort_capacity });
        }
        let ticket = self.ticket();
        self.best_effort.push_back(Entry { ticket, message, caller: Caller::Silent, upgraded: false });
        Ok(ticket)
    }

    fn push(&mut self, message: Message, upgraded: bool) -> Ticket {
        let ticket = self.ticket();
        self.qos.push_back(Entry { ticket, message, caller: Caller::Silent, upgraded });
        self.admit();
        ticket
    }

    fn ticket(&mut self) -> Ticket {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        ticket
    }

    fn admit(&mut self) {
        self.accepted = self.qos.len().min(self.capacity);
    }

    /// What the engine is told.
    pub(crate) fn queue(&self) -> Queue {
        Queue { qos: !self.qos.is_empty(), best_effort: !self.best_effort.is_empty() }
    }

    /// Whether no qos message is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.qos.is_empty()
    }

    /// Qos messages accepted and not yet acknowledged.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted
    }

    /// The message in flight, or the next to be.
    pub(crate) fn head(&self) -> Option<&Message> {
        self.qos.front().map(|entry| &entry.message)
    }

    /// Removes messages at the head that `dialect` cannot carry: what a device speaks is known only
    /// when it is there. Returns those nobody waits for. Not to be called with one in flight.
    pub(crate) fn drop_unsendable(&mut self, dialect: Dialect, limit: usize) -> Vec<(Message, SendError)> {
        let mut orphans = Vec::new();
        while let Some(Err(error)) = self.head().map(|message| message.repr(true).check(dialect, limit)) {
            orphans.extend(self.fail_head(error.into()));
        }
        orphans
    }

    fn fail_head(&mut self, error: SendError) -> Option<(Message, SendError)> {
        let mut entry = self.qos.pop_front()?;
        self.admit();
        if matches!(entry.caller, Caller::Gone) {
            return Some((entry.message, error));
        }
        self.failed.push((entry.ticket, error));
        entry.wake();
        None
    }

    /// The message in flight has arrived.
    pub(crate) fn delivered(&mut self) {
        if let Some(mut entry) = self.qos.pop_front() {
            entry.wake();
        }
        self.admit();
    }

    /// The link takes the next best-effort message.
    pub(crate) fn take_best_effort(&mut self) -> Option<&Message> {
        let entry = self.best_effort.pop_front()?;
        self.writing.push_back(entry);
        self.writing.back().map(|entry| &entry.message)
    }

    /// The link has written everything it was given, the `head` too if that was among it.
    pub(crate) fn written(&mut self, head: bool) {
        for mut entry in self.writing.drain(..) {
            entry.wake();
        }
        if let Some(entry) = self.qos.front_mut().filter(|entry| head && entry.upgraded) {
            entry.wake();
            // Told: `poll` takes it from here.
            entry.caller = Caller::Gone;
        }
    }

    /// The link has ended: best-effort messages go with it. One that opens the epoch and is
    /// `in_flight` stays, for the peer may have it; only its caller is told.
    pub(crate) fn link_ended(&mut self, reason: DownReason, in_flight: bool) {
        if let Some(entry) = self.qos.front_mut().filter(|entry| entry.upgraded) {
            if !matches!(entry.caller, Caller::Gone) {
                self.failed.push((entry.ticket, SendError::LinkEnded(reason)));
                entry.wake();
                entry.caller = Caller::Gone;
            }
            if !in_flight {
                self.qos.pop_front();
                self.admit();
            }
        }
        let waiting = self.best_effort.drain(..).chain(self.writing.drain(..));
        for mut entry in waiting {
            if !matches!(entry.caller, Caller::Gone) {
                self.failed.push((entry.ticket, SendError::LinkEnded(reason)));
                entry.wake();
            }
        }
    }

    /// Nothing will be sent any more. Accepted messages are lost with the memory they are in.
    pub(crate) fn close(&mut self) {
        self.closed = true;
        let all = self.qos.drain(..).chain(self.best_effort.drain(..)).chain(self.writing.drain(..));
        for mut entry in all {
            if !matches!(entry.caller, Caller::Gone) {
                self.failed.push((entry.ticket, SendError::Closed));
                entry.wake();
            }
        }
        self.accepted = 0;
    }

    /// How the message with this ticket is doing. Wakes `waker` when that changes.
    pub(crate) fn poll(&mut self, ticket: Ticket, waker: &Waker) -> Poll<Result<(), SendError>> {
        if let Some((entry, _)) = self.find(ticket) {
            match &entry.caller {
                Caller::Gone => {}
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

    /// The caller is gone. A message that has not been accepted goes with it, any other stays.
    pub(crate) fn abandon(&mut self, ticket: Ticket) {
        self.failed.retain(|(failed, _)| *failed != ticket);
        let accepted = self.accepted;
        match self.find(ticket) {
            Some((_, Place::Qos(at))) if at >= accepted => {
                self.qos.remove(at);
            }
            Some((entry, _)) => entry.caller = Caller::Gone,
            None => {}
        }
    }

    fn find(&mut self, ticket: Ticket) -> Option<(&mut Entry, Place)> {
        if let Ok(at) = self.qos.binary_search_by_key(&ticket, |entry| entry.ticket) {
            return self.qos.get_mut(at).map(|entry| (entry, Place::Qos(at)));
        }
        self.best_effort
            .iter_mut()
            .chain(self.writing.iter_mut())
            .find(|entry| entry.ticket == ticket)
            .map(|entry| (entry, Place::BestEffort))
    }
}

enum Place {
    Qos(usize),
    BestEffort,
}
