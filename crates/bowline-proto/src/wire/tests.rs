//! Golden vectors of the field's dialects, round trips, and arbitrary bytes.

use std::string::String;
use std::vec::Vec;
use std::{format, vec};

use proptest::prelude::*;

use super::login::{Login, LoginError, MAX_LINE, Opening};
use super::*;
use crate::Dialect::{Headers, Plain, Upstream};
use crate::{DeviceId, Dialect, IdError};

const DIALECTS: [Dialect; 3] = [Headers, Upstream, Plain];

fn id(number: u8) -> MessageId {
    MessageId::new(number)
}

fn ack(number: u8) -> Result<Line<'static>, LineError> {
    Ok(Line::Ack(id(number)))
}

/// A message as H reads it; `header` as it stands on the wire.
fn message<'a>(number: u8, wants_ack: bool, header: &'a str, payload: &'a str) -> Result<Line<'a>, LineError> {
    let header = HexBytes::parse(header.as_bytes()).expect("a header in pairs of digits");
    Ok(Line::Message(MessageView { id: Some(id(number)), wants_ack, header, payload }))
}

fn undecodable(number: u8, wants_ack: bool, fault: Fault) -> Result<Line<'static>, LineError> {
    Err(LineError::Undecodable { id: Some(id(number)), wants_ack, fault })
}

