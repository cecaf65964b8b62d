//! What writes: in a thread of its own, or in that of a caller whose transaction is small.

use std::ops::Deref;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use crate::apply::{Fault, apply};
use crate::database::empty_log;
use crate::error::Trouble;
use crate::known::Known;
use crate::queue::Job;
use crate::store::Shared;
use crate::{CommitError, Committed, Transaction};

/// Commits groups of transactions, and keeps the write-ahead log short.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    /// `None` only while damage is being repaired.
    connection: Option<Connection>,
    damage: Option<Damage>,
    /// Pages in the log after the last commit.
    log: Arc<AtomicU32>,
    /// Pages in the log from which it is copied into the database.
    copy_at: u32,
    /// The last copy failed for want of space: the next commit begins with another.
    copy_again: bool,
    known: Known,
}

/// What went wrong with the disk. Nothing is committed before it is repaired.
///
/// After a failed `fsync` the system counts the pages as written and says yes to the next one, so
/// trying again proves nothing: everything is to be written anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Damage {
    /// A commit failed. Behind the log's valid part there may be all of a transaction that was
    /// answered with an error. Only the log's index, which the open reader keeps alive, tells
    /// where the valid part ends: it is copied into the database, and the log emptied.
    Commit,
    /// Copying the log into the database failed. What of it is on the disk is not known: the index
    /// and its mark of what was copied are thrown away, and the whole log is copied again.
    Copy,
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, connection: Connection) -> rusqlite::Result<Self> {
        let copy_at = shared.limits.log_pages.max(1);
        let mut writer = Writer {
            shared,
            connection: None,
            damage: None,
            log: Arc::default(),
            copy_at,
            copy_again: false,
            known: Known::default(),
        };
        writer.adopt(connection)?;
        Ok(writer)
    }

    /// Works until the queue is closed and empty.
    pub(crate) fn run(writer: &Mutex<Writer>, shared: Arc<Shared>) {
        /// Also when a bug makes the writer panic: nobody waits for ever.
        struct Abandon(Arc<Shared>);
        impl Drop for Abandon {
            fn drop(&mut self) {
                self.0.queue.abandon();
            }
        }
        let guard = Abandon(shared);
        while let Some(group) = guard.0.queue.take(guard.0.limits.group) {
            Writer::work(writer, group);
            guard.0.queue.done();
        }
        Writer::lock(writer).close();
    }

    /// Commits a group, and shortens the log if that is due.
    pub(crate) fn work(writer: &Mutex<Writer>, group: Vec<Job>) {
        let mut writer = Writer::lock(writer);
        writer.serve(group);
        writer.shorten_log();
        writer.tells_of_log();
    }

    /// Never waits: only who has the queue's leave to commit comes here.
    pub(crate) fn lock(writer: &Mutex<Writer>) -> MutexGuard<'_, Writer> {
        // A panic in a commit has rolled it back.
        writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the log is so long that it is to be copied, which the writer's thread does.
    pub(crate) fn has_long_log(&self) -> bool {
        self.log.load(Ordering::Relaxed) >= self.copy_at || self.copy_again || self.damage.is_some()
    }

    fn tells_of_log(&self) {
        self.shared.long_log.store(self.has_long_log(), Ordering::Relaxed);
    }

    /// Commits one transaction.
    pub(crate) fn commit_one(&mut self, transaction: &Transaction) -> Result<Committed, CommitError> {
        let mut answers = self.commit(&[transaction])?;
        // One transaction, one answer.
        answers.pop().unwrap_or(Err(CommitError::Full))
    }

    /// Commits a group and answers everyone in it.
    pub(crate) fn serve(&mut self, group: Vec<Job>) {
        let transactions: Vec<_> = group.iter().map(|job| &job.transaction).collect();
        match self.commit(&transactions) {
            Ok(answers) => {
                for (job, answer) in group.into_iter().zip(answers) {
                    job.reply.answer(answer);
                }
            }
            // The log may be used from its beginning when it is copied, and one transaction may free the
            // space that another lacks.
            Err(CommitError::Full) => {
                self.copy_log();
                for job in group {
                    let answer = self.commit_one(&job.transaction);
                    job.reply.answer(answer);
                }
            }
            Err(error) => {
                for job in group {
                    job.reply.answer(Err(error.clone()));
                }
            }
        }
    }

    /// Commits a group: an answer for each transaction, or an error for all.
    fn commit(&mut self, group: &[&Transaction]) -> Result<Vec<Result<Committed, CommitError>>, CommitError> {
        if self.copy_again {
            self.copy_log();
        }
        let result = self.repair().and_then(|()| match &mut self.connection {
            Some(connection) => commit(connection, &self.shared, &mut self.known, group).inspect_err(|error| {
                self.known.forget_all();
                let rolled_back = connection.is_autocommit();
                if matches!(Trouble::of(error), Trouble::Io | Trouble::Damaged) || !rolled_back {
                    self.damage = Some(Damage::Commit);
                }
            }),
            // Repaired, so it is there.
            None => Err(rusqlite::Error::InvalidQuery),
        });
        self.tells_of_log();
        let result = result.map_err(|error| CommitError::engine(&error));
        self.shared.committed(group.len(), result.as_ref().err());
        result
    }

    /// Repairs what is damaged, or fails, in which case it still is.
    fn repair(&mut self) -> rusqlite::Result<()> {
        let Some(damage) = self.damage else { return Ok(()) };
        // Readers wait, so that the copy is complete.
        let shared = Arc::clone(&self.shared);
        let mut reader = shared.reader();
        self.connection = None;
        if damage == Damage::Copy || reader.is_none() {
            // With the last connection the index goes; the next one makes it anew.
            *reader = None;
            *reader = Some(shared.database.connect_reader()?);
        }
        let connection = shared.database.connect()?;
        if !empty_log(&connection)? {
            return Err(busy());
        }
        self.adopt(connection)?;
        self.damage = None;
        self.log.store(0, Ordering::Relaxed);
        shared.copied(Ok(()));
        Ok(())
    }

    fn adopt(&mut self, mut connection: Connection) -> rusqlite::Result<()> {
        let log = Arc::clone(&self.log);
        connection.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages: i32| {
            log.store(u32::try_from(pages).unwrap_or(0), Ordering::Relaxed);
            Ok(())
        }))?;
        self.connection = Some(connection);
        Ok(())
    }

    /// Copies the log into the database when it is long. While somebody reads, only when it is very long.
    fn shorten_log(&mut self) {
        let pages = self.log.load(Ordering::Relaxed);
        if pages < self.copy_at {
            return;
        }
        let is_read = matches!(self.shared.reader.try_lock(), Err(TryLockError::WouldBlock));
        if !is_read || pages / 4 >= self.copy_at {
            self.copy_log();
        }
    }

    /// Copies the log into the database; the next commit starts at the log's beginning.
    fn copy_log(&mut self) {
        let Some(connection) = self.connection.as_ref().filter(|_| self.damage.is_none()) else { return };
        // Without readers the copy is complete, and only a complete one is synced before it counts.
        let reader = self.shared.reader();
        let sql = "PRAGMA wal_checkpoint(PASSIVE)";
        let copied = connection.query_row(sql, (), |row| Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?)));
        drop(reader);
        let limit = self.shared.limits.log_pages.max(1);
        self.copy_again = false;
        // If it was in vain, not again at every commit.
        self.copy_at = self.log.load(Ordering::Relaxed).saturating_add(limit);
        match copied {
            Ok((all, copied)) if all == copied => {
                self.log.store(0, Ordering::Relaxed);
                self.copy_at = limit;
                self.shared.copied(Ok(()));
            }
            // Another program reads.
            Ok(_) => {}
            Err(error) => {
                match Trouble::of(&error) {
                    Trouble::Full => self.copy_again = true,
                    Trouble::Io | Trouble::Damaged => self.damage = Some(Damage::Copy),
                    Trouble::Busy | Trouble::Refused => {}
                }
                self.shared.copied(Err(&CommitError::engine(&error)));
            }
        }
    }

    /// Leaves a database without a log, if all is well.
    pub(crate) fn close(&mut self) {
        *self.shared.reader() = None;
        let whole = self.damage.is_none();
        if let Some(connection) = self.connection.take().filter(|_| whole) {
            // The last connection copies and removes the log. If it cannot, the next process does.
            let _ = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false);
            drop(connection);
        }
    }
}

