//! One end: an engine, its store, its application, and the links it holds.

use std::collections::VecDeque;

use bowline_proto::Side;
use bowline_proto::native::wire::{Best, Channel, Data, Frame, record};
use bowline_proto::native::{CloseReason, Config, Item, Link, Output, Received, Room, Session, Ticket};
use bowline_proto::time::Instant;

use crate::common::rng::Rng;
use crate::store::{Arrival, Disk, Op, Store};

/// What a node can hold that its application has not taken.
const CAPACITY: Room = Room { messages: 6, bytes: 700 };

pub(crate) struct Node {
    pub(crate) side: Side,
    pub(crate) session: Session,
    pub(crate) store: Store,
    pub(crate) config: Config,
    pub(crate) links: Vec<Held>,
    pub(crate) best_effort: VecDeque<String>,
    pub(crate) best_received: Vec<String>,
    /// Received and not taken by the application: when it will be, and how long it is.
    held: VecDeque<(Instant, Ticket, u64)>,
    /// Stores and applications dawdle.
    pub(crate) moody: bool,
    /// What earlier lives held that is gone, and the epoch each was in at its end.
    pub(crate) lives: Vec<(u64, Disk)>,
    pub(crate) seen: Seen,
}

/// Rare things that have happened.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) full: u64,
    pub(crate) replaced: u64,
    pub(crate) older_acked: u64,
    pub(crate) resent: u64,
    pub(crate) duplicates: u64,
    pub(crate) gaps: u64,
    pub(crate) links: u64,
    pub(crate) epochs: u64,
    pub(crate) skipped: u64,
    pub(crate) storage_failures: u64,
    pub(crate) best: u64,
    pub(crate) processed: u64,
}

/// A link and the connection it lives on.
pub(crate) struct Held {
    pub(crate) conn: usize,
    pub(crate) link: Link,
    wake: Instant,
}

/// What a node wants written, as whole bodies, and which connections it lets go of.
#[derive(Default)]
#[must_use]
pub(crate) struct Turn {
    pub(crate) bodies: Vec<(usize, Vec<u8>)>,
    pub(crate) closed: Vec<(usize, CloseReason)>,
}

impl Node {
    pub(crate) fn new(side: Side, store: Store, config: Config) -> Self {
        let session = Session::new(side);
        Node {
            side,
            session,
            store,
            config,
            links: vec![],
            best_effort: VecDeque::new(),
            best_received: vec![],
            held: VecDeque::new(),
            moody: true,
            lives: vec![],
            seen: Seen::default(),
        }
    }

    fn room(&self) -> Room {
        let bytes: u64 = self.held.iter().map(|(_, _, len)| len).sum();
        Room {
            messages: CAPACITY.messages.saturating_sub(self.held.len() as u64),
            bytes: CAPACITY.bytes.saturating_sub(bytes),
        }
    }

    pub(crate) fn opens(&mut self, now: Instant, conn: usize) -> Turn {
        if self.side == Side::Device {
            self.links.clear();
        }
        let room = self.room();
        let link = Link::open(&mut self.session, self.config, room, now);
        self.links.push(Held { conn, link, wake: now });
        self.drains(now)
    }

    pub(crate) fn lets_go(&mut self, conn: usize) {
        self.links.retain(|held| held.conn != conn);
    }

    pub(crate) fn holds(&self, conn: usize) -> bool {
        self.links.iter().any(|held| held.conn == conn)
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        let wakes = self.links.iter().map(|held| held.wake);
        let held = self.held.iter().map(|(at, ..)| *at);
        wakes.chain(held).chain(self.store.next()).min()
    }

    /// The process ends and starts again.
    pub(crate) fn crashes(&mut self) {
        self.counts();
        self.links.clear();
        self.held.clear();
        self.best_effort.clear();
        let (acked, epoch) = (self.session.acked(), self.session.epoch());
        let (session, gone) = self.store.restarts(self.side);
        self.session = session;
        self.seen.older_acked += u64::from(self.session.acked() < acked && self.session.epoch() != 0);
        self.lives.extend(gone.map(|disk| (epoch, disk)));
    }

