//! Which requests we read ourselves: those of HTTP/1.1 whose head says nothing but the usual.
//!
//! A head is taken when it has come as a whole, its method is one of six, its target a path of unsuspicious bytes,
//! its length told once and in digits, and its connection to be kept or closed. Whatever else there is in HTTP/1
//! (chunks, expectations, upgrades, other versions, absolute targets) is hyper's to read. Both read heads with the same
//! parser, so what is taken here means the same there, and what is no head here is none there. What hyper would refuse
//! is refused here all the same: hyper would do it without a word, and without an id to ask about.

use std::fmt;
use std::mem::MaybeUninit;

use arrayvec::ArrayVec;
use bytes::Bytes;
use http::{Method, StatusCode, Uri};

use super::connection::HYPER_FIELDS;
use super::exit::Path;
use super::names::Names;
use super::refusal::Refusal;
use super::reply_head::{decimal, place};
use crate::config::Server;
use crate::dialect::{Field, Fields};
use crate::lanes;

/// A request whose head has come. It is memory too, which the next request is read into.
#[derive(Default)]
pub(super) struct Plain {
    pub(super) method: Method,
    /// The length of its body.
    pub(super) length: usize,
    /// Whether the client wants to close the connection after the answer.
    pub(super) closes: bool,
    text: Bytes,
    target: (usize, usize),
    mark: Option<usize>,
    fields: Vec<Field>,
    names: Names,
}

/// What bytes begin with.
pub(super) enum Beginning {
    /// A head that has not come as a whole: the bytes once more.
    Partial(Bytes),
    /// A head that we read; the bytes behind it are these.
    Plain(Bytes),
    /// A head that we do not read: the bytes once more.
    Other(Bytes),
    /// What is no head, or too long for one.
    Refused(Refusal),
}

impl Plain {
    /// Path and query.
    pub(super) fn target(&self) -> (&str, Option<&str>) {
        let whole = self.text.get(self.target.0..self.target.1);
        // It holds ASCII alone.
        let whole = whole.and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default();
        let parted = self.mark.and_then(|mark| whole.split_at_checked(mark - self.target.0));
        match parted {
            Some((path, query)) => (path, query.get(1..)),
            None => (whole, None),
        }
    }

    /// Its header fields.
    pub(super) fn fields(&self) -> Fields<'_> {
        Fields::listed(&self.fields, &self.text)
    }

    /// The path, kept beyond the request: where it is long without a copy.
    pub(super) fn kept_path(&self) -> Path {
        let place = self.target.0..self.mark.unwrap_or(self.target.1);
        let path = self.text.get(place.clone()).unwrap_or_default();
        ArrayVec::try_from(path).map_or_else(|_| Path::Plain(self.text.slice(place)), Path::Short)
    }

    /// Forgets the request, and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.fields.clear();
        self.text = Bytes::new();
    }
}

/// The path alone: the rest may hold credentials.
impl fmt::Debug for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Plain({} {:?})", self.method, self.target().0)
    }
}

