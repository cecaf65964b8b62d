//! The future of a message on its way.

use std::pin::Pin;
use std::task::{Context, Poll};

use crate::outbox::Ticket;
use crate::{Endpoint, Message, SendError};

/// A message on its way, from [`Endpoint::send`] or [`Endpoint::send_best_effort`].
///
/// Nothing is sent before the first poll; the order of first polls is the order of messages. Dropping
/// the future before the outbox has accepted the message takes the message back. After that the
/// message stays and is delivered all the same: what was promised to the peer's sequence is kept.
#[derive(Debug)]
#[must_use = "a message is not sent until its future is polled"]
pub struct Sending<'a> {
    endpoint: &'a Endpoint,
    state: State,
}

#[derive(Debug)]
enum State {
    New { message: Message, qos: bool },
    Queued(Ticket),
    Done,
}

impl<'a> Sending<'a> {
    /// Whether the message will be delivered even if this future is dropped now: the outbox has
    /// accepted it. For a best-effort message, whether the link was offered it.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        match self.state {
            State::New { .. } => false,
            State::Queued(ticket) => self.endpoint.is_accepted(ticket),
            State::Done => true,
        }
    }

    pub(crate) fn new(endpoint: &'a Endpoint, message: Message, qos: bool) -> Self {
        Sending { endpoint, state: State::New { message, qos } }
    }
}

impl Future for Sending<'_> {
    type Output = Result<(), SendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let ticket = match std::mem::replace(&mut this.state, State::Done) {
            State::New { message, qos } => this.endpoint.enqueue(message, qos)?,
            State::Queued(ticket) => ticket,
            // Polled after it was ready, which a future need not answer.
            State::Done => return Poll::Pending,
        };
        let sent = this.endpoint.poll_sent(ticket, context.waker());
        if sent.is_pending() {
            this.state = State::Queued(ticket);
        }
        sent
    }
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        if let State::Queued(ticket) = self.state {
            self.endpoint.abandon(ticket);
        }
    }
}
