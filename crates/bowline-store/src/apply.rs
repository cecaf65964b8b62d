//! What each change does to the database. The only place that changes rows.

use std::sync::Arc;

use rusqlite::{Connection, params};

use crate::batch::Batch;
use crate::device::{DeviceRow, Held, Key, QueueRow};
use crate::directory::{self, Numbers};
use crate::error::Failure;
use crate::known::Known;
use crate::rows::clamp;
use crate::{
    Change, CommitError, Committed, DeadId, DeadLetter, Direction, Forgotten, InboxMessage, Limits, Millis,
    OutboxMessage, Queue, Quota, QuotaUnit, Seq, Transaction, read, rows,
};

/// Why a transaction was not applied.
pub(crate) enum Fault {
    /// By its own fault, or by that of the rows it met: its neighbours go on.
    Own(CommitError),
    /// The engine failed, and all transactions of the group with it.
    Engine(rusqlite::Error),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        match CommitError::engine(&error) {
            own @ (CommitError::Refused { .. } | CommitError::Damaged { .. }) => Fault::Own(own),
            _ => Fault::Engine(error),
        }
    }
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Engine(error) => error.into(),
            Failure::Damaged(detail) => Fault::Own(CommitError::Damaged { detail }),
        }
    }
}

impl From<CommitError> for Fault {
    fn from(error: CommitError) -> Self {
        Fault::Own(error)
    }
}

/// Applies all changes. After an error some of them are applied: the caller rolls back, and [`Known`] forgets.
pub(crate) fn apply(
    db: &Connection,
    limits: &Limits,
    known: &mut Known,
    transaction: &Transaction,
) -> Result<Committed, Fault> {
    let mut apply = Apply { db, limits, done: Committed::default(), known };
    let mut changes = &transaction.changes[..];
    while let [change, rest @ ..] = changes {
        let Change::Receive { device, .. } = change else {
            apply.change(change)?;
            changes = rest;
            continue;
        };
        // Messages that come together share rows.
        let count = messages_of(device, changes).count();
        apply.receive(device, messages_of(device, changes))?;
        changes = &changes[count..];
    }
    apply.known.write(db)?;
    Ok(apply.done)
}

/// The messages of a device with which `changes` begin.
fn messages_of<'c>(device: &Arc<str>, changes: &'c [Change]) -> impl Iterator<Item = &'c InboxMessage> {
    changes.iter().map_while(move |change| match change {
        Change::Receive { device: of, message } if of == device => Some(message),
        _ => None,
    })
}

struct Apply<'a> {
    db: &'a Connection,
    limits: &'a Limits,
    done: Committed,
    known: &'a mut Known,
}

