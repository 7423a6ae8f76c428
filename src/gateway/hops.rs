//! Which header fields end at this hop: they speak of one connection, never of the message.

use http::header::{
    CONNECTION, HeaderMap, HeaderName, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};

/// Whether `name` belongs to one connection, by its name alone (RFC 9110, 7.6.1).
pub(super) fn ends_here(name: &HeaderName) -> bool {
    FIELDS.contains(name)
}

/// Whether the `Connection` field of `headers` lists `name`.
pub(super) fn listed(headers: &HeaderMap, name: &HeaderName) -> bool {
    headers.get_all(CONNECTION).iter().any(|value| {
        value
            .as_bytes()
            .split(|byte| *byte == b',')
            .any(|token| token.trim_ascii().eq_ignore_ascii_case(name.as_str().as_bytes()))
    })
}

/// Whether a `Connection` field lists anything at all: mostly none does, and nothing need be looked up.
pub(super) fn lists(headers: &HeaderMap) -> bool {
    headers.contains_key(CONNECTION)
}

/// Whether `name` is one of those that only this gateway writes.
pub(super) fn is_ours(name: &HeaderName) -> bool {
    name.as_str().starts_with("countersign-")
}

/// A `static`: a constant with a destructor would be built and dropped at each use.
static FIELDS: [HeaderName; 9] = [
    CONNECTION,
    TRANSFER_ENCODING,
    TE,
    TRAILER,
    UPGRADE,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_listed_name_is_found_in_any_case_and_any_connection_field() {
        let mut headers = HeaderMap::new();
        headers.append(CONNECTION, HeaderValue::from_static("keep-alive ,X-Odd"));
        headers.append(CONNECTION, HeaderValue::from_static("\tx-late"));
        for (name, found) in [("x-odd", true), ("x-late", true), ("x-od", false), ("x-odd2", false)]
        {
            assert_eq!(listed(&headers, &HeaderName::from_static(name)), found, "{name}");
        }
    }
}
