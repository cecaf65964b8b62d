//! What boards say and hear: the messages of `docs/apps/mqtt.md`.

use bytes::Bytes;
use serde_json::Value;

use super::topic;

/// Tag of the messages to a board: a publication, and what is wrong with a command.
pub(super) const MESSAGE: u8 = 0;
pub(super) const ERROR: u8 = 6;

/// What a board asks for, by the tag of its message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    /// 1.
    Publish(Publication),
    /// 2: the filters, and whether retained states are wanted.
    Subscribe { filters: Vec<String>, states: bool },
    /// 3.
    Unsubscribe { filters: Vec<String> },
    /// 4: what is published when the board is gone; nothing, if it is `None`.
    Will(Option<Publication>),
    /// 5: what is published now, and whenever the connection to the broker is new.
    Welcome(Publication),
}

/// Something to publish, under the topic the board knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Publication {
    pub(super) topic: String,
    pub(super) payload: Bytes,
    pub(super) retain: bool,
}

impl Command {
    /// Reads a message. An error says what was expected.
    pub(super) fn read(tag: u8, payload: &[u8]) -> Result<Self, String> {
        let what = match tag {
            1 => "publish is [topic, payload, retain]",
            2 => "subscribe is [topic, check retained state], or a topic",
            3 => "unsubscribe is [topic, ...], or a topic",
            4 => "will is [topic, payload, retain], or null",
            5 => "welcome is [topic, payload, retain]",
            _ => {
                return Err(format!(
                    "command {tag} is unknown: 1 publish, 2 subscribe, 3 unsubscribe, 4 will, 5 welcome"
                ));
            }
        };
        let expected = |why: &str| format!("{why}: {what}");
        let value: Value = serde_json::from_slice(payload).map_err(|error| expected(&format!("no JSON ({error})")))?;
        let command = match tag {
            1 => Publication::read(value).map(Command::Publish),
            2 => read_subscribe(value),
            3 => read_filters(value).map(|filters| Command::Unsubscribe { filters }),
            4 if value.is_null() => Ok(Command::Will(None)),
            4 => Publication::read(value).map(|will| Command::Will(Some(will))),
            _ => Publication::read(value).map(Command::Welcome),
        };
        command.map_err(expected)
    }
}

impl Publication {
    fn read(value: Value) -> Result<Self, &'static str> {
        let Value::Array(parts) = value else { return Err("not a list") };
        let mut parts = parts.into_iter();
        let (Some(Value::String(topic)), Some(payload)) = (parts.next(), parts.next()) else {
            return Err("no topic, or no payload");
        };
        topic::check_name(&topic)?;
        let payload = match payload {
            Value::String(text) => text.into(),
            Value::Null => Bytes::new(),
            other => other.to_string().into(),
        };
        // Boards in the field send a number here, and sometimes a QoS after it.
        let retain = match parts.next() {
            None | Some(Value::Null) => false,
            Some(Value::Bool(retain)) => retain,
            Some(Value::Number(number)) => number.as_f64() != Some(0.0),
            Some(_) => return Err("retain is neither true nor false"),
        };
        Ok(Publication { topic, payload, retain })
    }
}

fn read_subscribe(value: Value) -> Result<Command, &'static str> {
    let (filters, states) = match value {
        Value::Array(mut parts) if parts.len() == 2 && !parts[1].is_string() => {
            let states = match parts.pop() {
                Some(Value::Bool(states)) => states,
                Some(Value::Number(number)) => number.as_f64() != Some(0.0),
                Some(Value::Null) => true,
                _ => return Err("the second part is neither true nor false"),
            };
            (parts.pop().unwrap_or_default(), states)
        }
        other => (other, true),
    };
    Ok(Command::Subscribe { filters: read_filters(filters)?, states })
}

fn read_filters(value: Value) -> Result<Vec<String>, &'static str> {
    let values = match value {
        Value::Array(values) if !values.is_empty() => values,
        Value::String(_) => vec![value],
        _ => return Err("no topic"),
    };
    let read = |value| match value {
        Value::String(filter) => topic::check_filter(&filter).map(|()| filter),
        _ => Err("a topic that is no text"),
    };
    values.into_iter().map(read).collect()
}

