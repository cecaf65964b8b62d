//! The rows of a device: how each is written, read and checked.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::checksum::Checksum;
use crate::device::{Held, Key};
use crate::error::Failure;
use crate::{DeadLetter, Direction, InboxMessage, Millis, OutboxMessage, Queue, Seq, SessionState};

const SESSION: u64 = 4;
const LEDGER: u64 = 5;
const INBOX: u64 = 6;
const OUTBOX: u64 = 7;
const DEAD_LETTER: u64 = 8;

/// What a row holds, and its checksum.
type Checked<T> = (T, i64);

pub(crate) fn put_session(db: &Connection, key: Key, format: u32, state: &[u8]) -> rusqlite::Result<i64> {
    let sql = "REPLACE INTO session (device, format, state) VALUES (?1, ?2, ?3)";
    db.prepare_cached(sql)?.execute(params![key, format, state])?;
    Ok(session_checksum(key, format, state))
}

/// The session, if it is the one with this checksum.
pub(crate) fn session(db: &Connection, key: Key, checksum: Option<i64>) -> Result<Option<SessionState>, Failure> {
    let found = db
        .prepare_cached("SELECT format, state FROM session WHERE device = ?1")?
        .query_row([key], |row| Ok(SessionState { format: row.get(0)?, state: row.get(1)? }))
        .optional()?;
    let sum = found.as_ref().map(|session| session_checksum(key, session.format, &session.state));
    agree(sum, checksum)?;
    Ok(found)
}

pub(crate) fn put_ledger(db: &Connection, key: Key, counters: &[u8]) -> rusqlite::Result<i64> {
    db.prepare_cached("REPLACE INTO ledger (device, counters) VALUES (?1, ?2)")?.execute(params![key, counters])?;
    Ok(ledger_checksum(key, counters))
}

/// The ledger's counters, if they are those with this checksum.
pub(crate) fn ledger(db: &Connection, key: Key, checksum: Option<i64>) -> Result<Vec<u8>, Failure> {
    let found: Option<Vec<u8>> = db
        .prepare_cached("SELECT counters FROM ledger WHERE device = ?1")?
        .query_row([key], |row| row.get(0))
        .optional()?;
    agree(found.as_ref().map(|counters| ledger_checksum(key, counters)), checksum)?;
    Ok(found.unwrap_or_default())
}

fn agree(found: Option<i64>, expected: Option<i64>) -> Result<(), Failure> {
    match (found, expected) {
        (found, expected) if found == expected => Ok(()),
        (None, _) => Err(Failure::damaged("the row is missing")),
        _ => Err(Failure::damaged("the row does not match its checksum")),
    }
}

/// Adds a message to the inbox, and to what it holds.
pub(crate) fn insert_received(
    db: &Connection,
    key: Key,
    message: &InboxMessage,
    held: &mut Held,
) -> rusqlite::Result<()> {
    let InboxMessage { seq, epoch, qos, received_at, header, payload } = message;
    let sql = "INSERT INTO inbox (device, seq, epoch, qos, received_at, checksum, header, payload) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let sum = received_checksum(key, message);
    let values = params![key, clamp(seq.0), bits(*epoch), qos, clamp(received_at.0), sum, &header[..], &payload[..]];
    db.prepare_cached(sql)?.execute(values)?;
    held.add(size(header, payload), sum);
    Ok(())
}

/// Adds a message to the outbox, and to what it holds.
pub(crate) fn insert_sent(db: &Connection, key: Key, message: &OutboxMessage, held: &mut Held) -> rusqlite::Result<()> {
    let OutboxMessage { seq, policy, created_at, expires_at, header, payload } = message;
    let sql = "INSERT INTO outbox (device, seq, policy, created_at, expires_at, checksum, header, payload) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let sum = sent_checksum(key, message);
    let expires_at = expires_at.map(|at| clamp(at.0));
    let values = params![key, clamp(seq.0), policy, clamp(created_at.0), expires_at, sum, &header[..], &payload[..]];
    db.prepare_cached(sql)?.execute(values)?;
    held.add(size(header, payload), sum);
    Ok(())
}

