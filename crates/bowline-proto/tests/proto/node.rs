//! One end: an engine, its outboxes and its application.

use std::collections::VecDeque;

use bowline_proto::legacy::{
    CloseReason, Config, Incoming, Input, Kind, Link, Output, Queue, Received, Session, Ticket,
};
use bowline_proto::time::Instant;
use bowline_proto::wire::login::{self, Login};
use bowline_proto::wire::{Frame, MessageRepr};
use bowline_proto::{DeviceId, Dialect, Side};

use crate::common::NEVER;
use crate::common::rng::Rng;
use crate::store::{Op, Outcome, Store};

pub(crate) struct Node {
    pub(crate) side: Side,
    pub(crate) session: Session,
    pub(crate) link: Option<Link>,
    /// The connection that `link` lives on.
    pub(crate) conn: usize,
    pub(crate) wake: Instant,
    dialect: Dialect,
    pub(crate) config: Config,
    input: Vec<u8>,
    pub(crate) outbox: VecDeque<String>,
    pub(crate) best_effort: VecDeque<String>,
    /// Messages the application has not decided on, and when it will.
    pub(crate) parked: Vec<(Instant, Ticket, String)>,
    /// Everything accepted, in this order.
    pub(crate) delivered: Vec<String>,
    /// Qos messages the peer has acknowledged.
    pub(crate) acked: Vec<String>,
    /// The application refuses and dawdles.
    pub(crate) moody: bool,
    /// Messages accepted some time after they came.
    pub(crate) late: u64,
    /// Links that took over from one that was still open.
    pub(crate) taken_over: u64,
    /// Qos messages accepted for sending, stored ones where there is a store.
    pub(crate) queued: Vec<String>,
    /// What a durable node has beside its memory.
    pub(crate) store: Option<Store>,
    pub(crate) crashes: u64,
}

/// What a call has led to.
#[must_use]
pub(crate) struct Turn {
    pub(crate) written: Vec<u8>,
    pub(crate) closed: Option<CloseReason>,
}

impl Node {
    pub(crate) fn new(side: Side, dialect: Dialect, config: Config) -> Self {
        Node {
            side,
            session: Session::new(side),
            link: None,
            conn: 0,
            wake: NEVER,
            dialect,
            config,
            input: vec![],
            outbox: VecDeque::new(),
            best_effort: VecDeque::new(),
            parked: vec![],
            delivered: vec![],
            acked: vec![],
            moody: true,
            late: 0,
            taken_over: 0,
            queued: vec![],
            store: None,
            crashes: 0,
        }
    }

    /// A node that survives crashes.
    pub(crate) fn durable(side: Side, dialect: Dialect, config: Config) -> Self {
        let (session, store) = (Session::durable(side), Some(Store::new()));
        Node { session, store, ..Node::new(side, dialect, config) }
    }

    /// Opens a link, taking over from the one before, which must then be of no effect.
    pub(crate) fn opens(&mut self, now: Instant, conn: usize) -> Turn {
        let old = self.link.replace(Link::open(&mut self.session, self.dialect, self.config, now));
        self.conn = conn;
        if let Some(mut old) = old {
            self.taken_over += 1;
            self.input.extend_from_slice(b"\n000001stale\n00stale\n");
            old.handle_heard(now);
            let input = old.handle_input(&mut self.session, now, &self.input);
            assert_eq!((input.consumed, input.received), (0, None), "a replaced link reads");
            assert_eq!(old.poll_output(&mut self.session, now), Output::Close(CloseReason::Replaced));
        }
        self.input.clear();
        self.drain(now)
    }

    /// The transport is gone, and the read buffer with it.
    pub(crate) fn drops_link(&mut self) {
        self.link = None;
        self.input.clear();
        self.wake = NEVER;
    }

