//! One transport connection's life: its states, and what goes in beside bodies.

use super::config::{Config, Room, Transport};
use super::judge::Conflict;
use super::rx::LinkRx;
use super::session::{AsServer, Session};
use super::timer::{Timer, Timers};
use super::tx::LinkTx;
use super::wire::{DATA_OVERHEAD, Frame, MAX_BODY, MIN_BODY, Outcome};
use crate::time::{Duration, Instant};

/// One transport connection's life, from opening to close. See the [module](super) for the contract.
#[derive(Debug, Clone)]
pub struct Link {
    pub(super) config: Config,
    pub(super) server: Option<AsServer>,
    pub(super) phase: Phase,
    /// Its place among the session's links; on the server, from WELCOME on.
    pub(super) serial: u64,
    pub(super) timers: Timers,
    pub(super) rx: LinkRx,
    pub(super) tx: LinkTx,
    pub(super) due: Due,
    pub(super) agreed: Agreed,
    pub(super) rtt: Rtt,
    pub(super) best_effort: bool,
    /// Time of the last call that has not been followed by a complete drain.
    #[cfg(debug_assertions)]
    undrained: Option<Instant>,
}

/// §10.6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    /// Device: HELLO is to be sent.
    Hello,
    /// Device: HELLO is sent.
    AwaitWelcome,
    /// Device: the epoch is being stored; START is to be sent then.
    AwaitStored,
    /// Server: nothing was heard.
    AwaitHello(AsServer),
    /// Server: WELCOME is sent, or due.
    AwaitStart(Offer),
    /// Messages go.
    Open,
    /// CLOSE is to be sent.
    Closing(CloseReason),
    Closed(CloseReason),
}

/// What WELCOME said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Offer {
    pub(super) server: AsServer,
    pub(super) outcome: Outcome,
    pub(super) epoch: u64,
    /// The session's epoch at that time.
    pub(super) base: u64,
    /// What the device had acknowledged by then.
    pub(super) acked: u64,
}

/// Frames that are to be sent.
#[derive(Debug, Clone, Copy, Default, Hash)]
pub(super) struct Due {
    pub(super) welcome: bool,
    pub(super) start: bool,
    pub(super) pong: Option<u32>,
    pub(super) ping: bool,
    pub(super) ack: bool,
    pub(super) missing: bool,
    pub(super) processed: bool,
}

/// What both ends have agreed on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Agreed {
    pub(super) keepalive: Duration,
    /// Silence for this long is an outage (§12).
    pub(super) outage: Duration,
    pub(super) peer_body: u16,
    pub(super) features: u32,
}

impl Agreed {
    pub(super) fn new(keepalive: Duration, peer_body: u16, features: u32) -> Self {
        Agreed { keepalive, outage: keepalive.scaled(3, 1), peer_body, features }
    }
}

/// Measured round-trip time.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rtt {
    pub(super) smoothed: Option<Duration>,
    /// The token of the last PING and when it went, while its PONG is awaited.
    pub(super) asked: Option<(u32, Instant)>,
    pub(super) token: u32,
}

impl Rtt {
    pub(super) fn sample(&mut self, span: Duration) {
        self.smoothed = Some(match self.smoothed {
            None => span,
            Some(old) => Duration::from_micros(old.scaled(7, 8).as_micros() + span.scaled(1, 8).as_micros()),
        });
    }
}

/// Why a link has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// The driver wished it.
    Done,
    /// The peer broke the protocol.
    Protocol,
    /// Another link has the session.
    Replaced,
    /// The peer sent more than it had credit for.
    Credit,
    /// What was received could not be stored.
    Storage,
    /// The two ends contradict each other (§10.4).
    Quarantined(Conflict),
    /// What WELCOME said is no longer so: to be tried again at once.
    Changed,
    /// The peer speaks no version spoken here.
    Version,
    /// The device's key was revoked.
    Revoked,
    /// Nothing was heard for too long, or the link did not start in time.
    Silence,
    /// The peer takes no bytes.
    NotReading,
    /// The peer closed, with this code (§16.2).
    Peer(u8),
}

/// The code of [`CloseReason::Quarantined`] (§16.2).
pub(super) const QUARANTINED: u8 = 5;

