//! The client as applications see it.

use std::sync::Arc;
use std::time::Duration;

use bowline_link::{
    DeadLetter, Delivery, Dialect, Endpoint, Ledger, Message, RecvError, SendError, Sending, Status, StatusWatch,
};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;

use crate::channels::Channels;
use crate::ids::Rest;
use crate::{Builder, Channel, OpenError, Request};

/// A device's end of the conversation with its server. Cheap to clone; stops when the last clone is
/// dropped.
#[derive(Debug, Clone)]
pub struct Client(Arc<Running>);

#[derive(Debug)]
struct Running {
    endpoint: Endpoint,
    dialect: Dialect,
    channels: Arc<Channels>,
    stop: watch::Sender<bool>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Client {
    /// Settings for a device with this id, and a server at `host:port`.
    pub fn builder(id: impl Into<String>, server: impl Into<String>) -> Builder {
        Builder::new(id, server)
    }

    pub(crate) fn new(
        channels: Arc<Channels>,
        endpoint: Endpoint,
        dialect: Dialect,
        stop: watch::Sender<bool>,
        task: JoinHandle<()>,
    ) -> Self {
        Client(Arc::new(Running { endpoint, dialect, channels, stop, task: Mutex::new(Some(task)) }))
    }

    /// Sends `message` exactly once and in order. Resolves when the server has acknowledged it,
    /// however many links that takes; on dialect P, when it is written. For what dropping the future
    /// means, see [`Sending`].
    pub fn send(&self, message: impl Into<Message>) -> Sending<'_> {
        let message = message.into();
        self.0.channels.application_sends(&message);
        self.0.endpoint.send(message)
    }

    /// Sends `message` at most once, now. Resolves when it is written, and fails if there is no link.
    pub fn send_best_effort(&self, message: impl Into<Message>) -> Sending<'_> {
        let message = message.into();
        self.0.channels.application_sends(&message);
        self.0.endpoint.send_best_effort(message)
    }

    /// Asks the app with the ident `app`: sends `payload` with `tag` under an instance id of its own, and
    /// resolves with the first message that comes back, whose tag is the third byte of its header. On N
    /// and H. As many at a time as you like: one without a free id, of which an app has 256, waits for one.
    ///
    /// ```no_run
    /// # async fn run(client: bowline_client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::time::Duration;
    /// let page = client.request(2, 0, b"\"http://example.com/\"").timeout(Duration::from_secs(30)).await?;
    /// println!("{:?}", page.text());
    /// # Ok(()) }
    /// ```
    ///
    /// What else comes under the id, during the request or after, is discarded and counted ([`Client::late`]).
    /// An answer is not taken for one to a later request: an id is free at once only when its answer has come
    /// or its request was not sent. After a request without an answer it is in quarantine
    /// ([`Builder::quarantine`]) until the late answer comes. What could still be mistaken, on N as on H:
    ///
    /// - an answer that comes later than the quarantine, if all other ids were used meanwhile;
    /// - a second answer of an app that answers more than once, after 255 more requests: use [`Client::open`];
    /// - an answer to an earlier life of this device. A new one begins with an id drawn at random, and the
    ///   server does not answer to lives that it knows are over, so that it takes an answer already on its way
    ///   and one chance in 256 for each request.
    ///
    /// [`Request::matching`] rules all of them out for apps whose answers say what they answer.
    pub fn request<'a>(&'a self, app: u8, tag: u8, payload: &'a [u8]) -> Request<'a> {
        Request::new(&self.0.channels, self.0.dialect, app, tag, payload)
    }

    /// Opens an instance of the app with the ident `app`, under an instance id that nothing else uses: its
    /// messages come to the channel, and not to [`Client::recv`]. Ids that the application has sent to or
    /// received from by itself are left to it.
    ///
    /// # Errors
    /// If the dialect has no channels, or all ids are in use.
    pub fn open(&self, app: u8) -> Result<Channel, OpenError> {
        self.has_channels()?;
        self.0.channels.try_claim(app, Rest::Anything).map(Channel::new).map_err(|_| OpenError::NoIds { app })
    }

    /// Opens this very instance, for apps that expect it. Messages for it that [`Client::recv`] has not taken
    /// out of the inbox yet come to the channel.
    ///
    /// # Errors
    /// If the dialect has no channels, or the instance is open.
    pub fn open_at(&self, app: u8, instance: u8) -> Result<Channel, OpenError> {
        self.has_channels()?;
        self.0.channels.claim_at(app, instance).map(Channel::new).ok_or(OpenError::InUse { app, instance })
    }

    fn has_channels(&self) -> Result<(), OpenError> {
        match self.0.dialect {
            Dialect::Headers | Dialect::Native => Ok(()),
            dialect => Err(OpenError::NoChannels(dialect)),
        }
    }

    /// Messages that came for a channel or a request that is over, and were discarded.
    #[must_use]
    pub fn late(&self) -> u64 {
        self.0.channels.late()
    }

    /// Waits for the next message that is for no open channel. Cancel-safe. Each message goes to one caller.
    /// It counts as handled when the next one is asked for.
    ///
    /// # Errors
    /// When the client was closed, or its policy has given up.
    pub async fn recv(&self) -> Result<Message, RecvError> {
        self.0.channels.recv().await
    }

    /// The next message if one is there.
    ///
    /// # Errors
    /// As [`Client::recv`].
    pub fn try_recv(&self) -> Result<Option<Message>, RecvError> {
        self.0.channels.try_recv()
    }

    /// As [`Client::recv`], and the message stays in the inbox until it is said to be handled. Cancel-safe.
    ///
    /// # Errors
    /// As [`Client::recv`].
    pub async fn next(&self) -> Result<Delivery, RecvError> {
        self.0.channels.next().await
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
        self.0.channels.close();
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
        self.channels.close();
        self.endpoint.close();
    }
}