impl Apply<'_> {
    fn change(&mut self, change: &Change) -> Result<(), Fault> {
        match change {
            Change::Device { device, persistent, seen } => self.announce(device, *persistent, *seen),
            Change::Expect { device, queue, last: expected } => {
                let last = Seq(self.row(device)?.queue(*queue).last);
                let (device, queue, expected) = (Arc::clone(device), *queue, *expected);
                match last == expected {
                    true => Ok(()),
                    false => Err(CommitError::Unexpected { device, queue, last, expected }.into()),
                }
            }
            Change::Session { device, format, state } => {
                let db = self.db;
                let row = self.change_row(device)?;
                row.session = Some(rows::put_session(db, row.key, *format, state)?);
                Ok(())
            }
            Change::Ledger { device, counters } => {
                let db = self.db;
                let row = self.change_row(device)?;
                row.ledger = Some(rows::put_ledger(db, row.key, counters)?);
                Ok(())
            }
            Change::Receive { device, message } => self.receive(device, [message]),
            Change::Processed { device, through } => self.take_through(device, Queue::Inbox, *through),
            Change::TakeReceived { device, seq } => self.take_one(device, Queue::Inbox, *seq),
            Change::Send { device, message } => self.send(device, message),
            Change::Acked { device, through } => self.take_through(device, Queue::Outbox, *through),
            Change::TakeSent { device, seq } => self.take_one(device, Queue::Outbox, *seq),
            Change::Bury { device, letter } => self.bury(device, letter),
            Change::RetryDead { id, seq, now } => self.retry(*id, *seq, *now),
            Change::DropDead { id } => self.unbury(*id).map(drop),
            Change::ExpireDead { before } => self.expire_dead(*before),
            Change::Forget { device } => self.forget(device),
            Change::ForgetTemporary { before } => self.forget_temporary(*before),
        }
    }

    fn announce(&mut self, device: &Arc<str>, persistent: bool, seen: Millis) -> Result<(), Fault> {
        let (db, seen) = (self.db, clamp(seen.0).cast_unsigned());
        if let Some(row) = self.known.get(db, device)? {
            if row.persistent != persistent || row.last_seen < seen {
                let row = self.change_row(device)?;
                (row.persistent, row.last_seen) = (persistent, row.last_seen.max(seen));
            }
            return Ok(());
        }
        let mut numbers = Numbers::load(db)?;
        numbers.device += 1;
        numbers.store(db)?;
        directory::add(db, device, numbers.device)?;
        self.known.add(DeviceRow::new(numbers.device, Arc::clone(device), persistent, seen));
        Ok(())
    }

    /// Adds messages to the end of an inbox.
    fn receive<'m>(
        &mut self,
        device: &Arc<str>,
        messages: impl IntoIterator<Item = &'m InboxMessage>,
    ) -> Result<(), Fault> {
        let (db, limits) = (self.db, self.limits);
        let row = self.change_row(device)?;
        let key = row.key;
        let inbox = &mut row.inbox;
        let mut batch = Batch::default();
        for message in messages {
            let size = rows::size(&message.header, &message.payload);
            has_room(limits, device, Queue::Inbox, *inbox, message.seq, size)?;
            inbox.last = message.seq.0;
            inbox.held = inbox.held.with(Held { count: 1, bytes: size, sum: 0 });
            batch.push(message);
            if batch.is_full() {
                inbox.held.add_checksum(rows::insert_batch(db, key, &std::mem::take(&mut batch))?);
            }
        }
        if !batch.is_empty() {
            inbox.held.add_checksum(rows::insert_batch(db, key, &batch)?);
        }
        Ok(())
    }

    fn send(&mut self, device: &Arc<str>, message: &OutboxMessage) -> Result<(), Fault> {
        let (db, limits) = (self.db, self.limits);
        let row = self.change_row(device)?;
        let size = rows::size(&message.header, &message.payload);
        has_room(limits, device, Queue::Outbox, row.outbox, message.seq, size)?;
        row.outbox.last = message.seq.0;
        Ok(rows::insert_sent(db, row.key, message, &mut row.outbox.held)?)
    }

    /// Removes messages up to `through`, which is the queue's cursor from now on.
    fn take_through(&mut self, device: &Arc<str>, queue: Queue, through: Seq) -> Result<(), Fault> {
        let last = Seq(self.row(device)?.queue(queue).last);
        if through > last {
            // Messages still to come would count as done.
            return Err(CommitError::Ahead { device: Arc::clone(device), queue, last, through }.into());
        }
        self.delete(device, queue, Seq(0), through)?;
        if self.row(device)?.queue(queue).cursor < through.0 {
            self.change_row(device)?.queue_mut(queue).cursor = through.0;
        }
        Ok(())
    }

    fn take_one(&mut self, device: &Arc<str>, queue: Queue, seq: Seq) -> Result<(), Fault> {
        let Some(before) = seq.0.checked_sub(1) else { return Ok(()) };
        let row = self.row(device)?;
        let (key, held) = (row.key, row.queue(queue).held);
        self.delete(device, queue, Seq(before), seq)?;
        if held.count > 0 && self.row(device)?.queue(queue).held == held {
            // It is not there only if the others are all there is. All are read: where one stands is a bit, too, and so is
            // the way that leads there.
            let others = match queue {
                Queue::Inbox => rows::inbox(self.db, key, held).map(|all| all.iter().all(|message| message.seq != seq)),
                Queue::Outbox => {
                    rows::outbox(self.db, key, held).map(|all| all.iter().all(|message| message.seq != seq))
                }
            };
            if !others.map_err(|failure| failure.in_table(queue).of(device))? {
                let hidden = format!("message {seq} is there and is not found");
                return Err(Failure::damaged(hidden).in_table(queue).of(device).into());
            }
        }
        Ok(())
    }

    /// Removes messages after `after` up to `through`.
    fn delete(&mut self, device: &Arc<str>, queue: Queue, after: Seq, through: Seq) -> Result<(), Fault> {
        let db = self.db;
        let row = self.row(device)?;
        if row.queue(queue).held.count == 0 {
            return Ok(());
        }
        let (key, QueueRow { last, held, .. }) = (row.key, row.queue(queue));
        let Gone { rows, until, rest } = match queue {
            Queue::Inbox => leaving(db, key, after, through).map_err(|failure| failure.in_table(queue).of(device))?,
            Queue::Outbox => {
                // Each is read: one that damage gave a lower number is not acknowledged with those that have it.
                let rows = rows::each_sent(db, key, after, through, drop)
                    .map_err(|failure| failure.in_table(queue).of(device))?;
                Gone { rows, until: through, rest: Vec::new() }
            }
        };
        let takes_all = after == Seq(0) && through.0 >= last;
        let Some(mut left) = held.without(rows).filter(|left| !takes_all || left.count == 0) else {
            return Err(Failure::damaged("it holds other messages than were stored").in_table(queue).of(device).into());
        };
        if rows.count == 0 {
            return Ok(());
        }
        let sql = match queue {
            Queue::Inbox => "DELETE FROM inbox WHERE device = ?1 AND last > ?2 AND last <= ?3",
            Queue::Outbox => "DELETE FROM outbox WHERE device = ?1 AND seq > ?2 AND seq <= ?3",
        };
        let deleted = self.run(sql, params![key, clamp(after.0), clamp(until.0)])? as u64;
        if queue == Queue::Outbox && deleted != rows.count {
            return Err(Failure::damaged("others went than were read").in_table(queue).of(device).into());
        }
        let mut taken = rows.count;
        for batch in rest {
            let sum = rows::insert_batch(db, key, &batch)?;
            left = left.with(Held { count: batch.count, bytes: batch.bytes, sum });
            taken -= batch.count;
        }
        self.change_row(device)?.queue_mut(queue).held = left;
        self.done.taken += taken;
        Ok(())
    }

    fn bury(&mut self, device: &Arc<str>, letter: &DeadLetter) -> Result<(), Fault> {
        let (db, quota) = (self.db, self.limits.dead_letters);
        let mut numbers = Numbers::load(db)?;
        numbers.dead += 1;
        let row = self.change_row(device)?;
        rows::insert_letter(db, row.key, numbers.dead, letter, &mut row.dead)?;
        numbers.store(db)?;
        let is_full = row.dead.count > quota.count || row.dead.bytes > quota.bytes;
        self.done.buried.push(DeadId(numbers.dead.cast_unsigned()));
        if is_full {
            self.push_out(device)?;
        }
        Ok(())
    }

    /// Drops the oldest dead letters of a device that has too many.
    fn push_out(&mut self, device: &Arc<str>) -> Result<(), Fault> {
        let quota = self.limits.dead_letters;
        let row = self.row(device)?.clone();
        let letters = rows::held_letters(self.db, row.key).map_err(|failure| failure.of(device))?;
        let mut all = letters.iter().map(|(_, held)| *held).sum();
        // Only who sees all knows which are the oldest.
        rows::complete(all, row.dead).map_err(|failure| failure.in_table("dead_letter").of(device))?;
        for (id, held) in letters {
            if all.count <= quota.count && all.bytes <= quota.bytes {
                break;
            }
            // One that damage made older is not dropped for those that are.
            self.letter(DeadId(id.cast_unsigned()))?;
            self.drop_dead(id, device, held)?;
            all = self.row(device)?.dead;
        }
        Ok(())
    }

    fn expire_dead(&mut self, before: Millis) -> Result<(), Fault> {
        let mut select = self.db.prepare_cached("SELECT id FROM dead_letter WHERE at < ?1 ORDER BY id")?;
        let old: Vec<i64> =
            select.query_map([clamp(before.0)], |row| row.get(0))?.collect::<Result<_, rusqlite::Error>>()?;
        for id in old {
            // The index may lie.
            let (device, letter) = self.letter(DeadId(id.cast_unsigned()))?;
            if letter.letter.at >= before {
                return Err(Failure::damaged("its index by time").in_table("dead_letter").into());
            }
            self.drop_dead(id, &device, letter.held())?;
            self.known.write(self.db)?;
        }
        Ok(())
    }

    /// Drops a dead letter that nobody asked to be dropped.
    fn drop_dead(&mut self, id: i64, device: &Arc<str>, held: Held) -> Result<(), Fault> {
        self.take_letter(id, device, held)?;
        self.change_row(device)?.dead_dropped += 1;
        self.done.dead_letters_dropped += 1;
        Ok(())
    }

    fn retry(&mut self, id: DeadId, seq: Seq, now: Millis) -> Result<(), Fault> {
        let (device, letter) = self.unbury(id)?;
        let DeadLetter { epoch, qos, policy, header, payload, .. } = letter;
        match letter.direction {
            Direction::Received => {
                self.receive(&device, [&InboxMessage { seq, epoch, qos, received_at: now, header, payload }])
            }
            Direction::Sent => {
                let message = OutboxMessage { seq, policy, created_at: now, expires_at: None, header, payload };
                self.send(&device, &message)
            }
        }
    }

    /// Takes a dead letter out of the box.
    fn unbury(&mut self, id: DeadId) -> Result<(Arc<str>, DeadLetter), Fault> {
        let (device, letter) = self.letter(id)?;
        self.take_letter(letter.id, &device, letter.held())?;
        Ok((device, letter.letter))
    }

    /// A dead letter and whose it is.
    fn letter(&mut self, id: DeadId) -> Result<(Arc<str>, rows::Letter), Fault> {
        // What is read must know of all that was done.
        self.known.write(self.db)?;
        read::letter(self.db, id)?.ok_or_else(|| CommitError::UnknownDeadLetter { id }.into())
    }

    fn take_letter(&mut self, id: i64, device: &Arc<str>, held: Held) -> Result<(), Fault> {
        self.run("DELETE FROM dead_letter WHERE id = ?1", [id])?;
        let row = self.change_row(device)?;
        row.dead = row.dead.without(held).ok_or_else(|| {
            Failure::damaged("it holds other letters than were stored").in_table("dead_letter").of(device)
        })?;
        Ok(())
    }

    /// Also of a device that is damaged, as far as the engine finds its rows.
    fn forget(&mut self, device: &Arc<str>) -> Result<(), Fault> {
        let Some(key) = directory::find(self.db, device)? else { return Ok(()) };
        let letters = self.known.get(self.db, device).ok().flatten().map(|row| row.dead.count);
        self.known.remove(device);
        directory::remove(self.db, device)?;
        self.run("DELETE FROM device WHERE id = ?1", [key])?;
        self.run("DELETE FROM session WHERE device = ?1", [key])?;
        self.run("DELETE FROM ledger WHERE device = ?1", [key])?;
        let inbox = self.run("DELETE FROM inbox WHERE device = ?1", [key])? as u64;
        let outbox = self.run("DELETE FROM outbox WHERE device = ?1", [key])? as u64;
        let mut dead_letters = self.run("DELETE FROM dead_letter WHERE device = ?1", [key])? as u64;
        if letters != Some(dead_letters) {
            // Not all that there are, or nobody knows how many: none may be left that belongs to no device.
            dead_letters += self.run("DELETE FROM dead_letter NOT INDEXED WHERE device = ?1", [key])? as u64;
        }
        self.done.forgotten.push(Forgotten { device: Arc::clone(device), inbox, outbox, dead_letters });
        Ok(())
    }

    fn forget_temporary(&mut self, before: Millis) -> Result<(), Fault> {
        self.known.write(self.db)?;
        let mut select = self.db.prepare_cached("SELECT name FROM device WHERE persistent = 0 AND last_seen < ?1")?;
        let names: Vec<Arc<str>> =
            select.query_map([clamp(before.0)], |row| row.get(0))?.collect::<Result<_, rusqlite::Error>>()?;
        for name in names {
            // Nobody is forgotten by a flipped bit.
            let row = self.row(&name)?;
            if row.persistent || row.last_seen >= before.0 {
                return Err(Failure::damaged("the row and its checksum").in_table("device").of(&name).into());
            }
            self.forget(&name)?;
        }
        Ok(())
    }

    fn row(&mut self, device: &Arc<str>) -> Result<&mut DeviceRow, Fault> {
        let row = self.known.get(self.db, device)?;
        row.ok_or_else(|| CommitError::UnknownDevice { device: Arc::clone(device) }.into())
    }

    /// The row, which is written at the end.
    fn change_row(&mut self, device: &Arc<str>) -> Result<&mut DeviceRow, Fault> {
        let row = self.known.change(self.db, device)?;
        row.ok_or_else(|| CommitError::UnknownDevice { device: Arc::clone(device) }.into())
    }

    fn run(&self, sql: &str, params: impl rusqlite::Params) -> rusqlite::Result<usize> {
        self.db.prepare_cached(sql)?.execute(params)
    }
}

