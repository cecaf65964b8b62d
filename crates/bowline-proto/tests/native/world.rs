//! A device and a server joined by a bad network, in virtual time.

use std::collections::BTreeMap;

use bowline_proto::native::wire::{Answer, Mode, Opening, record, serial};
use bowline_proto::native::{Config, Inbox, Transport};
use bowline_proto::time::{Duration, Instant};
use bowline_proto::{DeviceId, Side};

use crate::common::NEVER;
use crate::common::rng::Rng;
use crate::common::weather;
use crate::conn::Conn;
use crate::node::{Node, Turn, as_record};
use crate::store::{Keeps, Store};

/// The keepalive interval; an outage is noticed after three of them.
pub(crate) const KEEPALIVE: Duration = Duration::from_millis(700);

pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) rng: Rng,
    pub(crate) device: Node,
    pub(crate) server: Node,
    transport: Transport,
    conns: BTreeMap<usize, Conn>,
    latest: usize,
    reconnect_at: Option<Instant>,
    faulty: bool,
    verbose: bool,
    pub(crate) damaged: u64,
    pub(crate) partial: u64,
}

impl World {
    pub(crate) fn new(transport: Transport, keeps: Keeps, mut rng: Rng, verbose: bool) -> Self {
        let config = |rng: &mut Rng| Config {
            keepalive_bounds: (Duration::from_millis(300), Duration::from_millis(2_000)),
            handshake: Duration::from_millis(1_500),
            ack_delay: rng.millis(1, 40),
            inbox: if keeps == Keeps::Outbox { Inbox::Volatile } else { Inbox::Kept },
            ..Config::new(transport, KEEPALIVE, 256)
        };
        let device = Node::new(Side::Device, Store::new(keeps), config(&mut rng));
        let server = Node::new(Side::Server, Store::new(Keeps::Everything), config(&mut rng));
        let now = Instant::from_micros(1);
        World {
            now,
            rng,
            device,
            server,
            transport,
            conns: BTreeMap::new(),
            latest: 0,
            reconnect_at: Some(now),
            faulty: true,
            verbose,
            damaged: 0,
            partial: 0,
        }
    }

    pub(crate) fn node(&mut self, side: Side) -> &mut Node {
        match side {
            Side::Device => &mut self.device,
            Side::Server => &mut self.server,
        }
    }

    pub(crate) fn is_lossy(&self) -> bool {
        self.transport == Transport::Lossy
    }

    pub(crate) fn turns(&mut self, side: Side) {
        let now = self.now;
        let turn = self.node(side).turns(now);
        self.finish(side, turn);
    }

    /// The device says its opening.
    fn greets(&mut self, conn: usize) {
        let mut buffer = [0; 160];
        let opening = Opening { mode: Mode::Open, id: DeviceId::new("board").expect("an id"), handshake: &[] };
        let len = opening.emit(&mut buffer).expect("room");
        let again = self.now + Duration::from_millis(120);
        if self.is_lossy() {
            self.conns.get_mut(&conn).expect("a connection").repeat = Some(again);
        }
        self.puts(Side::Device, conn, &buffer[..len], true);
        // In open mode the device goes on at once; over a lossy transport, when it is answered.
        if !self.is_lossy() {
            let turn = self.device.opens(self.now, conn);
            self.finish(Side::Device, turn);
        }
    }

    /// Writes what a node has written, and ends the links it has ended.
    fn finish(&mut self, side: Side, turn: Turn) {
        for (conn, body) in turn.bodies {
            self.puts(side, conn, &body, false);
        }
        for (conn, reason) in turn.closed {
            self.say(&format!("{side:?} closes {conn}: {reason}"));
            assert!(
                !matches!(
                    reason,
                    bowline_proto::native::CloseReason::Protocol
                        | bowline_proto::native::CloseReason::Credit
                        | bowline_proto::native::CloseReason::Quarantined(_)
                ),
                "{side:?} closes: {reason}"
            );
            self.ends(side, conn);
        }
    }

    /// One end has let go of a connection; the other notices when what was on the way has come.
    fn ends(&mut self, side: Side, conn: usize) {
        self.node(side).lets_go(conn);
        if side == Side::Device {
            self.device_is_off(conn);
        }
        if !self.is_lossy() && self.conns.get(&conn).is_some_and(|state| !state.half_open) {
            let state = self.conns.remove(&conn).expect("a connection");
            self.partial += u64::from(!state.up.read.is_empty() || !state.down.read.is_empty());
            let other = if side == Side::Device { Side::Server } else { Side::Device };
            self.node(other).lets_go(conn);
            if other == Side::Device {
                self.device_is_off(conn);
            }
        }
    }

