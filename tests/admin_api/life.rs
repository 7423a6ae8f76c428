//! Every operation, as it is meant to be used.

use std::time::Duration;

use countersign::registry::gossip::{Place, Topic, Word, of_secret};
use serde_json::{Value, json};

use super::support::{NOW, OPERATOR, Rig, SECURITY, VIEWER};

#[tokio::test]
async fn a_key_is_made_shown_changed_and_revoked() {
    let rig = Rig::start().await;
    let made = rig
        .post(
            "/v1/keys",
            json!({
                "account": "ann", "dialect": "binance", "permissions": ["read", "trade"],
                "allowlist": ["203.0.113.7", "2001:db8::/32"], "label": "bot", "expires": "90d",
                "limits": ["account"], "reason": "asked for by ann",
            }),
        )
        .await
        .is(201);
    let id = made.body["id"].as_str().unwrap();
    assert!(id.starts_with("csk_"), "{id}");
    assert_eq!(made.body["secret"].as_str().unwrap().len(), 64);
    assert_eq!(made.field("location"), Some(&*format!("/v1/keys/{}", id.to_lowercase())));
    assert_eq!(made.field("etag"), Some("\"1\""));
    assert_eq!(made.field("cache-control"), Some("no-store"));
    let view = &made.body["key"];
    assert_eq!(view["allowlist"], json!(["203.0.113.7/32", "2001:db8::/32"]));
    assert_eq!(view["expires"], "2030-06-15T17:46:40.000000Z");
    assert_eq!((&view["state"], &view["version"]), (&json!("active"), &json!(1)));

    let shown = rig.get(&format!("/v1/keys/{id}")).await.is(200);
    assert_eq!(shown.body, *view);
    let exported = rig.get(&format!("/v1/keys/{id}/export")).await.is(200);
    assert_eq!(exported.body, *view);

    let path = format!("/v1/keys/{id}");
    let change = json!({"permissions": ["read"], "expires": null, "label": "reader"});
    let changed = rig.call(OPERATOR, "PATCH", &path, change).await.is(200);
    assert_eq!(changed.body["permissions"], json!(["read"]));
    assert_eq!(changed.body["expires"], Value::Null);
    assert_eq!(changed.field("etag"), Some("\"2\""));

    for (act, state) in [("suspend", "suspended"), ("resume", "active"), ("revoke", "revoked")] {
        let done = rig.call(OPERATOR, "POST", &format!("{path}/{act}"), Value::Null).await.is(200);
        assert_eq!(done.body["state"], state);
    }
    let refused = rig.post(&format!("{path}/resume"), Value::Null).await.is(409);
    assert!(refused.body["cure"].is_string(), "{}", refused.text);

    let history = rig.get(&format!("{path}/history?limit=2")).await.is(200);
    let acts = |page: &Value| -> Vec<Value> {
        page["items"].as_array().unwrap().iter().map(|item| item["act"].clone()).collect()
    };
    assert_eq!(acts(&history.body), ["keys.revoke", "keys.resume"]);
    let next = history.body["next"].as_str().unwrap();
    let rest = rig.get(&format!("{path}/history?limit=10&after={next}")).await.is(200);
    assert_eq!(acts(&rest.body), ["keys.suspend", "keys.update", "keys.create"]);
    assert_eq!(rest.body["items"][2]["actor"], "sue");
    assert_eq!(rest.body["items"][2]["reason"], "asked for by ann");
    assert_eq!(rest.body["next"], Value::Null);
}

