//! Signed times and nonces: what they mean, and how they are written and read.

use std::fmt::Write as _;
use std::time::Duration;

use super::Place;
use super::json::{Kind, Object};
use super::reading::percent_decoded;
use crate::clock::Micros;
use crate::denial::{Credential, Denial};

/// What a signed time means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TimeKind {
    /// The moment of signing.
    Stamp,
    /// The moment after which the request is void.
    Deadline,
    /// No time is signed: a nonce alone tells requests apart.
    None,
}

/// How a signed time is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TimeUnit {
    /// Whole seconds.
    Seconds,
    /// Seconds, with up to six decimals where the client likes.
    DecimalSeconds,
    /// Whole milliseconds.
    Millis,
    /// Milliseconds, or microseconds where the number is over 10^14 (Binance).
    MillisOrMicros,
    /// `2023-11-14T22:13:20.123Z`: UTC, fraction and `Z` as the client likes.
    Iso,
    /// The same, but clients write whole seconds without `Z` (HTX).
    IsoSeconds,
}

/// A signed time, as text and as a moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Time<'r> {
    /// As sent, and as signed.
    pub text: &'r str,
    /// The moment it names.
    pub at: Micros,
}

/// Where the signed time travels and what it means.
#[derive(Clone, Debug)]
pub(crate) struct TimeRule {
    pub(crate) place: Place,
    pub(crate) kind: TimeKind,
    pub(crate) unit: TimeUnit,
    /// How far ahead of the server's clock a stamp may lie.
    pub(crate) future: Duration,
    /// How far ahead of their own clock clients put a deadline.
    pub(crate) lead: Option<Duration>,
}

/// How long a stamp is good.
#[derive(Clone, Debug)]
pub(crate) struct WindowRule {
    pub(crate) place: Option<Place>,
    pub(crate) default: Duration,
    pub(crate) max: Duration,
}

/// What a nonce is good for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NonceKind {
    /// More bytes to sign: the signed time tells when, the signed bytes tell what.
    None,
    /// Each key uses one once.
    Unique,
    /// A number that must grow with every request of its key.
    Growing,
}

/// Where the nonce travels and what it is.
#[derive(Clone, Debug)]
pub(crate) struct NonceRule {
    pub(crate) place: Place,
    pub(crate) kind: NonceKind,
    /// The only length it may have, in bytes, where there is one: then no separator need follow it.
    pub(crate) length: Option<usize>,
    /// How far below the highest number accepted another may lie, for clients that send in parallel.
    pub(crate) window: u64,
    pub(crate) clocked: Option<ClockedRule>,
}

/// How a client may say that its growing number is a clock in milliseconds: then it may come in any order, once.
#[derive(Clone, Debug)]
pub(crate) struct ClockedRule {
    /// The member of the JSON that is `true` then.
    pub(crate) member: Box<str>,
    /// How far such a number may be from the server's clock.
    pub(crate) within: Duration,
}

/// A nonce, as sent and as signed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Nonce<'r> {
    pub(crate) text: &'r str,
    /// Its value, where it is a growing number; zero otherwise.
    pub(crate) number: u64,
    /// How far below the highest number of its key it may lie.
    pub(crate) window: u64,
    /// How far from the server's clock, where its client says that it is one.
    pub(crate) near: Option<Duration>,
}

impl NonceRule {
    /// Reads what stands in its place, beside other members where it stands in JSON.
    pub(super) fn read<'r>(
        &self,
        text: &'r str,
        object: Option<Object<'_>>,
    ) -> Result<Nonce<'r>, Denial> {
        let garbled = Denial::Garbled(Credential::Nonce);
        let number = match self.kind {
            NonceKind::Growing => plain_number(text).ok_or(garbled)?,
            NonceKind::None | NonceKind::Unique => {
                let plain = |byte: u8| {
                    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~')
                };
                let fits = self.length.map_or(text.len() <= LONGEST_NONCE, |n| text.len() == n);
                if text.is_empty() || !fits || !text.bytes().all(plain) {
                    return Err(garbled);
                }
                0
            }
        };
        let is_clock = |rule: &&ClockedRule| {
            let member = object.and_then(|object| object.member(&rule.member));
            member.is_some_and(|member| member.value.kind() == Kind::True)
        };
        let near = self.clocked.as_ref().filter(is_clock).map(|rule| rule.within);
        // What is within the bound on either side of a clock lies within twice that of each other.
        let spread = near.map(|within| u64::try_from(2 * within.as_millis()).unwrap_or(u64::MAX));
        Ok(Nonce { text, number, window: spread.unwrap_or(self.window), near })
    }

    /// A fresh one: of the moment where it must grow or is nobody's business, random where it must be unique.
    pub(super) fn write(&self, now: Micros) -> Result<String, getrandom::Error> {
        Ok(match self.kind {
            NonceKind::Growing | NonceKind::None => now.as_millis().to_string(),
            NonceKind::Unique => uuid()?,
        })
    }
}

