//! The handles of one data-plane thread, and what a request costs in metrics.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use prometheus::local::LocalHistogram;
use prometheus::{Histogram, IntCounter};

use super::{Metrics, NONE, Outcome, RoutePlan, UpstreamOutcome, seconds};
use crate::clock::Micros;
use crate::denial::{Denial, Shadowed};

/// After how many observations a histogram is handed to the shared one: rare enough to cost nothing,
/// often enough that a busy gateway needs no timer.
const FLUSH_EVERY: u32 = 64;

/// The handles of one data-plane thread. Not `Send`: it stays on the thread that made it.
#[derive(Debug)]
pub struct Worker {
    routes: Vec<RouteMeter>,
    unrouted: RouteMeter,
    dialects: Vec<Rc<DialectMeter>>,
    upstreams: Vec<UpstreamMeter>,
}

impl Worker {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let dialects: Vec<_> =
            metrics.dialects.iter().map(|name| Rc::new(DialectMeter::new(metrics, name))).collect();
        let none = Rc::new(DialectMeter::new(metrics, NONE));
        let route = |plan: &RoutePlan| {
            let dialect = plan.dialect.and_then(|place| dialects.get(place));
            RouteMeter::new(metrics, &plan.name, dialect.unwrap_or(&none))
        };
        Self {
            routes: metrics.routes.iter().map(route).collect(),
            unrouted: RouteMeter::new(metrics, NONE, &none),
            upstreams: metrics
                .upstreams
                .iter()
                .map(|name| UpstreamMeter::new(metrics, name))
                .collect(),
            dialects,
        }
    }

    /// The route with this id, in the order of the labels; [`Worker::unrouted`] for an unknown id.
    pub fn route(&self, id: u16) -> &RouteMeter {
        self.routes.get(usize::from(id)).unwrap_or(&self.unrouted)
    }

    /// For requests that match no route.
    pub fn unrouted(&self) -> &RouteMeter {
        &self.unrouted
    }

    /// The upstream with this id, in the order of the labels.
    pub fn upstream(&self, id: usize) -> Option<&UpstreamMeter> {
        self.upstreams.get(id)
    }

    /// Makes every observation so far visible to a scrape.
    pub fn flush(&self) {
        for route in self.routes.iter().chain([&self.unrouted]) {
            route.durations.iter().for_each(Observations::flush);
        }
        for dialect in self.dialects.iter().chain([&self.unrouted.dialect]) {
            dialect.verified.flush();
            dialect.refused.flush();
            dialect.skew.flush();
        }
        for upstream in &self.upstreams {
            upstream.duration.flush();
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.flush();
    }
}

/// The metrics of one route on one thread.
#[derive(Debug)]
pub struct RouteMeter {
    requests: [IntCounter; Outcome::ALL.len()],
    durations: [Observations; Outcome::ALL.len()],
    dialect: Rc<DialectMeter>,
}

impl RouteMeter {
    fn new(metrics: &Metrics, name: &str, dialect: &Rc<DialectMeter>) -> Self {
        let families = &metrics.families;
        Self {
            requests: Outcome::ALL
                .map(|(_, outcome)| families.requests.with_label_values(&[name, outcome])),
            durations: Outcome::ALL.map(|(_, outcome)| {
                Observations::of(&families.request_duration.with_label_values(&[name, outcome]))
            }),
            dialect: Rc::clone(dialect),
        }
    }

    /// Counts a request that passed every check, which took this long.
    pub fn admitted(&self, took: Duration) {
        self.dialect.verified.observe(seconds(took));
    }

    /// Counts a request that a check turned away after this long.
    pub fn denied(&self, denial: &Denial, took: Duration) {
        self.dialect.refused.observe(seconds(took));
        if let Some(counter) = self.dialect.rejections.get(denial.index()) {
            counter.inc();
        }
    }

