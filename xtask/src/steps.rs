//! Runs a list of steps in order, times them, and says at the end what was done and what was not.

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// What the steps of one run share.
pub(crate) struct Context {
    /// The workspace root; every command runs there.
    pub(crate) root: PathBuf,
    /// Whether a check that cannot be made here fails instead of being skipped.
    ci: bool,
    /// The MicroPython for the tests, once the step `peers` has found one that works.
    pub(crate) micropython: Option<PathBuf>,
    /// How long the step `chaos` takes.
    pub(crate) chaos_minutes: f64,
    /// How long each fuzz target runs.
    pub(crate) fuzz_seconds: u64,
    /// How often the step `emulated board` cuts the power, if the command says so.
    pub(crate) emulator_kills: Option<u64>,
    /// Whether the step `coverage` prints what is not reached.
    pub(crate) uncovered: bool,
    /// Whether the step `sizes` records what it measures.
    pub(crate) record_sizes: bool,
    /// Why the step `instructions` records what it counts; otherwise it compares.
    pub(crate) record: Option<String>,
}

impl Context {
    pub(crate) fn new() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .context("xtask is not inside the workspace: build it again from there")?;
        let ci = env::var("CI").is_ok_and(|value| !matches!(value.as_str(), "" | "0" | "false"));
        let (chaos_minutes, fuzz_seconds) = (crate::chaos::MINUTES, crate::fuzz::SECONDS);
        Ok(Self {
            root: root.to_owned(),
            ci,
            micropython: None,
            chaos_minutes,
            fuzz_seconds,
            emulator_kills: None,
            uncovered: false,
            record_sizes: false,
            record: None,
        })
    }

    /// The folder for what is built or installed. It does not follow `CARGO_TARGET_DIR`: the
    /// documented paths of what is installed stay true.
    pub(crate) fn target_dir(&self) -> PathBuf {
        self.root.join("target")
    }

    /// The outcome of a check that this machine cannot make: skipped, or an error in CI, where a
    /// silent gap would go unnoticed for months.
    pub(crate) fn unavailable(&self, why: String) -> Result<Outcome> {
        if self.ci {
            bail!("{why} (CI is set, so this may not be skipped)");
        }
        Ok(Outcome::Skipped(why))
    }
}

/// How a step ended when it did not fail.
pub(crate) enum Outcome {
    Done,
    /// Done, with something the reader of the summary should know.
    Noted(String),
    /// Not done, and why.
    Skipped(String),
}

/// One step of a command.
#[derive(Clone, Copy)]
pub(crate) struct Step {
    pub(crate) name: &'static str,
    /// What to do when it fails: one sentence, printed below the error.
    pub(crate) advice: &'static str,
    pub(crate) run: fn(&mut Context) -> Result<Outcome>,
}

/// One line of the summary.
struct Row {
    mark: &'static str,
    name: &'static str,
    took: Duration,
    note: String,
}

/// Runs the steps up to the first that fails, and prints the summary either way.
///
/// The last line printed is `<task>: ok, …` or `<task>: FAILED at <step>`.
pub(crate) fn run(task: &str, steps: &[Step], context: &mut Context) -> ExitCode {
    let started = Instant::now();
    let mut rows = Vec::with_capacity(steps.len());
    let mut failure = None;
    for (index, step) in steps.iter().enumerate() {
        println!("\n==> [{}/{}] {}", index + 1, steps.len(), step.name);
        let step_started = Instant::now();
        let result = (step.run)(context);
        let took = step_started.elapsed();
        let (mark, note) = match &result {
            Ok(Outcome::Done) => ("ok", String::new()),
            Ok(Outcome::Noted(note)) => ("ok", note.clone()),
            Ok(Outcome::Skipped(why)) => ("skip", why.clone()),
            Err(_) => ("FAIL", String::new()),
        };
        if !note.is_empty() {
            println!("{mark}: {note}");
        }
        let name = step.name;
        rows.push(Row { mark, name, took, note });
        if let Err(error) = result {
            failure = Some((step, error));
            break;
        }
    }

    print_summary(&rows, steps.len() - rows.len());
    if let Some((step, error)) = failure {
        println!("\nerror: {error:#}\nwhat to do: {}", step.advice);
        println!("{task}: FAILED at {}", step.name);
        return ExitCode::FAILURE;
    }
    let skipped = rows.iter().filter(|row| row.mark == "skip").count();
    println!("{task}: ok, steps: {}, skipped: {skipped}, {:.1} s", rows.len(), started.elapsed().as_secs_f64());
    ExitCode::SUCCESS
}

fn print_summary(rows: &[Row], not_reached: usize) {
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    println!("\n==> summary");
    for row in rows {
        let seconds = row.took.as_secs_f64();
        let line = format!("{:<4}  {:<width$}  {seconds:>7.1} s  {}", row.mark, row.name, row.note);
        println!("{}", line.trim_end());
    }
    if not_reached > 0 {
        println!("steps not reached: {not_reached}");
    }
}
