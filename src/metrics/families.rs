//! Every metric, declared once: name, help, labels, buckets.

use prometheus::{
    Error, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGauge, IntGaugeVec, Opts, Registry,
};

/// From a quarter of a microsecond (an HMAC) past a slow RSA verification.
const VERIFY_BUCKETS: [f64; 17] = [
    250e-9, 500e-9, 750e-9, 1e-6, 1.5e-6, 2e-6, 3e-6, 5e-6, 10e-6, 20e-6, 50e-6, 100e-6, 200e-6,
    500e-6, 1e-3, 2e-3, 10e-3,
];

/// From a loopback backend to the longest wait for one.
const REQUEST_BUCKETS: [f64; 17] = [
    50e-6, 100e-6, 200e-6, 500e-6, 1e-3, 2e-3, 5e-3, 10e-3, 20e-3, 50e-3, 100e-3, 200e-3, 500e-3,
    1.0, 2.0, 5.0, 10.0,
];

/// Both sides of zero: a client's clock may be late or early.
const SKEW_BUCKETS: [f64; 19] = [
    -60.0, -30.0, -10.0, -5.0, -2.0, -1.0, -0.5, -0.2, -0.05, 0.0, 0.05, 0.2, 0.5, 1.0, 2.0, 5.0,
    10.0, 30.0, 60.0,
];

/// From a change that is heard of at once past the longest that a revocation may take.
const LAG_BUCKETS: [f64; 10] = [1e-3, 2e-3, 5e-3, 10e-3, 20e-3, 50e-3, 100e-3, 500e-3, 1.0, 5.0];

/// The families, registered.
#[derive(Debug)]
pub(super) struct Families {
    pub(super) requests: IntCounterVec,
    pub(super) rejections: IntCounterVec,
    pub(super) shadow_refusals: IntCounterVec,
    pub(super) verify_duration: HistogramVec,
    pub(super) request_duration: HistogramVec,
    pub(super) clock_skew: HistogramVec,
    pub(super) upstream_duration: HistogramVec,
    pub(super) upstream_requests: IntCounterVec,
    pub(super) upstream_backends: IntGaugeVec,
    pub(super) store_records: IntGaugeVec,
    pub(super) store_capacity: IntGaugeVec,
    pub(super) store_subjects: IntGaugeVec,
    pub(super) store_refusals: IntCounterVec,
    pub(super) shared_store_calls: HistogramVec,
    pub(super) shared_store_verdicts: IntCounterVec,
    pub(super) shared_store_errors: IntCounterVec,
    pub(super) shared_store_usable: IntGaugeVec,
    pub(super) shared_store_births: IntCounterVec,
    pub(super) shared_store_clock: GaugeVec,
    pub(super) shared_store_local: IntCounterVec,
    pub(super) shared_store_local_records: IntCounterVec,
    pub(super) shared_store_map_age: Gauge,
    pub(super) state_write_failures: IntCounter,
    pub(super) connections: IntGaugeVec,
    pub(super) connections_opened: IntCounterVec,
    pub(super) connections_closed: IntCounterVec,
    pub(super) connections_refused: IntCounterVec,
    pub(super) websockets: IntGaugeVec,
    pub(super) websockets_closed: IntCounterVec,
    pub(super) websocket_bytes: IntCounterVec,
    pub(super) keys: IntGaugeVec,
    pub(super) key_lookups: IntCounterVec,
    pub(super) registry_keys: IntGauge,
    pub(super) keys_cached: IntGauge,
    pub(super) key_knowledge_age: Gauge,
    pub(super) registry_revision: IntGauge,
    pub(super) registry_lag: Histogram,
    pub(super) bans: IntCounterVec,
    pub(super) bans_active: IntGauge,
    pub(super) ban_refusals: IntCounterVec,
    pub(super) audit_records: IntCounterVec,
    pub(super) audit_lost: IntCounter,
    pub(super) audit_unrecorded: IntCounterVec,
    pub(super) audit_write_failures: IntCounter,
    pub(super) audit_webhook: IntCounterVec,
    pub(super) unusual_activity: IntCounterVec,
    pub(super) machine_clock: Gauge,
    pub(super) ready: IntGauge,
    pub(super) build_info: IntGaugeVec,
}

