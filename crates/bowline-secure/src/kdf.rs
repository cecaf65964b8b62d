//! Keys and tags of resumptions (§15.5) and of keyed links (§15.6): HMAC-SHA256, and HKDF of RFC 5869
//! over it.

use noise_protocol::{Hash as _, U8Array as _};
use noise_rust_crypto::Sha256;
use noise_rust_crypto::sensitive::Sensitive;
use subtle::ConstantTimeEq as _;

use crate::noise::{TransportKey, TransportKeys};
use crate::wire::{self, NONCE, PROOF, TAG, verdict};
use crate::{Key, MAX_ANSWER};

/// What keys are made for: those of one purpose say nothing of the other's.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Purpose {
    /// Of a ticket's secret.
    Resumption,
    /// Of a device's key.
    Keyed,
}

impl Purpose {
    const fn authentication(self) -> &'static [u8] {
        match self {
            Purpose::Resumption => b"bowline n auth",
            Purpose::Keyed => b"bowline n keyed auth",
        }
    }

    const fn transport(self) -> &'static [u8] {
        match self {
            Purpose::Resumption => b"bowline n keys",
            Purpose::Keyed => b"bowline n keyed keys",
        }
    }
}

/// What HKDF-Extract makes of a secret, with no salt.
pub(crate) struct Extracted {
    secret: Sensitive<[u8; 32]>,
    purpose: Purpose,
}

impl Extracted {
    pub(crate) fn new(secret: &Key, purpose: Purpose) -> Self {
        Extracted { secret: Sha256::hmac(&[0; 32], secret.expose()), purpose }
    }

    /// Device: puts the tag where the whole opening ends.
    pub(crate) fn sign_opening(&self, opening: &mut [u8]) {
        if let Some((signed, tag)) = opening.split_last_chunk_mut::<TAG>() {
            *tag = self.device_tag(signed);
        }
    }

    /// Server: whether who made this opening knows the secret. He may have made it long ago.
    pub(crate) fn has_signed(&self, opening: &[u8]) -> bool {
        opening.split_last_chunk::<TAG>().is_some_and(|(signed, tag)| self.device_tag(signed).ct_eq(tag).into())
    }

    /// Server: writes the answer to an opening, says its length, and makes the link's keys.
    pub(crate) fn answer(
        &self,
        opening: &[u8],
        nonce: &[u8; NONCE],
        out: &mut [u8; MAX_ANSWER],
    ) -> (TransportKeys, usize) {
        let opening = digest(opening);
        let mut message = [0; PROOF];
        message[..NONCE].copy_from_slice(nonce);
        let len = wire::write_answer(verdict::GO_ON, &message, out);
        let tag = self.server_tag(&opening, &out[..len - TAG]);
        out[len - TAG..len].copy_from_slice(&tag);
        (self.transport_keys(&opening, &out[..len]), len)
    }

    /// Device: the link's keys, if who made this whole answer to the opening with this hash knows the secret.
    pub(crate) fn accept(&self, opening: &[u8; 32], answer: &[u8]) -> Option<TransportKeys> {
        let (signed, tag) = answer.split_last_chunk::<TAG>()?;
        let authentic = bool::from(self.server_tag(opening, signed).ct_eq(tag));
        authentic.then(|| self.transport_keys(opening, answer))
    }

    fn device_tag(&self, opening: &[u8]) -> [u8; TAG] {
        self.tag(&[b"d", opening])
    }

    fn server_tag(&self, opening: &[u8; 32], answer: &[u8]) -> [u8; TAG] {
        self.tag(&[b"s", opening, answer])
    }

    fn tag(&self, over: &[&[u8]]) -> [u8; TAG] {
        let key = Sha256::hmac_many(self.secret.as_slice(), &[self.purpose.authentication(), &[1]]);
        tag(&key, over)
    }

    fn transport_keys(&self, opening: &[u8; 32], answer: &[u8]) -> TransportKeys {
        let info = self.purpose.transport();
        let device = Sha256::hmac_many(self.secret.as_slice(), &[info, opening, answer, &[1]]);
        let server = Sha256::hmac_many(self.secret.as_slice(), &[device.as_slice(), info, opening, answer, &[2]]);
        (device, server)
    }
}

/// The first half of HMAC-SHA256 over some bytes, one after the other.
pub(crate) fn tag(key: &TransportKey, over: &[&[u8]]) -> [u8; TAG] {
    let mac = Sha256::hmac_many(key.as_slice(), over);
    let mut tag = [0; TAG];
    tag.copy_from_slice(&mac[..TAG]);
    tag
}

/// SHA-256.
pub(crate) fn digest(bytes: &[u8]) -> [u8; 32] {
    *Sha256::hash(bytes)
}

#[cfg(test)]
mod tests {
    use std::vec;

    use super::*;

    fn hex(text: &str) -> vec::Vec<u8> {
        (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
    }

    #[test]
    fn hmac_is_that_of_rfc_4231() {
        let mac = Sha256::hmac(&[0x0b; 20], b"Hi There");
        assert_eq!(mac.as_slice(), hex("b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"));
        let mac = Sha256::hmac_many(b"Jefe", &[b"what do ya want ", b"for nothing?"]);
        assert_eq!(mac.as_slice(), hex("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"));
    }

    /// The steps of HKDF as they are taken above, on RFC 5869's test case 3 (no salt, no info).
    #[test]
    fn hkdf_is_that_of_rfc_5869() {
        let extracted = Sha256::hmac(&[0; 32], &[0x0b; 22]);
        assert_eq!(extracted.as_slice(), hex("19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04"));
        let first = Sha256::hmac_many(extracted.as_slice(), &[b"", &[1]]);
        let second = Sha256::hmac_many(extracted.as_slice(), &[first.as_slice(), b"", &[2]]);
        assert_eq!(first.as_slice(), hex("8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"));
        assert_eq!(second[..10], hex("9d201395faa4b61a96c8"));
    }
}
