//! A host's disk: full, failing, torn by a power cut, or as it was some time ago.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bowline_store_vfs::{Call, Disk, Files, MemoryFolder, Watch};
use fastrand::Rng;
use tokio::sync::Notify;

use crate::medium::{End, Mood, Switch};

/// What SQLite is told.
const FULL: i32 = 13;
const IOERR_WRITE: i32 = 10 | (3 << 8);
const IOERR_FSYNC: i32 = 10 | (4 << 8);

/// The disk of one life of a process. In memory: a world has some ten lives, and what a file system does for each write
/// would be most of its time.
pub(crate) struct SimDisk {
    folder: tempfile::TempDir,
    memory: MemoryFolder,
    watch: Watch,
    before: Disk,
    switch: Arc<Switch>,
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
            if switch.burns_down() {
                ends.notify_one();
            }
            match call {
                _ if switch.is(Mood::Frozen) || switch.is(Mood::Broken) => Some(IOERR_WRITE),
                Call::Write if switch.is(Mood::Full) => Some(FULL),
                Call::Sync if switch.is(Mood::NoSync) => Some(IOERR_FSYNC),
                _ => None,
            }
        });
    }

    pub(crate) fn switch(&self) -> &Switch {
        &self.switch
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

    /// Bits of the database flip. Not those of its log: where that is not whole any more, it ends (see
    /// docs/reliability.md).
    pub(crate) fn rots(&self, bits: usize, random: &mut Rng) -> io::Result<Self> {
        let mut files = self.backup();
        if let Some(bytes) = files.get_mut("bowline.db").filter(|bytes| !bytes.is_empty()) {
            for _ in 0..bits {
                let at = random.usize(..bytes.len());
                bytes[at] ^= 1 << random.u32(..8);
            }
        }
        Self::with(files)
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
