//! The store as its users see it.

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rusqlite::Connection;

use crate::commit::{Reply, Slot};
use crate::database::Database;
use crate::error::Failure;
use crate::queue::{Call, Waiting};
use crate::writer::Writer;
use crate::{
    Commit, CommitError, Committed, DeadId, DeadLetterEntry, Device, DeviceSummary, Durability, Limits, NotQueued,
    OpenError, ReadError, Transaction, read,
};

/// Changes of a transaction that is worth committing in its caller's thread: what a link takes in at one time.
const SMALL: usize = 64;

/// The durable store of one server process. Shared by reference; see the [crate] for how it works.
///
/// Dropping it commits what waits, answers everyone, and lets go of the folder.
pub struct Store {
    shared: Arc<Shared>,
    writer: Arc<Mutex<Writer>>,
    /// `None` if the caller does its work.
    thread: Option<JoinHandle<()>>,
    commits_in_place: bool,
}

/// Whether the store can do its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// As far as is known.
    Good,
    /// The last attempt to write failed. The next transaction tries again; when it succeeds, all is well.
    Degraded {
        /// Why, for people.
        reason: String,
    },
}

/// What the store has done since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Transactions taken from the queue, those that failed by their own fault included.
    pub transactions: u64,
    /// Commits they took, each with one sync ([`Durability::Fsync`]).
    pub commits: u64,
    /// Commits that failed.
    pub failed_commits: u64,
    /// Times the log was copied into the database.
    pub log_copies: u64,
}

impl Store {
    /// Opens the store in `folder`, or makes one there. Files: `bowline.db`, beside it SQLite's log and
    /// index (`-wal`, `-shm`) and the lock, readable by this user only. [`Durability::Memory`] leaves
    /// `folder` alone.
    ///
    /// What an earlier process has committed is there, however that process ended. Blocks, for at most
    /// a second or so after a crash.
    ///
    /// # Errors
    /// Says what is in the way and what to do. Nothing that is there is ever replaced.
    pub fn open(folder: impl AsRef<Path>, durability: Durability, limits: Limits) -> Result<Self, OpenError> {
        let mut store = Self::open_with(folder.as_ref(), durability, limits, None)?;
        let thread = std::thread::Builder::new().name("bowline-store".into());
        let run = {
            let (writer, shared) = (Arc::clone(&store.writer), Arc::clone(&store.shared));
            move || Writer::run(&writer, shared)
        };
        let thread = thread.spawn(run).map_err(|error| OpenError::io(store.shared.database.file(), error))?;
        store.thread = Some(thread);
        Ok(store)
    }

