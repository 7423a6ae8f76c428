//! What a backend sees of a request: what was signed, an allow list of header fields, and our proof of who sent it.

use bytes::{Bytes, BytesMut};
use http::header::{
    ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, CONTENT_LENGTH, CONTENT_TYPE, FORWARDED, HOST,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, RANGE, USER_AGENT,
};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use http_body_util::Full;

use super::forward::Received;
use super::hops;
use super::identity::{self, IDENTITY, MAC, Statement};
use crate::admit::{Ask, Permit, Route};
use crate::config::Upstream;
use crate::dialect::{Dialect, Place};
use crate::identity::Proof;
use crate::key::PermissionNames;

/// The header field that names a request, to the client and to the backend.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Composes the request for a backend; `None` when it cannot be written as HTTP, or not be signed.
///
/// Its short texts are cut from `arena`, so that a request does not allocate each of them.
pub(super) fn compose(
    upstream: &Upstream,
    names: &PermissionNames,
    permit: &Permit,
    route: &Route,
    received: &Received<'_>,
    arena: &mut BytesMut,
) -> Option<Request<Full<Bytes>>> {
    arena.reserve(ARENA);
    let body = permit.outgoing().body(&received.body);
    let target = target(permit, received, arena);
    let mut headers = HeaderMap::with_capacity(FIELDS);
    headers.insert(
        HOST,
        match &upstream.host {
            Some(host) => host.clone(),
            None => value(received.host.as_bytes(), arena)?,
        },
    );
    pass(upstream, route, received, &mut headers);
    media_type(permit, received, &body, &mut headers);

    Statement {
        request_id: received.request_id,
        proof: match &route.ask {
            Ask::Signed(_) => Proof::Signature,
            Ask::Key(_) => Proof::Key,
            Ask::Public => Proof::None,
        },
        key: permit.key(),
        venue: &route.venue.0,
        permissions: names,
        client: received.client,
        deadline: permit.good_until(),
        body: &body,
    }
    .write(arena);
    let identity = arena.split().freeze();
    if let Some(secret) = &upstream.identity_key {
        let mac = identity::mac(secret, received.method.as_str(), &target, &identity)?;
        headers.insert(MAC, value(&mac, arena)?);
    }
    headers.insert(IDENTITY, HeaderValue::from_maybe_shared(identity).ok()?);
    headers.insert(REQUEST_ID, value(received.request_id.as_bytes(), arena)?);
    identity::write_address(received.client, arena);
    headers.insert(FORWARDED_FOR, HeaderValue::from_maybe_shared(arena.split().freeze()).ok()?);
    let scheme = if received.tls { "https" } else { "http" };
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static(scheme));

    let mut request = Request::new(Full::new(body));
    *request.method_mut() = received.method.clone();
    *request.uri_mut() = Uri::from(PathAndQuery::from_maybe_shared(target).ok()?);
    *request.headers_mut() = headers;
    Some(request)
}

fn target(permit: &Permit, received: &Received<'_>, arena: &mut BytesMut) -> Bytes {
    arena.extend_from_slice(received.path.as_bytes());
    if let Some(query) = permit.outgoing().query(received.query) {
        arena.extend_from_slice(b"?");
        arena.extend_from_slice(query.as_bytes());
    }
    arena.split().freeze()
}

fn value(text: &[u8], arena: &mut BytesMut) -> Option<HeaderValue> {
    arena.extend_from_slice(text);
    HeaderValue::from_maybe_shared(arena.split().freeze()).ok()
}

/// Copies the header fields of the client that may pass.
fn pass(upstream: &Upstream, route: &Route, received: &Received<'_>, to: &mut HeaderMap) {
    let lists = hops::lists(received.headers);
    for (name, value) in received.headers {
        let listed = || lists && hops::listed(received.headers, name);
        if may_pass(name, upstream, route) && !listed() {
            to.append(name.clone(), value.clone());
        }
    }
}

fn may_pass(name: &HeaderName, upstream: &Upstream, route: &Route) -> bool {
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

/// Whether `name` holds the key id, which is public.
fn names_key(dialect: &Dialect, name: &HeaderName) -> bool {
    matches!(&dialect.key, Place::Header(key) if key == name)
}

/// What no configuration can pass on: another hop's fields, framing, and what only the gateway says.
fn is_reserved(name: &HeaderName) -> bool {
    hops::is_ours(name) || hops::ends_here(name) || RESERVED.contains(name)
}

fn is_credential(route: &Route, name: &HeaderName) -> bool {
    match &route.ask {
        Ask::Public => false,
        Ask::Key(dialect) | Ask::Signed(dialect) => {
            dialect.credential_headers().any(|credential| credential == name)
        }
    }
}

/// Says what the body is: by the recipe where it was signed, else as the client said. And that there is none,
/// where a backend would wonder.
fn media_type(permit: &Permit, received: &Received<'_>, body: &Bytes, to: &mut HeaderMap) {
    match permit.outgoing().content_type() {
        Some(signed) if !body.is_empty() => {
            to.insert(CONTENT_TYPE, HeaderValue::from_static(signed));
        }
        Some(_) => {}
        None => {
            let listed = hops::listed(received.headers, &CONTENT_TYPE);
            if let Some(own) = received.headers.get(CONTENT_TYPE).filter(|_| !listed) {
                to.insert(CONTENT_TYPE, own.clone());
            }
        }
    }
    let expects_one = [Method::POST, Method::PUT, Method::PATCH].contains(received.method);
    if body.is_empty() && expects_one {
        to.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
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

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
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

/// Room for the texts of a usual request.
const ARENA: usize = 1_024;
/// Header fields of a usual request.
const FIELDS: usize = 12;
