//! The native frames and openings of §19.

use std::string::String;
use std::vec::Vec;
use std::{assert_eq, vec};

use crate::native::wire::*;
use crate::native::{SAVED_LEN, SavedError, Session};
use crate::vectors::vectors;
use crate::{DeviceId, Side};

fn emitted(frame: &Frame<'_>) -> Vec<u8> {
    let mut buffer = [0; 512];
    let len = frame.emit(&mut buffer).expect("room");
    buffer[..len].to_vec()
}

const CHANNEL: Channel = Channel { app: 0x2c, instance: 1, tag: 7 };
const LONG: [u8; 70] = [b'a'; 70];

fn frames() -> Vec<(&'static str, Frame<'static>)> {
    let hello = Hello { version: 1, features: 0, epoch: 7, keepalive: 1_000, max_body: 512 };
    let welcome = Welcome {
        version: 1,
        outcome: Outcome::Resumed,
        features: 0,
        epoch: 7,
        keepalive: 1_000,
        max_body: 2_048,
        cursors: Cursors { durable: 40, received: 42, acked: 9, last: 12 },
        credit: Credit { messages: 32, bytes: 8_192 },
    };
    let none = Cursors::default();
    vec![
        ("hello", Frame::Hello(hello)),
        ("hello-first", Frame::Hello(Hello { features: 3, epoch: 0, keepalive: 30_000, max_body: 65_519, ..hello })),
        ("welcome", Frame::Welcome(welcome)),
        (
            "welcome-new",
            Frame::Welcome(Welcome {
                outcome: Outcome::New,
                epoch: 8,
                cursors: Cursors { last: 3, ..none },
                ..welcome
            }),
        ),
        (
            "welcome-forgotten",
            Frame::Welcome(Welcome { outcome: Outcome::Forgotten, epoch: 8, cursors: none, ..welcome }),
        ),
        (
            "welcome-quarantined",
            Frame::Welcome(Welcome {
                outcome: Outcome::Quarantined,
                cursors: Cursors { received: 40, ..welcome.cursors },
                credit: Credit::default(),
                ..welcome
            }),
        ),
        (
            "start",
            Frame::Start(Start {
                epoch: 7,
                cursors: Cursors { durable: 10, received: 10, acked: 40, last: 45 },
                credit: Credit { messages: 4, bytes: 1_024 },
            }),
        ),
        ("data", Frame::Data(Data { seq: 43, ask: false, channel: CHANNEL, payload: b"on" })),
        ("data-ask", Frame::Data(Data { seq: 1, ask: true, channel: CHANNEL, payload: b"" })),
        (
            "data-long",
            Frame::Data(Data {
                seq: 44,
                ask: false,
                channel: Channel { app: 1, ..Channel::default() },
                payload: &LONG,
            }),
        ),
        ("best", Frame::Best(Best { channel: CHANNEL, payload: &[0x00, 0xff] })),
        ("gap", Frame::Gap(Gap { first: 46, last: 48, reason: 3 })),
        (
            "ack",
            Frame::Ack(Ack {
                durable: 41,
                received: 43,
                credit: Credit { messages: 30, bytes: 8_300 },
                missing: false,
            }),
        ),
        (
            "ack-missing",
            Frame::Ack(Ack {
                durable: 41,
                received: 41,
                credit: Credit { messages: 32, bytes: 16_384 },
                missing: true,
            }),
        ),
        ("processed", Frame::Processed(1 << 40)),
        ("ping", Frame::Ping(0x0102_0304)),
        ("pong", Frame::Pong(0x0102_0304)),
        ("close", Frame::Close(Close { code: 3, text: "replaced" })),
    ]
}

#[test]
fn frames_are_those_of_the_specification() {
    let vectors = vectors();
    for (name, frame) in frames() {
        let bytes = &vectors[name];
        assert_eq!(Frame::parse(bytes), Ok(Parsed { frame: Some(frame), len: bytes.len() }), "{name}");
        assert_eq!(&emitted(&frame), bytes, "{name}");
        for cut in 0..bytes.len() {
            assert_eq!(Frame::parse(&bytes[..cut]), Err(FrameError::Short), "{name}, cut at {cut}");
        }
    }
    let unknown = &vectors["unknown"];
    assert_eq!(Frame::parse(unknown), Ok(Parsed { frame: None, len: unknown.len() }));
}

