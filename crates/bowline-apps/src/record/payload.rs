//! What boards send, and the samples in it.

use std::collections::BTreeMap;

/// Values in one message.
const VALUES: usize = 64;

/// Bytes of a series' name.
const NAME: usize = 64;

/// Bytes of a text that is a value.
const TEXT: usize = 1024;

/// 2000-01-01 and 2100-01-01: a time outside comes from a clock that was never set, or counts otherwise.
const TIMES: std::ops::Range<i64> = 946_684_800_000..4_102_444_800_000;

/// A value as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A whole number, or 0 and 1 for `false` and `true`.
    Integer(i64),
    /// Another number. Never infinite or NaN.
    Real(f64),
    /// A text.
    Text(String),
}

/// The samples of a message.
#[derive(Debug, Clone, PartialEq)]
pub struct Readings {
    /// When they were taken by the device's own clock, in milliseconds since 1970, if it says so.
    pub at: Option<i64>,
    /// Series and values, each series once.
    pub values: Vec<(String, Value)>,
}

/// Why a payload was refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PayloadError {
    /// Not JSON.
    #[error("expected JSON such as {{\"temp\": 21.5}}, [\"temp\", 21.5] or 21.5: {0}")]
    NotJson(String),
    /// JSON of another shape.
    #[error("expected {{\"temp\": 21.5}}, [\"temp\", 21.5] or 21.5, got {0}")]
    Shape(&'static str),
    /// A value that is none.
    #[error("{series:?} is {found}: expected a number, a string or a boolean; leave out what was not measured")]
    NotAValue {
        /// Of this series.
        series: String,
        /// What came.
        found: &'static str,
    },
    /// No value at all.
    #[error("there is no value in it, expected at least one, such as {{\"temp\": 21.5}}")]
    Empty,
    /// Too many values.
    #[error("{0} values in a message: expected at most {VALUES}")]
    TooMany(usize),
    /// A name that is none.
    #[error("expected a series' name of 1 to {NAME} bytes without control characters, got {0:?}")]
    Name(String),
    /// A long text.
    #[error("{series:?} has {bytes} bytes: expected at most {TEXT} in a string")]
    TooLong {
        /// Of this series.
        series: String,
        /// Its bytes.
        bytes: usize,
    },
    /// A time that is none.
    #[error(
        "\"t\" is {0}: expected milliseconds since 1970, between the years 2000 and 2100. Seconds are to be multiplied \
         by 1000; where a board counts from 2000, 946684800 seconds are to be added; without a set clock, leave it out"
    )]
    Time(String),
}

/// Reads the samples out of a payload. `names` are series for tags, for a number alone.
pub(crate) fn read(payload: &[u8], tag: u8, names: &BTreeMap<u8, String>) -> Result<Readings, PayloadError> {
    use serde_json::Value as Json;
    match serde_json::from_slice(payload).map_err(|error| PayloadError::NotJson(error.to_string()))? {
        Json::Object(fields) => {
            // By name, whatever the order in which the board has them.
            let mut fields: BTreeMap<_, _> = fields.into_iter().collect();
            let at = fields.remove("t").map(|t| time(&t)).transpose()?;
            if fields.len() > VALUES {
                return Err(PayloadError::TooMany(fields.len()));
            }
            let values = fields.into_iter().map(|(series, json)| sample(series, json));
            finish(at, values.collect::<Result<_, _>>()?)
        }
        Json::Array(items) => {
            let (series, json, at) = match <[Json; 2]>::try_from(items) {
                Ok([series, json]) => (series, json, None),
                Err(items) => match <[Json; 3]>::try_from(items) {
                    Ok([series, json, t]) => (series, json, Some(time(&t)?)),
                    Err(_) => return Err(PayloadError::Shape("an array of another length than 2 or 3")),
                },
            };
            let Json::String(series) = series else {
                return Err(PayloadError::Shape("an array that does not begin with a series' name"));
            };
            finish(at, vec![sample(series, json)?])
        }
        json @ Json::Number(_) => {
            let series = match (names.get(&tag), tag) {
                (Some(name), _) => name.clone(),
                (None, 0) => "value".to_owned(),
                (None, tag) => format!("value_{tag}"),
            };
            finish(None, vec![sample(series, json)?])
        }
        other => Err(PayloadError::Shape(kind(&other))),
    }
}

fn finish(at: Option<i64>, values: Vec<(String, Value)>) -> Result<Readings, PayloadError> {
    if values.is_empty() { Err(PayloadError::Empty) } else { Ok(Readings { at, values }) }
}

fn time(json: &serde_json::Value) -> Result<i64, PayloadError> {
    // Some boards have no whole numbers that large, but floats.
    let ms = json.as_i64().or_else(|| json.as_f64().map(|ms| ms.round() as i64));
    ms.filter(|ms| TIMES.contains(ms)).ok_or_else(|| {
        let mut found = json.to_string();
        found.truncate(found.char_indices().nth(40).map_or(found.len(), |(at, _)| at));
        PayloadError::Time(found)
    })
}

