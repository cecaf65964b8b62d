//! What client and runner share.

use core::cell::{Cell, RefCell};
use core::future::poll_fn;
use core::task::Poll;

use bowline_flash::{Clock, WriteError};
use bowline_proto::native::wire::Channel;
use bowline_proto::native::{Session, Ticket};
use bowline_proto::time::{Duration, Instant};
use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_sync::mutex::Mutex;
use embassy_sync::signal::Signal;
use embassy_sync::waitqueue::MultiWakerRegistration;

use crate::inbox::Inbox;
use crate::status::{LinkState, Status};
use crate::{Outbox, clock};

/// Tasks that wait for the same thing at little cost. Beyond that they wake each other.
const WAITERS: usize = 4;
/// Channels and requests that are open at a time.
pub(crate) const CLAIMS: usize = 8;

/// All of it belongs to one executor: nothing is borrowed over an await but the outbox, by its mutex.
pub(crate) struct Shared<O, I: ?Sized = [u8]> {
    pub(crate) outbox: Mutex<NoopRawMutex, O>,
    pub(crate) session: RefCell<Session>,
    /// Sent up to here, in the outbox's numbers. Changes under the outbox's lock only.
    pub(crate) sent: Cell<u64>,
    /// By when the runner is to do something next.
    pub(crate) due: Cell<Instant>,
    /// When the application was last said to be alive.
    pub(crate) alive: Cell<Instant>,
    /// There is something to do for the runner.
    pub(crate) work: Signal<NoopRawMutex, ()>,
    pub(crate) state: RefCell<State>,
    pub(crate) request_instances: (u8, u8),
    wall: fn() -> Option<u32>,
    on_change: fn(&Status),
    pub(crate) inbox: RefCell<Inbox<I>>,
}

/// What is waited for, and who waits. Each number counts changes.
pub(crate) struct State {
    pub(crate) status: Status,
    pub(crate) changes: u32,
    /// Times that the server was heard.
    pub(crate) beats: u32,
    /// Who waits for either.
    pub(crate) watchers: MultiWakerRegistration<WAITERS>,
    room: u32,
    senders: MultiWakerRegistration<WAITERS>,
    pub(crate) receivers: MultiWakerRegistration<WAITERS>,
    /// App and instance of open channels and requests.
    pub(crate) claims: [Option<(u8, u8)>; CLAIMS],
    /// The instance of the next request.
    pub(crate) instance: u8,
    /// Of the network, when it was last asked.
    pub(crate) signal: Option<i8>,
    pub(crate) late: u32,
    pub(crate) refused: u32,
    /// When the outbox was last looked through for messages whose time is up.
    expired_at: u32,
}

impl State {
    pub(crate) fn claims(&self, channel: Channel) -> bool {
        self.claims.contains(&Some((channel.app, channel.instance)))
    }
}

impl<O: Outbox, const N: usize> Shared<O, [u8; N]> {
    pub(crate) fn new(outbox: O, session: Session, messages: usize, instance: u8, config: &crate::Config<'_>) -> Self {
        Shared {
            sent: Cell::new(session.sent()),
            inbox: RefCell::new(Inbox::new(messages, session.received())),
            outbox: Mutex::new(outbox),
            session: RefCell::new(session),
            due: Cell::new(clock::now()),
            alive: Cell::new(clock::now()),
            work: Signal::new(),
            request_instances: config.request_instances,
            wall: config.wall,
            on_change: config.on_change,
            state: RefCell::new(State {
                status: Status { link: LinkState::Never, connects: 0, failures: 0 },
                changes: 0,
                beats: 0,
                watchers: MultiWakerRegistration::new(),
                room: 0,
                senders: MultiWakerRegistration::new(),
                receivers: MultiWakerRegistration::new(),
                claims: [None; CLAIMS],
                instance,
                signal: None,
                late: 0,
                refused: 0,
                expired_at: 0,
            }),
        }
    }
}

impl<O: Outbox> Shared<O> {
    pub(crate) fn clock(&self) -> Clock {
        // A board that runs for 136 years starts again.
        Clock { uptime: (clock::now().as_micros() / 1_000_000) as u32, wall: (self.wall)() }
    }

    pub(crate) fn status(&self) -> Status {
        self.state.borrow().status
    }

    pub(crate) fn tell(&self, status: Status) {
        let mut state = self.state.borrow_mut();
        if state.status != status {
            state.status = status;
            state.changes = state.changes.wrapping_add(1);
            state.watchers.wake();
            drop(state);
            (self.on_change)(&status);
        }
    }

    pub(crate) fn beat(&self) {
        let mut state = self.state.borrow_mut();
        state.beats = state.beats.wrapping_add(1);
        state.watchers.wake();
    }

    /// The runner does something within this time.
    pub(crate) fn is_due_in(&self, span: Duration) {
        self.due.set(clock::now() + span);
    }

    pub(crate) fn room(&self) -> u32 {
        self.state.borrow().room
    }

    /// Waits until there has been room since this was the number.
    pub(crate) async fn room_after(&self, seen: u32) {
        poll_fn(|context| {
            let mut state = self.state.borrow_mut();
            if state.room != seen {
                return Poll::Ready(());
            }
            state.senders.register(context.waker());
            Poll::Pending
        })
        .await;
    }

    fn notify_room(&self) {
        let mut state = self.state.borrow_mut();
        state.room = state.room.wrapping_add(1);
        state.senders.wake();
    }

    /// Brings outbox and session together: each stores, or is told, what the other one knows. It goes by what they
    /// say, so one that was dropped or has failed is made good by the next. It comes before anything is asked of
    /// a link, and before a link opens: a session that begins an epoch has told the outbox before all that it
    /// has acknowledged.
    pub(crate) async fn settle(&self, outbox: &mut O) -> Result<(), WriteError<O::Error>> {
        let (epoch, acked) = {
            let session = self.session.borrow();
            (session.epoch(), session.acked())
        };
        if outbox.epoch() != epoch {
            outbox.begin_epoch(epoch).await?;
        }
        if outbox.acked() < acked {
            outbox.acknowledge(acked).await?;
            self.notify_room();
        }
        let taken = self.inbox.borrow().taken();
        if outbox.received() < taken {
            outbox.set_received(taken).await?;
        }
        {
            let mut session = self.session.borrow_mut();
            session.handle_epoch_stored(epoch);
            session.handle_outbox(outbox.last());
            // Taken is handled.
            session.handle_persisted(Ticket::stored(epoch, taken));
            session.handle_processed(Ticket::stored(epoch, taken));
            self.sent.set(session.sent());
        }
        let clock = self.clock();
        if self.state.borrow().expired_at != clock.uptime {
            if outbox.expire(self.sent.get(), clock).await? > 0 {
                self.notify_room();
            }
            self.state.borrow_mut().expired_at = clock.uptime;
        }
        Ok(())
    }

    /// What comes on this channel is an answer that nobody waits for any more.
    pub(crate) fn is_late(&self, channel: Channel) -> bool {
        let (first, last) = self.request_instances;
        (first..=last).contains(&channel.instance) && !self.state.borrow().claims(channel)
    }
}
