//! `bowline serve` and `bowline bench` as processes.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

const BOWLINE: &str = env!("CARGO_BIN_EXE_bowline");

/// A server as users have it, in a folder of its own.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    folder: PathBuf,
}

impl Server {
    pub(crate) fn start(folder: &Path) -> Result<Self> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        std::fs::write(folder.join("bowline.toml"), "[security]\nhandshakes_per_second = 0\n")?;
        Self::start_at(folder, address)
    }

    fn start_at(folder: &Path, address: SocketAddr) -> Result<Self> {
        let mut command = Command::new(BOWLINE);
        command.args(["serve", "--log", "error", "--listen", &address.to_string(), "--data"]).arg(folder.join("data"));
        command.arg("--config").arg(folder.join("bowline.toml")).stdout(Stdio::null()).stdin(Stdio::null());
        let mut child = command.spawn().context("starting `bowline serve`")?;
        let start = Instant::now();
        while TcpStream::connect(address).is_err() {
            if let Some(status) = child.try_wait()? {
                bail!("`bowline serve` ended at its start ({status})");
            }
            if start.elapsed() > Duration::from_secs(60) {
                bail!("`bowline serve` does not listen");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(Server { child, address, folder: folder.to_owned() })
    }

    /// Ends it without a word (`kill -9`) and starts it again on the same address.
    pub(crate) fn crashes(mut self) -> Result<Self> {
        self.child.kill()?;
        self.child.wait()?;
        Self::start_at(&self.folder, self.address)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The file of the keys of so many devices, which it makes.
    pub(crate) fn keys(&self, devices: u32) -> Result<PathBuf> {
        let path = self.folder.join("keys");
        let mut command = Command::new(BOWLINE);
        command.args(["bench", "keys", "--count", &devices.to_string(), "--data"]).arg(self.folder.join("data"));
        let output = command.arg("--out").arg(&path).output()?;
        if !output.status.success() {
            bail!("{}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(path)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A load generator at work.
pub(crate) struct Generator {
    child: Child,
    says: BufReader<std::process::ChildStderr>,
}

impl Generator {
    pub(crate) fn start(arguments: &[&str], server: SocketAddr, pid: u32, keys: Option<&Path>) -> Result<Self> {
        let mut command = Command::new(BOWLINE);
        command.arg("bench").args(arguments).args([
            "--json",
            "--server",
            &server.to_string(),
            "--pid",
            &pid.to_string(),
        ]);
        if let Some(keys) = keys {
            command.arg("--keys").arg(keys);
        }
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let says = BufReader::new(child.stderr.take().context("it is piped")?);
        Ok(Generator { child, says })
    }

    /// Waits until it says a line that begins so.
    pub(crate) fn says(&mut self, beginning: &str) -> Result<()> {
        let mut line = String::new();
        while self.says.read_line(&mut line)? > 0 {
            if line.starts_with(beginning) {
                return Ok(());
            }
            line.clear();
        }
        bail!("the generator ended before it said {beginning:?}")
    }

    /// Waits for its end, and returns what it has measured.
    pub(crate) fn report(mut self) -> Result<Value> {
        let mut report = String::new();
        self.child.stdout.take().context("it is piped")?.read_to_string(&mut report)?;
        let mut rest = String::new();
        self.says.read_to_string(&mut rest)?;
        let status = self.child.wait()?;
        if !status.success() {
            bail!("`bowline bench` failed ({status}): {report}{rest}");
        }
        Ok(serde_json::from_str(&report)?)
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A number of a report.
pub(crate) fn number(report: &Value, path: &str) -> Result<f64> {
    report.pointer(path).and_then(Value::as_f64).with_context(|| format!("{path} is missing in {report}"))
}
