//! The load generator's commands.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::{Bytes, parse_hex};

#[derive(Debug, Args)]
#[command(after_help = "\
What is sent goes to the server's apps like everything that devices send: take a
server of its own, with a data folder of its own. The exit code is a success if
nothing was lost, doubled, changed or refused. Ctrl-C prints what was measured so
far. docs/performance.md says what is measured how, and what the JSON holds.

  bowline serve --data /tmp/bench --log warn & SERVER=$!
  bowline bench latency --pid $SERVER
  bowline bench throughput --devices 100 --window 16 --seconds 10 --pid $SERVER
  bowline bench keys --count 100 --data /tmp/bench --out bench-keys.txt
  bowline bench echo --keys bench-keys.txt --devices 10
  bowline bench hold --devices 5000 --seconds 60 --pid $SERVER
  bowline bench storm --devices 1000")]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    pub(crate) command: BenchCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Time from sending a message to its acknowledgement, one message at a time
    Latency(LatencyArgs),
    /// Messages a second that the server acknowledges, of many devices with several in flight
    Throughput(LoadArgs),
    /// The same to the server's echo app and back: both directions, and the time there and back
    Echo(LoadArgs),
    /// Devices that are connected and do nothing: are any lost, and what do they cost the server
    Hold(HoldArgs),
    /// Cut all links at once: how long until every device is back
    Storm(StormArgs),
    /// Make keys for many devices, at the server and in a file for --keys
    Keys(BenchKeysArgs),
}

#[derive(Debug, Args)]
pub(crate) struct LatencyArgs {
    #[command(flatten)]
    pub(crate) size: SizeArgs,
    #[command(flatten)]
    pub(crate) fleet: FleetArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
The default app of `bowline serve` is echo: it answers each message, which costs
the server about as much again. --header names another app.

A message is acknowledged when the server has stored it. One counts if it was
sent within the measured time, and the clock runs until the last of them is
acknowledged (and back).")]
pub(crate) struct LoadArgs {
    /// How many devices send
    #[arg(short, long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) devices: u32,
    /// Messages of each device that are on their way at a time: 16 on N; H and U have one
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=32_768))]
    pub(crate) window: Option<u32>,
    #[command(flatten)]
    pub(crate) size: SizeArgs,
    #[command(flatten)]
    pub(crate) fleet: FleetArgs,
}

/// What is sent, and for how long.
#[derive(Debug, Args)]
pub(crate) struct SizeArgs {
    /// Bytes of each payload, which is a JSON string
    #[arg(short, long, default_value_t = 256, value_name = "N", value_parser = clap::value_parser!(u16).range(32..=65_000))]
    pub(crate) bytes: u16,
    /// How long messages are sent, in seconds
    #[arg(short = 't', long, default_value = "10", value_name = "S", value_parser = parse_seconds)]
    pub(crate) seconds: Duration,
    /// Instead: how many messages each device sends
    #[arg(short, long, value_name = "N", conflicts_with = "seconds", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) messages: Option<u64>,
    /// How long messages are sent before that and do not count, in seconds
    #[arg(long, default_value = "1", value_name = "S", value_parser = parse_seconds)]
    pub(crate) warm_up: Duration,
    /// Header of each message, in hexadecimal (dialects N and H): app, instance, tag [default: none]
    #[arg(long, value_name = "HEX", value_parser = parse_hex)]
    pub(crate) header: Option<Bytes>,
}

#[derive(Debug, Args)]
pub(crate) struct HoldArgs {
    /// How many devices connect
    #[arg(short, long, default_value_t = 1000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) devices: u32,
    /// How long they stay once all are there, in seconds
    #[arg(short = 't', long, default_value = "10", value_name = "S", value_parser = parse_seconds)]
    pub(crate) seconds: Duration,
    #[command(flatten)]
    pub(crate) fleet: FleetArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Devices come back as those of the client library do: with growing pauses of random
length, on N with a ticket instead of a full handshake if the server has given
one. Attempts that come to nothing meanwhile are counted, and are no failure.")]
pub(crate) struct StormArgs {
    /// How many devices connect
    #[arg(short, long, default_value_t = 1000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) devices: u32,
    /// Do not cut the links, but wait until the server's end has cut all of them: restart it
    #[arg(long)]
    pub(crate) restarts: bool,
    #[command(flatten)]
    pub(crate) fleet: FleetArgs,
}

/// Who connects where, and how it is told.
#[derive(Debug, Args)]
pub(crate) struct FleetArgs {
    /// The server to connect to
    #[arg(long, default_value = "127.0.0.1:9999", value_name = "HOST:PORT")]
    pub(crate) server: String,
    /// What to speak
    #[arg(long, value_enum, default_value_t)]
    pub(crate) dialect: BenchDialect,
    /// File with a line of `bowline key new` for each device: then everything is encrypted, and the ids are those of
    /// the keys
    #[arg(short, long, value_name = "FILE")]
    pub(crate) keys: Option<PathBuf>,
    /// The devices' ids are this, a dash and a number
    #[arg(long, default_value = "bench", value_name = "TEXT")]
    pub(crate) prefix: String,
    /// Silence after which a link is given up, in milliseconds; the same as the server's. Keepalives follow from it
    #[arg(long, default_value_t = 3000, value_name = "MS", value_parser = clap::value_parser!(u64).range(100..=3_600_000))]
    pub(crate) timeout_ms: u64,
    /// How many devices connect at a time, at first
    #[arg(long, default_value_t = 128, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) connecting: u32,
    /// How long nothing may happen before what is missing is given up as lost, in seconds
    #[arg(long, default_value = "10", value_name = "S", value_parser = parse_seconds)]
    pub(crate) patience: Duration,
    /// Address to connect from; may be repeated, as one has ports for 28,000 connections. On this machine there are
    /// enough anyway: 127.0.0.1, 127.0.0.2, ...
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) source: Vec<IpAddr>,
    /// Threads of the generator [default: as many as there are processors]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    /// Process id of the server on this machine: its memory and CPU time are measured too
    #[arg(long, value_name = "PID")]
    pub(crate) pid: Option<u32>,
    /// Print JSON instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum BenchDialect {
    /// The native one
    #[default]
    N,
    /// Headers
    H,
    /// Upstream
    U,
}

#[derive(Debug, Args)]
#[command(after_help = "\
The devices are PREFIX-0, PREFIX-1 and so on; those that have a key already are an
error. `bowline key remove` removes one; a data folder just for measuring is
simpler. The server limits how many handshakes one address may ask for: set
security.handshakes_per_second = 0 in its configuration.")]
pub(crate) struct BenchKeysArgs {
    /// How many devices get a key
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) count: u32,
    /// The devices' ids are this, a dash and a number
    #[arg(long, default_value = "bench", value_name = "TEXT")]
    pub(crate) prefix: String,
    /// The new file for --keys, which only its owner can read
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// The server's data folder, whether it runs or not
    #[arg(long, default_value = "./bowline-data", value_name = "FOLDER")]
    pub(crate) data: PathBuf,
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds
        .filter(|time| *time <= Duration::from_secs(86_400))
        .ok_or_else(|| format!("expected seconds from 0 to 86400, for example 10 or 0.5, got {text:?}"))
}
