//! What is known of the link to a peer.

use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use bowline_proto::legacy::CloseReason;
use bowline_proto::native;
use tokio::sync::watch;

use crate::Dialect;

/// The state of an endpoint's link, and how often it has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The link now.
    pub link: LinkState,
    /// Links that have come up so far.
    pub connects: u64,
}

/// Whether there is a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkState {
    /// There has not been one yet.
    Never,
    /// The peer is there.
    Up {
        /// What it speaks.
        dialect: Dialect,
        /// Where it is.
        peer: SocketAddr,
    },
    /// The peer was there.
    Down(DownReason),
}

/// Why a link ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DownReason {
    /// The engine gave it up.
    Engine(CloseReason),
    /// The native engine gave it up.
    Native(native::CloseReason),
    /// The device's key was revoked.
    Revoked,
    /// The peer closed it.
    PeerClosed,
    /// The transport failed.
    Transport(std::io::ErrorKind),
    /// This side shut down.
    Shutdown,
    /// The task that drove the link was dropped.
    Dropped,
}

impl std::fmt::Display for DownReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DownReason::Engine(reason) => reason.fmt(f),
            DownReason::Native(reason) => reason.fmt(f),
            DownReason::Revoked => f.write_str("its key was revoked"),
            DownReason::PeerClosed => f.write_str("closed by the peer"),
            DownReason::Transport(kind) => write!(f, "transport failed: {kind}"),
            DownReason::Shutdown => f.write_str("shut down"),
            DownReason::Dropped => f.write_str("no longer driven"),
        }
    }
}

impl Status {
    /// Whether the link is up.
    #[must_use]
    pub fn is_up(&self) -> bool {
        matches!(self.link, LinkState::Up { .. })
    }

    /// How often a link was lost.
    #[must_use]
    pub fn outages(&self) -> u64 {
        self.connects - u64::from(self.is_up())
    }
}

/// What an endpoint tells its watchers.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) status: Status,
    pub(crate) closed: bool,
}

impl Default for Seen {
    fn default() -> Self {
        Seen { status: Status { link: LinkState::Never, connects: 0 }, closed: false }
    }
}

/// The status of an endpoint, for those who ask and those who wait.
#[derive(Debug, Default)]
pub(crate) struct Statuses {
    seen: Mutex<Seen>,
    /// It takes several times what the status does, and there is none before somebody waits.
    watched: OnceLock<watch::Sender<Seen>>,
}

impl Statuses {
    pub(crate) fn now(&self) -> Seen {
        self.lock().clone()
    }

    pub(crate) fn modify(&self, change: impl FnOnce(&mut Seen)) {
        let mut seen = self.lock();
        change(&mut seen);
        if let Some(watched) = self.watched.get() {
            watched.send_replace(seen.clone());
        }
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Seen> {
        // Under the lock, so that no change is missed.
        let seen = self.lock();
        self.watched.get_or_init(|| watch::Sender::new(seen.clone())).subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        // Nothing panics while it holds the lock.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Follows an endpoint's [`Status`]. Changes in quick succession may be seen as one; `connects` tells.
#[derive(Debug, Clone)]
pub struct StatusWatch {
    seen: watch::Receiver<Seen>,
    last: Status,
}

impl StatusWatch {
    pub(crate) fn new(mut seen: watch::Receiver<Seen>) -> Self {
        let last = seen.borrow_and_update().status.clone();
        StatusWatch { seen, last }
    }

    /// The status now.
    #[must_use]
    pub fn now(&self) -> Status {
        self.seen.borrow().status.clone()
    }

    /// Waits until the status is not the one last returned (at first, the one at the time this watch was
    /// made), and says what it is then. `None` when the endpoint is gone, or closed and without a link.
    /// Cancel-safe: a change is not lost by dropping the future.
    pub async fn changed(&mut self) -> Option<Status> {
        let last = &self.last;
        let news = |seen: &Seen| seen.status != *last || seen.closed && !seen.status.is_up();
        let status = self.seen.wait_for(news).await.ok()?.status.clone();
        if status == self.last {
            return None;
        }
        self.last.clone_from(&status);
        Some(status)
    }
}
