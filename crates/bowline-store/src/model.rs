//! What is stored.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

/// Milliseconds since the Unix epoch, 0 to 2^63 − 1. The caller's clock; only compared, never read here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Millis(pub u64);

/// A message's place in one queue of one device, 1 to 2^62 − 1 as in the protocol.
///
/// The caller numbers: each message's is higher than that of every message before it in that queue,
/// across epochs and restarts ([`Device::inbox_last`], [`Device::outbox_last`]). With the device's id it
/// is a name that stays the same for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Seq(pub u64);

/// Names a dead letter. Never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeadId(pub u64);

impl Seq {
    pub(crate) const MAX: Seq = Seq((1 << 62) - 1);
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for DeadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A message from a device that its app has not processed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboxMessage {
    /// Its place in the inbox.
    pub seq: Seq,
    /// The device's epoch it came in. All 64 bits may be used.
    pub epoch: u64,
    /// Sent as qos.
    pub qos: bool,
    /// When it came.
    pub received_at: Millis,
    /// Channel or user header: whatever belongs to the message and not to its payload.
    pub header: Bytes,
    /// The payload.
    pub payload: Bytes,
}

/// A message for a device that it has not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxMessage {
    /// Its place in the outbox.
    pub seq: Seq,
    /// The stream's policy, as its owner numbers them. Kept, not interpreted.
    pub policy: u8,
    /// When it was sent.
    pub created_at: Millis,
    /// When it is worth nothing any more. Kept, not acted on: whoever drops it owes the device a gap.
    pub expires_at: Option<Millis>,
    /// Channel or user header.
    pub header: Bytes,
    /// The payload.
    pub payload: Bytes,
}

/// A session's state as its engine wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionState {
    /// Which engine and version can read it.
    pub format: u32,
    /// Its bytes. Kept, not interpreted.
    pub state: Vec<u8>,
}

/// Which way a message was going.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the device: to the inbox.
    Received,
    /// To the device: from the outbox.
    Sent,
}

/// A message that cannot be handled, with all it takes to try again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Which way it was going.
    pub direction: Direction,
    /// Received: the device's epoch.
    pub epoch: u64,
    /// It was sent as qos.
    pub qos: bool,
    /// Sent: the stream's policy.
    pub policy: u8,
    /// Channel or user header.
    pub header: Bytes,
    /// The payload, or the bytes as they came.
    pub payload: Bytes,
    /// What is wrong with it, for people.
    pub reason: String,
    /// When it was given up.
    pub at: Millis,
}

/// A dead letter in the box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterEntry {
    /// Its name.
    pub id: DeadId,
    /// Whose it is.
    pub device: Arc<str>,
    /// The letter.
    pub letter: DeadLetter,
}

/// Everything it takes to go on with a device where it stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Counts and the rest of what [`Store::devices`](crate::Store::devices) lists.
    pub summary: DeviceSummary,
    /// The session, if one was saved.
    pub session: Option<SessionState>,
    /// The ledger's counters as their owner wrote them; empty if never.
    pub ledger: Vec<u8>,
    /// The highest [`Seq`] that was ever in the inbox; 0 if none.
    pub inbox_last: Seq,
    /// Messages up to here are processed.
    pub inbox_cursor: Seq,
    /// The highest [`Seq`] that was ever in the outbox; 0 if none.
    pub outbox_last: Seq,
    /// Messages not processed, in order.
    pub inbox: Vec<InboxMessage>,
    /// Messages not acknowledged, in order.
    pub outbox: Vec<OutboxMessage>,
}

/// A device and how much is stored for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceSummary {
    /// Its id.
    pub device: Arc<str>,
    /// Kept until forgotten; a temporary one goes when it has been away for long.
    pub persistent: bool,
    /// When it was last seen, as far as the store was told.
    pub last_seen: Millis,
    /// Messages in the inbox.
    pub inbox: u64,
    /// Their bytes, headers and payloads.
    pub inbox_bytes: u64,
    /// Messages in the outbox.
    pub outbox: u64,
    /// Their bytes, headers and payloads.
    pub outbox_bytes: u64,
    /// Dead letters.
    pub dead_letters: u64,
    /// Their bytes, headers and payloads.
    pub dead_letter_bytes: u64,
    /// Dead letters dropped so far because there were too many or they were too old.
    pub dead_letters_dropped: u64,
}
