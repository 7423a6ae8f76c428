//! The readings of a query: which bytes a client may have signed for what it sent.
//!
//! Several clients sign the un-encoded query while their HTTP library encodes it on the wire. Decoding is
//! ambiguous (`a%26b=1` and `a&b=1` decode alike), so a decoded reading is accepted only where it moves no
//! boundary, and then the backend gets one canonical encoding of what was signed.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::ops::Range;

use super::lenient;
use super::pairs::{name_of, pairs, split};
use super::template::Sink;
use crate::denial::Denial;

/// How the query, and a form body, are read before they are signed or verified.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reading {
    /// As on the wire.
    Raw,
    /// Each `%XX` decoded, `+` left alone.
    Decoded,
    /// Each `%XX` decoded, and `+` is a space.
    FormDecoded,
    /// The pairs in order of their names.
    Sorted,
    /// The same, then decoded.
    DecodedSorted,
    /// The same, then decoded as forms are.
    FormDecodedSorted,
    /// Decoded as forms are, then encoded anew, as `encodeURIComponent` does. Only where the operator switches it on.
    ReEncoded,
    /// Decoded as forms are, and told from encoded texts by its bytes. Only where the operator switches it on.
    Unencoded,
}

/// What is done to the bytes of a name or value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Decoding {
    None,
    Percent,
    Form,
}

impl Reading {
    /// Every reading, with the name that recipes use.
    pub const ALL: [(Self, &'static str); 8] = [
        (Self::Raw, "raw"),
        (Self::Decoded, "decoded"),
        (Self::FormDecoded, "form-decoded"),
        (Self::Sorted, "sorted"),
        (Self::DecodedSorted, "decoded-sorted"),
        (Self::FormDecodedSorted, "form-decoded-sorted"),
        (Self::ReEncoded, "re-encoded"),
        (Self::Unencoded, "unencoded"),
    ];

    /// The name that recipes use.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(reading, _)| *reading == self).map_or("", |(_, name)| name)
    }

    const fn decoding(self) -> Decoding {
        match self {
            Self::Raw | Self::Sorted => Decoding::None,
            Self::Decoded | Self::DecodedSorted => Decoding::Percent,
            Self::FormDecoded | Self::FormDecodedSorted | Self::ReEncoded | Self::Unencoded => {
                Decoding::Form
            }
        }
    }

    /// Whether it puts pairs in order.
    pub(crate) const fn sorts(self) -> bool {
        match self {
            Self::Raw | Self::Decoded | Self::FormDecoded | Self::ReEncoded | Self::Unencoded => {
                false
            }
            Self::Sorted | Self::DecodedSorted | Self::FormDecodedSorted => true,
        }
    }

    /// Whether it is only for operators who switch it on.
    pub(crate) const fn is_lenient(self) -> bool {
        matches!(self, Self::ReEncoded | Self::Unencoded)
    }

    /// Whether it decodes.
    pub(crate) const fn decodes(self) -> bool {
        !matches!(self.decoding(), Decoding::None)
    }

    /// Whether this reading of `text` can differ from the one that leaves out its decoding.
    pub(crate) fn decodes_any(self, text: &[u8]) -> bool {
        if self == Self::ReEncoded {
            return lenient::re_encodes(text);
        }
        match self.decoding() {
            Decoding::None => true,
            Decoding::Percent => memchr::memchr(b'%', text).is_some(),
            Decoding::Form => memchr::memchr2(b'%', b'+', text).is_some(),
        }
    }

    /// Writes `text`, read this way.
    pub(super) fn write(self, text: &[u8], sink: &mut impl Sink) {
        if text.is_empty() {
            return;
        }
        if self == Self::ReEncoded {
            lenient::re_encode(text, sink);
        } else if self.decodes() {
            for byte in self.bytes(text) {
                sink.put(&[byte]);
            }
        } else {
            sink.put(text);
        }
    }

    /// The bytes of a name or value, read this way.
    pub(super) fn bytes(self, text: &[u8]) -> impl Iterator<Item = u8> {
        let decoding = self.decoding();
        let mut rest = text;
        std::iter::from_fn(move || {
            let (byte, after) = match decoding {
                Decoding::None => rest.split_first().map(|(byte, after)| (*byte, after))?,
                Decoding::Percent | Decoding::Form => next_decoded(rest)?,
            };
            let plus = rest.first() == Some(&b'+');
            rest = after;
            Some(if decoding == Decoding::Form && plus { b' ' } else { byte })
        })
    }

    /// Refuses parameters of which another spelling with another meaning would be read as the same bytes.
    pub(crate) fn guard(self, params: &str) -> Result<(), Denial> {
        if !self.decodes() {
            return Ok(());
        }
        for (name, value) in pairs(params) {
            let mut name = percent_decoded(name.as_bytes());
            if name.any(|byte| matches!(byte, b'&' | b'=' | b'%' | 0..0x20 | 0x7f)) {
                return Err(Denial::Ambiguous("decoding a parameter's name moves a boundary"));
            }
            let mut value = percent_decoded(value.as_bytes());
            if value.any(|byte| matches!(byte, b'&' | b'%' | 0..0x20 | 0x7f)) {
                return Err(Denial::Ambiguous("a decoded value holds `&`, `%` or a control byte"));
            }
        }
        Ok(())
    }
}

