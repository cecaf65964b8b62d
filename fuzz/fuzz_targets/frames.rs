//! Dialect N: frames, records, serial frames and openings. What parses emits the same bytes, and
//! arriving in pieces changes nothing.

#![no_main]

use bowline_fuzz::{Choices, crc32};
use bowline_proto::native::wire::{Answer, Frame, MAX_OPENING, Opening, Parsed, record, serial};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut choices = Choices::new(bytes);
    match choices.below(5) {
        0 => frames(choices.rest()),
        1 => records(&mut choices),
        2 => serial_frames(&mut choices),
        3 => opening(choices.rest()),
        _ => answer(choices.rest()),
    }
});

/// A body: one frame behind the other.
fn frames(body: &[u8]) {
    let mut rest = body;
    while let Ok(Parsed { frame, len }) = Frame::parse(rest) {
        assert!((1..=rest.len()).contains(&len));
        if let Some(frame) = frame {
            let mut written = vec![0; len];
            assert_eq!(frame.emit(&mut written), Some(len), "{frame:?}");
            assert_eq!(written, rest[..len], "{frame:?}");
            assert_eq!(frame.emit(&mut written[..len - 1]), None, "{frame:?}");
        }
        // A frame cut short is an error, never another frame.
        assert!(Frame::parse(&rest[..len - 1]).is_err());
        rest = &rest[len..];
    }
}

fn records(choices: &mut Choices<'_>) {
    let limit = choices.pick(&[128u16, 1, 600, u16::MAX]);
    let stream = choices.rest();
    let mut rest = stream;
    while let Ok(Some(body)) = record::next(rest, limit) {
        assert!(!body.is_empty() && body.len() <= limit.into() && body.end <= rest.len());
        assert_eq!(record::next(&rest[..body.end - 1], limit), Ok(None), "a record is whole or not there");
        let mut again = rest[..body.end].to_vec();
        assert_eq!(record::finish(&mut again, body.len()), Some(body.end));
        assert_eq!(again, rest[..body.end]);
        rest = &rest[body.end..];
    }
}

fn serial_frames(choices: &mut Choices<'_>) {
    let link = u16::from(choices.byte());
    let is_body = choices.flag();
    let noise = choices.bytes(40).to_vec();
    let content = choices.rest();
    let mut stream = noise;
    stream.push(0);
    let found = read(&mut stream.clone());
    if is_body && !content.is_empty() {
        let mut frame = vec![0; serial::max_len(content.len())];
        let len = serial::encode(link, content, &mut frame).expect("room");
        assert!(!frame[..len - 1].contains(&0));
        stream.extend_from_slice(&frame[..len]);
        // Behind whatever noise, once a delimiter has passed.
        let mut expected = found;
        expected.push((link, content.to_vec()));
        assert_eq!(read(&mut stream), expected);
    } else {
        stream.extend_from_slice(content);
        for (link, body) in read(&mut stream) {
            let whole = [&link.to_be_bytes()[..], &body].concat();
            let mut frame = vec![0; serial::max_len(body.len())];
            let len = serial::encode(link, &body, &mut frame).expect("room");
            assert_eq!(read(&mut frame[..len]), [(link, body)], "crc {:08x}", crc32(&whole));
        }
    }
}

fn read(stream: &mut [u8]) -> Vec<(u16, Vec<u8>)> {
    let (mut rest, mut found) = (stream, vec![]);
    loop {
        let serial::Step { consumed, found: Some(step) } = serial::next(rest) else { return found };
        if let serial::Found::Body { link, body } = step {
            assert!(!body.is_empty());
            found.push((link, body.to_vec()));
        }
        rest = &mut rest[consumed..];
    }
}

fn opening(bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(MAX_OPENING)];
    let decided = Opening::parse(bytes);
    if let Ok(Some((opening, len))) = decided {
        let mut written = [0; MAX_OPENING];
        assert_eq!(opening.emit(&mut written), Some(len));
        assert_eq!(written[..len], bytes[..len]);
    }
    assert!(bytes.len() < MAX_OPENING || decided != Ok(None), "undecided");
    // A decision is taken once: more bytes do not change it.
    for cut in 0..bytes.len() {
        match Opening::parse(&bytes[..cut]) {
            Ok(None) => {}
            early => assert_eq!(early, decided, "at {cut}"),
        }
    }
}

fn answer(bytes: &[u8]) {
    let decided = Answer::parse(bytes);
    if let Ok(Some((answer, len))) = decided {
        let mut written = [0; Answer::MAX_LEN];
        assert_eq!(answer.emit(&mut written), Some(len));
        assert_eq!(written[..len], bytes[..len]);
    }
    for cut in 0..bytes.len().min(Answer::MAX_LEN) {
        match Answer::parse(&bytes[..cut]) {
            Ok(None) => {}
            early => assert_eq!(early, decided, "at {cut}"),
        }
    }
}
