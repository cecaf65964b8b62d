//! What syncing costs, and how many messages share it.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::fit::median;
use crate::generator::{Generator, number};
use crate::process;

/// This program as a server.
pub(crate) struct Counting {
    child: Child,
    asks: ChildStdin,
    says: BufReader<ChildStdout>,
    address: std::net::SocketAddr,
}

impl Counting {
    pub(crate) fn start(durability: &str, folder: &Path) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["serve", durability]).arg(folder.join(durability));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let asks = child.stdin.take().context("it is piped")?;
        let mut says = BufReader::new(child.stdout.take().context("it is piped")?);
        let mut line = String::new();
        says.read_line(&mut line)?;
        let address = line.trim().parse().context("the server did not start")?;
        Ok(Counting { child, asks, says, address })
    }

    /// Commits so far; with `fsync`, each is one sync.
    fn commits(&mut self) -> Result<f64> {
        writeln!(self.asks)?;
        let mut line = String::new();
        self.says.read_line(&mut line)?;
        Ok(line.trim().parse()?)
    }

    /// Has `bowline bench throughput` put load on it.
    pub(crate) fn load(&self, devices: u32, window: u32, amount: &[&str]) -> Result<serde_json::Value> {
        let (devices, window) = (devices.to_string(), window.to_string());
        let mut arguments = vec!["throughput", "--devices", &devices, "--window", &window, "--warm-up", "0"];
        arguments.extend(amount);
        Generator::start(&arguments, self.address, self.child.id(), None)?.report()
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn run(rounds: u32, seconds: f64) -> Result<()> {
    let folder = tempfile::tempdir_in(".")?;
    let seconds = seconds.to_string();
    println!(
        "{:>10} {:>12} {:>8} {:>14} {:>12} {:>12} {:>10}",
        "messages", "a second", "syncs", "each sync", "p50, µs", "memory, µs", "sync, µs"
    );
    for _ in 0..rounds {
        let sync = sync_time(folder.path())?;
        let memory = Counting::start("memory", folder.path())?.load(100, 16, &["--seconds", &seconds])?;
        let mut server = Counting::start("fsync", folder.path())?;
        let before = server.commits()?;
        let report = server.load(100, 16, &["--seconds", &seconds])?;
        let syncs = server.commits()? - before;
        let messages = number(&report, "/load/acknowledged")?;
        println!(
            "{messages:>10} {:>12.0} {syncs:>8} {:>14.1} {:>12.0} {:>12.0} {sync:>10.0}",
            number(&report, "/load/acknowledged_per_second")?,
            messages / syncs,
            number(&report, "/load/latency_us/p50")?,
            number(&memory, "/load/latency_us/p50")?,
        );
    }
    println!("load {:.1}", process::load());
    Ok(())
}

/// The median time of a sync behind 4 KiB, in microseconds.
fn sync_time(folder: &Path) -> Result<f64> {
    let mut file = File::create(folder.join("sync"))?;
    let mut times = Vec::new();
    for _ in 0..100 {
        let start = Instant::now();
        file.write_all(&[0x5a; 4096])?;
        file.sync_data()?;
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    Ok(median(&times))
}
