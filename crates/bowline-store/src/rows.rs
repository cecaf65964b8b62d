//! The rows of a device: how each is written, read and checked.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::batch::{Batch, Heading};
use crate::checksum::Checksum;
use crate::device::{Held, Key};
use crate::error::Failure;
use crate::{DeadLetter, Direction, InboxMessage, Millis, OutboxMessage, Queue, Seq, SessionState};

const SESSION: u64 = 4;
const LEDGER: u64 = 5;
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

/// Adds a row to the inbox. Says its checksum.
pub(crate) fn insert_batch(db: &Connection, key: Key, batch: &Batch) -> rusqlite::Result<i64> {
    let sum = batch.heading().checksum(key);
    put_batch(db, key, batch, sum)?;
    Ok(sum)
}

/// As [`insert_batch`], whatever its checksum.
pub(crate) fn put_batch(db: &Connection, key: Key, batch: &Batch, sum: i64) -> rusqlite::Result<()> {
    let Heading { first, last, count, bytes, messages } = batch.heading();
    let sql = "INSERT INTO inbox (device, last, first, count, bytes, messages_sum, checksum, messages) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let [last, first, count, bytes] = [last, first, count, bytes].map(clamp);
    let values = params![key, last, first, count, bytes, messages, sum, batch.messages];
    db.prepare_cached(sql)?.execute(values).map(drop)
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
    let mut select = db.prepare_cached(
        "SELECT last, first, count, bytes, messages_sum, checksum, messages FROM inbox WHERE device = ?1 ORDER BY last",
    )?;
    let mut rows = select.query([key])?;
    let (mut found, mut messages) = (Held::default(), Vec::new());
    let mut before = 0;
    while let Some(row) = rows.next()? {
        let (heading, held) = heading(row, key)?;
        before = behind(before, heading.last, u64::MAX)?;
        messages.extend(heading.read(row.get(6)?).ok_or_else(|| spoiled_batch(heading))?);
        found = found.with(held);
    }
    complete(found, held)?;
    Ok(messages)
}

/// What a row of the inbox says of itself, and what it holds, if that is what was written.
fn heading(row: &Row<'_>, key: Key) -> Result<(Heading, Held), Failure> {
    let heading = Heading {
        last: row.get(0)?,
        first: row.get(1)?,
        count: row.get(2)?,
        bytes: row.get(3)?,
        messages: row.get(4)?,
    };
    let sum: i64 = row.get(5)?;
    if heading.checksum(key) != sum {
        return Err(spoiled_batch(heading));
    }
    Ok((heading, Held { count: heading.count, bytes: heading.bytes, sum }))
}

fn spoiled_batch(Heading { first, last, .. }: Heading) -> Failure {
    match first == last {
        true => spoiled(Seq(last)),
        false => Failure::damaged(format!("messages {first} to {last} do not match their checksum")),
    }
}

/// The rows of the inbox with messages behind `after`, up to `through`, in order.
pub(crate) fn headings(db: &Connection, key: Key, after: Seq, through: Seq) -> Result<Vec<(Heading, Held)>, Failure> {
    let sql = "SELECT last, first, count, bytes, messages_sum, checksum FROM inbox \
               WHERE device = ?1 AND last > ?2 ORDER BY last";
    let mut select = db.prepare_cached(sql)?;
    let mut rows = select.query([key, clamp(after.0)])?;
    let mut headings = Vec::new();
    let mut before = after.0;
    while let Some(row) = rows.next()? {
        let (heading, held) = heading(row, key)?;
        before = behind(before, heading.last, u64::MAX)?;
        if heading.first > through.0 {
            break;
        }
        headings.push((heading, held));
    }
    Ok(headings)
}

/// The messages of a row of the inbox.
pub(crate) fn batch(db: &Connection, key: Key, heading: Heading) -> Result<Vec<InboxMessage>, Failure> {
    let sql = "SELECT messages FROM inbox WHERE device = ?1 AND last = ?2";
    let messages = db.prepare_cached(sql)?.query_row([key, clamp(heading.last)], |row| row.get(0))?;
    heading.read(messages).ok_or_else(|| spoiled_batch(heading))
}

