//! The time app: wall time for boards without a clock. The payloads, and what a board makes of them, are in
//! `docs/apps/time.md`.

use std::str::FromStr;

use bowline_server::{App, AppError, AppMessage, Handled, Instance, Port};
use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};
use serde_json::{Number, Value, json};

/// The 2000 epoch of MicroPython, in seconds since 1970.
const EPOCH_2000: i64 = 946_684_800;

/// A clock that says less was never set: the app is younger than that (2026-01-01).
const NOT_SET: i64 = 1_767_225_600;

/// How many changes of the zone are looked at for one that changes the offset.
const CHANGES: usize = 4;

/// The zone whose offset boards are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone(TimeZone);

/// What is wrong with a [`Zone`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no zone that this system knows: expected \"system\", an offset such as \"+01:00\", a name such as \
     \"Europe/Berlin\" (needs the system's tzdata), or a rule such as \"CET-1CEST,M3.5.0,M10.5.0/3\""
)]
pub struct ZoneError(String);

impl Default for Zone {
    /// UTC.
    fn default() -> Self {
        Zone(TimeZone::UTC)
    }
}

impl FromStr for Zone {
    type Err = ZoneError;

    fn from_str(text: &str) -> Result<Self, ZoneError> {
        let wrong = || ZoneError(text.to_owned());
        let zone = match text {
            "system" => TimeZone::try_system().map_err(|_| wrong())?,
            _ if text.starts_with(['+', '-']) => TimeZone::fixed(offset(text).ok_or_else(wrong)?),
            _ => TimeZone::get(text).or_else(|_| TimeZone::posix(text)).map_err(|_| wrong())?,
        };
        Ok(Zone(zone))
    }
}

/// Reads `+hh:mm`.
fn offset(text: &str) -> Option<Offset> {
    let (sign, rest) = match text.split_at_checked(1)? {
        ("-", rest) => (-1, rest),
        (_, rest) => (1, rest),
    };
    let (hours, minutes) = rest.split_once(':')?;
    let two_digits = |text: &str| (text.len() == 2).then(|| text.parse::<u8>().ok()).flatten().map(i32::from);
    let (hours, minutes) = (two_digits(hours)?, two_digits(minutes).filter(|minutes| *minutes < 60)?);
    Offset::from_seconds(sign * (hours * 3600 + minutes * 60)).ok().filter(|_| hours <= 14)
}

/// Tells boards the time. Its ident is 5 by custom.
#[derive(Debug, Clone)]
pub struct Time {
    zone: Zone,
    clock: fn() -> Timestamp,
}

impl Time {
    /// With the offset of `zone`.
    #[must_use]
    pub fn new(zone: Zone) -> Self {
        Time { zone, clock: Timestamp::now }
    }

    /// The answer to a request.
    fn answer(&self, payload: &[u8]) -> Value {
        let wish = match Wish::read(payload) {
            Ok(wish) => wish,
            Err(detail) => return json!({ "error": "bad-request", "detail": detail }),
        };
        let now = (self.clock)();
        if now.as_second() < NOT_SET {
            return json!({ "error": "no-time", "detail": "the server's own clock is not set" });
        }
        let zone = &self.zone.0;
        let before = zone.to_offset(now);
        let change = zone.following(now).take(CHANGES).find(|change| change.offset() != before);
        let at = |time: Timestamp| time.as_millisecond() - wish.epoch * 1000;
        match change {
            Some(change) => {
                json!([wish.ticks, at(now), before.seconds(), at(change.timestamp()), change.offset().seconds()])
            }
            None => json!([wish.ticks, at(now), before.seconds(), null, before.seconds()]),
        }
    }
}

impl App for Time {
    type Instance = Time;

    fn instance(&self, _: Port) -> Time {
        self.clone()
    }
}

impl Instance for Time {
    async fn handle(&mut self, message: &AppMessage) -> Result<Handled, AppError> {
        Ok(Handled::reply(message.tag(), self.answer(message.payload()).to_string()))
    }
}

/// What a board asks.
struct Wish {
    /// Its own clock, which goes back as it came.
    ticks: Option<Number>,
    /// Seconds from 1970 to where its time begins.
    epoch: i64,
}