/// The longest nonce that is no number, in bytes.
const LONGEST_NONCE: usize = 64;

/// A random UUID, version 4.
fn uuid() -> Result<String, getrandom::Error> {
    let mut random = [0_u8; 16];
    getrandom::fill(&mut random)?;
    let [.., version, _, variant, _, _, _, _, _, _, _] = &mut random;
    *version = *version & 0x0f | 0x40;
    *variant = *variant & 0x3f | 0x80;
    let hex = data_encoding::HEXLOWER.encode(&random);
    let mut out = String::with_capacity(36);
    for (place, digit) in hex.chars().enumerate() {
        if matches!(place, 8 | 12 | 16 | 20) {
            out.push('-');
        }
        out.push(digit);
    }
    Ok(out)
}

impl TimeUnit {
    /// Whether clients write whole seconds, so that honest ones may sign the same bytes twice.
    pub(crate) const fn counts_seconds(self) -> bool {
        match self {
            Self::Seconds | Self::DecimalSeconds | Self::IsoSeconds => true,
            Self::Millis | Self::MillisOrMicros | Self::Iso => false,
        }
    }

    /// Whether two times of the same year have the same length, so that no digit can join or leave one unnoticed.
    pub(super) const fn is_fixed(self) -> bool {
        match self {
            Self::Seconds | Self::Millis => true,
            Self::DecimalSeconds | Self::MillisOrMicros | Self::Iso | Self::IsoSeconds => false,
        }
    }

    /// How it is written, in words.
    pub(super) const fn in_words(self) -> &'static str {
        match self {
            Self::Seconds => "whole seconds since 1970",
            Self::DecimalSeconds => "seconds since 1970, with up to six decimals",
            Self::Millis => "whole milliseconds since 1970",
            Self::MillisOrMicros => "milliseconds since 1970, or microseconds",
            Self::Iso => {
                "ISO 8601 in UTC: `2023-11-14T22:13:20.123Z`, fraction and `Z` as the client likes"
            }
            Self::IsoSeconds => "ISO 8601 in UTC: `2023-11-14T22:13:20`",
        }
    }

    /// The moment that `text` names.
    pub(super) fn read(self, text: &str) -> Result<Micros, Denial> {
        let garbled = Denial::Garbled(Credential::Time);
        match self {
            Self::Seconds => plain_number(text).map(|s| Micros(s.saturating_mul(1_000_000))),
            Self::Millis => plain_number(text).map(Micros::from_millis),
            Self::MillisOrMicros => plain_number(text).map(|number| {
                if number > 100_000_000_000_000 {
                    Micros(number)
                } else {
                    Micros::from_millis(number)
                }
            }),
            Self::DecimalSeconds => decimal_seconds(text),
            Self::Iso | Self::IsoSeconds => iso(text),
        }
        .ok_or(garbled)
    }

    /// How `now` is written.
    pub(super) fn write(self, now: Micros) -> String {
        match self {
            Self::Seconds | Self::DecimalSeconds => (now.as_millis() / 1_000).to_string(),
            Self::Millis | Self::MillisOrMicros => now.as_millis().to_string(),
            Self::Iso => write_iso(now, true),
            Self::IsoSeconds => write_iso(now, false),
        }
    }
}

/// Milliseconds with up to three decimals, in microseconds.
pub(super) fn decimal_millis(text: &str) -> Result<u64, Denial> {
    let garbled = Denial::Garbled(Credential::Window);
    // Hardly any has decimals.
    if text.len() <= 15
        && let Some(whole) = whole_number(text)
    {
        return Ok(whole.saturating_mul(1_000));
    }
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    if whole.len() > 15 || decimals.len() > 3 {
        return Err(garbled);
    }
    let scale = [1_000_u64, 100, 10, 1].get(decimals.len()).copied().unwrap_or_default();
    let (whole, decimals) = whole_number(whole).zip(whole_number(decimals)).ok_or(garbled)?;
    Ok(whole.saturating_mul(1_000).saturating_add(decimals.saturating_mul(scale)))
}

/// Seconds with up to six decimals.
fn decimal_seconds(text: &str) -> Option<Micros> {
    let Some((whole, decimals)) = text.split_once('.') else {
        return plain_number(text).map(|s| Micros(s.saturating_mul(1_000_000)));
    };
    Some(Micros(plain_number(whole)?.saturating_mul(1_000_000).saturating_add(micros(decimals)?)))
}

