//! Defeats double execution: a request that may have reached a backend is never sent again.

use std::cell::Cell;
use std::fmt;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arrayvec::ArrayVec;
use bytes::Bytes;
use http::{Method, Response, StatusCode};
use tokio::time::Instant;

use super::back::{self, Connection};
use super::backends::SharedBackends;
use super::holders::Holders;
use super::pool::{Closings, Lack, Pool, keep_swept};
use super::reply::{Lease, Reply, ReplyBody, pass_on};
use super::reply_head::ReplyHead;
use super::request::{Outgoing, Texts, compose};
use super::rooms::Rooms;
use super::routes::Entry;
use super::spread::{Group, Turn};
use super::websocket::Handshake;
use crate::admit::Permit;
use crate::clock::{Clock, Micros};
use crate::config::Upstream;
use crate::dialect::Fields;
use crate::key::PermissionNames;

/// A request as it was received, and how.
#[derive(Clone, Debug)]
pub struct Received<'r> {
    /// The method.
    pub method: &'r Method,
    /// The path, byte for byte as received.
    pub path: &'r str,
    /// The query, byte for byte as received, without its `?`.
    pub query: Option<&'r str>,
    /// The host the client addressed.
    pub host: &'r str,
    /// Header fields.
    pub headers: Fields<'r>,
    /// The whole body.
    pub body: Bytes,
    /// The client's address.
    pub client: IpAddr,
    /// What the gateway calls this request, in ASCII.
    pub request_id: &'r [u8],
    /// Whether it came over TLS.
    pub tls: bool,
}

/// Why there is no reply.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ForwardFault {
    /// No backend could be connected to, or none had a connection to spare in time. Nothing was sent.
    NoBackend,
    /// The request could not be written, to any of the backends tried. Nothing was sent.
    Unsent,
    /// The backend did not answer in time. Whether it acted is unknown.
    TimedOut,
    /// The connection ended before the reply. Whether the backend acted is unknown.
    Unknown,
    /// The signature ran out before the request could be sent. Nothing was sent.
    Expired,
    /// The backend acted, and answered what is no HTTP reply to this request.
    BadReply,
}

impl ForwardFault {
    /// Whether the backend may have acted on the request.
    pub const fn may_have_acted(self) -> bool {
        match self {
            Self::NoBackend | Self::Unsent | Self::Expired => false,
            Self::TimedOut | Self::Unknown | Self::BadReply => true,
        }
    }
}

impl fmt::Display for ForwardFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoBackend => "no backend could be reached",
            Self::Unsent => "the request could not be sent",
            Self::TimedOut => "the backend did not answer in time",
            Self::Unknown => "the connection ended before the reply",
            Self::Expired => "the signature ran out before the request could be sent",
            Self::BadReply => "the backend's reply makes no sense",
        })
    }
}

impl std::error::Error for ForwardFault {}

/// Every upstream, as one worker thread sees them: it stays on its thread, inside a `LocalSet`.
pub struct Upstreams {
    rules: Arc<[Upstream]>,
    shared: Arc<SharedBackends>,
    groups: Box<[Group]>,
    holders: Holders,
    clock: Arc<dyn Clock>,
    texts: Rc<Texts>,
    closings: Arc<Closings>,
    is_swept: Cell<bool>,
}

impl Upstreams {
    /// A worker's own connections to `upstreams`, none of them open yet. `shared` is made from the same upstreams.
    pub fn new(
        upstreams: Arc<[Upstream]>,
        shared: Arc<SharedBackends>,
        permissions: Arc<PermissionNames>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (closings, rooms) = (Arc::default(), Rooms::new(back::ROOM));
        let group = |(place, upstream): (usize, &Upstream)| {
            let pool = |backend| Rc::new(Pool::new(backend, upstream, &clock, &closings, &rooms));
            Group::new(shared.of(place).iter().map(pool))
        };
        let groups = upstreams.iter().enumerate().map(group).collect();
        Self {
            rules: upstreams,
            shared,
            groups,
            holders: Holders::new(permissions),
            clock,
            texts: Rc::default(),
            closings,
            is_swept: Cell::new(false),
        }
    }

