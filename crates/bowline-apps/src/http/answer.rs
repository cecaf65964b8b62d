//! What a board gets.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use reqwest::header::{HeaderMap, HeaderName};
use serde_json::{Map, Value, json};

use super::request::Shape;

/// Longest value of a header that is passed on, and all of them together.
const HEADER_BYTES: usize = 256;
const HEADERS_BYTES: usize = 1024;

/// Most parts of an answer: a quarter of what an outbox holds by default, so that they seldom have to wait.
pub(super) const PARTS: usize = 64;

/// Longest explanation of an error.
const DETAIL_BYTES: usize = 200;

/// Why there is no answer of the host asked. The words are for programs and stay as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Code {
    /// The board's mistake.
    BadRequest,
    /// By the settings: the host, its address, or the scheme.
    NotAllowed,
    /// The board asks more often than the settings let it.
    TooMany,
    /// The name has no address.
    Dns,
    /// Nobody listens there.
    Refused,
    /// No connection for another reason, or it broke.
    Unreachable,
    /// No proof of who is there.
    Tls,
    /// Too slow.
    Timeout,
    /// Too many of them, or one that leads nowhere.
    Redirects,
    /// The head of the answer.
    TooLarge,
    /// What came is not HTTP.
    BadAnswer,
}

impl Code {
    fn word(self) -> &'static str {
        match self {
            Code::BadRequest => "bad-request",
            Code::NotAllowed => "not-allowed",
            Code::TooMany => "too-many",
            Code::Dns => "dns",
            Code::Refused => "refused",
            Code::Unreachable => "unreachable",
            Code::Tls => "tls",
            Code::Timeout => "timeout",
            Code::Redirects => "redirects",
            Code::TooLarge => "too-large",
            Code::BadAnswer => "bad-answer",
        }
    }
}

/// A [`Code`] with what is to be said about it. Goes to the board, so that it has no secrets of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) code: Code,
    pub(super) detail: String,
}

impl Problem {
    pub(super) fn new(code: Code, detail: impl Into<String>) -> Self {
        Problem { code, detail: detail.into() }
    }

    /// As a payload of at most `room` bytes.
    pub(super) fn payload(&self, room: usize) -> Vec<u8> {
        let word = self.code.word();
        let room = room.saturating_sub(json!({ "error": word, "detail": "" }).to_string().len());
        let detail = &self.detail[..fitting_text(&self.detail, DETAIL_BYTES, room)];
        json!({ "error": word, "detail": detail }).to_string().into_bytes()
    }
}

/// What the host asked has answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
    /// There was more of the body than was read.
    pub(super) cut: bool,
}

impl Answer {
    /// As payloads of at most `room` bytes each; one, or more if parts are wanted. Never none.
    pub(super) fn payloads(&self, want: &[HeaderName], shape: Shape, most: usize, room: usize) -> Vec<Vec<u8>> {
        let (body, mut cut) = match shape {
            Shape::Cut(limit) => {
                let end = self.body.len().min(limit.unwrap_or(most));
                (&self.body[..end], self.cut || end < self.body.len())
            }
            Shape::Parts(_) => (&self.body[..], self.cut),
        };
        let mut rest = Body::of(body, cut);
        // A character that was cut in two goes with what follows it.
        cut |= rest.len() < body.len();
        let mut payloads = Vec::new();
        loop {
            let mut extra = Map::new();
            if payloads.is_empty() && !want.is_empty() {
                extra.insert("headers".into(), self.headers(want, room / 2));
            }
            if matches!(rest, Body::Bytes(_)) {
                extra.insert("base64".into(), true.into());
            }
            let bytes = match shape {
                Shape::Cut(_) => usize::MAX,
                Shape::Parts(bytes) => {
                    extra.insert("part".into(), payloads.len().into());
                    bytes
                }
            };
            // As if both were to be said: whether they are depends on how much fits.
            let marks = r#","":{"cut":true,"last":true,}"#.len();
            let space = room.saturating_sub(self.payload("", extra.clone()).len() + marks);
            let piece = rest.take(bytes, space);
            let is_last = match shape {
                Shape::Cut(_) => {
                    cut |= rest.len() > 0;
                    true
                }
                Shape::Parts(_) => {
                    cut |= rest.len() > 0 && payloads.len() + 1 == PARTS;
                    rest.len() == 0 || payloads.len() + 1 == PARTS
                }
            };
            if is_last {
                if cut {
                    extra.insert("cut".into(), true.into());
                }
                if matches!(shape, Shape::Parts(_)) {
                    extra.insert("last".into(), true.into());
                }
            }
            payloads.push(self.payload(&piece, extra));
            if is_last {
                return payloads;
            }
        }
    }

