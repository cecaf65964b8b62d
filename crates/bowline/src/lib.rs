//! The program `bowline`: see `bowline --help`. It is a library for the sake of its fuzzers only, which get in by
//! [`fuzzing`]; nothing here is for other programs to build on.

mod app;
mod bench;
mod cli;
mod config;
mod confirm;
mod control;
mod dead;
mod demo;
mod device;
mod external;
#[doc(hidden)]
pub mod fuzzing;
mod how;
mod hub;
mod inspect;
mod key;
mod logging;
mod near;
mod record;
mod serve;
mod talk;
mod units;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};

/// Does what the command line says.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Serve(args) => serve::run(args),
        Command::Device(args) => runtime().and_then(|runtime| runtime.block_on(device::run(args))),
        Command::Send(args) => runtime().and_then(|runtime| runtime.block_on(talk::send(args))),
        Command::Tail(args) => runtime().and_then(|runtime| runtime.block_on(talk::tail(args))),
        Command::Devices(args) => runtime().and_then(|runtime| runtime.block_on(inspect::devices(args))),
        Command::Dead(args) => runtime().and_then(|runtime| runtime.block_on(dead::run(args))),
        Command::Record(args) => record::run(args),
        Command::Key(args) => runtime().and_then(|runtime| runtime.block_on(key::run(args))),
        Command::Bench(args) => bench::run(args),
        Command::Demo(args) => runtime().and_then(|runtime| runtime.block_on(demo::run(args))),
    };
    result.unwrap_or_else(|error| {
        eprintln!("bowline: {error:#}");
        ExitCode::FAILURE
    })
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Runtime::new()?)
}
