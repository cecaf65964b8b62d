//! The MicroPython client as `.mpy` files: boards with little memory cannot compile it themselves.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::command;
use crate::peers::{self, MPY_CROSS_VAR};
use crate::steps::{Context, Outcome, Step};

pub(crate) const STEPS: [Step; 2] = [
    peers::STEP,
    Step { name: "mpy", advice: "correct the file that mpy-cross names; it compiles as boards do", run: compile },
];

fn compile(context: &mut Context) -> Result<Outcome> {
    let Some(mpy_cross) = mpy_cross(context) else {
        return context.unavailable(format!("no mpy-cross beside the MicroPython, and {MPY_CROSS_VAR} names none"));
    };
    let package = context.root.join("clients/micropython/bowline");
    let out = context.target_dir().join("mpy/bowline");
    fs::create_dir_all(&out)?;
    let mut names: Vec<_> = fs::read_dir(&package)
        .with_context(|| format!("reading {}", package.display()))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    names.retain(|path| path.extension().is_some_and(|extension| extension == "py"));
    names.sort();
    let mut whole = 0;
    for source in &names {
        let compiled = out.join(source.file_stem().unwrap_or_default()).with_extension("mpy");
        command::output(Command::new(&mpy_cross).args(["-O3", "-o"]).arg(&compiled).arg(source))?;
        let size = fs::metadata(&compiled)?.len();
        println!("{size:>6} {}", compiled.file_name().map(Path::new).unwrap_or(&compiled).display());
        whole += size;
    }
    Ok(Outcome::Noted(format!("{whole} bytes in {}", out.display())))
}

fn mpy_cross(context: &Context) -> Option<PathBuf> {
    let beside = context.micropython.as_ref().map(|path| path.with_file_name("mpy-cross"));
    std::env::var_os(MPY_CROSS_VAR).map(PathBuf::from).or(beside).filter(|path| path.exists())
}
