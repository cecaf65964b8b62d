//! The files: their lock, their permissions, and connections to them.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::{Durability, Limits, OpenError, read, schema};

/// How long another program may be in the way, such as somebody who looks into the database.
const PATIENCE: Duration = Duration::from_secs(2);

/// Prepared statements kept by a connection. More than the store has.
const STATEMENTS: usize = 64;

/// Where the database is, and the claim to it.
#[derive(Debug)]
pub(crate) struct Database {
    durability: Durability,
    /// The file, or the name of one in memory.
    file: PathBuf,
    /// Held while the store is open. `None` in memory.
    lock: Option<File>,
}

impl Database {
    /// Claims the folder. Creates it, and nothing in it but the lock.
    pub(crate) fn claim(folder: &Path, durability: Durability) -> Result<Self, OpenError> {
        if durability == Durability::Memory {
            static COUNT: AtomicU64 = AtomicU64::new(0);
            // The slash makes SQLite share it between connections.
            let name = format!("file:/bowline-{}?vfs=memdb", COUNT.fetch_add(1, Ordering::Relaxed));
            return Ok(Database { durability, file: name.into(), lock: None });
        }
        create_folder(folder)?;
        let lock = lock(folder)?;
        Ok(Database { durability, file: folder.join("bowline.db"), lock: Some(lock) })
    }

    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// The first connection of a process: finds out what is there, brings it to the newest format, and
    /// makes everything it finds durable.
    pub(crate) fn open(&self, limits: &Limits) -> Result<Connection, OpenError> {
        let file = &self.file;
        if self.durability != Durability::Memory {
            create_file(file)?;
        }
        let engine = |error: rusqlite::Error| OpenError::engine(file, &error);
        let mut connection = self.connect_unprepared().map_err(engine)?;
        let kind = schema::recognise(&connection, file)?;
        self.prepare(&connection).map_err(engine)?;
        if limits.check_at_open {
            let found: String =
                connection.query_row("PRAGMA integrity_check(1)", (), |row| row.get(0)).map_err(engine)?;
            if found != "ok" {
                return Err(OpenError::Damaged { file: file.clone(), detail: found });
            }
        }
        schema::migrate(&mut connection, kind).map_err(|failure| OpenError::failure(file, failure))?;
        if connection.is_readonly("main").map_err(engine)? {
            let detail = "it cannot be written: its header, or its permissions, say so".into();
            return Err(OpenError::Damaged { file: file.clone(), detail });
        }
        if limits.check_at_open {
            read::check(&connection).map_err(|failure| OpenError::failure(file, failure))?;
        }
        if !empty_log(&connection).map_err(engine)? {
            return Err(OpenError::Busy { file: file.clone() });
        }
        Ok(connection)
    }

    /// A further connection for writing.
    pub(crate) fn connect(&self) -> rusqlite::Result<Connection> {
        let connection = self.connect_unprepared()?;
        self.prepare(&connection)?;
        Ok(connection)
    }

    /// A further connection for reading.
    pub(crate) fn connect_reader(&self) -> rusqlite::Result<Connection> {
        let connection = self.connect()?;
        connection.pragma_update(None, "query_only", true)?;
        Ok(connection)
    }

    fn connect_unprepared(&self) -> rusqlite::Result<Connection> {
        let uri = if self.durability == Durability::Memory { OpenFlags::SQLITE_OPEN_URI } else { OpenFlags::empty() };
        let create = if self.durability == Durability::Memory { OpenFlags::SQLITE_OPEN_CREATE } else { uri };
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | uri | create;
        let connection = Connection::open_with_flags(&self.file, flags)?;
        connection.busy_timeout(PATIENCE)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        // Whoever closes says so: a connection that is dropped after a failure leaves the files alone.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        // What is bound to a statement is no reason to plan it anew: each does one thing in one way.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        // A damaged schema may not run anything.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        Ok(connection)
    }

    fn prepare(&self, connection: &Connection) -> rusqlite::Result<()> {
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        if self.durability == Durability::Memory {
            return Ok(());
        }
        let mode: String = connection.query_row("PRAGMA journal_mode=WAL", (), |row| row.get(0))?;
        debug_assert_eq!(mode, "wal");
        let synchronous = if self.durability == Durability::Fsync { "FULL" } else { "NORMAL" };
        connection.pragma_update(None, "synchronous", synchronous)?;
        // Where a plain `fsync` does not reach the disk (macOS).
        connection.pragma_update(None, "fullfsync", self.durability == Durability::Fsync)?;
        // The writer does it, where it sees whether it failed.
        connection.pragma_update(None, "wal_autocheckpoint", 0)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Some(lock) = &self.lock {
            // Closing alone would leave it to a child process that is just being started.
            let _ = lock.unlock();
        }
    }
}

/// Copies the whole write-ahead log into the database, syncs that, and empties the log. Says whether
/// that was possible; another program that reads prevents it.
///
/// What is in the log is not always on the disk: the system shows a new process what an old one wrote
/// without a sync, and pages whose sync failed. Later commits behind such pages would be lost with
/// them in a power cut. Copying writes everything anew.
pub(crate) fn empty_log(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |row| row.get::<_, i64>(0)).map(|busy| busy == 0)
}

fn create_folder(folder: &Path) -> Result<(), OpenError> {
    if folder.is_dir() {
        return Ok(());
    }
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder).map_err(|error| OpenError::io(folder, error))?;
    // SQLite syncs the names in the folder, nobody else the folder's own.
    #[cfg(unix)]
    if let Some(parent) = folder.canonicalize().ok().as_deref().and_then(Path::parent) {
        File::open(parent).and_then(|parent| parent.sync_all()).map_err(|error| OpenError::io(parent, error))?;
    }
    Ok(())
}

fn lock(folder: &Path) -> Result<File, OpenError> {
    let path = folder.join("bowline.lock");
    let mut file = private().open(&path).map_err(|error| OpenError::io(&path, error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // Only for the message.
            let _ = file.read_to_string(&mut holder);
            return Err(OpenError::Locked { folder: folder.to_owned(), holder: holder.trim().parse().ok() });
        }
        Err(TryLockError::Error(error)) => return Err(OpenError::io(&path, error)),
    }
    // On a full disk there is no name in it; the lock holds all the same.
    let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(file)
}

/// Makes sure that the database's file is there and nobody else's to read. SQLite gives the others the
/// same permissions.
fn create_file(path: &Path) -> Result<(), OpenError> {
    let io = |error| OpenError::io(path, error);
    let is_new = fs::metadata(path).map_or(true, |metadata| metadata.len() == 0);
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    if is_new && fs::metadata(&log).is_ok_and(|metadata| metadata.len() > 0) {
        // SQLite would take the log for an old one and delete it.
        return Err(OpenError::Damaged {
            file: path.to_owned(),
            detail: "it is empty or gone, but its log is not".into(),
        });
    }
    let file = private().open(path).map_err(io)?;
    #[cfg(unix)]
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600)).map_err(io)?;
    drop(file);
    Ok(())
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}
