//! Where endpoints keep what has to survive the process.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bowline_store::{CommitError, Store};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::{Endpoint, Outside, endpoint};

/// Longest pause before a commit that has failed is tried again.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// When another endpoint has stored something within this time, more are about to: their transactions are committed
/// together.
const TOGETHER: Duration = Duration::from_micros(200);

/// A store and what its endpoints share. Cheap to clone.
#[derive(Clone)]
pub struct Storage(Arc<Shared>);

struct Shared {
    store: Store,
    runtime: Handle,
    outside: Outside,
    /// The last commit failed, and that was said.
    in_trouble: AtomicBool,
    start: Instant,
    /// Which endpoint has stored something last, as an address, and when, in microseconds from the start.
    last: AtomicUsize,
    last_at: AtomicU64,
    /// Something waits for the task that commits, or it is to end.
    gathered: Arc<Notify>,
    ledgers: Mutex<Ledgers>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.gathered.notify_one();
    }
}

/// Endpoints whose ledger is to be stored if nothing else is until then.
#[derive(Default)]
struct Ledgers {
    /// The earliest first.
    queue: VecDeque<(Instant, Weak<endpoint::Shared>)>,
    /// There is a task for all of them.
    is_waited_with: bool,
}

impl Storage {
    /// For endpoints on the current tokio runtime.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn new(store: Store, outside: Outside) -> Self {
        let runtime = Handle::current();
        let gathered = Arc::new(Notify::new());
        let shared = Arc::new(Shared {
            store,
            runtime,
            outside,
            in_trouble: AtomicBool::new(false),
            start: Instant::now(),
            last: AtomicUsize::new(0),
            last_at: AtomicU64::new(0),
            gathered: Arc::clone(&gathered),
            ledgers: Mutex::default(),
        });
        let call = Arc::clone(&gathered);
        if shared.store.gathers(move || call.notify_one()) {
            shared.runtime.spawn(commits(Arc::downgrade(&shared), gathered));
        }
        Storage(shared)
    }

    /// Whether a transaction of the endpoint at this address had better be committed with those of others than in place.
    /// For a moment, that is so when another endpoint has just stored something.
    pub(crate) fn is_busy(&self, endpoint: usize) -> bool {
        let shared = &self.0;
        if !shared.store.commits_in_place() || shared.store.is_driven() {
            return false;
        }
        let now = u64::try_from(shared.start.elapsed().as_micros()).unwrap_or(u64::MAX);
        let before = shared.last_at.swap(now, Ordering::Relaxed);
        let other = shared.last.swap(endpoint, Ordering::Relaxed) != endpoint;
        other && now.saturating_sub(before) < TOGETHER.as_micros() as u64
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

    /// Has the endpoint store its ledger after `pause`, which is the same for all. A task for each would be many after
    /// everybody has come back.
    pub(crate) fn wait_with(&self, endpoint: Weak<endpoint::Shared>, pause: Duration) {
        let mut ledgers = self.ledgers();
        ledgers.queue.push_back((Instant::now() + pause, endpoint));
        if std::mem::replace(&mut ledgers.is_waited_with, true) {
            return;
        }
        // It keeps nothing open.
        let weak = Arc::downgrade(&self.0);
        self.0.runtime.spawn(async move {
            while let Some(at) = weak.upgrade().and_then(|shared| Storage(shared).next_ledger()) {
                tokio::time::sleep_until(at).await;
                let Some(shared) = weak.upgrade() else { return };
                let due = Storage(shared).ledgers().queue.pop_front();
                if let Some(endpoint) = due.and_then(|(_, endpoint)| endpoint.upgrade()) {
                    Endpoint(endpoint).store_ledger();
                }
                tokio::task::yield_now().await;
            }
        });
    }

    fn next_ledger(&self) -> Option<Instant> {
        let mut ledgers = self.ledgers();
        let next = ledgers.queue.front().map(|(at, _)| *at);
        if next.is_none() {
            // After a storm it has held everybody.
            *ledgers = Ledgers::default();
        }
        next
    }

    fn ledgers(&self) -> MutexGuard<'_, Ledgers> {
        // Nothing panics while it holds the lock.
        self.0.ledgers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pause before the next try after so many failures in a row.
    pub(crate) fn pause(failures: u32) -> Duration {
        Duration::from_millis(50).saturating_mul(1 << failures.min(10)).min(LONGEST_PAUSE)
    }
}

/// Commits what was gathered, behind the turns of all links that have something to read: so it is much at one time.
async fn commits(shared: Weak<Shared>, gathered: Arc<Notify>) {
    loop {
        gathered.notified().await;
        tokio::task::yield_now().await;
        let Some(shared) = shared.upgrade() else { return };
        shared.store.work();
    }
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Storage").field(&self.0.store).finish()
    }
}

#[cfg(test)]
mod tests {
    use bowline_store::{Durability, Limits};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn transactions_go_together_while_another_endpoint_has_just_stored_something() {
        let open = |durability, folder: &std::path::Path| {
            let store = Store::open(folder, durability, Limits::default()).unwrap();
            Storage::new(store, Outside::default())
        };
        let folder = tempfile::tempdir().unwrap();
        let storage = open(Durability::Os, folder.path());
        tokio::time::advance(TOGETHER).await;
        assert!(!storage.is_busy(1), "the first one");
        assert!(!storage.is_busy(1), "alone");
        assert!(storage.is_busy(2));
        assert!(storage.is_busy(1));
        tokio::time::advance(TOGETHER).await;
        assert!(!storage.is_busy(2), "a while later");
        drop(storage);
        let synced = open(Durability::Fsync, folder.path());
        assert!(!(synced.is_busy(1) || synced.is_busy(2)), "where a thread commits, it does so together by itself");
    }
}