fn sample(series: String, json: serde_json::Value) -> Result<(String, Value), PayloadError> {
    use serde_json::Value as Json;
    if series.is_empty() || series.len() > NAME || series.chars().any(char::is_control) {
        let name = series.chars().take(NAME).collect();
        return Err(PayloadError::Name(name));
    }
    let value = match json {
        Json::Bool(value) => Value::Integer(value.into()),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Value::Integer(whole),
            (None, Some(real)) => Value::Real(real),
            (None, None) => return Err(PayloadError::NotAValue { series, found: "a number out of range" }),
        },
        Json::String(text) if text.len() > TEXT => return Err(PayloadError::TooLong { series, bytes: text.len() }),
        Json::String(text) => Value::Text(text),
        other => return Err(PayloadError::NotAValue { series, found: kind(&other) }),
    };
    Ok((series, value))
}

fn kind(json: &serde_json::Value) -> &'static str {
    use serde_json::Value as Json;
    match json {
        Json::Null => "null",
        Json::Bool(_) => "a boolean",
        Json::Number(_) => "a number",
        Json::String(_) => "a string",
        Json::Array(_) => "an array",
        Json::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(payload: &str, tag: u8) -> Result<Readings, PayloadError> {
        read(payload.as_bytes(), tag, &BTreeMap::from([(7, "pressure".to_owned())]))
    }

    fn readings(at: Option<i64>, values: &[(&str, Value)]) -> Result<Readings, PayloadError> {
        Ok(Readings {
            at,
            values: values.iter().map(|(series, value)| ((*series).to_owned(), value.clone())).collect(),
        })
    }

    #[test]
    fn an_object_has_a_value_for_each_series() {
        assert_eq!(
            read_text(r#"{"temp": 21.5, "n": -3, "on": true, "door": "open"}"#, 0),
            readings(
                None,
                &[
                    ("door", Value::Text("open".into())),
                    ("n", Value::Integer(-3)),
                    ("on", Value::Integer(1)),
                    ("temp", Value::Real(21.5)),
                ]
            )
        );
    }

    #[test]
    fn a_number_alone_has_its_series_from_the_tag() {
        assert_eq!(read_text("21.5", 0), readings(None, &[("value", Value::Real(21.5))]));
        assert_eq!(read_text(" 4 ", 3), readings(None, &[("value_3", Value::Integer(4))]));
        assert_eq!(read_text("1013", 7), readings(None, &[("pressure", Value::Integer(1013))]));
    }

    #[test]
    fn a_device_may_say_when_it_was() {
        let t = Some(1_795_399_384_000);
        let temp = [("temp", Value::Integer(20))];
        assert_eq!(read_text(r#"{"temp": 20, "t": 1795399384000}"#, 0), readings(t, &temp));
        assert_eq!(read_text(r#"{"temp": 20, "t": 1795399384000.4}"#, 0), readings(t, &temp));
        assert_eq!(read_text(r#"["temp", 20, 1795399384000]"#, 0), readings(t, &temp));
        assert_eq!(read_text(r#"["temp", 20]"#, 0), readings(None, &temp));
    }

    #[test]
    fn numbers_beyond_64_bits_are_kept_as_near_as_they_can_be() {
        assert_eq!(
            read_text("18446744073709551615", 0),
            readings(None, &[("value", Value::Real(18446744073709551615.0))])
        );
    }

    #[test]
    fn anything_else_is_refused_with_what_was_expected() {
        let long = "x".repeat(1025);
        let many: Vec<_> = (0..65).map(|n| format!("\"s{n}\": 1")).collect();
        let deep = "[".repeat(100_000);
        for (payload, says) in [
            ("", "expected JSON"),
            ("21,5", "expected JSON"),
            ("\u{0}", "expected JSON"),
            ("1e400", "expected JSON"),
            (&deep, "expected JSON"),
            ("null", "got null"),
            ("true", "got a boolean"),
            ("\"on\"", "got a string"),
            ("[]", "an array of another length"),
            (r#"["temp"]"#, "an array of another length"),
            ("[1, 2]", "does not begin with a series' name"),
            ("{}", "there is no value"),
            (r#"{"t": 1795399384000}"#, "there is no value"),
            (r#"{"temp": null}"#, "\"temp\" is null"),
            (r#"{"temp": [1]}"#, "\"temp\" is an array"),
            (r#"["temp", {"a": 1}]"#, "\"temp\" is an object"),
            (r#"{"": 1}"#, "1 to 64 bytes"),
            (r#"{"a\nb": 1}"#, "control characters"),
            (&format!("{{{:?}: 1}}", &long[..65]), "1 to 64 bytes"),
            (&format!("{{\"a\": {long:?}}}"), "at most 1024"),
            (&format!("{{{}}}", many.join(",")), "at most 64"),
            (r#"{"temp": 1, "t": 1795399384}"#, "multiplied by 1000"),
            (r#"{"temp": 1, "t": 848714584000}"#, "counts from 2000"),
            (r#"{"temp": 1, "t": "now"}"#, "\"now\""),
            (r#"{"temp": 1, "t": null}"#, "leave it out"),
            (r#"["temp", 1, -1]"#, "\"t\" is -1"),
        ] {
            let reason = read_text(payload, 0).unwrap_err().to_string();
            assert!(reason.contains(says), "{payload:.80}: {reason}");
            assert!(reason.len() < 400, "{payload:.80}: {reason}");
        }
        assert!(read(b"\xff\xfe", 0, &BTreeMap::new()).is_err());
    }
}
