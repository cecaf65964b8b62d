//! Proves that the core needs no operating system: it is built for a microcontroller that has none,
//! and what it depends on is compared with a list.
//!
//! The stable toolchain of a distribution or a CI machine need not have a library for such a target.
//! Debian packages a compiler together with its library's source, so `core` can be built for any
//! target. The packages are unpacked into a folder and not installed: they would replace the
//! system's compiler.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::apt;
use crate::command::{self, cargo};
use crate::steps::{Context, Outcome, Step};

/// A Cortex-M3: the smallest kind of board the project aims at.
pub(crate) const TARGET: &str = "thumbv7m-none-eabi";

/// A crate that must build for [`TARGET`].
struct Crate {
    package: &'static str,
    /// The parts of the standard library it may use: `core`, or `core,alloc`.
    library: &'static str,
    /// Every package it may depend on, directly or not, for whatever target, itself left out.
    dependencies: &'static [&'static [&'static str]],
}

const CRATES: &[Crate] = &[
    Crate { package: "bowline-proto", library: "core", dependencies: &[] },
    Crate { package: "bowline-secure", library: "core", dependencies: &[SECURE] },
    Crate {
        package: "bowline-flash",
        library: "core",
        dependencies: &[&["bowline-proto", "embedded-storage", "embedded-storage-async"]],
    },
    Crate { package: "bowline-embedded", library: "core", dependencies: &[EMBEDDED] },
    Crate {
        package: "bowline-coprocessor",
        library: "core",
        dependencies: &[EMBEDDED, &["bowline-embedded", "cobs", "thiserror", "thiserror-impl"]],
    },
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
    "embassy-net-driver",
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
        let unexpected: Vec<&str> = found
            .into_iter()
            .filter(|name| name != package && !dependencies.iter().any(|list| list.contains(name)))
            .collect();
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
    let toolchain = match toolchain(context) {
        Ok(toolchain) => toolchain,
        Err(error) => {
            return context.unavailable(format!("no toolchain for {TARGET}, so `no_std` was not proved: {error:#}"));
        }
    };
    for Crate { package, library, .. } in CRATES {
        command::run(
            toolchain
                .builds(&context.root, TARGET, library)
                .args(["--lib", "--package", package])
                // A folder of its own: another compiler in the same one rebuilds everything.
                .arg("--target-dir")
                .arg(context.target_dir().join("bare-metal")),
        )?;
    }
    Ok(Outcome::Noted(format!("{TARGET}, {}", toolchain.version)))
}

/// The compiler for [`TARGET`], installed if need be.
pub(crate) fn toolchain(context: &Context) -> Result<Toolchain> {
    Toolchain::find_or_install(&context.target_dir().join("toolchains"))
}

/// Debian's compiler, unpacked.
pub(crate) struct Toolchain {
    rustc: PathBuf,
    /// The folder of the compiler's own shared libraries.
    libraries: PathBuf,
    pub(crate) version: String,
}

impl Toolchain {
    /// A cargo that builds the workspace in `root` for this target, with this compiler and these parts of the standard
    /// library.
    pub(crate) fn builds(&self, root: &Path, target: &str, library: &str) -> Command {
        let mut cargo = cargo(root);
        cargo.env("RUSTC", &self.rustc).env("LD_LIBRARY_PATH", &self.libraries);
        // `-Zbuild-std` is unstable; this lets a stable compiler take it.
        cargo.env("RUSTC_BOOTSTRAP", "1");
        cargo.args(["build", "--release", "--target", target]).arg(format!("-Zbuild-std={library}"));
        cargo
    }

    /// Uses what is in `folder`, or unpacks it there. What is there is kept, however old: it is replaced only when it no
    /// longer runs.
    pub(crate) fn find_or_install(folder: &Path) -> Result<Self> {
        let complete = folder.join("rustc-web");
        if let Ok(toolchain) = Self::open(&complete) {
            return Ok(toolchain);
        }

        apt::unpack(&complete, packages)?;
        Self::open(&complete)
    }

    /// Succeeds when a compiler that runs, and its library's source, are in `root`.
    fn open(root: &Path) -> Result<Self> {
        let rustc = root.join("usr/bin/rustc");
        let source = root.join("usr/lib/rustlib/src/rust/library/core/src/lib.rs");
        if !source.exists() {
            bail!("{} is missing", source.display());
        }
        let libraries = apt::libraries(root)?;
        let version = command::output(Command::new(&rustc).env("LD_LIBRARY_PATH", &libraries).arg("--version"))?;
        Ok(Self { rustc, libraries, version: version.trim().to_owned() })
    }
}

/// The packages to unpack: the compiler, the library's source, the library for the host (build
/// scripts need it), and the shared libraries these need that the system lacks.
fn packages() -> Result<Vec<String>> {
    let mut packages = vec!["rustc-web".to_owned(), "rust-web-src".to_owned()];
    let needed =
        apt::dependencies("libstd-rust-web-dev").context("Debian's package rustc-web is not to be had here")?;
    packages.extend(needed.into_iter().filter(|name| name.contains("rust-web") || !apt::is_installed(name)));
    Ok(packages)
}

#[cfg(test)]
mod tests {
    use super::package_names;

    #[test]
    fn cargo_tree_lines_give_each_name_once() {
        let tree = "bowline-proto v0.1.0 (/src/bowline-proto)\nserde v1.0.0\nserde v1.0.0 (*)\n";
        let names: Vec<&str> = package_names(tree).into_iter().collect();
        assert_eq!(names, ["bowline-proto", "serde"]);
    }
}
