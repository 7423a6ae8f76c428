//! Every combination stands at 0, and every handle moves its own series and no other.

use super::*;
use crate::clock::Micros;
use crate::denial::Denial;
use crate::gateway::observe::{End, TurnedAway};

const LABELS: Labels<'static> = Labels {
    routes: &[
        RouteLabels { name: "order", dialect: Some("binance") },
        RouteLabels { name: "time", dialect: None },
    ],
    upstreams: &[UpstreamLabels { name: "matching", backends: 2 }],
    dialects: &["binance", "okx"],
    stores: &["memory"],
    listeners: &["public"],
};

fn metrics() -> Metrics {
    Metrics::new(&LABELS).unwrap()
}

/// The value of one series.
fn value(metrics: &Metrics, series: &str) -> Option<f64> {
    let text = metrics.exposition().unwrap();
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn every_combination_stands_at_0_from_the_start() {
    let metrics = metrics();
    for route in ["order", "time", NONE] {
        for (_, outcome) in Outcome::ALL {
            let labels = format!("{{outcome=\"{outcome}\",route=\"{route}\"}}");
            assert_eq!(value(&metrics, &format!("countersign_requests_total{labels}")), Some(0.0));
            let count = format!("countersign_request_duration_seconds_count{labels}");
            assert_eq!(value(&metrics, &count), Some(0.0));
        }
    }
    for dialect in ["binance", "okx", NONE] {
        for reason in Denial::REASONS {
            let series = format!(
                "countersign_rejections_total{{dialect=\"{dialect}\",reason=\"{reason}\"}}"
            );
            assert_eq!(value(&metrics, &series), Some(0.0), "{series}");
        }
        let series = format!("countersign_clock_skew_seconds_count{{dialect=\"{dialect}\"}}");
        assert_eq!(value(&metrics, &series), Some(0.0), "{series}");
    }
    for why in ["full", "fenced", "unavailable"] {
        let series = format!("countersign_store_refusals_total{{store=\"memory\",why=\"{why}\"}}");
        assert_eq!(value(&metrics, &series), Some(0.0), "{series}");
    }
    let up = "countersign_upstream_backends{state=\"up\",upstream=\"matching\"}";
    assert_eq!(value(&metrics, up), Some(2.0), "all backends are up at first");
}

#[test]
fn an_outcome_stands_at_its_index() {
    let metrics = metrics();
    let worker = metrics.worker();
    for (n, (outcome, name)) in (1..).zip(Outcome::ALL) {
        (0..n).for_each(|_| worker.route(0).finish(outcome, Duration::from_millis(1)));
        let series = format!("countersign_requests_total{{outcome=\"{name}\",route=\"order\"}}");
        assert_eq!(value(&metrics, &series), Some(f64::from(n)), "{series}");
    }
    for (n, (outcome, name)) in (1..).zip(UpstreamOutcome::ALL) {
        let upstream = worker.upstream(0).unwrap();
        (0..n).for_each(|_| upstream.finish(outcome, Duration::from_millis(1)));
        let series = format!(
            "countersign_upstream_requests_total{{outcome=\"{name}\",upstream=\"matching\"}}"
        );
        assert_eq!(value(&metrics, &series), Some(f64::from(n)), "{series}");
    }
}

#[test]
fn a_denial_counts_under_its_reason_and_dialect() {
    let metrics = metrics();
    let worker = metrics.worker();
    worker.route(0).denied(&Denial::Replayed, Duration::from_micros(1));
    worker.route(1).denied(&Denial::TooLarge, Duration::from_micros(1));
    worker.unrouted().denied(&Denial::NoRoute, Duration::ZERO);
    worker.route(u16::MAX).denied(&Denial::NoRoute, Duration::ZERO);
    for (dialect, reason, count) in [
        ("binance", "replayed", 1.0),
        ("okx", "replayed", 0.0),
        (NONE, "too_large", 1.0),
        (NONE, "no_route", 2.0),
    ] {
        let series =
            format!("countersign_rejections_total{{dialect=\"{dialect}\",reason=\"{reason}\"}}");
        assert_eq!(value(&metrics, &series), Some(count), "{series}");
    }
}

#[test]
fn observations_show_after_64_on_flush_and_when_the_worker_ends() {
    let metrics = metrics();
    let count =
        "countersign_verify_duration_seconds_count{dialect=\"binance\",outcome=\"accepted\"}";
    let worker = metrics.worker();
    let observe =
        |n: usize| (0..n).for_each(|_| worker.route(0).admitted(Duration::from_nanos(300)));
    observe(63);
    assert_eq!(value(&metrics, count), Some(0.0));
    observe(1);
    assert_eq!(value(&metrics, count), Some(64.0));
    observe(2);
    worker.flush();
    assert_eq!(value(&metrics, count), Some(66.0));
    observe(1);
    drop(worker);
    assert_eq!(value(&metrics, count), Some(67.0));

    let other = metrics.worker();
    other.route(1).admitted(Duration::from_nanos(300));
    drop(other);
    let none = "countersign_verify_duration_seconds_count{dialect=\"none\",outcome=\"accepted\"}";
    assert_eq!(value(&metrics, none), Some(1.0), "also without a dialect");
}

#[test]
fn verification_is_told_apart_from_250_ns() {
    let metrics = metrics();
    let worker = metrics.worker();
    worker.route(0).admitted(Duration::from_nanos(250));
    worker.route(0).admitted(Duration::from_nanos(251));
    worker.flush();
    let bucket = |le: &str| {
        let series = "countersign_verify_duration_seconds_bucket";
        value(
            &metrics,
            &format!("{series}{{dialect=\"binance\",outcome=\"accepted\",le=\"{le}\"}}"),
        )
    };
    assert_eq!(bucket("0.00000025"), Some(1.0));
    assert_eq!(bucket("0.0000005"), Some(2.0));
}

#[test]
fn a_late_clock_is_negative_and_an_early_one_positive() {
    let now = Micros::from_millis(1_700_000_000_000);
    for (signed, sum) in [
        (now - Duration::from_millis(1_500), -1.5),
        (now + Duration::from_millis(250), 0.25),
        (now, 0.0),
    ] {
        let metrics = metrics();
        let worker = metrics.worker();
        worker.route(0).skew(signed, now);
        worker.flush();
        let series = "countersign_clock_skew_seconds_sum{dialect=\"binance\"}";
        assert_eq!(value(&metrics, series), Some(sum));
    }
}

#[test]
fn a_connection_is_open_until_it_is_closed() {
    let metrics = metrics();
    let open = || value(&metrics, "countersign_connections{listener=\"public\"}");
    metrics.listener(0).unwrap().opened();
    assert_eq!(open(), Some(1.0));
    metrics.listener(0).unwrap().closed(End::Closed);
    assert_eq!(open(), Some(0.0));
    assert_eq!(value(&metrics, "countersign_connections_total{listener=\"public\"}"), Some(1.0));
}

#[test]
fn connections_are_counted_by_why_they_ended_or_were_not_let_in() {
    let metrics = metrics();
    let meter = metrics.listener(0).unwrap();
    for (times, (end, cause)) in (1..).zip(End::ALL) {
        (0..times).for_each(|_| meter.closed(end));
        let series = format!(
            "countersign_connections_closed_total{{cause=\"{cause}\",listener=\"public\"}}"
        );
        assert_eq!(value(&metrics, &series), Some(f64::from(times)), "{series}");
    }
    for (times, (why, cause)) in (1..).zip(TurnedAway::ALL) {
        (0..times).for_each(|_| meter.refused(why));
        let series = format!(
            "countersign_connections_refused_total{{cause=\"{cause}\",listener=\"public\"}}"
        );
        assert_eq!(value(&metrics, &series), Some(f64::from(times)), "{series}");
    }
}

#[test]
fn unknown_ids_are_ignored() {
    let metrics = metrics();
    metrics.set_backends(9, 1, 1);
    assert!(metrics.store(9).is_none() && metrics.listener(9).is_none());
    assert!(metrics.worker().upstream(9).is_none());
}

#[test]
fn label_values_with_quotes_and_lines_are_escaped() {
    let labels = Labels { stores: &["a\"b\n\\c"], ..LABELS };
    let text = Metrics::new(&labels).unwrap().exposition().unwrap();
    assert!(text.contains(r#"countersign_store_records{store="a\"b\n\\c"} 0"#), "{text}");
}
