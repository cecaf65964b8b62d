//! With *ring*, where there is one.

use ::ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use super::Forged;
use crate::noise::TransportKey;
use crate::wire::TAG;

/// Seals all of `record` but its last [`TAG`] bytes, which become the tag.
pub(crate) fn seal(key: &TransportKey, nonce: u64, record: &mut [u8]) {
    let (body, place) = record.split_last_chunk_mut::<TAG>().expect("whoever seals has left room for the tag");
    let tag = key_of(key).seal_in_place_separate_tag(nonce_of(nonce), Aad::empty(), body);
    place.copy_from_slice(tag.expect("a record is shorter than 256 GiB").as_ref());
}

/// Opens all of `record` but the tag, its last [`TAG`] bytes.
pub(crate) fn open(key: &TransportKey, nonce: u64, record: &mut [u8]) -> Result<(), Forged> {
    key_of(key).open_in_place(nonce_of(nonce), Aad::empty(), record).map(drop).map_err(|_| Forged)
}

/// Nothing is computed here: the key is copied.
fn key_of(key: &TransportKey) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &**key).expect("a key of this cipher has 32 bytes"))
}

/// As Noise has it for this cipher: 4 bytes of zeros, and the number with its low byte first.
fn nonce_of(number: u64) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce[NONCE_LEN - 8..].copy_from_slice(&number.to_le_bytes());
    Nonce::assume_unique_for_key(nonce)
}