/// One commit of all of the group's transactions, one sync.
fn commit(
    connection: &mut Connection,
    shared: &Shared,
    known: &mut Known,
    group: &[&Transaction],
) -> rusqlite::Result<Vec<Result<Committed, CommitError>>> {
    let all = Open::begin(connection)?;
    let applied: Result<_, Fault> =
        group.iter().map(|transaction| apply(&all, &shared.limits, known, transaction).map(Ok)).collect();
    let error = match applied {
        Ok(answers) => {
            all.commit()?;
            return Ok(answers);
        }
        Err(Fault::Own(error)) => error,
        Err(Fault::Engine(error)) => return Err(error),
    };
    drop(all);
    known.forget_all();
    if group.len() == 1 {
        return Ok(vec![Err(error)]);
    }
    // Seldom: once more, such that each can be undone without the others, which costs them a copy of all pages.
    let all = Open::begin(connection)?;
    let answers = apply_each(&all, shared, known, group)?;
    all.commit()?;
    Ok(answers)
}

fn apply_each(
    all: &Open<'_>,
    shared: &Shared,
    known: &mut Known,
    group: &[&Transaction],
) -> rusqlite::Result<Vec<Result<Committed, CommitError>>> {
    let mut answers = Vec::with_capacity(group.len());
    for transaction in group {
        all.run("SAVEPOINT one")?;
        let answer = match apply(all, &shared.limits, known, transaction) {
            Ok(committed) => Ok(committed),
            Err(Fault::Own(error)) => {
                known.forget_all();
                all.run("ROLLBACK TO one")?;
                Err(error)
            }
            Err(Fault::Engine(error)) => return Err(error),
        };
        all.run("RELEASE one")?;
        answers.push(answer);
    }
    Ok(answers)
}

/// A transaction of the engine, rolled back unless committed. `rusqlite`'s own has its statements parsed
/// anew each time, which is much of a small commit.
struct Open<'a>(&'a Connection);

impl<'a> Open<'a> {
    /// Unique access, so that there is no other one.
    fn begin(connection: &'a mut Connection) -> rusqlite::Result<Self> {
        let open = Open(connection);
        open.run("BEGIN IMMEDIATE")?;
        Ok(open)
    }

    fn run(&self, sql: &str) -> rusqlite::Result<usize> {
        self.0.prepare_cached(sql)?.execute(())
    }

    fn commit(self) -> rusqlite::Result<()> {
        self.run("COMMIT").map(drop)
    }
}

impl Deref for Open<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.0
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        // Not after a commit, nor after an error that has rolled back by itself.
        if !self.0.is_autocommit() {
            // If it fails, whoever looks at the connection next finds the transaction still open.
            let _ = self.run("ROLLBACK");
        }
    }
}

fn busy() -> rusqlite::Error {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
    rusqlite::Error::SqliteFailure(code, Some("another program reads it".into()))
}
