//! The dashboards and alerts against the metrics that really exist, and against a real Prometheus.
#![cfg(feature = "server")]
#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic is how a test fails"
)]

mod files;
mod gateway;
mod live;
mod names;

use std::collections::BTreeSet;

use countersign::metrics::Metrics;
use files::{dashboards, rules};
use names::{families, unknown};

/// Families on no panel, each with the reason.
const ON_NO_PANEL: [(&str, &str); 3] = [
    ("process_start_time_seconds", "an annotation marks starts"),
    ("process_threads", "fixed: one a core, and one"),
    ("process_virtual_memory_bytes", "says nothing of memory in use"),
];

fn metrics() -> Metrics {
    let metrics = gateway::metrics();
    // As with a shared store.
    drop((metrics.server("one"), metrics.verdicts(), metrics.local()));
    metrics
}

#[test]
fn every_metric_on_a_panel_or_in_a_rule_exists() {
    let known = families(&metrics());
    for board in dashboards() {
        for (place, expression) in board.expressions() {
            assert_eq!(unknown(&expression, &known), Ok(BTreeSet::new()), "{place}: {expression}");
        }
    }
    for rule in rules() {
        // Prometheus itself makes `up`.
        let known = known.iter().cloned().chain(["up".to_owned()]).collect();
        assert_eq!(unknown(&rule.expression, &known), Ok(BTreeSet::new()), "{}", rule.alert);
    }
}

#[test]
fn a_misspelt_metric_is_caught() {
    let known = families(&metrics());
    let expression = r#"sum(rate(countersign_requests_total{job=~"$job"}[$__rate_interval]))
        / sum(rate(countersign_request_total[5m]))"#;
    let caught = BTreeSet::from(["countersign_request_total".to_owned()]);
    assert_eq!(unknown(expression, &known), Ok(caught));

    let suffix = "histogram_quantile(0.5, rate(countersign_requests_total_bucket[5m]))";
    let caught = BTreeSet::from(["countersign_requests_total_bucket".to_owned()]);
    assert_eq!(unknown(suffix, &known), Ok(caught), "only histograms have buckets");

    assert!(unknown("sum(rate(countersign_requests_total[5m])", &known).is_err(), "unclosed");
    assert!(unknown("sum by (route)", &known).is_err());
}

#[test]
fn every_family_is_on_a_panel_or_excused() {
    let shown: BTreeSet<String> = dashboards()
        .iter()
        .flat_map(files::Dashboard::panels)
        .flat_map(|panel| panel.expressions)
        .flat_map(|expression| names::named(&expression).unwrap())
        .collect();
    let known = families(&metrics());
    for (excused, _) in ON_NO_PANEL {
        assert!(known.contains(excused), "{excused} is excused and does not exist");
        assert!(!shown.contains(excused), "{excused} is excused and shown");
    }
    let series = |family: &String| {
        [
            family.clone(),
            format!("{family}_bucket"),
            format!("{family}_sum"),
            format!("{family}_count"),
        ]
    };
    let missing: Vec<_> = known
        .iter()
        .filter(|family| !family.ends_with("_bucket") && !family.ends_with("_sum"))
        .filter(|family| !family.ends_with("_count"))
        .filter(|family| !series(family).iter().any(|name| shown.contains(name)))
        .filter(|family| !ON_NO_PANEL.iter().any(|(excused, _)| family == excused))
        .collect();
    assert_eq!(missing, Vec::<&String>::new(), "on no panel");
}

#[test]
fn every_panel_says_what_it_shows_and_in_which_unit() {
    for board in dashboards() {
        let mut ids = BTreeSet::new();
        for panel in board.panels() {
            assert!(!panel.title.is_empty(), "panel {} of {}", panel.id, board.file);
            assert!(panel.description.ends_with('.'), "{} has no description", panel.title);
            assert!(!panel.unit.is_empty(), "{} has no unit", panel.title);
            assert!(!panel.expressions.is_empty(), "{} shows nothing", panel.title);
            assert!(ids.insert(panel.id), "two panels have id {}", panel.id);
        }
    }
}

#[test]
fn dashboards_can_be_provisioned_as_they_are() {
    for board in dashboards() {
        assert!(!board.text.contains("__inputs"), "{}: provisioning never fills them", board.file);
        assert_eq!(board.json["schemaVersion"], 42, "{}", board.file);
        assert_eq!(board.json["editable"], false, "{}", board.file);
        assert_eq!(
            board.json["id"],
            serde_json::Value::Null,
            "{}: ids are the server's",
            board.file
        );
        for source in board.data_sources() {
            assert_eq!(source, "${datasource}", "{}", board.file);
        }
        for (place, expression) in board.expressions() {
            let rated = expression.contains("rate(") || expression.contains("increase(");
            let interval = expression.contains("[$__rate_interval]");
            assert_eq!(rated || expression.contains("changes("), interval, "{place}: {expression}");
        }
    }
}

#[test]
fn every_alert_has_a_test_that_fires_it_and_words_for_who_is_woken() {
    let tests = files::rule_tests();
    for rule in rules() {
        assert!(rule.text.contains("summary:"), "{} has no summary", rule.alert);
        assert!(rule.text.contains("description:"), "{} has no description", rule.alert);
        assert!(rule.text.contains("severity:"), "{} has no severity", rule.alert);
        let fires =
            format!("alertname: {}\n        exp_alerts:\n          - exp_labels", rule.alert);
        assert!(tests.contains(&fires), "no test fires {}", rule.alert);
    }
}
