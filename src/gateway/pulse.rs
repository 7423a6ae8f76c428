//! Defeats connections that hold a place without using it: each has a moment by which something must happen.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::observe::End;
use crate::config::Server;
use crate::registry::endings::Endings;

/// After this long a connection is asked to leave, so that clients spread anew over gateways.
const MAX_AGE: Duration = Duration::from_hours(1);

/// How long a closing connection waits for its peer to read the last answer.
const LINGER: Duration = Duration::from_secs(1);

/// Longer than any process runs.
const FOR_EVER: Duration = Duration::from_hours(24 * 365 * 10);

/// The state of one connection, as far as its deadlines go, and what ends its requests.
#[derive(Debug)]
pub(super) struct Pulse {
    /// Where it is noted which keys have ended.
    pub(super) endings: Option<Arc<Endings>>,
    limits: Limits,
    born: Instant,
    /// Whether bytes between two requests begin a head: so in HTTP/1, where nothing else can come.
    heads: bool,
    under_way: Cell<usize>,
    replying: Cell<usize>,
    /// Since when it is idle, or its head is being read.
    since: Cell<Instant>,
    head_begun: Cell<bool>,
    /// When a reply last moved on.
    moved: Cell<Instant>,
    tunnel: Cell<bool>,
    unread: Cell<bool>,
    closing: Cell<Option<Instant>>,
    leaving: Cell<Option<Instant>>,
}

/// The deadlines of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    head: Duration,
    idle: Duration,
    drain: Duration,
}

impl From<&Server> for Limits {
    fn from(server: &Server) -> Self {
        Self { head: server.head_timeout, idle: server.idle_timeout, drain: server.drain_timeout }
    }
}

impl Pulse {
    /// A connection that begins now; `begun` when bytes of its first head have come.
    pub(super) fn new(
        limits: Limits,
        heads: bool,
        begun: bool,
        endings: Option<Arc<Endings>>,
    ) -> Self {
        let now = Instant::now();
        Self {
            endings,
            limits,
            born: now,
            heads,
            under_way: Cell::new(0),
            replying: Cell::new(0),
            since: Cell::new(now),
            head_begun: Cell::new(heads && begun),
            moved: Cell::new(now),
            tunnel: Cell::new(false),
            unread: Cell::new(false),
            closing: Cell::new(None),
            leaving: Cell::new(None),
        }
    }

    /// By when something must happen.
    pub(super) fn due(&self) -> Instant {
        let idle = self.under_way.get() == 0;
        if let Some(closing) = self.closing.get() {
            closing + LINGER
        } else if let Some(left) = self.leaving.get() {
            if idle { left.max(self.since.get()) + LINGER } else { left + self.limits.drain }
        } else if self.tunnel.get() {
            // It has deadlines of its own.
            self.born + FOR_EVER
        } else {
            let due = if idle {
                self.since.get()
                    + if self.head_begun.get() { self.limits.head } else { self.limits.idle }
            } else if self.replying.get() > 0 {
                self.moved.get() + self.limits.idle
            } else {
                // The body, the store and the backend have deadlines of their own.
                self.age()
            };
            due.min(self.age())
        }
    }

    /// When it is to leave for its age alone.
    pub(super) fn age(&self) -> Instant {
        self.born + MAX_AGE
    }

    /// How it ends where nothing has happened in time.
    pub(super) fn overdue(&self) -> End {
        if self.closing.get().is_some() {
            End::Closed
        } else if self.under_way.get() == 0 && !self.head_begun.get() {
            End::Idle
        } else {
            End::TimedOut
        }
    }

    /// Whether closing it now would lose nothing that anybody has begun.
    pub(super) fn is_unused(&self) -> bool {
        self.heads && self.under_way.get() == 0 && !self.head_begun.get()
    }

    /// Bytes came in.
    pub(super) fn received(&self) {
        if self.heads && self.under_way.get() == 0 && !self.head_begun.get() {
            self.head_begun.set(true);
            self.since.set(Instant::now());
        }
    }

    /// A head is complete.
    pub(super) fn begin(&self) {
        self.under_way.set(self.under_way.get() + 1);
        self.head_begun.set(false);
    }

    /// Its answer begins.
    pub(super) fn reply(&self, now: Instant) {
        self.replying.set(self.replying.get() + 1);
        self.moved.set(now);
    }

    /// An answer moved on.
    pub(super) fn moved(&self) {
        self.moved.set(Instant::now());
    }

    /// From here on it is a tunnel.
    pub(super) fn open_tunnel(&self) {
        self.begin();
        self.tunnel.set(true);
    }

    /// The request is over.
    pub(super) fn end(&self, replying: bool, now: Instant) {
        self.under_way.set(self.under_way.get().saturating_sub(1));
        if replying {
            self.replying.set(self.replying.get().saturating_sub(1));
        }
        self.since.set(now);
    }

    /// Whether a body is left unread: then the peer may still be writing when we close.
    pub(super) fn set_unread(&self, unread: bool) {
        self.unread.set(unread);
    }

    /// Whether a body is left unread.
    pub(super) fn is_unread(&self) -> bool {
        self.unread.get()
    }

    /// Our side is closed. Whether to read on for a while: a socket closed with bytes unread resets the
    /// connection, and the peer may lose our last answer.
    pub(super) fn close(&self) -> bool {
        if self.closing.get().is_none() {
            self.closing.set(Some(Instant::now()));
        }
        self.unread.get() || self.head_begun.get()
    }

    /// Whether it was asked to leave.
    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.get().is_some()
    }

    /// It is asked to leave.
    pub(super) fn leave(&self) {
        self.leaving.set(Some(Instant::now()));
    }
}
