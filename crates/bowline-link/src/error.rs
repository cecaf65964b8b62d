//! Why a call failed, sorted by blame.

use crate::status::DownReason;
use crate::{DropReason, Receipt};

/// Why a dialect cannot carry a message. The caller's mistake.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// A dialect of lines cannot.
    #[error(transparent)]
    Line(#[from] bowline_proto::wire::MessageError),
    /// N: the header is no channel.
    #[error("the header has {len} bytes, and dialect N carries a channel there: app, instance and tag, or none")]
    NotAChannel {
        /// Its length.
        len: usize,
    },
    /// N: the payload is larger than the peer takes.
    #[error("the payload has {len} bytes, and the peer takes at most {limit}")]
    PayloadTooLarge {
        /// Its length.
        len: usize,
        /// The most there can be.
        limit: usize,
    },
}

/// Why a message was not sent, or its receipt did not come.
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
    /// The stream's policy dropped it before it was sent.
    #[error("the message was not sent: {0}")]
    Dropped(DropReason),
    /// It was for an epoch of the peer that is over: the peer has begun a new life since.
    #[error("the message was not sent: it was for an earlier life of the peer, which has restarted since")]
    PastEpoch,
    /// This receipt cannot be had.
    #[error(
        "the message was sent, but the receipt \"{0}\" does not come: the peer's dialect has none, or the peer has begun a new life"
    )]
    NoReceipt(Receipt),
    /// The endpoint was closed, by its owner or because the device expired. With a store, what the
    /// outbox had accepted is still there and goes on when it is opened again.
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
