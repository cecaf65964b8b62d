//! One file, open for writing.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OpenFlags, ToSql, TransactionBehavior, params};

use super::error::{OpenError, WriteError};
use super::payload::Value;
use super::schema;
use super::writer::Entry;

/// How long another program may be in the way, such as somebody who changes the file by hand.
const PATIENCE: Duration = Duration::from_secs(2);

/// Bytes of log that are kept when it is empty.
const LOG: i64 = 8 << 20;

/// Devices whose series are remembered; beyond it they are looked up again.
const DEVICES: usize = 4096;

/// A file of the record. Dropping it leaves its log to whoever opens it next; [`RecordFile::close`] does not.
pub(crate) struct RecordFile {
    connection: Connection,
    /// Ids of series, by device and name.
    series: HashMap<String, HashMap<String, i64>>,
    /// Series a device may have.
    limit: usize,
    /// Bytes, without the log.
    pub(crate) bytes: u64,
}

/// What a commit adds to a series.
struct Added {
    samples: i64,
    first_at: i64,
    last_at: i64,
    last_received_at: i64,
}

impl RecordFile {
    /// Opens the file at `path`, or makes it. `repair` after a commit that has failed: what the system shows
    /// of it may not be on the disk, and later commits behind it would go with it. So everything is written
    /// anew before anything is committed.
    pub(crate) fn open(path: &Path, sync: bool, limit: usize, repair: bool) -> Result<Self, OpenError> {
        create(path)?;
        let engine = |error: rusqlite::Error| OpenError::engine(path, &error);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(path, flags).map_err(engine)?;
        connection.busy_timeout(PATIENCE).map_err(engine)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(engine)?;
        // A damaged schema may not run anything.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true).map_err(engine)?;
        let kind = schema::recognise(&connection, path)?;
        prepare(&connection, sync).map_err(engine)?;
        if repair && !empty_log(&connection).map_err(engine)? {
            return Err(OpenError::io(path, "another program reads it while it is to be repaired: end that"));
        }
        schema::migrate(&mut connection, kind).map_err(engine)?;
        let bytes = size(&connection).map_err(engine)?;
        Ok(RecordFile { connection, series: HashMap::new(), limit, bytes })
    }

    /// The time of the message that came last, of those in here.
    pub(crate) fn last_received_at(&self) -> rusqlite::Result<Option<i64>> {
        self.connection.query_row("SELECT max(last_received_at) FROM series", (), |row| row.get(0))
    }

    /// Whether samples of the message are in here.
    pub(crate) fn has(&self, entry: &Entry) -> rusqlite::Result<bool> {
        let Some((name, _)) = entry.readings.values.first() else { return Ok(true) };
        let arrival = &entry.arrival;
        let sql = "SELECT 1 FROM sample WHERE series = (SELECT id FROM series WHERE device = ? AND name = ?)
                   AND at = ? AND received_at = ? AND seq = ?";
        let mut statement = self.connection.prepare_cached(sql)?;
        statement.exists(params![arrival.device, name, entry.at(), arrival.received_at, entry.number])
    }

    /// Writes the samples of these messages that are not there, in one transaction. Each has its own
    /// answer; an error for all means that nothing was written, as far as is known.
    pub(crate) fn write<'a>(
        &mut self,
        entries: impl Iterator<Item = &'a Entry>,
    ) -> rusqlite::Result<Vec<Result<(), WriteError>>> {
        if self.series.len() >= DEVICES {
            self.series.clear();
        }
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut added = HashMap::new();
        let mut answers = Vec::new();
        for entry in entries {
            answers.push(match find_series(&transaction, &mut self.series, entry, self.limit)? {
                Ok(series) => {
                    insert(&transaction, entry, &series, &mut added)?;
                    Ok(())
                }
                Err(error) => Err(error),
            });
        }
        count(&transaction, &added)?;
        transaction.commit()?;
        self.bytes = size(&self.connection)?;
        Ok(answers)
    }

    /// Leaves one file without a log, unless somebody reads it.
    pub(crate) fn close(self) {
        // The last connection copies and removes the log. If it cannot, the next one does.
        let _ = self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false);
    }
}

