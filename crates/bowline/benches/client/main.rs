//! Throughput of the client library with many qos messages in flight, from a device to the application at the server's
//! end, and of what a device's own store takes; everyone in turn, in one run. The server alone, and against others, is
//! measured by `compare`.
//!
//! `cargo bench -p bowline --bench client [-- ROUNDS]`
//!
//! A round ends when every message was acknowledged *and* taken by the application at the other end.

mod bowline;

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bowline_store::Durability;
use tokio::runtime::Runtime;
use tokio::sync::Notify;

use self::bowline::{Devices, Kind};

/// Messages on their way at a time, of each device.
const WINDOW: usize = 256;

/// Messages of one device in a round.
const MESSAGES: u64 = 20_000;

/// Devices on the server that syncs, with so many messages each in a round.
const FLEET: usize = 100;
const FLEET_MESSAGES: u64 = 300;

/// Synced writes in a round.
const SYNCS: u32 = 200;

/// 256 bytes of JSON.
const PAYLOAD: &str = concat!(
    r#"{"sensor": "attic", "values": [21.25, 48.0, 1013.2, 0.0, 1.5, 12.75, 33.1, 9.0, 21.25, 48.0, 1013.2, 0.0, "#,
    r#"1.5, 12.75, 33.1, 9.0, 21.25, 48.0, 1013.2, 0.0, 1.5, 12.75, 33.1, 9.0], "battery": 3.71, "uptime": 1234567, "#,
    r#""note": "nothing to report and no alarm"}"#
);

fn main() {
    let rounds = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(7);
    // Servers and those who receive share a thread, those who send have one; the store
    // has its own anyway.
    let servers = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let devices = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    devices.block_on(run(rounds, &servers));
}

async fn run(rounds: usize, servers: &Runtime) {
    assert_eq!(PAYLOAD.len(), 256);
    let disk = tempfile::tempdir().unwrap();
    println!("qos messages over loopback, {}-byte payload, {WINDOW} in flight, {rounds} rounds", PAYLOAD.len());

    let os = bowline::Host::start(servers, &disk.path().join("os"), Durability::Os).await;
    let mut table = Table::default();
    let sealed = table.row("bowline N encrypted, os", os.devices(Kind::Sealed, 1).await);
    let open = table.row("bowline N open, os", os.devices(Kind::Open, 1).await);
    let folder = disk.path().join("device");
    let stored = table.row("bowline N encrypted, os at both ends", os.devices(Kind::Stored(&folder), 1).await);
    let fsync = bowline::Host::start(servers, &disk.path().join("fsync"), Durability::Fsync).await;
    let fleet = table.row("bowline N encrypted, fsync, 100 devices", fsync.devices(Kind::Sealed, FLEET).await);
    let syncs = table.row("append and fdatasync, one message each", Disk::create(&disk.path().join("log")));

    table.measure(rounds).await;
    table.print();

    println!();
    table.ratio("os at both ends", stored, sealed);
    table.ratio("encrypted", sealed, open);
    table.ratio("fsync, 100 devices", fleet, syncs);
    table.end().await;
}

/// Whoever is measured.
enum Contender {
    Devices(Devices),
    Disk(Disk),
}

impl Contender {
    /// One round: how many messages, in what time.
    async fn round(&mut self) -> (u64, Duration) {
        let start = Instant::now();
        let count = match self {
            Contender::Devices(devices) => devices.send_all().await,
            Contender::Disk(disk) => disk.write(SYNCS),
        };
        (count, start.elapsed())
    }
}

impl From<Devices> for Contender {
    fn from(devices: Devices) -> Self {
        Contender::Devices(devices)
    }
}

impl From<Disk> for Contender {
    fn from(disk: Disk) -> Self {
        Contender::Disk(disk)
    }
}

/// A file on the stores' disk: what one sync a message gives.
struct Disk(File);

impl Disk {
    fn create(path: &Path) -> Self {
        Disk(File::create(path).unwrap())
    }

    fn write(&mut self, count: u32) -> u64 {
        for _ in 0..count {
            self.0.write_all(PAYLOAD.as_bytes()).unwrap();
            self.0.sync_data().unwrap();
        }
        count.into()
    }
}

#[derive(Default)]
struct Table(Vec<Row>);

struct Row {
    name: &'static str,
    contender: Contender,
    /// Messages a second, of each round.
    rates: Vec<f64>,
}

impl Table {
    fn row(&mut self, name: &'static str, contender: impl Into<Contender>) -> usize {
        self.0.push(Row { name, contender: contender.into(), rates: Vec::new() });
        self.0.len() - 1
    }

    /// Everyone in turn; the first round only warms up.
    async fn measure(&mut self, rounds: usize) {
        for round in 0..=rounds {
            for row in &mut self.0 {
                let (count, time) = row.contender.round().await;
                if round > 0 {
                    row.rates.push(count as f64 / time.as_secs_f64());
                }
            }
        }
        for row in &mut self.0 {
            row.rates.sort_unstable_by(f64::total_cmp);
        }
    }

    fn print(&self) {
        println!("{:44} {:>12} {:>10} {:>10}", "messages a second", "median", "slowest", "fastest");
        for Row { name, rates, .. } in &self.0 {
            println!("{name:44} {:12.0} {:10.0} {:10.0}", median(rates), rates[0], rates[rates.len() - 1]);
        }
    }

    fn ratio(&self, name: &str, row: usize, other: usize) {
        let [row, other] = [row, other].map(|row| &self.0[row]);
        println!("{name:20} / {:44} {:8.2} x", other.name, median(&row.rates) / median(&other.rates));
    }

    async fn end(self) {
        for row in self.0 {
            if let Contender::Devices(devices) = row.contender {
                devices.close().await;
            }
        }
    }
}

fn median(sorted: &[f64]) -> f64 {
    sorted[sorted.len() / 2]
}

/// Counts what arrives, for one who waits for all of it.
#[derive(Default)]
struct Counter {
    count: AtomicU64,
    goal: AtomicU64,
    reached: Notify,
}

impl Counter {
    fn one(&self) {
        let count = self.count.fetch_add(1, Ordering::SeqCst) + 1;
        if count == self.goal.load(Ordering::SeqCst) {
            self.reached.notify_one();
        }
    }

    /// Waits until so many have arrived since the start.
    async fn reach(&self, goal: u64) {
        self.goal.store(goal, Ordering::SeqCst);
        while self.count.load(Ordering::SeqCst) < goal {
            self.reached.notified().await;
        }
    }
}
