//! A device's row, which vouches for all its others.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::checksum::Checksum;
use crate::error::Failure;
use crate::{DeviceSummary, Millis, Queue, Seq};

/// A device's row.
pub(crate) type Key = i64;

const DEVICE: u64 = 3;

/// What rows of one device and table are, together: a row that is missing, or there twice, does not agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Held {
    pub(crate) count: u64,
    /// Of headers and payloads.
    pub(crate) bytes: u64,
    /// Of the rows' checksums, wrapping.
    pub(crate) sum: i64,
}

impl Held {
    pub(crate) fn add(&mut self, bytes: u64, checksum: i64) {
        *self = self.with(Held { count: 1, bytes, sum: checksum });
    }

    /// And a row, whose messages were counted before.
    pub(crate) fn add_checksum(&mut self, checksum: i64) {
        self.sum = self.sum.wrapping_add(checksum);
    }

    /// These go. `None` if they cannot have been there.
    #[must_use]
    pub(crate) fn without(self, gone: Held) -> Option<Held> {
        let count = self.count.checked_sub(gone.count)?;
        let bytes = self.bytes.checked_sub(gone.bytes)?;
        let left = Held { count, bytes, sum: self.sum.wrapping_sub(gone.sum) };
        (count > 0 || left == Held::default()).then_some(left)
    }

    /// Both.
    pub(crate) fn with(self, other: Held) -> Held {
        Held {
            count: self.count + other.count,
            bytes: self.bytes.saturating_add(other.bytes),
            sum: self.sum.wrapping_add(other.sum),
        }
    }

    fn checksum(self, sum: Checksum) -> Checksum {
        sum.with(self.count).with(self.bytes).with(self.sum.cast_unsigned())
    }
}

impl std::iter::Sum for Held {
    fn sum<I: Iterator<Item = Held>>(all: I) -> Held {
        all.fold(Held::default(), Held::with)
    }
}

/// A queue as the device's row has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct QueueRow {
    /// The highest number that was ever in it.
    pub(crate) last: u64,
    /// Everything up to here is gone.
    pub(crate) cursor: u64,
    pub(crate) held: Held,
}

impl QueueRow {
    fn checksum(self, sum: Checksum) -> Checksum {
        self.held.checksum(sum.with(self.last).with(self.cursor))
    }

    /// Whether messages from `first` to `last` can be what is in the queue.
    pub(crate) fn holds(self, first: Seq, last: Seq) -> bool {
        first.0 > self.cursor && last.0 <= self.last
    }
}

/// A device's row: its counts, and the checksums of its session and ledger. Changed by writing it whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeviceRow {
    pub(crate) key: Key,
    pub(crate) name: Arc<str>,
    pub(crate) persistent: bool,
    pub(crate) last_seen: u64,
    pub(crate) inbox: QueueRow,
    pub(crate) outbox: QueueRow,
    pub(crate) dead: Held,
    pub(crate) dead_dropped: u64,
    /// `None` if there is none.
    pub(crate) session: Option<i64>,
    pub(crate) ledger: Option<i64>,
}

impl DeviceRow {
    pub(crate) fn new(key: Key, name: Arc<str>, persistent: bool, last_seen: u64) -> Self {
        DeviceRow {
            key,
            name,
            persistent,
            last_seen,
            inbox: QueueRow::default(),
            outbox: QueueRow::default(),
            dead: Held::default(),
            dead_dropped: 0,
            session: None,
            ledger: None,
        }
    }

    /// The row of a device that the directory knows.
    pub(crate) fn load(db: &Connection, key: Key) -> Result<Self, Failure> {
        let sql = "SELECT id, name, persistent, last_seen, inbox_last, inbox_cursor, inbox_count, inbox_bytes, inbox_sum, \
                   outbox_last, outbox_cursor, outbox_count, outbox_bytes, outbox_sum, dead_count, dead_bytes, dead_sum, \
                   dead_dropped, session, ledger, checksum FROM device WHERE id = ?1";
        let found = db.prepare_cached(sql)?.query_row([key], Self::get).optional();
        match found.map_err(|error| Failure::from(error).in_table("device"))? {
            Some((row, sum)) if row.key == key && row.checksum() == sum => Ok(row),
            Some(_) => Err(Failure::damaged("the row does not match its checksum").in_table("device")),
            None => Err(Failure::damaged("the row is missing").in_table("device")),
        }
    }

