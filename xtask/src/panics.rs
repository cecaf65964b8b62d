//! Where the client for boards could panic, counted in linked programs, and compared with what is recorded.
//!
//! Programs of `crates/bowline-embedded/sizes` are built once more, and a firmware with a network is built, so that nothing that
//! is equal is made one: then each call of a panic has a name, and a place in a file of these crates or in another crate. Places are
//! counted, not calls: how often a function is inlined makes no difference. A function of the library that calls a panic is as
//! good as one, and whoever calls it has the place. So nothing that is linked is left out, but what is called by a pointer.
//!
//! Apart are the places of futures that are polled after their end. The compiler puts one into each `async fn`, and no input
//! leads there, only an executor that does what none may do. The number of the others may not grow.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::apt;
use crate::bare_metal::{self, Toolchain};
use crate::command;
use crate::firmware;
use crate::sizes;
use crate::steps::{Context, Outcome, Step};

pub(crate) const STEP: Step = Step {
    name: "panics",
    advice: "ask slices (`get`, `split_at_checked`) instead of indexing them, and return an error instead of `expect`",
    run,
};

/// The tools of a package `llvm`.
const DISASSEMBLER: &str = "llvm-objdump";
const SYMBOLIZER: &str = "llvm-symbolizer";

/// Features of the program that is measured: with the outbox in memory, and on flash.
const FEATURES: [&str; 2] = ["keys", "keys,flash"];
/// The firmware with a network.
const FIRMWARE: &str = "bowline-qemu-lm3s6965";
/// Where they are built, in the folder for what is built.
const FOLDER: &str = "panics";

/// Keeps functions apart that are equal, and ends of functions that are.
pub(crate) const APART: &str =
    "-Zmerge-functions=disabled -Cllvm-args=-enable-machine-outliner=never -Cllvm-args=-enable-tail-merge=0";

/// What all panics are in the end.
const PANICS: &str = "core::panicking::";
/// The one of a future that is polled after its end.
const RESUMED: &str = "core::panicking::panic_const::panic_const_async_fn_resumed";

/// Where panics are called.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Found {
    panics: BTreeSet<String>,
    resumed: BTreeSet<String>,
}

/// By file of these crates, or by crate.
type Places = BTreeMap<String, Found>;

/// A place and what it belongs to: a file of these crates, or a crate.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    owner: String,
    at: String,
}

fn run(context: &mut Context) -> Result<Outcome> {
    let toolchain = match bare_metal::toolchain(context) {
        Ok(toolchain) => toolchain,
        Err(error) => return context.unavailable(format!("no toolchain for {}: {error:#}", bare_metal::TARGET)),
    };
    if !command::succeeds(Command::new(DISASSEMBLER).arg("--version"))
        && let Err(error) = apt::install("llvm")
    {
        return context.unavailable(format!("no {DISASSEMBLER}, so panics were not counted: {error:#}"));
    }
    let mut places = Places::new();
    for program in programs(context, &toolchain)? {
        for (owner, found) in read(&program)? {
            let all = places.entry(owner).or_default();
            all.panics.extend(found.panics);
            all.resumed.extend(found.resumed);
        }
    }
    print!("{}", lines(&places));
    let record = sizes::folder(&context.root).join("panics.txt");
    if context.record_sizes {
        fs::write(&record, format!("{HEAD}# {}\n{}", toolchain.version, lines(&places)))?;
        return Ok(Outcome::Noted("recorded".into()));
    }
    let text = fs::read_to_string(&record).with_context(|| record.display().to_string())?;
    let more = more(&places, &text);
    if !more.is_empty() {
        bail!("more calls of panics than recorded, this is {}:\n  {}", toolchain.version, more.join("\n  "));
    }
    Ok(Outcome::Noted(summary(&places)))
}

fn programs(context: &Context, toolchain: &Toolchain) -> Result<Vec<PathBuf>> {
    let mut programs = Vec::new();
    for features in FEATURES {
        let program = sizes::build(context, toolchain, features, FOLDER, APART)?;
        // The next one has the same name.
        let kept = program.with_extension(features.replace(',', "-"));
        fs::copy(&program, &kept).with_context(|| program.display().to_string())?;
        programs.push(kept);
    }
    programs.push(firmware::build_images(context, toolchain, &["--bin", FIRMWARE])?.join(FIRMWARE));
    Ok(programs)
}

fn read(program: &Path) -> Result<Places> {
    let listing =
        command::output(Command::new(DISASSEMBLER).args(["-d", "--demangle", "--no-show-raw-insn"]).arg(program))?;
    let calls = calls(&listing);
    let found = found(&calls, &places(program, &calls)?);
    if found.is_empty() {
        bail!("expected calls of panics in {}", program.display());
    }
    Ok(found)
}

/// A branch to the beginning of a function.
#[derive(Debug, PartialEq, Eq)]
struct Call<'a> {
    address: &'a str,
    from: &'a str,
    to: &'a str,
}

