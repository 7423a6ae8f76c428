//! HTTP/1.1: what is answered, and what two parsers could read differently.

use crate::support::{BOUND, Fixture, field, get, json, status};

#[tokio::test]
async fn a_plain_get_is_answered_and_named() {
    let gateway = Fixture::start();
    let text = gateway.get("/public", "").await;
    assert_eq!(status(&text), 200);
    assert!(text.ends_with("GET /public key=- client=127.0.0.1 body=0"), "{text}");
    assert_eq!(field(&text, "x-request-id").unwrap().len(), 36);
    assert!(field(&text, "date").is_some());
    assert_eq!(gateway.ear.hears("request").await, "request Forwarded - 200 complete");
}

#[tokio::test]
async fn one_connection_serves_request_after_request() {
    let gateway = Fixture::start();
    let mut client = gateway.connect().await;
    let mut ids = std::collections::HashSet::new();
    for _ in 0..3 {
        client.send("GET /public HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let text = client.answer().await;
        assert_eq!(status(&text), 200);
        ids.insert(field(&text, "x-request-id").unwrap().to_owned());
    }
    assert_eq!(ids.len(), 3);
    assert_eq!(gateway.ear.count("opened"), 1);
}

#[tokio::test]
async fn two_pipelined_requests_are_answered_in_order() {
    let gateway = Fixture::start();
    let first = "POST /public HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    let text = gateway.ask(format!("{first}{}", get("/time", ""))).await;
    let (order, time) = (text.find("body=5").unwrap(), text.find("serverTime").unwrap());
    assert!(order < time, "{text}");
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 2);
}

#[tokio::test]
async fn a_head_request_gets_no_body() {
    let gateway = Fixture::start();
    let text = gateway.ask(get("/public", "").replacen("GET", "HEAD", 1)).await;
    assert_eq!(status(&text), 200);
    assert!(text.ends_with("\r\n\r\n"), "{text}");
    assert!(field(&text, "content-length").unwrap().parse::<u32>().unwrap() > 0);
}

#[tokio::test]
async fn the_gateway_tells_the_time_itself() {
    let gateway = Fixture::start();
    assert_eq!(json(&gateway.get("/time", "").await)["serverTime"], 1_700_000_000_000_u64);
    assert_eq!(gateway.ear.hears("request").await, "request Answered - 200 complete");
}

#[tokio::test]
async fn an_unknown_route_is_a_problem_that_names_the_request() {
    let gateway = Fixture::start();
    let text = gateway.get("/nowhere", "").await;
    assert_eq!(status(&text), 404);
    assert_eq!(field(&text, "content-type"), Some("application/problem+json"));
    let problem = json(&text);
    assert_eq!(problem["code"], "not_found");
    assert_eq!(problem["status"], 404);
    assert_eq!(problem["type"], "urn:countersign:problem:not_found");
    assert_eq!(problem["request_id"].as_str(), field(&text, "x-request-id"));
    assert_eq!(gateway.ear.hears("request").await, "request Denied no_route 404 complete");
}

#[tokio::test]
async fn heads_that_can_be_read_in_two_ways_are_refused() {
    let gateway = Fixture::start();
    let host = "Host: api.test\r\nConnection: close\r\n";
    for (head, expected) in [
        ("GET /public HTTP/1.1\r\nConnection: close\r\n".to_owned(), 400),
        (format!("GET /public HTTP/1.1\r\n{host}Host: api.test\r\n"), 400),
        (format!("GET /public HTTP/1.1\r\n{host}Host: other\r\n"), 400),
        (format!("GET /public HTTP/1.1\r\n{host}Transfer-Encoding: gzip, chunked\r\n"), 400),
        (
            format!(
                "GET /public HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"
            ),
            400,
        ),
        (format!("GET /public HTTP/1.1\r\n{host}x_key: 1\r\n"), 400),
        (format!("GET /public HTTP/1.1\r\n{host} folded: 1\r\n"), 400),
        (format!("GET /public HTTP/1.1\r\n{host}Expect: 200-ok\r\n"), 417),
        (format!("GET http://api.test/public HTTP/1.1\r\n{host}"), 400),
        (format!("GET http://other/public HTTP/1.1\r\n{host}"), 400),
        (format!("OPTIONS * HTTP/1.1\r\n{host}"), 400),
        (format!("CONNECT api.test:80 HTTP/1.1\r\n{host}"), 405),
        (format!("TRACE /public HTTP/1.1\r\n{host}"), 405),
        (format!("GET /public HTTP/1.0\r\n{host}"), 505),
    ] {
        let text = gateway.ask(format!("{head}\r\n")).await;
        assert_eq!(status(&text), expected, "{head} {text}");
    }
    assert_eq!(gateway.ear.count("request Forwarded"), 0);
}

