//! What happens to the network, and when: decided by a seed before anything starts.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Phase;
use super::fleet::Board;
use super::proxy::{Cut, Proxy, Weather};
use super::view::View;

/// The network stays clear this long, so that everyone gets a first link.
const GRACE: Duration = Duration::from_millis(800);

/// Shorter ones might be over before the proxy has seen them.
const SHORTEST: Duration = Duration::from_millis(100);

/// Bad weather over one device's link.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Fault {
    /// When it begins, counted from the start.
    pub(super) at: Duration,
    /// How long it lasts.
    pub(super) lasts: Duration,
    /// What it is.
    pub(super) weather: Weather,
}

/// All faults, one list for each device, in order of time and without overlaps.
pub(super) fn schedule(seed: u64, devices: usize, until: Duration) -> Vec<Vec<Fault>> {
    let mut seeds = Rng::with_seed(seed);
    (0..devices).map(|_| for_device(Rng::with_seed(seeds.u64(..)), until)).collect()
}

fn for_device(mut random: Rng, until: Duration) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut at = GRACE + millis(&mut random, 0, 800);
    loop {
        let (weather, lasts) = draw(&mut random);
        // The last one lasts to the very end, so that there is something to heal.
        let lasts = lasts.min(until.saturating_sub(at));
        if lasts < SHORTEST {
            return faults;
        }
        faults.push(Fault { at, lasts, weather });
        at += lasts + millis(&mut random, 200, 1_000);
    }
}

/// Times are chosen around a timeout of one second: some faults are over before anyone notices.
fn draw(random: &mut Rng) -> (Weather, Duration) {
    match random.u32(0..100) {
        0..25 => (Weather::Cut(Cut::Reset), millis(random, 100, 700)),
        25..45 => (Weather::Cut(Cut::Close), millis(random, 100, 700)),
        45..60 => (Weather::HalfOpen, millis(random, 600, 2_500)),
        60..73 => (Weather::OneWay, millis(random, 600, 1_800)),
        73..85 => (Weather::Stalled, millis(random, 300, 1_800)),
        85..93 => (Weather::OneByte, millis(random, 500, 1_500)),
        _ => (Weather::Delayed(millis(random, 50, 250)), millis(random, 500, 1_500)),
    }
}

fn millis(random: &mut Rng, from: u64, to: u64) -> Duration {
    Duration::from_millis(random.u64(from..=to))
}

/// Plays one device's faults until they are over or the phase is, and leaves the network clear.
pub(super) async fn play(
    faults: Vec<Fault>,
    start: Instant,
    proxy: Arc<Proxy>,
    board: Arc<Board>,
    view: View,
    mut phase: watch::Receiver<Phase>,
) {
    let all = async {
        for fault in faults {
            tokio::time::sleep_until(start + fault.at).await;
            view.say(format!("{}: {fault}", board.id));
            board.weather_turns(fault.weather);
            proxy.set(fault.weather);
            tokio::time::sleep_until(start + fault.at + fault.lasts).await;
            proxy.set(Weather::Clear);
            board.weather_turns(Weather::Clear);
        }
    };
    tokio::select! {
        () = all => {}
        // Either the phase is over, or everything is.
        _ = phase.wait_for(|phase| *phase != Phase::Faults) => {
            proxy.set(Weather::Clear);
            board.weather_turns(Weather::Clear);
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.lasts.as_secs_f64();
        match self.weather {
            Weather::Clear => write!(f, "clear for {seconds:.1} s"),
            Weather::HalfOpen => write!(f, "half-open for {seconds:.1} s"),
            Weather::OneWay => write!(f, "hears nothing for {seconds:.1} s"),
            Weather::Stalled => write!(f, "stalled for {seconds:.1} s"),
            Weather::OneByte => write!(f, "one byte at a time for {seconds:.1} s"),
            Weather::Delayed(by) => write!(f, "{} ms slower for {seconds:.1} s", by.as_millis()),
            Weather::Cut(Cut::Reset) => write!(f, "cut by a reset, back in {seconds:.1} s"),
            Weather::Cut(Cut::Close) => write!(f, "closed, back in {seconds:.1} s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_replays_its_schedule_and_another_one_does_not() {
        let until = Duration::from_secs(27);
        assert_eq!(schedule(7, 6, until), schedule(7, 6, until));
        assert_ne!(schedule(7, 6, until), schedule(8, 6, until));
    }

    #[test]
    fn every_device_has_many_faults_in_order_and_within_the_time() {
        let until = Duration::from_secs(27);
        for faults in schedule(1, 50, until) {
            assert!(faults.len() >= 8, "{} faults", faults.len());
            assert!(faults.windows(2).all(|pair| pair[0].at + pair[0].lasts < pair[1].at));
            assert!(faults.iter().all(|fault| fault.at >= GRACE && fault.at + fault.lasts <= until));
        }
    }
}
