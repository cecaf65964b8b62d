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
    /// Best-effort messages handed to the link, with the place in its output where they end.
    writing: VecDeque<(Entry, u64)>,
    next_ticket: Ticket,
    /// What went wrong with messages whose callers have not looked yet.
    failed: Vec<(Ticket, SendError)>,
    pub(crate) closed: bool,
    /// Messages accepted and given up.
    pub(crate) lost: usize,
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
            lost: 0,
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

    /// The link takes the next best-effort message. `put` puts it into the link's output and says where
    /// it ends there.
    pub(crate) fn take_best_effort(&mut self, put: impl FnOnce(&Message) -> u64) {
        if let Some(entry) = self.best_effort.pop_front() {
            let end = put(&entry.message);
            self.writing.push_back((entry, end));
        }
    }

    /// The link has written its output up to here, and the `head` with it if that was not before.
    pub(crate) fn written(&mut self, up_to: u64, head: bool) {
        while self.writing.front().is_some_and(|(_, end)| *end <= up_to) {
            if let Some((mut entry, _)) = self.writing.pop_front() {
                entry.wake();
            }
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
        let writing = self.writing.drain(..).map(|(entry, _)| entry);
        for mut entry in self.best_effort.drain(..).chain(writing) {
            if !matches!(entry.caller, Caller::Gone) {
                self.failed.push((entry.ticket, SendError::LinkEnded(reason)));
                entry.wake();
            }
        }
    }

    /// Nothing will be sent any more. Accepted messages are lost with the memory they are in, and
    /// counted.
    pub(crate) fn close(&mut self) {
        self.closed = true;
        self.lost += self.accepted;
        let writing = self.writing.drain(..).map(|(entry, _)| entry);
        for mut entry in self.qos.drain(..).chain(self.best_effort.drain(..)).chain(writing) {
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

    /// Whether the message will be sent, or was, whatever becomes of its caller.
    pub(crate) fn is_accepted(&mut self, ticket: Ticket) -> bool {
        let accepted = self.accepted;
        let failed = self.failed.iter().any(|(failed, _)| *failed == ticket);
        !failed && !matches!(self.find(ticket), Some((_, Place::Qos(at))) if at >= accepted)
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
            .chain(self.writing.iter_mut().map(|(entry, _)| entry))
            .find(|entry| entry.ticket == ticket)
            .map(|entry| (entry, Place::BestEffort))
    }
}

enum Place {
    Qos(usize),
    BestEffort,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outbox() -> Outbox {
        Outbox::new(2, 8)
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
        let tickets = ["1", "2", "3", "4"].map(|text| outbox.push_qos(text.into()));
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
        }
        assert_eq!(sent, ["1", "2", "4"], "3 was taken back, 4 moved up");
        assert!(is_done(&mut outbox, tickets[3]));
    }

    #[test]
    fn what_a_close_gives_up_is_counted() {
        let mut outbox = outbox();
        let tickets = ["1", "2", "3"].map(|text| outbox.push_qos(text.into()));
        outbox.delivered();
        outbox.close();
        assert_eq!(outbox.lost, 2, "one was delivered, the last one had moved up");
        assert_eq!(outbox.poll(tickets[1], Waker::noop()), Poll::Ready(Err(SendError::Closed)));
    }
}