    /// Takes the session's counters, which die with the process.
    pub(crate) fn counts(&mut self) {
        let counters = self.session.counters();
        self.seen.resent += counters.resent;
        self.seen.duplicates += counters.duplicates;
        self.seen.gaps += counters.gaps;
        self.seen.links += counters.links;
        self.seen.epochs += counters.epochs;
        self.seen.skipped += counters.skipped;
        self.seen.storage_failures += counters.storage_failures;
        self.seen.best += counters.best_received;
        self.seen.processed += u64::from(self.session.peer_processed() > 0);
        assert_eq!(counters.quarantined, 0, "{:?} was quarantined", self.side);
        assert_eq!(counters.forgotten, 0, "{:?} was forgotten", self.side);
    }

    pub(crate) fn storage_fails(&mut self, now: Instant) -> Turn {
        self.store.fails();
        self.session.handle_storage_failed();
        let (epoch, durable) = (self.session.epoch(), self.session.durable());
        self.held.retain(|(_, ticket, _)| ticket.epoch() == epoch && ticket.seq() <= durable);
        self.drains(now)
    }

    /// Drops, by policy, a message that was not sent.
    pub(crate) fn drops_one(&mut self, rng: &mut Rng) {
        let sent = self.session.sent().max(self.session.acked());
        let first = (sent - self.session.acked()) as usize;
        if first < self.store.outbox.len() {
            let at = first + rng.index(self.store.outbox.len() - first);
            self.store.outbox[at].dropped = true;
            // Known to the disk at once: dropping is a transaction of its own.
            self.store.disk.saved = Some(self.session.save());
            self.store.disk.outbox.clone_from(&self.store.outbox);
        }
    }

    /// One body has arrived.
    pub(crate) fn hears(&mut self, now: Instant, conn: usize, body: &[u8], rng: &mut Rng) -> Turn {
        let mut rest = body;
        let mut turn = Turn::default();
        while let Some(at) = self.links.iter().position(|held| held.conn == conn) {
            let (before, epoch) = (self.session.acked(), self.session.epoch());
            let pending = self.session.acked();
            let input = self.links[at].link.handle_body(&mut self.session, now, rest);
            rest = &rest[input.consumed..];
            let Some(received) = input.received else { break };
            let longest = match (self.moody, rng.chance(20)) {
                (true, true) => 900,
                (true, false) => 20,
                (false, _) => 3,
            };
            let late = rng.millis(0, longest);
            let taken = now + if self.moody { rng.millis(0, 600) } else { rng.millis(0, 3) };
            let news = self.session.acked();
            match received {
                Received::Message { ticket, payload, .. } => {
                    let text = String::from_utf8(payload.to_vec()).expect("text");
                    self.held.push_back((taken, ticket, payload.len() as u64));
                    self.store.add(now + late, Op::Arrival(ticket, Arrival::Text(text)));
                    assert!(self.held.len() as u64 <= CAPACITY.messages, "more messages than there is room for");
                }
                Received::Gap { ticket, count, .. } => {
                    self.store.add(now + late, Op::Arrival(ticket, Arrival::Gap(count)));
                }
                Received::BestEffort { payload, .. } => {
                    self.best_received.push(String::from_utf8(payload.to_vec()).expect("text"));
                }
                Received::NewEpoch { epoch, .. } => {
                    self.store.add(now + late, Op::Epoch(epoch));
                    // What was acknowledged before has left; the rest is numbered from 1.
                    let acked = self.store.outbox.len() as u64 - self.session.last();
                    self.store.forgets_acked(0, acked);
                }
                _ => {}
            }
            if self.session.epoch() == epoch && news > before {
                self.store.forgets_acked(pending, news);
            }
            let bytes: u64 = self.held.iter().map(|(_, _, len)| len).sum();
            assert!(bytes <= CAPACITY.bytes, "more bytes than there is room for");
            if rng.chance(40) {
                turn.extend(self.drains(now));
            }
        }
        turn.extend(self.drains(now));
        turn
    }

