//! The pairs of a query or form, as they stand there.

use std::ops::Range;

use super::reading::percent_decoded;
use crate::denial::Denial;

/// Which part of a request a parameter stands in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Side {
    Query,
    Body,
}

/// A parameter: which part of the request it stands in, where there, and its value.
pub(crate) type Found<'r> = (Side, Range<usize>, &'r str);

/// The parameter called `name`, which may stand in the query or in a form, once and spelled plainly.
pub(crate) fn parameter<'r>(
    query: &'r str,
    form: &'r str,
    name: &str,
) -> Result<Option<Found<'r>>, Denial> {
    let mut found = None;
    for (side, text) in [(Side::Query, query), (Side::Body, form)] {
        for (range, pair) in split(text) {
            if decodes_to(name_of(pair), name) {
                return Err(Denial::Malformed("a one-time code's name is spelled with %"));
            }
            if is_named(pair, name) && found.replace((side, range, parted(pair).1)).is_some() {
                return Err(Denial::Malformed("a one-time code stands twice"));
            }
        }
    }
    Ok(found)
}

/// Whether `pair` is `name=…`, or the name alone.
pub(super) fn is_named(pair: &str, name: &str) -> bool {
    let (pair, name) = (pair.as_bytes(), name.as_bytes());
    match pair.get(name.len()) {
        None => pair == name,
        Some(b'=') => pair.starts_with(name),
        Some(_) => false,
    }
}

/// A pair's name and its value; the value is empty without a `=`.
pub(super) fn parted(pair: &str) -> (&str, &str) {
    let end = memchr::memchr(b'=', pair.as_bytes()).unwrap_or(pair.len());
    let value = pair.get(end + 1..).unwrap_or_default();
    (pair.get(..end).unwrap_or_default(), value)
}

pub(super) fn name_of(pair: &str) -> &str {
    parted(pair).0
}

/// The pairs of a query or form, each with its range.
pub(super) fn split(text: &str) -> impl Iterator<Item = (Range<usize>, &str)> {
    let mut start = 0;
    let mut ends = memchr::memchr_iter(b'&', text.as_bytes());
    let mut done = text.is_empty();
    std::iter::from_fn(move || {
        if done {
            return None;
        }
        let end = ends.next().unwrap_or_else(|| {
            done = true;
            text.len()
        });
        let range = start..end;
        start = end + 1;
        Some((range.clone(), text.get(range).unwrap_or_default()))
    })
}

/// The pairs of a query or form, each with its name and its value (empty without a `=`).
pub(crate) fn pairs(text: &str) -> impl Iterator<Item = (&str, &str)> {
    split(text).map(|(_, pair)| parted(pair))
}

/// Whether `name` spells `wanted` with percent signs.
pub(super) fn decodes_to(name: &str, wanted: &str) -> bool {
    if !name.contains('%') {
        return false;
    }
    let mut decoded = percent_decoded(name.as_bytes());
    wanted.bytes().all(|byte| decoded.next() == Some(byte)) && decoded.next().is_none()
}

/// Whether some backend takes `name` for `wanted`, or for a part of it, though it is spelled in another way: escaped, in
/// another case (Go's also makes a `k` of U+212A and an `s` of U+017F), among spaces, as an element, or up to a NUL or with
/// a `.` for a `_` (PHP).
pub(crate) fn spells(name: &str, wanted: &str) -> bool {
    let mut decoded = percent_decoded(name.as_bytes()).skip_while(|byte| is_space(*byte));
    wanted.bytes().all(|byte| takes(&mut decoded, byte))
        && match decoded.next() {
            None | Some(b'[' | b'.' | 0) => true,
            Some(byte) if is_space(byte) => {
                decoded.find(|byte| !is_space(*byte)).is_none_or(|byte| byte == 0)
            }
            Some(_) => false,
        }
}

/// Whether what comes next is taken for `wanted`.
fn takes(decoded: &mut impl Iterator<Item = u8>, wanted: u8) -> bool {
    match decoded.next() {
        Some(byte) if byte.eq_ignore_ascii_case(&wanted) => true,
        Some(byte) if wanted == b'_' => byte == b'.' || is_space(byte),
        // U+017F and U+212A.
        Some(0xc5) => wanted.eq_ignore_ascii_case(&b's') && decoded.next() == Some(0xbf),
        Some(0xe2) => {
            let is_kelvin = [0x84, 0xaa].into_iter().all(|byte| decoded.next() == Some(byte));
            wanted.eq_ignore_ascii_case(&b'k') && is_kelvin
        }
        Some(_) | None => false,
    }
}

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'+' | b'\t'..=b'\r')
}

/// The pairs that a backend finds which takes a `;` for a `&`, but those that everybody finds.
pub(super) fn hidden(text: &str) -> impl Iterator<Item = &str> {
    let pairs = memchr::memchr(b';', text.as_bytes()).map(|_| split(text));
    pairs.into_iter().flatten().flat_map(|(_, pair)| pair.split(';').skip(1))
}
