//! Proves that the core needs no operating system: it is built for a microcontroller that has none,
//! and what it depends on is compared with a list.
//!
//! The stable toolchain of a distribution or a CI machine need not have a library for such a target.
//! Debian packages a compiler together with its library's source, so `core` can be built for any
//! target. The packages are unpacked into a folder and not installed: they would replace the
//! system's compiler.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::apt;
use crate::command::{self, cargo};
use crate::steps::{Context, Outcome, Step};

/// A Cortex-M3: the smallest kind of board the project aims at.
const TARGET: &str = "thumbv7m-none-eabi";

/// A crate that must build for [`TARGET`].
struct Crate {
    package: &'static str,
    /// The parts of the standard library it may use: `core`, or `core,alloc`.
    library: &'static str,
    /// Every package it may depend on, directly or not, for whatever target, itself left out.
    dependencies: &'static [&'static str],
}

const CRATES: &[Crate] = &[
    Crate { package: "bowline-proto", library: "core", dependencies: &[] },
    Crate { package: "bowline-secure", library: "core", dependencies: SECURE },
    Crate {
        package: "bowline-flash",
        library: "core",
        dependencies: &["bowline-proto", "embedded-storage", "embedded-storage-async"],
    },
    Crate { package: "bowline-embedded", library: "core", dependencies: EMBEDDED },
];

/// What the cryptography stands on, on all targets together.
const SECURE: &[&str] = &[
    "aead",
    "arrayvec",
    "block-buffer",
    "bowline-proto",
    "cfg-if",
    "chacha20",
    "chacha20poly1305",
    "cipher",
    "cpufeatures",
    "crypto-common",
    "curve25519-dalek",
    "curve25519-dalek-derive",
    "digest",
    "fiat-crypto",
    "generic-array",
    "inout",
    "libc",
    "noise-protocol",
    "noise-rust-crypto",
    "opaque-debug",
    "poly1305",
    "proc-macro2",
    "quote",
    "sha2",
    "subtle",
    "syn",
    "typenum",
    "unicode-ident",
    "universal-hash",
    "zeroize",
];

/// The device's client: the cryptography, the outbox, and the traits and queues of embassy.
const EMBEDDED: &[&str] = &[
    "aead",
    "arrayvec",
    "block-buffer",
    "bowline-flash",
    "bowline-proto",
    "bowline-secure",
    "byteorder",
    "cfg-if",
    "chacha20",
    "chacha20poly1305",
    "cipher",
    "cpufeatures",
    "critical-section",
    "crypto-common",
    "curve25519-dalek",
    "curve25519-dalek-derive",
    "digest",
    "document-features",
    "embassy-futures",
    "embassy-sync",
    "embassy-time",
    "embassy-time-driver",
    "embedded-hal",
    "embedded-hal-async",
    "embedded-io",
    "embedded-io-async",
    "embedded-nal",
    "embedded-nal-async",
    "embedded-storage",
    "embedded-storage-async",
    "fiat-crypto",
    "futures-core",
    "futures-sink",
    "generic-array",
    "hash32",
    "heapless",
    "inout",
    "libc",
    "litrs",
    "nb",
    "noise-protocol",
    "noise-rust-crypto",
    "opaque-debug",
    "poly1305",
    "proc-macro2",
    "quote",
    "sha2",
    "stable_deref_trait",
    "subtle",
    "syn",
    "typenum",
    "unicode-ident",
    "universal-hash",
    "void",
    "zeroize",
];

pub(crate) const STEPS: &[Step] = &[
    Step {
        name: "bare-metal dependencies",
        advice: "do without the new dependency, or allow it in CRATES in xtask/src/bare_metal.rs",
        run: check_dependencies,
    },
    Step {
        name: "bare-metal build",
        advice: "keep the crate `no_std`; if it is the toolchain, check the network and remove target/toolchains",
        run: build,
    },
];

fn check_dependencies(context: &mut Context) -> Result<Outcome> {
    for Crate { package, dependencies, .. } in CRATES {
        let tree = command::output(cargo(&context.root).args([
            "tree",
            "--package",
            package,
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--target",
            "all",
        ]))?;
        let found = package_names(&tree);
        // An empty or foreign answer would pass the comparison without having checked anything.
        if !found.contains(package) {
            bail!("expected `cargo tree` to name {package}, it printed: {tree}");
        }
        let unexpected: Vec<&str> =
            found.into_iter().filter(|name| name != package && !dependencies.contains(name)).collect();
        if !unexpected.is_empty() {
            bail!("{package} depends on what is not on its list: {}", unexpected.join(", "));
        }
    }
    Ok(Outcome::Done)
}

/// The names in `cargo tree --prefix none`, whose lines are `name vX.Y.Z …`.
fn package_names(tree: &str) -> BTreeSet<&str> {
    tree.lines().filter_map(|line| line.split_whitespace().next()).collect()
}