    fn payload(&self, body: &str, extra: Map<String, Value>) -> Vec<u8> {
        let all = if extra.is_empty() { json!([self.status, body]) } else { json!([self.status, body, extra]) };
        all.to_string().into_bytes()
    }

    fn headers(&self, want: &[HeaderName], room: usize) -> Value {
        let mut space = HEADERS_BYTES.min(room);
        let mut headers = Map::new();
        for name in want {
            let Some(value) = self.headers.get(name).filter(|value| value.len() <= HEADER_BYTES) else { continue };
            let value = Value::from(String::from_utf8_lossy(value.as_bytes()));
            let size = name.as_str().len() + value.to_string().len() + r#""":,"#.len();
            if size <= space && headers.insert(name.as_str().into(), value).is_none() {
                space -= size;
            }
        }
        headers.into()
    }
}

/// What is left of a body.
enum Body<'a> {
    Text(&'a str),
    Bytes(&'a [u8]),
}

impl<'a> Body<'a> {
    /// Text if it is UTF-8. If it was cut, the last character may not be whole, and is left out.
    fn of(bytes: &'a [u8], cut: bool) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Body::Text(text),
            Err(error) if cut && error.error_len().is_none() => {
                std::str::from_utf8(&bytes[..error.valid_up_to()]).map_or(Body::Bytes(bytes), Body::Text)
            }
            Err(_) => Body::Bytes(bytes),
        }
    }

    fn len(&self) -> usize {
        match self {
            Body::Text(text) => text.len(),
            Body::Bytes(bytes) => bytes.len(),
        }
    }

    /// Takes off at most `most` bytes that need at most `space` bytes in a JSON string, and at least one
    /// character or byte if there is one, so that it comes to an end.
    fn take(&mut self, most: usize, space: usize) -> String {
        match self {
            Body::Text(text) => {
                let first = text.chars().next().map_or(0, char::len_utf8);
                let (taken, rest) = text.split_at(fitting_text(text, most, space).max(first));
                *text = rest;
                taken.to_owned()
            }
            Body::Bytes(bytes) => {
                let (taken, rest) = bytes.split_at(most.min(space / 4 * 3).max(1).min(bytes.len()));
                *bytes = rest;
                BASE64.encode(taken)
            }
        }
    }
}

