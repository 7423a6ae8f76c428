//! Defeats smuggled replies: the head of a backend's reply is read by one strict rule, or nothing of it is passed on.

use std::mem::MaybeUninit;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::hops::{self, Kind};
use crate::lanes;

/// The head of a backend's reply, without the fields that belong to its connection.
///
/// Its size is a power of two, as are those of all that it holds: such are what the allocator has at hand.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct ReplyHead {
    pub(super) status: StatusCode,
    /// How its body is told from what follows.
    pub(super) framing: Framing,
    /// Whether the backend will take another request on this connection.
    pub(super) keeps_alive: bool,
    text: Bytes,
    reason: Span,
    fields: Vec<Field>,
}

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Framing {
    /// There is no body.
    Empty,
    /// It has this many bytes.
    Length(u64),
    /// It comes in chunks.
    Chunks,
    /// It ends with its connection.
    Close,
}

/// One field, by its places in the text, where its name is in lower case.
#[derive(Clone, Copy, Debug)]
struct Field {
    name: Span,
    value: Span,
}

/// Where something lies in the text, from its start to its end.
#[derive(Clone, Copy, Debug)]
struct Span(u32, u32);

impl Span {
    /// Where `part` lies in `whole`, of which it is a slice.
    fn of(part: &[u8], whole: &[u8]) -> Result<Self, Odd> {
        let Range { start, end } = place(whole, part);
        let short = |at| u32::try_from(at).map_err(|_| Odd);
        Ok(Self(short(start)?, short(end)?))
    }

    fn range(self) -> Range<usize> {
        self.0 as usize..self.1 as usize
    }
}

/// One field that is passed on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Passed<'h> {
    /// In lower case.
    pub(super) name: &'h [u8],
    pub(super) value: &'h [u8],
    /// Name, value and the end of the line, where they stand as we write them.
    pub(super) line: Option<&'h [u8]>,
}

/// What was asked for, as far as replies mean something else then.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Asked {
    Usual,
    /// No body, however long it is said to be.
    Head,
    /// To go on as a WebSocket.
    Upgrade,
}

/// What is no HTTP reply to the request, or could be read in two ways.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Odd;

/// The most fields of a reply.
const MOST_FIELDS: usize = 100;
/// The longest head of a reply.
pub(super) const LONGEST_HEAD: usize = 128 << 10;

impl ReplyHead {
    /// Takes a head off the front of `held`; `None` while its end has not come. Interim replies are passed over.
    ///
    /// Boxed, since it is handed on from step to step until its answer is written.
    pub(super) fn take(held: &mut BytesMut, asked: Asked) -> Result<Option<Box<Self>>, Odd> {
        while !held.is_empty() {
            match read(held, asked)? {
                None if held.len() > LONGEST_HEAD => return Err(Odd),
                None => return Ok(None),
                Some((length, Head::Interim)) => drop(held.split_to(length)),
                Some((length, Head::Final(mut found))) => {
                    let mut text = held.split_to(length);
                    for field in &found.fields {
                        text.get_mut(field.name.range()).into_iter().for_each(lanes::lowercase);
                    }
                    found.text = text.freeze();
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }

    /// The reason, where it is not the usual one.
    pub(super) fn reason(&self) -> Option<&[u8]> {
        let reason = self.text.get(self.reason.range()).unwrap_or_default();
        let usual = self.status.canonical_reason().is_some_and(|text| text.as_bytes() == reason);
        (!usual).then_some(reason)
    }

    /// The fields that are passed on, in the order in which they came.
    pub(super) fn fields(&self) -> impl Iterator<Item = Passed<'_>> {
        let at = |range: Range<usize>| self.text.get(range).unwrap_or_default();
        self.fields.iter().map(move |field| {
            let (name, value) = (field.name.range(), field.value.range());
            let end = value.end + END.len();
            let is_neat = at(name.end..value.start) == b": " && at(value.end..end) == END;
            let line = is_neat.then(|| at(name.start..end));
            Passed { name: at(name), value: at(value), line }
        })
    }

    /// The fields as a map.
    pub(super) fn map(&self) -> HeaderMap {
        let mut map = HeaderMap::with_capacity(self.fields.len() + 4);
        for field in &self.fields {
            let name = self.text.get(field.name.range()).map(HeaderName::from_bytes);
            let value = HeaderValue::from_maybe_shared(self.text.slice(field.value.range()));
            if let (Some(Ok(name)), Ok(value)) = (name, value) {
                map.append(name, value);
            }
        }
        map
    }
}

enum Head {
    Interim,
    Final(Box<ReplyHead>),
}

/// Reads a head and tells its length.
fn read(held: &[u8], asked: Asked) -> Result<Option<(usize, Head)>, Odd> {
    // Left as it is found: to clear room for so many would cost more than to read the few that come.
    let mut fields = [const { MaybeUninit::uninit() }; MOST_FIELDS];
    let mut reply = httparse::Response::new(&mut []);
    let parser = httparse::ParserConfig::default();
    let length = match parser.parse_response_with_uninit_headers(&mut reply, held, &mut fields) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(Odd),
    };
    let (Some(code), Some(version)) = (reply.code, reply.version) else { return Err(Odd) };
    let status = StatusCode::from_u16(code).map_err(|_| Odd)?;
    let switches = status == StatusCode::SWITCHING_PROTOCOLS;
    if switches && !(asked == Asked::Upgrade && is_upgrade(reply.headers)) {
        return Err(Odd);
    }
    if status.is_informational() && !switches {
        return Ok(Some((length, Head::Interim)));
    }
    let mut facts = Facts { is_http_11: version == 1, ..Facts::default() };
    let mut kept = Vec::with_capacity(reply.headers.len().next_power_of_two());
    for field in &*reply.headers {
        if facts.note(field.name.as_bytes(), field.value)? {
            let name = Span::of(field.name.as_bytes(), held)?;
            kept.push(Field { name, value: Span::of(field.value, held)? });
        }
    }
    if facts.lists {
        let lists = |name: &[u8]| {
            let connection = |field: &&httparse::Header<'_>| {
                hops::kind(field.name.as_bytes()) == Kind::Connection
            };
            let mut lists = reply.headers.iter().filter(connection);
            lists.any(|list| tokens(list.value).any(|token| token.eq_ignore_ascii_case(name)))
        };
        kept.retain(|field| !lists(held.get(field.name.range()).unwrap_or_default()));
    }
    let bodiless = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) || switches;
    let framing = facts.framing(asked != Asked::Head && !bodiless)?;
    Ok(Some((
        length,
        Head::Final(Box::new(ReplyHead {
            status,
            framing,
            keeps_alive: facts.keeps_alive()
                && framing != Framing::Close
                && !switches
                && !(framing == Framing::Empty && facts.tells_of_body()),
            text: Bytes::new(),
            reason: Span::of(reply.reason.unwrap_or_default().as_bytes(), held)?,
            fields: kept,
        })),
    )))
}

