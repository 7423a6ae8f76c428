//! Defeats desync: a head that two HTTP parsers could take in two ways is refused before anything reads it.

use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, Version, header};

use super::plain::Plain;
use super::refusal::Refusal;
use crate::dialect::Fields;
use crate::lanes;

/// Where a request is addressed, byte for byte as received.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'r> {
    pub(super) host: &'r str,
    pub(super) path: &'r str,
    pub(super) query: Option<&'r str>,
}

/// The target of a request whose head keeps every rule of the wire.
///
/// What hyper hides is not judged here: a `Content-Length` beside `Transfer-Encoding` is dropped by it and the
/// connection closed after the answer; a `#fragment` is cut off and seen by nobody.
pub(super) fn target(parts: &Parts, most_fields: usize) -> Result<Target<'_>, Refusal> {
    if !matches!(parts.version, Version::HTTP_11 | Version::HTTP_2) {
        let status = StatusCode::HTTP_VERSION_NOT_SUPPORTED;
        return Err(Refusal::Broken(status, "only HTTP/1.1 and HTTP/2 are spoken here"));
    }
    if matches!(parts.method, Method::CONNECT | Method::TRACE) {
        let status = StatusCode::METHOD_NOT_ALLOWED;
        return Err(Refusal::Broken(status, "neither CONNECT nor TRACE is served"));
    }
    few(parts.headers.len(), most_fields)?;
    framing(&parts.headers)?;
    let host = if parts.version == Version::HTTP_2 { h2_host(parts) } else { h1_host(parts) }?;
    named(host)?;
    if !parts.uri.path().starts_with('/') {
        return Err(bad("the target must be a path"));
    }
    Ok(Target { host, path: parts.uri.path(), query: parts.uri.query() })
}

/// The target of a request that we have read ourselves: its version, method, framing and target keep the rules.
pub(super) fn plain(request: &Plain, most_fields: usize) -> Result<Target<'_>, Refusal> {
    few(request.fields().len(), most_fields)?;
    let host = named_host(request.fields())?.ok_or(NO_HOST)?;
    named(host)?;
    let (path, query) = request.target();
    Ok(Target { host, path, query })
}

fn few(fields: usize, most_fields: usize) -> Result<(), Refusal> {
    if fields > most_fields {
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        return Err(Refusal::Broken(status, "too many header fields"));
    }
    Ok(())
}

/// Holds when a host is a name or an address, with or without a port.
fn named(host: &str) -> Result<(), Refusal> {
    if host.is_empty() || lanes::any(host.as_bytes(), is_odd) {
        return Err(bad("the host is no host name or address"));
    }
    Ok(())
}

/// Whether a byte stands in no host: it is neither letter nor digit, nor one of `-._:[]`. Without a branch or a table,
/// so that many are looked at at once.
fn is_odd(byte: u8) -> bool {
    let fits = u8::from((byte | 0x20).wrapping_sub(b'a') <= b'z' - b'a')
        | u8::from(byte.wrapping_sub(b'0') <= b':' - b'0')
        | u8::from(byte.wrapping_sub(b'-') <= b'.' - b'-')
        | u8::from(byte == b'_')
        | u8::from(byte == b'[')
        | u8::from(byte == b']');
    fits == 0
}

const NO_HOST: Refusal = bad("a Host header is missing");

