//! The format of the database, and the way to it from earlier ones.

mod v2;
mod v3;

use std::path::Path;
use std::sync::OnceLock;

use rusqlite::{Connection, TransactionBehavior};

use crate::OpenError;
use crate::error::Failure;

/// Leads from one format to the next.
type Step = fn(&Connection) -> Result<(), Failure>;

/// SQLite's `application_id` of a store: "BOWL".
const APPLICATION: i64 = 0x424F_574C;

/// What leads from each format to the next, from an empty database (format 0) on. Never changed once
/// released, only added to: `tests/golden` keeps a store of every format.
///
/// Devices are rows of their own, apart from sessions and ledgers, because every message changes a
/// device's counts and a row is written whole. Counts and bytes always agree with the tables they
/// count. Epochs use all 64 bits and are stored as the signed number of the same bits.
///
/// Since format 2, every row has a checksum ([`Checksum`](crate::checksum::Checksum)), in it or in the device's row, which
/// also has the sums of the checksums of its messages; which devices there are is in the directory. So
/// each row vouches for those that it leads to.
///
/// Since format 3, a row of the inbox holds several messages ([`Batch`](crate::batch::Batch)).
const MIGRATIONS: &[Step] = &[|db| Ok(db.execute_batch(V1)?), v2::migrate, v3::migrate];

const V1: &str = "
    CREATE TABLE device (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        persistent INTEGER NOT NULL,
        last_seen INTEGER NOT NULL,
        inbox_last INTEGER NOT NULL DEFAULT 0,
        inbox_cursor INTEGER NOT NULL DEFAULT 0,
        inbox_count INTEGER NOT NULL DEFAULT 0,
        inbox_bytes INTEGER NOT NULL DEFAULT 0,
        outbox_last INTEGER NOT NULL DEFAULT 0,
        outbox_count INTEGER NOT NULL DEFAULT 0,
        outbox_bytes INTEGER NOT NULL DEFAULT 0,
        dead_count INTEGER NOT NULL DEFAULT 0,
        dead_bytes INTEGER NOT NULL DEFAULT 0,
        dead_dropped INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE TABLE session (
        device INTEGER PRIMARY KEY,
        format INTEGER NOT NULL,
        state BLOB NOT NULL
    ) STRICT;
    CREATE TABLE ledger (
        device INTEGER PRIMARY KEY,
        counters BLOB NOT NULL
    ) STRICT;
    CREATE TABLE inbox (
        device INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        epoch INTEGER NOT NULL,
        qos INTEGER NOT NULL,
        received_at INTEGER NOT NULL,
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
        header BLOB NOT NULL,
        payload BLOB NOT NULL,
        PRIMARY KEY (device, seq)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE dead_letter (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        device INTEGER NOT NULL,
        sent INTEGER NOT NULL,
        epoch INTEGER NOT NULL,
        qos INTEGER NOT NULL,
        policy INTEGER NOT NULL,
        header BLOB NOT NULL,
        payload BLOB NOT NULL,
        reason TEXT NOT NULL,
        at INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX dead_letter_device ON dead_letter (device, id);
    CREATE INDEX dead_letter_at ON dead_letter (at);
";

/// The newest format this version knows.
pub(crate) const FORMAT: i64 = MIGRATIONS.len() as i64;

/// What a database is, before anything in it is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Has no tables yet.
    Empty,
    /// A store of this format, 1 to [`FORMAT`].
    Store(i64),
}

/// Says what the database is, or why it is not to be touched.
pub(crate) fn recognise(connection: &Connection, file: &Path) -> Result<Kind, OpenError> {
    let number = |sql| connection.query_row(sql, (), |row| row.get::<_, i64>(0));
    let engine = |error| OpenError::engine(file, &error);
    let damaged = |detail: &str| OpenError::Damaged { file: file.to_owned(), detail: detail.into() };
    let application = number("PRAGMA application_id").map_err(engine)?;
    let found = number("PRAGMA user_version").map_err(engine)?;
    let objects = number("SELECT count(*) FROM sqlite_schema").map_err(engine)?;
    match (application, found) {
        (0, 0) if objects == 0 => Ok(Kind::Empty),
        (APPLICATION, 1..=FORMAT) => match is_whole(connection, found).map_err(engine)? {
            true => Ok(Kind::Store(found)),
            false => Err(damaged("its tables are not those of its format")),
        },
        (APPLICATION, ..=0) => Err(damaged("it says nothing of its format")),
        (APPLICATION, found) if found > FORMAT => Err(OpenError::Newer { file: file.to_owned(), found, known: FORMAT }),
        _ => Err(OpenError::Foreign { file: file.to_owned() }),
    }
}

/// Tables and indexes as SQLite keeps them.
type Schema = Vec<(String, String, String, Option<String>)>;

/// Whether all tables and indexes of this format are there, and as they were made: a column that has another
/// name or type because a bit has flipped reads as something else.
fn is_whole(connection: &Connection, format: i64) -> rusqlite::Result<bool> {
    static EXPECTED: [OnceLock<Schema>; MIGRATIONS.len()] = [const { OnceLock::new() }; MIGRATIONS.len()];
    // 1 to FORMAT.
    let (steps, place) = (&MIGRATIONS[..format as usize], &EXPECTED[format as usize - 1]);
    let expected = match place.get() {
        Some(expected) => expected,
        None => {
            let made = Connection::open_in_memory()?;
            let all = steps.iter().try_for_each(|step| step(&made));
            all.map_err(|failure| match failure {
                Failure::Engine(error) => error,
                Failure::Damaged(_) => rusqlite::Error::InvalidQuery,
            })?;
            let made = schema(&made)?;
            place.get_or_init(|| made)
        }
    };
    let found = schema(connection)?;
    Ok(expected.iter().all(|object| found.contains(object)))
}

fn schema(connection: &Connection) -> rusqlite::Result<Schema> {
    let mut select = connection.prepare("SELECT type, name, tbl_name, sql FROM sqlite_schema")?;
    select.query_map((), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?.collect()
}

/// Brings the database to the newest format, in one transaction.
pub(crate) fn migrate(connection: &mut Connection, from: Kind) -> Result<(), Failure> {
    let done = match from {
        Kind::Empty => 0,
        Kind::Store(FORMAT) => return Ok(()),
        // 1 to FORMAT.
        Kind::Store(format) => format as usize,
    };
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for step in &MIGRATIONS[done..] {
        step(&transaction)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    transaction.pragma_update(None, "user_version", FORMAT)?;
    Ok(transaction.commit()?)
}
