//! Strings of JSON: their escapes, and comparison by what they decode to.

use std::cmp::Ordering;
use std::str::Chars;

use arrayvec::ArrayVec;

use super::json::Flaw;
use super::template::Sink;

/// The inside of a JSON string that was scanned, escapes as written. Equal are those that decode alike.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Text<'a> {
    raw: &'a str,
    /// Whether an escape stands in it.
    escaped: bool,
}

impl<'a> Text<'a> {
    /// Of the inside of a scanned string, whose escapes are known.
    pub(super) const fn new(raw: &'a str, escaped: bool) -> Self {
        Self { raw, escaped }
    }

    /// Of the inside of a scanned string.
    pub(super) fn inside(raw: &'a str) -> Self {
        Self { raw, escaped: memchr::memchr(b'\\', raw.as_bytes()).is_some() }
    }

    /// As written, without the quotes.
    pub(crate) const fn raw(self) -> &'a str {
        self.raw
    }

    /// Whether an escape stands in it.
    pub(super) const fn is_escaped(self) -> bool {
        self.escaped
    }

    /// What it decodes to, where no escape stands in it.
    pub(crate) fn plain(self) -> Option<&'a str> {
        (!self.escaped).then_some(self.raw)
    }

    /// The characters that it decodes to.
    pub(crate) fn chars(self) -> Decoded<'a> {
        Decoded(self.raw.chars())
    }

    /// The first eight bytes that it decodes to, so that texts in order have these in order.
    pub(super) fn beginning(self) -> u64 {
        let mut bytes = [0; 8];
        if let Some(plain) = self.plain() {
            bytes.iter_mut().zip(plain.bytes()).for_each(|(to, byte)| *to = byte);
        } else {
            let mut buffer = ArrayVec::<u8, 32>::new();
            for char in self.chars().take(8) {
                // Eight characters have no more bytes.
                let _fits = buffer.try_extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
            }
            bytes.iter_mut().zip(buffer).for_each(|(to, byte)| *to = byte);
        }
        u64::from_be_bytes(bytes)
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
    let (mut from, mut escaped) = (0, false);
    loop {
        let ahead = rest.as_bytes().get(from..).unwrap_or_default();
        let place = from + special(ahead).ok_or(Flaw::Unfinished)?;
        match rest.as_bytes().get(place) {
            Some(b'"') => {
                let raw = rest.get(..place).ok_or(Flaw::Unexpected)?;
                return Ok(Text { raw, escaped });
            }
            Some(b'\\') => {
                escaped = true;
                let mut after = rest.get(place + 1..).ok_or(Flaw::Unfinished)?.chars();
                self::escaped(&mut after).ok_or(Flaw::Escape)?;
                from = rest.len() - after.as_str().len();
            }
            Some(_) => return Err(Flaw::Control),
            None => return Err(Flaw::Unfinished),
        }
    }
}

/// Where the first quote, backslash or control character stands. Looks at eight bytes at once: most strings are short,
/// and every document has many.
fn special(text: &[u8]) -> Option<usize> {
    let (words, rest) = text.as_chunks();
    for (number, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        // A byte's highest bit is set where the byte is below `bound`, and wrongly only above such a byte.
        let below = |word: u64, bound: u8| {
            word.wrapping_sub(u64::from_le_bytes([bound; 8])) & !word & HIGHEST
        };
        let is = |byte: u8| below(word ^ u64::from_le_bytes([byte; 8]), 1);
        let found = is(b'"') | is(b'\\') | below(word, b' ');
        if found != 0 {
            return Some(number * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    let place = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20))?;
    Some(text.len() - rest.len() + place)
}

const HIGHEST: u64 = u64::from_le_bytes([0x80; 8]);

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn beginnings_are_in_the_order_of_texts(pair in prop::array::uniform2("([a-c]|é|😀|\\\\u00(00|6[1-3])){0,10}")) {
            let [a, b] = pair.each_ref().map(|raw| Text::inside(raw));
            let (begins, whole) = (a.beginning().cmp(&b.beginning()), a.cmp(&b));
            prop_assert!(begins == whole || begins == Ordering::Equal, "{a:?} {b:?}");
        }
    }

    #[test]
    fn what_ends_a_string_is_seen_wherever_it_stands() {
        for length in 0..40 {
            for place in 0..length {
                for byte in [b'"', b'\\', 0, 0x1f] {
                    for filled in [b' ', b'!', b'#', b'[', b']', 0x7f, 0x80, 0xa2, 0xdc, 0xff] {
                        let mut text = vec![filled; length];
                        assert_eq!(special(&text), None);
                        text[place] = byte;
                        assert_eq!(special(&text), Some(place), "{length} {place} {byte} {filled}");
                        text[place..].fill(byte);
                        assert_eq!(special(&text), Some(place), "{length} {place} {byte} {filled}");
                    }
                }
            }
        }
    }
}