#[tokio::test]
async fn what_is_no_http_is_told_so_under_an_id_and_ends_the_connection() {
    let gateway = Fixture::start();
    let long = format!("GET /public HTTP/1.1\r\nX-Long: {}\r\n", "a".repeat(100_000));
    let many = format!("GET /public HTTP/1.1\r\n{}", "x: 1\r\n".repeat(101));
    let heads = [
        ("nonsense\r\n", 400),
        ("GET /public\r\n", 400),
        ("GET /pub lic HTTP/1.1\r\nHost: api.test\r\n", 400),
        ("GET /public\u{1} HTTP/1.1\r\nHost: api.test\r\n", 400),
        ("GET /public HTTP/3.0\r\nHost: api.test\r\n", 400),
        ("GET /public HTTP/1.1\r\nHost: api.test\r\nX-Key : 1\r\n", 400),
        (&*long, 431),
        (&*many, 431),
        ("POST /public HTTP/1.1\r\nContent-Length: 5, 5\r\n", 400),
        ("POST /public HTTP/1.1\r\nContent-Length: -1\r\n", 400),
        ("POST /public HTTP/1.1\r\nContent-Length: +5\r\n", 400),
        ("POST /public HTTP/1.1\r\nContent-Length:\r\n", 400),
        ("POST /public HTTP/1.1\r\nContent-Length: 18446744073709551616\r\n", 400),
        ("POST /public HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n", 400),
        ("POST /public HTTP/1.1\r\nTransfer-Encoding: identity\r\n", 400),
        ("POST /public HTTP/1.1\r\nTransfer-Encoding: chunked, gzip\r\n", 400),
        ("POST /public HTTP/1.0\r\nTransfer-Encoding: chunked\r\n", 400),
    ];
    for (head, expected) in heads {
        // The second is not read: nobody knows where it begins.
        let text = gateway.ask(format!("{head}\r\nGET /public HTTP/1.1\r\n\r\n")).await;
        assert_eq!(status(&text), expected, "{head} {text}");
        assert_eq!(field(&text, "connection"), Some("close"), "{text}");
        let problem = json(&text);
        assert_eq!(problem["code"], "malformed", "{text}");
        assert_eq!(problem["request_id"].as_str(), field(&text, "x-request-id"));
        gateway.ear.hears(&format!("request Denied malformed {expected} complete")).await;
    }
    assert_eq!(gateway.ear.count("request Denied malformed"), heads.len());
    assert_eq!(gateway.ear.count("request Forwarded"), 0);
}

#[tokio::test]
async fn targets_that_a_backend_could_read_otherwise_are_refused() {
    let gateway = Fixture::start();
    for target in [
        "/open//a",
        "/open/../public",
        "/open/./a",
        "/open/%2e%2e/a",
        "/open/a%2fb",
        "/open/a%5Cb",
        "/open/a%00",
        "/open/a;b",
        "/open/a%",
        "/open/a%zz",
        "/open/a\\b",
        "/open/a?b=%",
        "/open/a?b=%4",
        "/open/\u{e9}",
    ] {
        let text = gateway.get(target, "").await;
        assert!(matches!(status(&text), 400 | 404), "{target} {text}");
    }
    assert_eq!(gateway.ear.count("request Forwarded"), 0);
    assert_eq!(status(&gateway.get("/open/a?b=//..%2f", "").await), 200);
}

#[tokio::test]
async fn a_length_beside_chunks_never_brings_in_a_second_request() {
    let gateway = Fixture::start();
    for framing in [
        "Transfer-Encoding: chunked\r\nContent-Length: 6\r\n",
        "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n",
    ] {
        let request = format!(
            "POST /public HTTP/1.1\r\nHost: a\r\n{framing}\r\n0\r\n\r\nGET /time HTTP/1.1\r\nHost: a\r\n\r\n"
        );
        let text = gateway.ask(request).await;
        assert!(text.matches("HTTP/1.1 ").count() <= 1, "{text}");
        assert!(!text.contains("serverTime"), "{text}");
    }
}

#[tokio::test]
async fn an_oversize_head_is_refused() {
    let gateway = Fixture::start();
    let large = format!("x-large: {}\r\n", "a".repeat(9_000));
    assert_eq!(status(&gateway.get("/public", &large).await), 431);
    let many = |count: usize| "x: 1\r\n".repeat(count);
    // Host and Connection are two more.
    assert_eq!(status(&gateway.get("/public", &many(14)).await), 200);
    let text = gateway.get("/public", &many(15)).await;
    assert_eq!(status(&text), 431);
    assert!(field(&text, "x-request-id").is_some());
    assert_eq!(status(&gateway.get("/public", &many(200)).await), 431);
    assert!(matches!(status(&gateway.get(&format!("/open/{}", "a".repeat(8_000)), "").await), 200));
}

