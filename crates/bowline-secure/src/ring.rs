//! The keys the server has for one device (§15.3).

use crate::{Key, KeyId};

/// A device's live keys: two while they are rotated, otherwise one.
///
/// A ring without a live key is not the same as no ring: the device's keys were revoked, and its id
/// stays closed to open mode (§15.2).
#[derive(Debug, Clone, Default)]
pub struct KeyRing {
    live: [Option<(KeyId, Key)>; 2],
}

impl KeyRing {
    /// A ring with one key.
    #[must_use]
    pub const fn new(id: KeyId, key: Key) -> Self {
        KeyRing { live: [Some((id, key)), None] }
    }

    /// A ring of which every key is revoked.
    #[must_use]
    pub const fn revoked() -> Self {
        KeyRing { live: [None, None] }
    }

    /// Adds a key beside the one there is.
    ///
    /// # Errors
    /// If there are two, or one with this id.
    pub fn add(&mut self, id: KeyId, key: Key) -> Result<(), RingError> {
        if self.get(id).is_some() {
            return Err(RingError::Taken(id));
        }
        let free = self.live.iter_mut().find(|slot| slot.is_none()).ok_or(RingError::Full)?;
        *free = Some((id, key));
        Ok(())
    }

    /// Takes a key out; whether it was there. The caller ends the links that use it and calls
    /// [`crate::Tickets::revoke`].
    pub fn revoke(&mut self, id: KeyId) -> bool {
        let slot = self.live.iter_mut().find(|slot| slot.as_ref().is_some_and(|(live, _)| *live == id));
        slot.is_some_and(|slot| slot.take().is_some())
    }

    /// The live key with this id.
    #[must_use]
    pub fn get(&self, id: KeyId) -> Option<&Key> {
        self.live.iter().flatten().find(|(live, _)| *live == id).map(|(_, key)| key)
    }

    /// The ids of the live keys.
    pub fn ids(&self) -> impl Iterator<Item = KeyId> + '_ {
        self.live.iter().flatten().map(|(id, _)| *id)
    }
}

/// Why a key cannot be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RingError {
    /// There are two live keys.
    Full,
    /// There is a live key with this id.
    Taken(KeyId),
}

impl core::fmt::Display for RingError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            RingError::Full => f.write_str("a device has at most two live keys: revoke the old one first"),
            RingError::Taken(id) => {
                write!(f, "key id {id} is taken by a live key: use {} or revoke it first", id.next())
            }
        }
    }
}

impl core::error::Error for RingError {}
