//! Which requests we read ourselves: those of HTTP/1.1 whose head says nothing but the usual.
//!
//! A head is taken when it has come as a whole, its method is one of six, its target a path of unsuspicious bytes,
//! its length told once and in digits, and its connection to be kept or closed. Whatever else there is in HTTP/1
//! (chunks, expectations, upgrades, other versions, absolute targets, repeated lengths), and whatever is wrong, is
//! hyper's to read and to refuse. Both read heads with the same parser, so what is taken here means the same there.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::reply_head::{decimal, place};

/// A request whose head has come.
#[derive(Debug)]
pub(super) struct Plain {
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
    /// The length of its body.
    pub(super) length: usize,
    /// Whether the client wants to close the connection after the answer.
    pub(super) closes: bool,
    text: Bytes,
    target: (usize, usize),
    mark: Option<usize>,
}

/// What bytes begin with.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "taken apart at once: a box would cost more than the move"
)]
pub(super) enum Beginning {
    /// A head that has not come as a whole.
    Partial,
    /// A head that we read, and the bytes behind it.
    Plain(Plain, Bytes),
    /// A head, or something else, that we do not.
    Other,
}

impl Plain {
    pub(super) fn path(&self) -> &str {
        self.slice(self.target.0, self.mark.unwrap_or(self.target.1))
    }

    /// The path, kept beyond the request without a copy.
    pub(super) fn kept_path(&self) -> Bytes {
        let (from, to) = (self.target.0, self.mark.unwrap_or(self.target.1));
        if from <= to && to <= self.text.len() { self.text.slice(from..to) } else { Bytes::new() }
    }

    pub(super) fn query(&self) -> Option<&str> {
        self.mark.map(|mark| self.slice(mark + 1, self.target.1))
    }

    fn slice(&self, from: usize, to: usize) -> &str {
        // It holds ASCII alone.
        self.text.get(from..to).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default()
    }
}

/// Reads the head that `bytes` begin with. `headers` is empty, and memory to use again.
///
/// One of more than `most` bytes is not ours.
pub(super) fn read(bytes: &Bytes, most: usize, headers: HeaderMap) -> Beginning {
    // Empty lines before a request are allowed, and odd.
    if bytes.first().is_some_and(|byte| !byte.is_ascii_uppercase()) {
        return Beginning::Other;
    }
    let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    let length = match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) if length <= most => length,
        Ok(httparse::Status::Partial) if bytes.len() <= most => return Beginning::Partial,
        Ok(_) | Err(_) => return Beginning::Other,
    };
    match understand(&request, bytes, headers) {
        Some(plain) => Beginning::Plain(plain, bytes.slice(length..)),
        None => Beginning::Other,
    }
}

/// `None` where anything is out of the usual.
fn understand(
    request: &httparse::Request<'_, '_>,
    bytes: &Bytes,
    headers: HeaderMap,
) -> Option<Plain> {
    let (method, target) = (request.method?, request.path?);
    if request.version? != 1 {
        return None;
    }
    let method = match method {
        "GET" => Method::GET,
        "POST" => Method::POST,
        "DELETE" => Method::DELETE,
        "PUT" => Method::PUT,
        "HEAD" => Method::HEAD,
        "PATCH" => Method::PATCH,
        _ => return None,
    };
    let mark = memchr::memchr(b'?', target.as_bytes());
    if !target.starts_with('/') || target.len() > LONGEST_TARGET || !is_usual(target) {
        return None;
    }
    let target = place(bytes, target.as_bytes());
    let mut plain = Plain {
        method,
        headers,
        length: 0,
        closes: false,
        text: bytes.clone(),
        target: (target.start, target.end),
        mark: mark.map(|mark| target.start + mark),
    };
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
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(field.value)).ok()?;
        plain.headers.append(name, value);
    }
    Some(plain)
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

/// Whether every byte of a target is one that stands in it as it is, for every parser of paths and queries.
fn is_usual(target: &str) -> bool {
    // Without an early exit: nearly always all are.
    target
        .bytes()
        .fold(true, |all, byte| all & USUAL.get(usize::from(byte)).is_some_and(|usual| *usual))
}

