//! What opens a WebSocket, and what does not.

use std::path::Path;

use countersign::config::{Config, System};
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::backend::field;
use crate::fleet::BOUND;
use crate::site::Site;
use crate::wire::{FIELDS, Socket, status};

/// An answer that ends its connection, whole.
async fn whole(site: &Site, text: impl AsRef<[u8]>) -> String {
    let (stream, head) = site.send(text).await;
    head + &String::from_utf8(Socket(stream).rest().await).unwrap()
}

#[tokio::test]
async fn any_other_answer_of_the_backend_is_an_ordinary_one_and_ends_the_connection() {
    let site = Site::start().await;
    // Whoever takes the answer for granted has sent this along.
    let smuggled = "GET /free/smuggled HTTP/1.1\r\nHost: h\r\n\r\n";
    for (what, code, body) in [
        ("deny", 403, "no"),
        ("ok", 200, "yes"),
        ("wrong", 502, ""),
        ("h2c", 502, ""),
        ("length", 502, ""),
    ] {
        let handshake = site.handshake("mine", &format!("/ws/{what}"), FIELDS);
        let text = whole(&site, handshake + smuggled).await;
        assert_eq!(status(&text), code, "{text}");
        assert!(text.ends_with(body), "{text}");
        assert_eq!(field(&text, "connection").as_deref(), Some("close"), "{text}");
        assert_eq!(text.matches("HTTP/1.1 ").count(), 1, "{text}");
    }
    let text = whole(&site, site.handshake("mine", "/ws/hang", FIELDS)).await;
    assert_eq!(status(&text), 504, "{text}");
    assert!(!site.backend.heads().iter().any(|head| head.contains("smuggled")));
}

#[tokio::test]
async fn a_request_that_is_no_whole_handshake_opens_nothing_and_reaches_nobody() {
    let site = Site::start().await;
    let without = |line: &str| FIELDS.replace(&format!("{line}\r\n"), "");
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    for (fields, code) in [
        (String::new(), 426),
        (without("Connection: Upgrade"), 426),
        (without("Upgrade: websocket"), 426),
        (without("Sec-WebSocket-Version: 13"), 426),
        (without(key), 400),
        (FIELDS.replace("13", "8"), 426),
        (FIELDS.replace("13", "13, 8"), 426),
        (format!("{FIELDS}Sec-WebSocket-Version: 13\r\n"), 426),
        (FIELDS.replace("websocket", "h2c"), 426),
        (FIELDS.replace("websocket", "websocket, h2c"), 426),
        (format!("{FIELDS}Upgrade: h2c\r\n"), 426),
        (format!("{FIELDS}Upgrade: websocket\r\n"), 426),
        (format!("{FIELDS}{key}\r\n"), 400),
        (FIELDS.replace("ZQ==", ""), 400),
        (FIELDS.replace("ZQ==", "ZR=="), 400),
        (format!("{FIELDS}Content-Length: 0\r\n"), 400),
        (format!("{FIELDS}Transfer-Encoding: chunked\r\n"), 400),
    ] {
        let bodied = if fields.contains("chunked") { "0\r\n\r\n" } else { "" };
        let text = site.handshake("mine", "/ws/echo", &(fields.clone() + "Connection: close\r\n"));
        let text = whole(&site, text + bodied).await;
        assert_eq!(status(&text), code, "{fields}\n{text}");
        let told = (field(&text, "upgrade"), field(&text, "sec-websocket-version"));
        let expected = (Some("websocket".into()), Some("13".into()));
        assert_eq!(told == expected, code == 426, "{text}");
    }
    assert_eq!(site.backend.heads(), Vec::<String>::new());
}

#[tokio::test]
async fn a_body_beside_a_handshake_is_refused_and_never_read_as_anything() {
    let site = Site::start().await;
    let inner = "GET /free/smuggled HTTP/1.1\r\nHost: h\r\n\r\n";
    for fields in [
        format!("{FIELDS}Content-Length: {}\r\n", inner.len()),
        format!("{FIELDS}Transfer-Encoding: chunked\r\n"),
        format!("{FIELDS}Transfer-Encoding: chunked\r\nContent-Length: 3\r\n"),
    ] {
        let text = whole(&site, site.handshake("mine", "/ws/echo", &fields) + inner).await;
        assert_eq!(status(&text), 400, "{text}");
        assert_eq!(text.matches("HTTP/1.1 ").count(), 1, "{text}");
    }
    assert_eq!(site.backend.heads(), Vec::<String>::new());
}

