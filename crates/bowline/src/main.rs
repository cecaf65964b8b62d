//! `bowline`: the one binary. See `bowline --help`.

mod app;
mod cli;
mod config;
mod confirm;
mod control;
mod dead;
mod demo;
mod device;
mod external;
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

fn main() -> ExitCode {
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