    fn device_is_off(&mut self, conn: usize) {
        if conn == self.latest && self.reconnect_at.is_none() {
            self.reconnect_at = Some(self.now + self.rng.millis(0, 100));
            if self.is_lossy() {
                self.conns.remove(&conn);
            }
        }
    }

    fn puts(&mut self, side: Side, conn: usize, body: &[u8], bare: bool) {
        let bytes = if self.is_lossy() {
            let mut out = vec![0; serial::max_len(body.len())];
            let len = serial::encode(conn as u16, body, &mut out).expect("room");
            out[..len].to_vec()
        } else if bare {
            body.to_vec()
        } else {
            as_record(body)
        };
        let (now, lossy, faulty, rng) = (self.now, self.transport == Transport::Lossy, self.faulty, &mut self.rng);
        let Some(state) = self.conns.get_mut(&conn).filter(|state| !state.half_open) else { return };
        let way = if side == Side::Device { &mut state.up } else { &mut state.down };
        if !lossy {
            way.pipe.put(now, bytes, rng);
            return;
        }
        let copies = if faulty && rng.chance(8) { 2 } else { 1 };
        for _ in 0..copies {
            if faulty && rng.chance(10) {
                continue;
            }
            let mut bytes = bytes.clone();
            if faulty && rng.chance(8) {
                let at = rng.index(bytes.len());
                bytes[at] ^= 1 << rng.index(8);
                self.damaged += 1;
            }
            // Within the line's order, or not.
            let slack = if faulty && rng.chance(15) { 80 } else { 0 };
            way.pipe.pieces.push_back((now + rng.millis(4, 5 + slack), bytes));
        }
    }

    fn delivers(&mut self, to: Side, conn: usize) {
        while let Some(state) = self.conns.get_mut(&conn) {
            let way = if to == Side::Server { &mut state.up } else { &mut state.down };
            let now = self.now;
            let Some(bytes) = way.pipe.take(now) else { return };
            way.read.extend_from_slice(&bytes);
            if self.transport == Transport::Lossy {
                self.reads_serial(to, conn);
            } else {
                self.reads_records(to, conn);
            }
        }
    }

    fn reads_records(&mut self, to: Side, conn: usize) {
        while let Some(state) = self.conns.get_mut(&conn) {
            let way = if to == Side::Server { &mut state.up } else { &mut state.down };
            if !way.greeted {
                let len = match to {
                    Side::Server => Opening::parse(&way.read).expect("an opening").map(|(_, len)| len),
                    Side::Device => Answer::parse(&way.read).expect("an answer").map(|(_, len)| len),
                };
                let Some(len) = len else { return };
                way.read.drain(..len);
                way.greeted = true;
                if to == Side::Server {
                    self.answers(conn);
                }
                continue;
            }
            let now = self.now;
            let node = if to == Side::Server { &mut self.server } else { &mut self.device };
            let Some(held) = node.links.iter().find(|held| held.conn == conn) else { return };
            let Some(range) = record::next(&way.read, held.link.max_body()).expect("a record") else { return };
            let body = way.read[range.clone()].to_vec();
            way.read.drain(..range.end);
            let turn = node.hears(now, conn, &body, &mut self.rng);
            self.finish(to, turn);
        }
    }

    fn reads_serial(&mut self, to: Side, conn: usize) {
        while let Some(state) = self.conns.get_mut(&conn) {
            let way = if to == Side::Server { &mut state.up } else { &mut state.down };
            let serial::Step { consumed, found: Some(found) } = serial::next(&mut way.read) else { return };
            let body = match found {
                serial::Found::Body { link, body } if usize::from(link) == conn => body.to_vec(),
                _ => vec![],
            };
            way.read.drain(..consumed);
            if body.first() == Some(&0) {
                match to {
                    Side::Server => self.answers(conn),
                    Side::Device => {
                        state.repeat = None;
                        if conn == self.latest && !self.device.holds(conn) && !std::mem::replace(&mut way.greeted, true)
                        {
                            let turn = self.device.opens(self.now, conn);
                            self.finish(to, turn);
                        }
                    }
                }
            } else if !body.is_empty() && (to == Side::Server || conn == self.latest) {
                let now = self.now;
                let node = if to == Side::Server { &mut self.server } else { &mut self.device };
                let turn = node.hears(now, conn, &body, &mut self.rng);
                self.finish(to, turn);
            }
        }
    }

