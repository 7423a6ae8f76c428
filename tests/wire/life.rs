//! How long things last: deadlines, places, panics, and the end.

use std::num::NonZeroUsize;
use std::time::Duration;

use countersign::gateway::Gateway;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{BOUND, Fixture, certificate, get, status, trickle, upstream};

/// Short enough to wait for; no test says how long it really took.
const SHORT: Duration = Duration::from_millis(200);

#[tokio::test]
async fn a_peer_that_says_nothing_is_closed() {
    let gateway = Fixture::with(|config| config.server.handshake_timeout = SHORT);
    assert_eq!(gateway.ask("").await, "");
    gateway.ear.hears("closed 0 TimedOut").await;
}

#[tokio::test]
async fn a_peer_that_only_looks_whether_anybody_listens_is_no_trouble() {
    let gateway = Fixture::start();
    drop(gateway.connect().await);
    gateway.ear.hears("closed 0 Closed").await;
}

#[tokio::test]
async fn a_preface_in_drops_is_closed() {
    let gateway = Fixture::with(|config| config.server.handshake_timeout = SHORT);
    let mut client = gateway.connect().await;
    client.send("PRI * HTTP/2.0\r\n").await;
    assert_eq!(client.rest().await, "");
    gateway.ear.hears("closed 0 TimedOut").await;
}

#[tokio::test]
async fn a_preface_that_comes_in_pieces_is_known_all_the_same() {
    let gateway = Fixture::start();
    let mut client = gateway.connect().await;
    for piece in ["P", "RI * HTTP/2.0\r\n\r\nSM", "\r\n\r\n"] {
        client.send(piece).await;
        tokio::task::yield_now().await;
    }
    // An empty SETTINGS frame is answered by one of the gateway's.
    client.send([0, 0, 0, 4, 0, 0, 0, 0, 0]).await;
    let mut kind = [0; 4];
    let read = client.0.read_exact(&mut kind);
    tokio::time::timeout(BOUND, read).await.unwrap().unwrap();
    assert_eq!(kind[3], 4);
}

#[tokio::test]
async fn a_tls_handshake_that_does_not_come_about_is_closed() {
    let (_dir, files, _) = certificate();
    let gateway = Fixture::with(|config| {
        config.listeners[0].tls = Some(files);
        config.server.handshake_timeout = SHORT;
    });
    assert_eq!(gateway.ask("").await, "");
    gateway.ear.hears("closed 0 Handshake").await;
    gateway.ask(get("/public", "")).await;
    assert_eq!(gateway.ear.count("request"), 0);
}

