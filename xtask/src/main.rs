//! The project's own commands, started as `cargo xtask …`.
//!
//! This file is the command line only. What a command does is a list of [`steps`]: the checks of
//! the workspace are in [`checks`], the programs the tests talk to in [`peers`], the pages that are
//! written from the code in [`docs`], the long test with broken networks in [`chaos`], simulated worlds in [`sim`], the
//! fuzz targets in [`fuzz`], what tests reach in [`coverage`], what code costs in [`instructions`], what a board's memory
//! holds in [`sizes`], the proof that the core runs without an operating system in [`bare_metal`], the firmware in
//! [`firmware`].

mod apt;
mod bare_metal;
mod boards;
mod chaos;
mod checks;
mod command;
mod coverage;
mod docs;
mod firmware;
mod fuzz;
mod instructions;
mod mpy;
mod panics;
mod peers;
#[cfg(test)]
mod scenarios;
mod sim;
mod sizes;
mod steps;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::steps::Context;

/// Checks Bowline and prepares what its tests need.
///
/// Every command may be run again at any time. What it installs goes into `target/` and is found
/// there the next time. A check that cannot be made on this machine is skipped and named in the
/// summary; where the environment variable CI is set, it fails instead.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run before every commit: compiler version, formatting, clippy, peers, doc tests, all tests.
    ///
    /// Stops at the first step that fails and says what to do about it. The tests run under
    /// cargo-nextest where that is installed, under `cargo test` otherwise.
    Test,

    /// Install the programs the tests talk to (a MicroPython for the device library, with its compiler).
    ///
    /// MicroPython goes into a Python environment of its own, `target/peers/venv`. To test with
    /// another one, set BOWLINE_MICROPYTHON to its path: nothing is installed then.
    Peers,

    /// Write the parts of `docs/` that are made from the code: the reference of the configuration.
    ///
    /// A test fails while they are not what the code says.
    Docs,

    /// Compile the MicroPython client to `target/mpy/bowline/*.mpy`, and say how large each file is.
    Mpy,

    /// Prove that the core is `no_std`: build it for a microcontroller, check its dependencies.
    ///
    /// Needs Debian's package tools; the cross-compiler (about 140 MB to load, 850 MB unpacked)
    /// goes into `target/toolchains` and changes nothing on the system.
    BareMetal,

    /// Measure what the client for boards takes of memory, flash and stack on a Cortex-M3, and compare it with the record.
    ///
    /// Fails above a budget, and 5 % above the record (`crates/bowline-embedded/sizes/recorded.txt`). Needs
    /// what `bare-metal` needs, and QEMU. docs/memory.md says what is counted.
    Sizes {
        /// Record what is measured, here and in docs/memory.md, instead of comparing it.
        #[arg(long)]
        record: bool,
    },

    /// Build the firmware for emulated boards, and run it there against the server.
    ///
    /// Needs what `bare-metal` needs, and QEMU. Power, server and cable fail while messages go both ways; at
    /// the end nothing may be lost or doubled.
    Firmware {
        /// How often the power is cut, instead of 10 times, or 100 in CI; the server is killed half as often, and the cable
        /// pulled out a third as often. The co-processor of another board is killed a fifth as often, but 10 times at least,
        /// and hangs a fifth of that.
        #[arg(long)]
        kills: Option<u64>,
    },

    /// Build and link the templates for boards that people own, and say how large they are.
    ///
    /// Needs what `bare-metal` needs. Nothing is run.
    Boards,

    /// Break a server and its devices at random, and count what was lost or doubled.
    ///
    /// Real processes in network namespaces: killed, frozen, without descriptors or room on the disk, behind links that
    /// are down, lossy, one-way, late or in pieces. Needs root. Ends with what was done and what came of
    /// it; BOWLINE_SEED has much the same faults as an earlier run.
    Chaos {
        /// How long, in minutes; healing and counting come on top.
        #[arg(long, default_value_t = chaos::MINUTES)]
        minutes: f64,
    },

    /// Plant one bug after the other and see the simulator find each.
    ///
    /// Builds everything once more, in `target/planted`.
    Mutants,

    /// Run every fuzz target of `fuzz/` for a while. A finding fails it.
    ///
    /// Needs a C++ compiler, for libFuzzer. `fuzz/README.md` says how to run one target, and what to do about a
    /// finding.
    Fuzz {
        /// How long each target runs.
        #[arg(long, default_value_t = fuzz::SECONDS, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
        seconds: u64,
    },

    /// Say which lines and branches of `bowline-proto` and `bowline-store` their own tests reach.
    ///
    /// Needs Debian's package tools; LLVM's own (about 50 MB to load, 230 MB unpacked) go into `target/toolchains` and
    /// change nothing on the system.
    Coverage {
        /// Also print the lines that no test reaches, and the conditions that are never true or never false.
        #[arg(long)]
        uncovered: bool,
    },

    /// Count the instructions that each layer's steps take, and compare them with those recorded.
    ///
    /// Fails if one has grown by more than 5 %. Needs valgrind. Counts are compared only if compiler and processor are
    /// those of the record.
    Instructions {
        /// Record what is counted now, for this reason.
        #[arg(long, value_name = "REASON", value_parser = clap::builder::NonEmptyStringValueParser::new())]
        record: Option<String>,
    },

    /// Explore the native engine in small worlds, in every order in which things can happen.
    Model,

    /// Everything CI runs: `test`, `bare-metal`, `sizes`, `firmware`, `boards`, `model`, 10,000 simulated worlds, `mutants`,
    /// `fuzz`, `chaos`, `instructions`, and a release build of the binary `bowline`.
    ///
    /// `chaos` needs root and network namespaces.
    Ci,
}

