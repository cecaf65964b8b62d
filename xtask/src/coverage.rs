//! Which lines and branches of the core and the store their own tests reach.
//!
//! The stable compiler writes profiles; the tools that read them are those of the LLVM it was built with, and Debian
//! packages them. Like the compiler of `bare_metal`, they are unpacked into a folder and not installed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::apt;
use crate::command::{self, cargo};
use crate::steps::{Context, Outcome, Step};

pub(crate) const STEP: Step = Step {
    name: "coverage",
    advice: "if it is a test, repeat it without coverage; if it is a tool, remove target/toolchains/llvm-*",
    run,
};

/// What is measured, with the tests of these same crates.
const PACKAGES: [&str; 2] = ["bowline-proto", "bowline-store"];

const FLAGS: &str = "-Cinstrument-coverage -Zcoverage-options=branch";

fn run(context: &mut Context) -> Result<Outcome> {
    let version = command::rustc("LLVM version")?;
    let version = version.split('.').next().context("expected a version of LLVM from rustc")?;
    let tools = match Tools::find_or_install(&context.target_dir().join("toolchains"), version) {
        Ok(tools) => tools,
        Err(error) => {
            return context.unavailable(format!("no tools of LLVM {version}, so nothing was measured: {error:#}"));
        }
    };
    let folder = context.target_dir().join("coverage");
    let profiles = folder.join("profiles");
    if profiles.exists() {
        fs::remove_dir_all(&profiles).with_context(|| format!("removing {}", profiles.display()))?;
    }

    // Naming the machine keeps the flags from build scripts and macros.
    let host = command::rustc("host")?;
    let test = || {
        let mut command = cargo(&context.root);
        // Branches are unstable; this lets a stable compiler take them. What processes of tests' own write
        // goes beside, each under its number; those that are killed write nothing.
        command.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", FLAGS);
        command.env("LLVM_PROFILE_FILE", profiles.join("%m-%p.profraw"));
        command.args(["test", "--quiet", "--profile", "sim", "--lib", "--tests", "--target", &host, "--target-dir"]);
        command.arg(&folder);
        for package in PACKAGES {
            command.args(["--package", package]);
        }
        command
    };
    command::run(&mut test())?;
    let built = command::output(test().args(["--no-run", "--message-format=json"]))?;
    let programs = programs(&built);
    if programs.len() < PACKAGES.len() {
        bail!("expected cargo to name the tests it has built, it printed: {built}");
    }

    let merged = folder.join("merged.profdata");
    let raw = fs::read_dir(&profiles)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    command::output(tools.command("llvm-profdata").args(["merge", "-sparse", "-o"]).arg(&merged).args(raw))?;
    let mut export = tools.command("llvm-cov");
    export.args(["export", "-format=lcov", "-instr-profile"]).arg(&merged).arg(&programs[0]);
    for program in &programs[1..] {
        export.arg("-object").arg(program);
    }
    let crates = context.root.join("crates");
    export.args(PACKAGES.map(|package| crates.join(package).join("src")));
    let report = report(&command::output(&mut export)?, &crates)?;
    if report.is_empty() {
        bail!("the profile has none of the files that are measured");
    }
    print(&report, context.uncovered);
    Ok(Outcome::Done)
}

/// The programs that cargo says it has built, in what it prints for machines.
pub(crate) fn programs(built: &str) -> Vec<PathBuf> {
    let path =
        |line: &str| line.split_once("\"executable\":\"")?.1.split_once('"').map(|(path, _)| PathBuf::from(path));
    built.lines().filter_map(path).collect()
}

/// The programs that read profiles.
struct Tools {
    root: PathBuf,
    libraries: PathBuf,
    version: String,
}

impl Tools {
    fn find_or_install(folder: &Path, version: &str) -> Result<Self> {
        let root = folder.join(format!("llvm-{version}"));
        if let Ok(tools) = Self::open(&root, version) {
            return Ok(tools);
        }
        apt::unpack(&root, || {
            let mut packages = vec![format!("llvm-{version}")];
            for library in [format!("libllvm{version}"), "libcurl4".to_owned()] {
                packages.extend(apt::dependencies(&library)?.into_iter().filter(|name| !apt::is_installed(name)));
            }
            Ok(packages)
        })?;
        Self::open(&root, version)
    }

    /// Succeeds when they run.
    fn open(root: &Path, version: &str) -> Result<Self> {
        let tools = Tools { root: root.to_owned(), libraries: apt::libraries(root)?, version: version.to_owned() };
        for tool in ["llvm-profdata", "llvm-cov"] {
            command::output(tools.command(tool).arg("--version"))?;
        }
        Ok(tools)
    }

    fn command(&self, tool: &str) -> Command {
        let folder = format!("usr/lib/llvm-{}/bin", self.version);
        let mut command = Command::new(self.root.join(folder).join(tool));
        command.env("LD_LIBRARY_PATH", &self.libraries);
        command
    }
}

/// How often things were reached in a file.
#[derive(Debug, Default)]
struct Reached {
    lines: BTreeMap<u32, u64>,
    /// By line, condition in it, and whether it was true.
    branches: BTreeMap<(u32, u32, bool), u64>,
}

