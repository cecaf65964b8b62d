//! What all worlds begin with: the keys of sealed devices, and an empty store.

use std::io;

use anyhow::Result;
use bowline_server::{Date, Keys};
use bowline_store::{Durability, Limits, Store};
use bowline_store_vfs::Files;

use crate::disk::{SimDisk, folder};

/// Sealed devices in a world, at most.
pub(crate) const DEVICES: usize = 4;

/// A file of keys that every world's server reads, and none writes to, so that no two worlds in one process share what
/// changes.
#[derive(Debug)]
pub(crate) struct Provisioned {
    folder: tempfile::TempDir,
    lines: Vec<String>,
    /// A store with nothing in it.
    empty: Files,
}

impl Provisioned {
    pub(crate) fn new() -> Result<Self> {
        let folder = folder()?;
        let keys = Keys::open(folder.path())?;
        let line = |device| Ok(keys.issue(&id(device), Date::from_unix(1_700_000_000))?.line().to_string());
        let lines = (0..DEVICES).map(line).collect::<Result<_>>()?;
        let disk = SimDisk::new()?;
        drop(Store::open(disk.path(), Durability::Os, Limits::default())?);
        Ok(Provisioned { folder, lines, empty: disk.backup() })
    }

    /// A disk with an empty store: to have each world make its own would be a fifth of its time.
    pub(crate) fn disk(&self) -> io::Result<SimDisk> {
        SimDisk::with(self.empty.clone())
    }

    /// What a sealed device was provisioned with.
    pub(crate) fn line(&self, device: usize) -> Option<String> {
        self.lines.get(device).cloned()
    }

    /// The server's keys.
    pub(crate) fn keys(&self) -> Result<Keys> {
        Ok(Keys::open(self.folder.path())?)
    }
}

/// The id of a sealed device.
pub(crate) fn id(device: usize) -> String {
    format!("s{device}")
}
