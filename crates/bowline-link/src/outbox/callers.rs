//! Who waits for a message, and what they are told.

use std::task::{Poll, Waker};

use super::{Entry, Outbox, Ticket};
use crate::{Receipt, SendError};

/// Who waits for a message.
#[derive(Debug)]
pub(super) enum Caller {
    /// Has not polled yet, or needs no waking.
    Silent,
    Waiting(Waker),
    /// Has dropped its future, or has been told.
    Gone,
}

impl Caller {
    pub(super) fn wake(self) {
        if let Caller::Waiting(waker) = self {
            waker.wake();
        }
    }
}

impl Outbox {
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
        if let Some(leaving) = self.leaving.iter_mut().find(|leaving| leaving.ticket == ticket) {
            leaving.caller = Caller::Waiting(waker.clone());
            return Poll::Pending;
        }
        Poll::Ready(match self.failed.iter().position(|(failed, _)| *failed == ticket) {
            Some(at) => Err(self.failed.swap_remove(at).1),
            None => Ok(()),
        })
    }

    /// Whether the message will be sent, or was, whatever becomes of its caller.
    pub(crate) fn is_accepted(&mut self, ticket: Ticket) -> bool {
        let stored = self.stored;
        let is_dropped = self.failed.iter().any(|(failed, _)| *failed == ticket)
            || self.leaving.iter().any(|leaving| leaving.ticket == ticket);
        if is_dropped {
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

    /// The caller is gone. A message that has no seq yet goes with it, any other stays. Says whether one has
    /// gone: those that waited behind it may have a seq now.
    pub(crate) fn abandon(&mut self, ticket: Ticket) -> bool {
        self.failed.retain(|(failed, _)| *failed != ticket);
        self.leaving.retain(|leaving| leaving.ticket != ticket);
        match self.place(ticket) {
            Some(Place::Qos(at)) if at >= self.numbered => {
                self.entries.remove(at);
                self.admit();
                return true;
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
        false
    }

    pub(super) fn place(&self, ticket: Ticket) -> Option<Place> {
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

/// Where the entry with a ticket is.
pub(super) enum Place {
    Qos(usize),
    Elsewhere,
}
