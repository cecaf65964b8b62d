use std::vec::Vec;

use bowline_proto::Side;

use super::*;
use crate::transport::Protection;
use crate::{Carrier, Transport};

fn hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
}

fn hex32(text: &str) -> [u8; 32] {
    hex(text).try_into().unwrap()
}

/// RFC 7748 §6.1.
#[test]
fn x25519_is_that_of_rfc_7748() {
    let alice = Ephemeral::new(&hex32("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")).0;
    let alice_public = hex32("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a");
    let bob = Ephemeral::lazy(&hex32("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"));
    let bob_public = hex32("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f");
    let shared = hex32("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
    assert_eq!(X25519::pubkey(&alice), alice_public);
    assert_eq!(X25519::pubkey(&bob.0), bob_public);
    assert_eq!(X25519::dh(&alice, &bob_public).unwrap().as_slice(), shared);
    assert_eq!(X25519::dh(&bob.0, &X25519::pubkey(&alice)).unwrap().as_slice(), shared);
}

#[test]
fn a_public_half_made_beforehand_is_the_same() {
    let random = [7; 32];
    assert_eq!(X25519::pubkey(&Ephemeral::new(&random).0), X25519::pubkey(&Ephemeral::lazy(&random).0));
}

#[test]
fn points_of_small_order_are_refused() {
    let mine = Ephemeral::new(&[9; 32]).0;
    let one = {
        let mut one = [0; 32];
        one[0] = 1;
        one
    };
    for point in [[0; 32], one, hex32("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800")] {
        assert!(X25519::dh(&mine, &point).is_err(), "{point:?}");
    }
}

/// Nothing would be secret of a key that is not random.
#[test]
fn no_handshake_ends_without_an_ephemeral_key() {
    let psk = Key::new(&hex32("54686973206973206d7920417573747269616e20706572735065637469766521")).unwrap();
    let without = |initiator| {
        let mut state = State::new(noise_nn_psk0(), initiator, [], None, None, None, None);
        state.push_psk(psk.expose());
        state
    };
    let mut device = without(true);
    let first = write(&mut device).unwrap();
    let (second, _) = respond(&[], &first, &psk, Ephemeral::lazy(&[5; 32])).unwrap();
    assert!(read_second(&device, &second).is_none());

    let first = write(&mut state(true, &[], &psk, Ephemeral::new(&[6; 32]))).unwrap();
    let mut server = without(false);
    server.read_message(&first, &mut []).unwrap();
    assert!(write(&mut server).is_none());
}

/// A published vector of the pattern (cacophony's, as snow's tests have it), payloads and all.
#[test]
fn the_pattern_is_nnpsk0() {
    let psk = Key::new(&hex32("54686973206973206d7920417573747269616e20706572737065637469766521")).unwrap();
    let prologue = hex("4a6f686e2047616c74");
    let device = Ephemeral::new(&hex32("893e28b9dc6ca8d611ab664754b8ceb7bac5117349a4439a6b0569da977c464a"));
    let server = Ephemeral::lazy(&hex32("bbdb4cdbd309f1a1f2e1456967fe288cadd6f712d65dc7b7793d5e63da6b375b"));
    let mut states = [state(true, &prologue, &psk, device), state(false, &prologue, &psk, server)];
    let messages = [
        (
            "4c756477696720766f6e204d69736573",
            "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c794479b962b8aff8485742ac32f905ba45369e2465fb59e138a93d67a0d1266b6a54",
        ),
        (
            "4d757272617920526f746862617264",
            "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f144808843d6062704d5a9c422a8e834423f8c1feada7e8d0d910a1a2cd030fb584221e3",
        ),
    ];
    for (turn, (payload, sealed)) in messages.into_iter().enumerate() {
        let (payload, sealed) = (hex(payload), hex(sealed));
        let mut written = std::vec![0; sealed.len()];
        states[turn].write_message(&payload, &mut written).unwrap();
        assert_eq!(written, sealed);
        let mut read = std::vec![0; payload.len()];
        states[1 - turn].read_message(&sealed, &mut read).unwrap();
        assert_eq!(read, payload);
    }
    let hash = hex("f4d03dc34495c95729ea6de9e1b59004b59733102488b3e24bc441e0be208eaf");
    assert!(states.iter().all(|state| state.get_hash() == hash));

    let sealed = [
        ("462e20412e20486179656b", "e632c3763d7669067383433197a3baddf146e9e70ad4b4e9e59e0f"),
        ("4361726c204d656e676572", "64c6bee32ea91c8474bb4c21d7a700109ad45af77b29764ba5eb1e"),
        ("4a65616e2d426170746973746520536179", "e2fa0bed0603b62d3ccac2ecabbf3fe33f3e86514909b323361626266cb2471cc8"),
    ];
    let [device, server] = [(Side::Device, &states[0]), (Side::Server, &states[1])]
        .map(|(side, state)| Transport::new(side, keys(state), Carrier::Lossless, Protection::Handshake));
    let mut ends = [device, server];
    for (turn, (payload, sealed)) in sealed.into_iter().enumerate() {
        let payload = hex(payload);
        let mut buffer = payload.clone();
        buffer.extend([0; 16]);
        assert_eq!(ends[turn % 2].seal(&mut buffer, payload.len()), Ok(buffer.len()));
        assert_eq!(buffer, hex(sealed));
        assert_eq!(ends[1 - turn % 2].open(&mut buffer).unwrap(), payload);
    }
}
