//! Two ends and the connections between them: every order in which things can happen.

use std::collections::VecDeque;
use std::vec::Vec;

use stateright::{Model, Property};

use super::check;
use super::node::{Disk, Keeps, Node, Turn};
use crate::Side;
use crate::native::CloseReason;

/// How much may happen in a world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Budget {
    /// Messages that each end sends: device, server.
    pub(super) messages: [u8; 2],
    /// Connections the device opens.
    pub(super) conns: u8,
    /// Of those: opened while the one before is still there, for all the server knows.
    pub(super) takeovers: u8,
    pub(super) crashes: [u8; 2],
    pub(super) storage_failures: u8,
    /// Times that an end is set back to what its disk was at some time before.
    pub(super) restores: [u8; 2],
}

/// A world to be explored.
#[derive(Debug, Clone, Copy)]
pub(super) struct Small {
    pub(super) device: Keeps,
    /// Messages that fit into an inbox.
    pub(super) window: u8,
    pub(super) budget: Budget,
}

#[derive(Debug, Clone, PartialEq, Hash)]
pub(super) struct World {
    pub(super) device: Node,
    pub(super) server: Node,
    pub(super) conns: Vec<Conn>,
    pub(super) left: Budget,
    /// What each end may be set back to.
    pub(super) backups: [Option<Disk>; 2],
    pub(super) restored: bool,
    pub(super) seen: Seen,
}

/// What has happened that says something of the whole way here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Seen {
    pub(super) quarantined: bool,
    pub(super) replaced: bool,
    /// A link ended for a reason that never should be.
    pub(super) broken: bool,
}

/// A connection: bytes arrive whole, in order and once, as long as it lasts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Conn {
    number: u8,
    /// Bodies under way, device to server and back. An empty one is the opening.
    up: VecDeque<Vec<u8>>,
    down: VecDeque<Vec<u8>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Action {
    Queue(Side),
    Connect,
    /// The next body arrives there on this connection.
    Arrive(Side, u8),
    /// The connection breaks: what is on the way is lost. Its ends notice one by one, if ever.
    Cut(u8),
    Notice(Side, u8),
    Commit(Side),
    AckIsLate(Side),
    Crash(Side),
    StorageFails(Side),
    /// The disk as it is now is kept, to come back later.
    Backup(Side),
    Restore(Side),
}

const SIDES: [Side; 2] = [Side::Device, Side::Server];

impl World {
    pub(super) fn node(&mut self, side: Side) -> &mut Node {
        match side {
            Side::Device => &mut self.device,
            Side::Server => &mut self.server,
        }
    }

    /// Nothing more can come to this end of a connection: it is cut, or the other end has let go of it.
    fn is_over(&self, side: Side, number: u8) -> bool {
        let Some(conn) = self.conns.iter().find(|conn| conn.number == number) else { return true };
        match side {
            Side::Device => !self.server.holds(number) && conn.down.is_empty() && !conn.up.iter().any(Vec::is_empty),
            Side::Server => !self.device.holds(number) && conn.up.is_empty(),
        }
    }

    fn finish(&mut self, side: Side, turn: Turn) {
        for (conn, body) in turn.bodies {
            if let Some(conn) = self.conns.iter_mut().find(|other| other.number == conn) {
                if side == Side::Device { conn.up.push_back(body) } else { conn.down.push_back(body) }
            }
        }
        for (conn, reason) in turn.closed {
            match reason {
                CloseReason::Quarantined(_) | CloseReason::Peer(5) => self.seen.quarantined = true,
                CloseReason::Replaced => self.seen.replaced = true,
                CloseReason::Protocol | CloseReason::Credit | CloseReason::Version => self.seen.broken = true,
                CloseReason::Peer(2 | 4 | 7) => self.seen.broken = true,
                _ => {}
            }
            self.node(side).lets_go(conn);
            // What it said last still arrives.
            self.drop_unheld(conn);
        }
    }

    fn drop_unheld(&mut self, conn: u8) {
        let held = self.device.holds(conn) || self.server.holds(conn);
        self.conns.retain(|other| other.number != conn || held || other.up.iter().any(Vec::is_empty));
    }

