//! A host's disk: full, failing, torn by a power cut, or as it was some time ago.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use bowline_store_vfs::{Call, Disk, Files, MemoryFolder, Watch};
use fastrand::Rng;
use tokio::sync::Notify;

/// What SQLite is told.
const FULL: i32 = 13;
const IOERR_WRITE: i32 = 10 | (3 << 8);
const IOERR_FSYNC: i32 = 10 | (4 << 8);

/// What a disk does with writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Mood {
    Good,
    /// There is no room.
    Full,
    /// Syncs fail.
    NoSync,
    /// Nothing can be written or synced.
    Broken,
    /// The process is dead: nothing that it does reaches the disk.
    Frozen,
}

/// How a process ends, for its disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// What it has written stays.
    Killed,
    /// What was not synced stays, or not, or in part.
    PowerCut,
}

/// The disk of one life of a process. In memory: a world has some ten lives, and what a file system does for each write
/// would be most of its time.
pub(crate) struct SimDisk {
    folder: tempfile::TempDir,
    memory: MemoryFolder,
    watch: Watch,
    before: Disk,
    switch: Arc<Switch>,
}

#[derive(Default)]
struct Switch {
    mood: AtomicU8,
    /// The process ends at so many more writes or syncs; 0 for never.
    fuse: AtomicU64,
}

impl SimDisk {
    pub(crate) fn new() -> io::Result<Self> {
        Self::with(Files::new())
    }

    /// A disk with these files.
    pub(crate) fn with(files: Files) -> io::Result<Self> {
        let folder = folder()?;
        let before = Disk::of(files.clone());
        let memory = MemoryFolder::new(folder.path(), files);
        let watch = Watch::new(folder.path());
        Ok(SimDisk { folder, memory, watch, before, switch: Arc::default() })
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A process starts: `ends` is told when the disk has stopped it in the middle of a write.
    pub(crate) fn starts(&self, ends: Arc<Notify>) {
        let switch = Arc::clone(&self.switch);
        self.watch.fail(move |call, _| {
            let left = switch.fuse.load(Ordering::Relaxed);
            if left > 0 {
                switch.fuse.store(left - 1, Ordering::Relaxed);
                if left == 1 {
                    switch.mood.store(Mood::Frozen as u8, Ordering::Relaxed);
                    ends.notify_one();
                }
            }
            let mood = switch.mood.load(Ordering::Relaxed);
            match call {
                _ if mood == Mood::Frozen as u8 || mood == Mood::Broken as u8 => Some(IOERR_WRITE),
                Call::Write if mood == Mood::Full as u8 => Some(FULL),
                Call::Sync if mood == Mood::NoSync as u8 => Some(IOERR_FSYNC),
                _ => None,
            }
        });
    }

    /// The process ends at its `count`th write or sync from now on.
    pub(crate) fn fuse(&self, count: u64) {
        self.switch.fuse.store(count, Ordering::Relaxed);
    }

    pub(crate) fn feels(&self, mood: Mood) {
        // A dead process stays dead.
        if self.switch.mood.load(Ordering::Relaxed) != Mood::Frozen as u8 {
            self.switch.mood.store(mood as u8, Ordering::Relaxed);
        }
    }

    /// What the next process finds.
    pub(crate) fn after(mut self, end: End, random: &mut Rng) -> io::Result<Self> {
        Self::with(match end {
            End::Killed => self.memory.files(),
            End::PowerCut => {
                for op in self.watch.take_ops() {
                    self.before.apply(&op);
                }
                self.before.cut(random)
            }
        })
    }

    /// A backup, as it is now.
    pub(crate) fn backup(&self) -> Files {
        self.memory.files()
    }
}

/// A temporary folder, in memory where the system has such. Its name takes nothing from the random numbers of this
/// thread, which are the world's.
pub(crate) fn folder() -> io::Result<tempfile::TempDir> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let name = format!("bowline-sim-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    tempfile::Builder::new().prefix(&name).rand_bytes(0).tempdir_in(place)
}
