//! What the client for boards takes of memory and flash on a Cortex-M3, compared with its budgets and with what is recorded.
//!
//! `crates/bowline-embedded/sizes` is built once without a client and once for each kind of client, optimized for size. Flash is
//! the difference of what the linker puts there; memory is what the compiler says of each part, which the program carries in a
//! section of its own. The stack is measured in QEMU, where a client talks to a server.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::apt;
use crate::bare_metal::{TARGET, Toolchain};
use crate::command;
use crate::panics;
use crate::steps::{Context, Outcome, Step};

pub(crate) const STEPS: &[Step] = &[SIZES, panics::STEP];

const SIZES: Step = Step {
    name: "sizes",
    advice: "find what has grown and why; if that is worth it, `cargo xtask sizes --record`, and commit what it writes. If \
             its lockfile does not fit the crates, run `cargo update --workspace` in crates/bowline-embedded/sizes",
    run,
};

/// A client that is measured.
struct Kind {
    name: &'static str,
    features: &'static str,
    /// As the table in `docs/memory.md` has it.
    title: &'static str,
    /// Most bytes of flash and memory; `None` where there is no budget.
    budget: Option<(u64, u64)>,
    /// The features of the program that measures its stack.
    stack: Option<&'static str>,
}

const KINDS: [Kind; 4] = [
    Kind { name: "open", features: "open", title: "open", budget: Some((24 << 10, 4 << 10)), stack: Some("stack") },
    Kind {
        name: "keys",
        features: "keys",
        title: "encrypted",
        budget: Some((48 << 10, 8 << 10)),
        stack: Some("stack,keys"),
    },
    Kind { name: "flash", features: "keys,flash", title: "encrypted, outbox on flash", budget: None, stack: None },
    Kind { name: "lines", features: "lines", title: "dialect H, open", budget: None, stack: None },
];

/// The parts in the order of `SIZES` in `sizes/src/client.rs`, and whether they count as the client's memory.
const PARTS: [(&str, &str, bool); 8] = [
    ("payloads", "payloads of 4 messages on their way out", true),
    ("slots", "what is known of these 4", true),
    ("buffers", "buffers of the link, in and out", true),
    ("inbox", "a message that has come, with its head", true),
    ("session", "session, outbox's and client's state", true),
    ("runner", "runner, with settings and ticket", true),
    ("link", "future of the runner: link, seal, handshake", true),
    ("application", "future of an application that sends, receives and requests, with a buffer of 256", false),
];

/// Flash of what every program with a network has: the compiler's functions that copy memory and divide 64 bits.
const LIBRARY: &str = "library";

/// What is compared.
const TOTALS: [&str; 4] = ["CODE", "RAM", "STACK", "INSTRUCTIONS"];

/// Runs the program that measures its stack. Its package has the same name.
const QEMU: &str = "qemu-system-arm";

/// Growth beyond this many hundredths of what is recorded fails.
const TOLERANCE: u64 = 5;

/// `kind.what` and bytes.
type Sizes = BTreeMap<String, u64>;

fn run(context: &mut Context) -> Result<Outcome> {
    let toolchain = match Toolchain::find_or_install(&context.target_dir().join("toolchains")) {
        Ok(toolchain) => toolchain,
        Err(error) => return context.unavailable(format!("no toolchain for {TARGET}: {error:#}")),
    };
    if !command::succeeds(Command::new(QEMU).arg("--version"))
        && let Err(error) = apt::install(QEMU)
    {
        return context.unavailable(format!("no {QEMU}, so nothing was measured: {error:#}"));
    }
    let sizes = measure(context, &toolchain)?;
    let table = table(&sizes);
    println!("{table}");
    let folder = folder(&context.root);
    let (record, page) = (folder.join("recorded.txt"), context.root.join("docs/memory.md"));
    if context.record_sizes {
        fs::write(&record, written(&sizes, &toolchain.version))?;
        let text = fs::read_to_string(&page).with_context(|| page.display().to_string())?;
        fs::write(&page, with_table(&text, &table)?)?;
        return Ok(Outcome::Noted("recorded".into()));
    }
    let text = fs::read_to_string(&record).with_context(|| record.display().to_string())?;
    let (recorded, version) = read(&text)?;
    let mut complaints = over_budget(&sizes);
    complaints.extend(grown(&sizes, &recorded));
    if !complaints.is_empty() {
        if version != toolchain.version {
            complaints.push(format!("it was recorded with {version}, this is {}", toolchain.version));
        }
        bail!("{}", complaints.join("\n  "));
    }
    Ok(Outcome::Noted(summary(&sizes)))
}

pub(crate) fn folder(root: &Path) -> PathBuf {
    root.join("crates/bowline-embedded/sizes")
}

