//! Four eyes: what one asks for and another approves.

use std::time::Duration;

use countersign::admin::Bounds;
use serde_json::{Value, json};

use super::support::{Rig, SECOND, SECURITY, VIEWER};

async fn rig() -> Rig {
    Rig::with(&["withdraw"], Bounds::default()).await
}

async fn decide(rig: &Rig, token: &str, approval: &Value, act: &str) -> super::support::Answer {
    let path = format!("/v1/approvals/{}/{act}", approval["id"].as_str().unwrap());
    rig.call(token, "POST", &path, Value::Null).await
}

async fn permissions(rig: &Rig, key: &Value) -> Value {
    let path = format!("/v1/keys/{}", key["id"].as_str().unwrap());
    rig.get(&path).await.is(200).body["permissions"].clone()
}

#[tokio::test]
async fn a_new_key_cannot_withdraw_until_another_person_approves() {
    let rig = rig().await;
    let made = rig.withdrawing_key().await;
    let approval = &made["approval"];
    assert!(made["secret"].is_string());
    assert_eq!(made["key"]["permissions"], json!(["read"]));
    assert_eq!((&approval["state"], &approval["actor"]), (&json!("waiting"), &json!("sue")));

    let own = decide(&rig, SECURITY, approval, "approve").await.is(403);
    assert!(own.body["detail"].as_str().unwrap().contains("Nobody approves"), "{}", own.text);
    decide(&rig, VIEWER, approval, "approve").await.is(403);
    assert_eq!(permissions(&rig, &made).await, json!(["read"]));
    let waiting = rig.get("/v1/approvals").await.is(200);
    assert_eq!(waiting.body["items"][0]["key"], made["id"]);

    let approved = decide(&rig, SECOND, approval, "approve").await.is(200);
    assert_eq!(approved.body["state"], "approved");
    assert_eq!(approved.body["decided_by"], "sam");
    assert!(!approved.text.contains("secret"));
    assert_eq!(permissions(&rig, &made).await, json!(["read", "withdraw"]));
    decide(&rig, SECOND, approval, "approve").await.is(409);
    decide(&rig, SECOND, approval, "reject").await.is(409);
    assert_eq!(rig.get("/v1/approvals").await.body["items"], json!([]));
    let all = rig.get("/v1/approvals?state=all").await.is(200);
    assert_eq!(all.body["items"][0]["state"], "approved");

    let history = format!("/v1/keys/{}/history", made["id"].as_str().unwrap());
    let last = &rig.get(&history).await.body["items"][0];
    assert_eq!(last["actor"], "sam");
    assert!(last["reason"].as_str().unwrap().contains("asked for by sue"), "{last}");
}

#[tokio::test]
async fn a_change_that_grants_waits_and_one_that_takes_does_not() {
    let rig = rig().await;
    let key = rig.key("ann").await;
    let path = format!("/v1/keys/{}", key["id"].as_str().unwrap());
    let grant = json!({"permissions": ["read", "withdraw"], "allowlist": ["203.0.113.7"]});
    let asked = rig.call(SECURITY, "PATCH", &path, grant).await.is(202);
    assert_eq!(asked.body["changes"]["permissions"], json!(["read", "withdraw"]));
    assert_eq!(permissions(&rig, &key).await, json!(["read", "trade"]));
    decide(&rig, SECOND, &asked.body, "approve").await.is(200);
    assert_eq!(permissions(&rig, &key).await, json!(["read", "withdraw"]));

    let wider = json!({"allowlist": ["203.0.113.7", "198.51.100.0/24"]});
    rig.call(SECURITY, "PATCH", &path, wider).await.is(202);
    let less = json!({"permissions": ["read"]});
    rig.call(SECURITY, "PATCH", &path, less).await.is(200);
}