    /// As [`Store::open`], but without a thread: `call` is called when there is work, and whoever opened the store
    /// has it done by the [`Worker`]. Everything happens in the callers' threads then, in the order of
    /// their calls, for programs that are to do the same twice. `call` must not wait, nor call the store.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_driven(
        folder: impl AsRef<Path>,
        durability: Durability,
        limits: Limits,
        call: impl Fn() + Send + Sync + 'static,
    ) -> Result<(Self, Worker), OpenError> {
        let store = Self::open_with(folder.as_ref(), durability, limits, Some(Box::new(call)))?;
        let worker = Worker { shared: Arc::clone(&store.shared), writer: Arc::clone(&store.writer) };
        Ok((store, worker))
    }

    fn open_with(folder: &Path, durability: Durability, limits: Limits, call: Option<Call>) -> Result<Self, OpenError> {
        let database = Database::claim(folder, durability)?;
        let file = database.file().to_owned();
        let engine = |error| OpenError::engine(&file, &error);
        let connection = database.open(&limits)?;
        let reader = database.connect_reader().map_err(engine)?;
        let shared = Arc::new(Shared {
            queue: Arc::new(Waiting::new(limits.queue, call)),
            reader: Mutex::new(Some(reader)),
            state: Mutex::default(),
            long_log: AtomicBool::new(false),
            limits,
            database,
        });
        let writer = Arc::new(Mutex::new(Writer::new(Arc::clone(&shared), connection).map_err(engine)?));
        Ok(Store { shared, writer, thread: None, commits_in_place: durability != Durability::Fsync })
    }

    /// Whether a [`Worker`] does its work, and not a thread of its own.
    #[must_use]
    pub fn is_driven(&self) -> bool {
        self.shared.queue.is_driven()
    }

    /// Commits a transaction. Queued at once, in the order of calls; the returned [`Commit`] is its
    /// answer. While [`Limits::queue`] others wait, the transaction waits for room and leaves if its
    /// `Commit` is dropped; otherwise it will be committed.
    pub fn commit(&self, transaction: impl Into<Transaction>) -> Commit {
        let slot = Slot::new();
        let ticket = self.shared.queue.push(transaction.into(), Reply::to_slot(Arc::clone(&slot)));
        Commit::new(slot, Arc::clone(&self.shared.queue), ticket)
    }

    /// Commits a transaction and calls `then` with the answer, on the writer's thread: `then` must be
    /// quick and must not wait for the store.
    ///
    /// # Errors
    /// [`NotQueued::Full`] while [`Limits::queue`] transactions wait; `then` is dropped.
    pub fn commit_with(
        &self,
        transaction: impl Into<Transaction>,
        then: impl FnOnce(Result<Committed, CommitError>) + Send + 'static,
    ) -> Result<(), NotQueued> {
        self.shared.queue.push_if_room(transaction.into(), Reply::to_callback(Box::new(then)), false)
    }

    /// As [`Store::commit_with`], but whoever was named by [`Store::gathers`] is to commit it, and the writer's thread is
    /// not woken: that, and being woken by it, may take longer than the commit. `then` is called by who commits. Without
    /// such a one, and where the thread had better do it, the same as [`Store::commit_with`].
    ///
    /// # Errors
    /// As [`Store::commit_with`].
    pub fn gather(
        &self,
        transaction: impl Into<Transaction>,
        then: impl FnOnce(Result<Committed, CommitError>) + Send + 'static,
    ) -> Result<(), NotQueued> {
        // A long log is the writer's to copy.
        let quietly = self.shared.queue.has_gatherer() && !self.shared.long_log.load(Ordering::Relaxed);
        self.shared.queue.push_if_room(transaction.into(), Reply::to_callback(Box::new(then)), quietly)
    }

    /// Names who commits what is gathered: `call` is called when there is something, and is to see to it that
    /// [`Store::work`] is called soon, from anywhere but `call` itself. It must not wait. Only the first one counts, and
    /// none where the store is driven or syncs. Says whether this one does.
    pub fn gathers(&self, call: impl Fn() + Send + Sync + 'static) -> bool {
        self.commits_in_place && !self.is_driven() && self.shared.queue.gathers(Box::new(call))
    }

    /// Commits what waits in the caller's thread, and answers; what comes meanwhile, too. Blocks on the disk. Does
    /// nothing while somebody else commits: what is left then is told of again.
    pub fn work(&self) {
        if self.is_driven() {
            return;
        }
        while let Some(group) = self.shared.queue.take_now(self.shared.limits.group) {
            let _done = Done(&self.shared.queue);
            Writer::lock(&self.writer).serve(group);
        }
    }

    /// Commits a small transaction in the caller's thread, if that is quicker than handing it to the
    /// writer: without syncs, a commit takes less time than waking a thread twice. Gives it back with
    /// [`Durability::Fsync`], if it is not small, if others are to be committed before it, when the
    /// log is due to be copied, and when the disk is full; then [`Store::commit_with`] takes it.
    ///
    /// # Errors
    /// The transaction, untouched.
    pub fn commit_in_place(&self, transaction: Transaction) -> Result<Result<Committed, CommitError>, Transaction> {
        if !self.commits_in_place || transaction.changes.len() > SMALL || !self.shared.queue.begin() {
            return Err(transaction);
        }
        let _done = Done(&self.shared.queue);
        let mut writer = Writer::lock(&self.writer);
        if writer.has_long_log() {
            return Err(transaction);
        }
        match writer.commit_one(&transaction) {
            // The writer's thread knows how to find space.
            Err(CommitError::Full) => Err(transaction),
            answer => Ok(answer),
        }
    }

    /// Whether [`Store::commit_in_place`] can do anything.
    #[must_use]
    pub fn commits_in_place(&self) -> bool {
        self.commits_in_place
    }

    /// All devices with their counts, by id. Blocks on the disk, and on other reads.
    ///
    /// # Errors
    /// When the database cannot be read, or one of them is damaged; [`Store::ids`] and [`Store::summary`] tell which.
    pub fn devices(&self) -> Result<Vec<DeviceSummary>, ReadError> {
        self.read(read::devices)
    }

    /// One device with its counts; `None` if it is not known. Blocks as [`Store::devices`].
    ///
    /// # Errors
    /// When the database cannot be read, or what it says of the device is not what was stored.
    pub fn summary(&self, device: &str) -> Result<Option<DeviceSummary>, ReadError> {
        self.read(|connection| read::one_summary(connection, device))
    }

    /// The ids of all devices, in order, also of those that [`Store::load`] finds damaged. Blocks as
    /// [`Store::devices`].
    ///
    /// # Errors
    /// When the database cannot be read, or not all of them are there.
    pub fn ids(&self) -> Result<Vec<Arc<str>>, ReadError> {
        self.read(read::names)
    }

    /// Everything it takes to go on with a device; `None` if it is not known. Blocks as
    /// [`Store::devices`]; holds at most what the device's quotas allow.
    ///
    /// # Errors
    /// When the database cannot be read, or what it says of the device is not what was stored.
    pub fn load(&self, device: &str) -> Result<Option<Device>, ReadError> {
        self.read(|connection| read::device(connection, device))
    }

    /// Dead letters of one device, or of all, oldest first. Blocks as [`Store::devices`].
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn dead_letters(&self, device: Option<&str>) -> Result<Vec<DeadLetterEntry>, ReadError> {
        self.read(|connection| read::dead_letters(connection, device))
    }

    /// One dead letter, if it is still there. Blocks as [`Store::devices`].
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn dead_letter(&self, id: DeadId) -> Result<Option<DeadLetterEntry>, ReadError> {
        self.read(|connection| read::dead_letter(connection, id))
    }

    /// Whether the store can do its work. Looks at nothing: it tells how the last attempts went.
    #[must_use]
    pub fn health(&self) -> Health {
        let state = self.shared.state();
        match state.commit_trouble.as_ref().or(state.copy_trouble.as_ref()) {
            Some(reason) => Health::Degraded { reason: reason.clone() },
            None => Health::Good,
        }
    }

    /// What was done so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.state().stats
    }

    /// What the store may hold.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.shared.limits
    }

    fn read<T>(&self, read: impl FnOnce(&mut Connection) -> Result<T, Failure>) -> Result<T, ReadError> {
        match &mut *self.shared.reader() {
            Some(connection) => Ok(read(connection)?),
            None => Err(ReadError::Io("waiting for the disk to be repaired".into())),
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.shared.queue.close();
        if self.is_driven() {
            finish(&self.shared, &self.writer);
        }
        if let Some(thread) = self.thread.take().filter(|thread| thread.thread().id() != std::thread::current().id()) {
            // A panic of the writer has been reported by its hook, and its callers have been told.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("file", &self.shared.database.file()).finish_non_exhaustive()
    }
}

/// Does the work of a store that was opened by [`Store::open_driven`]. Dropped before the store, it takes the store's
/// work with it: what waits is not committed.
pub struct Worker {
    shared: Arc<Shared>,
    writer: Arc<Mutex<Writer>>,
}

impl Worker {
    /// Commits a group of those that wait and answers them. Says whether there were any. Blocks on the disk.
    pub fn work(&self) -> bool {
        let worked = work(&self.shared, &self.writer);
        if worked && self.shared.queue.is_closed() {
            finish(&self.shared, &self.writer);
        }
        worked
    }
}

impl Drop for Worker {
    /// Nobody works any more: whoever waits is told, and so is whoever comes.
    fn drop(&mut self) {
        self.shared.queue.abandon();
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("file", &self.shared.database.file()).finish_non_exhaustive()
    }
}

/// What was taken or begun is done, also when a bug makes the commit panic.
struct Done<'a>(&'a Waiting);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.done();
    }
}

