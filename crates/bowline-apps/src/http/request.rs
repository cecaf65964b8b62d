//! What a board asks for.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use url::Url;

use super::answer::{Code, Problem};

/// Longest URL.
const URL: usize = 8 * 1024;
/// Most headers of a request, and most that are asked for in its answer.
const HEADERS: usize = 32;

/// Headers that belong to the connection, not to the board.
const OURS: [&str; 10] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// A request that can be made.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
    /// Names of the headers of the answer that the board wants.
    pub(super) want: Vec<HeaderName>,
    pub(super) shape: Shape,
}

/// How the board wants the body of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// In one piece of at most so many bytes, or of as many as the settings say.
    Cut(Option<usize>),
    /// In parts of at most so many bytes.
    Parts(usize),
}

/// The object form.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    url: String,
    method: Option<String>,
    #[serde(default)]
    headers: std::collections::BTreeMap<String, String>,
    body: Option<String>,
    base64: Option<String>,
    #[serde(default)]
    want: Vec<String>,
    limit: Option<usize>,
    parts: Option<usize>,
}

impl Request {
    /// Reads a payload: a URL, a URL as a JSON string, or a JSON object.
    pub(super) fn read(payload: &[u8]) -> Result<Self, Problem> {
        let text = std::str::from_utf8(payload).map_err(|_| wrong("the request is not UTF-8 text"))?.trim();
        let json = |error: serde_json::Error| wrong(format!("the request cannot be read: {error}"));
        match text.as_bytes().first() {
            None => Err(wrong("the request is empty: expected a URL, or an object with \"url\"")),
            Some(b'{') => Self::of(serde_json::from_str(text).map_err(json)?),
            Some(b'"') => Self::get(&serde_json::from_str::<String>(text).map_err(json)?),
            Some(_) => Self::get(text),
        }
    }

    fn get(url: &str) -> Result<Self, Problem> {
        Ok(Request {
            method: Method::GET,
            url: read_url(url)?,
            headers: HeaderMap::new(),
            body: Vec::new(),
            want: Vec::new(),
            shape: Shape::Cut(None),
        })
    }

    fn of(wish: Wish) -> Result<Self, Problem> {
        let mut request = Self::get(&wish.url)?;
        request.body = match (wish.body, wish.base64) {
            (Some(_), Some(_)) => return Err(wrong("expected \"body\" or \"base64\", not both")),
            (Some(text), None) => text.into_bytes(),
            (None, Some(text)) => {
                BASE64.decode(text).map_err(|error| wrong(format!("\"base64\" cannot be read: {error}")))?
            }
            (None, None) => Vec::new(),
        };
        if let Some(method) = wish.method {
            request.method = match &*method.to_ascii_uppercase() {
                "GET" => Method::GET,
                "HEAD" => Method::HEAD,
                "POST" => Method::POST,
                "PUT" => Method::PUT,
                "PATCH" => Method::PATCH,
                "DELETE" => Method::DELETE,
                _ => return Err(wrong("expected GET, HEAD, POST, PUT, PATCH or DELETE as \"method\"")),
            };
        } else if !request.body.is_empty() {
            request.method = Method::POST;
        }
        if wish.headers.len() > HEADERS || wish.want.len() > HEADERS {
            return Err(wrong(format!("expected at most {HEADERS} headers")));
        }
        for (name, value) in wish.headers {
            let field = header_name(&name)?;
            if OURS.contains(&field.as_str()) {
                return Err(wrong(format!("the header {name:?} is set by the server")));
            }
            // Line breaks and other control characters are no values: no header can bring another one along.
            let value = HeaderValue::from_str(&value)
                .map_err(|_| wrong(format!("the header {name:?} has characters that no header may have")))?;
            request.headers.insert(field, value);
        }
        request.want = wish.want.iter().map(|name| header_name(name)).collect::<Result<_, _>>()?;
        request.shape = match (wish.limit, wish.parts) {
            (Some(_), Some(_)) => return Err(wrong("expected \"limit\" or \"parts\", not both")),
            (_, Some(bytes @ 16..)) => Shape::Parts(bytes),
            (_, Some(_)) => return Err(wrong("expected \"parts\" of 16 bytes or more")),
            (limit, None) => Shape::Cut(limit),
        };
        Ok(request)
    }
}

/// Reads the URL of a request or a redirect. What is wrong with it is the same for both.
pub(super) fn read_url(text: &str) -> Result<Url, Problem> {
    if text.len() > URL {
        return Err(wrong(format!("the URL has {} bytes, at most {URL} are taken", text.len())));
    }
    let url = Url::parse(text)
        .map_err(|error| wrong(format!("this is no URL: {error}; expected one like \"http://example.org/path\"")))?;
    check_url(&url)?;
    Ok(url)
}

