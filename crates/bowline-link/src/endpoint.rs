//! One end of the conversation with one peer, across links.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use bowline_proto::legacy::{Counters, Generation, Session};
use bowline_proto::{Dialect, Side};
use tokio::sync::{Notify, watch};

use crate::inbox::Inbox;
use crate::outbox::{Outbox, Ticket};
use crate::status::{LinkState, Seen, Status};
use crate::{Clock, DeadLetter, DownReason, Message, RecvError, SendError, Sending, StatusWatch};

/// How much an endpoint may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Messages received and not yet taken. At least 4.
    pub inbox: usize,
    /// Qos messages accepted for sending. Further calls of `send` wait.
    pub outbox: usize,
    /// Best-effort messages waiting for the link. Further calls fail.
    pub best_effort: usize,
    /// Dead letters kept.
    pub dead_letters: usize,
    /// Messages a second taken from a link; a faster peer is made to wait. `None` for no limit.
    pub messages_per_second: Option<u32>,
    /// Longest line in bytes, newline not counted, both ways.
    pub line: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            inbox: 64,
            outbox: 64,
            best_effort: 16,
            dead_letters: 32,
            messages_per_second: Some(20_000),
            line: 16 * 1024,
        }
    }
}

/// One end of the conversation with one peer: session, inbox and outbox. Survives links; cheap to clone.
#[derive(Debug, Clone)]
pub struct Endpoint(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// A message has come in, or the endpoint was closed.
    arrived: Notify,
    status: watch::Sender<Seen>,
    limits: Limits,
    clock: Clock,
}

/// What the endpoint's users and its link share. Locked for the time of one turn, never across an await.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) session: Session,
    pub(crate) inbox: Inbox,
    pub(crate) outbox: Outbox,
    /// The link that is driven now.
    pub(crate) link: Option<Current>,
    /// Tickets of messages that were accepted while the link was not looking.
    pub(crate) tickets: Vec<bowline_proto::legacy::Ticket>,
}

/// The link that is driven now.
#[derive(Debug)]
pub(crate) struct Current {
    pub(crate) generation: Generation,
    /// Wakes the task that drives it.
    pub(crate) kick: Arc<Notify>,
}

/// An endpoint's counts: what was promised and what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ledger {
    /// The engine's counts.
    pub session: Counters,
    /// Messages received and not yet taken by the application.
    pub unread: usize,
    /// Messages accepted for sending and not yet acknowledged by the peer.
    pub unsent: usize,
    /// Messages accepted for sending and given up when the endpoint was closed.
    pub lost: usize,
    /// Messages nobody could handle, since the start.
    pub dead_letters: u64,
}

impl Endpoint {
    /// A new endpoint without a link.
    #[must_use]
    pub fn new(side: Side, limits: Limits) -> Self {
        Endpoint(Arc::new(Shared {
            state: Mutex::new(State {
                session: Session::new(side),
                inbox: Inbox::new(limits.inbox, limits.dead_letters),
                outbox: Outbox::new(limits.outbox, limits.best_effort),
                link: None,
                tickets: Vec::new(),
            }),
            arrived: Notify::new(),
            status: watch::Sender::new(Seen::default()),
            limits,
            clock: Clock::start(),
        }))
    }

