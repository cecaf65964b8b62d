//! Faults of every kind, one after the other and several at a time: a real `bowline serve` and its devices, of all
//! dialects that promise something, are killed and frozen; their network is late, in pieces, one-way or down; the
//! disk is full. Then everything heals, and whatever was accepted must have come exactly once and in order, both ways.
//!
//! `BOWLINE_CHAOS_MINUTES=5` (as root) goes on for so long, in network namespaces of its own; without, it is a few
//! seconds on this machine as it is. `BOWLINE_SEED=<seed>` has much the same faults as an earlier run; the
//! processes are not deterministic, and a fault that is there already is left out.

mod crew;
mod fault;
mod proxy;
mod speaker;
mod world;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread::sleep;
use std::time::{Duration, Instant};

use self::crew::Crew;
use self::fault::Fault;
use self::proxy::POST;
use self::speaker::Speaker;
use self::world::World;
use crate::ledger::{Counts, Extent};
use crate::role::{CREW, Stream};

/// How long everything may take to arrive, on a busy machine, when nothing is wrong any more.
const PATIENCE: Duration = Duration::from_secs(90);

/// Between two looks at what has happened: nobody tells when another process has written.
const LOOK: Duration = Duration::from_millis(20);

/// Longest pause between two faults, in milliseconds.
const PAUSE: u64 = 1600;

#[test]
fn nothing_is_lost_or_doubled_by_chaos() {
    if let Ok(post) = std::env::var(POST) {
        return proxy::run(serde_json::from_str(&post).unwrap());
    }
    let _turn = crate::TURN.lock();
    match std::env::var("BOWLINE_CHAOS_MINUTES") {
        Ok(minutes) => {
            let minutes: f64 = minutes.parse().expect("BOWLINE_CHAOS_MINUTES is a number");
            Crew::starts(World::of_namespaces).survives(Duration::from_secs_f64(minutes * 60.0));
        }
        Err(_) => Crew::starts(|_| World::Plain).survives(Duration::from_secs(15)),
    }
}

impl Crew {
    /// Has faults for so long, heals, lets everything arrive, and compares.
    fn survives(mut self, time: Duration) {
        let result = catch_unwind(AssertUnwindSafe(|| self.suffers_and_is_counted(time)));
        if let Err(panic) = result {
            eprintln!("chaos: seed {}, faults:\n{}", self.seed, self.told());
            eprintln!("what they wrote is in {}", self.folder.path().display());
            // The disk is gone with the world; the rest stays.
            self.folder.disable_cleanup(true);
            resume_unwind(panic);
        }
    }

    fn suffers_and_is_counted(&mut self, time: Duration) {
        let (mut said, mut looked) = (Instant::now(), Instant::now());
        let mut next = Instant::now();
        while self.start.elapsed() < time {
            if next <= Instant::now() {
                self.has_a_fault();
                next = Instant::now() + Duration::from_millis(self.random.u64(0..PAUSE));
            }
            self.heals(Instant::now());
            self.keeps_server();
            if said.elapsed() > Duration::from_secs(10) {
                said = Instant::now();
                let taken: u64 = streams().map(|stream| stream.taken(&self.diaries())).sum();
                eprintln!(
                    "chaos: {:.0?} of {time:.0?}, {} faults, {taken} messages have come",
                    self.start.elapsed(),
                    self.history.len()
                );
            }
            if looked.elapsed() > Duration::from_secs(30) {
                looked = Instant::now();
                self.compares(Extent::SoFar);
            }
            sleep(LOOK);
        }
        // Everything heals. Devices start once more, and send one message more.
        self.heals(self.start + time + Duration::from_secs(3600));
        for place in 0..CREW.len() {
            self.roles[place].is_last = true;
            self.restarts_device(place);
        }
        self.speakers.iter().for_each(Speaker::finishes);
        let healing = self.drains();
        // Before they are killed: nothing comes twice behind the last ones.
        self.speakers.clear();
        let dead = self.bowline(&["dead", "list", "--json"]);
        for device in &mut self.devices {
            device.is_killed();
        }
        let counts = self.compares(Extent::Whole);
        assert_eq!(dead.trim(), "[]", "dead letters");
        self.reports(time, healing, &counts);
    }

    fn has_a_fault(&mut self) {
        let with_world = matches!(self.world, World::Namespaces(_));
        let fault = match self.history.len() {
            // Later the store has the room it needs in its files.
            0 if with_world => Fault::DiskFull,
            _ => Fault::random(&mut self.random, with_world),
        };
        let lasts = fault.lasts(&mut self.random);
        if self.faults.iter().any(|(_, other)| fault.excludes(other)) {
            return;
        }
        self.history.push((self.start.elapsed(), fault, lasts));
        self.begins(fault);
        if lasts > Duration::ZERO {
            self.faults.push((Instant::now() + lasts, fault));
        }
    }