/// Whether a reply switches to WebSocket and to nothing else, and says nothing of a body.
fn is_upgrade(fields: &[httparse::Header<'_>]) -> bool {
    let named = |name: &'static str| {
        fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name))
    };
    let mut upgrades = named("upgrade");
    let is_websocket =
        |field: &httparse::Header<'_>| field.value.eq_ignore_ascii_case(b"websocket");
    let lists = |field: &httparse::Header<'_>| {
        tokens(field.value).any(|token| token.eq_ignore_ascii_case(b"upgrade"))
    };
    upgrades.next().is_some_and(is_websocket)
        && upgrades.next().is_none()
        && named("connection").any(lists)
        && named("content-length").chain(named("transfer-encoding")).next().is_none()
}

/// What the fields say of framing and connection.
#[derive(Default)]
struct Facts {
    is_http_11: bool,
    length: Option<u64>,
    chunked: bool,
    wish: Option<Wish>,
    lists: bool,
}

/// What a backend says of its connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Wish {
    Keep,
    Close,
}

impl Facts {
    /// Whether the field is passed on.
    fn note(&mut self, name: &[u8], value: &[u8]) -> Result<bool, Odd> {
        match hops::kind(name) {
            Kind::Message => return Ok(true),
            Kind::Length => {
                let length = decimal(value).ok_or(Odd)?;
                return match self.length.replace(length) {
                    None => Ok(true),
                    Some(before) if before == length => Ok(false),
                    Some(_) => Err(Odd),
                };
            }
            Kind::Coding => {
                // What is coded otherwise, or twice, could not be passed on as what it is.
                if self.chunked || !self.is_http_11 || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Odd);
                }
                self.chunked = true;
            }
            Kind::Connection => {
                for token in tokens(value) {
                    if token.eq_ignore_ascii_case(b"close") {
                        self.wish = Some(Wish::Close);
                    } else if token.eq_ignore_ascii_case(b"keep-alive") {
                        self.wish = self.wish.or(Some(Wish::Keep));
                    } else {
                        self.lists = true;
                    }
                }
            }
            Kind::Hop | Kind::Ours => {}
        }
        Ok(false)
    }

    /// Whether a body is told of. Where none may come, as in answers to HEAD, some backends send it all the same, and a
    /// request that came after it on their connection would get it for its answer.
    fn tells_of_body(&self) -> bool {
        self.chunked || self.length.is_some_and(|length| length > 0)
    }

    fn keeps_alive(&self) -> bool {
        match self.wish {
            Some(Wish::Close) => false,
            Some(Wish::Keep) => true,
            None => self.is_http_11,
        }
    }

    fn framing(&self, has_body: bool) -> Result<Framing, Odd> {
        match (self.chunked, self.length) {
            // A length beside chunks is how replies are smuggled.
            (true, Some(_)) => Err(Odd),
            _ if !has_body => Ok(Framing::Empty),
            (true, None) => Ok(Framing::Chunks),
            (false, Some(0)) => Ok(Framing::Empty),
            (false, Some(length)) => Ok(Framing::Length(length)),
            (false, None) => Ok(Framing::Close),
        }
    }
}

