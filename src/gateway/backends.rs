//! What all workers know of each backend: its load, its failures in a row, whether it is ejected.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::clock::Micros;
use crate::config::Upstream;

/// Every backend of every upstream, shared by the workers. It lives as long as the process.
#[derive(Debug)]
pub struct SharedBackends {
    upstreams: Box<[Box<[Arc<Backend>]>]>,
}

/// How one backend does, at one moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BackendStatus<'a> {
    /// The upstream, by its place in the configuration.
    pub upstream: usize,
    /// Host and port.
    pub authority: &'a str,
    /// Whether it gets its share of requests; `false` while it is ejected.
    pub up: bool,
    /// Requests that await their reply or the rest of it, over all workers.
    pub in_flight: usize,
    /// Open connections, idle ones among them, over all workers.
    pub connections: usize,
}

impl SharedBackends {
    /// The backends of `upstreams`, all of them up.
    pub fn new(upstreams: &[Upstream]) -> Self {
        let backends = |upstream: &Upstream| {
            upstream
                .backends
                .iter()
                .map(|at| Arc::new(Backend::new(at.as_str(), upstream)))
                .collect()
        };
        Self { upstreams: upstreams.iter().map(backends).collect() }
    }

    /// How every backend does, in the order of the configuration.
    pub fn snapshot(&self) -> impl Iterator<Item = BackendStatus<'_>> {
        self.upstreams.iter().enumerate().flat_map(|(upstream, backends)| {
            backends.iter().map(move |backend| BackendStatus {
                upstream,
                authority: &backend.authority,
                up: backend.is_up(),
                in_flight: backend.in_flight.load(Ordering::Relaxed),
                connections: backend.connections.load(Ordering::Relaxed),
            })
        })
    }

    pub(super) fn of(&self, upstream: usize) -> &[Arc<Backend>] {
        self.upstreams.get(upstream).map_or(&[], |backends| backends)
    }
}

/// One backend. On cache lines of its own, since every request of every worker counts here.
#[repr(align(128))]
pub(super) struct Backend {
    authority: Box<str>,
    max_connections: usize,
    eject_after: u32,
    eject_for: Duration,
    in_flight: AtomicUsize,
    connections: AtomicUsize,
    /// Requests of any worker that wait for a connection.
    waiting: AtomicUsize,
    /// In a row, while it is up.
    failures: AtomicU32,
    /// In a row.
    ejections: AtomicU32,
    /// The moment it may be tried again, in microseconds; 0 while it is up.
    ejected_until: AtomicU64,
    probing: AtomicBool,
}

impl Backend {
    fn new(authority: &str, upstream: &Upstream) -> Self {
        Self {
            authority: authority.into(),
            max_connections: upstream.max_connections,
            eject_after: upstream.eject_after,
            eject_for: upstream.eject_for,
            in_flight: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            failures: AtomicU32::new(0),
            ejections: AtomicU32::new(0),
            ejected_until: AtomicU64::new(0),
            probing: AtomicBool::new(false),
        }
    }

    pub(super) fn authority(&self) -> &str {
        &self.authority
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub(super) fn begin(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn end(&self, was_probe: bool) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        if was_probe {
            self.probing.store(false, Ordering::Relaxed);
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.ejected_until.load(Ordering::Relaxed) == 0
    }

    /// When it may be tried again; zero while it is up.
    pub(super) fn ejected_until(&self) -> Micros {
        Micros(self.ejected_until.load(Ordering::Relaxed))
    }

    /// Whether the caller's request is the one that finds out if an ejected backend is back.
    pub(super) fn claims_probe(&self, now: Micros) -> bool {
        !self.is_up() && self.ejected_until() <= now && !self.probing.swap(true, Ordering::Relaxed)
    }

    /// A whole reply came: whatever was held against it is forgotten.
    pub(super) fn succeeded(&self) {
        // Read first: a write by every request would move the cache line from core to core.
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
        if !self.is_up() {
            self.ejections.store(0, Ordering::Relaxed);
            self.ejected_until.store(0, Ordering::Relaxed);
        }
    }

    /// It did not connect, did not answer in time, or broke off. Answers of any status are no failure here.
    pub(super) fn failed(&self, now: Micros) {
        if self.is_up() {
            let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
            if failures >= self.eject_after {
                self.eject(now);
            }
        } else if self.ejected_until() <= now {
            self.eject(now);
        }
    }

    fn eject(&self, now: Micros) {
        let before = self.ejections.fetch_add(1, Ordering::Relaxed).min(MAX_DOUBLINGS);
        let until = now + self.eject_for.saturating_mul(1 << before);
        self.ejected_until.store(until.0.max(1), Ordering::Relaxed);
        self.failures.store(0, Ordering::Relaxed);
    }

    /// Room for one more connection, until the answer is dropped.
    pub(super) fn reserve(self: &Arc<Self>) -> Option<Slot> {
        let more = |open| (open < self.max_connections).then_some(open + 1);
        let reserved =
            self.connections.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok();
        reserved.then(|| Slot(Arc::clone(self)))
    }

    pub(super) fn max_connections(&self) -> usize {
        self.max_connections
    }

    pub(super) fn is_waited_for(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    pub(super) fn wait_begins(&self) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn wait_ends(&self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Backend({})", self.authority)
    }
}

/// Room for one connection.
#[derive(Debug)]
pub(super) struct Slot(Arc<Backend>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An ejection lasts at most 2^4 = 16 times as long as the first.
const MAX_DOUBLINGS: u32 = 4;
