//! The bytes that come over the line to a co-processor, against both sides: any bytes, and frames with the right checksum that
//! say anything. Neither side panics, each comes to rest, sends nothing but frames, and not many for each that it was sent.

#![no_main]

#[path = "coprocessor/common.rs"]
mod common;

use std::future::pending;
use std::net::SocketAddr;
use std::rc::Rc;

use bowline_coprocessor::{Board, Coprocessor, NoReset};
use bowline_embedded::Network;
use bowline_fuzz::{Choices, crc32};
use embassy_futures::join::join3;
use embassy_time::Duration;
use embedded_io_async::{Read, Write};
use embedded_nal_async::TcpConnect;
use libfuzzer_sys::fuzz_target;

use common::{Net, Rx, Stack, Tx, Wire, begins, moved, passes, settle};

const LIFE: u32 = 0x0102_0304;
const BOOT: u32 = 0x0506_0708;
/// Frames that a side may send for one that it gets: those that fit into its room, and what it says of itself.
const ANSWERS: usize = 8;

fuzz_target!(|bytes: &[u8]| {
    let mut choices = Choices::new(bytes);
    begins();
    let (to, from) = (Rc::new(Wire::default()), Rc::new(Wire::default()));
    let is_board = choices.flag();
    let (rx, tx) = (Rx(Rc::clone(&to)), Tx(Rc::clone(&from)));
    let net = Rc::new(Net::default());
    let behind = Rc::clone(&net);
    let mut sides = vec![if is_board { board(rx, tx) } else { coprocessor(rx, tx, behind) }];
    settle(&mut sides);
    while !choices.is_empty() {
        let before = from.frames.get();
        let mut allowed = ANSWERS;
        match choices.below(8) {
            0 => to.bytes.borrow_mut().extend(choices.bytes(200)),
            1 => {
                let time = u64::from(choices.byte());
                // In each 50 ms it may say how far it is, in each 200 ms go back.
                allowed += ANSWERS * (1 + time as usize / 50);
                passes(Duration::from_millis(time));
            }
            2 => {
                if let Some(peer) = net.peers.borrow_mut().last_mut() {
                    peer.sent += choices.below(256);
                }
            }
            _ => {
                let mut body = match choices.flag() {
                    true => choices.bytes(160).to_vec(),
                    false => likely(&mut choices),
                };
                body.extend(crc32(&body).to_le_bytes());
                to.bytes.borrow_mut().extend(encoded(&body));
            }
        }
        moved();
        settle(&mut sides);
        assert!(from.frames.get() - before <= allowed, "{} frames", from.frames.get() - before);
    }
});

/// One that wants a connection again and again, writes what goes in and reads what comes.
fn board(rx: Rx, tx: Tx) -> common::Side {
    Box::pin(async move {
        let board = Board::<256>::new("net", "word").unwrap();
        let joins = async {
            let mut network = &board;
            let _ = network.join().await;
            pending::<()>().await;
        };
        let talks = async {
            loop {
                let Ok(mut connection) = board.connect(SocketAddr::from(([10, 0, 0, 1], 9))).await else {
                    embassy_time::Timer::after_millis(10).await;
                    continue;
                };
                let mut bytes = [0; 64];
                while let Ok(count @ 1..) = connection.read(&mut bytes).await {
                    if connection.write_all(&bytes[..count]).await.is_err() {
                        break;
                    }
                }
            }
        };
        join3(board.run(rx, tx, NoReset, LIFE), joins, talks).await.0
    })
}

fn coprocessor(rx: Rx, tx: Tx, net: Rc<Net>) -> common::Side {
    let (stack, mut access) = (Stack(Rc::clone(&net)), Stack(net));
    Box::pin(async move { Coprocessor::<256>::new().run(rx, tx, &stack, &mut access, BOOT).await })
}

/// A frame as it might come: with lives, numbers and offsets that are of use.
fn likely(choices: &mut Choices<'_>) -> Vec<u8> {
    let life = |choices: &mut Choices<'_>| choices.pick(&[LIFE, BOOT, 0, 1]).to_le_bytes();
    let small = |choices: &mut Choices<'_>| (choices.number() as u32).to_le_bytes();
    let kind = 1 + choices.below(4) as u8;
    let mut body = vec![kind];
    match kind {
        1 => {
            body.push(choices.byte() % 4);
            for most in [32, 64] {
                let text = choices.bytes(most);
                body.push(text.len() as u8);
                body.extend(text);
            }
        }
        2 => {
            body.extend(life(choices));
            body.extend(life(choices));
            body.push(choices.byte() % 4);
            body.push(choices.byte() % 4);
            if body.last() != Some(&0) {
                body.extend([4, 10, 0, 0, 1, 9, 0]);
            }
        }
        3 => {
            body.extend(life(choices));
            body.extend(life(choices));
            body.extend([choices.byte() % 4, choices.byte() % 3, choices.byte()]);
            body.extend(small(choices));
            body.extend([choices.byte() % 4, choices.byte() % 6]);
            body.extend(small(choices));
        }
        _ => {
            let tag = choices.pick(&[LIFE, BOOT, 0, 1]).wrapping_add(choices.below(4) as u32);
            body.extend(tag.to_le_bytes());
            body.extend(small(choices));
            body.extend(choices.bytes(128));
            return body;
        }
    }
    if kind != 1 {
        body.extend(small(choices));
        body.extend(small(choices));
        body.push(choices.byte() % 2);
    }
    body
}

fn encoded(body: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::new();
    for run in body.split(|byte| *byte == 0) {
        let mut chunks = run.chunks_exact(254);
        for chunk in &mut chunks {
            encoded.push(255);
            encoded.extend(chunk);
        }
        encoded.push(chunks.remainder().len() as u8 + 1);
        encoded.extend(chunks.remainder());
    }
    encoded.push(0);
    encoded
}
