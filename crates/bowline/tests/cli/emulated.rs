//! The client for boards without an operating system, on an emulated one (`firmware/qemu-lm3s6965`), against the real
//! server; and, in `line`, on one that has its network through another (`firmware/qemu-netduinoplus2`). `cargo xtask
//! firmware` builds the firmware, and runs these tests; without it they say that they were skipped.
//!
//! An emulator that is killed is a board without power: its flash is a file, and each word is written through.

mod line;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Lines, Server, stdout};
use crate::ledger::{Extent, compare};
use crate::numbers::{asks, sends, takes};

/// Silence after which board and server give a link up, in milliseconds.
const TIMEOUT: u64 = 1_500;

/// A server with an app `ledger` outside of it, and the folder of a board that has a key of it.
struct Bench {
    server: Server,
    folder: TempDir,
    timeout: u64,
}

impl Bench {
    fn starts() -> Self {
        Self::starts_with(TIMEOUT, "")
    }

    /// With another timeout, and more in its configuration.
    fn starts_with(timeout: u64, settings: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let apps = "[[apps.external]]\nident = 7\nname = \"ledger\"\n";
        let link = format!("[link]\ntimeout_ms = {timeout}\n[store]\ndurability = \"os\"\n");
        let server = Server::configured(&format!("{apps}{link}{settings}"));
        let line = stdout(&server.command(&["key", "new", "kitchen"]));
        fs::write(folder.path().join("board.key"), line).unwrap();
        Bench { server, folder, timeout }
    }

    /// The line that the board shows who it is by.
    fn key(&self) -> PathBuf {
        self.folder.path().join("board.key")
    }

    fn socket(&self) -> PathBuf {
        Path::new(self.server.data()).join("control.sock")
    }

    /// Switches the board on, if there is firmware for it.
    fn boots(&self, settings: &str) -> Option<Emulator> {
        let mut command = self.machine(&LM3S6965, "bowline-qemu-lm3s6965", settings)?;
        command.args(["-serial", "none", "-qmp", "unix:monitor,server=on,wait=off"]);
        command.args(["-nic", "user,model=stellaris,id=cable"]);
        Some(Emulator::starts(&mut command, &LM3S6965, Lines::of))
    }

    /// An emulator of this machine with this image, if there is one.
    fn machine(&self, machine: &Machine, image: &str, settings: &str) -> Option<Command> {
        let Some(firmware) = std::env::var_os("BOWLINE_FIRMWARE") else {
            eprintln!("skipped: BOWLINE_FIRMWARE names no folder with firmware (`cargo xtask firmware` builds it)");
            return None;
        };
        let address = self.server.address();
        let (_, port) = address.rsplit_once(':').unwrap();
        // In the emulator's own network this is the host's loopback.
        let timeout = self.timeout;
        let mut semihosting = format!("enable=on,target=native,arg=server=10.0.2.2:{port},arg=timeout={timeout}");
        for setting in settings.split_whitespace() {
            write!(semihosting, ",arg={setting}").unwrap();
        }
        let mut command = Command::new("qemu-system-arm");
        command.args(["-machine", machine.name, "-display", "none", "-monitor", "none"]);
        command.args(["-semihosting-config", &semihosting, "-kernel"]).arg(Path::new(&firmware).join(image));
        command.current_dir(self.folder.path());
        Some(command)
    }
}

/// A machine that is emulated.
struct Machine {
    name: &'static str,
    /// Bytes of the stack, with which its RAM begins (`memory.x`).
    stack: usize,
}

const LM3S6965: Machine = Machine { name: "lm3s6965evb", stack: 40 * 1024 };

/// A board that runs.
struct Emulator {
    child: Child,
    console: Lines,
    folder: PathBuf,
    stack: usize,
    /// Where the emulator itself takes commands.
    monitor: Option<BufReader<UnixStream>>,
}

impl Emulator {
    /// Switches it on; `reads` makes lines of its console.
    fn starts(command: &mut Command, machine: &Machine, reads: impl FnOnce(ChildStdout) -> Lines) -> Self {
        let folder = command.get_current_dir().unwrap().to_owned();
        // What it says on standard error is that the board sets up its timer: that is expected.
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("qemu-system-arm is installed: `cargo xtask firmware` does it");
        let console = reads(child.stdout.take().unwrap());
        Emulator { child, console, folder, stack: machine.stack, monitor: None }
    }

    fn says(&mut self, line: &str) -> String {
        self.console.waits_for_start(line)
    }

    /// Plugs the cable in or pulls it out.
    fn cable(&mut self, is_in: bool) {
        self.commands(json!({ "execute": "set_link", "arguments": { "name": "cable", "up": is_in } }));
    }