    /// Time has passed: the store commits, the application takes.
    pub(crate) fn turns(&mut self, now: Instant) -> Turn {
        while self.store.commits(&mut self.session, now) {}
        let due = |entry: &(Instant, Ticket, u64)| entry.0 <= now;
        while let Some(at) = self.held.iter().position(due) {
            let (_, ticket, _) = self.held.remove(at).expect("an entry");
            if self.held.iter().all(|(_, other, _)| *other > ticket) {
                self.session.handle_processed(ticket);
            }
        }
        self.drains(now)
    }

    fn drains(&mut self, now: Instant) -> Turn {
        let mut turn = Turn::default();
        let room = self.room();
        self.seen.full += u64::from(room.messages == 0);
        for at in 0..self.links.len() {
            self.links[at].link.handle_room(now, room);
            self.drains_one(now, at, &mut turn);
        }
        for (conn, reason) in &turn.closed {
            self.seen.replaced += u64::from(*reason == CloseReason::Replaced);
            self.links.retain(|held| held.conn != *conn);
        }
        turn
    }

    fn drains_one(&mut self, now: Instant, at: usize, turn: &mut Turn) {
        let Held { conn, link, wake } = &mut self.links[at];
        let mut body = vec![];
        for _ in 0..10_000 {
            link.handle_best_effort(now, !self.best_effort.is_empty());
            let acked = self.session.acked();
            let limit: usize = link.peer_max_body().into();
            match link.poll_output(&mut self.session, now) {
                Output::Frame(frame) => put(&mut body, &frame, limit, *conn, turn),
                Output::Describe(seq) => {
                    let from = (seq - acked - 1) as usize;
                    let run = self.store.outbox.iter().skip(from).take_while(|entry| entry.dropped).count();
                    let item = match run {
                        0 => Item::Message { len: self.store.outbox[from].text.len() as u32 },
                        run => Item::Dropped { last: seq + run as u64 - 1, reason: 1 },
                    };
                    link.handle_item(now, seq, item);
                }
                Output::Data { seq, ask } => {
                    let text = &self.store.outbox[(seq - acked - 1) as usize].text;
                    let channel = Channel::default();
                    let data = Data { seq: seq as u16, ask, channel, payload: text.as_bytes() };
                    put(&mut body, &Frame::Data(data), limit, *conn, turn);
                }
                Output::BestEffort => {
                    let text = self.best_effort.pop_front().expect("a message");
                    let best = Best { channel: Channel::default(), payload: text.as_bytes() };
                    put(&mut body, &Frame::Best(best), limit, *conn, turn);
                }
                Output::Wait(at) => {
                    assert!(at > now, "asked to wait for the past");
                    *wake = at;
                    break;
                }
                Output::Close(reason) => {
                    turn.closed.push((*conn, reason));
                    break;
                }
            }
        }
        if !body.is_empty() {
            turn.bodies.push((*conn, body));
        }
    }
}

/// Puts a frame into the body, which goes first if it has no room.
fn put(body: &mut Vec<u8>, frame: &Frame<'_>, limit: usize, conn: usize, turn: &mut Turn) {
    let mut buffer = [0; 600];
    let len = frame.emit(&mut buffer).expect("room");
    assert!(len <= limit, "a frame of {len} bytes for a body of {limit}");
    if body.len() + len > limit {
        turn.bodies.push((conn, std::mem::take(body)));
    }
    body.extend_from_slice(&buffer[..len]);
}

impl Turn {
    pub(crate) fn extend(&mut self, other: Turn) {
        self.bodies.extend(other.bodies);
        self.closed.extend(other.closed);
    }
}

/// A body as a record.
pub(crate) fn as_record(body: &[u8]) -> Vec<u8> {
    let mut buffer = [&[0; record::HEADER], body].concat();
    let len = record::finish(&mut buffer, body.len()).expect("a length");
    buffer.truncate(len);
    buffer
}
