//! Cursors, versions and idempotency keys.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::support::{OPERATOR, Rig, SECURITY, VIEWER};

#[tokio::test]
async fn a_thousand_keys_are_listed_each_once_while_others_are_made() {
    let rig = Rig::start().await;
    let mut made = BTreeSet::new();
    for n in 0..1_000 {
        let account = format!("account-{}", n % 7);
        made.insert(rig.key(&account).await["id"].as_str().unwrap().to_owned());
    }
    let (mut seen, mut after, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = rig.get(&format!("/v1/keys?limit=97{after}")).await.is(200);
        let items = page.body["items"].as_array().unwrap();
        seen.extend(items.iter().map(|key| key["id"].as_str().unwrap().to_owned()));
        pages += 1;
        // What comes in between neither repeats nor hides what was there.
        rig.key("late").await;
        let Some(next) = page.body["next"].as_str() else { break };
        assert_eq!(items.len(), 97);
        after = format!("&after={next}");
        assert!(pages < 30);
    }
    assert!(seen.is_sorted(), "in the order of ids");
    let distinct: BTreeSet<_> = seen.iter().cloned().collect();
    assert_eq!(distinct.len(), seen.len());
    assert!(made.is_subset(&distinct));

    let filtered = rig.get("/v1/keys?account=account-3&limit=1000").await.is(200);
    assert_eq!(filtered.body["items"].as_array().unwrap().len(), 143);
    assert_eq!(filtered.body["next"], Value::Null);
}

#[tokio::test]
async fn a_cursor_of_another_list_or_filter_is_refused() {
    let rig = Rig::start().await;
    for _ in 0..3 {
        rig.key("ann").await;
    }
    let page = rig.get("/v1/keys?limit=1&account=ann").await.is(200);
    let next = page.body["next"].as_str().unwrap();
    rig.get(&format!("/v1/keys?account=ann&after={next}")).await.is(200);
    for path in [
        format!("/v1/keys?account=bob&after={next}"),
        format!("/v1/keys?after={next}"),
        format!("/v1/apps?after={next}"),
        "/v1/keys?after=csk_1".to_owned(),
        "/v1/keys?after=".to_owned(),
        "/v1/keys?limit=0".to_owned(),
        "/v1/keys?limit=1001".to_owned(),
        "/v1/keys?limit=%2B1".to_owned(),
        "/v1/keys?limit=1&limit=1".to_owned(),
        "/v1/keys?state=gone".to_owned(),
        "/v1/keys?colour=red".to_owned(),
        "/v1/keys?account=%ff".to_owned(),
        "/v1/keys?account=%0".to_owned(),
        "/v1/keys?account=a%00b".to_owned(),
    ] {
        let refused = rig.get(&path).await.is(400);
        assert!(refused.body["detail"].is_string(), "{path}");
    }
}

#[tokio::test]
async fn of_two_who_saw_one_version_the_second_is_refused() {
    let rig = Rig::start().await;
    let id = rig.key("ann").await["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/keys/{id}");
    let change = |label: &str| json!({ "label": label });
    let send = |tag: &'static str, label: &str| {
        let (rig, path, body) = (&rig, path.clone(), change(label));
        async move { rig.send(OPERATOR, "PATCH", &path, &[("if-match", tag)], body).await }
    };
    assert_eq!(send("\"1\"", "first").await.is(200).field("etag"), Some("\"2\""));
    let late = send("\"1\"", "second").await.is(412);
    assert!(late.body["detail"].as_str().unwrap().contains("version 2"), "{}", late.text);
    for never in ["\"0\"", "W/\"2\"", "\"two\"", "\"99999999999999999999999\"", "\"\""] {
        send(never, "x").await.is(412);
    }
    for wrong in ["2", "\"2", "\"1\", \"2\"", "\"2\"\""] {
        send(wrong, "x").await.is(400);
    }
    send("*", "any").await.is(200);
    send("\"3\"", "third").await.is(200);
    let twice = [("if-match", "\"4\""), ("if-match", "\"5\"")];
    rig.send(OPERATOR, "PATCH", &path, &twice, change("x")).await.is(400);
    rig.send(OPERATOR, "POST", "/v1/keys", &[("if-match", "\"1\"")], json!({})).await.is(400);

    let revoke = format!("{path}/revoke");
    rig.send(OPERATOR, "POST", &revoke, &[("if-match", "\"3\"")], Value::Null).await.is(412);
    rig.send(OPERATOR, "POST", &revoke, &[("if-match", "\"4\"")], Value::Null).await.is(200);
}

#[tokio::test]
async fn a_retry_does_nothing_twice_and_never_shows_a_secret_again() {
    let rig = Rig::start().await;
    let key = json!({"account": "ann", "dialect": "binance", "permissions": ["read"]});
    let once = [("idempotency-key", "made-1")];
    let made = rig.send(OPERATOR, "POST", "/v1/keys", &once, key.clone()).await.is(201);
    let again = rig.send(OPERATOR, "POST", "/v1/keys", &once, key.clone()).await.is(409);
    let detail = again.body["detail"].as_str().unwrap();
    assert!(detail.contains(made.body["id"].as_str().unwrap()), "{detail}");
    assert!(!again.text.contains(made.body["secret"].as_str().unwrap()));
    assert_eq!(rig.get("/v1/keys").await.body["items"].as_array().unwrap().len(), 1);

    let mut other = key.clone();
    other["account"] = json!("bob");
    rig.send(OPERATOR, "POST", "/v1/keys", &once, other).await.is(422);
    rig.send(SECURITY, "POST", "/v1/keys", &once, key).await.is(201);

    let app = json!({"name": "bot", "permissions": ["read"]});
    let once = [("idempotency-key", "app")];
    let first = rig.send(OPERATOR, "POST", "/v1/apps", &once, app.clone()).await.is(201);
    let again = rig.send(OPERATOR, "POST", "/v1/apps", &once, app.clone()).await.is(201);
    assert_eq!((&first.body, first.field("etag")), (&again.body, again.field("etag")));
    assert_eq!(again.field("idempotency-replayed"), Some("true"));
    assert_eq!(first.field("idempotency-replayed"), None);
    rig.clock.advance(std::time::Duration::from_hours(24));
    rig.send(OPERATOR, "POST", "/v1/apps", &once, app).await.is(409);
}

#[tokio::test]
async fn a_refused_request_frees_its_key_and_a_key_is_plain_text() {
    let rig = Rig::start().await;
    let once = [("idempotency-key", "k")];
    let wrong = json!({"name": "bot", "permissions": ["fly"]});
    rig.send(OPERATOR, "POST", "/v1/apps", &once, wrong).await.is(422);
    let right = json!({"name": "bot", "permissions": ["read"]});
    rig.send(OPERATOR, "POST", "/v1/apps", &once, right.clone()).await.is(201);
    let long = "k".repeat(256);
    for key in ["", "a b", "caf\u{e9}", &long] {
        rig.send(OPERATOR, "POST", "/v1/apps", &[("idempotency-key", key)], right.clone())
            .await
            .is(400);
    }
    rig.send(VIEWER, "GET", "/v1/apps", &[("idempotency-key", "a b")], Value::Null).await.is(200);
}
