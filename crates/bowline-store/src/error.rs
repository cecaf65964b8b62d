//! Why a call failed, sorted by blame.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::ErrorCode;

use crate::{DeadId, Seq, Transaction};

/// Why a store was not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has the folder.
    #[error("{} is used by another Bowline server{}: stop that one, or give this one a folder of its own",
        folder.display(), holder.map(|pid| format!(" (process {pid})")).unwrap_or_default())]
    Locked {
        /// The folder.
        folder: PathBuf,
        /// The process that has it, if it says so.
        holder: Option<u32>,
    },
    /// The file was written by a later version.
    #[error(
        "{} has format {found}, this version of Bowline reads up to {known}: run the version that wrote it or a newer one, or give this one a folder of its own",
        file.display()
    )]
    Newer {
        /// The file.
        file: PathBuf,
        /// Its format.
        found: i64,
        /// The newest format known here.
        known: i64,
    },
    /// The file is somebody else's.
    #[error("{} is a database, but not one of Bowline's: give the store a folder of its own", file.display())]
    Foreign {
        /// The file.
        file: PathBuf,
    },
    /// The file is damaged, or no database.
    #[error(
        "{} is damaged ({detail}): nothing was changed. Put a backup in its place; or move all files named {}* to another place and start anew without what they hold. Keep them: `sqlite3 {} .recover` can often save most of it",
        file.display(), file.display(), file.display()
    )]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What was found.
        detail: String,
    },
    /// Another program is in the way.
    #[error("another program holds {} open in a transaction: end it", file.display())]
    Busy {
        /// The file.
        file: PathBuf,
    },
    /// The disk is full.
    #[error("no space left for {}: make room", file.display())]
    Full {
        /// The file.
        file: PathBuf,
    },
    /// The system refuses.
    #[error("{}: {detail}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What it says.
        detail: String,
    },
}

impl OpenError {
    pub(crate) fn io(path: &Path, error: impl fmt::Display) -> Self {
        OpenError::Io { path: path.to_owned(), detail: error.to_string() }
    }

    pub(crate) fn failure(file: &Path, failure: Failure) -> Self {
        match failure {
            Failure::Damaged(detail) => OpenError::Damaged { file: file.to_owned(), detail },
            Failure::Engine(error) => OpenError::engine(file, &error),
        }
    }

    pub(crate) fn engine(file: &Path, error: &rusqlite::Error) -> Self {
        let file = file.to_owned();
        match Trouble::of(error) {
            Trouble::Full => OpenError::Full { file },
            Trouble::Damaged => OpenError::Damaged { file, detail: error.to_string() },
            Trouble::Busy => OpenError::Busy { file },
            Trouble::Refused | Trouble::Io => OpenError::Io { path: file, detail: error.to_string() },
        }
    }
}

/// One of a device's queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Queue {
    /// From the device.
    Inbox,
    /// To the device.
    Outbox,
}

impl fmt::Display for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Queue::Inbox => "inbox",
            Queue::Outbox => "outbox",
        })
    }
}

/// What a quota counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum QuotaUnit {
    /// Messages.
    Messages,
    /// Bytes of headers and payloads.
    Bytes,
}

impl fmt::Display for QuotaUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            QuotaUnit::Messages => "messages",
            QuotaUnit::Bytes => "bytes",
        })
    }
}

