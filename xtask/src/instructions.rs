//! Instructions of each layer's steps, compared with what is recorded.
//!
//! Time on a shared machine says little about a change of a few percent; how many instructions it takes is the same on
//! a busy machine. Callgrind counts them. Only those of the program itself are compared, SQLite among them: what libc
//! takes depends on which libc and which processor it is.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::apt;
use crate::command::{self, cargo};
use crate::coverage;
use crate::steps::{Context, Outcome, Step};

pub(crate) const STEP: Step = Step {
    name: "instructions",
    advice: "make it cheaper, or record it with its reason: `cargo xtask instructions --record \"reason\"`",
    run,
};

const RECORDED: &str = "crates/bowline-server/benches/instructions.tsv";

/// Growth that fails, in percent. Runs of one program do not differ; other code around it moves a case by some tenths.
const TOLERANCE: f64 = 5.0;

fn run(context: &mut Context) -> Result<Outcome> {
    if !command::succeeds(Command::new("valgrind").arg("--version"))
        && let Err(error) = apt::install("valgrind")
    {
        return context.unavailable(format!("no valgrind, so nothing was counted: {error:#}"));
    }
    let counted = count(context)?;
    let path = context.root.join(RECORDED);
    let recorded = match fs::read_to_string(&path) {
        Ok(text) => Recorded::parse(&text)?,
        Err(_) => Recorded::default(),
    };
    print(&counted, &recorded);
    let machine = machine()?;
    if let Some(reason) = context.record.as_deref() {
        let text = recorded.replaced(reason, &machine, &counted);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        return Ok(Outcome::Noted(format!("recorded in {RECORDED}")));
    }
    if recorded.machine != machine {
        // Said and no failure, also in CI: a machine is nobody's change.
        return Ok(Outcome::Noted(format!(
            "not compared: what is recorded was counted with another compiler or processor ({}) than here ({machine})",
            recorded.machine
        )));
    }
    let differences = Differences::between(&recorded.cases, &counted);
    if !differences.wrong.is_empty() {
        bail!("more than {TOLERANCE} % above what is recorded, or not recorded:\n{}", differences.wrong.join("\n"));
    }
    Ok(match differences.less {
        0 => Outcome::Done,
        less => Outcome::Noted(format!("{less} cases take {TOLERANCE} % less than recorded: record that, too")),
    })
}

/// Instructions of one round of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Case {
    name: String,
    /// In the program itself.
    own: u64,
    /// In the libraries of the system.
    system: u64,
}

/// Builds the cases and runs them under callgrind.
fn count(context: &Context) -> Result<Vec<Case>> {
    let bench = ["bench", "--package", "bowline-server", "--bench", "instructions", "--no-run"];
    command::run(cargo(&context.root).args(bench))?;
    let built = command::output(cargo(&context.root).args(bench).arg("--message-format=json"))?;
    let programs = coverage::programs(&built);
    let [program] = programs.as_slice() else {
        bail!("expected cargo to name the one program it has built, it printed: {built}");
    };
    let folder = tempfile::tempdir().context("a folder for what callgrind writes")?;
    let out = folder.path().join("callgrind.out");
    let mut file = std::ffi::OsString::from("--callgrind-out-file=");
    file.push(&out);
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--quiet", "--tool=callgrind", "--combine-dumps=yes", "--dump-line=no"]);
    valgrind.args(["--compress-strings=no", "--compress-pos=no", "--collect-atstart=no"]);
    valgrind.args(["--toggle-collect=instructions::counted", "--dump-after=instructions::counted_all"]);
    let said = command::output(valgrind.arg(file).arg(program))?;
    let written = fs::read_to_string(&out).context("what callgrind has written")?;
    cases(&said, &written, program)
}