#[tokio::test]
async fn an_announced_body_that_is_too_large_is_refused_unread() {
    let gateway = Fixture::start();
    let post = |length: usize| {
        format!(
            "POST /public HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    // None of the body is ever sent: the answer cannot have waited for it.
    let text = gateway.ask(post(1_001)).await;
    assert_eq!(status(&text), 413);
    assert_eq!(json(&text)["code"], "too_large");
    let text = gateway.ask(post(1_000) + &"a".repeat(1_000)).await;
    assert!(text.ends_with("body=1000"), "{text}");
    assert_eq!(status(&gateway.ask(post(5_000_000) + &"a".repeat(300_000)).await), 413);
}

#[tokio::test]
async fn a_body_that_nobody_wanted_costs_the_next_request_nothing() {
    let gateway = Fixture::start();
    let refused = |length: usize| {
        format!("POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n")
    };
    let mut client = gateway.connect().await;
    for length in [1, 5, 1_000, 65_536] {
        // It is answered before its body comes, and says nothing of an end: so there is none.
        client.send(refused(length)).await;
        let text = client.answer().await;
        assert_eq!((status(&text), field(&text, "connection")), (404, None), "{length}");
        client.send("x".repeat(length) + "GET /public HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(status(&client.answer().await), 200, "{length}");
    }
    assert_eq!(gateway.ear.count("opened"), 1);
}

#[tokio::test]
async fn a_connection_that_ends_before_an_unwanted_body_says_so() {
    let gateway = Fixture::with(|config| config.server.body_timeout = BOUND / 100);
    let post = "POST /nowhere HTTP/1.1\r\nHost: a\r\n";
    for fields in [
        "Content-Length: 65537\r\n",
        "Content-Length: 5\r\nExpect: 100-continue\r\n",
        "Transfer-Encoding: chunked\r\n",
    ] {
        let text = gateway.ask(format!("{post}{fields}\r\n")).await;
        assert_eq!((status(&text), field(&text, "connection")), (404, Some("close")), "{fields}");
    }
    // A short one is waited for, and not for ever.
    let text = gateway.ask(format!("{post}Content-Length: 5\r\n\r\nabcd")).await;
    assert_eq!((status(&text), field(&text, "connection")), (404, None));
}

#[tokio::test]
async fn a_chunked_body_is_bounded_while_it_is_read() {
    let gateway = Fixture::start();
    let post = "POST /public HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunks = |count: usize| format!("64\r\n{}\r\n", "a".repeat(100)).repeat(count);
    let text = gateway.ask(format!("{post}{}0\r\n\r\n", chunks(10))).await;
    assert!(text.ends_with("body=1000"), "{text}");
    // No last chunk: the answer cannot have waited for it.
    assert_eq!(status(&gateway.ask(format!("{post}{}", chunks(11))).await), 413);
    let text = gateway.ask(format!("{post}{}0\r\nx-trailer: 1\r\n\r\n", chunks(2))).await;
    assert!(text.ends_with("body=200"), "{text}");
}

#[tokio::test]
async fn a_body_that_is_expected_is_asked_for_and_one_that_is_refused_is_not() {
    let gateway = Fixture::start();
    let post = |length: usize| {
        format!(
            "POST /public HTTP/1.1\r\nHost: a\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    let mut client = gateway.connect().await;
    client.send(post(5)).await;
    assert_eq!(status(&client.answer().await), 100);
    client.send("hello").await;
    assert!(client.rest().await.ends_with("body=5"));
    assert_eq!(status(&gateway.ask(post(1_001)).await), 413);
}

#[tokio::test]
async fn what_no_backend_took_is_told_apart_from_what_one_may_have_taken() {
    let gateway = Fixture::start();
    let text = gateway.get("/down", "").await;
    assert_eq!(status(&text), 503);
    assert_eq!(json(&text)["code"], "unavailable");
    assert_eq!(field(&text, "retry-after"), Some("1"));
    assert_eq!(gateway.ear.hears("request").await, "request Failed(NoBackend) - 503 complete");
}

#[tokio::test]
async fn a_spent_limit_says_how_long_to_wait_rounded_up() {
    let gateway = Fixture::start();
    let text = gateway.get("/limited", "").await;
    assert_eq!(status(&text), 429);
    assert_eq!(field(&text, "retry-after"), Some("2"));
}

#[tokio::test]
async fn forwarded_addresses_are_believed_of_trusted_proxies_only() {
    let gateway = Fixture::start();
    let told = "X-Forwarded-For: 192.0.2.1\r\nX-Real-IP: 192.0.2.2\r\nForwarded: for=192.0.2.3\r\n";
    assert!(gateway.get("/public", told).await.contains("client=127.0.0.1 "));

    let gateway = Fixture::with(|config| {
        config.server.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    });
    assert!(gateway.get("/public", told).await.contains("client=192.0.2.1 "));
    let forged = "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 192.0.2.1, 127.0.0.9\r\n";
    assert!(gateway.get("/public", forged).await.contains("client=192.0.2.1 "));
    assert_eq!(status(&gateway.get("/public", "X-Forwarded-For: junk\r\n").await), 400);
}

#[tokio::test]
async fn a_slow_body_is_given_up() {
    let short = BOUND / 100;
    let gateway = Fixture::with(|config| config.server.body_timeout = short);
    let text =
        gateway.ask("POST /public HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc").await;
    assert_eq!(status(&text), 408);
}
