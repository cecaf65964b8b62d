//! What must hold for all bytes.

use std::assert_eq;
use std::vec;
use std::vec::Vec;

use proptest::collection::vec as bytes;
use proptest::prelude::*;

use crate::Side;
use crate::native::wire::*;
use crate::native::{Config, Link, Output, Room, Session, Transport};
use crate::time::{Duration, Instant};

/// Bytes that often begin as a frame does.
fn nearly_frames() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop_oneof![
        prop::sample::select(vec![1u8, 2, 3, 0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x1f, 0x80]),
        any::<u8>()
    ];
    let small = prop_oneof![4 => 0u8..9, 1 => any::<u8>()];
    bytes((kind, bytes(small, 0..16)), 1..6)
        .prop_map(|frames| frames.into_iter().flat_map(|(kind, rest)| [vec![kind], rest].concat()).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn what_parses_emits_the_same_bytes(body in nearly_frames()) {
        if let Ok(Parsed { frame, len }) = Frame::parse(&body) {
            prop_assert!(len >= 1 && len <= body.len());
            if let Some(frame) = frame {
                let mut buffer = vec![0; len];
                prop_assert_eq!(frame.emit(&mut buffer), Some(len));
                prop_assert_eq!(&buffer[..], &body[..len]);
                for short in 0..len {
                    prop_assert_eq!(frame.emit(&mut buffer[..short]), None);
                }
            }
        }
    }

    #[test]
    fn openings_never_panic(tail in bytes(any::<u8>(), 0..200), cut in 0usize..8) {
        let mut all = vec![0, b'B', b'W', b'L', 1, 0, 0, 5];
        all.truncate(cut);
        all.extend(&tail);
        for bytes in [&all[..], &tail[..]] {
            if let Ok(Some((opening, len))) = Opening::parse(bytes) {
                let mut buffer = [0; MAX_OPENING];
                prop_assert_eq!(opening.emit(&mut buffer), Some(len));
                prop_assert_eq!(&buffer[..len], &bytes[..len]);
            }
            let _ = Answer::parse(bytes);
        }
    }

    #[test]
    fn an_opening_is_decided_within_its_limit(tail in bytes(any::<u8>(), MAX_OPENING..MAX_OPENING + 1)) {
        let all = [&[0, b'B', b'W', b'L', 1][..], &tail].concat();
        prop_assert!(!matches!(Opening::parse(&all[..MAX_OPENING]), Ok(None)));
    }

    #[test]
    fn serial_frames_come_back_however_they_are_split(
        bodies in bytes(bytes(prop_oneof![Just(0u8), any::<u8>()], 1..600), 1..4),
        cuts in bytes(any::<prop::sample::Index>(), 0..6),
        noise in bytes(1u8.., 0..9),
    ) {
        let mut stream = [&noise[..], &[0]].concat();
        for (link, body) in (0u16..).zip(&bodies) {
            let mut out = vec![0; serial::max_len(body.len())];
            let len = serial::encode(link, body, &mut out).expect("room");
            prop_assert!(!out[..len - 1].contains(&0));
            stream.extend_from_slice(&out[..len]);
        }
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len())).chain([stream.len()]).collect();
        at.sort_unstable();
        let (mut buffer, mut from, mut found) = (vec![], 0, vec![]);
        for to in at {
            buffer.extend_from_slice(&stream[from..to]);
            from = to;
            while let serial::Step { consumed, found: Some(step) } = serial::next(&mut buffer) {
                if let serial::Found::Body { link, body } = step {
                    found.push((link, body.to_vec()));
                }
                buffer.drain(..consumed);
            }
        }
        prop_assert_eq!(found, (0u16..).zip(bodies).collect::<Vec<_>>());
    }

    #[test]
    fn a_damaged_serial_frame_is_dropped(body in bytes(any::<u8>(), 1..100), at: prop::sample::Index, bit in 0u8..8) {
        let mut out = vec![0; serial::max_len(body.len())];
        let len = serial::encode(9, &body, &mut out).expect("room");
        out[at.index(len)] ^= 1 << bit;
        let mut rest = &mut out[..];
        while let serial::Step { consumed, found: Some(step) } = serial::next(rest) {
            let is_body = matches!(step, serial::Found::Body { .. });
            prop_assert!(!is_body, "damage not noticed");
            rest = &mut rest[consumed..];
        }
    }

    #[test]
    fn records_are_found_or_refused(buffer in bytes(any::<u8>(), 0..40), limit in 1u16..60) {
        if let Ok(Some(body)) = record::next(&buffer, limit) {
            prop_assert!(!body.is_empty() && body.len() <= limit.into() && body.end <= buffer.len());
        }
    }

    /// Bytes from anywhere neither panic nor wedge an engine, in whatever state it is (P6).
    #[test]
    fn bodies_never_panic(
        bodies in bytes(nearly_frames(), 1..8),
        start in any::<bool>(),
        server in any::<bool>(),
        lossy in any::<bool>(),
    ) {
        let (side, transport) = (
            if server { Side::Server } else { Side::Device },
            if lossy { Transport::Lossy } else { Transport::Lossless },
        );
        let mut session = Session::new(side);
        session.handle_outbox(5);
        let mut now = Instant::ZERO;
        let config = Config::new(transport, Duration::from_millis(1_000), 512);
        let mut link = Link::open(&mut session, config, Room { messages: 4, bytes: 2_000 }, now);
        let hello = Frame::Hello(Hello { version: 1, features: 0, epoch: 0, keepalive: 9, max_body: 128 });
        let credit = Credit { messages: 3, bytes: 100 };
        let cursors = Cursors::default();
        let welcome = Frame::Welcome(Welcome {
            version: 1, outcome: Outcome::New, features: 0, epoch: 1, keepalive: 9, max_body: 128, cursors, credit,
        });
        let mut all: Vec<Vec<u8>> = vec![];
        if start {
            for frame in if server { vec![hello, Frame::Start(Start { epoch: 1, cursors, credit })] } else { vec![welcome] } {
                let mut buffer = [0; 128];
                let len = frame.emit(&mut buffer).expect("room");
                all.push(buffer[..len].to_vec());
            }
        }
        all.extend(bodies);
        for body in all {
            let mut turns = 0;
            loop {
                match link.poll_output(&mut session, now) {
                    Output::Wait(_) | Output::Close(_) => break,
                    Output::Describe(seq) => link.handle_item(now, seq, crate::native::Item::Message { len: 9 }),
                    Output::Frame(frame) => assert!(frame.emit(&mut [0; 128]).is_some(), "{frame:?}"),
                    _ => {}
                }
                turns += 1;
                assert!(turns < 100, "a drain without end");
            }
            now += Duration::from_millis(7);
            let mut rest = &body[..];
            loop {
                let input = link.handle_body(&mut session, now, rest);
                rest = &rest[input.consumed..];
                let Some(received) = input.received else { break };
                if let crate::native::Received::NewEpoch { epoch, .. } = received {
                    session.handle_epoch_stored(epoch);
                }
            }
            while !matches!(link.poll_output(&mut session, now), Output::Wait(_) | Output::Close(_)) {
                if let Output::Describe(seq) = link.poll_output(&mut session, now) {
                    link.handle_item(now, seq, crate::native::Item::Message { len: 9 });
                }
            }
            assert!(session.acked() <= session.last() && session.durable() <= session.received());
        }
        assert_eq!(session.side(), side);
    }
}
