//! Times and counts for people.

use bowline_server::Date;

/// A point in time, given in milliseconds since 1970.
pub(crate) fn moment(ms: u64) -> String {
    let seconds = ms / 1000;
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{} {hour:02}:{minute:02}:{second:02} UTC", Date::from_unix(seconds))
}

/// A time given in milliseconds, in its largest unit.
pub(crate) fn span(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0 => format!("{ms} ms"),
        1..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// `1 message`, `2 messages`.
pub(crate) fn count(number: u64, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_readable() {
        assert_eq!(moment(1_767_225_600_000 + 3_723_999), "2026-01-01 01:02:03 UTC");
        let spans = [999, 119_000, 120_000, 7_200_000, 172_800_000].map(span);
        assert_eq!(spans, ["999 ms", "119 s", "2 min", "2 h", "2 d"]);
    }
}
