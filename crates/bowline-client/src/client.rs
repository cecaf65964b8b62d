//! The client as applications see it.

use std::sync::Arc;
use std::time::Duration;

use bowline_link::{
    DeadLetter, Delivery, Endpoint, Ledger, Message, RecvError, SendError, Sending, Status, StatusWatch,
};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;

use crate::Builder;

/// A device's end of the conversation with its server. Cheap to clone; stops when the last clone is
/// dropped.
#[derive(Debug, Clone)]
pub struct Client(Arc<Running>);

#[derive(Debug)]
struct Running {
    endpoint: Endpoint,
    stop: watch::Sender<bool>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Client {
    /// Settings for a device with this id, and a server at `host:port`.
    pub fn builder(id: impl Into<String>, server: impl Into<String>) -> Builder {
        Builder::new(id, server)
    }

    pub(crate) fn new(endpoint: Endpoint, stop: watch::Sender<bool>, task: JoinHandle<()>) -> Self {
        Client(Arc::new(Running { endpoint, stop, task: Mutex::new(Some(task)) }))
    }

    /// Sends `message` exactly once and in order. Resolves when the server has acknowledged it,
    /// however many links that takes; on dialect P, when it is written. For what dropping the future
    /// means, see [`Sending`].
    pub fn send(&self, message: impl Into<Message>) -> Sending<'_> {
        self.0.endpoint.send(message)
    }

    /// Sends `message` at most once, now. Resolves when it is written, and fails if there is no link.
    pub fn send_best_effort(&self, message: impl Into<Message>) -> Sending<'_> {
        self.0.endpoint.send_best_effort(message)
    }

    /// Waits for the next message. Cancel-safe. Each message goes to one caller.
    ///
    /// # Errors
    /// When the client was closed, or its policy has given up.
    pub async fn recv(&self) -> Result<Message, RecvError> {
        self.0.endpoint.recv().await
    }

    /// The next message if one is there.
    ///
    /// # Errors
    /// As [`Client::recv`].
    pub fn try_recv(&self) -> Result<Option<Message>, RecvError> {
        self.0.endpoint.try_recv()
    }

    /// Waits for the next message, which stays in the inbox until it is said to be handled. Cancel-safe.
    ///
    /// # Errors
    /// As [`Client::recv`].
    pub async fn next(&self) -> Result<Delivery, RecvError> {
        self.0.endpoint.next().await
    }

    /// The link's status now. Up means that the server has answered on it.
    #[must_use]
    pub fn status(&self) -> Status {
        self.0.endpoint.status()
    }

    /// Follows the link's status.
    #[must_use]
    pub fn watch(&self) -> StatusWatch {
        self.0.endpoint.watch()
    }

    /// Calls `callback` at every change of the link's status, from a task of its own, until the client
    /// is gone. Must not block.
    pub fn on_change(&self, mut callback: impl FnMut(&Status) + Send + 'static) {
        let mut watch = self.watch();
        tokio::spawn(async move {
            while let Some(status) = watch.changed().await {
                callback(&status);
            }
        });
    }

    /// Waits until the server is there. Cancel-safe.
    ///
    /// # Errors
    /// When the client was closed, or its policy has given up.
    pub async fn connected(&self) -> Result<(), SendError> {
        self.0.endpoint.connected().await
    }

    /// Links so far.
    #[must_use]
    pub fn connects(&self) -> u64 {
        self.status().connects
    }

    /// What was counted so far.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        self.0.endpoint.ledger()
    }

    /// Received messages nobody could handle, oldest first.
    #[must_use]
    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        self.0.endpoint.dead_letters()
    }

    /// Takes no more messages, gives what is queued `drain` to be acknowledged, then ends the link.
    /// Returns whether everything was acknowledged; with a store, what was not goes on with the next
    /// client. Cancel-safe: a dropped call may be made again.
    pub async fn close(&self, drain: Duration) -> bool {
        self.0.endpoint.drain();
        self.0.stop.send_replace(true);
        let mut task = self.0.task.lock().await;
        if let Some(running) = task.as_mut()
            && tokio::time::timeout(drain, &mut *running).await.is_err()
        {
            running.abort();
            // Aborted or finished meanwhile: either way it is over.
            let _ = running.await;
        }
        *task = None;
        let unsent = self.0.endpoint.ledger().unsent;
        self.0.endpoint.close();
        // A store whose disk fails keeps nobody.
        let _ = tokio::time::timeout(drain, self.0.endpoint.stored_all()).await;
        unsent == 0 && self.0.endpoint.ledger().lost == 0
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(task) = self.task.get_mut() {
            task.abort();
        }
        self.endpoint.close();
    }
}
