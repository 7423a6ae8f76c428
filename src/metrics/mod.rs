//! What operators can count: every metric is declared in `families`, every label value comes from the
//! configuration or an enum, and every combination stands at 0 from the start.
//!
//! [`Metrics`] is shared. Each data-plane thread takes a [`Worker`] of its own, whose handles are resolved
//! once and whose histograms are gathered locally, so that a request costs nanoseconds and no shared lock.

mod audit;
mod families;
mod labels;
mod servers;
mod shared;
mod websocket;
mod worker;

use std::collections::HashMap;
use std::time::Duration;

use prometheus::process_collector::ProcessCollector;
use prometheus::{IntCounter, Registry, TextEncoder};

pub use audit::AuditMeter;
pub use labels::{KeyCounts, Labels, NONE, Outcome, RouteLabels, UpstreamLabels, UpstreamOutcome};
pub use prometheus::Error;
pub use servers::{LocalMeter, LocalOutcome, ServerMeter, ServerMeters, VerdictMeter, Written};
pub use shared::{ListenerMeter, StoreMeter, StoreRefusal};
pub use websocket::WebSocketMeter;
pub use worker::{RouteMeter, UpstreamMeter, Worker};

use crate::admit::BanCounts;
use crate::registry::cache::Counts;
use families::Families;

/// The registry of all metrics. One for the process, shared by reference.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    families: Families,
    routes: Vec<RoutePlan>,
    dialects: Vec<String>,
    upstreams: Vec<String>,
    stores: Vec<StoreMeter>,
    listeners: Vec<ListenerMeter>,
    /// By route; of those that open WebSockets.
    websockets: HashMap<u16, WebSocketMeter>,
    audit: AuditMeter,
}

/// One route's labels, kept to resolve the handles of each worker.
#[derive(Debug)]
struct RoutePlan {
    name: String,
    /// A place in [`Metrics::dialects`]; `None` on a public route.
    dialect: Option<usize>,
}

impl Metrics {
    /// Declares every metric and creates every combination of labels at 0.
    pub fn new(labels: &Labels<'_>) -> Result<Self, Error> {
        let registry = Registry::new();
        let families = Families::register(&registry)?;
        registry.register(Box::new(ProcessCollector::for_self()))?;

        let dialects = dialects(labels);
        let routes = routes(labels, &dialects);
        let metrics = Self {
            stores: labels.stores.iter().map(|name| StoreMeter::new(&families, name)).collect(),
            listeners: labels
                .listeners
                .iter()
                .map(|name| ListenerMeter::new(&families, name))
                .collect(),
            upstreams: labels.upstreams.iter().map(|upstream| upstream.name.to_owned()).collect(),
            websockets: HashMap::new(),
            audit: AuditMeter::new(&families),
            registry,
            families,
            routes,
            dialects,
        };
        for (id, upstream) in labels.upstreams.iter().enumerate() {
            metrics.set_backends(id, upstream.backends, 0);
        }
        metrics.set_keys(KeyCounts::default());
        metrics.set_bans(&BanCounts::default());
        for result in ["hit", "loaded", "absent", "filtered", "unavailable"] {
            drop(metrics.families.key_lookups.with_label_values(&[result]));
        }
        metrics
            .families
            .build_info
            .with_label_values(&[env!("CARGO_PKG_VERSION"), std::env::consts::ARCH])
            .set(1);
        drop(metrics.worker());
        Ok(metrics)
    }