/// Reads the head that `bytes` begin with into `plain`, which is clear, and is to be cleared where it is no such head.
///
/// One of more bytes than `bounds` allow is refused.
pub(super) fn read(bytes: Bytes, bounds: &Server, plain: &mut Plain) -> Beginning {
    let most = bounds.head_bytes;
    // Empty lines before a request are allowed, and odd; so is the preface of HTTP/2 where nobody agreed on it.
    if bytes.starts_with(b"\r") || bytes.starts_with(b"\n") || bytes.starts_with(b"PRI ") {
        return Beginning::Other(bytes);
    }
    // Left as it is found: to clear room for so many would cost more than to read the few that come.
    let mut fields = [const { MaybeUninit::uninit() }; MOST_FIELDS];
    let mut request = httparse::Request::new(&mut []);
    let length = match request.parse_with_uninit_headers(&bytes, &mut fields) {
        Ok(httparse::Status::Complete(length)) if length <= most => length,
        Ok(httparse::Status::Partial) if bytes.len() <= most => return Beginning::Partial(bytes),
        Ok(_) => return Beginning::Refused(TOO_LONG),
        // hyper takes some more.
        Err(httparse::Error::TooManyHeaders) if lines(&bytes) <= most_lines(bounds) => {
            return Beginning::Other(bytes);
        }
        Err(httparse::Error::TooManyHeaders) => return Beginning::Refused(TOO_MANY),
        Err(_) => return Beginning::Refused(NO_HEAD),
    };
    if understand(&request, &bytes, plain).is_none() {
        if let Some(refusal) = misframed(&request) {
            return Beginning::Refused(refusal);
        }
        // hyper asks the same of a target.
        let target = request.path.filter(|target| target.len() <= LONGEST_TARGET);
        let is_none = target.is_some_and(|target| Uri::try_from(target).is_err());
        return if is_none { Beginning::Refused(NO_HEAD) } else { Beginning::Other(bytes) };
    }
    // Mostly there is none, and nothing need be counted.
    let rest = if length < bytes.len() { bytes.slice(length..) } else { Bytes::new() };
    plain.text = bytes;
    Beginning::Plain(rest)
}

/// How many lines a head has, as far as it has come.
fn lines(bytes: &[u8]) -> usize {
    let length = memchr::memmem::find(bytes, b"\r\n\r\n").unwrap_or(bytes.len());
    memchr::memchr_iter(b'\n', bytes.get(..length).unwrap_or_default()).count()
}

/// How many lines hyper takes of a head, the first one aside.
fn most_lines(bounds: &Server) -> usize {
    bounds.header_fields.max(HYPER_FIELDS)
}

/// What hyper would refuse without a word: a length that is none, two that differ, a coding that is not `chunked`, or
/// that HTTP/1.0 does not have.
fn misframed(request: &httparse::Request<'_, '_>) -> Option<Refusal> {
    let named = |name: &'static str| {
        let fields = request.headers.iter();
        fields.filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    };
    let is_length = |value: &[u8]| {
        let digits = std::str::from_utf8(value).ok().filter(|text| !text.starts_with('+'));
        digits.is_some_and(|digits| digits.parse::<u64>().is_ok())
    };
    let is_chunked = |value: &[u8]| {
        value
            .rsplit(|byte| *byte == b',')
            .next()
            .is_some_and(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"chunked"))
    };
    if let Some(coding) = named("transfer-encoding").next_back() {
        return (request.version == Some(0) || !is_chunked(coding)).then_some(ODD_CODING);
    }
    let mut lengths = named("content-length");
    let first = lengths.next()?;
    let is_odd = !is_length(first) || lengths.any(|other| other != first);
    is_odd.then_some(ODD_LENGTH)
}

const ODD_LENGTH: Refusal =
    Refusal::Broken(StatusCode::BAD_REQUEST, "`Content-Length` is no length, or is told twice");
const ODD_CODING: Refusal =
    Refusal::Broken(StatusCode::BAD_REQUEST, "`Transfer-Encoding` must be `chunked`, of HTTP/1.1");
const TOO_MANY: Refusal =
    Refusal::Broken(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "too many header fields");
const TOO_LONG: Refusal =
    Refusal::Broken(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "the head is too long");
const NO_HEAD: Refusal = Refusal::Broken(
    StatusCode::BAD_REQUEST,
    "what came is no HTTP/1.1: a byte where none may stand, or something missing",
);