/// The end of a line.
const END: &[u8] = b"\r\n";

fn tokens(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}

/// A number of digits alone.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 18 {
        return None;
    }
    text.iter().try_fold(0, |number: u64, digit| {
        digit.is_ascii_digit().then(|| number * 10 + u64::from(digit - b'0'))
    })
}

/// Where `part` lies in `whole`, of which it is a slice.
pub(super) fn place(whole: &[u8], part: &[u8]) -> Range<usize> {
    let start = part.as_ptr().addr().wrapping_sub(whole.as_ptr().addr());
    // An empty part may lie anywhere.
    if part.is_empty() { 0..0 } else { start..start + part.len() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Result<Option<Box<ReplyHead>>, Odd> {
        ReplyHead::take(&mut BytesMut::from(text), Asked::Usual)
    }

    fn framing(fields: &str) -> Result<Framing, Odd> {
        Ok(head(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n"))?.unwrap().framing)
    }

    fn lines(head: &ReplyHead) -> Vec<String> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let line = |field: Passed<'_>| {
            let line = format!("{}: {}", text(field.name), text(field.value));
            let as_written = |own: &[u8]| *own == *format!("{line}\r\n").as_bytes();
            assert!(field.line.is_none_or(as_written), "{line}");
            line
        };
        head.fields().map(line).collect()
    }

    #[test]
    fn a_reply_goes_over_to_websocket_only_where_that_was_asked_and_all_of_it_is_said() {
        let taken = |fields: &str, asked| {
            let text = format!("HTTP/1.1 101 Switching Protocols\r\n{fields}\r\nframes");
            ReplyHead::take(&mut BytesMut::from(&*text), asked).map(|head| head.is_some())
        };
        let good = "Upgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n";
        assert_eq!(taken(good, Asked::Upgrade), Ok(true));
        for asked in [Asked::Usual, Asked::Head] {
            assert_eq!(taken(good, asked), Err(Odd));
        }
        for fields in [
            "",
            "upgrade: websocket\r\n",
            "connection: upgrade\r\n",
            "upgrade: h2c\r\nconnection: upgrade\r\n",
            "upgrade: websocket\r\nupgrade: websocket\r\nconnection: upgrade\r\n",
            "upgrade: websocket, h2c\r\nconnection: upgrade\r\n",
            "upgrade: websocket\r\nconnection: upgrade\r\ncontent-length: 0\r\n",
            "upgrade: websocket\r\nconnection: upgrade\r\ntransfer-encoding: chunked\r\n",
        ] {
            assert_eq!(taken(fields, Asked::Upgrade), Err(Odd), "{fields}");
        }
    }

    #[test]
    fn a_head_is_taken_off_and_what_follows_is_left() {
        let mut held = BytesMut::from("HTTP/1.1 201 Made\r\nX-A:  1 \r\nx-b: 2\r\n\r\nrest");
        let found = ReplyHead::take(&mut held, Asked::Usual).unwrap().unwrap();
        assert_eq!((found.status, found.reason()), (StatusCode::CREATED, Some(&b"Made"[..])));
        assert_eq!(lines(&found), ["x-a: 1", "x-b: 2"]);
        assert_eq!(found.map().get("x-a").unwrap(), "1");
        assert_eq!(held, "rest");
    }

    #[test]
    fn a_line_is_passed_on_whole_only_where_it_stands_as_we_write_it() {
        for (line, is_neat) in [
            ("X-A: 1", true),
            ("x-a: 1: 2", true),
            ("x-a:1", false),
            ("x-a:  1", false),
            ("x-a:\t1", false),
            ("x-a: 1 ", false),
            ("x-a: 1\t", false),
            ("x-a:", false),
            ("x-a: ", false),
        ] {
            let head = head(&format!("HTTP/1.1 200 OK\r\n{line}\r\n\r\n")).unwrap().unwrap();
            let field = head.fields().next().unwrap();
            assert_eq!((field.name, field.line.is_some()), (&b"x-a"[..], is_neat), "{line}");
            assert_eq!(lines(&head).len(), 1);
        }
        let bare = head("HTTP/1.1 200 OK\nx-a: 1\nx-b: 2\n\n");
        assert!(bare.unwrap().unwrap().fields().all(|field| field.line.is_none()));
    }

    #[test]
    fn a_head_that_is_not_whole_is_waited_for_at_every_byte() {
        let text = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n";
        for end in 0..text.len() {
            assert!(head(text.get(..end).unwrap()).unwrap().is_none(), "{end}");
        }
        assert!(head(text).unwrap().is_some());
    }

    #[test]
    fn interim_replies_are_passed_over_and_no_protocol_is_switched() {
        let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n";
        assert!(head(interim).unwrap().is_none());
        let whole = format!("{interim}HTTP/1.1 404 Not Found\r\n\r\n");
        assert_eq!(head(&whole).unwrap().unwrap().status, StatusCode::NOT_FOUND);
        assert_eq!(head("HTTP/1.1 101 Switching Protocols\r\n\r\n").err(), Some(Odd));
    }

    #[test]
    fn framing_that_can_be_read_in_two_ways_is_no_reply() {
        assert_eq!(framing("content-length: 12\r\n"), Ok(Framing::Length(12)));
        assert_eq!(framing("content-length: 0\r\n"), Ok(Framing::Empty));
        assert_eq!(
            framing("Content-Length: 12\r\ncontent-length: 12\r\n"),
            Ok(Framing::Length(12))
        );
        assert_eq!(framing("transfer-encoding: Chunked\r\n"), Ok(Framing::Chunks));
        assert_eq!(framing(""), Ok(Framing::Close));
        for fields in [
            "content-length: 1\r\ncontent-length: 2\r\n",
            "content-length: +1\r\n",
            "content-length: \r\n",
            "content-length: 1, 1\r\n",
            "content-length: 99999999999999999999\r\n",
            "content-length: 1\r\ntransfer-encoding: chunked\r\n",
            "transfer-encoding: chunked\r\ncontent-length: 1\r\n",
            "transfer-encoding: gzip, chunked\r\n",
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
            "transfer-encoding: identity\r\n",
            "x : y\r\n",
            " folded: y\r\n",
        ] {
            assert_eq!(framing(fields), Err(Odd), "{fields}");
        }
        assert_eq!(head("HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").err(), Some(Odd));
    }

    #[test]
    fn replies_without_a_body_keep_the_length_they_tell_and_their_connection_is_not_used_again() {
        for (status, to_head) in
            [("204 No Content", false), ("304 Not Modified", false), ("200 OK", true)]
        {
            let text = format!("HTTP/1.1 {status}\r\ncontent-length: 500\r\n\r\n");
            let asked = if to_head { Asked::Head } else { Asked::Usual };
            let head = ReplyHead::take(&mut BytesMut::from(&*text), asked).unwrap().unwrap();
            assert_eq!(head.framing, Framing::Empty);
            assert_eq!(lines(&head), ["content-length: 500"]);
            // Who tells of a body may send it.
            assert!(!head.keeps_alive);
            for silent in ["content-length: 0\r\n", ""] {
                let text = text.replace("content-length: 500\r\n", silent);
                let head = ReplyHead::take(&mut BytesMut::from(&*text), asked).unwrap().unwrap();
                assert!(head.keeps_alive, "{text}");
            }
        }
    }

    #[test]
    fn a_connection_is_kept_as_its_version_and_its_fields_say() {
        for (version, fields, kept) in [
            (1, "content-length: 1\r\n", true),
            (1, "", false),
            (1, "content-length: 1\r\nconnection: close\r\n", false),
            (1, "content-length: 1\r\nconnection: x, Close\r\nconnection: keep-alive\r\n", false),
            (0, "content-length: 1\r\n", false),
            (0, "content-length: 1\r\nconnection: Keep-Alive\r\n", true),
            (0, "connection: keep-alive\r\n", false),
        ] {
            let text = format!("HTTP/1.{version} 200 OK\r\n{fields}\r\n");
            assert_eq!(head(&text).unwrap().unwrap().keeps_alive, kept, "{text}");
        }
    }

    #[test]
    fn what_belongs_to_the_connection_or_to_us_is_left_out() {
        let head = head(
            "HTTP/1.1 200 OK\r\nconnection: X-Private\r\nkeep-alive: 1\r\nx-private: 1\r\n\
             Countersign-Mac: 0\r\nte: x\r\nupgrade: x\r\netag: 1\r\nETag: 2\r\n\r\n",
        );
        assert_eq!(lines(&head.unwrap().unwrap()), ["etag: 1", "etag: 2"]);
    }

    #[test]
    fn heads_have_an_upper_bound() {
        let large = format!("HTTP/1.1 200 OK\r\nx: {}", "a".repeat(LONGEST_HEAD));
        assert_eq!(head(&large).err(), Some(Odd));
        let many = |count| format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: 1\r\n".repeat(count));
        assert!(head(&many(MOST_FIELDS)).is_ok());
        assert_eq!(head(&many(MOST_FIELDS + 1)).err(), Some(Odd));
    }
}