#[test]
fn every_vector_is_tested() {
    let others = ["opening-open", "opening-noise", "opening-resume", "opening-keyed", "answer-open", "answer-refused"]
        .into_iter()
        .chain(["unknown", "record", "serial", "serial-long", "saved", "saved-h", "saved-u", "saved-p", "saved-new"]);
    let mut tested: Vec<_> = frames().iter().map(|(name, _)| *name).chain(others).collect();
    tested.sort_unstable();
    assert_eq!(vectors().keys().map(String::as_str).collect::<Vec<_>>(), tested);
}

#[test]
fn openings_are_those_of_the_specification() {
    let (vectors, id) = (vectors(), DeviceId::new("board1").expect("an id"));
    let handshake: Vec<u8> = (0..48).collect();
    for (name, mode) in [
        ("opening-open", Mode::Open),
        ("opening-noise", Mode::Noise { key: 2 }),
        ("opening-resume", Mode::Resume { key: 2 }),
        ("opening-keyed", Mode::Keyed { key: 2 }),
    ] {
        let bytes = &vectors[name];
        let opening = Opening { mode, id, handshake: &handshake[..mode.handshake_len()] };
        assert_eq!(Opening::parse(bytes), Ok(Some((opening, bytes.len()))), "{name}");
        let mut buffer = [0; MAX_OPENING];
        assert_eq!(opening.emit(&mut buffer).map(|len| &buffer[..len]), Some(&bytes[..]), "{name}");
        assert!((0..bytes.len()).all(|cut| Opening::parse(&bytes[..cut]) == Ok(None)), "{name}");
    }
    for (name, verdict) in [("answer-open", 0), ("answer-refused", 0x88)] {
        let bytes = &vectors[name];
        let answer = Answer { version: 1, verdict, handshake: &[] };
        assert_eq!(Answer::parse(bytes), Ok(Some((answer, bytes.len()))), "{name}");
        let mut buffer = [0; 64];
        assert_eq!(answer.emit(&mut buffer).map(|len| &buffer[..len]), Some(&bytes[..]), "{name}");
    }
}

#[test]
fn records_and_serial_frames_are_those_of_the_specification() {
    let vectors = vectors();
    let body = [vectors["data"].clone(), vectors["ping"].clone()].concat();

    let whole = &vectors["record"];
    assert_eq!(record::next(whole, MIN_BODY), Ok(Some(2..whole.len())));
    assert_eq!(whole[2..], body);
    let mut buffer = [&[0, 0], &body[..]].concat();
    assert_eq!(record::finish(&mut buffer, body.len()), Some(whole.len()));
    assert_eq!(&buffer, whole);

    for (name, link, body) in [("serial", 0x0102, body), ("serial-long", 0, vec![b'A'; 300])] {
        let mut bytes = vectors[name].clone();
        let mut out = vec![0; serial::max_len(body.len())];
        let len = serial::encode(link, &body, &mut out).expect("room");
        assert_eq!(out[..len], bytes, "{name}");
        let found = serial::Found::Body { link, body: &mut body.clone() };
        assert_eq!(serial::next(&mut bytes), serial::Step { consumed: len, found: Some(found) }, "{name}");
    }
}

#[test]
fn saved_sessions_are_those_of_the_specification() {
    let saved: [u8; SAVED_LEN] = vectors()["saved"].clone().try_into().expect("the length");
    let session = Session::restore(Side::Device, &saved).expect("a session");
    assert_eq!((session.epoch(), session.acked(), session.last()), (7, 40, 45));
    assert_eq!((session.received(), session.durable(), session.peer_processed()), (10, 10, 39));
    assert_eq!(session.save(), saved);
    for at in 0..SAVED_LEN {
        let mut damaged = saved;
        damaged[at] ^= 0x10;
        let expected = if at < 4 { SavedError::Format } else { SavedError::Checksum };
        assert_eq!(Session::restore(Side::Device, &damaged).map(|_| ()), Err(expected), "byte {at}");
    }
}

/// 4 KiB for everything on a small chip: the engine takes the smaller part of one of them.
#[test]
fn session_and_link_stay_small() {
    use crate::native::Link;
    let (session, link) = (size_of::<Session>(), size_of::<Link>());
    std::println!("session {session} bytes, link {link} bytes");
    assert!(session <= 256, "session: {session} bytes");
    assert!(link <= 512, "link: {link} bytes");
    assert!(session + link <= 720, "both: {} bytes", session + link);
}