/// Why a transaction was not committed. Nothing of it is visible.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// The caller's mistake: a device that [`Change::Device`](crate::Change::Device) has not announced.
    #[error("device {device} is not known to the store")]
    UnknownDevice {
        /// Its id.
        device: Arc<str>,
    },
    /// The caller's mistake, or somebody else was faster: there is no such dead letter.
    #[error("there is no dead letter {id}: it was retried or dropped")]
    UnknownDeadLetter {
        /// Its name.
        id: DeadId,
    },
    /// The caller's mistake: a number that is not above all before it. This is also what a message
    /// meets that is stored a second time.
    #[error("message {seq} comes after {last} in the {queue} of {device}: numbers rise, up to 2^62 - 1")]
    OutOfOrder {
        /// Whose.
        device: Arc<str>,
        /// In which queue.
        queue: Queue,
        /// The highest number so far.
        last: Seq,
        /// The number given.
        seq: Seq,
    },
    /// The caller's mistake: the cursor would pass messages that have not come.
    #[error("the {queue} of {device} ends at {last}, so nothing can be done with it up to {through}")]
    Ahead {
        /// Whose.
        device: Arc<str>,
        /// In which queue.
        queue: Queue,
        /// The highest number so far.
        last: Seq,
        /// The number given.
        through: Seq,
    },
    /// The transaction builds on one that was not committed ([`Change::Expect`](crate::Change::Expect)).
    #[error("the {queue} of {device} ends at {last}, not at {expected}: what was to come before was not stored")]
    Unexpected {
        /// Whose.
        device: Arc<str>,
        /// In which queue.
        queue: Queue,
        /// The highest number so far.
        last: Seq,
        /// The one expected.
        expected: Seq,
    },
    /// The caller's mistake: something that cannot be stored, such as a blob of a gigabyte.
    #[error("cannot be stored: {detail}")]
    Refused {
        /// What is wrong with it.
        detail: String,
    },
    /// A device's queue is full. Push back on whoever fills it.
    #[error("the {queue} of {device} would hold {needed} {unit}, its quota is {limit}")]
    Quota {
        /// Whose.
        device: Arc<str>,
        /// Which queue.
        queue: Queue,
        /// Messages or bytes.
        unit: QuotaUnit,
        /// How much it may hold.
        limit: u64,
        /// How much it would have had to hold.
        needed: u64,
    },
    /// The disk is full. Transactions that free space may still succeed; all do when there is space again.
    #[error("no space left on the store's disk")]
    Full,
    /// The disk failed, or another program is in the way. The next transaction tries again.
    #[error("the store's disk failed: {detail}")]
    Io {
        /// What the system says.
        detail: String,
    },
    /// The database is damaged, at least where this transaction needs it.
    #[error("the store is damaged ({detail}): {ADVICE}")]
    Damaged {
        /// What was found.
        detail: String,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

impl CommitError {
    pub(crate) fn engine(error: &rusqlite::Error) -> Self {
        let detail = error.to_string();
        match Trouble::of(error) {
            Trouble::Full => CommitError::Full,
            Trouble::Damaged => CommitError::Damaged { detail },
            Trouble::Refused => CommitError::Refused { detail },
            Trouble::Busy | Trouble::Io => CommitError::Io { detail },
        }
    }
}

/// The callback form found no room. Nothing was queued and the callback will not be called.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotQueued {
    /// As many transactions wait as may.
    #[error("{capacity} transactions are waiting to be stored: try again when they are")]
    Full {
        /// How many may wait.
        capacity: usize,
        /// The transaction, given back.
        transaction: Transaction,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

/// Why something could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The database is damaged, at least where it was read: what stands there is not what was stored.
    #[error("the store is damaged ({0}): {ADVICE}")]
    Damaged(String),
    /// The disk failed, or another program is in the way.
    #[error("the store cannot be read: {0}")]
    Io(String),
}

/// What can be done about damage.
const ADVICE: &str = "put a backup of the store in its place, or forget the device that is damaged";

impl From<Failure> for ReadError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Damaged(detail) => ReadError::Damaged(detail),
            Failure::Engine(error) => ReadError::Io(error.to_string()),
        }
    }
}

/// Why rows were not read.
#[derive(Debug)]
pub(crate) enum Failure {
    /// They are not what was stored: which, for people.
    Damaged(String),
    /// The engine failed otherwise.
    Engine(rusqlite::Error),
}

impl Failure {
    /// Rows that are not what was stored.
    pub(crate) fn damaged(what: impl Into<String>) -> Self {
        Failure::Damaged(what.into())
    }

    /// The rows are of this table.
    pub(crate) fn in_table(self, table: impl fmt::Display) -> Self {
        match self {
            Failure::Damaged(detail) => Failure::Damaged(format!("table {table}: {detail}")),
            other @ Failure::Engine(_) => other,
        }
    }

    /// The rows are those of this device.
    pub(crate) fn of(self, device: &str) -> Self {
        match self {
            Failure::Damaged(detail) => Failure::Damaged(format!("device {device:?}: {detail}")),
            other @ Failure::Engine(_) => other,
        }
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        match Trouble::of(&error) {
            Trouble::Damaged => Failure::Damaged(error.to_string()),
            _ => Failure::Engine(error),
        }
    }
}

/// What an engine's error comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    Full,
    Damaged,
    Busy,
    /// The fault of the one transaction that met it.
    Refused,
    Io,
}

/// There is a row with this key.
const TAKEN: [i32; 2] = [rusqlite::ffi::SQLITE_CONSTRAINT_PRIMARYKEY, rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE];

impl Trouble {
    pub(crate) fn of(error: &rusqlite::Error) -> Self {
        match error {
            rusqlite::Error::SqliteFailure(failure, _) => match failure.code {
                ErrorCode::DiskFull => Trouble::Full,
                // The statements are always the same: one that is wrong does not fit the tables.
                ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown => Trouble::Damaged,
                ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => Trouble::Busy,
                // All keys are new by the counts: one that is there already has become so by damage.
                ErrorCode::ConstraintViolation if TAKEN.contains(&failure.extended_code) => Trouble::Damaged,
                ErrorCode::ConstraintViolation | ErrorCode::TooBig => Trouble::Refused,
                _ => Trouble::Io,
            },
            // A column holds what this program does not write.
            rusqlite::Error::SqlInputError { .. }
            | rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::Utf8Error(..) => Trouble::Damaged,
            _ => Trouble::Io,
        }
    }
}