    /// Bytes of the stack that were ever used: it is at the beginning of the RAM, which is zero until it is written.
    fn stack(&mut self) -> usize {
        let ram = self.folder.join("ram.bin");
        let arguments = json!({ "val": 0x2000_0000, "size": self.stack, "filename": ram });
        self.commands(json!({ "execute": "pmemsave", "arguments": arguments }));
        let ram = fs::read(ram).unwrap();
        ram.len() - ram.iter().take_while(|byte| **byte == 0).count()
    }

    fn commands(&mut self, command: Value) {
        if self.monitor.is_none() {
            // The emulator listens there before the board does anything; an earlier one may have, too.
            let report = self.says("outbox: ");
            assert!(report.contains("lost 0,"), "{report}");
            let monitor = UnixStream::connect(self.folder.join("monitor")).unwrap();
            monitor.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            self.monitor = Some(BufReader::new(monitor));
            self.commands(json!({ "execute": "qmp_capabilities" }));
        }
        let monitor = self.monitor.as_mut().unwrap();
        writeln!(monitor.get_mut(), "{command}").unwrap();
        let mut answer = String::new();
        while !answer.contains("return") {
            answer.clear();
            assert_ne!(monitor.read_line(&mut answer).unwrap(), 0, "the emulator has ended");
            assert!(!answer.contains("error"), "{answer}");
        }
    }

