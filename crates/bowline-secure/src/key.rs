//! Keys and their ids (§15.3).

use core::num::NonZeroU8;

use noise_protocol::U8Array as _;
use noise_rust_crypto::sensitive::Sensitive;
use subtle::ConstantTimeEq as _;

/// Which of a device's keys: 1 to 255.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(NonZeroU8);

impl KeyId {
    /// The id a device's first key has.
    pub const FIRST: KeyId = KeyId(NonZeroU8::MIN);

    /// `None` for 0, which on the wire means that there is no key.
    #[must_use]
    pub const fn new(id: u8) -> Option<Self> {
        match NonZeroU8::new(id) {
            Some(id) => Some(KeyId(id)),
            None => None,
        }
    }

    /// As on the wire: 1 to 255.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0.get()
    }

    /// The one after this; after 255 comes 1.
    #[must_use]
    pub const fn next(self) -> Self {
        match NonZeroU8::new(self.get().wrapping_add(1)) {
            Some(id) => KeyId(id),
            None => KeyId::FIRST,
        }
    }
}

impl core::fmt::Display for KeyId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.fmt(f)
    }
}

/// 32 secret bytes: a device's key, or the secret of a ticket.
///
/// Compared in constant time, zeroed when dropped, and not shown by `Debug`.
pub struct Key(Sensitive<[u8; 32]>);

impl Key {
    /// Takes a key's bytes, which must come from a good random source.
    ///
    /// # Errors
    /// If all bytes are the same: memory that was never written, or a random source that does not run.
    pub fn new(bytes: &[u8; 32]) -> Result<Self, ErasedKey> {
        if bytes.iter().all(|byte| *byte == bytes[0]) { Err(ErasedKey) } else { Ok(Key::from_any(bytes)) }
    }

    /// The bytes, to store them.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    pub(crate) fn from_any(bytes: &[u8; 32]) -> Self {
        Key(Sensitive::from_slice(bytes))
    }
}

impl Clone for Key {
    fn clone(&self) -> Self {
        Key::from_any(&self.0)
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&*other.0).into()
    }
}

impl Eq for Key {}

impl core::fmt::Debug for Key {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Key(..)")
    }
}

/// All bytes of what was to be a key are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErasedKey;

impl core::fmt::Display for ErasedKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("expected a key of random bytes, all of these are the same: provision the device again")
    }
}

impl core::error::Error for ErasedKey {}
