//! One end in the model: the engine, its disk, and the links it holds.

use core::hash::{Hash, Hasher};
use std::collections::VecDeque;
use std::hash::DefaultHasher;
use std::vec::Vec;

use crate::Side;
use crate::native::timer::Timer;
use crate::native::wire::{Channel, Data, Frame};
use crate::native::{CloseReason, Config, Inbox, Item, Link, Output, Received, Room, SAVED_LEN, Session, Ticket};
use crate::time::{Duration, Instant};

/// Time stands still: what the model leaves to chance is order. Keepalive and silence are not in it.
const NOW: Instant = Instant::from_micros(1);
/// When an acknowledgement has waited long enough.
const LATE: Instant = Instant::from_micros(30_000);

/// What survives the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Keeps {
    Everything,
    /// All but what was received (§14.4).
    Outbox,
    /// A new process has a new epoch.
    Nothing,
}

/// A message: the life of its sender, and its number in it, from 0.
pub(super) type Message = (u8, u8);

#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) session: Session,
    pub(super) links: Vec<(u8, Link)>,
    pub(super) keeps: Keeps,
    window: u8,
    /// Not acknowledged, as the running process knows it.
    pub(super) outbox: VecDeque<Message>,
    /// What the store is asked to do, in order.
    pub(super) waiting: VecDeque<Op>,
    pub(super) disk: Disk,
    pub(super) life: u8,
    /// The inboxes of the lives before.
    pub(super) past: Vec<Vec<Message>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Op {
    Arrival(Ticket, Message),
    Epoch(u64),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Disk {
    pub(super) saved: Option<[u8; SAVED_LEN]>,
    pub(super) outbox: VecDeque<Message>,
    pub(super) inbox: Vec<Message>,
    /// How many messages `send` has accepted in this life.
    pub(super) accepted: u8,
}

/// What a call has led to: bodies of one frame each, and links that have ended.
#[derive(Debug, Default)]
#[must_use]
pub(super) struct Turn {
    pub(super) bodies: Vec<(u8, Vec<u8>)>,
    pub(super) closed: Vec<(u8, CloseReason)>,
}

impl Node {
    pub(super) fn new(side: Side, keeps: Keeps, window: u8) -> Self {
        Node {
            session: Session::new(side),
            links: Vec::new(),
            keeps,
            window,
            outbox: VecDeque::new(),
            waiting: VecDeque::new(),
            disk: Disk::default(),
            life: 0,
            past: Vec::new(),
        }
    }

    fn config(&self) -> Config {
        let inbox = if self.keeps == Keeps::Outbox { Inbox::Volatile } else { Inbox::Kept };
        let config = Config::new(crate::native::Transport::Lossless, Duration::from_millis(60_000), 128);
        Config { inbox, ..config }
    }

    fn room(&self) -> Room {
        let held = self.waiting.iter().filter(|op| matches!(op, Op::Arrival(..))).count() as u64;
        Room { messages: u64::from(self.window).saturating_sub(held), bytes: 1_000 }
    }

    pub(super) fn opens(&mut self, conn: u8) -> Turn {
        let (config, room) = (self.config(), self.room());
        let link = Link::open(&mut self.session, config, room, NOW);
        self.links.push((conn, link));
        self.drains(NOW)
    }

    pub(super) fn holds(&self, conn: u8) -> bool {
        self.links.iter().any(|(other, _)| *other == conn)
    }

    pub(super) fn lets_go(&mut self, conn: u8) {
        self.links.retain(|(other, _)| *other != conn);
    }

    /// `send` accepts a message: it is stored at once.
    pub(super) fn queues(&mut self) -> Turn {
        let message = (self.life, self.disk.accepted);
        self.disk.accepted += 1;
        self.outbox.push_back(message);
        self.session.handle_outbox(self.session.last() + 1);
        self.writes(self.session.save());
        self.drains(NOW)
    }

    fn writes(&mut self, saved: [u8; SAVED_LEN]) {
        self.disk.saved = Some(saved);
        self.disk.outbox.clone_from(&self.outbox);
    }

    /// The oldest piece of work of the store is committed.
    pub(super) fn commits(&mut self) -> Turn {
        match self.waiting.pop_front() {
            Some(Op::Arrival(ticket, message)) => {
                let saved = self.session.save_with(ticket);
                self.disk.inbox.push(message);
                if self.keeps != Keeps::Outbox {
                    self.writes(saved.unwrap_or_else(|| self.session.save()));
                }
                self.session.handle_persisted(ticket);
                self.session.handle_processed(ticket);
            }
            Some(Op::Epoch(epoch)) => {
                self.writes(self.session.save());
                self.session.handle_epoch_stored(epoch);
            }
            None => {}
        }
        self.drains(NOW)
    }

    pub(super) fn storage_fails(&mut self) -> Turn {
        self.waiting.retain(|op| matches!(op, Op::Epoch(_)));
        self.session.handle_storage_failed();
        self.drains(NOW)
    }

    /// The process ends and another goes on from `disk`.
    pub(super) fn restarts_from(&mut self, disk: Disk) {
        self.links.clear();
        self.waiting.clear();
        self.outbox.clone_from(&disk.outbox);
        let side = self.session.side();
        self.session = match &disk.saved {
            Some(saved) => Session::restore(side, saved).expect("a saved session"),
            None => Session::new(side),
        };
        self.disk = disk;
    }

    pub(super) fn crashes(&mut self) {
        let disk = match self.keeps {
            Keeps::Everything => self.disk.clone(),
            Keeps::Outbox => {
                self.past.push(core::mem::take(&mut self.disk.inbox));
                self.disk.clone()
            }
            Keeps::Nothing => {
                self.past.push(core::mem::take(&mut self.disk.inbox));
                self.life += 1;
                Disk::default()
            }
        };
        self.restarts_from(disk);
    }

    /// Whether an acknowledgement waits on a link.
    pub(super) fn has_waiting_ack(&self) -> bool {
        self.links.iter().any(|(_, link)| link.timers.is_set(Timer::Ack))
    }

    pub(super) fn ack_is_late(&mut self) -> Turn {
        self.drains(LATE)
    }

    pub(super) fn hears(&mut self, conn: u8, body: &[u8]) -> Turn {
        let mut rest = body;
        while let Some(at) = self.links.iter().position(|(other, _)| *other == conn) {
            let (before, epoch) = (self.session.acked(), self.session.epoch());
            let input = self.links[at].1.handle_body(&mut self.session, NOW, rest);
            rest = &rest[input.consumed..];
            let Some(received) = input.received else { break };
            match received {
                Received::Message { ticket, payload, .. } => {
                    self.waiting.push_back(Op::Arrival(ticket, (payload[0], payload[1])));
                }
                Received::NewEpoch { epoch, .. } => {
                    self.waiting.push_back(Op::Epoch(epoch));
                    // What was acknowledged before has left; the rest is numbered from 1.
                    let left = self.session.last() as usize;
                    self.outbox.drain(..self.outbox.len() - left);
                }
                _ => {}
            }
            if self.session.epoch() == epoch {
                self.outbox.drain(..(self.session.acked() - before) as usize);
            }
        }
        self.drains(NOW)
    }

    fn drains(&mut self, now: Instant) -> Turn {
        let mut turn = Turn::default();
        let room = self.room();
        for (conn, link) in &mut self.links {
            link.handle_room(now, room);
            loop {
                let acked = self.session.acked();
                let mut put = |frame: Frame<'_>| {
                    let mut body = std::vec![0; 128];
                    let len = frame.emit(&mut body).expect("room");
                    body.truncate(len);
                    turn.bodies.push((*conn, body));
                };
                match link.poll_output(&mut self.session, now) {
                    Output::Frame(frame) => put(frame),
                    Output::Describe(seq) => link.handle_item(now, seq, Item::Message { len: 2 }),
                    Output::Data { seq, ask } => {
                        let (life, number) = self.outbox[(seq - acked - 1) as usize];
                        let channel = Channel::default();
                        put(Frame::Data(Data { seq: seq as u16, ask, channel, payload: &[life, number] }));
                    }
                    Output::BestEffort => unreachable!("none is announced"),
                    Output::Wait(_) => break,
                    Output::Close(reason) => {
                        turn.closed.push((*conn, reason));
                        break;
                    }
                }
            }
        }
        turn
    }
}

/// Everything that decides what happens next. Counters decide nothing, nor do deadlines, as time stands still.
impl Hash for Node {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Session { server: _, epoch, epoch_stored, offered, serial, active, failed, tx, rx, counters: _ } =
            &self.session;
        (epoch, epoch_stored, offered, serial, active, failed, tx, rx).hash(state);
        for (conn, link) in &self.links {
            (conn, link.phase, link.serial, &link.rx, &link.tx, link.due).hash(state);
            link.timers.is_set(Timer::Ack).hash(state);
        }
        (&self.outbox, &self.waiting, &self.disk, self.life, &self.past).hash(state);
    }
}

/// By what is hashed.
impl PartialEq for Node {
    fn eq(&self, other: &Node) -> bool {
        let hash = |node: &Node| {
            let mut hasher = DefaultHasher::new();
            node.hash(&mut hasher);
            hasher.finish()
        };
        hash(self) == hash(other)
    }
}