#[tokio::test]
async fn a_head_in_drops_is_closed_on_a_fresh_and_on_a_used_connection() {
    let gateway = Fixture::with(|config| config.server.head_timeout = SHORT);
    assert_eq!(gateway.ask("GET /public HTTP/1.1\r\nHost: a\r\n").await, "");
    gateway.ear.hears("closed 0 TimedOut").await;

    let mut client = gateway.connect().await;
    client.send("GET /public HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(status(&client.answer().await), 200);
    client.send("GET /pub").await;
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn a_connection_that_stands_idle_is_closed_under_either_protocol() {
    let gateway = Fixture::with(|config| config.server.idle_timeout = SHORT);
    let mut client = gateway.connect().await;
    client.send("GET /public HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(status(&client.answer().await), 200);
    assert_eq!(client.rest().await, "");
    gateway.ear.hears("closed 0 Idle").await;

    let mut client = gateway.connect().await;
    client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    let mut frames = Vec::new();
    let closed = client.0.read_to_end(&mut frames);
    let _ = tokio::time::timeout(BOUND, closed).await.unwrap();
    assert!(!frames.is_empty());
}

#[tokio::test]
async fn a_request_that_waits_for_the_gateway_is_not_idle() {
    let gateway = Fixture::with(|config| {
        config.server.idle_timeout = SHORT;
        config.server.head_timeout = SHORT;
    });
    let mut client = gateway.connect().await;
    client.send(get("/key", "X-MBX-APIKEY: slow\r\n")).await;
    let _ = gateway.gate.keys.asked.acquire().await.unwrap();
    // As long as it takes for an idle connection to be closed beside it.
    let mut idle = gateway.connect().await;
    idle.send("GET /public HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(status(&idle.rest().await), 200);
    gateway.gate.keys.go_on.add_permits(1);
    assert_eq!(status(&client.rest().await), 200);
}

#[tokio::test]
async fn connections_beyond_the_most_are_closed_at_once() {
    let gateway = Fixture::with(|config| config.server.max_connections = 2);
    let (mut first, mut second) = (gateway.connect().await, gateway.connect().await);
    let request = "GET /public HTTP/1.1\r\nHost: a\r\n\r\n";
    for client in [&mut first, &mut second] {
        client.send(request).await;
        assert_eq!(status(&client.answer().await), 200);
    }
    assert_eq!(gateway.connect().await.rest().await, "");
    gateway.ear.hears("refused 0 Full").await;
    drop(first);
    gateway.ear.hears("closed 0").await;
    assert_eq!(status(&gateway.get("/public", "").await), 200);
}

#[tokio::test]
async fn one_address_cannot_take_the_connections_of_all_unless_it_is_a_trusted_proxy() {
    let most = NonZeroUsize::new(1);
    let gateway = Fixture::with(|config| config.server.max_connections_per_address = most);
    let mut first = gateway.connect().await;
    first.send("GET /public HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(status(&first.answer().await), 200);
    assert_eq!(gateway.connect().await.rest().await, "");
    gateway.ear.hears("refused 0 AddressFull").await;
    drop(first);
    gateway.ear.hears("closed 0").await;
    assert_eq!(status(&gateway.get("/public", "").await), 200);

    let gateway = Fixture::with(|config| {
        config.server.max_connections_per_address = most;
        config.server.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    });
    let _first = gateway.connect().await;
    assert_eq!(status(&gateway.get("/public", "").await), 200);
    assert_eq!(gateway.ear.count("refused"), 0);
}

#[tokio::test]
async fn a_panic_costs_one_connection() {
    let gateway = Fixture::with(|config| config.server.workers = 1);
    let mut bystander = gateway.connect().await;
    bystander.send("GET /public HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(status(&bystander.answer().await), 200);
    assert_eq!(gateway.get("/key", "X-MBX-APIKEY: panic\r\n").await, "");
    gateway.ear.hears("request Panicked - 0 cut").await;
    gateway.ear.hears("closed 0 Panicked").await;
    bystander.send("GET /public HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(status(&bystander.answer().await), 200);
}

#[tokio::test]
async fn a_client_that_breaks_off_is_counted() {
    let gateway = Fixture::start();
    let mut client = gateway.connect().await;
    client.send(get("/key", "X-MBX-APIKEY: slow\r\n")).await;
    let _ = gateway.gate.keys.asked.acquire().await.unwrap();
    client.0.set_zero_linger().unwrap();
    drop(client);
    gateway.ear.hears("request Aborted - 0 cut").await;
}

#[tokio::test]
async fn a_client_that_has_ended_its_side_gets_the_answers_to_all_it_sent() {
    let public = "GET /public HTTP/1.1\r\nHost: a\r\n\r\n";
    // What comes in chunks is for hyper.
    let ends = ["\r\n", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"];
    for (end, early) in ends.into_iter().flat_map(|end| [(end, ""), (end, public)]) {
        let gateway = Fixture::with(|config| config.server.workers = 1);
        let mut client = gateway.connect().await;
        client.send(format!("GET /key HTTP/1.1\r\nHost: a\r\nX-MBX-APIKEY: slow\r\n{end}")).await;
        let _ = gateway.gate.keys.asked.acquire().await.unwrap();
        client.send(early).await;
        client.0.shutdown().await.unwrap();
        // Another connection of the same worker: what came before it has been seen.
        assert_eq!(status(&gateway.get("/public", "").await), 200);
        gateway.gate.keys.go_on.add_permits(1);
        let text = client.rest().await;
        let sent = 1 + usize::from(!early.is_empty());
        assert_eq!(text.matches("HTTP/1.1 200 OK").count(), sent, "{text}");
        assert_eq!(gateway.ear.count("request Aborted"), 0);
    }
}

#[tokio::test]
async fn draining_finishes_what_is_under_way_and_takes_nothing_new() {
    let gateway = Fixture::start();
    let address = gateway.address();
    let mut idle = gateway.connect().await;
    idle.send("GET /public HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(status(&idle.answer().await), 200);
    let mut busy = gateway.connect().await;
    busy.send("GET /key HTTP/1.1\r\nHost: a\r\nX-MBX-APIKEY: slow\r\n\r\n").await;
    let _ = gateway.gate.keys.asked.acquire().await.unwrap();

    let drained = tokio::spawn(gateway.running.drain());
    assert_eq!(idle.rest().await, "");
    gateway.ear.hears("draining").await;
    let refused = async { while TcpStream::connect(address).await.is_ok() {} };
    tokio::time::timeout(BOUND, refused).await.expect("it still accepts");
    assert!(!drained.is_finished());
    gateway.gate.keys.go_on.add_permits(1);
    let text = busy.rest().await;
    assert_eq!(status(&text), 200);
    tokio::time::timeout(BOUND, drained).await.unwrap().unwrap();
}

#[tokio::test]
async fn draining_ends_when_its_time_is_over_or_when_it_is_told_to_hurry() {
    for hurried in [false, true] {
        let limit = if hurried { BOUND * 100 } else { SHORT };
        let gateway = Fixture::with(|config| config.server.drain_timeout = limit);
        let mut client = gateway.connect().await;
        client.send(get("/key", "X-MBX-APIKEY: slow\r\n")).await;
        let _ = gateway.gate.keys.asked.acquire().await.unwrap();
        let hurry = async {
            if !hurried {
                std::future::pending::<()>().await;
            }
        };
        tokio::time::timeout(BOUND, gateway.running.drain_unless(hurry)).await.unwrap();
        assert_eq!(client.rest().await, "");
        assert_eq!(gateway.ear.count("request Aborted"), 1);
    }
}

#[tokio::test]
async fn a_dropped_gateway_stops() {
    let gateway = Fixture::start();
    let (address, ear) = (gateway.address(), gateway.ear);
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(b"GET /public HTTP/1.1\r\n").await.unwrap();
    ear.hears("opened").await;
    drop(gateway.running);
    ear.hears("closed 0").await;
}

#[tokio::test]
async fn a_port_in_use_says_which_and_what_to_do() {
    let gateway = Fixture::start();
    let taken = gateway.address();
    let mut config = crate::support::config();
    config.listeners[0].address = taken;
    let error =
        Gateway::start(&std::sync::Arc::new(config), &gateway.gate, &gateway.ear).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with(&format!("listener `test`: {taken} is in use")), "{text}");
    assert!(text.contains("`address`"), "{text}");
}

#[tokio::test]
async fn an_answer_that_flows_is_not_cut_however_long_it_takes() {
    let gap = SHORT / 2;
    let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";
    let mut pieces = vec![head.to_owned()];
    pieces.resize(16, "1\r\nx\r\n".to_owned());
    pieces.push("0\r\n\r\n".to_owned());
    let backend = trickle(pieces, gap).await;
    let gateway = Fixture::with(|config| {
        config.server.idle_timeout = gap * 10;
        config.upstreams = [upstream(backend), upstream(backend)].into();
    });
    for fields in ["", "Upgrade: x\r\n"] {
        let text = gateway.get("/public", fields).await;
        assert_eq!(text.matches("1\r\nx\r\n").count(), 15, "{fields} {text}");
        assert!(text.ends_with("0\r\n\r\n"), "{fields} {text}");
    }
    assert_eq!(gateway.ear.count("request Forwarded - 200 complete"), 2);
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_no_success() {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc".to_owned();
    let backend = trickle(vec![head.clone()], Duration::ZERO).await;
    let endless = trickle(vec![head; 2_000], SHORT / 2).await;
    let gateway = Fixture::with(|config| {
        config.upstreams = [upstream(backend), upstream(endless)].into();
    });
    for (count, fields) in [(1, ""), (2, "Upgrade: x\r\n")] {
        let text = gateway.get("/public", fields).await;
        assert!(text.ends_with("\r\n\r\nabc"), "{text}");
        gateway.ear.hears("closed 0").await;
        assert_eq!(gateway.ear.count("request Failed(Unknown) - 200 cut"), count);
    }
    let mut client = gateway.connect().await;
    client.send(get("/down", "")).await;
    tokio::time::timeout(BOUND, client.0.read_exact(&mut [0; 100])).await.unwrap().unwrap();
    drop(client);
    gateway.ear.hears("request Aborted - 200 cut").await;
}
