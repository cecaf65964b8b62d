//! What a host keeps its things on, and how that fails.

use std::io;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use bowline_store_vfs::Files;
use fastrand::Rng;

use crate::disk::SimDisk;
use crate::flash::SimFlash;

/// What a medium does with writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Mood {
    Good,
    /// There is no room. Flash has what it has.
    Full,
    /// Syncs fail. Flash has none.
    NoSync,
    /// Nothing can be written or synced.
    Broken,
    /// The process is dead: nothing that it does reaches the medium.
    Frozen,
}

/// How a process ends, for its medium.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// What it has written stays.
    Killed,
    /// What was not synced stays, or not, or in part.
    PowerCut,
}

/// The mood of one life of a process.
#[derive(Debug, Default)]
pub(crate) struct Switch {
    mood: AtomicU8,
    /// The process ends at so many more writes or syncs; 0 for never.
    fuse: AtomicU64,
}

impl Switch {
    pub(crate) fn fuse(&self, count: u64) {
        self.fuse.store(count, Ordering::Relaxed);
    }

    pub(crate) fn feels(&self, mood: Mood) {
        // A dead process stays dead.
        if !self.is(Mood::Frozen) {
            self.mood.store(mood as u8, Ordering::Relaxed);
        }
    }

    pub(crate) fn is(&self, mood: Mood) -> bool {
        self.mood.load(Ordering::Relaxed) == mood as u8
    }

    /// A write or sync: whether the process ends in it.
    pub(crate) fn burns_down(&self) -> bool {
        let left = self.fuse.load(Ordering::Relaxed);
        self.fuse.store(left.saturating_sub(1), Ordering::Relaxed);
        if left == 1 {
            self.feels(Mood::Frozen);
        }
        left == 1
    }
}

/// A disk, with files on it, or a flash.
pub(crate) enum Medium {
    Disk(SimDisk),
    Flash(SimFlash),
}

impl Medium {
    fn switch(&self) -> &Switch {
        match self {
            Medium::Disk(disk) => disk.switch(),
            Medium::Flash(flash) => flash.switch(),
        }
    }

    /// The process ends at its `count`th write or sync from now on.
    pub(crate) fn fuse(&self, count: u64) {
        self.switch().fuse(count);
    }

    pub(crate) fn feels(&self, mood: Mood) {
        self.switch().feels(mood);
    }

    /// What the next process finds.
    pub(crate) fn after(self, end: End, random: &mut Rng) -> io::Result<Self> {
        Ok(match self {
            Medium::Disk(disk) => Medium::Disk(disk.after(end, random)?),
            Medium::Flash(flash) => Medium::Flash(flash.after(random)),
        })
    }

    /// A backup, as it is now.
    pub(crate) fn backup(&self) -> Files {
        match self {
            Medium::Disk(disk) => disk.backup(),
            Medium::Flash(flash) => flash.backup(),
        }
    }

    /// One like this that somebody has put these files on.
    pub(crate) fn restored(&self, files: Files) -> io::Result<Self> {
        Ok(match self {
            Medium::Disk(_) => Medium::Disk(SimDisk::with(files)?),
            Medium::Flash(_) => Medium::Flash(SimFlash::with(&files)),
        })
    }
}
