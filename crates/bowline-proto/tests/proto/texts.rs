//! What errors say to people: which rule was broken, and the numbers that go with it.

use std::collections::BTreeSet;
use std::fmt::Display;

use bowline_proto::native::wire::{Answer, Close, Frame, MAX_CLOSE_TEXT, MAX_ID, Mode, Opening, OpeningError, record};
use bowline_proto::native::{self, Conflict};
use bowline_proto::wire::login::{Login, LoginError};
use bowline_proto::wire::{Line, LineError, LineScanner, MessageError, MessageRepr};
use bowline_proto::{DeviceId, Dialect, IdError, SavedError, Side, legacy};

/// Each says something, and something of its own, with these words in it.
#[track_caller]
fn say<E: Display>(errors: impl IntoIterator<Item = (E, &'static str)>) {
    let mut said = BTreeSet::new();
    for (error, words) in errors {
        let text = error.to_string();
        assert!(text.contains(words), "expected `{words}` in `{text}`");
        assert!(said.insert(text), "two errors say `{error}`");
    }
}

#[test]
fn an_id_that_is_none_is_told_why() {
    let long = "x".repeat(DeviceId::MAX_LEN + 1);
    say([
        (DeviceId::new("").unwrap_err(), "at least one"),
        (DeviceId::new(&long).unwrap_err(), &*format!("this one has {}", long.len()).leak()),
        (DeviceId::new("a\rb").unwrap_err(), "control character"),
        (DeviceId::from_bytes(b"\xff").unwrap_err(), "UTF-8"),
    ]);
    assert_eq!(DeviceId::new("hütte-7").unwrap().to_string(), "hütte-7");
}

#[test]
fn a_login_that_is_none_is_told_why() {
    say([
        (Login::parse(b"").unwrap_err(), "empty"),
        (Login::parse(b"GET / HTTP/1.1\r").unwrap_err(), "HTTP"),
        (Login::parse(b"2c00ff\x07").unwrap_err(), "control character"),
        (LoginError::from(IdError::NotUtf8), "UTF-8"),
    ]);
}

#[test]
fn a_message_that_a_dialect_cannot_carry_is_told_why() {
    let error = |dialect, header: &[u8], payload: &[u8]| {
        MessageRepr { qos: true, header, payload }.check(dialect, 100).unwrap_err()
    };
    let [h, u, p] = [Dialect::Headers, Dialect::Upstream, Dialect::Plain];
    say([
        (error(h, b"", b"a\nb"), "newline"),
        (error(h, b"", b"\xff"), "UTF-8"),
        (error(p, b"", b""), "keepalive"),
        (error(u, b"", b""), "dialect U"),
        (error(u, b"1", b"a"), "dialect U has no place"),
        (error(h, &[0; 256], b"a"), "256 bytes, at most 255"),
        (error(p, b"", &[b'a'; 101]), "101 bytes, the limit is 100"),
    ]);
    assert_eq!(error(p, b"1", b"a"), MessageError::NoHeader(p));
}

#[test]
fn lines_that_cannot_be_read_are_told_why() {
    say([(LineScanner::new(8).next(b"123456789").unwrap_err(), "limit of 8 bytes")]);
    let fault = |line| match Line::parse(Dialect::Headers, line) {
        Err(LineError::Undecodable { fault, .. }) => fault,
        other => panic!("{other:?}"),
    };
    say([(fault(b"0501f1x"), "header"), (fault(b"050001\xff"), "UTF-8")]);
}

#[test]
fn each_end_of_a_link_has_its_own_words() {
    use legacy::CloseReason as Legacy;
    say([
        (Legacy::Silence, "nothing heard"),
        (Legacy::NotReading, "takes no bytes"),
        (Legacy::LineTooLong, "longer than the limit"),
        (Legacy::Malformed, "malformed"),
        (Legacy::Replaced, "newer link"),
    ]);
    use native::CloseReason as Native;
    say([
        (Native::Done, "done"),
        (Native::NotReading, "takes no bytes"),
        (Native::Protocol, "protocol"),
        (Native::Version, "version"),
        (Native::Revoked, "revoked"),
        (Native::Silence, "nothing heard"),
        (Native::Peer(5), "code 5"),
        (Native::Quarantined(Conflict::EpochBack), "quarantined: the device's epoch"),
    ]);
    use Conflict::*;
    let all = [PeerLostReceived, NeverSent, NeverAcked, PeerLostSent, EpochBack, NotNew, FoundByPeer];
    say(all.map(|conflict| (conflict, "")));
    say([(Dialect::Headers, "H"), (Dialect::Upstream, "U"), (Dialect::Plain, "P")]);
}

#[test]
fn saved_sessions_that_are_none_are_told_why() {
    let good = native::Session::new(Side::Device).save();
    let mut bytes = good;
    bytes[0] ^= 1;
    let format = native::Session::restore(Side::Device, &bytes).unwrap_err();
    let mut bytes = good;
    bytes[20] ^= 1;
    let checksum = native::Session::restore(Side::Device, &bytes).unwrap_err();
    say([(format, "version 1"), (checksum, "checksum"), (SavedError::Contradiction, "contradict")]);
}

#[test]
fn openings_and_answers_that_are_none_are_told_why() {
    let error = |bytes: &[u8]| Opening::parse(bytes).unwrap_err();
    let opening = |mode: u8, key: u8, len: u8, id: &[u8]| [&[0, b'B', b'W', b'L', 1, mode, key, len], id].concat();
    say([
        (error(b"GET /"), "native protocol"),
        (error(b"\0BWL\x02"), "expected version 1, got 2"),
        (error(&opening(9, 0, 1, b"a")), "unknown mode 09"),
        (error(&opening(0, 0, 1, b"\r")), "control character"),
        (error(&opening(0, 0, 97, &[b'a'; 97])), "length of 97"),
        (error(&opening(0, 0, 0, b"")), "length of 0"),
        (Answer::parse(b"\0BWL\x01\x00\x31").unwrap_err(), "length of 49"),
    ]);
    assert_eq!(error(&opening(1, 0, 1, b"a")), OpeningError::Mode(1), "a key id 0 goes with no key");
}

#[test]
fn what_cannot_be_on_the_wire_is_not_written() {
    let mut buffer = [0; 1_000];
    let long = "x".repeat(MAX_ID + 1);
    let id = DeviceId::new(&long).unwrap();
    assert_eq!(Opening { mode: Mode::Open, id, handshake: &[] }.emit(&mut buffer), None, "an id too long for N");
    let id = DeviceId::new("a").unwrap();
    assert_eq!(Opening { mode: Mode::Noise { key: 0 }, id, handshake: &[0; 48] }.emit(&mut buffer), None);
    assert_eq!(Opening { mode: Mode::Noise { key: 1 }, id, handshake: &[0; 47] }.emit(&mut buffer), None);
    assert_eq!(Answer { version: 1, verdict: 0, handshake: &[0; 49] }.emit(&mut buffer), None);
    let text = "y".repeat(MAX_CLOSE_TEXT + 1);
    assert_eq!(Frame::Close(Close { code: 1, text: &text }).emit(&mut buffer), None);
    assert_eq!(Frame::Processed(1 << 62).emit(&mut buffer), None);
    let close = [&[0x1f, 1, text.len() as u8], text.as_bytes()].concat();
    say([(Frame::parse(&close).unwrap_err(), "cannot have")]);
    say([
        (Frame::parse(&close[..9]).unwrap_err(), "whole frame"),
        (Frame::parse(&[0x7f]).unwrap_err(), "unknown frame type 7f"),
    ]);
}

#[test]
fn records_of_a_length_that_cannot_be_are_refused_and_not_written() {
    say([
        (record::next(&[0, 0], 100).unwrap_err(), "record of 0 bytes"),
        (record::next(&[0, 101], 100).unwrap_err(), "record of 101 bytes"),
    ]);
    assert_eq!(record::next(&[0, 100, 1], 100), Ok(None), "not whole yet");
    let mut buffer = [0; 12];
    assert_eq!(record::finish(&mut buffer, 0), None);
    assert_eq!(record::finish(&mut buffer, 11), None);
    assert_eq!(record::finish(&mut buffer, 10), Some(12));
}
