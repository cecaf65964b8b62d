//! What can go wrong with keys.

use std::io;
use std::path::PathBuf;

use bowline_proto::IdError;
use bowline_secure::{KeyId, MAX_ID};

/// Why keys were not read or changed. Nothing has changed then, and no message holds a part of a key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeysError {
    /// Not a device id.
    #[error("{id:?} is no device id: {error}")]
    Id {
        /// What was given.
        id: String,
        /// What is wrong with it.
        error: IdError,
    },
    /// Too long for the native protocol, the only one with keys.
    #[error("a device with a key has an id of at most {MAX_ID} bytes, {id:?} has {}: take a shorter one", id.len())]
    IdTooLong {
        /// What was given.
        id: String,
    },
    /// The id never had a key, or was removed.
    #[error("no device {id:?} has a key")]
    Unknown {
        /// The id.
        id: String,
    },
    /// A new key where there is one.
    #[error("{id:?} has a key already (key id {key_id}): rotate it to get another one, or revoke it first")]
    HasKey {
        /// The id.
        id: String,
        /// Its key.
        key_id: KeyId,
    },
    /// Nothing to rotate or to revoke.
    #[error("every key of {id:?} is revoked: give it a new one, or remove the id")]
    Revoked {
        /// The id.
        id: String,
    },
    /// A rotation in the middle of another.
    #[error(
        "{id:?} has two live keys already, a device can have no more: key {new} waits to be shown by the device, \
         then key {old} goes by itself; if key {new} is lost, revoke it and rotate again"
    )]
    Rotating {
        /// The id.
        id: String,
        /// The key that is to go.
        old: KeyId,
        /// The key that is to come.
        new: KeyId,
    },
    /// No live key has this key id.
    #[error("{id:?} has no live key {key_id}; live: {}", list(live))]
    NoSuchKey {
        /// The id.
        id: String,
        /// The key id that was given.
        key_id: KeyId,
        /// The live ones.
        live: Vec<KeyId>,
    },
    /// The system gives no random bytes.
    #[error("the system gives no random bytes: {0}")]
    Random(getrandom::Error),
    /// Someone else may read or write the keys.
    #[error(
        "other users of this machine can get at the keys in {path} (mode {mode:03o}): \
         `chmod 600 {path}`, and rotate the keys if anybody may have read them", path = path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Not what this version writes.
    #[error(
        "{}, line {line}: expected {expected}; the file is damaged, changed by hand, or of another version, \
         and was left as it is: put a backup in its place", path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What would be right.
        expected: &'static str,
    },
    /// There were keys, and the file is gone.
    #[error("{} is gone: the keys it held stay in force until a restart; put it back", .0.display())]
    Gone(PathBuf),
    /// Another process changes the keys, and does not get done.
    #[error("another process has been changing the keys for some seconds: see who holds {}", .0.display())]
    Busy(PathBuf),
    /// The system refuses.
    #[error("cannot {doing} {path}: {error}", path = path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

fn list(ids: &[KeyId]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
}
