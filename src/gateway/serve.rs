//! The life of a request, from its head to its answer, read top-down.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header};
use hyper::body::{Body, Incoming};

use super::conclude::{Admitted, Judged, Unanswered, told};
use super::cut::Cut;
use super::exit::{Known, Outbound, Path, Record};
use super::forward::Received;
use super::observe::{Observer, Outcome, Skew, Tally};
use super::plain::Plain;
use super::pulse::Pulse;
use super::refusal::{self, Refusal};
use super::reply::{Reply, Value};
use super::routes::{Entry, Target};
use super::standing::standing;
use super::websocket::{self, Agreed, Handshake};
use super::worker::Worker;
use super::{body, client, hops, time, wire};
use crate::admit::Ask;
use crate::clock::{Clock, Micros};
use crate::denial::Denial;
use crate::dialect::{Fields, Inbound, Room, Said};
use crate::key::Key;
use crate::registry::Keys;
use crate::store::Store;

/// The connection that a request came by.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) peer: IpAddr,
    pub(super) tls: bool,
    pub(super) pulse: Rc<Pulse>,
    /// The WebSocket that this connection becomes, once the answer is out that says so.
    pub(super) agreed: RefCell<Option<Box<Agreed>>>,
}

/// A request whose head has come, on either front.
struct Asked<'r> {
    method: &'r Method,
    headers: Fields<'r>,
    /// Where it is addressed, if its head keeps the rules of the wire.
    target: Result<wire::Target<'r>, Refusal>,
    /// Where its path is kept.
    kept: Kept<'r>,
    body: Arrival,
}

/// What holds the path of a request.
#[derive(Clone, Copy)]
enum Kept<'r> {
    Plain(&'r Plain),
    Uri(&'r Uri),
}

/// What is known of a body before it is read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Arrival {
    /// There is none.
    None,
    /// Some of it may have come along.
    Unread,
    /// The client waits until it is asked for it.
    Expected,
}

impl<K: Keys, S: Store, C: Clock, O: Observer> Worker<K, S, C, O> {
    /// Answers a request that hyper has read, unless it is cut. Whatever happens to it, its record reports it.
    pub(super) async fn serve(
        &self,
        line: &Line,
        request: Request<Incoming>,
    ) -> Result<Response<Outbound<O::Tally>>, Cut> {
        let mut record = self.open(line, self.gate.clock.both());
        if line.pulse.endings.is_some() {
            let enlist = |cx: &mut Context<'_>| Poll::Ready(self.sleepers.enlist(cx.waker()));
            record.enlisted = Some(poll_fn(enlist).await);
        }
        let (head, body) = request.into_parts();
        let asked = Asked {
            method: &head.method,
            headers: (&head.headers).into(),
            target: wire::target(&head, self.config.server.header_fields),
            kept: Kept::Uri(&head.uri),
            body: if body.is_end_stream() {
                Arrival::None
            } else if head.headers.contains_key(header::EXPECT) {
                Arrival::Expected
            } else {
                Arrival::Unread
            },
        };
        let within = self.config.server.body_timeout;
        let arrival = asked.body;
        let body = Cell::new(Some(body));
        let read = |cap| body::read(body.take(), cap, within);
        let mut entry = None;
        let judged = self.judge(line, asked, read, &mut entry, &mut record).await;
        let mut reply = self.conclude(judged, entry, &mut record).await?;
        // What a client sends early, taking the answer for granted, must not be read as requests.
        let refuses_websocket = || {
            websocket::is_sought((&head.headers).into())
                && reply.status() != StatusCode::SWITCHING_PROTOCOLS
        };
        // Before a body that nobody read hyper ends the connection, and would not say so. Who waits to be asked for one
        // is not.
        let is_http1 = head.version < Version::HTTP_2;
        let leaves_body = is_http1
            && line.pulse.is_unread()
            && (arrival == Arrival::Expected || !body::is_over(body.take()).await);
        if leaves_body || refuses_websocket() {
            let close = Said::Text(HeaderValue::from_static("close"));
            reply.set(header::CONNECTION, Value::Said(close));
        }
        Ok(record.close(reply, head.method == Method::HEAD))
    }

    /// The record of a request whose head has come, at the moment `at` by either clock.
    pub(super) fn open(&self, line: &Line, at: (Micros, Instant)) -> Record<O::Tally> {
        Record::open(&self.tally, line, self.request_ids.next(at.0), at)
    }