impl Wish {
    /// Reads nothing, `ticks`, `[ticks]` or `[ticks, epoch]`.
    fn read(payload: &[u8]) -> Result<Self, String> {
        let wrong = "expected nothing, ticks, or [ticks, 1970 or 2000]";
        let value = if payload.trim_ascii().is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(payload).map_err(|error| format!("{wrong}: {error}"))?
        };
        let mut parts = match value {
            Value::Array(parts) if parts.len() <= 2 => parts,
            Value::Array(_) => return Err(wrong.to_owned()),
            ticks => vec![ticks],
        }
        .into_iter();
        let ticks = match parts.next() {
            None | Some(Value::Null) => None,
            Some(Value::Number(ticks)) if ticks.is_i64() || ticks.is_u64() => Some(ticks),
            Some(_) => return Err(format!("{wrong}, the ticks being an integer")),
        };
        let epoch = match parts.next().map(|epoch| epoch.as_u64()) {
            None | Some(Some(1970)) => 0,
            Some(Some(2000)) => EPOCH_2000,
            Some(_) => return Err(wrong.to_owned()),
        };
        Ok(Wish { ticks, epoch })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-03-29 00:59:59.250 UTC, three quarters of a second before summer begins in Europe.
    fn before_summer() -> Timestamp {
        Timestamp::from_millisecond(1_774_745_999_250).unwrap()
    }

    fn answer(zone: &str, clock: fn() -> Timestamp, payload: &str) -> Value {
        Time { zone: zone.parse().unwrap(), clock }.answer(payload.as_bytes())
    }

    #[test]
    fn the_ticks_come_back_with_the_time() {
        let utc = |payload| answer("+00:00", before_summer, payload);
        assert_eq!(utc("12345"), json!([12345, 1_774_745_999_250_i64, 0, null, 0]));
        assert_eq!(utc("[12345]"), utc("12345"));
        assert_eq!(utc("[12345, 1970]"), utc("12345"));
        assert_eq!(utc("[-7, 2000]"), json!([-7, 828_061_199_250_i64, 0, null, 0]));
        for nothing in ["", " \n", "null", "[]", "[null]"] {
            assert_eq!(utc(nothing)[0], Value::Null, "{nothing}");
        }
    }

    #[test]
    fn the_next_change_of_the_zone_is_told_ahead() {
        let posix = "CET-1CEST,M3.5.0,M10.5.0/3";
        let winter = answer(posix, before_summer, "1");
        assert_eq!(winter, json!([1, 1_774_745_999_250_i64, 3600, 1_774_746_000_000_i64, 7200]));
        let summer = answer(posix, || Timestamp::from_second(1_774_746_000).unwrap(), "1");
        // 2026-10-25 01:00 UTC.
        assert_eq!(summer, json!([1, 1_774_746_000_000_i64, 7200, 1_792_890_000_000_i64, 3600]));
        assert_eq!(answer("-03:30", before_summer, "1")[2], -12_600);
    }

    #[test]
    fn a_server_that_does_not_know_the_time_says_so() {
        let at_boot = answer("+00:00", || Timestamp::from_second(86_400).unwrap(), "1");
        assert_eq!(at_boot["error"], "no-time");
    }

    #[test]
    fn what_is_no_request_is_said() {
        for wrong in ["\"now\"", "1.5", "[1, 1999]", "[1, \"2000\"]", "[1, 2000, 3]", "{}", "[", "[[1]]", "true"] {
            assert_eq!(answer("+00:00", before_summer, wrong)["error"], "bad-request", "{wrong}");
        }
    }

    #[test]
    fn zones_are_read_and_what_is_none_is_refused() {
        for right in ["system", "+14:00", "-11:00", "UTC0", "CET-1CEST,M3.5.0,M10.5.0/3"] {
            right.parse::<Zone>().unwrap_or_else(|error| panic!("{error}"));
        }
        for wrong in ["", "+1", "+1:00", "+15:00", "+00:60", "+-1:00", "Mars/Olympus", "+"] {
            assert!(wrong.parse::<Zone>().is_err(), "{wrong}");
        }
    }
}
