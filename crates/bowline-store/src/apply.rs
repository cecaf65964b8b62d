//! What each change does to the database. The only place that changes rows.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::read::{bits, dead_letter};
use crate::{
    Change, CommitError, Committed, DeadId, DeadLetter, Direction, Forgotten, InboxMessage, Limits, Millis,
    OutboxMessage, Queue, Quota, QuotaUnit, Seq, Transaction,
};

/// Why a transaction was not applied.
pub(crate) enum Fault {
    /// By its own fault: its neighbours go on.
    Own(CommitError),
    /// The engine failed, and all transactions of the group with it.
    Engine(rusqlite::Error),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        match CommitError::engine(&error) {
            own @ CommitError::Refused { .. } => Fault::Own(own),
            _ => Fault::Engine(error),
        }
    }
}

impl From<CommitError> for Fault {
    fn from(error: CommitError) -> Self {
        Fault::Own(error)
    }
}

/// Rows of devices that were looked up before. After a rollback it must forget them: they may not be there.
#[derive(Debug, Default)]
pub(crate) struct Known(HashMap<Arc<str>, Key>);

impl Known {
    pub(crate) fn forget_all(&mut self) {
        self.0.clear();
    }

    fn add(&mut self, device: &Arc<str>, key: Key) {
        if self.0.len() >= KNOWN {
            self.0.clear();
        }
        self.0.insert(Arc::clone(device), key);
    }
}

/// Most rows known.
const KNOWN: usize = 4096;

/// Applies all changes. After an error some of them are applied: the caller rolls back.
pub(crate) fn apply(
    db: &Connection,
    limits: &Limits,
    known: &mut Known,
    transaction: &Transaction,
) -> Result<Committed, Fault> {
    let mut apply = Apply { db, limits, done: Committed::default(), known };
    for run in transaction.changes.chunk_by(is_run) {
        match run {
            [change] => apply.change(change)?,
            run => apply.messages(run)?,
        }
    }
    Ok(apply.done)
}

/// Whether both are messages for the end of the same queue, in order.
fn is_run(one: &Change, next: &Change) -> bool {
    match (queued(one), queued(next)) {
        (Some((device, queue, seq, _)), Some((other, same, next, _))) => device == other && queue == same && seq < next,
        _ => false,
    }
}

/// Of a message for the end of a queue: whose, which queue, its number and its bytes.
fn queued(change: &Change) -> Option<(&Arc<str>, Queue, Seq, usize)> {
    match change {
        Change::Receive { device, message } => {
            Some((device, Queue::Inbox, message.seq, message.header.len() + message.payload.len()))
        }
        Change::Send { device, message } => {
            Some((device, Queue::Outbox, message.seq, message.header.len() + message.payload.len()))
        }
        _ => None,
    }
}

struct Apply<'a> {
    db: &'a Connection,
    limits: &'a Limits,
    done: Committed,
    known: &'a mut Known,
}

/// A device's row.
type Key = i64;

/// Messages to come to the end of a queue, in order.
struct Growth {
    first: Seq,
    last: Seq,
    count: u64,
    /// Their bytes.
    size: u64,
}

impl Growth {
    fn one(seq: Seq, size: usize) -> Self {
        Growth { first: seq, last: seq, count: 1, size: size as u64 }
    }
}