/// Whether the number of one more message and the quota of its queue allow it.
fn has_room(
    limits: &Limits,
    device: &Arc<str>,
    queue: Queue,
    QueueRow { last, held, .. }: QueueRow,
    seq: Seq,
    size: u64,
) -> Result<(), CommitError> {
    let device = || Arc::clone(device);
    if seq.0 <= last || seq > Seq::MAX {
        return Err(CommitError::OutOfOrder { device: device(), queue, last: Seq(last), seq });
    }
    let Quota { count: messages, bytes: most } = match queue {
        Queue::Inbox => limits.inbox,
        Queue::Outbox => limits.outbox,
    };
    let (count, bytes) = (held.count + 1, held.bytes.saturating_add(size));
    let (unit, limit, needed) = match (count > messages, bytes > most) {
        (true, _) => (QuotaUnit::Messages, messages, count),
        (false, true) => (QuotaUnit::Bytes, most, bytes),
        (false, false) => return Ok(()),
    };
    Err(CommitError::Quota { device: device(), queue, unit, limit, needed })
}

/// Rows of a queue that go.
struct Gone {
    rows: Held,
    /// The last message in them.
    until: Seq,
    /// Messages in them that stay: rows to be written anew.
    rest: Vec<Batch>,
}

/// What goes from an inbox with the messages after `after` up to `through`.
fn leaving(db: &Connection, key: Key, after: Seq, through: Seq) -> Result<Gone, Failure> {
    let mut gone = Gone { rows: Held::default(), until: after, rest: Vec::new() };
    for (heading, held) in rows::headings(db, key, after, through)? {
        if heading.first <= after.0 || heading.last > through.0 {
            let messages = rows::batch(db, key, heading)?;
            let stays = |message: &&InboxMessage| message.seq <= after || message.seq > through;
            let rest: Batch = messages.iter().filter(stays).collect();
            if rest.count == held.count {
                continue;
            }
            gone.rest.push(rest);
        }
        gone.rows = gone.rows.with(held);
        gone.until = Seq(heading.last);
    }
    Ok(gone)
}
