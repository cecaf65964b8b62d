//! [`Peer`]: one end, with the smallest driver that keeps the contract. The script plays the other.

use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

use crate::Side;
use crate::native::wire::*;
use crate::native::*;
use crate::time::{Duration, Instant};

pub(super) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The keepalive interval of all scripts.
pub(super) const KEEPALIVE: u64 = 1_000;
/// The payload of every message in the outbox.
pub(super) const PAYLOAD: [u8; 10] = [b'm'; 10];
pub(super) const PLENTY: Credit = Credit { messages: 100, bytes: 10_000 };

/// What has come up from the engine.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    Message(u64),
    Gap(u64, u64),
    Best,
    Acked,
    Processed,
    Resumed,
    NewEpoch(u64, bool),
    Quarantined(Conflict),
    Closing(u8, String),
}

pub(super) struct Peer {
    pub(super) session: Session,
    pub(super) link: Link,
    pub(super) now: Instant,
    pub(super) config: Config,
    pub(super) room: Room,
    /// Stores epochs at once.
    pub(super) stores_epochs: bool,
    /// Persists messages at once, and has room for the next.
    pub(super) persists: bool,
    pub(super) best_effort: u32,
    /// Seqs dropped from the outbox.
    pub(super) dropped: Vec<(u64, u64)>,
    pub(super) len: u32,
    pub(super) tickets: Vec<Ticket>,
    events: Vec<Event>,
    sent: Vec<Sent>,
    pub(super) wake: Instant,
    pub(super) closed: Option<CloseReason>,
}

/// What was put out.
#[derive(Debug, PartialEq, Eq, Clone)]
pub(super) enum Sent {
    Frame(Frame<'static>),
    Data(u64),
    Asking(u64),
    Best,
}

impl Peer {
    pub(super) fn new(session: Session, transport: Transport) -> Self {
        let config = Config {
            keepalive_bounds: (ms(500), ms(5_000)),
            ack_delay: ms(25),
            ..Config::new(transport, ms(KEEPALIVE), 512)
        };
        let room = Room { messages: 8, bytes: 1_000 };
        let (mut session, now) = (session, Instant::from_micros(1_000_000));
        let mut peer = Peer {
            link: Link::open(&mut session, config, room, now),
            session,
            now,
            config,
            room,
            stores_epochs: true,
            persists: true,
            best_effort: 0,
            dropped: vec![],
            len: PAYLOAD.len() as u32,
            tickets: vec![],
            events: vec![],
            sent: vec![],
            wake: now,
            closed: None,
        };
        peer.drains();
        peer
    }

    pub(super) fn device() -> Self {
        Peer::new(Session::new(Side::Device), Transport::Lossless)
    }

    pub(super) fn server() -> Self {
        Peer::new(Session::new(Side::Server), Transport::Lossless)
    }

    /// Either side in epoch 1 with an open link. Nothing was sent or received; the peer gives `credit`.
    pub(super) fn up(side: Side, transport: Transport, credit: Credit) -> Self {
        let mut peer = Peer::new(Session::new(side), transport);
        match side {
            Side::Device => peer.hears(welcome(Outcome::New, 1, Cursors::default(), credit)),
            Side::Server => {
                peer.hears(hello(0));
                peer.hears(start(1, Cursors::default(), credit));
            }
        }
        assert!(peer.link.is_up());
        peer.events();
        peer.sent();
        peer
    }

    /// As [`Peer::up`], with cursors as if it had gone on for a while.
    pub(super) fn at(side: Side, cursors: Cursors) -> Session {
        let mut session = Session::new(side);
        session.renumber(5);
        session.epoch_stored = true;
        (session.tx.acked, session.tx.last) = (cursors.acked, cursors.last);
        (session.rx.durable, session.rx.received) = (cursors.durable, cursors.received);
        session
    }

    /// The next link of the same session; the one before is returned.
    pub(super) fn reconnects(&mut self) -> Link {
        self.closed = None;
        let link = Link::open(&mut self.session, self.config, self.room, self.now);
        let old = std::mem::replace(&mut self.link, link);
        self.drains();
        old
    }

    pub(super) fn hears(&mut self, frame: Frame<'_>) {
        self.hears_all(&[frame]);
    }