/// Adds a dead letter to the box, and to what it holds.
pub(crate) fn insert_letter(
    db: &Connection,
    key: Key,
    id: i64,
    letter: &DeadLetter,
    held: &mut Held,
) -> rusqlite::Result<()> {
    let DeadLetter { direction, epoch, qos, policy, header, payload, reason, at } = letter;
    let sent = *direction == Direction::Sent;
    let sql = "INSERT INTO dead_letter (id, device, sent, epoch, qos, policy, at, checksum, reason, header, payload) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
    let sum = letter_checksum(key, id, letter);
    let values = params![id, key, sent, bits(*epoch), qos, policy, clamp(at.0), sum, reason, &header[..], &payload[..]];
    db.prepare_cached(sql)?.execute(values)?;
    held.add(size(header, payload), sum);
    Ok(())
}

/// All messages of the inbox, in order.
pub(crate) fn inbox(db: &Connection, key: Key, held: Held) -> Result<Vec<InboxMessage>, Failure> {
    let sql =
        "SELECT seq, epoch, qos, received_at, checksum, header, payload FROM inbox WHERE device = ?1 ORDER BY seq";
    let mut select = db.prepare_cached(sql)?;
    let mut rows = select.query([key])?;
    let (mut found, mut messages) = (Held::default(), Vec::new());
    while let Some(row) = rows.next()? {
        let (message, sum) = received(row)?;
        if sum != received_checksum(key, &message) {
            return Err(spoiled(message.seq));
        }
        found.add(size(&message.header, &message.payload), sum);
        messages.push(message);
    }
    complete(found, held)?;
    Ok(messages)
}

/// All messages of the outbox, in order.
pub(crate) fn outbox(db: &Connection, key: Key, held: Held) -> Result<Vec<OutboxMessage>, Failure> {
    let sql = "SELECT seq, policy, created_at, expires_at, checksum, header, payload FROM outbox WHERE device = ?1 ORDER BY seq";
    let mut select = db.prepare_cached(sql)?;
    let mut rows = select.query([key])?;
    let (mut found, mut messages) = (Held::default(), Vec::new());
    while let Some(row) = rows.next()? {
        let (message, sum) = sent(row)?;
        if sum != sent_checksum(key, &message) {
            return Err(spoiled(message.seq));
        }
        found.add(size(&message.header, &message.payload), sum);
        messages.push(message);
    }
    complete(found, held)?;
    Ok(messages)
}

/// What there is of a queue behind `after`, up to `through`, by the checksums that stand in its rows.
pub(crate) fn held(db: &Connection, key: Key, queue: Queue, after: Seq, through: Seq) -> Result<Held, Failure> {
    let sql = match queue {
        Queue::Inbox => {
            "SELECT length(header) + length(payload), checksum FROM inbox WHERE device = ?1 AND seq > ?2 AND seq <= ?3"
        }
        Queue::Outbox => {
            "SELECT length(header) + length(payload), checksum FROM outbox WHERE device = ?1 AND seq > ?2 AND seq <= ?3"
        }
    };
    let mut select = db.prepare_cached(sql)?;
    let mut rows = select.query([key, clamp(after.0), clamp(through.0)])?;
    let mut held = Held::default();
    while let Some(row) = rows.next()? {
        held.add(row.get(0)?, row.get(1)?);
    }
    Ok(held)
}

/// The dead letters of a device: their names with what each is, in order.
pub(crate) fn held_letters(db: &Connection, key: Key) -> Result<Vec<(i64, Held)>, Failure> {
    let sql = "SELECT id, length(header) + length(payload), checksum FROM dead_letter WHERE device = ?1 ORDER BY id";
    let mut select = db.prepare_cached(sql)?;
    let letter = |row: &Row<'_>| Ok((row.get(0)?, Held { count: 1, bytes: row.get(1)?, sum: row.get(2)? }));
    Ok(select.query_map([key], letter)?.collect::<rusqlite::Result<_>>()?)
}

/// Columns of a dead letter, as [`letter`] reads them.
pub(crate) const LETTER: &str =
    "SELECT id, device, sent, epoch, qos, policy, at, checksum, reason, header, payload FROM dead_letter";

/// A dead letter with its name, its device and its size.
pub(crate) struct Letter {
    pub(crate) id: i64,
    pub(crate) key: Key,
    pub(crate) checksum: i64,
    pub(crate) letter: DeadLetter,
}

impl Letter {
    pub(crate) fn held(&self) -> Held {
        Held { count: 1, bytes: size(&self.letter.header, &self.letter.payload), sum: self.checksum }
    }
}

