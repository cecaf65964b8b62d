//! Why something was not opened, written or read.

use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

/// Why the record was not opened for writing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has the folder.
    #[error("another server records into {}: give this one a folder of its own", folder.display())]
    Locked {
        /// The folder.
        folder: PathBuf,
    },
    /// The file was written by a later version.
    #[error(
        "{} has format {found}, this version of Bowline knows up to {known}: run the version that wrote it or a newer \
         one, or move the file away",
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
    #[error("{} is not a file of Bowline's record: give the record a folder of its own", file.display())]
    Foreign {
        /// The file.
        file: PathBuf,
    },
    /// The file is damaged.
    #[error(
        "{} is damaged ({detail}): move it away, with the files whose names begin like it; \
         `sqlite3 FILE .recover` can often save most of it",
        file.display()
    )]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What was found.
        detail: String,
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
    pub(crate) fn io(path: &Path, detail: impl Into<String>) -> Self {
        OpenError::Io { path: path.to_owned(), detail: detail.into() }
    }

    pub(crate) fn engine(file: &Path, error: &rusqlite::Error) -> Self {
        let (file, detail) = (file.to_owned(), error.to_string());
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => OpenError::Full { file },
            Some(ErrorCode::NotADatabase) => OpenError::Foreign { file },
            Some(ErrorCode::DatabaseCorrupt) => OpenError::Damaged { file, detail },
            _ => OpenError::Io { path: file, detail },
        }
    }
}

/// Why a message was not written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The device's fault: it makes up names.
    #[error(
        "with this message the device would have {needed} series in a file, more than the {limit} of \
         apps.record.series: what changes from message to message is a value, not a name"
    )]
    TooManySeries {
        /// How many it would have.
        needed: usize,
        /// How many it may have.
        limit: usize,
    },
    /// The disk does not take it. When it does, the same message may be written again.
    #[error("cannot be recorded now: {0}")]
    Unavailable(OpenError),
    /// The record was closed.
    #[error("the record is closed")]
    Closed,
}

/// Why the record cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct ReadError(#[from] pub OpenError);
