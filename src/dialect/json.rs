//! JSON by lexeme: a strict scanner that keeps every number as it was written. A document is read once, to a list of
//! where its values stand: whatever is looked for afterwards is found there.
//!
//! Parsers differ over duplicate names, lone surrogates and long numbers, and a signature holds only if every
//! reader of a body reads the same. So a document is taken whole or refused: RFC 8259 grammar, UTF-8, no name
//! twice in one object after unescaping, bounded depth and members, nothing behind the value.

use std::ops::Range;

use arrayvec::ArrayVec;

use super::json_scan::Scanner;
use super::json_text::Text;

/// How deep arrays and objects may nest: a scalar has depth 0.
pub(crate) const MAX_DEPTH: usize = 16;
/// How many members one object may have, since names are compared and sorted without allocating.
pub(crate) const MAX_MEMBERS: usize = 64;

/// Why bytes are refused as JSON.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Flaw {
    NotUtf8,
    /// It has 4 GiB or more.
    TooLong,
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
            Self::TooLong => "JSON is too long",
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

/// A value of a document: where it stands, and the name before it where it is a member.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Node {
    /// The inside of the quotes; of a value that is no member, nothing.
    pub(super) name: (u32, u32),
    pub(super) value: (u32, u32),
    /// The first one after it that does not stand inside it.
    pub(super) next: u32,
    pub(super) kind: Kind,
    /// Whether an escape stands in the name.
    pub(super) escaped_name: bool,
    /// Whether one stands in the string that it is.
    pub(super) escaped: bool,
}

/// Reads a whole document, whose values are listed in the memory of `nodes`.
pub(crate) fn parse<'a>(bytes: &'a [u8], nodes: &'a mut Vec<Node>) -> Result<Value<'a>, Flaw> {
    let text = str::from_utf8(bytes).map_err(|_| Flaw::NotUtf8)?;
    nodes.clear();
    // What one large document needed is not kept for ever.
    nodes.shrink_to(KEPT);
    Scanner::document(text, nodes)?;
    Ok(Value { text, nodes, at: 0 })
}

/// Reads a whole document that is an object.
pub(crate) fn object<'a>(bytes: &'a [u8], nodes: &'a mut Vec<Node>) -> Result<Object<'a>, Flaw> {
    parse(bytes, nodes)?.object().ok_or(Flaw::NotAnObject)
}

/// A value of a document that was read whole.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Value<'a> {
    text: &'a str,
    nodes: &'a [Node],
    at: usize,
}

impl<'a> Value<'a> {
    /// What it is.
    pub(crate) fn kind(self) -> Kind {
        self.node().kind
    }

    /// Its text as written, quotes and inner white space included.
    pub(crate) fn raw(self) -> &'a str {
        self.slice(self.node().value)
    }

    /// Where it stands in the document, in bytes.
    pub(crate) fn range(self) -> Range<usize> {
        let (from, to) = self.node().value;
        index(from)..index(to)
    }

    /// The object that it is.
    pub(crate) fn object(self) -> Option<Object<'a>> {
        (self.kind() == Kind::Object).then_some(Object(self))
    }

    /// The string that it is.
    pub(crate) fn text(self) -> Option<Text<'a>> {
        let Node { value: (from, to), kind, escaped, .. } = self.node();
        let inside = (from.saturating_add(1), to.saturating_sub(1));
        (kind == Kind::String).then(|| Text::new(self.slice(inside), escaped))
    }

    /// Whether `true` or `false` stands in it.
    pub(crate) fn holds_truth(self) -> bool {
        let inside = self.nodes.get(self.inside()).unwrap_or_default();
        inside.iter().any(|node| matches!(node.kind, Kind::True | Kind::False))
    }

    /// The elements of the array that it is; of another value, none.
    pub(crate) fn elements(self) -> Elements<'a> {
        let inside = self.inside();
        let inside = if self.kind() == Kind::Array { inside } else { inside.end..inside.end };
        Elements { whole: self, inside }
    }

    fn node(self) -> Node {
        self.nodes.get(self.at).copied().unwrap_or(NOTHING)
    }

    fn slice(self, (from, to): (u32, u32)) -> &'a str {
        self.text.get(index(from)..index(to)).unwrap_or_default()
    }

    /// The places of the values that stand inside it.
    fn inside(self) -> Range<usize> {
        self.at + 1..index(self.node().next)
    }

    /// The next of the values whose places are left, and of no value inside it.
    fn following(self, left: &mut Range<usize>) -> Option<Self> {
        if left.start >= left.end {
            return None;
        }
        let found = Self { at: left.start, ..self };
        left.start = index(found.node().next);
        Some(found)
    }

    /// Whether it is a member of that name. Most are told by the length.
    fn is_named(self, wanted: &str) -> bool {
        let Node { name: (from, to), escaped_name, .. } = self.node();
        (escaped_name || index(to - from) == wanted.len())
            && Text::new(self.slice((from, to)), escaped_name) == *wanted
    }

    /// The member of an object that it is.
    fn member(self) -> Member<'a> {
        let Node { name, value: (_, end), escaped_name, .. } = self.node();
        let name_text = Text::new(self.slice(name), escaped_name);
        Member { name: name_text, value: self, range: index(name.0.saturating_sub(1))..index(end) }
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
        Members { whole: self.0, inside: self.0.inside() }
    }

    /// The member whose name decodes to `name`.
    pub(crate) fn member(self, name: &str) -> Option<Member<'a>> {
        let mut inside = self.0.inside();
        while let Some(value) = self.0.following(&mut inside) {
            if value.is_named(name) {
                return Some(value.member());
            }
        }
        None
    }

    /// Its members in the order of their names by code point, as sorting by UTF-8 bytes gives.
    pub(crate) fn sorted(self) -> Sorted<'a> {
        let mut sorted = Sorted { whole: self.0, places: ArrayVec::new() };
        for member in self.members().take(MAX_MEMBERS) {
            sorted.places.push((member.name.beginning(), member.value.at));
        }
        let name = |at: usize| Value { at, ..self.0 }.member().name;
        // Most names differ in their first bytes.
        let order = |a: &(u64, usize), b: &(u64, usize)| {
            a.0.cmp(&b.0).then_with(|| name(a.1).cmp(&name(b.1)))
        };
        sorted.places.sort_unstable_by(order);
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
    whole: Value<'a>,
    inside: Range<usize>,
}

