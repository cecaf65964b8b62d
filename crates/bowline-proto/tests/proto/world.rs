//! A device and a server joined by a bad network, in virtual time.

use bowline_proto::legacy::{Config, Pace};
use bowline_proto::time::{Duration, Instant};
use bowline_proto::wire::LineScanner;
use bowline_proto::wire::login::{self, Login};
use bowline_proto::{Dialect, Side};

use crate::common::NEVER;
use crate::common::pipe::Pipe;
use crate::common::rng::Rng;
use crate::common::weather;
use crate::node::{Node, Turn};

/// The timeout both ends are configured with.
pub(crate) const TIMEOUT: Duration = Duration::from_millis(2_000);

pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) rng: Rng,
    pub(crate) device: Node,
    pub(crate) server: Node,
    dialect: Dialect,
    conns: Vec<Conn>,
    reconnect_at: Instant,
    verbose: bool,
}

/// A transport connection. Bytes written into a half-open one go nowhere.
struct Conn {
    half_open: bool,
    up: Pipe,
    down: Pipe,
    /// What the server has read before it knew who is there.
    greeting: Option<Vec<u8>>,
    /// Who still holds it.
    device: bool,
    server: bool,
}

impl World {
    pub(crate) fn new(dialect: Dialect, mut rng: Rng, verbose: bool) -> Self {
        let config = |side, rng: &mut Rng| {
            let pace = if rng.chance(50) { Pace::OFF } else { Pace { burst: 4, interval: Duration::from_millis(2) } };
            Config { settle: Duration::from_millis(rng.range(0, 5)), pace, ..Config::new(side, TIMEOUT) }
        };
        let device = Node::new(Side::Device, dialect, config(Side::Device, &mut rng));
        let server = Node::new(Side::Server, dialect, config(Side::Server, &mut rng));
        let now = Instant::from_micros(1);
        World { now, rng, device, server, dialect, conns: vec![], reconnect_at: now, verbose }
    }

    /// Before anything has happened: this end survives crashes.
    pub(crate) fn is_durable(&mut self, side: Side) {
        let dialect = self.dialect;
        let node = self.node(side);
        *node = Node::durable(side, dialect, node.config);
    }

    pub(crate) fn node(&mut self, side: Side) -> &mut Node {
        match side {
            Side::Device => &mut self.device,
            Side::Server => &mut self.server,
        }
    }

    pub(crate) fn turns(&mut self, side: Side) {
        let now = self.now;
        let turn = self.node(side).turns(now);
        self.finish(side, turn);
    }

    fn connects(&mut self) {
        self.say("device connects");
        let conn = self.conns.len();
        let greeting = Some(vec![]);
        let (up, down) = (Pipe::default(), Pipe::default());
        self.conns.push(Conn { half_open: false, up, down, greeting, device: true, server: true });
        let turn = self.device.opens(self.now, conn);
        self.finish(Side::Device, turn);
    }

    /// Writes what a node has written, and ends its link if it asked for that.
    fn finish(&mut self, side: Side, turn: Turn) {
        let (now, conn) = (self.now, self.node(side).conn);
        if !turn.written.is_empty() {
            self.say(&format!("{side:?} writes {}", turn.written.escape_ascii()));
            let rng = &mut self.rng;
            let conn = &mut self.conns[conn];
            if !conn.half_open {
                let pipe = if side == Side::Device { &mut conn.up } else { &mut conn.down };
                pipe.put(now, turn.written, rng);
            }
        }
        if let Some(reason) = turn.closed {
            self.say(&format!("{side:?} closes: {reason}"));
            self.drops(side, conn);
            if !self.conns[conn].half_open {
                self.drops(other(side), conn);
            }
        }
    }

    /// One end lets go of a connection.
    fn drops(&mut self, side: Side, conn: usize) {
        let conn_state = &mut self.conns[conn];
        let held = if side == Side::Device { &mut conn_state.device } else { &mut conn_state.server };
        if !std::mem::take(held) {
            return;
        }
        conn_state.up.pieces.clear();
        conn_state.down.pieces.clear();
        conn_state.greeting = None;
        let node = self.node(side);
        if node.link.is_some() && node.conn == conn {
            node.drops_link();
        }
        if side == Side::Device {
            self.reconnect_at = self.now + self.rng.millis(0, 100);
        }
    }

    fn delivers(&mut self, conn: usize) {
        while let Some(bytes) = self.conns[conn].down.take(self.now) {
            if self.device.link.is_some() && self.device.conn == conn {
                let turn = self.device.hears(self.now, &bytes, &mut self.rng);
                self.finish(Side::Device, turn);
            }
        }
        while let Some(bytes) = self.conns[conn].up.take(self.now) {
            match &mut self.conns[conn].greeting {
                Some(greeting) => {
                    greeting.extend_from_slice(&bytes);
                    self.greets(conn);
                }
                None => self.server_hears(conn, &bytes),
            }
        }
    }

