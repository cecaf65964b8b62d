//! Connections that have not logged in: few, and never in the way of the next one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

/// Holds a bounded number of connections before their login. One too many, and the oldest goes: a
/// device logs in within a moment, so that the oldest is the least likely to be one.
#[derive(Debug)]
pub(crate) struct Lobby {
    capacity: usize,
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    next: u64,
    /// By order of arrival. Dropping the sender shows the guest out.
    guests: BTreeMap<u64, oneshot::Sender<()>>,
}

/// A place in the lobby, given back when dropped.
#[derive(Debug)]
pub(crate) struct Guest {
    lobby: Arc<Lobby>,
    number: u64,
    shown_out: oneshot::Receiver<()>,
}

impl Lobby {
    pub(crate) fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Lobby { capacity: capacity.max(1), inside: Mutex::default() })
    }

    /// Lets one more in.
    pub(crate) fn enter(self: &Arc<Self>) -> Guest {
        let (keep, shown_out) = oneshot::channel();
        let mut inside = self.lock();
        if inside.guests.len() >= self.capacity {
            inside.guests.pop_first();
        }
        let number = inside.next;
        inside.next += 1;
        inside.guests.insert(number, keep);
        Guest { lobby: Arc::clone(self), number, shown_out }
    }

    /// Shows the oldest out, if there is one.
    pub(crate) fn show_one_out(&self) {
        self.lock().guests.pop_first();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inside> {
        // Nothing panics while it holds the lock.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Guest {
    /// Waits until this guest is shown out.
    pub(crate) async fn shown_out(&mut self) {
        // Nothing is ever sent: the channel closes.
        let _ = (&mut self.shown_out).await;
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.lobby.lock().guests.remove(&self.number);
    }
}