    /// Does it, if it can be done.
    pub(super) fn does(&mut self, action: Action) {
        match action {
            Action::Queue(side) => {
                self.left.messages[side as usize] -= 1;
                let turn = self.node(side).queues();
                self.finish(side, turn);
            }
            Action::Connect => {
                self.left.conns = self.left.conns.saturating_sub(1);
                self.connects();
            }
            Action::Arrive(side, number) => self.arrives(side, number),
            Action::Cut(number) => self.conns.retain(|conn| conn.number != number),
            Action::Notice(side, number) => {
                self.node(side).lets_go(number);
                self.drop_unheld(number);
            }
            Action::Commit(side) => {
                let turn = self.node(side).commits();
                self.finish(side, turn);
            }
            Action::AckIsLate(side) => {
                let turn = self.node(side).ack_is_late();
                self.finish(side, turn);
            }
            Action::Crash(side) => {
                self.left.crashes[side as usize] -= 1;
                self.node(side).crashes();
            }
            Action::StorageFails(side) => {
                self.left.storage_failures -= 1;
                let turn = self.node(side).storage_fails();
                self.finish(side, turn);
            }
            Action::Backup(side) => {
                let disk = self.node(side).disk.clone();
                self.backups[side as usize] = Some(disk);
            }
            Action::Restore(side) => {
                self.left.restores[side as usize] -= 1;
                self.restored = true;
                if let Some(disk) = self.backups[side as usize].take() {
                    let node = self.node(side);
                    let accepted = node.disk.accepted;
                    node.restarts_from(Disk { accepted, ..disk });
                }
            }
        }
    }

    pub(super) fn connects(&mut self) {
        let number = self.conns.iter().map(|conn| conn.number).chain(self.held()).max().map_or(0, |last| last + 1);
        self.device.links.clear();
        self.conns.push(Conn { number, up: VecDeque::from([Vec::new()]), down: VecDeque::new() });
        let turn = self.device.opens(number);
        self.finish(Side::Device, turn);
    }

    fn held(&self) -> impl Iterator<Item = u8> {
        self.device.links.iter().chain(&self.server.links).map(|(conn, _)| *conn)
    }

    fn arrives(&mut self, side: Side, number: u8) {
        let Some(conn) = self.conns.iter_mut().find(|conn| conn.number == number) else { return };
        let way = if side == Side::Server { &mut conn.up } else { &mut conn.down };
        let Some(body) = way.pop_front() else { return };
        let node = self.node(side);
        let up = |node: &Node| -> Vec<u8> {
            node.links.iter().filter(|(_, link)| link.is_up()).map(|(conn, _)| *conn).collect()
        };
        let before = up(node);
        let turn = if body.is_empty() { node.opens(number) } else { node.hears(number, &body) };
        // Only a link that has started takes the session from another (§10.5).
        let is_replaced =
            |(conn, reason): &(u8, CloseReason)| *reason == CloseReason::Replaced && before.contains(conn);
        let is_early = turn.closed.iter().any(is_replaced) && !up(node).contains(&number);
        self.seen.broken |= side == Side::Server && is_early;
        self.finish(side, turn);
        self.drop_unheld(number);
    }

    /// Everything that can happen by itself, without anything going wrong.
    pub(super) fn quiet_actions(&self, actions: &mut Vec<Action>) {
        for conn in &self.conns {
            if !conn.up.is_empty() {
                actions.push(Action::Arrive(Side::Server, conn.number));
            }
            if !conn.down.is_empty() {
                actions.push(Action::Arrive(Side::Device, conn.number));
            }
        }
        for (side, node) in SIDES.into_iter().zip([&self.device, &self.server]) {
            if !node.waiting.is_empty() {
                actions.push(Action::Commit(side));
            }
            if node.has_waiting_ack() {
                actions.push(Action::AckIsLate(side));
            }
            for (conn, _) in &node.links {
                if self.is_over(side, *conn) {
                    actions.push(Action::Notice(side, *conn));
                }
            }
        }
    }
}

impl Model for Small {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        std::vec![World {
            device: Node::new(Side::Device, self.device, self.window),
            server: Node::new(Side::Server, Keeps::Everything, self.window),
            conns: Vec::new(),
            left: self.budget,
            backups: [None, None],
            restored: false,
            seen: Seen::default(),
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        world.quiet_actions(actions);
        let left = &world.left;
        let takes_over = !world.device.links.is_empty();
        if left.conns > 0 && (!takes_over || left.takeovers > 0) {
            actions.push(Action::Connect);
        }
        actions.extend(world.conns.iter().map(|conn| Action::Cut(conn.number)));
        for (side, node) in SIDES.into_iter().zip([&world.device, &world.server]) {
            // A message sent behind a restore may take the number of one that is lost (§10.4 cannot tell).
            if left.messages[side as usize] > 0 && !world.restored {
                actions.push(Action::Queue(side));
            }
            if left.crashes[side as usize] > 0 {
                actions.push(Action::Crash(side));
            }
            if left.storage_failures > 0 && !node.waiting.is_empty() {
                actions.push(Action::StorageFails(side));
            }
            if left.restores[side as usize] > 0 {
                match world.backups[side as usize] {
                    // An end that is set back to before its first epoch is a new one: nobody can tell.
                    None if node.session.epoch() != 0 && node.session.epoch_stored => {
                        actions.push(Action::Backup(side));
                    }
                    None => {}
                    Some(_) => actions.push(Action::Restore(side)),
                }
            }
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        if action == Action::Connect && !world.device.links.is_empty() {
            next.left.takeovers -= 1;
        }
        next.does(action);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        check::properties(self)
    }
}
