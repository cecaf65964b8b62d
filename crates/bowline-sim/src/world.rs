//! One world: a server, its devices, what goes wrong between them, and the model that judges.

mod board;
mod device;
mod faults;
mod host;
mod server;
mod sink;
mod talk;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bowline_client::{Dialect, Limits};
use bowline_store::Durability;
use fastrand::Rng;
use tokio::sync::{Notify, mpsc};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::Instant;

use self::faults::{Fault, Kinds};
use self::host::Order;
use crate::keys::{self, Provisioned};
use crate::model::{Keeps, Stream};
use crate::net::{Direction, Net};
use crate::outside;

/// Silence after which ends give each other up, in milliseconds.
const TIMEOUT: u64 = 1_000;

/// How long it may take until everything pending is delivered when faults have stopped (P2), in timeouts. Dialects that
/// send one message at a time take [`ONE_LINE`] more for each that waits.
const HEALING: u64 = 3;

/// The server's pace towards boards, and the way there and back, in milliseconds.
const ONE_LINE: u64 = 60;

/// How a world is run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Links of devices that are to break before it heals.
    pub outages: u64,
    /// Faults, by their place in the world's list, that do not happen.
    pub without: Vec<usize>,
    /// No more faults than these, however few links have broken. Default: enough.
    pub most: Option<usize>,
    /// Whether what happens is written down.
    pub trace: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options { outages: 20, without: Vec::new(), most: None, trace: false }
    }
}

/// What became of a world.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// What was broken, if anything was.
    pub failure: Option<String>,
    /// What happened, if that was written down.
    pub trace: String,
    /// Of everything that happened: the same in two runs of the same seed.
    pub hash: u64,
    /// How often what happened.
    pub counts: BTreeMap<&'static str, u64>,
    /// Faults there were in the list.
    pub faults: usize,
}

/// What a device is.
#[derive(Debug, Clone)]
struct Nature {
    id: String,
    dialect: Dialect,
    /// What it was provisioned with.
    key: Option<String>,
    keeps: Keeps,
    durability: Durability,
    /// Whether it is a board, with the client for those, and a flash.
    board: bool,
    limits: Limits,
    /// Longest pause between two messages, in milliseconds, each way.
    pause: u64,
}

impl Nature {
    /// A board on lines does not know in the next life what it was given in this one.
    fn forgets_received(&self) -> bool {
        self.board && self.dialect == Dialect::Headers
    }
}

/// What all of a world share.
struct World {
    state: Mutex<State>,
    net: Net,
    start: Instant,
    natures: Vec<Nature>,
    provisioned: Arc<Provisioned>,
    server_durability: Durability,
    /// The server's apps take what devices send, and not its program: instances of two lives of a device work side by
    /// side, so only where devices have one.
    apps: bool,
    kinds: Kinds,
    /// Something was broken, or panicked.
    failed: Notify,
    trace: bool,
}

struct State {
    random: Rng,
    streams: Vec<[Stream; 2]>,
    outcome: Outcome,
    /// Of ended lives.
    connects: u64,
    quiet: bool,
}

type Shared = Arc<World>;

/// Runs worlds, one at a time in each thread. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Simulator(Arc<Provisioned>);

impl Simulator {
    /// What worlds have in common is made: some keys, in a temporary folder.
    ///
    /// # Errors
    /// When the system gives no folder.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Simulator(Arc::new(Provisioned::new()?)))
    }

    /// Runs the world of a seed.
    #[must_use]
    pub fn run(&self, seed: u64, options: &Options) -> Outcome {
        run(Arc::clone(&self.0), seed, options)
    }
}

fn run(provisioned: Arc<Provisioned>, seed: u64, options: &Options) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            return Outcome { failure: Some(format!("no runtime: {error}")), ..Outcome::default() };
        }
    };
    outside::begin(seed);
    let mut outcome = runtime.block_on(World::run(provisioned, seed, options));
    // Tasks that are left may say things as they go.
    drop(runtime);
    if let Some(panic) = outside::panicked() {
        outcome.failure.get_or_insert(panic);
    }
    outcome
}

