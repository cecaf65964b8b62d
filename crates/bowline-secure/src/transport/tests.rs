use std::vec;
use std::vec::Vec;

use noise_protocol::U8Array as _;

use super::*;

fn pair(carrier: Carrier) -> (Transport, Transport) {
    let keys = || (TransportKey::from_slice(&[1; 32]), TransportKey::from_slice(&[2; 32]));
    let end = |side| Transport::new(side, keys(), carrier, Protection::Handshake);
    (end(Side::Device), end(Side::Server))
}

fn seal(from: &mut Transport, body: &[u8]) -> Vec<u8> {
    let head = from.carrier().headroom();
    let mut buffer = vec![0; body.len() + from.carrier().overhead()];
    buffer[head..head + body.len()].copy_from_slice(body);
    assert_eq!(from.seal(&mut buffer, body.len()), Ok(buffer.len()));
    buffer
}

#[test]
fn a_lossless_link_ends_before_its_nonces_do() {
    let (mut device, mut server) = pair(Carrier::Lossless);
    device.next_out = LOSSLESS_RECORDS - 1;
    server.next_in = LOSSLESS_RECORDS - 1;
    let mut last = seal(&mut device, b"last");
    assert_eq!(device.remaining(), 0);
    assert_eq!(device.seal(&mut [0; 64], 4), Err(SealError::Exhausted));
    assert_eq!(server.open(&mut last).unwrap(), b"last");
    assert_eq!(server.open(&mut [0; 64]), Err(OpenError::Exhausted));
}

#[test]
fn a_lossy_link_ends_before_its_counter_wraps() {
    let (mut device, mut server) = pair(Carrier::Lossy);
    let mut first = seal(&mut device, b"first");
    device.next_out = LOSSY_RECORDS - 1;
    let mut last = seal(&mut device, b"last");
    assert_eq!(last[..4], [0xff; 4]);
    assert_eq!(device.seal(&mut [0; 64], 4), Err(SealError::Exhausted));
    assert_eq!(server.open(&mut first.clone()).unwrap(), b"first");
    assert_eq!(server.open(&mut last.clone()).unwrap(), b"last");
    assert_eq!(server.open(&mut last), Err(OpenError::Replayed));
    assert_eq!(server.open(&mut first), Err(OpenError::Replayed));
}

#[test]
fn forgeries_without_end_end_the_link() {
    let (mut device, mut server) = pair(Carrier::Lossy);
    server.refused = u32::MAX - 1;
    let mut good = seal(&mut device, b"good");
    assert_eq!(server.open(&mut [7; 40]), Err(OpenError::Forged));
    assert_eq!(server.open(&mut good), Err(OpenError::Exhausted));
}

/// The window against a list of everything that was opened, for many orders of arrival.
#[test]
fn the_window_agrees_with_a_list() {
    for seed in 0..40u64 {
        let (mut device, mut server) = pair(Carrier::Lossy);
        let sealed: Vec<Vec<u8>> = (0..200u8).map(|n| seal(&mut device, &[n])).collect();
        let (mut opened, mut highest) = (vec![false; 200], None::<usize>);
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        for at in 0..600usize {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let n = (at / 3 + (state >> 33) as usize % 80).saturating_sub(50).min(199);
            let fresh = !opened[n] && highest.is_none_or(|highest| n + 32 > highest);
            let got = server.open(&mut sealed[n].clone()).is_ok_and(|body| body == [n as u8]);
            assert_eq!(got, fresh, "seed {seed}, step {at}, number {n}, highest {highest:?}");
            if fresh {
                opened[n] = true;
                highest = highest.max(Some(n));
            }
        }
    }
}
