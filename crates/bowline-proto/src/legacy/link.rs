//! One transport connection's life.

use super::Pace;
use super::pace::Bucket;
use super::session::{Arrivals, Generation, Session, Ticket, Verdict};
use super::timer::{Timer, Timers};
use super::tx::Stage;
use crate::time::{Duration, Instant};
use crate::wire::{Fault, HexBytes, Line, LineError, LineScanner, MessageId, MessageView};
use crate::{Dialect, Side};

/// Lines that are none of the dialect before the link is given up: the peer speaks something else.
const MALFORMED_LIMIT: u8 = 16;

/// Acknowledgements due at one time. As many as there can be tickets, twice over; one that finds no
/// room is not sent, and the message comes again.
const ACKS: usize = 32;

/// Times and limits of a link. [`Config::new`] derives them from the one number that the field knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Send a keepalive after this long without sending anything.
    pub keepalive: Duration,
    /// Declare an outage after this long without a byte from the peer.
    pub silence: Duration,
    /// Send the message in flight again after this long without an acknowledgement.
    pub resend: Duration,
    /// Give the link up when the peer takes no bytes for this long.
    pub write: Duration,
    /// Pause between a device's login and the first message to it; keepalives go at once (§2.6).
    pub settle: Duration,
    /// How fast messages may follow each other.
    pub pace: Pace,
    /// Longest line accepted, in bytes without its newline.
    pub line_limit: usize,
}

impl Config {
    /// Derives the times from `timeout`, the number both ends are configured with (§2.6).
    #[must_use]
    pub const fn new(side: Side, timeout: Duration) -> Self {
        Config {
            keepalive: timeout.scaled(1, 4),
            // A device drops the link after `timeout`, as the reference does. The server allows half as
            // much again: a device whose own timeout is longer than ours sends keepalives more rarely.
            silence: match side {
                Side::Device => timeout,
                Side::Server => timeout.scaled(3, 2),
            },
            resend: timeout.scaled(1, 2),
            write: timeout,
            settle: match side {
                Side::Device => Duration::ZERO,
                Side::Server => Duration::from_millis(200),
            },
            pace: match side {
                Side::Device => Pace::OFF,
                Side::Server => Pace { burst: 4, interval: Duration::from_millis(50) },
            },
            line_limit: 16 * 1024,
        }
    }
}

/// One transport connection's life, from login to close. See the [module](super) for the contract.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub struct Link {
    config: Config,
    dialect: Dialect,
    generation: Generation,
    phase: Phase,
    timers: Timers,
    scanner: LineScanner,
    bucket: Bucket,
    acks: Acks,
    arrivals: Arrivals,
    malformed: u8,
    queue: Queue,
    /// The message in flight was sent on an earlier link, or its time is up.
    must_resend: bool,
    /// Time of the last call that has not been followed by a complete drain.
    undrained: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Device side: the login is yet to be sent.
    Login,
    /// Device side: the login is sent, nothing has come back.
    FirstByte,
    /// Server side: logged in, the board gets its pause. Keepalives and acknowledgements go.
    Settling,
    /// Messages go.
    Open,
    Closed(CloseReason),
}

/// Why the engine gives a link up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// Nothing was heard from the peer for too long.
    Silence,
    /// The peer takes no bytes.
    NotReading,
    /// The peer sent a line longer than the limit.
    LineTooLong,
    /// The peer sent too many lines that are none of the dialect.
    Malformed,
    /// Another link of the same session took over.
    Replaced,
}

impl core::fmt::Display for CloseReason {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            CloseReason::Silence => "nothing heard within the timeout",
            CloseReason::NotReading => "the peer takes no bytes",
            CloseReason::LineTooLong => "a line longer than the limit",
            CloseReason::Malformed => "too many malformed lines",
            CloseReason::Replaced => "replaced by a newer link",
        })
    }
}

/// What the driver's outbox holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Queue {
    /// A qos message is there, whether it is in flight or not.
    pub qos: bool,
    /// A best-effort message is there.
    pub best_effort: bool,
}

/// What the driver must do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "the peer waits for what is not written"]
pub enum Output {
    /// Write the login line.
    Login,
    /// Write an empty line.
    Keepalive,
    /// Write the acknowledgement of this message.
    Ack(MessageId),
    /// Write a message from the outbox under this id.
    Message(MessageId, Kind),
    /// Nothing more until then, or until something happens.
    Wait(Instant),
    /// Drop the transport.
    Close(CloseReason),
}

/// Which message to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The head of the qos queue, for the first time. It stays there until it is acknowledged; on P,
    /// until all of its bytes are written and [`Link::handle_written`] has said so.
    Qos,
    /// The head of the qos queue, again.
    Resend,
    /// The head of the best-effort queue, which leaves it.
    BestEffort,
}

