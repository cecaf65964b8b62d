//! What was measured, for scripts and for people. The names of the fields are documented in docs/performance.md.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::tally::Percentiles;
use crate::units::count;

/// All of it.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) kind: &'static str,
    pub(super) ok: bool,
    pub(super) interrupted: bool,
    pub(super) dialect: &'static str,
    pub(super) encrypted: bool,
    /// Of the generator; the server's may be another.
    pub(super) build: &'static str,
    pub(super) devices: u32,
    pub(super) connect: Connect,
    /// Links that were up and ended without order.
    pub(super) links_lost: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) load: Option<Load>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) echo: Option<Echo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) hold: Option<Hold>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) storm: Option<Storm>,
    pub(super) generator: Generator,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) server: Option<Server>,
    /// What went wrong, and how often.
    pub(super) problems: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Connect {
    /// Devices that got in.
    pub(super) connected: u64,
    pub(super) seconds: f64,
    pub(super) per_second: f64,
    /// Attempts to which the server said: not now.
    pub(super) refused: u64,
    /// Attempts that came to nothing otherwise.
    pub(super) failed: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct Load {
    pub(super) window: u32,
    pub(super) bytes: usize,
    /// From the first measured message to the last acknowledgement or echo.
    pub(super) seconds: f64,
    pub(super) offered: u64,
    pub(super) acknowledged: u64,
    pub(super) lost: u64,
    pub(super) offered_per_second: f64,
    pub(super) acknowledged_per_second: f64,
    pub(super) latency_us: Option<Percentiles>,
    /// Messages sent again, warm-up included.
    pub(super) resent: u64,
    /// Acknowledgements of what was not on its way.
    pub(super) stray_acks: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct Echo {
    pub(super) received: u64,
    pub(super) received_per_second: f64,
    pub(super) lost: u64,
    pub(super) doubled: u64,
    pub(super) wrong: u64,
    pub(super) round_trip_us: Option<Percentiles>,
}

#[derive(Debug, Serialize)]
pub(super) struct Hold {
    pub(super) seconds: f64,
    pub(super) connected: u64,
    pub(super) lost: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct Storm {
    /// Devices that are back.
    pub(super) back: u64,
    /// From the cut until the last of them was.
    pub(super) seconds: f64,
    pub(super) back_us: Option<Percentiles>,
    /// Of those that are back: without a full handshake.
    pub(super) resumed: u64,
    pub(super) refused: u64,
    pub(super) failed: u64,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Generator {
    /// In the measured time.
    pub(super) cpu_seconds: f64,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Server {
    pub(super) pid: u32,
    /// In the measured time.
    pub(super) cpu_seconds: f64,
    pub(super) messages_per_cpu_second: Option<f64>,
    pub(super) cpu_us_per_device_second: f64,
    pub(super) rss_bytes: u64,
    /// Since before the first device connected.
    pub(super) rss_bytes_per_device: f64,
}

/// One digit behind the point: what is more is noise.
pub(super) fn rate(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { (count as f64 / seconds * 10.0).round() / 10.0 } else { 0.0 }
}

/// Seconds without digits that mean nothing.
pub(super) fn micros(seconds: f64) -> f64 {
    (seconds * 1e6).round() / 1e6
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sealed = if self.encrypted { " encrypted" } else { "" };
        let devices = count(self.devices.into(), "device");
        write!(f, "{}, dialect {}{sealed}, {devices}", self.kind, self.dialect)?;
        if let Some(load) = &self.load {
            write!(f, ", {} in flight each, payloads of {} bytes", load.window, load.bytes)?;
        }
        writeln!(f, "{}", if self.interrupted { " (interrupted)" } else { "" })?;
        if self.build == "debug" {
            writeln!(f, "(this is a debug build: its figures say little)")?;
        }
        writeln!(f)?;
        let Connect { connected, seconds, per_second, refused, failed } = self.connect;
        row(f, "connected", &format!("{connected} in {seconds:.3} s, {per_second} a second"))?;
        problem(f, "refused, tried again", refused)?;
        problem(f, "failed, tried again", failed)?;
        if let Some(load) = &self.load {
            row(
                f,
                "sent",
                &format!("{} in {:.3} s, {} a second", load.offered, load.seconds, load.offered_per_second),
            )?;
            row(f, "acknowledged", &format!("{}, {} a second", load.acknowledged, load.acknowledged_per_second))?;
            row(f, "lost", &load.lost.to_string())?;
            problem(f, "sent again", load.resent)?;
            problem(f, "stray acknowledgements", load.stray_acks)?;
        }
        if let Some(echo) = &self.echo {
            row(f, "echoed", &format!("{}, {} a second", echo.received, echo.received_per_second))?;
            row(f, "echoes lost, doubled, wrong", &format!("{}, {}, {}", echo.lost, echo.doubled, echo.wrong))?;
        }
        if let Some(hold) = &self.hold {
            row(
                f,
                "held",
                &format!("{:.1} s, {} connected at the end, {} lost", hold.seconds, hold.connected, hold.lost),
            )?;
        }
        if let Some(storm) = &self.storm {
            row(f, "back", &format!("{} in {:.3} s, {} by ticket", storm.back, storm.seconds, storm.resumed))?;
            row(f, "attempts refused, failed", &format!("{}, {}", storm.refused, storm.failed))?;
        }
        problem(f, "links lost", self.links_lost)?;
        self.times(f)?;
        writeln!(f)?;
        row(f, "CPU of the generator", &format!("{:.2} s", self.generator.cpu_seconds))?;
        if let Some(server) = &self.server {
            let messages = server
                .messages_per_cpu_second
                .map_or_else(String::new, |rate| format!(", {rate} messages a second of it"));
            row(f, "CPU of the server", &format!("{:.2} s{messages}", server.cpu_seconds))?;
            row(f, "of each device", &format!("{:.1} us a second", server.cpu_us_per_device_second))?;
            let mib = server.rss_bytes as f64 / f64::from(1 << 20);
            let kib = server.rss_bytes_per_device / 1024.0;
            row(f, "memory of the server", &format!("{mib:.1} MiB, {kib:.1} KiB more for each device"))?;
        }
        for (text, count) in &self.problems {
            writeln!(f, "{count:>8} x {text}")?;
        }
        Ok(())
    }
}

impl Report {
    fn times(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = [
            ("send to ACK", self.load.as_ref().and_then(|load| load.latency_us)),
            ("send to echo", self.echo.as_ref().and_then(|echo| echo.round_trip_us)),
            ("cut to back", self.storm.as_ref().and_then(|storm| storm.back_us)),
        ];
        if rows.iter().all(|(_, times)| times.is_none()) {
            return Ok(());
        }
        let names = ["p50", "p90", "p99", "p99.9", "max"].map(|name| format!("{name:>12}")).concat();
        writeln!(f, "\n{:16}{names}", "")?;
        for (name, times) in rows {
            if let Some(Percentiles { p50, p90, p99, p99_9, max, .. }) = times {
                let times = [p50, p90, p99, p99_9, max].map(|time| format!("{:>12}", span(time))).concat();
                writeln!(f, "{name:16}{times}")?;
            }
        }
        Ok(())
    }
}

fn row(f: &mut fmt::Formatter<'_>, name: &str, text: &str) -> fmt::Result {
    writeln!(f, "{name:28} {text}")
}

/// A row only if there is something to tell.
fn problem(f: &mut fmt::Formatter<'_>, name: &str, number: u64) -> fmt::Result {
    if number == 0 { Ok(()) } else { row(f, name, &number.to_string()) }
}

/// A time given in microseconds.
fn span(us: u64) -> String {
    match us {
        0..10_000 => format!("{us} us"),
        10_000..10_000_000 => format!("{:.1} ms", us as f64 / 1e3),
        _ => format!("{:.1} s", us as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_rates_are_readable() {
        assert_eq!([9_999, 10_000, 1_234_567, 12_345_678].map(span), ["9999 us", "10.0 ms", "1234.6 ms", "12.3 s"]);
        assert_eq!((rate(1, 3.0), rate(5, 0.0)), (0.3, 0.0));
    }
}