impl<'a> Iterator for Members<'a> {
    type Item = Member<'a>;

    fn next(&mut self) -> Option<Member<'a>> {
        self.whole.following(&mut self.inside).map(Value::member)
    }
}

/// The members of an object, in order.
#[derive(Clone, Debug)]
pub(crate) struct Sorted<'a> {
    whole: Value<'a>,
    /// Where they stand, with the first bytes of their names.
    places: ArrayVec<(u64, usize), MAX_MEMBERS>,
}

impl<'a> Sorted<'a> {
    /// Each of them.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = Member<'a>> {
        self.places.iter().map(|(_, at)| Value { at: *at, ..self.whole }.member())
    }
}

/// The elements of an array, as written.
#[derive(Clone, Debug)]
pub(crate) struct Elements<'a> {
    whole: Value<'a>,
    inside: Range<usize>,
}

impl<'a> Iterator for Elements<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        self.whole.following(&mut self.inside)
    }
}

/// Where no value is.
const NOTHING: Node = Node {
    name: (0, 0),
    value: (0, 0),
    next: 0,
    kind: Kind::Null,
    escaped_name: false,
    escaped: false,
};

/// For how many values memory is kept.
const KEPT: usize = 4_096;

const fn index(place: u32) -> usize {
    place as usize
}

/// The document that `bytes` are, in memory of its own.
#[cfg(test)]
pub(crate) fn kept(bytes: &[u8]) -> Result<Value<'_>, Flaw> {
    parse(bytes, Box::leak(Box::default()))
}

/// The object that `bytes` are, in the same way.
#[cfg(test)]
pub(crate) fn kept_object(bytes: &[u8]) -> Result<Object<'_>, Flaw> {
    kept(bytes)?.object().ok_or(Flaw::NotAnObject)
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
        let object = kept_object(text.as_bytes()).unwrap();
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
        let body = kept_object(br#"{"\u0073ig":"x","\ud83d\ude00":1}"#).unwrap();
        assert_eq!(body.member("sig").unwrap().value.raw(), "\"x\"");
        assert_eq!(body.member("😀").unwrap().value.raw(), "1");
        assert_eq!(kept(br#"{"sig":1,"\u0073\u0069g":2}"#), Err(Flaw::NamedTwice));
        assert_eq!(kept(br#"{"x":[{"a":1,"\u0061":2}]}"#), Err(Flaw::NamedTwice));
        assert!(kept(br#"{"a":{"a":1},"b":{"a":1}}"#).is_ok());
    }

    #[test]
    fn depth_and_members_are_bounded_on_both_edges() {
        let nested = |depth| [vec![b'['; depth], vec![b']'; depth]].concat();
        assert!(kept(&nested(MAX_DEPTH)).is_ok());
        assert_eq!(kept(&nested(MAX_DEPTH + 1)), Err(Flaw::TooDeep));
        assert_eq!(kept(&vec![b'['; 100_000]), Err(Flaw::TooDeep));
        let wide = |members| {
            let members: Vec<_> = (0..members).map(|place| format!("\"{place}\":0")).collect();
            format!("{{{}}}", members.join(","))
        };
        assert!(kept(wide(MAX_MEMBERS).as_bytes()).is_ok());
        assert_eq!(kept(wide(MAX_MEMBERS + 1).as_bytes()), Err(Flaw::TooManyMembers));
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
            assert_eq!(kept(text), Err(flaw), "{shown}");
            assert!(!flaw.reason().is_empty());
        }
        assert_eq!(kept_object(b"[]"), Err(Flaw::NotAnObject));
    }

    /// What this scanner refuses beyond the grammar, and what `serde_json` refuses beyond it.
    fn agrees(text: &[u8]) -> bool {
        let ours = kept(text);
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
            if let (Ok(ours), Ok(serde_json::Value::Object(theirs))) = (kept_object(text.as_bytes()), serde_json::from_str(&text)) {
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
