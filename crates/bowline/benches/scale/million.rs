//! A million devices come back: simulated time, the client's own back-off, a server that does so many logins a second.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use anyhow::Result;
use bowline_client::Backoff;

/// What is simulated.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting {
    pub(crate) devices: u32,
    /// Logins that the server does in a second.
    pub(crate) rate: f64,
    /// How long it is away, in seconds.
    pub(crate) away: f64,
    /// The devices' timeout, in seconds: the longest pause, and how long an attempt waits for its answer.
    pub(crate) timeout: f64,
    pub(crate) seed: u64,
}

/// Connections that wait in the system's queue and in the server's lobby. One more is not answered by the system, and
/// the device finds out when its attempt has waited for too long.
const PLACES: usize = 4096 + 1024;

/// What came of it. Times in seconds since the server is back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Outcome {
    /// Half of them are back, 99 of 100, and all.
    pub(crate) half: f64,
    pub(crate) most: f64,
    pub(crate) all: f64,
    /// Most connections that waited for the server at a time.
    pub(crate) backlog: usize,
    pub(crate) attempts: u64,
    /// Logins that the server did for devices which had given up waiting.
    pub(crate) in_vain: u64,
    /// Devices that are not back when the simulation is given up.
    pub(crate) missing: u32,
}

/// When the simulation is given up: after so many times what a server without waste needs.
const GIVEN_UP: f64 = 3.0;

/// Nanoseconds since the links were cut.
type At = u64;

fn at(seconds: f64) -> At {
    (seconds * 1e9) as At
}

/// Until everybody is back, or [`GIVEN_UP`].
pub(crate) fn simulate(setting: Setting) -> Outcome {
    let Setting { devices, rate, away, timeout, seed } = setting;
    let mut random = fastrand::Rng::with_seed(seed);
    let backoff = Backoff::within(Duration::from_secs_f64(timeout));
    let mut pause = |failures: u32| backoff.pause(failures, random.f64()).as_nanos() as At;
    // What a device does next, and how often it has failed; one attempt each.
    let mut next: BinaryHeap<Reverse<(At, u32)>> = (0..devices).map(|device| Reverse((pause(1), device))).collect();
    let mut failures = vec![1_u32; devices as usize];
    let mut queue = std::collections::VecDeque::<(At, u32)>::new();
    let (back, patience, login) = (at(away), at(timeout), at(1.0 / rate));
    let mut free = back;
    let (mut done, mut backlog, mut attempts, mut in_vain) = (0, 0, 0, 0);
    let (mut half, mut most, mut all) = (0.0, 0.0, 0.0);
    let end = back + at(GIVEN_UP * f64::from(devices) / rate + timeout);
    while done < devices && free < end {
        // The server takes whoever has waited for longest, as soon as it is free.
        let arrival = next.peek().map_or(At::MAX, |Reverse((at, _))| *at);
        if let Some(&(came, device)) = queue.front()
            && free.max(came) <= arrival
        {
            queue.pop_front();
            let start = free.max(came);
            free = start + login;
            if free > came + patience {
                // It is gone; what it has sent is read all the same, and it tries again.
                in_vain += 1;
                continue;
            }
            done += 1;
            let since = (free - back) as f64 / 1e9;
            half = if done == devices / 2 { since } else { half };
            most = if u64::from(done) * 100 <= u64::from(devices) * 99 { since } else { most };
            all = since;
            failures[device as usize] = 0;
            continue;
        }
        let Some(Reverse((now, device))) = next.pop() else { break };
        let failed = &mut failures[device as usize];
        if *failed == 0 {
            continue;
        }
        attempts += 1;
        *failed += 1;
        if now < back {
            // Nobody listens: the system says so at once.
            next.push(Reverse((now + pause(*failed), device)));
            continue;
        }
        // Until then it waits for an answer, unless it has one: then what it would do next is passed over.
        next.push(Reverse((now + patience + pause(*failed), device)));
        if queue.len() < PLACES {
            queue.push_back((now, device));
            backlog = backlog.max(queue.len());
        }
    }
    Outcome { half, most, all, backlog, attempts, in_vain, missing: devices - done }
}

pub(crate) fn run(setting: Setting) -> Result<()> {
    let Outcome { half, most, all, backlog, attempts, in_vain, missing } = simulate(setting);
    let devices = f64::from(setting.devices);
    println!("{setting:?}");
    println!("a server without waste needs {:.1} s for all", devices / setting.rate);
    if missing == 0 {
        println!("back: half after {half:.1} s, 99 % after {most:.1} s, all after {all:.1} s");
    } else {
        println!("{missing} are not back after {GIVEN_UP} times as long");
    }
    println!("most connections that waited: {backlog} of {PLACES}");
    println!("attempts: {:.1} of each device; logins in vain: {in_vain}", attempts as f64 / devices);
    Ok(())
}