#[tokio::test]
async fn the_last_use_of_each_secret_is_shown_and_how_far_uses_are_known() {
    let rig = Rig::start().await;
    let made = rig.key("ann").await;
    let id = made["id"].as_str().unwrap();
    let path = format!("/v1/keys/{id}");
    rig.post(&format!("{path}/rotate"), json!({"overlap": "24h"})).await.is(200);
    let secrets = |shown: &Value| shown["secrets"].clone();
    let before = rig.get(&path).await.is(200).body;
    assert!(before.get("uses_known_until").is_none(), "nobody has told: {before}");
    assert!(secrets(&before).as_array().unwrap().iter().all(|one| one.get("used").is_none()));

    let word = |id: String, ago| Word { id, at: NOW - Duration::from_secs(ago), detail: 0 };
    let told = |topic, words| rig.registry.tell(topic, words, None);
    told(Topic::Use, vec![word(of_secret(id, 1), 90)]).await.unwrap();
    // One gateway is behind the other, and one is gone.
    let gateways = [("a", 10), ("b", 40), ("c", 600)].map(|(name, ago)| word(name.into(), ago));
    told(Topic::Gateway, gateways.into()).await.unwrap();
    let after = rig.get(&path).await.is(200);
    assert_eq!(after.body["uses_known_until"], "2030-03-17T17:46:00.000000Z");
    assert_eq!(after.body["secrets"][0]["number"], 2);
    assert!(after.body["secrets"][0].get("used").is_none(), "the new one was never used");
    assert_eq!(after.body["secrets"][1]["used"], "2030-03-17T17:45:10.000000Z");
    assert_eq!(after.field("etag"), Some("\"2\""), "a use is no change");
    let listed = rig.get("/v1/keys").await.is(200);
    assert_eq!(listed.body["items"][0], after.body);
}

#[tokio::test]
async fn accounts_that_have_keys_are_listed_with_those_of_which_something_was_said() {
    let rig = Rig::start().await;
    for account in ["eve", "ann", "cat"] {
        rig.key(account).await;
    }
    rig.key("ann").await;
    for account in ["bob", "cat", "dan"] {
        let path = format!("/v1/accounts/{account}/freeze");
        rig.call(OPERATOR, "POST", &path, Value::Null).await.is(200);
    }
    let shown = |page: &Value| -> Vec<(String, bool, u64)> {
        let one = |item: &Value| {
            let (id, version) = (item["id"].as_str().unwrap(), item["version"].as_u64().unwrap());
            (id.to_owned(), item["frozen"].as_bool().unwrap(), version)
        };
        page["items"].as_array().unwrap().iter().map(one).collect()
    };
    let all = [("ann", 0), ("bob", 1), ("cat", 1), ("dan", 1), ("eve", 0)];
    let all = all.map(|(name, version)| (name.to_owned(), version == 1, version));
    assert_eq!(shown(&rig.get("/v1/accounts").await.is(200).body), all);
    for limit in 1..=5 {
        let (mut found, mut path) = (Vec::new(), format!("/v1/accounts?limit={limit}"));
        for _ in 0..6 {
            let page = rig.get(&path).await.is(200).body;
            found.extend(shown(&page));
            let Some(next) = page["next"].as_str() else { break };
            path = format!("/v1/accounts?limit={limit}&after={next}");
        }
        assert_eq!(found, all, "{limit}");
    }
}

#[tokio::test]
async fn a_lifted_ban_is_told_to_no_gateway_that_starts_later() {
    let rig = Rig::start().await;
    let ban = |id: &str| Word { id: id.into(), at: NOW + Duration::from_mins(2), detail: 0 };
    let words = vec![ban("192.0.2.7"), ban("192.0.2.8"), ban("2001:db8::")];
    rig.registry.tell(Topic::Ban, words, None).await.unwrap();
    for address in ["192.0.2.7", "2001:db8::9"] {
        rig.call(OPERATOR, "DELETE", &format!("/v1/bans/{address}"), Value::Null).await.is(204);
    }
    let told = rig.registry.told(Topic::Ban, Place::default(), 10).await.unwrap();
    let left: Vec<_> = told.into_iter().map(|(_, word)| word).collect();
    assert_eq!(left, [ban("192.0.2.8")]);
}

