//! Random conversations over a bad network, and the checker of what was promised.

use std::collections::HashMap;

use bowline_proto::Side;
use bowline_proto::native::Transport;

use crate::common::rng::Rng;
use crate::common::seeds::run_seeds;
use crate::common::weather::{Conversation, Weather};
use crate::node::Node;
use crate::store::{Arrival, Disk, Keeps};
use crate::world::{KEEPALIVE, World};

/// Seeds of each test, unless told otherwise.
const SEEDS: u64 = 200;

#[test]
fn exactly_once_over_tcp() {
    let seen = for_each_seed("tcp", Transport::Lossless, Keeps::Everything);
    seen.at_least("replaced older_acked resent gaps storage_failures best full processed partial", SEEDS / 10);
}

#[test]
fn exactly_once_over_tcp_with_a_volatile_device() {
    let seen = for_each_seed("tcp, volatile", Transport::Lossless, Keeps::Outbox);
    seen.at_least("replaced older_acked resent gaps storage_failures best full skipped", SEEDS / 10);
}

#[test]
fn a_device_without_memory_begins_new_epochs_over_tcp() {
    let seen = for_each_seed("tcp, forgetful", Transport::Lossless, Keeps::Nothing);
    seen.at_least("replaced resent gaps storage_failures best full epochs", SEEDS / 10);
}

#[test]
fn exactly_once_over_a_serial_line() {
    let seen = for_each_seed("serial", Transport::Lossy, Keeps::Everything);
    seen.at_least("older_acked resent duplicates gaps storage_failures best full damaged", SEEDS / 10);
}

#[test]
fn a_device_without_memory_begins_new_epochs_over_a_serial_line() {
    let seen = for_each_seed("serial, forgetful", Transport::Lossy, Keeps::Nothing);
    seen.at_least("resent duplicates gaps storage_failures best full epochs damaged", SEEDS / 10);
}

pub(crate) const WEATHER: Weather =
    Weather { storm: (2_000, 12_000), work: (1, 250), faults: (10, 1_800), patience: KEEPALIVE.scaled(9, 1) };

/// How often rare things have happened, by name. A world in which nothing goes wrong proves nothing.
struct Counts {
    name: &'static str,
    by_name: HashMap<&'static str, u64>,
    is_replay: bool,
}

impl Counts {
    fn at_least(&self, names: &str, least: u64) {
        let Counts { name, by_name, is_replay } = self;
        for wanted in names.split(' ') {
            assert!(*is_replay || by_name[wanted] >= least, "{name}: too little of {wanted}: {by_name:?}");
        }
        println!("{name}: {by_name:?}");
    }
}

fn for_each_seed(name: &'static str, transport: Transport, keeps: Keeps) -> Counts {
    let mut by_name = HashMap::new();
    let seeds = run_seeds(name, SEEDS, |seed, verbose| {
        Run::new(World::new(transport, keeps, Rng::new(seed), verbose)).goes(&WEATHER, &mut by_name);
    });
    Counts { name, by_name, is_replay: seeds.is_none() }
}

/// One random conversation.
pub(crate) struct Run {
    world: World,
    /// Numbers messages, so that they differ.
    serial: u64,
}

impl Run {
    pub(crate) fn new(world: World) -> Self {
        Run { world, serial: 0 }
    }

    /// Through some weather, with the checker at the end. Counts what has happened, by name.
    pub(crate) fn goes(mut self, weather: &Weather, counts: &mut HashMap<&'static str, u64>) {
        self.goes_through(weather);
        self.check();
        self.world.device.counts();
        self.world.server.counts();
        let mut add = |name, count| *counts.entry(name).or_insert(0) += count;
        for node in [&self.world.device, &self.world.server] {
            let seen = node.seen;
            for (name, count) in [
                ("full", seen.full),
                ("replaced", seen.replaced),
                ("older_acked", seen.older_acked),
                ("resent", seen.resent),
                ("duplicates", seen.duplicates),
                ("gaps", seen.gaps),
                ("links", seen.links),
                ("epochs", seen.epochs),
                ("skipped", seen.skipped),
                ("storage_failures", seen.storage_failures),
                ("best", seen.best),
                ("processed", seen.processed),
                ("delivered", node.store.disk.inbox.len() as u64),
            ] {
                add(name, count);
            }
        }
        add("damaged", self.world.damaged);
        add("partial", self.world.partial);
    }

