//! One end of the conversation with one peer, across links.

mod lines;
mod outgoing;
mod state;
mod status;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bowline_proto::Side;
use bowline_secure::Protection;
use bowline_store::{Change, Direction};
use tokio::sync::Notify;

pub(crate) use self::state::{Current, State, Turn};
use crate::status::Statuses;
use crate::{Clock, DeadLetter, Delivery, Dialect, Limits, Message, Outside, Policy, RecvError, Sending, Storage};

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
    status: Statuses,
    /// A transaction was committed.
    pub(crate) stored: Notify,
    /// Mostly those of many endpoints.
    limits: Arc<Limits>,
    pub(crate) clock: Clock,
    /// Whose queues these are, for the store.
    pub(crate) device: Arc<str>,
    persistent: AtomicBool,
    pub(crate) storage: Option<Storage>,
}

/// Who sees to an endpoint without waiting for it: no task is needed where nothing happens.
pub trait Attendant: fmt::Debug + Send + Sync {
    /// A message has come in, the link is up or down, or the endpoint was closed. Called under the endpoint's lock: it
    /// must be quick, and not ask the endpoint.
    fn is_called(&self, endpoint: &Endpoint);
}

impl Shared {
    pub(crate) fn is_persistent(&self) -> bool {
        self.persistent.load(Ordering::Relaxed)
    }
}

impl Endpoint {
    /// A new endpoint without a link. It does not survive the process.
    #[must_use]
    pub fn new(side: Side, limits: impl Into<Arc<Limits>>) -> Self {
        let clock = Clock::start(Outside::default());
        let limits = limits.into();
        let state = State::new(side, &limits, false);
        Self::with(side, limits, "".into(), None, state, clock)
    }

    /// An endpoint that goes on with what `stored` says of the device, if it is known; from then on it
    /// keeps everything in `storage`.
    ///
    /// If what was stored of its sessions cannot be read, it begins new ones, so that what is on its way
    /// now may come twice; that is logged as an error. Its queues are there all the same.
    #[must_use]
    pub fn stored(
        side: Side,
        limits: impl Into<Arc<Limits>>,
        device: impl Into<Arc<str>>,
        storage: Storage,
        stored: Option<bowline_store::Device>,
    ) -> Self {
        let (limits, device) = (limits.into(), device.into());
        let mut state = State::new(side, &limits, true);
        let persistent = stored.as_ref().is_some_and(|stored| stored.summary.persistent);
        let clock = Clock::start(storage.outside());
        if let Some(stored) = stored
            && let Err(problem) = state.restore(side, stored, clock)
        {
            tracing::error!(%device, "the stored session cannot be read, a new one begins: {problem}");
        }
        let endpoint = Self::with(side, limits, device, Some(storage), state, clock);
        endpoint.0.persistent.store(persistent, Ordering::Relaxed);
        let state = endpoint.lock();
        if state.inbox.has_next() {
            endpoint.notify_arrival(&state);
        }
        drop(state);
        endpoint
    }

    fn with(
        side: Side,
        limits: Arc<Limits>,
        device: Arc<str>,
        storage: Option<Storage>,
        state: State,
        clock: Clock,
    ) -> Self {
        debug_assert_eq!(side, state.native.side());
        Endpoint(Arc::new(Shared {
            state: Mutex::new(state),
            arrived: Notify::new(),
            room: Notify::new(),
            status: Statuses::default(),
            stored: Notify::new(),
            limits,
            clock,
            device,
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
            self.count_handled(&mut state);
            // Otherwise it is made when there is something taken.
            if !state.inbox.has_next() {
                self.make_room(&mut state);
            }
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

    /// The next message if one is there; otherwise as [`Endpoint::next`].
    ///
    /// # Errors
    /// As [`Endpoint::recv`].
    pub fn try_next(&self) -> Result<Option<Delivery>, RecvError> {
        let taken = self.take(&mut self.lock(), false)?;
        Ok(taken.map(|message| Delivery::new(self.clone(), message)))
    }

    fn take(&self, state: &mut State, until_next: bool) -> Result<Option<Message>, RecvError> {
        let Some(message) = state.inbox.take(until_next) else {
            return if state.outbox.closed { Err(RecvError::Closed) } else { Ok(None) };
        };
        if state.inbox.has_next() {
            // Two arrivals may have left one wake-up.
            self.notify_arrival(state);
        }
        if until_next || message.seq().is_none() {
            self.make_room(state);
        }
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
        let is_last = state.inbox.draining && state.inbox.held() == 0;
        if wants_to_know || is_last {
            state.kick();
        }
    }

    /// The application has handled something.
    pub(crate) fn handled(&self, state: &mut State) {
        self.count_handled(state);
        self.make_room(state);
    }

    fn count_handled(&self, state: &mut State) {
        state.totals.processed += state.inbox.take_handled();
        if let Some(ticket) = state.inbox.native_processed() {
            state.native.handle_processed(ticket);
        }
        if self.0.storage.is_some() {
            state.journal.touch_soon();
        } else {
            // For the link to tell the peer.
            state.kick();
        }
    }

    /// The application gives a message back.
    pub(crate) fn put_back(&self, message: Message) {
        let mut state = self.lock();
        state.inbox.put_back(message);
        self.make_room(&mut state);
        self.notify_arrival(&state);
    }

    /// What the peer speaks, or last spoke; `None` before it was there.
    #[must_use]
    pub fn dialect(&self) -> Option<Dialect> {
        self.lock().dialect
    }

    /// How the link is protected, or the last one of this process was; `None` if not at all.
    #[must_use]
    pub fn protection(&self) -> Option<Protection> {
        self.lock().protection
    }

    /// The epoch of the peer's numbering. Messages of two epochs come from two lives of the peer.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.lock().epoch()
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
                at: self.0.clock.wall(),
            },
        });
    }

    /// Takes no more messages in, but for what a peer on N has credit for already; the outbox is still
    /// emptied. The link ends by itself when nothing is left to send, and the application has handled or given
    /// back what it had from [`Endpoint::next`]: answers still go out. What is not accepted is not acknowledged,
    /// so it comes again to whoever comes next.
    pub fn drain(&self) {
        let mut state = self.lock();
        state.inbox.draining = true;
        state.kick();
    }

    /// Takes messages again after [`Endpoint::drain`].
    pub fn resume(&self) {
        self.lock().inbox.draining = false;
    }

    /// Whether nothing is left to send, nothing is left to take, and all that was taken is handled.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let state = self.lock();
        state.outbox.is_empty() && state.inbox.is_idle()
    }

    /// The device is kept until someone forgets it, or is not.
    pub fn set_persistent(&self, persistent: bool) {
        if self.0.persistent.swap(persistent, Ordering::Relaxed) != persistent && self.0.storage.is_some() {
            let mut state = self.lock();
            let device = Arc::clone(&self.0.device);
            state.journal.push(Change::Device { device, persistent, seen: self.0.clock.wall() });
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
        self.0.status.modify(|seen| seen.closed = true);
        self.calls_attendant(&self.lock());
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
        *self.0.limits
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock; if it did, the queues are still whole.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has `attendant` called from now on, and none that was before.
    pub fn attended_by(&self, attendant: Arc<dyn Attendant>) {
        let before = self.lock().attendant.replace(attendant);
        // Not under the lock: it may be the last who holds it.
        drop(before);
    }

    pub(crate) fn notify_arrival(&self, state: &State) {
        self.0.arrived.notify_one();
        self.calls_attendant(state);
    }

    fn calls_attendant(&self, state: &State) {
        if let Some(attendant) = &state.attendant {
            attendant.is_called(self);
        }
    }
}
