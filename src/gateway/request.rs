//! What a backend sees of a request: what was signed, an allow list of header fields, and our proof of who sent it.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::{BufMut, Bytes};
use http::header::{
    ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, FORWARDED,
    HOST, IF_MODIFIED_SINCE, IF_NONE_MATCH, RANGE, USER_AGENT,
};
use http::{HeaderName, HeaderValue, Method};

use super::forward::Received;
use super::holders::Holders;
use super::hops;
use super::identity::{self, Statement};
use super::reply_head::Asked;
use crate::admit::{Ask, Permit, Route};
use crate::config::Upstream;
use crate::dialect::{Dialect, Place};
use crate::identity::Proof;

/// On answers to requests that this gateway judged alone: `local`.
pub(super) const JUDGED: HeaderName = HeaderName::from_static("x-countersign-judged");
/// The header field that names a request, to the client and to the backend.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A request as a backend reads it.
#[derive(Debug)]
pub(super) struct Outgoing {
    /// The head, and the body too where that is short.
    text: Vec<u8>,
    /// The body where it is long.
    body: Bytes,
    asked: Asked,
    is_spent: bool,
    /// Whether its connection carries no request after it.
    is_last: bool,
    /// Where the memory of the text comes from, and goes.
    texts: Rc<Texts>,
}

/// Memory for texts, to use again. The last one given back is the first to be taken: it is still in the caches.
#[derive(Debug, Default)]
pub(super) struct Texts(RefCell<Vec<Vec<u8>>>);

impl Texts {
    /// An empty text.
    pub(super) fn take(&self) -> Vec<u8> {
        self.0.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(ROOM))
    }

    pub(super) fn put(&self, mut text: Vec<u8>) {
        // What was taken away before has left none.
        if (1..=MOST_ROOM).contains(&text.capacity()) {
            text.clear();
            self.0.borrow_mut().push(text);
        }
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.texts.put(std::mem::take(&mut self.text));
    }
}

impl Outgoing {
    /// All of it has been written: nobody needs its bytes any more.
    pub(super) fn spend(&mut self) {
        self.texts.put(std::mem::take(&mut self.text));
        self.body = Bytes::new();
        self.is_spent = true;
    }

    /// Whether all of it has been written.
    pub(super) fn is_spent(&self) -> bool {
        self.is_spent
    }

    /// What its reply may be.
    pub(super) fn asked(&self) -> Asked {
        self.asked
    }

    /// Whether its connection is to carry no request after it: what the backend might leave unread would be the next one.
    pub(super) fn is_last(&self) -> bool {
        self.is_last
    }

    /// Asks to go on in another protocol, with the fields that `write` writes. It has no body.
    pub(super) fn ask_upgrade(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.asked = Asked::Upgrade;
        self.text.truncate(self.text.len().saturating_sub(2));
        write(&mut self.text);
        self.text.put_slice(b"\r\n");
    }

    /// What follows its first `written` bytes.
    pub(super) fn from(&self, written: usize) -> (&[u8], &[u8]) {
        let text = self.text.get(written..).unwrap_or_default();
        let body = self.body.get(written.saturating_sub(self.text.len())..).unwrap_or_default();
        (text, body)
    }
}

/// Composes the request for a backend; `None` when it cannot be written as HTTP, or not be signed.
pub(super) fn compose(
    upstream: &Upstream,
    holders: &Holders,
    permit: &Permit,
    route: &Route,
    received: &Received<'_>,
    texts: &Rc<Texts>,
) -> Option<Outgoing> {
    let mut outgoing = Outgoing {
        text: texts.take(),
        body: permit.outgoing().body(&received.body),
        asked: if received.method == Method::HEAD { Asked::Head } else { Asked::Usual },
        is_spent: false,
        is_last: false,
        texts: Rc::clone(texts),
    };
    outgoing.is_last = !outgoing.body.is_empty() && !takes_body(received.method);
    let Outgoing { text, body, .. } = &mut outgoing;
    write(upstream, holders, permit, route, received, body, text)?;
    if body.len() <= SHORT {
        text.put_slice(body);
        *body = Bytes::new();
    }
    Some(outgoing)
}

