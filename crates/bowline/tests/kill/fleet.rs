//! The processes, and what is done to them.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread::sleep;
use std::time::{Duration, Instant};

use bowline_server::{Date, Keys};
use bowline_store::Durability;
use tempfile::TempDir;

use crate::ledger::{Counts, Extent};
use crate::process::Process;
use crate::role::{FLEET, Role, Stream};

/// How long everything may take to arrive, on a busy machine, when nobody is killed any more.
const PATIENCE: Duration = Duration::from_secs(60);

/// Kills before what has come so far is compared; then twice as many, and so on.
const FIRST_LOOK: u32 = 10;

/// Between two looks at the diaries: nobody tells when another process has written.
const LOOK: Duration = Duration::from_millis(20);

/// How long the fleet is left alone between kills.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pauses {
    pub(crate) shortest: Duration,
    pub(crate) longest: Duration,
}

/// A server and its devices.
pub(crate) struct Fleet {
    name: &'static str,
    /// Of the server, then of the devices.
    roles: Vec<Role>,
    processes: Vec<Process>,
    random: fastrand::Rng,
    seed: u64,
    start: Instant,
    history: Vec<(Duration, Kill)>,
    folder: TempDir,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kill {
    Server,
    Device(usize),
    Both(usize),
}

impl Fleet {
    pub(crate) fn starts(name: &'static str, durability: Durability) -> Self {
        let seed = match std::env::var("BOWLINE_SEED") {
            Ok(seed) => seed.parse().expect("BOWLINE_SEED is a number"),
            Err(_) => fastrand::u64(..),
        };
        eprintln!("{name}: seed {seed}");
        let folder = TempDir::with_prefix("bowline-kill-").unwrap();
        let server = Role {
            device: None,
            is_crew: false,
            folder: folder.path().to_owned(),
            address: free_address(),
            key: None,
            fsync: durability == Durability::Fsync,
            seed,
            is_last: false,
        };
        fs::create_dir(server.diaries()).unwrap();
        let keys = Keys::open(&server.home()).unwrap();
        let mut roles = vec![server.clone()];
        for (place, kind) in FLEET.iter().enumerate() {
            let issued = kind.has_key.then(|| keys.issue(kind.id, Date::from_unix(0)).unwrap());
            let key = issued.map(|issued| issued.line().to_string());
            roles.push(Role { device: Some(place), key, ..server.clone() });
        }
        let processes = roles.iter().map(|role| Process::plays(role, &[])).collect();
        let (random, start) = (fastrand::Rng::with_seed(seed), Instant::now());
        Fleet { name, roles, processes, random, seed, start, history: Vec::new(), folder }
    }

    /// Kills so many times, lets everything arrive, and compares.
    pub(crate) fn survives(mut self, kills: u32, pauses: Pauses) {
        let result = catch_unwind(AssertUnwindSafe(|| self.is_killed_and_counted(kills, pauses)));
        // Before anything is reported, so that nothing goes on in the diaries.
        self.processes.clear();
        if let Err(panic) = result {
            self.folder.disable_cleanup(true);
            eprintln!("{}: seed {}, kills:\n{}", self.name, self.seed, self.told());
            eprintln!("what they wrote is in {}", self.folder.path().display());
            resume_unwind(panic);
        }
    }

    fn is_killed_and_counted(&mut self, kills: u32, pauses: Pauses) {
        let (mut said, mut next_look) = (Instant::now(), FIRST_LOOK);
        for kill in 1..=kills {
            sleep(self.random_pause(pauses));
            self.is_killed();
            if kill == next_look {
                next_look *= 2;
                self.looks();
            }
            if said.elapsed() > Duration::from_secs(5) {
                said = Instant::now();
                eprintln!("{}: {kill} of {kills} kills", self.name);
            }
        }
        let killing = self.start.elapsed();
        // The last kill is that of all, and their last lives send one message more.
        for place in 0..self.processes.len() {
            self.processes[place].is_killed();
        }
        for place in 0..self.processes.len() {
            self.roles[place].is_last = true;
            self.starts_again(place);
        }
        let drained = self.drains();
        for process in &mut self.processes {
            process.is_killed();
        }

        let [mut up, mut down, mut echo] = [Counts::default(); 3];
        for stream in streams() {
            let sum = match stream.way {
                "up" => &mut up,
                "down" => &mut down,
                _ => &mut echo,
            };
            *sum = [*sum, self.compares(stream, Extent::Whole)].into_iter().sum();
        }
        let count = |kind: fn(&Kill) -> bool| self.history.iter().filter(|(_, kill)| kind(kill)).count();
        eprintln!(
            "{}: {} kills in {killing:.1?}: of the server {}, of a device {}, of both {}; then of all; all there {drained:.1?} \
             after\n  up: {up}\n  down: {down}\n  asked and answered: {echo}\n  lost 0, doubled 0, out of order 0",
            self.name,
            self.history.len(),
            count(|kill| matches!(kill, Kill::Server)),
            count(|kill| matches!(kill, Kill::Device(_))),
            count(|kill| matches!(kill, Kill::Both(_))),
        );
    }

