//! Which header fields end at this hop: they speak of one connection, never of the message.

use http::StatusCode;
use http::header::{
    CONNECTION, HeaderName, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};

use super::refusal::Refusal;
use crate::dialect::Fields;

/// Whether `name` belongs to one connection, by its name alone (RFC 9110, 7.6.1).
pub(super) fn ends_here(name: &HeaderName) -> bool {
    FIELDS.contains(name)
}

/// Refuses a `Connection` field that takes long to read, or that would take away, unsigned as it is, what may be signed.
pub(super) fn check(headers: Fields<'_>, is_public: bool) -> Result<(), Refusal> {
    let options =
        headers.get_all(&CONNECTION).flat_map(|list| list.as_bytes().split(|byte| *byte == b','));
    for (place, option) in options.enumerate() {
        if place >= MOST_OPTIONS {
            return Err(bad("`Connection` has too many options"));
        }
        let named = HeaderName::from_bytes(option.trim_ascii());
        let is_message = |name: &HeaderName| !ends_here(name) && headers.contains(name);
        if !is_public && named.is_ok_and(|name| is_message(&name)) {
            return Err(bad(
                "`Connection` lists a field of the message, which may be signed: leave it out",
            ));
        }
    }
    Ok(())
}

const fn bad(why: &'static str) -> Refusal {
    Refusal::Broken(StatusCode::BAD_REQUEST, why)
}

/// More than anybody has a use for.
const MOST_OPTIONS: usize = 16;

/// Whether the `Connection` field of `headers` lists `name`.
pub(super) fn listed(headers: Fields<'_>, name: &HeaderName) -> bool {
    headers.get_all(&CONNECTION).any(|value| {
        value
            .as_bytes()
            .split(|byte| *byte == b',')
            .any(|token| token.trim_ascii().eq_ignore_ascii_case(name.as_str().as_bytes()))
    })
}

/// What a field of a reply is about, by its name in any case.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// The message: it is passed on.
    Message,
    /// `Content-Length`.
    Length,
    /// `Transfer-Encoding`.
    Coding,
    /// `Connection`.
    Connection,
    /// Another field that ends at this hop.
    Hop,
    /// Only this gateway writes it.
    Ours,
}

/// The kind of the field called `name`. Lengths first: nearly every name is told by its length alone.
pub(super) fn kind(name: &[u8]) -> Kind {
    let is = |text: &str| name.eq_ignore_ascii_case(text.as_bytes());
    match name.len() {
        2 if is("te") => Kind::Hop,
        7 if is("trailer") || is("upgrade") => Kind::Hop,
        10 if is("connection") => Kind::Connection,
        10 if is("keep-alive") => Kind::Hop,
        14 if is("content-length") => Kind::Length,
        14 if is("http2-settings") => Kind::Hop,
        16 if is("proxy-connection") => Kind::Hop,
        17 if is("transfer-encoding") => Kind::Coding,
        18 if is("proxy-authenticate") => Kind::Hop,
        19 if is("proxy-authorization") => Kind::Hop,
        _ if begins(name, OURS) || begins(name, TOLD) => Kind::Ours,
        _ => Kind::Message,
    }
}

fn begins(name: &[u8], start: &[u8]) -> bool {
    name.get(..start.len()).is_some_and(|text| text.eq_ignore_ascii_case(start))
}

/// To backends.
const OURS: &[u8] = b"countersign-";
/// To clients.
const TOLD: &[u8] = b"x-countersign-";

/// Whether a `Connection` field lists anything at all: mostly none does, and nothing need be looked up.
pub(super) fn lists(headers: Fields<'_>) -> bool {
    headers.contains(&CONNECTION)
}

/// Whether `name` is one of those that only this gateway writes.
pub(super) fn is_ours(name: &HeaderName) -> bool {
    name.as_str().starts_with("countersign-")
}

/// A `static`: a constant with a destructor would be built and dropped at each use.
static FIELDS: [HeaderName; 10] = [
    CONNECTION,
    TRANSFER_ENCODING,
    TE,
    TRAILER,
    UPGRADE,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    HeaderName::from_static("http2-settings"),
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::*;

    #[test]
    fn the_kind_of_a_name_is_what_it_is_elsewhere() {
        for name in &FIELDS {
            let upper = name.as_str().to_uppercase();
            assert!(!matches!(kind(upper.as_bytes()), Kind::Message | Kind::Length), "{name}");
        }
        for (name, found) in [
            ("Content-Length", Kind::Length),
            ("TRANSFER-ENCODING", Kind::Coding),
            ("connection", Kind::Connection),
            ("Countersign-", Kind::Ours),
            ("countersign-x", Kind::Ours),
            ("X-Countersign-Judged", Kind::Ours),
            ("x-countersign", Kind::Message),
            ("countersign", Kind::Message),
            ("date", Kind::Message),
            ("set-cookie", Kind::Message),
        ] {
            assert_eq!(kind(name.as_bytes()), found, "{name}");
        }
    }

    #[test]
    fn a_listed_name_is_found_in_any_case_and_any_connection_field() {
        let mut headers = HeaderMap::new();
        headers.append(CONNECTION, HeaderValue::from_static("keep-alive ,X-Odd"));
        headers.append(CONNECTION, HeaderValue::from_static("\tx-late"));
        for (name, found) in [("x-odd", true), ("x-late", true), ("x-od", false), ("x-odd2", false)]
        {
            assert_eq!(listed((&headers).into(), &HeaderName::from_static(name)), found, "{name}");
        }
    }
}