fn framing(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next()
        && (codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked"))
    {
        return Err(bad("the only transfer coding is a single `chunked`"));
    }
    let expects = headers.get_all(header::EXPECT).iter();
    for expected in expects {
        if !expected.as_bytes().eq_ignore_ascii_case(b"100-continue") {
            let status = StatusCode::EXPECTATION_FAILED;
            return Err(Refusal::Broken(status, "the only expectation is 100-continue"));
        }
    }
    Ok(())
}

fn h1_host(parts: &Parts) -> Result<&str, Refusal> {
    // A proxy in front may judge the URI's authority while a backend judges `Host`: an API needs only paths.
    if parts.uri.scheme().is_some() || parts.uri.authority().is_some() {
        return Err(bad("the target must be a path"));
    }
    named_host((&parts.headers).into())?.ok_or(NO_HOST)
}

fn h2_host(parts: &Parts) -> Result<&str, Refusal> {
    let named = named_host((&parts.headers).into())?;
    match (parts.uri.authority(), named) {
        (None, None) => Err(bad("an :authority is missing")),
        (None, Some(host)) => Ok(host),
        (Some(authority), None) => Ok(authority.as_str()),
        (Some(authority), Some(host)) if authority.as_str().eq_ignore_ascii_case(host) => Ok(host),
        (Some(_), Some(_)) => Err(bad(":authority and Host differ")),
    }
}

fn named_host(headers: Fields<'_>) -> Result<Option<&str>, Refusal> {
    let mut hosts = headers.get_all(&header::HOST);
    let Some(host) = hosts.next() else { return Ok(None) };
    if hosts.next().is_some() {
        return Err(bad("more than one Host header"));
    }
    host.to_str().map(Some).ok_or(bad("the host is no host name or address"))
}

const fn bad(text: &'static str) -> Refusal {
    Refusal::Broken(StatusCode::BAD_REQUEST, text)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn status(build: impl FnOnce(http::request::Builder) -> http::request::Builder) -> u16 {
        let (parts, ()) = build(Request::builder()).body(()).unwrap().into_parts();
        match target(&parts, 4) {
            Ok(_) => 200,
            Err(Refusal::Broken(status, _)) => status.as_u16(),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_host_is_made_of_letters_digits_and_six_marks() {
        for byte in 0..=u8::MAX {
            let fits = byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
            assert_eq!(!is_odd(byte), fits, "{byte}");
        }
    }

    #[test]
    fn http_1_1_needs_one_host_and_a_path() {
        assert_eq!(status(|r| r.uri("/a?b").header("host", "api.example:8080")), 200);
        assert_eq!(status(|r| r.uri("/").header("host", "[2001:db8::1]:80")), 200);
        assert_eq!(status(|r| r.uri("/")), 400);
        assert_eq!(status(|r| r.uri("/").header("host", "")), 400);
        assert_eq!(status(|r| r.uri("/").header("host", "a b")), 400);
        assert_eq!(status(|r| r.uri("/").header("host", "u@a")), 400);
        assert_eq!(status(|r| r.uri("/").header("host", "a").header("host", "a")), 400);
        assert_eq!(status(|r| r.uri("http://a/").header("host", "a")), 400);
        assert_eq!(status(|r| r.method("OPTIONS").uri("*").header("host", "a")), 400);
        assert_eq!(status(|r| r.uri("a:80").header("host", "a")), 400);
    }

    #[test]
    fn http_2_takes_the_host_from_its_authority_and_both_must_agree() {
        let h2 = |r: http::request::Builder| r.version(Version::HTTP_2);
        assert_eq!(status(|r| h2(r).uri("https://a/")), 200);
        assert_eq!(status(|r| h2(r).uri("https://a/").header("host", "A")), 200);
        assert_eq!(status(|r| h2(r).uri("https://a/").header("host", "b")), 400);
        assert_eq!(status(|r| h2(r).uri("https://u@a/")), 400);
        assert_eq!(status(|r| h2(r).uri("/").header("host", "a")), 200);
        assert_eq!(status(|r| h2(r).uri("/")), 400);
    }

    #[test]
    fn versions_methods_codings_and_expectations_that_are_not_served_are_refused() {
        let with = |name: &'static str, value: &'static str| {
            status(|r| r.uri("/").header("host", "a").header(name, value))
        };
        assert_eq!(with("transfer-encoding", "Chunked"), 200);
        for coding in ["gzip, chunked", "chunked, chunked", "x", "", "chunked,"] {
            assert_eq!(with("transfer-encoding", coding), 400, "{coding}");
        }
        assert_eq!(with("expect", "100-Continue"), 200);
        assert_eq!(with("expect", "200-ok"), 417);
        let host = |r: http::request::Builder| r.uri("/").header("host", "a");
        assert_eq!(status(|r| host(r).version(Version::HTTP_10)), 505);
        assert_eq!(status(|r| host(r).method("CONNECT")), 405);
        assert_eq!(status(|r| host(r).method("TRACE")), 405);
    }

    #[test]
    fn the_number_of_fields_has_an_edge() {
        let fields = |extra: usize| {
            status(|r| (0..extra).fold(r.uri("/").header("host", "a"), |r, _| r.header("x", "y")))
        };
        assert_eq!((fields(3), fields(4)), (200, 431));
    }
}