fn calls(listing: &str) -> Vec<Call<'_>> {
    let (mut calls, mut from) = (Vec::new(), "");
    for line in listing.lines() {
        if let Some((_, name)) = line.strip_suffix(">:").and_then(|head| head.split_once(" <")) {
            // The others say where there is code and where data.
            from = if name.starts_with('$') { from } else { name };
        } else if let Some((address, to)) = branch(line) {
            calls.push(Call { address, from, to });
        }
    }
    calls
}

/// The address of a line of the disassembly that branches to the beginning of a function, and that.
fn branch(line: &str) -> Option<(&str, &str)> {
    let (address, rest) = line.trim_start().split_once(':')?;
    let is_branch = rest.trim_start().starts_with('b');
    let name = rest.split_once('<')?.1.rsplit_once('>')?.0;
    (is_branch && !name.contains("+0x")).then_some((address, name))
}

/// Where each call is; `None` where it is the library's all the way.
fn places(program: &Path, calls: &[Call<'_>]) -> Result<Vec<Option<Place>>> {
    let mut symbolizer = Command::new(SYMBOLIZER);
    symbolizer.args(["--inlines", "--demangle", "-e"]).arg(program);
    let said = command::output(symbolizer.args(calls.iter().map(|call| format!("0x{}", call.address))))?;
    let frames: Vec<&str> = said.trim_end().split("\n\n").collect();
    if frames.len() != calls.len() {
        bail!("expected the places of {} calls from {SYMBOLIZER}, got {}", calls.len(), frames.len());
    }
    Ok(calls.iter().zip(frames).map(|(call, frames)| innermost(frames).or_else(|| in_function(call.from))).collect())
}

/// The innermost place outside of the library in the frames of an address: lines of functions, and of places in them.
fn innermost(frames: &str) -> Option<Place> {
    frames.trim().lines().skip(1).step_by(2).find_map(in_file)
}

fn in_file(place: &str) -> Option<Place> {
    let (folder, file) = place.rsplit_once("/src/")?;
    if folder.contains("/rust/library/") {
        return None;
    }
    let name = folder.rsplit('/').next()?;
    if let Some(own) = name.strip_prefix("bowline-") {
        let (file, at) = file.split_once(':')?;
        return Some(Place { owner: format!("{own}/src/{file}"), at: at.to_owned() });
    }
    // Without its version.
    let end = name.match_indices('-').find(|(at, _)| name[at + 1..].starts_with(|c: char| c.is_ascii_digit()));
    Some(Place { owner: name[..end.map_or(name.len(), |(at, _)| at)].to_owned(), at: file.to_owned() })
}

/// A place in a function that is none of the library by its name: what drops a type belongs to the crate of the type.
fn in_function(function: &str) -> Option<Place> {
    let name = function.strip_prefix("core::ptr::drop_in_place::<").unwrap_or(function);
    let (name, _) = name.trim_start_matches(['<', '&', '[', '(']).split_once("::")?;
    let is_name = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let is_other = is_name && !matches!(name, "core" | "alloc" | "compiler_builtins");
    is_other.then(|| Place { owner: name.replace('_', "-"), at: function.to_owned() })
}

/// Sorts the calls of panics that are somebody's.
fn found(calls: &[Call<'_>], places: &[Option<Place>]) -> Places {
    let mut panics: BTreeSet<&str> = calls.iter().map(|call| call.to).filter(|to| to.starts_with(PANICS)).collect();
    loop {
        let known = panics.len();
        let of_library = calls.iter().zip(places).filter(|(call, place)| place.is_none() && panics.contains(call.to));
        let more: Vec<&str> = of_library.map(|(call, _)| call.from).collect();
        panics.extend(more);
        if panics.len() == known {
            break;
        }
    }
    let mut found = Places::new();
    for (call, place) in calls.iter().zip(places).filter(|(call, _)| panics.contains(call.to)) {
        // The program that is measured is there for that alone.
        let Some(Place { owner, at }) = place.as_ref().filter(|place| !place.owner.ends_with("sizes")) else {
            continue;
        };
        let of_owner = found.entry(owner.clone()).or_default();
        let kind = if call.to == RESUMED { &mut of_owner.resumed } else { &mut of_owner.panics };
        kind.insert(at.clone());
    }
    found
}

const HEAD: &str = "# Where panics are called, by `cargo xtask sizes --record`. By file or crate: the places that may not become more, and\n\
                    # those of futures that are polled after their end.\n";

/// These crates' files first.
fn lines(places: &Places) -> String {
    let mut text = String::new();
    for own in [true, false] {
        for (owner, Found { panics, resumed }) in places.iter().filter(|(owner, _)| is_own(owner) == own) {
            writeln!(text, "{owner} {} {}", panics.len(), resumed.len()).expect("a string takes all");
        }
    }
    text
}

fn is_own(owner: &str) -> bool {
    owner.contains('/') || owner.starts_with("bowline-")
}

fn summary(places: &Places) -> String {
    let sum = |own: bool| -> usize {
        places.iter().filter(|(owner, _)| is_own(owner) == own).map(|(_, found)| found.panics.len()).sum()
    };
    let resumed: usize = places.values().map(|found| found.resumed.len()).sum();
    format!(
        "panics are called at {} places in these crates and {} in others, no more than recorded; apart, {resumed} of futures \
         after their end",
        sum(true),
        sum(false)
    )
}

/// Where there are more than the record has.
fn more(places: &Places, record: &str) -> Vec<String> {
    let recorded = |owner: &str| {
        let mut lines = record.lines().map(|line| line.split(' '));
        lines.find_map(|mut line| (line.next() == Some(owner)).then(|| line.next()?.parse().ok())?).unwrap_or(0)
    };
    let grown = places.iter().filter(|(owner, found)| found.panics.len() > recorded(owner));
    grown
        .map(|(owner, Found { panics, .. })| {
            let at: Vec<&str> = panics.iter().map(String::as_str).collect();
            format!("{owner} {}, recorded {}: {}", panics.len(), recorded(owner), at.join(", "))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_have_who_calls_and_who_is_called() {
        let listing = "00000500 <a::b>:\n     5e0:      \tbl\t0x6e7e <core::panicking::panic_fmt> @ imm = #26778\n\
                       000005e4 <$t>:\n     5e4:      \tb\t0x4cdc <<Runner<R>>::fails> @ imm = #2\n\
                       \x20    5e8:      \tb\t0x5e4 <core::panicking::panic_fmt+0x8> @ imm = #2\n     5ea:      \tmovs\tr0, #1\n";
        assert_eq!(
            calls(listing),
            [
                Call { address: "5e0", from: "a::b", to: "core::panicking::panic_fmt" },
                Call { address: "5e4", from: "a::b", to: "<Runner<R>>::fails" }
            ]
        );
    }

    fn place(owner: &str, at: &str) -> Option<Place> {
        Some(Place { owner: owner.to_owned(), at: at.to_owned() })
    }

    #[test]
    fn the_innermost_place_outside_of_the_library_counts() {
        let library = "index\n/usr/lib/rustlib/src/rust/library/core/src/slice.rs:1:2\n";
        let own =
            "take\n/src/crates/bowline-proto/src/native/a.rs:3:4\nrun\n/src/crates/bowline-embedded/src/b.rs:5:6\n";
        assert_eq!(innermost(&format!("{library}{own}")), place("proto/src/native/a.rs", "3:4"));
        assert_eq!(innermost(library), None);
        let other = "push\n/registry/src/index-1/embassy-sync-0.8.0/src/mutex.rs:3:4\n";
        assert_eq!(innermost(&format!("{library}{other}{own}")), place("embassy-sync", "mutex.rs:3:4"));
        assert_eq!(
            innermost("main\n/src/crates/bowline-embedded/sizes/src/main.rs:3:4\n"),
            place("sizes", "main.rs:3:4")
        );
    }

    #[test]
    fn a_function_without_a_place_belongs_to_the_crate_in_its_name() {
        let drops = "core::ptr::drop_in_place::<embassy_sync::mutex::MutexGuard<A>>";
        assert_eq!(in_function(drops), place("embassy-sync", drops));
        let own = "<bowline_flash::log::Log<A>>::note";
        assert_eq!(in_function(own), place("bowline-flash", own));
        assert_eq!(in_function("<[u8; 64] as core::ops::index::Index<A>>::index"), None);
        assert_eq!(in_function("core::slice::copy_from_slice_impl::<u8>"), None);
    }

    #[test]
    fn what_the_library_has_is_counted_where_it_is_called() {
        let call = |from, to| Call { address: "", from, to };
        let calls = [
            call("core::slice::index", "core::slice::fail"),
            call("core::slice::fail", "core::panicking::panic_fmt"),
            call("a", "core::slice::index"),
            call("inlined", "core::slice::index"),
            call("a", "b"),
            call("b", RESUMED),
            call("main", "core::panicking::panic"),
        ];
        let (a, b) = (place("proto/src/a.rs", "1:2"), place("b", "lib.rs:3:4"));
        let places = [None, None, a.clone(), a, place("proto/src/a.rs", "5:6"), b, place("sizes", "main.rs:1:1")];
        assert_eq!(lines(&found(&calls, &places)), "proto/src/a.rs 1 0\nb 0 1\n");
    }

    #[test]
    fn what_is_more_than_recorded_is_told() {
        let at = |places: &[&str]| places.iter().map(|place| (*place).to_owned()).collect();
        let places = Places::from([
            ("proto/a.rs".to_owned(), Found { panics: at(&["1:2", "3:4"]), resumed: at(&["5:6"]) }),
            ("b".to_owned(), Found { panics: at(&["lib.rs:1:2"]), resumed: at(&[]) }),
        ]);
        assert_eq!(more(&places, &lines(&places)), Vec::<String>::new());
        assert_eq!(more(&places, "# head\nproto/a.rs 1 1\nb 1 0\n"), ["proto/a.rs 2, recorded 1: 1:2, 3:4"]);
        assert_eq!(more(&places, "# head\n").len(), 2, "what is not recorded is no success");
    }
}