fn measure(context: &Context, toolchain: &Toolchain) -> Result<Sizes> {
    let build = |features| build(context, toolchain, features, "sizes", "");
    let read = |program: PathBuf| Program::read(&fs::read(&program).with_context(|| program.display().to_string())?);
    let (without, bare) = (read(build("")?)?.flash, read(build("bare")?)?.flash);
    let mut sizes = Sizes::new();
    for Kind { name, features, stack, .. } in KINDS {
        let program = read(build(features)?)?;
        let mut memory = 0;
        for ((part, _, counts), bytes) in PARTS.iter().zip(program.parts) {
            sizes.insert(format!("{name}.{part}"), bytes);
            memory += if *counts { bytes } else { 0 };
        }
        sizes.insert(format!("{name}.RAM"), memory);
        sizes.insert(format!("{name}.CODE"), program.flash - without);
        sizes.insert(format!("{name}.{LIBRARY}"), without - bare);
        if let Some(features) = stack {
            let (stack, instructions) = runs(&build(features)?)?;
            sizes.insert(format!("{name}.STACK"), stack);
            sizes.insert(format!("{name}.INSTRUCTIONS"), instructions);
        }
    }
    Ok(sizes)
}

/// How deep the stack of a program gets, and how many instructions it takes until the link is up. It says both itself:
/// here each instruction takes a nanosecond of the board's time.
fn runs(program: &Path) -> Result<(u64, u64)> {
    let board = ["-machine", "lm3s6965evb", "-nographic", "-monitor", "none", "-serial", "none", "-semihosting"];
    let board = board.iter().chain(&["-icount", "shift=0"]);
    let mut qemu = Command::new("timeout");
    let said = command::output(qemu.arg("60").arg(QEMU).args(board).arg("-kernel").arg(program))?;
    let number = |what: &str| said.lines().find_map(|line| line.strip_prefix(what)?.parse().ok());
    let numbers = number("stack ").zip(number("instructions "));
    numbers.with_context(|| format!("expected `stack N` and `instructions N` from the program, it said: {said}"))
}

/// Builds a program in a folder of `target`, with `more` flags for the compiler, and says where it is.
pub(crate) fn build(
    context: &Context,
    toolchain: &Toolchain,
    features: &str,
    target: &str,
    more: &str,
) -> Result<PathBuf> {
    let folder = folder(&context.root);
    let (sysroot, host) = (command::rustc_prints("sysroot")?, command::rustc("host")?);
    let linker = Path::new(&sysroot).join("lib/rustlib").join(host).join("bin/rust-lld");
    let target = context.target_dir().join(target);
    let flags = format!(
        "-Clinker={} -Clinker-flavor=ld.lld -Clink-arg=-Tlink.x -Clink-arg=-L{} {more}",
        linker.display(),
        folder.display()
    );
    command::run(
        toolchain
            .builds(&folder, TARGET, "core")
            // Named for the target, so that build scripts have none of it.
            .env("CARGO_TARGET_THUMBV7M_NONE_EABI_RUSTFLAGS", flags)
            .args(["--locked", "--features", features])
            .arg("--target-dir")
            .arg(&target),
    )?;
    Ok(target.join(TARGET).join("release/bowline-sizes"))
}

/// What a program's file says.
#[derive(Debug, PartialEq, Eq)]
struct Program {
    /// Bytes of what goes to flash: code, constants, and what is copied to memory at the start.
    flash: u64,
    parts: Vec<u64>,
}

impl Program {
    /// Reads an ELF file of a little-endian machine with 32 bits.
    fn read(file: &[u8]) -> Result<Self> {
        ensure!(file.starts_with(b"\x7fELF\x01\x01"), "expected an ELF file with 32 bits, little-endian");
        let half = |at: usize| Some(usize::from(u16::from_le_bytes(*file.get(at..)?.first_chunk()?)));
        let word = |at: usize| Some(u32::from_le_bytes(*file.get(at..)?.first_chunk()?) as usize);
        let read = || {
            let (table, size, count, names) = (word(0x20)?, half(0x2e)?, half(0x30)?, half(0x32)?);
            let names = word(table + names * size + 0x10)?;
            let mut program = Program { flash: 0, parts: Vec::new() };
            for header in (0..count).map(|index| table + index * size) {
                let (name, kind, flags) = (names + word(header)?, word(header + 4)?, word(header + 8)?);
                let (at, len) = (word(header + 0x10)?, word(header + 0x14)?);
                // SHT_PROGBITS with SHF_ALLOC: what the file has and the board is given.
                let is_loaded = kind == 1 && flags & 2 != 0;
                let name = file.get(name..)?;
                if &name[..name.iter().position(|byte| *byte == 0)?] == b".bowline.sizes" {
                    let words = file.get(at..at + len)?.as_chunks::<4>().0;
                    program.parts = words.iter().map(|word| u32::from_le_bytes(*word).into()).collect();
                } else if is_loaded {
                    program.flash += len as u64;
                }
            }
            Some(program)
        };
        read().context("the ELF file ends too soon")
    }
}

