//! Attacks on what others own: their allowance, their room in the store.

use crate::support::{ROUTES, Site, binance, bitget, bybit, forged, wire};

#[tokio::test]
async fn a_stranger_who_knows_a_key_id_cannot_spend_its_allowance() {
    let site = Site::start().await;
    let fields = vec![("X-MBX-APIKEY".to_owned(), "binance-key".to_owned())];
    let mut passed = 0;
    for _ in 0..10 {
        let named = wire("GET", "/api/v3/historicalTrades", &fields, "");
        passed += usize::from(site.forwards(named).await.is_some());
    }
    // The stranger has an allowance of its own, and it ends.
    assert_eq!(passed, 3);
    let (query, fields) = binance("binance-key", &format!("timestamp={}", site.now()));
    let honest = site.send(wire("GET", &format!("/api/v3/order?{query}"), &fields, "")).await;
    assert!(honest.starts_with("HTTP/1.1 200"), "{honest}");
    assert!(honest.contains("x-mbx-used-weight: 1\r\n"), "{honest}");
}

#[tokio::test]
async fn what_is_refused_costs_its_owner_nothing() {
    let site = Site::start().await;
    let path = "/api/v2/spot/account/assets";
    for _ in 0..40 {
        let fields = forged(&bitget("bitget-key", site.now(), &format!("GET{path}")));
        site.send(wire("GET", path, &fields, "")).await;
    }
    let fields = bybit("bybit-key", site.now(), "5000", "a=1");
    for _ in 0..40 {
        // The first one passes; the others are replays.
        site.send(wire("GET", "/v5/order/realtime?a=1", &fields, "")).await;
    }
    let fields = bybit("bybit-key", site.now() + 1, "5000", "a=1");
    let answer = site.send(wire("GET", "/v5/order/realtime?a=1", &fields, "")).await;
    assert!(answer.contains("x-bapi-limit-status: 28\r\n"), "{answer}");
    let fields = bitget("bitget-key", site.now(), &format!("GET{path}"));
    let answer = site.send(wire("GET", path, &fields, "")).await;
    assert!(answer.contains("x-mbx-used-remain-limit: 29\r\n"), "{answer}");
}

#[tokio::test]
async fn a_claimed_address_neither_reaches_the_backend_nor_the_allowlist() {
    let site = Site::start().await;
    let (query, mut fields) = binance("binance-bound", &format!("timestamp={}", site.now()));
    let claims = [
        "X-Forwarded-For",
        "Forwarded",
        "X-Real-IP",
        "CF-Connecting-IP",
        "True-Client-IP",
        "Client-IP",
    ];
    for name in claims {
        fields.push((name.into(), "192.0.2.1".into()));
    }
    let target = format!("/api/v3/order?{query}");
    assert_eq!(site.forwards(wire("GET", &target, &fields, "")).await, None);
    let request = site.forwards(wire("GET", "/public/a", &fields, "")).await.unwrap();
    assert!(!request.contains("192.0.2.1"), "{request}");
    assert!(request.contains("client=127.0.0.1;"), "{request}");
}

#[tokio::test]
async fn a_flood_from_many_addresses_leaves_room_for_the_limits_of_keys() {
    let settings = r#"
        [server]
        trusted_proxies = ["127.0.0.0/8"]
        [store]
        max_subjects = 1000
        [[limit]]
        name = "address"
        quota = 1
        per = "1h"
        scope = "address"
    "#;
    let routes =
        ROUTES.replacen("ask = \"public\"", "ask = \"public\"\naddress_limit = \"address\"", 1);
    let site = Site::with(settings, &routes).await;
    let mut flood = String::new();
    for host in 0..2_000_u16 {
        let [high, low] = host.to_be_bytes();
        let get = format!(
            "GET /public/a HTTP/1.1\r\nHost: api.test\r\nX-Forwarded-For: 10.9.{high}.{low}\r\n"
        );
        flood += &get;
        flood += if host == 1_999 { "Connection: close\r\n\r\n" } else { "\r\n" };
    }
    let answers = site.send(flood).await;
    assert_eq!(answers.matches("HTTP/1.1 ").count(), 2_000);
    assert!(answers.contains("HTTP/1.1 503"), "the flood found no end");
    let (query, fields) = binance("binance-key", &format!("timestamp={}", site.now()));
    let honest = site.send(wire("GET", &format!("/api/v3/order?{query}"), &fields, "")).await;
    assert!(honest.starts_with("HTTP/1.1 200"), "{honest}");
}
