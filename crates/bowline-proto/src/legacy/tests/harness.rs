//! [`Peer`]: one side of a conversation, with the smallest driver that keeps the engine's contract.

use std::collections::VecDeque;
use std::string::{String, ToString};
use std::vec::Vec;
use std::{format, vec};

use crate::legacy::{
    CloseReason, Config, Counters, Incoming, Input, Kind, Link, Output, Pace, Queue, Received, Saved, Session, Ticket,
};
use crate::time::{Duration, Instant};
use crate::wire::login::{self, Login};
use crate::wire::{Frame, MessageRepr};
use crate::{DeviceId, Dialect, Side};

pub(super) use crate::Dialect::{Headers as H, Plain as P, Upstream as U};

/// The timeout of all scripts unless they say otherwise: keepalives every 500 ms, resends after 1 s.
pub(super) const TIMEOUT: u64 = 2_000;

pub(super) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// One side of the engine. The script plays the other side and the network.
pub(super) struct Peer {
    pub(super) session: Session,
    pub(super) config: Config,
    pub(super) link: Option<Link>,
    pub(super) now: Instant,
    dialect: Dialect,
    policy: Policy,
    input: Vec<u8>,
    qos: VecDeque<String>,
    best_effort: VecDeque<String>,
    /// Messages handed over and neither accepted nor refused, oldest first.
    parked: VecDeque<(Ticket, String)>,
    /// Lines written since the script last looked, with the time of each.
    sent: Vec<(Instant, String)>,
    delivered: Vec<String>,
    buried: Vec<Vec<u8>>,
    closed: Option<CloseReason>,
    wake: Instant,
    /// Calls `handle_timeout` every millisecond, due or not.
    fidgets: bool,
}

/// What becomes of a received message.
#[derive(Clone, Copy)]
enum Policy {
    Accept,
    Park,
    Refuse,
}

impl Peer {
    /// A server that expects a device. Not paced and without a settle pause: tests of those set them.
    pub(super) fn server(dialect: Dialect) -> Self {
        Peer::new(Side::Server, dialect).with(|config| {
            config.settle = Duration::ZERO;
            config.pace = Pace::OFF;
        })
    }

    /// A device with the id `board`.
    pub(super) fn device(dialect: Dialect) -> Self {
        Peer::new(Side::Device, dialect)
    }

    /// Either side, with the configuration that is derived from [`TIMEOUT`].
    pub(super) fn new(side: Side, dialect: Dialect) -> Self {
        Peer {
            session: Session::new(side),
            config: Config::new(side, ms(TIMEOUT)),
            link: None,
            now: Instant::from_micros(1_000_000),
            dialect,
            policy: Policy::Accept,
            input: vec![],
            qos: VecDeque::new(),
            best_effort: VecDeque::new(),
            parked: VecDeque::new(),
            sent: vec![],
            delivered: vec![],
            buried: vec![],
            closed: None,
            wake: Instant::ZERO,
            fidgets: false,
        }
    }

