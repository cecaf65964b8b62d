//! Everybody comes back to a server that was killed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::fit::median;
use crate::generator::{Generator, Server, number};
use crate::process::{self, cpu_seconds};

/// Between two looks at what the server has used.
const STEP: Duration = Duration::from_millis(20);

pub(crate) fn run(devices: u32, rounds: u32) -> Result<()> {
    println!(
        "{:<20} {:>10} {:>12} {:>14} {:>9} {:>8} {:>9}",
        "", "back", "after, s", "server CPU, s", "refused", "failed", "resumed"
    );
    for (name, sealed) in [("bowline open", false), ("bowline encrypted", true)] {
        let mut cpus = Vec::new();
        for _ in 0..rounds {
            let folder = tempfile::tempdir()?;
            let server = Server::start(folder.path())?;
            let keys = if sealed { Some(server.keys(devices)?) } else { None };
            std::thread::sleep(std::time::Duration::from_millis(300));
            let count = devices.to_string();
            let arguments = ["storm", "--devices", &count, "--restarts", "--patience", "30"];
            let mut generator = Generator::start(&arguments, server.address, server.pid(), keys.as_deref())?;
            generator.says("waiting until the server cuts")?;
            let killed = Instant::now();
            let server = server.crashes()?;
            let meter = Meter::start(server.pid(), killed);
            let report = generator.report()?;
            let of = |path: &str| number(&report, path);
            // Its start is in it: what it has read of its store, too.
            let cpu = meter.at(of("/storm/seconds")?)?;
            println!(
                "{name:<20} {:>10} {:>12.2} {cpu:>14.2} {:>9} {:>8} {:>9}",
                of("/storm/back")?,
                of("/storm/seconds")?,
                of("/storm/refused")?,
                of("/storm/failed")?,
                of("/storm/resumed")?,
            );
            cpus.push(cpu);
        }
        let middle = median(&cpus);
        println!("{name:<20} {:.0} logins for a second of the server's processor time", f64::from(devices) / middle);
    }
    println!("load {:.1}", process::load());
    Ok(())
}

/// Looks again and again at what a server has used: only in the end it is known when everybody was back.
struct Meter {
    stop: Arc<AtomicBool>,
    looks: JoinHandle<Vec<(f64, f64)>>,
}

impl Meter {
    fn start(pid: u32, since: Instant) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let looks = std::thread::spawn(move || {
            let mut looks = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                looks.extend(cpu_seconds(pid).map(|used| (since.elapsed().as_secs_f64(), used)));
                std::thread::sleep(STEP);
            }
            looks
        });
        Meter { stop, looks }
    }

    /// What it had used so many seconds after `since`.
    fn at(self, seconds: f64) -> Result<f64> {
        self.stop.store(true, Ordering::Relaxed);
        let looks = self.looks.join().ok().context("the meter has failed")?;
        let used = looks.iter().find(|(at, _)| *at >= seconds).or(looks.last());
        used.map(|(_, used)| *used).context("the server was gone before it was looked at")
    }
}
