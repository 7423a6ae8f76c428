//! Defeats smuggling by an upgrade: a connection becomes a WebSocket only where both its ends say so, in full.
//!
//! A handshake is read by one strict rule and goes the whole way of a request. It is written anew for the backend;
//! only where the backend's answer proves that it understood is the client told so, and from there on [`tunnel`]
//! passes bytes on. Every other answer is an ordinary one.
//!
//! [`tunnel`]: super::tunnel

use std::pin::pin;
use std::time::Instant;

use bytes::{BufMut, BytesMut};
use data_encoding::BASE64;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, ORIGIN, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{Response, StatusCode};
use sha1::{Digest, Sha1};
use tokio::net::TcpStream;

use super::conclude::{Unanswered, unless_cut};
use super::exit::{Known, Record};
use super::forward::{ForwardFault, Ready, Upgraded};
use super::hops;
use super::observe::Observer;
use super::refusal::Refusal;
use super::reply::{Reply, ReplyBody};
use super::reply_head::ReplyHead;
use super::request_id::RequestId;
use super::routes::{Entry, Target};
use super::serve::Line;
use super::tunnels::{Place, Tunnels};
use super::worker::Worker;
use crate::clock::{Clock, Micros};
use crate::dialect::{FieldValue, Fields};
use crate::registry::Keys;
use crate::store::Store;

/// A client's half of an opening handshake.
#[derive(Clone, Copy, Debug)]
pub(super) struct Handshake<'r> {
    headers: Fields<'r>,
    key: &'r [u8],
}

/// A connection that both ends have agreed to use as a WebSocket, before its first byte.
pub(super) struct Agreed {
    pub(super) backend: TcpStream,
    /// What has come from the backend behind its answer.
    pub(super) held: BytesMut,
    /// Whose it is; `None` on public routes.
    pub(super) known: Option<Known>,
    /// How many endings of keys have been looked at.
    pub(super) endings: u64,
    pub(super) route: u16,
    pub(super) request_id: RequestId,
    pub(super) peer: std::net::IpAddr,
    pub(super) at: Micros,
    pub(super) since: Instant,
    pub(super) _place: Place,
}

impl std::fmt::Debug for Agreed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Agreed({:?})", self.request_id)
    }
}

/// Whether a request asks for a WebSocket, rightly or not.
pub(super) fn is_sought(headers: Fields<'_>) -> bool {
    headers.get_all(&UPGRADE).any(is_websocket)
}

impl<'r> Handshake<'r> {
    /// The handshake that a route asks for, if it does.
    pub(super) fn read(entry: &Entry, headers: Fields<'r>) -> Result<Option<Self>, Refusal> {
        let Target::WebSocket(_) = entry.target else { return Ok(None) };
        if headers.contains(&CONTENT_LENGTH) || headers.contains(&TRANSFER_ENCODING) {
            return Err(bad("a request for a WebSocket has no body"));
        }
        if !only(headers, &UPGRADE).is_some_and(is_websocket)
            || !hops::listed(headers, &UPGRADE)
            || only(headers, &SEC_WEBSOCKET_VERSION)
                .is_none_or(|version| version.as_bytes() != VERSION.as_bytes())
        {
            let status = StatusCode::UPGRADE_REQUIRED;
            return Err(Refusal::Broken(status, "only WebSockets of version 13 are opened here"));
        }
        let key = only(headers, &SEC_WEBSOCKET_KEY).map(FieldValue::as_bytes);
        let key = key.filter(|key| is_key(key));
        let key = key.ok_or(bad("Sec-WebSocket-Key is not 16 bytes in base64"))?;
        Ok(Some(Self { headers, key }))
    }

    /// What tells a client what would be understood here.
    pub(super) fn required(headers: &mut HeaderMap) {
        headers.insert(UPGRADE, WEBSOCKET);
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(SEC_WEBSOCKET_VERSION, VERSION);
    }

    /// Writes the fields that a backend sees of it.
    pub(super) fn write(&self, to: &mut Vec<u8>) {
        to.put_slice(b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n");
        for name in [ORIGIN, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_EXTENSIONS] {
            for value in self.headers.get_all(&name) {
                for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                    to.put_slice(part);
                }
            }
        }
    }

