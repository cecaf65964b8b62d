//! `bowline bench`: a load generator. It drives the engines of the protocol itself, without queues and stores of its
//! own, so that what it measures is the server.

mod device;
mod flow;
mod keys;
mod leader;
mod opening;
mod payload;
mod plan;
mod report;
mod speak;
mod system;
mod tally;
mod wire;

use std::io::Write;
use std::process::ExitCode;

use crate::cli::{BenchArgs, BenchCommand, FleetArgs};

use leader::Leader;
use plan::Plan;
use report::Report;

/// Does what the command line says. The exit code is a success if nothing was lost, doubled, changed or refused.
///
/// # Errors
/// If the run makes no sense or cannot begin.
pub(crate) fn run(args: BenchArgs) -> anyhow::Result<ExitCode> {
    let runtime = |threads: Option<u16>| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        if let Some(threads) = threads {
            builder.worker_threads(threads.into());
        }
        builder.enable_all().build()
    };
    match args.command {
        BenchCommand::Keys(args) => runtime(Some(1))?.block_on(keys::make(args)),
        BenchCommand::Latency(args) => {
            let plan = Plan::latency(&args)?;
            runtime(args.fleet.threads)?.block_on(measure(plan, &args.fleet))
        }
        BenchCommand::Throughput(args) => {
            let plan = Plan::load("throughput", false, &args)?;
            runtime(args.fleet.threads)?.block_on(measure(plan, &args.fleet))
        }
        BenchCommand::Echo(args) => {
            let plan = Plan::load("echo", true, &args)?;
            runtime(args.fleet.threads)?.block_on(measure(plan, &args.fleet))
        }
        BenchCommand::Hold(args) => {
            let plan = Plan::hold(&args)?;
            runtime(args.fleet.threads)?.block_on(measure(plan, &args.fleet))
        }
        BenchCommand::Storm(args) => {
            let plan = Plan::storm(&args)?;
            runtime(args.fleet.threads)?.block_on(measure(plan, &args.fleet))
        }
    }
}

async fn measure(plan: Plan, fleet: &FleetArgs) -> anyhow::Result<ExitCode> {
    let report: Report = Leader::start(plan, fleet).await?.lead().await?;
    let mut out = std::io::stdout().lock();
    if fleet.json {
        serde_json::to_writer_pretty(&mut out, &report)?;
        writeln!(out)?;
    } else {
        write!(out, "{report}")?;
    }
    Ok(if report.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
