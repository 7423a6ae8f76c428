//! What a client sees of a backend's reply: everything but what belongs to the backend's connection, as it comes.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

use super::back::Connection;
use super::forward::ForwardFault;
use super::reply_head::{Passed, ReplyHead};
use super::reply_rest::Rest;
use super::request_id::RequestId;
use super::spread::Turn;
use crate::admit::Seal;
use crate::clock::Micros;
use crate::dialect::Said;

/// A reply on its way to the client: a backend's, or one of our own.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) head: Head,
    pub(super) body: ReplyBody,
}

/// The head of a reply.
#[derive(Debug)]
pub(super) enum Head {
    /// As a backend wrote it, and the fields we set: in place of any of the same name.
    Passed(Box<ReplyHead>, Vec<(HeaderName, Value)>),
    /// Ours. Boxed, so that a reply is small: it is handed on from step to step.
    Own(StatusCode, Box<HeaderMap>),
}

/// What a field that we set says. What can be written straight into an answer takes no memory before.
#[derive(Debug)]
pub(super) enum Value {
    Said(Said),
    Id(RequestId),
}

impl From<Value> for HeaderValue {
    fn from(value: Value) -> Self {
        match value {
            Value::Said(said) => said.into(),
            Value::Id(id) => id.value(),
        }
    }
}

impl Reply {
    pub(super) fn status(&self) -> StatusCode {
        match &self.head {
            Head::Passed(head, _) => head.status,
            Head::Own(status, _) => *status,
        }
    }

    /// Sets a field.
    pub(super) fn set(&mut self, name: HeaderName, value: Value) {
        match &mut self.head {
            Head::Passed(_, ours) => ours.push((name, value)),
            Head::Own(_, fields) => drop(fields.insert(name, value.into())),
        }
    }

    /// The same reply, signed: its body is held back until it has come whole. One that is longer than [`MOST_SEALED`]
    /// goes on unsigned, so that a client that checks refuses it, and one that does not is served.
    pub(super) async fn sealed(mut self, seal: Seal) -> Result<Self, ForwardFault> {
        if !self.body.gather(MOST_SEALED).await? {
            return Ok(self);
        }
        let body = self.body.whole().unwrap_or_default();
        let (name, value) = seal.sign(self.media_type(), body);
        self.set(name, Value::Said(Said::Text(value)));
        Ok(self)
    }

    /// The content type as the client reads it; empty where there is none.
    fn media_type(&self) -> &[u8] {
        match &self.head {
            Head::Passed(head, ours) => {
                let own = ours.iter().find_map(|(name, value)| match value {
                    Value::Said(Said::Text(value)) if *name == CONTENT_TYPE => Some(value),
                    Value::Said(_) | Value::Id(_) => None,
                });
                let theirs = || {
                    let is = |field: &Passed<'_>| field.name == CONTENT_TYPE.as_str().as_bytes();
                    head.fields().find(is).map(|field| field.value)
                };
                own.map(HeaderValue::as_bytes).or_else(theirs).unwrap_or_default()
            }
            Head::Own(_, fields) => {
                fields.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default()
            }
        }
    }

    /// The same reply as hyper takes it.
    pub(super) fn into_response(self) -> Response<ReplyBody> {
        let status = self.status();
        let mut response = Response::new(self.body);
        *response.status_mut() = status;
        *response.headers_mut() = match self.head {
            Head::Own(_, fields) => *fields,
            Head::Passed(head, ours) => {
                let reason = head.reason().map(<[u8]>::to_vec);
                if let Some(Ok(reason)) = reason.map(hyper::ext::ReasonPhrase::try_from) {
                    response.extensions_mut().insert(reason);
                }
                let mut fields = head.map();
                // Clients of HTTP/2 take it for the length of a body that never comes.
                if status == StatusCode::NO_CONTENT {
                    fields.remove(CONTENT_LENGTH);
                }
                for (name, value) in ours {
                    fields.insert(name, value.into());
                }
                fields
            }
        };
        response
    }
}

