//! The security layer of a native link: what both ends put between the session and the transport.
//!
//! One 32-byte [`Key`] per device proves who it is. A link begins with a handshake (Noise
//! `NNpsk0_25519_ChaChaPoly_SHA256`, mode 01) or with a resumption that needs no Diffie-Hellman
//! (mode 02); either ends in a [`Transport`], which seals and opens bodies in place. Devices that can
//! hash and no more use the same key on a keyed link (mode 03), which is authenticated and not encrypted.
//!
//! - Device: [`Handshake`] or, with a [`Ticket`], [`Resumption`]; or [`Keyed`].
//! - Server: [`Gate`] decides on an opening, [`KeyRing`] holds a device's keys, [`Tickets`] what may
//!   be resumed.
//! - Both: [`Transport`], [`check_versions`], [`Provision`] (the line a board is set up with).
//!
//! `no_std`, no allocation, no I/O: random bytes and time are inputs, buffers are the caller's, and no
//! input can cause a panic. The layer is specified in `docs/protocol.md`, chapter 15; comments cite
//! its sections as `§15.1`.
//!
//! What is secret is zeroed when it is dropped. These exceptions cannot be had without unsafe code: copies that a move
//! leaves behind, the copy of the key inside `noise-protocol`'s handshake state, and with the feature `ring` the one
//! that is on the stack while a record is sealed or opened.
//!
//! Feature `ring`: records are sealed and opened by *ring*, in assembly, instead of portable code. The bytes are the
//! same. It needs an operating system and a C compiler; the server and the client for Linux have it.

#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod cipher;
mod gate;
mod handshake;
mod kdf;
mod key;
mod keyed;
mod noise;
mod provision;
mod resumption;
mod ring;
mod tickets;
mod transport;
mod version;
mod wire;

use bowline_proto::native::wire::{Answer, Opening};

pub use gate::{Decision, Gate, Standing};
pub use handshake::{AnswerError, Handshake, StartError};
pub use key::{ErasedKey, Key, KeyId};
pub use keyed::Keyed;
pub use noise::Ephemeral;
pub use provision::{MAX_PROVISION, Provision, ProvisionError};
pub use resumption::{Resumed, Resumption, Ticket, TicketError};
pub use ring::{KeyRing, RingError};
pub use tickets::{Grant, Redeemed, Redemption, TicketSlot, Tickets};
pub use transport::{Carrier, OpenError, Protection, SealError, Transport};
pub use version::{VersionError, check_versions};

pub use bowline_proto::native::wire::{MAX_ID, VERSION};

/// Longest opening, in bytes: one of mode 01 with the longest id.
pub const MAX_OPENING: usize = Opening::MAX_LEN;
/// Longest answer, in bytes.
pub const MAX_ANSWER: usize = Answer::MAX_LEN;
/// Length of a TICKET body, in bytes (§15.5).
pub const TICKET_BODY: usize = 46;

/// Close codes of §16.2 that refuse an opening.
pub mod code {
    /// What came cannot be read.
    pub const PROTOCOL: u8 = 2;
    /// Another version, or a downgrade.
    pub const VERSION: u8 = 7;
    /// This mode is not allowed for this id.
    pub const NOT_ALLOWED: u8 = 8;
    /// Id, key id or key are not known, or revoked: which of them is not said.
    pub const KEY: u8 = 9;
    /// Not now: the server has enough to do.
    pub const TRY_AGAIN: u8 = 10;
}

/// Whether a body, once opened, is for this layer and not for the session: its first frame is of the
/// types `20` to `2f` (§15.5). Such a body holds one frame.
#[must_use]
pub const fn is_security_body(body: &[u8]) -> bool {
    matches!(body, [0x20..=0x2f, ..])
}