impl Apply<'_> {
    fn change(&mut self, change: &Change) -> Result<(), Fault> {
        match change {
            Change::Device { device, persistent, seen } => {
                let sql = "INSERT INTO device (name, persistent, last_seen) VALUES (?1, ?2, ?3) ON CONFLICT (name) \
                           DO UPDATE SET persistent = ?2, last_seen = max(last_seen, ?3)";
                self.run(sql, params![device, persistent, millis(*seen)])?;
                Ok(())
            }
            Change::Expect { device, queue, last: expected } => {
                let (_, last, ..) = self.queue(device, *queue)?;
                let (device, queue, expected) = (Arc::clone(device), *queue, *expected);
                match last == expected {
                    true => Ok(()),
                    false => Err(CommitError::Unexpected { device, queue, last, expected }.into()),
                }
            }
            Change::Session { device, format, state } => {
                let key = self.key(device)?;
                self.run(
                    "REPLACE INTO session (device, format, state) VALUES (?1, ?2, ?3)",
                    params![key, format, state],
                )?;
                Ok(())
            }
            Change::Ledger { device, counters } => {
                let key = self.key(device)?;
                self.run("REPLACE INTO ledger (device, counters) VALUES (?1, ?2)", params![key, counters])?;
                Ok(())
            }
            Change::Receive { device, message } => self.receive(device, message),
            Change::Processed { device, through } => self.take_through(device, Queue::Inbox, *through),
            Change::TakeReceived { device, seq } => self.take_one(device, Queue::Inbox, *seq),
            Change::Send { device, message } => self.send(device, message),
            Change::Acked { device, through } => self.take_through(device, Queue::Outbox, *through),
            Change::TakeSent { device, seq } => self.take_one(device, Queue::Outbox, *seq),
            Change::Bury { device, letter } => self.bury(device, letter),
            Change::RetryDead { id, seq, now } => self.retry(*id, *seq, *now),
            Change::DropDead { id } => self.unbury(*id).map(drop),
            Change::ExpireDead { before } => self.expire_dead(*before),
            Change::Forget { device } => match self.find(device)? {
                Some(key) => self.forget(key),
                None => Ok(()),
            },
            Change::ForgetTemporary { before } => {
                let sql = "SELECT id FROM device WHERE persistent = 0 AND last_seen < ?1";
                let mut select = self.db.prepare_cached(sql)?;
                let keys: Vec<Key> =
                    select.query_map([millis(*before)], |row| row.get(0))?.collect::<Result<_, rusqlite::Error>>()?;
                keys.into_iter().try_for_each(|key| self.forget(key))
            }
        }
    }

    fn receive(&mut self, device: &Arc<str>, message: &InboxMessage) -> Result<(), Fault> {
        let size = message.header.len() + message.payload.len();
        let key = self.grow(device, Queue::Inbox, &Growth::one(message.seq, size))?;
        Ok(self.insert_received(key, message)?)
    }

    fn insert_received(&self, key: Key, message: &InboxMessage) -> rusqlite::Result<()> {
        let InboxMessage { seq, epoch, qos, received_at, header, payload } = message;
        let sql = "INSERT INTO inbox (device, seq, epoch, qos, received_at, header, payload) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        self.run(sql, params![key, number(*seq), bits(*epoch), qos, millis(*received_at), &header[..], &payload[..]])?;
        Ok(())
    }

    fn send(&mut self, device: &Arc<str>, message: &OutboxMessage) -> Result<(), Fault> {
        let size = message.header.len() + message.payload.len();
        let key = self.grow(device, Queue::Outbox, &Growth::one(message.seq, size))?;
        Ok(self.insert_sent(key, message)?)
    }

    fn insert_sent(&self, key: Key, message: &OutboxMessage) -> rusqlite::Result<()> {
        let OutboxMessage { seq, policy, created_at, expires_at, header, payload } = message;
        let sql = "INSERT INTO outbox (device, seq, policy, created_at, expires_at, header, payload) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        let expires_at = expires_at.map(millis);
        self.run(sql, params![key, number(*seq), policy, millis(*created_at), expires_at, &header[..], &payload[..]])?;
        Ok(())
    }

    /// A run of messages for one queue. The device's row is written once for all of them, unless one of
    /// them does not fit: then one by one, which finds out which.
    fn messages(&mut self, run: &[Change]) -> Result<(), Fault> {
        let one_by_one = |apply: &mut Self| run.iter().try_for_each(|change| apply.change(change));
        let ends = run.first().and_then(queued).zip(run.last().and_then(queued));
        let Some(((device, queue, first, _), (.., last, _))) = ends else { return one_by_one(self) };
        let size = run.iter().filter_map(queued).map(|(.., size)| size as u64).sum();
        let key = self.key(device)?;
        if !self.has_grown(key, queue, &Growth { first, last, count: run.len() as u64, size })? {
            return one_by_one(self);
        }
        for change in run {
            match change {
                Change::Receive { message, .. } => self.insert_received(key, message)?,
                Change::Send { message, .. } => self.insert_sent(key, message)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Makes room for one more message in a queue, if its number and the quota allow.
    fn grow(&mut self, device: &Arc<str>, queue: Queue, growth: &Growth) -> Result<Key, Fault> {
        let key = self.key(device)?;
        if self.has_grown(key, queue, growth)? {
            return Ok(key);
        }
        Err(self.why_not(device, queue, growth.first, growth.size)?.into())
    }

    /// Makes room for messages in a queue, if their numbers and the quota allow. Says whether they do.
    fn has_grown(&self, key: Key, queue: Queue, growth: &Growth) -> rusqlite::Result<bool> {
        let quota = self.quota(queue);
        let sql = match queue {
            Queue::Inbox => {
                "UPDATE device SET inbox_last = ?3, inbox_count = inbox_count + ?4, inbox_bytes = inbox_bytes + ?5 \
                 WHERE id = ?1 AND inbox_last < ?2 AND inbox_count + ?4 <= ?6 AND inbox_bytes + ?5 <= ?7"
            }
            Queue::Outbox => {
                "UPDATE device SET outbox_last = ?3, outbox_count = outbox_count + ?4, outbox_bytes = outbox_bytes + ?5 \
                 WHERE id = ?1 AND outbox_last < ?2 AND outbox_count + ?4 <= ?6 AND outbox_bytes + ?5 <= ?7"
            }
        };
        let Growth { first, last, count, size } = *growth;
        let (count, size) = (clamp(count), clamp(size));
        let room = params![key, number(first), number(last), count, size, clamp(quota.count), clamp(quota.bytes)];
        Ok(i64::try_from(last.0).is_ok() && self.run(sql, room)? == 1)
    }

    fn why_not(&mut self, device: &Arc<str>, queue: Queue, seq: Seq, size: u64) -> Result<CommitError, Fault> {
        let (_, last, count, bytes) = self.queue(device, queue)?;
        let device = Arc::clone(device);
        if seq <= last || i64::try_from(seq.0).is_err() {
            return Ok(CommitError::OutOfOrder { device, queue, last, seq });
        }
        let Quota { count: messages, bytes: most } = self.quota(queue);
        let (unit, limit, needed) = if count >= messages {
            (QuotaUnit::Messages, messages, count + 1)
        } else {
            (QuotaUnit::Bytes, most, bytes.saturating_add(size))
        };
        Ok(CommitError::Quota { device, queue, unit, limit, needed })
    }

    /// A queue's device, highest number, count and bytes.
    fn queue(&mut self, device: &Arc<str>, queue: Queue) -> Result<(Key, Seq, u64, u64), Fault> {
        let key = self.key(device)?;
        let sql = match queue {
            Queue::Inbox => "SELECT inbox_last, inbox_count, inbox_bytes FROM device WHERE id = ?1",
            Queue::Outbox => "SELECT outbox_last, outbox_count, outbox_bytes FROM device WHERE id = ?1",
        };
        let get = |row: &Row<'_>| Ok((key, Seq(row.get(0)?), row.get(1)?, row.get(2)?));
        Ok(self.db.prepare_cached(sql)?.query_row([key], get)?)
    }

    /// Removes messages up to `through`, which is the queue's cursor from now on.
    fn take_through(&mut self, device: &Arc<str>, queue: Queue, through: Seq) -> Result<(), Fault> {
        let key = self.key(device)?;
        let (count, bytes) = self.delete(key, queue, Seq(0), through)?;
        let sql = match queue {
            Queue::Inbox => {
                "UPDATE device SET inbox_count = inbox_count - ?2, inbox_bytes = inbox_bytes - ?3, \
                 inbox_cursor = max(inbox_cursor, ?4) WHERE id = ?1 AND inbox_last >= ?4"
            }
            Queue::Outbox => {
                "UPDATE device SET outbox_count = outbox_count - ?2, outbox_bytes = outbox_bytes - ?3 \
                 WHERE id = ?1 AND outbox_last >= ?4"
            }
        };
        if i64::try_from(through.0).is_ok() && self.run(sql, params![key, count, bytes, number(through)])? == 1 {
            return Ok(());
        }
        // Messages still to come would count as done.
        let (_, last, ..) = self.queue(device, queue)?;
        Err(CommitError::Ahead { device: Arc::clone(device), queue, last, through }.into())
    }

    fn take_one(&mut self, device: &Arc<str>, queue: Queue, seq: Seq) -> Result<(), Fault> {
        let key = self.key(device)?;
        let Some(before) = seq.0.checked_sub(1) else { return Ok(()) };
        let (count, bytes) = self.delete(key, queue, Seq(before), seq)?;
        if count > 0 {
            let sql = match queue {
                Queue::Inbox => {
                    "UPDATE device SET inbox_count = inbox_count - ?2, inbox_bytes = inbox_bytes - ?3 WHERE id = ?1"
                }
                Queue::Outbox => {
                    "UPDATE device SET outbox_count = outbox_count - ?2, outbox_bytes = outbox_bytes - ?3 WHERE id = ?1"
                }
            };
            self.run(sql, params![key, count, bytes])?;
        }
        Ok(())
    }

    /// Removes messages after `after` up to `through`, and says how many they were and their bytes: the
    /// caller corrects the device's counts.
    fn delete(&mut self, key: Key, queue: Queue, after: Seq, through: Seq) -> rusqlite::Result<(u64, u64)> {
        let (count, delete) = match queue {
            Queue::Inbox => (
                "SELECT count(*), ifnull(sum(length(header) + length(payload)), 0) FROM inbox \
                 WHERE device = ?1 AND seq > ?2 AND seq <= ?3",
                "DELETE FROM inbox WHERE device = ?1 AND seq > ?2 AND seq <= ?3",
            ),
            Queue::Outbox => (
                "SELECT count(*), ifnull(sum(length(header) + length(payload)), 0) FROM outbox \
                 WHERE device = ?1 AND seq > ?2 AND seq <= ?3",
                "DELETE FROM outbox WHERE device = ?1 AND seq > ?2 AND seq <= ?3",
            ),
        };
        let range = params![key, number(after), number(through)];
        let (count, bytes): (u64, u64) =
            self.db.prepare_cached(count)?.query_row(range, |row| Ok((row.get(0)?, row.get(1)?)))?;
        if count > 0 {
            self.run(delete, range)?;
            self.done.taken += count;
        }
        Ok((count, bytes))
    }

    fn bury(&mut self, device: &Arc<str>, letter: &DeadLetter) -> Result<(), Fault> {
        let key = self.key(device)?;
        let DeadLetter { direction, epoch, qos, policy, header, payload, reason, at } = letter;
        let sent = *direction == Direction::Sent;
        let sql = "INSERT INTO dead_letter (device, sent, epoch, qos, policy, header, payload, reason, at) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
        self.run(sql, params![key, sent, bits(*epoch), qos, policy, &header[..], &payload[..], reason, millis(*at)])?;
        self.done.buried.push(DeadId(self.db.last_insert_rowid().cast_unsigned()));
        let size = header.len() + payload.len();
        let sql = "UPDATE device SET dead_count = dead_count + 1, dead_bytes = dead_bytes + ?2 WHERE id = ?1 \
                   RETURNING dead_count, dead_bytes";
        let (mut count, mut bytes): (u64, u64) =
            self.db.prepare_cached(sql)?.query_row(params![key, size], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let quota = self.limits.dead_letters;
        while count > quota.count || bytes > quota.bytes {
            let sql =
                "SELECT id, length(header) + length(payload) FROM dead_letter WHERE device = ?1 ORDER BY id LIMIT 1";
            let oldest =
                self.db.prepare_cached(sql)?.query_row([key], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
            let Some((id, size)): Option<(i64, u64)> = oldest else { break };
            self.drop_dead(id, key, size)?;
            (count, bytes) = (count.saturating_sub(1), bytes.saturating_sub(size));
        }
        Ok(())
    }

    fn expire_dead(&mut self, before: Millis) -> Result<(), Fault> {
        let sql = "SELECT id, device, length(header) + length(payload) FROM dead_letter WHERE at < ?1";
        let mut select = self.db.prepare_cached(sql)?;
        let get = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
        let old: Vec<(i64, Key, u64)> =
            select.query_map([millis(before)], get)?.collect::<Result<_, rusqlite::Error>>()?;
        old.into_iter().try_for_each(|(id, key, size)| self.drop_dead(id, key, size))
    }

    /// Drops a dead letter that nobody asked to be dropped.
    fn drop_dead(&mut self, id: i64, key: Key, size: u64) -> Result<(), Fault> {
        self.run("DELETE FROM dead_letter WHERE id = ?1", [id])?;
        let sql = "UPDATE device SET dead_count = dead_count - 1, dead_bytes = dead_bytes - ?2, \
                   dead_dropped = dead_dropped + 1 WHERE id = ?1";
        self.run(sql, params![key, size])?;
        self.done.dead_letters_dropped += 1;
        Ok(())
    }

    fn retry(&mut self, id: DeadId, seq: Seq, now: Millis) -> Result<(), Fault> {
        let (device, letter) = self.unbury(id)?;
        let DeadLetter { epoch, qos, policy, header, payload, .. } = letter;
        match letter.direction {
            Direction::Received => {
                self.receive(&device, &InboxMessage { seq, epoch, qos, received_at: now, header, payload })
            }
            Direction::Sent => {
                let message = OutboxMessage { seq, policy, created_at: now, expires_at: None, header, payload };
                self.send(&device, &message)
            }
        }
    }

    /// Takes a dead letter out of the box.
    fn unbury(&mut self, id: DeadId) -> Result<(Arc<str>, DeadLetter), Fault> {
        let Some(entry) = dead_letter(self.db, id)? else {
            return Err(CommitError::UnknownDeadLetter { id }.into());
        };
        self.run("DELETE FROM dead_letter WHERE id = ?1", [bits(id.0)])?;
        let size = entry.letter.header.len() + entry.letter.payload.len();
        let sql = "UPDATE device SET dead_count = dead_count - 1, dead_bytes = dead_bytes - ?2 WHERE name = ?1";
        self.run(sql, params![entry.device, size])?;
        Ok((entry.device, entry.letter))
    }

    fn forget(&mut self, key: Key) -> Result<(), Fault> {
        // Its number may be the next device's.
        self.known.forget_all();
        let sql = "DELETE FROM device WHERE id = ?1 RETURNING name, inbox_count, outbox_count, dead_count";
        let forgotten = self.db.prepare_cached(sql)?.query_row([key], |row| {
            Ok(Forgotten { device: row.get(0)?, inbox: row.get(1)?, outbox: row.get(2)?, dead_letters: row.get(3)? })
        })?;
        for sql in [
            "DELETE FROM session WHERE device = ?1",
            "DELETE FROM ledger WHERE device = ?1",
            "DELETE FROM inbox WHERE device = ?1",
            "DELETE FROM outbox WHERE device = ?1",
            "DELETE FROM dead_letter WHERE device = ?1",
        ] {
            self.run(sql, [key])?;
        }
        self.done.forgotten.push(forgotten);
        Ok(())
    }

    fn key(&mut self, device: &Arc<str>) -> Result<Key, Fault> {
        match self.find(device)? {
            Some(key) => Ok(key),
            None => Err(CommitError::UnknownDevice { device: Arc::clone(device) }.into()),
        }
    }

    fn find(&mut self, device: &Arc<str>) -> rusqlite::Result<Option<Key>> {
        if let Some(key) = self.known.0.get(device) {
            return Ok(Some(*key));
        }
        let mut select = self.db.prepare_cached("SELECT id FROM device WHERE name = ?1")?;
        let found = select.query_row([device], |row| row.get(0)).optional()?;
        if let Some(key) = found {
            self.known.add(device, key);
        }
        Ok(found)
    }

    fn quota(&self, queue: Queue) -> Quota {
        match queue {
            Queue::Inbox => self.limits.inbox,
            Queue::Outbox => self.limits.outbox,
        }
    }

    fn run(&self, sql: &str, params: impl rusqlite::Params) -> rusqlite::Result<usize> {
        self.db.prepare_cached(sql)?.execute(params)
    }
}

fn number(seq: Seq) -> i64 {
    clamp(seq.0)
}

fn millis(time: Millis) -> i64 {
    clamp(time.0)
}

fn clamp(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