/// The pairs of a query in order of their names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order<'r> {
    text: &'r str,
    pairs: &'r [(u32, u32)],
    /// Whether they are the body's and not the query's.
    pub(super) of_body: bool,
    /// Whether to write them in order is to write something else than what was sent.
    moves: bool,
}

impl<'r> Order<'r> {
    /// No pairs.
    pub(crate) const NONE: Self = Self { text: "", pairs: &[], of_body: false, moves: false };

    /// Orders the pairs of `text`, all but the one at `cut`, in the memory of `pairs`.
    pub(super) fn of(
        text: &'r str,
        cut: Option<&Range<usize>>,
        of_body: bool,
        pairs: &'r mut Vec<(u32, u32)>,
    ) -> Self {
        pairs.clear();
        let mut moves = false;
        for (range, pair) in split(text) {
            moves |= pair.is_empty();
            if Some(&range) != cut && !pair.is_empty() {
                // A query is shorter than 4 GiB: longer targets are refused before.
                let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
                pairs.push((place(range.start), place(range.end)));
            }
        }
        if !pairs.is_sorted_by_key(|pair| name_of(at(text, *pair))) {
            pairs.sort_unstable_by_key(|pair| name_of(at(text, *pair)));
            moves = true;
        }
        Self { text, pairs, of_body, moves }
    }

    /// Whether to write the pairs in order is to write something else than what was sent.
    pub(super) const fn moves(&self) -> bool {
        self.moves
    }

    /// The pairs, in order.
    pub(super) fn pairs(&self) -> impl Iterator<Item = &'r str> {
        let text = self.text;
        self.pairs.iter().map(move |pair| at(text, *pair))
    }

    /// Refuses what has no single order: a name that stands twice, or one that is spelled with `%` or `+`.
    pub(crate) fn guard(&self, merged: Option<&str>) -> Result<(), Denial> {
        let mut before = None;
        for name in self.pairs().map(name_of) {
            if before == Some(name) || merged == Some(name) {
                return Err(Denial::Ambiguous("a name stands twice among sorted parameters"));
            }
            if name.bytes().any(|byte| matches!(byte, b'%' | b'+')) {
                return Err(Denial::Ambiguous("a sorted parameter's name is spelled with escapes"));
            }
            before = Some(name);
        }
        Ok(())
    }

    /// Writes the pairs, with one more among them where it is given.
    pub(super) fn write(
        &self,
        reading: Reading,
        mut merged: Option<(&str, &str)>,
        sink: &mut impl Sink,
    ) {
        let mut first = true;
        let mut join = |sink: &mut _| {
            if !std::mem::take(&mut first) {
                Sink::put(sink, b"&");
            }
        };
        for pair in self.pairs() {
            if let Some((name, value)) = merged.take_if(|(name, _)| *name < name_of(pair)) {
                join(sink);
                write_pair(name, value, sink);
            }
            join(sink);
            reading.write(pair.as_bytes(), sink);
        }
        if let Some((name, value)) = merged {
            join(sink);
            write_pair(name, value, sink);
        }
    }
}

fn write_pair(name: &str, value: &str, sink: &mut impl Sink) {
    for text in [name, "=", value] {
        sink.put(text.as_bytes());
    }
}

fn at(text: &str, (from, to): (u32, u32)) -> &str {
    let place = |at: u32| usize::try_from(at).unwrap_or(usize::MAX);
    text.get(place(from)..place(to)).unwrap_or_default()
}

/// `query` with its pairs in order of their names.
pub(super) fn sorted(query: &str) -> String {
    let mut memory = Vec::new();
    let order = Order::of(query, None, false, &mut memory);
    let mut out = Vec::with_capacity(query.len());
    order.write(Reading::Raw, None, &mut out);
    // What is put together from pieces of text at `&` is text.
    String::from_utf8(out).unwrap_or_default()
}

/// One encoding for all wire spellings of the same signed bytes.
///
/// With `reading` raw only a query without `%` comes here, so its bytes are their own decoding.
pub(super) fn canonical(reading: Reading, query: &str) -> Cow<'_, str> {
    let settled = |byte: u8| is_kept(byte) || byte == b'&';
    let mut equals = 0;
    let plain = query.bytes().all(|byte| match byte {
        b'=' => {
            equals += 1;
            equals == 1
        }
        b'&' => {
            equals = 0;
            true
        }
        _ => settled(byte),
    });
    if plain {
        return Cow::Borrowed(query);
    }
    let mut out = String::with_capacity(query.len() + 16);
    for (place, pair) in query.split('&').enumerate() {
        if place > 0 {
            out.push('&');
        }
        let (name, value) = pair.split_once('=').map_or((pair, None), |(n, v)| (n, Some(v)));
        encode(reading, name, &mut out);
        if let Some(value) = value {
            out.push('=');
            encode(reading, value, &mut out);
        }
    }
    Cow::Owned(out)
}