#[tokio::test]
async fn a_rotation_leaves_both_secrets_for_a_while_and_a_loss_none() {
    let rig = Rig::start().await;
    let made = rig.key("ann").await;
    let path = format!("/v1/keys/{}", made["id"].as_str().unwrap());
    let rotated = rig.post(&format!("{path}/rotate"), json!({"overlap": "24h"})).await.is(200);
    assert_eq!(rotated.body["id"], made["id"]);
    assert_ne!(rotated.body["secret"], made["secret"]);
    assert_eq!(rotated.body["cut_off"], "2030-03-18T17:46:40.000000Z");
    assert_eq!(rotated.body["key"]["secrets"].as_array().unwrap().len(), 2);

    let lost = rig.post(&format!("{path}/compromised"), json!({"since": "1h"})).await.is(200);
    assert_eq!(lost.body["revoked"]["state"], "revoked");
    let replacement = &lost.body["replacement"];
    assert_ne!(replacement["id"], made["id"]);
    assert!(replacement["secret"].is_string());
    assert_eq!(replacement["key"]["permissions"], made["key"]["permissions"]);
    assert_eq!(lost.body["activity"][0]["count"], 3);
}

#[tokio::test]
async fn a_key_from_elsewhere_is_taken_in_with_its_secret() {
    let rig = Rig::start().await;
    let secret = "6f1ed002ab5595859014ebf0951522d9a8b3c4f1e2d7069b8e5c31f04d27a9be";
    let body = json!({
        "id": "OLDKEY", "secret": secret, "account": "ann", "dialect": "binance",
        "permissions": ["read"],
    });
    let taken = rig.call(OPERATOR, "POST", "/v1/keys/import", body.clone()).await.is(201);
    assert_eq!(taken.body["id"], "OLDKEY");
    assert!(!taken.text.contains(secret));
    rig.call(OPERATOR, "POST", "/v1/keys/import", body).await.is(409);
    rig.get("/v1/keys/OLDKEY").await.is(200);
}

#[tokio::test]
async fn a_public_key_is_all_that_is_known_of_a_pair() {
    let rig = Rig::start().await;
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let body = json!({
        "account": "ann", "dialect": "binance", "permissions": ["read"],
        "algorithm": "ed25519", "public_key": pair.public_key_pem(),
    });
    let made = rig.post("/v1/keys", body.clone()).await.is(201);
    assert_eq!(made.body.get("secret"), None);
    assert!(made.body["key"]["public_key"].as_str().unwrap().contains("BEGIN PUBLIC KEY"));
    let mut private = body;
    private["public_key"] = json!(pair.serialize_pem());
    let refused = rig.post("/v1/keys", private).await.is(422);
    assert!(refused.body["detail"].as_str().unwrap().contains("private"), "{}", refused.text);
}

#[tokio::test]
async fn an_account_is_frozen_and_goes_on() {
    let rig = Rig::start().await;
    rig.get("/v1/accounts/ann").await.is(404);
    rig.key("ann").await;
    let shown = rig.get("/v1/accounts/ann").await.is(200);
    assert_eq!((&shown.body["frozen"], &shown.body["keys"]), (&json!(false), &json!(1)));
    let body = json!({"reason": "the owner called"});
    let frozen = rig.call(OPERATOR, "POST", "/v1/accounts/ann/freeze", body).await.is(200);
    assert_eq!(frozen.body["frozen"], true);
    assert_eq!(frozen.body["reason"], "the owner called");
    let listed = rig.get("/v1/accounts").await.is(200);
    assert_eq!(listed.body["items"][0]["id"], "ann");
    let done = rig.call(OPERATOR, "POST", "/v1/accounts/ann/unfreeze", Value::Null).await.is(200);
    assert_eq!(done.body["frozen"], false);
}