    /// Counts what rules in shadow would have refused.
    pub fn shadowed(&self, shadowed: Shadowed) {
        for place in shadowed.places() {
            let counters = self.dialect.shadow_refusals.iter().zip(Shadowed::PLACES);
            counters.filter(|(_, known)| *known == place).for_each(|(counter, _)| counter.inc());
        }
    }

    /// Records how far a client's clock lies from ours. Only for requests that are proven or stale: any
    /// other time is a stranger's claim.
    pub fn skew(&self, signed: Micros, now: Micros) {
        self.dialect.skew.observe(seconds(signed.since(now)) - seconds(now.since(signed)));
    }

    /// Counts a request, however it ended. `took` is its time from head to end of answer.
    pub fn finish(&self, outcome: Outcome, took: Duration) {
        let [accepted, rejected, backend_error, client_gone, cut] = &self.requests;
        let [fast, refused, failed, left, ended] = &self.durations;
        let (counter, duration) = match outcome {
            Outcome::Accepted => (accepted, fast),
            Outcome::Rejected => (rejected, refused),
            Outcome::BackendError => (backend_error, failed),
            Outcome::ClientGone => (client_gone, left),
            Outcome::Cut => (cut, ended),
        };
        counter.inc();
        duration.observe(seconds(took));
    }
}

/// The metrics of one dialect on one thread.
#[derive(Debug)]
struct DialectMeter {
    verified: Observations,
    refused: Observations,
    skew: Observations,
    rejections: [IntCounter; Denial::REASONS.len()],
    shadow_refusals: [IntCounter; Shadowed::PLACES.len()],
}

impl DialectMeter {
    fn new(metrics: &Metrics, name: &str) -> Self {
        let families = &metrics.families;
        let verify = |outcome| {
            Observations::of(&families.verify_duration.with_label_values(&[name, outcome]))
        };
        Self {
            verified: verify("accepted"),
            refused: verify("rejected"),
            skew: Observations::of(&families.clock_skew.with_label_values(&[name])),
            rejections: Denial::REASONS
                .map(|reason| families.rejections.with_label_values(&[reason, name])),
            shadow_refusals: Shadowed::PLACES.map(|place| {
                let reason = Denial::REASONS.get(place).copied().unwrap_or_default();
                families.shadow_refusals.with_label_values(&[reason, name])
            }),
        }
    }
}

/// The metrics of one upstream on one thread.
#[derive(Debug)]
pub struct UpstreamMeter {
    duration: Observations,
    requests: [IntCounter; 4],
}

impl UpstreamMeter {
    fn new(metrics: &Metrics, name: &str) -> Self {
        let families = &metrics.families;
        Self {
            duration: Observations::of(&families.upstream_duration.with_label_values(&[name])),
            requests: UpstreamOutcome::ALL
                .map(|(_, outcome)| families.upstream_requests.with_label_values(&[name, outcome])),
        }
    }

    /// Counts one attempt at a backend, which took this long to answer or to fail.
    pub fn finish(&self, outcome: UpstreamOutcome, took: Duration) {
        let [ok, unsent, unknown, timeout] = &self.requests;
        match outcome {
            UpstreamOutcome::Ok => ok.inc(),
            UpstreamOutcome::Unsent => unsent.inc(),
            UpstreamOutcome::Unknown => unknown.inc(),
            UpstreamOutcome::Timeout => timeout.inc(),
        }
        self.duration.observe(seconds(took));
    }
}

/// A histogram gathered on one thread and handed over in batches.
#[derive(Debug)]
struct Observations {
    local: LocalHistogram,
    pending: Cell<u32>,
}

impl Observations {
    fn of(shared: &Histogram) -> Self {
        Self { local: shared.local(), pending: Cell::new(0) }
    }

    fn observe(&self, value: f64) {
        self.local.observe(value);
        let pending = self.pending.get() + 1;
        self.pending.set(pending);
        if pending >= FLUSH_EVERY {
            self.flush();
        }
    }

    fn flush(&self) {
        self.local.flush();
        self.pending.set(0);
    }
}
