//! Where endpoints keep what has to survive the process.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bowline_store::{CommitError, Store};
use tokio::runtime::Handle;

use crate::Outside;

/// Longest pause before a commit that has failed is tried again.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A store and what its endpoints share. Cheap to clone.
#[derive(Clone)]
pub struct Storage(Arc<Shared>);

struct Shared {
    store: Store,
    runtime: Handle,
    outside: Outside,
    /// The last commit failed, and that was said.
    in_trouble: AtomicBool,
}

impl Storage {
    /// For endpoints on the current tokio runtime.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn new(store: Store, outside: Outside) -> Self {
        let runtime = Handle::current();
        Storage(Arc::new(Shared { store, runtime, outside, in_trouble: AtomicBool::new(false) }))
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    pub(crate) fn runtime(&self) -> &Handle {
        &self.0.runtime
    }

    pub(crate) fn outside(&self) -> Outside {
        self.0.outside
    }

    /// Whether the last commit has failed: nothing is acknowledged until one succeeds.
    #[must_use]
    pub fn is_in_trouble(&self) -> bool {
        self.0.in_trouble.load(Ordering::Relaxed)
    }

    /// A commit has succeeded.
    pub(crate) fn succeeded(&self) {
        if self.is_in_trouble() && self.0.in_trouble.swap(false, Ordering::Relaxed) {
            tracing::info!("the store works again: messages are accepted and acknowledged");
        }
    }

    /// A commit has failed. Says so once for all endpoints.
    pub(crate) fn failed(&self, error: &CommitError) {
        if !self.0.in_trouble.swap(true, Ordering::Relaxed) {
            tracing::error!(
                %error,
                "cannot store: nothing is acknowledged until that works again; peers keep their messages. Make room \
                 on the disk or repair it: this process goes on by itself then"
            );
        }
    }

    /// The pause before the next try after so many failures in a row.
    pub(crate) fn pause(failures: u32) -> Duration {
        Duration::from_millis(50).saturating_mul(1 << failures.min(10)).min(LONGEST_PAUSE)
    }
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Storage").field(&self.0.store).finish()
    }
}