fn work(shared: &Shared, writer: &Mutex<Writer>) -> bool {
    let Some(group) = shared.queue.take_now(shared.limits.group) else { return false };
    Writer::work(writer, group);
    shared.queue.done();
    true
}

/// Commits what waits for a store that is closed, and closes its files. Whoever is committing does it afterwards: an
/// answer may have been what dropped the store.
fn finish(shared: &Shared, writer: &Mutex<Writer>) {
    if shared.queue.is_busy() {
        return;
    }
    while work(shared, writer) {}
    Writer::lock(writer).close();
}

/// What the store and its writer share.
pub(crate) struct Shared {
    pub(crate) queue: Arc<Waiting>,
    /// `None` only while a repair lacks the disk, and when the store is closed.
    pub(crate) reader: Mutex<Option<Connection>>,
    state: Mutex<State>,
    /// The log is to be copied.
    pub(crate) long_log: AtomicBool,
    pub(crate) limits: Limits,
    /// Last: connections are closed before the folder is let go.
    pub(crate) database: Database,
}

#[derive(Default)]
struct State {
    stats: Stats,
    commit_trouble: Option<String>,
    copy_trouble: Option<String>,
}

impl Shared {
    /// The reader. Whoever holds it keeps the log from being copied.
    pub(crate) fn reader(&self) -> MutexGuard<'_, Option<Connection>> {
        // A panic while reading leaves a connection that is as good as before.
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A commit of so many transactions has gone well, or not.
    pub(crate) fn committed(&self, transactions: usize, error: Option<&CommitError>) {
        let mut state = self.state();
        state.commit_trouble = error.map(ToString::to_string);
        if error.is_some() {
            state.stats.failed_commits += 1;
        } else {
            state.stats.commits += 1;
            state.stats.transactions += transactions as u64;
        }
    }

    /// The log was copied into the database, or could not be.
    pub(crate) fn copied(&self, result: Result<(), &CommitError>) {
        let mut state = self.state();
        state.copy_trouble = result.err().map(|error| format!("the log cannot be copied: {error}"));
        if result.is_ok() {
            state.stats.log_copies += 1;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics in between.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