    /// Ends the faults whose time is over.
    fn heals(&mut self, now: Instant) {
        let (over, stay) = self.faults.drain(..).partition(|(until, _)| *until <= now);
        self.faults = stay;
        let over: Vec<(Instant, Fault)> = over;
        for (_, fault) in over {
            self.ends(fault);
        }
    }

    /// As its service manager: without room on its disk it cannot start, nor without descriptors.
    fn keeps_server(&mut self) {
        for process in self.devices.iter_mut().chain(&mut self.proxies) {
            process.is_alive();
        }
        for device in &self.devices {
            let told = device.errors();
            assert!(told.is_empty(), "{} says: {told}", device.name());
        }
        if self.server.has_ended() {
            let told = last_lines(&self.server.errors());
            // It may have begun to start before the disk was empty again, and have ended after it.
            let since = |at: Duration, lasts: Duration| at + lasts + Duration::from_secs(3) > self.start.elapsed();
            let refuses = |fault: &Fault| match fault {
                Fault::DiskFull => true,
                // Taken from it while it starts. One that has started goes on without.
                Fault::Descriptors(_) => told.contains("the server did not start"),
                _ => false,
            };
            let is_refused = self.history.iter().any(|(at, fault, lasts)| refuses(fault) && since(*at, *lasts));
            assert!(is_refused, "the server has ended by itself: {told}");
            self.refused_starts += 1;
            sleep(Duration::from_millis(100));
            self.starts_server();
        }
    }

    /// Waits until every sender and every receiver is done. Says how long that took.
    fn drains(&mut self) -> Duration {
        let start = Instant::now();
        loop {
            self.keeps_server();
            let diaries = self.diaries();
            let pending: Vec<String> = streams().filter_map(|stream| stream.pending(&diaries)).collect();
            if pending.is_empty() {
                return start.elapsed();
            }
            if start.elapsed() > PATIENCE {
                // Whatever is wrong in what has come tells more than what is missing.
                self.compares(Extent::SoFar);
                panic!("stuck: after {PATIENCE:?} there is still to come: {}", pending.join(", "));
            }
            sleep(LOOK);
        }
    }

    fn compares(&self, extent: Extent) -> BTreeMap<&'static str, Counts> {
        let mut counts: BTreeMap<_, Counts> = BTreeMap::new();
        for stream in streams() {
            let of_stream = stream.compare(&self.diaries(), extent).unwrap_or_else(|problem| panic!("{problem}"));
            let sum = counts.entry(stream.way).or_default();
            *sum = [*sum, of_stream].into_iter().sum();
        }
        counts
    }

    /// The faults so far.
    fn told(&self) -> String {
        let mut told = String::new();
        for (at, fault, lasts) in &self.history {
            let _ = writeln!(told, "{:>9} ms  {fault:?} for {} ms", at.as_millis(), lasts.as_millis());
        }
        told
    }

    fn reports(&self, time: Duration, healing: Duration, counts: &BTreeMap<&str, Counts>) {
        let mut kinds: BTreeMap<&str, u32> = BTreeMap::new();
        self.history.iter().for_each(|(_, fault, _)| *kinds.entry(fault.kind()).or_default() += 1);
        let log = self.server.errors();
        let said = |words: &str| log.lines().filter(|line| line.contains(words)).count();
        eprintln!(
            "chaos: seed {}, {} faults in {time:.0?}; all there {healing:.1?} after the last",
            self.seed,
            self.history.len()
        );
        for (kind, times) in kinds {
            eprintln!("  {times:>5} × {kind}");
        }
        eprintln!(
            "  times that nothing could be stored {}, that nobody could connect {}, that the server could not start {}",
            said("cannot store"),
            said("cannot accept"),
            self.refused_starts,
        );
        let mut reasons: BTreeMap<&str, u32> = BTreeMap::new();
        let ends = log.lines().filter_map(|line| line.split_once("link down: ")?.1.split(" device=").next());
        ends.for_each(|reason| *reasons.entry(reason).or_default() += 1);
        eprintln!("  links ended, by what the server said:");
        for (reason, times) in reasons {
            eprintln!("  {times:>5} × {reason}");
        }
        for (way, counts) in counts {
            eprintln!("  {way}: {counts}");
        }
        eprintln!("  lost 0, doubled 0, out of order 0");
    }
}

fn streams() -> impl Iterator<Item = Stream> {
    CREW.iter().flat_map(|kind| kind.streams())
}

fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