/// What [`Link::handle_input`] found.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "consumed bytes must leave the buffer"]
pub struct Input<'a> {
    /// Bytes to drop from the front of the buffer.
    pub consumed: usize,
    /// What they said; `None` when there is no complete line left.
    pub received: Option<Received<'a>>,
}

/// A received line's meaning.
#[derive(Debug, PartialEq, Eq)]
pub enum Received<'a> {
    /// The peer is alive.
    Keepalive,
    /// A new message.
    Message(Incoming<'a>),
    /// A message that cannot be read: keep the bytes as a dead letter, then accept the ticket.
    Undecodable {
        /// Its claim to be acknowledged.
        ticket: Ticket,
        /// What is wrong with it.
        fault: Fault,
        /// The whole line.
        line: &'a [u8],
    },
    /// A line that is none of the dialect, and counted as such.
    Malformed(&'a [u8]),
    /// The message in flight has arrived: it leaves the outbox.
    Acked(MessageId),
    /// Nothing to do: a resend of what is already accepted or with the driver, an acknowledgement of
    /// nothing, or a message there is no room for. All counted.
    Handled,
}

/// A new message.
#[derive(Debug, PartialEq, Eq)]
pub struct Incoming<'a> {
    /// Its claim to be acknowledged.
    pub ticket: Ticket,
    /// Whether the sender waits for an acknowledgement and sends it again if none comes.
    pub qos: bool,
    /// The user header; empty on U and P.
    pub header: HexBytes<'a>,
    /// The payload.
    pub payload: &'a str,
}

impl Link {
    /// Opens a link: on the server side, after the login line was read; on the device side, when the
    /// transport is connected. Takes the session away from the link before.
    #[must_use]
    pub fn open(session: &mut Session, dialect: Dialect, config: Config, now: Instant) -> Self {
        // Of zero length, these would make a drain endless.
        let at_least = Duration::from_millis(1);
        let config =
            Config { keepalive: config.keepalive.max(at_least), resend: config.resend.max(at_least), ..config };
        let generation = session.start_link(dialect);
        let side = session.side();
        let mut timers = Timers::default();
        timers.set(Timer::Keepalive, now);
        let phase = match side {
            Side::Device => {
                // The server may be slow to answer a login: twice the usual silence.
                timers.set(Timer::Silence, now + config.silence.scaled(2, 1));
                Phase::Login
            }
            Side::Server => {
                timers.set(Timer::Silence, now + config.silence);
                timers.set(Timer::Settle, now + config.settle);
                Phase::Settling
            }
        };
        Link {
            config,
            dialect,
            generation,
            phase,
            timers,
            scanner: LineScanner::new(config.line_limit),
            bucket: Bucket::new(config.pace, now),
            acks: Acks::default(),
            arrivals: Arrivals::default(),
            malformed: 0,
            queue: Queue::default(),
            must_resend: session.head().is_some_and(|(_, stage)| stage == Stage::Sent),
            undrained: None,
        }
    }

    /// The link's place among the session's links.
    #[must_use]
    pub const fn generation(&self) -> Generation {
        self.generation
    }

