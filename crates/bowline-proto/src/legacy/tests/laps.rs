//! Ids of eight bits come round: more than a lap of messages that are all alike, and every place where links can be
//! cut and processes can end meanwhile, explored by `stateright`.
//!
//! Messages differ in nothing but their ids, so one that is taken for another of an earlier lap shows as lost. Saves
//! are committed at once, and time stands still: what the model leaves to chance is what is lost with a link, and when.

use core::hash::{Hash, Hasher};
use std::collections::VecDeque;
use std::string::String;
use std::time::Instant as Clock;
use std::vec::Vec;
use std::{assert, format, println, vec};

use stateright::{Checker, Model, Property};

use super::harness::{H, U, ms};
use crate::legacy::{Config, Incoming, Kind, Link, Output, Pace, Queue, Received, Session};
use crate::time::Instant;
use crate::wire::{Frame, MessageRepr};
use crate::{Dialect, Side};

const NOW: Instant = Instant::from_micros(1_000_000);
/// More than a lap, so that ids of the last one are met by their successors.
const MESSAGES: u16 = 290;
const TEXT: &str = "[1]";

/// What may go wrong, at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Budget {
    cuts: u8,
    /// Of the sender's and the receiver's process.
    crashes: [u8; 2],
    /// Best-effort messages, each between two others.
    best_effort: u8,
}

struct Lap {
    dialect: Dialect,
    sender: Side,
    budget: Budget,
}

/// One end.
#[derive(Debug, Clone)]
struct Node {
    session: Session,
    link: Option<Link>,
    disk: Vec<u8>,
}

#[derive(Debug, Clone)]
struct World {
    sender: Node,
    receiver: Node,
    /// Lines on their way, those with a message with its number; `None` for best effort.
    there: VecDeque<(Vec<u8>, Option<u16>)>,
    back: VecDeque<Vec<u8>>,
    acked: u16,
    accepted: u16,
    /// A message came that is not the next one.
    broken: bool,
    best_effort_waits: bool,
    left: Budget,
    key: String,
}

impl PartialEq for World {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Hash for World {
    fn hash<S: Hasher>(&self, state: &mut S) {
        self.key.hash(state);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    /// The next line gets to the receiver.
    There,
    /// The next line gets to the sender.
    Back,
    /// A link breaks, with all that is on its way, and the next one begins.
    Cut,
    /// An end's process ends, and the link with it; the next one begins.
    Crash(Side),
    BestEffort,
}

impl Node {
    fn new(side: Side) -> Self {
        let session = Session::durable(side);
        let disk = session.save_with([]).as_bytes().to_vec();
        Node { session, link: None, disk }
    }

    fn opens(&mut self, dialect: Dialect) {
        let config = Config::new(self.session.side(), ms(2_000));
        let config = Config { settle: ms(0), pace: Pace::OFF, ..config };
        self.link = Some(Link::open(&mut self.session, dialect, config, NOW));
    }

    fn restarts(&mut self) {
        let side = self.session.side();
        self.session = Session::restore(side, &self.disk).expect("what was saved");
    }

    /// What it has to say, with all that must be stored before it is said.
    fn says(&mut self, dialect: Dialect, queue: &mut Queue) -> Vec<(Vec<u8>, Option<Kind>)> {
        let mut lines = Vec::new();
        loop {
            let link = self.link.as_mut().expect("a link");
            link.handle_queue(NOW, *queue);
            let (frame, kind) = match link.poll_output(&mut self.session, NOW) {
                Output::Login => continue,
                Output::Keepalive => (Frame::Keepalive, None),
                Output::Ack(id) => (Frame::Ack(id), None),
                Output::Message(id, kind) => {
                    let qos = kind != Kind::BestEffort;
                    queue.best_effort &= qos;
                    (Frame::Message(id, MessageRepr { qos, header: &[], payload: TEXT.as_bytes() }), Some(kind))
                }
                Output::Close(reason) => panic!("{reason}"),
                Output::Wait(_) => {
                    let saved = self.session.save_with([]);
                    if saved.as_bytes() == self.disk {
                        return lines;
                    }
                    self.disk = saved.as_bytes().to_vec();
                    self.session.handle_saved(saved.mark());
                    continue;
                }
            };
            let mut line = vec![0; frame.len(dialect)];
            frame.emit(dialect, &mut line).expect("room for the frame");
            lines.push((line, kind));
        }
    }
}

impl World {
    fn new(lap: &Lap) -> Self {
        let other = if lap.sender == Side::Device { Side::Server } else { Side::Device };
        let mut world = World {
            sender: Node::new(lap.sender),
            receiver: Node::new(other),
            there: VecDeque::new(),
            back: VecDeque::new(),
            acked: 0,
            accepted: 0,
            broken: false,
            best_effort_waits: false,
            left: lap.budget,
            key: String::new(),
        };
        world.connects(lap.dialect);
        world.settles(lap.dialect);
        world
    }

    fn connects(&mut self, dialect: Dialect) {
        self.there.clear();
        self.back.clear();
        self.sender.opens(dialect);
        self.receiver.opens(dialect);
    }

    /// Both say what they have to say.
    fn settles(&mut self, dialect: Dialect) {
        let mut queue = Queue { qos: self.acked < MESSAGES, best_effort: self.best_effort_waits };
        for (line, kind) in self.sender.says(dialect, &mut queue) {
            self.there.push_back((line, kind.filter(|kind| *kind != Kind::BestEffort).map(|_| self.acked)));
        }
        self.best_effort_waits = queue.best_effort;
        let lines = self.receiver.says(dialect, &mut Queue::default());
        self.back.extend(lines.into_iter().map(|(line, _)| line));
        self.key = self.key();
    }

