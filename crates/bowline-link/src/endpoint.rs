//! One end of the conversation with one peer, across links.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use bowline_proto::time::Instant;
use bowline_proto::{Side, legacy, native};
use bowline_store::{Change, Direction};
use tokio::sync::{Notify, watch};

use crate::inbox::Inbox;
use crate::journal::Journal;
use crate::ledger::{Outage, Totals};
use crate::outbox::{Outbox, Ticket};
use crate::policy::Options;
use crate::saved::{self, Bases};
use crate::status::{LinkState, Seen, Status};
use crate::{
    Clock, DeadLetter, Delivery, Dialect, DownReason, Ledger, Limits, Message, Policy, RecvError, SendError, Sending,
    StatusWatch, Storage,
};

/// One end of the conversation with one peer: sessions, inbox and outbox. Survives links, and with a
/// [`Storage`] the process; cheap to clone.
#[derive(Debug, Clone)]
pub struct Endpoint(pub(crate) Arc<Shared>);

#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    /// A message has come in, or the endpoint was closed.
    arrived: Notify,
    /// The outbox has less in it, or the endpoint was closed.
    room: Notify,
    status: watch::Sender<Seen>,
    /// A transaction was committed.
    pub(crate) stored: Notify,
    limits: Limits,
    pub(crate) clock: Clock,
    /// Whose queues these are, for the store.
    pub(crate) device: Arc<str>,
    persistent: AtomicBool,
    pub(crate) storage: Option<Storage>,
}

impl Shared {
    pub(crate) fn is_persistent(&self) -> bool {
        self.persistent.load(Ordering::Relaxed)
    }
}

/// What the endpoint's users and its link share. Locked for the time of one turn, never across an await.
#[derive(Debug)]
pub(crate) struct State {
    /// What the peer speaks, or last spoke.
    pub(crate) dialect: Option<Dialect>,
    /// The session on H, U and P.
    pub(crate) lines: legacy::Session,
    /// The session on N.
    pub(crate) native: native::Session,
    pub(crate) bases: Bases,
    pub(crate) inbox: Inbox,
    pub(crate) outbox: Outbox,
    pub(crate) journal: Journal,
    /// The link that has the session now.
    pub(crate) link: Option<Current>,
    /// Numbers links.
    pub(crate) links: u64,
    /// Tickets of messages on H, U and P that wait to be durable, in order.
    pub(crate) waiting: Vec<legacy::Ticket>,
    /// Tickets of messages that are durable, for the link to give back.
    pub(crate) tickets: Vec<legacy::Ticket>,
    /// The last message or gap received on N.
    pub(crate) received: Option<native::Ticket>,
    /// Counted here; the engines count the rest.
    pub(crate) totals: Totals,
    pub(crate) outage: Outages,
}

/// The link that has the session now.
#[derive(Debug)]
pub(crate) struct Current {
    pub(crate) number: u64,
    pub(crate) dialect: Dialect,
    /// Wakes the task that drives it.
    pub(crate) kick: Arc<Notify>,
}

/// When the link was lost.
#[derive(Debug, Default)]
pub(crate) struct Outages {
    since: Option<Instant>,
    reason: Option<DownReason>,
    last: bowline_proto::time::Duration,
}

impl Endpoint {
    /// A new endpoint without a link. It does not survive the process.
    #[must_use]
    pub fn new(side: Side, limits: Limits) -> Self {
        Self::with(side, limits, "", None, State::new(side, &limits, false))
    }

    /// An endpoint that goes on with what `stored` says of the device, if it is known; from then on it
    /// keeps everything in `storage`.
    ///
    /// If what was stored of its sessions cannot be read, it begins new ones, so that what is on its way
    /// now may come twice; that is logged as an error. Its queues are there all the same.
    #[must_use]
    pub fn stored(
        side: Side,
        limits: Limits,
        device: &str,
        storage: Storage,
        stored: Option<bowline_store::Device>,
    ) -> Self {
        let mut state = State::new(side, &limits, true);
        let persistent = stored.as_ref().is_some_and(|stored| stored.summary.persistent);
        let clock = Clock::start();
        if let Some(stored) = stored
            && let Err(problem) = state.restore(side, stored, clock.now())
        {
            tracing::error!(device, "the stored session cannot be read, a new one begins: {problem}");
        }
        let endpoint = Self::with(side, limits, device, Some(storage), state);
        endpoint.0.persistent.store(persistent, Ordering::Relaxed);
        if endpoint.lock().inbox.has_next() {
            endpoint.notify_arrival();
        }
        endpoint
    }

