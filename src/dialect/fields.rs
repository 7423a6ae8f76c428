//! Structured fields (RFC 9651), read strictly: of each value only the one spelling that a serializer writes.
//!
//! What is taken is therefore its own canonical text, so nothing is copied or written anew before it is verified.

/// Reads a field's value from the left.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scanner<'r> {
    rest: &'r str,
}

/// A bare item.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Value<'r> {
    /// A string: what stands between its quotes, escapes and all.
    Text(&'r str),
    /// An integer that is not negative.
    Integer(u64),
    /// What stands between the colons of a byte sequence: base64, not yet decoded.
    Bytes(&'r str),
    /// A token, boolean, decimal, date or negative number.
    Other,
}

impl<'r> Scanner<'r> {
    /// Begins at the first byte of a field's value.
    pub(crate) fn new(value: &'r str) -> Self {
        Self { rest: value.trim_matches([' ', '\t']) }
    }

    /// What was read since `earlier`, a copy of this scanner.
    pub(crate) fn since(&self, earlier: &Self) -> &'r str {
        let length = earlier.rest.len().saturating_sub(self.rest.len());
        earlier.rest.get(..length).unwrap_or_default()
    }

    /// Moves past `byte` if it is next.
    pub(crate) fn eat(&mut self, byte: u8) -> bool {
        let next = self.rest.as_bytes().first() == Some(&byte);
        if next {
            self.skip(1);
        }
        next
    }

    /// The key of a dictionary member or parameter.
    pub(crate) fn key(&mut self) -> Option<&'r str> {
        let first = self.rest.as_bytes().first()?;
        if !(first.is_ascii_lowercase() || *first == b'*') {
            return None;
        }
        Some(self.take(|byte| {
            byte.is_ascii_lowercase()
                || byte.is_ascii_digit()
                || matches!(byte, b'_' | b'-' | b'.' | b'*')
        }))
    }

    /// Any bare item.
    pub(crate) fn value(&mut self) -> Option<Value<'r>> {
        match self.rest.as_bytes().first()? {
            b'"' => self.text().map(Value::Text),
            b':' => self.bytes().map(Value::Bytes),
            b'0'..=b'9' => self.number(),
            _ => {
                let other = self.take(|byte| {
                    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/?@".contains(&byte)
                });
                (!other.is_empty()).then_some(Value::Other)
            }
        }
    }

    /// A string's content, escapes and all. Only `"` and `\` may be escaped, and both must be.
    pub(crate) fn text(&mut self) -> Option<&'r str> {
        if !self.eat(b'"') {
            return None;
        }
        let mut bytes = self.rest.bytes().enumerate();
        loop {
            match bytes.next()? {
                (end, b'"') => {
                    let content = self.rest.get(..end)?;
                    self.skip(end + 1);
                    return Some(content);
                }
                (_, b'\\') => {
                    let (_, escaped) = bytes.next()?;
                    matches!(escaped, b'"' | b'\\').then_some(())?;
                }
                (_, 0x20..=0x7e) => {}
                (_, _) => return None,
            }
        }
    }

    /// The base64 between the colons of a byte sequence.
    pub(crate) fn bytes(&mut self) -> Option<&'r str> {
        if !self.eat(b':') {
            return None;
        }
        let content =
            self.take(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'='));
        self.eat(b':').then_some(content)
    }

    /// An integer of up to 15 digits; a decimal is another value.
    fn number(&mut self) -> Option<Value<'r>> {
        let digits = self.take(|byte| byte.is_ascii_digit());
        if self.eat(b'.') {
            let decimals = self.take(|byte| byte.is_ascii_digit());
            return (1..=3).contains(&decimals.len()).then_some(Value::Other);
        }
        if digits.len() > 15 || digits.len() > 1 && digits.starts_with('0') {
            return None;
        }
        digits.parse().ok().map(Value::Integer)
    }

    /// Moves past the `,` between two members of a dictionary: whether there is a next one.
    pub(crate) fn next_member(&mut self) -> Option<bool> {
        self.take(is_blank);
        if self.rest.is_empty() {
            return Some(false);
        }
        let comma = self.eat(b',');
        self.take(is_blank);
        (comma && !self.rest.is_empty()).then_some(true)
    }

    fn take(&mut self, belongs: impl Fn(u8) -> bool) -> &'r str {
        let end = self.rest.bytes().position(|byte| !belongs(byte)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at_checked(end).unwrap_or((self.rest, ""));
        self.rest = rest;
        taken
    }

    fn skip(&mut self, count: usize) {
        self.rest = self.rest.get(count..).unwrap_or_default();
    }
}

const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str) -> Option<Value<'_>> {
        let mut scanner = Scanner::new(text);
        let value = scanner.value()?;
        scanner.rest.is_empty().then_some(value)
    }

    #[test]
    fn each_kind_of_value_is_told_apart() {
        for (text, value) in [
            ("\"\"", Value::Text("")),
            (r#""a \"b\" \\c""#, Value::Text(r#"a \"b\" \\c"#)),
            ("0", Value::Integer(0)),
            ("999999999999999", Value::Integer(999_999_999_999_999)),
            ("::", Value::Bytes("")),
            (":aGk=:", Value::Bytes("aGk=")),
            ("?1", Value::Other),
            ("-7", Value::Other),
            ("1.5", Value::Other),
            ("@1659578233", Value::Other),
            ("token/x:y", Value::Other),
        ] {
            assert_eq!(whole(text), Some(value), "{text}");
        }
    }

    #[test]
    fn a_second_spelling_of_a_value_is_refused() {
        for text in [
            "007",
            "1000000000000000",
            "1.",
            "1.0000",
            "\"a",
            "a\"",
            r#""\a""#,
            r#""a\"#,
            "\"\t\"",
            "\"\u{e9}\"",
            ":a",
            ":a*b:",
            ":aGk= :",
            "",
            "(",
            ";",
        ] {
            assert_eq!(whole(text), None, "{text}");
        }
    }

    #[test]
    fn keys_begin_with_a_lower_case_letter_or_a_star() {
        for (text, key) in [("sig1=", "sig1"), ("*a.b-c_9=1", "*a.b-c_9"), ("a", "a")] {
            assert_eq!(Scanner::new(text).key(), Some(key), "{text}");
        }
        for text in ["", "Sig", "1a", "-a", "_a", " "] {
            assert_eq!(Scanner { rest: text }.key(), None, "{text}");
        }
    }

    #[test]
    fn members_are_parted_by_one_comma_and_none_ends_the_dictionary() {
        for (text, next) in [
            ("", Some(false)),
            (" ", Some(false)),
            (",a", Some(true)),
            (" \t,\t a", Some(true)),
            (",", None),
            (", ", None),
            ("a", None),
            (" a", None),
        ] {
            assert_eq!(Scanner { rest: text }.next_member(), next, "{text}");
        }
    }
}
