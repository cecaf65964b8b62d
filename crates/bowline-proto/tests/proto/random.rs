//! Random conversations over a bad network, and the checker of what was promised.

use std::collections::HashMap;
use std::ops::AddAssign;

use bowline_proto::legacy::Config;
use bowline_proto::time::Instant;
use bowline_proto::{Dialect, Side};

use crate::common::rng::Rng;
use crate::common::seeds;
use crate::common::weather::{Conversation, Weather};
use crate::node::Node;
use crate::world::{TIMEOUT, World};

/// Seeds of each test, unless told otherwise.
const SEEDS: u64 = 400;

pub(crate) const WEATHER: Weather =
    Weather { storm: (2_000, 15_000), work: (1, 400), faults: (10, 2_500), patience: TIMEOUT.scaled(3, 1) };

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Payloads {
    /// Every message differs from all others.
    Unique,
    /// Qos messages are "on" and "off": only ids tell a resend from the next message.
    Alike,
}

#[test]
fn exactly_once_on_h() {
    for_each_seed("H", run(|_| Dialect::Headers, Payloads::Unique, false));
}

#[test]
fn exactly_once_on_u() {
    for_each_seed("U", run(|_| Dialect::Upstream, Payloads::Unique, false));
}

#[test]
fn exactly_once_on_h_with_messages_all_alike() {
    for_each_seed("H, alike", run(|_| Dialect::Headers, Payloads::Alike, false));
}

#[test]
fn exactly_once_on_u_with_messages_all_alike() {
    for_each_seed("U, alike", run(|_| Dialect::Upstream, Payloads::Alike, false));
}

#[test]
fn nothing_acknowledged_is_lost_when_the_device_reboots() {
    let dialect = |seed| if seed % 2 == 0 { Dialect::Headers } else { Dialect::Upstream };
    for_each_seed("reboots", run(dialect, Payloads::Unique, true));
}

/// The conversation of a seed.
fn run(dialect: impl Fn(u64) -> Dialect, payloads: Payloads, reboots: bool) -> impl Fn(u64, bool) -> Trouble {
    move |seed, verbose| {
        let world = World::new(dialect(seed), Rng::new(seed), verbose);
        Run::new(world, payloads, reboots).goes(&WEATHER)
    }
}

/// Runs the seeds that the environment asks for. A world in which nothing goes wrong proves nothing.
pub(crate) fn for_each_seed(name: &str, run: impl Fn(u64, bool) -> Trouble) {
    if let Some((trouble, seeds)) = run_seeds(name, run) {
        let Trouble { resent, duplicates, refused, late, taken_over, crashes, commits, failures } = trouble;
        let least = [resent, duplicates, refused, late, taken_over].into_iter().min();
        assert!(least >= Some(seeds / 4), "{name}: too little trouble: {trouble:?}");
        let stored = commits == 0 || crashes.min(failures).min(commits / 10) >= seeds;
        assert!(stored, "{name}: too few crashes: {trouble:?}");
    }
}

/// Runs the seeds that the environment asks for. Returns what has gone wrong in how many of them,
/// unless there was but one.
pub(crate) fn run_seeds(name: &str, run: impl Fn(u64, bool) -> Trouble) -> Option<(Trouble, u64)> {
    let mut trouble = Trouble::default();
    let seeds = seeds::run_seeds(name, SEEDS, |seed, verbose| trouble += run(seed, verbose))?;
    Some((trouble, seeds))
}

/// What has gone wrong, so that the engine had to do something about it.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Trouble {
    pub(crate) resent: u64,
    pub(crate) duplicates: u64,
    pub(crate) refused: u64,
    /// Messages accepted some time after they came.
    pub(crate) late: u64,
    /// Links that took over from one that was still open.
    pub(crate) taken_over: u64,
    /// Where there are stores.
    pub(crate) crashes: u64,
    pub(crate) commits: u64,
    pub(crate) failures: u64,
}

impl Trouble {
    pub(crate) fn of(nodes: [&Node; 2]) -> Trouble {
        let mut trouble = Trouble::default();
        for node in nodes {
            let counters = node.session.counters();
            trouble += Trouble {
                resent: counters.resent,
                duplicates: counters.duplicates,
                refused: counters.refused,
                late: node.late,
                taken_over: node.taken_over,
                ..Trouble::default()
            };
        }
        trouble
    }
}

impl AddAssign for Trouble {
    fn add_assign(&mut self, other: Trouble) {
        self.resent += other.resent;
        self.duplicates += other.duplicates;
        self.refused += other.refused;
        self.late += other.late;
        self.taken_over += other.taken_over;
        self.crashes += other.crashes;
        self.commits += other.commits;
        self.failures += other.failures;
    }
}

