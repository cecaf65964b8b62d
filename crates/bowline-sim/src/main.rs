//! The simulator's command line.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use bowline_sim::{Options, Outcome, Simulator, shrink};
use clap::{Args, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};

/// Runs worlds of Bowline in which everything goes wrong, and checks that nothing is lost, doubled or out of order.
///
/// One seed is one world: a server, up to three devices of all dialects, their network and disks, and a list of faults
/// that goes on until enough links have broken. The same seed does the same again, on every machine. A seed that fails is
/// printed with the faults it needs, and the command that replays it.
#[derive(Parser)]
#[command(name = "bowline-sim", args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    run: Run,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Args, Clone)]
struct Run {
    /// How many worlds.
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The first one's seed; the others follow.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Worlds at a time [default: as many as there are processors].
    #[arg(long)]
    threads: Option<usize>,
    /// Go on after a failure, and count them.
    #[arg(long)]
    keep_going: bool,
    /// Run each world twice, and fail where the two differ.
    #[arg(long)]
    twice: bool,
    #[command(flatten)]
    world: World,
}

#[derive(Args, Clone)]
struct World {
    /// Links that break in each world before its faults stop.
    #[arg(long, default_value_t = 20)]
    outages: u64,
}

#[derive(Subcommand)]
enum Command {
    /// Run one world again and print everything that happens in it.
    Replay {
        /// Its seed.
        seed: u64,
        /// Leave out these faults, by their numbers.
        #[arg(long, value_delimiter = ',')]
        without: Vec<usize>,
        /// No faults behind so many.
        #[arg(long)]
        most: Option<usize>,
        #[command(flatten)]
        world: World,
    },
    /// Plant one bug after the other and see how many worlds it takes to find each.
    ///
    /// Only in a build with `--cfg planted`: `cargo xtask mutants` makes one.
    #[cfg(planted)]
    Mutants {
        /// Worlds before a bug counts as not found.
        #[arg(long, default_value_t = 5_000)]
        limit: u64,
    },
}

fn main() -> Result<ExitCode> {
    let cli = Cli::parse();
    let simulator = Simulator::new()?;
    match cli.command {
        None => run(&simulator, &cli.run),
        Some(Command::Replay { seed, without, most, world }) => {
            bowline_sim::keep_panics();
            let options = Options { outages: world.outages, without, most, trace: true };
            let outcome = simulator.run(seed, &options);
            print!("{}", outcome.trace);
            Ok(verdict(seed, &outcome))
        }
        #[cfg(planted)]
        Some(Command::Mutants { limit }) => mutants(&simulator, limit),
    }
}

/// Every planted bug is to be found, and nothing where there is none.
#[cfg(planted)]
fn mutants(simulator: &Simulator, limit: u64) -> Result<ExitCode> {
    use bowline_proto::planted::{ALL, plant};
    let defaults = Cli::try_parse_from(["bowline-sim"])?.run;
    let mut missed = 0;
    println!("{:<22}{:>8}  what gave it away", "planted bug", "worlds");
    for (bug, what) in ALL {
        plant(Some(*bug));
        let (worlds, failures) = search(simulator, &Run { seeds: limit, ..defaults.clone() })?;
        match failures.first() {
            Some((seed, failure)) => println!("{:<22}{worlds:>8}  seed {seed}: {failure}", format!("{bug:?}")),
            None => {
                missed += 1;
                println!("{:<22}{worlds:>8}  NOT FOUND: {what}", format!("{bug:?}"));
            }
        }
    }
    plant(None);
    println!("{} bugs planted, {missed} not found", ALL.len());
    Ok(if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn verdict(seed: u64, outcome: &Outcome) -> ExitCode {
    println!("seed {seed}, trace {:016x}", outcome.hash);
    match &outcome.failure {
        None => {
            println!("nothing lost, doubled or out of order");
            ExitCode::SUCCESS
        }
        Some(failure) => {
            println!("BROKEN: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// What all threads share.
struct Progress {
    next: AtomicU64,
    stop: AtomicBool,
    done: AtomicU64,
    counts: Mutex<BTreeMap<&'static str, u64>>,
    /// Seeds that failed, and how.
    failures: Mutex<Vec<(u64, String)>>,
}

fn run(simulator: &Simulator, run: &Run) -> Result<ExitCode> {
    if run.seeds == 0 {
        bail!("no seeds: give --seeds 1 or more");
    }
    let begin = Instant::now();
    let progress = worlds(simulator, run)?;
    let counts = progress.counts.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut failures = progress.failures.into_inner().unwrap_or_else(PoisonError::into_inner);
    failures.sort();
    summary(&counts, progress.done.into_inner(), begin.elapsed());
    if failures.is_empty() {
        println!("nothing lost, doubled or out of order in seeds {} to {}", run.from, run.from + run.seeds - 1);
        return Ok(ExitCode::SUCCESS);
    }
    for (seed, failure) in &failures {
        println!("BROKEN: seed {seed}: {failure}");
    }
    if let Some((seed, _)) = failures.first() {
        explain(simulator, *seed, &options(run));
    }
    Ok(ExitCode::FAILURE)
}

/// How many worlds were run, and those that failed.
#[cfg(planted)]
fn search(simulator: &Simulator, run: &Run) -> Result<(u64, Vec<(u64, String)>)> {
    let progress = worlds(simulator, run)?;
    let failures = progress.failures.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok((progress.done.into_inner(), failures))
}

fn options(run: &Run) -> Options {
    Options { outages: run.world.outages, ..Options::default() }
}

/// Runs them all, or up to the first failure.
fn worlds(simulator: &Simulator, run: &Run) -> Result<Progress> {
    let threads = run.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1);
    let options = options(run);
    let progress = Progress {
        next: AtomicU64::new(0),
        stop: AtomicBool::new(false),
        done: AtomicU64::new(0),
        counts: Mutex::default(),
        failures: Mutex::default(),
    };
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} worlds, {per_sec}, {eta} left {msg}")?;
    let bar = ProgressBar::new(run.seeds).with_style(style);
    bowline_sim::keep_panics();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| work(simulator, run, &options, &progress, &bar));
        }
    });
    bar.finish_and_clear();
    Ok(progress)
}