/// The cases in the order in which the program has named them, each with its part of callgrind's file.
fn cases(said: &str, written: &str, program: &Path) -> Result<Vec<Case>> {
    let unexpected = || format!("expected `name <tab> rounds` from the cases, got {said:?}");
    let names = said.lines().map(|line| {
        let (name, rounds) = line.split_once('\t')?;
        Some((name, rounds.parse::<u64>().ok().filter(|rounds| *rounds > 0)?))
    });
    let names: Vec<_> = names.collect::<Option<_>>().with_context(unexpected)?;
    let parts: Vec<_> = written.split("\npart: ").filter(|part| part.contains("Trigger: --dump-after=")).collect();
    if parts.len() != names.len() || names.is_empty() {
        bail!("expected callgrind to count {} cases, it has counted {}", names.len(), parts.len());
    }
    let cases = names.iter().zip(parts).map(|((name, rounds), part)| {
        let (own, system) = costs(part, program)?;
        if own == 0 {
            bail!("callgrind has counted nothing of {name}: has the function `counted` another name now?");
        }
        Ok(Case { name: (*name).to_owned(), own: own / rounds, system: system / rounds })
    });
    cases.collect()
}

/// Instructions in one part, in `program` and elsewhere.
fn costs(part: &str, program: &Path) -> Result<(u64, u64)> {
    let (mut own, mut system, mut here, mut of_call) = (0, 0, false, false);
    for line in part.lines() {
        if let Some(object) = line.strip_prefix("ob=") {
            here = Path::new(object) == program;
        } else if line.starts_with("calls=") {
            // The next line is what was called, which has lines of its own.
            of_call = true;
        } else if line.starts_with(|first: char| first.is_ascii_digit()) && line.contains(' ') {
            let cost = line.rsplit(' ').next().and_then(|cost| cost.parse::<u64>().ok());
            let cost = cost.with_context(|| format!("expected a line and a count from callgrind, got {line}"))?;
            if !std::mem::take(&mut of_call) {
                *(if here { &mut own } else { &mut system }) += cost;
            }
        }
    }
    Ok((own, system))
}

/// What the counts depend on beside the code.
fn machine() -> Result<String> {
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = processor.lines().find(|line| line.starts_with("flags")).unwrap_or("");
    // The ciphers look for these, and valgrind shows the processor's own.
    let found: Vec<_> = ["avx2", "pclmulqdq"].into_iter().filter(|flag| flags.split(' ').any(|f| f == *flag)).collect();
    let (rust, host) = (command::rustc("release")?, command::rustc("host")?);
    let cc = command::output(Command::new("cc").arg("-dumpfullversion")).unwrap_or_default();
    Ok(format!("rustc {rust} {host}, cc {}, {}", cc.trim(), found.join(" ")))
}

/// The file of what is recorded.
#[derive(Debug, Default)]
struct Recorded {
    machine: String,
    /// Why it was recorded each time, the first one first.
    reasons: Vec<String>,
    cases: Vec<Case>,
}

impl Recorded {
    fn parse(text: &str) -> Result<Self> {
        let mut recorded = Recorded::default();
        for line in text.lines() {
            if let Some(machine) = line.strip_prefix("# with ") {
                machine.clone_into(&mut recorded.machine);
            } else if let Some(reason) = line.strip_prefix("# why: ") {
                recorded.reasons.push(reason.to_owned());
            } else if !line.starts_with('#') {
                let case = || {
                    let mut fields = line.split('\t');
                    let (name, own, system) = (fields.next()?, fields.next()?, fields.next()?);
                    Some(Case { name: name.to_owned(), own: own.parse().ok()?, system: system.parse().ok()? })
                };
                let case =
                    case().with_context(|| format!("{RECORDED}: expected a name and two counts, got {line:?}"))?;
                recorded.cases.push(case);
            }
        }
        Ok(recorded)
    }

    /// The file with new counts.
    fn replaced(&self, reason: &str, machine: &str, counted: &[Case]) -> String {
        let mut text = "# Instructions a round: case, in our own code (compared), in the system's (not compared).\n\
                        # Written by `cargo xtask instructions --record \"reason\"`.\n"
            .to_owned();
        for reason in self.reasons.iter().map(String::as_str).chain([reason]) {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "# why: {}", reason.replace('\n', " "));
        }
        let _ = writeln!(text, "# with {machine}");
        for Case { name, own, system } in counted {
            let _ = writeln!(text, "{name}\t{own}\t{system}");
        }
        text
    }
}

/// What is not as recorded.
#[derive(Debug, Default, PartialEq)]
struct Differences {
    /// What fails, for people.
    wrong: Vec<String>,
    /// How many take less.
    less: usize,
}

