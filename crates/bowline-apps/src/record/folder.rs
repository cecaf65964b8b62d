//! The folder with the files: which there are, and which go.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::error::OpenError;
use super::period::Name;

/// Files removed at a time; more go the next time.
const REMOVED: usize = 16;

/// Milliseconds of a day.
const DAY: i64 = 86_400_000;

/// The files of the record in `folder`, oldest first. A folder that is not there has none.
pub(crate) fn list(folder: &Path) -> io::Result<Vec<Name>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry?.file_name().to_str().and_then(Name::parse));
    }
    names.sort_by_key(|name| name.age());
    Ok(names)
}

/// Claims the folder for one writer, for as long as the file is held. Creates it if it is not there.
pub(crate) fn claim(folder: &Path) -> Result<File, OpenError> {
    let failed = |error: io::Error| OpenError::io(folder, error.to_string());
    if !folder.is_dir() {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(folder).map_err(failed)?;
        // SQLite syncs the names in the folder, nobody else the folder's own.
        if let Some(parent) = folder.canonicalize().ok().as_deref().and_then(Path::parent) {
            File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed)?;
        }
    }
    let lock = File::create(folder.join("record.lock")).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked { folder: folder.to_owned() }),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// The files that are too old at `now` (milliseconds since 1970), or too many, oldest first. `kept` stays in
/// any case: it is written to.
pub(crate) fn outdated(
    folder: &Path,
    kept: Name,
    now: i64,
    days: Option<u32>,
    bytes: Option<u64>,
) -> io::Result<Vec<Name>> {
    let names = list(folder)?;
    // Without the logs of those that are open: these are some MiB, and gone when the files are closed.
    let size = |name: &Name| fs::metadata(folder.join(name.to_string())).map_or(0, |metadata| metadata.len());
    let sizes: Vec<_> = names.iter().map(size).collect();
    let mut all: u64 = sizes.iter().sum();
    let mut outdated = Vec::new();
    for (name, size) in names.into_iter().zip(sizes).filter(|(name, _)| *name != kept) {
        let too_old = days.is_some_and(|days| name.end().saturating_add(i64::from(days) * DAY) <= now);
        let too_much = bytes.is_some_and(|bytes| all > bytes);
        if (too_old || too_much) && outdated.len() < REMOVED {
            all = all.saturating_sub(size);
            outdated.push(name);
        }
    }
    Ok(outdated)
}

/// Removes a file. Its log first: without its database, SQLite would take it for that of the next file of
/// the name.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    for path in [suffixed(path, "-wal"), suffixed(path, "-shm"), path.to_owned()] {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}