    pub(crate) fn hears(&mut self, now: Instant, bytes: &[u8], rng: &mut Rng) -> Turn {
        self.input.extend_from_slice(bytes);
        let buffer = std::mem::take(&mut self.input);
        let mut rest = &buffer[..];
        self.link.as_mut().expect("a link").handle_heard(now);
        let mut turn = Turn { written: vec![], closed: None };
        loop {
            let link = self.link.as_mut().expect("a link");
            let Input { consumed, received } = link.handle_input(&mut self.session, now, rest);
            rest = &rest[consumed..];
            match received {
                None => break,
                Some(Received::Message(Incoming { ticket, payload, .. })) => {
                    if self.moody && rng.chance(10) {
                        link.handle_refused(&mut self.session, now, ticket);
                    } else if self.moody && rng.chance(25) {
                        self.parked.push((now + rng.millis(0, 1_500), ticket, payload.to_string()));
                    } else {
                        let text = payload.to_string();
                        self.accepts(now, ticket, text);
                    }
                }
                Some(Received::Acked(_)) => {
                    let text = self.outbox.pop_front().expect("a message in flight");
                    match &mut self.store {
                        Some(store) => store.changes.push(Op::Acked),
                        None => self.acked.push(text),
                    }
                }
                Some(Received::Keepalive | Received::Handled) => {}
                Some(other) => panic!("the wire was corrupted: {other:?}"),
            }
            // As a driver does: after every line, or once for all of them.
            if rng.chance(50) {
                turn.extend(self.drain(now));
            }
        }
        self.input = rest.to_vec();
        turn.extend(self.drain(now));
        turn
    }

    /// The application decides on parked messages whose time has come.
    pub(crate) fn decides(&mut self, now: Instant, rng: &mut Rng) -> Turn {
        let due = |entry: &(Instant, Ticket, String)| entry.0 <= now;
        while let Some(at) = self.parked.iter().position(due) {
            let (_, ticket, text) = self.parked.remove(at);
            let refused = self.moody && rng.chance(20);
            if refused {
                self.refuses(now, ticket);
            } else {
                self.late += 1;
                self.accepts(now, ticket, text);
            }
        }
        self.drain(now)
    }

    fn accepts(&mut self, now: Instant, ticket: Ticket, text: String) {
        match &mut self.store {
            Some(store) => store.changes.push(Op::Accepted(ticket, text)),
            None => {
                self.delivered.push(text);
                self.gives_back(now, ticket);
            }
        }
    }

    fn gives_back(&mut self, now: Instant, ticket: Ticket) {
        match &mut self.link {
            Some(link) => link.handle_accepted(&mut self.session, now, ticket),
            // There is no link to acknowledge it on.
            None => drop(self.session.accepted(ticket)),
        }
    }

    fn refuses(&mut self, now: Instant, ticket: Ticket) {
        match &mut self.link {
            Some(link) => link.handle_refused(&mut self.session, now, ticket),
            None => self.session.refused(ticket),
        }
    }

    /// A message is to be sent.
    pub(crate) fn queues(&mut self, text: String) {
        self.outbox.push_back(text.clone());
        match &mut self.store {
            Some(store) => store.changes.push(Op::Queued(text)),
            None => self.queued.push(text),
        }
    }

    /// Transactions come to their ends, and what has to be stored is on its way.
    pub(crate) fn stores(&mut self, now: Instant, rng: &mut Rng) -> Turn {
        while let Some(outcome) = self.store.as_mut().and_then(|store| store.settle(now)) {
            match outcome {
                Outcome::Committed(changes, mark) => {
                    for ticket in self.commits(changes) {
                        self.gives_back(now, ticket);
                    }
                    if !rng.chance(10) {
                        self.session.handle_saved(mark);
                    }
                }
                Outcome::Failed(mut changes) => {
                    if rng.chance(30) {
                        // No room for what has come in: from some message on it comes again.
                        let keep = rng.index(changes.len() + 1);
                        for at in (keep..changes.len()).rev() {
                            if matches!(changes[at], Op::Accepted(..))
                                && let Op::Accepted(ticket, _) = changes.remove(at)
                            {
                                self.refuses(now, ticket);
                            }
                        }
                    }
                    let Some(store) = &mut self.store else { break };
                    changes.append(&mut store.changes);
                    store.changes = changes;
                }
            }
        }
        let Some(store) = &mut self.store else { return Turn { written: vec![], closed: None } };
        // Late, or once more.
        if !store.old_marks.is_empty() && rng.chance(5) {
            self.session.handle_saved(store.old_marks[rng.index(store.old_marks.len())]);
        }
        let turn = self.drain(now);
        let Some(store) = &mut self.store else { return turn };
        if store.changes.is_empty() && !self.session.wants_save() {
            store.submit_at = NEVER;
        } else if store.submit_at == NEVER {
            store.submit_at = now + rng.millis(0, 10);
        } else if store.submit_at <= now {
            if !self.outbox.is_empty() && rng.chance(50) {
                self.session.reserve();
            }
            let saved = self.session.save_with(store.tickets());
            let (at, fails) = (now + rng.millis(0, 40), self.moody && rng.chance(15));
            store.submit(saved, at, fails);
        }
        turn
    }

