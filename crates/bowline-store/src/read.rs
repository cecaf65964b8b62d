//! What can be asked. Every answer is the state after some commit.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension as _, Row};

use crate::{
    DeadId, DeadLetter, DeadLetterEntry, Device, DeviceSummary, Direction, InboxMessage, Millis, OutboxMessage, Seq,
    SessionState,
};

const SUMMARY: &str = "name, persistent, last_seen, inbox_count, inbox_bytes, outbox_count, outbox_bytes, dead_count, \
                       dead_bytes, dead_dropped";

const DEAD_LETTER: &str = "SELECT dead_letter.id, name, sent, epoch, qos, policy, header, payload, reason, at \
                           FROM dead_letter JOIN device ON device.id = dead_letter.device";

/// All devices, by id.
pub(crate) fn devices(db: &Connection) -> rusqlite::Result<Vec<DeviceSummary>> {
    let mut select = db.prepare_cached(&format!("SELECT {SUMMARY} FROM device ORDER BY name"))?;
    select.query_map((), summary)?.collect()
}

/// Everything of one device.
pub(crate) fn device(db: &mut Connection, id: &str) -> rusqlite::Result<Option<Device>> {
    // One state for all that follows. Dropping it ends it.
    let db = &db.transaction()?;
    let sql = format!("SELECT {SUMMARY}, id, inbox_last, inbox_cursor, outbox_last FROM device WHERE name = ?1");
    let row = db
        .prepare_cached(&sql)?
        .query_row([id], |row| {
            let seq = |column| row.get(column).map(Seq);
            Ok((summary(row)?, row.get::<_, i64>(10)?, seq(11)?, seq(12)?, seq(13)?))
        })
        .optional()?;
    let Some((summary, key, inbox_last, inbox_cursor, outbox_last)) = row else {
        return Ok(None);
    };
    let session = db
        .prepare_cached("SELECT format, state FROM session WHERE device = ?1")?
        .query_row([key], |row| Ok(SessionState { format: row.get(0)?, state: row.get(1)? }))
        .optional()?;
    let ledger = db
        .prepare_cached("SELECT counters FROM ledger WHERE device = ?1")?
        .query_row([key], |row| row.get(0))
        .optional()?
        .unwrap_or_default();
    let sql = "SELECT seq, epoch, qos, received_at, header, payload FROM inbox WHERE device = ?1 ORDER BY seq";
    let inbox = db.prepare_cached(sql)?.query_map([key], inbox_message)?.collect::<rusqlite::Result<_>>()?;
    let sql = "SELECT seq, policy, created_at, expires_at, header, payload FROM outbox WHERE device = ?1 ORDER BY seq";
    let outbox = db.prepare_cached(sql)?.query_map([key], outbox_message)?.collect::<rusqlite::Result<_>>()?;
    Ok(Some(Device { summary, session, ledger, inbox_last, inbox_cursor, outbox_last, inbox, outbox }))
}

/// Dead letters of one device or of all, oldest first.
pub(crate) fn dead_letters(db: &Connection, device: Option<&str>) -> rusqlite::Result<Vec<DeadLetterEntry>> {
    let sql = format!("{DEAD_LETTER} WHERE ?1 IS NULL OR name = ?1 ORDER BY dead_letter.id");
    db.prepare_cached(&sql)?.query_map([device], entry)?.collect()
}

/// One dead letter.
pub(crate) fn dead_letter(db: &Connection, id: DeadId) -> rusqlite::Result<Option<DeadLetterEntry>> {
    let sql = format!("{DEAD_LETTER} WHERE dead_letter.id = ?1");
    db.prepare_cached(&sql)?.query_row([bits(id.0)], entry).optional()
}

fn summary(row: &Row<'_>) -> rusqlite::Result<DeviceSummary> {
    Ok(DeviceSummary {
        device: row.get(0)?,
        persistent: row.get(1)?,
        last_seen: Millis(row.get(2)?),
        inbox: row.get(3)?,
        inbox_bytes: row.get(4)?,
        outbox: row.get(5)?,
        outbox_bytes: row.get(6)?,
        dead_letters: row.get(7)?,
        dead_letter_bytes: row.get(8)?,
        dead_letters_dropped: row.get(9)?,
    })
}

fn inbox_message(row: &Row<'_>) -> rusqlite::Result<InboxMessage> {
    Ok(InboxMessage {
        seq: Seq(row.get(0)?),
        epoch: row.get::<_, i64>(1)?.cast_unsigned(),
        qos: row.get(2)?,
        received_at: Millis(row.get(3)?),
        header: blob(row, 4)?,
        payload: blob(row, 5)?,
    })
}

fn outbox_message(row: &Row<'_>) -> rusqlite::Result<OutboxMessage> {
    Ok(OutboxMessage {
        seq: Seq(row.get(0)?),
        policy: row.get(1)?,
        created_at: Millis(row.get(2)?),
        expires_at: row.get::<_, Option<u64>>(3)?.map(Millis),
        header: blob(row, 4)?,
        payload: blob(row, 5)?,
    })
}

fn entry(row: &Row<'_>) -> rusqlite::Result<DeadLetterEntry> {
    let direction = if row.get(2)? { Direction::Sent } else { Direction::Received };
    let letter = DeadLetter {
        direction,
        epoch: row.get::<_, i64>(3)?.cast_unsigned(),
        qos: row.get(4)?,
        policy: row.get(5)?,
        header: blob(row, 6)?,
        payload: blob(row, 7)?,
        reason: row.get(8)?,
        at: Millis(row.get(9)?),
    };
    Ok(DeadLetterEntry { id: DeadId(row.get::<_, i64>(0)?.cast_unsigned()), device: row.get(1)?, letter })
}

fn blob(row: &Row<'_>, column: usize) -> rusqlite::Result<Bytes> {
    row.get::<_, Vec<u8>>(column).map(Bytes::from)
}

/// All 64 bits, as SQLite's signed number.
pub(crate) fn bits(value: u64) -> i64 {
    value.cast_signed()
}