fn encode(reading: Reading, text: &str, out: &mut String) {
    for byte in reading.bytes(text.as_bytes()) {
        if is_kept(byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

/// Bytes that mean themselves in a query value whoever parses it: RFC 3986 unreserved, and the reserved ones that
/// neither forms nor queries give a meaning.
const fn is_kept(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.'
                | b'_'
                | b'~'
                | b'!'
                | b'$'
                | b'('
                | b')'
                | b'*'
                | b','
                | b'/'
                | b':'
                | b'?'
                | b'@'
        )
}

/// The bytes of `text` with each `%XX` decoded and `+` left alone.
pub(crate) fn percent_decoded(text: &[u8]) -> impl Iterator<Item = u8> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (byte, after) = next_decoded(rest)?;
        rest = after;
        Some(byte)
    })
}

fn next_decoded(text: &[u8]) -> Option<(u8, &[u8])> {
    match text {
        [b'%', high, low, after @ ..] => match (hex_digit(*high), hex_digit(*low)) {
            (Some(high), Some(low)) => Some((high << 4 | low, after)),
            _ => text.split_first().map(|(byte, after)| (*byte, after)),
        },
        _ => text.split_first().map(|(byte, after)| (*byte, after)),
    }
}

/// The value of a hexadecimal digit, either case.
pub(crate) const fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(reading: Reading, query: &str) -> String {
        let mut out = Vec::new();
        reading.write(query.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn plus_is_a_space_only_in_the_form_reading() {
        assert_eq!(read(Reading::Raw, "a=x+y%20z"), "a=x+y%20z");
        assert_eq!(read(Reading::Decoded, "a=x+y%20z"), "a=x+y z");
        assert_eq!(read(Reading::FormDecoded, "a=x+y%2Bz"), "a=x y+z");
    }

    #[test]
    fn a_decoding_that_moves_a_boundary_is_refused() {
        for query in ["a%26b=1", "a=1%26b=2", "a%3Db=1", "a=%2500", "a=x%0Ay", "a=%7f"] {
            assert!(matches!(Reading::Decoded.guard(query), Err(Denial::Ambiguous(_))), "{query}");
        }
        for query in ["a=x%20y", "a=%3D", "a=x=y", "a=%E6%BC%A2", "a=%2B"] {
            assert_eq!(Reading::Decoded.guard(query), Ok(()), "{query}");
        }
    }

    #[test]
    fn every_spelling_of_the_same_signed_bytes_is_forwarded_alike() {
        let spellings = [
            (Reading::Raw, "memo=12+34"),
            (Reading::Decoded, "memo=12%2B34"),
            (Reading::Decoded, "mem%6F=12%2b34"),
            (Reading::FormDecoded, "memo=12%2B34"),
        ];
        for (reading, query) in spellings {
            assert_eq!(read(reading, query), "memo=12+34");
            assert_eq!(canonical(reading, query), "memo=12%2B34");
        }
        assert_eq!(
            canonical(Reading::FormDecoded, "a=x+y"),
            canonical(Reading::Decoded, "a=x%20y")
        );
    }

    #[test]
    fn pairs_are_signed_in_order_with_the_time_among_them() {
        let mut memory = Vec::new();
        let order = Order::of("b=2&signature=x&a=1&c=%20", Some(&(4..15)), false, &mut memory);
        let mut out = Vec::new();
        order.write(Reading::Sorted, None, &mut out);
        out.push(b'|');
        order.write(Reading::DecodedSorted, Some(("bb", "9")), &mut out);
        assert_eq!(out, b"a=1&b=2&c=%20|a=1&b=2&bb=9&c= ");
        assert_eq!(sorted("z=1&b&a=2&&a0=3"), "a=2&a0=3&b&z=1");
    }

    #[test]
    fn names_that_stand_twice_or_are_escaped_have_no_order() {
        for (query, merged, sound) in [
            ("a=1&b=2", None, true),
            ("a=1&b=2", Some("t"), true),
            ("a=1&a=2", None, false),
            ("a=1&t=2", Some("t"), false),
            ("a=1&%62=2", None, false),
        ] {
            let mut memory = Vec::new();
            let order = Order::of(query, None, false, &mut memory);
            assert_eq!(order.guard(merged).is_ok(), sound, "{query}");
        }
    }

    #[test]
    fn an_ordinary_query_is_its_own_canonical_encoding() {
        let query = "symbol=BTCUSDT&price=0.10&list=BTC,ETH&empty=";
        assert!(matches!(canonical(Reading::Raw, query), Cow::Borrowed(same) if same == query));
    }
}
