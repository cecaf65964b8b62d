//! The checks of the workspace with the installed compiler, and the lists of what `test` and `ci`
//! run.

use std::env;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::bare_metal;
use crate::boards;
use crate::chaos;
use crate::command::{self, cargo};
use crate::firmware;
use crate::fuzz;
use crate::instructions;
use crate::peers;
use crate::sim;
use crate::sizes;
use crate::steps::{Context, Outcome, Step};

pub(crate) const MODEL: Step = Step {
    name: "model",
    advice: "the path that is printed leads to the state that must not be; `BOWLINE_MODEL=large` explores these worlds",
    run: model,
};

/// Cheapest first, so that a slip shows at once.
///
/// The tests come last: their runner's closing line is then the last one that any runner prints.
pub(crate) fn test_steps() -> Vec<Step> {
    vec![
        Step {
            name: "compiler",
            advice: "install the Rust version that `rust-version` in Cargo.toml names, or a newer one",
            run: compiler,
        },
        Step { name: "format", advice: "run `cargo fmt --all`", run: format },
        Step {
            name: "clippy",
            advice: "fix what clippy says above; `cargo clippy --fix` does the simple ones",
            run: clippy,
        },
        peers::STEP,
        peers::BROKER,
        Step {
            name: "doc tests",
            advice: "repeat with `cargo test --workspace --doc`, and correct the example or the code",
            run: doc_tests,
        },
        Step {
            name: "tests",
            advice: "repeat the one that failed; where it printed a seed, that seed replays the run",
            run: tests,
        },
    ]
}

/// `test` and what takes longer.
pub(crate) fn ci_steps() -> Vec<Step> {
    let mut steps = vec![fuzz::LOCKFILE];
    steps.extend(test_steps());
    steps.extend_from_slice(bare_metal::STEPS);
    steps.extend_from_slice(sizes::STEPS);
    steps.extend_from_slice(firmware::STEPS);
    steps.push(boards::STEP);
    steps.push(MODEL);
    steps.extend_from_slice(sim::STEPS);
    steps.push(fuzz::STEP);
    steps.push(chaos::STEP);
    steps.push(instructions::STEP);
    steps.push(Step {
        name: "release build",
        advice: "repeat with `cargo build --release --package bowline`",
        run: release_build,
    });
    steps
}

/// Says whether this run checks the minimum supported Rust version (MSRV) that the workspace names.
fn compiler(_: &mut Context) -> Result<Outcome> {
    let msrv = env!("CARGO_PKG_RUST_VERSION");
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let printed = command::output(Command::new(rustc).arg("--version"))?;
    let printed = printed.trim();
    let installed = printed
        .split_whitespace()
        .nth(1)
        .and_then(minor_version)
        .with_context(|| format!("expected `rustc 1.N.P …` from rustc, got `{printed}`"))?;
    let wanted =
        minor_version(msrv).with_context(|| format!("expected `1.N` as rust-version in Cargo.toml, got `{msrv}`"))?;
    if installed < wanted {
        bail!("{printed} is too old: the workspace needs {msrv}");
    }
    Ok(Outcome::Noted(if installed == wanted {
        format!("{printed}: MSRV checked")
    } else {
        format!("{printed} is newer than the MSRV {msrv}, which this run does not check")
    }))
}

/// `(1, 95)` for `1.95`, `1.95.0` and `1.95.0-nightly`: patch releases add nothing to rely on.
fn minor_version(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn format(context: &mut Context) -> Result<Outcome> {
    command::run(cargo(&context.root).args(["fmt", "--all", "--check"]))?;
    Ok(Outcome::Done)
}

/// All targets: tests, benches and examples are compiled here too, so none of them can rot.
fn clippy(context: &mut Context) -> Result<Outcome> {
    command::run(cargo(&context.root).args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    Ok(Outcome::Done)
}

/// A step of its own because nextest does not run doc tests.
fn doc_tests(context: &mut Context) -> Result<Outcome> {
    command::run(with_peers(context).args(["test", "--workspace", "--doc"]))?;
    Ok(Outcome::Done)
}

fn tests(context: &mut Context) -> Result<Outcome> {
    if command::succeeds(cargo(&context.root).args(["nextest", "--version"])) {
        command::run(with_peers(context).args(["nextest", "run", "--workspace"]))?;
        return Ok(Outcome::Done);
    }
    // Not `--all-targets`, which runs the benches; the doc tests have had their own step.
    command::run(with_peers(context).args(["test", "--workspace", "--lib", "--bins", "--tests", "--examples"]))?;
    Ok(Outcome::Noted("by `cargo test`, as cargo-nextest is not installed".to_owned()))
}

/// The larger worlds: with a compiler that optimizes they take a minute, without one ten.
fn model(context: &mut Context) -> Result<Outcome> {
    let arguments = ["test", "--profile", "sim", "--package", "bowline-proto", "--lib", "native::tests::model"];
    command::run(cargo(&context.root).env("BOWLINE_MODEL", "large").args(arguments).args([
        "--",
        "legacy::tests::laps",
        "--nocapture",
        "--test-threads=1",
    ]))?;
    Ok(Outcome::Done)
}

fn release_build(context: &mut Context) -> Result<Outcome> {
    command::run(cargo(&context.root).args(["build", "--release", "--package", "bowline"]))?;
    Ok(Outcome::Done)
}

/// A cargo whose tests find what the step `peers` found.
fn with_peers(context: &Context) -> Command {
    let mut command = cargo(&context.root);
    if let Some(micropython) = &context.micropython {
        command.env(peers::MICROPYTHON_VAR, micropython);
    }
    command
}

#[cfg(test)]
mod tests {
    use super::minor_version;

    #[test]
    fn versions_compare_by_number_and_without_the_patch() {
        assert_eq!(minor_version("1.95"), minor_version("1.95.1"));
        assert_eq!(minor_version("1.95.0-nightly"), Some((1, 95)));
        assert!(minor_version("1.100.0") > minor_version("1.95"));
        assert_eq!(minor_version("unknown"), None);
    }
}
