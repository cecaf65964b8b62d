//! Records a second: what one commit for many is worth. `cargo bench -p bowline-store --bench commit`.
//!
//! A record is what one message costs: the message (116 bytes) and the session that remembers it, in
//! one transaction. `TMPDIR` says which disk is measured.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use bowline_store::{Change, Durability, InboxMessage, Limits, Millis, Quota, Seq, Store, Transaction};

const TIME: Duration = Duration::from_secs(3);
const DEVICES: u64 = 100;

fn main() {
    println!("116-byte records with their session, {DEVICES} devices");
    println!(
        "{:>8} {:>12} {:>12} {:>14} {:>10} {:>10}",
        "", "in flight", "records/s", "per commit", "p50 ms", "p99 ms"
    );
    for durability in [Durability::Fsync, Durability::Os, Durability::Memory] {
        let mut one = None;
        for in_flight in [1, 64, 512] {
            let measured = measure(durability, in_flight);
            let rate = measured.records as f64 / measured.time.as_secs_f64();
            let ratio = rate / *one.get_or_insert(rate);
            println!(
                "{:>8} {in_flight:>12} {rate:>12.0} {:>14.1} {:>10.2} {:>10.2}   {ratio:.1} x one at a time",
                format!("{durability:?}"),
                measured.records as f64 / measured.commits as f64,
                measured.latency(0.5),
                measured.latency(0.99),
            );
        }
    }
}

struct Measured {
    records: u64,
    commits: u64,
    time: Duration,
    latencies: Vec<Duration>,
}

impl Measured {
    fn latency(&self, part: f64) -> f64 {
        self.latencies[(self.latencies.len() as f64 * part) as usize].as_secs_f64() * 1e3
    }
}

/// Keeps so many transactions on their way.
fn measure(durability: Durability, in_flight: u64) -> Measured {
    let folder = tempfile::tempdir().expect("a folder");
    let quota = Quota { count: u64::MAX >> 1, bytes: u64::MAX >> 1 };
    let limits = Limits { inbox: quota, ..Limits::default() };
    let store = Store::open(folder.path(), durability, limits).expect("opens");
    let devices: Transaction = (0..DEVICES).map(|id| Change::device(id.to_string(), true, Millis(0))).collect();
    store.commit(devices).wait().expect("commits");

    let (answered, answers) = mpsc::channel();
    let submit = |n: u64| {
        let (device, answered, start) = ((n % DEVICES).to_string(), answered.clone(), Instant::now());
        let message = InboxMessage {
            seq: Seq(n),
            epoch: 1,
            qos: true,
            received_at: Millis(n),
            header: vec![0; 3].into(),
            payload: vec![n as u8; 113].into(),
        };
        let mut transaction = Transaction::new()
            .with(Change::Receive { device: device.as_str().into(), message })
            .with(Change::Session { device: device.as_str().into(), format: 1, state: vec![0; 64] });
        // The app keeps up, so that the database does not grow.
        if n > 50 * DEVICES {
            transaction.push(Change::Processed { device: device.as_str().into(), through: Seq(n - 50 * DEVICES) });
        }
        let then = move |answer: Result<_, _>| {
            answer.expect("commits");
            // The receiver may have stopped counting.
            let _ = answered.send(start.elapsed());
        };
        store.commit_with(transaction, then).expect("there is room");
    };
    let commits = store.stats().commits;
    let start = Instant::now();
    let mut next = 1;
    while next <= in_flight {
        submit(next);
        next += 1;
    }
    let mut latencies = Vec::new();
    while start.elapsed() < TIME {
        latencies.push(answers.recv().expect("answers come"));
        submit(next);
        next += 1;
    }
    let (time, commits) = (start.elapsed(), store.stats().commits - commits);
    let records = latencies.len() as u64;
    latencies.sort_unstable();
    Measured { records, commits, time, latencies }
}