/// The totals that have a budget, and that.
fn budgets() -> impl Iterator<Item = (String, u64)> {
    KINDS
        .iter()
        .filter_map(|kind| Some((kind.name, kind.budget?)))
        .flat_map(|(name, (code, memory))| [(format!("{name}.CODE"), code), (format!("{name}.RAM"), memory)])
}

/// Budgets that are missed.
fn over_budget(sizes: &Sizes) -> Vec<String> {
    budgets()
        .filter(|(total, budget)| sizes[total] > *budget)
        .map(|(total, budget)| format!("{total} is {}, and its budget {budget}", sizes[&total]))
        .collect()
}

/// What is more than it was, with its parts.
fn grown(sizes: &Sizes, recorded: &Sizes) -> Vec<String> {
    let change = |name: &str| {
        let (size, before) = (*sizes.get(name)?, *recorded.get(name)?);
        (size > before).then(|| format!("{name} from {before} to {size}"))
    };
    let mut all = Vec::new();
    for Kind { name, .. } in KINDS {
        for what in TOTALS {
            let total = format!("{name}.{what}");
            let Some(size) = sizes.get(&total) else { continue };
            let Some(before) = recorded.get(&total) else {
                all.push(format!("{total} is not recorded"));
                continue;
            };
            if size * 100 <= before * (100 + TOLERANCE) {
                continue;
            }
            let mut complaint = format!("more than {TOLERANCE} % larger: {total} from {before} to {size}");
            if what == "RAM" {
                let parts = PARTS.iter().filter_map(|(part, ..)| change(&format!("{name}.{part}")));
                write!(complaint, " ({})", parts.collect::<Vec<_>>().join(", ")).expect("a string takes all");
            }
            all.push(complaint);
        }
    }
    all
}

fn summary(sizes: &Sizes) -> String {
    let of = |Kind { name, title, .. }: &Kind| {
        let (code, memory) = (sizes[&format!("{name}.CODE")], sizes[&format!("{name}.RAM")]);
        format!("{title}: {code} flash, {memory} RAM")
    };
    KINDS.iter().map(of).collect::<Vec<_>>().join("; ")
}

/// For `docs/memory.md`.
fn table(sizes: &Sizes) -> String {
    let mut table = String::from("| bytes |");
    let row = |title: &str, what: &str, mark: &str| {
        let size = |kind: &Kind| sizes.get(&format!("{}.{what}", kind.name)).map_or("–".into(), u64::to_string);
        let cells = KINDS.iter().map(|kind| format!(" {mark}{}{mark} |", size(kind)));
        format!("| {mark}{title}{mark} |{}\n", cells.collect::<String>())
    };
    let rows: String = PARTS.iter().filter(|part| part.2).map(|(part, title, _)| row(title, part, "")).collect();
    let goals = |what: &str, of: fn((u64, u64)) -> u64| {
        let goal = |kind: &Kind| kind.budget.map_or("–".into(), |budget| format!("{}", of(budget)));
        format!("| {what} |{}\n", KINDS.iter().map(|kind| format!(" {} |", goal(kind))).collect::<String>())
    };
    let totals = row("RAM of the client", "RAM", "**")
        + &goals("its budget", |budget| budget.1)
        + &row("flash: code and constants", "CODE", "**")
        + &goals("its budget", |budget| budget.0)
        + &row("stack, at its deepest", "STACK", "**")
        + &row("instructions of the client until the link is up (a full handshake)", "INSTRUCTIONS", "");
    let mut apart = row("apart, in every program with a network: copying memory, dividing 64 bits", LIBRARY, "");
    apart.extend(PARTS.iter().filter(|part| !part.2).map(|(part, title, _)| row(&format!("apart: {title}"), part, "")));
    for kind in &KINDS {
        write!(table, " {} |", kind.title).expect("a string takes all");
    }
    table.push_str("\n|---|");
    table.push_str(&"---:|".repeat(KINDS.len()));
    format!("{table}\n{rows}{totals}{apart}")
}

const BEGIN: &str = "<!-- begin: cargo xtask sizes --record -->\n";
const END: &str = "<!-- end -->";

/// The page with another table.
fn with_table(page: &str, table: &str) -> Result<String> {
    let parts = page.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let (before, after) = parts.with_context(|| format!("expected `{}` … `{END}` in docs/memory.md", BEGIN.trim()))?;
    Ok(format!("{before}{BEGIN}{table}{END}{after}"))
}