/// Up to six decimals of a second, in microseconds.
fn micros(decimals: &str) -> Option<u64> {
    let scale = [0_u64, 100_000, 10_000, 1_000, 100, 10, 1].get(decimals.len())?;
    whole_number(decimals)?.checked_mul(*scale)
}

/// The number that `text` writes in digits alone; `None` when it holds anything else, nothing, or more than 64 bits.
fn whole_number(text: &str) -> Option<u64> {
    let (eights, rest) = text.as_bytes().as_chunks();
    let number = eights.iter().try_fold(0_u64, |number, digits| {
        number.checked_mul(100_000_000)?.checked_add(eight(*digits)?)
    })?;
    let number = rest.iter().try_fold(number, |number, byte| {
        let digit = byte.wrapping_sub(b'0');
        let number = number.checked_mul(10)?.checked_add(u64::from(digit))?;
        (digit < 10).then_some(number)
    });
    number.filter(|_| !text.is_empty())
}

/// The number that eight digits write: neighbours are joined to pairs, these to fours, and these to all.
const fn eight(text: [u8; 8]) -> Option<u64> {
    let digits = u64::from_le_bytes(text) ^ u64::from_ne_bytes([b'0'; 8]);
    // More than nine would reach the highest bit of its byte.
    let low = digits & u64::from_ne_bytes([0x7f; 8]);
    let over = digits | (low + u64::from_ne_bytes([0x7f - 9; 8]));
    if over & u64::from_ne_bytes([0x80; 8]) != 0 {
        return None;
    }
    let pairs = (digits * 10 + (digits >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs * 100 + (pairs >> 16)) & 0x0000_ffff_0000_ffff;
    Some((fours * 10_000 + (fours >> 32)) & 0xffff_ffff)
}

/// The same without leading zeros: a zero that could come from the text before it would change nothing.
fn plain_number(text: &str) -> Option<u64> {
    if text.len() > 1 && text.starts_with('0') { None } else { whole_number(text) }
}

/// `YYYY-MM-DDThh:mm:ss`, a fraction of up to six decimals or none, `Z` or not; each `:` may be spelled `%3A`.
fn iso(text: &str) -> Option<Micros> {
    let mut bytes = [0; LONGEST_ISO];
    let mut length = 0;
    for byte in percent_decoded(text.as_bytes()) {
        *bytes.get_mut(length)? = byte;
        length += 1;
    }
    let text = std::str::from_utf8(bytes.get(..length)?).ok()?;
    let (clock, rest) = text.split_at_checked(19)?;
    let rest = rest.strip_suffix('Z').unwrap_or(rest);
    let fraction = match rest.strip_prefix('.') {
        Some(decimals) => micros(decimals)?,
        None if rest.is_empty() => 0,
        None => return None,
    };
    let number = |from: usize, to: usize| whole_number(clock.get(from..to)?);
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if !marks.iter().all(|(place, mark)| clock.as_bytes().get(*place) == Some(mark)) {
        return None;
    }
    let days = days_since_epoch(number(0, 4)?, number(5, 7)?, number(8, 10)?)?;
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let sound = hour < 24 && minute < 60 && second < 60;
    let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second;
    sound.then_some(Micros(seconds * 1_000_000 + fraction))
}

/// `2023-11-14T22:13:20.123456Z`, with room for escapes already decoded.
const LONGEST_ISO: usize = 27;

/// Days of the Gregorian calendar since 1970-01-01; `None` for what is no day, or lies before.
fn days_since_epoch(year: u64, month: u64, day: u64) -> Option<u64> {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let lengths = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let length = lengths.get(usize::try_from(month.checked_sub(1)?).ok()?)?;
    if day == 0 || day > *length || year < 1970 {
        return None;
    }
    // Years that begin in March have their leap day last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    (365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day)
        .checked_sub(719_469)
}

fn write_iso(now: Micros, whole: bool) -> String {
    let seconds = now.0 / 1_000_000;
    let (days, clock) = (seconds / 86_400, seconds % 86_400);
    // The inverse of `days_since_epoch`, by cycles of 400 years.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (year, month) = (era * 400 + year, if month < 10 { month + 3 } else { month - 9 });
    let year = if month <= 2 { year + 1 } else { year };
    let (hour, minute, second) = (clock / 3_600, clock / 60 % 60, clock % 60);
    let mut out = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    if whole {
        // Writing to a String cannot fail.
        let _ = write!(out, ".{:03}Z", now.as_millis() % 1_000);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_digits_alone_and_fit_64_bits() {
        assert_eq!(whole_number("18446744073709551615"), Some(u64::MAX));
        assert_eq!(whole_number("007"), Some(7));
        assert_eq!(plain_number("007"), None);
        assert_eq!(plain_number("0"), Some(0));
        assert_eq!(whole_number("0000000000000000000000012345678"), Some(12_345_678));
        for place in 0..17 {
            for byte in 0..=0x7f_u8 {
                let mut text = *b"12345678987654321";
                text[place] = byte;
                let text = std::str::from_utf8(&text).unwrap();
                let number = text.parse().ok().filter(|_| byte != b'+');
                assert_eq!(whole_number(text), number, "{text:?}");
            }
        }
        for text in [
            "",
            "18446744073709551616",
            "99999999999999999999999999999999",
            "+1",
            "-1",
            "1 ",
            "1.0",
            "\u{661}",
            ":",
            "/",
        ] {
            assert_eq!(whole_number(text), None, "{text}");
        }
    }

    #[test]
    fn a_window_has_up_to_three_decimals() {
        for (text, micros) in [("5000", 5_000_000), ("0.5", 500), ("1.25", 1_250), ("1.001", 1_001)]
        {
            assert_eq!(decimal_millis(text), Ok(micros), "{text}");
        }
        for text in
            ["", ".", "1.", ".5", "1.0001", "1.2.3", "-1", "1e3", "\u{e9}", "1234567890123456"]
        {
            assert!(decimal_millis(text).is_err(), "{text}");
        }
    }

    #[test]
    fn seconds_may_have_decimals_where_the_dialect_says_so() {
        let read = |text| TimeUnit::DecimalSeconds.read(text).ok();
        assert_eq!(read("1710000007.214"), Some(Micros(1_710_000_007_214_000)));
        assert_eq!(read("1710000007"), Some(Micros(1_710_000_007_000_000)));
        for text in ["1710000007.", ".5", "01.5", "1.1234567", "1.-1", "1e9"] {
            assert_eq!(read(text), None, "{text}");
            assert!(TimeUnit::Seconds.read("1.5").is_err());
        }
    }

    #[test]
    fn iso_times_are_read_with_or_without_fraction_zone_and_escapes() {
        let read = |text| TimeUnit::Iso.read(text).ok().map(|at| at.0);
        for (text, micros) in [
            ("2023-11-14T22:13:20.123Z", 1_700_000_000_123_000),
            ("2023-11-14T22:13:20", 1_700_000_000_000_000),
            ("2023-11-14T22%3A13%3a20", 1_700_000_000_000_000),
            ("2000-02-29T12:00:00.5Z", 951_825_600_500_000),
            ("2100-03-01T00:00:00Z", 4_107_542_400_000_000),
            ("1970-01-01T00:00:00Z", 0),
        ] {
            assert_eq!(read(text), Some(micros), "{text}");
        }
        for text in [
            "",
            "2023-11-14",
            "2023-11-14 22:13:20",
            "2023-11-14T22:13:20+01",
            "2023-02-29T00:00:00",
            "2023-13-01T00:00:00",
            "2023-00-01T00:00:00",
            "2023-11-31T00:00:00",
            "2023-11-14T24:00:00",
            "2023-11-14T22:13:60",
            "1969-12-31T23:59:59",
            "2023-11-14T22:13:20.",
            "+023-11-14T22:13:20",
            "2023-11-14T22:13:20.1234567Z",
            "2023-11-14T22:13:20ZZ",
            "\u{e9}023-11-14T22:13:20",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        for seconds in (0..5_000_000_000).step_by(86_399 * 37) {
            let at = Micros(seconds * 1_000_000 + 123_000);
            assert_eq!(TimeUnit::Iso.read(&TimeUnit::Iso.write(at)), Ok(at));
        }
    }

    #[test]
    fn a_growing_nonce_is_a_number_and_a_unique_one_has_its_length() {
        let place = Place::parse("header x-nonce").unwrap();
        let rule = |kind, length| NonceRule {
            place: place.clone(),
            kind,
            length,
            window: 0,
            clocked: None,
        };
        let growing = rule(NonceKind::Growing, None);
        assert_eq!(growing.read("18446744073709551615", None).unwrap().number, u64::MAX);
        for text in ["", "18446744073709551616", "01", "1.5", "x"] {
            assert!(growing.read(text, None).is_err(), "{text}");
        }
        let uuid = rule(NonceKind::Unique, Some(36));
        assert!(uuid.read(&uuid.write(Micros(0)).unwrap(), None).is_ok());
        assert!(uuid.read("short", None).is_err());
        assert!(rule(NonceKind::Unique, None).read("a b", None).is_err());
    }
}
