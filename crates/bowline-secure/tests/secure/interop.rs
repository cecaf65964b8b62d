//! The handshake against another implementation of the same Noise pattern (§15.1).

use bowline_secure::{Carrier, Ephemeral, Handshake, MAX_OPENING};
use snow::{Builder, HandshakeState};

use crate::support::{Decided, Random, Server, id, key, key_id, seal, unseal};

const PATTERN: &str = "Noise_NNpsk0_25519_ChaChaPoly_SHA256";

fn snow_state(initiator: bool, prologue: &[u8], psk: &[u8; 32]) -> HandshakeState {
    let builder = Builder::new(PATTERN.parse().unwrap()).prologue(prologue).unwrap().psk(0, psk).unwrap();
    if initiator { builder.build_initiator().unwrap() } else { builder.build_responder().unwrap() }
}

#[test]
fn our_device_with_snow_as_server() {
    let mut random = Random(1);
    for round in 0..8u64 {
        let (key, name) = (key(round), "é".repeat(1 + random.below(48)));
        let mut out = [0; MAX_OPENING];
        let ephemeral = Ephemeral::new(&random.bytes());
        let (mut handshake, len) =
            Handshake::start(id(&name), key_id(3), &key, ephemeral, Carrier::Lossless, &mut out).unwrap();
        let (prologue, first) = out[..len].split_at(len - 48);
        let expected = [&[0, b'B', b'W', b'L', 1, 1, 3, name.len() as u8], name.as_bytes()].concat();
        assert_eq!(prologue, expected);

        let mut snow = snow_state(false, prologue, key.expose());
        assert_eq!(snow.read_message(first, &mut []).unwrap(), 0);
        let mut answer = vec![0, b'B', b'W', b'L', 1, 0, 48];
        answer.resize(7 + 48, 0);
        assert_eq!(snow.write_message(&[], &mut answer[7..]).unwrap(), 48);
        let mut snow = snow.into_transport_mode().unwrap();
        let (mut ours, _) = handshake.finish(&answer).unwrap().unwrap();

        for n in 0..40usize {
            let body = vec![n as u8; 1 + 31 * n];
            let mut read = vec![0; body.len()];
            assert_eq!(snow.read_message(&seal(&mut ours, &body), &mut read).unwrap(), body.len());
            assert_eq!(read, body);
            let mut sealed = vec![0; body.len() + 16];
            snow.write_message(&body, &mut sealed).unwrap();
            assert_eq!(unseal(&mut ours, &sealed), Some(body));
        }
    }
}

#[test]
fn snow_as_device_with_our_server() {
    let mut server = Server::new(Carrier::Lossless);
    let device = server.device("kitchen", 9, 77);
    for _ in 0..8 {
        let mut opening = [&[0, b'B', b'W', b'L', 1, 1, 9, 7], "kitchen".as_bytes()].concat();
        let mut snow = snow_state(true, &opening, device.key.expose());
        let mut first = [0; 48];
        assert_eq!(snow.write_message(&[], &mut first).unwrap(), 48);
        opening.extend(first);
        let (decided, answer) = server.decide(&opening);
        let Decided::Secured(name, 9, mut ours) = decided else { panic!("expected a secured link, got {decided:?}") };
        assert_eq!(name, "kitchen");
        assert_eq!(answer[..7], [0, b'B', b'W', b'L', 1, 0, 48]);
        snow.read_message(&answer[7..], &mut []).unwrap();
        let mut snow = snow.into_transport_mode().unwrap();
        for n in 0..40u8 {
            let mut sealed = [0; 1 + 16];
            snow.write_message(&[n], &mut sealed).unwrap();
            assert_eq!(unseal(&mut ours, &sealed), Some(vec![n]));
            let mut read = [0; 1];
            snow.read_message(&seal(&mut ours, &[n]), &mut read).unwrap();
            assert_eq!(read, [n]);
        }
    }
}

/// §13.3: the counter on the wire is the nonce.
#[test]
fn snow_as_device_on_a_lossy_link() {
    let mut server = Server::new(Carrier::Lossy);
    let device = server.device("kitchen", 9, 77);
    let mut opening = [&[0, b'B', b'W', b'L', 1, 1, 9, 7], "kitchen".as_bytes()].concat();
    let mut snow = snow_state(true, &opening, device.key.expose());
    let mut first = [0; 48];
    snow.write_message(&[], &mut first).unwrap();
    opening.extend(first);
    let (mut ours, answer) = server.secured(&opening);
    snow.read_message(&answer[7..], &mut []).unwrap();
    let snow = snow.into_stateless_transport_mode().unwrap();
    for nonce in [5u32, 3, 4, 900, 890, 0xffff_ffff] {
        let mut sealed = vec![0; 4 + 5 + 16];
        sealed[..4].copy_from_slice(&nonce.to_be_bytes());
        snow.write_message(nonce.into(), b"hello", &mut sealed[4..]).unwrap();
        assert_eq!(unseal(&mut ours, &sealed), Some(b"hello".to_vec()), "{nonce}");
        assert_eq!(unseal(&mut ours, &sealed), None, "{nonce}");
    }
    for expected in 0..3u32 {
        let sealed = seal(&mut ours, b"world");
        assert_eq!(sealed[..4], expected.to_be_bytes());
        let mut read = [0; 5];
        snow.read_message(expected.into(), &sealed[4..], &mut read).unwrap();
        assert_eq!(&read, b"world");
    }
}
