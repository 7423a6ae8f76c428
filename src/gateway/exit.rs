//! The one exit: every request that has a head ends here, and whoever counts hears of it exactly once.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use hyper::body::{Body, Frame, SizeHint};

use super::cut::Enlisted;
use super::observe::{Finished, Outcome, Skew, Tally};
use super::pulse::Pulse;
use super::reply::{Head, Reply, ReplyBody, ReplyFault};
use super::request::REQUEST_ID;
use super::request_id::RequestId;
use crate::admit::Permit;
use crate::denial::Denial;
use crate::key::Key;

/// What is known of a request while it lives. Reported when dropped, so that no way out can miss it.
pub(super) struct Record<T: Tally> {
    tally: Rc<T>,
    pulse: Rc<Pulse>,
    pub(super) started: Instant,
    /// When it was last looked at the clock.
    pub(super) latest: Instant,
    status: Option<StatusCode>,
    complete: bool,
    pub(super) request_id: RequestId,
    pub(super) route: Option<u16>,
    pub(super) outcome: Option<Outcome>,
    pub(super) denial: Option<Denial>,
    pub(super) verify: Duration,
    pub(super) upstream: Option<(usize, Duration)>,
    pub(super) skew: Option<Skew>,
    /// Whose request it is, where keys can end.
    key: Option<Arc<Key>>,
    /// How many endings have been looked at.
    endings: Cell<u64>,
    /// The place of its task, where that is its own.
    pub(super) enlisted: Option<Enlisted>,
}

impl<T: Tally> Record<T> {
    pub(super) fn open(tally: &Rc<T>, pulse: &Rc<Pulse>, request_id: RequestId) -> Self {
        pulse.begin();
        let started = Instant::now();
        Self {
            tally: Rc::clone(tally),
            pulse: Rc::clone(pulse),
            started,
            latest: started,
            status: None,
            complete: false,
            request_id,
            route: None,
            outcome: None,
            denial: None,
            verify: Duration::ZERO,
            upstream: None,
            skew: None,
            key: None,
            endings: Cell::new(0),
            enlisted: None,
        }
    }

    /// It was admitted: from here on it is cut when its key ends, or has ended since there were `endings`.
    pub(super) fn hold(&mut self, permit: &Permit, endings: u64) {
        if self.pulse.endings.is_some() {
            self.key = permit.shared_key().map(Arc::clone);
            self.endings.set(endings);
        }
    }

    /// Whether its key has ended.
    pub(super) fn is_cut(&self) -> bool {
        let (Some(key), Some(endings)) = (&self.key, &self.pulse.endings) else { return false };
        let count = endings.count();
        if count == self.endings.get() {
            return false;
        }
        let is_cut = endings.holds(key);
        if !is_cut {
            self.endings.set(count);
        }
        is_cut
    }

    /// The answer begins: it is named.
    pub(super) fn answer(&mut self, reply: &mut Reply) {
        self.status = Some(reply.status());
        self.pulse.reply(self.latest.into());
        reply.set(REQUEST_ID, self.request_id.value());
    }

    /// The whole answer has gone out.
    pub(super) fn complete(&mut self) {
        self.complete = true;
    }

    /// Sends the answer off by hyper; the record lives on with its body.
    pub(super) fn close(mut self, mut reply: Reply, head_only: bool) -> Response<Outbound<T>> {
        self.answer(&mut reply);
        if head_only {
            headless(&mut reply);
        }
        reply.into_response().map(|body| {
            self.complete = body.is_end_stream();
            Outbound { body, record: self }
        })
    }
}

/// The same answer without its body, whose length it still tells. Those of backends have none.
fn headless(reply: &mut Reply) {
    let length = reply.body.size_hint().exact();
    if let (Head::Own(_, fields), Some(length)) = (&mut reply.head, length) {
        tell(fields, length);
    }
    reply.body = ReplyBody::full(Bytes::new());
}

fn tell(fields: &mut HeaderMap, length: u64) {
    fields.entry(header::CONTENT_LENGTH).or_insert(HeaderValue::from(length));
}

impl<T: Tally> Drop for Record<T> {
    fn drop(&mut self) {
        let now = Instant::now();
        self.pulse.end(self.status.is_some(), now.into());
        let lost = if std::thread::panicking() { Outcome::Panicked } else { Outcome::Aborted };
        let finished = Finished {
            request_id: self.request_id.as_str(),
            route: self.route,
            outcome: match self.outcome {
                Some(Outcome::Cut) => Outcome::Cut,
                outcome => outcome.filter(|_| self.status.is_some()).unwrap_or(lost),
            },
            denial: self.denial.as_ref(),
            status: self.status,
            complete: self.complete,
            verify: self.verify,
            upstream: self.upstream,
            skew: self.skew,
            total: now - self.started,
        };
        self.tally.finished(&finished);
    }
}

/// The body of an answer, with the record of its request.
pub(super) struct Outbound<T: Tally> {
    body: ReplyBody,
    record: Record<T>,
}

impl<T: Tally> Body for Outbound<T> {
    type Data = Bytes;
    type Error = <ReplyBody as Body>::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let Self { body, record } = self.get_mut();
        if record.is_cut() {
            record.outcome = Some(Outcome::Cut);
            return Poll::Ready(Some(Err(ReplyFault::Cut)));
        }
        let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
        record.pulse.moved();
        record.complete = match &frame {
            None => true,
            Some(Ok(_)) => body.is_end_stream(),
            Some(Err(_)) => false,
        };
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
