//! The readings of a query: which bytes a client may have signed for what it sent.
//!
//! Several clients sign the un-encoded query while their HTTP library encodes it on the wire. Decoding is
//! ambiguous (`a%26b=1` and `a&b=1` decode alike), so a decoded reading is accepted only where it moves no
//! boundary, and then the backend gets one canonical encoding of what was signed.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::place::pairs;
use super::template::Sink;
use crate::denial::Denial;

/// How the query is read before it is signed or verified.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reading {
    /// As on the wire.
    Raw,
    /// Each `%XX` decoded, `+` left alone.
    Decoded,
    /// Each `%XX` decoded, and `+` is a space.
    FormDecoded,
}

impl Reading {
    /// Every reading, with the name that recipes use.
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::Raw, "raw"), (Self::Decoded, "decoded"), (Self::FormDecoded, "form-decoded")];

    /// The name that recipes use.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(reading, _)| *reading == self).map_or("", |(_, name)| name)
    }

    /// Whether this reading of `query` can differ from the raw one.
    pub(crate) fn differs(self, query: &str) -> bool {
        match self {
            Self::Raw => false,
            Self::Decoded => memchr::memchr(b'%', query.as_bytes()).is_some(),
            Self::FormDecoded => memchr::memchr2(b'%', b'+', query.as_bytes()).is_some(),
        }
    }

    /// Writes `text`, read this way.
    pub(super) fn write(self, text: &str, sink: &mut impl Sink) {
        match self {
            Self::Raw => sink.put(text.as_bytes()),
            Self::Decoded | Self::FormDecoded => {
                for byte in self.bytes(text) {
                    sink.put(&[byte]);
                }
            }
        }
    }

    fn bytes(self, text: &str) -> impl Iterator<Item = u8> {
        let form = self == Self::FormDecoded;
        let mut rest = text.as_bytes();
        std::iter::from_fn(move || {
            let (byte, after) = next_decoded(rest)?;
            let plus = rest.first() == Some(&b'+');
            rest = after;
            Some(if form && plus { b' ' } else { byte })
        })
    }

    /// Refuses a query of which another spelling with another meaning would decode to the same bytes.
    pub(crate) fn guard(self, query: &str) -> Result<(), Denial> {
        if self == Self::Raw {
            return Ok(());
        }
        for (name, value) in pairs(query) {
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
    for byte in reading.bytes(text) {
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
        reading.write(query, &mut out);
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
    fn an_ordinary_query_is_its_own_canonical_encoding() {
        let query = "symbol=BTCUSDT&price=0.10&list=BTC,ETH&empty=";
        assert!(matches!(canonical(Reading::Raw, query), Cow::Borrowed(same) if same == query));
    }
}
