//! Defeats ambiguity: what two parsers could read differently is refused, never normalised.

use http::Method;

use crate::denial::Denial;
use crate::dialect::{Inbound, hex_digit};

/// The longest target, in bytes.
const LONGEST_TARGET: usize = 8_192;

/// Holds when path, query, host and header names can be read in one way only.
pub(crate) fn check(request: &Inbound<'_>, body_cap: usize) -> Result<(), Denial> {
    let text = request.query.unwrap_or_default();
    if request.path.len() + text.len() > LONGEST_TARGET || request.body.len() > body_cap {
        return Err(Denial::TooLarge);
    }
    path(request.path.as_bytes())?;
    query(text.as_bytes())?;
    if request.host.is_empty() {
        return Err(Denial::Malformed("no host"));
    }
    // Some backends read `x_y` as `x-y`, so that one name could pass for another.
    if request.headers.iter().any(|(name, _)| holds_underscore(name.as_str().as_bytes())) {
        return Err(Denial::Malformed("an underscore in a header name"));
    }
    Ok(())
}

/// Holds when what nobody signed has no body where one has no meaning: many backends leave the body of a GET unread, and
/// take it for the next request on their connection.
pub(crate) fn check_unsigned(request: &Inbound<'_>) -> Result<(), Denial> {
    let is_bodiless = matches!(*request.method, Method::GET | Method::HEAD | Method::OPTIONS);
    if is_bodiless && !request.body.is_empty() {
        return Err(Denial::Malformed("a body on a GET, HEAD or OPTIONS"));
    }
    Ok(())
}

/// Holds when a request for this target could pass.
#[cfg(feature = "server")]
pub(crate) fn target(path_text: &str, query_text: &str) -> Result<(), Denial> {
    path(path_text.as_bytes())?;
    query(query_text.as_bytes())
}

fn path(path: &[u8]) -> Result<(), Denial> {
    if path.first() != Some(&b'/') {
        return Err(Denial::Malformed("a target that is no path"));
    }
    let (mut found, mut twice, mut before) = (0, 0, 0);
    for byte in path {
        let kind = KINDS.get(usize::from(*byte)).copied().unwrap_or(OUTSIDE);
        found |= kind;
        twice |= kind & before;
        before = kind;
    }
    printable(path, found & OUTSIDE != 0, found & HASH != 0, found & ESCAPE != 0)?;
    if found & SEPARATOR != 0 {
        return Err(Denial::Malformed("`\\` or `;` in the path"));
    }
    if twice & SLASH != 0 {
        return Err(Denial::Malformed("an empty path segment"));
    }
    // Neither dots nor escapes can spell a dot segment or a separator if there are none.
    if found & (ESCAPE | DOT) == 0 {
        return Ok(());
    }
    if path.split(|byte| *byte == b'/').any(is_dots) {
        return Err(Denial::Malformed("a dot segment in the path"));
    }
    let mut is_ascii = true;
    for place in memchr::memchr_iter(b'%', path) {
        let decoded = decoded(path.get(place + 1..place + 3).unwrap_or_default());
        // A backend that decodes `/withdra%77` would serve a route that another rule guards.
        if decoded.is_some_and(|byte| byte.is_ascii() && byte != b' ') {
            return Err(Denial::Malformed(
                "an encoded byte in the path that stands for itself, separates or controls",
            ));
        }
        is_ascii &= decoded.is_some_and(|byte| byte.is_ascii());
    }
    // Who decodes UTF-8 loosely takes `%C0%AF` for a `/`.
    if !is_ascii && !is_text(path) {
        return Err(Denial::Malformed("encoded bytes in the path that are no UTF-8"));
    }
    Ok(())
}

fn is_text(path: &[u8]) -> bool {
    let decoded: Vec<u8> = crate::dialect::percent_decoded(path).collect();
    std::str::from_utf8(&decoded).is_ok()
}

/// `.` and `..`, however spelled.
fn is_dots(segment: &[u8]) -> bool {
    !segment.is_empty()
        && segment.len() <= 6
        && crate::dialect::percent_decoded(segment).all(|byte| byte == b'.')
        && crate::dialect::percent_decoded(segment).count() <= 2
}

