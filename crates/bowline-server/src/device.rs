//! A device as applications see it.

use std::sync::Arc;

use bowline_link::{
    DeadLetter, Delivery, Dialect, Endpoint, Ledger, Limits, Message, RecvError, SendError, Sending, Status,
    StatusWatch, Storage,
};
use bowline_proto::Side;
use bowline_secure::Protection;

/// A device: its id, its queues and its link, if there is one. Cheap to clone; outlives links.
#[derive(Debug, Clone)]
pub struct Device {
    id: Arc<str>,
    pub(crate) endpoint: Endpoint,
    damage: Option<Arc<str>>,
}

impl Device {
    pub(crate) fn new(id: Arc<str>, limits: Arc<Limits>, storage: Option<&Storage>) -> Self {
        let endpoint = match storage {
            Some(storage) => Endpoint::stored(Side::Server, limits, Arc::clone(&id), storage.clone(), None),
            None => Endpoint::new(Side::Server, limits),
        };
        Device { id, endpoint, damage: None }
    }

    /// One whose endpoint is there.
    pub(crate) fn of(id: Arc<str>, endpoint: Endpoint) -> Self {
        Device { id, endpoint, damage: None }
    }

    pub(crate) fn shared_id(&self) -> Arc<str> {
        Arc::clone(&self.id)
    }

    /// As an earlier process has stored it.
    pub(crate) fn stored(device: bowline_store::Device, limits: Arc<Limits>, storage: &Storage) -> Self {
        let id = Arc::clone(&device.summary.device);
        let endpoint = Endpoint::stored(Side::Server, limits, Arc::clone(&id), storage.clone(), Some(device));
        Device { id, endpoint, damage: None }
    }

    /// As an earlier process has stored it, and as it cannot be read any more. It is closed, so that nothing comes
    /// to stand beside what may still be saved.
    pub(crate) fn damaged(id: Arc<str>, limits: Arc<Limits>, damage: &str) -> Self {
        let endpoint = Endpoint::new(Side::Server, limits);
        endpoint.close();
        Device { id, endpoint, damage: Some(damage.into()) }
    }

    /// What the store found wrong with the device when the server started. Such a device is closed, and may not log
    /// in until a backup of the store is put in its place, or the device is forgotten
    /// ([`Server::forget`](crate::Server::forget)).
    #[must_use]
    pub fn damage(&self) -> Option<&str> {
        self.damage.as_deref()
    }

    /// Whether both are handles of one device.
    pub(crate) fn is_same(&self, other: &Device) -> bool {
        Arc::ptr_eq(&self.id, &other.id)
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

    /// Waits for the device's next message, and says that those it returned before are handled; see
    /// [`Endpoint::recv`]. Cancel-safe. Each message goes to one caller.
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

    /// Waits for the device's next message, which stays in the inbox until it is said to be handled; see
    /// [`Endpoint::next`]. Cancel-safe.
    ///
    /// # Errors
    /// As [`Device::recv`].
    pub async fn next(&self) -> Result<Delivery, RecvError> {
        self.endpoint.next().await
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

    /// How its link on the native protocol is protected, or was last; `None` if not at all, on other dialects,
    /// and before it was there.
    #[must_use]
    pub fn protection(&self) -> Option<Protection> {
        self.endpoint.protection()
    }

    /// Links of this device so far.
    #[must_use]
    pub fn connects(&self) -> u64 {
        self.status().connects
    }

    /// Whether the device is kept until it is forgotten; a temporary one expires when it stays away.
    #[must_use]
    pub fn is_persistent(&self) -> bool {
        self.endpoint.is_persistent()
    }

    /// What its queues may hold.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.endpoint.limits()
    }

    /// What was counted for this device.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        self.endpoint.ledger()
    }

    /// How often the device has restarted, as far as its message ids tell. Messages of two epochs come
    /// from two lives of the device.
    #[must_use]
    pub fn epoch(&self) -> u64 {
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

    /// Puts a message that was to be sent and cannot be into the dead-letter box.
    pub fn bury_unsent(&self, message: &Message, reason: impl Into<String>) {
        self.endpoint.bury_unsent(message, reason);
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
