//! A link's first bytes, before any record (§8.2).

use super::Writer;
use crate::{DeviceId, IdError};

/// The version spoken here.
pub const VERSION: u8 = 1;
/// Longest device id on N, in bytes.
pub const MAX_ID: usize = 96;
/// Most bytes a server reads before it has decided on an opening.
pub const MAX_OPENING: usize = 160;

const MAGIC: [u8; 4] = [0x00, b'B', b'W', b'L'];
/// Bytes of an opening before the device id.
const FIXED: usize = 8;
/// Bytes of an answer before its handshake bytes.
const ANSWER_FIXED: usize = 7;
/// Most handshake bytes there can be, in an opening and in an answer.
const MAX_HANDSHAKE: usize = 48;

/// How a link is secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Not at all.
    Open,
    /// A Noise handshake with this of the device's keys (§15.1).
    Noise {
        /// 1 to 255.
        key: u8,
    },
    /// A resumption of an earlier handshake (§15.5).
    Resume {
        /// 1 to 255.
        key: u8,
    },
    /// Authenticated with this of the device's keys, and not encrypted (§15.6).
    Keyed {
        /// 1 to 255.
        key: u8,
    },
}

/// What the device begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opening<'a> {
    /// How the link is to be secured.
    pub mode: Mode,
    /// Who it says it is.
    pub id: DeviceId<'a>,
    /// Handshake bytes: [`Mode::handshake_len`] of them.
    pub handshake: &'a [u8],
}

/// What the server answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer<'a> {
    /// The version it speaks.
    pub version: u8,
    /// `00` go on, `01` go on with a full handshake, from `80` refused: a close code plus `80`.
    pub verdict: u8,
    /// Handshake bytes.
    pub handshake: &'a [u8],
}

/// Why some bytes are no opening, or no answer to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpeningError {
    /// They do not begin as dialect N does.
    Magic,
    /// Another version: answer with ours.
    Version(u8),
    /// An unknown mode, or a key id that does not go with it.
    Mode(u8),
    /// The id is not one.
    Id(IdError),
    /// A length that cannot be.
    Length(u8),
}

impl core::fmt::Display for OpeningError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            OpeningError::Magic => f.write_str("expected the opening of the native protocol"),
            OpeningError::Version(version) => write!(f, "expected version {VERSION}, got {version}"),
            OpeningError::Mode(mode) => write!(f, "unknown mode {mode:02x}, or a key id that does not go with it"),
            OpeningError::Id(error) => write!(f, "expected a device id: {error}"),
            OpeningError::Length(len) => write!(f, "a length of {len} cannot be"),
        }
    }
}

impl core::error::Error for OpeningError {}

impl Mode {
    /// Handshake bytes in the opening.
    #[must_use]
    pub const fn handshake_len(self) -> usize {
        match self {
            Mode::Open => 0,
            Mode::Noise { .. } => MAX_HANDSHAKE,
            Mode::Resume { .. } => 41,
            Mode::Keyed { .. } => 32,
        }
    }

    const fn bytes(self) -> [u8; 2] {
        match self {
            Mode::Open => [0, 0],
            Mode::Noise { key } => [1, key],
            Mode::Resume { key } => [2, key],
            Mode::Keyed { key } => [3, key],
        }
    }
}

impl<'a> Opening<'a> {
    /// Longest opening, in bytes.
    pub const MAX_LEN: usize = FIXED + MAX_ID + MAX_HANDSHAKE;

