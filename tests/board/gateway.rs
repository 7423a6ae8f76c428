//! A gateway that exists in metrics alone: an admin server on a free port, and work that moves every family.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use countersign::admin::{self, AdminState, NotReady, Readiness};
use countersign::audit::Kind;
use countersign::clock::Micros;
use countersign::denial::Denial;
use countersign::gateway::observe::{End, Parting, Passed, TurnedAway};
use countersign::metrics::{
    AuditMeter, KeyCounts, Labels, Metrics, Outcome, RouteLabels, StoreRefusal, UpstreamLabels,
    UpstreamOutcome,
};
use countersign::registry::cache::Counts;
use countersign::store::Verdict;
use countersign::store::redis::Ailment;
use tokio::net::TcpListener;

/// Labels of a small configuration.
pub(crate) const LABELS: Labels<'static> = Labels {
    routes: &[
        RouteLabels { name: "order", dialect: Some("binance") },
        RouteLabels { name: "orders", dialect: Some("bitget") },
        RouteLabels { name: "time", dialect: None },
    ],
    upstreams: &[UpstreamLabels { name: "matching", backends: 2 }],
    dialects: &["binance", "bybit", "bitget"],
    stores: &["memory"],
    listeners: &["public", "admin"],
};

const CACHE: Counts = Counts {
    held: 4,
    known: Some(5),
    hits: 6,
    loaded: 4,
    absent: 1,
    filtered: 2,
    unavailable: 3,
    age: Some(Duration::from_millis(20)),
    revision: 7,
};

/// What stands at 0 in it from the start.
pub(crate) fn metrics() -> Metrics {
    Metrics::new(&LABELS).unwrap().with_websockets(std::iter::once((0, "order")))
}

/// Starts one. It works until its runtime ends.
pub(crate) async fn start() -> SocketAddr {
    let metrics = Arc::new(metrics());
    let readiness = Readiness::starting();
    for (reason, _) in NotReady::ALL {
        readiness.clear(reason);
    }
    let filled = Arc::clone(&metrics);
    let fill = move || filled.store(0).unwrap().set_fill(25, 100, 7);
    let state = AdminState::new(Arc::clone(&metrics), readiness, vec![Box::new(fill)]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(admin::serve(listener, state, std::future::pending()));
    tokio::task::spawn_local(async move {
        metrics.listener(0).unwrap().opened();
        let worker = metrics.worker();
        loop {
            work(&metrics, &worker);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    address
}

/// Moves every family of the audit trail.
fn audit(meter: &AuditMeter) {
    meter.requests(5);
    meter.acts(1);
    meter.unproven(1);
    meter.lost(1);
    meter.write_failed();
    for (kind, _) in Kind::ALL {
        meter.unusual(kind);
    }
    for either in [true, false] {
        meter.unrecorded(either);
        meter.webhook(either);
    }
}

/// Moves every family.
fn work(metrics: &Metrics, worker: &countersign::metrics::Worker) {
    metrics.set_keys(KeyCounts { active: 3, suspended: 1, revoked: 2 });
    metrics.set_backends(0, 1, 1);
    metrics.set_write_failures(1);
    metrics.set_cache(&CACHE);
    metrics.registry_lag(Duration::from_millis(3));
    audit(metrics.audit());
    let server = metrics.server("10.0.0.5:6379");
    server.called(Duration::from_micros(300));
    server.failed(Ailment::Timeout);
    server.set_usable(true);
    server.born();
    server.set_clock(Duration::from_millis(2));
    metrics.verdicts().counted(&Verdict::Seen);
    metrics.local().judged(countersign::metrics::LocalOutcome::Accepted);
    server.written(countersign::metrics::Written::Now);
    let listener = metrics.listener(0).unwrap();
    for (end, _) in End::ALL {
        listener.opened();
        listener.closed(end);
    }
    for (why, _) in TurnedAway::ALL {
        listener.refused(why);
    }
    let websockets = metrics.websocket(0).unwrap();
    websockets.opened();
    websockets.passed(Passed { up: 10, down: 20 });
    websockets.closed(Parting::Closed);
    for why in [StoreRefusal::Full, StoreRefusal::Fenced, StoreRefusal::Unavailable] {
        metrics.store(0).unwrap().refused(why);
    }
    let now = Micros::from_millis(1_700_000_000_000);
    for route in 0..=3 {
        let meter = worker.route(route);
        meter.admitted(Duration::from_nanos(900));
        meter.denied(&Denial::Replayed, Duration::from_micros(2));
        meter.skew(now - Duration::from_millis(30 * u64::from(route)), now);
        for (outcome, _) in Outcome::ALL {
            meter.finish(outcome, Duration::from_micros(150));
        }
    }
    for (outcome, _) in UpstreamOutcome::ALL {
        worker.upstream(0).unwrap().finish(outcome, Duration::from_micros(90));
    }
    worker.flush();
}
