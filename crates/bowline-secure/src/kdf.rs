//! Keys and tags of a resumption (§15.5): HMAC-SHA256, and HKDF of RFC 5869 over it.

use noise_protocol::{Hash as _, U8Array as _};
use noise_rust_crypto::Sha256;
use noise_rust_crypto::sensitive::Sensitive;

use crate::Key;
use crate::noise::TransportKeys;
use crate::wire::TAG;

/// What HKDF-Extract makes of a ticket's secret, with no salt.
pub(crate) struct Extracted(Sensitive<[u8; 32]>);

impl Extracted {
    pub(crate) fn new(secret: &Key) -> Self {
        Extracted(Sha256::hmac(&[0; 32], secret.expose()))
    }

    /// The device's tag over its opening, up to the tag.
    pub(crate) fn device_tag(&self, opening: &[u8]) -> [u8; TAG] {
        self.tag(&[b"d", opening])
    }

    /// The server's tag over the whole opening and its answer, up to the tag.
    pub(crate) fn server_tag(&self, opening: &[u8; 32], answer: &[u8]) -> [u8; TAG] {
        self.tag(&[b"s", opening, answer])
    }

    fn tag(&self, over: &[&[u8]]) -> [u8; TAG] {
        let key = Sha256::hmac_many(self.0.as_slice(), &[b"bowline n auth", &[1]]);
        let mac = Sha256::hmac_many(key.as_slice(), over);
        let mut tag = [0; TAG];
        tag.copy_from_slice(&mac[..TAG]);
        tag
    }

    /// The transport keys, from the whole opening and the whole answer.
    pub(crate) fn transport_keys(&self, opening: &[u8; 32], answer: &[u8]) -> TransportKeys {
        let info = b"bowline n keys";
        let device = Sha256::hmac_many(self.0.as_slice(), &[info, opening, answer, &[1]]);
        let server = Sha256::hmac_many(self.0.as_slice(), &[device.as_slice(), info, opening, answer, &[2]]);
        (device, server)
    }
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
