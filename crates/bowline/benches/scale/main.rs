//! Bowline's server with very many devices: what each takes while it does nothing, how all of them come back at once, how
//! many messages share a sync of the disk, and whether what was stored before costs anything. Where there is something to
//! compare, mosquitto does the same.
//!
//! `cargo bench -p bowline --bench scale -- --help`

mod durable;
mod fit;
mod generator;
mod history;
mod hold;
mod million;
#[path = "../compare/process.rs"]
#[allow(dead_code)]
mod process;
mod serve;
mod storm;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// What many devices take, on this machine. Memory and processor time are from /proc, and depend little on what else
/// runs; times do. What is printed is what was measured: nothing is left out.
#[derive(Parser)]
#[command(name = "scale")]
struct Args {
    /// What cargo says.
    #[arg(long, hide = true, global = true)]
    bench: bool,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Devices that do nothing, with a keepalive a second: memory, processor time, wake-ups; beside mosquitto's
    Hold {
        /// How many, each in a run of its own
        #[arg(long, value_delimiter = ',', default_value = "1000,5000,10000,19000")]
        devices: Vec<u32>,
        /// How long they are watched, in seconds
        #[arg(long, default_value_t = 20.0)]
        seconds: f64,
    },
    /// The server is killed and started again while all are connected
    Storm {
        /// How many
        #[arg(long, default_value_t = 10_000)]
        devices: u32,
        /// How often
        #[arg(long, default_value_t = 3)]
        rounds: u32,
    },
    /// 100 devices with 16 messages each on their way, each message synced: messages for each sync, and what syncing adds
    Durable {
        /// How often
        #[arg(long, default_value_t = 3)]
        rounds: u32,
        /// How long each is measured, in seconds
        #[arg(long, default_value_t = 5.0)]
        seconds: f64,
    },
    /// Whether a message costs more after millions of others, and more with more devices
    History {
        /// How many messages the store is to have seen
        #[arg(long, default_value_t = 10_000_000)]
        messages: u64,
        /// How many of them in each of the runs that are compared
        #[arg(long, default_value_t = 1_000_000)]
        run: u64,
    },
    /// A million devices come back at once: simulated, with the client's own back-off
    Million {
        /// How many
        #[arg(long, default_value_t = 1_000_000)]
        devices: u32,
        /// Logins that the server does in a second, as measured by `storm`
        #[arg(long)]
        rate: f64,
        /// How long the server is away, in seconds
        #[arg(long, default_value_t = 10.0)]
        away: f64,
        /// The devices' timeout, in seconds
        #[arg(long, default_value_t = 3.0)]
        timeout: f64,
        /// What chance depends on
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    #[command(hide = true)]
    Serve { durability: String, folder: PathBuf },
}

fn main() -> Result<()> {
    let args = Args::parse();
    match args.what {
        What::Hold { devices, seconds } => hold::run(&devices, seconds),
        What::Storm { devices, rounds } => storm::run(devices, rounds),
        What::Durable { rounds, seconds } => durable::run(rounds, seconds),
        What::History { messages, run } => history::run(messages, run),
        What::Million { devices, rate, away, timeout, seed } => {
            million::run(million::Setting { devices, rate, away, timeout, seed })
        }
        What::Serve { durability, folder } => serve::run(&durability, &folder),
    }
}