impl CloseReason {
    /// The code and text that tell the peer (§16.2); `None` if there is nothing to tell, or no way.
    pub(super) const fn told(self) -> Option<(u8, &'static str)> {
        Some(match self {
            CloseReason::Done => (1, ""),
            CloseReason::Protocol => (2, "protocol error"),
            CloseReason::Replaced => (3, "another link has the session"),
            CloseReason::Credit => (4, "credit exceeded"),
            CloseReason::Quarantined(_) => (QUARANTINED, "the two ends contradict each other"),
            CloseReason::Storage => (6, "storing failed"),
            CloseReason::Changed => (10, "try again"),
            CloseReason::Version => (7, "version"),
            CloseReason::Revoked => (9, "key revoked"),
            CloseReason::Silence => (11, "nothing heard"),
            CloseReason::NotReading | CloseReason::Peer(_) => return None,
        })
    }
}

/// What stands in the outbox under a seq.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Item {
    /// A message with a payload of this many bytes.
    Message {
        /// Its length.
        len: u32,
    },
    /// Nothing any more: it and the following up to `last` were dropped (§11.5).
    Dropped {
        /// The last of them; at least the seq that was asked for.
        last: u64,
        /// Why.
        reason: u8,
    },
}

/// What the driver must do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "the peer waits for what is not written"]
pub enum Output {
    /// Put this frame into the body. Never DATA or BEST.
    Frame(Frame<'static>),
    /// Say by [`Link::handle_item`] what stands in the outbox under this seq.
    Describe(u64),
    /// Put this message of the outbox into the body.
    Data {
        /// Its place; its low 16 bits go into the frame.
        seq: u64,
        /// Goes into the frame.
        ask: bool,
    },
    /// Put the head of the best-effort queue into the body; it leaves the queue.
    BestEffort,
    /// Nothing more until then, or until something happens.
    Wait(Instant),
    /// Drop the transport.
    Close(CloseReason),
}

impl CloseReason {
    /// Whether trying again soon is in vain: quarantined, or closed by the peer for its version, as not allowed
    /// or for its key (§16.2). Somebody has to do something first.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, CloseReason::Quarantined(_) | CloseReason::Peer(QUARANTINED | 7 | 8 | 9))
    }
}

impl core::fmt::Display for CloseReason {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            CloseReason::Done => f.write_str("done"),
            CloseReason::NotReading => f.write_str("the peer takes no bytes"),
            CloseReason::Quarantined(conflict) => write!(f, "quarantined: {conflict}"),
            CloseReason::Peer(code) => write!(f, "the peer closed with code {code}"),
            other => f.write_str(other.told().map_or("", |(_, text)| text)),
        }
    }
}

impl Link {
    /// Opens a link whose opening was exchanged. On the device it has the session from now on, on the
    /// server from a valid START on (§10.5). `room` is what the driver can hold now.
    #[must_use]
    pub fn open(session: &mut Session, config: Config, room: Room, now: Instant) -> Self {
        // Of zero length, these would make a drain endless.
        let at_least = Duration::from_millis(1);
        let config = Config {
            keepalive: config.keepalive.max(at_least),
            keepalive_bounds: (config.keepalive_bounds.0.max(at_least), config.keepalive_bounds.1.max(at_least)),
            ack_delay: config.ack_delay.max(at_least),
            max_body: config.max_body.clamp(MIN_BODY, MAX_BODY),
            ..config
        };
        let (phase, serial) = match session.server {
            None => {
                session.expel();
                (Phase::Hello, session.active)
            }
            Some(server) => {
                if crate::planted!(TakeoverBeforeProof) {
                    session.expel();
                }
                (Phase::AwaitHello(server), 0)
            }
        };
        let mut timers = Timers::default();
        timers.set(Timer::Silence, now + config.handshake);
        Link {
            config,
            server: session.server,
            phase,
            serial,
            timers,
            rx: LinkRx::new(room),
            tx: LinkTx::default(),
            due: Due::default(),
            agreed: Agreed::new(config.keepalive, MIN_BODY, 0),
            rtt: Rtt::default(),
            best_effort: false,
            #[cfg(debug_assertions)]
            undrained: None,
        }
    }

