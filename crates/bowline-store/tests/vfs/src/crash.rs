//! A store's folder, from which a process can be torn away.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::{Call, Hold, Watch};

/// What a disk says that cannot write.
const IOERR_WRITE: i32 = 10 | (3 << 8);

/// The folder of a store, in memory if the system has such.
pub struct Folder {
    folder: TempDir,
    watch: Watch,
}

impl Folder {
    /// An empty one.
    ///
    /// # Panics
    /// When the system gives no folder.
    #[must_use]
    pub fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() }.expect("a folder");
        let watch = Watch::new(folder.path());
        Folder { folder, watch }
    }

    /// One with the files of `other`, which nobody writes to.
    ///
    /// # Panics
    /// When they cannot be copied.
    #[must_use]
    pub fn copy_of(other: &Path) -> Self {
        let copy = Folder::new();
        for name in ["bowline.db", "bowline.db-wal"] {
            if other.join(name).exists() {
                fs::copy(other.join(name), copy.path().join(name)).expect("copied");
            }
        }
        copy
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// From now on nothing can be written.
    pub fn breaks(&self) {
        self.watch.fail(|_, _| Some(IOERR_WRITE));
    }

    /// It works again.
    pub fn heals(&self) {
        self.watch.heal();
    }

    /// From now on calls of this kind wait, until what is returned is dropped.
    #[must_use]
    pub fn holds(&self, call: Call) -> Hold {
        self.watch.hold(call)
    }

    /// The process that uses it crashes: what it has not written by now is never written. Returns the
    /// folder as the next process finds it.
    #[must_use]
    pub fn crashes(&self) -> Self {
        self.breaks();
        Folder::copy_of(self.path())
    }
}

impl Default for Folder {
    fn default() -> Self {
        Folder::new()
    }
}
