//! A second chance for what was given up.

use bowline_store::{Change, DeadLetterEntry, Direction};

use crate::endpoint::State;
use crate::message::Origin;
use crate::policy::Options;
use crate::{Dialect, Endpoint, Message, MessageError};

/// Why a dead letter stays where it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RetryError {
    /// The peer's dialect cannot carry the message.
    #[error("it cannot be sent: {0}")]
    Message(#[from] MessageError),
    /// The queue it came from is full.
    #[error("the {queue} is full ({messages} messages): try again later")]
    Full {
        /// Which: the inbox or the outbox.
        queue: &'static str,
        /// Messages in it.
        messages: usize,
    },
    /// The endpoint was closed, or takes no more messages because it is about to be.
    #[error("the device was closed")]
    Closed,
}

/// Where a retried message stands, for as long as it takes to store it.
enum Place {
    Inbox(u64),
    Outbox(u64),
}

impl Endpoint {
    /// Puts a dead letter of this device to the end of the queue it came from, and takes it out of the
    /// box, both in one transaction; resolves when that is durable. A received message goes to the
    /// application again, under a new [`Message::seq`]; one that was to be sent goes out as any other,
    /// without the policy and the lifetime it once had.
    ///
    /// The letter must be in the box: whoever calls this twice with one letter has it delivered twice.
    /// Nothing happens before the first poll; a future dropped after that takes nothing back. Waits for
    /// as long as the store fails. To be called with a [`Storage`](crate::Storage) only: without one
    /// letters have no box that lasts.
    ///
    /// # Errors
    /// If there is no room, the message cannot be sent, or the endpoint is closed. The letter is still
    /// in the box then, unless the device was forgotten with everything.
    pub async fn retry_dead(&self, entry: &DeadLetterEntry) -> Result<(), RetryError> {
        let place = self.put_back_dead(&mut self.lock(), entry)?;
        loop {
            let stored = self.0.stored.notified();
            tokio::pin!(stored);
            // From here on no commit is missed.
            stored.as_mut().enable();
            {
                let state = self.lock();
                let done = match place {
                    Place::Inbox(seq) => state.journal.inbox_stored() >= seq,
                    Place::Outbox(seq) => state.outbox.stored >= seq,
                };
                if done {
                    return Ok(());
                }
                if state.journal.is_idle() {
                    return Err(RetryError::Closed);
                }
            }
            stored.await;
        }
    }

    /// Puts a message that was to be sent and cannot be into the dead-letter box: what a
    /// [`Sending`](crate::Sending) says of a message that waited is its caller's to keep.
    pub fn bury_unsent(&self, message: &Message, reason: impl Into<String>) {
        let mut state = self.lock();
        self.put_into_box(&mut state, Direction::Sent, message, reason.into());
        self.flush(&mut state);
    }

    fn put_back_dead(&self, state: &mut State, entry: &DeadLetterEntry) -> Result<Place, RetryError> {
        if state.outbox.closed || state.inbox.draining {
            return Err(RetryError::Closed);
        }
        let letter = &entry.letter;
        let place = match letter.direction {
            Direction::Received => {
                let message = Message::from_store(&letter.header, &letter.payload, letter.qos);
                let origin = Origin::of(letter.epoch, self.clock().wall());
                let has_epoch = state.native.epoch() != 0;
                // Gaps are not in the queue.
                let last = if has_epoch { state.bases.rx + state.native.received() } else { 0 };
                let Some(seq) = state.inbox.put_back_dead(last, message.with_origin(origin)) else {
                    return Err(RetryError::Full { queue: "inbox", messages: state.inbox.len() });
                };
                if has_epoch {
                    // It has a place that would have been the next one's of the epoch.
                    state.bases.rx += 1;
                }
                Place::Inbox(seq)
            }
            Direction::Sent => {
                let message = Message::from_store(&letter.header, &letter.payload, true);
                self.check_sendable(state.dialect, &message)?;
                if !state.outbox.has_room(message.size()) {
                    return Err(RetryError::Full { queue: "outbox", messages: state.outbox.accepted() });
                }
                state.totals.accepted += 1;
                state.totals.accepted_bytes += message.size() as u64;
                let (now, sent) = (self.0.clock.now(), state.sent());
                let ticket = state.outbox.push_qos(message, Options::default(), now, sent);
                state.outbox.abandon(ticket);
                Place::Outbox(state.outbox.last())
            }
        };
        state.journal.push(Change::DropDead { id: entry.id });
        self.flush(state);
        state.kick();
        Ok(place)
    }

    fn check_sendable(&self, dialect: Option<Dialect>, message: &Message) -> Result<(), MessageError> {
        let limit = self.limits().line;
        match dialect {
            Some(dialect) => message.check(dialect, true, limit),
            None => {
                message.check(Dialect::Native, true, limit).or_else(|_| message.check(Dialect::Headers, true, limit))
            }
        }
    }
}
