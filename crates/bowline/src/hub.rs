//! What happens on the server, for those who watch.

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

/// Something that happened to a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Event {
    /// The device's id.
    pub(crate) device: String,
    #[serde(flatten)]
    pub(crate) what: What,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub(crate) enum What {
    /// A message from the device.
    Received(Text),
    /// A message to the device, acknowledged (or written, if it was best effort).
    Sent(Text),
    /// The link came up.
    Up { peer: String, dialect: String, connects: u64 },
    /// The link went down.
    Down { reason: String },
    /// The watcher was too slow: so many events are missing here.
    Missed { events: u64 },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Text {
    /// In hexadecimal; empty if there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) header: String,
    pub(crate) payload: String,
    pub(crate) qos: bool,
}

impl Text {
    pub(crate) fn of(message: &bowline_server::Message, qos: bool) -> Self {
        Text {
            header: crate::control::hex(message.header()),
            payload: String::from_utf8_lossy(message.payload()).into_owned(),
            qos,
        }
    }
}

/// Tells all watchers. Without any, telling costs nothing; a slow one misses events and learns how many.
#[derive(Debug, Clone)]
pub(crate) struct Hub(broadcast::Sender<Event>);

impl Hub {
    pub(crate) fn new() -> Self {
        Hub(broadcast::Sender::new(1024))
    }

    pub(crate) fn tell(&self, device: &str, what: impl FnOnce() -> What) {
        if self.0.receiver_count() > 0 {
            // Fails only when the last watcher has just gone.
            let _ = self.0.send(Event { device: device.to_owned(), what: what() });
        }
    }

    pub(crate) fn watch(&self) -> broadcast::Receiver<Event> {
        self.0.subscribe()
    }
}
