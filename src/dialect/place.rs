//! Where a credential travels, and how to find exactly one of it.

use std::fmt;
use std::ops::Range;

use http::{HeaderName, HeaderValue};

use super::Inbound;
use crate::denial::{Credential, Denial};

/// Where a recipe says that a credential travels.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Place {
    /// In a header field.
    Header(HeaderName),
    /// In a parameter of the query or of the form body.
    Param(Box<str>),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header {name}"),
            Self::Param(name) => write!(f, "param {name}"),
        }
    }
}

impl Place {
    /// Reads `header NAME` or `param NAME`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (kind, name) = text.split_once(' ').unwrap_or((text, ""));
        match kind {
            "header" => HeaderName::from_bytes(name.to_ascii_lowercase().as_bytes())
                .map(Self::Header)
                .map_err(|_| format!("`{name}` is no header name")),
            "param" if is_plain(name) => Ok(Self::Param(name.into())),
            "param" => Err(format!("`{name}` is no parameter name of letters, digits, - and _")),
            _ => Err(format!("`{text}` is no place: write `header NAME` or `param NAME`")),
        }
    }

    /// The header's single value.
    pub(super) fn in_headers<'r>(
        &self,
        request: &Inbound<'r>,
        credential: Credential,
    ) -> Result<Option<&'r str>, Denial> {
        let [sent] = headers([Some(self)], request);
        sent.single(credential)
    }
}

/// What the headers hold under one name.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sent<'r> {
    Never,
    Once(&'r HeaderValue),
    Twice,
}

impl<'r> Sent<'r> {
    /// The single value, if there is one.
    pub(super) fn single(self, credential: Credential) -> Result<Option<&'r str>, Denial> {
        match self {
            Self::Never => Ok(None),
            Self::Once(value) => value.to_str().map(Some).map_err(|_| Denial::Garbled(credential)),
            Self::Twice => Err(Denial::Twice(credential)),
        }
    }
}

/// What stands in the headers of `places`, in one pass: a look-up by hash costs more for each than all of this.
pub(super) fn headers<'r, const N: usize>(
    places: [Option<&Place>; N],
    request: &Inbound<'r>,
) -> [Sent<'r>; N] {
    let wanted = places.map(|place| match place {
        Some(Place::Header(name)) => name.as_str(),
        Some(Place::Param(_)) | None => "",
    });
    let mut sent = [Sent::Never; N];
    for (name, value) in request.headers {
        let name = name.as_str();
        for (wanted, sent) in wanted.iter().zip(&mut sent) {
            if name == *wanted {
                *sent = match sent {
                    Sent::Never => Sent::Once(value),
                    Sent::Once(_) | Sent::Twice => Sent::Twice,
                };
            }
        }
    }
    sent
}

/// Which part of a request a parameter stands in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Side {
    Query,
    Body,
}

/// A parameter that was found: its value, and the range of its whole pair in its side.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Found<'r> {
    pub(crate) value: &'r str,
    pub(crate) side: Side,
    pub(crate) pair: Range<usize>,
}

/// Finds the named parameters in one pass over query and form body; each may occur once in all.
///
/// A name spelled with `%XX` counts as the name it decodes to, since a backend would read it so.
pub(super) fn find<'r, const N: usize>(
    names: [Option<(&str, Credential)>; N],
    query: &'r str,
    body: &'r str,
) -> Result<[Option<Found<'r>>; N], Denial> {
    let mut found = [const { None }; N];
    for (side, text) in [(Side::Query, query), (Side::Body, body)] {
        let escaped = memchr::memchr(b'%', text.as_bytes()).is_some();
        for (range, pair) in split(text) {
            let place = names.iter().position(|wanted| {
                wanted.is_some_and(|(wanted, _)| {
                    is_named(pair, wanted) || escaped && decodes_to(name_of(pair), wanted)
                })
            });
            let Some(slot) = place.and_then(|place| found.get_mut(place)) else { continue };
            let (_, value) = parted(pair);
            if slot.replace(Found { value, side, pair: range }).is_some() {
                let credential = place.and_then(|at| names.get(at).copied().flatten());
                return Err(Denial::Twice(credential.map_or(Credential::Key, |(_, c)| c)));
            }
        }
    }
    Ok(found)
}

/// Whether `pair` is `name=…`, or the name alone.
fn is_named(pair: &str, name: &str) -> bool {
    let (pair, name) = (pair.as_bytes(), name.as_bytes());
    match pair.get(name.len()) {
        None => pair == name,
        Some(b'=') => pair.starts_with(name),
        Some(_) => false,
    }
}

/// A pair's name and its value; the value is empty without a `=`.
fn parted(pair: &str) -> (&str, &str) {
    let end = memchr::memchr(b'=', pair.as_bytes()).unwrap_or(pair.len());
    let value = pair.get(end + 1..).unwrap_or_default();
    (pair.get(..end).unwrap_or_default(), value)
}

fn name_of(pair: &str) -> &str {
    parted(pair).0
}

/// The pairs of a query or form, each with its range.
fn split(text: &str) -> impl Iterator<Item = (Range<usize>, &str)> {
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
fn decodes_to(name: &str, wanted: &str) -> bool {
    if !name.contains('%') {
        return false;
    }
    let mut decoded = super::reading::percent_decoded(name.as_bytes());
    wanted.bytes().all(|byte| decoded.next() == Some(byte)) && decoded.next().is_none()
}

fn is_plain(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    !name.is_empty() && name.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNATURE: [Option<(&str, Credential)>; 1] = [Some(("signature", Credential::Signature))];

    #[test]
    fn a_parameter_is_found_wherever_it_stands() {
        for (query, pair) in [
            ("signature=ab&b=2", 0..12),
            ("a=1&signature=ab", 4..16),
            ("a=1&signature=ab&b=2", 4..16),
        ] {
            let [found] = find(SIGNATURE, query, "").unwrap();
            assert_eq!(found, Some(Found { value: "ab", side: Side::Query, pair }), "{query}");
        }
        let [found] = find(SIGNATURE, "", "a=1&signature=ab").unwrap();
        assert_eq!(found.unwrap().side, Side::Body);
    }

    #[test]
    fn a_parameter_given_twice_is_refused_however_it_is_spelled() {
        for (query, body) in [
            ("signature=a&signature=a", ""),
            ("signature=a", "signature=a"),
            ("signature=a&%73ignature=b", ""),
            ("signature=a&signatur%65", ""),
        ] {
            let twice = Err(Denial::Twice(Credential::Signature));
            assert_eq!(find(SIGNATURE, query, body), twice, "{query} {body}");
        }
        assert_eq!(find(SIGNATURE, "Signature=a&xsignature=b", ""), Ok([None]));
    }
}