impl Differences {
    fn between(recorded: &[Case], counted: &[Case]) -> Self {
        let mut differences = Differences::default();
        for case in counted {
            let Some(was) = recorded.iter().find(|was| was.name == case.name) else {
                differences.wrong.push(format!("  {}: not recorded, now {}", case.name, case.own));
                continue;
            };
            let growth = growth(was.own, case.own);
            if growth > TOLERANCE {
                let text = format!("  {}: recorded {}, now {} ({growth:+.1} %)", case.name, was.own, case.own);
                differences.wrong.push(text);
            }
            differences.less += usize::from(growth < -TOLERANCE);
        }
        for was in recorded.iter().filter(|was| counted.iter().all(|case| case.name != was.name)) {
            differences.wrong.push(format!("  {}: recorded, and no case any more", was.name));
        }
        differences
    }
}

/// In percent.
fn growth(was: u64, is: u64) -> f64 {
    (is as f64 - was as f64) * 100.0 / was.max(1) as f64
}

fn print(counted: &[Case], recorded: &Recorded) {
    let width = counted.iter().map(|case| case.name.len()).max().unwrap_or(0);
    println!("{:<width$} {:>12} {:>12} {:>9} {:>12}", "instructions a round", "own", "recorded", "", "system");
    for Case { name, own, system } in counted {
        let was = recorded.cases.iter().find(|was| was.name == *name);
        let (was, change) = was.map_or((String::new(), String::new()), |was| {
            (was.own.to_string(), format!("{:+.2} %", growth(was.own, *own)))
        });
        println!("{name:<width$} {own:>12} {was:>12} {change:>9} {system:>12}");
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Case, Differences, Recorded, cases};

    fn case(name: &str, own: u64) -> Case {
        Case { name: name.to_owned(), own, system: 7 }
    }

    #[test]
    fn a_case_has_what_its_own_part_counts_without_what_was_called() {
        let written = "version: 1\n\npart: 1\ndesc: Trigger: --dump-after=a\nevents: Ir\nob=/t/a\nfn=one\n0 40\n\
                       cob=/lib/libc.so.6\ncfn=two\ncalls=2 0\n0 500\n0 24\nob=/lib/libc.so.6\nfn=two\n0 500\n\n\
                       part: 2\ndesc: Trigger: Program termination\nob=/t/a\nfn=one\n0 9\n";
        let counted = cases("work\t4\n", written, Path::new("/t/a")).unwrap();
        assert_eq!(counted, [Case { name: "work".to_owned(), own: 16, system: 125 }]);
        assert!(cases("work\t4\nmore\t4\n", written, Path::new("/t/a")).is_err());
        assert!(cases("work\t4\n", written, Path::new("/t/b")).unwrap_err().to_string().contains("counted"));
    }

    #[test]
    fn growth_beyond_the_tolerance_fails_and_says_what_grew() {
        let recorded = [case("a", 1000), case("b", 1000), case("c", 1000), case("gone", 1)];
        let counted = [case("a", 1050), case("b", 1051), case("c", 900), case("new", 5)];
        let differences = Differences::between(&recorded, &counted);
        assert_eq!(differences.less, 1);
        let [b, new, gone] = differences.wrong.as_slice() else { panic!("{:?}", differences.wrong) };
        assert!(b.contains("b: recorded 1000, now 1051 (+5.1 %)"), "{b}");
        assert!(new.contains("new: not recorded") && gone.contains("gone: recorded, and no case"));
        assert_eq!(Differences::between(&counted, &counted), Differences::default());
    }

    #[test]
    fn what_is_recorded_can_be_read_and_keeps_its_reasons() {
        let first = Recorded::default().replaced("the first one", "a machine", &[case("a", 1)]);
        let first = Recorded::parse(&first).unwrap();
        assert_eq!(first.machine, "a machine");
        let second = first.replaced("a check more\nfor safety", "another", &[case("a", 2), case("b", 3)]);
        let second = Recorded::parse(&second).unwrap();
        assert_eq!(second.reasons, ["the first one", "a check more for safety"]);
        assert_eq!((second.machine.as_str(), second.cases), ("another", vec![case("a", 2), case("b", 3)]));
        assert!(Recorded::parse("a\tmany\n").is_err());
    }
}
