//! Debian's package tools, as far as the steps need them.

use std::process::Command;

use anyhow::{Result, bail};

use crate::command;

/// Whether `apt-get` is here at all; true on Debian and what descends from it.
pub(crate) fn present() -> bool {
    command::succeeds(Command::new("apt-get").arg("--version"))
}

/// Whether packages may be installed on this system.
pub(crate) fn is_root() -> bool {
    command::output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}

/// Fetches the package lists; a fresh system has none or old ones. Needs root.
pub(crate) fn update() -> Result<()> {
    command::run(Command::new("apt-get").args(["update", "-qq"]))
}

/// Installs one package on the system, or says how the user can.
pub(crate) fn install(package: &str) -> Result<()> {
    if !present() || !is_root() {
        bail!("package {package} is missing: install it (`apt-get install {package}`)");
    }
    update()?;
    command::run(Command::new("apt-get").env("DEBIAN_FRONTEND", "noninteractive").args([
        "install",
        "-qq",
        "--no-install-recommends",
        package,
    ]))
}