impl World {
    async fn run(provisioned: Arc<Provisioned>, seed: u64, options: &Options) -> Outcome {
        let mut random = Rng::with_seed(seed);
        let natures = natures(&mut random, &provisioned);
        let server_durability = if random.u32(..10) < 7 { Durability::Fsync } else { Durability::Os };
        let streams = natures.iter().map(|nature| {
            let unpromised = nature.dialect == Dialect::Plain;
            let receiver = if nature.forgets_received() { Keeps::Nothing } else { nature.keeps };
            [Stream::new(nature.keeps, Keeps::All, unpromised), Stream::new(Keeps::All, receiver, unpromised)]
        });
        let state = State {
            streams: streams.collect(),
            outcome: Outcome::default(),
            connects: 0,
            quiet: false,
            random: random.fork(),
        };
        let apps = random.u32(..3) == 0 && natures.iter().all(|nature| nature.keeps == Keeps::All);
        let kinds = Kinds::draw(&mut random);
        let world = Arc::new(World {
            state: Mutex::new(state),
            net: Net::new(natures.len(), random.u64(..)),
            start: Instant::now(),
            natures,
            provisioned,
            server_durability,
            apps,
            kinds,
            failed: Notify::new(),
            trace: options.trace,
        });
        for (device, nature) in world.natures.iter().enumerate() {
            world.says("is", || {
                let Nature { id, dialect, key, keeps, durability, board, .. } = nature;
                let key = if key.is_some() { "sealed" } else { "open" };
                let what = if *board { ", a board" } else { "" };
                format!("d{device} ({id}): {dialect:?} {key}{what}, keeps {keeps:?}, {durability:?}")
            });
        }
        world.says("is", || format!("server: {server_durability:?}{}", if apps { ", with apps" } else { "" }));
        world.says("is", || format!("faults: {}", world.kinds));
        bowline_embedded_host::begin();
        let mut tasks = JoinSet::new();
        let boards = LocalSet::new();
        tasks.spawn(world.net.clone().run());
        let mut orders = Vec::new();
        for place in 0..=world.natures.len() {
            let (order, ordered) = mpsc::unbounded_channel();
            orders.push(order);
            if place == 0 {
                tasks.spawn(server::keep(Arc::clone(&world), ordered));
            } else if world.natures[place - 1].board {
                boards.spawn_local(board::keep(Arc::clone(&world), place - 1, ordered));
            } else {
                tasks.spawn(device::keep(Arc::clone(&world), place - 1, ordered));
            }
        }
        let lived = boards.run_until(async {
            world.suffers(seed, options, &orders).await;
            world.heals(&orders).await;
        });
        tokio::select! {
            biased;
            () = world.failed.notified() => {}
            () = lived => {}
        }
        tasks.shutdown().await;
        drop(boards);
        let mut state = world.lock();
        for streams in &state.streams.iter().map(|[up, down]| [up.counts(), down.counts()]).collect::<Vec<_>>() {
            for (name, (delivered, sent)) in ["up", "down"].iter().zip(streams) {
                let [came, went] =
                    if *name == "up" { ["delivered up", "sent up"] } else { ["delivered down", "sent down"] };
                *state.outcome.counts.entry(came).or_default() += delivered;
                *state.outcome.counts.entry(went).or_default() += sent;
            }
        }
        let connects = state.connects;
        *state.outcome.counts.entry("links").or_default() += connects;
        std::mem::take(&mut state.outcome)
    }

