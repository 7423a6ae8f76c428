//! Attacks by asking: answers that would tell a stranger which keys exist.

use crate::support::{Fields, Site, binance, bitget, bybit, forged, wire};

/// An answer without what differs between any two: request id, date, time.
fn anonymous(answer: &str) -> String {
    let kept = answer
        .lines()
        .filter(|line| !line.starts_with("x-request-id: ") && !line.starts_with("date: "));
    let text = kept.collect::<Vec<_>>().join("\n");
    let mut out = String::new();
    let mut digits = String::new();
    for letter in text.chars().chain(['\0']) {
        if letter.is_ascii_digit() {
            digits.push(letter);
            continue;
        }
        out += if digits.len() >= 13 { "TIME" } else { &digits };
        digits.clear();
        out.push(letter);
    }
    out
}

const STATES: [&str; 9] = [
    "key",
    "revoked",
    "suspended",
    "expired",
    "elsewhere",
    "bound",
    "narrow",
    "unknown",
    "\"quoted\" %00",
];

#[tokio::test]
async fn a_wrong_signature_is_answered_alike_whatever_the_key() {
    let site = Site::start().await;
    let mut answers: Vec<(&str, Vec<String>)> =
        [("binance", vec![]), ("bybit", vec![]), ("bitget", vec![])].into();
    for state in STATES {
        for (dialect, heard) in &mut answers {
            let key = format!("{dialect}-{state}");
            let time = site.now();
            let (target, fields): (String, Fields) = match *dialect {
                "binance" => {
                    let (query, fields) = binance(&key, &format!("timestamp={time}"));
                    let (query, _) = query.rsplit_once('=').unwrap();
                    (format!("/api/v3/order?{query}={}", "ab".repeat(32)), fields)
                }
                "bybit" => {
                    ("/v5/order/realtime?a=1".into(), forged(&bybit(&key, time, "5000", "a=1")))
                }
                _ => {
                    let path = "/api/v2/spot/account/assets";
                    (path.into(), forged(&bitget(&key, time, &format!("GET{path}"))))
                }
            };
            heard.push(anonymous(&site.send(wire("GET", &target, &fields, "")).await));
        }
    }
    for (dialect, heard) in answers {
        assert!(heard.iter().all(|answer| *answer == heard[0]), "{dialect}: {heard:#?}");
    }
}

#[tokio::test]
async fn what_is_ambiguous_is_refused_alike_whatever_the_key() {
    let site = Site::start().await;
    for target in
        ["/v5/order/realtime?a%26b=1", "/v5/order/realtime?1=1", "/v5/order/realtime?a=%2526"]
    {
        let mut heard = Vec::new();
        for state in ["key", "revoked", "unknown"] {
            let fields = forged(&bybit(&format!("bybit-{state}"), site.now(), "5000", ""));
            heard.push(anonymous(&site.send(wire("GET", target, &fields, "")).await));
        }
        assert!(heard.iter().all(|answer| *answer == heard[0]), "{heard:#?}");
    }
}

#[tokio::test]
async fn a_dead_keys_right_signature_is_answered_like_a_wrong_one() {
    let site = Site::start().await;
    let mut heard = Vec::new();
    for state in ["revoked", "suspended", "elsewhere", "unknown"] {
        let path = "/api/v2/spot/account/assets";
        let fields = bitget(&format!("bitget-{state}"), site.now(), &format!("GET{path}"));
        heard.push(anonymous(&site.send(wire("GET", path, &fields, "")).await));
    }
    assert!(heard.iter().all(|answer| *answer == heard[0]), "{heard:#?}");
}

/// Where a key id is all that is asked, only whoever may pass learns that it exists.
#[tokio::test]
async fn a_route_that_asks_for_a_key_id_alone_refuses_every_key_alike() {
    let site = Site::start().await;
    let mut heard = Vec::new();
    let ids = STATES.iter().skip(1).map(|state| format!("binance-{state}"));
    for id in ids.chain(["bybit-key".to_owned()]) {
        let fields = vec![("X-MBX-APIKEY".to_owned(), id)];
        let answer = site.send(wire("GET", "/api/v3/historicalTrades", &fields, "")).await;
        heard.push(anonymous(&answer));
    }
    assert!(heard.iter().all(|answer| *answer == heard[0]), "{heard:#?}");
    assert_eq!(site.backend.requests(), Vec::<String>::new());
}
