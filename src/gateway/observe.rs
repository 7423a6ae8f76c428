//! What the data plane tells whoever counts and logs.

use std::future::ready;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};

use super::forward::ForwardFault;
use super::request_id::RequestId;
use crate::audit::Unrecorded;
use crate::clock::Micros;
use crate::denial::{Denial, Shadowed};
use crate::key::Key;

/// Hears of every connection. Called on the data plane: it must not block.
pub trait Observer: Send + Sync + 'static {
    /// Hears of the requests of one worker.
    type Tally: Tally;

    /// The tally of one worker: made on its thread, where it stays.
    fn tally(&self) -> Self::Tally;

    /// A connection was dealt to a worker. `listener` is its place in the configuration.
    fn connection_opened(&self, _listener: usize) {}

    /// That connection is gone.
    fn connection_closed(&self, _listener: usize, _end: End) {}

    /// A connection was not let in.
    fn connection_refused(&self, _listener: usize, _why: TurnedAway) {}

    /// The gateway is about to stop: whoever asks whether it is ready must hear no.
    fn draining(&self) {}
}

/// Hears of every request of one worker, on its thread alone.
pub trait Tally: 'static {
    /// A request ended, however it did. Called exactly once for each that has a head.
    fn finished(&self, _finished: &Finished<'_>) {}

    /// Whether what it hears is recorded: routes that may not go unrecorded serve nothing otherwise.
    fn is_recording(&self) -> bool {
        true
    }

    /// Returns once it is safely recorded that a request is about to be forwarded.
    fn intend(&self, _intent: &Intent<'_>) -> impl Future<Output = Result<(), Unrecorded>> {
        ready(Ok(()))
    }

    /// A WebSocket was opened. `route` is its route's id.
    fn websocket_opened(&self, _route: u16) {}

    /// So much has passed through it since it was last told.
    fn websocket_passed(&self, _route: u16, _passed: Passed) {}

    /// It is closed, however it was. Called exactly once for each that was opened.
    fn websocket_closed(&self, _closed: &WebSocketClosed<'_>) {}

    /// About a second has passed: what was gathered may be handed on.
    fn flush(&self) {}
}

/// Hears nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unobserved;

impl Observer for Unobserved {
    type Tally = Self;

    fn tally(&self) -> Self {
        Self
    }
}

impl Tally for Unobserved {}

/// How a connection ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// By agreement, or the client left between requests.
    Closed,
    /// No TLS session came about, or not in time.
    Handshake,
    /// Nothing came for as long as a connection may stand idle, or it grew too old.
    Idle,
    /// A deadline of ours passed: for a head, or for a reply that was not taken.
    TimedOut,
    /// Bytes that are no HTTP, or the peer went away in the middle of it.
    Broken,
    /// The gateway stopped.
    Stopped,
    /// A handler panicked.
    Panicked,
}

impl End {
    /// Every end, in the order of its index, with its label.
    pub const ALL: [(Self, &'static str); 7] = [
        (Self::Closed, "closed"),
        (Self::Handshake, "handshake"),
        (Self::Idle, "idle"),
        (Self::TimedOut, "timed_out"),
        (Self::Broken, "broken"),
        (Self::Stopped, "stopped"),
        (Self::Panicked, "panicked"),
    ];
}

/// Why a connection was not let in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TurnedAway {
    /// There are as many as may be.
    Full,
    /// Its address has as many as one may have.
    AddressFull,
    /// There was no descriptor or memory for it. It may be let in a moment later.
    Unaccepted,
}

impl TurnedAway {
    /// Every reason, in the order of its index, with its label.
    pub const ALL: [(Self, &'static str); 3] = [
        (Self::Full, "full"),
        (Self::AddressFull, "address_full"),
        (Self::Unaccepted, "unaccepted"),
    ];
}

/// How a request ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// A backend answered.
    Forwarded,
    /// The gateway answered, as routes for the time have it.
    Answered,
    /// A check refused it.
    Denied,
    /// It was admitted, and no backend answered.
    Failed(ForwardFault),
    /// The client went away first.
    Aborted,
    /// Its key ended after it was admitted: the client was told no more.
    Cut,
    /// A handler panicked.
    Panicked,
}

/// Why a WebSocket ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Parting {
    /// One end said that it closes.
    Closed,
    /// The client went away.
    ClientGone,
    /// The backend went away.
    BackendGone,
    /// Nothing came from either end for too long.
    Idle,
    /// Its key may not go on: it was revoked or suspended, has expired, lost what the route asks for, or is stopped
    /// with its account, its application, or by a switch.
    KeyEnded,
    /// What is known of keys is older than the route allows.
    KeyUnknown,
    /// The gateway stopped.
    Stopped,
    /// A handler panicked.
    Panicked,
}

