//! Defeats ambiguity: what two parsers could read differently is refused, never normalised.

use crate::denial::Denial;
use crate::dialect::{Inbound, hex_digit};

/// The longest target, in bytes.
const LONGEST_TARGET: usize = 8_192;

/// Holds when path, query, host and header names can be read in one way only.
pub(crate) fn check(request: &Inbound<'_>, body_cap: usize) -> Result<(), Denial> {
    let query = request.query.unwrap_or_default();
    if request.path.len() + query.len() > LONGEST_TARGET || request.body.len() > body_cap {
        return Err(Denial::TooLarge);
    }
    path(request.path.as_bytes())?;
    printable(query.as_bytes())?;
    if request.host.is_empty() {
        return Err(Denial::Malformed("no host"));
    }
    // Some backends read `x_y` as `x-y`, so that one name could pass for another.
    if request.headers.keys().any(|name| holds_underscore(name.as_str().as_bytes())) {
        return Err(Denial::Malformed("an underscore in a header name"));
    }
    Ok(())
}

fn path(path: &[u8]) -> Result<(), Denial> {
    if path.first() != Some(&b'/') {
        return Err(Denial::Malformed("a target that is no path"));
    }
    let found = printable(path)?;
    if found & SEPARATOR != 0 {
        return Err(Denial::Malformed("`\\` or `;` in the path"));
    }
    if path.windows(2).any(|pair| pair == b"//") {
        return Err(Denial::Malformed("an empty path segment"));
    }
    // Neither dots nor escapes can spell a dot segment or a separator if there are none.
    if found & (ESCAPE | DOT) == 0 {
        return Ok(());
    }
    if path.split(|byte| *byte == b'/').any(is_dots) {
        return Err(Denial::Malformed("a dot segment in the path"));
    }
    for place in memchr::memchr_iter(b'%', path) {
        let decoded = decoded(path.get(place + 1..place + 3).unwrap_or_default());
        // A backend that decodes `/withdra%77` would serve a route that another rule guards.
        if decoded.is_some_and(|byte| byte.is_ascii() && byte != b' ') {
            return Err(Denial::Malformed(
                "an encoded byte in the path that stands for itself, separates or controls",
            ));
        }
    }
    Ok(())
}

/// `.` and `..`, however spelled.
fn is_dots(segment: &[u8]) -> bool {
    !segment.is_empty()
        && segment.len() <= 6
        && crate::dialect::percent_decoded(segment).all(|byte| byte == b'.')
        && crate::dialect::percent_decoded(segment).count() <= 2
}

/// Only 0x21 to 0x7e, no `#`, and each `%` with two digits; tells the kinds of bytes there are.
fn printable(text: &[u8]) -> Result<u8, Denial> {
    let found = kinds(text);
    if found & OUTSIDE != 0 {
        return Err(Denial::Malformed("a byte outside 0x21 to 0x7e in the target"));
    }
    if found & HASH != 0 {
        return Err(Denial::Malformed("a fragment in the target"));
    }
    if found & ESCAPE != 0 {
        for place in memchr::memchr_iter(b'%', text) {
            if decoded(text.get(place + 1..place + 3).unwrap_or_default()).is_none() {
                return Err(Denial::Malformed("a `%` without two hexadecimal digits"));
            }
        }
    }
    Ok(found)
}

/// The kinds of bytes that `text` holds.
///
/// No early exit, and flags for each of sixteen lanes: so the compiler looks at as many bytes at once.
fn kinds(text: &[u8]) -> u8 {
    let mut lanes = [0; 16];
    let (chunks, rest) = text.as_chunks::<16>();
    for chunk in chunks {
        for (lane, byte) in lanes.iter_mut().zip(chunk) {
            *lane |= kind(*byte);
        }
    }
    let chunks = lanes.into_iter().fold(0, |all, lane| all | lane);
    rest.iter().fold(chunks, |all, byte| all | kind(*byte))
}

fn kind(byte: u8) -> u8 {
    let flag = |holds: bool, flag: u8| if holds { flag } else { 0 };
    flag(byte.wrapping_sub(0x21) > 0x7e - 0x21, OUTSIDE)
        | flag(byte == b'#', HASH)
        | flag(byte == b'%', ESCAPE)
        | flag(byte == b'\\', SEPARATOR)
        | flag(byte == b';', SEPARATOR)
        | flag(byte == b'.', DOT)
}