    fn with(side: Side, limits: Limits, device: &str, storage: Option<Storage>, state: State) -> Self {
        debug_assert_eq!(side, state.native.side());
        Endpoint(Arc::new(Shared {
            state: Mutex::new(state),
            arrived: Notify::new(),
            room: Notify::new(),
            status: watch::Sender::new(Seen::default()),
            stored: Notify::new(),
            limits,
            clock: Clock::start(),
            device: device.into(),
            persistent: AtomicBool::new(false),
            storage,
        }))
    }

    /// Sends `message` exactly once and in order. Resolves when the peer has it durably, however many
    /// links that takes; on dialect P, which has no acknowledgements, when it is written. What else can
    /// be waited for, and what happens when the outbox is full, is said by the methods of [`Sending`].
    pub fn send(&self, message: impl Into<Message>) -> Sending<'_> {
        Sending::new(self, message.into(), true)
    }

    /// Sends `message` at most once, now. Resolves when it is written to the transport, and fails if
    /// there is no link, so that a caller always learns what became of it.
    pub fn send_best_effort(&self, message: impl Into<Message>) -> Sending<'_> {
        Sending::new(self, message.into(), false)
    }

    /// Waits for the next message, and says that those it returned before are handled. With a store,
    /// what was handed out and not handled comes again after a crash, under the same [`Message::seq`]; so
    /// may what was handled in the last moment before it. Several callers at a time had better use [`Endpoint::next`]. Cancel-safe: a message is taken
    /// only by a call that returns it.
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

    /// The next message if one is there; otherwise as [`Endpoint::recv`].
    ///
    /// # Errors
    /// As [`Endpoint::recv`].
    pub fn try_recv(&self) -> Result<Option<Message>, RecvError> {
        let mut state = self.lock();
        if state.inbox.handled_until_next() {
            self.handled(&mut state);
        }
        self.take(&mut state, true)
    }

    /// Waits for the next message, which stays in the inbox until it is said to be handled. With a
    /// store it comes again after a crash before that. Cancel-safe.
    ///
    /// # Errors
    /// As [`Endpoint::recv`].
    pub async fn next(&self) -> Result<Delivery, RecvError> {
        loop {
            let arrived = self.0.arrived.notified();
            let taken = self.take(&mut self.lock(), false)?;
            match taken {
                Some(message) => return Ok(Delivery::new(self.clone(), message)),
                None => arrived.await,
            }
        }
    }

    fn take(&self, state: &mut State, until_next: bool) -> Result<Option<Message>, RecvError> {
        let Some(message) = state.inbox.take(until_next) else {
            return if state.outbox.closed { Err(RecvError::Closed) } else { Ok(None) };
        };
        if state.inbox.has_next() {
            // Two arrivals may have left one wake-up.
            self.notify_arrival();
        }
        self.make_room(state);
        Ok(Some(message))
    }

    /// Moves parked messages into the inbox, and wakes the link if it has to know of the room.
    fn make_room(&self, state: &mut State) {
        while let Some((ticket, _)) = state.inbox.unpark() {
            state.waiting.push(ticket);
            state.journal.touch();
        }
        self.flush(state);
        let wants_to_know = match state.dialect {
            // Credit is told in large pieces.
            Some(Dialect::Native) => state.inbox.is_empty() || state.inbox.len() == self.0.limits.inbox / 2,
            Some(Dialect::Plain) => true,
            _ => false,
        };
        if wants_to_know {
            state.kick();
        }
    }

    /// The application has handled something.
    pub(crate) fn handled(&self, state: &mut State) {
        state.totals.processed += state.inbox.take_handled();
        if let Some(ticket) = state.inbox.native_processed() {
            state.native.handle_processed(ticket);
            if state.inbox.is_empty() {
                state.kick();
            }
        }
        state.journal.touch_soon();
        self.flush(state);
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
        let last = match state.outage.since {
            Some(since) => self.0.clock.now().since(since),
            None => state.outage.last,
        };
        Ledger {
            totals: state.all_totals(),
            outage: Outage { reason: state.outage.reason, last: Duration::from_micros(last.as_micros()) },
            session: *state.lines.counters(),
            native: *state.native.counters(),
            unread: state.inbox.len(),
            unsent: state.outbox.accepted(),
            lost: state.outbox.lost,
            dead_letters: state.inbox.buried,
        }
    }

    /// What the peer speaks, or last spoke; `None` before it was there.
    #[must_use]
    pub fn dialect(&self) -> Option<Dialect> {
        self.lock().dialect
    }

    /// The epoch of the peer's numbering. Messages of two epochs come from two lives of the peer.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        let state = self.lock();
        match state.dialect {
            Some(Dialect::Native) => state.native.epoch(),
            _ => state.lines.epoch().into(),
        }
    }

    /// Messages nobody could handle, oldest first, as many as the box in memory holds. With a store
    /// there may be more in there.
    #[must_use]
    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        self.lock().inbox.dead_letters()
    }

    /// Puts a message that the application cannot handle into the dead-letter box.
    pub fn bury(&self, message: &Message, reason: impl Into<String>) {
        let mut state = self.lock();
        self.put_into_box(&mut state, Direction::Received, message, reason.into());
        self.flush(&mut state);
    }

    pub(crate) fn put_into_box(&self, state: &mut State, direction: Direction, message: &Message, reason: String) {
        state.inbox.bury(message.payload().to_vec(), reason.clone());
        state.totals.dead_letters += 1;
        state.journal.push(Change::Bury {
            device: Arc::clone(&self.0.device),
            letter: bowline_store::DeadLetter {
                direction,
                epoch: message.epoch(),
                qos: message.is_qos(),
                policy: Policy::Block.code(),
                header: message.header_bytes(),
                payload: message.payload_bytes(),
                reason,
                at: Storage::now(),
            },
        });
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

    /// The device is kept until someone forgets it, or is not.
    pub fn set_persistent(&self, persistent: bool) {
        if self.0.persistent.swap(persistent, Ordering::Relaxed) != persistent && self.0.storage.is_some() {
            let mut state = self.lock();
            let device = Arc::clone(&self.0.device);
            state.journal.push(Change::Device { device, persistent, seen: Storage::now() });
            self.flush(&mut state);
        }
    }

    /// Whether the device is kept until someone forgets it.
    #[must_use]
    pub fn is_persistent(&self) -> bool {
        self.0.is_persistent()
    }

    /// Ends the conversation: the link is dropped, senders and receivers get an error. What was
    /// received before can still be taken. With a store, what was accepted for sending stays there.
    pub fn close(&self) {
        let mut state = self.lock();
        if state.outbox.closed {
            return;
        }
        // What was handed out is handled: this is no crash.
        state.inbox.handled_until_next();
        state.totals.processed += state.inbox.take_handled();
        state.outbox.close(self.0.storage.is_some());
        state.journal.touch_with_cursor();
        self.flush(&mut state);
        state.kick();
        drop(state);
        self.0.arrived.notify_waiters();
        self.0.arrived.notify_one();
        self.0.room.notify_waiters();
        self.0.status.send_modify(|seen| seen.closed = true);
    }

    /// Closes the endpoint, and everything stored for the device goes.
    pub fn forget(&self) {
        self.close();
        let mut state = self.lock();
        state.journal.end();
        self.0.stored.notify_waiters();
        if let Some(storage) = &self.0.storage {
            // Behind whatever of it is on its way. If there is no room, the next start finds a device
            // that has been away for long.
            let _ = storage.store().commit_with(Change::Forget { device: Arc::clone(&self.0.device) }, drop);
        }
    }

    /// Whether [`Endpoint::close`] was called.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.lock().outbox.closed
    }

    /// Waits until everything is in the store that is to be there.
    pub async fn stored_all(&self) {
        loop {
            let stored = self.0.stored.notified();
            tokio::pin!(stored);
            // From here on no commit is missed.
            stored.as_mut().enable();
            {
                let mut state = self.lock();
                state.journal.hurry();
                self.flush(&mut state);
                if self.0.storage.is_none() || state.journal.is_idle() {
                    return;
                }
            }
            stored.await;
        }
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

    pub(crate) fn enqueue(&self, message: Message, qos: bool, options: Options) -> Result<Ticket, SendError> {
        let mut state = self.lock();
        if state.outbox.closed {
            return Err(SendError::Closed);
        }
        let line = self.0.limits.line;
        match state.dialect {
            Some(dialect) => message.check(dialect, qos, line)?,
            // Not known before the device has been there: what no dialect can carry is refused now,
            // the rest when it comes to that.
            None => {
                message.check(Dialect::Native, qos, line).or_else(|_| message.check(Dialect::Headers, qos, line))?
            }
        }
        let ticket = if qos {
            state.totals.accepted += 1;
            state.totals.accepted_bytes += message.size() as u64;
            let (now, sent) = (self.0.clock.now(), state.sent());
            let ticket = state.outbox.push_qos(message, options, now, sent);
            self.after_dropping(&mut state);
            state.journal.touch();
            ticket
        } else {
            if !self.0.status.borrow().status.is_up() {
                return Err(SendError::NoLink);
            }
            let upgraded = state.dialect != Some(Dialect::Native) && state.lines.wants_qos();
            let ticket = state.outbox.push_best_effort(message, upgraded)?;
            state.journal.touch();
            ticket
        };
        self.flush(&mut state);
        state.kick();
        Ok(ticket)
    }

    /// Puts `reply` into the outbox and marks `seq` as handled, in one transaction, if there is room;
    /// gives the reply back if there is not.
    pub(crate) fn try_reply(&self, seq: Option<u64>, reply: Message) -> Result<Option<Message>, SendError> {
        let mut state = self.lock();
        if state.outbox.closed {
            return Err(SendError::Closed);
        }
        let dialect = state.dialect.unwrap_or(Dialect::Native);
        reply.check(dialect, true, self.0.limits.line)?;
        if !state.outbox.has_room(reply.size()) {
            return Ok(Some(reply));
        }
        state.totals.accepted += 1;
        state.totals.accepted_bytes += reply.size() as u64;
        let (now, sent) = (self.0.clock.now(), state.sent());
        let ticket = state.outbox.push_qos(reply, Options::default(), now, sent);
        state.outbox.abandon(ticket);
        if let Some(seq) = seq {
            state.inbox.handled(seq);
        }
        state.journal.touch_with_cursor();
        self.handled(&mut state);
        state.kick();
        Ok(None)
    }

    /// Waits until the outbox may have room. Enable the future before looking.
    pub(crate) fn room(&self) -> tokio::sync::futures::Notified<'_> {
        self.0.room.notified()
    }

    pub(crate) fn notify_room(&self) {
        self.0.room.notify_waiters();
    }

    /// Messages may have been dropped by a policy.
    pub(crate) fn after_dropping(&self, state: &mut State) {
        let dropped = state.outbox.take_dropped();
        if dropped > 0 {
            state.totals.dropped += dropped;
            state.journal.touch();
            self.notify_room();
        }
    }

    pub(crate) fn expire(&self, ticket: Ticket) {
        let mut state = self.lock();
        let (now, sent) = (self.0.clock.now(), state.sent());
        state.outbox.expire_ticket(ticket, now, sent);
        self.after_dropping(&mut state);
        self.flush(&mut state);
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

    /// The link with this number is up, under the lock that `state` is.
    pub(crate) fn link_is_up(&self, state: &mut State, link: LinkState) {
        state.totals.connects += 1;
        if let Some(since) = state.outage.since.take() {
            state.outage.last = self.0.clock.now().since(since);
            let millis = state.outage.last.as_micros() / 1_000;
            state.totals.outage_ms += millis;
            state.totals.longest_outage_ms = state.totals.longest_outage_ms.max(millis);
        }
        if self.0.storage.is_some() && state.journal.knows_device() {
            let (device, persistent) = (Arc::clone(&self.0.device), self.0.is_persistent());
            state.journal.push(Change::Device { device, persistent, seen: Storage::now() });
        }
        self.set_status(link);
    }

    fn set_status(&self, link: LinkState) {
        self.0.status.send_modify(|Seen { status, .. }| {
            if matches!(link, LinkState::Up { .. }) {
                status.connects += 1;
            }
            status.link = link;
        });
    }

    /// The link with this number has ended. Says nothing if another one has taken over since.
    pub(crate) fn link_ended(&self, number: u64, was_up: bool, reason: DownReason) {
        let mut state = self.lock();
        if state.link.as_ref().is_none_or(|link| link.number != number) {
            return;
        }
        state.link = None;
        for ticket in std::mem::take(&mut state.tickets) {
            let _ = state.lines.accepted(ticket);
        }
        let in_flight = state.lines.in_flight().is_some();
        state.outbox.link_ended(reason, in_flight);
        // The status may still be that of a link which this one replaced without ever being up.
        if was_up || self.0.status.borrow().status.is_up() {
            state.totals.outages += 1;
            state.outage.since = Some(self.0.clock.now());
            state.outage.reason = Some(reason);
            // Under the lock, so that no later link's status is overwritten.
            self.set_status(LinkState::Down(reason));
        }
        state.journal.touch();
        self.flush(&mut state);
    }
}

