//! Strings of JSON: their escapes, and comparison by what they decode to.

use std::cmp::Ordering;
use std::str::Chars;

use super::json::Flaw;
use super::template::Sink;

/// The inside of a JSON string that was scanned, escapes as written. Equal are those that decode alike.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Text<'a>(&'a str);

impl<'a> Text<'a> {
    /// Of a scanned string with its quotes.
    pub(super) fn quoted(raw: &'a str) -> Self {
        Self(raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"')).unwrap_or(raw))
    }

    /// As written, without the quotes.
    pub(crate) const fn raw(self) -> &'a str {
        self.0
    }

    /// What it decodes to, where no escape stands in it.
    pub(crate) fn plain(self) -> Option<&'a str> {
        memchr::memchr(b'\\', self.0.as_bytes()).is_none().then_some(self.0)
    }

    /// The characters that it decodes to.
    pub(crate) fn chars(self) -> Decoded<'a> {
        Decoded(self.0.chars())
    }

    /// Writes what it decodes to.
    pub(crate) fn write(self, sink: &mut impl Sink) {
        if let Some(plain) = self.plain() {
            return sink.put(plain.as_bytes());
        }
        for char in self.chars() {
            sink.put(char.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
}

impl PartialEq for Text<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Text<'_> {}

impl PartialEq<str> for Text<'_> {
    fn eq(&self, other: &str) -> bool {
        match self.plain() {
            Some(plain) => plain == other,
            None => self.chars().eq(other.chars()),
        }
    }
}

impl Ord for Text<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self.plain(), other.plain()) {
            (Some(a), Some(b)) => a.cmp(b),
            (Some(_) | None, _) => self.chars().cmp(other.chars()),
        }
    }
}

impl PartialOrd for Text<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The characters of a JSON string.
#[derive(Clone, Debug)]
pub(crate) struct Decoded<'a>(Chars<'a>);

impl Iterator for Decoded<'_> {
    type Item = char;

    fn next(&mut self) -> Option<char> {
        match self.0.next()? {
            // A scanned string holds no malformed escape.
            '\\' => Some(escaped(&mut self.0).unwrap_or(char::REPLACEMENT_CHARACTER)),
            char => Some(char),
        }
    }
}

/// Scans the string whose opening quote stands before `rest`, up to its closing quote.
pub(super) fn scan(rest: &str) -> Result<Text<'_>, Flaw> {
    let mut from = 0;
    loop {
        let ahead = rest.as_bytes().get(from..).unwrap_or_default();
        let place = ahead.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20));
        let place = from + place.ok_or(Flaw::Unfinished)?;
        match rest.as_bytes().get(place) {
            Some(b'"') => return rest.get(..place).map(Text).ok_or(Flaw::Unexpected),
            Some(b'\\') => {
                let mut after = rest.get(place + 1..).ok_or(Flaw::Unfinished)?.chars();
                escaped(&mut after).ok_or(Flaw::Escape)?;
                from = rest.len() - after.as_str().len();
            }
            Some(_) => return Err(Flaw::Control),
            None => return Err(Flaw::Unfinished),
        }
    }
}

/// The character of the escape whose backslash was passed.
fn escaped(rest: &mut Chars<'_>) -> Option<char> {
    Some(match rest.next()? {
        char @ ('"' | '\\' | '/') => char,
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'u' => {
            let unit = code_unit(rest)?;
            if !(0xD800..0xDC00).contains(&unit) {
                // Half a pair is no character, so a lone low surrogate ends here.
                return char::from_u32(unit);
            }
            if (rest.next()?, rest.next()?) != ('\\', 'u') {
                return None;
            }
            let low = code_unit(rest)?.checked_sub(0xDC00).filter(|low| *low < 0x400)?;
            return char::from_u32(0x1_0000 + ((unit - 0xD800) << 10) + low);
        }
        _ => return None,
    })
}

/// The value of the four hexadecimal digits ahead.
fn code_unit(rest: &mut Chars<'_>) -> Option<u32> {
    let mut unit = 0;
    for _ in 0..4 {
        unit = unit << 4 | rest.next()?.to_digit(16)?;
    }
    Some(unit)
}
