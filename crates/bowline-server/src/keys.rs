//! The registry of device keys (§15.3).

mod date;
mod drawer;
mod error;
mod file;
mod format;
mod table;

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use bowline_proto::DeviceId;
use bowline_proto::time::Instant;
use bowline_secure::{Key, KeyId, KeyRing, Provision, Redeemed, Redemption, TICKET_BODY, Transport};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use zeroize::Zeroizing;

use drawer::Drawer;
use file::KeyFile;
use table::{Live, Table};

pub use date::Date;
pub use error::KeysError;

/// The keys of all devices, in memory and, if opened with a folder, in a file. Clones are the same
/// registry.
///
/// A device has one live key, or two while they are rotated: the older one goes when the device has
/// shown the newer, or when it is revoked. An id whose keys are all revoked stays known, so that it is
/// not open to everybody (§15.2), until it is removed.
///
/// Whoever changes a key file reads it first, under a lock: several processes can share one. What the
/// others have changed a registry learns by [`Keys::reload`]. Methods that change keys write to disk;
/// from asynchronous code, call them where blocking is allowed.
#[derive(Clone, Default)]
pub struct Keys(Arc<Shared>);

struct Shared {
    file: Option<KeyFile>,
    /// Held while keys are changed.
    changing: Mutex<()>,
    table: RwLock<Table>,
    tickets: Drawer,
    /// Told after each change.
    changed: Notify,
}

/// A key just made. What goes to the device is its [`Issued::line`].
#[derive(Debug)]
pub struct Issued {
    /// The device.
    pub id: String,
    /// Which of its keys this is.
    pub key_id: KeyId,
    key: Key,
}

/// What is shown of a device's keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceKeys {
    /// The device.
    pub id: String,
    /// Its live keys, the older one first. None: they are revoked.
    pub keys: Vec<KeyInfo>,
}

/// What is shown of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyInfo {
    /// Which of the device's keys.
    pub key_id: KeyId,
    /// When it was made.
    pub created: Date,
    /// What will become of it.
    pub state: KeyState,
}

/// What will become of a live key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyState {
    /// It is the only one.
    Live,
    /// It goes as soon as the device has shown the newer one.
    Outgoing,
    /// The device has not shown it yet.
    Incoming,
}

/// What was different in the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyChanges {
    /// Keys that are in force now and were not before.
    pub added: Vec<(String, KeyId)>,
    /// Keys that are not in force any more.
    pub revoked: Vec<(String, KeyId)>,
    /// Ids that are not known any more. Where open mode is allowed, they are open.
    pub removed: Vec<String>,
}

/// What let a link in. Asked again whenever keys change.
#[derive(Debug, Clone)]
pub(crate) enum Proof {
    /// Nothing: the id had no key.
    Open,
    /// This key, or a ticket made under it.
    Key(KeyId, Key),
}

impl Keys {
    /// The keys in the folder `data`. Without a file there are none; the first key makes it, and the
    /// folder if that is not there either.
    ///
    /// # Errors
    /// If the file cannot be read, others can read it too, or it is not whole.
    pub fn open(data: &Path) -> Result<Self, KeysError> {
        let file = KeyFile::new(data);
        let table = file.read()?.unwrap_or_default();
        Ok(Keys(Arc::new(Shared { file: Some(file), table: RwLock::new(table), ..Shared::default() })))
    }

    /// Makes the first key of a device, or one for a device whose keys are revoked.
    ///
    /// # Errors
    /// If the id is none, too long, or has a live key; or the file cannot be changed.
    pub fn issue(&self, id: &str, today: Date) -> Result<Issued, KeysError> {
        self.change(|table| table.issue(id, today)).map(|(issued, _)| issued)
    }