impl State {
    fn new(side: Side, limits: &Limits, durable: bool) -> Self {
        State {
            dialect: None,
            lines: if durable { legacy::Session::durable(side) } else { legacy::Session::new(side) },
            native: native::Session::new(side),
            bases: Bases::default(),
            inbox: Inbox::new(limits.inbox, limits.queue_bytes, limits.dead_letters),
            outbox: Outbox::new(limits.outbox, limits.queue_bytes, limits.best_effort),
            journal: Journal::default(),
            link: None,
            links: 0,
            waiting: Vec::new(),
            tickets: Vec::new(),
            received: None,
            totals: Totals::default(),
            outage: Outages::default(),
        }
    }

    /// Goes on where an earlier process stopped.
    fn restore(&mut self, side: Side, stored: bowline_store::Device, now: Instant) -> Result<(), String> {
        let sessions = stored.session.map(|session| saved::read(side, session.format, &session.state)).transpose();
        let problem = match sessions {
            Ok(Some(sessions)) => {
                (self.dialect, self.bases, self.native) = (sessions.dialect, sessions.bases, sessions.native);
                self.lines = sessions.lines.unwrap_or_else(|| legacy::Session::durable(side));
                Ok(())
            }
            Ok(None) => Ok(()),
            Err(problem) => Err(problem),
        };
        self.totals = Totals::from_bytes(&stored.ledger);
        let has_epoch = self.native.epoch() != 0;

        let processed = stored.inbox_cursor.0;
        // A gap behind the last message is not in the queue: the next message tells of it.
        self.inbox.start_behind(stored.inbox_last.0.max(self.bases.rx), processed);
        let (epoch, base) = (self.native.epoch(), self.bases.rx);
        for message in stored.inbox {
            let seq = message.seq.0;
            let of_epoch = has_epoch && message.epoch == epoch && seq > base;
            let ticket = of_epoch.then(|| native::Ticket::stored(epoch, seq - base));
            let origin = crate::message::Origin { seq, epoch: message.epoch, gap: 0 };
            let message = Message::from_store(&message.header, &message.payload, message.qos);
            self.inbox.restore(message.with_origin(origin), ticket);
        }

        let first = stored.outbox.first().map(|message| message.seq.0);
        let (mut outbox_last, mut acked) =
            (stored.outbox_last.0, first.map_or(stored.outbox_last.0, |first| first - 1));
        if has_epoch {
            outbox_last = outbox_last.max(self.bases.tx + self.native.last());
            acked = acked.min(self.bases.tx + self.native.acked());
        }
        self.outbox.start_behind(acked);
        let wall = Storage::now().0;
        for message in stored.outbox {
            let expires = message.expires_at.map(|at| {
                // However the clock was set meanwhile, it lives at most as long as it was to live.
                let life = at.0.saturating_sub(message.created_at.0);
                let left = at.0.saturating_sub(wall).min(life);
                now + bowline_proto::time::Duration::from_micros(left.saturating_mul(1_000))
            });
            let policy = Policy::of_code(message.policy);
            let content = Message::from_store(&message.header, &message.payload, true);
            self.outbox.restore(message.seq.0, content, policy, expires);
        }
        self.outbox.restore_holes(outbox_last);
        self.native.handle_outbox(outbox_last.saturating_sub(self.bases.tx));
        self.journal = Journal::restored(stored.inbox_last.0, processed, stored.outbox_last.0, acked);
        problem
    }