    pub(super) fn with(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    /// From now on the session is durable, and has lived till now as a new one.
    pub(super) fn durable(self) -> Self {
        Peer { session: Session::durable(self.session.side()), ..self }
    }

    pub(super) fn fidgeting(mut self) -> Self {
        self.fidgets = true;
        self
    }

    /// Opens a link and goes through its start: the login or the first keepalive is not looked at.
    pub(super) fn up(mut self) -> Self {
        self.reconnects();
        self
    }

    /// Takes over another peer's session and outbox, as the same device in another dialect.
    pub(super) fn continues(self, other: Peer) -> Self {
        Peer { dialect: self.dialect, link: None, ..other }
    }

    // What happens.

    /// A link opens; what went before is gone with its read buffer.
    pub(super) fn connects(&mut self) {
        self.input.clear();
        self.closed = None;
        self.link = Some(Link::open(&mut self.session, self.dialect, self.config, self.now));
        self.drain();
    }

    /// The link is cut, the next one opens and is up; its start is not looked at.
    pub(super) fn reconnects(&mut self) {
        self.link_cuts();
        self.connects();
        if self.session.side() == Side::Device {
            self.hears("\n");
        }
        self.sent.retain(|(_, line)| is_message_or_ack(self.dialect, line));
    }

    /// The transport is gone, and what was in it.
    pub(super) fn link_cuts(&mut self) {
        self.link = None;
        self.input.clear();
    }

    pub(super) fn hears(&mut self, bytes: impl AsRef<[u8]>) {
        self.input.extend_from_slice(bytes.as_ref());
        let now = self.now;
        self.link().handle_heard(now);
        self.reads();
    }

    /// Looks at what is in the read buffer.
    pub(super) fn reads(&mut self) {
        let buffer = std::mem::take(&mut self.input);
        let mut rest = &buffer[..];
        loop {
            let now = self.now;
            let link = self.link.as_mut().expect("a link");
            let Input { consumed, received } = link.handle_input(&mut self.session, now, rest);
            rest = &rest[consumed..];
            match received {
                None => break,
                Some(Received::Message(Incoming { ticket, header, payload, .. })) => {
                    let header: String = header.bytes().map(|byte| format!("{byte:02x}")).collect();
                    let text = if header.is_empty() { payload.to_string() } else { format!("{header}|{payload}") };
                    self.arrives(ticket, text);
                }
                Some(Received::Undecodable { ticket, line, .. }) => {
                    self.buried.push(line.to_vec());
                    link.handle_accepted(&mut self.session, now, ticket);
                }
                Some(Received::Malformed(line)) => self.buried.push(line.to_vec()),
                Some(Received::Acked(_)) => drop(self.qos.pop_front().expect("a message in flight")),
                Some(Received::Keepalive | Received::Handled) => {}
            }
            self.drain();
        }
        self.input = rest.to_vec();
        self.drain();
    }

    fn arrives(&mut self, ticket: Ticket, text: String) {
        let (link, now) = (self.link.as_mut().expect("a link"), self.now);
        match self.policy {
            Policy::Accept => {
                self.delivered.push(text);
                link.handle_accepted(&mut self.session, now, ticket);
            }
            Policy::Park => self.parked.push_back((ticket, text)),
            Policy::Refuse => link.handle_refused(&mut self.session, now, ticket),
        }
    }

    /// From now on messages are accepted at once, as at the start.
    pub(super) fn accepts(&mut self) {
        self.policy = Policy::Accept;
    }

    /// From now on messages wait for [`Peer::accepts_parked`] or [`Peer::refuses_parked`].
    pub(super) fn parks(&mut self) {
        self.policy = Policy::Park;
    }

    /// From now on there is no room for messages.
    pub(super) fn refuses(&mut self) {
        self.policy = Policy::Refuse;
    }

    /// The oldest parked message is accepted, whether there is a link or not.
    pub(super) fn accepts_parked(&mut self) {
        let (ticket, text) = self.parked.pop_front().expect("a parked message");
        self.delivered.push(text);
        match &mut self.link {
            Some(link) => {
                link.handle_accepted(&mut self.session, self.now, ticket);
                self.drain();
            }
            // There is no link to send the acknowledgement on.
            None => drop(self.session.accepted(ticket)),
        }
    }

    /// The oldest parked message is refused after all.
    pub(super) fn refuses_parked(&mut self) {
        let (ticket, _) = self.parked.pop_front().expect("a parked message");
        let now = self.now;
        self.link.as_mut().expect("a link").handle_refused(&mut self.session, now, ticket);
        self.drain();
    }

    /// Makes a save with all parked messages.
    pub(super) fn saves(&self) -> Saved {
        self.session.save_with(self.parked.iter().map(|(ticket, _)| ticket))
    }

    /// A save is committed; parked messages stay parked.
    pub(super) fn commits(&mut self, saved: &Saved) {
        self.session.handle_saved(saved.mark());
        if self.link.is_some() {
            self.drain();
        }
    }

    /// Makes a save that is committed at once.
    pub(super) fn stores(&mut self) {
        let saved = self.saves();
        self.commits(&saved);
    }

    /// The process ends, and another goes on from what was stored, with the same outbox.
    pub(super) fn crashes_back_to(&mut self, saved: &Saved) {
        self.link_cuts();
        self.parked.clear();
        self.session = Session::restore(self.session.side(), saved.as_bytes()).expect("a saved session");
    }

    pub(super) fn queues(&mut self, text: impl Into<String>) {
        self.qos.push_back(text.into());
        self.outbox_changes();
    }

    pub(super) fn queues_best_effort(&mut self, text: impl Into<String>) {
        self.best_effort.push_back(text.into());
        self.outbox_changes();
    }

    fn outbox_changes(&mut self) {
        let (now, queue) = (self.now, self.queue());
        if let Some(link) = &mut self.link {
            link.handle_queue(now, queue);
            self.drain();
        }
    }

    pub(super) fn write_blocked(&mut self, blocked: bool) {
        let now = self.now;
        self.link().handle_write_blocked(now, blocked);
        self.drain();
    }

    pub(super) fn read_paused(&mut self, paused: bool) {
        let now = self.now;
        self.link().handle_read_paused(now, paused);
        self.drain();
    }

    /// On P: what was sent is written.
    pub(super) fn has_written(&mut self) {
        let now = self.now;
        self.link.as_mut().expect("a link").handle_written(&mut self.session, now);
        drop(self.qos.pop_front().expect("a message in flight"));
        self.drain();
    }

    /// Time passes, and the driver wakes up whenever the engine has asked for it.
    pub(super) fn after(&mut self, millis: u64) {
        let end = self.now + ms(millis);
        while self.link.is_some() && self.closed.is_none() {
            let fidget = if self.fidgets { self.now + ms(1) } else { end };
            let next = self.wake.min(fidget).min(end);
            if next == end {
                break;
            }
            self.tick(next);
        }
        self.oversleeps_until(end);
    }

    /// Time passes, and the driver is not woken before its end.
    pub(super) fn oversleeps(&mut self, millis: u64) {
        self.oversleeps_until(self.now + ms(millis));
    }

    fn oversleeps_until(&mut self, end: Instant) {
        if self.link.is_some() {
            self.tick(end);
        }
        self.now = end;
    }

    fn tick(&mut self, now: Instant) {
        self.now = now;
        self.link().handle_timeout(now);
        self.drain();
    }

    /// The contract's complete drain, writing whatever comes out.
    fn drain(&mut self) {
        let now = self.now;
        for _ in 0..1_000 {
            let queue = self.queue();
            let link = self.link.as_mut().expect("a link");
            link.handle_queue(now, queue);
            let (frame, message) = match link.poll_output(&mut self.session, now) {
                Output::Login => {
                    self.write_login();
                    continue;
                }
                Output::Keepalive => (Frame::Keepalive, None),
                Output::Ack(id) => (Frame::Ack(id), None),
                Output::Message(id, Kind::Qos | Kind::Resend) => {
                    let text = self.qos.front().expect("a qos message to send").clone();
                    (Frame::Keepalive, Some((id, true, text)))
                }
                Output::Message(id, Kind::BestEffort) => {
                    let text = self.best_effort.pop_front().expect("a best-effort message to send");
                    (Frame::Keepalive, Some((id, false, text)))
                }
                Output::Wait(at) => {
                    assert!(at > now, "woken again for what is already done");
                    self.wake = at;
                    return;
                }
                Output::Close(reason) => {
                    self.closed = Some(reason);
                    return;
                }
            };
            match message {
                Some((id, qos, text)) => {
                    let repr = MessageRepr { qos, header: &[], payload: text.as_bytes() };
                    self.write(&Frame::Message(id, repr));
                }
                None => self.write(&frame),
            }
        }
        panic!("poll_output does not come to an end");
    }

    fn write(&mut self, frame: &Frame<'_>) {
        let mut line = vec![0; frame.len(self.dialect)];
        frame.emit(self.dialect, &mut line).expect("room for the frame");
        self.sent.push((self.now, String::from_utf8(line).expect("a text frame")));
    }

    fn write_login(&mut self) {
        let mut line = [0; login::MAX_LINE + 1];
        let login = Login { dialect: self.dialect, id: DeviceId::new("board").expect("an id") };
        let len = login.emit(&mut line).expect("room for the login");
        self.sent.push((self.now, String::from_utf8_lossy(&line[..len]).into_owned()));
    }

    fn queue(&self) -> Queue {
        Queue { qos: !self.qos.is_empty(), best_effort: !self.best_effort.is_empty() }
    }

    fn link(&mut self) -> &mut Link {
        self.link.as_mut().expect("a link")
    }

    // What is expected.

    /// Exactly these bytes were written since the script last looked.
    #[track_caller]
    pub(super) fn expect_sends(&mut self, expected: &str) {
        let sent: String = self.sent.drain(..).map(|(_, line)| line).collect();
        assert_eq!(sent, expected, "what was sent");
    }

    /// As [`Peer::expect_sends`], leaving keepalives aside.
    #[track_caller]
    pub(super) fn expect_messages(&mut self, expected: &str) {
        self.sent.retain(|(_, line)| line != "\n");
        self.expect_sends(expected);
    }

    #[track_caller]
    pub(super) fn expect_nothing_sent(&mut self) {
        self.expect_messages("");
    }

    /// All lines written so far and not looked at, with the milliseconds since `start`.
    pub(super) fn transcript(&mut self, start: Instant) -> Vec<(u64, String)> {
        self.sent.drain(..).map(|(at, line)| (at.since(start).as_micros() / 1_000, line)).collect()
    }

    /// Exactly these messages have been delivered since the script last looked.
    #[track_caller]
    pub(super) fn expect_delivered(&mut self, expected: &[&str]) {
        assert_eq!(self.delivered, expected, "what was delivered");
        self.delivered.clear();
    }

    /// Whatever else was delivered, this message was so exactly once.
    #[track_caller]
    pub(super) fn expect_delivered_once(&mut self, text: &str) {
        let times = self.delivered.iter().filter(|delivered| *delivered == text).count();
        assert_eq!(times, 1, "times that {text} was delivered, of {:?}", self.delivered);
    }

    /// Exactly these lines have become dead letters since the script last looked.
    #[track_caller]
    pub(super) fn expect_buried(&mut self, expected: &[&[u8]]) {
        assert_eq!(self.buried, expected, "dead letters");
        self.buried.clear();
    }

    #[track_caller]
    pub(super) fn expect_up(&mut self) {
        assert_eq!(self.closed, None, "the link's state");
        assert!(self.link().is_up());
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.is_some()
    }

    #[track_caller]
    pub(super) fn expect_closed(&mut self, reason: CloseReason) {
        assert_eq!(self.closed, Some(reason), "the link's state");
    }

    /// Messages accepted for sending that the peer has not acknowledged.
    pub(super) fn unsent(&self) -> usize {
        self.qos.len()
    }

    pub(super) fn counters(&self) -> Counters {
        *self.session.counters()
    }
}

fn is_message_or_ack(dialect: Dialect, line: &str) -> bool {
    let login = if dialect == H { "2c00ffboard\n" } else { "board\n" };
    line != "\n" && line != login
}