    /// Frames in one body.
    pub(super) fn hears_all(&mut self, frames: &[Frame<'_>]) {
        let mut body = vec![];
        for frame in frames {
            let mut buffer = [0; 600];
            let len = frame.emit(&mut buffer).expect("room");
            body.extend_from_slice(&buffer[..len]);
        }
        let mut rest = &body[..];
        loop {
            let input = self.link.handle_body(&mut self.session, self.now, rest);
            rest = &rest[input.consumed..];
            let Some(received) = input.received else { break };
            let event = match received {
                Received::Message { ticket, .. } => {
                    self.takes(ticket);
                    Event::Message(ticket.seq())
                }
                Received::Gap { ticket, count, .. } => {
                    self.takes(ticket);
                    Event::Gap(ticket.seq(), count)
                }
                Received::BestEffort { .. } => Event::Best,
                Received::Acked => Event::Acked,
                Received::Processed => Event::Processed,
                Received::Resumed => Event::Resumed,
                Received::NewEpoch { epoch, forgotten } => {
                    if self.stores_epochs {
                        self.session.handle_epoch_stored(epoch);
                    }
                    Event::NewEpoch(epoch, forgotten)
                }
                Received::Quarantined(conflict) => Event::Quarantined(conflict),
                Received::Closing { code, text } => Event::Closing(code, text.to_string()),
                Received::Handled => continue,
            };
            self.events.push(event);
        }
        self.drains();
    }

    fn takes(&mut self, ticket: Ticket) {
        if self.persists {
            self.session.handle_persisted(ticket);
            self.link.handle_room(self.now, self.room);
        } else {
            self.tickets.push(ticket);
        }
    }

    /// The store has come so far.
    pub(super) fn persisted(&mut self, seq: u64) {
        let ticket = Ticket { epoch: self.session.epoch(), seq };
        self.session.handle_persisted(ticket);
        self.drains();
    }

    /// `count` more messages are in the outbox.
    pub(super) fn queues(&mut self, count: u64) {
        self.session.handle_outbox(self.session.last() + count);
        self.drains();
    }

    /// Lets time pass, waking the engine when it asked to be.
    pub(super) fn waits(&mut self, span: Duration) {
        let end = self.now + span;
        while self.wake <= end && self.closed.is_none() {
            self.now = self.wake.max(self.now);
            self.link.handle_timeout(self.now);
            self.drains();
        }
        self.now = end;
        self.link.handle_timeout(self.now);
        self.drains();
    }

    pub(super) fn drains(&mut self) {
        for _ in 0..1_000 {
            self.link.handle_best_effort(self.now, self.best_effort > 0);
            match self.link.poll_output(&mut self.session, self.now) {
                Output::Frame(frame) => self.sent.push(Sent::Frame(frame)),
                Output::Describe(seq) => {
                    let dropped = self.dropped.iter().find(|(first, last)| (*first..=*last).contains(&seq));
                    let item = match dropped {
                        Some((_, last)) => Item::Dropped { last: *last, reason: 3 },
                        None => Item::Message { len: self.len },
                    };
                    self.link.handle_item(self.now, seq, item);
                }
                Output::Data { seq, ask: false } => self.sent.push(Sent::Data(seq)),
                Output::Data { seq, ask: true } => self.sent.push(Sent::Asking(seq)),
                Output::BestEffort => {
                    self.best_effort -= 1;
                    self.sent.push(Sent::Best);
                }
                Output::Wait(at) => {
                    assert!(at > self.now, "asked to wait for the past");
                    self.wake = at;
                    return;
                }
                Output::Close(reason) => {
                    self.closed = Some(reason);
                    return;
                }
            }
        }
        panic!("a drain without end");
    }

    pub(super) fn events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    pub(super) fn sent(&mut self) -> Vec<Sent> {
        std::mem::take(&mut self.sent)
    }

    /// The acknowledgements among what was sent: durable, and the limits.
    pub(super) fn acks(&mut self) -> Vec<(u64, u64, u64)> {
        let acks = self.sent().into_iter().filter_map(|sent| match sent {
            Sent::Frame(Frame::Ack(ack)) => Some((ack.durable, ack.received + ack.credit.messages, ack.credit.bytes)),
            _ => None,
        });
        acks.collect()
    }
}

pub(super) fn hello(epoch: u64) -> Frame<'static> {
    Frame::Hello(Hello { version: 1, features: 0, epoch, keepalive: KEEPALIVE as u32, max_body: 512 })
}

pub(super) fn welcome(outcome: Outcome, epoch: u64, cursors: Cursors, credit: Credit) -> Frame<'static> {
    let keepalive = KEEPALIVE as u32;
    Frame::Welcome(Welcome { version: 1, outcome, features: 0, epoch, keepalive, max_body: 512, cursors, credit })
}

pub(super) fn start(epoch: u64, cursors: Cursors, credit: Credit) -> Frame<'static> {
    Frame::Start(Start { epoch, cursors, credit })
}

pub(super) fn cursors(durable: u64, received: u64, acked: u64, last: u64) -> Cursors {
    Cursors { durable, received, acked, last }
}

pub(super) fn data(seq: u64, ask: bool) -> Frame<'static> {
    Frame::Data(Data { seq: seq as u16, ask, channel: Channel::default(), payload: &PAYLOAD })
}

pub(super) fn ack(durable: u64, received: u64, credit: Credit) -> Frame<'static> {
    Frame::Ack(Ack { durable, received, credit, missing: false })
}

pub(super) fn missing(durable: u64, received: u64) -> Frame<'static> {
    Frame::Ack(Ack { durable, received, credit: PLENTY, missing: true })
}

pub(super) fn close_code(sent: &[Sent]) -> Option<u8> {
    sent.iter().find_map(|sent| match sent {
        Sent::Frame(Frame::Close(close)) => Some(close.code),
        _ => None,
    })
}