    /// The server looks for a login, and takes over from an older connection of the same device.
    fn greets(&mut self, conn: usize) {
        let Some(greeting) = &self.conns[conn].greeting else { return };
        let Some(line) = LineScanner::new(login::MAX_LINE).next(greeting).expect("a login line") else { return };
        assert_eq!(Login::parse(line).map(|login| login.dialect), Ok(self.dialect));
        let rest = greeting[line.len() + 1..].to_vec();
        self.conns[conn].greeting = None;
        self.say("server: login");
        let old = self.server.link.is_some().then_some(self.server.conn);
        let turn = self.server.opens(self.now, conn);
        if let Some(old) = old {
            self.drops(Side::Server, old);
            if !self.conns[old].half_open {
                self.drops(Side::Device, old);
            }
        }
        self.finish(Side::Server, turn);
        if !rest.is_empty() {
            self.server_hears(conn, &rest);
        }
    }

    fn server_hears(&mut self, conn: usize, bytes: &[u8]) {
        if self.server.link.is_some() && self.server.conn == conn {
            let turn = self.server.hears(self.now, bytes, &mut self.rng);
            self.finish(Side::Server, turn);
        }
    }

    // Faults.

    /// The device's connection breaks and both ends see it at once. What was on the way is lost.
    pub(crate) fn cuts(&mut self) {
        if self.device.link.is_some() {
            self.say("link cuts");
            let conn = self.device.conn;
            self.drops(Side::Device, conn);
            self.drops(Side::Server, conn);
        }
    }

    /// The device's connection breaks, and at most one end sees it.
    pub(crate) fn breaks_half_open(&mut self) {
        if self.device.link.is_none() {
            return;
        }
        self.say("link is half open");
        let conn = self.device.conn;
        self.conns[conn].half_open = true;
        self.conns[conn].up.pieces.clear();
        self.conns[conn].down.pieces.clear();
        match self.rng.range(0, 2) {
            0 => self.drops(Side::Device, conn),
            1 => self.drops(Side::Server, conn),
            _ => {}
        }
    }

    /// One direction of the device's connection brings nothing for a while, and then all of it.
    pub(crate) fn stalls(&mut self) {
        if self.device.link.is_some() {
            let until = self.now + self.rng.millis(0, 2_500);
            let up = self.rng.chance(50);
            self.say(if up { "link stalls upwards" } else { "link stalls downwards" });
            let conn = &mut self.conns[self.device.conn];
            if up { conn.up.stall(until) } else { conn.down.stall(until) }
        }
    }

    /// The device loses power: its session, its outboxes and whatever it had not decided on.
    /// Returns what it was, for the checker.
    pub(crate) fn reboots_device(&mut self, config: Config) -> Node {
        self.say("device reboots");
        if self.device.link.is_some() {
            let conn = self.device.conn;
            self.drops(Side::Device, conn);
            if self.rng.chance(50) {
                self.drops(Side::Server, conn);
            } else {
                self.conns[conn].half_open = true;
            }
        }
        self.reconnect_at = self.now + self.rng.millis(10, 300);
        let moody = self.device.moody;
        let mut fresh = Node::new(Side::Device, self.dialect, config);
        fresh.moody = moody;
        std::mem::replace(&mut self.device, fresh)
    }

    /// A durable end's process ends, and another one starts from what was stored. The other end sees
    /// that, or nothing but silence.
    pub(crate) fn crashes(&mut self, side: Side) {
        self.say(&format!("{side:?} crashes"));
        for conn in 0..self.conns.len() {
            let state = &self.conns[conn];
            if if side == Side::Device { state.device } else { state.server } {
                self.drops(side, conn);
                if self.rng.chance(50) {
                    self.drops(other(side), conn);
                } else {
                    self.conns[conn].half_open = true;
                }
            }
        }
        if side == Side::Device {
            self.reconnect_at = self.now + self.rng.millis(10, 300);
        }
        match side {
            Side::Device => self.device.crashes(&mut self.rng),
            Side::Server => self.server.crashes(&mut self.rng),
        }
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
        let pipes = self.conns.iter().flat_map(|conn| [&conn.up, &conn.down]).map(Pipe::next);
        let parked = self.device.parked.iter().chain(&self.server.parked).map(|entry| entry.0);
        let stores = [self.device.store_wake(), self.server.store_wake()];
        let own = [self.device.wake, self.server.wake, self.reconnect_at];
        own.into_iter().chain(stores).chain(pipes).chain(parked).min().unwrap_or(NEVER).max(self.now)
    }

    fn moves_to(&mut self, now: Instant) {
        self.now = now;
        for conn in 0..self.conns.len() {
            self.delivers(conn);
        }
        let turn = self.device.decides(now, &mut self.rng);
        self.finish(Side::Device, turn);
        let turn = self.server.decides(now, &mut self.rng);
        self.finish(Side::Server, turn);
        for side in [Side::Device, Side::Server] {
            if self.node(side).wake <= now {
                self.turns(side);
            }
        }
        if self.reconnect_at <= now {
            self.reconnect_at = NEVER;
            self.connects();
        }
        let turn = self.device.stores(now, &mut self.rng);
        self.finish(Side::Device, turn);
        let turn = self.server.stores(now, &mut self.rng);
        self.finish(Side::Server, turn);
    }

    fn calms_down(&mut self) {
        self.say("faults end");
        for node in [&mut self.device, &mut self.server] {
            node.moody = false;
            for parked in &mut node.parked {
                parked.0 = self.now;
            }
        }
    }
}

fn other(side: Side) -> Side {
    match side {
        Side::Device => Side::Server,
        Side::Server => Side::Device,
    }
}