fn main() -> ExitCode {
    let task = Cli::parse().task;
    let (name, steps) = match task {
        Task::Test => ("test", checks::test_steps()),
        Task::Peers => ("peers", vec![peers::STEP]),
        Task::Docs => ("docs", vec![docs::STEP]),
        Task::Mpy => ("mpy", mpy::STEPS.to_vec()),
        Task::BareMetal => ("bare-metal", bare_metal::STEPS.to_vec()),
        Task::Sizes { .. } => ("sizes", sizes::STEPS.to_vec()),
        Task::Firmware { .. } => ("firmware", firmware::STEPS.to_vec()),
        Task::Boards => ("boards", vec![boards::STEP]),
        Task::Mutants => ("mutants", vec![sim::MUTANTS]),
        Task::Chaos { .. } => ("chaos", vec![chaos::STEP]),
        Task::Fuzz { .. } => ("fuzz", vec![fuzz::LOCKFILE, fuzz::STEP]),
        Task::Coverage { .. } => ("coverage", vec![coverage::STEP]),
        Task::Instructions { .. } => ("instructions", vec![instructions::STEP]),
        Task::Model => ("model", vec![checks::MODEL]),
        Task::Ci => ("ci", checks::ci_steps()),
    };
    let mut context = match Context::new() {
        Ok(context) => context,
        Err(error) => {
            eprintln!("error: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    match task {
        Task::Firmware { kills } => context.emulator_kills = kills,
        Task::Ci => context.emulator_kills = Some(firmware::KILLS_IN_CI),
        _ => {}
    }
    if let Task::Chaos { minutes } = task {
        context.chaos_minutes = minutes;
    }
    if let Task::Sizes { record } = task {
        context.record_sizes = record;
    }
    if let Task::Fuzz { seconds } = task {
        context.fuzz_seconds = seconds;
    }
    if let Task::Coverage { uncovered } = task {
        context.uncovered = uncovered;
    }
    if let Task::Instructions { record } = task {
        context.record = record;
    }
    steps::run(name, &steps, &mut context)
}
