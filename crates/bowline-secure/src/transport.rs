//! What seals and opens bodies once a link is secured (§15.1, §15.6, §13.3).

use subtle::ConstantTimeEq as _;

use bowline_proto::Side;

use crate::noise::{TransportKey, TransportKeys};
use crate::wire::TAG;
use crate::{cipher, kdf};

/// Bytes of the counter in front of a sealed body on a lossy transport.
const COUNTER: usize = 4;

/// How many records one direction of a link may carry on a lossless transport: nobody gets there, and
/// it stays far from the nonces that Noise reserves.
const LOSSLESS_RECORDS: u64 = 1 << 48;
/// The same on a lossy one: each value of the counter once.
const LOSSY_RECORDS: u64 = 1 << 32;

/// What a link runs over (§8.1). Both ends know it by configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Carrier {
    /// A reliable ordered stream: the nth record is the nth.
    Lossless,
    /// Anything else: each record carries its number.
    Lossy,
}

impl Carrier {
    /// How many bytes a sealed body has in front of the body.
    #[must_use]
    pub const fn headroom(self) -> usize {
        match self {
            Carrier::Lossless => 0,
            Carrier::Lossy => COUNTER,
        }
    }

    /// How many bytes longer than the body a sealed body is.
    #[must_use]
    pub const fn overhead(self) -> usize {
        self.headroom() + TAG
    }
}

/// How the link of a device with a key is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protection {
    /// Encrypted, after a full handshake (§15.1).
    Handshake,
    /// Encrypted, after a resumption (§15.5).
    Resumed,
    /// Authenticated only: everybody on the path can read it (§15.6).
    Keyed,
}

impl Protection {
    /// Whether nobody on the path can read the link's messages.
    #[must_use]
    pub const fn encrypts(self) -> bool {
        match self {
            Protection::Handshake | Protection::Resumed => true,
            Protection::Keyed => false,
        }
    }
}

/// Seals and opens the bodies of one link. On a keyed link ([`Protection::Keyed`]) a sealed body is the body
/// itself with a tag behind it; what is said of sealing goes for it all the same.
///
/// Each direction has its own key, and each body its own nonce. A body is sealed and opened where it
/// is, in the caller's buffer.
pub struct Transport {
    seal: TransportKey,
    open: TransportKey,
    carrier: Carrier,
    protection: Protection,
    /// The nonce of the next body sealed.
    next_out: u64,
    /// Lossless: the nonce of the next body opened. Lossy: one more than the highest opened.
    next_in: u64,
    /// Lossy: bit i says that the body `next_in - 1 - i` was opened.
    seen: u32,
    /// Bodies that were refused on this link.
    refused: u32,
}

impl Transport {
    pub(crate) fn new(side: Side, keys: TransportKeys, carrier: Carrier, protection: Protection) -> Self {
        let (seal, open) = match side {
            Side::Device => keys,
            Side::Server => (keys.1, keys.0),
        };
        Transport { seal, open, carrier, protection, next_out: 0, next_in: 0, seen: 0, refused: 0 }
    }

    /// Seals the body of `len` bytes at [`Carrier::headroom`] in `buffer`, and says how many bytes
    /// from the front of `buffer` are to be sent: [`Carrier::overhead`] more than `len`.
    ///
    /// # Errors
    /// If there is no body or the buffer is too short, in which case nothing has changed, or if the link
    /// has had all the records it may have.
    pub fn seal(&mut self, buffer: &mut [u8], len: usize) -> Result<usize, SealError> {
        if self.remaining() == 0 {
            return Err(SealError::Exhausted);
        }
        if len == 0 {
            return Err(SealError::Empty);
        }
        let needed = len.saturating_add(self.carrier.overhead());
        let got = buffer.len();
        let buffer = buffer.get_mut(..needed).ok_or(SealError::Buffer { needed, got })?;
        let body = match self.carrier {
            Carrier::Lossless => buffer,
            Carrier::Lossy => {
                let (counter, body) =
                    buffer.split_first_chunk_mut::<COUNTER>().ok_or(SealError::Buffer { needed, got })?;
                *counter = (self.next_out as u32).to_be_bytes();
                body
            }
        };
        if self.protection.encrypts() {
            cipher::seal(&self.seal, self.next_out, body);
        } else {
            let (body, tag) = body.split_last_chunk_mut::<TAG>().ok_or(SealError::Buffer { needed, got })?;
            *tag = record_tag(&self.seal, self.next_out, body);
        }
        self.next_out += 1;
        Ok(needed)
    }