/// Writes the head.
fn write(
    upstream: &Upstream,
    holders: &Holders,
    permit: &Permit,
    route: &Route,
    received: &Received<'_>,
    body: &Bytes,
    to: &mut Vec<u8>,
) -> Option<()> {
    let method = received.method.as_str();
    to.put_slice(method.as_bytes());
    to.put_slice(b" ");
    let start = to.len();
    to.put_slice(received.path.as_bytes());
    if let Some(query) = permit.outgoing().query(received.query) {
        to.put_slice(b"?");
        to.put_slice(query.as_bytes());
    }
    let target = start..to.len();
    to.put_slice(b" HTTP/1.1\r\nhost: ");
    let host = upstream.host.as_ref().map_or(received.host.as_bytes(), HeaderValue::as_bytes);
    to.put_slice(host);
    to.put_slice(b"\r\n");
    pass(upstream, route, received, to);
    media_type(permit, received, body, to);

    // Without an early exit, since nearly always all of it is: so many bytes are looked at at once.
    let is_odd = |byte: &u8| u8::from(byte.wrapping_sub(b'!') > b'~' - b'!');
    let is_text = |text: &[u8]| text.iter().fold(0, |odd, byte| odd | is_odd(byte)) == 0;
    if !is_text(to.get(target.clone())?) || !is_text(received.host.as_bytes()) {
        return None;
    }
    // The MAC is over what is written after it: its place is kept.
    let mac = upstream.identity_key.as_ref().map(|secret| {
        to.put_slice(MAC);
        let start = to.len();
        to.put_slice(&[b'-'; 64]);
        to.put_slice(b"\r\n");
        (secret, start)
    });
    to.put_slice(IDENTITY);
    let start = to.len();
    let client = Statement {
        request_id: received.request_id,
        proof: match &route.ask {
            Ask::Signed(_) => Proof::Signature,
            Ask::Key(_) => Proof::Key,
            Ask::Public => Proof::None,
        },
        key: permit.key(),
        venue: &route.venue.0,
        holders,
        client: received.client,
        deadline: permit.good_until(),
        body,
    }
    .write(to);
    if let Some((secret, place)) = mac {
        let (target, identity) = (to.get(target)?, to.get(start..)?);
        let mac = identity::mac(secret, method, target, identity)?;
        to.get_mut(place..place + 64)?.copy_from_slice(mac.as_flattened());
    }
    to.put_slice(b"\r\nx-request-id: ");
    to.put_slice(received.request_id);
    to.put_slice(b"\r\nx-forwarded-for: ");
    to.extend_from_within(client);
    let scheme =
        if received.tls { "\r\nx-forwarded-proto: https" } else { "\r\nx-forwarded-proto: http" };
    to.put_slice(scheme.as_bytes());
    to.put_slice(b"\r\n\r\n");
    Some(())
}

/// The fields that say who sent a request, up to their values.
const MAC: &[u8] = b"countersign-mac: ";
const IDENTITY: &[u8] = b"countersign-identity: ";

fn field(of: &HeaderName, value: &[u8], to: &mut Vec<u8>) {
    to.put_slice(of.as_str().as_bytes());
    to.put_slice(b": ");
    to.put_slice(value);
    to.put_slice(b"\r\n");
}

/// Copies the header fields of the client that may pass.
fn pass(upstream: &Upstream, route: &Route, received: &Received<'_>, to: &mut Vec<u8>) {
    let lists = hops::lists(received.headers);
    let mut crumbs = Vec::new();
    for (name, value) in received.headers.iter() {
        let listed = || lists && hops::listed(received.headers, name);
        if !may_pass(name, upstream, route) || listed() {
            continue;
        }
        if *name == COOKIE {
            crumbs.push(value.as_bytes());
        } else {
            field(name, value.as_bytes(), to);
        }
    }
    // HTTP/2 may bring them in pieces, which are one field elsewhere (RFC 9113, 8.2.3).
    if !crumbs.is_empty() {
        field(&COOKIE, &crumbs.join(&b"; "[..]), to);
    }
}

