//! What is counted of apps, and said of them.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::Instant;

use crate::stats::Counter;

/// Counts of one app since the server started.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AppStats {
    /// The first byte of the headers of its messages; `None` if it has none.
    pub ident: Option<u8>,
    /// Its name.
    pub name: String,
    /// Messages handled.
    pub handled: u64,
    /// Failures after which the message was to come again.
    pub retried: u64,
    /// Messages that became dead letters.
    pub buried: u64,
    /// Best-effort messages dropped: too many waited, or they were not handled at once.
    pub dropped: u64,
    /// Calls that panicked.
    pub panics: u64,
    /// Calls that took too long.
    pub timeouts: u64,
    /// Instances made.
    pub instances: u64,
}

/// [`AppStats`] while they are counted.
#[derive(Debug, Default)]
pub(crate) struct AppCounters {
    pub(crate) handled: Counter,
    pub(crate) retried: Counter,
    pub(crate) buried: Counter,
    pub(crate) dropped: Counter,
    pub(crate) panics: Counter,
    pub(crate) timeouts: Counter,
    pub(crate) instances: Counter,
    pub(crate) said: Quiet,
}

impl AppCounters {
    pub(crate) fn read(&self, ident: Option<u8>, name: &str) -> AppStats {
        AppStats {
            ident,
            name: name.to_owned(),
            handled: self.handled.get(),
            retried: self.retried.get(),
            buried: self.buried.get(),
            dropped: self.dropped.get(),
            panics: self.panics.get(),
            timeouts: self.timeouts.get(),
            instances: self.instances.get(),
        }
    }
}

/// Between two warnings of one kind.
const EVERY: Duration = Duration::from_secs(1);

/// Keeps a device that does the same wrong thing ten thousand times from filling the log.
#[derive(Debug, Default)]
pub(crate) struct Quiet(Mutex<(Option<Instant>, u64)>);

impl Quiet {
    /// Whether something may be said now; then, how much was not said since the last time.
    pub(crate) fn speaks(&self) -> Option<u64> {
        let mut guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, unsaid) = &mut *guard;
        let now = Instant::now();
        if last.is_some_and(|last| now.duration_since(last) < EVERY) {
            *unsaid += 1;
            return None;
        }
        *last = Some(now);
        Some(std::mem::take(unsaid))
    }

    /// Says `what`, or that it was not said.
    pub(crate) fn warn(&self, device: &str, what: &str) {
        match self.speaks() {
            Some(0) => tracing::warn!(device, "{what}"),
            Some(unsaid) => tracing::warn!(device, "{what} ({unsaid} more like it since the last time)"),
            None => tracing::debug!(device, "{what}"),
        }
    }
}
