//! Bowline and its peers in turn, on one machine, by the same amounts: latency of one device, throughput of many, and
//! what that takes of the server's processor.
//!
//! `cargo bench -p bowline --bench compare -- --help`

mod echo;
mod load;
mod mqtt;
mod nats;
mod ours;
mod plot;
mod process;
mod reference;
mod table;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand};

use self::load::{Amount, Figures};
use self::ours::Bowline;
use self::process::Process;
use self::reference::Reference;
use self::table::{Report, Table};

/// Bowline against mosquitto, NATS JetStream and an echo of the same bytes.
///
/// Every round runs all of them in turn; figures are medians of rounds, ratios are medians of the rounds' ratios, with
/// the lowest and the highest. mosquitto is measured if it is installed, NATS if a program `nats-server` is found (or
/// BOWLINE_NATS names one), the MicroPython library that Bowline takes over from if BOWLINE_REFERENCE names the
/// folder of its package.
#[derive(Parser)]
#[command(name = "compare")]
struct Args {
    /// How often each is measured
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How long each is measured, after half a second that does not count
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Devices, where throughput is measured
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    devices: u32,
    /// Messages of each of them that are on their way at a time
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=32_767))]
    window: u32,
    /// Bytes of a payload
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(32..=16_000))]
    bytes: u32,
    /// Measure those whose name contains this, and no others; may be repeated
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
    /// Write a plot of the medians, too
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// What cargo says.
    #[arg(long, hide = true)]
    bench: bool,
    #[command(subcommand)]
    server: Option<Serve>,
}

/// This program as a server.
#[derive(Subcommand)]
#[command(hide = true)]
enum Serve {
    #[command(hide = true)]
    Echo,
    #[command(hide = true)]
    Bowline { durability: String, folder: PathBuf, devices: u32 },
}

/// Everyone who serves.
struct Servers {
    memory: Bowline,
    os: Bowline,
    fsync: Bowline,
    echo: Process,
    mosquitto: Option<Process>,
    nats: Option<Process>,
    reference: Option<Reference>,
}

