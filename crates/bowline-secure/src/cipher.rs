//! The cipher of records: ChaCha20-Poly1305 (RFC 8439) with the nonces of Noise and no associated data.
//!
//! Two implementations of the same bytes: one that runs anywhere, and with the feature `ring` that of *ring*, in
//! assembly for processors that have an operating system. Most records are a few bytes: there it counts what a record
//! takes before its first byte.

#[cfg(any(test, not(feature = "ring")))]
mod portable;
#[cfg(feature = "ring")]
mod quick;

#[cfg(not(feature = "ring"))]
pub(crate) use portable::{open, seal};
#[cfg(feature = "ring")]
pub(crate) use quick::{open, seal};

/// A record is not what the holder of the key has sealed under this nonce. What is left of it is of no use.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Forged;

#[cfg(all(test, feature = "ring"))]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use noise_protocol::U8Array as _;

    use super::{Forged, portable, quick};
    use crate::noise::TransportKey;
    use crate::wire::TAG;

    /// Lengths around those at which implementations change what they do: blocks of 16 and 64 bytes, and several at a
    /// time.
    fn lengths() -> impl Iterator<Item = usize> {
        (0..=300).chain([511, 512, 513, 1023, 1024, 1025, 4095, 4096, 16_384])
    }

    #[test]
    fn both_make_the_same_records_and_open_each_others() {
        let key = TransportKey::from_slice(&[0x5a; 32]);
        for len in lengths() {
            let body: Vec<u8> = (0..len).map(|at| at as u8).collect();
            let nonce = 0x0102_0304_0506_0708 + len as u64;
            let (mut one, mut other) = (vec![0xff; len + TAG], vec![0; len + TAG]);
            one[..len].copy_from_slice(&body);
            other[..len].copy_from_slice(&body);
            portable::seal(&key, nonce, &mut one);
            quick::seal(&key, nonce, &mut other);
            assert_eq!(one, other, "{len} bytes");
            assert_eq!((portable::open(&key, nonce, &mut other), &other[..len]), (Ok(()), &body[..]), "{len} bytes");
            assert_eq!((quick::open(&key, nonce, &mut one), &one[..len]), (Ok(()), &body[..]), "{len} bytes");
        }
    }

    #[test]
    fn both_refuse_what_was_changed() {
        let key = TransportKey::from_slice(&[7; 32]);
        for len in [0, 1, 15, 16, 17, 64, 300] {
            let mut sealed = vec![3; len + TAG];
            quick::seal(&key, 9, &mut sealed);
            for open in [portable::open, quick::open] {
                for bit in 0..8 * sealed.len() {
                    let mut changed = sealed.clone();
                    changed[bit / 8] ^= 1 << (bit % 8);
                    assert_eq!(open(&key, 9, &mut changed), Err(Forged), "bit {bit} of {len} bytes");
                }
                assert_eq!(open(&key, 8, &mut sealed.clone()), Err(Forged), "another nonce");
                assert_eq!(open(&key, 9, &mut sealed[..TAG - 1].to_vec()), Err(Forged), "no room for a tag");
                assert_eq!(open(&key, 9, &mut sealed.clone()), Ok(()));
            }
        }
    }
}