/// A dead letter as it stands in its row.
pub(crate) fn letter(row: &Row<'_>) -> Result<Letter, Failure> {
    let (id, key, checksum) = (row.get(0)?, row.get(1)?, row.get(7)?);
    let letter = DeadLetter {
        direction: if row.get(2)? { Direction::Sent } else { Direction::Received },
        epoch: row.get::<_, i64>(3)?.cast_unsigned(),
        qos: row.get(4)?,
        policy: row.get(5)?,
        at: Millis(row.get(6)?),
        reason: row.get(8)?,
        header: blob(row, 9)?,
        payload: blob(row, 10)?,
    };
    if letter_checksum(key, id, &letter) != checksum {
        return Err(Failure::damaged(format!("row {id} does not match its checksum")));
    }
    Ok(Letter { id, key, checksum, letter })
}

/// What was found is all there was.
pub(crate) fn complete(found: Held, expected: Held) -> Result<(), Failure> {
    if found == expected {
        return Ok(());
    }
    let (found, expected) = (found.count, expected.count);
    Err(Failure::damaged(format!("{found} of {expected} messages are there, or they are not those that were stored")))
}

fn spoiled(seq: Seq) -> Failure {
    Failure::damaged(format!("message {seq} does not match its checksum"))
}

fn received(row: &Row<'_>) -> rusqlite::Result<Checked<InboxMessage>> {
    let message = InboxMessage {
        seq: Seq(row.get(0)?),
        epoch: row.get::<_, i64>(1)?.cast_unsigned(),
        qos: row.get(2)?,
        received_at: Millis(row.get(3)?),
        header: blob(row, 5)?,
        payload: blob(row, 6)?,
    };
    Ok((message, row.get(4)?))
}

fn sent(row: &Row<'_>) -> rusqlite::Result<Checked<OutboxMessage>> {
    let message = OutboxMessage {
        seq: Seq(row.get(0)?),
        policy: row.get(1)?,
        created_at: Millis(row.get(2)?),
        expires_at: row.get::<_, Option<u64>>(3)?.map(Millis),
        header: blob(row, 5)?,
        payload: blob(row, 6)?,
    };
    Ok((message, row.get(4)?))
}

pub(crate) fn session_checksum(key: Key, format: u32, state: &[u8]) -> i64 {
    Checksum::new(SESSION).with(bytes_of(key)).with(format.into()).with_bytes(state).value()
}

pub(crate) fn ledger_checksum(key: Key, counters: &[u8]) -> i64 {
    Checksum::new(LEDGER).with(bytes_of(key)).with_bytes(counters).value()
}

fn received_checksum(key: Key, message: &InboxMessage) -> i64 {
    let InboxMessage { seq, epoch, qos, received_at, header, payload } = message;
    let sum = Checksum::new(INBOX).with(bytes_of(key)).with(stored(seq.0)).with(*epoch).with((*qos).into());
    sum.with(stored(received_at.0)).with_bytes(header).with_bytes(payload).value()
}

fn sent_checksum(key: Key, message: &OutboxMessage) -> i64 {
    let OutboxMessage { seq, policy, created_at, expires_at, header, payload } = message;
    let sum = Checksum::new(OUTBOX).with(bytes_of(key)).with(stored(seq.0)).with((*policy).into());
    let sum = sum.with(stored(created_at.0)).with(expires_at.map_or(u64::MAX, |at| stored(at.0)));
    sum.with_bytes(header).with_bytes(payload).value()
}

fn letter_checksum(key: Key, id: i64, letter: &DeadLetter) -> i64 {
    let DeadLetter { direction, epoch, qos, policy, header, payload, reason, at } = letter;
    let sum = Checksum::new(DEAD_LETTER).with(bytes_of(id)).with(bytes_of(key));
    let sum = sum.with((*direction == Direction::Sent).into()).with(*epoch).with((*qos).into()).with((*policy).into());
    sum.with(stored(at.0)).with_bytes(reason.as_bytes()).with_bytes(header).with_bytes(payload).value()
}

pub(crate) fn blob(row: &Row<'_>, column: usize) -> rusqlite::Result<Bytes> {
    row.get::<_, Vec<u8>>(column).map(Bytes::from)
}

pub(crate) fn size(header: &[u8], payload: &[u8]) -> u64 {
    (header.len() + payload.len()) as u64
}

fn bytes_of(key: i64) -> u64 {
    key.cast_unsigned()
}

/// All 64 bits, as SQLite's signed number.
pub(crate) fn bits(value: u64) -> i64 {
    value.cast_signed()
}

/// A time or seq as it is stored.
pub(crate) fn clamp(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn stored(value: u64) -> u64 {
    bytes_of(clamp(value))
}
