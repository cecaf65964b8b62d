//! What all connections of the app share: settings, counters, and the log.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;

use super::hub::Command;
use super::settings::Settings;
use super::wire::{Lost, TlsConfiguration};

/// The same complaint is not made more often than this, however many connections have it.
const QUIET: Duration = Duration::from_secs(30);

pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) tls: Option<TlsConfiguration>,
    pub(super) counters: Counters,
    /// The tasks of connections, by client id. A task removes itself, under the lock, when it has nothing
    /// to do and nothing in its queue.
    pub(super) hubs: Mutex<HashMap<String, UnboundedSender<Command>>>,
    /// The next member's number.
    pub(super) next: AtomicU64,
    complaints: Mutex<HashMap<Kind, Said>>,
}

/// What a complaint is about. Few, so that what is remembered of them is little.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Away,
    Refused,
    Tls,
    Dropped,
    Declined,
    Resubscribing,
}

struct Said {
    at: Instant,
    /// Not said since.
    more: u64,
}

/// What was counted since the app was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct MqttStats {
    /// Connections to the broker now.
    pub connected: u64,
    /// Connections that the broker has accepted.
    pub connects: u64,
    /// Attempts to connect that failed, and connections that broke.
    pub failures: u64,
    /// Publications of boards that the broker has completed.
    pub published: u64,
    /// Publications from the broker that are in a board's outbox.
    pub delivered: u64,
    /// Publications from the broker that a board did not get: it could not take them, or was too slow.
    pub dropped: u64,
    /// Commands of boards that were refused, by the app or by the broker.
    pub refused: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) connected: AtomicU64,
    pub(super) connects: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) published: AtomicU64,
    pub(super) delivered: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) refused: AtomicU64,
}

/// One more.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Counters {
    pub(super) fn read(&self) -> MqttStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        MqttStats {
            connected: read(&self.connected),
            connects: read(&self.connects),
            failures: read(&self.failures),
            published: read(&self.published),
            delivered: read(&self.delivered),
            dropped: read(&self.dropped),
            refused: read(&self.refused),
        }
    }
}

impl Shared {
    pub(super) fn new(settings: Settings, tls: Option<TlsConfiguration>) -> Self {
        Shared {
            settings,
            tls,
            counters: Counters::default(),
            hubs: Mutex::default(),
            next: AtomicU64::new(0),
            complaints: Mutex::default(),
        }
    }

    /// The tasks of connections. A panic while it was held cannot have left it half changed.
    pub(super) fn hubs(&self) -> MutexGuard<'_, HashMap<String, UnboundedSender<Command>>> {
        self.hubs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells people why there is no connection, and what to do.
    pub(super) fn complain_of(&self, lost: &Lost, client_id: &str) {
        let broker = &self.settings.broker;
        match lost {
            Lost::Ended => {}
            Lost::Away(why) => self.complain(Kind::Away, || {
                format!("broker {broker} cannot be reached: {why}; messages wait (connection {client_id})")
            }),
            Lost::Refused(why) => self.complain(Kind::Refused, || {
                format!(
                    "broker {broker} does not let the app in: {why}; messages wait. Check username, password and \
                     client_id in [apps.mqtt], and the broker's own log (connection {client_id})"
                )
            }),
            Lost::Tls(why) => self.complain(Kind::Tls, || {
                format!(
                    "broker {broker} cannot be trusted, or does not trust this side: {why}; messages wait. Check \
                     tls_ca, tls_cert and tls_key in [apps.mqtt], and that the certificate is for this host \
                     (connection {client_id})"
                )
            }),
        }
    }

    /// Says `what` unless a complaint of this kind was made a moment ago.
    pub(super) fn complain(&self, kind: Kind, what: impl FnOnce() -> String) {
        let mut complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let more = match complaints.get_mut(&kind) {
            Some(said) if now.duration_since(said.at) < QUIET => {
                said.more += 1;
                return;
            }
            Some(said) => said.more,
            None => 0,
        };
        complaints.insert(kind, Said { at: now, more: 0 });
        drop(complaints);
        match more {
            0 => tracing::warn!("{}", what()),
            more => tracing::warn!("{}; and {more} times more since the last time this was said", what()),
        }
    }
}