    /// The same, with those of routes that open WebSockets, each with its id and name.
    #[must_use]
    pub fn with_websockets<'c>(mut self, routes: impl Iterator<Item = (u16, &'c str)>) -> Self {
        let meter = |(id, name)| (id, WebSocketMeter::new(&self.families, name));
        self.websockets = routes.map(meter).collect();
        self
    }

    /// Those of a route that opens WebSockets, by its id.
    pub fn websocket(&self, route: u16) -> Option<&WebSocketMeter> {
        self.websockets.get(&route)
    }

    /// The handles of one data-plane thread, resolved now and used for its whole life.
    ///
    /// Histograms become visible to a scrape every 64 observations, on [`Worker::flush`] (call it about
    /// once a second), and when the worker is dropped. Counters are visible at once.
    pub fn worker(&self) -> Worker {
        Worker::new(self)
    }

    /// The store with this id, in the order of [`Labels::stores`].
    pub fn store(&self, id: usize) -> Option<&StoreMeter> {
        self.stores.get(id)
    }

    /// The listener with this id, in the order of [`Labels::listeners`].
    pub fn listener(&self, id: usize) -> Option<&ListenerMeter> {
        self.listeners.get(id)
    }

    /// Those of the audit trail.
    pub fn audit(&self) -> &AuditMeter {
        &self.audit
    }

    /// The handles of a server of the shared store.
    pub fn server(&self, name: &str) -> ServerMeter {
        self.servers().server(name)
    }

    /// The handles of servers that become known while the gateway runs.
    pub fn servers(&self) -> ServerMeters {
        ServerMeters::new(&self.families)
    }

    /// Sets how long ago most nodes of a cluster said who is the primary of what.
    pub fn set_map_age(&self, age: Option<Duration>) {
        self.families.shared_store_map_age.set(age.map_or(f64::INFINITY, seconds));
    }

    /// Those of what this gateway judges alone.
    pub fn local(&self) -> LocalMeter {
        LocalMeter::new(&self.families)
    }

    /// Those of what the shared store says.
    pub fn verdicts(&self) -> VerdictMeter {
        VerdictMeter::new(&self.families)
    }

    /// Sets how many backends of an upstream are up and how many are ejected. An unknown id is ignored.
    pub fn set_backends(&self, upstream: usize, up: usize, ejected: usize) {
        if let Some(name) = self.upstreams.get(upstream) {
            let backends = &self.families.upstream_backends;
            backends.with_label_values(&[name.as_str(), "up"]).set(gauge(up));
            backends.with_label_values(&[name.as_str(), "ejected"]).set(gauge(ejected));
        }
    }

    /// Sets how many keys of the configuration are in each state.
    pub fn set_keys(&self, counts: KeyCounts) {
        let KeyCounts { active, suspended, revoked } = counts;
        for (state, count) in [("active", active), ("suspended", suspended), ("revoked", revoked)] {
            self.families.keys.with_label_values(&[state]).set(gauge(count));
        }
    }

    /// Counts the writes that the state directory did not take, up to `total` in all.
    pub fn set_write_failures(&self, total: u64) {
        let failures = &self.families.state_write_failures;
        failures.inc_by(total.saturating_sub(failures.get()));
    }

    /// Sets how the cache of a registry's keys stands. Counts in it never fall.
    pub fn set_cache(&self, counts: &Counts) {
        let families = &self.families;
        for (result, total) in [
            ("hit", counts.hits),
            ("loaded", counts.loaded),
            ("absent", counts.absent),
            ("filtered", counts.filtered),
            ("unavailable", counts.unavailable),
        ] {
            let lookups = families.key_lookups.with_label_values(&[result]);
            lookups.inc_by(total.saturating_sub(lookups.get()));
        }
        families.registry_keys.set(gauge(counts.known.unwrap_or_default()));
        families.keys_cached.set(gauge(counts.held));
        families.key_knowledge_age.set(counts.age.map_or(f64::INFINITY, seconds));
        families.registry_revision.set(i64::try_from(counts.revision).unwrap_or(i64::MAX));
    }

    /// Sets how bans of addresses stand. Counts in it never fall.
    pub fn set_bans(&self, counts: &BanCounts) {
        let families = &self.families;
        families.bans_active.set(gauge(counts.active));
        for (origin, total) in [("made", counts.made), ("learnt", counts.learnt)] {
            raise(&families.bans.with_label_values(&[origin]), total);
        }
        for (level, total) in BAN_LEVELS.iter().zip(counts.refused) {
            raise(&families.ban_refusals.with_label_values(&[level]), total);
        }
        raise(&families.ban_refusals.with_label_values(&["by_hand"]), counts.refused_by_hand);
    }

    /// A change of the registry was applied so long after it was made.
    pub fn registry_lag(&self, lag: Duration) {
        self.families.registry_lag.observe(seconds(lag));
    }

    /// Sets how far the machine's clock lies ahead of the gateway's, in seconds; negative where behind.
    pub fn set_clock_apart(&self, seconds: f64) {
        self.families.machine_clock.set(seconds);
    }

    /// Sets whether the gateway takes traffic.
    pub fn set_ready(&self, ready: bool) {
        self.families.ready.set(i64::from(ready));
    }

    /// Everything in the text exposition format, version 0.0.4.
    pub fn exposition(&self) -> Result<String, Error> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }

    /// The registry, for collectors of one's own.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }
}

/// All dialects, each once.
fn dialects(labels: &Labels<'_>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let used = labels.routes.iter().filter_map(|route| route.dialect);
    for name in labels.dialects.iter().copied().chain(used) {
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}

/// The plans of all routes.
fn routes(labels: &Labels<'_>, dialects: &[String]) -> Vec<RoutePlan> {
    let plan = |route: &RouteLabels<'_>| RoutePlan {
        name: route.name.to_owned(),
        dialect: dialects.iter().position(|name| Some(name.as_str()) == route.dialect),
    };
    labels.routes.iter().map(plan).collect()
}

/// Counts up to `total` in all.
fn raise(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

/// The label of each level of bans: how many an address had in a row, the last for all above.
const BAN_LEVELS: [&str; crate::admit::BAN_LEVELS] = ["1", "2", "3", "4", "5", "6_or_more"];

/// A count as a gauge's value.
fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A duration as a histogram's value.
fn seconds(span: Duration) -> f64 {
    span.as_secs_f64()
}

#[cfg(test)]
mod tests;
