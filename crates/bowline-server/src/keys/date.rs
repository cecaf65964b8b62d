//! The day a key was made.

use std::fmt;

/// A day, in UTC. Only shown to people: nothing is decided by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date {
    year: u16,
    month: u8,
    day: u8,
}

impl Date {
    /// The day of a time in seconds since 1970-01-01, up to the year 9999.
    #[must_use]
    pub fn from_unix(seconds: u64) -> Self {
        // Years begin in March here, so that a leap day is a year's last. An era is 400 years.
        let days = (seconds / 86_400).min(2_932_896) + 719_468;
        let (era, of_era) = (days / 146_097, days % 146_097);
        let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let from_march = (5 * of_year + 2) / 153;
        let day = of_year - (153 * from_march + 2) / 5 + 1;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        let year = 400 * era + year + u64::from(month <= 2);
        Date { year: year as u16, month: month as u8, day: day as u8 }
    }

    /// Reads what `Display` writes; `None` for anything else.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
        let date = Date { year: year.parse().ok()?, month: month.parse().ok()?, day: day.parse().ok()? };
        let possible = (1970..=9999).contains(&date.year) && (1..=12).contains(&date.month);
        (possible && (1..=31).contains(&date.day) && date.to_string() == text).then_some(date)
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        let days = [
            (0, "1970-01-01"),
            (951_782_399, "2000-02-28"),
            (951_782_400, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (1_798_761_599, "2026-12-31"),
            (4_107_542_400, "2100-03-01"),
            (253_402_300_799, "9999-12-31"),
            (u64::MAX, "9999-12-31"),
        ];
        for (seconds, text) in days {
            assert_eq!(Date::from_unix(seconds).to_string(), text);
            assert_eq!(Date::parse(text), Some(Date::from_unix(seconds)));
        }
    }

    #[test]
    fn what_is_no_day_is_none() {
        for text in
            ["", "2026-1-01", "2026-13-01", "2026-00-10", "2026-01-32", "1969-01-01", "2026-01-01 ", "+026-01-01"]
        {
            assert_eq!(Date::parse(text), None, "{text}");
        }
    }
}
