//! JSON by lexeme: a strict scanner that allocates nothing and keeps every number as it was written.
//!
//! Parsers differ over duplicate names, lone surrogates and long numbers, and a signature holds only if every
//! reader of a body reads the same. So a document is taken whole or refused: RFC 8259 grammar, UTF-8, no name
//! twice in one object after unescaping, bounded depth and members, nothing behind the value.

use std::ops::Range;

use arrayvec::ArrayVec;

use super::json_text::{self, Text};

/// How deep arrays and objects may nest: a scalar has depth 0.
pub(crate) const MAX_DEPTH: usize = 16;
/// How many members one object may have, since names are compared and sorted without allocating.
pub(crate) const MAX_MEMBERS: usize = 64;

/// Why bytes are refused as JSON.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Flaw {
    NotUtf8,
    /// The text ends inside a value, or holds none.
    Unfinished,
    /// A byte that the grammar does not allow there.
    Unexpected,
    Number,
    /// An unknown escape, or half of a surrogate pair.
    Escape,
    /// A control character stands bare in a string.
    Control,
    TooDeep,
    TooManyMembers,
    /// Two members of one object have the same name once unescaped.
    NamedTwice,
    /// Something follows the document.
    Trailing,
    /// The document is valid but is no object.
    NotAnObject,
}

impl Flaw {
    /// The cause, for the operator and the log.
    pub(crate) const fn reason(self) -> &'static str {
        match self {
            Self::NotUtf8 => "JSON is not UTF-8",
            Self::Unfinished => "JSON ends too early",
            Self::Unexpected => "JSON holds an unexpected byte",
            Self::Number => "JSON holds a malformed number",
            Self::Escape => "JSON holds a malformed escape",
            Self::Control => "JSON holds a bare control character",
            Self::TooDeep => "JSON is nested too deeply",
            Self::TooManyMembers => "a JSON object has too many members",
            Self::NamedTwice => "a JSON object names a member twice",
            Self::Trailing => "something follows the JSON document",
            Self::NotAnObject => "the JSON document is no object",
        }
    }
}

/// What a value is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Object,
    Array,
    String,
    Number,
    True,
    False,
    Null,
}

/// Reads a whole document.
pub(crate) fn parse(bytes: &[u8]) -> Result<Value<'_>, Flaw> {
    let text = str::from_utf8(bytes).map_err(|_| Flaw::NotUtf8)?;
    let mut scanner = Scanner { text, at: 0, checked: false };
    scanner.space();
    let start = scanner.at;
    let kind = scanner.value(0)?;
    let raw = scanner.since(start)?;
    scanner.space();
    match scanner.peek() {
        None => Ok(Value { kind, raw, at: start }),
        Some(_) => Err(Flaw::Trailing),
    }
}

/// Reads a whole document that is an object.
pub(crate) fn object(bytes: &[u8]) -> Result<Object<'_>, Flaw> {
    parse(bytes)?.object().ok_or(Flaw::NotAnObject)
}

/// A value of a document that was read whole.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Value<'a> {
    kind: Kind,
    raw: &'a str,
    at: usize,
}

impl<'a> Value<'a> {
    /// What it is.
    pub(crate) const fn kind(self) -> Kind {
        self.kind
    }

    /// Its text as written, quotes and inner white space included.
    pub(crate) const fn raw(self) -> &'a str {
        self.raw
    }

    /// Where it stands in the document, in bytes.
    pub(crate) const fn range(self) -> Range<usize> {
        self.at..self.at + self.raw.len()
    }

    /// The object that it is.
    pub(crate) fn object(self) -> Option<Object<'a>> {
        (self.kind == Kind::Object).then_some(Object(self))
    }

    /// The string that it is.
    pub(crate) fn text(self) -> Option<Text<'a>> {
        (self.kind == Kind::String).then(|| Text::quoted(self.raw))
    }

    /// The elements of the array that it is; of another value, none.
    pub(crate) fn elements(self) -> Elements<'a> {
        let mut scanner = Scanner { text: self.raw, at: 1, checked: true };
        if self.kind != Kind::Array {
            scanner.at = self.raw.len();
        }
        Elements { scanner, base: self.at }
    }
}

/// An object of a document that was read whole; no two of its members share a name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Object<'a>(Value<'a>);