fn may_pass(name: &HeaderName, upstream: &Upstream, route: &Route) -> bool {
    if *name == ACCEPT_ENCODING && signs_replies(route) {
        return false;
    }
    if ALWAYS.contains(name) {
        return true;
    }
    let by_route = match &route.ask {
        Ask::Public => UNSIGNED.contains(name),
        Ask::Key(dialect) | Ask::Signed(dialect) => {
            names_key(dialect, name) || dialect.forward_headers().contains(name)
        }
    };
    (by_route || upstream.forward_headers.contains(name))
        && !is_reserved(name)
        && !is_credential(route, name)
}

/// Whether replies are signed: clients check what they have decoded, so backends are not asked to encode it.
fn signs_replies(route: &Route) -> bool {
    match &route.ask {
        Ask::Public | Ask::Key(_) => false,
        Ask::Signed(dialect) => dialect.signs_replies().is_some(),
    }
}

/// Whether `name` holds the key id, which is public.
fn names_key(dialect: &Dialect, name: &HeaderName) -> bool {
    matches!(&dialect.key, Place::Header(key) | Place::After(key, _) if key == name)
}

/// What no configuration can pass on: another hop's fields, framing, and what only the gateway says.
fn is_reserved(name: &HeaderName) -> bool {
    hops::is_ours(name) || hops::ends_here(name) || RESERVED.contains(name)
}

fn is_credential(route: &Route, name: &HeaderName) -> bool {
    if route.second_factor.as_ref().is_some_and(|factor| factor.is_credential(name)) {
        return true;
    }
    match &route.ask {
        Ask::Public => false,
        Ask::Key(dialect) | Ask::Signed(dialect) => {
            dialect.credential_headers().any(|credential| credential == name)
        }
    }
}

/// Says what the body is, by the recipe where it was signed, else as the client said; and how long it is, where a
/// backend would wonder.
fn media_type(permit: &Permit, received: &Received<'_>, body: &Bytes, to: &mut Vec<u8>) {
    match permit.outgoing().content_type() {
        Some(signed) if !body.is_empty() => field(&CONTENT_TYPE, signed.as_bytes(), to),
        Some(_) => {}
        None => {
            if let Some(own) = received.headers.get(&CONTENT_TYPE)
                && !hops::listed(received.headers, &CONTENT_TYPE)
            {
                field(&CONTENT_TYPE, own.as_bytes(), to);
            }
        }
    }
    let takes_body = takes_body(received.method);
    if takes_body || !body.is_empty() {
        to.put_slice(b"content-length: ");
        to.put_slice(itoa::Buffer::new().format(body.len()).as_bytes());
        to.put_slice(b"\r\n");
    }
    // Where nobody may read the body, no request comes behind it: so none is read out of it.
    if !takes_body && !body.is_empty() {
        to.put_slice(b"connection: close\r\n");
    }
}

/// Whether a body has a meaning with this method (RFC 9110, 9.3): with others backends may leave it unread.
fn takes_body(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

// `static`: a constant with a destructor would be built and dropped at each use.
static ALWAYS: [HeaderName; 6] = [
    ACCEPT,
    ACCEPT_ENCODING,
    ACCEPT_LANGUAGE,
    USER_AGENT,
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
];

/// On public routes, beside those that always pass.
static UNSIGNED: [HeaderName; 3] = [IF_NONE_MATCH, IF_MODIFIED_SINCE, RANGE];

pub(super) const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

static RESERVED: [HeaderName; 9] = [
    HOST,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    FORWARDED,
    FORWARDED_FOR,
    FORWARDED_PROTO,
    REQUEST_ID,
    http::header::EXPECT,
    HeaderName::from_static("x-forwarded-host"),
];

/// Room for a usual request.
const ROOM: usize = 2_048;
/// Texts that grew beyond this are not kept.
const MOST_ROOM: usize = 65_536;
/// Up to this length a body is copied, so that it goes out with its head.
const SHORT: usize = 16_384;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{IDENTITY_HEADER, MAC_HEADER};

    #[test]
    fn what_is_written_is_named_as_backends_look_for_it() {
        assert_eq!(IDENTITY, format!("{IDENTITY_HEADER}: ").as_bytes());
        assert_eq!(MAC, format!("{MAC_HEADER}: ").as_bytes());
        assert_eq!(REQUEST_ID, "x-request-id");
        assert_eq!([FORWARDED_FOR, FORWARDED_PROTO], ["x-forwarded-for", "x-forwarded-proto"]);
    }
}
