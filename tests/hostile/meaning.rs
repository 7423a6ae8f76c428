//! Attacks on what a signature means: another request under the same signed bytes.

use crate::support::{Site, binance, bitget, bybit, seen, wire};

const PLACE: &str = "/api/v2/spot/trade/place-order";
const JSON: &str = r#"{"symbol":"BTCUSDT","size":"1"}"#;

#[tokio::test]
async fn a_signed_body_moved_into_the_query_is_refused() {
    let site = Site::start().await;
    let time = site.now();
    let fields = bitget("bitget-key", time, &format!("POST{PLACE}?a=1{JSON}"));
    let hidden = JSON.replace('{', "%7B").replace('}', "%7D").replace('"', "%22");
    for target in [
        format!("{PLACE}?a=1{JSON}"),
        format!("{PLACE}?a=1{hidden}"),
        format!("{PLACE}?a=1{}", hidden.to_lowercase()),
    ] {
        assert_eq!(site.forwards(wire("POST", &target, &fields, "")).await, None, "{target}");
    }
    let honest = site.forwards(wire("POST", &format!("{PLACE}?a=1"), &fields, JSON)).await;
    assert_eq!(seen(&honest.unwrap()), (format!("{PLACE}?a=1"), JSON.into()));
}

#[tokio::test]
async fn a_signed_body_moved_into_the_path_is_refused() {
    let site = Site::start().await;
    let time = site.now();
    let json = r#"{"memo":"what?size=9"}"#;
    let fields = bitget("bitget-key", time, &format!("POST{PLACE}{json}"));
    let moved = wire("POST", &format!("{PLACE}{json}"), &fields, "");
    assert_eq!(site.forwards(moved).await, None);
    let list = r#"["1"]"#;
    let fields = bitget("bitget-key", time, &format!("POST{PLACE}{list}"));
    assert_eq!(site.forwards(wire("POST", &format!("{PLACE}{list}"), &fields, "")).await, None);
    assert!(site.forwards(wire("POST", PLACE, &fields, list)).await.is_some());
}

#[tokio::test]
async fn digits_moved_from_the_window_to_the_query_are_refused() {
    let site = Site::start().await;
    let time = site.now();
    let query = "symbol=BTCUSDT";
    for (window, shorter, moved) in [
        ("5000", "500", "0"),
        ("5000", "500", "%30"),
        ("5000", "5", "%3000"),
        ("5000.5", "5000", ".5"),
        ("5000.5", "5000", "%2E5"),
        ("5000.5", "5000", "%2e%35"),
    ] {
        let mut fields = bybit("bybit-key", time, window, query);
        let honest = fields.clone();
        fields[2].1 = shorter.to_owned();
        let target = format!("/v5/order/realtime?{moved}{query}");
        assert_eq!(site.forwards(wire("GET", &target, &fields, "")).await, None, "{target}");
        site.send(wire("GET", &format!("/v5/order/realtime?{query}"), &honest, "")).await;
    }
    // Two honest requests differ in their window's text alone.
    assert_eq!(site.backend.requests().len(), 2);
}

#[tokio::test]
async fn a_boundary_moved_by_decoding_is_refused() {
    let site = Site::start().await;
    for (signed, sent) in [
        ("a=1&b=2", "a=1%26b=2"),
        ("a=1&b=2", "a%3D1&b=2"),
        ("a=1&b=2", "%61=1%26b%3D2"),
        ("a=%31", "a=%2531"),
    ] {
        let time = site.now();
        let fields = bybit("bybit-key", time, "5000", signed);
        let target = format!("/v5/order/realtime?{sent}");
        assert_eq!(site.forwards(wire("GET", &target, &fields, "")).await, None, "{sent}");
        let path = "/api/v2/spot/trade/orders";
        let fields = bitget("bitget-key", time, &format!("GET{path}?{signed}"));
        let target = format!("{path}?{sent}");
        assert_eq!(site.forwards(wire("GET", &target, &fields, "")).await, None, "{sent}");
    }
}

#[tokio::test]
async fn every_wire_spelling_of_one_signed_query_reaches_the_backend_alike() {
    let site = Site::start().await;
    let mut targets = Vec::new();
    for (pause, sent) in ["memo=x+y z", "memo=x%2By%20z", "m%65mo=x%2by%20z", "memo=x+y%20z"]
        .into_iter()
        .enumerate()
        .skip(1)
    {
        let time = site.now() + u64::try_from(pause).unwrap();
        let fields = bybit("bybit-key", time, "5000", "memo=x+y z");
        let wire = wire("GET", &format!("/v5/order/realtime?{sent}"), &fields, "");
        targets.push(seen(&site.forwards(wire).await.unwrap()).0);
    }
    assert!(
        targets.iter().all(|target| target == "/v5/order/realtime?memo=x%2By%20z"),
        "{targets:?}"
    );
}