impl<'a> Object<'a> {
    /// The value that it is.
    pub(crate) const fn value(self) -> Value<'a> {
        self.0
    }

    /// Its members, as written.
    pub(crate) fn members(self) -> Members<'a> {
        let scanner = Scanner { text: self.0.raw, at: 1, checked: true };
        Members { scanner, base: self.0.at }
    }

    /// The member whose name decodes to `name`.
    pub(crate) fn member(self, name: &str) -> Option<Member<'a>> {
        self.members().find(|member| member.name == *name)
    }

    /// Its members in the order of their names by code point, as sorting by UTF-8 bytes gives.
    pub(crate) fn sorted(self) -> ArrayVec<Member<'a>, MAX_MEMBERS> {
        let mut sorted: ArrayVec<_, MAX_MEMBERS> = self.members().take(MAX_MEMBERS).collect();
        sorted.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        sorted
    }
}

/// A member of an object.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Member<'a> {
    pub(crate) name: Text<'a>,
    pub(crate) value: Value<'a>,
    /// Where `"name": value` stands in the document, in bytes.
    pub(crate) range: Range<usize>,
}

/// The members of an object, as written.
#[derive(Clone, Debug)]
pub(crate) struct Members<'a> {
    scanner: Scanner<'a>,
    base: usize,
}

impl<'a> Iterator for Members<'a> {
    type Item = Member<'a>;

    fn next(&mut self) -> Option<Member<'a>> {
        self.scanner.between();
        let start = self.scanner.at;
        let name = self.scanner.name().ok()?;
        let value = self.scanner.next_value(self.base)?;
        Some(Member { name, value, range: self.base + start..self.base + self.scanner.at })
    }
}

/// The elements of an array, as written.
#[derive(Clone, Debug)]
pub(crate) struct Elements<'a> {
    scanner: Scanner<'a>,
    base: usize,
}

impl<'a> Iterator for Elements<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        self.scanner.between();
        self.scanner.next_value(self.base)
    }
}

/// Walks over values; `checked` text was walked before, so its names need not be compared again.
#[derive(Clone, Debug)]
struct Scanner<'a> {
    text: &'a str,
    at: usize,
    checked: bool,
}