#[tokio::test]
async fn nothing_of_a_key_that_withdraws_is_widened_by_one_alone() {
    let rig = rig().await;
    let made = rig.withdrawing_key().await;
    decide(&rig, SECOND, &made["approval"], "approve").await.is(200);
    let path = format!("/v1/keys/{}", made["id"].as_str().unwrap());
    let narrow = json!({"symbols": ["BTCUSDT"], "expires": "30d", "routes": ["spot-account"]});
    rig.call(SECURITY, "PATCH", &path, narrow).await.is(200);
    for wider in [
        json!({"symbols": ["BTCUSDT", "ETHUSDT"]}),
        json!({"symbols": ["ETHUSDT"]}),
        json!({"symbols": []}),
        json!({"routes": ["spot-account", "spot-order"]}),
        json!({"routes": []}),
        json!({"expires": "60d"}),
        json!({"expires": null}),
        json!({"permissions": ["read", "withdraw", "trade"]}),
        json!({"symbols": [], "label": "x"}),
    ] {
        rig.call(SECURITY, "PATCH", &path, wider.clone()).await.is(202);
        rig.call(super::support::OPERATOR, "PATCH", &path, wider).await.is(403);
    }
    for same in [json!({"label": "x"}), json!({"symbols": ["BTCUSDT"]}), json!({"expires": "20d"})]
    {
        rig.call(SECURITY, "PATCH", &path, same).await.is(200);
    }
    let key = rig.get(&path).await.is(200);
    assert_eq!(key.body["symbols"], json!(["BTCUSDT"]));
    // The control: a key that cannot withdraw is widened by one.
    let other = rig.key("ann").await;
    let path = format!("/v1/keys/{}", other["id"].as_str().unwrap());
    for change in [json!({"symbols": ["BTCUSDT"]}), json!({"symbols": []})] {
        rig.call(SECURITY, "PATCH", &path, change).await.is(200);
    }
}

#[tokio::test]
async fn what_was_rejected_or_waited_too_long_is_not_done() {
    let rig = rig().await;
    let made = rig.withdrawing_key().await;
    let rejected = decide(&rig, SECURITY, &made["approval"], "reject").await.is(200);
    assert_eq!(rejected.body["state"], "rejected", "one may take back what one asked for");
    decide(&rig, SECOND, &made["approval"], "approve").await.is(409);

    let late = rig.withdrawing_key().await;
    rig.clock.advance(Duration::from_hours(24));
    decide(&rig, SECOND, &late["approval"], "approve").await.is(409);
    assert_eq!(rig.get("/v1/approvals").await.body["items"], json!([]));
    for key in [&made, &late] {
        assert_eq!(permissions(&rig, key).await, json!(["read"]));
    }
}

#[tokio::test]
async fn nobody_approves_what_they_did_not_see() {
    let rig = rig().await;
    let made = rig.withdrawing_key().await;
    let path = format!("/v1/keys/{}", made["id"].as_str().unwrap());
    rig.call(SECURITY, "PATCH", &path, json!({"label": "something else"})).await.is(200);
    let refused = decide(&rig, SECOND, &made["approval"], "approve").await.is(409);
    assert!(refused.body["cure"].as_str().unwrap().contains("ask again"), "{}", refused.text);
    assert_eq!(permissions(&rig, &made).await, json!(["read"]));
    let all = rig.get("/v1/approvals?state=all").await.is(200);
    assert_eq!(all.body["items"][0]["state"], "failed");
}

#[tokio::test]
async fn withdraw_alone_or_without_an_allowlist_is_refused_before_anything_is_made() {
    let rig = rig().await;
    for (permissions, allowlist) in
        [(json!(["withdraw"]), json!(["203.0.113.7"])), (json!(["read", "withdraw"]), json!([]))]
    {
        let body = json!({
            "account": "ann", "dialect": "binance", "permissions": permissions,
            "allowlist": allowlist,
        });
        rig.post("/v1/keys", body).await.is(422);
    }
    assert_eq!(rig.get("/v1/keys").await.body["items"], json!([]));
    assert_eq!(rig.get("/v1/approvals").await.body["items"], json!([]));
}
