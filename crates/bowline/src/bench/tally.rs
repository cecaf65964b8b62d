//! What devices have measured, together.

use std::sync::{Mutex, MutexGuard, PoisonError};

use hdrhistogram::Histogram;
use serde::Serialize;

/// Longest time told apart from longer ones, in microseconds: ten minutes.
const LONGEST: u64 = 600_000_000;

/// Counts of all devices, in parts: each device counts in one of them, so that few wait for each other.
#[derive(Debug)]
pub(super) struct Tally(Box<[Mutex<Counts>]>);

/// Of the measured messages, unless it says otherwise.
#[derive(Debug, Clone)]
pub(super) struct Counts {
    /// From sending to acknowledgement, in microseconds.
    pub(super) acks: Histogram<u64>,
    /// From sending to the echo, in microseconds.
    pub(super) echoes: Histogram<u64>,
    /// When the last of both came, in microseconds of the run's clock.
    pub(super) last: u64,
    /// Acknowledgements and echoes of all messages: whether something goes on.
    pub(super) progress: u64,
}

impl Tally {
    /// In so many parts, at least 1.
    pub(super) fn new(parts: usize) -> Self {
        Tally((0..parts.max(1)).map(|_| Mutex::new(Counts::new())).collect())
    }

    /// The part in which this device counts.
    pub(super) fn part(&self, device: u32) -> MutexGuard<'_, Counts> {
        // Counts are whole at any time.
        self.0[device as usize % self.0.len()].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All parts together.
    pub(super) fn total(&self) -> Counts {
        let mut total = Counts::new();
        for part in &self.0 {
            let part = part.lock().unwrap_or_else(PoisonError::into_inner);
            total.acks += &part.acks;
            total.echoes += &part.echoes;
            total.last = total.last.max(part.last);
            total.progress += part.progress;
        }
        total
    }

    /// As in [`Counts::progress`].
    pub(super) fn progress(&self) -> u64 {
        self.0.iter().map(|part| part.lock().unwrap_or_else(PoisonError::into_inner).progress).sum()
    }
}

impl Counts {
    fn new() -> Self {
        Counts { acks: histogram(), echoes: histogram(), last: 0, progress: 0 }
    }
}

/// Three digits of times up to [`LONGEST`].
pub(super) fn histogram() -> Histogram<u64> {
    // Both bounds are in range, and so are three digits.
    Histogram::new_with_bounds(1, LONGEST, 3).unwrap_or_else(|_| unreachable!("constant bounds are valid"))
}

/// A distribution of times, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Percentiles {
    pub(super) count: u64,
    pub(super) mean: f64,
    pub(super) p50: u64,
    pub(super) p90: u64,
    pub(super) p99: u64,
    pub(super) p99_9: u64,
    pub(super) max: u64,
}

impl Percentiles {
    /// `None` without any times.
    pub(super) fn of(times: &Histogram<u64>) -> Option<Self> {
        (!times.is_empty()).then(|| Percentiles {
            count: times.len(),
            mean: (times.mean() * 10.0).round() / 10.0,
            p50: times.value_at_quantile(0.5),
            p90: times.value_at_quantile(0.9),
            p99: times.value_at_quantile(0.99),
            p99_9: times.value_at_quantile(0.999),
            max: times.max(),
        })
    }
}