/// All messages of the outbox, in order.
pub(crate) fn outbox(db: &Connection, key: Key, held: Held) -> Result<Vec<OutboxMessage>, Failure> {
    let mut messages = Vec::new();
    let found = each_sent(db, key, Seq(0), Seq(u64::MAX), |message| messages.push(message))?;
    complete(found, held)?;
    Ok(messages)
}

/// A number that is read in order, up to `through`. Where SQLite finds a row is told by other bits than those that are read of it.
fn behind(before: u64, number: u64, through: u64) -> Result<u64, Failure> {
    match number > before && number <= through {
        true => Ok(number),
        false => Err(Failure::damaged(format!("message {number} is not in its place"))),
    }
}

/// Reads the messages of an outbox behind `after`, up to `through`, in order. Says what they are together.
pub(crate) fn each_sent(
    db: &Connection,
    key: Key,
    after: Seq,
    through: Seq,
    mut each: impl FnMut(OutboxMessage),
) -> Result<Held, Failure> {
    let sql = "SELECT seq, policy, created_at, expires_at, checksum, header, payload FROM outbox \
               WHERE device = ?1 AND seq > ?2 AND seq <= ?3 ORDER BY seq";
    let mut select = db.prepare_cached(sql)?;
    let mut rows = select.query([key, clamp(after.0), clamp(through.0)])?;
    let mut found = Held::default();
    let mut before = after.0;
    while let Some(row) = rows.next()? {
        let (message, sum) = sent(row)?;
        before = behind(before, message.seq.0, through.0)?;
        if sum != sent_checksum(key, &message) {
            return Err(spoiled(message.seq));
        }
        found.add(size(&message.header, &message.payload), sum);
        each(message);
    }
    Ok(found)
}

/// What there is of a queue, by the checksums that stand in its rows.
pub(crate) fn held(db: &Connection, key: Key, queue: Queue) -> Result<Held, Failure> {
    match queue {
        Queue::Inbox => Ok(headings(db, key, Seq(0), Seq(u64::MAX))?.into_iter().map(|(_, held)| held).sum()),
        Queue::Outbox => held_sent(db, key),
    }
}

/// The first and the last message of a queue.
pub(crate) fn ends(db: &Connection, key: Key, queue: Queue) -> Result<Option<(Seq, Seq)>, Failure> {
    let [first, last] = match queue {
        Queue::Inbox => [
            "SELECT first FROM inbox WHERE device = ?1 ORDER BY last LIMIT 1",
            "SELECT last FROM inbox WHERE device = ?1 ORDER BY last DESC LIMIT 1",
        ],
        Queue::Outbox => [
            "SELECT seq FROM outbox WHERE device = ?1 ORDER BY seq LIMIT 1",
            "SELECT seq FROM outbox WHERE device = ?1 ORDER BY seq DESC LIMIT 1",
        ],
    };
    let seq = |sql| db.prepare_cached(sql)?.query_row([key], |row| row.get(0).map(Seq)).optional();
    Ok(seq(first)?.zip(seq(last)?))
}

/// What there is of an outbox, by the checksums that stand in its rows.
fn held_sent(db: &Connection, key: Key) -> Result<Held, Failure> {
    let sql = "SELECT length(header) + length(payload), checksum FROM outbox WHERE device = ?1";
    let mut select = db.prepare_cached(sql)?;
    let mut rows = select.query([key])?;
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
    let letters = select.query_map([key], letter)?.collect::<rusqlite::Result<Vec<_>>>()?;
    in_order(letters.iter().map(|(id, _)| *id))?;
    Ok(letters)
}

/// Names of dead letters are read by an index, which may have another one for a letter than its row has: they do not come in order then.
pub(crate) fn in_order(ids: impl Iterator<Item = i64>) -> Result<(), Failure> {
    if ids.is_sorted_by(|before, next| before < next) {
        return Ok(());
    }
    Err(Failure::damaged("its index by device").in_table("dead_letter"))
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

pub(crate) fn bytes_of(key: i64) -> u64 {
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

pub(crate) fn stored(value: u64) -> u64 {
    bytes_of(clamp(value))
}
