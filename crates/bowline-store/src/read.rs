//! What can be asked. Every answer is the state after some commit, checked against its checksums.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::Connection;

use crate::device::{DeviceRow, Held, Key};
use crate::error::Failure;
use crate::rows::{self, LETTER, Letter, bits};
use crate::{DeadId, DeadLetterEntry, Device, DeviceSummary, Queue, Seq, directory};

/// The names of all devices, in order.
pub(crate) fn names(db: &mut Connection) -> Result<Vec<Arc<str>>, Failure> {
    let db = &db.transaction()?;
    Ok(directory::all(db)?.into_iter().map(|(name, _)| name).collect())
}

/// All devices, by id.
pub(crate) fn devices(db: &mut Connection) -> Result<Vec<DeviceSummary>, Failure> {
    // One state for all that follows. Dropping it ends it.
    let db = &db.transaction()?;
    all(db)?.iter().map(|row| summary(db, row).map_err(|failure| failure.of(&row.name))).collect()
}

/// The counts of one device.
pub(crate) fn one_summary(db: &mut Connection, name: &str) -> Result<Option<DeviceSummary>, Failure> {
    let db = &db.transaction()?;
    let Some(row) = row(db, name)? else { return Ok(None) };
    summary(db, &row).map(Some).map_err(|failure| failure.of(name))
}

/// What the device's row says, if it agrees with the rows it counts.
fn summary(db: &Connection, row: &DeviceRow) -> Result<DeviceSummary, Failure> {
    for (queue, expected) in [Queue::Inbox, Queue::Outbox].map(|queue| (queue, row.queue(queue).held)) {
        if expected.count > 0 {
            let found = rows::held(db, row.key, queue);
            found.and_then(|found| rows::complete(found, expected)).map_err(|failure| failure.in_table(queue))?;
        }
        in_place(row, queue, rows::ends(db, row.key, queue)?)?;
    }
    if row.dead.count > 0 {
        let letters = rows::held_letters(db, row.key)?;
        rows::complete(letters.into_iter().map(|(_, held)| held).sum(), row.dead)
            .map_err(|failure| failure.in_table("dead_letter"))?;
    }
    Ok(row.summary())
}

/// Whether a queue's first and last message are where it begins and ends.
fn in_place(row: &DeviceRow, queue: Queue, ends: Option<(Seq, Seq)>) -> Result<(), Failure> {
    let place = row.queue(queue);
    // Also in rows that are whole: what was to be deleted and was hidden at that time is still there.
    if place.cursor > place.last
        || place.last > Seq::MAX.0
        || ends.is_some_and(|(first, last)| !place.holds(first, last))
    {
        return Err(Failure::damaged("its messages are not where it begins and ends").in_table(queue));
    }
    Ok(())
}

/// Everything of one device.
pub(crate) fn device(db: &mut Connection, name: &str) -> Result<Option<Device>, Failure> {
    let db = &db.transaction()?;
    let Some(row) = row(db, name)? else { return Ok(None) };
    load(db, &row).map(Some).map_err(|failure| failure.of(name))
}

fn load(db: &Connection, row: &DeviceRow) -> Result<Device, Failure> {
    let session = rows::session(db, row.key, row.session).map_err(|failure| failure.in_table("session"))?;
    let ledger = rows::ledger(db, row.key, row.ledger).map_err(|failure| failure.in_table("ledger"))?;
    let inbox = rows::inbox(db, row.key, row.inbox.held).map_err(|failure| failure.in_table(Queue::Inbox))?;
    let outbox = rows::outbox(db, row.key, row.outbox.held).map_err(|failure| failure.in_table(Queue::Outbox))?;
    let ends = |seqs: [Option<Seq>; 2]| seqs[0].zip(seqs[1]);
    let inbox_ends = ends([inbox.first(), inbox.last()].map(|message| message.map(|message| message.seq)));
    let outbox_ends = ends([outbox.first(), outbox.last()].map(|message| message.map(|message| message.seq)));
    for (queue, ends) in [(Queue::Inbox, inbox_ends), (Queue::Outbox, outbox_ends)] {
        in_place(row, queue, ends)?;
    }
    Ok(Device {
        summary: row.summary(),
        session,
        ledger,
        inbox_last: Seq(row.inbox.last),
        inbox_cursor: Seq(row.inbox.cursor),
        outbox_last: Seq(row.outbox.last),
        inbox,
        outbox,
    })
}

