//! The firmware of `firmware/`: built for its boards, measured, and run on emulated ones.
//!
//! It is compiled as [`bare_metal`] compiles the crates it is made of, and linked by the linker that the installed
//! compiler brings along.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::apt;
use crate::bare_metal::{self, TARGET, Toolchain};
use crate::command::{self, cargo};
use crate::panics;
use crate::steps::{Context, Outcome, Step};

/// An image, and what there is for it on its board, in bytes.
struct Image {
    name: &'static str,
    flash: u64,
    /// For what is static: the stack has a part of its own (`memory.x`).
    ram: u64,
}

const IMAGES: [Image; 3] = [
    Image { name: "bowline-qemu-lm3s6965", flash: 256 * 1024, ram: 24 * 1024 },
    Image { name: "bowline-qemu-coprocessor", flash: 256 * 1024, ram: 24 * 1024 },
    Image { name: "bowline-qemu-netduinoplus2", flash: 1024 * 1024, ram: 64 * 1024 },
];

/// The emulator, and the package it is in.
const EMULATOR: (&str, &str) = ("qemu-system-arm", "qemu-system-arm");

/// The folder in which the tests look for the firmware.
const FIRMWARE_VAR: &str = "BOWLINE_FIRMWARE";
/// How often they cut the power in CI, which kills the server half as often.
pub(crate) const KILLS_IN_CI: u64 = 100;
/// How often they cut the power.
const KILLS_VAR: &str = "BOWLINE_EMULATOR_KILLS";

pub(crate) const STEPS: &[Step] = &[
    Step {
        name: "firmware",
        advice: "correct what the compiler says, or make it smaller; if it is the toolchain, check the network and remove \
                 target/toolchains",
        run: build,
    },
    Step {
        name: "emulated boards",
        advice: "BOWLINE_SEED=<the seed above> has much the same faults again, with BOWLINE_FIRMWARE as shown",
        run: emulate,
    },
];

/// Where `build` leaves the images.
fn images(context: &Context) -> PathBuf {
    context.target_dir().join("firmware").join(TARGET).join("release")
}

fn build(context: &mut Context) -> Result<Outcome> {
    let folder = context.root.join("firmware");
    let rustfmt = context.root.join("rustfmt.toml");
    command::run(cargo(&folder).args(["fmt", "--all", "--check", "--", "--config-path"]).arg(rustfmt))?;
    let toolchain = match bare_metal::toolchain(context) {
        Ok(toolchain) => toolchain,
        Err(error) => return context.unavailable(format!("no toolchain for {TARGET}, so no firmware: {error:#}")),
    };
    let images = build_images(context, &toolchain, &[])?;
    let sizes: Vec<String> = IMAGES.iter().map(|image| measure(image, &images)).collect::<Result<_>>()?;
    Ok(Outcome::Noted(sizes.join("; ")))
}

/// Builds all images, or what `which` says, and says where they are. As panics are looked for in one of them, each place has
/// its own code: that costs a little flash, and saves building them twice.
pub(crate) fn build_images(context: &Context, toolchain: &Toolchain, which: &[&str]) -> Result<PathBuf> {
    let mut cargo = toolchain.builds(&context.root.join("firmware"), TARGET, "core");
    cargo.env("CARGO_TARGET_THUMBV7M_NONE_EABI_LINKER", linker()?);
    // Named for the target, so that build scripts have none of it.
    cargo.env("CARGO_TARGET_THUMBV7M_NONE_EABI_RUSTFLAGS", panics::APART);
    cargo.args(["--locked", "--target-dir"]).arg(context.target_dir().join("firmware"));
    command::run(cargo.args(which))?;
    Ok(images(context))
}

/// What an image takes of its board, unless that is too much.
fn measure(&Image { name, flash, ram }: &Image, folder: &Path) -> Result<String> {
    let listing =
        command::output(Command::new("readelf").args(["--section-headers", "--wide"]).arg(folder.join(name)))?;
    let sections = sections(&listing);
    let [text, data, bss] =
        [[".vector_table", ".text", ".rodata"].as_slice(), &[".data"], &[".bss", ".uninit"]].map(|names| {
            sections.iter().filter(|(name, _)| names.contains(&name.as_str())).map(|(_, size)| size).sum::<u64>()
        });
    println!("{name}");
    for (name, size) in &sections {
        println!("{size:>8} {name}");
    }
    let (in_flash, in_ram) = (text + data, data + bss);
    if text == 0 || bss == 0 {
        bail!("{name} has no sections of a firmware");
    }
    if in_flash > flash || in_ram > ram {
        bail!("{name}: {in_flash} bytes of flash and {in_ram} of RAM are more than there are: {flash} and {ram}");
    }
    Ok(format!("{name}: {in_flash} bytes of flash, {in_ram} of RAM beside the stack"))
}

/// The linker for all targets that comes with the installed compiler.
pub(crate) fn linker() -> Result<PathBuf> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let sysroot = command::output(Command::new(rustc).args(["--print", "sysroot"]))?;
    let host = command::rustc("host")?;
    let linker = Path::new(sysroot.trim()).join("lib/rustlib").join(host).join("bin/rust-lld");
    if linker.exists() {
        return Ok(linker);
    }
    // A distribution's compiler has none.
    if !command::succeeds(Command::new("ld.lld").arg("--version")) {
        apt::install("lld")?;
    }
    Ok("ld.lld".into())
}

/// Names and sizes of what `readelf` lists, where there is something that goes to the board: those with an `A` among
/// their flags.
pub(crate) fn sections(listing: &str) -> Vec<(String, u64)> {
    let section = |line: &str| {
        let (_, fields) = line.split_once(']')?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let [name, _, _, _, size, _, flags, ..] = *fields else { return None };
        let size = u64::from_str_radix(size, 16).ok()?;
        (flags.contains('A') && size > 0).then(|| (name.to_owned(), size))
    };
    listing.lines().filter_map(section).collect()
}

fn emulate(context: &mut Context) -> Result<Outcome> {
    let images = images(context);
    if IMAGES.iter().any(|image| !images.join(image.name).exists()) {
        return context.unavailable("no firmware, so nothing was emulated".to_owned());
    }
    let (emulator, package) = EMULATOR;
    if !command::succeeds(Command::new(emulator).arg("--version"))
        && let Err(error) = apt::install(package)
    {
        return context.unavailable(format!("no {emulator}: {error:#}"));
    }
    let mut test = cargo(&context.root);
    test.args(["test", "--quiet", "--package", "bowline", "--test", "cli", "--", "emulated::"]);
    test.args(["--nocapture", "--test-threads=1"]).env(FIRMWARE_VAR, images);
    if let Some(kills) = context.emulator_kills {
        test.env(KILLS_VAR, kills.to_string());
    }
    command::run(&mut test)?;
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use super::sections;

    #[test]
    fn what_goes_to_the_board_is_listed_with_its_size() {
        let listing = "  [Nr] Name   Type  Addr     Off    Size   ES Flg Lk Inf Al\n\
                       \x20 [ 0]        NULL  00000000 000000 000000 00      0   0  0\n\
                       \x20 [ 2] .text  PROGBITS 00000400 000400 01ced0 00  AX  0   0  4\n\
                       \x20 [ 7] .bss   NOBITS 20000018 000018 00463c 00  WA  0   0  8\n\
                       \x20 [ 9] .debug PROGBITS 00000000 000400 000010 00      0   0  4\n";
        assert_eq!(sections(listing), [(".text".to_owned(), 0x1ced0), (".bss".to_owned(), 0x463c)]);
    }
}
