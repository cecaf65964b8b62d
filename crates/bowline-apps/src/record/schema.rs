//! The format of a file. `docs/apps/record.md` explains it to those who read it.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use super::error::OpenError;

/// SQLite's `application_id` of a record: "BOWR".
const APPLICATION: i64 = 0x424F_5752;

/// What leads from each format to the next, from an empty database (format 0) on. Never changed once
/// released, only added to.
///
/// A sample's key is its message: a message that is handled again meets its own rows. Samples are
/// clustered by series and time, which is how they are asked for. What a series holds is counted in its row,
/// so that nobody has to read all samples to know; it always agrees with them.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE series (
        id INTEGER PRIMARY KEY,
        device TEXT NOT NULL,
        name TEXT NOT NULL,
        samples INTEGER NOT NULL,
        first_at INTEGER NOT NULL,
        last_at INTEGER NOT NULL,
        last_received_at INTEGER NOT NULL,
        UNIQUE (device, name)
    ) STRICT;
    CREATE TABLE sample (
        series INTEGER NOT NULL REFERENCES series (id),
        at INTEGER NOT NULL,
        received_at INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        value ANY NOT NULL,
        PRIMARY KEY (series, at, received_at, seq)
    ) STRICT, WITHOUT ROWID;
    CREATE VIEW record AS
        SELECT
            strftime('%Y-%m-%dT%H:%M:%fZ', at / 1000.0, 'unixepoch') AS time,
            device, name AS series, value, at, received_at, iif(seq > 0, seq, NULL) AS seq
        FROM sample JOIN series ON series.id = sample.series;
"];

/// The newest format this version knows.
pub(crate) const FORMAT: i64 = MIGRATIONS.len() as i64;

/// What a database is, before anything in it is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Has no tables yet.
    Empty,
    /// A record of this format, 1 to [`FORMAT`].
    Record(i64),
}

/// Says what the database is, or why it is not to be touched.
pub(crate) fn recognise(connection: &Connection, file: &Path) -> Result<Kind, OpenError> {
    let number = |sql| connection.query_row(sql, (), |row| row.get::<_, i64>(0));
    let engine = |error| OpenError::engine(file, &error);
    let application = number("PRAGMA application_id").map_err(engine)?;
    let found = number("PRAGMA user_version").map_err(engine)?;
    let objects = number("SELECT count(*) FROM sqlite_schema").map_err(engine)?;
    match (application, found) {
        (0, 0) if objects == 0 => Ok(Kind::Empty),
        (APPLICATION, 1..=FORMAT) => Ok(Kind::Record(found)),
        (APPLICATION, found) if found > FORMAT => Err(OpenError::Newer { file: file.to_owned(), found, known: FORMAT }),
        _ => Err(OpenError::Foreign { file: file.to_owned() }),
    }
}

/// Brings the database to the newest format, in one transaction.
pub(crate) fn migrate(connection: &mut Connection, from: Kind) -> rusqlite::Result<()> {
    let done = match from {
        Kind::Empty => 0,
        Kind::Record(FORMAT) => return Ok(()),
        // 1 to FORMAT.
        Kind::Record(format) => format as usize,
    };
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for step in &MIGRATIONS[done..] {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    transaction.pragma_update(None, "user_version", FORMAT)?;
    transaction.commit()
}
