//! What sends requests on one connection to a backend, each with its deadline.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::SendRequest;
use tokio::time::{Instant, Sleep, sleep};

/// Sends requests on one connection, one at a time.
#[derive(Debug)]
pub(super) struct Sender {
    requests: SendRequest<Full<Bytes>>,
    /// Lives as long as the connection and is only ever set earlier, or anew when it rings too early: so a busy
    /// connection moves no timers.
    alarm: Pin<Box<Sleep>>,
}

/// The head of the reply, or the request where nothing of it was written.
pub(super) type Reply = Result<Response<Incoming>, TrySendError<Request<Full<Bytes>>>>;

impl Sender {
    /// `within` is how long replies may usually take.
    pub(super) fn new(requests: SendRequest<Full<Bytes>>, within: Duration) -> Self {
        Self { requests, alarm: Box::pin(sleep(within)) }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.requests.is_closed()
    }

    pub(super) fn is_ready(&self) -> bool {
        self.requests.is_ready()
    }

    /// Sends a request; `None` when no reply began in time. The connection must not be used again then.
    pub(super) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
        within: Duration,
    ) -> Option<Reply> {
        let due = Instant::now() + within;
        let mut reply = pin!(self.requests.try_send_request(request));
        let alarm = &mut self.alarm;
        poll_fn(|cx| {
            if let Poll::Ready(reply) = reply.as_mut().poll(cx) {
                return Poll::Ready(Some(reply));
            }
            if due < alarm.deadline() {
                alarm.as_mut().reset(due);
            }
            while alarm.as_mut().poll(cx).is_ready() {
                if due <= Instant::now() {
                    return Poll::Ready(None);
                }
                alarm.as_mut().reset(due);
            }
            Poll::Pending
        })
        .await
    }
}
