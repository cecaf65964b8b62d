//! The key file on disk: for its owner only, one writer at a time, whole or not there.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::table::Table;
use super::{KeysError, format};

/// How long another writer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Much more than a million devices need; a file that is larger is something else.
const LARGEST: u64 = 1 << 30;

/// Where the keys are.
#[derive(Debug)]
pub(super) struct KeyFile {
    folder: PathBuf,
    path: PathBuf,
}

/// The right to replace the file, until dropped.
#[derive(Debug)]
pub(super) struct Writer<'a> {
    file: &'a KeyFile,
    _lock: File,
}

impl KeyFile {
    pub(super) fn new(folder: &Path) -> Self {
        KeyFile { folder: folder.to_owned(), path: folder.join("keys.txt") }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What is in the file; `None` if there is none.
    pub(super) fn read(&self) -> Result<Option<Table>, KeysError> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error("open", &self.path)(error)),
        };
        let metadata = file.metadata().map_err(io_error("look at", &self.path))?;
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeysError::Exposed { path: self.path.clone(), mode });
        }
        let damaged = |line, expected| KeysError::Damaged { path: self.path.clone(), line, expected };
        if !metadata.is_file() || metadata.len() > LARGEST {
            return Err(damaged(1, "a file of keys"));
        }
        // Room for all of it: growing would leave copies of keys behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(metadata.len() as usize + 1));
        file.take(LARGEST).read_to_end(&mut bytes).map_err(io_error("read", &self.path))?;
        let text = std::str::from_utf8(&bytes).map_err(|error| {
            let before = &bytes[..error.valid_up_to()];
            damaged(before.iter().filter(|byte| **byte == b'\n').count() + 1, "text")
        })?;
        format::parse(text).map(Some).map_err(|wrong| damaged(wrong.line, wrong.expected))
    }

    /// Makes the folder if it is not there, and waits until nobody else writes.
    pub(super) fn writer(&self) -> Result<Writer<'_>, KeysError> {
        let mut folder = DirBuilder::new();
        folder.recursive(true).mode(0o700).create(&self.folder).map_err(io_error("make the folder", &self.folder))?;
        let path = self.folder.join("keys.lock");
        let mut options = OpenOptions::new();
        let lock = options.create(true).write(true).truncate(false).mode(0o600).open(&path);
        let lock = lock.map_err(io_error("open", &path))?;
        let start = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(Writer { file: self, _lock: lock }),
                Err(TryLockError::WouldBlock) if start.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(5)),
                Err(TryLockError::WouldBlock) => return Err(KeysError::Busy(path)),
                Err(TryLockError::Error(error)) => return Err(io_error("lock", &path)(error)),
            }
        }
    }
}

impl Writer<'_> {
    /// Replaces the file. When this fails, the old one is in its place, or the new one is and may not
    /// survive a power cut.
    pub(super) fn write(&self, table: &Table) -> Result<(), KeysError> {
        let KeyFile { folder, path } = self.file;
        let new = folder.join("keys.txt.new");
        // Left by a process that was killed: nobody else has the lock.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_error("remove", &new)(error)),
            _ => {}
        }
        let replaced = store(&new, format::emit(table).as_bytes()).map_err(io_error("write", &new)).and_then(|()| {
            fs::rename(&new, path).map_err(io_error("replace", path))?;
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(io_error("store", path))
        });
        if replaced.is_err() {
            // Gone already if it was renamed.
            let _ = fs::remove_file(&new);
        }
        replaced
    }
}

/// Writes a new file that nobody else can read, down to the disk.
fn store(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> KeysError {
    move |error| KeysError::Io { doing, path: path.to_owned(), error }
}