/// `None` where anything is out of the usual.
fn understand(request: &httparse::Request<'_, '_>, bytes: &Bytes, plain: &mut Plain) -> Option<()> {
    let (method, target) = (request.method?, request.path?);
    if request.version? != 1 {
        return None;
    }
    plain.method = match method {
        "GET" => Method::GET,
        "POST" => Method::POST,
        "DELETE" => Method::DELETE,
        "PUT" => Method::PUT,
        "HEAD" => Method::HEAD,
        "PATCH" => Method::PATCH,
        _ => return None,
    };
    let mark = memchr::memchr(b'?', target.as_bytes());
    if !target.starts_with('/')
        || target.len() > LONGEST_TARGET
        || lanes::any(target.as_bytes(), is_unusual)
    {
        return None;
    }
    let target = place(bytes, target.as_bytes());
    plain.mark = mark.map(|mark| target.start + mark);
    plain.target = (target.start, target.end);
    (plain.length, plain.closes) = (0, false);
    let (mut has_length, mut has_connection) = (false, false);
    for field in &*request.headers {
        match special(field.name.as_bytes()) {
            Special::None => {}
            Special::Length => {
                if std::mem::replace(&mut has_length, true) {
                    return None;
                }
                plain.length = usize::try_from(decimal(field.value)?).ok()?;
            }
            Special::Connection => {
                if std::mem::replace(&mut has_connection, true) {
                    return None;
                }
                plain.closes = field.value.eq_ignore_ascii_case(b"close");
                if !plain.closes && !field.value.eq_ignore_ascii_case(b"keep-alive") {
                    return None;
                }
            }
            Special::Other => return None,
        }
        let name = plain.names.read(field.name.as_bytes())?;
        let value = place(bytes, field.value);
        plain.fields.push(Field { name, value: (value.start, value.end) });
    }
    Some(())
}

/// The fields by which a head tells framing and connection.
enum Special {
    None,
    Length,
    Connection,
    Other,
}

fn special(name: &[u8]) -> Special {
    let is = |text: &str| name.eq_ignore_ascii_case(text.as_bytes());
    match name.len() {
        14 if is("content-length") => Special::Length,
        10 if is("connection") => Special::Connection,
        17 if is("transfer-encoding") => Special::Other,
        6 if is("expect") => Special::Other,
        7 if is("upgrade") => Special::Other,
        _ => Special::None,
    }
}

/// Whether a byte does not stand in a target as it is, for every parser of paths and queries: it is none of RFC 3986's
/// unreserved and reserved ones, or `#`, `[` or `]`, and not `%`.
fn is_unusual(byte: u8) -> bool {
    // Without a branch or a table, so that many are looked at at once.
    let found = u8::from(byte.wrapping_sub(b'!') > b'~' - b'!')
        | u8::from(byte == b'"')
        | u8::from(byte == b'#')
        | u8::from(byte == b'<')
        | u8::from(byte == b'>')
        | u8::from(byte.wrapping_sub(b'[') <= b'^' - b'[')
        | u8::from(byte == b'`')
        | u8::from(byte.wrapping_sub(b'{') <= b'}' - b'{');
    found != 0
}

