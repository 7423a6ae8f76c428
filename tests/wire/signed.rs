//! Signed requests, end to end: the recipe signs, the gateway judges.

use std::fmt::Write as _;

use countersign::clock::Micros;
use countersign::dialect::{Credentials, Draft, SignedRequest};
use countersign::key::{Algorithm, Signer};
use http::Method;

use crate::support::{Fixture, NOW, PASSPHRASE, SECRET, dialect, field, json, status};

fn sign(
    name: &str,
    method: Method,
    path: &str,
    query: &str,
    body: &str,
    at: Micros,
) -> SignedRequest {
    let draft = Draft {
        method,
        path,
        query,
        body,
        host: "api.test",
        window_ms: Some(5_000),
        lead_ms: 5_000,
        nonce: None,
    };
    let signer = Signer::read(Algorithm::HmacSha256, SECRET).unwrap();
    let key_id = format!("{name}-key");
    let by = Credentials { key_id: &key_id, signer: &signer, passphrase: Some(PASSPHRASE) };
    dialect(name).sign(&draft, &by, at).unwrap()
}

fn bytes(request: &SignedRequest) -> String {
    let SignedRequest { method, target, headers, body } = request;
    let mut text = format!("{method} {target} HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n");
    for (name, value) in headers {
        write!(text, "{name}: {}\r\n", value.to_str().unwrap()).unwrap();
    }
    text + &format!("Content-Length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn signed_requests_of_every_dialect_pass_once() {
    let gateway = Fixture::start();
    let form = "symbol=BTCUSDT&side=BUY&type=MARKET&quantity=1";
    let json = r#"{"symbol":"BTCUSDT","side":"buy"}"#;
    for (name, method, path, query, body) in [
        ("binance", Method::GET, "/api/v3/account", "omitZeroBalances=true", ""),
        ("binance", Method::POST, "/api/v3/order", "quantity=2", ""),
        ("binance", Method::POST, "/api/v3/order", "", form),
        ("bybit", Method::GET, "/v5/order/realtime", "category=spot", ""),
        ("bybit", Method::POST, "/v5/order/create", "", json),
        ("bitget", Method::GET, "/api/v2/spot/account/assets", "coin=BTC", ""),
        ("bitget", Method::POST, "/api/v2/spot/trade/place-order", "", json),
    ] {
        let request = sign(name, method, path, query, body, NOW);
        let text = gateway.ask(bytes(&request)).await;
        assert_eq!(status(&text), 200, "{name} {path} {text}");
        assert!(text.contains(&format!("key={name}-key ")), "{text}");
        let used = ["x-mbx-used-weight-1m", "x-bapi-limit", "x-mbx-used-remain-limit"];
        assert!(used.iter().any(|name| field(&text, name).is_some()), "{text}");

        let again = gateway.ask(bytes(&request)).await;
        assert!(!again.contains(&format!("key={name}-key ")), "{again}");
    }
    assert_eq!(gateway.ear.count("request Denied replayed"), 7);
    assert_eq!(gateway.ear.count("request Forwarded"), 7);
}

#[tokio::test]
async fn a_forged_body_is_refused_in_the_dialects_words() {
    let gateway = Fixture::start();
    let mut request = sign("binance", Method::POST, "/api/v3/order", "", "quantity=1", NOW);
    request.body = request.body.replacen("quantity=1", "quantity=9", 1);
    let text = gateway.ask(bytes(&request)).await;
    assert_eq!(status(&text), 400);
    assert_eq!(json(&text)["code"], -1022);
    assert_eq!(field(&text, "x-request-id").unwrap().len(), 36);
    assert_eq!(gateway.ear.hears("request").await, "request Denied bad_signature 400 complete");
}

#[tokio::test]
async fn a_refusal_for_the_clocks_sake_says_by_how_much_it_is_off() {
    let gateway = Fixture::start();
    for (at, skew) in [(Micros(NOW.0 - 7_000_000), "-7000"), (Micros(NOW.0 + 9_000_000), "9000")] {
        for name in ["binance", "bybit"] {
            let path = if name == "binance" { "/api/v3/account" } else { "/v5/order/realtime" };
            let text = gateway.ask(bytes(&sign(name, Method::GET, path, "", "", at))).await;
            assert_eq!(field(&text, "x-countersign-skew-ms"), Some(skew), "{text}");
            assert_eq!(field(&text, "x-countersign-server-time"), Some("1700000000000"));
        }
    }
    let text =
        gateway.ask(bytes(&sign("binance", Method::GET, "/api/v3/account", "", "", NOW))).await;
    assert_eq!(field(&text, "x-countersign-skew-ms"), None);
}

#[tokio::test]
async fn without_credentials_the_body_is_not_even_read() {
    let gateway = Fixture::start();
    // No byte of the body is sent: the answer cannot have waited for it.
    let text = gateway
        .ask("POST /v5/order/create HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 900\r\n\r\n")
        .await;
    assert_eq!(status(&text), 401);
}

#[tokio::test]
async fn a_signed_request_that_no_backend_took_may_be_signed_again() {
    let gateway = Fixture::start();
    let text = gateway.ask(bytes(&sign("binance", Method::GET, "/api/v3/down", "", "", NOW))).await;
    assert_eq!(status(&text), 503);
    assert_eq!(json(&text)["code"], -1001);
    assert_eq!(field(&text, "retry-after"), Some("1"));
}

#[tokio::test]
async fn a_code_is_asked_for_with_a_challenge_that_travels_in_a_field() {
    let gateway = Fixture::start();
    let ask = |at, fields: String| {
        let mut request = sign("binance", Method::POST, "/withdraw", "amount=1", "", at);
        request.headers.extend(fields.split_terminator('\n').map(|line| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.parse().unwrap(), value.parse().unwrap())
        }));
        gateway.ask(bytes(&request))
    };
    let text = ask(NOW, String::new()).await;
    assert_eq!(status(&text), 401, "{text}");
    assert_eq!(json(&text)["code"], -2015, "the nearest that its clients know");
    assert_eq!(gateway.ear.hears("request").await, "request Denied challenged 401 complete");
    let challenge = field(&text, "x-countersign-challenge").unwrap().to_owned();
    // A wrong code, but one that is looked at.
    let fields = format!("x-otp: 000000\nx-countersign-challenge: {challenge}\n");
    let text = ask(Micros(NOW.0 + 1_000), fields).await;
    assert_eq!(status(&text), 401, "{text}");
    assert_eq!(field(&text, "x-countersign-challenge"), None, "{text}");
    assert_eq!(gateway.ear.count("request Denied bad_code"), 1);
}