/// Dead letters of one device or of all, oldest first.
pub(crate) fn dead_letters(db: &mut Connection, device: Option<&str>) -> Result<Vec<DeadLetterEntry>, Failure> {
    let db = &db.transaction()?;
    let Some(name) = device else { return all_letters(db) };
    let Some(row) = row(db, name)? else { return Ok(Vec::new()) };
    let sql = format!("{LETTER} WHERE device = ?1 ORDER BY id");
    let letters = letters(db, &sql, &[row.key]).map_err(|failure| failure.of(name))?;
    letters_complete(letters.iter().map(Letter::held).sum(), &row)?;
    Ok(letters.into_iter().map(|letter| entry(letter, &row.name)).collect())
}

/// One dead letter.
pub(crate) fn dead_letter(db: &mut Connection, id: DeadId) -> Result<Option<DeadLetterEntry>, Failure> {
    let db = &db.transaction()?;
    Ok(letter(db, id)?.map(|(device, letter)| entry(letter, &device)))
}

/// A dead letter and whose it is. That it is not there is true only if none is missing.
pub(crate) fn letter(db: &Connection, id: DeadId) -> Result<Option<(Arc<str>, Letter)>, Failure> {
    let found = letters(db, &format!("{LETTER} WHERE id = ?1"), &[bits(id.0)])?.pop();
    match found {
        Some(letter) => Ok(Some((DeviceRow::load(db, letter.key)?.name, letter))),
        None => all_letters(db).map(|_| None),
    }
}

/// Reads all there is, and finds nothing wrong.
pub(crate) fn check(db: &Connection) -> Result<(), Failure> {
    directory::Numbers::load(db)?;
    let devices = all(db)?;
    for device in &devices {
        load(db, device).map_err(|failure| failure.of(&device.name))?;
    }
    all_letters(db).map(drop)
}

fn all_letters(db: &Connection) -> Result<Vec<DeadLetterEntry>, Failure> {
    let mut devices: HashMap<Key, (DeviceRow, Held)> =
        all(db)?.into_iter().map(|row| (row.key, (row, Held::default()))).collect();
    let mut entries = Vec::new();
    for letter in letters(db, &format!("{LETTER} ORDER BY id"), &[])? {
        let Some((row, held)) = devices.get_mut(&letter.key) else {
            let wrong = format!("row {} belongs to no device", letter.id);
            return Err(Failure::damaged(wrong).in_table("dead_letter"));
        };
        *held = held.with(letter.held());
        entries.push(entry(letter, &row.name));
    }
    for (row, held) in devices.into_values() {
        letters_complete(held, &row)?;
    }
    Ok(entries)
}

fn letters_complete(found: Held, row: &DeviceRow) -> Result<(), Failure> {
    rows::complete(found, row.dead).map_err(|failure| failure.in_table("dead_letter").of(&row.name))
}

fn letters(db: &Connection, sql: &str, values: &[i64]) -> Result<Vec<Letter>, Failure> {
    let mut select = db.prepare_cached(sql)?;
    let mut rows = select.query(rusqlite::params_from_iter(values))?;
    let mut letters: Vec<Letter> = Vec::new();
    while let Some(row) = rows.next()? {
        letters.push(rows::letter(row).map_err(|failure| failure.in_table("dead_letter"))?);
    }
    rows::in_order(letters.iter().map(|letter| letter.id))?;
    Ok(letters)
}

fn all(db: &Connection) -> Result<Vec<DeviceRow>, Failure> {
    directory::all(db)?.iter().map(|(name, key)| of_directory(db, name, *key)).collect()
}

/// The row of a device, if it is known.
pub(crate) fn row(db: &Connection, name: &str) -> Result<Option<DeviceRow>, Failure> {
    directory::find(db, name)?.map(|key| of_directory(db, name, key)).transpose()
}

fn of_directory(db: &Connection, name: &str, key: Key) -> Result<DeviceRow, Failure> {
    match DeviceRow::load(db, key) {
        Ok(row) if &*row.name == name => Ok(row),
        Ok(_) => Err(Failure::damaged("the row is another device's").in_table("device").of(name)),
        Err(failure) => Err(failure.of(name)),
    }
}

fn entry(letter: Letter, device: &Arc<str>) -> DeadLetterEntry {
    DeadLetterEntry { id: DeadId(letter.id.cast_unsigned()), device: Arc::clone(device), letter: letter.letter }
}