/// A publication as the board gets it. What is not UTF-8 is `{"hex": "..."}`, as JSON has no bytes.
pub(super) fn message(topic: &str, filters: &[&str], payload: &[u8], retained: bool) -> Vec<u8> {
    let payload = match std::str::from_utf8(payload) {
        Ok(text) => Value::from(text),
        Err(_) => {
            let hex: String = payload.iter().map(|byte| format!("{byte:02x}")).collect();
            serde_json::json!({ "hex": hex })
        }
    };
    serde_json::json!([topic, filters, payload, retained]).to_string().into_bytes()
}

/// What is wrong with the command of this tag, for the board.
pub(super) fn error(tag: u8, reason: &str) -> Vec<u8> {
    serde_json::json!([tag, reason]).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publication(topic: &str, payload: &'static str, retain: bool) -> Publication {
        Publication { topic: topic.to_owned(), payload: payload.into(), retain }
    }

    fn read(tag: u8, text: &str) -> Result<Command, String> {
        Command::read(tag, text.as_bytes())
    }

    #[test]
    fn every_command_is_understood() {
        assert_eq!(read(1, r#"["a/b", "on", true]"#), Ok(Command::Publish(publication("a/b", "on", true))));
        assert_eq!(
            read(2, r#"["a/set", false]"#),
            Ok(Command::Subscribe { filters: vec!["a/set".into()], states: false })
        );
        assert_eq!(read(2, r#""a/#""#), Ok(Command::Subscribe { filters: vec!["a/#".into()], states: true }));
        assert_eq!(
            read(2, r#"[["a", "b"], true]"#),
            Ok(Command::Subscribe { filters: vec!["a".into(), "b".into()], states: true })
        );
        assert_eq!(read(3, r#"["a"]"#), Ok(Command::Unsubscribe { filters: vec!["a".into()] }));
        assert_eq!(read(3, r#""a""#), Ok(Command::Unsubscribe { filters: vec!["a".into()] }));
        assert_eq!(read(4, "null"), Ok(Command::Will(None)));
        assert_eq!(read(4, r#"["a", "off", 1]"#), Ok(Command::Will(Some(publication("a", "off", true)))));
        assert_eq!(read(5, r#"["a", "on", 0, 2]"#), Ok(Command::Welcome(publication("a", "on", false))));
    }

    #[test]
    fn payloads_need_not_be_texts() {
        for (json, payload) in
            [("21.5", "21.5"), ("null", ""), ("true", "true"), (r#"{"t":1}"#, r#"{"t":1}"#), ("\"ä\"", "ä")]
        {
            let command = read(1, &format!(r#"["a", {json}]"#));
            assert_eq!(command, Ok(Command::Publish(publication("a", payload, false))));
        }
    }

    #[test]
    fn what_is_no_command_is_refused_with_what_was_expected() {
        for (tag, text, expected) in [
            (1, "hello", "publish is [topic, payload, retain]"),
            (1, r#"["a"]"#, "publish is [topic, payload, retain]"),
            (1, r#"["a/#", "x"]"#, "wildcard"),
            (1, r#"["a", "x", "yes"]"#, "retain"),
            (2, "{}", "subscribe is"),
            (2, "[]", "subscribe is"),
            (2, r#"["a/#/b", true]"#, "wildcard in the wrong place"),
            (3, "7", "unsubscribe is"),
            (4, "7", "will is"),
            (5, "null", "welcome is"),
            (9, "null", "command 9 is unknown"),
        ] {
            let error = read(tag, text).unwrap_err();
            assert!(error.contains(expected), "{tag} {text}: {error}");
        }
        assert!(Command::read(1, b"[\"a\", \"\xff\"]").is_err());
    }

    #[test]
    fn a_message_has_topic_filters_payload_and_whether_it_was_retained() {
        let line = message("a/b", &["a/+", "a/b"], "say \"hi\"\n".as_bytes(), true);
        assert_eq!(String::from_utf8(line).unwrap(), r#"["a/b",["a/+","a/b"],"say \"hi\"\n",true]"#);
        let line = message("a", &["a"], b"\xff\x00", false);
        assert_eq!(String::from_utf8(line).unwrap(), r#"["a",["a"],{"hex":"ff00"},false]"#);
    }
}
