//! Worlds of the simulator, with and without planted bugs.

use anyhow::Result;

use crate::command::{self, cargo};
use crate::steps::{Context, Outcome, Step};

/// Worlds with at least 20 outages each, which may take six minutes on two processors.
const WORLDS: &str = "10000";

/// The long proofs of CI.
pub(crate) const STEPS: &[Step] = &[
    Step {
        name: "worlds",
        advice: "the seed above replays the world: `cargo run --profile sim -p bowline-sim -- replay SEED`",
        run: worlds,
    },
    MUTANTS,
];

pub(crate) const MUTANTS: Step = Step {
    name: "planted bugs",
    advice: "a bug that is not found says that the simulator does not reach something any more: see docs/reliability.md",
    run: mutants,
};

fn worlds(context: &mut Context) -> Result<Outcome> {
    let run = ["run", "--quiet", "--profile", "sim", "--package", "bowline-sim", "--"];
    // That the same seed does the same again is what makes a failure worth anything.
    command::run(cargo(&context.root).args(run).args(["--seeds", "100", "--twice"]))?;
    command::run(cargo(&context.root).args(run).args(["--seeds", WORLDS, "--from", "1"]))?;
    Ok(Outcome::Done)
}

/// In a target folder of its own: the bugs are compiled into everything.
fn mutants(context: &mut Context) -> Result<Outcome> {
    let mut command = cargo(&context.root);
    command.env("RUSTFLAGS", "--cfg planted").env("CARGO_TARGET_DIR", context.target_dir().join("planted"));
    command.args(["run", "--quiet", "--profile", "sim", "--package", "bowline-sim", "--", "mutants"]);
    command::run(&mut command)?;
    Ok(Outcome::Done)
}
