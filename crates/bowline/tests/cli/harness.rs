//! A server and boards as child processes, scripted line by line.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long anything may take on a busy machine before it counts as not happening.
const PATIENCE: Duration = Duration::from_secs(30);

/// `bowline` with these arguments, run to its end.
pub(crate) fn bowline(arguments: &[&str]) -> Output {
    run(command(arguments).stdin(Stdio::null()))
}

/// The same with something on its standard input.
pub(crate) fn bowline_with_input(arguments: &[&str], input: &str) -> Output {
    let mut child =
        command(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn run(command: &mut Command) -> Output {
    command.output().unwrap()
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bowline"));
    command.args(arguments).env_remove("BOWLINE_LOG");
    command
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A command of `bowline` that runs while the test goes on.
pub(crate) struct Running {
    child: Child,
    log: Lines,
}

impl Running {
    pub(crate) fn starts(arguments: &[&str]) -> Self {
        let mut child =
            command(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Lines::of(child.stderr.take().unwrap());
        Running { child, log }
    }

    /// Waits until it says a line with `text` in it on standard error.
    pub(crate) fn says(&mut self, text: &str) {
        self.log.waits_for(text);
    }

    /// Asked to stop, as by Ctrl-C.
    pub(crate) fn is_interrupted(&self) {
        signal(&self.child, "INT");
    }

    /// Waits for its end: whether it was a good one, and what came on standard output.
    pub(crate) fn ends(mut self) -> (bool, String) {
        let mut text = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        (self.child.wait().unwrap().success(), text)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A running `bowline serve`, on a port the system chose, with a data folder of its own.
pub(crate) struct Server {
    child: Child,
    log: Lines,
    address: SocketAddr,
    data: TempDir,
    options: Vec<String>,
}

impl Server {
    pub(crate) fn starts() -> Self {
        Self::starts_with(&[])
    }

    pub(crate) fn starts_with(options: &[&str]) -> Self {
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        Self::starts_in(TempDir::new().unwrap(), options)
    }

    /// With this configuration, which lies in [`Server::config`].
    pub(crate) fn configured(text: &str) -> Self {
        let data = TempDir::new().unwrap();
        let config = config_in(data.path());
        std::fs::write(&config, text).unwrap();
        Self::starts_in(data, vec!["--config".to_owned(), config.to_str().unwrap().to_owned()])
    }

    fn starts_in(data: TempDir, options: Vec<String>) -> Self {
        let (child, log, address) = Self::launch("127.0.0.1:0", data.path(), &options);
        Server { child, log, address, data, options }
    }

    fn launch(listen: &str, data: &Path, options: &[String]) -> (Child, Lines, SocketAddr) {
        let mut child = command(&["serve", "--listen", listen, "--data", data.to_str().unwrap()])
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = Lines::of(child.stderr.take().unwrap());
        let line = log.waits_for("listening on ");
        let address = line.split("listening on ").nth(1).unwrap().split([' ', ',']).next().unwrap().parse().unwrap();
        (child, log, address)
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn pid(&self) -> String {
        self.child.id().to_string()
    }

    pub(crate) fn data(&self) -> &str {
        self.data.path().to_str().unwrap()
    }

    /// What it reads when it starts again.
    pub(crate) fn config(&self) -> PathBuf {
        config_in(self.data.path())
    }

    /// Memory that the process holds, in KiB.
    pub(crate) fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// Waits for a line of the log with `text` in it.
    pub(crate) fn logs(&mut self, text: &str) -> String {
        self.log.waits_for(text)
    }

    /// Every line of the log that no test has waited for, once the server has ended.
    pub(crate) fn whole_log(&mut self) -> Vec<String> {
        self.log.rest()
    }

    /// Runs a command that talks to this server.
    pub(crate) fn command(&self, arguments: &[&str]) -> Output {
        bowline(&[arguments, &["--data", self.data()]].concat())
    }

    /// Asked to stop, as by Ctrl-C, and does so in order.
    pub(crate) fn stops(&mut self) {
        signal(&self.child, "INT");
        assert!(self.child.wait().unwrap().success(), "the server did not stop in order");
    }

    /// Killed, as by `kill -9`.
    pub(crate) fn is_killed(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Started again, on the same port with the same data.
    pub(crate) fn starts_again(&mut self) {
        let (child, log, _) = Self::launch(&self.address(), self.data.path(), &self.options);
        (self.child, self.log) = (child, log);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn config_in(data: &Path) -> PathBuf {
    data.join("bowline.toml")
}

pub(crate) fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

/// A board: one of the scripts in `tests/micropython`, on a real MicroPython.
pub(crate) struct Board {
    child: Child,
    commands: ChildStdin,
    events: Lines,
}

impl Board {
    /// Starts the script `device_h.py` or `device_u.py`, unless there is no MicroPython. CI has one.
    pub(crate) fn boots(script: &str, server: &str, id: &str) -> Option<Self> {
        let (host, port) = server.rsplit_once(':').unwrap();
        Self::runs(&[], script, &[host, port, id, "1500"])
    }

    /// Starts a script of `tests/micropython` with these arguments, and flags for the interpreter.
    pub(crate) fn runs(flags: &[&str], script: &str, arguments: &[&str]) -> Option<Self> {
        let Some(micropython) = std::env::var_os("BOWLINE_MICROPYTHON") else {
            assert!(std::env::var_os("CI").is_none(), "CI must set BOWLINE_MICROPYTHON");
            eprintln!("skipped: BOWLINE_MICROPYTHON names no MicroPython (`cargo xtask test` installs one)");
            return None;
        };
        let scripts = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/micropython");
        let mut child = Command::new(micropython)
            .args(flags)
            .arg(script)
            .args(arguments)
            .current_dir(scripts)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let commands = child.stdin.take().unwrap();
        let events = Lines::of(child.stdout.take().unwrap());
        Some(Board { child, commands, events })
    }

    /// Killed, as by `kill -9`.
    pub(crate) fn is_killed(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Runs to its end, which must be a good one.
    pub(crate) fn ends(&mut self) {
        assert!(self.child.wait().unwrap().success(), "the script failed: {:#?}", self.events.rest());
    }

    pub(crate) fn does(&mut self, command: &str) {
        writeln!(self.commands, "{command}").unwrap();
    }

    /// Waits for an event that starts like this, and returns the rest of it.
    pub(crate) fn reports(&mut self, event: &str) -> String {
        let line = self.events.waits_for_start(event);
        line[event.len()..].trim_start().to_owned()
    }

    /// All texts received so far and until `last` has come, in order.
    pub(crate) fn receives_until(&mut self, last: &str) -> Vec<String> {
        let mut texts = Vec::new();
        loop {
            let line = self.events.waits_for_start("got - ");
            let text = line["got - ".len()..].to_owned();
            let done = text == last;
            texts.push(text);
            if done {
                return texts;
            }
        }
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines a child prints.
pub(crate) struct Lines {
    lines: Receiver<String>,
    /// Lines that were passed over, for another look.
    kept: Vec<String>,
}

impl Lines {
    pub(crate) fn of(stream: impl Read + Send + 'static) -> Self {
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stream).lines() {
                let Ok(line) = line else { return };
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Lines { lines, kept: Vec::new() }
    }

    /// What was not waited for, once the child has ended.
    pub(crate) fn rest(&mut self) -> Vec<String> {
        self.kept.extend(self.lines.iter());
        std::mem::take(&mut self.kept)
    }

    fn waits_for(&mut self, text: &str) -> String {
        self.wait(text, |line| line.contains(text))
    }

    pub(crate) fn waits_for_start(&mut self, text: &str) -> String {
        self.wait(text, |line| line.starts_with(text))
    }

    /// The first line, among those not returned yet, that fits.
    fn wait(&mut self, what: &str, fits: impl Fn(&str) -> bool) -> String {
        if let Some(at) = self.kept.iter().position(|line| fits(line)) {
            return self.kept.remove(at);
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if fits(&line) => return line,
                Ok(line) => self.kept.push(line),
                Err(error) => panic!("waited for {what:?} ({error}); instead came: {:#?}", self.kept),
            }
        }
    }
}