    /// Sends a permitted request to a backend of `upstream`, at most once, and answers its reply.
    ///
    /// Another backend is tried only while it is certain that nothing of the request was sent: when none of its
    /// bytes were written because the connection had closed, or no connection came about.
    pub async fn forward(
        &self,
        upstream: usize,
        permit: Permit,
        entry: &Entry,
        received: Received<'_>,
    ) -> Result<Response<ReplyBody>, ForwardFault> {
        let (now, instant) = self.clock.both();
        let at = (now, instant.into());
        let ready = self.prepare(upstream, permit, entry, &received, at)?;
        ready.send(&Cell::new(false)).await.0.map(Reply::into_response)
    }

    /// The first half of [`Upstreams::forward`], at the moment `at` by either clock: what is left then is to send.
    ///
    /// What waits for a backend holds no more than it needs.
    pub(super) fn prepare(
        &self,
        upstream: usize,
        permit: Permit,
        entry: &Entry,
        received: &Received<'_>,
        at: (Micros, Instant),
    ) -> Result<Ready<'_>, ForwardFault> {
        let rules = self.rules.get(upstream).ok_or(ForwardFault::NoBackend)?;
        let group = self.groups.get(upstream).ok_or(ForwardFault::NoBackend)?;
        self.start_sweeping();
        let terms = Terms {
            clock: &*self.clock,
            good_until: permit.good_until(),
            response_timeout: rules.response_timeout,
            now: at.0,
            due: at.1 + rules.response_timeout,
        };
        terms.still_good(at.0)?;
        let (holders, demand) = (&self.holders, &entry.demand);
        let request = compose(rules, holders, &permit, demand, received, &self.texts);
        // It is spent.
        drop(permit);
        let unsent = Unsent(request.ok_or(ForwardFault::Unsent)?);
        Ok(Ready { terms, group, unsent })
    }

    /// What all workers know of the backends.
    pub fn backends(&self) -> &Arc<SharedBackends> {
        &self.shared
    }

    fn start_sweeping(&self) {
        if !self.is_swept.replace(true) {
            let pools = self.groups.iter().flat_map(Group::pools).map(Rc::downgrade).collect();
            let closings = Arc::clone(&self.closings);
            tokio::task::spawn_local(keep_swept(pools, closings));
        }
    }
}

impl fmt::Debug for Upstreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstreams").field("groups", &self.groups).finish_non_exhaustive()
    }
}

/// A permitted request that only needs to be sent.
pub(super) struct Ready<'u> {
    terms: Terms<'u>,
    group: &'u Group,
    unsent: Unsent,
}

impl Ready<'_> {
    /// Sends it, at most once, and answers its reply as the backend wrote it, and when that began; `sent` while a backend
    /// may have it.
    pub(super) async fn send(
        self,
        sent: &Cell<bool>,
    ) -> (Result<Reply, ForwardFault>, std::time::Instant) {
        let delivered = self.terms.deliver(self.group, self.unsent, sent).await;
        let (now, instant) = self.terms.clock.both();
        (delivered.and_then(|(head, lease)| pass_on(head, lease, now)), instant)
    }

    /// Sends it, at most once, as the opening handshake of a WebSocket.
    pub(super) async fn upgrade(
        mut self,
        handshake: &Handshake<'_>,
        sent: &Cell<bool>,
    ) -> Result<Upgraded, ForwardFault> {
        self.unsent.0.ask_upgrade(|to| handshake.write(to));
        let (head, lease) = self.terms.deliver(self.group, self.unsent, sent).await?;
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(Upgraded::Switched(head, lease));
        }
        pass_on(head, lease, self.terms.clock.now()).map(Upgraded::Otherwise)
    }
}

/// What a backend says to an opening handshake.
pub(super) enum Upgraded {
    /// That it goes over, and how.
    Switched(Box<ReplyHead>, Lease),
    /// Anything else.
    Otherwise(Reply),
}

/// Under what terms one request may be sent.
struct Terms<'a> {
    clock: &'a dyn Clock,
    good_until: Option<Micros>,
    response_timeout: Duration,
    /// When it came here.
    now: Micros,
    /// When its reply must have begun, if it is sent at once.
    due: Instant,
}

/// A request of which no byte has been sent. Sending consumes it; only certainty that it was not sent brings it back.
struct Unsent(Outgoing);

/// What became of a request that was given to a connection.
enum Sent {
    Replied(Box<ReplyHead>),
    /// The connection had closed; nothing was written.
    Returned(Unsent),
    Lost(ForwardFault),
}

/// Why one backend gave no reply.
enum Setback {
    /// Nothing was sent: another backend may have it.
    Unsent(Box<Unsent>, Option<Lack>),
    Final(ForwardFault),
}

