//! The parts of `docs/` that are made from the code.
//!
//! The tests that compare them with the code write them instead when a variable is set, so that there
//! is one way only to make them.

use anyhow::Result;

use crate::command::{self, cargo};
use crate::steps::{Context, Outcome, Step};

pub(crate) const STEP: Step =
    Step { name: "pages from the code", advice: "make the code build, and give what is new a comment", run: write };

fn write(context: &mut Context) -> Result<Outcome> {
    let tests = ["test", "--quiet", "--package", "bowline", "--lib", "reference"];
    command::run(cargo(&context.root).env("BOWLINE_WRITE_DOCS", "1").args(tests))?;
    Ok(Outcome::Done)
}