    /// Sends `message` exactly once and in order. Resolves when the peer has acknowledged it, however
    /// many links that takes; on dialect P, which has no acknowledgements, when it is written.
    ///
    /// Waits for room while the outbox is full. For what dropping the future means, see [`Sending`].
    pub fn send(&self, message: impl Into<Message>) -> Sending<'_> {
        Sending::new(self, message.into(), true)
    }

    /// Sends `message` at most once, now. Resolves when it is written to the transport, and fails if
    /// there is no link, so that a caller always learns what became of it.
    pub fn send_best_effort(&self, message: impl Into<Message>) -> Sending<'_> {
        Sending::new(self, message.into(), false)
    }

    /// Waits for the next message. Cancel-safe: a message is taken only by a call that returns it.
    ///
    /// # Errors
    /// When the endpoint is closed and everything received before has been taken.
    pub async fn recv(&self) -> Result<Message, RecvError> {
        loop {
            let arrived = self.0.arrived.notified();
            match self.try_recv()? {
                Some(message) => return Ok(message),
                None => arrived.await,
            }
        }
    }

    /// The next message if one is there.
    ///
    /// # Errors
    /// As [`Endpoint::recv`].
    pub fn try_recv(&self) -> Result<Option<Message>, RecvError> {
        let mut state = self.lock();
        let Some(message) = state.inbox.take() else {
            return if state.outbox.closed { Err(RecvError::Closed) } else { Ok(None) };
        };
        if !state.inbox.is_empty() {
            // Two arrivals may have left one wake-up.
            self.0.arrived.notify_one();
        }
        if state.make_room() {
            state.kick();
        }
        Ok(Some(message))
    }

    /// The link's status now.
    #[must_use]
    pub fn status(&self) -> Status {
        self.0.status.borrow().status.clone()
    }

    /// Follows the link's status.
    #[must_use]
    pub fn watch(&self) -> StatusWatch {
        StatusWatch::new(self.0.status.subscribe())
    }

    /// Waits until the link is up. Cancel-safe.
    ///
    /// # Errors
    /// When the endpoint is closed.
    pub async fn connected(&self) -> Result<(), SendError> {
        let mut seen = self.0.status.subscribe();
        match seen.wait_for(|seen| seen.closed || seen.status.is_up()).await {
            Ok(seen) if !seen.closed => Ok(()),
            _ => Err(SendError::Closed),
        }
    }

    /// What was counted so far.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        let state = self.lock();
        Ledger {
            session: *state.session.counters(),
            unread: state.inbox.len(),
            unsent: state.outbox.accepted(),
            lost: state.outbox.lost,
            dead_letters: state.inbox.buried,
        }
    }

    /// What the peer speaks, or last spoke; `None` before it was there.
    #[must_use]
    pub fn dialect(&self) -> Option<Dialect> {
        self.lock().session.dialect()
    }

    /// How often the peer's ids have started anew; see [`Session::epoch`].
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.lock().session.epoch()
    }

    /// Messages nobody could handle, oldest first, as many as the box holds.
    #[must_use]
    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        self.lock().inbox.dead_letters()
    }

    /// Puts a message that the application cannot handle into the dead-letter box.
    pub fn bury(&self, message: &Message, reason: impl Into<String>) {
        self.lock().inbox.bury(message.payload().to_vec(), reason.into());
    }

    /// Takes no more messages in; the outbox is still emptied. The link ends by itself when nothing is
    /// left to send. What is not accepted is not acknowledged, so it comes again to whoever comes next.
    pub fn drain(&self) {
        let mut state = self.lock();
        state.inbox.draining = true;
        state.kick();
    }

    /// Takes messages again after [`Endpoint::drain`].
    pub fn resume(&self) {
        self.lock().inbox.draining = false;
    }

    /// Whether nothing is left to send and nothing is left to take.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let state = self.lock();
        state.outbox.is_empty() && state.inbox.is_empty()
    }

    /// Ends the conversation: the link is dropped, senders and receivers get an error. What was
    /// received before can still be taken.
    pub fn close(&self) {
        let mut state = self.lock();
        if state.outbox.closed {
            return;
        }
        state.outbox.close();
        state.kick();
        drop(state);
        self.0.arrived.notify_waiters();
        self.0.arrived.notify_one();
        self.0.status.send_modify(|seen| seen.closed = true);
    }

    /// Whether [`Endpoint::close`] was called.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.lock().outbox.closed
    }

    /// The endpoint's clock.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.0.clock
    }

    /// What the endpoint may hold.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.0.limits
    }

    pub(crate) fn enqueue(&self, message: Message, qos: bool) -> Result<Ticket, SendError> {
        let mut state = self.lock();
        if state.outbox.closed {
            return Err(SendError::Closed);
        }
        let line = self.0.limits.line;
        match state.session.dialect() {
            Some(dialect) => message.repr(qos).check(dialect, line)?,
            // Not known before the device has been there: what no dialect can carry is refused now,
            // the rest when it comes to that.
            None => message.repr(qos).check(Dialect::Headers, line)?,
        }
        let ticket = if qos {
            state.outbox.push_qos(message)
        } else {
            if !self.0.status.borrow().status.is_up() {
                return Err(SendError::NoLink);
            }
            let fresh = state.session.is_fresh();
            state.outbox.push_best_effort(message, fresh)?
        };
        state.kick();
        Ok(ticket)
    }

    pub(crate) fn poll_sent(&self, ticket: Ticket, waker: &Waker) -> Poll<Result<(), SendError>> {
        self.lock().outbox.poll(ticket, waker)
    }

    pub(crate) fn is_accepted(&self, ticket: Ticket) -> bool {
        self.lock().outbox.is_accepted(ticket)
    }

    pub(crate) fn abandon(&self, ticket: Ticket) {
        self.lock().outbox.abandon(ticket);
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock; if it did, the queues are still whole.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn notify_arrival(&self) {
        self.0.arrived.notify_one();
    }

    pub(crate) fn set_status(&self, link: LinkState) {
        self.0.status.send_modify(|Seen { status, .. }| {
            if matches!(link, LinkState::Up { .. }) {
                status.connects += 1;
            }
            status.link = link;
        });
    }

    /// The link of this generation has ended. Says nothing if another one has taken over since.
    pub(crate) fn link_ended(&self, generation: Generation, was_up: bool, reason: DownReason) {
        let mut state = self.lock();
        if state.link.as_ref().is_none_or(|link| link.generation != generation) {
            return;
        }
        state.link = None;
        let in_flight = state.session.in_flight().is_some();
        state.outbox.link_ended(reason, in_flight);
        // The status may still be that of a link which this one replaced without ever being up.
        if was_up || self.0.status.borrow().status.is_up() {
            // Under the lock, so that no later link's status is overwritten.
            self.set_status(LinkState::Down(reason));
        }
    }
}

impl State {
    /// Wakes the task that drives the link.
    pub(crate) fn kick(&self) {
        if let Some(link) = &self.link {
            link.kick.notify_one();
        }
    }

    /// Moves parked messages into the inbox. Their tickets wait for the link, or are settled here if
    /// there is none. Says whether the link has to look.
    fn make_room(&mut self) -> bool {
        let had_room = self.link.is_some();
        while let Some(ticket) = self.inbox.unpark() {
            if self.link.is_some() {
                self.tickets.push(ticket);
            } else {
                // No link: the acknowledgement goes out when the message comes again.
                let _ = self.session.accepted(ticket);
            }
        }
        had_room && (!self.tickets.is_empty() || self.session.dialect().is_some_and(|dialect| !dialect.acknowledges()))
    }
}