    fn does(&mut self, dialect: Dialect, action: Action) {
        match action {
            Action::There => self.gets_there(),
            Action::Back => self.gets_back(),
            Action::Cut => {
                self.left.cuts -= 1;
                self.connects(dialect);
            }
            Action::Crash(side) => {
                let is_sender = side == self.sender.session.side();
                self.left.crashes[usize::from(!is_sender)] -= 1;
                // Best effort in memory is gone.
                self.best_effort_waits &= !is_sender;
                if is_sender {
                    self.sender.restarts()
                } else {
                    self.receiver.restarts()
                }
                self.connects(dialect);
            }
            Action::BestEffort => {
                self.left.best_effort -= 1;
                self.best_effort_waits = true;
            }
        }
        self.settles(dialect);
    }

    fn gets_there(&mut self) {
        let Some((line, number)) = self.there.pop_front() else { return };
        let Node { session, link, disk } = &mut self.receiver;
        let link = link.as_mut().expect("a link");
        link.handle_heard(NOW);
        let received = link.handle_input(session, NOW, &line).received;
        if let Some(Received::Message(Incoming { ticket, .. })) = received {
            if let Some(number) = number {
                self.broken |= number != self.accepted;
                self.accepted += 1;
            }
            let saved = session.save_with([&ticket]);
            *disk = saved.as_bytes().to_vec();
            session.handle_saved(saved.mark());
            link.handle_accepted(session, NOW, ticket);
        }
    }

    fn gets_back(&mut self) {
        let Some(line) = self.back.pop_front() else { return };
        let Node { session, link, .. } = &mut self.sender;
        let link = link.as_mut().expect("a link");
        link.handle_heard(NOW);
        if let Some(Received::Acked(_)) = link.handle_input(session, NOW, &line).received {
            self.acked += 1;
            self.broken |= self.accepted < self.acked;
        }
    }

    /// What tells this world from others: all but counts of how it came here.
    fn key(&self) -> String {
        let World { sender, receiver, there, back, acked, accepted, broken, best_effort_waits, left, .. } = self;
        let node = |node: &Node| {
            let link = format!("{:?}", node.link);
            let (before, rest) = link.split_once("generation: ").expect("a generation");
            let (_, after) = rest.split_once(')').expect("its end");
            let Session { tx, rx, .. } = &node.session;
            let seen: Vec<_> = rx.recent.iter().collect();
            format!("{:?} {tx:?} {seen:?} {before}{after}", node.disk)
        };
        let (sender, receiver) = (node(sender), node(receiver));
        format!("{acked} {accepted} {broken} {best_effort_waits} {left:?} {there:?} {back:?} {sender} {receiver}")
    }
}

impl Model for Lap {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if !world.there.is_empty() {
            actions.push(Action::There);
        }
        if !world.back.is_empty() {
            actions.push(Action::Back);
        }
        if world.left.cuts > 0 {
            actions.push(Action::Cut);
        }
        for (side, left) in
            [world.sender.session.side(), world.receiver.session.side()].into_iter().zip(world.left.crashes)
        {
            if left > 0 {
                actions.push(Action::Crash(side));
            }
        }
        if world.left.best_effort > 0 && !world.best_effort_waits {
            actions.push(Action::BestEffort);
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        next.does(self.dialect, action);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("each message once and in order, and none acknowledged before", |_, world: &World| {
                !world.broken && world.accepted - world.acked <= 1
            }),
            Property::always("something can happen until all are there", |_, world: &World| {
                world.acked == MESSAGES || !world.there.is_empty() || !world.back.is_empty()
            }),
            Property::sometimes("all are there, over a lap", |_, world: &World| world.acked == MESSAGES),
            Property::sometimes("something was sent again", |_, world: &World| {
                world.sender.session.counters().resent > 0
            }),
        ]
    }
}

fn explore(dialect: Dialect, sender: Side, budget: Budget) {
    let begin = Clock::now();
    let checker = Lap { dialect, sender, budget }.checker().threads(2).spawn_bfs().join();
    println!(
        "{dialect:?}, from the {sender:?}, {budget:?}: {} states, depth {}, {:.1} s",
        checker.unique_state_count(),
        checker.max_depth(),
        begin.elapsed().as_secs_f64()
    );
    assert!(checker.is_done());
    checker.assert_properties();
}

/// Both dialects, both ways. Where many faults are explored, a server on H has too many states with best effort.
fn explore_all(small: Budget, large: Budget) {
    let budget = if std::env::var_os("BOWLINE_MODEL").is_some_and(|value| value == "large") { large } else { small };
    for dialect in [H, U] {
        for sender in [Side::Device, Side::Server] {
            let best_effort = if sender == Side::Device { budget.best_effort } else { 0 };
            explore(dialect, sender, Budget { best_effort, ..budget });
        }
    }
}

#[test]
fn cuts_anywhere_in_a_lap() {
    let budget = Budget { cuts: 1, crashes: [0, 0], best_effort: 0 };
    explore_all(budget, Budget { cuts: 2, ..budget });
}

#[test]
fn crashes_of_the_sender_anywhere_in_a_lap() {
    let budget = Budget { cuts: 0, crashes: [1, 0], best_effort: 0 };
    explore_all(budget, Budget { best_effort: 1, ..budget });
}

#[test]
fn crashes_of_the_receiver_anywhere_in_a_lap() {
    let budget = Budget { cuts: 0, crashes: [0, 1], best_effort: 0 };
    explore_all(budget, Budget { best_effort: 1, ..budget });
}