impl<'a> Scanner<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn since(&self, start: usize) -> Result<&'a str, Flaw> {
        self.text.get(start..self.at).ok_or(Flaw::Unexpected)
    }

    fn space(&mut self) {
        self.pass(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
    }

    /// Passes what separates members and elements of checked text.
    fn between(&mut self) {
        self.pass(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b','));
    }

    fn pass(&mut self, passed: impl Fn(u8) -> bool) {
        while self.peek().is_some_and(&passed) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), Flaw> {
        match self.peek() {
            Some(found) if found == byte => {
                self.at += 1;
                Ok(())
            }
            Some(_) => Err(Flaw::Unexpected),
            None => Err(Flaw::Unfinished),
        }
    }

    /// The next value of checked text; at the end of its container there is none.
    fn next_value(&mut self, base: usize) -> Option<Value<'a>> {
        let start = self.at;
        let kind = self.value(0).ok()?;
        let raw = self.since(start).ok()?;
        Some(Value { kind, raw, at: base + start })
    }

    fn value(&mut self, depth: usize) -> Result<Kind, Flaw> {
        match self.peek().ok_or(Flaw::Unfinished)? {
            b'{' => self.object(depth + 1),
            b'[' => self.array(depth + 1),
            b'"' => self.string().map(|_| Kind::String),
            b'-' | b'0'..=b'9' => self.number(),
            b't' => self.word("true", Kind::True),
            b'f' => self.word("false", Kind::False),
            b'n' => self.word("null", Kind::Null),
            _ => Err(Flaw::Unexpected),
        }
    }

    fn object(&mut self, depth: usize) -> Result<Kind, Flaw> {
        if depth > MAX_DEPTH {
            return Err(Flaw::TooDeep);
        }
        let mut names = ArrayVec::<Text<'_>, MAX_MEMBERS>::new();
        self.at += 1;
        self.space();
        if self.expect(b'}').is_ok() {
            return Ok(Kind::Object);
        }
        loop {
            let name = self.name()?;
            if !self.checked {
                if names.contains(&name) {
                    return Err(Flaw::NamedTwice);
                }
                names.try_push(name).map_err(|_| Flaw::TooManyMembers)?;
            }
            self.value(depth)?;
            if self.ends(b'}')? {
                return Ok(Kind::Object);
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<Kind, Flaw> {
        if depth > MAX_DEPTH {
            return Err(Flaw::TooDeep);
        }
        self.at += 1;
        self.space();
        if self.expect(b']').is_ok() {
            return Ok(Kind::Array);
        }
        loop {
            self.value(depth)?;
            if self.ends(b']')? {
                return Ok(Kind::Array);
            }
        }
    }

    /// Passes a name and its colon.
    fn name(&mut self) -> Result<Text<'a>, Flaw> {
        let name = self.string()?;
        self.space();
        self.expect(b':')?;
        self.space();
        Ok(name)
    }

    /// Passes the closing bracket, or a comma and the space after it.
    fn ends(&mut self, close: u8) -> Result<bool, Flaw> {
        self.space();
        if self.expect(close).is_ok() {
            return Ok(true);
        }
        self.expect(b',')?;
        self.space();
        Ok(false)
    }

    fn string(&mut self) -> Result<Text<'a>, Flaw> {
        self.expect(b'"')?;
        let rest = self.text.get(self.at..).ok_or(Flaw::Unexpected)?;
        let text = json_text::scan(rest)?;
        self.at += text.raw().len() + 1;
        Ok(text)
    }

    fn number(&mut self) -> Result<Kind, Flaw> {
        let start = self.at;
        self.pass(|byte| matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9'));
        if is_number(self.since(start)?) { Ok(Kind::Number) } else { Err(Flaw::Number) }
    }

    fn word(&mut self, word: &str, kind: Kind) -> Result<Kind, Flaw> {
        for byte in word.bytes() {
            self.expect(byte)?;
        }
        Ok(kind)
    }
}

/// Whether `text` is a JSON number: `-`? integer without leading zero, then a fraction, then an exponent.
pub(super) fn is_number(text: &str) -> bool {
    let text = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    let exponent = exponent.map(|text| text.strip_prefix(['-', '+']).unwrap_or(text));
    are_digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(are_digits)
        && exponent.is_none_or(are_digits)
}

fn are_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
#[cfg(feature = "server")] // serde_json is the reference
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn members_come_with_kind_and_place() {
        let text = r#" {"a" : 1.50 ,"b":[1, {"a":2}],"c":"x\"}","d":null} "#;
        let slice = |range| text.get(range).unwrap();
        let object = object(text.as_bytes()).unwrap();
        let seen: Vec<_> = object
            .members()
            .map(|member| {
                assert_eq!(slice(member.value.range()), member.value.raw());
                (member.name.raw(), member.value.kind(), member.value.raw(), slice(member.range))
            })
            .collect();
        assert_eq!(
            seen,
            [
                ("a", Kind::Number, "1.50", r#""a" : 1.50"#),
                ("b", Kind::Array, r#"[1, {"a":2}]"#, r#""b":[1, {"a":2}]"#),
                ("c", Kind::String, r#""x\"}""#, r#""c":"x\"}""#),
                ("d", Kind::Null, "null", r#""d":null"#),
            ]
        );
        let inner = object.member("b").unwrap().value.elements().nth(1).unwrap();
        assert_eq!(slice(inner.range()), r#"{"a":2}"#);
        assert_eq!(slice(inner.object().unwrap().member("a").unwrap().range), r#""a":2"#);
    }

    #[test]
    fn a_name_spelled_with_escapes_counts_as_what_it_decodes_to() {
        let body = object(br#"{"\u0073ig":"x","\ud83d\ude00":1}"#).unwrap();
        assert_eq!(body.member("sig").unwrap().value.raw(), "\"x\"");
        assert_eq!(body.member("😀").unwrap().value.raw(), "1");
        assert_eq!(parse(br#"{"sig":1,"\u0073\u0069g":2}"#), Err(Flaw::NamedTwice));
        assert_eq!(parse(br#"{"x":[{"a":1,"\u0061":2}]}"#), Err(Flaw::NamedTwice));
        assert!(parse(br#"{"a":{"a":1},"b":{"a":1}}"#).is_ok());
    }

    #[test]
    fn depth_and_members_are_bounded_on_both_edges() {
        let nested = |depth| [vec![b'['; depth], vec![b']'; depth]].concat();
        assert!(parse(&nested(MAX_DEPTH)).is_ok());
        assert_eq!(parse(&nested(MAX_DEPTH + 1)), Err(Flaw::TooDeep));
        assert_eq!(parse(&vec![b'['; 100_000]), Err(Flaw::TooDeep));
        let wide = |members| {
            let members: Vec<_> = (0..members).map(|place| format!("\"{place}\":0")).collect();
            format!("{{{}}}", members.join(","))
        };
        assert!(parse(wide(MAX_MEMBERS).as_bytes()).is_ok());
        assert_eq!(parse(wide(MAX_MEMBERS + 1).as_bytes()), Err(Flaw::TooManyMembers));
    }

    #[test]
    fn each_flaw_has_its_cause() {
        let flaws: [(&[u8], Flaw); 22] = [
            (b"", Flaw::Unfinished),
            (b"  ", Flaw::Unfinished),
            (b"{\"a\":1", Flaw::Unfinished),
            (b"\"abc", Flaw::Unfinished),
            (b"tru", Flaw::Unfinished),
            (b"{\"a\":1,}", Flaw::Unexpected),
            (b"[1,]", Flaw::Unexpected),
            (b"{a:1}", Flaw::Unexpected),
            (b"\xef\xbb\xbf{}", Flaw::Unexpected),
            (b"NaN", Flaw::Unexpected),
            (b"01", Flaw::Number),
            (b"-", Flaw::Number),
            (b"1.", Flaw::Number),
            (b"1e+", Flaw::Number),
            (b"1-2", Flaw::Number),
            (b"\"\\x\"", Flaw::Escape),
            (b"\"\\ud800\"", Flaw::Escape),
            (b"\"\\ude00\"", Flaw::Escape),
            (b"\"a\tb\"", Flaw::Control),
            (b"\"\xe9\"", Flaw::NotUtf8),
            (b"{}{}", Flaw::Trailing),
            (b"1 2", Flaw::Trailing),
        ];
        for (text, flaw) in flaws {
            let shown = String::from_utf8_lossy(text);
            assert_eq!(parse(text), Err(flaw), "{shown}");
            assert!(!flaw.reason().is_empty());
        }
        assert_eq!(object(b"[]"), Err(Flaw::NotAnObject));
    }

    /// What this scanner refuses beyond the grammar, and what `serde_json` refuses beyond it.
    fn agrees(text: &[u8]) -> bool {
        let ours = parse(text);
        let theirs = serde_json::from_slice::<serde_json::Value>(text);
        match (&ours, &theirs) {
            (Err(Flaw::NamedTwice | Flaw::TooManyMembers | Flaw::TooDeep), Ok(_)) => true,
            // A lexeme has no range.
            (Ok(_), Err(error)) => error.to_string().starts_with("number out of range"),
            (ours, theirs) => ours.is_ok() == theirs.is_ok(),
        }
    }

    fn document() -> impl Strategy<Value = String> {
        let number = "-?(0|[1-9][0-9]{0,5})(\\.[0-9]{1,4})?([eE][+-]?[0-9]{1,2})?";
        let string = "\"([a-c&=\\[\\]{} ,:]|\\\\([\"/bfnrt\\\\]|u00[6-7][0-9a-f])|é|漢|😀){0,6}\"";
        let space = "[ \n]{0,1}";
        let leaf = prop_oneof![
            number,
            string,
            prop_oneof![Just("true"), Just("false"), Just("null")].prop_map(str::to_owned),
        ];
        leaf.prop_recursive(4, 24, 4, move |inner| {
            let member = (string, space, inner.clone()).prop_map(|(n, s, v)| format!("{n}:{s}{v}"));
            prop_oneof![
                (prop::collection::vec(inner, 0..4), space)
                    .prop_map(|(all, s)| format!("[{}{s}]", all.join(&format!("{s},")))),
                (prop::collection::vec(member, 0..4), space)
                    .prop_map(|(all, s)| format!("{{{s}{}}}", all.join(&format!(",{s}")))),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_takes_what_serde_json_takes(text in document()) {
            prop_assert!(agrees(text.as_bytes()), "{text}");
        }

        #[test]
        fn it_takes_what_serde_json_takes_of_damaged_text(
            text in document(),
            place in any::<prop::sample::Index>(),
            byte in prop::sample::select(br#"{}[],:"\u019-+.eE tn"#.to_vec()),
            removed in any::<bool>(),
        ) {
            let mut text = text.into_bytes();
            let place = place.index(text.len());
            if removed { text.remove(place); } else { text[place] = byte; }
            prop_assert!(agrees(&text), "{}", String::from_utf8_lossy(&text));
        }

        #[test]
        fn it_takes_what_serde_json_takes_of_noise(text in prop::collection::vec(any::<u8>(), 0..32)) {
            prop_assert!(agrees(&text));
        }

        #[test]
        fn strings_decode_as_in_serde_json(text in document()) {
            if let (Ok(ours), Ok(serde_json::Value::Object(theirs))) = (object(text.as_bytes()), serde_json::from_str(&text)) {
                prop_assert_eq!(ours.members().count(), theirs.len());
                for member in ours.members() {
                    let mut name = Vec::new();
                    member.name.write(&mut name);
                    let name = String::from_utf8(name).unwrap();
                    let value: serde_json::Value = serde_json::from_str(member.value.raw()).unwrap();
                    prop_assert_eq!(Some(&value), theirs.get(&name));
                    prop_assert_eq!(&ours.member(&name).unwrap(), &member);
                }
            }
        }
    }
}
