//! What a stream of messages wants of the outbox, and what its senders want to know.

use std::time::Duration;

/// What happens to a message for which the outbox has no room. Messages with the same header and the same
/// policy are one stream; a policy never touches other streams, nor what was sent already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Policy {
    /// It waits for room.
    #[default]
    Block,
    /// The stream's oldest message that was not sent yet goes, if there is one; otherwise it waits.
    DropOldest,
    /// The stream's earlier messages that were not sent yet go, whether there is room or not: only
    /// the latest counts.
    KeepLatest,
}

impl Policy {
    /// As it is stored.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Policy::Block => 0,
            Policy::DropOldest => 1,
            Policy::KeepLatest => 2,
        }
    }

    /// What a later version has stored and this one does not know, waits.
    pub(crate) const fn of_code(code: u8) -> Self {
        match code {
            1 => Policy::DropOldest,
            2 => Policy::KeepLatest,
            _ => Policy::Block,
        }
    }
}

/// Why a message was dropped before it was sent. The peer learns it as a gap where its dialect can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// It made room for a later one of its stream.
    Oldest,
    /// A later one of its stream took its place.
    Replaced,
    /// Its time was up.
    Expired,
    /// It is larger than the peer takes, or its header is none the peer's dialect can carry.
    TooLarge,
    /// An operator removed it.
    Removed,
}

impl DropReason {
    /// As it is told in a gap (§11.5).
    pub(crate) const fn code(self) -> u8 {
        match self {
            DropReason::Oldest => 1,
            DropReason::Replaced => 2,
            DropReason::Expired => 3,
            DropReason::TooLarge => 4,
            DropReason::Removed => 5,
        }
    }
}

impl std::fmt::Display for DropReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            DropReason::Oldest => "it made room for a later one",
            DropReason::Replaced => "a later one took its place",
            DropReason::Expired => "its time was up",
            DropReason::TooLarge => "the peer cannot take it",
            DropReason::Removed => "it was removed",
        })
    }
}

/// What the sender of a qos message waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub enum Receipt {
    /// The outbox has it, as durably as the endpoint's store is: it will be delivered.
    Accepted,
    /// The peer has it durably.
    #[default]
    Stored,
    /// The peer's app has handled it. Only N tells.
    Processed,
}

impl std::fmt::Display for Receipt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Receipt::Accepted => "accepted",
            Receipt::Stored => "stored",
            Receipt::Processed => "processed",
        })
    }
}

/// How one message is sent.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Options {
    pub(crate) policy: Policy,
    /// It is worth nothing after this long.
    pub(crate) ttl: Option<Duration>,
    pub(crate) receipt: Receipt,
    /// The only epoch of the peer that it is for.
    pub(crate) epoch: Option<u64>,
}
