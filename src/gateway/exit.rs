//! The one exit: every request that has a head ends here, and whoever counts hears of it exactly once.

use std::cell::Cell;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use hyper::body::{Body, Frame, SizeHint};

use super::cut::Enlisted;
use super::forward::ForwardFault;
use super::observe::{Finished, Intent, Outcome, Proven, Skew, Tally};
use super::pulse::Pulse;
use super::reply::{Head, Reply, ReplyBody, ReplyFault, Value};
use super::request::REQUEST_ID;
use super::request_id::RequestId;
use super::serve::Line;
use super::standing::{MOST_TOLD, Told};
use crate::clock::Micros;
use crate::denial::{Denial, Shadowed};
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
    pub(super) at: Micros,
    pub(super) peer: IpAddr,
    pub(super) proven: Option<Known>,
    pub(super) route: Option<u16>,
    pub(super) outcome: Option<Outcome>,
    pub(super) denial: Option<Denial>,
    /// What rules in shadow would have refused.
    pub(super) shadowed: Shadowed,
    /// Whether this gateway judged it alone.
    pub(super) is_local: bool,
    /// How full its limits are, as its client is told; without the one that refused it.
    pub(super) standing: ArrayVec<Told, MOST_TOLD>,
    pub(super) verify: Duration,
    pub(super) upstream: Option<(usize, Duration)>,
    /// Which upstream is being asked, and since when.
    asked: Cell<Option<(usize, Instant)>>,
    /// Whether a backend may have it, or a part of it.
    pub(super) sent: Cell<bool>,
    pub(super) skew: Option<Skew>,
    /// Why a backend's answer broke off.
    fault: Option<ReplyFault>,
    /// Whether it was admitted, and keys can end.
    held: bool,
    /// How many endings have been looked at.
    endings: Cell<u64>,
    /// The place of its task, where that is its own.
    pub(super) enlisted: Option<Enlisted>,
}

/// Who sent a request, kept until it ends.
#[derive(Clone)]
pub(super) struct Known {
    pub(super) key: Arc<Key>,
    pub(super) method: Method,
    pub(super) path: Path,
    pub(super) signed: bool,
}

/// A path that is kept.
#[derive(Clone)]
pub(super) enum Path {
    /// A short one: the memory of its request is free for the next.
    Short(ArrayVec<u8, SHORT_PATH>),
    /// ASCII that we have read ourselves.
    Plain(Bytes),
    /// What hyper has read.
    Uri(Option<PathAndQuery>),
}

/// So long is every path of an API that names no more than a thing and its id.
const SHORT_PATH: usize = 60;

impl Known {
    pub(super) fn proven(&self) -> Proven<'_> {
        let Self { key, method, path, signed } = self;
        Proven { key, method, path: path.as_bytes(), signed: *signed }
    }
}

impl Path {
    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short(text) => text,
            Self::Plain(text) => text,
            Self::Uri(target) => target.as_ref().map_or("/", PathAndQuery::path).as_bytes(),
        }
    }
}

impl<T: Tally> Record<T> {
    /// The record of a request whose head had come at the moment `at`, by either clock.
    pub(super) fn open(
        tally: &Rc<T>,
        line: &Line,
        request_id: RequestId,
        (at, started): (Micros, Instant),
    ) -> Self {
        let pulse = &line.pulse;
        pulse.begin();
        Self {
            tally: Rc::clone(tally),
            pulse: Rc::clone(pulse),
            started,
            latest: started,
            status: None,
            complete: false,
            request_id,
            at,
            peer: line.peer,
            proven: None,
            route: None,
            outcome: None,
            denial: None,
            shadowed: Shadowed::default(),
            is_local: false,
            standing: ArrayVec::new(),
            verify: Duration::ZERO,
            upstream: None,
            asked: Cell::new(None),
            sent: Cell::new(false),
            skew: None,
            fault: None,
            held: false,
            endings: Cell::new(0),
            enlisted: None,
        }
    }

    /// It was admitted: from here on it is cut when its key ends, or has ended since there were `endings`.
    pub(super) fn hold(&mut self, endings: u64) {
        self.held = self.pulse.endings.is_some();
        self.endings.set(endings);
    }

    /// How many endings of keys have been looked at.
    pub(super) fn endings(&self) -> u64 {
        self.endings.get()
    }

    /// It ended before its end: where its key has ended too, that is why.
    fn note_cut(&mut self) {
        if self.is_cut() {
            self.outcome = Some(Outcome::Cut);
        }
    }

    /// Whether its key has ended.
    pub(super) fn is_cut(&self) -> bool {
        let known = self.proven.as_ref().filter(|_| self.held);
        let (Some(known), Some(endings)) = (known, &self.pulse.endings) else { return false };
        let count = endings.count();
        if count == self.endings.get() {
            return false;
        }
        let is_cut = endings.holds(&known.key);
        if !is_cut {
            self.endings.set(count);
        }
        is_cut
    }

    /// That it is about to be forwarded, where it is known whose it is.
    pub(super) fn intent(&self, required: bool) -> Option<Intent<'_>> {
        Some(Intent {
            request_id: &self.request_id,
            at: self.at,
            peer: self.peer,
            route: self.route?,
            proven: self.proven.as_ref()?.proven(),
            required,
        })
    }

    /// An upstream is asked from the moment `at` on. If nobody is left to hear the answer, this is what is known.
    pub(super) fn ask(&self, upstream: usize, at: Instant) {
        self.asked.set(Some((upstream, at)));
    }

    /// An upstream was asked at the moment `asked`, and its answer had begun at `now`, or there was none.
    pub(super) fn heard(&mut self, upstream: usize, asked: Instant, now: Instant) {
        self.latest = now;
        self.upstream = Some((upstream, now - asked));
    }

    /// The answer begins: it is named.
    pub(super) fn answer(&mut self, reply: &mut Reply) {
        self.status = Some(reply.status());
        self.pulse.reply(self.latest.into());
        reply.set(REQUEST_ID, Value::Id(self.request_id));
    }

    /// Its answer broke off, for this reason if the client did not leave.
    pub(super) fn note_break(&mut self, fault: Option<ReplyFault>) {
        self.fault = fault;
        self.note_cut();
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
        let unheard = self.asked.get().map(|(upstream, asked)| (upstream, now - asked));
        let finished = Finished {
            request_id: &self.request_id,
            at: self.at,
            peer: self.peer,
            proven: self.proven.as_ref().map(Known::proven),
            route: self.route,
            outcome: match self.outcome {
                Some(Outcome::Cut) => Outcome::Cut,
                Some(Outcome::Forwarded | Outcome::Answered) if !self.complete => {
                    self.fault.map_or(lost, |fault| Outcome::Failed(fault.into()))
                }
                outcome => outcome.filter(|_| self.status.is_some()).unwrap_or(lost),
            },
            denial: self.denial.as_ref(),
            shadowed: self.shadowed,
            is_local: self.is_local,
            status: self.status,
            complete: self.complete,
            verify: self.verify,
            upstream: self.upstream.or(unheard),
            unheard: unheard.filter(|_| self.upstream.is_none()).map(|_| {
                if self.sent.get() { ForwardFault::Unknown } else { ForwardFault::Unsent }
            }),
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
            Some(Err(fault)) => {
                record.fault = Some(*fault);
                false
            }
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
