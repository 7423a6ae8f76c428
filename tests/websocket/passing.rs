//! What passes through an open WebSocket.

use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::backend::field;
use crate::site::Site;
use crate::wire::{BINARY, CLOSE, FIELDS, KEY, PING, Socket, TEXT, accept, answer, masked, status};

const SIZES: [usize; 11] =
    [0, 1, 125, 126, 127, 1_000, 65_535, 65_536, 100_000, 1 << 20, (3 << 20) + 1];

fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|place| u8::try_from(place % 251).unwrap()).collect()
}

#[tokio::test]
async fn messages_of_every_size_come_back_as_they_were_sent() {
    let site = Site::start().await;
    let mut socket = site.open("mine", "/ws/echo").await;
    for size in SIZES {
        socket.echo(&pattern(size)).await;
    }
    socket.send(PING, b"are you there").await;
    assert_eq!(socket.next().await, Some((PING, b"are you there".to_vec())));
    // In parts, with a frame of control between them.
    let mut parts = masked(TEXT, b"in ");
    parts[0] &= 0x7f;
    parts.extend(masked(PING, b""));
    parts.extend(masked(0, b"parts"));
    socket.raw(&parts).await;
    for expected in [(TEXT, &b"in "[..]), (PING, b""), (0, b"parts")] {
        assert_eq!(socket.next().await, Some((expected.0, expected.1.to_vec())));
    }
    socket.send(CLOSE, &1_000_u16.to_be_bytes()).await;
    assert_eq!(socket.closed().await, Some(1_000));
    site.comes_to("websockets_closed_total{cause=\"closed\",route=\"stream\"}", 1).await;
}

#[tokio::test]
async fn bytes_that_trickle_and_bytes_in_a_flood_come_in_order() {
    let site = Site::start().await;
    let mut socket = site.open("mine", "/ws/echo").await;
    for byte in masked(BINARY, b"trickling") {
        socket.raw(&[byte]).await;
    }
    assert_eq!(socket.next().await, Some((BINARY, b"trickling".to_vec())));
    let (mut from, mut to) = tokio::io::split(socket.0);
    let sending = tokio::spawn(async move {
        for number in 0..2_000_u32 {
            to.write_all(&masked(BINARY, &[&number.to_be_bytes()[..], &pattern(3_000)].concat()))
                .await
                .unwrap();
        }
        to
    });
    for number in 0..2_000_u32 {
        let (_, payload) = crate::wire::frame(&mut from).await.unwrap();
        assert_eq!(payload[..4], number.to_be_bytes());
    }
    drop(sending.await.unwrap());
}

#[tokio::test]
async fn the_backend_is_told_who_opens_and_nothing_that_it_must_not_know() {
    let site = Site::start().await;
    let more = "Sec-WebSocket-Protocol: chat, superchat\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\
                Origin: https://shop.example\r\nCookie: a=b\r\ncountersign-identity: v=1\r\n";
    let handshake = site.handshake("mine", "/ws/protocol", &format!("{FIELDS}{more}"));
    let (_open, head) = site.send(handshake).await;
    assert_eq!(status(&head), 101, "{head}");
    let lines = |name| field(&head, name);
    assert_eq!(lines("sec-websocket-accept"), Some(accept(KEY)));
    assert_eq!(lines("sec-websocket-protocol").as_deref(), Some("chat"));
    assert_eq!(lines("x-backend").as_deref(), Some("yes"));
    assert_eq!(lines("upgrade").as_deref(), Some("websocket"));
    assert!(lines("x-request-id").is_some());
    let told = &site.backend.heads()[0];
    for (name, value) in [
        ("connection", Some("upgrade")),
        ("upgrade", Some("websocket")),
        ("sec-websocket-version", Some("13")),
        ("sec-websocket-key", Some(KEY)),
        ("sec-websocket-protocol", Some("chat, superchat")),
        ("sec-websocket-extensions", Some("permessage-deflate")),
        ("origin", Some("https://shop.example")),
        ("cookie", None),
        ("content-length", None),
    ] {
        assert_eq!(field(told, name).as_deref(), value, "{name}");
    }
    let identity = field(told, "countersign-identity").unwrap();
    assert!(identity.contains("key=mine; account=mine; venue=main;"), "{identity}");
    assert!(!told.contains("signature="), "{told}");
}