    /// Opens what the peer sealed, in place, and says where in `sealed` the body is. It can be for this
    /// layer: see [`crate::is_security_body`].
    ///
    /// # Errors
    /// If it is not what the peer sealed for this link, this direction and this place; what is left in
    /// `sealed` is of no use then. On a lossless transport the link is to be ended, on a lossy one the frame is dropped.
    pub fn open<'b>(&mut self, sealed: &'b mut [u8]) -> Result<&'b mut [u8], OpenError> {
        let opened = self.try_open(sealed);
        if opened.is_err() {
            self.refused = self.refused.saturating_add(1);
        }
        opened
    }

    fn try_open<'b>(&mut self, sealed: &'b mut [u8]) -> Result<&'b mut [u8], OpenError> {
        // A body has at least one byte.
        if sealed.len() <= self.carrier.overhead() {
            return Err(OpenError::Short);
        }
        // The number of forgeries one key may see is bounded; 2^32 is far below what the cipher bears.
        if self.refused == u32::MAX {
            return Err(OpenError::Exhausted);
        }
        match self.carrier {
            Carrier::Lossless => {
                if self.next_in >= LOSSLESS_RECORDS {
                    return Err(OpenError::Exhausted);
                }
                let body = open_with(self.protection, &self.open, self.next_in, sealed)?;
                self.next_in += 1;
                Ok(body)
            }
            Carrier::Lossy => {
                let (counter, body) = sealed.split_first_chunk_mut::<COUNTER>().ok_or(OpenError::Short)?;
                let nonce = u64::from(u32::from_be_bytes(*counter));
                if self.was_seen(nonce) {
                    return Err(OpenError::Replayed);
                }
                let body = open_with(self.protection, &self.open, nonce, body)?;
                self.mark_seen(nonce);
                Ok(body)
            }
        }
    }

    /// Whether a body with this nonce was opened, or is too old to tell.
    const fn was_seen(&self, nonce: u64) -> bool {
        if nonce >= self.next_in {
            return false;
        }
        let age = self.next_in - 1 - nonce;
        age >= u32::BITS as u64 || self.seen & (1 << age) != 0
    }

    const fn mark_seen(&mut self, nonce: u64) {
        if nonce >= self.next_in {
            let step = nonce + 1 - self.next_in;
            self.seen = if step < u32::BITS as u64 { self.seen << step } else { 0 };
            self.next_in = nonce + 1;
        }
        self.seen |= 1 << (self.next_in - 1 - nonce);
    }

    /// What the link runs over.
    #[must_use]
    pub const fn carrier(&self) -> Carrier {
        self.carrier
    }

    /// How the link is protected.
    #[must_use]
    pub const fn protection(&self) -> Protection {
        self.protection
    }

    /// Whether the link began with a resumption.
    #[must_use]
    pub const fn resumed(&self) -> bool {
        matches!(self.protection, Protection::Resumed)
    }

    /// Whether a body was opened: only then has the peer shown that it is there now, and that its
    /// opening was not a recording (§15.4).
    #[must_use]
    pub const fn confirmed(&self) -> bool {
        self.next_in > 0
    }

    /// How many more bodies can be sealed. The driver of a lossy link begins a new link before this
    /// is 0.
    #[must_use]
    pub const fn remaining(&self) -> u64 {
        let limit = match self.carrier {
            Carrier::Lossless => LOSSLESS_RECORDS,
            Carrier::Lossy => LOSSY_RECORDS,
        };
        limit.saturating_sub(self.next_out)
    }

    /// How many bodies were refused.
    #[must_use]
    pub const fn refused(&self) -> u32 {
        self.refused
    }
}

impl core::fmt::Debug for Transport {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Transport")
            .field("carrier", &self.carrier)
            .field("protection", &self.protection)
            .field("next_out", &self.next_out)
            .field("next_in", &self.next_in)
            .field("refused", &self.refused)
            .finish_non_exhaustive()
    }
}

fn open_with<'b>(
    protection: Protection,
    key: &TransportKey,
    nonce: u64,
    sealed: &'b mut [u8],
) -> Result<&'b mut [u8], OpenError> {
    let len = sealed.len();
    if !protection.encrypts() {
        let (body, tag) = sealed.split_last_chunk_mut::<TAG>().ok_or(OpenError::Short)?;
        let authentic = bool::from(record_tag(key, nonce, body).ct_eq(tag));
        return if authentic { Ok(body) } else { Err(OpenError::Forged) };
    }
    let body = len.checked_sub(TAG).ok_or(OpenError::Short)?;
    cipher::open(key, nonce, sealed).map_err(|_| OpenError::Forged)?;
    sealed.get_mut(..body).ok_or(OpenError::Short)
}

/// The tag of a body on a keyed link. Its direction is in the key.
fn record_tag(key: &TransportKey, counter: u64, body: &[u8]) -> [u8; TAG] {
    kdf::tag(key, &[&counter.to_be_bytes(), body])
}

/// Why a body cannot be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SealError {
    /// A body has at least one byte (§8.3).
    Empty,
    /// The buffer is too short.
    Buffer {
        /// Bytes it needs.
        needed: usize,
        /// Bytes it has.
        got: usize,
    },
    /// The link has carried all the records it may: begin a new one.
    Exhausted,
}

/// Why a sealed body is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenError {
    /// No body fits into it.
    Short,
    /// Not sealed by the peer, or not for this place.
    Forged,
    /// Its number was there before, or is too old to tell.
    Replayed,
    /// The link has seen all it may: begin a new one.
    Exhausted,
}

impl core::fmt::Display for SealError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            SealError::Empty => f.write_str("expected a body of at least one byte"),
            SealError::Buffer { needed, got } => {
                write!(f, "sealing needs a buffer of {needed} bytes, this one has {got}")
            }
            SealError::Exhausted => f.write_str("the link has carried as many records as it may: begin a new one"),
        }
    }
}

impl core::fmt::Display for OpenError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            OpenError::Short => "expected a sealed body, this is too short for one",
            OpenError::Forged => "the body was not sealed by the peer for this place in this link",
            OpenError::Replayed => "the body came before, or too late to tell",
            OpenError::Exhausted => "the link has seen as many records as it may: begin a new one",
        })
    }
}

impl core::error::Error for SealError {}
impl core::error::Error for OpenError {}

#[cfg(test)]
mod tests;