    /// Whether messages go.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        matches!(self.phase, Phase::Open)
    }

    /// Whether it had the session and another link has taken it (§10.5). Seqs of this link then mean nothing in the
    /// outbox any more.
    #[must_use]
    pub fn is_replaced(&self, session: &Session) -> bool {
        let has_had_it = matches!(self.phase, Phase::Open) || self.server.is_none();
        has_had_it && self.serial != session.active
    }

    /// Largest body to accept now (§8.3), without a seal.
    #[must_use]
    pub const fn max_body(&self) -> u16 {
        match self.phase {
            Phase::AwaitHello(_) => MIN_BODY,
            _ => self.config.max_body,
        }
    }

    /// Largest body to send now, without a seal.
    #[must_use]
    pub const fn peer_max_body(&self) -> u16 {
        self.agreed.peer_body
    }

    /// Largest payload to send, once the link has started.
    #[must_use]
    pub const fn max_payload(&self) -> u16 {
        self.agreed.peer_body - DATA_OVERHEAD
    }

    /// The keepalive interval: the wish until the link has started, then what was agreed (§12).
    #[must_use]
    pub const fn keepalive(&self) -> Duration {
        self.agreed.keepalive
    }

    /// Features both ends have.
    #[must_use]
    pub const fn features(&self) -> u32 {
        self.agreed.features
    }

    /// The smoothed round-trip time, once measured.
    #[must_use]
    pub const fn round_trip(&self) -> Option<Duration> {
        self.rtt.smoothed
    }

    /// What stands in the outbox under `seq`, for which [`Output::Describe`] has asked. What was sent
    /// ([`Session::sent`]) stands there until it is acknowledged (§11.5).
    pub fn handle_item(&mut self, now: Instant, seq: u64, item: Item) {
        self.begin(now);
        if seq == self.tx.next {
            self.tx.item = Some(item);
        }
    }

    /// What the driver can hold beside everything it was given so far. To be called when that grows.
    pub fn handle_room(&mut self, now: Instant, room: Room) {
        self.begin(now);
        if crate::planted!(CreditLeak) {
            return;
        }
        self.rx.room = room;
    }

    /// Whether the best-effort queue holds something that fits into [`Link::max_payload`].
    pub fn handle_best_effort(&mut self, now: Instant, waiting: bool) {
        self.begin(now);
        self.best_effort = waiting;
    }

    /// Bytes wait to be written (`true`), or all are written. To be called when that changes, and
    /// with `true` again whenever some were written. While it is so nothing is put out.
    pub fn handle_write_blocked(&mut self, now: Instant, blocked: bool) {
        self.begin(now);
        if blocked {
            self.timers.set(Timer::Write, now + self.agreed.outage);
        } else {
            self.timers.stop(Timer::Write);
        }
    }

    /// Time has passed, or something was told to the session. Early, late or repeated calls do no harm.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.begin(now);
    }

    /// The driver wishes to end the link, in order and for `reason`: [`CloseReason::Done`], or
    /// [`CloseReason::Revoked`].
    pub fn close(&mut self, now: Instant, reason: CloseReason) {
        self.begin(now);
        self.closes(reason);
    }

    /// Gives the link up for `reason`, unless it has ended already.
    #[inline(never)]
    pub(super) fn closes(&mut self, reason: CloseReason) {
        if !matches!(self.phase, Phase::Closing(_) | Phase::Closed(_)) {
            self.phase = Phase::Closing(reason);
        }
    }

    pub(super) const fn is_lossy(&self) -> bool {
        !matches!(self.config.transport, Transport::Lossless)
    }

    /// How long to wait for progress before sending again (§13.2).
    pub(super) fn resend_time(&self) -> Duration {
        let rtt = self.rtt.smoothed.unwrap_or(Duration::from_millis(100));
        let base = Duration::from_micros(rtt.scaled(2, 1).as_micros() + self.config.ack_delay.as_micros());
        let base = base.max(Duration::from_millis(50));
        base.scaled(1 << self.tx.backoff.min(10), 1).min(self.agreed.keepalive)
    }

    /// Whoever calls something keeps to the contract, 2.
    #[cfg(debug_assertions)]
    pub(super) fn begin(&mut self, now: Instant) {
        let then = self.undrained.replace(now);
        assert!(then.is_none_or(|then| then == now), "poll_output was not drained before time moved on");
    }

    #[cfg(debug_assertions)]
    pub(super) const fn drained(&mut self) {
        self.undrained = None;
    }

    #[cfg(not(debug_assertions))]
    pub(super) const fn begin(&mut self, _: Instant) {}

    #[cfg(not(debug_assertions))]
    pub(super) const fn drained(&mut self) {}
}