    /// Makes the first keys of many devices in one change of the file: all of them, or none.
    ///
    /// # Errors
    /// As [`Keys::issue`].
    pub fn issue_all<'a>(&self, ids: impl IntoIterator<Item = &'a str>, today: Date) -> Result<Vec<Issued>, KeysError> {
        let issue = |table: &mut Table| ids.into_iter().map(|id| table.issue(id, today)).collect();
        self.change(issue).map(|(issued, _)| issued)
    }

    /// Makes a second key for a device. The first one stays in force until the device has shown the
    /// second, or one of them is revoked.
    ///
    /// # Errors
    /// If the id has no live key, or two; or the file cannot be changed.
    pub fn rotate(&self, id: &str, today: Date) -> Result<Issued, KeysError> {
        self.change(|table| table.rotate(id, today)).map(|(issued, _)| issued)
    }

    /// Revokes one of a device's keys, or all of them, and says which they were. The id stays known.
    ///
    /// # Errors
    /// If there is no such live key; or the file cannot be changed.
    pub fn revoke(&self, id: &str, which: Option<KeyId>) -> Result<Vec<KeyId>, KeysError> {
        self.change(|table| table.revoke(id, which)).map(|(revoked, _)| revoked)
    }

    /// Forgets an id. Its keys are in force no more, and where the server is open, the id is open.
    ///
    /// # Errors
    /// If it is not known; or the file cannot be changed.
    pub fn remove(&self, id: &str) -> Result<(), KeysError> {
        self.change(|table| table.remove(id)).map(|((), _)| ())
    }

    /// All ids that have or had a key, in alphabetical order.
    #[must_use]
    pub fn list(&self) -> Vec<DeviceKeys> {
        self.table().list()
    }

    /// Whether the id has or had a key.
    #[must_use]
    pub fn knows(&self, id: &str) -> bool {
        self.table().0.contains_key(id)
    }

    /// How many ids have or had a key.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table().0.len()
    }

    /// Whether no id has or had a key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads the file again and says what has changed. Without a file, nothing has.
    ///
    /// # Errors
    /// As [`Keys::open`], or if there were keys and the file is gone. The keys are then as before.
    pub fn reload(&self) -> Result<KeyChanges, KeysError> {
        let Some(file) = &self.0.file else { return Ok(KeyChanges::default()) };
        let _changing = self.0.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let table = self.stored(file)?;
        Ok(self.put(table))
    }

    /// The keys of an id; `None` if it never had one.
    pub(crate) fn ring(&self, id: &str) -> Option<KeyRing> {
        self.table().ring(id)
    }

    /// Whether a link of this device would still be let in by what let it in.
    pub(crate) fn admit(&self, id: &str, proof: &Proof) -> bool {
        match proof {
            Proof::Open => !self.knows(id),
            Proof::Key(key_id, key) => self.table().is_live(id, *key_id, key),
        }
    }

    /// The older key that is to go because a device has shown this one.
    pub(crate) fn outdated_by(&self, id: &str, shown: KeyId) -> Option<KeyId> {
        self.table().outdated_by(id, shown)
    }

    /// The device has shown this key: an older one goes. Says what has changed, by others too.
    pub(crate) fn retire_older(&self, id: &str, shown: KeyId) -> Result<KeyChanges, KeysError> {
        let retire = |table: &mut Table| match table.outdated_by(id, shown) {
            Some(old) => table.revoke(id, Some(old)).map(drop),
            None => Ok(()),
        };
        self.change(retire).map(|((), changes)| changes)
    }

    /// A ticket for a device that has shown this key on a link of its own; its body is to be sealed and
    /// sent. `None` if there is none to be had (§15.5) or the key was revoked meanwhile. `devices` is how
    /// many there may be: the first ticket makes the table. Nobody can guess `random`.
    pub(crate) fn ticket(
        &self,
        id: DeviceId<'_>,
        key_id: KeyId,
        key: &Key,
        transport: &Transport,
        devices: usize,
        random: &[u8; 40],
    ) -> Option<[u8; TICKET_BODY]> {
        // Held, so that a revocation comes before or finds the ticket.
        let table = self.table();
        table.is_live(id.as_str(), key_id, key).then(|| self.0.tickets.issue(id, key_id, transport, devices, random))?
    }

    /// Decides on a resumption.
    pub(crate) fn redeem(&self, asked: &Redemption<'_>) -> Option<Redeemed> {
        self.0.tickets.redeem(asked)
    }

    /// The time by which tickets expire.
    pub(crate) fn now(&self) -> Instant {
        self.0.tickets.now()
    }

    /// Waits for a change from now on.
    pub(crate) fn changed(&self) -> Notified<'_> {
        self.0.changed.notified()
    }

    /// Changes what is stored, which may be newer than what is in memory; then what is in memory.
    fn change<T>(&self, apply: impl FnOnce(&mut Table) -> Result<T, KeysError>) -> Result<(T, KeyChanges), KeysError> {
        // What it guards is changed in one step.
        let _changing = self.0.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let (done, table) = match &self.0.file {
            Some(file) => {
                let writer = file.writer()?;
                let mut table = self.stored(file)?;
                let done = apply(&mut table)?;
                writer.write(&table)?;
                (done, table)
            }
            None => {
                let mut table = self.table().clone();
                (apply(&mut table)?, table)
            }
        };
        Ok((done, self.put(table)))
    }

    fn stored(&self, file: &KeyFile) -> Result<Table, KeysError> {
        match file.read()? {
            Some(table) => Ok(table),
            // An empty registry would open every id.
            None if !self.is_empty() => Err(KeysError::Gone(file.path().to_owned())),
            None => Ok(Table::default()),
        }
    }

    fn put(&self, table: Table) -> KeyChanges {
        let mut current = self.0.table.write().unwrap_or_else(PoisonError::into_inner);
        let changes = table.since(&current);
        *current = table;
        // Before anybody sees the new table: a key made anew under the same key id inherits no ticket.
        self.0.tickets.revoke(&changes);
        drop(current);
        self.0.changed.notify_waiters();
        changes
    }

    fn table(&self) -> RwLockReadGuard<'_, Table> {
        // Replaced in one step, so that it is whole whoever panicked.
        self.0.table.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Shared {
    fn default() -> Self {
        Shared {
            file: None,
            changing: Mutex::new(()),
            table: RwLock::default(),
            tickets: Drawer::new(),
            changed: Notify::new(),
        }
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("file", &self.0.file).field("ids", &self.len()).finish_non_exhaustive()
    }
}

impl Issued {
    fn new(id: &str, live: &Live) -> Self {
        Issued { id: id.to_owned(), key_id: live.id, key: live.key.clone() }
    }

    /// The line to provision the device with (§15.3). It holds the key.
    #[must_use]
    pub fn line(&self) -> Zeroizing<String> {
        let mut line = Zeroizing::new(String::with_capacity(bowline_secure::MAX_PROVISION));
        if let Ok(id) = DeviceId::new(&self.id) {
            // Nothing fails to be written into memory, and the id was checked when the key was made.
            let _ = Provision { id, key_id: self.key_id, key: self.key.clone() }.write_secret(&mut *line);
        }
        line
    }
}

impl KeyChanges {
    /// Whether nothing has changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.revoked.is_empty() && self.removed.is_empty()
    }
}

#[cfg(test)]
mod tests;
