//! How durable, and how much.

/// What a commit survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Durability {
    /// Power cuts: a commit is answered after `fsync`.
    #[default]
    Fsync,
    /// The end of the process, however sudden, but not power cuts: those may take the last commits,
    /// whole and from the end; what is left is consistent.
    Os,
    /// Nothing: no file is touched. A reader and the writer take turns, and 1 GiB is the most it holds.
    Memory,
}

/// How much one queue of one device may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Messages.
    pub count: u64,
    /// Bytes of headers and payloads.
    pub bytes: u64,
}

/// How much a store may hold, and how it works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Messages received and not processed, per device. More are refused.
    pub inbox: Quota,
    /// Messages to send and not acknowledged, per device. More are refused.
    pub outbox: Quota,
    /// Dead letters, per device. More push the oldest out, which is counted.
    pub dead_letters: Quota,
    /// Transactions that may wait for the writer, at least 1. For what happens to more see
    /// [`Store::commit`](crate::Store::commit).
    pub queue: usize,
    /// Most transactions in one commit, at least 1.
    pub group: usize,
    /// Pages of 4 KiB in the write-ahead log from which it is copied into the database, at least 1. A
    /// log four times as long makes readers wait for that.
    pub log_pages: u32,
    /// Read the whole database when it is opened, with all checksums and indexes, and refuse a damaged one. Takes
    /// as long as reading all of it. Without it, damage is found when the damaged part is read, and only that is refused.
    pub check_at_open: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            inbox: Quota { count: 10_000, bytes: 16 << 20 },
            outbox: Quota { count: 10_000, bytes: 16 << 20 },
            dead_letters: Quota { count: 100, bytes: 1 << 20 },
            queue: 4_096,
            group: 1_024,
            log_pages: 2_000,
            check_at_open: false,
        }
    }
}