    /// The peer has changed its dialect: it is another program.
    pub(crate) fn speaks(&mut self, dialect: Dialect) {
        if dialect == Dialect::Native {
            // What N delivers now, the lines' session knows nothing of.
            self.lines.handle_other_program();
        } else {
            self.outbox.forget_handled();
        }
        self.dialect = Some(dialect);
        self.journal.touch();
    }

    /// A new epoch of N begins: what was not acknowledged is numbered anew.
    pub(crate) fn begins_epoch(&mut self) {
        self.bases = Bases { tx: self.outbox.acked(), rx: self.inbox.last() };
        self.received = None;
        self.outbox.forget_handled();
        self.journal.touch();
    }

    /// Wakes the task that drives the link.
    pub(crate) fn kick(&self) {
        if let Some(link) = &self.link {
            link.kick.notify_one();
        }
    }

    /// Messages of the outbox up to here may have been sent.
    pub(crate) fn sent(&self) -> u64 {
        let lines = self.outbox.acked() + u64::from(self.lines.in_flight().is_some());
        let native = if self.native.epoch() == 0 { 0 } else { self.bases.tx + self.native.sent() };
        lines.max(native)
    }

    pub(crate) fn all_totals(&self) -> Totals {
        self.totals.with_engines(self.lines.counters(), self.native.counters())
    }
}
