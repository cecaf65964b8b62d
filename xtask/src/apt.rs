//! Debian's package tools, as far as the steps need them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

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

/// Loads packages and unpacks them into `folder`, without installing anything: they would replace what the system has.
///
/// The final name is given by a rename at the very end, so an interrupted run leaves nothing that looks complete.
pub(crate) fn unpack(folder: &Path, packages: impl FnOnce() -> Result<Vec<String>>) -> Result<()> {
    if !present() {
        bail!("this needs Debian's package tools");
    }
    let partial = folder.with_extension("partial");
    for stale in [folder, &partial] {
        if stale.exists() {
            fs::remove_dir_all(stale).with_context(|| format!("removing {}", stale.display()))?;
        }
    }
    let archives = partial.join("archives");
    let unpacked = partial.join("root");
    fs::create_dir_all(&archives).with_context(|| format!("creating {}", archives.display()))?;

    if is_root() {
        update()?;
    }
    command::run(
        Command::new("apt-get")
            .current_dir(&archives)
            // Root would hand over to a user that cannot write to this folder, and warn.
            .args(["-q", "-o", "APT::Sandbox::User=root", "download"])
            .args(packages()?),
    )?;
    for archive in fs::read_dir(&archives)? {
        command::run(Command::new("dpkg").arg("-x").arg(archive?.path()).arg(&unpacked))?;
    }
    fs::rename(&unpacked, folder).with_context(|| format!("moving it to {}", folder.display()))?;
    fs::remove_dir_all(&partial).with_context(|| format!("removing {}", partial.display()))
}

/// Every package that `package` needs, itself among them.
///
/// Names carry versions that move (`libstd-rust-web-1.NN`, `libllvmNN`), so they are asked for. Those the system has
/// installed, above all its libc, should be left to it: a second libc beside the system's loader does not run.
pub(crate) fn dependencies(package: &str) -> Result<Vec<String>> {
    let arguments = ["depends", "--recurse", "--important", package];
    let tree = command::output(Command::new("apt-cache").env("LC_ALL", "C").args(arguments))?;
    Ok(tree_packages(&tree).map(str::to_owned).collect())
}

/// The packages in `apt-cache depends --recurse`: the lines that are not indented. A name in angle
/// brackets is provided by others and cannot be loaded itself.
fn tree_packages(tree: &str) -> impl Iterator<Item = &str> {
    tree.lines().filter(|line| !line.starts_with([' ', '|', '<']) && !line.is_empty())
}

pub(crate) fn is_installed(package: &str) -> bool {
    command::output(Command::new("dpkg-query").args(["-W", "-f", "${Status}", package]))
        .is_ok_and(|status| status == "install ok installed")
}

/// The folder of shared libraries in what was unpacked. Debian names it by the machine, such as `x86_64-linux-gnu`.
pub(crate) fn libraries(root: &Path) -> Result<PathBuf> {
    fs::read_dir(root.join("usr/lib"))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.to_string_lossy().ends_with("-linux-gnu"))
        .with_context(|| format!("{} has no shared libraries", root.display()))
}

#[cfg(test)]
mod tests {
    use super::tree_packages;

    #[test]
    fn apt_tree_gives_real_packages_only() {
        let tree = "libllvm22\n  Depends: libc6\n |Depends: libedit2\n    libfoo\n<libc-dev>\nlibc6\n";
        let names: Vec<&str> = tree_packages(tree).collect();
        assert_eq!(names, ["libllvm22", "libc6"]);
    }
}