fn build(context: &mut Context) -> Result<Outcome> {
    let toolchain = match Toolchain::find_or_install(&context.target_dir().join("toolchains")) {
        Ok(toolchain) => toolchain,
        Err(error) => {
            return context.unavailable(format!("no toolchain for {TARGET}, so `no_std` was not proved: {error:#}"));
        }
    };
    for Crate { package, library, .. } in CRATES {
        command::run(
            cargo(&context.root)
                .env("RUSTC", &toolchain.rustc)
                .env("LD_LIBRARY_PATH", &toolchain.libraries)
                // `-Zbuild-std` is unstable; this lets a stable compiler take it.
                .env("RUSTC_BOOTSTRAP", "1")
                .args(["build", "--release", "--lib", "--no-default-features"])
                .args(["--package", package, "--target", TARGET])
                .arg(format!("-Zbuild-std={library}"))
                // A folder of its own: another compiler in the same one rebuilds everything.
                .arg("--target-dir")
                .arg(context.target_dir().join("bare-metal")),
        )?;
    }
    Ok(Outcome::Noted(format!("{TARGET}, {}", toolchain.version)))
}

/// Debian's compiler, unpacked.
struct Toolchain {
    rustc: PathBuf,
    /// The folder of the compiler's own shared libraries.
    libraries: PathBuf,
    version: String,
}

impl Toolchain {
    /// Uses what is in `folder`, or unpacks it there.
    ///
    /// The final name is given by a rename at the very end, so an interrupted run leaves nothing
    /// that looks complete. One that is there is kept, however old: it is replaced only when it no
    /// longer runs.
    fn find_or_install(folder: &Path) -> Result<Self> {
        let complete = folder.join("rustc-web");
        if let Ok(toolchain) = Self::open(&complete) {
            return Ok(toolchain);
        }

        if !apt::present() {
            bail!("this needs Debian's package tools");
        }
        let partial = folder.join("rustc-web.partial");
        for stale in [&complete, &partial] {
            if stale.exists() {
                fs::remove_dir_all(stale).with_context(|| format!("removing {}", stale.display()))?;
            }
        }
        let archives = partial.join("archives");
        let unpacked = partial.join("root");
        fs::create_dir_all(&archives).with_context(|| format!("creating {}", archives.display()))?;

        if apt::is_root() {
            apt::update()?;
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
        fs::rename(&unpacked, &complete).with_context(|| format!("moving the toolchain to {}", complete.display()))?;
        fs::remove_dir_all(&partial).with_context(|| format!("removing {}", partial.display()))?;
        Self::open(&complete)
    }

    /// Succeeds when a compiler that runs, and its library's source, are in `root`.
    fn open(root: &Path) -> Result<Self> {
        let rustc = root.join("usr/bin/rustc");
        let source = root.join("usr/lib/rustlib/src/rust/library/core/src/lib.rs");
        if !source.exists() {
            bail!("{} is missing", source.display());
        }
        // Debian puts shared libraries into a folder named by the machine, such as
        // `x86_64-linux-gnu`.
        let libraries = fs::read_dir(root.join("usr/lib"))?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| path.to_string_lossy().ends_with("-linux-gnu"))
            .context("the toolchain has no shared libraries")?;
        let version = command::output(Command::new(&rustc).env("LD_LIBRARY_PATH", &libraries).arg("--version"))?;
        Ok(Self { rustc, libraries, version: version.trim().to_owned() })
    }
}

/// The packages to unpack: the compiler, the library's source, the library for the host (build
/// scripts need it), and the shared libraries these need that the system lacks.
///
/// The names carry versions that move (`libstd-rust-web-1.NN`, `libllvmNN`), so they are asked for.
/// What the system has installed, above all its libc, is left to the system: a second libc beside
/// the system's loader does not run.
fn packages() -> Result<Vec<String>> {
    let tree = command::output(Command::new("apt-cache").env("LC_ALL", "C").args([
        "depends",
        "--recurse",
        "--important",
        "libstd-rust-web-dev",
    ]))
    .context("Debian's package rustc-web is not to be had here")?;
    let mut packages = vec!["rustc-web".to_owned(), "rust-web-src".to_owned()];
    packages.extend(
        tree_packages(&tree)
            .filter(|package| package.contains("rust-web") || !is_installed(package))
            .map(str::to_owned),
    );
    Ok(packages)
}

/// The packages in `apt-cache depends --recurse`: the lines that are not indented. A name in angle
/// brackets is provided by others and cannot be loaded itself.
fn tree_packages(tree: &str) -> impl Iterator<Item = &str> {
    tree.lines().filter(|line| !line.starts_with([' ', '|', '<']) && !line.is_empty())
}

fn is_installed(package: &str) -> bool {
    command::output(Command::new("dpkg-query").args(["-W", "-f", "${Status}", package]))
        .is_ok_and(|status| status == "install ok installed")
}

#[cfg(test)]
mod tests {
    use super::{package_names, tree_packages};

    #[test]
    fn cargo_tree_lines_give_each_name_once() {
        let tree = "bowline-proto v0.1.0 (/src/bowline-proto)\nserde v1.0.0\nserde v1.0.0 (*)\n";
        let names: Vec<&str> = package_names(tree).into_iter().collect();
        assert_eq!(names, ["bowline-proto", "serde"]);
    }

    #[test]
    fn apt_tree_gives_real_packages_only() {
        let tree = "libllvm22\n  Depends: libc6\n |Depends: libedit2\n    libfoo\n<libc-dev>\nlibc6\n";
        let names: Vec<&str> = tree_packages(tree).collect();
        assert_eq!(names, ["libllvm22", "libc6"]);
    }
}
