//! What client and runner share.

use core::cell::{Cell, RefCell};
use core::future::poll_fn;
use core::task::{Poll, Waker};

use bowline_flash::{Clock, WriteError};
use bowline_proto::native::wire::Channel;
use bowline_proto::native::{Counters, Session, Ticket};
use bowline_proto::time::{Duration, Instant};
use bowline_secure::Protection;
use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_sync::mutex::Mutex;
use embassy_sync::signal::Signal;

use crate::inbox::Inbox;
use crate::status::{LinkState, Status};
use crate::{Outbox, clock};

/// Tasks that wait for the same thing at little cost. Beyond that they wake each other.
const WAITERS: usize = 4;
/// Channels and requests that are open at a time.
pub(crate) const CLAIMS: usize = 8;

/// All of it belongs to one executor: nothing is borrowed over an await but the outbox, by its mutex. What can be copied
/// is in cells, so that most is never borrowed at all.
pub(crate) struct Shared<O, I: ?Sized = [u8]> {
    pub(crate) outbox: Mutex<NoopRawMutex, O>,
    /// Of the session, as it was when the runner last looked.
    pub(crate) counters: Cell<Counters>,
    /// The epoch of what is in the inbox.
    pub(crate) epoch: Cell<u64>,
    /// Sent up to here, in the outbox's numbers. Changes under the outbox's lock only.
    pub(crate) sent: Cell<u64>,
    /// By when the runner is to do something next.
    pub(crate) due: Cell<Instant>,
    /// When the application was last said to be alive.
    pub(crate) alive: Cell<Instant>,
    /// There is something to do for the runner.
    pub(crate) work: Signal<NoopRawMutex, ()>,
    pub(crate) request_instances: (u8, u8),
    wall: fn() -> Option<u32>,
    on_change: fn(&Status),
    pub(crate) status: Cell<Status>,
    /// Of the status: counted.
    pub(crate) changes: Cell<u32>,
    /// Times that the server was heard.
    pub(crate) beats: Cell<u32>,
    /// Who waits for either.
    pub(crate) watchers: Waiters,
    /// Times that there was room again.
    room: Cell<u32>,
    senders: Waiters,
    pub(crate) receivers: Waiters,
    /// App and instance of open channels and requests.
    claims: [Cell<Option<(u8, u8)>>; CLAIMS],
    /// The instance of the next request.
    pub(crate) instance: Cell<u8>,
    /// Of the network, when it was last asked.
    pub(crate) signal: Cell<Option<i8>>,
    pub(crate) late: Cell<u32>,
    pub(crate) refused: Cell<u32>,
    /// When the outbox was last looked through for messages whose time is up.
    expired_at: Cell<u32>,
    inbox: RefCell<Inbox<I>>,
}

/// Where a session goes on.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Begin {
    /// Of what comes.
    pub(crate) epoch: u64,
    /// Sent up to here.
    pub(crate) sent: u64,
    /// Received up to here.
    pub(crate) received: u64,
}

/// Who waits for something.
pub(crate) struct Waiters([Cell<Option<Waker>>; WAITERS]);

impl Waiters {
    const fn new() -> Self {
        Waiters([const { Cell::new(None) }; WAITERS])
    }

    pub(crate) fn register(&self, waker: &Waker) {
        let Waiters([.., last]) = self;
        for place in &self.0 {
            let there = place.take().filter(|there| !there.will_wake(waker));
            if there.is_none() {
                return place.set(Some(waker.clone()));
            }
            place.set(there);
        }
        // All places are taken: those in them look again, and wait again if they must.
        self.wake();
        last.set(Some(waker.clone()));
    }

    pub(crate) fn wake(&self) {
        for waker in self.0.iter().filter_map(Cell::take) {
            waker.wake();
        }
    }
}

/// One more.
pub(crate) fn count(counter: &Cell<u32>) {
    counter.set(counter.get().wrapping_add(1));
}

impl<O: Outbox, const N: usize> Shared<O, [u8; N]> {
    pub(crate) fn new(outbox: O, begin: Begin, messages: usize, instance: u8, config: &crate::Config<'_>) -> Self {
        Shared {
            counters: Cell::new(Counters::default()),
            epoch: Cell::new(begin.epoch),
            sent: Cell::new(begin.sent),
            inbox: RefCell::new(Inbox::new(messages, begin.received)),
            outbox: Mutex::new(outbox),
            due: Cell::new(clock::now()),
            alive: Cell::new(clock::now()),
            work: Signal::new(),
            request_instances: config.request_instances,
            wall: config.wall,
            on_change: config.on_change,
            status: Cell::new(Status { link: LinkState::Never, connects: 0, failures: 0 }),
            changes: Cell::new(0),
            beats: Cell::new(0),
            watchers: Waiters::new(),
            room: Cell::new(0),
            senders: Waiters::new(),
            receivers: Waiters::new(),
            claims: [const { Cell::new(None) }; CLAIMS],
            instance: Cell::new(instance),
            signal: Cell::new(None),
            late: Cell::new(0),
            refused: Cell::new(0),
            expired_at: Cell::new(0),
        }
    }
}

