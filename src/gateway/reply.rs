//! What a client sees of a backend's reply: everything but what belongs to the backend's connection, as it comes.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use arrayvec::ArrayVec;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, Response, StatusCode, Version};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

use super::forward::ForwardFault;
use super::hops;
use super::sender::Sender;
use super::spread::Turn;

/// The body of a reply: whole, or passed on as it comes. Trailers are dropped.
#[derive(Debug)]
pub struct ReplyBody(Source);

#[derive(Debug)]
enum Source {
    Full(Option<Bytes>),
    Streaming(Box<Stream>),
}

/// Why the rest of a reply does not come. The client has its head already, so its connection must end.
#[derive(Debug)]
pub enum ReplyFault {
    /// The backend broke off.
    Broken(hyper::Error),
    /// The backend sent nothing for a minute.
    Stalled,
}

impl fmt::Display for ReplyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Broken(_) => "the backend broke off its reply",
            Self::Stalled => "the backend stopped in the middle of its reply",
        })
    }
}

impl std::error::Error for ReplyFault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Broken(error) => Some(error),
            Self::Stalled => None,
        }
    }
}

impl ReplyBody {
    /// A body that is there as a whole.
    pub fn full(bytes: Bytes) -> Self {
        Self(Source::Full(Some(bytes).filter(|bytes| !bytes.is_empty())))
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
            Source::Streaming(stream) => stream.poll(cx),
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
            Source::Streaming(stream) => {
                let (ahead, rest) = (length(stream.first.as_ref()), stream.incoming.size_hint());
                let mut hint = SizeHint::new();
                hint.set_lower(rest.lower().saturating_add(ahead));
                if let Some(upper) = rest.upper() {
                    hint.set_upper(upper.saturating_add(ahead));
                }
                hint
            }
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
    pub(super) sender: Sender,
}

impl Lease {
    fn finish(self) {
        self.turn.succeeded();
        self.turn.pool().put(self.sender);
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
    incoming: Incoming,
    /// Until the end, good or bad.
    lease: Option<Lease>,
    idle: Option<Pin<Box<Sleep>>>,
    is_waiting: bool,
}

impl Stream {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ReplyFault>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        if self.lease.is_none() {
            return Poll::Ready(None);
        }
        let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(cx) else {
            return self.poll_idle(cx).map(|()| {
                self.fail();
                Some(Err(ReplyFault::Stalled))
            });
        };
        self.is_waiting = false;
        match frame {
            None => {
                self.finish();
                Poll::Ready(None)
            }
            Some(Err(error)) => {
                self.fail();
                Poll::Ready(Some(Err(ReplyFault::Broken(error))))
            }
            Some(Ok(frame)) => {
                let data = frame.into_data().ok();
                // A body of known length is dropped at its last byte, without another poll; and after trailers
                // comes nothing.
                if data.is_none() || self.incoming.is_end_stream() {
                    self.finish();
                }
                Poll::Ready(data.map(|data| Ok(Frame::data(data))))
            }
        }
    }

    fn finish(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.finish();
        }
    }

    fn fail(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.fail();
        }
    }

    /// Ready when the backend has sent nothing for too long.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let idle = self.idle.get_or_insert_with(|| Box::pin(sleep(LONGEST_PAUSE)));
        if !std::mem::replace(&mut self.is_waiting, true) {
            idle.as_mut().reset(Instant::now() + LONGEST_PAUSE);
        }
        ready!(idle.as_mut().poll(cx));
        Poll::Ready(())
    }
}

/// Turns a backend's reply into the client's.
pub(super) async fn pass_on(
    reply: Response<Incoming>,
    lease: Lease,
) -> Result<Response<ReplyBody>, ForwardFault> {
    let (mut head, mut incoming) = reply.into_parts();
    // Nobody asked for another protocol; and a length beside chunks is how replies are smuggled.
    let is_odd = head.status == StatusCode::SWITCHING_PROTOCOLS
        || head.headers.contains_key(TRANSFER_ENCODING)
            && head.headers.contains_key(CONTENT_LENGTH);
    if is_odd {
        lease.fail();
        return Err(ForwardFault::BadReply);
    }
    head.version = Version::HTTP_11;
    strip(&mut head.headers);

    if incoming.is_end_stream() {
        lease.finish();
        return Ok(Response::from_parts(head, ReplyBody::full(Bytes::new())));
    }
    // A short reply has come whole: its connection is free before the client has read it.
    let first = poll_fn(|cx| Poll::Ready(Pin::new(&mut incoming).poll_frame(cx))).await;
    let first = match first {
        Poll::Pending => None,
        Poll::Ready(None) => {
            lease.finish();
            return Ok(Response::from_parts(head, ReplyBody::full(Bytes::new())));
        }
        Poll::Ready(Some(Err(_))) => {
            lease.fail();
            return Err(ForwardFault::Unknown);
        }
        Poll::Ready(Some(Ok(frame))) => frame.into_data().ok(),
    };
    if let Some(whole) = first.as_ref().filter(|_| incoming.is_end_stream()) {
        lease.finish();
        return Ok(Response::from_parts(head, ReplyBody::full(whole.clone())));
    }
    let stream = Stream { first, incoming, lease: Some(lease), idle: None, is_waiting: false };
    Ok(Response::from_parts(head, ReplyBody(Source::Streaming(Box::new(stream)))))
}

/// Removes what belongs to the backend's connection, and what only the gateway says.
fn strip(headers: &mut HeaderMap) {
    let lists = hops::lists(headers);
    loop {
        let ends = |name: &&HeaderName| {
            hops::ends_here(name) || hops::is_ours(name) || lists && hops::listed(headers, name)
        };
        // `connection` itself goes last, since the others are looked up in it.
        let names: ArrayVec<HeaderName, 8> = headers
            .keys()
            .filter(ends)
            .filter(|name| *name != http::header::CONNECTION)
            .take(8)
            .cloned()
            .collect();
        for name in &names {
            headers.remove(name);
        }
        if !names.is_full() {
            break;
        }
    }
    headers.remove(http::header::CONNECTION);
}

/// The longest that a backend may pause in the middle of a reply.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
