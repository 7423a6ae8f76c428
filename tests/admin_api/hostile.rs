//! What nobody should send: huge, slow, smuggled, of the wrong type. No panic, no 500, and the server lives on.

use std::time::Duration;

use countersign::admin::{BODY_CAP, Bounds, Verb, operations};
use serde_json::{Value, json};

use super::support::{Answer, OPERATOR, Rig, SECOND, SECURITY, VIEWER};

fn post(path: &str, fields: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\nauthorization: Bearer {SECURITY}\r\n{fields}\r\n"
    );
    [head.as_bytes(), body].concat()
}

fn of_json(body: &[u8]) -> Vec<u8> {
    let fields = format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len());
    post("/v1/keys", &fields, body)
}

#[tokio::test]
async fn bodies_that_are_no_plain_json_object_are_refused() {
    let rig = Rig::start().await;
    let deep = [vec![b'['; 10_000], vec![b']'; 10_000]].concat();
    let nul = br#"{"account":"a\u0000b","dialect":"binance","permissions":["read"]}"#;
    for (body, status) in [
        (&b"{"[..], 400),
        (b"\xff\xfe", 400),
        (b"{\"account\":\"\xff\"}", 400),
        (&deep, 400),
        (nul, 400),
        (b"[]", 400),
        (b"null", 400),
        (b"\"x\"", 400),
        (b"1e999", 400),
        (br#"{"account":"ann","account":"bob","dialect":"binance","permissions":["read"]}"#, 422),
        (br#"{"account":"ann","dialect":"binance","permissions":["read"],"admin":true}"#, 422),
        (br#"{"account":"ann","dialect":"binance","permissions":"read"}"#, 422),
        (br#"{"account":["ann"],"dialect":"binance","permissions":["read"]}"#, 422),
    ] {
        Answer::read(&rig.raw(&of_json(body)).await).is(status);
    }
    let admin = br#"{"account":"ann","dialect":"binance","permissions":["read"],"admin":true}"#;
    let refused = Answer::read(&rig.raw(&of_json(admin)).await);
    assert!(refused.body["detail"].as_str().unwrap().contains("`admin`"), "{}", refused.text);
}

#[tokio::test]
async fn a_body_says_that_it_is_json_and_stays_below_the_cap() {
    let rig = Rig::start().await;
    let body = br#"{"account":"ann","dialect":"binance","permissions":["read"]}"#;
    let length = format!("content-length: {}\r\n", body.len());
    for kind in
        ["", "content-type: text/plain\r\n", "content-type: application/json; charset=latin1\r\n"]
    {
        Answer::read(&rig.raw(&post("/v1/keys", &format!("{kind}{length}"), body)).await).is(415);
    }
    let spaced = |size: usize| {
        let mut body = body.to_vec();
        body.resize(size, b' ');
        body
    };
    Answer::read(&rig.raw(&of_json(&spaced(BODY_CAP))).await).is(201);
    // A reset for what was not read may overtake the answer.
    for body in [spaced(BODY_CAP + 1), spaced(BODY_CAP * 100)] {
        let said = rig.raw(&of_json(&body)).await;
        assert!(said.is_empty() || said.starts_with(b"HTTP/1.1 413 "));
    }
    let json = "content-type: application/json\r\ntransfer-encoding: chunked\r\n";
    let chunk = format!("{:x}\r\n{}\r\n0\r\n\r\n", BODY_CAP + 1, " ".repeat(BODY_CAP + 1));
    let said = rig.raw(&post("/v1/keys", json, chunk.as_bytes())).await;
    assert!(said.is_empty() || said.starts_with(b"HTTP/1.1 413 "));
}

#[tokio::test]
async fn what_is_no_body_of_an_operation_is_refused() {
    let rig = Rig::start().await;
    rig.send(VIEWER, "GET", "/v1/keys", &[], json!({})).await.is(400);
    Answer::read(&rig.raw(&post("/v1/keys", "", b"")).await).is(400);
    rig.post("/v1/keys?dry=1", json!({})).await.is(400);
}

#[tokio::test]
async fn methods_and_paths_that_are_unknown_are_told_what_is_known() {
    let rig = Rig::start().await;
    let refused = rig.call(OPERATOR, "PUT", "/v1/keys", Value::Null).await.is(405);
    assert_eq!(refused.field("allow"), Some("get, post, head"));
    let refused = rig.call(OPERATOR, "GET", "/v1/keys/x/revoke", Value::Null).await.is(405);
    assert_eq!(refused.field("allow"), Some("post"));
    for path in ["/v1/", "/v1/keys/", "/v1/KEYS", "/v1//keys", "/v1/keys/x/y", "/v1/../v1/keys"] {
        rig.get(path).await.is(404);
    }
    for path in ["/v1/keys/%ff", "/v1/keys/%00", "/v1/keys/a%0ab"] {
        rig.get(path).await.is(400);
    }
    rig.get(&format!("/v1/keys/{}", "k".repeat(257))).await.is(400);
    rig.get(&format!("/v1/keys/{}", "k".repeat(256))).await.is(404);
    rig.get("/v1/keys/..%2f..%2fetc").await.is(404);
}

#[tokio::test]
async fn a_head_gets_what_a_get_would_without_the_body() {
    let rig = Rig::start().await;
    let id = rig.key("ann").await["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/keys/{id}");
    let (whole, head) =
        (rig.get(&path).await.is(200), rig.call(VIEWER, "HEAD", &path, Value::Null).await.is(200));
    assert_eq!(head.text, "");
    for name in ["content-length", "etag", "content-type", "cache-control"] {
        assert_eq!(head.field(name), whole.field(name), "{name}");
    }
    rig.call(VIEWER, "HEAD", &format!("{path}/revoke"), Value::Null).await.is(405);
}

#[tokio::test]
async fn requests_in_requests_are_not_let_through() {
    let rig = Rig::start().await;
    let hidden = format!(
        "POST /v1/switches/all/throw HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {SECURITY}\r\ncontent-length: 0\r\n\r\n"
    );
    for fields in [
        "content-length: 0\r\ncontent-length: 5\r\n",
        "content-length: 0\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked, identity\r\n",
        "transfer-encoding: xchunked\r\n",
        "content-length: +0\r\n",
        "content-length : 0\r\n",
    ] {
        let bytes = post("/v1/bans", fields, hidden.as_bytes());
        let said = String::from_utf8(rig.raw(&bytes).await).unwrap();
        assert!(!said.contains("\"thrown\""), "{fields}: {said}");
    }
    assert_eq!(rig.get("/v1/switches").await.is(200).body["items"], json!([]));
}

#[tokio::test]
async fn slow_heads_and_bodies_end() {
    let bounds = Bounds { head: Duration::from_millis(100), ..Bounds::default() };
    let rig = Rig::with(&[], bounds).await;
    let said = rig.raw(b"GET /v1/keys HTTP/1.1\r\nhost:").await;
    assert!(!said.starts_with(b"HTTP/1.1 200"));
    let bounds = Bounds { connection: Duration::from_millis(200), ..bounds };
    let bounds = Bounds { drain: Duration::from_millis(100), ..bounds };
    let rig = Rig::with(&[], bounds).await;
    let fields = "content-type: application/json\r\ncontent-length: 100\r\n";
    let said = rig.raw(&post("/v1/keys", fields, b"{")).await;
    assert!(!said.starts_with(b"HTTP/1.1 2"), "{said:?}");
}

#[tokio::test]
async fn no_value_of_any_type_in_any_place_breaks_an_operation() {
    let rig = Rig::start().await;
    let long = "x".repeat(20_000);
    let values = [
        json!(null),
        json!(true),
        json!(-1),
        json!(1e300),
        json!(u64::MAX),
        json!(""),
        json!("\u{1f511}"),
        json!("../../etc"),
        json!("a\nb"),
        json!("' OR 1=1 --"),
        json!(long),
        json!([]),
        json!([null]),
        json!(["read", "read"]),
        json!({}),
        json!({"a": {}}),
        json!("0s"),
        json!("999999999w"),
        json!("9999-12-31T23:59:59Z"),
        json!("0.0.0.0/0"),
        json!(["0.0.0.0/0"]),
        json!(["::/0"]),
    ];
    for operation in operations().filter(|operation| operation.verb != Verb::Get) {
        let document = countersign::admin::document();
        let verb = operation.verb.name().to_lowercase();
        let body = &document["paths"][operation.path][&verb]["requestBody"];
        let reference = &body["content"]["application/json"]["schema"]["$ref"];
        let Some(name) = reference.as_str().and_then(|text| text.rsplit('/').next()) else {
            continue;
        };
        let members = document["components"]["schemas"][name]["properties"].as_object().unwrap();
        let path = operation.path.replace("{id}", "ann").replace("{name}", "bot");
        let path = path.replace("{permission}", "trade").replace("{address}", "192.0.2.9");
        for member in members.keys() {
            for value in &values {
                let mut sent = json!({
                    "account": "ann", "dialect": "binance", "permissions": ["read"], "name": "bot",
                    "id": "K", "address": "192.0.2.9", "for": "1h", "code": "123456",
                });
                let known = |name: &String, _: &mut Value| members.contains_key(name);
                sent.as_object_mut().unwrap().retain(known);
                sent[member] = value.clone();
                let answer = rig.call(SECURITY, operation.verb.name(), &path, sent).await;
                let (name, status) = (operation.name, answer.status);
                assert!(status < 500, "{name}: {member} = {value}: {}", answer.text);
            }
        }
    }
    rig.get("/v1/keys").await.is(200);
}

#[tokio::test]
async fn a_page_in_a_browser_changes_nothing_whatever_it_shows() {
    let rig = Rig::start().await;
    let id = rig.key("ann").await["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/keys/{id}/revoke");
    for fields in [
        &[("origin", "https://evil.example")][..],
        &[("origin", "null")],
        &[("origin", "")],
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-origin")],
        &[("sec-fetch-site", "none"), ("sec-fetch-site", "cross-site")],
    ] {
        rig.send(SECURITY, "POST", &path, fields, Value::Null).await.is(403);
    }
    assert_eq!(rig.get(&format!("/v1/keys/{id}")).await.is(200).body["state"], "active");
    rig.send(SECURITY, "POST", &path, &[("sec-fetch-site", "none")], Value::Null).await.is(200);
}

/// What one person was answered under a key of theirs, nobody else gets, and nobody's key stands in another's way.
#[tokio::test]
async fn an_idempotency_key_is_its_senders_alone() {
    let rig = Rig::start().await;
    let id = rig.key("ann").await["id"].as_str().unwrap().to_owned();
    let once = [("idempotency-key", "same")];
    let rotate = format!("/v1/keys/{id}/rotate");
    let body = json!({"overlap": "1h"});
    let first = rig.send(SECURITY, "POST", &rotate, &once, body.clone()).await.is(200);
    let again = rig.send(SECURITY, "POST", &rotate, &once, body.clone()).await.is(409);
    assert!(!again.text.contains(first.body["secret"].as_str().unwrap()));
    let other = rig.send(SECOND, "POST", &rotate, &once, body.clone()).await;
    assert!(other.status != 409 || !other.text.contains("shown"), "{}", other.text);
    assert!(other.field("idempotency-replayed").is_none(), "{}", other.head);
    // Who may no longer do it is not told what came of it.
    rig.send(VIEWER, "POST", &rotate, &once, body).await.is(403);
}

#[tokio::test]
async fn nothing_in_an_id_leads_elsewhere() {
    let rig = Rig::start().await;
    rig.key("ann").await;
    for id in [
        "..",
        "%2e%2e",
        "..%2f..%2faccounts%2fann",
        "%2e%2e%2faccounts%2fann",
        "a%2fb",
        "%00",
        "%0d%0ax-evil:%201",
        "%ff",
        "%",
        "csk_%E2%80%AE",
        ";",
        "?",
        "%3f",
        "a%20b",
        "//",
    ] {
        let answer = rig.get(&format!("/v1/keys/{id}")).await;
        assert!([400, 404].contains(&answer.status), "{id}: {}", answer.text);
        assert!(!answer.head.contains("x-evil"), "{id}");
    }
}
