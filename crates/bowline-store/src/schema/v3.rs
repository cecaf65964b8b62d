//! From format 2 to format 3: rows of the inbox that hold several messages.

use std::collections::BTreeMap;

use rusqlite::{Connection, Row};

use super::v2;
use crate::batch::Batch;
use crate::device::{DeviceRow, Held, Key};
use crate::error::Failure;
use crate::rows;
use crate::{InboxMessage, Millis, Seq};

const TABLES: &str = "
    ALTER TABLE inbox RENAME TO old_inbox;
    CREATE TABLE inbox (
        device INTEGER NOT NULL,
        last INTEGER NOT NULL,
        first INTEGER NOT NULL,
        count INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        messages_sum INTEGER NOT NULL,
        checksum INTEGER NOT NULL,
        messages BLOB NOT NULL,
        PRIMARY KEY (device, last)
    ) STRICT, WITHOUT ROWID;
";

/// What the inbox of a device holds, as format 2 counts it and as this one does.
type Sums = BTreeMap<Key, (Held, Held)>;

/// Takes over all rows, each with its one message. What was damaged stays so, for its device to say when it is loaded.
pub(super) fn migrate(db: &Connection) -> Result<(), Failure> {
    db.execute_batch(TABLES)?;
    let mut sums = Sums::new();
    {
        let sql = "SELECT device, seq, epoch, qos, received_at, header, payload, checksum FROM old_inbox";
        let mut select = db.prepare(sql)?;
        let mut rows = select.query(())?;
        while let Some(row) = rows.next()? {
            // A number that cannot be is damage: without its row the device is not whole.
            let Ok((key, message, sum)) = received(row) else { continue };
            let batch: Batch = [&message].into_iter().collect();
            let (old, new) = sums.entry(key).or_default();
            old.add(batch.bytes, sum);
            let whole = batch.heading().checksum(key);
            new.add(batch.bytes, whole);
            let damaged = sum != v2::received_checksum(key, &message);
            rows::put_batch(db, key, &batch, whole.wrapping_add(damaged.into()))?;
        }
    }
    for (key, (old, new)) in sums {
        match DeviceRow::load(db, key) {
            Ok(mut row) => {
                let damaged = row.inbox.held != old;
                row.inbox.held.sum = new.sum.wrapping_add(damaged.into());
                row.store(db)?;
            }
            Err(Failure::Damaged(_)) => {}
            Err(engine) => return Err(engine),
        }
    }
    Ok(db.execute_batch("DROP TABLE old_inbox")?)
}

fn received(row: &Row<'_>) -> rusqlite::Result<(Key, InboxMessage, i64)> {
    let message = InboxMessage {
        seq: Seq(row.get(1)?),
        epoch: row.get::<_, i64>(2)?.cast_unsigned(),
        qos: row.get(3)?,
        received_at: Millis(row.get(4)?),
        header: rows::blob(row, 5)?,
        payload: rows::blob(row, 6)?,
    };
    Ok((row.get(0)?, message, row.get(7)?))
}