    /// Killed, as by `kill -9`. Returns what it has said in its life that nobody has waited for.
    fn loses_power(mut self) -> Vec<String> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.console.rest()
    }

    /// Comes to its end by itself, which must be a good one.
    fn ends(mut self) -> Vec<String> {
        self.says("done");
        let status = self.child.wait().unwrap();
        let said = self.console.rest();
        assert!(status.success(), "{status}: {said:#?}");
        said
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The payload for a number, as the board makes it: its digits, and dots up to a length that follows from it.
fn written(number: u64) -> String {
    format!("{number:.<width$}", number = number.to_string(), width = (number * 37 % 256) as usize)
}

/// The number of a payload; `None` for one that is no number's.
fn read(payload: &str) -> Option<u64> {
    let number = payload.trim_end_matches('.').parse().ok()?;
    assert_eq!(payload, written(number), "each byte is as it was sent");
    Some(number)
}

/// Tells the board that this is all.
fn sends_the_end(socket: &Path) {
    let send = json!({ "device": "kitchen", "instance": 0, "tag": 0, "payload": "end" });
    let answer = asks(socket, "/v1/apps/ledger/answers", &json!({ "answers": [{ "send": send }] })).unwrap();
    assert_eq!(answer["results"][0]["ok"], true, "{answer}");
}

/// What all lives of a board have said, as the diaries of a sender and of a receiver.
#[derive(Default)]
struct Diaries {
    sent: String,
    received: String,
    /// Under which id each message came.
    seen: BTreeMap<(u64, u64), u64>,
    /// The next number to send.
    next: u64,
    links: u64,
    down: BTreeMap<String, u64>,
    /// How often the co-processor was reset.
    resets: u64,
}

impl Diaries {
    /// Adds a life. What comes again does so at its beginning: it was taken when the power went, and that was not noted.
    fn add(&mut self, life: &[String]) {
        let mut fresh = false;
        for line in life {
            match *line.split(' ').collect::<Vec<_>>() {
                ["send", number] => {
                    self.next = number.parse::<u64>().unwrap() + 1;
                    writeln!(self.sent, "{line}").unwrap();
                }
                ["accepted", _] => writeln!(self.sent, "{line}").unwrap(),
                ["take", epoch, seq, number] => {
                    let id = (epoch.parse().unwrap(), seq.parse().unwrap());
                    let again = self.seen.insert(id, number.parse().unwrap()).is_some();
                    assert!(!(again && fresh), "{line} came again, behind others: {life:#?}");
                    fresh |= !again;
                    let word = if again { "again" } else { "take" };
                    writeln!(self.received, "{word} {seq} {number}").unwrap();
                }
                ["up"] => self.links += 1,
                ["down:", ..] => *self.down.entry(line.clone()).or_default() += 1,
                ["outbox:", ..] => assert!(line.contains("lost 0,"), "{line}"),
                ["address" | "line:", ..] => {}
                ["reset"] => self.resets += 1,
                _ => panic!("a board does not say {line:?}: {life:#?}"),
            }
        }
    }

    fn epochs(&self) -> BTreeSet<u64> {
        self.seen.keys().map(|(epoch, _)| *epoch).collect()
    }
}

#[test]
fn an_emulated_board_talks_encrypted_both_ways() {
    let mut bench = Bench::starts();
    let Some(mut board) = bench.boots("app=0 every=1") else { return };
    board.says("address 10.0.2.15/24");
    board.says("up");
    for number in 1..=40 {
        assert_eq!(board.says("take "), format!("take 1 {number} {number}"), "the echo");
    }
    bench.server.logs("link up: native, sealed device=kitchen");
    let stack = board.stack();
    println!("{stack} bytes of stack");
    assert!((2_048..=12 * 1024).contains(&stack), "{stack}");
    let sent = bench.server.command(&["send", "kitchen", "end"]);
    assert!(sent.status.success(), "{sent:?}");
    board.ends();
}

#[test]
fn an_emulated_board_with_the_key_of_another_server_does_not_get_in() {
    let (mut bench, other) = (Bench::starts(), Bench::starts());
    fs::copy(other.key(), bench.key()).unwrap();
    let Some(mut board) = bench.boots("app=0 every=1") else { return };
    bench.server.logs("no key that is in force");
    board.says("down: ");
    let said = board.loses_power();
    assert!(!said.iter().any(|line| line == "up" || line.starts_with("take")), "{said:#?}");
}

/// How often the emulator is killed: the server half as often, the cable pulled a third as often.
fn kills() -> u64 {
    let kills = std::env::var("BOWLINE_EMULATOR_KILLS").ok();
    kills.map_or(10, |kills| kills.parse().expect("BOWLINE_EMULATOR_KILLS is a number"))
}

#[test]
fn power_cuts_server_kills_and_a_cable_that_is_out_lose_and_double_nothing() {
    let seed = std::env::var("BOWLINE_SEED").ok().map_or_else(|| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("BOWLINE_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut pause = |longest: u64| Duration::from_millis(random.u64(..longest));
    let start = Instant::now();
    let mut bench = Bench::starts();
    let Some(mut board) = bench.boots("app=7 every=5 from=1") else { return };
    let mut diaries = Diaries { next: 1, ..Diaries::default() };
    let (taker_up, up) = mpsc::channel();
    let taker = takes(bench.socket(), up, read);
    let (sender_up, up) = mpsc::channel();
    let stop = Arc::new(AtomicBool::new(false));
    let sender = sends(bench.socket(), up, Arc::clone(&stop), written);

    let kills = kills();
    let faults = [kills, kills.div_ceil(2), kills.div_ceil(3)];
    let mut left = faults;
    while let sum @ 1.. = left.iter().sum::<u64>() {
        thread::sleep(pause(1_000));
        // What happens is chosen evenly among what is left.
        let chosen = pause(sum).as_millis() as u64;
        if chosen < left[0] {
            left[0] -= 1;
            diaries.add(&board.loses_power());
            board = bench.boots(&format!("app=7 every=5 from={}", diaries.next)).unwrap();
        } else if chosen < left[0] + left[1] {
            left[1] -= 1;
            bench.server.is_killed();
            bench.server.starts_again();
            let _ = (taker_up.send(()), sender_up.send(()));
        } else {
            left[2] -= 1;
            board.cable(false);
            thread::sleep(pause(2 * TIMEOUT));
            board.cable(true);
        }
    }
    stop.store(true, Ordering::SeqCst);
    let (sent_by_server, _) = sender.join().unwrap();
    sends_the_end(&bench.socket());
    diaries.add(&board.ends());
    let taken_by_server = taker.join().unwrap();

    let up = compare(&diaries.sent, &taken_by_server, Extent::Whole).unwrap_or_else(|lost| panic!("{lost}"));
    let down = compare(&sent_by_server, &diaries.received, Extent::Whole).unwrap_or_else(|lost| panic!("{lost}"));
    assert_eq!(diaries.epochs().len(), 1, "the outbox keeps its epoch over power cuts");
    assert!(up.received > 0 && down.received > 0);
    let [power, server, cable] = faults;
    println!(
        "{power} power cuts, {server} kills of the server, {cable} times no cable, in {:.0} s, over {} links: lost 0, \
         doubled 0\nboard to server: {up}\nserver to board: {down}\nlinks ended: {:#?}",
        start.elapsed().as_secs_f64(),
        diaries.links,
        diaries.down
    );
}

#[test]
fn a_stack_that_is_too_deep_stops_the_board_and_is_told() {
    let bench = Bench::starts();
    let Some(mut board) = bench.boots("deep=1") else { return };
    // Below the stack there is nothing.
    board.says("the stack is too deep: 0x1fff");
    assert!(!board.child.wait().unwrap().success(), "the firmware says that it has failed");
}