impl From<Response<ReplyBody>> for Reply {
    fn from(response: Response<ReplyBody>) -> Self {
        let (head, body) = response.into_parts();
        Self { head: Head::Own(head.status, Box::new(head.headers)), body }
    }
}

/// The body of a reply: whole, or passed on as it comes. Trailers are dropped.
#[derive(Debug)]
pub struct ReplyBody(Source);

#[derive(Debug)]
enum Source {
    Full(Option<Bytes>),
    Streaming(Box<Stream>),
}

/// Why the rest of a reply does not come. The client has its head already, so its connection must end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ReplyFault {
    /// The backend broke off.
    Broken,
    /// The backend sent nothing for a minute.
    Stalled,
    /// The key of the request has ended.
    Cut,
}

impl fmt::Display for ReplyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Broken => "the backend broke off its reply",
            Self::Stalled => "the backend stopped in the middle of its reply",
            Self::Cut => "the key of the request has ended",
        })
    }
}

impl std::error::Error for ReplyFault {}

impl From<ReplyFault> for ForwardFault {
    fn from(fault: ReplyFault) -> Self {
        match fault {
            ReplyFault::Broken | ReplyFault::Cut => Self::Unknown,
            ReplyFault::Stalled => Self::TimedOut,
        }
    }
}

impl ReplyBody {
    /// A body that is there as a whole.
    pub fn full(bytes: Bytes) -> Self {
        Self(Source::Full(Some(bytes).filter(|bytes| !bytes.is_empty())))
    }

    /// Waits until the body has come whole; whether it has, within so many bytes. What has come stays in front.
    async fn gather(&mut self, most: usize) -> Result<bool, ForwardFault> {
        let Source::Streaming(stream) = &mut self.0 else { return Ok(true) };
        let mut whole = BytesMut::new();
        while let Some(data) = poll_fn(|cx| stream.poll(cx)).await {
            whole.extend_from_slice(&data?);
            if whole.len() > most {
                stream.first = Some(whole.freeze());
                return Ok(false);
            }
        }
        self.0 = Source::Full(Some(whole.freeze()).filter(|whole| !whole.is_empty()));
        Ok(true)
    }

    /// The whole body, where it is there.
    pub(super) fn whole(&self) -> Option<&[u8]> {
        match &self.0 {
            Source::Full(bytes) => Some(bytes.as_deref().unwrap_or_default()),
            Source::Streaming(_) => None,
        }
    }
}

