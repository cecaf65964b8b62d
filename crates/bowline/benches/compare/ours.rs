//! Bowline's server, and `bowline bench` as its generator.

use std::hint::black_box;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use bowline_server::{Date, Keys, Limits, Server};
use bowline_store::{Durability, Store};
use serde_json::Value;

use crate::load::{Amount, Figures, WARM_UP};
use crate::process::Process;

/// A server's process, which lets devices in with a key and without.
pub(crate) struct Bowline {
    pub(crate) process: Process,
    keys: PathBuf,
}

/// Serves until its process is ended: an application takes all messages, each behind the store. The keys of `devices`
/// devices are in the file `keys` then.
pub(crate) async fn serve(durability: &str, folder: &Path, devices: u32) -> Result<()> {
    let durability = match durability {
        // As `bowline serve` does it: nothing is kept, so there is no store.
        "memory" => None,
        "os" => Some(Durability::Os),
        "fsync" => Some(Durability::Fsync),
        other => bail!("no durability {other}"),
    };
    std::fs::create_dir_all(folder)?;
    let keys = Keys::default();
    let ids: Vec<String> = (0..devices).map(|number| format!("sealed-{number}")).collect();
    let issued = keys.issue_all(ids.iter().map(String::as_str), Date::from_unix(0))?;
    let lines: String = issued.iter().map(|issued| format!("{}\n", issued.line().as_str())).collect();
    std::fs::write(folder.join("keys"), lines)?;
    let mut builder = Server::builder()
        .listen(SocketAddr::from(([127, 0, 0, 1], 0)))
        .limits(Limits { messages_per_second: None, ..Limits::default() })
        .keys(keys)
        .handshakes(0, 0)
        .on_device(|device| {
            tokio::spawn(async move {
                while let Ok(message) = device.recv().await {
                    black_box(message);
                }
            });
        });
    if let Some(durability) = durability {
        builder = builder.store(Store::open(folder, durability, bowline_store::Limits::default())?);
    }
    let server = builder.start().await?;
    println!("{}", server.addresses()[0]);
    std::io::stdout().flush()?;
    std::future::pending().await
}

impl Bowline {
    pub(crate) fn start(durability: &str, folder: &Path, devices: u32) -> Result<Self> {
        let folder = folder.join(durability);
        let path = folder.to_str().context("a temporary folder with a plain name")?;
        let process = Process::own(&["bowline", durability, path, &devices.to_string()])?;
        Ok(Bowline { process, keys: folder.join("keys") })
    }

    pub(crate) fn run(&self, dialect: &str, sealed: bool, amount: Amount) -> Result<Figures> {
        generate(self.process.address, self.process.pid(), dialect, sealed.then_some(&*self.keys), amount)
    }
}

/// Has `bowline bench` put load on any server that speaks one of the dialects.
pub(crate) fn generate(
    address: SocketAddr,
    pid: u32,
    dialect: &str,
    keys: Option<&Path>,
    amount: Amount,
) -> Result<Figures> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bowline"));
    command.args(["bench", "throughput", "--json", "--server"]).arg(address.to_string());
    command.args(["--pid", &pid.to_string(), "--dialect", dialect, "--prefix", dialect]);
    command.args(["--devices", &amount.devices.to_string(), "--window", &amount.window.to_string()]);
    command.args(["--bytes", &amount.bytes.to_string(), "--seconds", &amount.seconds.as_secs_f64().to_string()]);
    command.args(["--warm-up", &WARM_UP.as_secs_f64().to_string()]);
    if let Some(keys) = keys {
        command.arg("--keys").arg(keys);
    }
    let output = command.output()?;
    if !output.status.success() {
        bail!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    }
    let report: Value = serde_json::from_slice(&output.stdout)?;
    let number =
        |path: &str| report.pointer(path).and_then(Value::as_f64).with_context(|| format!("{path} is missing"));
    Ok(Figures {
        per_second: number("/load/acknowledged_per_second")?,
        // A run too short for the system's clock has none.
        per_cpu_second: number("/server/messages_per_cpu_second").unwrap_or(f64::NAN),
        p50_us: number("/load/latency_us/p50")?,
        p99_us: number("/load/latency_us/p99")?,
    })
}