fn parses_as(dialect: Dialect, table: &[(&[u8], Result<Line<'_>, LineError>)]) {
    for (line, expected) in table {
        let shown = line.escape_ascii();
        assert_eq!(Line::parse(dialect, line), *expected, "dialect {dialect} reading \"{shown}\"");
    }
}

fn emitted(dialect: Dialect, frame: &Frame<'_>) -> Vec<u8> {
    let mut line = vec![0; frame.len(dialect)];
    assert_eq!(frame.emit(dialect, &mut line), Some(line.len()));
    line
}

// Reading.

#[test]
fn dialect_h_is_read() {
    parses_as(
        Headers,
        &[
            (b"", Ok(Line::Keepalive)),
            (b"000001\"hello\"", message(0, true, "", "\"hello\"")),
            (b"2a0000[1, 2]", message(42, false, "", "[1, 2]")),
            (b"ff0301010002{\"a\": 1}", message(255, true, "010002", "{\"a\": 1}")),
            (b"FF0001x", message(255, true, "", "x")),
            (b"Ab0101aFx", message(0xab, true, "aF", "x")),
            ("070001\"käse \u{1f9c0}\"".as_bytes(), message(7, true, "", "\"käse \u{1f9c0}\"")),
            (b"070001\"k\\u00e4se\"", message(7, true, "", "\"k\\u00e4se\"")),
            // An empty payload: nothing, or JSON's empty string.
            (b"050001", message(5, true, "", "")),
            (b"050001\"\"", message(5, true, "", "\"\"")),
            (b"05010109", message(5, true, "09", "")),
            // Other flag bits mean nothing to us.
            (b"050081x", message(5, true, "", "x")),
            (b"050028x", message(5, false, "", "x")),
            // An acknowledgement, as clients and as some reference servers send it.
            (b"05002c", ack(5)),
            (b"05002c0000", ack(5)),
            (b"05002C", ack(5)),
            (b"05002d", ack(5)),
            // A login where a message should be acknowledges nothing.
            (b"2c00ffboard", Err(LineError::Malformed)),
            // Not a pre-header: nobody to answer.
            (b"0", Err(LineError::Malformed)),
            (b"00000", Err(LineError::Malformed)),
            (b"0g0001x", Err(LineError::Malformed)),
            (b"05 001x", Err(LineError::Malformed)),
            (b"0500+1x", Err(LineError::Malformed)),
            (b"GET / HTTP/1.1\r", Err(LineError::Malformed)),
            (b"\xff\xff\xff\xff\xff\xff", Err(LineError::Malformed)),
            // A header that is longer than the line, cut in the middle of a pair, or not hexadecimal.
            (b"05ff01\"x\"", undecodable(5, true, Fault::Header)),
            (b"050201010", undecodable(5, true, Fault::Header)),
            (b"0501000g\"x\"", undecodable(5, false, Fault::Header)),
            (b"050001\"\xff\"", undecodable(5, true, Fault::NotUtf8)),
            (b"050000\xc3", undecodable(5, false, Fault::NotUtf8)),
        ],
    );
}

#[test]
fn dialect_u_is_read() {
    parses_as(
        Upstream,
        &[
            (b"", Ok(Line::Keepalive)),
            (b"00[\"a\", 1]", message(0, true, "", "[\"a\", 1]")),
            (b"2ax", message(42, true, "", "x")),
            (b"FFx", message(255, true, "", "x")),
            (b"05\r", message(5, true, "", "\r")),
            ("05ä".as_bytes(), message(5, true, "", "ä")),
            (b"05", ack(5)),
            (b"fF", ack(255)),
            (b"5", Err(LineError::Malformed)),
            (b"x5hello", Err(LineError::Malformed)),
            (b"5xhello", Err(LineError::Malformed)),
            (b"\x00\xff", Err(LineError::Malformed)),
            (b"05a\xff", undecodable(5, true, Fault::NotUtf8)),
        ],
    );
}

#[test]
fn dialect_p_is_read() {
    let text =
        |payload| Ok(Line::Message(MessageView { id: None, wants_ack: false, header: HexBytes::EMPTY, payload }));
    parses_as(
        Plain,
        &[
            (b"", Ok(Line::Keepalive)),
            (b"05", text("05")),
            (b"05002c", text("05002c")),
            ("ä".as_bytes(), text("ä")),
            (b"a\xff", Err(LineError::Undecodable { id: None, wants_ack: false, fault: Fault::NotUtf8 })),
        ],
    );
}

#[test]
fn header_bytes_are_decoded_in_either_case() {
    let Ok(Line::Message(view)) = Line::parse(Headers, b"010301ffA00b{}") else { panic!("a message") };
    assert_eq!(view.header.len(), 3);
    assert!(!view.header.is_empty());
    assert_eq!(view.header.bytes().collect::<Vec<_>>(), [0xff, 0xa0, 0x0b]);
}

// Writing.

#[test]
fn every_dialect_is_written() {
    let message = |number, qos, header: &'static [u8], payload: &'static str| {
        Frame::Message(id(number), MessageRepr { qos, header, payload: payload.as_bytes() })
    };
    let table: &[(Dialect, Frame<'_>, &str)] = &[
        (Headers, Frame::Keepalive, "\n"),
        (Headers, Frame::Ack(id(5)), "05002c\n"),
        (Headers, Frame::Ack(id(0xfa)), "fa002c\n"),
        (Headers, message(0, true, &[], "\"hello\""), "000001\"hello\"\n"),
        (Headers, message(255, false, &[1, 0, 0xab], "{}"), "ff03000100ab{}\n"),
        (Headers, message(5, true, &[], ""), "050001\n"),
        (Headers, message(5, true, &[], "\"ä\""), "050001\"ä\"\n"),
        (Upstream, Frame::Keepalive, "\n"),
        (Upstream, Frame::Ack(id(0xfa)), "fa\n"),
        (Upstream, message(5, true, &[], "[1]"), "05[1]\n"),
        (Upstream, message(5, false, &[], "[1]"), "05[1]\n"),
        (Plain, Frame::Keepalive, "\n"),
        (Plain, message(5, true, &[], "hello"), "hello\n"),
    ];
    for (dialect, frame, line) in table {
        assert_eq!(emitted(*dialect, frame), line.as_bytes(), "dialect {dialect}: {frame:?}");
        assert!(!frame.is_empty());
    }
}

#[test]
fn a_buffer_that_is_too_short_stays_untouched() {
    let frames = [
        Frame::Keepalive,
        Frame::Ack(id(7)),
        Frame::Message(id(7), MessageRepr { qos: true, header: b"", payload: b"12" }),
    ];
    for (dialect, frame) in DIALECTS.into_iter().flat_map(|dialect| frames.map(|frame| (dialect, frame))) {
        let line = emitted(dialect, &frame);
        for room in 0..line.len() + 3 {
            let mut buffer = vec![0xee; room];
            let expected = (room >= line.len()).then_some(line.len());
            assert_eq!(frame.emit(dialect, &mut buffer), expected, "{dialect} {frame:?} into {room} bytes");
            let (written, rest) = buffer.split_at(expected.unwrap_or(0));
            assert_eq!(written, &line[..written.len()]);
            assert!(rest.iter().all(|&byte| byte == 0xee), "bytes after the line were touched");
        }
    }
}

#[test]
fn what_a_dialect_cannot_carry_is_refused() {
    let check = |dialect, header: &[u8], payload: &[u8], limit| {
        MessageRepr { qos: true, header, payload }.check(dialect, limit)
    };
    for dialect in DIALECTS {
        assert_eq!(check(dialect, b"", b"hello", 100), Ok(()));
        assert_eq!(check(dialect, b"", b"a\nb", 100), Err(MessageError::Newline));
        assert_eq!(check(dialect, b"", b"a\xff", 100), Err(MessageError::NotUtf8));
    }
    assert_eq!(check(Headers, b"", b"", 100), Ok(()), "H can tell an empty message");
    assert_eq!(check(Upstream, b"", b"", 100), Err(MessageError::Empty(Upstream)));
    assert_eq!(check(Plain, b"", b"", 100), Err(MessageError::Empty(Plain)));
    assert_eq!(check(Headers, &[0; 255], b"x", 1_000), Ok(()));
    assert_eq!(check(Headers, &[0; 256], b"x", 1_000), Err(MessageError::HeaderTooLong { len: 256 }));
    assert_eq!(check(Upstream, b"h", b"x", 100), Err(MessageError::NoHeader(Upstream)));
    assert_eq!(check(Plain, b"h", b"x", 100), Err(MessageError::NoHeader(Plain)));
    // 6 digits and 2 for the header's byte; 2 digits; nothing.
    for (dialect, header, len) in [(Headers, &b"h"[..], 13), (Upstream, b"", 7), (Plain, b"", 5)] {
        assert_eq!(check(dialect, header, b"hello", len), Ok(()), "exactly the limit");
        assert_eq!(check(dialect, header, b"hello", len - 1), Err(MessageError::TooLong { len, limit: len - 1 }));
    }
}

#[test]
fn an_error_names_the_dialect_and_the_way_out() {
    let text = format!("{}", MessageError::Empty(Upstream));
    assert!(text.contains("dialect U") && text.contains("acknowledgement") && text.contains("at least one"), "{text}");
    assert!(format!("{}", LoginError::Http).contains("browsers"));
    assert!(
        format!("{}", LoginError::Id(IdError::TooLong { len: 200 }))
            .contains("128 bytes, 6 less on dialect H; this one has 200")
    );
}

// Login.

#[test]
fn the_first_byte_tells_our_own_protocol() {
    assert_eq!(Opening::of(0), Opening::Native);
    for first in 1..=255 {
        assert_eq!(Opening::of(first), Opening::Line);
    }
}

#[test]
fn logins_are_told_apart() {
    let device = |dialect, id| Ok(Login { dialect, id: DeviceId::new(id).expect("an id") });
    let table: &[(&[u8], Result<Login<'_>, LoginError>)] = &[
        (b"2c00ffkitchen", device(Headers, "kitchen")),
        (b"2C00FFkitchen", device(Headers, "kitchen")),
        (b"2c0000kitchen", device(Headers, "kitchen")),
        (b"2c00ffx", device(Headers, "x")),
        (b"kitchen", device(Upstream, "kitchen")),
        (b"x", device(Upstream, "x")),
        ("küche 1".as_bytes(), device(Upstream, "küche 1")),
        ("2c00ffküche".as_bytes(), device(Headers, "küche")),
        // Without an id behind it, the mark is an id itself.
        (b"2c00ff", device(Upstream, "2c00ff")),
        (b"2c00f", device(Upstream, "2c00f")),
        // A header announced at login, or flags that are none: not H.
        (b"2c01ff00kitchen", device(Upstream, "2c01ff00kitchen")),
        (b"2c00zzkitchen", device(Upstream, "2c00zzkitchen")),
        (b"", Err(LoginError::Empty)),
        (b"GET / HTTP/1.1", Err(LoginError::Http)),
        (b"GET / HTTP/1.1\r", Err(LoginError::Http)),
        (b"POST /api/v1?x=1 HTTP/1.0\r", Err(LoginError::Http)),
        (b"\r", Err(LoginError::Id(IdError::NotPrintable))),
        (b"kitchen\r", Err(LoginError::Id(IdError::NotPrintable))),
        (b"2c00ffkit\0chen", Err(LoginError::Id(IdError::NotPrintable))),
        (b"kit\x7fchen", Err(LoginError::Id(IdError::NotPrintable))),
        (b"2c00ff\xff", Err(LoginError::Id(IdError::NotUtf8))),
        (b"\xff", Err(LoginError::Id(IdError::NotUtf8))),
        (b"\x16\x03\x01\x02\x00\x01", Err(LoginError::Id(IdError::NotPrintable))),
    ];
    for (line, expected) in table {
        assert_eq!(Login::parse(line), *expected, "login \"{}\"", line.escape_ascii());
    }
}

/// The reference took any protocol mark for its own and logged the client in as nobody.
#[test]
fn r45_a_wrong_protocol_mark_is_never_an_h_login() {
    for line in ["2d00ffkitchen", "0c00ffkitchen", "ff00ffkitchen", " c00ffkitchen"] {
        let login = Login::parse(line.as_bytes()).expect("an id on U");
        // On U any printable line is an id: the whole line, which no allow-list has.
        assert_eq!((login.dialect, login.id.as_str()), (Upstream, line));
    }
}

#[test]
fn a_login_line_has_at_most_128_bytes() {
    let id = |line: &str| Login::parse(line.as_bytes()).map(|login| login.id.as_str().len());
    let (on_h, on_u) = (format!("2c00ff{}", "i".repeat(122)), "i".repeat(128));
    assert_eq!((on_h.len(), on_u.len(), MAX_LINE), (128, 128, 128));
    assert_eq!((id(&on_h), id(&on_u)), (Ok(122), Ok(128)));

    let too_long = Err(LoginError::Id(IdError::TooLong { len: 129 }));
    assert_eq!(id(&format!("{on_h}i")), too_long);
    assert_eq!(id(&format!("{on_u}i")), too_long);
    // Bytes count, not characters.
    assert_eq!(id(&format!("{}i", "ä".repeat(64))), too_long);
}

#[test]
fn an_id_fits_into_its_dialect() {
    let longest = "i".repeat(122);
    let id = DeviceId::new(&longest).expect("an id");
    assert!([Headers, Upstream, Plain].into_iter().all(|dialect| id.fits(dialect)));
    let longer = "i".repeat(123);
    let id = DeviceId::new(&longer).expect("an id");
    assert_eq!([Headers, Upstream, Plain].map(|dialect| id.fits(dialect)), [false, true, true]);
}

#[test]
fn a_login_is_written_whole_or_not_at_all() {
    for (dialect, line) in [(Headers, "2c00ffboard\n"), (Upstream, "board\n"), (Plain, "board\n")] {
        let login = Login { dialect, id: DeviceId::new("board").expect("an id") };
        for room in 0..line.len() + 3 {
            let mut buffer = vec![0xee; room];
            let expected = (room >= line.len()).then_some(line.len());
            assert_eq!(login.emit(&mut buffer), expected);
            assert_eq!(&buffer[..expected.unwrap_or(0)], &line.as_bytes()[..expected.unwrap_or(0)]);
            assert!(buffer[expected.unwrap_or(0)..].iter().all(|&byte| byte == 0xee));
        }
    }
}

// Ids.

#[test]
fn ids_start_at_0_and_never_come_back_to_it() {
    let mut id = MessageId::FIRST;
    for expected in (0..=255).chain(1..=255).chain(1..=3) {
        assert_eq!((id.number(), id.is_first()), (expected, expected == 0));
        id = id.next();
    }
}

#[test]
fn an_id_is_far_from_those_a_quarter_of_the_circle_away() {
    for start in 0..=255 {
        let mut other = id(start);
        for steps in 0..=255 {
            let far = (64..=191).contains(&steps);
            assert_eq!(id(start).is_far_from(other), far, "{steps} steps after {start}");
            other = other.next();
        }
    }
}

#[test]
fn hex_digits_and_bytes_are_inverse() {
    for byte in 0..=255 {
        let [high, low] = hex::digits(byte);
        assert_eq!(format!("{byte:02x}").as_bytes(), [high, low]);
        assert_eq!(hex::pair(high, low), Some(byte));
        assert_eq!(hex::pair(high.to_ascii_uppercase(), low.to_ascii_uppercase()), Some(byte));
        let is_digit = char::from(byte).is_ascii_hexdigit();
        assert_eq!(hex::pair(byte, b'0').is_some(), is_digit);
        assert_eq!(hex::pair(b'0', byte).is_some(), is_digit);
    }
}

// Lines.

/// All lines in a stream that arrives in these pieces, as a driver reads them.
fn lines_of<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, limit: usize) -> Result<Vec<Vec<u8>>, LineTooLong> {
    let mut scanner = LineScanner::new(limit);
    let (mut buffer, mut lines) = (Vec::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        while let Some(line) = scanner.next(&buffer)? {
            let line = line.to_vec();
            buffer.drain(..=line.len());
            lines.push(line);
        }
    }
    Ok(lines)
}

#[test]
fn the_line_limit_is_exact() {
    for pieces in [1, 2, 11, 12] {
        let lines = |stream: &[u8]| lines_of(stream.chunks(pieces), 10);
        assert_eq!(lines(b"0123456789\n\n"), Ok(vec![b"0123456789".to_vec(), vec![]]));
        assert_eq!(lines(b"0123456789"), Ok(vec![]), "the newline may still come");
        assert_eq!(lines(b"0123456789a"), Err(LineTooLong { limit: 10 }), "no newline can save it");
        assert_eq!(lines(b"0123456789a\n"), Err(LineTooLong { limit: 10 }));
        assert_eq!(lines(b"ok\n0123456789a\n"), Err(LineTooLong { limit: 10 }));
    }
    // Many short lines at once are not one long line.
    assert_eq!(lines_of([&b"a\n".repeat(100)[..]], 1), Ok(vec![b"a".to_vec(); 100]));
}

/// Cases enough to meet every branch; failing inputs are printed, not kept in files.
fn cases(count: u32) -> ProptestConfig {
    ProptestConfig { cases: count, failure_persistence: None, ..ProptestConfig::default() }
}

/// Lines as they may come, with odd endings and empty ones.
fn stream() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let byte = prop_oneof![8 => any::<u8>(), 1 => Just(b'\r'), 1 => Just(0)];
    let byte = byte.prop_map(|byte| if byte == b'\n' { b' ' } else { byte });
    prop::collection::vec(prop::collection::vec(byte, 0..12), 0..8)
}

/// Bytes that look like a line of some dialect for a while.
fn almost_a_line() -> impl Strategy<Value = Vec<u8>> {
    let digits = "[0-9a-fA-F]{0,10}([0-9a-z+ ]{0,2})?";
    let start = prop_oneof![2 => digits, 1 => "2c00ff", 1 => Just(String::new())];
    (start, prop::collection::vec(any::<u8>(), 0..24))
        .prop_map(|(start, rest)| start.into_bytes().into_iter().chain(rest).collect())
}

fn dialect() -> impl Strategy<Value = Dialect> {
    prop::sample::select(&DIALECTS[..])
}

proptest! {
    #![proptest_config(cases(256))]

    /// The reference lost a newline that came alone, and two messages became one.
    #[test]
    fn r15_lines_are_byte_exact_at_every_split_point(lines in stream(), piece in 1_usize..9) {
        let bytes: Vec<u8> = lines.iter().flat_map(|line| line.iter().copied().chain([b'\n'])).collect();
        for split in 0..=bytes.len() {
            let (front, back) = bytes.split_at(split);
            prop_assert_eq!(lines_of([front, back], 100), Ok(lines.clone()), "split at {}", split);
        }
        prop_assert_eq!(lines_of(bytes.chunks(1), 100), Ok(lines.clone()));
        prop_assert_eq!(lines_of(bytes.chunks(piece), 100), Ok(lines));
    }

    #[test]
    fn what_is_written_is_read(
        dialect in dialect(), number: u8, qos: bool,
        header in prop::collection::vec(any::<u8>(), 0..=255), payload in "[^\n]{0,40}",
    ) {
        let header = if dialect.has_header() { &header[..] } else { &[] };
        let repr = MessageRepr { qos, header, payload: payload.as_bytes() };
        prop_assume!(repr.check(dialect, 1_000).is_ok());
        let line = emitted(dialect, &Frame::Message(id(number), repr));
        let body = line.strip_suffix(b"\n").expect("a newline");
        prop_assert!(!body.contains(&b'\n'), "one line");
        prop_assert_eq!(repr.check(dialect, body.len()), Ok(()), "the limit counts what is written");
        prop_assert!(repr.check(dialect, body.len() - 1).is_err());
        let Ok(Line::Message(view)) = Line::parse(dialect, body) else { panic!("not read as a message") };
        prop_assert_eq!(view.id, (dialect != Plain).then_some(id(number)));
        prop_assert_eq!(view.wants_ack, match dialect { Headers => qos, Upstream => true, Plain => false });
        prop_assert_eq!(view.header.bytes().collect::<Vec<_>>(), header);
        prop_assert_eq!(view.payload, payload);
    }

    #[test]
    fn acknowledgements_that_are_written_are_read(number: u8) {
        for dialect in [Headers, Upstream] {
            let line = emitted(dialect, &Frame::Ack(id(number)));
            prop_assert_eq!(Line::parse(dialect, &line[..line.len() - 1]), ack(number));
        }
    }

    #[test]
    fn logins_that_are_written_are_read(headers: bool, name in "[a-zA-Z0-9äπ._ -]{1,40}") {
        let dialect = if headers { Headers } else { Upstream };
        let login = Login { dialect, id: DeviceId::new(&name).expect("an id") };
        let mut line = [0; MAX_LINE + 1];
        let len = login.emit(&mut line).expect("room");
        prop_assert_eq!(Login::parse(&line[..len - 1]), Ok(login));
    }
}

proptest! {
    #![proptest_config(cases(4_096))]

    /// Reading any bytes neither panics nor makes anything up: what comes out stands in the line.
    #[test]
    fn any_bytes_are_read_or_refused(dialect in dialect(), line in almost_a_line()) {
        match Line::parse(dialect, &line) {
            Ok(Line::Keepalive) => prop_assert!(line.is_empty()),
            Ok(Line::Ack(id)) => prop_assert_eq!(hex::pair(line[0], line[1]), Some(id.number())),
            Ok(Line::Message(view)) => {
                let before = match dialect { Headers => 6 + 2 * view.header.len(), Upstream => 2, Plain => 0 };
                prop_assert_eq!(view.payload.as_bytes(), &line[before..]);
                prop_assert_eq!(view.header.bytes().count(), view.header.len());
            }
            Err(LineError::Undecodable { id, .. }) => {
                prop_assert_eq!(id.is_some(), dialect != Plain);
            }
            Err(LineError::Malformed) => prop_assert!(dialect != Plain),
        }
    }

    #[test]
    fn any_first_line_is_a_login_or_refused(line in almost_a_line()) {
        if let Ok(login) = Login::parse(&line) {
            prop_assert!(line.ends_with(login.id.as_str().as_bytes()));
            prop_assert!(!login.id.as_str().contains(char::is_control));
        }
    }
}