fn written(sizes: &Sizes, version: &str) -> String {
    let lines = sizes.iter().map(|(name, bytes)| format!("{name} {bytes}\n"));
    format!("# Bytes, by `cargo xtask sizes --record`.\n# {version}\n{}", lines.collect::<String>())
}

/// What was written, and the compiler of then.
fn read(text: &str) -> Result<(Sizes, String)> {
    let (mut sizes, mut version) = (Sizes::new(), String::new());
    for line in text.lines() {
        match (line.strip_prefix("# "), line.split_once(' ')) {
            (Some(comment), _) => version = comment.to_owned(),
            (None, Some((name, bytes))) => {
                let bytes = bytes.parse().with_context(|| format!("expected a number, got `{line}`"))?;
                sizes.insert(name.to_owned(), bytes);
            }
            (None, None) => bail!("expected `name bytes`, got `{line}`"),
        }
    }
    Ok((sizes, version))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(change: impl Fn(&str) -> u64) -> Sizes {
        let parts = PARTS.iter().map(|(part, ..)| *part).chain(TOTALS);
        let names = parts.flat_map(|what| KINDS.iter().map(move |kind| format!("{}.{what}", kind.name)));
        names.map(|name| (name.clone(), change(&name))).collect()
    }

    #[test]
    fn growth_within_five_per_cent_passes_and_beyond_it_says_what_has_grown() {
        let recorded = sizes(|_| 1_000);
        assert_eq!(grown(&sizes(|_| 1_050), &recorded), Vec::<String>::new());
        let larger = sizes(|name| match name {
            "keys.RAM" => 1_051,
            "keys.link" => 1_040,
            _ => 1_000,
        });
        assert_eq!(
            grown(&larger, &recorded),
            ["more than 5 % larger: keys.RAM from 1000 to 1051 (keys.link from 1000 to 1040)"]
        );
        assert_eq!(
            grown(&larger, &Sizes::new()).len(),
            TOTALS.len() * KINDS.len(),
            "what is not recorded is no success"
        );
    }

    #[test]
    fn a_budget_that_is_missed_is_told() {
        assert_eq!(over_budget(&sizes(|_| 4_096)), Vec::<String>::new());
        let over = sizes(|name| if name == "open.RAM" { 4_097 } else { 1 });
        assert_eq!(over_budget(&over), ["open.RAM is 4097, and its budget 4096"]);
        let over = sizes(|name| if name == "keys.CODE" { 49_153 } else { 1 });
        assert_eq!(over_budget(&over), ["keys.CODE is 49153, and its budget 49152"]);
    }

    #[test]
    fn what_is_recorded_reads_back() {
        let sizes = sizes(|name| name.len() as u64);
        assert_eq!(read(&written(&sizes, "rustc 1.2.3")).unwrap(), (sizes, "rustc 1.2.3".into()));
        assert!(read("open.RAM many").is_err());
    }

    #[test]
    fn the_table_goes_between_its_marks() {
        let page = format!("before\n{BEGIN}old\n{END}\nafter\n");
        assert_eq!(with_table(&page, "new\n").unwrap(), format!("before\n{BEGIN}new\n{END}\nafter\n"));
        assert!(with_table("no marks", "new").is_err());
    }

    #[test]
    fn an_elf_file_tells_flash_and_parts_and_a_broken_one_is_an_error() {
        // Section headers at 52: the names, code, zeroed memory, a comment, and the sizes.
        let names = b"\0.text\0.bss\0.comment\0.bowline.sizes\0";
        let sections = [(0, 0, 0, 0), (1, 1, 6, 100), (7, 8, 3, 50), (12, 1, 0, 9), (21, 1, 2, 8)];
        let data = 52 + 40 * (sections.len() as u32 + 1);
        let mut file = b"\x7fELF\x01\x01".to_vec();
        file.resize(52, 0);
        file[0x20] = 52;
        (file[0x2e], file[0x30], file[0x32]) = (40, 6, 5);
        let mut header = |name: u32, kind: u32, flags: u32, at: u32, len: u32| {
            let words = [name, kind, flags, 0, at, len, 0, 0, 0, 0];
            file.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        };
        for (name, kind, flags, len) in sections {
            header(name, kind, flags, data + names.len() as u32, len);
        }
        header(0, 3, 0, data, names.len() as u32);
        file.extend(names);
        file.extend([7, 0, 0, 0, 1, 1, 0, 0]);
        assert_eq!(Program::read(&file).unwrap(), Program { flash: 100, parts: vec![7, 257] });
        for end in 0..file.len() {
            assert!(Program::read(&file[..end]).is_err(), "{end}");
        }
    }
}