/// Heads with more fields are rare.
const MOST_FIELDS: usize = 64;
/// Longer than any that passes, shorter than any that hyper refuses.
const LONGEST_TARGET: usize = 16_384;

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn read(text: &str) -> (Beginning, Plain) {
        let mut plain = Plain::default();
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        (super::read(bytes, &Server::default(), &mut plain), plain)
    }

    fn is_plain(text: &str) -> bool {
        matches!(read(text).0, Beginning::Plain(_))
    }

    fn with(fields: &str) -> bool {
        is_plain(&format!("POST /a HTTP/1.1\r\nHost: a\r\n{fields}\r\n"))
    }

    #[test]
    fn what_usual_clients_send_is_plain() {
        let text = "POST /api/v3/order?a=1&b=%20 HTTP/1.1\r\nHost: api.test:80\r\nUser-Agent: python-requests/2.32\r\n\
                    Accept-Encoding: gzip, deflate\r\nAccept: */*\r\nConnection: keep-alive\r\nX-MBX-APIKEY: k\r\n\
                    Content-Length: 3\r\nContent-Type: application/x-www-form-urlencoded\r\n\r\na=1GET";
        let (Beginning::Plain(rest), plain) = read(text) else { panic!("{text}") };
        assert_eq!(plain.target(), ("/api/v3/order", Some("a=1&b=%20")));
        assert_eq!(plain.kept_path().as_bytes(), b"/api/v3/order");
        assert_eq!((&plain.method, plain.length, plain.closes), (&Method::POST, 3, false));
        let key = plain.fields().get(&HeaderName::from_static("x-mbx-apikey")).unwrap();
        assert_eq!((key.as_bytes(), plain.fields().len()), (&b"k"[..], 8));
        assert_eq!(rest, "a=1GET");
        for end in 1..text.len() - 6 {
            let part = text.get(..end).unwrap();
            let Beginning::Partial(back) = read(part).0 else { panic!("{end}") };
            assert_eq!(back, part);
        }
    }

    #[test]
    fn nothing_of_a_request_is_left_for_the_next() {
        let mut plain = Plain::default();
        let text = "POST /a?b HTTP/1.1\r\nContent-Length: 3\r\nConnection: close\r\n\r\n";
        super::read(Bytes::from_static(text.as_bytes()), &Server::default(), &mut plain);
        plain.clear();
        super::read(Bytes::from_static(b"GET /c HTTP/1.1\r\n\r\n"), &Server::default(), &mut plain);
        assert_eq!((plain.target(), plain.length, plain.closes), (("/c", None), 0, false));
        assert!(plain.fields().is_empty() && plain.method == Method::GET);
    }

    #[test]
    fn a_path_is_kept_as_it_is_however_long() {
        for length in [1, 59, 60, 61, 4_096] {
            let path = format!("/{}", "a".repeat(length - 1));
            for target in [path.clone(), format!("{path}?b=c")] {
                let (_, mut plain) = read(&format!("GET {target} HTTP/1.1\r\n\r\n"));
                let kept = plain.kept_path();
                plain.clear();
                assert_eq!(kept.as_bytes(), path.as_bytes());
            }
        }
    }

    #[test]
    fn a_target_is_path_and_query_or_a_path_alone() {
        for (target, path, query) in
            [("/", "/", None), ("/?", "/", Some("")), ("/a?b?c", "/a", Some("b?c"))]
        {
            let (found, plain) = read(&format!("GET {target} HTTP/1.1\r\n\r\n"));
            assert!(matches!(found, Beginning::Plain(rest) if rest.is_empty()), "{target}");
            assert_eq!(plain.target(), (path, query));
            assert_eq!(plain.kept_path().as_bytes(), path.as_bytes());
        }
    }

    #[test]
    fn what_is_out_of_the_usual_is_left_to_hyper() {
        for line in [
            "GET /a HTTP/1.0",
            "OPTIONS /a HTTP/1.1",
            "CONNECT a:80 HTTP/1.1",
            "TRACE /a HTTP/1.1",
            "get /a HTTP/1.1",
            "GET http://a/ HTTP/1.1",
            "GET * HTTP/1.1",
            "GET a HTTP/1.1",
            "GET /a#b HTTP/1.1",
            "\r\nGET /a HTTP/1.1",
            "\nGET /a b HTTP/1.1",
            "PRI * HTTP/2.0",
        ] {
            let text = format!("{line}\r\nHost: a\r\n\r\n");
            let Beginning::Other(back) = read(&text).0 else { panic!("{line}") };
            assert_eq!(back, text);
        }
        let long = "a".repeat(LONGEST_TARGET);
        assert!(!is_plain(&format!("GET /{long} HTTP/1.1\r\n\r\n")));
        for (fields, plain) in [
            ("", true),
            ("Content-Length: 0\r\n", true),
            ("Content-Length: 5\r\n", true),
            ("Connection: Close\r\n", true),
            ("Connection: Keep-Alive\r\n", true),
            ("X-Odd: \u{e9}\r\n", true),
            ("X-Odd:\r\n", true),
            ("Content-Length: 5\r\nContent-Length: 5\r\n", false),
            ("Content-Length: +5\r\n", false),
            ("Content-Length: 5, 5\r\n", false),
            ("Content-Length:\r\n", false),
            ("Content-Length: 99999999999999999999\r\n", false),
            ("Connection: upgrade\r\n", false),
            ("Connection: close, x\r\n", false),
            ("Connection: close\r\nConnection: close\r\n", false),
            ("Transfer-Encoding: chunked\r\n", false),
            ("TRANSFER-ENCODING: identity\r\n", false),
            ("Expect: 100-continue\r\n", false),
            ("Upgrade: h2c\r\n", false),
        ] {
            assert_eq!(with(fields), plain, "{fields}");
        }
        assert!(with(&"x: y\r\n".repeat(MOST_FIELDS - 1)));
        assert!(!with(&"x: y\r\n".repeat(MOST_FIELDS)));
    }

    #[test]
    fn what_is_no_head_is_refused_as_soon_as_it_shows() {
        let refused = |text: &str| match read(text).0 {
            Beginning::Refused(Refusal::Broken(status, _)) => Some(status.as_u16()),
            Beginning::Refused(_)
            | Beginning::Partial(_)
            | Beginning::Plain(_)
            | Beginning::Other(_) => None,
        };
        for line in [
            "GET /\u{1} HTTP/1.1",
            "GET /a  HTTP/1.1",
            "GET /a b HTTP/1.1",
            "GET /a",
            "GET /a HTTP/1.2",
            "GET /a HTTP/2.0",
            "nonsense",
            "\u{16}\u{3}\u{1}",
            "GET /a HTTP/1.1\r\nX-Odd : y",
            "GET /a HTTP/1.1\r\n folded: y",
            "GET /a HTTP/1.1\r\nX-Odd: a\rb",
            "GET /a HTTP/1.1\r\nX-Odd: a\0b",
        ] {
            let text = format!("{line}\r\nHost: a\r\n\r\n");
            assert_eq!(refused(&text), Some(400), "{line}");
        }
        assert_eq!(refused("GET /a\u{1}"), Some(400));
        let large = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(32_768 - 23));
        assert!(is_plain(&large));
        assert_eq!(refused(&large.replacen("X: ", "XX: ", 1)), Some(431));
        assert_eq!(refused(&format!("GET / HTTP/1.1\r\nX: {}", "a".repeat(32_768))), Some(431));
    }

    #[test]
    fn what_a_field_says_is_what_http_permits_and_nothing_more() {
        for byte in 0..=u8::MAX {
            let text = [&b"GET / HTTP/1.1\r\nX: a"[..], &[byte], b"b\r\n\r\n"].concat();
            let mut plain = Plain::default();
            let found = super::read(Bytes::from(text), &Server::default(), &mut plain);
            let permitted = HeaderValue::from_bytes(&[b'a', byte, b'b']).ok();
            let is_plain = matches!(found, Beginning::Plain(_));
            // A line that ends with LF alone is over there, and what follows is no field.
            assert_eq!(is_plain, permitted.is_some(), "{byte}");
            let Some(value) = permitted else { continue };
            let kept = plain.fields().get(&HeaderName::from_static("x")).unwrap();
            assert_eq!(kept.as_bytes(), value.as_bytes(), "{byte}");
        }
    }

    #[test]
    fn every_usual_target_is_read_by_hyper_as_it_is_here() {
        for byte in 0..128_u8 {
            let target = format!("/a{0}b?c{0}d", char::from(byte));
            let extra = b"-._~%/?:@!$&'()*+,;=";
            assert_eq!(!is_unusual(byte), byte.is_ascii_alphanumeric() || extra.contains(&byte));
            if is_unusual(byte) {
                continue;
            }
            let uri = Uri::try_from(&*target).unwrap();
            let (path, query) = target.split_once('?').unwrap();
            assert_eq!((uri.path(), uri.query()), (path, Some(query)), "{target}");
        }
    }
}