/// One random conversation.
pub(crate) struct Run {
    world: World,
    payloads: Payloads,
    reboots: bool,
    /// Numbers messages, so that they differ.
    serial: u64,
    /// Qos messages accepted for sending, by sender's life: the server has one.
    from_server: Vec<String>,
    from_device: Vec<Vec<String>>,
    /// What the device was before each reboot.
    lives: Vec<Node>,
}

impl Run {
    pub(crate) fn new(world: World, payloads: Payloads, reboots: bool) -> Self {
        Run { world, payloads, reboots, serial: 0, from_server: vec![], from_device: vec![vec![]], lives: vec![] }
    }

    /// Through some weather, with the checker at the end.
    pub(crate) fn goes(mut self, weather: &Weather) -> Trouble {
        let end = self.goes_through(weather);
        self.check(end);
        Trouble::of([&self.world.device, &self.world.server])
    }

    fn queues(&mut self, side: Side) {
        self.serial += 1;
        let life = self.lives.len();
        let text = match self.payloads {
            Payloads::Unique => format!("q{life}.{}", self.serial),
            Payloads::Alike if self.world.rng.chance(60) => "on".to_string(),
            Payloads::Alike => "off".to_string(),
        };
        self.world.say(&format!("{side:?} queues {text}"));
        match side {
            Side::Device => self.from_device[life].push(text.clone()),
            Side::Server => self.from_server.push(text.clone()),
        }
        self.world.node(side).outbox.push_back(text);
    }

    fn check(&self, end: Instant) {
        let World { device, server, .. } = &self.world;
        assert!(self.is_done(), "not delivered within 3 timeouts, by {end:?}: {:?} {:?}", device.outbox, server.outbox);

        // Best effort: at most once.
        let mut times = HashMap::new();
        let lives = self.lives.iter().map(|life| &life.delivered).chain([&device.delivered, &server.delivered]);
        for text in lives.flatten().filter(|text| text.starts_with('b')) {
            *times.entry(text).or_insert(0) += 1;
        }
        assert!(times.values().all(|&times| times == 1), "best effort delivered twice: {times:?}");

        // From the device: in each life the beginning of what it sent, whole in the last one.
        let to_server = qos(server);
        for (number, sent) in self.from_device.iter().enumerate() {
            if number == self.lives.len() {
                let delivered = if self.reboots { of_life(&to_server, number) } else { to_server.clone() };
                assert_eq!(delivered, refs(sent), "to the server");
            } else {
                let delivered = of_life(&to_server, number);
                let acked = &self.lives[number].acked;
                assert_eq!(delivered, refs(&sent[..delivered.len()]), "to the server, life {number}");
                assert!(delivered.len() >= acked.len(), "life {number}: acknowledged and not delivered");
                assert_eq!(acked[..], sent[..acked.len()]);
            }
        }

        // To the device: everything once; only the message in flight at a reboot may come to both lives.
        let mut to_device: Vec<&str> = vec![];
        for life in self.lives.iter().chain([device]) {
            let mut delivered = qos(life);
            let again = self.reboots && delivered.first().is_some_and(|first| to_device.last() == Some(first));
            if again {
                delivered.remove(0);
            }
            to_device.extend(delivered);
        }
        assert_eq!(to_device, refs(&self.from_server), "to the device");

        for (node, sent) in [(device, self.from_device.last()), (server, Some(&self.from_server))] {
            assert_eq!(Some(&node.acked), sent, "acknowledged to {:?}", node.side);
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
            for _ in 0..self.world.rng.range(1, 40) {
                self.serial += 1;
                let text = format!("b{}", self.serial);
                self.world.node(side).best_effort.push_back(text);
            }
        }
        // Either a change of the outbox, or a wake-up for nothing.
        self.world.turns(side);
    }

    fn fails(&mut self) {
        match self.world.rng.range(0, if self.reboots { 12 } else { 9 }) {
            0..=3 => self.world.cuts(),
            4..=6 => self.world.breaks_half_open(),
            7..=9 => self.world.stalls(),
            _ => {
                let config = Config::new(Side::Device, TIMEOUT);
                let old = self.world.reboots_device(config);
                self.lives.push(old);
                self.from_device.push(vec![]);
            }
        }
    }

    fn is_done(&self) -> bool {
        let World { device, server, .. } = &self.world;
        device.outbox.is_empty() && server.outbox.is_empty()
    }
}

pub(crate) fn qos(node: &Node) -> Vec<&str> {
    node.delivered.iter().map(String::as_str).filter(|text| !text.starts_with('b')).collect()
}

fn of_life<'a>(texts: &[&'a str], life: usize) -> Vec<&'a str> {
    let mark = format!("q{life}.");
    texts.iter().copied().filter(|text| text.starts_with(&mark)).collect()
}

pub(crate) fn refs(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}