/// Who is measured.
#[derive(Clone, Copy)]
enum Contender<'a> {
    Bowline { server: &'a Bowline, dialect: &'static str, sealed: bool },
    Mosquitto(&'a Process, u8),
    Nats(&'a Process),
    Reference(&'a Reference),
    Echo(&'a Process),
}

/// Several, with their names.
type Named<'a> = Vec<(&'static str, Contender<'a>)>;

fn main() -> Result<()> {
    let args = Args::parse();
    let runtime = tokio::runtime::Runtime::new()?;
    match &args.server {
        Some(Serve::Echo) => runtime.block_on(echo::serve()),
        Some(Serve::Bowline { durability, folder, devices }) => {
            runtime.block_on(ours::serve(durability, folder, *devices))
        }
        None => runtime.block_on(compare(&args)),
    }
}

async fn compare(args: &Args) -> Result<()> {
    if !(0.1..=600.0).contains(&args.seconds) {
        bail!("--seconds: expected 0.1 to 600, got {}", args.seconds);
    }
    let folder = tempfile::tempdir()?;
    let servers = Servers::start(folder.path(), args).await?;
    let (window, bytes) = (args.window as usize, args.bytes as usize);
    let seconds = Duration::from_secs_f64(args.seconds);
    let many = Amount { devices: args.devices, window, bytes, seconds };
    let one = Amount { devices: 1, window: 1, bytes, seconds };
    let (latencies, throughputs) = servers.contenders();
    let wanted = |(name, _): &(&str, Contender<'_>)| {
        args.only.is_empty() || args.only.iter().any(|part| name.contains(part.as_str()))
    };
    let latencies: Vec<_> = latencies.into_iter().filter(wanted).collect();
    let throughputs: Vec<_> = throughputs.into_iter().filter(wanted).collect();
    let mut report = Report {
        args: format!("{} devices, {window} in flight each, payloads of {bytes} bytes", args.devices),
        loads: vec![process::load()],
        latency: Table::new(latencies.iter().map(|(name, _)| *name)),
        throughput: Table::new(throughputs.iter().map(|(name, _)| *name)),
    };
    for round in 1..=args.rounds {
        for (row, (name, contender)) in latencies.iter().enumerate() {
            report.latency.put(row, contender.run(one).await.with_context(|| (*name).to_owned())?);
        }
        for (row, (name, contender)) in throughputs.iter().enumerate() {
            report.throughput.put(row, contender.run(many).await.with_context(|| (*name).to_owned())?);
        }
        report.loads.push(process::load());
        eprintln!("round {round} of {}, load {:.2}", args.rounds, process::load());
    }
    if args.json {
        println!("{:#}", report.json());
    } else {
        print!("{report}");
    }
    if let Some(path) = &args.svg {
        std::fs::write(path, plot::svg(&report)).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

impl Servers {
    async fn start(folder: &Path, args: &Args) -> Result<Self> {
        let bowline = |durability| Bowline::start(durability, folder, args.devices);
        let mosquitto = Process::mosquitto(folder, args.window as usize)?;
        if mosquitto.is_none() {
            eprintln!("no program `mosquitto` here: left out. On Debian: apt-get install mosquitto");
        }
        let program = std::env::var_os("BOWLINE_NATS").map_or_else(|| "nats-server".into(), PathBuf::from);
        let nats = match Process::nats(&program, folder) {
            Ok(nats) => {
                nats::prepare(nats.address).await?;
                Some(nats)
            }
            Err(error) => {
                eprintln!("no NATS server, left out ({error:#}): install one and name it by BOWLINE_NATS");
                None
            }
        };
        let reference = match std::env::var_os("BOWLINE_REFERENCE") {
            Some(package) => Some(Reference::start(Path::new(&package)).await?),
            None => {
                eprintln!("BOWLINE_REFERENCE names no folder: the reference is left out");
                None
            }
        };
        Ok(Servers {
            memory: bowline("memory")?,
            os: bowline("os")?,
            fsync: bowline("fsync")?,
            echo: Process::own(&["echo"])?,
            mosquitto,
            nats,
            reference,
        })
    }

    /// For latency, and for throughput.
    fn contenders(&self) -> (Named<'_>, Named<'_>) {
        let ours = |server, sealed| Contender::Bowline { server, dialect: "n", sealed };
        let mut both = vec![
            ("bowline open, memory", ours(&self.memory, false)),
            ("bowline encrypted, memory", ours(&self.memory, true)),
            ("bowline open, os", ours(&self.os, false)),
            ("bowline encrypted, os", ours(&self.os, true)),
            ("bowline open, fsync", ours(&self.fsync, false)),
            ("bowline encrypted, fsync", ours(&self.fsync, true)),
        ];
        if let Some(mosquitto) = &self.mosquitto {
            both.push(("mosquitto QoS 0", Contender::Mosquitto(mosquitto, 0)));
            both.push(("mosquitto QoS 1", Contender::Mosquitto(mosquitto, 1)));
            both.push(("mosquitto QoS 2", Contender::Mosquitto(mosquitto, 2)));
        }
        if let Some(nats) = &self.nats {
            both.push(("NATS JetStream", Contender::Nats(nats)));
        }
        both.push(("echo of frames", Contender::Echo(&self.echo)));
        let mut latencies = both.clone();
        for (name, dialect) in [("bowline H, os", "h"), ("bowline U, os", "u")] {
            latencies.push((name, Contender::Bowline { server: &self.os, dialect, sealed: false }));
        }
        latencies
            .extend(self.reference.as_ref().map(|reference| ("the reference, H", Contender::Reference(reference))));
        (latencies, both)
    }
}

impl Contender<'_> {
    async fn run(self, amount: Amount) -> Result<Figures> {
        match self {
            Contender::Bowline { server, dialect, sealed } => server.run(dialect, sealed, amount),
            Contender::Reference(reference) => reference.run(amount),
            Contender::Mosquitto(server, qos) => {
                load::run(|| mqtt::Mqtt::new(qos), server.address, server.pid(), amount).await
            }
            Contender::Nats(server) => load::run(nats::Nats::new, server.address, server.pid(), amount).await,
            Contender::Echo(server) => load::run(echo::Framed::new, server.address, server.pid(), amount).await,
        }
    }
}