#[tokio::test]
async fn an_application_bounds_its_keys_and_takes_them_with_it() {
    let rig = Rig::start().await;
    let app =
        json!({"name": "gridbot", "permissions": ["read", "trade"], "contact": "x@y.example"});
    rig.call(OPERATOR, "POST", "/v1/apps", app.clone()).await.is(201);
    rig.call(OPERATOR, "POST", "/v1/apps", app).await.is(409);
    let key = |permissions: Value| {
        json!({
            "account": "ann", "dialect": "binance", "application": "gridbot",
            "permissions": permissions,
        })
    };
    rig.post("/v1/keys", key(json!(["read"]))).await.is(201);
    rig.post("/v1/keys", key(json!(["read", "transfer"]))).await.is(422);
    let mut unknown = key(json!(["read"]));
    unknown["application"] = json!("nobody");
    rig.post("/v1/keys", unknown).await.is(422);

    let stopped = rig.post("/v1/apps/gridbot/stop", Value::Null).await.is(200);
    assert_eq!(stopped.body["stopped"], true);
    rig.post("/v1/apps/gridbot/start", Value::Null).await.is(200);
    let narrowed =
        rig.call(OPERATOR, "PATCH", "/v1/apps/gridbot", json!({"permissions": ["read"]}));
    assert_eq!(narrowed.await.is(200).body["permissions"], json!(["read"]));

    let lost = rig.post("/v1/apps/gridbot/compromised", json!({"replace": true})).await.is(200);
    let lines = lost.lines();
    assert_eq!(lines[0], json!({"done": false, "revoked": 0, "total": 1}));
    assert_eq!(lines[1]["keys"][0]["account"], "ann");
    assert!(lines[1]["keys"][0]["replacement"]["secret"].is_string());
    let end = lines.last().unwrap();
    assert_eq!(
        (&end["done"], &end["revoked"], &end["replaced"]),
        (&json!(true), &json!(1), &json!(1))
    );
    rig.post("/v1/apps/nobody/compromised", Value::Null).await.is(404);
    let listed = rig.get("/v1/apps").await.is(200);
    assert!(listed.body["items"][0]["compromised"].is_string());
}

#[tokio::test]
async fn a_switch_is_thrown_and_released() {
    let rig = Rig::start().await;
    let thrown = rig.call(OPERATOR, "POST", "/v1/switches/trade/throw", Value::Null).await.is(200);
    assert_eq!(thrown.body["thrown"], true);
    rig.post("/v1/switches/all/throw", json!({"reason": "drill"})).await.is(200);
    let all = rig.get("/v1/switches").await.is(200);
    assert_eq!(all.body["items"].as_array().unwrap().len(), 2);
    let released = rig.post("/v1/switches/trade/release", Value::Null).await.is(200);
    assert_eq!(released.body["thrown"], false);
    rig.post("/v1/switches/tarde/throw", Value::Null).await.is(422);
}

#[tokio::test]
async fn a_second_factor_is_enrolled_confirmed_and_removed() {
    let rig = Rig::start().await;
    rig.get("/v1/accounts/ann/otp").await.is(404);
    let made = rig.call(OPERATOR, "POST", "/v1/accounts/ann/otp", Value::Null).await.is(201);
    let uri = made.body["uri"].as_str().unwrap();
    assert!(uri.starts_with("otpauth://totp/countersign%20test:ann?secret="), "{uri}");
    assert_eq!(made.body["recovery"].as_array().unwrap().len(), 10);
    let wrong = json!({"code": "000000"});
    rig.post("/v1/accounts/ann/otp/confirm", wrong).await.is(422);
    let code = totp(made.body["secret"].as_str().unwrap());
    let confirmed = rig.post("/v1/accounts/ann/otp/confirm", json!({"code": code})).await.is(200);
    assert_eq!(confirmed.body["confirmed"], true);
    let shown = rig.get("/v1/accounts/ann/otp").await.is(200);
    assert_eq!(shown.body["recovery_left"], 10);
    let recover = |code: &Value| {
        rig.call(OPERATOR, "POST", "/v1/accounts/ann/otp/recover", json!({"code": code}))
    };
    recover(&json!("AAAA-BBBB-CCCC-DDDD")).await.is(422);
    let anew = recover(&made.body["recovery"][2]).await.is(201);
    assert_ne!(anew.body["secret"], made.body["secret"]);
    assert_eq!(anew.body["factor"]["confirmed"], false);
    recover(&made.body["recovery"][3]).await.is(422);
    let code = totp(anew.body["secret"].as_str().unwrap());
    rig.post("/v1/accounts/ann/otp/confirm", json!({"code": code})).await.is(200);
    let removed = rig.call(SECURITY, "DELETE", "/v1/accounts/ann/otp", Value::Null).await.is(204);
    assert_eq!(removed.text, "");
    rig.get("/v1/accounts/ann/otp").await.is(404);
}

