//! Secrets are in the answers that promise them, and nowhere else.

use countersign::admin::{Verb, operations};
use serde_json::{Value, json};

use super::support::{OPERATOR, Rig, SECOND, SECURITY, VIEWER};

#[tokio::test]
async fn no_reading_operation_shows_a_secret_and_no_record_holds_one() {
    let rig = Rig::start().await;
    let mut planted: Vec<String> =
        [VIEWER, OPERATOR, SECURITY, SECOND].map(ToOwned::to_owned).into();
    let mut keep = |value: &Value| {
        if let Some(text) = value.as_str() {
            planted.push(text.to_owned());
        }
    };
    for dialect in ["binance", "bitget", "bybit"] {
        for account in ["ann", "bob"] {
            let body = json!({"account": account, "dialect": dialect, "permissions": ["read"]});
            let made = rig.post("/v1/keys", body).await.is(201).body;
            keep(&made["secret"]);
            keep(&made["passphrase"]);
            let path = format!("/v1/keys/{}/rotate", made["id"].as_str().unwrap());
            keep(&rig.post(&path, Value::Null).await.is(200).body["secret"]);
        }
    }
    let imported = "6f1ed002ab5595859014ebf0951522d9a8b3c4f1e2d7069b8e5c31f04d27a9be";
    let body = json!({
        "id": "OLDKEY", "secret": imported, "account": "ann", "dialect": "binance",
        "permissions": ["read"],
    });
    rig.post("/v1/keys/import", body.clone()).await.is(201);
    keep(&json!(imported));
    let factor = rig.post("/v1/accounts/ann/otp", Value::Null).await.is(201).body;
    keep(&factor["secret"]);
    factor["recovery"].as_array().unwrap().iter().for_each(&mut keep);
    let mut wrong = body;
    wrong["secret"] = json!([imported]);
    let mut said = rig.post("/v1/keys/import", wrong).await.is(422).text;

    assert!(planted.len() > 25);
    for operation in operations().filter(|operation| operation.verb == Verb::Get) {
        if operation.name == "audit.tail" {
            continue;
        }
        let keys = rig.get("/v1/keys").await.body["items"].clone();
        for key in keys.as_array().unwrap() {
            let id = if operation.path.contains("accounts") {
                "ann"
            } else {
                key["id"].as_str().unwrap()
            };
            let path = operation.path.replace("{id}", id).replace("{name}", "bot");
            said += &rig.get(&path).await.text;
        }
    }
    said += &rig.heard.all.lock().unwrap();
    let everything = rig.registry.since(0, 1_000).await.unwrap();
    for change in everything {
        said += &String::from_utf8(change.record.body).unwrap();
        said += &format!("{:?}", change.note);
    }
    for secret in planted {
        assert!(!said.contains(&secret), "{secret}");
    }
}

#[tokio::test]
async fn the_description_says_which_answers_hold_secrets() {
    let document = countersign::admin::document();
    let with_secrets = ["IssuedView", "RecoveryView", "EnrolmentView", "SweepLine"];
    for operation in operations() {
        let verb = operation.verb.name().to_lowercase();
        let described = document["paths"][operation.path][verb].to_string();
        let holds = with_secrets.iter().any(|name| described.contains(&format!("/{name}\"")));
        let expected = [
            "keys.create",
            "keys.import",
            "keys.rotate",
            "keys.compromised",
            "otp.enrol",
            "otp.recover",
            "apps.compromised",
        ];
        assert_eq!(holds, expected.contains(&operation.name), "{}", operation.name);
    }
}
