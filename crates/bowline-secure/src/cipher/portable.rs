//! On any processor, without an operating system.

use noise_protocol::Cipher as _;
use noise_rust_crypto::ChaCha20Poly1305;

use super::Forged;
use crate::noise::TransportKey;
use crate::wire::TAG;

/// Seals all of `record` but its last [`TAG`] bytes, which become the tag.
pub(crate) fn seal(key: &TransportKey, nonce: u64, record: &mut [u8]) {
    let body = record.len() - TAG;
    ChaCha20Poly1305::encrypt_in_place(key, nonce, &[], record, body);
}

/// Opens all of `record` but the tag, its last [`TAG`] bytes.
pub(crate) fn open(key: &TransportKey, nonce: u64, record: &mut [u8]) -> Result<(), Forged> {
    let len = record.len();
    if len < TAG {
        return Err(Forged);
    }
    ChaCha20Poly1305::decrypt_in_place(key, nonce, &[], record, len).map(drop).map_err(|()| Forged)
}
