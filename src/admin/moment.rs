//! Moments and spans as the API writes and reads them: RFC 3339 in UTC, and "90d".

use std::time::Duration;

use crate::clock::Micros;

/// A moment as RFC 3339 writes it, to the microsecond.
pub(super) fn written(at: Micros) -> String {
    let (seconds, micros) = (at.0 / 1_000_000, at.0 % 1_000_000);
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

/// What a text that names a moment means: RFC 3339, or a span counted from `now` as `count` has it.
pub(super) fn read(
    text: &str,
    now: Micros,
    count: fn(Micros, Duration) -> Micros,
) -> Result<Micros, &'static str> {
    match span(text) {
        Some(span) => Ok(count(now, span)),
        None => rfc3339(text).ok_or(
            "write a moment as \"2027-01-31T12:00:00Z\", or a span as \"90d\", \"24h\" or \"30m\"",
        ),
    }
}

/// A span as "90d", "24h", "30m" or "10s".
pub(super) fn span(text: &str) -> Option<Duration> {
    let units = [('s', 1), ('m', 60), ('h', 3_600), ('d', 86_400), ('w', 604_800)];
    let (digits, scale) =
        units.iter().find_map(|(unit, scale)| Some((text.strip_suffix(*unit)?, *scale)))?;
    let plain =
        !digits.is_empty() && digits.len() <= 9 && digits.bytes().all(|byte| byte.is_ascii_digit());
    let count: u64 = plain.then(|| digits.parse().ok())??;
    Some(Duration::from_secs(count.checked_mul(scale)?))
}

/// A moment as RFC 3339 has it, with any offset.
fn rfc3339(text: &str) -> Option<Micros> {
    let bytes = text.as_bytes();
    let number = |from: usize, length: usize| -> Option<u64> {
        let digits = text.get(from..from + length)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    let mark = |at: usize, marks: &[u8]| bytes.get(at).is_some_and(|byte| marks.contains(byte));
    let marked = mark(4, b"-") && mark(7, b"-") && mark(10, b"Tt ") && mark(13, b":");
    if !marked || !mark(16, b":") {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 2)?, number(8, 2)?);
    let (hour, minute, second) = (number(11, 2)?, number(14, 2)?, number(17, 2)?);
    let days = days(year, month, day)?;
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (micros, zone) = fraction(text.get(19..)?)?;
    let offset = offset(zone)?;
    let local = days * 86_400 + hour * 3_600 + minute * 60 + second;
    let seconds = local.checked_add_signed(-offset)?;
    seconds.checked_mul(1_000_000)?.checked_add(micros).map(Micros)
}

/// The microseconds of an optional fraction, and what follows it.
fn fraction(text: &str) -> Option<(u64, &str)> {
    let Some(rest) = text.strip_prefix('.') else { return Some((0, text)) };
    let length = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, zone) = rest.split_at_checked(length)?;
    let micros: String = digits.chars().chain("000000".chars()).take(6).collect();
    (1..=12).contains(&length).then(|| micros.parse().ok())?.map(|micros| (micros, zone))
}

/// Seconds east of UTC.
fn offset(zone: &str) -> Option<i64> {
    if matches!(zone, "Z" | "z") {
        return Some(0);
    }
    let (sign, rest) = match zone.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':')?;
    let two = |text: &str| -> Option<i64> {
        let plain = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| text.parse().ok())?
    };
    let (hours, minutes) = (two(hours)?, two(minutes)?);
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 3_600 + minutes * 60))
}

/// Year, month and day of a day since the epoch: years are counted from March, so that a leap day ends its year.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let in_month = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + next, month, in_month)
}

/// Days since the epoch of a date that exists and does not lie before it.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    if year < 1_970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let (shifted, in_year) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, of_era) = (shifted / 400, shifted % 400);
    let of_year = (153 * in_year + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    let days = days.checked_sub(719_468)?;
    (civil(days) == (year, month, day)).then_some(days)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_read_as_it_is_written() {
        for (text, micros) in [
            ("1970-01-01T00:00:00.000000Z", 0),
            ("2000-02-29T23:59:59.999999Z", 951_868_799_999_999),
            ("2026-11-22T07:18:00.000001Z", 1_795_331_880_000_001),
            ("2100-03-01T00:00:00.000000Z", 4_107_542_400_000_000),
        ] {
            assert_eq!(written(Micros(micros)), text);
            assert_eq!(rfc3339(text), Some(Micros(micros)));
        }
        assert_eq!(rfc3339("1970-01-01t02:00:00+01:30"), Some(Micros(1_800_000_000)));
        assert_eq!(rfc3339("1970-01-01T00:00:00.5-00:01"), Some(Micros(60_500_000)));
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for text in [
            "",
            "now",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:00:60Z",
            "2026-01-01T00:00:00",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00+1:00",
            "1969-12-31T23:59:59Z",
            "1970-01-01T00:00:00+01:00",
            "2026-01-01T00:00:00Zx",
            "２０２６-01-01T00:00:00Z",
            "+026-01-01T00:00:00Z",
        ] {
            assert_eq!(rfc3339(text), None, "{text}");
        }
    }

    #[test]
    fn a_span_counts_from_now() {
        assert_eq!(span("90d"), Some(Duration::from_hours(24 * 90)));
        assert_eq!(span("2w"), Some(Duration::from_hours(24 * 14)));
        for text in ["", "d", "-1d", "1.5h", "1", "1y", "1000000000s", " 1d", "１d"] {
            assert_eq!(span(text), None, "{text}");
        }
        let now = Micros(10_000_000);
        assert_eq!(read("2s", now, |now, span| now + span), Ok(Micros(12_000_000)));
        assert_eq!(read("2s", now, |now, span| now - span), Ok(Micros(8_000_000)));
        assert!(read("soon", now, |now, span| now + span).is_err());
    }
}
