//! Chaos: the test that breaks everything at random, for minutes, with a network of its own.

use std::process::Command;

use anyhow::Result;

use crate::apt;
use crate::command::{self, cargo};
use crate::steps::{Context, Outcome, Step};

/// Minutes, unless the command says otherwise.
pub(crate) const MINUTES: f64 = 5.0;

pub(crate) const STEP: Step = Step {
    name: "chaos",
    advice: "run it as root. If it counted something wrong: BOWLINE_SEED=<the seed above> has much the same faults again; \
             what the processes wrote is where it says",
    run,
};

/// What the faults are made with, how it says that it is there, and the package it is in.
const TOOLS: [(&str, &str, &str); 4] = [
    ("ip", "-V", "iproute2"),
    ("nft", "--version", "nftables"),
    ("prlimit", "--version", "util-linux"),
    ("setpriv", "--version", "util-linux"),
];

fn run(context: &mut Context) -> Result<Outcome> {
    if !apt::is_root() {
        return context.unavailable("chaos needs root, for network namespaces and a small disk".to_owned());
    }
    for (tool, argument, package) in TOOLS {
        if !command::succeeds(Command::new(tool).arg(argument)) {
            apt::install(package)?;
        }
    }
    let probe = format!("bowl{}probe", std::process::id());
    if !command::succeeds(Command::new("ip").args(["netns", "add", &probe])) {
        return context.unavailable("chaos needs network namespaces, and may not make any here".to_owned());
    }
    command::run(Command::new("ip").args(["netns", "delete", &probe]))?;
    let mut test = cargo(&context.root);
    test.args(["test", "--quiet", "--package", "bowline", "--test", "kill", "--"]);
    test.args(["--exact", "chaos::nothing_is_lost_or_doubled_by_chaos", "--nocapture"]);
    command::run(test.env("BOWLINE_CHAOS_MINUTES", context.chaos_minutes.to_string()))?;
    Ok(Outcome::Done)
}
