//! Attacks on framing and on what the backend is told: smuggled requests, forged identity, credentials that leak.

use crate::support::{
    Backend, ROUTES, Site, binance, bitget, bybit, field, first_line, identity_holds, ok, wire,
};

const JSON: &str = r#"{"symbol":"BTC"}"#;

/// Whether what the backend has of `attack` holds no request but whole ones of ours.
async fn nothing_is_smuggled(site: &Site, attack: &str) {
    let before = site.backend.requests().len();
    site.send(attack).await;
    for request in site.backend.requests().split_off(before) {
        assert!(!first_line(&request).contains("SMUGGLED"), "{attack}\n{request}");
        assert!(identity_holds(&request), "{attack}\n{request}");
        for name in ["host", "countersign-identity", "countersign-mac", "x-forwarded-for"] {
            let lines = request
                .lines()
                .filter(|line| line.to_lowercase().starts_with(&format!("{name}: ")));
            assert_eq!(lines.count(), 1, "{name} {request}");
        }
    }
}

#[tokio::test]
async fn no_trick_of_framing_smuggles_a_request() {
    let site = Site::start().await;
    let inner = "GET /SMUGGLED HTTP/1.1\r\nHost: x\r\n\r\n";
    let head = "GET /public/a HTTP/1.1\r\nHost: api.test\r\n";
    let attacks = [
        format!("{head}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inner}"),
        format!("{head}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n{inner}"),
        format!("{head}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n{inner}"),
        format!("{head}Transfer-Encoding: xchunked\r\nContent-Length: 0\r\n\r\n{inner}"),
        format!("{head}Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n{inner}"),
        format!("{head}Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n{inner}"),
        format!("{head}Content-Length: 0\r\nContent-Length: {}\r\n\r\n{inner}", inner.len()),
        format!("{head}Content-Length: +0\r\n\r\n{inner}"),
        format!("{head}Content-Length: 0,{}\r\n\r\n{inner}", inner.len()),
        format!("{head}X: y\rContent-Length: {}\r\n\r\n{inner}", inner.len()),
        format!("{head}X: y\r\n Content-Length: {}\r\n\r\n{inner}", inner.len()),
        format!(
            "{head}Transfer-Encoding: chunked\r\n\r\n0\r\ncountersign-identity: v=1\r\nX: y\r\n\r\n"
        ),
        format!("{head}Transfer-Encoding: chunked\r\n\r\n-1\r\n{inner}"),
        format!("{head}Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n{inner}"),
        format!("{head}Transfer-Encoding: chunked\r\n\r\n1;\n{inner}\r\nx\r\n0\r\n\r\n"),
        format!(
            "{head}Upgrade: h2c\r\nConnection: upgrade, http2-settings\r\nHTTP2-Settings: AA\r\n\r\n"
        ),
        format!("{head}Expect: 100-continue\r\nContent-Length: 3\r\n\r\n{inner}"),
        "GET http://evil/SMUGGLED HTTP/1.1\r\nHost: api.test\r\n\r\n".to_owned(),
        "GET /public/a HTTP/1.1\r\nHost: api.test\r\nHost: evil\r\n\r\n".to_owned(),
        format!(
            "GET /public/a HTTP/1.0\r\nHost: api.test\r\nConnection: keep-alive\r\n\r\n{inner}"
        ),
        "GET /public/a\u{a0}HTTP/1.1 HTTP/1.1\r\nHost: api.test\r\n\r\n".to_owned(),
        "GET /public/a%0d%0aHost:%20x HTTP/1.1\r\nHost: api.test\r\n\r\n".to_owned(),
        format!("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n{inner}"),
    ];
    for attack in attacks {
        // Half of the client's connections must end by themselves: the last request asks for it.
        let attack =
            attack + "GET /public/b HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n\r\n";
        nothing_is_smuggled(&site, &attack).await;
    }
}

#[tokio::test]
async fn a_body_on_a_get_reaches_no_backend_which_might_take_it_for_a_request() {
    let site = Site::start().await;
    let inner = "GET /SMUGGLED HTTP/1.1\r\nHost: x\r\n\r\n";
    let key = vec![("X-MBX-APIKEY".to_owned(), "binance-key".to_owned())];
    for (method, target, fields) in [
        ("GET", "/public/a", vec![]),
        ("OPTIONS", "/public/a", vec![]),
        ("GET", "/api/v3/historicalTrades", key),
    ] {
        assert!(site.forwards(wire(method, target, &fields, "")).await.is_some(), "{target}");
        assert_eq!(site.forwards(wire(method, target, &fields, inner)).await, None, "{target}");
    }
    let chunks = "GET /public/a HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    let empty = site.forwards(format!("{chunks}0\r\n\r\n")).await;
    assert!(empty.is_some_and(|request| !request.contains("content-length")));
    assert_eq!(site.forwards(format!("{chunks}1\r\na\r\n0\r\n\r\n")).await, None);
}