impl Families {
    /// Declares and registers all of them.
    #[rustfmt::skip] // one line a metric reads as the table it is
    pub(super) fn register(to: &Registry) -> Result<Self, Error> {
        Ok(Self {
            requests: counter(to, "requests_total", "Requests, by how they ended.", &["route", "outcome"])?,
            rejections: counter(to, "rejections_total", "Requests that a check turned away, by reason.", &["reason", "dialect"])?,
            shadow_refusals: counter(to, "shadow_refusals_total", "Requests that passed, though a rule in shadow would have turned them away, by reason.", &["reason", "dialect"])?,
            verify_duration: histogram(to, "verify_duration_seconds", "Time spent on the checks of a request.", &["dialect", "outcome"], &VERIFY_BUCKETS)?,
            request_duration: histogram(to, "request_duration_seconds", "Time from the head of a request to the end of its answer.", &["route", "outcome"], &REQUEST_BUCKETS)?,
            clock_skew: histogram(to, "clock_skew_seconds", "Signed time of proven or stale requests minus our own; negative when the client is late.", &["dialect"], &SKEW_BUCKETS)?,
            upstream_duration: histogram(to, "upstream_duration_seconds", "Time from sending a request to the head of the backend's answer.", &["upstream"], &REQUEST_BUCKETS)?,
            upstream_requests: counter(to, "upstream_requests_total", "Attempts at backends, by how they ended.", &["upstream", "outcome"])?,
            upstream_backends: gauge(to, "upstream_backends", "Backends, by whether they get requests.", &["upstream", "state"])?,
            store_records: gauge(to, "store_records", "What is remembered against replay: signed requests, keys with growing numbers, nonces without a clock.", &["store"])?,
            store_capacity: gauge(to, "store_capacity", "How much of it can be remembered.", &["store"])?,
            store_subjects: gauge(to, "store_subjects", "Allowances of rate limits in use.", &["store"])?,
            store_refusals: counter(to, "store_refusals_total", "Requests refused for the store's sake.", &["store", "why"])?,
            shared_store_calls: histogram(to, "shared_store_call_duration_seconds", "Time from asking a server of the shared store to its answer, or to giving up.", &["server"], &REQUEST_BUCKETS)?,
            shared_store_verdicts: counter(to, "shared_store_verdicts_total", "What the shared store said of requests.", &["verdict"])?,
            shared_store_errors: counter(to, "shared_store_errors_total", "Calls of the shared store that brought nothing, and looks at it that found something wrong.", &["server", "kind"])?,
            shared_store_usable: gauge(to, "shared_store_usable", "Whether a server of the shared store is asked: 1 or 0.", &["server"])?,
            shared_store_births: counter(to, "shared_store_births_total", "Times that a server of the shared store was found to remember from a later moment on than was known: 1 after a start, more after losses.", &["server"])?,
            shared_store_clock: offsets(to)?,
            shared_store_local: counter(to, "shared_store_local_total", "Requests that this gateway judged alone, since the shared store could not be asked and their route says local.", &["outcome"])?,
            shared_store_local_records: counter(to, "shared_store_local_records_total", "Records of such requests, by what became of them at each server: found means that a copy passed at another gateway.", &["server", "outcome"])?,
            shared_store_map_age: age(to, "shared_store_map_age_seconds", "How long ago most nodes of a cluster said who is the primary of what; 0 without a cluster.")?,
            state_write_failures: single(to, "state_write_failures_total", "Writes that the state directory did not take.")?,
            connections: gauge(to, "connections", "Client connections open.", &["listener"])?,
            connections_opened: counter(to, "connections_total", "Client connections accepted.", &["listener"])?,
            connections_closed: counter(to, "connections_closed_total", "Client connections that ended, by why.", &["listener", "cause"])?,
            connections_refused: counter(to, "connections_refused_total", "Client connections that were not let in: full when there were as many as may be, address_full when one address had, unaccepted when there was no descriptor or memory for one.", &["listener", "cause"])?,
            websockets: gauge(to, "websockets", "WebSockets open.", &["route"])?,
            websockets_closed: counter(to, "websockets_closed_total", "WebSockets that ended, by why.", &["route", "cause"])?,
            websocket_bytes: counter(to, "websocket_bytes_total", "Bytes that passed through WebSockets, by whom they came from.", &["route", "from"])?,
            keys: gauge(to, "keys", "API keys of the configuration, by state.", &["state"])?,
            key_lookups: counter(to, "key_lookups_total", "Lookups of keys that the configuration does not hold, by where they ended.", &["result"])?,
            registry_keys: level(to, "registry_keys", "Keys in the registry, whatever their state; 0 as long as that is not known.")?,
            keys_cached: level(to, "keys_cached", "Keys of the registry that are held in memory.")?,
            key_knowledge_age: age(to, "key_knowledge_age_seconds", "How old the knowledge of the registry's keys is; 0 without a registry.")?,
            registry_revision: level(to, "registry_revision", "The registry's revision up to which every change is applied.")?,
            registry_lag: lag(to)?,
            bans: counter(to, "bans_total", "Bans of addresses, by whether failures here brought them or another gateway told of them.", &["origin"])?,
            bans_active: level(to, "bans_active", "Bans of addresses that hold now, those by hand too.")?,
            ban_refusals: counter(to, "ban_refusals_total", "Requests refused for a ban of their address, by which one in a row it is.", &["level"])?,
            audit_records: counter(to, "audit_records_total", "Records for the audit trail, by kind.", &["kind"])?,
            audit_lost: single(to, "audit_lost_total", "Audit records that were dropped for want of room while nothing could be written.")?,
            audit_unrecorded: counter(to, "audit_unrecorded_total", "Requests that could not be recorded in time, by what became of them.", &["request"])?,
            audit_write_failures: single(to, "audit_write_failures_total", "Writes that the audit trail's directory did not take.")?,
            audit_webhook: counter(to, "audit_webhook_total", "Messages to the audit webhook, by what became of them.", &["outcome"])?,
            unusual_activity: counter(to, "unusual_activity_total", "What was unusual for a key, by what it was.", &["what"])?,
            machine_clock: age(to, "machine_clock_offset_seconds", "How far the machine's clock lies ahead of the gateway's, which never runs back; negative where behind. Beyond half a second nothing signed is judged.")?,
            ready: level(to, "ready", "Whether the gateway takes traffic: 1 or 0.")?,
            build_info: gauge(to, "build_info", "Always 1; the labels say what is running.", &["version", "arch"])?,
        })
    }
}

