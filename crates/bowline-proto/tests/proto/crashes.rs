//! Random conversations in which processes end and go on from what they have stored, and the checker
//! of what survives that (§6.2).

use std::collections::HashMap;

use bowline_proto::time::Instant;
use bowline_proto::{Dialect, Side};

use crate::common::rng::Rng;
use crate::common::weather::{Conversation, Weather};
use crate::node::Node;
use crate::random::{Payloads, Trouble, for_each_seed, qos, refs};
use crate::world::{TIMEOUT, World};

pub(crate) const WEATHER: Weather =
    Weather { storm: (2_000, 15_000), work: (1, 400), faults: (10, 1_500), patience: TIMEOUT.scaled(3, 1) };

/// Which ends are durable, and crash. The others keep their memory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durable {
    Both,
    Server,
    Device,
}

#[test]
fn exactly_once_on_h_across_crashes_of_both_ends() {
    run("H, both crash", |_| (Dialect::Headers, Durable::Both, Payloads::Unique));
}

#[test]
fn exactly_once_on_u_across_crashes_of_both_ends() {
    run("U, both crash", |_| (Dialect::Upstream, Durable::Both, Payloads::Unique));
}

#[test]
fn exactly_once_across_crashes_with_messages_all_alike() {
    run("crashes, alike", |seed| (dialect(seed), Durable::Both, Payloads::Alike));
}

#[test]
fn exactly_once_when_only_one_end_crashes() {
    let durable = |seed| if seed % 4 < 2 { Durable::Server } else { Durable::Device };
    run("one end crashes", |seed| (dialect(seed), durable(seed), Payloads::Unique));
}

fn dialect(seed: u64) -> Dialect {
    if seed.is_multiple_of(2) { Dialect::Headers } else { Dialect::Upstream }
}

fn run(name: &str, kind: impl Fn(u64) -> (Dialect, Durable, Payloads)) {
    for_each_seed(name, |seed, verbose| {
        let (dialect, durable, payloads) = kind(seed);
        Run::new(World::new(dialect, Rng::new(seed), verbose), durable, payloads).goes(&WEATHER)
    });
}

/// One random conversation.
pub(crate) struct Run {
    world: World,
    durable: Durable,
    payloads: Payloads,
    /// Numbers messages, so that they differ.
    serial: u64,
}

impl Run {
    pub(crate) fn new(mut world: World, durable: Durable, payloads: Payloads) -> Self {
        if durable != Durable::Device {
            world.is_durable(Side::Server);
        }
        if durable != Durable::Server {
            world.is_durable(Side::Device);
        }
        Run { world, durable, payloads, serial: 0 }
    }

    /// Through some weather, with the checker at the end.
    pub(crate) fn goes(mut self, weather: &Weather) -> Trouble {
        let end = self.goes_through(weather);
        self.check(end);
        let (device, server) = (&self.world.device, &self.world.server);
        let stores = [device, server].into_iter().filter_map(|node| node.store.as_ref());
        let (commits, failures) = stores.fold((0, 0), |sum, store| (sum.0 + store.commits, sum.1 + store.failures));
        Trouble { crashes: device.crashes + server.crashes, commits, failures, ..Trouble::of([device, server]) }
    }

    fn queues(&mut self, side: Side) {
        self.serial += 1;
        let text = match self.payloads {
            Payloads::Unique => format!("q{}", self.serial),
            Payloads::Alike if self.world.rng.chance(60) => "on".to_string(),
            Payloads::Alike => "off".to_string(),
        };
        self.world.say(&format!("{side:?} queues {text}"));
        self.world.node(side).queues(text);
    }

    fn check(&self, end: Instant) {
        let World { device, server, .. } = &self.world;
        assert!(self.is_done(), "not delivered within 3 timeouts, by {end:?}: {:?} {:?}", device.outbox, server.outbox);

        let mut times = HashMap::new();
        for text in device.delivered.iter().chain(&server.delivered).filter(|text| text.starts_with('b')) {
            *times.entry(text).or_insert(0) += 1;
        }
        assert!(times.values().all(|&times| times == 1), "best effort delivered twice: {times:?}");

        let pairs: [(&Node, &Node); 2] = [(device, server), (server, device)];
        for (sender, receiver) in pairs {
            assert_eq!(qos(receiver), refs(&sender.queued), "delivered to {:?}", receiver.side);
            assert_eq!(sender.acked, sender.queued, "acknowledged to {:?}", sender.side);
        }
    }
}

impl Conversation for Run {
    type World = World;

    fn world(&mut self) -> &mut World {
        &mut self.world
    }

    /// Messages are queued, at either end.
    fn works(&mut self) {
        let side = if self.world.rng.chance(50) { Side::Device } else { Side::Server };
        if self.world.node(side).outbox.len() < 8 {
            for _ in 0..self.world.rng.range(0, 4) {
                self.queues(side);
            }
        }
        if self.world.rng.chance(30) {
            let count = self.world.rng.range(1, 40) as usize;
            // A queue of limited length, as drivers have: on U it is in the way of what is behind it.
            while self.world.node(side).best_effort.len() < count {
                self.serial += 1;
                let text = format!("b{}", self.serial);
                self.world.node(side).best_effort.push_back(text);
            }
        }
        self.world.turns(side);
        if self.world.node(side).session.wants_qos() && self.world.rng.chance(50) {
            self.queues(side);
            self.world.turns(side);
        }
    }

    fn fails(&mut self) {
        match self.world.rng.range(0, 13) {
            0..=2 => self.world.cuts(),
            3..=4 => self.world.breaks_half_open(),
            5..=6 => self.world.stalls(),
            _ => {
                let side = match self.durable {
                    Durable::Both if self.world.rng.chance(50) => Side::Device,
                    Durable::Device => Side::Device,
                    Durable::Both | Durable::Server => Side::Server,
                };
                self.world.crashes(side);
            }
        }
        // Nothing is acknowledged before it is stored.
        for (sender, receiver) in [(&self.world.device, &self.world.server), (&self.world.server, &self.world.device)] {
            assert!(sender.acks() <= qos(receiver).len(), "acknowledged to {:?} and not stored", sender.side);
        }
    }

    fn is_done(&self) -> bool {
        self.world.device.is_done() && self.world.server.is_done()
    }
}
