//! Runs every fuzz target of `fuzz/` for a while.
//!
//! The targets are built here and not by cargo-fuzz: its flags are few, stable compilers take them, and so nothing
//! has to be installed. There is no address sanitizer among them: the project's own code has no `unsafe`, and the
//! C code of SQLite, which has, would not be instrumented by it.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use crate::command::{self, cargo};
use crate::steps::{Context, Outcome, Step};

/// The targets are a workspace of their own, which builds the crates of this one by a lockfile of its own. Whoever gives
/// a crate a dependency forgets that one.
pub(crate) const LOCKFILE: Step = Step {
    name: "fuzz lockfile",
    advice: "fuzz/Cargo.lock does not fit the crates: run `cargo update --workspace` in `fuzz`, and commit what it changes",
    run: check_lockfile,
};

pub(crate) const STEP: Step =
    Step { name: "fuzz", advice: "`fuzz/README.md` says how to repeat a finding and how it becomes a test", run };

/// Seconds for each target, unless the command says otherwise.
pub(crate) const SECONDS: u64 = 20;

/// What makes libFuzzer see where a program has been. The last one is what cargo-fuzz sets too.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
                     -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing";

/// Longest input. What is longer finds little that is new, and takes longer for it.
const LONGEST: &str = "-max_len=1024";
/// Seconds for one input; more is a hang.
const HANG: u64 = 10;

/// A target that runs.
struct Running {
    name: String,
    child: Child,
    log: PathBuf,
    started: Instant,
}

fn run(context: &mut Context) -> Result<Outcome> {
    if !command::succeeds(Command::new("c++").arg("--version")) {
        return context
            .unavailable("libFuzzer needs a C++ compiler (`apt-get install g++`): nothing was fuzzed".into());
    }
    let folder = context.root.join("fuzz");
    let built = context.target_dir().join("fuzz");
    // Naming it keeps the flags from build scripts and macros.
    let host = command::rustc("host")?;
    let start = Instant::now();
    command::run(
        cargo(&folder)
            .env("RUSTFLAGS", FLAGS)
            .args(["build", "--locked", "--release", "--bins", "--target", &host, "--target-dir"])
            .arg(&built),
    )?;
    let building = start.elapsed();
    let mut waiting: VecDeque<String> = targets(&folder)?.into();
    let count = waiting.len();
    println!("{count} targets, {} s each, built in {:.0} s", context.fuzz_seconds, building.as_secs_f64());
    let at_once = thread::available_parallelism().map_or(1, usize::from);
    let mut running: Vec<Running> = Vec::new();
    let (mut total, mut failed) = (0, Vec::new());
    while !waiting.is_empty() || !running.is_empty() {
        while running.len() < at_once
            && let Some(name) = waiting.pop_front()
        {
            let program = built.join(&host).join("release").join(&name);
            running.push(start_target(name, &program, &folder, &built, context.fuzz_seconds)?);
        }
        // The oldest began first and ends first; the others do not mind.
        let Running { name, mut child, log, started } = running.remove(0);
        let status = child.wait().with_context(|| format!("waiting for {name}"))?;
        let said = fs::read(&log).with_context(|| format!("reading {}", log.display()))?;
        let said = String::from_utf8_lossy(&said);
        let runs = executed(&said);
        total += runs.unwrap_or(0);
        let rate = runs.unwrap_or(0) as f64 / started.elapsed().as_secs_f64();
        println!("{name:<16} {:>12} runs {rate:>10.0} a second", runs.unwrap_or(0));
        if !status.success() || runs.is_none_or(|runs| runs == 0) {
            let lines: Vec<&str> = said.lines().collect();
            println!("{}", lines[lines.len().saturating_sub(60)..].join("\n"));
            failed.push(name);
        }
    }
    if !failed.is_empty() {
        bail!("{} found something; the inputs are in {}", failed.join(", "), built.join("artifacts").display());
    }
    Ok(Outcome::Noted(format!("{count} targets, {total} runs, built in {:.0} s", building.as_secs_f64())))
}

fn check_lockfile(context: &mut Context) -> Result<Outcome> {
    let metadata = ["metadata", "--quiet", "--locked", "--format-version", "1"];
    command::output(cargo(&context.root.join("fuzz")).args(metadata))?;
    Ok(Outcome::Done)
}

/// Starts a target on the seeds and on what earlier runs have found interesting.
fn start_target(name: String, program: &Path, folder: &Path, built: &Path, seconds: u64) -> Result<Running> {
    let corpus = built.join("corpus").join(&name);
    let artifacts = built.join("artifacts").join(&name);
    let seeds = folder.join("seeds").join(&name);
    for folder in [&corpus, &artifacts, &seeds] {
        fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    }
    let log = artifacts.join("log");
    let output = File::create(&log).with_context(|| format!("creating {}", log.display()))?;
    let child = Command::new(program)
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-timeout={HANG}"))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .args([LONGEST, "-rss_limit_mb=2048", "-print_final_stats=1"])
        .args([&corpus, &seeds])
        .stdin(Stdio::null())
        .stdout(output.try_clone().context("sharing the log")?)
        .stderr(output)
        .spawn()
        .with_context(|| format!("starting {}", program.display()))?;
    Ok(Running { name, child, log, started: Instant::now() })
}

/// The targets are the files of `fuzz_targets`.
fn targets(folder: &Path) -> Result<Vec<String>> {
    let folder = folder.join("fuzz_targets");
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs")
            && let Some(name) = path.file_stem().and_then(|name| name.to_str())
        {
            names.push(name.to_owned());
        }
    }
    if names.is_empty() {
        bail!("{} has no targets", folder.display());
    }
    names.sort();
    Ok(names)
}

/// How many inputs libFuzzer says it has run.
fn executed(log: &str) -> Option<u64> {
    log.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::executed;

    #[test]
    fn the_number_of_runs_is_found() {
        assert_eq!(executed("Done 12 runs\nstat::number_of_executed_units: 4711\nstat::x: 1\n"), Some(4711));
        assert_eq!(executed("it crashed"), None);
    }
}