    /// One fault after the other, until there were enough outages.
    async fn suffers(self: &Arc<Self>, seed: u64, options: &Options, orders: &[mpsc::UnboundedSender<Order>]) {
        let most = 40 + usize::try_from(options.outages).unwrap_or(usize::MAX).saturating_mul(8);
        for at in 0..options.most.unwrap_or(most) {
            if options.most.is_none() && self.outages() >= options.outages {
                break;
            }
            self.lock().outcome.faults = at + 1;
            // Each by itself, so that leaving one out changes no other.
            let mut random = Rng::with_seed(seed ^ (at as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let fault = Fault::draw(&mut random, self);
            let pause = random.u64(10..=400);
            if !options.without.contains(&at) {
                fault.strikes(self, &mut random, orders, at);
            }
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }

    /// Links that have broken so far.
    fn outages(&self) -> u64 {
        self.lock().connects.saturating_sub(self.natures.len() as u64)
    }

    /// Faults stop: everything pending is to be delivered in time (P2).
    async fn heals(&self, orders: &[mpsc::UnboundedSender<Order>]) {
        self.says("heals", || "faults stop".to_owned());
        self.lock().quiet = true;
        for device in 0..self.natures.len() {
            self.net.change(device, |way| *way = crate::net::Way::default());
        }
        for order in orders {
            let _ = order.send(Order::Heal);
        }
        let begin = Instant::now();
        let limit = Duration::from_millis(HEALING * TIMEOUT + self.backlog());
        let mut missing = None;
        while begin.elapsed() < limit {
            tokio::time::sleep(Duration::from_millis(20)).await;
            // Who is bad harms only himself (P6, P7): that does not count as a fault.
            if begin.elapsed().as_millis().is_multiple_of(100) {
                (0..self.natures.len()).for_each(|device| self.replay(device));
            }
            missing = self.missing();
            if missing.is_none() {
                // What comes now comes twice.
                tokio::time::sleep(Duration::from_millis(2 * TIMEOUT)).await;
                self.says("healed", || format!("after {} ms", begin.elapsed().as_millis()));
                return;
            }
        }
        let missing = missing.unwrap_or_default();
        self.fail(format!("{} ms after the last fault: {missing}", limit.as_millis()));
    }

    /// How long what waits takes where messages go one at a time, as slowly as boards are sent them, in milliseconds.
    fn backlog(&self) -> u64 {
        let state = self.lock();
        let lines = |device: usize| !matches!(self.natures[device].dialect, Dialect::Native);
        let waiting = state.streams.iter().enumerate().filter(|(device, _)| lines(*device));
        waiting.map(|(_, [up, down])| up.waiting().max(down.waiting()) * ONE_LINE).max().unwrap_or(0)
    }

    fn missing(&self) -> Option<String> {
        let state = self.lock();
        let mut all = state.streams.iter().enumerate();
        all.find_map(|(device, [up, down])| {
            let up = up.missing().map(|missing| format!("d{device} up: {missing}"));
            up.or_else(|| down.missing().map(|missing| format!("d{device} down: {missing}")))
        })
    }

    /// What happens is counted, hashed, and written down if asked for.
    fn says(&self, kind: &'static str, what: impl FnOnce() -> String) {
        let mut state = self.lock();
        *state.outcome.counts.entry(kind).or_default() += 1;
        let at = self.start.elapsed().as_millis();
        let line = format!("{at:>8} {kind} {}\n", what());
        for byte in line.bytes() {
            state.outcome.hash = (state.outcome.hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
        if self.trace {
            let _ = state.outcome.trace.write_str(&line);
        }
    }

    /// A promise is broken.
    fn fail(&self, what: String) {
        self.says("BROKEN", || what.clone());
        let mut state = self.lock();
        state.outcome.failure.get_or_insert(what);
        drop(state);
        self.failed.notify_one();
    }

    /// What this machine gives, or the end of the world.
    fn gives<T>(&self, given: std::io::Result<T>) -> Option<T> {
        given.inspect_err(|error| self.fail(format!("this machine, not the world: {error}"))).ok()
    }

    fn judge(&self, device: usize, direction: Direction, result: Result<(), String>) {
        if let Err(broken) = result {
            self.fail(format!("d{device} {direction:?}: {broken}"));
        }
    }

    /// Something about a stream, under the lock.
    fn stream<T>(&self, device: usize, direction: Direction, f: impl FnOnce(&mut Stream) -> T) -> T {
        f(&mut self.lock().streams[device][usize::from(direction == Direction::Down)])
    }

    /// Random numbers for what the applications do.
    fn random<T>(&self, f: impl FnOnce(&mut Rng) -> T) -> T {
        f(&mut self.lock().random)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The id of a device without a key. A server tells P from U by the id alone.
fn open(device: usize, dialect: Dialect) -> String {
    format!("{}{device}", if dialect == Dialect::Plain { 'p' } else { 'd' })
}

/// One to three devices of all kinds.
fn natures(random: &mut Rng, provisioned: &Provisioned) -> Vec<Nature> {
    let count = 1 + random.usize(..3);
    (0..count)
        .map(|device| {
            let (dialect, sealed) = match random.u32(..100) {
                0..45 => (Dialect::Native, false),
                45..60 => (Dialect::Native, true),
                60..78 => (Dialect::Headers, false),
                78..95 => (Dialect::Upstream, false),
                _ => (Dialect::Plain, false),
            };
            let (id, key) =
                if sealed { (keys::id(device), provisioned.line(device)) } else { (open(device, dialect), None) };
            let board = matches!(dialect, Dialect::Native | Dialect::Headers) && random.u32(..3) == 0;
            let small = random.bool();
            let limits = Limits {
                inbox: if small { 4 + random.usize(..4) } else { 64 },
                outbox: if small { 4 + random.usize(..6) } else { 64 },
                queue_bytes: if random.bool() { 400 } else { 64 * 1024 },
                best_effort: 4,
                line: 512,
                ..Limits::default()
            };
            Nature {
                id,
                dialect,
                key,
                keeps: if board || random.u32(..10) < 7 { Keeps::All } else { Keeps::Nothing },
                durability: if board || random.u32(..10) < 7 { Durability::Fsync } else { Durability::Os },
                board,
                limits,
                pause: [300, 1_000, 2_500, 5_000][random.usize(..4)] / if board { 3 } else { 1 },
            }
        })
        .collect()
}