    /// Reads the opening at the front of `bytes` and says its length; `None` if it is not whole yet,
    /// which it is within [`MAX_OPENING`] bytes. What is wrong is said as early as it can be seen.
    ///
    /// # Errors
    /// If it is none that this version answers.
    pub fn parse(bytes: &'a [u8]) -> Result<Option<(Self, usize)>, OpeningError> {
        check_magic(bytes)?;
        if let Some(&version) = bytes.get(4).filter(|&&version| version != VERSION) {
            return Err(OpeningError::Version(version));
        }
        let (Some(&mode), Some(&key)) = (bytes.get(5), bytes.get(6)) else { return Ok(None) };
        let mode = match (mode, key) {
            (0, 0) => Mode::Open,
            (1, 1..) => Mode::Noise { key },
            (2, 1..) => Mode::Resume { key },
            (3, 1..) => Mode::Keyed { key },
            _ => return Err(OpeningError::Mode(mode)),
        };
        let Some((&[.., len], rest)) = bytes.split_first_chunk::<FIXED>() else { return Ok(None) };
        let id_len = usize::from(len);
        if id_len == 0 || id_len > MAX_ID {
            return Err(OpeningError::Length(len));
        }
        let Some((id, rest)) = rest.split_at_checked(id_len) else { return Ok(None) };
        let id = DeviceId::from_bytes(id).map_err(OpeningError::Id)?;
        let Some(handshake) = rest.get(..mode.handshake_len()) else { return Ok(None) };
        Ok(Some((Opening { mode, id, handshake }, FIXED + id_len + handshake.len())))
    }

    /// Writes it to the front of `buffer` and says its length; `None` if the buffer is too short
    /// ([`MAX_OPENING`] bytes always do), the id too long for N, a key id 0 or the handshake of another mode.
    #[must_use]
    pub fn emit(&self, buffer: &mut [u8]) -> Option<usize> {
        if self.handshake.len() != self.mode.handshake_len() {
            return None;
        }
        let prologue = Self::emit_prologue(self.mode, self.id, buffer)?;
        let mut writer = Writer::new(buffer.get_mut(prologue..)?);
        writer.bytes(self.handshake);
        Some(prologue + writer.finish()?)
    }

    /// Writes what stands before the handshake bytes, which a handshake authenticates (§15.1), and
    /// says its length; `None` as for [`Opening::emit`].
    #[must_use]
    pub fn emit_prologue(mode: Mode, id: DeviceId<'_>, buffer: &mut [u8]) -> Option<usize> {
        let [mode, key] = mode.bytes();
        let id = id.as_str().as_bytes();
        let fits = id.len() <= MAX_ID && (mode == 0) == (key == 0);
        let mut writer = Writer::new(fits.then_some(buffer)?);
        writer.bytes(&MAGIC);
        writer.bytes(&[VERSION, mode, key, id.len() as u8]);
        writer.bytes(id);
        writer.finish()
    }
}

impl<'a> Answer<'a> {
    /// Longest answer, in bytes.
    pub const MAX_LEN: usize = ANSWER_FIXED + MAX_HANDSHAKE;

    /// Reads the answer at the front of `bytes` and says its length; `None` if it is not whole yet.
    ///
    /// # Errors
    /// If it is none.
    pub fn parse(bytes: &'a [u8]) -> Result<Option<(Self, usize)>, OpeningError> {
        check_magic(bytes)?;
        let Some((&[.., version, verdict, len], rest)) = bytes.split_first_chunk::<ANSWER_FIXED>() else {
            return Ok(None);
        };
        if usize::from(len) > MAX_HANDSHAKE {
            return Err(OpeningError::Length(len));
        }
        let Some(handshake) = rest.get(..len.into()) else { return Ok(None) };
        Ok(Some((Answer { version, verdict, handshake }, ANSWER_FIXED + handshake.len())))
    }

    /// Writes it to the front of `buffer` and says its length; `None` if the buffer is too short or
    /// the handshake too long.
    #[must_use]
    pub fn emit(&self, buffer: &mut [u8]) -> Option<usize> {
        let len = self.handshake.len();
        if len > MAX_HANDSHAKE {
            return None;
        }
        let mut writer = Writer::new(buffer);
        writer.bytes(&MAGIC);
        writer.bytes(&[self.version, self.verdict, len as u8]);
        writer.bytes(self.handshake);
        writer.finish()
    }
}

fn check_magic(bytes: &[u8]) -> Result<(), OpeningError> {
    if bytes.iter().zip(&MAGIC).all(|(byte, expected)| byte == expected) { Ok(()) } else { Err(OpeningError::Magic) }
}
