//! How the texts of a record are written: escaped, dated, and without what may be a secret.

use sha2::{Digest, Sha256};

use crate::clock::Micros;

/// Appends `text` as the inside of a JSON string.
pub(super) fn escape(text: &str, out: &mut Vec<u8>) {
    let plain = |byte: u8| byte >= 0x20 && byte != b'"' && byte != b'\\';
    if text.bytes().all(plain) {
        out.extend_from_slice(text.as_bytes());
        return;
    }
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend([b'\\', byte]),
            0x00..=0x1f => {
                out.extend(b"\\u00");
                out.extend([hex(byte >> 4), hex(byte & 0xf)]);
            }
            _ => out.push(byte),
        }
    }
}

/// Appends a path, with `~` in place of each segment that may be a secret or a one-time code.
///
/// Those are segments of 32 bytes or more, of which twelve digits of their SHA-256 are kept, so that a suspected one
/// can be recognised; and those of six to eight digits, of which nothing is.
pub(super) fn conceal(path: &str, out: &mut Vec<u8>) {
    let begin = out.len();
    for (place, segment) in path.split('/').enumerate() {
        if place > 0 {
            out.push(b'/');
        }
        if out.len() - begin > LONGEST_PATH {
            out.extend("…".as_bytes());
            return;
        }
        let is_code =
            matches!(segment.len(), 6..=8) && segment.bytes().all(|byte| byte.is_ascii_digit());
        if segment.len() >= LIKE_A_SECRET {
            out.push(b'~');
            let digest = Sha256::digest(segment.as_bytes());
            out.extend(digest.iter().take(6).flat_map(|byte| [hex(byte >> 4), hex(byte & 0xf)]));
        } else if is_code {
            out.push(b'~');
        } else {
            escape(segment, out);
        }
    }
}

/// Appends a moment in RFC 3339, with microseconds.
pub(super) fn moment(at: Micros, out: &mut Vec<u8>) {
    let (seconds, micros) = (at.0 / 1_000_000, at.0 % 1_000_000);
    let (days, clock) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    digits(year, 4, out);
    for (mark, value) in [
        (b'-', month),
        (b'-', day),
        (b'T', clock / 3_600),
        (b':', clock / 60 % 60),
        (b':', clock % 60),
    ] {
        out.push(mark);
        digits(value, 2, out);
    }
    out.push(b'.');
    digits(micros, 6, out);
    out.push(b'Z');
}

/// A moment in RFC 3339, with microseconds.
pub fn moment_text(at: Micros) -> String {
    let mut text = Vec::with_capacity(27);
    moment(at, &mut text);
    String::from_utf8(text).unwrap_or_default()
}

/// Reads a moment of RFC 3339 in UTC: `2026-01-31`, or with `T12:30:00` and a fraction, with `Z` or without.
pub fn parse_moment(text: &str) -> Option<Micros> {
    let text = text.strip_suffix('Z').unwrap_or(text);
    let (date, clock) = text.split_once('T').unwrap_or((text, "00:00:00"));
    let [year, month, day] = three(date, '-')?;
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let [hour, minute, second] = three(clock, ':')?;
    let in_range = (1970..=9_999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second < 61;
    if !in_range || fraction.len() > 9 {
        return None;
    }
    let mut micros = 0;
    for place in 0..6 {
        let digit = fraction.as_bytes().get(place).copied().unwrap_or(b'0');
        micros = micros * 10 + u64::from(char::from(digit).to_digit(10)?);
    }
    let seconds = days(year, month, day)? * 86_400 + hour * 3_600 + minute * 60 + second;
    Some(Micros(seconds * 1_000_000 + micros))
}

fn three(text: &str, mark: char) -> Option<[u64; 3]> {
    let mut parts = text.split(mark).map(|part| part.parse::<u64>().ok());
    let three = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(three)
}

/// The date of a day since the epoch, in the proleptic Gregorian calendar with years that begin in March.
const fn date(days: u64) -> (u64, u64, u64) {
    let day = days + 719_468;
    let (era, of_era) = (day / 146_097, day % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * month + 2) / 5 + 1;
    let (month, turn) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + turn, month, of_month)
}

/// The day since the epoch of a date.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let count = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day;
    count.checked_sub(719_469)
}

/// Appends a number in `width` digits.
fn digits(value: u64, width: u32, out: &mut Vec<u8>) {
    for place in (0..width).rev() {
        let digit = value / 10_u64.pow(place) % 10;
        out.push(b'0' + u8::try_from(digit).unwrap_or_default());
    }
}

/// Appends a number.
pub(super) fn number(mut value: u64, out: &mut Vec<u8>) {
    let begin = out.len();
    loop {
        out.push(b'0' + u8::try_from(value % 10).unwrap_or_default());
        value /= 10;
        if value == 0 {
            break;
        }
    }
    if let Some(written) = out.get_mut(begin..) {
        written.reverse();
    }
}

const fn hex(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 }
}

/// No shorter text is a secret that an exchange hands out, and few segments that mean something are longer.
const LIKE_A_SECRET: usize = 32;
/// The most of a path that is kept, in bytes.
const LONGEST_PATH: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_written_and_read_again() {
        for (micros, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_825_600_000_001, "2000-02-29T12:00:00.000001Z"),
            (1_700_000_000_123_456, "2023-11-14T22:13:20.123456Z"),
            (4_107_542_400_000_000, "2100-03-01T00:00:00.000000Z"),
        ] {
            assert_eq!(moment_text(Micros(micros)), text);
            assert_eq!(parse_moment(text), Some(Micros(micros)), "{text}");
        }
        assert_eq!(parse_moment("2000-02-29"), Some(Micros(951_782_400_000_000)));
        for nonsense in ["", "2000", "2000-13-01", "2000-01-01T25:00:00", "2000-01-01T00:00:00.x"] {
            assert_eq!(parse_moment(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn a_text_is_escaped_as_json_has_it() {
        for text in ["plain", "q\"b\\n\nt\tz\u{1}", "ünï"] {
            let mut out = vec![b'"'];
            escape(text, &mut out);
            out.push(b'"');
            assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }
    }

    #[test]
    fn a_path_keeps_its_words_and_hides_what_may_be_secret() {
        let long = "a".repeat(LIKE_A_SECRET);
        let fits = "a".repeat(LIKE_A_SECRET - 1);
        for (path, kept) in [
            ("/api/v3/order", "/api/v3/order".to_owned()),
            ("/otp/123456/x", "/otp/~/x".to_owned()),
            ("/orders/123456789", "/orders/123456789".to_owned()),
            (&format!("/k/{long}"), "/k/~3ba3f5f43b92".to_owned()),
            (&format!("/k/{fits}"), format!("/k/{fits}")),
        ] {
            let mut out = Vec::new();
            conceal(path, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), kept);
        }
    }
}
