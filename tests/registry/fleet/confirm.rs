//! What the answer to a revocation says of the gateways: which have applied it, and which have not.

use countersign::registry::gossip::{Place, Topic};
use serde_json::{Value, json};

use super::client::{command_line, post};
use super::site::{Site, until};
use super::wire::Way;
use crate::server::Server;

/// The names of the gateways that have confirmed, and of those that have not.
fn gateways(answer: &Value) -> (Vec<String>, Vec<String>) {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let confirmed = answer["gateways"]["confirmed"].as_array().unwrap().iter().map(text);
    let waiting = answer["gateways"]["waiting"].as_array().unwrap();
    (confirmed.collect(), waiting.iter().map(|one| text(&one["name"])).collect())
}

fn revoke(site: &Site, wait: &str) -> (Vec<String>, Vec<String>) {
    let (id, _) = site.issue(&["read"]);
    gateways(&post(site.admin(), &format!("/v1/keys/{id}/revoke?wait={wait}"), &json!({})))
}

/// Waits until as many gateways are heard of.
fn heard_of(site: &Site, count: usize) {
    until("gateways are heard of", || {
        let told = site.wait(site.registry.told(Topic::Applied, Place::default(), 10));
        told.unwrap().len() == count
    });
}

#[test]
fn an_answer_names_the_gateways_that_have_applied_a_revocation_and_those_that_have_not() {
    let site = Site::over_postgres(3, Server::shared());
    heard_of(&site, 3);
    let (mut all, none) = revoke(&site, "10s");
    all.sort_unstable();
    assert_eq!((all.len(), none.len()), (3, 0), "{all:?} {none:?}");
    all.dedup();
    assert_eq!(all.len(), 3, "each has a name of its own");

    // One hears nothing any more, though it is there: it is waited for no longer than is said, and named.
    let revision = site.wait(site.registry.revision()).unwrap();
    site.gateways[2].heard.nothing_after(revision);
    let (confirmed, waiting) = revoke(&site, "400ms");
    assert_eq!((confirmed.len(), waiting.len()), (2, 1));
    let deaf = waiting[0].clone();
    site.gateways[2].heard.nothing_after(u64::MAX);
    let (confirmed, waiting) = revoke(&site, "10s");
    assert!(confirmed.contains(&deaf) && waiting.is_empty(), "the control: {waiting:?}");

    // One is cut off from the registry.
    site.gateways[2].wire.as_ref().unwrap().set(Way::Silent);
    let (confirmed, waiting) = revoke(&site, "400ms");
    assert_eq!((confirmed.len(), &waiting), (2, &vec![deaf.clone()]));
    let (id, _) = site.issue(&["read"]);
    let told = command_line(site.admin(), &["keys", "revoke", "--yes", &id]);
    assert_eq!(told.trim(), format!("{id} revoked, confirmed by 2 of 3 gateways"));
    site.gateways[2].wire.as_ref().unwrap().set(Way::Open);
    assert_eq!(revoke(&site, "10s").0.len(), 3);
    site.end();
}

#[test]
fn every_act_that_takes_something_away_names_them() {
    let site = Site::over_postgres(2, Server::shared());
    heard_of(&site, 2);
    let (id, _) = site.issue(&["read"]);
    let app = json!({"name": "bot", "permissions": ["read"]});
    post(site.admin(), "/v1/apps", &app);
    for path in [
        &format!("/v1/keys/{id}/suspend"),
        &format!("/v1/keys/{id}/compromised"),
        "/v1/accounts/ann/freeze",
        "/v1/switches/withdraw/throw",
        "/v1/apps/bot/stop",
    ] {
        let answer = post(site.admin(), &format!("{path}?wait=10s"), &json!({}));
        assert_eq!(gateways(&answer).0.len(), 2, "{path}: {answer}");
    }
    let told = command_line(site.admin(), &["apps", "compromised", "--json", "--yes", "bot"]);
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(gateways(&told).0.len(), 2, "{told}");
    // What gives something back waits for nobody.
    let answer = post(site.admin(), "/v1/accounts/ann/unfreeze", &json!({}));
    assert_eq!(answer["gateways"], Value::Null);
    site.end();
}

#[test]
fn a_gateway_that_has_ended_is_waited_for_no_more() {
    let mut site = Site::over_postgres(2, Server::shared());
    heard_of(&site, 2);
    let gone = site.gateways.pop().unwrap();
    site.wait(gone.service.drain_unless(std::future::ready(())));
    heard_of(&site, 1);
    let (confirmed, waiting) = revoke(&site, "10s");
    assert_eq!((confirmed.len(), waiting.len()), (1, 0));
    site.end();
}

#[test]
fn a_registry_in_a_file_has_one_gateway() {
    let directory = tempfile::tempdir().unwrap();
    let site = Site::over_file(&directory.path().join("registry.redb"));
    let (confirmed, waiting) = revoke(&site, "10s");
    assert_eq!((confirmed.len(), waiting.len()), (1, 0));
    let told = site.wait(site.registry.told(Topic::Applied, Place::default(), 10)).unwrap();
    assert!(told.is_empty(), "nobody else is told");
    site.end();
}
