//! What time a file is for, and its name.

use std::fmt;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

/// The last millisecond that has a file, at the end of the year 9000. Later ones go into the same file.
const LAST: i64 = 221_876_927_999_999;

/// How often a new file is begun, by the calendar in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rotate {
    /// Every day: `record-2026-11-23.db`.
    Day,
    /// Every month: `record-2026-11.db`.
    #[default]
    Month,
    /// Every year: `record-2026.db`.
    Year,
}

/// A day, a month or a year.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Period {
    year: i16,
    month: Option<i8>,
    day: Option<i8>,
}

impl Period {
    /// The one that a point in time belongs to, in milliseconds since 1970.
    pub(crate) fn of(rotate: Rotate, ms: i64) -> Self {
        // Within the calendar's range, so that it is a date.
        let at = Timestamp::from_millisecond(ms.clamp(0, LAST)).unwrap_or_default();
        let date = TimeZone::UTC.to_datetime(at).date();
        Period {
            year: date.year(),
            month: (rotate != Rotate::Year).then(|| date.month()),
            day: (rotate == Rotate::Day).then(|| date.day()),
        }
    }

    /// Its first millisecond, and the first one after it.
    fn range(self) -> Option<(i64, i64)> {
        let first = Date::new(self.year, self.month.unwrap_or(1), self.day.unwrap_or(1)).ok()?;
        let length = match (self.month, self.day) {
            (None, _) => Span::new().years(1),
            (_, None) => Span::new().months(1),
            _ => Span::new().days(1),
        };
        let start = |date: Date| Some(date.to_zoned(TimeZone::UTC).ok()?.timestamp().as_millisecond());
        Some((start(first)?, start(first.checked_add(length).ok()?)?))
    }
}

/// The name of a file: its period, and a number from 2 on for those that follow a full one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Name {
    period: Period,
    part: u32,
}

impl Name {
    pub(crate) fn first(period: Period) -> Self {
        Name { period, part: 1 }
    }

    /// The next one of the same time.
    pub(crate) fn next(self) -> Self {
        Name { part: self.part.saturating_add(1), ..self }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix("record-")?.strip_suffix(".db")?;
        let (period, part) = match text.split_once('.') {
            Some((period, part)) => (period, part.parse().ok().filter(|part| *part > 1)?),
            None => (text, 1),
        };
        let mut numbers = period.split('-');
        let year = numbers.next()?.parse().ok()?;
        let month = numbers.next().map(str::parse).transpose().ok()?;
        let day = numbers.next().map(str::parse).transpose().ok()?;
        let name = Name { period: Period { year, month, day }, part };
        // Only as it is written here, and only what the calendar has.
        (name.to_string() == format!("record-{text}.db") && name.period.range().is_some()).then_some(name)
    }

    pub(crate) fn period(self) -> Period {
        self.period
    }

    /// The first millisecond that does not belong into it.
    pub(crate) fn end(self) -> i64 {
        self.period.range().map_or(i64::MAX, |(_, end)| end)
    }

    /// Whether a message may be in either.
    pub(crate) fn overlaps(self, other: Name) -> bool {
        match (self.period.range(), other.period.range()) {
            (Some((start, end)), Some((other_start, other_end))) => start < other_end && other_start < end,
            _ => false,
        }
    }

    /// For sorting, oldest first.
    pub(crate) fn age(self) -> (i64, i64, u32) {
        let (start, end) = self.period.range().unwrap_or((i64::MAX, i64::MAX));
        (start, end, self.part)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Period { year, month, day } = self.period;
        write!(f, "record-{year:04}")?;
        for number in [month, day].into_iter().flatten() {
            write!(f, "-{number:02}")?;
        }
        if self.part > 1 {
            write!(f, ".{}", self.part)?;
        }
        f.write_str(".db")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-23 02:03:04 UTC.
    const NOW: i64 = 1_795_399_384_000;

    #[test]
    fn names_are_read_as_they_are_written() {
        for (rotate, text) in [
            (Rotate::Day, "record-2026-11-23.db"),
            (Rotate::Month, "record-2026-11.db"),
            (Rotate::Year, "record-2026.db"),
        ] {
            let name = Name::first(Period::of(rotate, NOW));
            assert_eq!(name.to_string(), text);
            assert_eq!(Name::parse(text), Some(name));
            let second = text.replace(".db", ".2.db");
            assert_eq!(name.next().to_string(), second);
            assert_eq!(Name::parse(&second), Some(name.next()));
        }
    }

    #[test]
    fn other_names_are_left_alone() {
        for text in [
            "record-2026-11.db-wal",
            "record-2026-13.db",
            "record-2026-02-30.db",
            "record-2026-1.db",
            "record-2026-11.1.db",
            "record-2026-11.02.db",
            "record-+026-11.db",
            "record-2026-11-23-01.db",
            "record-.db",
            "other.db",
        ] {
            assert_eq!(Name::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_time_belongs_to_one_period_of_a_kind() {
        for rotate in [Rotate::Day, Rotate::Month, Rotate::Year] {
            let name = Name::first(Period::of(rotate, NOW));
            let (start, end) = name.period.range().unwrap();
            assert!(start <= NOW && NOW < end);
            assert_eq!(Period::of(rotate, start), name.period);
            assert_eq!(Period::of(rotate, end - 1), name.period);
            assert_ne!(Period::of(rotate, end), name.period);
            assert!(!name.overlaps(Name::first(Period::of(rotate, end))));
        }
        let [day, month] = [Rotate::Day, Rotate::Month].map(|rotate| Name::first(Period::of(rotate, NOW)));
        assert!(day.overlaps(month) && month.overlaps(day));
    }

    #[test]
    fn no_time_is_out_of_range() {
        for ms in [i64::MIN, -1, 0, LAST, LAST + 1, i64::MAX] {
            let name = Name::first(Period::of(Rotate::Day, ms));
            assert_eq!(Name::parse(&name.to_string()), Some(name), "{ms}");
        }
        assert_eq!(Period::of(Rotate::Year, i64::MAX), Period::of(Rotate::Year, LAST));
    }
}