    /// The client's half of the answer, if the backend's is what this handshake asks for.
    fn answered(&self, head: &ReplyHead) -> Option<Reply> {
        let mut fields = head.map();
        let accept = only((&fields).into(), &SEC_WEBSOCKET_ACCEPT)?;
        if accept.as_bytes() != accepted(self.key) {
            return None;
        }
        // What the client did not offer was agreed on by nobody.
        for name in [SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_EXTENSIONS] {
            if fields.contains_key(&name) && !self.headers.contains(&name) {
                return None;
            }
        }
        fields.insert(UPGRADE, WEBSOCKET);
        fields.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        let mut reply = Response::new(ReplyBody::full(bytes::Bytes::new()));
        *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *reply.headers_mut() = fields;
        Some(reply.into())
    }
}

impl<K: Keys, S: Store, C: Clock, O: Observer> Worker<K, S, C, O> {
    /// Opens a WebSocket at a backend. Where that comes about it is left in the line, for when the answer is out.
    pub(super) async fn open_websocket(
        &self,
        line: &Line,
        handshake: &Handshake<'_>,
        ready: Ready<'_>,
        entry: &Entry,
        (upstream, at): (usize, Instant),
        record: &Record<O::Tally>,
    ) -> Result<Reply, Unanswered> {
        let key = record.proven.as_ref().map(|known| &known.key);
        let place = Tunnels::take(&self.tunnels, key, record.peer).map_err(Refusal::Denied)?;
        record.ask(upstream, at);
        let upgraded = unless_cut(record, pin!(ready.upgrade(handshake, &record.sent))).await?;
        let (head, lease) = match upgraded.map_err(Refusal::Failed)? {
            Upgraded::Otherwise(reply) => return Ok(reply),
            Upgraded::Switched(head, lease) => (head, lease),
        };
        let Some(reply) = handshake.answered(&head) else {
            lease.turn.failed();
            return Err(Refusal::Failed(ForwardFault::BadReply).into());
        };
        // It is in nobody's way from here on: it counts among the WebSockets, and no more among the requests.
        lease.turn.succeeded();
        let (backend, come) = lease.connection.into_parts();
        let agreed = Agreed {
            backend,
            held: come,
            known: record.proven.clone(),
            endings: record.endings(),
            route: entry.demand.id,
            request_id: record.request_id,
            peer: record.peer,
            at: self.gate.clock.now(),
            since: Instant::now(),
            _place: place,
        };
        line.agreed.replace(Some(Box::new(agreed)));
        Ok(reply)
    }
}

/// The one value of a field that stands once.
fn only<'h>(headers: Fields<'h>, name: &HeaderName) -> Option<FieldValue<'h>> {
    let mut values = headers.get_all(name);
    values.next().filter(|_| values.next().is_none())
}

fn is_websocket(value: FieldValue<'_>) -> bool {
    value.as_bytes().eq_ignore_ascii_case(WEBSOCKET.as_bytes())
}

fn is_key(key: &[u8]) -> bool {
    BASE64.decode(key).is_ok_and(|bytes| bytes.len() == 16)
}

/// What proves that a server has understood a handshake with this key (RFC 6455, 4.2.2).
fn accepted(key: &[u8]) -> Vec<u8> {
    const SALT: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    let digest = Sha1::new().chain_update(key).chain_update(SALT).finalize();
    BASE64.encode(&digest).into_bytes()
}

const fn bad(text: &'static str) -> Refusal {
    Refusal::Broken(StatusCode::BAD_REQUEST, text)
}

const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");
const VERSION: HeaderValue = HeaderValue::from_static("13");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proof_is_that_of_the_standard() {
        assert_eq!(accepted(b"dGhlIHNhbXBsZSBub25jZQ=="), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn a_key_is_sixteen_bytes_in_strict_base64() {
        for (key, good) in [
            ("dGhlIHNhbXBsZSBub25jZQ==", true),
            ("dGhlIHNhbXBsZSBub25jZQ=", false),
            ("dGhlIHNhbXBsZSBub25jZR==", false),
            ("dGhlIHNhbXBsZSBub25jZQ==,dGhlIHNhbXBsZSBub25jZQ==", false),
            ("dGhlIHNhbXBsZSBub25jZSE=", false),
            ("", false),
        ] {
            assert_eq!(is_key(key.as_bytes()), good, "{key}");
        }
    }
}