/// How many bytes of the beginning of `text` are at most `most`, and in a JSON string at most `space`.
fn fitting_text(text: &str, most: usize, space: usize) -> usize {
    let mut written = 0;
    text.char_indices()
        .take_while(|&(at, character)| {
            written += match character {
                '"' | '\\' | '\n' | '\r' | '\t' | '\x08' | '\x0c' => 2,
                control if control < ' ' => r"\u0000".len(),
                other => other.len_utf8(),
            };
            written <= space && at + character.len_utf8() <= most
        })
        .last()
        .map_or(0, |(at, character)| at + character.len_utf8())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(body: &[u8]) -> Answer {
        Answer { status: 200, headers: HeaderMap::new(), body: body.to_vec(), cut: false }
    }

    fn texts(answer: &Answer, shape: Shape, room: usize) -> Vec<String> {
        let payloads = answer.payloads(&[], shape, 1000, room);
        payloads.into_iter().map(|payload| String::from_utf8(payload).unwrap()).collect()
    }

    #[test]
    fn an_answer_is_a_status_and_a_body() {
        assert_eq!(texts(&answer(b"on\n"), Shape::Cut(None), 999), [r#"[200,"on\n"]"#]);
        assert_eq!(texts(&answer(b""), Shape::Cut(None), 999), [r#"[200,""]"#]);
        assert_eq!(texts(&answer(&[0xff, 0]), Shape::Cut(None), 999), [r#"[200,"/wA=",{"base64":true}]"#]);
    }

    #[test]
    fn what_is_cut_says_so_and_ends_with_a_whole_character() {
        assert_eq!(texts(&answer("grün".as_bytes()), Shape::Cut(Some(3)), 999), [r#"[200,"gr",{"cut":true}]"#]);
        assert_eq!(texts(&answer(b"green"), Shape::Cut(Some(5)), 999), [r#"[200,"green"]"#]);
        assert_eq!(texts(&answer(b"green"), Shape::Cut(Some(0)), 999), [r#"[200,"",{"cut":true}]"#]);
        let cut = Answer { cut: true, ..answer("grü".as_bytes()) };
        assert_eq!(texts(&cut, Shape::Cut(None), 999), [r#"[200,"grü",{"cut":true}]"#]);
    }

    #[test]
    fn parts_are_in_order_and_the_last_says_so() {
        let body = "0123456789abcdefghü0123456789";
        let parts = texts(&answer(body.as_bytes()), Shape::Parts(19), 999);
        assert_eq!(
            parts,
            [r#"[200,"0123456789abcdefgh",{"part":0}]"#, r#"[200,"ü0123456789",{"part":1,"last":true}]"#]
        );
        assert_eq!(texts(&answer(b""), Shape::Parts(19), 999), [r#"[200,"",{"part":0,"last":true}]"#]);
        let cut = Answer { cut: true, ..answer(b"x") };
        assert_eq!(texts(&cut, Shape::Parts(19), 999), [r#"[200,"x",{"part":0,"cut":true,"last":true}]"#]);
    }

    #[test]
    fn there_are_so_many_parts_and_no_more() {
        let parts = texts(&answer(&[b'x'; 16 * PARTS]), Shape::Parts(16), 999);
        assert!(parts.len() == PARTS && !parts[PARTS - 1].contains("cut"), "{}", parts[PARTS - 1]);
        let parts = texts(&answer(&[b'x'; 16 * PARTS + 1]), Shape::Parts(16), 999);
        assert!(parts.len() == PARTS && parts[PARTS - 1].contains(r#""cut":true,"last":true"#), "{}", parts[PARTS - 1]);
        assert!(parts[..PARTS - 1].iter().all(|part| !part.contains("last")));
    }

    #[test]
    fn no_payload_is_larger_than_the_room() {
        let bodies = ["\u{1}".repeat(500), "\"".repeat(500), "ü☃😀".repeat(50), "x".repeat(500)];
        for body in bodies.iter().map(String::as_bytes).chain([&[0x80; 500][..]]) {
            for room in 150..260 {
                for shape in [Shape::Cut(None), Shape::Parts(16), Shape::Parts(400)] {
                    let payloads = answer(body).payloads(&[], shape, 1000, room);
                    assert!(payloads.iter().all(|payload| payload.len() <= room), "{shape:?} {room}");
                    let mut read = Vec::new();
                    for payload in &payloads {
                        let value: Value = serde_json::from_slice(payload).unwrap();
                        let text = value[1].as_str().unwrap();
                        let is_base64 = value[2]["base64"] == true;
                        read.extend(if is_base64 { BASE64.decode(text).unwrap() } else { text.as_bytes().to_vec() });
                    }
                    assert!(body.starts_with(&read) && (read.len() == body.len() || shape != Shape::Parts(400)));
                }
            }
        }
    }

    #[test]
    fn headers_come_when_they_are_wanted_and_small() {
        let mut headers = HeaderMap::new();
        headers.insert("etag", "\"7\"".parse().unwrap());
        headers.insert("x-long", "y".repeat(HEADER_BYTES + 1).parse().unwrap());
        let want = ["etag", "x-long", "x-missing"].map(|name| name.parse().unwrap());
        let payloads = Answer { headers, ..answer(b"") }.payloads(&want, Shape::Cut(None), 1000, 999);
        assert_eq!(payloads, [br#"[200,"",{"headers":{"etag":"\"7\""}}]"#.to_vec()]);
    }

    #[test]
    fn an_error_fits_whatever_it_says() {
        let problem = Problem::new(Code::NotAllowed, "\"".repeat(1000));
        let payload = problem.payload(192);
        assert!(payload.len() <= 192 && payload.starts_with(br#"{"error":"not-allowed","detail":"\"#));
        let problem = Problem::new(Code::Tls, "who?");
        assert_eq!(problem.payload(192), br#"{"error":"tls","detail":"who?"}"#);
    }
}