fn work(simulator: &Simulator, run: &Run, options: &Options, progress: &Progress, bar: &ProgressBar) {
    while !progress.stop.load(Ordering::Relaxed) {
        let at = progress.next.fetch_add(1, Ordering::Relaxed);
        if at >= run.seeds {
            return;
        }
        let seed = run.from + at;
        let mut outcome = simulator.run(seed, options);
        if run.twice && outcome.failure.is_none() {
            let again = simulator.run(seed, options);
            if again.hash != outcome.hash {
                outcome.failure = Some(format!("two runs differ: {:016x}, {:016x}", outcome.hash, again.hash));
            }
        }
        let mut counts = progress.counts.lock().unwrap_or_else(PoisonError::into_inner);
        for (what, count) in outcome.counts {
            *counts.entry(what).or_default() += count;
        }
        drop(counts);
        progress.done.fetch_add(1, Ordering::Relaxed);
        bar.inc(1);
        if let Some(failure) = outcome.failure {
            let mut failures = progress.failures.lock().unwrap_or_else(PoisonError::into_inner);
            failures.push((seed, failure));
            bar.set_message(format!("({} BROKEN)", failures.len()));
            if !run.keep_going {
                progress.stop.store(true, Ordering::Relaxed);
            }
        }
    }
}

fn summary(counts: &BTreeMap<&'static str, u64>, worlds: u64, time: Duration) {
    let count = |what: &str| counts.get(what).copied().unwrap_or(0);
    println!("{worlds} worlds in {:.1} s, {:.1} a second", time.as_secs_f64(), worlds as f64 / time.as_secs_f64());
    println!(
        "messages sent {}, delivered {}; links {}; lives of processes ended {}",
        count("sent up") + count("sent down"),
        count("delivered up") + count("delivered down"),
        count("links"),
        count("dies"),
    );
    let width = counts.keys().map(|what| what.len()).max().unwrap_or(0);
    for (what, count) in counts {
        println!("  {what:<width$}  {count:>12}");
    }
}

/// Finds the faults that a failure needs, and prints what happens with them alone.
fn explain(simulator: &Simulator, seed: u64, options: &Options) {
    println!("\nseed {seed}: leaving out what it does not need …");
    let (options, outcome) = shrink(simulator, seed, options, |left| println!("  {left} faults left"));
    let lines: Vec<_> = outcome.trace.lines().collect();
    let from = lines.len().saturating_sub(60);
    println!("the end of what happens with those (all of it: the command below):");
    lines[from..].iter().for_each(|line| println!("{line}"));
    println!("BROKEN: {}", outcome.failure.unwrap_or_default());
    let without: Vec<_> = options.without.iter().map(ToString::to_string).collect();
    let without = if without.is_empty() { String::new() } else { format!(" --without {}", without.join(",")) };
    let most = options.most.map(|most| format!(" --most {most}")).unwrap_or_default();
    println!(
        "replay: cargo run --profile sim -p bowline-sim -- replay {seed} --outages {}{most}{without}",
        options.outages
    );
}
