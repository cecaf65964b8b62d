//! The rows of devices that the writer knows.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use rusqlite::Connection;

use crate::device::DeviceRow;
use crate::error::Failure;
use crate::read;

/// Rows of devices that were read or written before, as the open transaction leaves them: each is checked once and
/// then written only. After a rollback it must forget them.
#[derive(Debug, Default)]
pub(crate) struct Known {
    rows: HashMap<Arc<str>, DeviceRow>,
    /// Not written yet.
    changed: Vec<Arc<str>>,
}

/// Most rows known. A few hundred bytes each.
const KNOWN: usize = 4096;

impl Known {
    pub(crate) fn forget_all(&mut self) {
        self.rows.clear();
        self.changed.clear();
    }

    /// The row of this device, if there is one.
    pub(crate) fn get(&mut self, db: &Connection, device: &Arc<str>) -> Result<Option<&mut DeviceRow>, Failure> {
        // Those changed must stay.
        if self.rows.len() >= KNOWN && self.changed.is_empty() {
            self.rows.clear();
        }
        match self.rows.entry(Arc::clone(device)) {
            Entry::Occupied(known) => Ok(Some(known.into_mut())),
            Entry::Vacant(place) => Ok(read::row(db, device)?.map(|row| place.insert(row))),
        }
    }

    /// As [`Known::get`], for a change of the row, which is written by [`Known::write`].
    pub(crate) fn change(&mut self, db: &Connection, device: &Arc<str>) -> Result<Option<&mut DeviceRow>, Failure> {
        // Rarely more than two.
        if !self.changed.contains(device) {
            self.changed.push(Arc::clone(device));
        }
        self.get(db, device)
    }

    /// A new device.
    pub(crate) fn add(&mut self, row: DeviceRow) {
        self.changed.push(Arc::clone(&row.name));
        self.rows.insert(Arc::clone(&row.name), row);
    }

    /// A device that is forgotten.
    pub(crate) fn remove(&mut self, device: &str) {
        self.rows.remove(device);
    }

    /// Writes what was changed.
    pub(crate) fn write(&mut self, db: &Connection) -> rusqlite::Result<()> {
        for device in self.changed.drain(..) {
            if let Some(row) = self.rows.get(&device) {
                row.store(db)?;
            }
        }
        Ok(())
    }
}
