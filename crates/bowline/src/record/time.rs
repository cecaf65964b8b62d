//! Points in time and spans, as people write and read them.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// From the year 0 to 9987: what is written in as many characters as any other.
const CALENDAR: std::ops::RangeInclusive<i64> = -62_167_219_200_000..=253_000_000_000_000;

/// A point in time, as it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// So many milliseconds ago.
    Ago(i64),
    /// Milliseconds since 1970.
    At(i64),
}

impl Moment {
    /// In milliseconds since 1970.
    pub(crate) fn ms(self, now: i64) -> i64 {
        match self {
            Moment::Ago(ms) => now.saturating_sub(ms),
            Moment::At(ms) => ms,
        }
    }
}

/// Reads a point in time.
pub(crate) fn parse_moment(text: &str) -> Result<Moment, String> {
    if text == "now" {
        return Ok(Moment::Ago(0));
    }
    if let Some(span) = span(text) {
        return Ok(Moment::Ago(span));
    }
    if text.len() > 10 && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().map(Moment::At).map_err(|_| wrong(text));
    }
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(Moment::At(at.as_millisecond()));
    }
    let civil = text.parse::<DateTime>().map_err(|_| wrong(text))?;
    let at = civil.to_zoned(TimeZone::UTC).map_err(|_| wrong(text))?;
    Ok(Moment::At(at.timestamp().as_millisecond()))
}

fn wrong(text: &str) -> String {
    format!(
        "expected a span (90s, 15m, 2h, 7d, 2w ago), a date (2026-11-01), a date with a time in UTC \
         (2026-11-01T12:30) or with a zone (2026-11-01T12:30:00+01:00), milliseconds since 1970, or now, got {text:?}"
    )
}

/// Reads the length of a span, in milliseconds.
pub(crate) fn parse_every(text: &str) -> Result<i64, String> {
    span(text)
        .filter(|ms| *ms > 0)
        .ok_or_else(|| format!("expected a whole number and a unit, such as 30s, 5m, 1h, 1d or 1w, got {text:?}"))
}

fn span(text: &str) -> Option<i64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let unit: i64 = match unit {
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "w" => 604_800_000,
        _ => return None,
    };
    let is_number = number.bytes().all(|byte| byte.is_ascii_digit());
    number.parse::<i64>().ok().filter(|_| is_number)?.checked_mul(unit)
}

/// For people: `2026-11-23 02:03:04.000`.
pub(crate) fn readable(ms: i64) -> String {
    written(ms, "%Y-%m-%d %H:%M:%S%.3f")
}

/// For programs: `2026-11-23T02:03:04.000Z`.
pub(crate) fn iso(ms: i64) -> String {
    written(ms, "%Y-%m-%dT%H:%M:%S%.3fZ")
}

/// In UTC, in this format of `strftime`.
pub(crate) fn written(ms: i64, format: &str) -> String {
    // What the calendar does not have, it has the nearest of.
    let bounded = ms.clamp(*CALENDAR.start(), *CALENDAR.end());
    let at = Timestamp::from_millisecond(bounded).unwrap_or_default();
    TimeZone::UTC.to_datetime(at).strftime(format).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_understood() {
        let now = 1_795_399_384_000;
        for (text, ms) in [
            ("now", now),
            ("90s", now - 90_000),
            ("15m", now - 900_000),
            ("2h", now - 7_200_000),
            ("7d", now - 604_800_000),
            ("2w", now - 1_209_600_000),
            ("2026-11-23", 1_795_392_000_000),
            ("2026-11-23T02:03", 1_795_399_380_000),
            ("2026-11-23T02:03:04", now),
            ("2026-11-23 02:03:04.250", now + 250),
            ("2026-11-23T02:03:04Z", now),
            ("2026-11-23T03:03:04+01:00", now),
            ("1795399384000", now),
        ] {
            assert_eq!(parse_moment(text).map(|moment| moment.ms(now)), Ok(ms), "{text}");
        }
    }

    #[test]
    fn anything_else_says_what_is() {
        for text in [
            "",
            "h",
            "2 h",
            "-2h",
            "+2h",
            "2y",
            "é",
            "yesterday",
            "2026-13-01",
            "2026-11-31",
            "99999999999999999999",
            "99999999999999999w",
        ] {
            let error = parse_moment(text).unwrap_err();
            assert!(error.contains("2h") && error.contains("2026-11-01T12:30"), "{text}: {error}");
        }
        for text in ["0s", "5", "m", "1.5h", "-1h"] {
            assert!(parse_every(text).unwrap_err().contains("such as 30s"), "{text}");
        }
        assert_eq!(parse_every("5m"), Ok(300_000));
    }

    #[test]
    fn times_are_written_whatever_they_are() {
        assert_eq!(readable(1_795_399_384_005), "2026-11-23 02:03:04.005");
        assert_eq!(iso(0), "1970-01-01T00:00:00.000Z");
        assert_eq!([i64::MAX, i64::MIN].map(readable), ["9987-04-02 17:46:40.000", "0000-01-01 00:00:00.000"]);
    }
}