    fn check(&self) {
        let World { device, server, .. } = &self.world;
        let left = |node: &Node| (node.store.outbox.len(), node.session.acked(), node.session.last());
        assert!(self.is_done(), "not delivered within 3 outages: {:?} {:?}", left(device), left(server));

        let mut times = HashMap::new();
        for text in device.best_received.iter().chain(&server.best_received) {
            *times.entry(text).or_insert(0) += 1;
        }
        // A serial line may repeat a frame; best effort has nothing to tell that by (§11.6).
        assert!(self.world.is_lossy() || times.values().all(|&times| times == 1), "best effort delivered twice");

        // To the server: of each life of the device the beginning, whole of the last one.
        let running = (device.session.epoch(), &device.store.disk);
        let lives: Vec<(u64, &Disk)> = match device.store.keeps {
            Keeps::Nothing => device.lives.iter().map(|(epoch, disk)| (*epoch, disk)).chain([running]).collect(),
            Keeps::Everything | Keeps::Outbox => vec![running],
        };
        let (last, mut next, mut matched) = (lives.len() - 1, 0, 0);
        for arrivals in server.store.disk.inbox.chunk_by(|a, b| a.0 == b.0) {
            // An epoch that the server did not come to store is given again, so the last life with it had it.
            let life = lives.iter().rposition(|(epoch, _)| *epoch == arrivals[0].0).expect("an epoch of the device");
            assert!(life >= next, "an epoch of the device twice, or after a later one");
            let covered = covers(&lives[life].1.accepted, arrivals);
            matched = if life == last { covered } else { 0 };
            next = life + 1;
        }
        assert_eq!(matched, lives[last].1.accepted.len(), "lost on the way to the server");

        // To the device: everything once, in order; a life without memory may begin with what the one before had.
        let sent = &server.store.disk.accepted;
        let mut reached = 0;
        for disk in device.lives.iter().map(|(_, disk)| disk).chain([&device.store.disk]) {
            let mut rest = &disk.inbox[..];
            let first = rest.iter().find_map(|arrival| match arrival {
                (_, Arrival::Text(text)) => sent.iter().position(|sent| sent == text),
                (_, Arrival::Gap(_)) => None,
            });
            let gaps = rest.iter().map_while(|arrival| match arrival {
                (_, Arrival::Gap(count)) => Some(*count as usize),
                (_, Arrival::Text(_)) => None,
            });
            let mut at = match first {
                Some(first) if device.store.keeps != Keeps::Everything => first - gaps.sum::<usize>(),
                _ => reached,
            };
            assert!(at <= reached, "lost on the way to the device");
            while let Some(((_, arrival), behind)) = rest.split_first() {
                at += match arrival {
                    Arrival::Text(text) => {
                        assert_eq!(sent.get(at), Some(text), "doubled or out of order on the way to the device");
                        1
                    }
                    Arrival::Gap(count) => *count as usize,
                };
                rest = behind;
            }
            reached = reached.max(at);
        }
        assert_eq!(reached, sent.len(), "lost on the way to the device");
    }
}

impl Conversation for Run {
    type World = World;

    fn world(&mut self) -> &mut World {
        &mut self.world
    }

    /// Messages are sent, at either end; now and then one is dropped by its stream's policy.
    fn works(&mut self) {
        let side = if self.world.rng.chance(50) { Side::Device } else { Side::Server };
        let (now, mut rng) = (self.world.now, self.world.rng.clone());
        let node = self.world.node(side);
        if node.store.outbox.len() < 12 {
            for _ in 0..rng.range(0, 5) {
                self.serial += 1;
                let longest = if rng.chance(20) { 230 } else { 30 };
                let padding = "x".repeat(rng.index(longest));
                let text = format!("{}.{} {padding}", node.lives.len(), self.serial);
                let late = rng.millis(0, 30);
                node.store.add(now + late, crate::store::Op::Queue(text));
            }
        }
        if rng.chance(8) {
            node.drops_one(&mut rng);
        }
        if rng.chance(30) {
            for _ in 0..rng.range(1, 20) {
                self.serial += 1;
                node.best_effort.push_back(format!("b{}", self.serial));
            }
        }
        self.world.rng = rng;
        self.world.turns(side);
    }

    fn fails(&mut self) {
        let side = if self.world.rng.chance(50) { Side::Device } else { Side::Server };
        match self.world.rng.range(0, 11) {
            0..=2 => self.world.cuts(),
            3..=5 => self.world.breaks_half_open(),
            6..=7 => self.world.stalls(),
            8..=10 => self.world.crashes(side),
            _ => self.world.storage_fails(side),
        }
    }

    fn is_done(&self) -> bool {
        let idle = |node: &Node| {
            let store = &node.store;
            store.outbox.is_empty() && store.waiting.is_empty() && node.session.acked() == node.session.last()
        };
        idle(&self.world.device) && idle(&self.world.server)
    }
}

/// How many of `accepted`, from its beginning, one epoch's arrivals cover; they must cover nothing else.
fn covers(accepted: &[String], arrivals: &[(u64, Arrival)]) -> usize {
    let mut at = 0;
    for (_, arrival) in arrivals {
        at += match arrival {
            Arrival::Text(text) => {
                assert_eq!(accepted.get(at), Some(text), "doubled or out of order on the way to the server");
                1
            }
            Arrival::Gap(count) => *count as usize,
        };
    }
    at
}
