//! The future of a message on its way.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Sleep;

use crate::outbox::Ticket;
use crate::policy::Options;
use crate::{Endpoint, Message, Policy, Receipt, SendError};

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
    options: Options,
    /// Rings when the message's time is up.
    alarm: Option<Pin<Box<Sleep>>>,
}

#[derive(Debug)]
enum State {
    New { message: Message, qos: bool },
    Queued(Ticket),
    Done,
}

impl<'a> Sending<'a> {
    /// What happens while the outbox is full. Default: [`Policy::Block`]. Best effort has no policy.
    /// To be said before the first poll.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.options.policy = policy;
        self
    }

    /// The message is worth nothing after this long: if it was not sent by then, it is dropped. To be
    /// said before the first poll.
    pub fn expires_in(mut self, ttl: Duration) -> Self {
        self.options.ttl = Some(ttl);
        self
    }

    /// Fails with [`SendError::PastEpoch`] if the peer's epoch is another one when the outbox is to accept the
    /// message; see [`Endpoint::epoch`]. To be said before the first poll.
    pub fn in_epoch(mut self, epoch: u64) -> Self {
        self.options.epoch = Some(epoch);
        self
    }

    /// What the future waits for. Default: [`Receipt::Stored`]. To be said before the first poll.
    pub fn until(mut self, receipt: Receipt) -> Self {
        self.options.receipt = receipt;
        self
    }

    /// Whether the message will be delivered even if this future is dropped now: the outbox has
    /// accepted it, and with a store it is durable. For a best-effort message, whether the link was offered it.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        match self.state {
            State::New { .. } => false,
            State::Queued(ticket) => self.endpoint.is_accepted(ticket),
            State::Done => true,
        }
    }

    /// Whether the message has a place in the outbox, so that it stays there if this future is dropped
    /// now. It will be delivered once it is stored ([`Sending::is_accepted`]).
    #[must_use]
    pub fn is_placed(&self) -> bool {
        match self.state {
            State::New { .. } => false,
            State::Queued(ticket) => self.endpoint.lock().outbox.is_placed(ticket),
            State::Done => true,
        }
    }

    pub(crate) fn new(endpoint: &'a Endpoint, message: Message, qos: bool) -> Self {
        Sending { endpoint, state: State::New { message, qos }, options: Options::default(), alarm: None }
    }
}

impl Future for Sending<'_> {
    type Output = Result<(), SendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let ticket = match std::mem::replace(&mut this.state, State::Done) {
            State::New { message, qos } => {
                let ticket = this.endpoint.enqueue(message, qos, this.options)?;
                if let Some(ttl) = this.options.ttl.filter(|_| qos) {
                    // A little later, so that the time is up by any clock.
                    this.alarm = Some(Box::pin(tokio::time::sleep(ttl + Duration::from_millis(1))));
                }
                ticket
            }
            State::Queued(ticket) => ticket,
            // Polled after it was ready, which a future need not answer.
            State::Done => return Poll::Pending,
        };
        if let Some(alarm) = &mut this.alarm
            && alarm.as_mut().poll(context).is_ready()
        {
            this.alarm = None;
            this.endpoint.expire(ticket);
        }
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