/// Files by their names below `crates`, without those that are tests themselves, from LLVM's export.
fn report(export: &str, crates: &Path) -> Result<BTreeMap<String, Reached>> {
    let mut report = BTreeMap::new();
    let mut file: Option<&mut Reached> = None;
    for line in export.lines() {
        let (kind, value) = line.split_once(':').unwrap_or((line, ""));
        if kind == "SF" {
            let name = Path::new(value).strip_prefix(crates).ok().map(|name| name.to_string_lossy().into_owned());
            file = name.filter(|name| !is_test(name)).map(|name| report.entry(name).or_default());
        }
        let Some(file) = file.as_deref_mut() else { continue };
        let fields: Vec<&str> = value.split(',').collect();
        let unexpected = || format!("expected LLVM to write numbers, it wrote {line}");
        match (kind, fields.as_slice()) {
            ("DA", [line, count, ..]) => {
                let (line, count) =
                    (line.parse().with_context(unexpected)?, count.parse::<u64>().with_context(unexpected)?);
                *file.lines.entry(line).or_default() += count;
            }
            // Both ways of a condition follow each other, the true one first. "-": it was never come to.
            ("BRDA", [line, condition, way, count]) => {
                let way: u32 = way.parse().with_context(unexpected)?;
                let line = line.parse().with_context(unexpected)?;
                let key = (line, condition.parse().with_context(unexpected)?, way.is_multiple_of(2));
                *file.branches.entry(key).or_default() += count.parse::<u64>().unwrap_or(0);
            }
            _ => {}
        }
    }
    Ok(report)
}

fn is_test(name: &str) -> bool {
    name.contains("/tests/") || name.ends_with("/tests.rs") || name.ends_with("/src/vectors.rs")
}

fn print(report: &BTreeMap<String, Reached>, uncovered: bool) {
    let width = report.keys().map(String::len).max().unwrap_or(0);
    println!("{:<width$}  {:>22}  {:>22}", "file", "lines", "branches");
    for (name, file) in report {
        println!("{name:<width$}  {}  {}", share(file.lines.values()), share(file.branches.values()));
    }
    for package in PACKAGES {
        let of = || report.iter().filter(|(name, _)| name.starts_with(package)).map(|(_, file)| file);
        let (lines, branches) =
            (of().flat_map(|file| file.lines.values()), of().flat_map(|file| file.branches.values()));
        println!("{package:<width$}  {}  {}", share(lines), share(branches));
    }
    if uncovered {
        for (name, file) in report {
            for (first, last) in ranges(file.lines.iter().filter(|&(_, &count)| count == 0).map(|(&line, _)| line)) {
                println!("crates/{name}:{first}{}", if first == last { String::new() } else { format!("-{last}") });
            }
            for ((line, _, way), _) in file.branches.iter().filter(|&(_, &count)| count == 0) {
                // What was never come to is among the lines.
                if file.lines.get(line) != Some(&0) {
                    println!("crates/{name}:{line} never {way}");
                }
            }
        }
    }
}

fn share<'a>(counts: impl Iterator<Item = &'a u64>) -> String {
    let (reached, all) = counts.fold((0, 0), |(reached, all), &count| (reached + u32::from(count > 0), all + 1));
    let percent = if all == 0 { 100.0 } else { f64::from(reached) * 100.0 / f64::from(all) };
    format!("{reached:>5} of {all:>5} {percent:>6.1} %")
}

/// Rising numbers as first and last of those that follow each other.
fn ranges(numbers: impl Iterator<Item = u32>) -> Vec<(u32, u32)> {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{programs, ranges, report, share};

    #[test]
    fn an_export_gives_what_was_reached_and_what_was_not() {
        let export = "SF:/w/crates/a/src/lib.rs\nDA:1,5\nDA:2,0\nBRDA:1,0,0,5\nBRDA:1,0,1,-\nend_of_record\n\
                      SF:/w/crates/a/src/tests/mod.rs\nDA:1,0\nend_of_record\nSF:/elsewhere/lib.rs\nDA:1,0\n";
        let report = report(export, Path::new("/w/crates")).unwrap();
        assert_eq!(report.keys().collect::<Vec<_>>(), ["a/src/lib.rs"]);
        let file = &report["a/src/lib.rs"];
        assert_eq!(file.lines, [(1, 5), (2, 0)].into());
        assert_eq!(file.branches, [((1, 0, true), 5), ((1, 0, false), 0)].into());
        assert_eq!(share(file.lines.values()).split_whitespace().collect::<Vec<_>>(), ["1", "of", "2", "50.0", "%"]);
    }

    #[test]
    fn an_export_that_is_none_is_an_error() {
        assert!(report("SF:/w/crates/a/src/lib.rs\nDA:one,5\n", Path::new("/w/crates")).is_err());
    }

    #[test]
    fn lines_that_follow_each_other_are_one_range() {
        assert_eq!(ranges([3, 4, 5, 9].into_iter()), [(3, 5), (9, 9)]);
    }

    #[test]
    fn the_programs_that_cargo_built_are_found() {
        let built =
            "{\"reason\":\"compiler-artifact\",\"executable\":null}\n{\"executable\":\"/t/deps/a-1\",\"fresh\":true}\n";
        assert_eq!(programs(built), [Path::new("/t/deps/a-1")]);
    }
}
