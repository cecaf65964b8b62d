//! The line a board is provisioned with (§15.3).

use core::fmt;

use bowline_proto::{DeviceId, IdError};
use noise_protocol::{Hash as _, U8Array as _};
use noise_rust_crypto::Sha256;
use noise_rust_crypto::sensitive::Sensitive;
use subtle::ConstantTimeEq as _;

use crate::{Key, KeyId, MAX_ID};

/// Longest provisioning line, in bytes.
pub const MAX_PROVISION: usize = PREFIX.len() + 4 + SECRET + 1 + MAX_ID;

const PREFIX: &str = "bowline1:";
/// Characters of key and checksum: 35 bytes, 5 bits each.
const SECRET: usize = 56;
const CHECKSUM: usize = 3;
/// RFC 4648. All of it is in the small character set of QR codes.
const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// What a board is told to prove who it is. The server's address is not part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provision<'a> {
    /// Who the device is: at most [`MAX_ID`] bytes.
    pub id: DeviceId<'a>,
    /// Which of its keys this is.
    pub key_id: KeyId,
    /// The key.
    pub key: Key,
}

impl<'a> Provision<'a> {
    /// Reads a line; line ends after it are left out, letters of the key may be small ones.
    ///
    /// # Errors
    /// Says which part is wrong, and never repeats any of it.
    pub fn parse(line: &'a str) -> Result<Self, ProvisionError> {
        let line = line.trim_end_matches(['\r', '\n']);
        let fields = line.strip_prefix(PREFIX).ok_or(ProvisionError::Prefix)?;
        let (key_id, fields) = fields.split_once(':').ok_or(ProvisionError::Incomplete)?;
        let (secret, id) = fields.split_once(':').ok_or(ProvisionError::Incomplete)?;
        if key_id.len() > 3 || key_id.starts_with('0') || !key_id.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(ProvisionError::KeyId);
        }
        let key_id = key_id.parse().ok().and_then(KeyId::new).ok_or(ProvisionError::KeyId)?;
        let id = DeviceId::new(id).map_err(ProvisionError::Id)?;
        if id.as_str().len() > MAX_ID {
            return Err(ProvisionError::IdTooLong { len: id.as_str().len() });
        }
        // 64 bytes because that is what can be zeroed; 35 are used.
        let mut bytes = Sensitive::<[u8; 64]>::new();
        decode(secret.as_bytes(), &mut bytes).ok_or(ProvisionError::Key)?;
        let (key, rest) = bytes.split_first_chunk::<32>().ok_or(ProvisionError::Key)?;
        if !bool::from(rest[..CHECKSUM].ct_eq(&checksum(id, key_id, key))) {
            return Err(ProvisionError::Checksum);
        }
        Ok(Provision { id, key_id, key: Key::new(key).map_err(|_| ProvisionError::Key)? })
    }

    /// Writes the line, which holds the key. There is no `Display`, so that it gets nowhere by accident.
    ///
    /// # Errors
    /// If `out` has one.
    pub fn write_secret(&self, out: &mut impl fmt::Write) -> fmt::Result {
        write!(out, "{PREFIX}{}:", self.key_id)?;
        let checksum = checksum(self.id, self.key_id, self.key.expose());
        let mut bytes = self.key.expose().iter().chain(&checksum);
        while let Some(&first) = bytes.next() {
            let mut five = [first, 0, 0, 0, 0];
            five[1..].iter_mut().zip(&mut bytes).for_each(|(to, from)| *to = *from);
            let bits = five.iter().fold(0u64, |bits, &byte| bits << 8 | u64::from(byte));
            for shift in (0..8).rev() {
                out.write_char(char::from(ALPHABET[(bits >> (5 * shift)) as usize % 32]))?;
            }
        }
        write!(out, ":{}", self.id)
    }
}

/// The first bytes of SHA-256 over everything else in the line.
fn checksum(id: DeviceId<'_>, key_id: KeyId, key: &[u8; 32]) -> [u8; CHECKSUM] {
    let mut hash = Sha256::default();
    hash.input(PREFIX.as_bytes());
    hash.input(&[key_id.get()]);
    hash.input(key);
    hash.input(id.as_str().as_bytes());
    let [a, b, c, ..] = *hash.result();
    [a, b, c]
}

fn decode(text: &[u8], out: &mut [u8; 64]) -> Option<()> {
    let text: &[u8; SECRET] = text.try_into().ok()?;
    for (eight, five) in text.as_chunks::<8>().0.iter().zip(out.as_chunks_mut::<5>().0) {
        let mut bits = 0u64;
        for letter in eight {
            bits = bits << 5 | u64::from(value(*letter)?);
        }
        let [_, _, _, rest @ ..] = bits.to_be_bytes();
        *five = rest;
    }
    Some(())
}

const fn value(letter: u8) -> Option<u8> {
    match letter.to_ascii_uppercase() {
        letter @ b'A'..=b'Z' => Some(letter - b'A'),
        digit @ b'2'..=b'7' => Some(digit - b'2' + 26),
        _ => None,
    }
}

/// Why a line is not a provisioning line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProvisionError {
    /// It does not begin with `bowline1:`.
    Prefix,
    /// A field is missing.
    Incomplete,
    /// The key id is no number from 1 to 255.
    KeyId,
    /// The key is not 56 characters of base32, or its bytes are all the same.
    Key,
    /// The device id is none.
    Id(IdError),
    /// The device id is too long for the native protocol.
    IdTooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// A character somewhere in the line is wrong.
    Checksum,
}

impl fmt::Display for ProvisionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProvisionError::Prefix => write!(f, "expected a line that begins with {PREFIX}"),
            ProvisionError::Incomplete => write!(f, "expected {PREFIX}KEY_ID:KEY:DEVICE_ID, a field is missing"),
            ProvisionError::KeyId => f.write_str("expected a key id from 1 to 255"),
            ProvisionError::Key => {
                write!(f, "expected a key of {SECRET} letters A to Z and digits 2 to 7: copy the whole line")
            }
            ProvisionError::Id(error) => error.fmt(f),
            ProvisionError::IdTooLong { len } => {
                write!(f, "on the native protocol a device id has at most {MAX_ID} bytes, this one has {len}")
            }
            ProvisionError::Checksum => f.write_str("the line has an error somewhere: copy it again"),
        }
    }
}

impl core::error::Error for ProvisionError {}
