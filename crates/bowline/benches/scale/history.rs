//! Whether a message costs what it did when the store was new, and what it costs with more devices.

use anyhow::Result;

use crate::durable::Counting;
use crate::fit::line;
use crate::generator::number;
use crate::process;

/// Devices of the runs that are compared.
const DEVICES: u32 = 100;

pub(crate) fn run(messages: u64, run: u64) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = Counting::start("os", folder.path())?;
    println!("{:>14} {:>22} {:>12}", "stored before", "a server CPU second", "a second");
    let each = (run / u64::from(DEVICES)).to_string();
    let mut points = Vec::new();
    let mut before = 0;
    while before <= messages {
        let report = server.load(DEVICES, 16, &["--messages", &each])?;
        let rate = number(&report, "/server/messages_per_cpu_second")?;
        println!("{before:>14} {rate:>22.0} {:>12.0}", number(&report, "/load/acknowledged_per_second")?);
        points.push((before as f64 / 1e6, 1e6 / rate));
        before += number(&report, "/load/acknowledged")? as u64;
    }
    let (fixed, slope, explained) = line(&points);
    println!("µs a message: {fixed:.2} + {slope:.3} for each million stored before (R² {explained:.3})");
    println!("{:>14} {:>22} {:>12}", "devices", "a server CPU second", "CPU, s");
    let mut points = Vec::new();
    for devices in [10, 30, 100, 300, 1000] {
        let each = (run / 2 / devices).to_string();
        let report = server.load(devices as u32, 16, &["--messages", &each])?;
        let (count, cpu) = (number(&report, "/load/acknowledged")?, number(&report, "/server/cpu_seconds")?);
        println!("{devices:>14} {:>22.0} {cpu:>12.2}", count / cpu);
        points.push((devices as f64, cpu / count * 1e6));
    }
    let (fixed, slope, explained) = line(&points);
    println!("µs a message: {fixed:.2} + {slope:.4} for each device (R² {explained:.3})");
    println!("load {:.1}", process::load());
    Ok(())
}