    /// What the link speaks.
    #[must_use]
    pub const fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Whether the peer has been heard on this link. On the device side this is what "connected" means.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        matches!(self.phase, Phase::Settling | Phase::Open)
    }

    /// Bytes have arrived. Comes before the [`Link::handle_input`] that looks at them.
    pub fn handle_heard(&mut self, now: Instant) {
        self.begin(now);
        if matches!(self.phase, Phase::Closed(_)) {
            return;
        }
        self.timers.set(Timer::Silence, now + self.config.silence);
        if self.phase == Phase::FirstByte {
            self.phase = Phase::Open;
        }
    }

    /// Looks at the front of the read buffer, one line a call; to be called again until it receives
    /// nothing. A closed or replaced link consumes nothing.
    pub fn handle_input<'a>(&mut self, session: &mut Session, now: Instant, buffer: &'a [u8]) -> Input<'a> {
        self.begin(now);
        self.check_generation(session);
        if matches!(self.phase, Phase::Closed(_)) {
            return Input { consumed: 0, received: None };
        }
        let line = match self.scanner.next(buffer) {
            Ok(Some(line)) => line,
            Ok(None) => return Input { consumed: 0, received: None },
            Err(_) => {
                self.phase = Phase::Closed(CloseReason::LineTooLong);
                return Input { consumed: 0, received: None };
            }
        };
        Input { consumed: line.len() + 1, received: Some(self.receive(session, line)) }
    }

    fn receive<'a>(&mut self, session: &mut Session, line: &'a [u8]) -> Received<'a> {
        match Line::parse(self.dialect, line) {
            Ok(Line::Keepalive) => Received::Keepalive,
            Ok(Line::Ack(id)) => {
                if !session.acked(id) {
                    return Received::Handled;
                }
                self.timers.stop(Timer::Resend);
                self.must_resend = false;
                Received::Acked(id)
            }
            Ok(Line::Message(MessageView { id, wants_ack, header, payload })) => {
                match self.admit(session, id, wants_ack, line) {
                    Some(ticket) => Received::Message(Incoming { ticket, qos: wants_ack, header, payload }),
                    None => Received::Handled,
                }
            }
            Err(LineError::Undecodable { id, wants_ack, fault }) => match self.admit(session, id, wants_ack, line) {
                Some(ticket) => {
                    session.counters.undecodable += 1;
                    Received::Undecodable { ticket, fault, line }
                }
                None => Received::Handled,
            },
            Err(LineError::Malformed) => {
                session.counters.malformed += 1;
                self.malformed += 1;
                if self.malformed >= MALFORMED_LIMIT {
                    self.phase = Phase::Closed(CloseReason::Malformed);
                }
                Received::Malformed(line)
            }
        }
    }

    /// The ticket of a message that is new.
    fn admit(&mut self, session: &mut Session, id: Option<MessageId>, wants_ack: bool, line: &[u8]) -> Option<Ticket> {
        match id {
            Some(id) if wants_ack => match session.judge(id, line, &mut self.arrivals) {
                Verdict::New(ticket) => Some(ticket),
                Verdict::Duplicate => {
                    self.acks.push(id);
                    None
                }
                Verdict::Pending | Verdict::NoRoom => None,
            },
            Some(id) => {
                session.saw_best_effort(id, &mut self.arrivals);
                Some(Ticket(None))
            }
            None => Some(Ticket(None)),
        }
    }

    /// The driver has accepted a message: it is marked, and its acknowledgement is due. The message
    /// may have come on an earlier link; then only its resend on this one is acknowledged.
    pub fn handle_accepted(&mut self, session: &mut Session, now: Instant, ticket: Ticket) {
        self.begin(now);
        self.check_generation(session);
        if let Some(id) = session.accepted(ticket) {
            self.acks.push(id);
        }
    }

    /// The driver has no room for a message and has dropped it. A qos one comes again.
    pub fn handle_refused(&mut self, session: &mut Session, now: Instant, ticket: Ticket) {
        self.begin(now);
        session.refused(ticket);
    }

    /// What the outbox holds now. To be called whenever that changes.
    pub fn handle_queue(&mut self, now: Instant, queue: Queue) {
        self.begin(now);
        self.queue = queue;
    }

    /// On a dialect without acknowledgements: all bytes of the message in flight are written.
    pub fn handle_written(&mut self, session: &mut Session, now: Instant) {
        self.begin(now);
        if session.is_current(self.generation) && !self.dialect.acknowledges() {
            session.delivered();
        }
    }

    /// Bytes wait to be written (`true`), or all are written. To be called when that changes, and
    /// with `true` again whenever some were written: the peer is given time from then on.
    pub fn handle_write_blocked(&mut self, now: Instant, blocked: bool) {
        self.begin(now);
        if blocked {
            self.timers.set(Timer::Write, now + self.config.write);
        } else {
            self.timers.stop(Timer::Write);
            if self.timers.is_set(Timer::Resend) {
                self.timers.set(Timer::Resend, now + self.config.resend);
            }
        }
    }

    /// The driver stops reading (`true`), because it has no room, or reads again. What is not read
    /// cannot be heard: silence does not count meanwhile.
    pub fn handle_read_paused(&mut self, now: Instant, paused: bool) {
        self.begin(now);
        if paused {
            self.timers.stop(Timer::Silence);
        } else {
            self.timers.set(Timer::Silence, now + self.config.silence);
        }
    }

    /// Time has passed. Early, late or repeated calls do no harm.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.begin(now);
    }

    /// What to do next; to be asked again until it is [`Output::Wait`] or [`Output::Close`].
    ///
    /// Bounded: at most one login, 32 acknowledgements, a keepalive, one qos message and as many
    /// best-effort ones as the driver keeps announcing by [`Link::handle_queue`].
    pub fn poll_output(&mut self, session: &mut Session, now: Instant) -> Output {
        self.check_generation(session);
        if !matches!(self.phase, Phase::Closed(_)) {
            if self.timers.is_due(Timer::Silence, now) {
                self.phase = Phase::Closed(CloseReason::Silence);
            } else if self.timers.is_due(Timer::Write, now) {
                self.phase = Phase::Closed(CloseReason::NotReading);
            }
        }
        let output = match self.phase {
            Phase::Closed(reason) => Output::Close(reason),
            Phase::Login => {
                self.phase = Phase::FirstByte;
                Output::Login
            }
            Phase::FirstByte | Phase::Settling | Phase::Open => self.next_line(session, now),
        };
        match output {
            Output::Close(_) | Output::Wait(_) => self.undrained = None,
            _ => self.timers.set(Timer::Keepalive, now + self.config.keepalive),
        }
        output
    }

    fn next_line(&mut self, session: &mut Session, now: Instant) -> Output {
        if let Some(id) = self.acks.pop() {
            return Output::Ack(id);
        }
        if self.phase == Phase::Settling && self.timers.is_due(Timer::Settle, now) {
            self.timers.stop(Timer::Settle);
            self.phase = Phase::Open;
        }
        if self.phase == Phase::Open
            && let Some(message) = self.next_message(session, now)
        {
            return message;
        }
        // Not while bytes wait to be written: those are as good a sign of life, when they get there.
        if self.timers.is_due(Timer::Keepalive, now) && !self.timers.is_set(Timer::Write) {
            return Output::Keepalive;
        }
        if self.timers.is_due(Timer::Keepalive, now) {
            self.timers.set(Timer::Keepalive, now + self.config.keepalive);
        }
        Output::Wait(self.timers.next().unwrap_or(now + self.config.keepalive))
    }

    fn next_message(&mut self, session: &mut Session, now: Instant) -> Option<Output> {
        self.timers.stop(Timer::Pace);
        if self.timers.is_due(Timer::Resend, now) {
            if self.timers.is_set(Timer::Write) {
                // The peer can acknowledge only what has been written.
                self.timers.set(Timer::Resend, now + self.config.resend);
            } else {
                self.timers.stop(Timer::Resend);
                self.must_resend = true;
            }
        }
        // What has to be stored first gets its id before pacing lets it go: it takes time.
        if self.queue.qos && session.in_flight().is_none() && (session.stores_ids() || self.may_go(now, 0)) {
            session.take_qos_id();
        }
        match session.head() {
            // Again behind bytes that are still waiting would only add to them.
            Some((id, Stage::Sent)) if self.must_resend && !self.timers.is_set(Timer::Write) && self.may_go(now, 0) => {
                self.must_resend = false;
                self.was_sent(now);
                session.counters.resent += 1;
                return Some(Output::Message(id, Kind::Resend));
            }
            Some((id, Stage::Ready)) if self.may_go(now, 0) => {
                self.was_sent(now);
                session.sent();
                return Some(Output::Message(id, Kind::Qos));
            }
            _ => {}
        }
        session.best_effort_waits(self.queue.best_effort);
        // One token stays for the next qos message: best effort never delays it.
        if self.queue.best_effort
            && session.may_send_best_effort()
            && self.may_go(now, 1)
            && let Some(id) = session.send_best_effort()
        {
            self.bucket.take(now);
            return Some(Output::Message(id, Kind::BestEffort));
        }
        None
    }

    fn was_sent(&mut self, now: Instant) {
        self.bucket.take(now);
        if self.dialect.acknowledges() {
            self.timers.set(Timer::Resend, now + self.config.resend);
        }
    }

    /// Whether pacing lets a message go now; if not, sets the timer for when it does.
    fn may_go(&mut self, now: Instant, spare: u32) -> bool {
        match self.bucket.ready(now, spare) {
            Ok(()) => true,
            Err(at) => {
                self.timers.set_earlier(Timer::Pace, at);
                false
            }
        }
    }

    /// A newer link has taken the session: this one has nothing left to do.
    fn check_generation(&mut self, session: &Session) {
        if !session.is_current(self.generation) && !matches!(self.phase, Phase::Closed(_)) {
            self.phase = Phase::Closed(CloseReason::Replaced);
        }
    }

    /// Contract, point 2.
    fn begin(&mut self, now: Instant) {
        debug_assert!(
            self.undrained.is_none_or(|at| at == now),
            "poll_output must be drained to Wait or Close before time moves on"
        );
        self.undrained = Some(now);
    }
}

/// Acknowledgements due, oldest first.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
struct Acks {
    ids: [Option<MessageId>; ACKS],
    first: usize,
    len: usize,
}

impl Acks {
    fn push(&mut self, id: MessageId) {
        if self.len < ACKS {
            self.ids[(self.first + self.len) % ACKS] = Some(id);
            self.len += 1;
        }
    }

    fn pop(&mut self) -> Option<MessageId> {
        let id = self.ids[self.first].take()?;
        self.first = (self.first + 1) % ACKS;
        self.len -= 1;
        Some(id)
    }
}