/// Whether the URL is one that is asked at all, by any host.
pub(super) fn check_url(url: &Url) -> Result<(), Problem> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Problem::new(Code::NotAllowed, format!("\"{}:\" is not asked, only http and https", url.scheme())));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("a URL with a user is not taken: send an \"authorization\" header"));
    }
    Ok(())
}

fn header_name(name: &str) -> Result<HeaderName, Problem> {
    name.parse().map_err(|_| wrong(format!("{name:?} is no name of a header")))
}

fn wrong(detail: impl Into<String>) -> Problem {
    Problem::new(Code::BadRequest, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Request, Problem> {
        Request::read(text.as_bytes())
    }

    #[test]
    fn a_url_is_a_get_in_all_three_forms() {
        for text in ["http://a.example/x?y=1", "\"http://a.example/x?y=1\"", " {\"url\": \"http://a.example/x?y=1\"}\n"]
        {
            let request = read(text).unwrap();
            assert_eq!((request.method, request.url.as_str()), (Method::GET, "http://a.example/x?y=1"), "{text}");
        }
    }

    #[test]
    fn an_object_says_the_rest() {
        let request = read(
            r#"{"method": "put", "url": "https://a.example/", "headers": {"X-Key": "7"}, "base64": "AAH/", "want": ["ETag"],
                "parts": 100}"#,
        )
        .unwrap();
        assert_eq!((request.method, &request.body[..]), (Method::PUT, &[0, 1, 255][..]));
        assert_eq!((&request.headers["x-key"], request.want[0].as_str()), (&HeaderValue::from_static("7"), "etag"));
        assert_eq!(request.shape, Shape::Parts(100));
        assert_eq!(read(r#"{"url": "http://a.example/", "body": "x"}"#).unwrap().method, Method::POST);
    }

    #[test]
    fn what_cannot_be_asked_is_said() {
        let cases = [
            ("", "is empty"),
            ("kitchen", "no URL"),
            ("http://", "no URL"),
            ("{\"url\": 7}", "cannot be read"),
            ("{\"uri\": \"http://a.example/\"}", "unknown field `uri`"),
            ("\"http://a.example", "cannot be read"),
            ("http://user:secret@a.example/", "with a user"),
            ("http://user@a.example/", "with a user"),
            (r#"{"url": "http://a.example/", "method": "CONNECT"}"#, "expected GET"),
            (r#"{"url": "http://a.example/", "method": "GET / HTTP/1.1\r\nX: y"}"#, "expected GET"),
            (r#"{"url": "http://a.example/", "headers": {"Host": "b"}}"#, "set by the server"),
            (r#"{"url": "http://a.example/", "headers": {"Transfer-Encoding": "chunked"}}"#, "set by the server"),
            (r#"{"url": "http://a.example/", "headers": {"x": "y\r\nHost: b"}}"#, "no header may have"),
            (r#"{"url": "http://a.example/", "headers": {"x: y\r\nz": "y"}}"#, "no name of a header"),
            (r#"{"url": "http://a.example/", "body": "x", "base64": "AA=="}"#, "not both"),
            (r#"{"url": "http://a.example/", "base64": "%"}"#, "cannot be read"),
            (r#"{"url": "http://a.example/", "limit": 5, "parts": 50}"#, "not both"),
            (r#"{"url": "http://a.example/", "parts": 0}"#, "16 bytes or more"),
        ];
        for (text, detail) in cases {
            let problem = read(text).unwrap_err();
            assert!(problem.code == Code::BadRequest && problem.detail.contains(detail), "{text}: {problem:?}");
            assert!(!problem.detail.contains("secret"), "{problem:?}");
        }
        for text in ["file:///etc/passwd", "ftp://a.example/", "gopher://a.example/", "data:,x"] {
            assert_eq!(read(text).unwrap_err().code, Code::NotAllowed, "{text}");
        }
        assert_eq!(Request::read(&[0xff]).unwrap_err().code, Code::BadRequest);
        assert!(read(&format!("http://a.example/{}", "x".repeat(URL))).unwrap_err().detail.contains("at most"));
    }

    #[test]
    fn line_breaks_in_a_url_do_not_reach_the_request() {
        let request = read("\"http://a.example/x\\r\\nHost: b\"").unwrap();
        assert_eq!(request.url.as_str(), "http://a.example/xHost:%20b");
    }
}