const NAMESPACE: &str = "countersign";

fn counter(to: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, Error> {
    let family = IntCounterVec::new(Opts::new(name, help).namespace(NAMESPACE), labels)?;
    to.register(Box::new(family.clone()))?;
    Ok(family)
}

fn gauge(to: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, Error> {
    let family = IntGaugeVec::new(Opts::new(name, help).namespace(NAMESPACE), labels)?;
    to.register(Box::new(family.clone()))?;
    Ok(family)
}

fn histogram(
    to: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
    buckets: &[f64],
) -> Result<HistogramVec, Error> {
    let options = HistogramOpts::new(name, help).namespace(NAMESPACE).buckets(buckets.to_vec());
    let family = HistogramVec::new(options, labels)?;
    to.register(Box::new(family.clone()))?;
    Ok(family)
}

fn single(to: &Registry, name: &str, help: &str) -> Result<IntCounter, Error> {
    let options = Opts::new(name, help);
    let metric = IntCounter::with_opts(options.namespace(NAMESPACE))?;
    to.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn level(to: &Registry, name: &str, help: &str) -> Result<IntGauge, Error> {
    let metric = IntGauge::with_opts(Opts::new(name, help).namespace(NAMESPACE))?;
    to.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn offsets(to: &Registry) -> Result<GaugeVec, Error> {
    let help = "How far the clock of a server of the shared store lies from ours, at least.";
    let options = Opts::new("shared_store_clock_offset_seconds", help);
    let family = GaugeVec::new(options.namespace(NAMESPACE), &["server"])?;
    to.register(Box::new(family.clone()))?;
    Ok(family)
}

fn age(to: &Registry, name: &str, help: &str) -> Result<Gauge, Error> {
    let options = Opts::new(name, help);
    let metric = Gauge::with_opts(options.namespace(NAMESPACE))?;
    to.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn lag(to: &Registry) -> Result<Histogram, Error> {
    let help = "Time from a change in the registry until this gateway keeps to it.";
    let options = HistogramOpts::new("registry_lag_seconds", help).namespace(NAMESPACE);
    let metric = Histogram::with_opts(options.buckets(LAG_BUCKETS.to_vec()))?;
    to.register(Box::new(metric.clone()))?;
    Ok(metric)
}
