//! From format 1 to format 2: checksums, and a directory of the devices.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, Row, params};

use crate::checksum::Checksum;
use crate::device::{DeviceRow, Held, Key, QueueRow};
use crate::directory::{self, Numbers};
use crate::error::Failure;
use crate::rows::{self, bits, bytes_of, clamp, size, stored};
use crate::{DeadLetter, Direction, InboxMessage, Millis, OutboxMessage, Seq};

/// Every row is written anew, with the numbers before the bytes, which may fill pages of their own.
const TABLES: &str = "
    ALTER TABLE device RENAME TO old_device;
    ALTER TABLE inbox RENAME TO old_inbox;
    ALTER TABLE outbox RENAME TO old_outbox;
    ALTER TABLE dead_letter RENAME TO old_dead_letter;
    DROP INDEX dead_letter_device;
    DROP INDEX dead_letter_at;
    CREATE TABLE directory (
        bucket INTEGER PRIMARY KEY,
        devices BLOB NOT NULL,
        checksum INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE numbers (
        id INTEGER PRIMARY KEY,
        device INTEGER NOT NULL,
        dead_letter INTEGER NOT NULL,
        checksum INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE device (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL,
        persistent INTEGER NOT NULL,
        last_seen INTEGER NOT NULL,
        inbox_last INTEGER NOT NULL,
        inbox_cursor INTEGER NOT NULL,
        inbox_count INTEGER NOT NULL,
        inbox_bytes INTEGER NOT NULL,
        inbox_sum INTEGER NOT NULL,
        outbox_last INTEGER NOT NULL,
        outbox_cursor INTEGER NOT NULL,
        outbox_count INTEGER NOT NULL,
        outbox_bytes INTEGER NOT NULL,
        outbox_sum INTEGER NOT NULL,
        dead_count INTEGER NOT NULL,
        dead_bytes INTEGER NOT NULL,
        dead_sum INTEGER NOT NULL,
        dead_dropped INTEGER NOT NULL,
        session INTEGER,
        ledger INTEGER,
        checksum INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE inbox (
        device INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        epoch INTEGER NOT NULL,
        qos INTEGER NOT NULL,
        received_at INTEGER NOT NULL,
        checksum INTEGER NOT NULL,
        header BLOB NOT NULL,
        payload BLOB NOT NULL,
        PRIMARY KEY (device, seq)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE outbox (
        device INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        policy INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        expires_at INTEGER,
        checksum INTEGER NOT NULL,
        header BLOB NOT NULL,
        payload BLOB NOT NULL,
        PRIMARY KEY (device, seq)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE dead_letter (
        id INTEGER PRIMARY KEY,
        device INTEGER NOT NULL,
        sent INTEGER NOT NULL,
        epoch INTEGER NOT NULL,
        qos INTEGER NOT NULL,
        policy INTEGER NOT NULL,
        at INTEGER NOT NULL,
        checksum INTEGER NOT NULL,
        reason TEXT NOT NULL,
        header BLOB NOT NULL,
        payload BLOB NOT NULL
    ) STRICT;
    CREATE INDEX dead_letter_device ON dead_letter (device, id);
    CREATE INDEX dead_letter_at ON dead_letter (at);
";

const DROP: &str = "
    DROP TABLE old_device;
    DROP TABLE old_inbox;
    DROP TABLE old_outbox;
    DROP TABLE old_dead_letter;
";

/// What the rows of each device are together.
type Sums = HashMap<Key, Held>;

/// Takes over all rows. Counts and bytes of the devices stay as they are: where they do not agree with
/// the rows, the store is damaged, and says so when the device is loaded.
pub(super) fn migrate(db: &Connection) -> Result<(), Failure> {
    db.execute_batch(TABLES)?;
    directory::create(db)?;
    let inbox =
        copy(db, "SELECT device, seq, epoch, qos, received_at, header, payload FROM old_inbox", |row, sums| {
            let key = row.get(0)?;
            insert_received(db, key, &received(row)?, sums.entry(key).or_default())
        })?;
    let sql = "SELECT device, seq, policy, created_at, expires_at, header, payload FROM old_outbox";
    let outbox = copy(db, sql, |row, sums| {
        let key = row.get(0)?;
        rows::insert_sent(db, key, &sent(row)?, sums.entry(key).or_default())
    })?;
    let sql = "SELECT device, id, sent, epoch, qos, policy, header, payload, reason, at FROM old_dead_letter";
    let dead = copy(db, sql, |row, sums| {
        let key = row.get(0)?;
        rows::insert_letter(db, key, row.get(1)?, &letter(row)?, sums.entry(key).or_default())
    })?;
    let mut numbers = Numbers { device: 0, dead: 0 };
    let sql = "SELECT max(ifnull((SELECT max(seq) FROM sqlite_sequence WHERE name = 'old_dead_letter'), 0), \
               ifnull((SELECT max(id) FROM old_dead_letter), 0))";
    numbers.dead = db.query_row(sql, (), |row| row.get(0))?;
    let sql = "SELECT id, name, persistent, last_seen, inbox_last, inbox_count, inbox_bytes, inbox_cursor, outbox_last, \
               outbox_count, outbox_bytes, dead_count, dead_bytes, dead_dropped FROM old_device ORDER BY id";
    let mut select = db.prepare(sql)?;
    let mut devices = select.query(())?;
    while let Some(row) = devices.next()? {
        let key: Key = row.get(0)?;
        let held = |at, sums: &Sums| -> rusqlite::Result<_> {
            let sum = sums.get(&key).copied().unwrap_or_default().sum;
            Ok(Held { count: row.get(at)?, bytes: row.get(at + 1)?, sum })
        };
        let name: Arc<str> = row.get(1)?;
        let session = db
            .prepare_cached("SELECT format, state FROM session WHERE device = ?1")?
            .query_map([key], |row| Ok(rows::session_checksum(key, row.get(0)?, &row.get::<_, Vec<u8>>(1)?)))?
            .next()
            .transpose()?;
        let ledger = db
            .prepare_cached("SELECT counters FROM ledger WHERE device = ?1")?
            .query_map([key], |row| Ok(rows::ledger_checksum(key, &row.get::<_, Vec<u8>>(0)?)))?
            .next()
            .transpose()?;
        let device = DeviceRow {
            inbox: QueueRow { last: row.get(4)?, cursor: row.get(7)?, held: held(5, &inbox)? },
            // Not known, and moved by the next acknowledgement.
            outbox: QueueRow { last: row.get(8)?, cursor: 0, held: held(9, &outbox)? },
            dead: held(11, &dead)?,
            dead_dropped: row.get(13)?,
            session,
            ledger,
            ..DeviceRow::new(key, Arc::clone(&name), row.get(2)?, row.get(3)?)
        };
        device.store(db)?;
        directory::add(db, &name, key)?;
        numbers.device = numbers.device.max(key);
    }
    numbers.store(db)?;
    drop(devices);
    drop(select);
    Ok(db.execute_batch(DROP)?)
}

fn copy(
    db: &Connection,
    sql: &str,
    mut take: impl FnMut(&Row<'_>, &mut Sums) -> rusqlite::Result<()>,
) -> Result<Sums, Failure> {
    let mut sums = Sums::new();
    let mut select = db.prepare(sql)?;
    let mut rows = select.query(())?;
    while let Some(row) = rows.next()? {
        take(row, &mut sums)?;
    }
    Ok(sums)
}

/// Each message of an inbox had a row.
fn insert_received(db: &Connection, key: Key, message: &InboxMessage, held: &mut Held) -> rusqlite::Result<()> {
    let InboxMessage { seq, epoch, qos, received_at, header, payload } = message;
    let sql = "INSERT INTO inbox (device, seq, epoch, qos, received_at, checksum, header, payload) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let sum = received_checksum(key, message);
    let values = params![key, clamp(seq.0), bits(*epoch), qos, clamp(received_at.0), sum, &header[..], &payload[..]];
    db.prepare_cached(sql)?.execute(values)?;
    held.add(size(header, payload), sum);
    Ok(())
}

pub(super) fn received_checksum(key: Key, message: &InboxMessage) -> i64 {
    let InboxMessage { seq, epoch, qos, received_at, header, payload } = message;
    let sum = Checksum::new(6).with(bytes_of(key)).with(stored(seq.0)).with(*epoch).with((*qos).into());
    sum.with(stored(received_at.0)).with_bytes(header).with_bytes(payload).value()
}

fn received(row: &Row<'_>) -> rusqlite::Result<InboxMessage> {
    Ok(InboxMessage {
        seq: Seq(row.get(1)?),
        epoch: row.get::<_, i64>(2)?.cast_unsigned(),
        qos: row.get(3)?,
        received_at: Millis(row.get(4)?),
        header: rows::blob(row, 5)?,
        payload: rows::blob(row, 6)?,
    })
}

fn sent(row: &Row<'_>) -> rusqlite::Result<OutboxMessage> {
    Ok(OutboxMessage {
        seq: Seq(row.get(1)?),
        policy: row.get(2)?,
        created_at: Millis(row.get(3)?),
        expires_at: row.get::<_, Option<u64>>(4)?.map(Millis),
        header: rows::blob(row, 5)?,
        payload: rows::blob(row, 6)?,
    })
}

fn letter(row: &Row<'_>) -> rusqlite::Result<DeadLetter> {
    Ok(DeadLetter {
        direction: if row.get(2)? { Direction::Sent } else { Direction::Received },
        epoch: row.get::<_, i64>(3)?.cast_unsigned(),
        qos: row.get(4)?,
        policy: row.get(5)?,
        header: rows::blob(row, 6)?,
        payload: rows::blob(row, 7)?,
        reason: row.get(8)?,
        at: Millis(row.get(9)?),
    })
}
