//! Signed replies, checked as Bitstamp's documentation says, by code that knows nothing of the recipe.

use std::time::Duration;

use bytes::Bytes;
use countersign::clock::Micros;
use countersign::dialect::{Credentials, Draft, SignedRequest};
use countersign::key::{Algorithm, Signer};
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use sha2::Sha256;
use tokio::net::TcpStream;

use crate::support::{Fixture, NOW, SECRET, dialect, trickle, upstream};

fn signed(path: &str) -> SignedRequest {
    let draft = Draft {
        method: Method::POST,
        path,
        query: "",
        body: "offset=1",
        host: "api.test",
        window_ms: None,
        lead_ms: 5_000,
        nonce: None,
    };
    let signer = Signer::read(Algorithm::HmacSha256, SECRET).unwrap();
    let by = Credentials { key_id: "bitstamp-key", signer: &signer, passphrase: None };
    dialect("bitstamp").sign(&draft, &by, Micros(NOW.0)).unwrap()
}

/// Sends it over HTTP/1.1 or HTTP/2, and returns the reply's fields and body.
async fn ask(gateway: &Fixture, request: &SignedRequest, version: u8) -> (HeaderMap, Bytes) {
    let uri = if version == 2 { "http://api.test" } else { "" };
    let mut asked = Request::builder().method("POST").uri(format!("{uri}{}", request.target));
    asked = asked.header("accept-encoding", "gzip");
    if version == 1 {
        asked = asked.header("host", "api.test");
    }
    for (name, value) in &request.headers {
        asked = asked.header(name, value);
    }
    let asked = asked.body(Full::new(Bytes::from(request.body.clone()))).unwrap();
    let socket = TokioIo::new(TcpStream::connect(gateway.address()).await.unwrap());
    let reply = if version == 1 {
        let (mut sender, connection) = http1::handshake(socket).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(asked).await.unwrap()
    } else {
        let (mut sender, connection) =
            http2::handshake(TokioExecutor::new(), socket).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(asked).await.unwrap()
    };
    let (head, body) = reply.into_parts();
    (head.headers, body.collect().await.unwrap().to_bytes())
}

/// `string_to_sign = (nonce + timestamp + r.headers.get('Content-Type')).encode('utf-8') + r.content`, as the
/// exchange's own example in Python has it.
fn expected(request: &SignedRequest, fields: &HeaderMap, body: &[u8]) -> String {
    let sent =
        |name: &str| request.headers.iter().find(|(known, _)| known == name).unwrap().1.clone();
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET).unwrap();
    mac.update(sent("x-auth-nonce").as_bytes());
    mac.update(sent("x-auth-timestamp").as_bytes());
    mac.update(fields["content-type"].as_bytes());
    mac.update(body);
    data_encoding::HEXLOWER.encode(&mac.finalize().into_bytes())
}

#[tokio::test]
async fn replies_are_signed_as_bitstamps_clients_check_them_on_both_fronts() {
    let gateway = Fixture::start();
    for version in [1, 2] {
        let request = signed("/api/v2/balance/");
        let (fields, body) = ask(&gateway, &request, version).await;
        let text = std::str::from_utf8(&body).unwrap();
        assert!(text.starts_with("POST /api/v2/balance/ key=bitstamp-key"), "{text}");
        // What a client has decompressed is not what was signed.
        assert_eq!(fields["x-may-encode"], "false");
        let signature = fields["x-server-auth-signature"].to_str().unwrap();
        assert_eq!(signature, expected(&request, &fields, &body), "HTTP/{version}");
        assert_ne!(signature, expected(&signed("/api/v2/balance/"), &fields, &body));
    }
}

#[tokio::test]
async fn a_reply_too_long_to_be_held_back_goes_on_whole_and_unsigned() {
    let gateway = Fixture::start();
    for version in [1, 2] {
        let (fields, body) = ask(&gateway, &signed("/api/v2/large"), version).await;
        assert!(body.len() > 5 << 20 && body.ends_with(b"xxx"), "{}", body.len());
        assert!(!fields.contains_key("x-server-auth-signature"));
    }
}

#[tokio::test]
async fn a_reply_that_comes_slowly_goes_on_whole_and_signed_however_long_it_takes() {
    let gap = Duration::from_millis(100);
    let piece = "x".repeat(256 << 10);
    let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";
    let mut pieces = vec![head.to_owned()];
    pieces.resize(15, format!("{:x}\r\n{piece}\r\n", piece.len()));
    pieces.push("0\r\n\r\n".to_owned());
    let backend = trickle(pieces, gap).await;
    let gateway = Fixture::with(|config| {
        config.server.idle_timeout = gap * 10;
        config.upstreams = [upstream(backend), upstream(backend)].into();
    });
    for version in [1, 2] {
        let (fields, body) = ask(&gateway, &signed("/api/v2/balance/"), version).await;
        assert_eq!(body.len(), piece.len() * 14, "HTTP/{version}");
        assert!(fields.contains_key("x-server-auth-signature"));
    }
}

#[tokio::test]
async fn refusals_are_not_signed() {
    let gateway = Fixture::start();
    let mut request = signed("/api/v2/balance/");
    request.body = "offset=2".to_owned();
    let (fields, _) = ask(&gateway, &request, 1).await;
    assert!(!fields.contains_key("x-server-auth-signature"));
}