impl From<Bytes> for ReplyBody {
    fn from(bytes: Bytes) -> Self {
        Self::full(bytes)
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = ReplyFault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ReplyFault>>> {
        match &mut self.0 {
            Source::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Source::Streaming(stream) => {
                stream.poll(cx).map(|data| data.map(|d| d.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Source::Full(bytes) => bytes.is_none(),
            Source::Streaming(stream) => stream.first.is_none() && stream.lease.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Source::Full(bytes) => SizeHint::with_exact(length(bytes.as_ref())),
            Source::Streaming(stream) => match stream.rest {
                Rest::Length(left) => {
                    SizeHint::with_exact(left.saturating_add(length(stream.first.as_ref())))
                }
                Rest::Nothing => SizeHint::with_exact(length(stream.first.as_ref())),
                Rest::Chunks(_) | Rest::Close => SizeHint::default(),
            },
        }
    }
}

fn length(bytes: Option<&Bytes>) -> u64 {
    bytes.map_or(0, |bytes| u64::try_from(bytes.len()).unwrap_or(u64::MAX))
}

/// A connection that is in use until the reply it carries has come to its end.
///
/// Dropped earlier, it ends the connection: what is left of the reply must not meet the next request.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) turn: Turn,
    pub(super) connection: Box<Connection>,
}

impl Lease {
    fn finish(self, now: Micros) {
        self.turn.succeeded();
        self.turn.pool().put(self.connection, now);
    }

    fn fail(self) {
        self.turn.failed();
    }
}

/// A reply that is still coming.
#[derive(Debug)]
struct Stream {
    /// What had come with the head.
    first: Option<Bytes>,
    rest: Rest,
    /// Until the end, good or bad.
    lease: Option<Lease>,
    idle: Option<Pin<Box<Sleep>>>,
    is_waiting: bool,
}

impl Stream {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, ReplyFault>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        let Some(lease) = &mut self.lease else { return Poll::Ready(None) };
        loop {
            match self.rest.take(lease.connection.held()) {
                Ok(data) if self.rest == Rest::Nothing => {
                    self.finish();
                    return Poll::Ready(data.map(Ok));
                }
                Ok(Some(data)) => {
                    self.is_waiting = false;
                    return Poll::Ready(Some(Ok(data)));
                }
                Ok(None) => {}
                Err(_) => return Poll::Ready(Some(Err(self.fail(ReplyFault::Broken)))),
            }
            match lease.connection.poll_more(cx) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0)) if self.rest == Rest::Close => {
                    self.finish();
                    return Poll::Ready(None);
                }
                Poll::Ready(Ok(0) | Err(_)) => {
                    return Poll::Ready(Some(Err(self.fail(ReplyFault::Broken))));
                }
                Poll::Pending => {
                    ready!(self.poll_idle(cx));
                    return Poll::Ready(Some(Err(self.fail(ReplyFault::Stalled))));
                }
            }
        }
    }

    fn finish(&mut self) {
        if let Some(lease) = self.lease.take() {
            let now = lease.turn.pool().now();
            lease.finish(now);
        }
    }

    fn fail(&mut self, fault: ReplyFault) -> ReplyFault {
        if let Some(lease) = self.lease.take() {
            lease.fail();
        }
        fault
    }

    /// Ready when the backend has sent nothing for too long.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let idle = self.idle.get_or_insert_with(|| Box::pin(sleep(LONGEST_PAUSE)));
        if !std::mem::replace(&mut self.is_waiting, true) {
            idle.as_mut().reset(Instant::now() + LONGEST_PAUSE);
        }
        idle.as_mut().poll(cx)
    }
}

/// Turns a backend's reply into the client's. A short one has come whole: then its connection is free before the
/// client has read it.
///
/// `now` is when its head had come.
pub(super) fn pass_on(
    head: Box<ReplyHead>,
    mut lease: Lease,
    now: Micros,
) -> Result<Reply, ForwardFault> {
    let mut rest = Rest::from(head.framing);
    let Ok(first) = what_has_come(&mut rest, lease.connection.held()) else {
        lease.fail();
        return Err(ForwardFault::BadReply);
    };
    let body = if rest == Rest::Nothing {
        lease.finish(now);
        ReplyBody::full(first.unwrap_or_default())
    } else {
        let stream = Stream { first, rest, lease: Some(lease), idle: None, is_waiting: false };
        ReplyBody(Source::Streaming(Box::new(stream)))
    };
    Ok(Reply { head: Head::Passed(head, Vec::with_capacity(OURS)), body })
}

/// The data that came along with the head.
fn what_has_come(
    rest: &mut Rest,
    held: &mut BytesMut,
) -> Result<Option<Bytes>, super::reply_head::Odd> {
    let Some(first) = rest.take(held)? else { return Ok(None) };
    let Some(second) = rest.take(held)? else { return Ok(Some(first)) };
    let mut whole = BytesMut::with_capacity(first.len() + second.len() + held.len());
    whole.extend_from_slice(&first);
    whole.extend_from_slice(&second);
    while let Some(next) = rest.take(held)? {
        whole.extend_from_slice(&next);
    }
    Ok(Some(whole.freeze()))
}

/// How many fields we set at most, usually. As many as fill what is nearly 512 bytes: sizes just below a power of two
/// are what the allocator has at hand.
const OURS: usize = 512 / size_of::<(HeaderName, Value)>();

/// The longest body that is held back to be signed.
const MOST_SEALED: usize = 4 << 20;

/// The longest that a backend may pause in the middle of a reply.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
