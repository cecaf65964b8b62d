//! The first line of a link: who is there, in which dialect (§2.1, §2.2).

use super::hex;
use crate::id::MAX_LOGIN_LINE;
use crate::{DeviceId, Dialect, IdError};

/// Longest login line, in bytes without its newline.
pub const MAX_LINE: usize = MAX_LOGIN_LINE;

/// What the client sends before its id on H: protocol mark `2c`, no header, clean-connection flags.
const HEADERS_MARK: &[u8; 6] = b"2c00ff";

/// What a link's first bytes say about its dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// The bytes are those of Bowline's own protocol, whose first byte is never printable.
    Native,
    /// A legacy login line follows.
    Line,
}

impl Opening {
    /// Tells by the first byte.
    #[must_use]
    pub const fn of(first: u8) -> Self {
        match first {
            0x00 => Opening::Native,
            _ => Opening::Line,
        }
    }
}

/// A login, read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Login<'a> {
    /// H or U. A U login of a device that is set to plain lines is a P login: the wire cannot tell.
    pub dialect: Dialect,
    /// Who it says it is.
    pub id: DeviceId<'a>,
}

/// Why a first line is no login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoginError {
    /// An empty line.
    Empty,
    /// An HTTP request: a browser or a scanner, not a device.
    Http,
    /// The id is not one.
    Id(IdError),
}

impl core::fmt::Display for LoginError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            LoginError::Empty => f.write_str("expected a login line, got an empty one"),
            LoginError::Http => {
                f.write_str("expected a login line, got an HTTP request: this port is for devices, not browsers")
            }
            LoginError::Id(error) => write!(f, "expected a login line with a device id: {error}"),
        }
    }
}

impl core::error::Error for LoginError {}

impl From<IdError> for LoginError {
    fn from(error: IdError) -> Self {
        LoginError::Id(error)
    }
}

impl<'a> Login<'a> {
    /// Reads a first line, without its newline.
    ///
    /// # Errors
    /// If it is no login of any legacy dialect.
    pub fn parse(line: &'a [u8]) -> Result<Self, LoginError> {
        if line.is_empty() {
            return Err(LoginError::Empty);
        }
        if is_http(line) {
            return Err(LoginError::Http);
        }
        if line.len() > MAX_LINE {
            return Err(LoginError::Id(IdError::TooLong { len: line.len() }));
        }
        let id = |bytes| DeviceId::from_bytes(bytes).map_err(LoginError::Id);
        match line {
            // Mark, header length 0, any flags, and at least one character of id.
            [b'2', b'c' | b'C', b'0', b'0', high, low, rest @ ..]
                if hex::pair(*high, *low).is_some() && !rest.is_empty() =>
            {
                Ok(Login { dialect: Dialect::Headers, id: id(rest)? })
            }
            _ => Ok(Login { dialect: Dialect::Upstream, id: id(line)? }),
        }
    }

    /// Writes the login line with its newline at the front of `buffer` and says how many bytes that
    /// took, or `None` if the buffer is too short ([`MAX_LINE`]` + 1` bytes always do).
    #[must_use]
    pub fn emit(&self, buffer: &mut [u8]) -> Option<usize> {
        let mark: &[u8] = if self.dialect == Dialect::Headers { HEADERS_MARK } else { &[] };
        let id = self.id.as_str().as_bytes();
        let buffer = buffer.get_mut(..mark.len() + id.len() + 1)?;
        let (front, rest) = buffer.split_at_mut(mark.len());
        front.copy_from_slice(mark);
        rest[..id.len()].copy_from_slice(id);
        rest[id.len()] = b'\n';
        Some(mark.len() + id.len() + 1)
    }
}

/// Whether `line` is the first line of an HTTP request, with or without its carriage return.
fn is_http(line: &[u8]) -> bool {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    line.len() > 9 && line[line.len() - 9..].starts_with(b" HTTP/")
}
