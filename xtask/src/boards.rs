//! The templates of `firmware/` for boards that people own: built, linked and measured. Nothing here can run them.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::bare_metal;
use crate::command::{self, cargo};
use crate::firmware::{linker, sections};
use crate::steps::{Context, Outcome, Step};

/// A template: its folder, the target, and what it needs of the standard library.
struct Board {
    folder: &'static str,
    target: &'static str,
    library: &'static str,
}

const BOARDS: [Board; 3] = [
    Board { folder: "stm32f4", target: "thumbv7em-none-eabihf", library: "core" },
    Board { folder: "pico-w", target: "thumbv6m-none-eabi", library: "core" },
    Board { folder: "esp32-c3", target: "riscv32imc-unknown-none-elf", library: "core,alloc" },
];

/// What the templates are told when they are built. The key is that of the specification (`docs/protocol.md`): with a line that
/// is none, the compiler sees that the program ends there, and leaves out the rest.
const SETTINGS: [(&str, &str); 4] = [
    ("WIFI_NETWORK", "network"),
    ("WIFI_PASSWORD", "password"),
    ("BOWLINE_SERVER", "192.0.2.1:9999"),
    ("BOWLINE_KEY", "bowline1:1:AAAQEAYEAUDAOCAJBIFQYDIOB4IBCEQTCQKRMFYYDENBWHA5DYPYW24W:kitchen"),
];

pub(crate) const STEP: Step = Step {
    name: "boards",
    advice: "correct what the compiler says. If a lockfile does not fit, run `cargo update --workspace` in that folder of \
             firmware/; if it is the toolchain, check the network and remove target/toolchains",
    run,
};

fn run(context: &mut Context) -> Result<Outcome> {
    let toolchain = match bare_metal::toolchain(context) {
        Ok(toolchain) => toolchain,
        Err(error) => return context.unavailable(format!("no toolchain for boards, so none was built: {error:#}")),
    };
    let built = context.target_dir().join("boards");
    let mut notes = Vec::new();
    for Board { folder: name, target, library } in BOARDS {
        let folder = context.root.join("firmware").join(name);
        let rustfmt = context.root.join("rustfmt.toml");
        command::run(cargo(&folder).args(["fmt", "--check", "--", "--config-path"]).arg(rustfmt))?;
        let linker_var = format!("CARGO_TARGET_{}_LINKER", target.to_uppercase().replace('-', "_"));
        command::run(
            toolchain
                .builds(&folder, target, library)
                .envs(SETTINGS)
                .env(linker_var, linker()?)
                .args(["--locked", "--target-dir"])
                .arg(&built),
        )?;
        let image = built.join(target).join("release").join(format!("bowline-{name}"));
        let (flash, ram) = measure(&image)?;
        notes.push(format!("{name}: {flash} bytes of flash and {ram} of RAM beside the stack"));
    }
    Ok(Outcome::Noted(notes.join("; ")))
}

/// Bytes of flash and of RAM: what is written to where each lies, by its address. RAM of these chips is at 0x2000_0000 and
/// up, or at 0x3fc0_0000 with its second view at 0x4037_0000.
fn measure(image: &Path) -> Result<(u64, u64)> {
    let listing = command::output(Command::new("readelf").args(["--section-headers", "--wide"]).arg(image))?;
    let sections = sections(&listing);
    let counts = |name: &str| !name.ends_with("_dummy") && name != ".stack";
    let sum = |of: &dyn Fn(&str) -> bool| {
        sections.iter().filter(|(name, _)| counts(name) && of(name)).map(|(_, size)| size).sum::<u64>()
    };
    // A template that ends before it connects is compiled as well, without all that comes behind.
    let names = command::output(Command::new("readelf").args(["--symbols", "--wide"]).arg(image))?;
    if !names.contains("curve25519") {
        bail!("{} holds no handshake: the compiler has seen that it never gets there", image.display());
    }
    // Of what is in RAM, all that is not zero at the start is in flash, too.
    let zero = |name: &str| name.contains("bss") || name.contains("noinit") || name.contains("uninit");
    let in_ram = |name: &str| zero(name) || name.starts_with(".data") || name.starts_with(".rwtext") || name == ".trap";
    let (flash, ram) = (sum(&|name| !zero(name)), sum(&in_ram));
    if flash == 0 || ram == 0 {
        bail!("{} has no sections of a firmware", image.display());
    }
    Ok((flash, ram))
}
