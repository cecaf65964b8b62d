//! Devices that do nothing.

use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::fit::line;
use crate::generator::{Generator, Server, number};
use crate::process::{self, Process, cpu_seconds};

/// What was seen of a server in one run.
struct Seen {
    devices: u32,
    bytes: f64,
    cores: f64,
    wakes: f64,
}

pub(crate) fn run(devices: &[u32], seconds: f64) -> Result<()> {
    println!("{:<20} {:>8} {:>12} {:>10} {:>14}", "", "devices", "bytes each", "cores", "wake-ups/s");
    for (name, sealed) in [("bowline open", false), ("bowline encrypted", true)] {
        let seen = devices.iter().map(|&count| bowline(count, seconds, sealed)).collect::<Result<Vec<_>>>()?;
        print(name, &seen);
    }
    let folder = tempfile::tempdir()?;
    let mut seen = Vec::new();
    for &count in devices {
        let Some(server) = Process::mosquitto(folder.path(), 16)? else {
            println!("no program `mosquitto` here: left out");
            return Ok(());
        };
        seen.push(mosquitto(&server, count, seconds)?);
    }
    print("mosquitto", &seen);
    println!("load {:.1}", process::load());
    Ok(())
}

fn print(name: &str, seen: &[Seen]) {
    for Seen { devices, bytes, cores, wakes } in seen {
        let each = bytes / f64::from(*devices);
        println!("{name:<20} {devices:>8} {each:>12.0} {cores:>10.4} {wakes:>14.0}");
    }
    let points =
        |what: fn(&Seen) -> f64| seen.iter().map(|seen| (f64::from(seen.devices), what(seen))).collect::<Vec<_>>();
    let (fixed, each, explained) = line(&points(|seen| seen.bytes));
    println!("{name:<20} memory: {:.0} KiB + {each:.0} bytes a device (R² {explained:.4})", fixed / 1024.0);
    let (fixed, each, explained) = line(&points(|seen| seen.cores));
    println!("{name:<20} processor: {fixed:.4} cores + {:.2} µs a device and second (R² {explained:.4})", each * 1e6);
}

fn bowline(devices: u32, seconds: f64, sealed: bool) -> Result<Seen> {
    let folder = tempfile::tempdir()?;
    let server = Server::start(folder.path())?;
    let keys = if sealed { Some(server.keys(devices)?) } else { None };
    // Keys are read again by then.
    std::thread::sleep(Duration::from_millis(300));
    let (devices_text, seconds_text) = (devices.to_string(), seconds.to_string());
    let arguments = ["hold", "--devices", &devices_text, "--seconds", &seconds_text];
    let mut generator = Generator::start(&arguments, server.address, server.pid(), keys.as_deref())?;
    generator.says("holding")?;
    let (start, before) = (Instant::now(), wakes(server.pid())?);
    let report = generator.report()?;
    let wakes = (wakes(server.pid())? - before) / start.elapsed().as_secs_f64();
    Ok(Seen {
        devices,
        bytes: number(&report, "/server/rss_bytes_per_device")? * f64::from(devices),
        cores: number(&report, "/server/cpu_us_per_device_second")? * f64::from(devices) / 1e6,
        wakes,
    })
}

fn mosquitto(server: &Process, devices: u32, seconds: f64) -> Result<Seen> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let before = resident(server.pid())?;
        let mut sockets = tokio::task::JoinSet::new();
        let (up, mut ups) = tokio::sync::mpsc::unbounded_channel();
        for number in 0..devices {
            // Some at a time, and beside each other in the second.
            if number % 100 == 99 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            sockets.spawn(pings(server.address, number, up.clone()));
        }
        for _ in 0..devices {
            tokio::time::timeout(Duration::from_secs(60), ups.recv()).await.context("mosquitto lets nobody in")?;
        }
        let (start, cpu, woken) = (Instant::now(), cpu_seconds(server.pid())?, wakes(server.pid())?);
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
        let took = start.elapsed().as_secs_f64();
        if let Some(ended) = sockets.try_join_next() {
            ended??;
        }
        Ok(Seen {
            devices,
            bytes: resident(server.pid())? - before,
            cores: (cpu_seconds(server.pid())? - cpu) / took,
            wakes: (wakes(server.pid())? - woken) / took,
        })
    })
}

/// Connects, and pings every second.
async fn pings(address: SocketAddr, number: u32, up: tokio::sync::mpsc::UnboundedSender<()>) -> Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from(([127, 0, 0, 1 + (number % 4) as u8], 0)))?;
    let mut stream: TcpStream = socket.connect(address).await?;
    let id = format!("bench-{number}");
    let mut hello = vec![0x10, 12 + id.len() as u8, 0, 4];
    // Clean session, a keepalive of 3 s.
    hello.extend_from_slice(b"MQTT\x04\x02\0\x03\0");
    hello.push(id.len() as u8);
    hello.extend_from_slice(id.as_bytes());
    stream.write_all(&hello).await?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await?;
    if answer != [0x20, 2, 0, 0] {
        bail!("mosquitto refuses: {answer:?}");
    }
    let _ = up.send(());
    let mut second = tokio::time::interval(Duration::from_secs(1));
    loop {
        second.tick().await;
        stream.write_all(&[0xc0, 0]).await?;
        stream.read_exact(&mut answer[..2]).await?;
    }
}

fn resident(pid: u32) -> Result<f64> {
    Ok(field(&fs::read_to_string(format!("/proc/{pid}/status"))?, "VmRSS:") * 1024.0)
}

/// How often the threads of a process have waited until now.
fn wakes(pid: u32) -> Result<f64> {
    let mut sum = 0.0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let status = fs::read_to_string(task?.path().join("status")).unwrap_or_default();
        sum += field(&status, "voluntary_ctxt_switches:");
    }
    Ok(sum)
}

fn field(status: &str, name: &str) -> f64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0.0)
}