#[tokio::test]
async fn the_identity_can_be_neither_forged_nor_removed() {
    let site = Site::start().await;
    let forged = [
        ("countersign-identity", "v=1; key=admin"),
        ("Countersign-Mac", "00"),
        ("COUNTERSIGN-IDENTITY", "v=1"),
        ("countersign-anything", "1"),
        ("x-request-id", "mine"),
        ("X-Forwarded-Host", "evil"),
        ("X-Forwarded-Proto", "https"),
    ];
    for target in ["/public/a", "/v5/order/realtime?a=1"] {
        let mut fields = bybit("bybit-key", site.now(), "5000", "a=1");
        fields.extend(forged.map(|(name, value)| (name.into(), value.into())));
        if target.starts_with("/public") {
            let listed =
                "countersign-identity, countersign-mac, x-request-id, x-forwarded-for, host";
            fields.push(("Connection".into(), listed.into()));
        }
        let request = site.forwards(wire("GET", target, &fields, "")).await.unwrap();
        assert!(identity_holds(&request), "{request}");
        assert!(
            !request.contains("admin") && !request.contains("mine") && !request.contains("evil"),
            "{request}"
        );
        assert_eq!(request.matches("countersign-").count(), 2, "{request}");
        assert_eq!(field(&request, "x-forwarded-proto"), Some("http"));
    }
    for name in ["countersign_identity", "Countersign_Mac", "x_mbx_apikey"] {
        let fields = vec![(name.to_owned(), "v=1".to_owned())];
        assert_eq!(site.forwards(wire("GET", "/public/a", &fields, "")).await, None, "{name}");
    }
}

#[tokio::test]
async fn what_may_be_signed_is_taken_from_a_request_by_no_list_that_is_not() {
    let site = Site::start().await;
    let sends = async |path: &str, options: &str| {
        // Each is another request.
        let query = format!("a={}", options.len());
        let mut fields = bybit("bybit-key", site.now(), "5000", &query);
        fields.push(("Accept".into(), "x/y".into()));
        fields.push(("Connection".into(), options.into()));
        site.forwards(wire("GET", &format!("{path}?{query}"), &fields, "")).await
    };
    for options in ["accept", "close, ACCEPT", "keep-alive,\t accept", "host", "x-bapi-sign"] {
        assert_eq!(sends("/v5/order/realtime", options).await, None, "{options}");
    }
    for options in ["close", "close, te, x-absent", "keep-alive, http2-settings, upgrade"] {
        let request = sends("/v5/order/realtime", options).await.unwrap();
        assert_eq!(field(&request, "accept"), Some("x/y"), "{options}");
    }
    // What nobody signs is a hop's to take away.
    assert_eq!(field(&sends("/public/a", "accept").await.unwrap(), "accept"), None);
    // One more says that the connection closes.
    for (options, passes) in [(15, true), (16, false), (9_000, false)] {
        let options = vec![""; options].join(",");
        assert_eq!(sends("/public/a", &options).await.is_some(), passes);
    }
}

#[tokio::test]
async fn no_backend_sees_a_signature_or_passphrase() {
    let site = Site::start().await;
    let time = site.now();
    let path = "/api/v2/spot/account/assets";
    let (query, named) = binance("binance-key", &format!("a=1&timestamp={time}"));
    for attack in [
        wire("GET", &format!("/api/v3/order?{query}"), &named, ""),
        wire("GET", "/v5/order/realtime?a=1", &bybit("bybit-key", time, "5000", "a=1"), ""),
        wire("POST", "/v5/order/create", &bybit("bybit-key", time, "5000", JSON), JSON),
        wire("GET", path, &bitget("bitget-key", time, &format!("GET{path}")), ""),
        // A signature where none is asked: it was never spent, so whoever reads it there could spend it.
        wire("GET", "/public/a", &bitget("bitget-key", time, &format!("GET{path}?x=1")), ""),
        wire(
            "GET",
            &format!("/api/v3/historicalTrades?{}", query.replace("a=1", "a=2")),
            &named,
            "",
        ),
    ] {
        let request = site.forwards(&attack).await.unwrap().to_lowercase();
        let request = request.replace("proof=signature;", "");
        for word in ["signature", "-sign:", "passphrase", "open sesame"] {
            assert!(!request.contains(word), "{word} in {request}");
        }
    }
}

#[tokio::test]
async fn an_answer_with_another_behind_it_never_meets_another_request() {
    let answer = ok("fine") + &ok("SMUGGLED");
    let site = Site::before(Backend::start(answer).await, "", ROUTES).await;
    for _ in 0..50 {
        let answer = site.send(wire("GET", "/public/a", &vec![], "")).await;
        assert!(!answer.contains("SMUGGLED"), "{answer}");
    }
}

#[tokio::test]
async fn a_backend_that_dies_sees_each_order_once() {
    let site = Site::before(Backend::start(String::new()).await, "", ROUTES).await;
    for turn in 0..10 {
        let fields = bybit("bybit-key", site.now() + turn, "5000", JSON);
        let answer = site.send(wire("POST", "/v5/order/create", &fields, JSON)).await;
        assert!(
            answer.contains("outcome_unknown") || answer.starts_with("HTTP/1.1 503"),
            "{answer}"
        );
        assert!(u64::try_from(site.backend.requests().len()).unwrap() <= turn + 1);
    }
}

#[tokio::test]
async fn a_request_cut_at_any_byte_leaves_the_gateway_serving() {
    let site = Site::start().await;
    let fields = bybit("bybit-key", site.now(), "5000", JSON);
    let request = wire("POST", "/v5/order/create", &fields, JSON);
    for end in 0..request.len() {
        let mut socket = tokio::net::TcpStream::connect(site.address()).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut socket, &request.as_bytes()[..end]).await.unwrap();
    }
    assert_eq!(site.backend.requests(), Vec::<String>::new());
    assert!(site.send(&request).await.ends_with("fine"));
    assert_eq!(site.backend.requests().len(), 1);
}
