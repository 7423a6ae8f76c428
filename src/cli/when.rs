//! Times on the command line and on the terminal: "90d", RFC 3339, "in 89 days".

use std::time::Duration;

use serde_json::Value;

use crate::clock::Micros;
use crate::config::moment_of;

/// Reads "90s", "15m", "24h", "90d" or "2w".
pub(super) fn span(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text.strip_prefix(digits).unwrap_or_default();
    let seconds = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, seconds)| seconds);
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    match (seconds, plain) {
        (Some(seconds), true) => {
            let span = digits.parse::<u64>().ok().and_then(|count| count.checked_mul(*seconds));
            span.filter(|span| *span <= LONGEST)
                .map(Duration::from_secs)
                .ok_or_else(|| "that is longer than 100 years".to_owned())
        }
        _ => Err("write a number with its unit, as 90s, 15m, 24h, 90d or 2w".to_owned()),
    }
}

/// A span as the API reads it: the largest of s, m, h and d that leaves no rest.
pub(super) fn written(span: Duration) -> String {
    let seconds = span.as_secs();
    let whole = UNITS.iter().rev().filter(|(name, _)| *name != "w");
    let (name, unit) = whole
        .filter(|(_, unit)| seconds.is_multiple_of(*unit))
        .find(|_| seconds > 0)
        .copied()
        .unwrap_or(("s", 1));
    format!("{}{name}", seconds / unit)
}

/// A moment, said as one or as a span from now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum When {
    /// That moment.
    At(Micros),
    /// As far from now.
    Off(Duration),
}

impl When {
    /// Reads RFC 3339 or a span.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        if let Ok(span) = span(text) {
            return Ok(Self::Off(span));
        }
        moment_of(text).map(Self::At).ok_or_else(|| {
            "write a span, as 24h or 90d, or a moment with its offset, as 2030-01-31T00:00:00Z"
                .to_owned()
        })
    }

    /// As the API reads it. A span stays one: the gateway's clock counts, not this machine's.
    pub(super) fn written(self) -> String {
        match self {
            Self::At(moment) => rfc3339(moment),
            Self::Off(span) => written(span),
        }
    }
}

/// RFC 3339, in UTC, to the second.
pub(super) fn rfc3339(moment: Micros) -> String {
    let seconds = moment.0 / 1_000_000;
    let (days, rest) = (seconds / DAY, seconds % DAY);
    // Days of the proleptic Gregorian calendar, with years that begin in March.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = year + era * 400 + next;
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// How far `then` lies from `now`, in its two largest units at most: "in 89 days", "3 minutes ago".
pub(super) fn relative(now: Micros, then: Micros) -> String {
    let ahead = then > now;
    let span = if ahead { then.since(now) } else { now.since(then) };
    let seconds = span.as_secs();
    let (count, noun) = match seconds {
        0..5 => return "now".to_owned(),
        5..120 => (seconds, "second"),
        120..7_200 => (seconds / 60, "minute"),
        7_200..172_800 => (seconds / 3_600, "hour"),
        _ => (seconds / DAY, "day"),
    };
    let words = format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
    if ahead { format!("in {words}") } else { format!("{words} ago") }
}

/// A moment in an answer: RFC 3339, or microseconds since the epoch.
pub(super) fn moment_in(value: &Value) -> Option<Micros> {
    value.as_u64().map(Micros).or_else(|| moment_of(value.as_str()?))
}

const DAY: u64 = 86_400;
const UNITS: [(&str, u64); 5] = [("s", 1), ("m", 60), ("h", 3_600), ("d", DAY), ("w", 7 * DAY)];
const LONGEST: u64 = 36_525 * DAY;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_need_their_unit_and_do_not_wrap() {
        for (text, seconds) in [
            ("90s", 90),
            ("15m", 900),
            ("24h", DAY),
            ("90d", 90 * DAY),
            ("2w", 14 * DAY),
            ("0s", 0),
        ] {
            assert_eq!(span(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in [
            "",
            "5",
            "d",
            "-5d",
            "1.5h",
            "5 d",
            "90D",
            "90days",
            "1d2h",
            "99999999999999999999s",
            "36526d",
        ] {
            assert!(span(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_sent_is_what_was_meant() {
        for (text, sent) in [
            ("90s", "90s"),
            ("120s", "2m"),
            ("24h", "1d"),
            ("36h", "36h"),
            ("2w", "14d"),
            ("0s", "0s"),
            ("2030-01-31T01:00:00+01:00", "2030-01-31T00:00:00Z"),
        ] {
            assert_eq!(When::read(text).unwrap().written(), sent, "{text}");
        }
        for text in ["2030-01-31", "2030-01-31T00:00:00", "tomorrow", "2030-13-01T00:00:00Z"] {
            assert!(When::read(text).unwrap_err().contains("2030-01-31T00:00:00Z"), "{text}");
        }
    }

    #[test]
    fn moments_are_written_as_they_are_read() {
        for text in [
            "1970-01-01T00:00:00Z",
            "1999-12-31T23:59:59Z",
            "2000-02-29T12:00:00Z",
            "2024-02-29T00:00:00Z",
            "2024-03-01T00:00:00Z",
            "2100-02-28T23:59:59Z",
            "2100-03-01T00:00:00Z",
        ] {
            assert_eq!(rfc3339(moment_of(text).unwrap()), text);
        }
    }

    #[test]
    fn a_moment_is_near_or_far() {
        let now = Micros::from_millis(1_700_000_000_000);
        for (seconds, said) in [
            (0, "now"),
            (4, "now"),
            (5, "in 5 seconds"),
            (119, "in 119 seconds"),
            (120, "in 2 minutes"),
            (7_199, "in 119 minutes"),
            (7_200, "in 2 hours"),
            (172_799, "in 47 hours"),
            (172_800, "in 2 days"),
            (90 * DAY - 1, "in 89 days"),
        ] {
            let span = Duration::from_secs(seconds);
            assert_eq!(relative(now, now + span), said);
            let ago = said.strip_prefix("in ").map_or(said.to_owned(), |s| format!("{s} ago"));
            assert_eq!(relative(now, now - span), ago);
        }
    }
}