    /// The server has read an opening.
    fn answers(&mut self, conn: usize) {
        let mut buffer = [0; 64];
        let len = Answer { version: 1, verdict: 0, handshake: &[] }.emit(&mut buffer).expect("room");
        self.puts(Side::Server, conn, &buffer[..len], true);
        if !self.server.holds(conn) {
            let turn = self.server.opens(self.now, conn);
            self.finish(Side::Server, turn);
        }
    }

    // Faults.

    /// The connection breaks and both ends see it at once. What was on the way is lost.
    pub(crate) fn cuts(&mut self) {
        self.say("cut");
        let conn = self.latest;
        if let Some(state) = self.conns.remove(&conn) {
            self.partial += u64::from(!state.up.read.is_empty() || !state.down.read.is_empty());
            self.server.lets_go(conn);
            self.device.lets_go(conn);
            self.device_is_off(conn);
        }
    }

    /// The connection breaks, and at most one end sees it.
    pub(crate) fn breaks_half_open(&mut self) {
        self.say("half open");
        let conn = self.latest;
        let Some(state) = self.conns.get_mut(&conn) else { return };
        state.half_open = true;
        // What is on its way to the server may still come, late.
        if self.rng.chance(50) {
            state.up.pipe.pieces.clear();
        } else {
            state.up.pipe.stall(self.now + self.rng.millis(0, 900));
        }
        state.down.pipe.pieces.clear();
        match self.rng.range(0, 2) {
            0 => {
                self.device.lets_go(conn);
                self.device_is_off(conn);
            }
            1 => self.server.lets_go(conn),
            _ => {}
        }
    }

    /// One direction brings nothing for a while, and then all of it.
    pub(crate) fn stalls(&mut self) {
        self.say("stall");
        let until = self.now + self.rng.millis(0, 2_500);
        let up = self.rng.chance(50);
        if let Some(state) = self.conns.get_mut(&self.latest) {
            if up { state.up.pipe.stall(until) } else { state.down.pipe.stall(until) }
        }
    }

    /// One end's process ends and starts again.
    pub(crate) fn crashes(&mut self, side: Side) {
        self.say(&format!("{side:?} crashes"));
        let seen = self.is_lossy() || self.rng.chance(50);
        self.node(side).crashes();
        let conns: Vec<usize> = self.conns.keys().copied().collect();
        for conn in conns {
            if seen && !self.is_lossy() {
                self.ends(side, conn);
            } else if let Some(state) = self.conns.get_mut(&conn) {
                state.half_open |= !matches!(self.transport, Transport::Lossy);
            }
        }
        if side == Side::Device {
            self.device_is_off(self.latest);
        } else {
            self.server.links.clear();
        }
    }

    pub(crate) fn storage_fails(&mut self, side: Side) {
        self.say(&format!("{side:?} cannot store"));
        let now = self.now;
        let turn = self.node(side).storage_fails(now);
        self.finish(side, turn);
    }

    pub(crate) fn say(&self, what: &str) {
        if self.verbose {
            eprintln!("{:>9} us  {what}", self.now.as_micros());
        }
    }
}

impl weather::World for World {
    fn now(&self) -> Instant {
        self.now
    }

    fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    fn next_event(&self) -> Instant {
        let pieces = self.conns.values().flat_map(|conn| [&conn.up, &conn.down]).map(|way| way.pipe.next());
        let repeats = self.conns.values().filter_map(|conn| conn.repeat);
        let own = [self.device.next(), self.server.next(), self.reconnect_at].into_iter().flatten();
        own.chain(pieces).chain(repeats).min().unwrap_or(NEVER).max(self.now)
    }

    fn moves_to(&mut self, now: Instant) {
        self.now = now;
        let conns: Vec<usize> = self.conns.keys().copied().collect();
        for conn in conns {
            self.delivers(Side::Server, conn);
            self.delivers(Side::Device, conn);
            if self.conns.get(&conn).is_some_and(|state| state.repeat.is_some_and(|at| at <= now)) {
                if self.conns[&conn].give_up <= now {
                    // Nobody answers under this number (§13.1).
                    self.device_is_off(conn);
                } else {
                    self.greets(conn);
                }
            }
        }
        for side in [Side::Device, Side::Server] {
            self.turns(side);
        }
        if self.reconnect_at.is_some_and(|at| at <= now) {
            self.reconnect_at = None;
            self.latest += 1;
            self.say(&format!("device opens connection {}", self.latest));
            let give_up = now + self.device.config.handshake;
            self.conns.insert(self.latest, Conn { give_up, ..Conn::default() });
            self.greets(self.latest);
        }
    }

    fn calms_down(&mut self) {
        self.say("faults end");
        self.faulty = false;
        (self.device.moody, self.server.moody) = (false, false);
    }
}