#[tokio::test]
async fn parameters_cannot_be_moved_between_query_and_body() {
    let site = Site::start().await;
    let (all, fields) = binance("binance-key", &format!("a=1&b=2&timestamp={}", site.now()));
    let (query, body) = all.split_once('&').unwrap();
    for (query, body) in [(query, body), ("a=1&", body), ("&", &*all), (&*all, "&")] {
        let wire = wire("POST", &format!("/api/v3/order?{query}"), &fields, body);
        assert_eq!(site.forwards(wire).await, None, "{query} | {body}");
    }
    assert!(site.forwards(wire("POST", "/api/v3/order", &fields, &all)).await.is_some());
}

#[tokio::test]
async fn credentials_given_twice_are_refused_in_every_spelling() {
    let site = Site::start().await;
    for extra in ["timestamp=1", "%74imestamp=1", "timestam%70", "recvWindow=1&recvWindow=2"] {
        let (query, fields) = binance("binance-key", &format!("timestamp={}&{extra}", site.now()));
        let wire = wire("GET", &format!("/api/v3/order?{query}"), &fields, "");
        assert_eq!(site.forwards(wire).await, None, "{extra}");
    }
    let (query, fields) = binance("binance-key", &format!("timestamp={}", site.now()));
    for extra in ["signature=00", "%73ignature=00", "signature"] {
        for query in [format!("{query}&{extra}"), format!("{extra}&{query}")] {
            let wire = wire("GET", &format!("/api/v3/order?{query}"), &fields, "");
            assert_eq!(site.forwards(wire).await, None, "{query}");
        }
    }
    for name in ["X-BAPI-SIGN", "X-BAPI-API-KEY", "X-BAPI-TIMESTAMP", "x-bapi-recv-window"] {
        let mut fields = bybit("bybit-key", site.now(), "5000", "a=1");
        let again = fields.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).unwrap();
        let value = again.1.clone();
        fields.push((name.to_owned(), value));
        let wire = wire("GET", "/v5/order/realtime?a=1", &fields, "");
        assert_eq!(site.forwards(wire).await, None, "{name}");
    }
}

#[tokio::test]
async fn every_flipped_byte_of_a_signed_target_is_refused() {
    let site = Site::start().await;
    let (query, fields) =
        binance("binance-key", &format!("symbol=BTC&timestamp={}&recvWindow=9000", site.now()));
    let mut attacks = Vec::new();
    let signed = query.len() - "&signature=".len() - 64;
    for place in 0..signed {
        let mut bytes = query.clone().into_bytes();
        bytes[place] ^= 1;
        let query = String::from_utf8(bytes).unwrap();
        attacks.push(wire("GET", &format!("/api/v3/order?{query}"), &fields, ""));
    }
    let fields = bitget("bitget-key", site.now(), &format!("POST{PLACE}?a=1{JSON}"));
    for place in 0..JSON.len() {
        let mut bytes = JSON.as_bytes().to_vec();
        bytes[place] ^= 1;
        let body = String::from_utf8(bytes).unwrap();
        attacks.push(wire("POST", &format!("{PLACE}?a=1"), &fields, &body));
    }
    for attack in attacks {
        assert_eq!(site.forwards(&attack).await, None, "{attack}");
    }
}

#[tokio::test]
async fn what_the_signature_does_not_cover_never_arrives() {
    let site = Site::start().await;
    let fields = bybit("bybit-key", site.now(), "5000", JSON);
    let with_query = wire("POST", "/v5/order/create?reduceOnly=true", &fields, JSON);
    assert_eq!(site.forwards(with_query).await, None);
    for kind in
        ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain"]
    {
        let mut fields = fields.clone();
        fields.push(("Content-Type".into(), kind.into()));
        assert_eq!(
            site.forwards(wire("POST", "/v5/order/create", &fields, JSON)).await,
            None,
            "{kind}"
        );
    }
    let mut fields = fields.clone();
    for (name, value) in [
        ("Content-Type", "application/json; charset=utf-16"),
        ("Content-Encoding", "gzip"),
        ("X-HTTP-Method-Override", "DELETE"),
        ("X-Original-URL", "/admin"),
        ("Cookie", "session=1"),
        ("Authorization", "Bearer x"),
    ] {
        fields.push((name.into(), value.into()));
    }
    let request = site.forwards(wire("POST", "/v5/order/create", &fields, JSON)).await.unwrap();
    assert_eq!(crate::support::field(&request, "content-type"), Some("application/json"));
    for name in
        ["content-encoding", "x-http-method-override", "x-original-url", "cookie", "authorization"]
    {
        assert_eq!(crate::support::field(&request, name), None, "{name}");
    }
}

#[tokio::test]
async fn bodies_that_are_not_the_dialects_are_refused() {
    let site = Site::start().await;
    for body in ["\u{feff}{}", " {}", "\"{}\"", "null", "a=1"] {
        let fields = bybit("bybit-key", site.now(), "5000", body);
        assert_eq!(
            site.forwards(wire("POST", "/v5/order/create", &fields, body)).await,
            None,
            "{body}"
        );
    }
    for parameters in ["a=1\r\n", "a=\u{1}", "a=1\0"] {
        let (body, fields) =
            binance("binance-key", &format!("{parameters}&timestamp={}", site.now()));
        assert_eq!(site.forwards(wire("POST", "/api/v3/order", &fields, &body)).await, None);
    }
}
