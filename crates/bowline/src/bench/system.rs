//! What the system says of processes, and how much it lets this one have.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;

/// Descriptors that are not connections.
const SPARE: u64 = 64;

/// Connections from one address to one other, with some left for other programs: by default the system gives 28,232
/// ports to who asks for any.
const PORTS: u32 = 28_000;

/// What a process has used.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Usage {
    /// Processor time since its start, in seconds.
    pub(super) cpu_seconds: f64,
    /// Memory it holds, in bytes.
    pub(super) rss_bytes: u64,
}

impl Usage {
    /// Of the process with this id.
    pub(super) fn of(pid: u32) -> anyhow::Result<Self> {
        let hint = || format!("cannot see the process {pid}: --pid is the id of the server's process on this machine");
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).with_context(hint)?;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).with_context(hint)?;
        Self::parse(&stat, &status, rustix::param::clock_ticks_per_second()).with_context(hint)
    }

    fn parse(stat: &str, status: &str, ticks: u64) -> Option<Self> {
        // The second field is the program's name, in brackets and with whatever in it.
        let (_, fields) = stat.rsplit_once(')')?;
        let mut times = fields.split_whitespace().skip(11).map(|field| field.parse::<u64>().ok());
        let used = times.next()?? + times.next()??;
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kib: u64 = rss.split_whitespace().next()?.parse().ok()?;
        Some(Usage { cpu_seconds: used as f64 / ticks.max(1) as f64, rss_bytes: kib * 1024 })
    }
}

/// Makes sure that this process may have so many connections: raises its own limit as far as it may.
pub(super) fn allow_descriptors(connections: u32) -> anyhow::Result<()> {
    let needed = u64::from(connections) + SPARE;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    if limit.maximum.is_none_or(|maximum| maximum >= needed) {
        let raised = Rlimit { current: limit.maximum.or(Some(needed)), ..limit };
        return setrlimit(Resource::Nofile, raised).context("cannot raise the limit of open files");
    }
    let most = limit.maximum.unwrap_or(u64::MAX);
    bail!(
        "{connections} connections need {needed} open files, and this process may have {most}: use at most {} devices, \
         or raise the limit (`ulimit -Hn`, LimitNOFILE in systemd, /etc/security/limits.conf), here and for the server",
        most.saturating_sub(SPARE)
    )
}

/// The addresses to connect from in turn, so that none has more than [`PORTS`] devices; none if it does not matter.
pub(super) fn sources(server: SocketAddr, given: &[IpAddr], devices: u32) -> anyhow::Result<Vec<IpAddr>> {
    if let Some(wrong) = given.iter().find(|source| source.is_ipv4() != server.is_ipv4()) {
        bail!("--source {wrong}: nobody can connect from there to {server}");
    }
    let needed = devices.div_ceil(PORTS) as usize;
    if !given.is_empty() {
        if given.len() < needed {
            bail!("{devices} devices need {needed} addresses to connect from, and --source gives {}", given.len());
        }
        return Ok(given.to_vec());
    }
    match server.ip() {
        _ if needed == 1 => Ok(Vec::new()),
        // All of 127.0.0.0/8 is this machine.
        IpAddr::V4(address) if address.is_loopback() => Ok((0..needed)
            .map(|number| Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + number as u32).into())
            .collect()),
        _ => bail!(
            "{devices} devices need {needed} addresses to connect from: name addresses of this machine with --source"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_has_used_is_read_from_its_files() {
        let stat = "42 (a (very) odd name) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 4 0 100 1000 20 0";
        let usage = Usage::parse(stat, "Name:\tx\nVmRSS:\t    2048 kB\n", 100).unwrap();
        assert_eq!(usage, Usage { cpu_seconds: 3.0, rss_bytes: 2 << 20 });
        assert!(Usage::parse("42 (x) S 1", "VmRSS: 1 kB", 100).is_none());
        assert!(Usage::of(std::process::id()).unwrap().rss_bytes > 0);
    }

    #[test]
    fn many_devices_connect_from_several_addresses() {
        let local: SocketAddr = "127.0.0.1:9999".parse().unwrap();
        let far: SocketAddr = "192.0.2.1:9999".parse().unwrap();
        assert_eq!(sources(local, &[], PORTS).unwrap(), Vec::<IpAddr>::new());
        let three: Vec<IpAddr> = ["127.0.0.1", "127.0.0.2", "127.0.0.3"].map(|ip| ip.parse().unwrap()).into();
        assert_eq!(sources(local, &[], 3 * PORTS).unwrap(), three);
        assert_eq!(sources(far, &three, 3 * PORTS).unwrap(), three);
        assert!(sources(far, &[], PORTS + 1).unwrap_err().to_string().contains("--source"));
        assert!(sources(far, &three, 3 * PORTS + 1).unwrap_err().to_string().contains("4 addresses"));
        assert!(sources("[::1]:9999".parse().unwrap(), &three, 1).is_err());
    }

    #[test]
    fn more_connections_than_open_files_are_refused() {
        allow_descriptors(1).unwrap();
        let most = getrlimit(Resource::Nofile).maximum;
        if let Some(too_many) = most.and_then(|most| u32::try_from(most).ok()) {
            assert!(allow_descriptors(too_many).unwrap_err().to_string().contains("ulimit"));
        }
    }
}
