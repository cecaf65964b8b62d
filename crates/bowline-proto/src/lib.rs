//! The protocol of Bowline: wire formats of all dialects and the engine that drives a link.
//!
//! This crate is `no_std`, allocates nothing and performs no I/O. It never reads a clock, a socket or
//! a random source: time, bytes and confirmations come in by `handle_*` calls, and what the driver
//! must do comes out by `poll_output`. Server, client and simulator run this same code.
//!
//! - [`wire`]: bytes and meaning. Lines of the three legacy dialects (H, U, P), checked views over
//!   them, and representations that emit into the caller's buffer.
//! - [`legacy`]: the engine for a legacy link. [`legacy::Session`] is what survives a link,
//!   [`legacy::Link`] is one transport connection's life.
//! - [`native`]: the engine of the native dialect, both sides.
//! - [`Backoff`]: how long a device waits before it connects again.
//! - [`time`]: monotonic microseconds.
//!
//! The formats are specified in `docs/protocol.md`; comments cite its sections as `§2.3`.

#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod backoff;
mod crc;
mod id;
pub mod legacy;
pub mod native;
#[doc(hidden)]
pub mod planted;
mod saved;
pub mod time;
#[cfg(test)]
mod vectors;
pub mod wire;

pub use backoff::Backoff;
pub use crc::Crc;
pub use id::{DeviceId, IdError};
pub use saved::SavedError;

/// Which end of the link this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The board's end: opens the link and logs in.
    Device,
    /// The server's end: learns who the device is from its login.
    Server,
}

/// The language a link speaks, told by the device's first bytes or by configuration (§2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// H, "headers": lines with a hexadecimal pre-header, qos per message (§3).
    Headers,
    /// U, "upstream": lines with a two-digit id, every one acknowledged (§4).
    Upstream,
    /// P, plain lines: no ids, no acknowledgements (§5).
    Plain,
}

impl Dialect {
    /// One letter, as used in documents, configuration and logs.
    #[must_use]
    pub const fn letter(self) -> char {
        match self {
            Dialect::Headers => 'H',
            Dialect::Upstream => 'U',
            Dialect::Plain => 'P',
        }
    }

    /// Whether the dialect has acknowledgements at all. Without them "exactly once" cannot be had.
    #[must_use]
    pub const fn acknowledges(self) -> bool {
        !matches!(self, Dialect::Plain)
    }

    /// Whether a message may carry a user header beside its payload.
    #[must_use]
    pub const fn has_header(self) -> bool {
        matches!(self, Dialect::Headers)
    }
}

impl core::fmt::Display for Dialect {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Dialect::Headers => "H",
            Dialect::Upstream => "U",
            Dialect::Plain => "P",
        })
    }
}
