//! What is known of each device while the demo runs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bowline_client::{Client, Dialect};

use super::checker::{Counts, Stream};
use super::proxy::Weather;

const NAMES: [&str; 12] =
    ["kitchen", "garden", "attic", "garage", "cellar", "barn", "roof", "porch", "pump", "stable", "office", "workshop"];

/// One device's score board: what it and the server's app have counted, and how its link is.
#[derive(Debug)]
pub(super) struct Board {
    pub(super) id: String,
    pub(super) dialect: Dialect,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    to_server: Stream,
    to_device: Stream,
    weather: Weather,
    up: bool,
    /// Since when the link cannot work, noticed by the client or not.
    broken: Option<Instant>,
    /// The link that is up will not live.
    doomed: bool,
    outages: u64,
    longest: Duration,
}

/// Who sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    ToServer,
    ToDevice,
}

/// How a device's link looks from above.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// The network does this to it.
    Weather(Weather),
    /// It works.
    Up,
    /// It is dead, and the device does not know yet.
    Dead,
    /// The device is trying to get one.
    Connecting,
}

/// A board at one moment, for the view and the report.
#[derive(Debug, Clone, Copy)]
pub(super) struct Snapshot {
    pub(super) look: Look,
    pub(super) to_server: Counts,
    pub(super) to_device: Counts,
    /// Messages of the device whose `send` has returned.
    pub(super) acked: u64,
    /// Everything sent, either way, has arrived and is acknowledged.
    pub(super) settled: bool,
    /// Links the device has lost.
    pub(super) outages: u64,
    /// Longest time from a link's break, noticed or not, until the next was up.
    pub(super) longest_outage: Duration,
}

impl Board {
    pub(super) fn new(number: usize) -> Self {
        let name = NAMES[number % NAMES.len()];
        let id = match number / NAMES.len() {
            0 => name.to_owned(),
            round => format!("{name}-{}", round + 1),
        };
        let dialect = [Dialect::Native, Dialect::Headers, Dialect::Upstream][number % 3];
        Board { id, dialect, state: Mutex::default() }
    }

    /// Works on the stream of one direction.
    pub(super) fn stream<T>(&self, direction: Direction, work: impl FnOnce(&mut Stream) -> T) -> T {
        let mut state = self.lock();
        work(match direction {
            Direction::ToServer => &mut state.to_server,
            Direction::ToDevice => &mut state.to_device,
        })
    }

    /// The network changes.
    pub(super) fn weather_turns(&self, weather: Weather) {
        let mut state = self.lock();
        state.weather = weather;
        match weather {
            Weather::HalfOpen | Weather::OneWay | Weather::Cut(_) if state.up => {
                state.doomed = true;
                state.broken.get_or_insert_with(Instant::now);
            }
            Weather::Stalled if state.up => {
                state.broken.get_or_insert_with(Instant::now);
            }
            // A link that has lived through a stall was slow, not broken. One that has lost bytes is
            // dead, and the device will find out.
            Weather::Clear if state.up && !state.doomed => state.broken = None,
            _ => {}
        }
    }

    /// Follows the client's link for as long as it is asked to.
    pub(super) async fn follow(self: Arc<Self>, client: Client) {
        let mut watch = client.watch();
        let mut status = Some(watch.now());
        while let Some(now) = status {
            self.link_changes(now.is_up(), now.outages());
            status = watch.changed().await;
        }
    }

    fn link_changes(&self, up: bool, outages: u64) {
        let mut state = self.lock();
        let lost = outages > state.outages;
        if lost {
            state.doomed = false;
            state.broken.get_or_insert_with(Instant::now);
        }
        if up
            && (lost || !state.up)
            && let Some(since) = state.broken.take()
        {
            state.longest = state.longest.max(since.elapsed());
        }
        state.up = up;
        state.outages = outages;
    }

    /// Everything at this moment.
    pub(super) fn snapshot(&self) -> Snapshot {
        let state = self.lock();
        let look = match state.weather {
            Weather::Clear if !state.up => Look::Connecting,
            Weather::Clear if state.broken.is_some() => Look::Dead,
            Weather::Clear => Look::Up,
            weather => Look::Weather(weather),
        };
        let ongoing = state.broken.filter(|_| !state.up).map_or(Duration::ZERO, |since| since.elapsed());
        Snapshot {
            look,
            to_server: state.to_server.counts(),
            to_device: state.to_device.counts(),
            acked: state.to_server.acknowledged(),
            settled: state.to_server.is_settled() && state.to_device.is_settled(),
            outages: state.outages,
            longest_outage: state.longest.max(ongoing),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