    /// What a transaction has changed is so for ever. Returns the tickets that are due.
    fn commits(&mut self, changes: Vec<Op>) -> Vec<Ticket> {
        let mut tickets = vec![];
        let store = self.store.as_mut().expect("a store");
        for change in changes {
            match change {
                Op::Accepted(ticket, text) => {
                    self.delivered.push(text);
                    tickets.push(ticket);
                }
                Op::Queued(text) => {
                    self.queued.push(text.clone());
                    store.outbox.push_back(text);
                }
                Op::Acked => self.acked.push(store.outbox.pop_front().expect("a message in flight")),
            }
        }
        tickets
    }

    /// The process ends, and another goes on from what was stored.
    pub(crate) fn crashes(&mut self, rng: &mut Rng) {
        self.crashes += 1;
        self.drops_link();
        self.parked.clear();
        self.best_effort.clear();
        let store = self.store.as_mut().expect("a store");
        let count = rng.index(store.under_way() + 1);
        let changes = store.cut_off(count);
        self.commits(changes);
        let store = self.store.as_ref().expect("a store");
        self.outbox = store.outbox.clone();
        self.session = match &store.session {
            Some(saved) => Session::restore(self.side, saved).expect("a saved session"),
            None => Session::durable(self.side),
        };
    }

    /// Nothing is left to send or to store.
    pub(crate) fn is_done(&self) -> bool {
        self.outbox.is_empty() && self.store.as_ref().is_none_or(Store::is_idle)
    }

    /// Qos messages acknowledged, whether that is stored or not.
    pub(crate) fn acks(&self) -> usize {
        let unstored = self.store.iter().flat_map(Store::uncommitted).filter(|op| matches!(op, Op::Acked)).count();
        self.acked.len() + unstored
    }

    /// When the store wants attention.
    pub(crate) fn store_wake(&self) -> Instant {
        self.store.as_ref().map_or(NEVER, Store::next)
    }

    /// Time has passed, or the outbox has changed.
    pub(crate) fn turns(&mut self, now: Instant) -> Turn {
        if let Some(link) = &mut self.link {
            link.handle_timeout(now);
        }
        self.drain(now)
    }

    fn drain(&mut self, now: Instant) -> Turn {
        let mut turn = Turn { written: vec![], closed: None };
        let Some(link) = &mut self.link else { return turn };
        for _ in 0..10_000 {
            link.handle_queue(now, Queue { qos: !self.outbox.is_empty(), best_effort: !self.best_effort.is_empty() });
            let (id, qos, text) = match link.poll_output(&mut self.session, now) {
                Output::Login => {
                    let login = Login { dialect: self.dialect, id: DeviceId::new("board").expect("an id") };
                    let mut line = [0; login::MAX_LINE + 1];
                    let len = login.emit(&mut line).expect("room");
                    turn.written.extend_from_slice(&line[..len]);
                    continue;
                }
                Output::Keepalive => {
                    turn.write(self.dialect, &Frame::Keepalive);
                    continue;
                }
                Output::Ack(id) => {
                    turn.write(self.dialect, &Frame::Ack(id));
                    continue;
                }
                Output::Message(id, Kind::Qos | Kind::Resend) => {
                    (id, true, self.outbox.front().expect("a message to send").clone())
                }
                Output::Message(id, Kind::BestEffort) => {
                    (id, false, self.best_effort.pop_front().expect("a message to send"))
                }
                Output::Wait(at) => {
                    assert!(at > now, "asked to wait for the past");
                    self.wake = at;
                    return turn;
                }
                Output::Close(reason) => {
                    turn.closed = Some(reason);
                    return turn;
                }
            };
            let repr = MessageRepr { qos, header: &[], payload: text.as_bytes() };
            turn.write(self.dialect, &Frame::Message(id, repr));
        }
        panic!("poll_output does not come to an end");
    }
}

impl Turn {
    fn write(&mut self, dialect: Dialect, frame: &Frame<'_>) {
        let start = self.written.len();
        self.written.resize(start + frame.len(dialect), 0);
        frame.emit(dialect, &mut self.written[start..]).expect("room");
    }

    fn extend(&mut self, other: Turn) {
        self.written.extend(other.written);
        self.closed = self.closed.or(other.closed);
    }
}