    /// Answers such a request, unless it is cut.
    ///
    /// What holds its head is given back before its backend is waited for: who waits keeps little, and the next request
    /// is read into memory that is still in the caches.
    pub(super) async fn serve_plain<B: Future<Output = Result<Bytes, Refusal>>>(
        &self,
        line: &Line,
        request: Box<Plain>,
        read: impl FnOnce(usize) -> B,
        record: &mut Record<O::Tally>,
    ) -> Result<Reply, Cut> {
        let asked = Asked {
            method: &request.method,
            headers: request.fields(),
            target: wire::plain(&request, self.config.server.header_fields),
            kept: Kept::Plain(&request),
            body: if request.length == 0 { Arrival::None } else { Arrival::Unread },
        };
        let mut entry = None;
        let judged = self.judge(line, asked, read, &mut entry, record).await;
        self.desk.put(request);
        let mut reply = self.conclude(judged, entry, record).await?;
        record.answer(&mut reply);
        Ok(reply)
    }

    #[expect(clippy::too_many_lines, reason = "the life of a request, read top-down")]
    async fn judge<'w, B: Future<Output = Result<Bytes, Refusal>>>(
        &'w self,
        line: &Line,
        asked: Asked<'_>,
        read: impl FnOnce(usize) -> B,
        found: &mut Option<&'w Entry>,
        record: &mut Record<O::Tally>,
    ) -> Result<Judged<'w>, Unanswered> {
        let Asked { method, headers, target, kept, body: arrival } = asked;
        line.pulse.set_unread(arrival != Arrival::None);
        let wire::Target { host, path, query } = target?;
        let peer = client::address(line.peer, headers, &self.config.server.trusted_proxies)?;
        record.peer = peer;
        let entry = self.enter((host, method, path), found, record)?;
        // What we read ourselves has no such field but to close or to stay.
        if let Kept::Uri(_) = kept {
            hops::check(headers, matches!(entry.demand.ask, Ask::Public))?;
        }
        let handshake = Handshake::read(entry, headers)?;

        let inbound = Inbound { method, path, query, host, headers, body: &[], peer };
        // When all of it had come.
        let (mut come, mut checking) = (record.at, record.started);
        let mut body = Bytes::new();
        if arrival != Arrival::None {
            let mut reading = pin!(read(entry.demand.body_cap));
            body = if let Some((body, waited)) = has_arrived(&mut reading, arrival).await {
                if waited {
                    come = self.gate.clock.now();
                }
                body?
            } else {
                // Nobody waits for a body, or asks for it, before the head has been judged.
                let screened = self.gate.screen(&inbound, &entry.demand);
                record.verify = checking.elapsed();
                screened.map_err(|denial| self.measured(denial, entry, &inbound))?;
                let body = reading.await?;
                (come, checking) = self.gate.clock.both();
                body
            };
            line.pulse.set_unread(false);
        }

        let inbound = Inbound { body: &body, ..inbound };
        // What ends from here on is noticed, be it before the key is found or after.
        let endings = line.pulse.endings.as_ref().map_or(0, |endings| endings.count());
        let mut scratch = self.scratches.borrow_mut().pop().unwrap_or_default();
        let admitted = self.gate.admit_at(&inbound, &entry.demand, &mut scratch, come).await;
        // The key is told as soon as it is proved, for what is refused afterwards too.
        let key = match &admitted {
            Ok(permit) => permit.shared_key(),
            Err(_) => scratch.take_key(),
        };
        record.standing = standing(scratch.standing());
        self.scratches.borrow_mut().push(scratch);
        let (mut now, mut checked) = self.gate.clock.both();
        record.verify += checked - checking;
        record.latest = checked;
        record.proven = key.map(|key| kept.known(key, method, entry));
        // Each conversion of a result would copy the whole permit.
        let mut permit = match admitted {
            Ok(permit) => permit,
            Err(denial) => return Err(self.measured(denial, entry, &inbound).into()),
        };
        record.hold(endings);
        record.shadowed = permit.shadowed();
        record.is_local = permit.is_local();
        if entry.audit.intent {
            (now, checked) = Box::pin(self.intend(entry, record)).await?;
        }

        let upstream = match entry.target {
            Target::Time(form) => {
                record.outcome = Some(Outcome::Answered);
                let reply = time::answer(form, now).into();
                return Ok(Judged::Answered(told(reply, record, now, entry)));
            }
            Target::Upstream(upstream) | Target::WebSocket(upstream) => upstream,
        };
        record.outcome = Some(Outcome::Forwarded);
        let request_id = record.request_id.as_bytes();
        let (client, tls) = (peer, line.tls);
        let received =
            Received { method, path, query, host, headers, body, client, request_id, tls };
        let (seal, receipt) = (permit.take_seal(), permit.take_receipt());
        let at = (now, checked);
        let ready =
            self.upstreams.prepare(upstream, permit, entry, &received, (now, checked.into()));
        let ready = match (ready, handshake) {
            (Ok(ready), None) => ready,
            (Ok(ready), Some(handshake)) => {
                // Boxed, so that every other request has less to carry along.
                let opening = self.open_websocket(
                    line,
                    &handshake,
                    ready,
                    entry,
                    (upstream, checked),
                    record,
                );
                let reply = Box::pin(opening).await?;
                record.heard(upstream, checked, Instant::now());
                return Ok(Judged::Answered(told(reply, record, now, entry)));
            }
            (Err(fault), _) => {
                record.heard(upstream, checked, Instant::now());
                return Err(Refusal::Failed(fault).into());
            }
        };
        Ok(Judged::Admitted(Admitted { ready, upstream, entry, seal, receipt, at }))
    }

    /// The route of a request. One that may not go unrecorded serves nothing while nothing is recorded.
    fn enter<'w>(
        &'w self,
        (host, method, path): (&str, &Method, &str),
        found: &mut Option<&'w Entry>,
        record: &mut Record<O::Tally>,
    ) -> Result<&'w Entry, Denial> {
        let entry = self.config.routes.find(host, method, path).ok_or(Denial::NoRoute)?;
        *found = Some(entry);
        record.route = Some(entry.demand.id);
        if entry.audit.required && !self.tally.is_recording() {
            return Err(Denial::Unavailable);
        }
        Ok(entry)
    }

    /// Has it recorded that a request is about to be forwarded. Where that fails, the route says whether it is.
    ///
    /// What time it is then, by either clock.
    async fn intend(
        &self,
        entry: &Entry,
        record: &Record<O::Tally>,
    ) -> Result<(Micros, Instant), Denial> {
        if let Some(intent) = record.intent(entry.audit.required)
            && self.tally.intend(&intent).await.is_err()
            && entry.audit.required
        {
            return Err(Denial::Unavailable);
        }
        Ok(self.gate.clock.both())
    }

    /// A refusal for the clock's sake says by how much the client's is off.
    fn measured(&self, denial: Denial, entry: &Entry, inbound: &Inbound<'_>) -> Refusal {
        if !matches!(denial, Denial::Stale(_) | Denial::Ahead(_)) {
            return Refusal::Denied(denial);
        }
        let room = &mut Room::default();
        let claim = refusal::dialect(entry).and_then(|dialect| dialect.claim(inbound, room).ok());
        let Some(time) = claim.and_then(|claim| claim.time) else {
            return Refusal::Denied(denial);
        };
        Refusal::Skewed(denial, Skew { signed: time.at, now: self.gate.clock.now() })
    }
}

impl Kept<'_> {
    fn known(self, key: Arc<Key>, method: &Method, entry: &Entry) -> Known {
        let path = match self {
            Kept::Plain(request) => request.kept_path(),
            Kept::Uri(uri) => Path::Uri(uri.path_and_query().cloned()),
        };
        let signed = matches!(entry.demand.ask, Ask::Signed(_));
        Known { key, method: method.clone(), path, signed }
    }
}

/// The body, if it came along with the head, and whether others had a turn; judging the head twice would cost more.
async fn has_arrived<T>(
    reading: &mut Pin<&mut impl Future<Output = T>>,
    arrival: Arrival,
) -> Option<(T, bool)> {
    if arrival == Arrival::Expected {
        return None;
    }
    let mut asked = false;
    poll_fn(|context| match reading.as_mut().poll(context) {
        Poll::Ready(body) => Poll::Ready(Some((body, asked))),
        Poll::Pending if asked => Poll::Ready(None),
        // hyper hands over what it has read only after it was asked.
        Poll::Pending => {
            asked = true;
            context.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await
}