impl<O: Outbox> Shared<O> {
    pub(crate) fn clock(&self) -> Clock {
        // A board that runs for 136 years starts again.
        Clock { uptime: (clock::now().as_micros() / 1_000_000) as u32, wall: (self.wall)() }
    }

    pub(crate) const fn status(&self) -> Status {
        self.status.get()
    }

    /// The status has changed.
    pub(crate) fn tell(&self, status: Status) {
        self.status.set(status);
        count(&self.changes);
        self.watchers.wake();
        (self.on_change)(&status);
    }

    /// The link is up.
    pub(crate) fn comes_up(&self, protection: Option<Protection>) {
        let status = self.status();
        if !status.is_up() {
            let connects = status.connects.saturating_add(1);
            self.tell(Status { link: LinkState::Up { protection }, connects, ..status });
        }
    }

    pub(crate) fn beat(&self) {
        count(&self.beats);
        self.watchers.wake();
    }

    /// The runner does something within this time.
    pub(crate) fn is_due_in(&self, span: Duration) {
        self.due.set(clock::now() + span);
    }

    pub(crate) const fn room(&self) -> u32 {
        self.room.get()
    }

    /// Waits until there has been room since this was the number.
    pub(crate) async fn room_after(&self, seen: u32) {
        poll_fn(|context| {
            if self.room() != seen {
                return Poll::Ready(());
            }
            self.senders.register(context.waker());
            Poll::Pending
        })
        .await;
    }

    pub(crate) fn notify_room(&self) {
        count(&self.room);
        self.senders.wake();
    }

    /// The inbox. What is done with it does not come back here, so there never is a default instead.
    pub(crate) fn inbox<T: Default>(&self, does: impl FnOnce(&mut Inbox<[u8]>) -> T) -> T {
        self.inbox.try_borrow_mut().map(|mut inbox| does(&mut inbox)).unwrap_or_default()
    }

    pub(crate) fn is_claimed(&self, of: (u8, u8)) -> bool {
        self.claims.iter().any(|claim| claim.get() == Some(of))
    }

    pub(crate) fn claims(&self, channel: Channel) -> bool {
        self.is_claimed((channel.app, channel.instance))
    }

    /// False if there is none of these.
    pub(crate) fn replaces_claim(&self, old: Option<(u8, u8)>, new: Option<(u8, u8)>) -> bool {
        let found = self.claims.iter().find(|claim| claim.get() == old);
        found.inspect(|claim| claim.set(new)).is_some()
    }

    /// Brings outbox and session together: each stores, or is told, what the other one knows. It goes by what they
    /// say, so one that was dropped or has failed is made good by the next. It comes before anything is asked of
    /// a link, and before a link opens: a session that begins an epoch has told the outbox before all that it
    /// has acknowledged.
    pub(crate) async fn settle(&self, session: &mut Session, outbox: &mut O) -> Result<(), WriteError<O::Error>> {
        let (epoch, acked) = (session.epoch(), session.acked());
        if outbox.epoch() != epoch {
            outbox.begin_epoch(epoch).await?;
        }
        if outbox.acked() < acked {
            outbox.acknowledge(acked).await?;
            self.notify_room();
        }
        let taken = self.inbox(|inbox| inbox.taken());
        if outbox.received() < taken {
            outbox.set_received(taken).await?;
        }
        session.handle_epoch_stored(epoch);
        session.handle_outbox(outbox.last());
        // Taken is handled.
        session.handle_persisted(Ticket::stored(epoch, taken));
        session.handle_processed(Ticket::stored(epoch, taken));
        self.sent.set(session.sent());
        self.expires(outbox).await
    }

    /// Drops messages whose time is up, once a second.
    pub(crate) async fn expires(&self, outbox: &mut O) -> Result<(), WriteError<O::Error>> {
        let clock = self.clock();
        if self.expired_at.get() != clock.uptime {
            if outbox.expire(self.sent.get(), clock).await? > 0 {
                self.notify_room();
            }
            self.expired_at.set(clock.uptime);
        }
        Ok(())
    }

    /// What comes on this channel is an answer that nobody waits for any more.
    pub(crate) fn is_late(&self, channel: Channel) -> bool {
        let (first, last) = self.request_instances;
        (first..=last).contains(&channel.instance) && !self.claims(channel)
    }
}