const OUTSIDE: u8 = 1;
const HASH: u8 = 2;
const ESCAPE: u8 = 4;
const SEPARATOR: u8 = 8;
const DOT: u8 = 16;

/// Looks at eight bytes at once: names are short, and every request has many.
fn holds_underscore(name: &[u8]) -> bool {
    let in_word = |word: &[u8; 8]| {
        let word = u64::from_ne_bytes(*word) ^ u64::from_ne_bytes([b'_'; 8]);
        word.wrapping_sub(u64::from_ne_bytes([0x01; 8])) & !word & u64::from_ne_bytes([0x80; 8])
            != 0
    };
    // The last word overlaps the one before it.
    match name.last_chunk() {
        Some(last) => in_word(last) || name.as_chunks().0.iter().any(in_word),
        None => name.contains(&b'_'),
    }
}

fn decoded(digits: &[u8]) -> Option<u8> {
    match digits {
        [high, low] => Some(hex_digit(*high)? << 4 | hex_digit(*low)?),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, Method};

    use super::*;

    fn verdict(path: &str, query: Option<&str>) -> Result<(), Denial> {
        let headers = HeaderMap::new();
        let peer = std::net::Ipv4Addr::LOCALHOST.into();
        let method = &Method::GET;
        check(&Inbound { method, path, query, host: "h", headers: &headers, body: b"", peer }, 10)
    }

    #[test]
    fn ordinary_targets_pass() {
        for path in
            ["/", "/api/v3/order", "/api/v3/", "/a.b/..c/c..", "/x%20y", "/a...", "/%E6%BC%A2"]
        {
            assert_eq!(verdict(path, Some("a=%2F%00&b=..//")), Ok(()), "{path}");
        }
    }

    #[test]
    fn paths_that_a_backend_could_read_otherwise_are_refused() {
        for path in [
            "", "api", "//", "/a//b", "/.", "/a/..", "/../a", "/./a", "/%2e/a", "/.%2E/a",
            "/a%2fb", "/a%5Cb", "/a\\b", "/a%00", "/a;b", "/a%", "/a%2", "/a%zz", "/a b", "/a#b",
            "/\u{e9}", "/a%252e", "/a%0d", "/%61", "/a%3F", "/a%23", "/a%7b", "/a%3a",
        ] {
            assert!(matches!(verdict(path, None), Err(Denial::Malformed(_))), "{path}");
        }
    }

    #[test]
    fn queries_hold_printable_bytes_and_whole_escapes_only() {
        for query in ["a=%", "a=%4", "a=%g0", "a= b", "a=#", "a=\u{7f}", "a=\u{e9}"] {
            assert!(matches!(verdict("/", Some(query)), Err(Denial::Malformed(_))), "{query}");
        }
    }

    #[test]
    fn size_has_an_edge() {
        let path = format!("/{}", "a".repeat(LONGEST_TARGET - 1));
        assert_eq!(verdict(&path, None), Ok(()));
        assert_eq!(verdict(&path, Some("b")), Err(Denial::TooLarge));
    }

    #[test]
    fn an_underscore_anywhere_in_a_header_name_is_refused() {
        for length in 1..=40 {
            for place in (0..length).map(Some).chain([None]) {
                let mut name = vec![b'x'; length];
                if let Some(place) = place {
                    name[place] = b'_';
                }
                let mut headers = HeaderMap::new();
                let name = http::HeaderName::from_bytes(&name).unwrap();
                headers.insert(name, HeaderValue::from_static("1"));
                let peer = std::net::Ipv4Addr::LOCALHOST.into();
                let (method, path, headers) = (&Method::GET, "/", &headers);
                let request =
                    Inbound { method, path, query: None, host: "h", headers, body: b"", peer };
                assert_eq!(check(&request, 10).is_err(), place.is_some(), "{length} {place:?}");
            }
        }
    }

    #[test]
    fn a_forbidden_byte_is_seen_wherever_it_stands() {
        for length in 1..=70 {
            for place in 0..length {
                for byte in [" ", "#", "\u{7f}", "%"] {
                    let mut query = "z".repeat(length);
                    query.replace_range(place..=place, byte);
                    assert!(verdict("/", Some(&query)).is_err(), "{query:?}");
                }
            }
        }
    }
}