    fn random_pause(&mut self, Pauses { shortest, longest }: Pauses) -> Duration {
        shortest + (longest - shortest).mul_f64(self.random.f64())
    }

    /// One kill, and the processes are started again at once.
    fn is_killed(&mut self) {
        let device = self.random.usize(0..FLEET.len());
        let kill = match self.random.u8(0..100) {
            0..35 => Kill::Server,
            35..85 => Kill::Device(device),
            _ => Kill::Both(device),
        };
        self.history.push((self.start.elapsed(), kill));
        let places = match kill {
            Kill::Server => vec![0],
            Kill::Device(device) => vec![1 + device],
            Kill::Both(device) => vec![0, 1 + device],
        };
        for place in &places {
            self.processes[*place].is_killed();
        }
        for place in places {
            self.starts_again(place);
        }
    }

    fn starts_again(&mut self, place: usize) {
        self.roles[place].seed = self.random.u64(..);
        self.processes[place] = Process::plays(&self.roles[place], &[]);
    }

    /// Waits until every sender and every receiver is done. Says how long that took.
    fn drains(&mut self) -> Duration {
        let (start, mut said) = (Instant::now(), Instant::now());
        loop {
            let diaries = self.roles[0].diaries();
            let pending: Vec<_> = streams().filter_map(|stream| stream.pending(&diaries)).collect();
            if pending.is_empty() {
                return start.elapsed();
            }
            self.is_well();
            if said.elapsed() > Duration::from_secs(2) {
                said = Instant::now();
                eprintln!("{}: waiting for {}", self.name, pending.join(", "));
            }
            if start.elapsed() > PATIENCE {
                // Whatever is wrong in what has come tells more than what is missing.
                self.looks();
                panic!(
                    "stuck: nothing was lost, and after {PATIENCE:?} there is still to come: {}",
                    pending.join(", ")
                );
            }
            sleep(LOOK);
        }
    }

    /// Whether anything is wrong in what has come so far.
    fn looks(&mut self) {
        self.is_well();
        let _: Counts = streams().map(|stream| self.compares(stream, Extent::SoFar)).sum();
    }

    /// Everybody is alive, and has no error to tell.
    fn is_well(&mut self) {
        for process in &mut self.processes {
            process.is_alive();
            let told = process.errors();
            let kills = self.history.len();
            assert!(told.is_empty(), "after {kills} kills, {} says: {told}", process.name());
        }
    }

    fn compares(&self, stream: Stream, extent: Extent) -> Counts {
        match stream.compare(&self.roles[0].diaries(), extent) {
            Ok(counts) => counts,
            Err(problem) => panic!("after {} kills, {problem}", self.history.len()),
        }
    }

    /// The kills so far.
    fn told(&self) -> String {
        let mut told = String::new();
        for (at, kill) in &self.history {
            let who = match *kill {
                Kill::Server => "server".to_owned(),
                Kill::Device(device) => FLEET[device].id.to_owned(),
                Kill::Both(device) => format!("server and {}", FLEET[device].id),
            };
            let _ = writeln!(told, "{:>9} ms {who}", at.as_millis());
        }
        told
    }
}

fn streams() -> impl Iterator<Item = Stream> {
    FLEET.iter().flat_map(|kind| kind.streams())
}

/// A port that is free, and that the system gives nobody while the server is away: not one of those it
/// takes for connections (from 32,768 on), or a device could find itself connected to itself.
pub(crate) fn free_address() -> SocketAddr {
    (0..1_000)
        .map(|_| SocketAddr::from((Ipv4Addr::LOCALHOST, fastrand::u16(20_000..32_000))))
        .find(|address| TcpListener::bind(address).is_ok())
        .expect("one of a thousand ports is free")
}