#[tokio::test]
async fn on_other_routes_an_upgrade_is_not_heard_of() {
    let site = Site::start().await;
    for fields in [FIELDS.to_owned(), FIELDS.replace("websocket", "h2c")] {
        let (_, head) = site.send(site.handshake("mine", "/api/ok", &fields)).await;
        assert_eq!(status(&head), 200, "{head}");
        let told = site.backend.heads().pop().unwrap().to_lowercase();
        assert!(!told.contains("upgrade") && !told.contains("sec-websocket"), "{told}");
        // A backend that goes over all the same is not believed.
        let (_, head) = site.send(site.handshake("mine", "/api/echo", &fields)).await;
        assert_eq!(status(&head), 502, "{head}");
    }
}

#[tokio::test]
async fn a_handshake_passes_every_check_of_a_request() {
    let site = Site::start().await;
    let handshake = site.handshake("mine", "/ws/echo", FIELDS);
    let (_open, head) = site.send(&handshake).await;
    assert_eq!(status(&head), 101);
    let again = whole(&site, &handshake).await;
    assert_ne!(status(&again), 101, "the same bytes open nothing twice: {again}");
    // By a stamp of long ago, by another secret, by a key that there is not, or by none.
    let stale = handshake.split("timestamp=").nth(1).unwrap().split('&').next().unwrap();
    let older = handshake.replace(stale, "1600000000000");
    let signature = handshake.split("signature=").nth(1).unwrap().split(' ').next().unwrap();
    let forged = site.handshake("mine", "/ws/echo", FIELDS).replace("n=", "m=");
    let unknown = site.handshake("nobody", "/ws/echo", FIELDS);
    let unsigned = handshake.replace(signature, "");
    for text in [older, forged, unknown, unsigned] {
        let answer = whole(&site, &text).await;
        assert!((400..=403).contains(&status(&answer)), "{answer}");
    }
    assert_eq!(site.backend.heads().len(), 1);
    // Nor by one that lacks what the route asks for.
    site.change("other", |key| key.permissions = vec!["read".into()]);
    let refused = async {
        while status(&site.send(site.handshake("other", "/trades/echo", FIELDS)).await.1) == 101 {}
    };
    tokio::time::timeout(BOUND, refused).await.expect("it hears of the change");
    let before = site.backend.heads().len();
    let answer = whole(&site, site.handshake("other", "/trades/echo", FIELDS)).await;
    assert!((400..=403).contains(&status(&answer)), "{answer}");
    assert_eq!(site.backend.heads().len(), before);
}

#[tokio::test]
async fn over_http_2_none_is_opened() {
    let site = Site::start().await;
    let socket = TcpStream::connect(site.service.listeners[0]).await.unwrap();
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await.unwrap();
    tokio::spawn(connection);
    let (target, headers) = site.signatory.sign("mine", "/ws/echo");
    let mut request = http::Request::get(format!("http://h{target}"));
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let answer = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
    assert_eq!(answer.status(), 426);
    assert_eq!(site.backend.heads(), Vec::<String>::new());
}

#[test]
fn what_makes_no_sense_beside_a_websocket_is_refused_at_load() {
    let config = |server: &str, route: &str| {
        let text = format!(
            "version = 1\n{server}\n[[listener]]\nname = \"a\"\naddress = \"127.0.0.1:0\"\n[admin]\naddress = \
             \"127.0.0.1:0\"\n[[upstream]]\nname = \"u\"\nbackends = [\"127.0.0.1:1\"]\nidentity_key = \"none\"\n\
             [[route]]\nname = \"r\"\npath = \"/ws\"\nwebsocket = true\n{route}\n"
        );
        Config::parse(&text, Path::new("test.toml"), &System)
    };
    let get = "methods = [\"GET\"]\nupstream = \"u\"\nask = \"public\"";
    let good = config("[server]\nmax_connections = 50", get).unwrap().config.websocket;
    assert_eq!((good.max_open, good.max_open_each), (25, 25));
    let said = config("[websocket]\nmax_open = 7\nmax_open_each = 3\nidle_timeout = \"5s\"", get);
    let said = said.unwrap().config.websocket;
    assert_eq!((said.max_open, said.max_open_each, said.idle_timeout.as_secs()), (7, 3, 5));
    for (server, route, problem) in [
        (
            "",
            "methods = [\"GET\", \"POST\"]\nupstream = \"u\"\neffect = \"read\"\nask = \"public\"",
            "GET alone",
        ),
        ("", "methods = [\"GET\"]\nanswer = \"empty\"", "answers here itself"),
        (
            "",
            "methods = [\"GET\"]\nupstream = \"u\"\ndialect = \"bitmex\"\nreplay = \"repeat-same-route\"",
            "once",
        ),
        (
            "[server]\nmax_connections = 5\n[websocket]\nmax_open = 6",
            get,
            "more than all connections",
        ),
    ] {
        let refused = config(server, route).unwrap_err().to_string();
        assert!(refused.contains(problem), "{refused}");
    }
}
