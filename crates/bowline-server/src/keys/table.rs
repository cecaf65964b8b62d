//! Who has which keys.

use std::collections::BTreeMap;

use bowline_proto::DeviceId;
use bowline_secure::{Key, KeyId, KeyRing, MAX_ID};

use super::{Date, DeviceKeys, Issued, KeyChanges, KeyInfo, KeyState, KeysError};

/// All ids that have or had a key.
#[derive(Debug, Clone, Default)]
pub(super) struct Table(pub(super) BTreeMap<Box<str>, Entry>);

/// One id's keys.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// The key id given last. The next key gets the one after it, so that a revoked key's id does not
    /// come again soon.
    pub(super) last: KeyId,
    /// At most two, the older one first. None: they were revoked, and the id stays closed (§15.2).
    pub(super) live: Vec<Live>,
}

/// A key that is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Live {
    pub(super) id: KeyId,
    pub(super) key: Key,
    pub(super) created: Date,
}

impl Table {
    pub(super) fn ring(&self, id: &str) -> Option<KeyRing> {
        let mut ring = KeyRing::revoked();
        for live in &self.0.get(id)?.live {
            // Two at most, of two ids: there is room.
            let _ = ring.add(live.id, live.key.clone());
        }
        Some(ring)
    }

    /// Whether this very key is in force, whatever was removed and made anew meanwhile.
    pub(super) fn is_live(&self, id: &str, key_id: KeyId, key: &Key) -> bool {
        self.0.get(id).is_some_and(|entry| entry.live.iter().any(|live| live.id == key_id && live.key == *key))
    }

    /// The older key that goes when `key_id`, the newer one, was shown.
    pub(super) fn outdated_by(&self, id: &str, key_id: KeyId) -> Option<KeyId> {
        match self.0.get(id)?.live.as_slice() {
            [old, new] if new.id == key_id => Some(old.id),
            _ => None,
        }
    }

    pub(super) fn issue(&mut self, id: &str, created: Date) -> Result<Issued, KeysError> {
        let checked = DeviceId::new(id).map_err(|error| KeysError::Id { id: id.to_owned(), error })?;
        if checked.as_str().len() > MAX_ID {
            return Err(KeysError::IdTooLong { id: id.to_owned() });
        }
        match self.0.get_mut(id) {
            Some(entry) => match entry.live.last() {
                Some(live) => Err(KeysError::HasKey { id: id.to_owned(), key_id: live.id }),
                None => entry.add(id, created),
            },
            None => {
                let live = Live { id: KeyId::FIRST, key: random_key()?, created };
                let issued = Issued::new(id, &live);
                self.0.insert(id.into(), Entry { last: live.id, live: vec![live] });
                Ok(issued)
            }
        }
    }

    pub(super) fn rotate(&mut self, id: &str, created: Date) -> Result<Issued, KeysError> {
        let entry = self.entry(id)?;
        match entry.live.as_slice() {
            [] => Err(KeysError::Revoked { id: id.to_owned() }),
            [old, new, ..] => Err(KeysError::Rotating { id: id.to_owned(), old: old.id, new: new.id }),
            [_] => entry.add(id, created),
        }
    }

    /// Revokes one key, or all of them.
    pub(super) fn revoke(&mut self, id: &str, which: Option<KeyId>) -> Result<Vec<KeyId>, KeysError> {
        let entry = self.entry(id)?;
        let live: Vec<_> = entry.live.iter().map(|live| live.id).collect();
        if live.is_empty() {
            return Err(KeysError::Revoked { id: id.to_owned() });
        }
        let gone: Vec<_> = live.iter().copied().filter(|id| which.is_none_or(|which| which == *id)).collect();
        match which {
            Some(key_id) if gone.is_empty() => Err(KeysError::NoSuchKey { id: id.to_owned(), key_id, live }),
            _ => {
                entry.live.retain(|live| !gone.contains(&live.id));
                Ok(gone)
            }
        }
    }

    pub(super) fn remove(&mut self, id: &str) -> Result<(), KeysError> {
        self.entry(id)?;
        self.0.remove(id);
        Ok(())
    }

    pub(super) fn list(&self) -> Vec<DeviceKeys> {
        let info = |live: &Live, state| KeyInfo { key_id: live.id, created: live.created, state };
        let keys = |entry: &Entry| match entry.live.as_slice() {
            [old, new] => vec![info(old, KeyState::Outgoing), info(new, KeyState::Incoming)],
            live => live.iter().map(|live| info(live, KeyState::Live)).collect(),
        };
        self.0.iter().map(|(id, entry)| DeviceKeys { id: id.to_string(), keys: keys(entry) }).collect()
    }

    /// What has changed from `before` to this.
    pub(super) fn since(&self, before: &Table) -> KeyChanges {
        let missing = |from: &Table, to: &Table| -> Vec<_> {
            let gone = |id: &str, live: &Live| !to.is_live(id, live.id, &live.key);
            let lives = from.0.iter().flat_map(|(id, entry)| entry.live.iter().map(move |live| (id, live)));
            lives.filter(|(id, live)| gone(id, live)).map(|(id, live)| (id.to_string(), live.id)).collect()
        };
        let removed = before.0.keys().filter(|id| !self.0.contains_key(*id)).map(ToString::to_string).collect();
        KeyChanges { added: missing(self, before), revoked: missing(before, self), removed }
    }

    fn entry(&mut self, id: &str) -> Result<&mut Entry, KeysError> {
        self.0.get_mut(id).ok_or_else(|| KeysError::Unknown { id: id.to_owned() })
    }
}

impl Entry {
    fn add(&mut self, id: &str, created: Date) -> Result<Issued, KeysError> {
        let mut key_id = self.last.next();
        while self.live.iter().any(|live| live.id == key_id) {
            key_id = key_id.next();
        }
        let live = Live { id: key_id, key: random_key()?, created };
        let issued = Issued::new(id, &live);
        self.last = key_id;
        self.live.push(live);
        Ok(issued)
    }
}

fn random_key() -> Result<Key, KeysError> {
    let mut bytes = zeroize::Zeroizing::new([0; 32]);
    loop {
        getrandom::fill(&mut *bytes).map_err(KeysError::Random)?;
        // Equal bytes all over come once in 2^248 draws.
        if let Ok(key) = Key::new(&bytes) {
            return Ok(key);
        }
    }
}