/// The ids of an entry's series, in its order. New ones are made, up to `limit` a device.
fn find_series(
    connection: &Connection,
    known: &mut HashMap<String, HashMap<String, i64>>,
    entry: &Entry,
    limit: usize,
) -> rusqlite::Result<Result<Vec<i64>, WriteError>> {
    let arrival = &entry.arrival;
    if !known.contains_key(&arrival.device) {
        let mut statement = connection.prepare_cached("SELECT name, id FROM series WHERE device = ?")?;
        let ids = statement.query_map([&arrival.device], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let ids = ids.collect::<rusqlite::Result<_>>()?;
        known.insert(arrival.device.clone(), ids);
    }
    // Just made, if it was not there.
    let ids = known.entry(arrival.device.clone()).or_default();
    let new = entry.readings.values.iter().filter(|(name, _)| !ids.contains_key(name)).count();
    let needed = ids.len() + new;
    if new > 0 && needed > limit {
        return Ok(Err(WriteError::TooManySeries { needed, limit }));
    }
    let mut found = Vec::with_capacity(entry.readings.values.len());
    for (name, _) in &entry.readings.values {
        let id = match ids.get(name) {
            Some(id) => *id,
            None => {
                let sql = "INSERT INTO series (device, name, samples, first_at, last_at, last_received_at)
                           VALUES (?1, ?2, 0, ?3, ?3, ?4)";
                let mut statement = connection.prepare_cached(sql)?;
                let id = statement.insert(params![arrival.device, name, entry.at(), arrival.received_at])?;
                ids.insert(name.clone(), id);
                id
            }
        };
        found.push(id);
    }
    Ok(Ok(found))
}

fn insert(
    connection: &Connection,
    entry: &Entry,
    series: &[i64],
    added: &mut HashMap<i64, Added>,
) -> rusqlite::Result<()> {
    let (at, received_at) = (entry.at(), entry.arrival.received_at);
    let sql = "INSERT OR IGNORE INTO sample (series, at, received_at, seq, value) VALUES (?, ?, ?, ?, ?)";
    let mut statement = connection.prepare_cached(sql)?;
    for (series, (_, value)) in series.iter().zip(&entry.readings.values) {
        if statement.execute(params![series, at, received_at, entry.number, value])? == 0 {
            // The message was handled before.
            continue;
        }
        let nothing = Added { samples: 0, first_at: at, last_at: at, last_received_at: received_at };
        let added = added.entry(*series).or_insert(nothing);
        added.samples += 1;
        added.first_at = added.first_at.min(at);
        added.last_at = added.last_at.max(at);
        added.last_received_at = added.last_received_at.max(received_at);
    }
    Ok(())
}

fn count(connection: &Connection, added: &HashMap<i64, Added>) -> rusqlite::Result<()> {
    let sql = "UPDATE series SET samples = samples + ?2, first_at = min(first_at, ?3), last_at = max(last_at, ?4),
               last_received_at = max(last_received_at, ?5) WHERE id = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    for (series, added) in added {
        let Added { samples, first_at, last_at, last_received_at } = added;
        statement.execute(params![series, samples, first_at, last_at, last_received_at])?;
    }
    Ok(())
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Value::Integer(value) => ValueRef::Integer(*value),
            Value::Real(value) => ValueRef::Real(*value),
            Value::Text(value) => ValueRef::Text(value.as_bytes()),
        }))
    }
}

/// Makes sure that the file is there and nobody else's to read. SQLite gives its log the same permissions.
fn create(path: &Path) -> Result<(), OpenError> {
    let mut options = std::fs::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop).map_err(|error| OpenError::io(path, error.to_string()))
}

fn prepare(connection: &Connection, sync: bool) -> rusqlite::Result<()> {
    let mode: String = connection.query_row("PRAGMA journal_mode=WAL", (), |row| row.get(0))?;
    debug_assert_eq!(mode, "wal");
    connection.pragma_update(None, "synchronous", if sync { "FULL" } else { "NORMAL" })?;
    // A log that grew while somebody read gives its space back.
    connection.pragma_update(None, "journal_size_limit", LOG)?;
    // Where a plain `fsync` does not reach the disk (macOS).
    connection.pragma_update(None, "fullfsync", sync)
}

/// Copies the whole log into the database and empties it. Says whether that was possible.
fn empty_log(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |row| row.get::<_, i64>(0)).map(|busy| busy == 0)
}

fn size(connection: &Connection) -> rusqlite::Result<u64> {
    let number = |sql| connection.prepare_cached(sql)?.query_row((), |row| row.get::<_, i64>(0));
    Ok((number("PRAGMA page_count")? * number("PRAGMA page_size")?).max(0).unsigned_abs())
}
