//! Talking to one app, apart from everything else.

use bowline_link::{Delivery, Dialect, Message, RecvError, Sending};

use crate::channels::Claim;

/// An instance of an app on the server, from [`Client::open`](crate::Client::open): messages from it come here
/// and nowhere else.
///
/// Dropping the channel closes it: what comes later is discarded and counted
/// ([`Client::late`](crate::Client::late)), and the instance id is not used for something else before its
/// [quarantine](crate::Builder::quarantine) is over.
#[derive(Debug)]
pub struct Channel(Claim);

impl Channel {
    pub(crate) fn new(claim: Claim) -> Self {
        Channel(claim)
    }

    /// The app's ident.
    #[must_use]
    pub fn app(&self) -> u8 {
        self.0.app
    }

    /// The instance's id.
    #[must_use]
    pub fn instance(&self) -> u8 {
        self.0.instance
    }

    /// Sends to the instance, exactly once and in order, as [`Client::send`](crate::Client::send).
    pub fn send(&self, tag: u8, payload: &[u8]) -> Sending<'_> {
        self.0.endpoint().send(self.message(tag, payload))
    }

    /// Sends to the instance at most once, now, as [`Client::send_best_effort`](crate::Client::send_best_effort).
    pub fn send_best_effort(&self, tag: u8, payload: &[u8]) -> Sending<'_> {
        self.0.endpoint().send_best_effort(self.message(tag, payload))
    }

    fn message(&self, tag: u8, payload: &[u8]) -> Message {
        Message::on_channel(self.0.app, self.0.instance, tag, payload)
    }

    /// Waits for the next message of the instance; its tag is the third byte of the header. It counts as
    /// handled when the next one is asked for. Cancel-safe.
    ///
    /// # Errors
    /// When the client was closed, or its policy has given up.
    pub async fn recv(&self) -> Result<Message, RecvError> {
        self.0.recv().await
    }

    /// Waits for the next message of the instance, which stays in the inbox until it is said to be handled.
    /// Cancel-safe.
    ///
    /// # Errors
    /// As [`Channel::recv`].
    pub async fn next(&self) -> Result<Delivery, RecvError> {
        self.0.next().await
    }
}

/// Why a channel was not opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The caller's mistake: the dialect has no channels.
    #[error("dialect {0} has no channels: speak N or H")]
    NoChannels(Dialect),
    /// The caller's mistake: this very instance is in use.
    #[error("instance {instance} of app {app} is open already")]
    InUse {
        /// The app's ident.
        app: u8,
        /// The instance's id.
        instance: u8,
    },
    /// All instance ids are in use, or in quarantine.
    #[error(
        "all instance ids of app {app} are in use, or were closed a short time ago and may still be written to: close some, or try again later"
    )]
    NoIds {
        /// The app's ident.
        app: u8,
    },
}