    fn get(row: &Row<'_>) -> rusqlite::Result<(Self, i64)> {
        let held = |at| -> rusqlite::Result<_> {
            Ok(Held { count: row.get(at)?, bytes: row.get(at + 1)?, sum: row.get(at + 2)? })
        };
        let queue = |at| -> rusqlite::Result<_> {
            Ok(QueueRow { last: row.get(at)?, cursor: row.get(at + 1)?, held: held(at + 2)? })
        };
        let device = DeviceRow {
            key: row.get(0)?,
            name: row.get(1)?,
            persistent: row.get(2)?,
            last_seen: row.get(3)?,
            inbox: queue(4)?,
            outbox: queue(9)?,
            dead: held(14)?,
            dead_dropped: row.get(17)?,
            session: row.get(18)?,
            ledger: row.get(19)?,
        };
        Ok((device, row.get(20)?))
    }

    /// Writes the row, new or not.
    pub(crate) fn store(&self, db: &Connection) -> rusqlite::Result<()> {
        let sql = "REPLACE INTO device (id, name, persistent, last_seen, inbox_last, inbox_cursor, inbox_count, inbox_bytes, \
                   inbox_sum, outbox_last, outbox_cursor, outbox_count, outbox_bytes, outbox_sum, dead_count, dead_bytes, \
                   dead_sum, dead_dropped, session, ledger, checksum) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21)";
        let (inbox, outbox) = (self.inbox, self.outbox);
        let values = params![
            self.key,
            self.name,
            self.persistent,
            self.last_seen,
            inbox.last,
            inbox.cursor,
            inbox.held.count,
            inbox.held.bytes,
            inbox.held.sum,
            outbox.last,
            outbox.cursor,
            outbox.held.count,
            outbox.held.bytes,
            outbox.held.sum,
            self.dead.count,
            self.dead.bytes,
            self.dead.sum,
            self.dead_dropped,
            self.session,
            self.ledger,
            self.checksum(),
        ];
        db.prepare_cached(sql)?.execute(values).map(drop)
    }

    fn checksum(&self) -> i64 {
        let optional = |sum: Checksum, value: Option<i64>| {
            sum.with(value.is_some().into()).with(value.unwrap_or_default().cast_unsigned())
        };
        let sum = Checksum::new(DEVICE).with(self.key.cast_unsigned()).with_bytes(self.name.as_bytes());
        let sum = sum.with(self.persistent.into()).with(self.last_seen);
        let sum = self.outbox.checksum(self.inbox.checksum(sum));
        let sum = self.dead.checksum(sum).with(self.dead_dropped);
        optional(optional(sum, self.session), self.ledger).value()
    }

    pub(crate) fn queue(&self, queue: Queue) -> QueueRow {
        match queue {
            Queue::Inbox => self.inbox,
            Queue::Outbox => self.outbox,
        }
    }

    pub(crate) fn queue_mut(&mut self, queue: Queue) -> &mut QueueRow {
        match queue {
            Queue::Inbox => &mut self.inbox,
            Queue::Outbox => &mut self.outbox,
        }
    }

    pub(crate) fn summary(&self) -> DeviceSummary {
        DeviceSummary {
            device: Arc::clone(&self.name),
            persistent: self.persistent,
            last_seen: Millis(self.last_seen),
            inbox: self.inbox.held.count,
            inbox_bytes: self.inbox.held.bytes,
            outbox: self.outbox.held.count,
            outbox_bytes: self.outbox.held.bytes,
            dead_letters: self.dead.count,
            dead_letter_bytes: self.dead.bytes,
            dead_letters_dropped: self.dead_dropped,
        }
    }
}
