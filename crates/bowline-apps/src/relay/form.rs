//! What boards write to the relay, and what they get from it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// Most targets that a sender may name.
const NAMES: usize = 32;

/// A message with the names of its targets.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Addressed<'a> {
    to: Names,
    #[serde(borrow)]
    data: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Names {
    One(String),
    Several(Vec<String>),
}

/// What a target has got, when it passes it on as it is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Passed<'a> {
    #[serde(rename = "from")]
    _from: String,
    #[serde(rename = "id")]
    _id: Option<u64>,
    hops: u64,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// A message as it is relayed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Letter<'a> {
    /// The targets, if it names them.
    pub(super) to: Option<Vec<String>>,
    /// How often it was relayed before.
    pub(super) hops: u64,
    data: Data<'a>,
}

#[derive(Debug, PartialEq, Eq)]
enum Data<'a> {
    Json(&'a str),
    Text(&'a str),
    Bytes(&'a [u8]),
}

impl<'a> Letter<'a> {
    /// Reads a payload. `named`: the sender may name targets.
    pub(super) fn read(payload: &'a [u8], named: bool) -> Result<Self, String> {
        let Ok(text) = std::str::from_utf8(payload) else {
            return Ok(Letter { to: None, hops: 0, data: Data::Bytes(payload) });
        };
        let (mut to, mut data) = (None, Data::of(text));
        if named && let Ok(Addressed { to: names, data: inner }) = serde_json::from_str(text) {
            let names = match names {
                Names::One(name) => vec![name],
                Names::Several(names) => names,
            };
            if names.is_empty() || names.len() > NAMES {
                return Err(format!("\"to\" names {} targets: expected 1 to {NAMES}", names.len()));
            }
            (to, data) = (Some(names), Data::Json(inner.get()));
        }
        let mut hops = 0;
        if let Data::Json(text) = data
            && let Ok(passed) = serde_json::from_str::<Passed<'a>>(text)
        {
            (hops, data) = (passed.hops, Data::Json(passed.data.get()));
        }
        Ok(Letter { to, hops, data })
    }

    /// As it goes to its targets.
    pub(super) fn payload(&self, raw: bool, from: &str, id: Option<u64>) -> Vec<u8> {
        if raw {
            return match self.data {
                Data::Json(text) | Data::Text(text) => text.as_bytes().to_vec(),
                Data::Bytes(bytes) => bytes.to_vec(),
            };
        }
        let data = match self.data {
            Data::Json(text) => text.to_owned(),
            Data::Text(text) => Value::from(text).to_string(),
            Data::Bytes(bytes) => json!({ "base64": BASE64.encode(bytes) }).to_string(),
        };
        let from = Value::from(from);
        let id = id.map(|id| format!("\"id\":{id},")).unwrap_or_default();
        let hops = self.hops.saturating_add(1);
        format!("{{\"from\":{from},{id}\"hops\":{hops},\"data\":{data}}}").into_bytes()
    }
}

impl<'a> Data<'a> {
    fn of(text: &'a str) -> Self {
        match serde_json::from_str::<&RawValue>(text) {
            // Without the space around it, and so that a line stays a line.
            Ok(value) if !value.get().contains(['\n', '\r']) => Data::Json(value.get()),
            _ => Data::Text(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relayed(payload: &[u8], named: bool) -> String {
        let letter = Letter::read(payload, named).unwrap();
        String::from_utf8(letter.payload(false, "tx", Some(7))).unwrap()
    }

    #[test]
    fn json_stays_json_text_becomes_a_string_and_bytes_base64() {
        assert_eq!(relayed(b"[1.50]", false), r#"{"from":"tx","id":7,"hops":1,"data":[1.50]}"#);
        assert_eq!(relayed("Tür \"zu\"".as_bytes(), false), r#"{"from":"tx","id":7,"hops":1,"data":"Tür \"zu\""}"#);
        assert_eq!(relayed(b"", false), r#"{"from":"tx","id":7,"hops":1,"data":""}"#);
        assert_eq!(relayed(b"[1,\n2]", false), r#"{"from":"tx","id":7,"hops":1,"data":"[1,\n2]"}"#);
        assert_eq!(relayed(&[0xff], false), r#"{"from":"tx","id":7,"hops":1,"data":{"base64":"/w=="}}"#);
        let letter = Letter::read(&[0xff, 0], false).unwrap();
        assert_eq!(letter.payload(true, "tx", None), [0xff, 0]);
        let best_effort = Letter::read(b"1", false).unwrap().payload(false, "t\"x", None);
        assert_eq!(best_effort, br#"{"from":"t\"x","hops":1,"data":1}"#);
    }

    #[test]
    fn targets_are_read_where_they_may_be_named() {
        let payload = br#"{"to": "lamp", "data": {"on": true}}"#;
        let letter = Letter::read(payload, true).unwrap();
        assert_eq!(letter.to, Some(vec!["lamp".to_owned()]));
        assert_eq!(letter.payload(true, "tx", None), br#"{"on": true}"#);
        let several = Letter::read(br#"{"to": ["a", "b"], "data": 1}"#, true).unwrap();
        assert_eq!(several.to.unwrap().len(), 2);
        assert_eq!(Letter::read(payload, false).unwrap().to, None, "it is data like any other");
        assert_eq!(Letter::read(br#"{"to": "lamp"}"#, true).unwrap().to, None);
        assert!(Letter::read(br#"{"to": [], "data": 1}"#, true).is_err());
    }

    #[test]
    fn what_is_passed_on_is_counted() {
        let once = relayed(b"5", false);
        let twice = relayed(once.as_bytes(), false);
        assert_eq!(twice, r#"{"from":"tx","id":7,"hops":2,"data":5}"#);
        let named = format!(r#"{{"to": "b", "data": {twice}}}"#);
        assert_eq!(Letter::read(named.as_bytes(), true).unwrap().hops, 2);
        assert_eq!(relayed(br#"{"from":"a","data":5}"#, false).matches("hops").count(), 1, "not ours");
    }
}
