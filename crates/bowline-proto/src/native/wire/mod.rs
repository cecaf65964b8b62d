//! Bytes and meaning of dialect N (§8, §9).
//!
//! [`Opening`] and [`Answer`] are a link's first bytes. After them a lossless transport carries
//! [`record`]s, a lossy one [`serial`] frames; both carry bodies, which are [`Frame`]s back to back.
//! Sealing and unsealing bodies, where a link is not open, happens between the two: a body is taken
//! from its record in place, and written into one in place.

mod bytes;
mod frame;
mod opening;
pub mod record;
pub mod serial;
mod setup;

pub(crate) use bytes::{NUMBER_LIMIT, Reader, Writer};
pub use frame::{Ack, Best, Channel, Close, DATA_OVERHEAD, Data, Frame, Gap, MAX_CLOSE_TEXT, Parsed};
pub use opening::{Answer, MAX_ID, MAX_OPENING, Mode, Opening, OpeningError, VERSION};
pub use setup::{Credit, Cursors, Hello, MAX_CREDIT, Outcome, Start, Welcome};

/// Smallest "largest body" there is, and the largest body before one was announced (§9.3).
pub const MIN_BODY: u16 = 128;
/// Largest body there can be: a Noise message less its seal (§9.3).
pub const MAX_BODY: u16 = 65_519;

/// Why a body cannot be read further. The link ends with it (§8.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// The body ends within the frame.
    Short,
    /// A field has a value that it cannot have.
    Invalid,
    /// A frame type this version does not know and may not skip.
    Type(u8),
}

impl core::fmt::Display for FrameError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            FrameError::Short => f.write_str("expected a whole frame, the body ends within it"),
            FrameError::Invalid => f.write_str("a field of the frame has a value that it cannot have"),
            FrameError::Type(kind) => write!(f, "unknown frame type {kind:02x}"),
        }
    }
}

impl core::error::Error for FrameError {}
