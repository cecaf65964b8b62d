//! Why a call failed, sorted by blame.

use bowline_proto::wire::MessageError;

use crate::status::DownReason;

/// Why a message was not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The caller's mistake: the peer's dialect cannot carry the message.
    #[error("the message cannot be sent: {0}")]
    Message(#[from] MessageError),
    /// Best effort only: there is no link, and best effort does not wait for one.
    #[error(
        "there is no link to the peer, and a best-effort message does not wait for one: send it as qos, or when the link is up"
    )]
    NoLink,
    /// Best effort only: the link ended before the message was written.
    #[error("the link ended before the message was written: {0}")]
    LinkEnded(DownReason),
    /// Best effort only: the peer takes messages more slowly than they are sent.
    #[error("{limit} best-effort messages are already waiting: send them more slowly")]
    Full {
        /// How many may wait.
        limit: usize,
    },
    /// The endpoint was closed, by its owner or because the device expired.
    #[error("the device was closed")]
    Closed,
}

/// Why no message was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecvError {
    /// The endpoint was closed, and everything received before has been taken.
    #[error("the device was closed")]
    Closed,
}