impl Parting {
    /// Every reason, in the order of its index, with its label.
    pub const ALL: [(Self, &'static str); 8] = [
        (Self::Closed, "closed"),
        (Self::ClientGone, "client_gone"),
        (Self::BackendGone, "backend_gone"),
        (Self::Idle, "idle"),
        (Self::KeyEnded, "key_ended"),
        (Self::KeyUnknown, "key_unknown"),
        (Self::Stopped, "stopped"),
        (Self::Panicked, "panicked"),
    ];

    /// The label of this reason.
    pub fn label(self) -> &'static str {
        Self::ALL.iter().find(|(parting, _)| *parting == self).map_or("", |(_, label)| label)
    }
}

/// Bytes that passed through a WebSocket.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Passed {
    /// From the client to the backend.
    pub up: u64,
    /// From the backend to the client.
    pub down: u64,
}

/// A WebSocket that has ended.
#[derive(Clone, Copy, Debug)]
pub struct WebSocketClosed<'r> {
    /// The id of the request that opened it.
    pub request_id: &'r RequestId,
    /// When it was opened.
    pub at: Micros,
    /// The client's address.
    pub peer: IpAddr,
    /// Whose it was; `None` on public routes.
    pub proven: Option<Proven<'r>>,
    /// Its route.
    pub route: u16,
    /// Why it ended.
    pub parting: Parting,
    /// What passed through it.
    pub passed: Passed,
    /// How long it was open.
    pub total: Duration,
}

/// Two clocks that disagree.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Skew {
    /// The moment that the client signed.
    pub signed: Micros,
    /// The moment it was here.
    pub now: Micros,
}

impl Skew {
    /// By how much the client's clock is ahead, in milliseconds; negative when it is behind.
    pub fn ahead_ms(self) -> i64 {
        let ms = |moment: Micros| i64::try_from(moment.as_millis()).unwrap_or(i64::MAX);
        ms(self.signed).saturating_sub(ms(self.now))
    }
}

/// Who sent a request, and what it is for, as far as that was proved.
#[derive(Clone, Copy, Debug)]
pub struct Proven<'r> {
    /// Whose it is.
    pub key: &'r Arc<Key>,
    /// Its method.
    pub method: &'r Method,
    /// Its path, byte for byte as received: ASCII.
    pub path: &'r [u8],
    /// Whether a signature proved it; else the route asks for a key id alone.
    pub signed: bool,
}

/// A request that is about to be forwarded.
#[derive(Clone, Copy, Debug)]
pub struct Intent<'r> {
    /// Its id.
    pub request_id: &'r RequestId,
    /// When its head had come.
    pub at: Micros,
    /// The client's address.
    pub peer: IpAddr,
    /// Its route.
    pub route: u16,
    /// Whose it is.
    pub proven: Proven<'r>,
    /// Whether it is refused where that cannot be recorded.
    pub required: bool,
}

/// A request that has ended.
#[derive(Clone, Copy, Debug)]
pub struct Finished<'r> {
    /// Its id.
    pub request_id: &'r RequestId,
    /// When its head had come.
    pub at: Micros,
    /// The client's address; the proxy's, where what that says of the client cannot be believed.
    pub peer: IpAddr,
    /// Who sent it, if that was proved.
    pub proven: Option<Proven<'r>>,
    /// Its route, if it got so far.
    pub route: Option<u16>,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it was refused, if it was.
    pub denial: Option<&'r Denial>,
    /// What rules in shadow would have refused.
    pub shadowed: Shadowed,
    /// Whether this gateway judged it alone, since the shared store could not be asked.
    pub is_local: bool,
    /// What the client was told; `None` when it was told nothing.
    pub status: Option<StatusCode>,
    /// Whether the whole reply was handed to the connection.
    pub complete: bool,
    /// Time spent on checks, the store's included, the body's arrival not.
    pub verify: Duration,
    /// Which upstream was asked, and the time until its answer began.
    pub upstream: Option<(usize, Duration)>,
    /// Whether a backend may have got it, where it ended before the answer began: [`ForwardFault::Unknown`] or
    /// [`ForwardFault::Unsent`].
    pub unheard: Option<ForwardFault>,
    /// How far the client's clock is off, where that is why it was refused.
    pub skew: Option<Skew>,
    /// Time from head to end.
    pub total: Duration,
}