impl Terms<'_> {
    fn still_good(&self, now: Micros) -> Result<(), ForwardFault> {
        match self.good_until {
            Some(end) if end < now => Err(ForwardFault::Expired),
            Some(_) | None => Ok(()),
        }
    }

    /// Tries backends until one takes the request.
    async fn deliver(
        &self,
        group: &Group,
        mut unsent: Unsent,
        sent: &Cell<bool>,
    ) -> Result<(Box<ReplyHead>, Lease), ForwardFault> {
        let mut tried = ArrayVec::<usize, MAX_BACKENDS>::new();
        let mut now = self.now;
        let mut crowded = None;
        let mut fault = ForwardFault::NoBackend;
        loop {
            let next = if tried.is_full() { None } else { group.choose(&tried, now) };
            let (turn, patience) = match next {
                Some(turn) => (turn, Patience::None),
                None => match crowded.take().and_then(|place| group.again(place)) {
                    Some(turn) => (turn, Patience::Wait),
                    None => return Err(fault),
                },
            };
            let place = turn.place();
            match self.attempt(turn, unsent, patience, sent).await {
                Ok(replied) => return Ok(replied),
                Err(Setback::Final(fault)) => return Err(fault),
                Err(Setback::Unsent(_, lack)) if patience == Patience::Wait => {
                    return Err(lack.map_or(ForwardFault::Unsent, |_| ForwardFault::NoBackend));
                }
                Err(Setback::Unsent(back, lack)) => {
                    unsent = *back;
                    tried.push(place);
                    match lack {
                        Some(Lack::Crowded | Lack::Exhausted) => crowded = crowded.or(Some(place)),
                        Some(Lack::Unreachable) => {}
                        None => fault = ForwardFault::Unsent,
                    }
                }
            }
            now = self.clock.now();
        }
    }

    /// Tries connections of one backend: a few that were idle, each of which may have closed, then a fresh one.
    async fn attempt(
        &self,
        turn: Turn,
        mut unsent: Unsent,
        patience: Patience,
        sent: &Cell<bool>,
    ) -> Result<(Box<ReplyHead>, Lease), Setback> {
        for tries in 0..=MAX_POOLED {
            let pool = turn.pool();
            let idle = if tries < MAX_POOLED { pool.take(self.now) } else { None };
            // Where nobody waited no time has passed. What is rare is boxed, so that every request has less to
            // carry along.
            let waited = idle.is_none();
            let connection = match (idle, patience) {
                (Some(idle), _) => Ok(idle),
                (None, Patience::None) => Box::pin(pool.open()).await,
                (None, Patience::Wait) => Box::pin(pool.wait()).await,
            };
            let mut connection = match connection {
                Ok(connection) => connection,
                Err(lack) => {
                    if lack == Lack::Unreachable {
                        turn.failed();
                    }
                    return Err(Setback::Unsent(Box::new(unsent), Some(lack)));
                }
            };
            let mut due = self.due;
            if waited || tries > 0 || patience == Patience::Wait {
                if let Err(expired) = self.still_good(self.clock.now()) {
                    pool.put(connection, self.clock.now());
                    return Err(Setback::Final(expired));
                }
                due = Instant::now() + self.response_timeout;
            }
            let was_fresh = connection.is_fresh;
            sent.set(true);
            match unsent.send(&mut connection, due).await {
                Sent::Replied(head) => return Ok((head, Lease { turn, connection })),
                Sent::Lost(fault) => {
                    turn.failed();
                    return Err(Setback::Final(fault));
                }
                Sent::Returned(back) => {
                    sent.set(false);
                    unsent = back;
                    if was_fresh {
                        turn.failed();
                        break;
                    }
                }
            }
        }
        Err(Setback::Unsent(Box::new(unsent), None))
    }
}

/// Whether a request waits where all connections are in use.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Patience {
    None,
    Wait,
}

impl Unsent {
    async fn send(mut self, connection: &mut Connection, due: Instant) -> Sent {
        match connection.send(&mut self.0, due).await {
            back::Sent::Replied(head) => Sent::Replied(head),
            back::Sent::Unsent => Sent::Returned(self),
            back::Sent::Lost(fault) => Sent::Lost(fault),
        }
    }
}

/// The most backends that one request is tried at.
const MAX_BACKENDS: usize = 4;
/// The most idle connections of a backend that one request is tried at.
const MAX_POOLED: usize = 3;