#[tokio::test]
async fn what_either_end_sends_early_is_the_first_that_passes() {
    let site = Site::start().await;
    let mut text = site.handshake("mine", "/ws/eager", FIELDS).into_bytes();
    text.extend(masked(TEXT, b"early"));
    let (stream, head) = site.send(text).await;
    assert_eq!(status(&head), 101);
    let mut socket = Socket(stream);
    assert_eq!(socket.next().await, Some((TEXT, b"first".to_vec())));
    assert_eq!(socket.next().await, Some((TEXT, b"early".to_vec())));
}

#[tokio::test]
async fn a_key_id_alone_and_nothing_at_all_open_the_routes_that_ask_no_more() {
    let site = Site::start().await;
    for (path, fields, key) in
        [("/listen/echo", "X-MBX-APIKEY: mine\r\n", "key=mine;"), ("/open/echo", "", "key=-;")]
    {
        let text = format!("GET {path} HTTP/1.1\r\nHost: h\r\n{FIELDS}{fields}\r\n");
        let (stream, head) = site.send(text).await;
        assert_eq!(status(&head), 101, "{head}");
        Socket(stream).echo(b"hello").await;
        assert!(site.backend.heads().last().unwrap().contains(key));
    }
}

#[tokio::test]
async fn the_same_passes_under_tls() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let tls = format!("tls = {{ cert = \"{}\", key = \"{}\" }}", cert.display(), key.display());
    let site = Site::with("", &tls).await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&cert).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    let socket = TcpStream::connect(site.service.listeners[0]).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = connector.connect(name, socket).await.unwrap();
    stream.write_all(site.handshake("mine", "/ws/echo", FIELDS).as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    assert_eq!(status(&answer(&mut stream).await), 101);
    let mut socket = Socket(stream);
    for size in SIZES {
        socket.echo(&pattern(size)).await;
    }
    site.book.freeze("mine", true);
    assert_eq!(socket.closed().await, Some(1_008));
}

#[tokio::test]
async fn what_passed_is_counted_and_recorded() {
    let site = Site::start().await;
    let mut socket = site.open("mine", "/ws/echo").await;
    socket.echo(&[0; 1_000]).await;
    site.comes_to("websockets{route=\"stream\"}", 1).await;
    socket.send(CLOSE, &1_000_u16.to_be_bytes()).await;
    assert_eq!(socket.closed().await, Some(1_000));
    site.comes_to("websockets{route=\"stream\"}", 0).await;
    // Two frames each way: with their heads, and with masks one way.
    site.comes_to("websocket_bytes_total{from=\"client\",route=\"stream\"}", 1_008 + 8).await;
    site.comes_to("websocket_bytes_total{from=\"backend\",route=\"stream\"}", 1_004 + 4).await;
    let dir = site.state().to_owned();
    let trail = Arc::clone(site.service.trail().unwrap());
    site.service.drain_unless(std::future::ready(())).await;
    drop(trail);
    let mut text = String::new();
    for entry in std::fs::read_dir(dir.join("audit")).unwrap() {
        text += &std::fs::read_to_string(entry.unwrap().path()).unwrap_or_default();
    }
    let lines = |kind: &str| {
        let kind = format!("\"kind\":\"{kind}\"");
        text.lines().filter(|line| line.contains(&kind)).map(str::to_owned).collect::<Vec<_>>()
    };
    let (requests, sockets) = (lines("request"), lines("websocket"));
    assert_eq!((requests.len(), sockets.len()), (1, 1), "{text}");
    assert!(requests[0].contains("\"status\":101"), "{}", requests[0]);
    let json: serde_json::Value = serde_json::from_str(&sockets[0]).unwrap();
    assert_eq!((json["key"].as_str(), json["closed"].as_str()), (Some("mine"), Some("closed")));
    assert_eq!(
        (json["bytes_up"].as_u64(), json["bytes_down"].as_u64()),
        (Some(1_016), Some(1_008))
    );
    let opened: serde_json::Value = serde_json::from_str(&requests[0]).unwrap();
    assert_eq!(json["request"], opened["request"]);
}