/// Queries are long: no early exit, and flags for each of sixteen lanes, so that the compiler looks at as many bytes at
/// once.
fn query(query: &[u8]) -> Result<(), Denial> {
    let [mut outside, mut hash, mut escape] = [[0; 16]; 3];
    let mut note = |chunk: &[u8; 16]| {
        for (lane, byte) in chunk.iter().enumerate() {
            let set = |lanes: &mut [u8; 16], holds: bool| {
                if let Some(flag) = lanes.get_mut(lane) {
                    *flag |= u8::from(holds);
                }
            };
            set(&mut outside, byte.wrapping_sub(0x21) > 0x7e - 0x21);
            set(&mut hash, *byte == b'#');
            set(&mut escape, *byte == b'%');
        }
    };
    query.as_chunks().0.iter().for_each(&mut note);
    // The last chunk overlaps the one before it; what is shorter than one is filled up.
    if let Some(last) = query.last_chunk() {
        note(last);
    } else {
        let mut filled = [b'x'; 16];
        filled.iter_mut().zip(query).for_each(|(to, from)| *to = *from);
        note(&filled);
    }
    let any = |lanes| u128::from_ne_bytes(lanes) != 0;
    printable(query, any(outside), any(hash), any(escape))
}

/// Only 0x21 to 0x7e, no `#`, and each `%` with two digits.
fn printable(text: &[u8], outside: bool, hash: bool, escape: bool) -> Result<(), Denial> {
    if outside {
        return Err(Denial::Malformed("a byte outside 0x21 to 0x7e in the target"));
    }
    if hash {
        return Err(Denial::Malformed("a fragment in the target"));
    }
    if escape {
        // A signature may be among them: the same steps whatever the digits are.
        let is_whole = |place: usize| match text.get(place + 1..place + 3) {
            Some([high, low]) => high.is_ascii_hexdigit() & low.is_ascii_hexdigit(),
            Some(_) | None => false,
        };
        let all = memchr::memchr_iter(b'%', text).fold(true, |all, place| all & is_whole(place));
        if !all {
            return Err(Denial::Malformed("a `%` without two hexadecimal digits"));
        }
    }
    Ok(())
}

const OUTSIDE: u8 = 1;
const HASH: u8 = 2;
const ESCAPE: u8 = 4;
const SEPARATOR: u8 = 8;
const DOT: u8 = 16;
const SLASH: u8 = 32;

const KINDS: [u8; 256] = kinds();

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const fn kinds() -> [u8; 256] {
    let mut kinds = [OUTSIDE; 256];
    let mut byte = 0x21;
    while byte <= 0x7e {
        kinds[byte] = 0;
        byte += 1;
    }
    kinds[b'#' as usize] = HASH;
    kinds[b'%' as usize] = ESCAPE;
    kinds[b'\\' as usize] = SEPARATOR;
    kinds[b';' as usize] = SEPARATOR;
    kinds[b'.' as usize] = DOT;
    kinds[b'/' as usize] = SLASH;
    kinds
}

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
    use crate::dialect::Fields;

    fn verdict(path: &str, query: Option<&str>) -> Result<(), Denial> {
        let headers = Fields::default();
        let peer = std::net::Ipv4Addr::LOCALHOST.into();
        let method = &Method::GET;
        check(&Inbound { method, path, query, host: "h", headers, body: b"", peer }, 10)
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
    fn encoded_bytes_of_a_path_are_utf_8_in_its_shortest_form() {
        for path in ["/%c3%a9", "/%E2%82%AC/b", "/%f0%9f%92%b0%20"] {
            assert_eq!(verdict(path, Some("a=%c0%af")), Ok(()), "{path}");
        }
        for path in ["/%c0%af", "/%C0%AE%c0%ae/a", "/%e0%80%af", "/%ff", "/%c3", "/%c3/%a9"] {
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
                let (method, path, headers) = (&Method::GET, "/", (&headers).into());
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
