//! What can be changed, and what comes of it.

use std::sync::Arc;

use crate::{DeadId, DeadLetter, InboxMessage, Millis, OutboxMessage, Queue, Seq};

/// One change. Changes of one [`Transaction`] happen in order, all or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// The device exists, was seen, and is persistent or not. Comes before every other change to it.
    Device {
        /// Its id.
        device: Arc<str>,
        /// Kept until forgotten.
        persistent: bool,
        /// When it was seen. An earlier time than the one stored changes nothing.
        seen: Millis,
    },
    /// The transaction is for a queue whose highest number so far is this, and fails otherwise.
    ///
    /// For callers that send a transaction before the one it builds on is answered: should that one
    /// fail, so does this, instead of leaving a gap.
    Expect {
        /// Whose.
        device: Arc<str>,
        /// Which queue.
        queue: Queue,
        /// Its highest number so far; 0 for none.
        last: Seq,
    },
    /// Replaces the session's state.
    Session {
        /// Whose.
        device: Arc<str>,
        /// Which engine and version can read it.
        format: u32,
        /// Its bytes.
        state: Vec<u8>,
    },
    /// Replaces the ledger's counters.
    Ledger {
        /// Whose.
        device: Arc<str>,
        /// Their bytes.
        counters: Vec<u8>,
    },
    /// A message from the device, to the end of its inbox.
    Receive {
        /// Whose.
        device: Arc<str>,
        /// The message.
        message: InboxMessage,
    },
    /// The app has processed all messages up to `through`: they leave the inbox. Never goes back.
    Processed {
        /// Whose.
        device: Arc<str>,
        /// The last one processed.
        through: Seq,
    },
    /// One message leaves the inbox out of order: processed by an instance that is ahead of others, or
    /// buried. Nothing happens if it is not there.
    TakeReceived {
        /// Whose.
        device: Arc<str>,
        /// Which.
        seq: Seq,
    },
    /// A message for the device, to the end of its outbox.
    Send {
        /// Whose.
        device: Arc<str>,
        /// The message.
        message: OutboxMessage,
    },
    /// The device has acknowledged all messages up to `through`: they leave the outbox.
    Acked {
        /// Whose.
        device: Arc<str>,
        /// The last one acknowledged.
        through: Seq,
    },
    /// One message leaves the outbox out of order: dropped by its policy, expired, or buried. Nothing
    /// happens if it is not there.
    TakeSent {
        /// Whose.
        device: Arc<str>,
        /// Which.
        seq: Seq,
    },
    /// A message that cannot be handled. Taking it from its queue is a change of its own.
    Bury {
        /// Whose.
        device: Arc<str>,
        /// The message and what is wrong with it.
        letter: DeadLetter,
    },
    /// A dead letter goes to the end of the queue it came from, with a new number.
    RetryDead {
        /// Which.
        id: DeadId,
        /// Its new place.
        seq: Seq,
        /// When that is: its new time of arrival or creation. It no longer expires.
        now: Millis,
    },
    /// A dead letter goes for good.
    DropDead {
        /// Which.
        id: DeadId,
    },
    /// All dead letters buried before `before` go for good.
    ExpireDead {
        /// The oldest time that stays.
        before: Millis,
    },
    /// A device goes with everything stored for it. Nothing happens if it is not there.
    Forget {
        /// Which.
        device: Arc<str>,
    },
    /// All temporary devices last seen before `before` go with everything stored for them.
    ForgetTemporary {
        /// The oldest time that stays.
        before: Millis,
    },
}

impl Change {
    /// [`Change::Device`].
    #[must_use]
    pub fn device(device: impl Into<Arc<str>>, persistent: bool, seen: Millis) -> Self {
        Change::Device { device: device.into(), persistent, seen }
    }
}

/// Changes that happen all or not at all, in this order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Transaction {
    pub(crate) changes: Vec<Change>,
}

impl Transaction {
    /// No changes yet.
    #[must_use]
    pub fn new() -> Self {
        Transaction::default()
    }

    /// This and one more change.
    #[must_use]
    pub fn with(mut self, change: Change) -> Self {
        self.changes.push(change);
        self
    }

    /// Adds a change.
    pub fn push(&mut self, change: Change) {
        self.changes.push(change);
    }

    /// The changes, in order.
    #[must_use]
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }
}

impl From<Change> for Transaction {
    fn from(change: Change) -> Self {
        Transaction { changes: vec![change] }
    }
}

impl From<Vec<Change>> for Transaction {
    fn from(changes: Vec<Change>) -> Self {
        Transaction { changes }
    }
}

impl FromIterator<Change> for Transaction {
    fn from_iter<T: IntoIterator<Item = Change>>(changes: T) -> Self {
        Transaction { changes: changes.into_iter().collect() }
    }
}

/// What a committed transaction did that its caller could not know before.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Committed {
    /// Messages that left inboxes and outboxes, forgotten devices' left out.
    pub taken: u64,
    /// Names of the dead letters buried, in the order of the changes.
    pub buried: Vec<DeadId>,
    /// Dead letters dropped because there were too many or they were too old.
    pub dead_letters_dropped: u64,
    /// Devices forgotten, with what was lost with them.
    pub forgotten: Vec<Forgotten>,
}

/// A device forgotten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forgotten {
    /// Its id.
    pub device: Arc<str>,
    /// Messages that were in its inbox.
    pub inbox: u64,
    /// Messages that were in its outbox.
    pub outbox: u64,
    /// Dead letters it had.
    pub dead_letters: u64,
}
