//! Servers as processes of their own, so that their processor time can be told from the generator's.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// A server that ends with this value.
pub(crate) struct Process {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Process {
    /// This program again, with these arguments; it prints its address.
    pub(crate) fn own(arguments: &[&str]) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut child = command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        let said = child.stdout.take().context("its output is piped")?;
        BufReader::new(said).read_line(&mut line)?;
        let Ok(address) = line.trim().parse() else {
            let _ = child.kill();
            let status = child.wait()?;
            bail!("`{}` did not start ({status})", arguments.join(" "));
        };
        Ok(Process { child, address })
    }

    /// mosquitto with nothing changed but what limits how much is in flight. It keeps messages in memory. `None` if
    /// there is no such program.
    pub(crate) fn mosquitto(folder: &Path, window: usize) -> Result<Option<Self>> {
        let address = free()?;
        let settings = format!(
            "listener {} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\nlog_dest none\n\
             max_inflight_messages {window}\nmax_queued_messages 0\n",
            address.port()
        );
        let path = folder.join("mosquitto.conf");
        fs::write(&path, settings)?;
        // Debian's place for it is not on everybody's path.
        for program in ["mosquitto", "/usr/sbin/mosquitto"] {
            if let Ok(child) = quiet(program).arg("-c").arg(&path).spawn() {
                return Process { child, address }.awaited().map(Some);
            }
        }
        Ok(None)
    }

    /// A NATS server with JetStream, which writes to files and syncs every two minutes.
    pub(crate) fn nats(program: &Path, folder: &Path) -> Result<Self> {
        let address = free()?;
        let mut command = quiet(program);
        command.args(["--jetstream", "--addr", "127.0.0.1", "--port"]).arg(address.port().to_string());
        let child = command.arg("--store_dir").arg(folder.join("nats")).spawn();
        Process { child: child.with_context(|| format!("starting {}", program.display()))?, address }.awaited()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Others do not say when they listen.
    fn awaited(mut self) -> Result<Self> {
        let start = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("the server ended at its start ({status})");
            }
            if start.elapsed() > Duration::from_secs(10) {
                bail!("the server does not listen on {}", self.address);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(self)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn quiet(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// An address that nobody listens on now.
fn free() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// Processor time of a process since its start, with all its threads, in the system and outside.
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the server's process is gone")?;
    // The second field is the program's name, in brackets and with whatever in it.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
    let ticks: Vec<u64> = fields.skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
    let [user, system] = ticks.as_slice() else { bail!("expected times in {stat}") };
    Ok((user + system) as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// What the machine says of its state: the load of the last minute.
pub(crate) fn load() -> f64 {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(f64::NAN)
}