/// By byte: RFC 3986's unreserved and reserved ones but `#`, `[` and `]`, and `%`.
const USUAL: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        let usual = byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'-' | b'.'
                    | b'_'
                    | b'~'
                    | b'%'
                    | b'/'
                    | b'?'
                    | b':'
                    | b'@'
                    | b'!'
                    | b'$'
                    | b'&'
                    | b'\''
                    | b'('
                    | b')'
                    | b'*'
                    | b'+'
                    | b','
                    | b';'
                    | b'='
            );
        #[expect(clippy::indexing_slicing, reason = "a constant: it is checked when compiled")]
        {
            table[byte as usize] = usual;
        }
        byte += 1;
    }
    table
};

/// Heads with more fields are rare.
const MOST_FIELDS: usize = 64;
/// Longer than any that passes, shorter than any that hyper refuses.
const LONGEST_TARGET: usize = 16_384;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Beginning {
        super::read(&Bytes::copy_from_slice(text.as_bytes()), 32_768, HeaderMap::new())
    }

    fn is_plain(text: &str) -> bool {
        matches!(read(text), Beginning::Plain(..))
    }

    fn with(fields: &str) -> bool {
        is_plain(&format!("POST /a HTTP/1.1\r\nHost: a\r\n{fields}\r\n"))
    }

    #[test]
    fn what_usual_clients_send_is_plain() {
        let text = "POST /api/v3/order?a=1&b=%20 HTTP/1.1\r\nHost: api.test:80\r\nUser-Agent: python-requests/2.32\r\n\
                    Accept-Encoding: gzip, deflate\r\nAccept: */*\r\nConnection: keep-alive\r\nX-MBX-APIKEY: k\r\n\
                    Content-Length: 3\r\nContent-Type: application/x-www-form-urlencoded\r\n\r\na=1GET";
        let Beginning::Plain(plain, rest) = read(text) else { panic!("{text}") };
        assert_eq!((plain.path(), plain.query()), ("/api/v3/order", Some("a=1&b=%20")));
        assert_eq!((&plain.method, plain.length, plain.closes), (&Method::POST, 3, false));
        assert_eq!(plain.headers.get("x-mbx-apikey").unwrap(), "k");
        assert_eq!(plain.headers.len(), 8);
        assert_eq!(rest, "a=1GET");
        for end in 1..text.len() - 6 {
            assert!(matches!(read(text.get(..end).unwrap()), Beginning::Partial), "{end}");
        }
    }

    #[test]
    fn a_target_is_path_and_query_or_a_path_alone() {
        for (target, path, query) in
            [("/", "/", None), ("/?", "/", Some("")), ("/a?b?c", "/a", Some("b?c"))]
        {
            let Beginning::Plain(plain, _) = read(&format!("GET {target} HTTP/1.1\r\n\r\n")) else {
                panic!("{target}")
            };
            assert_eq!((plain.path(), plain.query()), (path, query));
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
            "GET /a\"b HTTP/1.1",
            "GET /a\\b HTTP/1.1",
            "GET /a<b HTTP/1.1",
            "GET /\u{e9} HTTP/1.1",
            "GET /a  HTTP/1.1",
            "GET /a b HTTP/1.1",
            "GET /a",
            "\r\nGET /a HTTP/1.1",
            "nonsense",
            "PRI * HTTP/2.0",
        ] {
            let other = matches!(read(&format!("{line}\r\nHost: a\r\n\r\n")), Beginning::Other);
            assert!(other, "{line}");
        }
        let long = "a".repeat(LONGEST_TARGET);
        assert!(!is_plain(&format!("GET /{long} HTTP/1.1\r\n\r\n")));
        let large = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(32_768 - 23));
        assert!(is_plain(&large) && !is_plain(&large.replacen("X: ", "XX: ", 1)));
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
            ("X-Odd : y\r\n", false),
            (" folded: y\r\n", false),
            ("X-Odd: a\rb\r\n", false),
            ("X-Odd: a\0b\r\n", false),
        ] {
            assert_eq!(with(fields), plain, "{fields}");
        }
        assert!(with(&"x: y\r\n".repeat(MOST_FIELDS - 1)));
        assert!(!with(&"x: y\r\n".repeat(MOST_FIELDS)));
    }

    #[test]
    fn every_usual_target_is_read_by_hyper_as_it_is_here() {
        for byte in 0..128_u8 {
            let target = format!("/a{0}b?c{0}d", char::from(byte));
            if !is_usual(&target) {
                continue;
            }
            let uri = http::Uri::try_from(&*target).unwrap();
            let (path, query) = target.split_once('?').unwrap();
            assert_eq!((uri.path(), uri.query()), (path, Some(query)), "{target}");
        }
    }
}
