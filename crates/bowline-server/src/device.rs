//! A device as applications see it.

use std::sync::Arc;

use bowline_link::{DeadLetter, Endpoint, Ledger, Limits, Message, RecvError, SendError, Sending, Status, StatusWatch};
use bowline_proto::{Dialect, Side};

/// A device: its id, its queues and its link, if there is one. Cheap to clone; outlives links.
#[derive(Debug, Clone)]
pub struct Device {
    id: Arc<str>,
    pub(crate) endpoint: Endpoint,
}

impl Device {
    pub(crate) fn new(id: &str, limits: Limits) -> Self {
        Device { id: id.into(), endpoint: Endpoint::new(Side::Server, limits) }
    }

    /// The device's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Sends `message` exactly once and in order; see [`Endpoint::send`].
    pub fn send(&self, message: impl Into<Message>) -> Sending<'_> {
        self.endpoint.send(message)
    }

    /// Sends `message` at most once, now; see [`Endpoint::send_best_effort`].
    pub fn send_best_effort(&self, message: impl Into<Message>) -> Sending<'_> {
        self.endpoint.send_best_effort(message)
    }

    /// Waits for the device's next message. Cancel-safe. Each message goes to one caller.
    ///
    /// # Errors
    /// When the device was closed or has expired.
    pub async fn recv(&self) -> Result<Message, RecvError> {
        self.endpoint.recv().await
    }

    /// The device's next message if one is there.
    ///
    /// # Errors
    /// As [`Device::recv`].
    pub fn try_recv(&self) -> Result<Option<Message>, RecvError> {
        self.endpoint.try_recv()
    }

    /// The link's status now.
    #[must_use]
    pub fn status(&self) -> Status {
        self.endpoint.status()
    }

    /// Follows the link's status.
    #[must_use]
    pub fn watch(&self) -> StatusWatch {
        self.endpoint.watch()
    }

    /// What the device speaks, or last spoke; `None` before it was there.
    #[must_use]
    pub fn dialect(&self) -> Option<Dialect> {
        self.endpoint.dialect()
    }

    /// Links of this device so far.
    #[must_use]
    pub fn connects(&self) -> u64 {
        self.status().connects
    }

    /// What was counted for this device.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        self.endpoint.ledger()
    }

    /// How often the device has restarted, as far as its message ids tell. Messages of two epochs come
    /// from two lives of the device.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.endpoint.epoch()
    }

    /// Messages from and to the device that nobody could handle, oldest first.
    #[must_use]
    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        self.endpoint.dead_letters()
    }

    /// Puts a message that the application cannot handle into the dead-letter box.
    pub fn bury(&self, message: &Message, reason: impl Into<String>) {
        self.endpoint.bury(message, reason);
    }

    /// Whether the device was closed or has expired: nothing will come from it any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.endpoint.is_closed()
    }

    /// Waits until the device is connected.
    ///
    /// # Errors
    /// When the device was closed or has expired.
    pub async fn connected(&self) -> Result<(), SendError> {
        self.endpoint.connected().await
    }
}
