//! Device ids.

use crate::Dialect;

/// Longest login line, in bytes without its newline (§2.2).
pub(crate) const MAX_LOGIN_LINE: usize = 128;

/// A device's id, checked: 1 to [`DeviceId::MAX_LEN`] bytes of printable UTF-8 (§2.2).
///
/// Borrowed: the engine does not keep ids, only login lines carry them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceId<'a>(&'a str);

impl<'a> DeviceId<'a> {
    /// Longest id in bytes. On dialect H the login mark takes 6 of a login line's bytes: see
    /// [`DeviceId::fits`].
    pub const MAX_LEN: usize = MAX_LOGIN_LINE;

    /// Checks `id`.
    ///
    /// # Errors
    /// Says which rule `id` breaks.
    pub fn new(id: &'a str) -> Result<Self, IdError> {
        if id.is_empty() {
            return Err(IdError::Empty);
        }
        if id.len() > Self::MAX_LEN {
            return Err(IdError::TooLong { len: id.len() });
        }
        if id.chars().any(char::is_control) {
            return Err(IdError::NotPrintable);
        }
        Ok(DeviceId(id))
    }

    /// As [`DeviceId::new`], from bytes off the wire.
    ///
    /// # Errors
    /// Says which rule the bytes break.
    pub fn from_bytes(id: &'a [u8]) -> Result<Self, IdError> {
        match core::str::from_utf8(id) {
            Ok(id) => Self::new(id),
            Err(_) => Err(IdError::NotUtf8),
        }
    }

    /// Whether the id fits into a login line of `dialect`.
    #[must_use]
    pub fn fits(self, dialect: Dialect) -> bool {
        let mark = if dialect == Dialect::Headers { 6 } else { 0 };
        mark + self.0.len() <= MAX_LOGIN_LINE
    }

    /// The id as text.
    #[must_use]
    pub const fn as_str(self) -> &'a str {
        self.0
    }
}

impl core::fmt::Display for DeviceId<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.0)
    }
}

/// Why some text is not a device id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum IdError {
    /// Nothing there.
    Empty,
    /// Longer than [`DeviceId::MAX_LEN`].
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// Contains a control character, such as a carriage return.
    NotPrintable,
    /// Not UTF-8.
    NotUtf8,
}

impl core::fmt::Display for IdError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            IdError::Empty => f.write_str("a device id needs at least one character"),
            IdError::TooLong { len } => {
                write!(
                    f,
                    "a device id has at most {} bytes, 6 less on dialect H; this one has {len}",
                    DeviceId::MAX_LEN
                )
            }
            IdError::NotPrintable => {
                f.write_str("a device id is printable text, this one has a control character in it")
            }
            IdError::NotUtf8 => f.write_str("a device id is UTF-8 text, this one is not"),
        }
    }
}

impl core::error::Error for IdError {}
