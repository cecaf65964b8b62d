//! Lines of the dialects H, U and P: cut out of a stream at every split, read, written again.

#![no_main]

use bowline_fuzz::Choices;
use bowline_proto::Dialect;
use bowline_proto::wire::login::{self, Login};
use bowline_proto::wire::{Frame, Line, LineError, LineScanner, LineTooLong, MessageRepr};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut choices = Choices::new(bytes);
    let dialect = choices.pick(&[Dialect::Headers, Dialect::Upstream, Dialect::Plain]);
    let limit = choices.pick(&[64, 512, 8, 1, 0]);
    let piece = 1 + choices.below(16);
    let stream = choices.rest();

    let expected = reference(stream, limit);
    assert_eq!(scan(stream.chunks(piece), limit), expected, "in pieces of {piece}");
    // All splits of a long stream say no more than those of a short one, and take the square of the time.
    for split in 0..=stream.len().min(64) {
        let (front, back) = stream.split_at(split);
        assert_eq!(scan([front, back].into_iter(), limit), expected, "split at {split}");
    }
    for line in &expected.0 {
        reads(dialect, line);
        logs_in(line);
    }
});

/// The lines of a stream, and whether it ends in one that is too long.
fn reference(stream: &[u8], limit: usize) -> (Vec<Vec<u8>>, bool) {
    let mut lines = vec![];
    let mut rest = stream;
    while let Some(at) = rest.iter().position(|&byte| byte == b'\n') {
        if at > limit {
            return (lines, true);
        }
        lines.push(rest[..at].to_vec());
        rest = &rest[at + 1..];
    }
    (lines, rest.len() > limit)
}

fn scan<'a>(pieces: impl Iterator<Item = &'a [u8]>, limit: usize) -> (Vec<Vec<u8>>, bool) {
    let (mut scanner, mut buffer, mut lines) = (LineScanner::new(limit), vec![], vec![]);
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match scanner.next(&buffer) {
                Ok(Some(line)) => {
                    lines.push(line.to_vec());
                    buffer.drain(..lines.last().map_or(0, Vec::len) + 1);
                }
                Ok(None) => break,
                Err(LineTooLong { .. }) => return (lines, true),
            }
        }
    }
    (lines, false)
}

/// What is read stands in the line, and is read from what is written of it.
fn reads(dialect: Dialect, line: &[u8]) {
    match Line::parse(dialect, line) {
        Ok(Line::Keepalive) => assert!(line.is_empty()),
        Ok(Line::Ack(id)) => {
            let mut written = [0; 16];
            let len = Frame::Ack(id).emit(dialect, &mut written).expect("room");
            assert_eq!(Line::parse(dialect, &written[..len - 1]), Ok(Line::Ack(id)));
        }
        Ok(Line::Message(view)) => {
            assert!(line.ends_with(view.payload.as_bytes()));
            let header: Vec<u8> = view.header.bytes().collect();
            let repr = MessageRepr { qos: view.wants_ack, header: &header, payload: view.payload.as_bytes() };
            if repr.check(dialect, line.len()).is_err() {
                // What a peer may send and this end never would: an empty payload.
                assert!(view.payload.is_empty(), "{view:?}");
                return;
            }
            let frame = Frame::Message(view.id.unwrap_or(bowline_proto::wire::MessageId::FIRST), repr);
            let mut written = vec![0; frame.len(dialect)];
            assert_eq!(frame.emit(dialect, &mut written), Some(written.len()));
            assert_eq!(written.pop(), Some(b'\n'));
            let Ok(Line::Message(again)) = Line::parse(dialect, &written) else { panic!("not read as a message") };
            assert_eq!((again.id, again.wants_ack, again.payload), (view.id, view.wants_ack, view.payload));
            assert!(again.header.bytes().eq(header.iter().copied()));
        }
        Err(LineError::Undecodable { id, .. }) => assert_eq!(id.is_some(), dialect != Dialect::Plain),
        Err(LineError::Malformed) => assert!(dialect != Dialect::Plain),
        Err(other) => panic!("an error this target does not know: {other:?}"),
    }
}

fn logs_in(line: &[u8]) {
    let Ok(login) = Login::parse(line) else { return };
    assert!(line.ends_with(login.id.as_str().as_bytes()));
    assert!(!login.id.as_str().contains(char::is_control));
    let mut written = [0; login::MAX_LINE + 1];
    // An id that begins as a login of H does cannot be said on U: it would be read as H.
    let Some(len) = login.emit(&mut written).filter(|_| login.id.fits(login.dialect)) else { return };
    assert_eq!(Login::parse(&written[..len - 1]), Ok(login));
}