#[tokio::test]
async fn a_ban_is_laid_and_lifted_and_ends_by_itself() {
    let rig = Rig::start().await;
    let ban = json!({"address": "2001:db8::7", "for": "1h", "reason": "guessing"});
    let laid = rig.call(OPERATOR, "POST", "/v1/bans", ban).await.is(201);
    assert_eq!(laid.body["address"], "2001:db8::/64");
    let other = json!({"address": "203.0.113.7", "for": "2h"});
    rig.call(OPERATOR, "POST", "/v1/bans", other.clone()).await.is(201);
    rig.call(OPERATOR, "POST", "/v1/bans", other).await.is(201);
    let listed = rig.get("/v1/bans").await.is(200);
    assert_eq!(listed.body["items"].as_array().unwrap().len(), 2);
    rig.call(OPERATOR, "DELETE", "/v1/bans/2001:db8::9", json!({"reason": "ours"})).await.is(204);
    rig.call(OPERATOR, "DELETE", "/v1/bans/2001:db8::9", Value::Null).await.is(204);
    let listed = rig.get("/v1/bans").await.is(200);
    assert_eq!(listed.body["items"].as_array().unwrap().len(), 1);
    rig.clock.advance(Duration::from_hours(2));
    let listed = rig.get("/v1/bans").await.is(200);
    assert_eq!(listed.body, json!({"items": [], "next": null}));
}

#[tokio::test]
async fn the_trail_is_searched_and_followed() {
    let rig = Rig::start().await;
    let first = rig.get("/v1/audit?since=24h&kind=act").await.is(200);
    assert_eq!(first.body["items"].as_array().unwrap().len(), 100);
    let next = first.body["next"].as_str().unwrap();
    let path = format!("/v1/audit?since=24h&kind=act&limit=1000&after={next}");
    let rest = rig.get(&path).await.is(200);
    assert_eq!(rest.body["items"].as_array().unwrap().len(), 150);
    assert_eq!(rest.body["next"], Value::Null);
    rig.get("/v1/audit?since=soon").await.is(400);
    rig.get("/v1/audit?kind=secret").await.is(400);

    let head =
        format!("GET /v1/audit/tail HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {VIEWER}\r\n\r\n");
    let mut stream = tokio::net::TcpStream::connect(rig.address).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stream, head.as_bytes()).await.unwrap();
    let mut said = String::new();
    while !said.contains("{\"n\":2}\n") {
        let mut bytes = [0; 1024];
        let read = tokio::io::AsyncReadExt::read(&mut stream, &mut bytes);
        let read = tokio::time::timeout(super::support::DEADLINE, read).await.unwrap().unwrap();
        assert!(read > 0, "{said}");
        said.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
    }
    assert!(said.contains("application/x-ndjson"), "{said}");
}

#[tokio::test]
async fn the_gateway_says_what_it_is_and_who_one_is() {
    let rig = Rig::start().await;
    let who = rig.get("/v1/whoami").await.is(200);
    assert_eq!(who.body, json!({"actor": "vera", "role": "viewer", "proof": "token"}));
    let gateway = rig.get("/v1/gateway").await.is(200);
    assert_eq!((&gateway.body["uptime"], &gateway.body["revision"]), (&json!(60), &json!(0)));
    rig.key("ann").await;
    assert_eq!(rig.get("/v1/gateway").await.body["revision"], 1);
    let description = rig.get("/v1/openapi.json").await.is(200);
    assert_eq!(description.body["openapi"], "3.1.0");
    assert_eq!(description.body, *countersign::admin::document());
}

/// What an authenticator app shows (RFC 6238) at the time of the tests.
fn totp(base32: &str) -> String {
    use hmac::{Hmac, KeyInit as _, Mac as _};
    let secret = data_encoding::BASE32_NOPAD.decode(base32.as_bytes()).unwrap();
    let step = NOW.as_millis() / 30_000;
    let mut mac = Hmac::<sha1::Sha1>::new_from_slice(&secret).unwrap();
    mac.update(&step.to_be_bytes());
    let digest = mac.finalize().into_bytes();
    let offset = usize::from(digest[19] & 15);
    let number = u32::from_be_bytes(digest[offset..offset + 4].try_into().unwrap()) & 0x7fff_ffff;
    format!("{:06}", number % 1_000_000)
}
