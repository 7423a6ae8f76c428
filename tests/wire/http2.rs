//! HTTP/2, announced by its preface or by TLS; and HTTP/1.1 over TLS.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::{BOUND, Fixture, certificate};

async fn text(reply: Response<Incoming>) -> String {
    String::from_utf8(reply.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

fn request(method: &str, uri: &str, body: &'static str) -> Request<Full<Bytes>> {
    Request::builder().method(method).uri(uri).body(Full::new(body.into())).unwrap()
}

async fn speak(gateway: &Fixture) -> http2::SendRequest<Full<Bytes>> {
    let socket = TcpStream::connect(gateway.address()).await.unwrap();
    let (sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await.unwrap();
    tokio::spawn(connection);
    sender
}

#[tokio::test]
async fn http_2_by_prior_knowledge_is_served_on_one_connection() {
    let gateway = Fixture::start();
    let mut sender = speak(&gateway).await;
    let both = [
        sender.send_request(request("GET", "http://api.test/public", "")),
        sender.send_request(request("POST", "http://api.test/public", "hello")),
    ];
    for (sent, ending) in both.into_iter().zip(["body=0", "body=5"]) {
        let reply = sent.await.unwrap();
        assert_eq!((reply.status(), reply.version()), (StatusCode::OK, Version::HTTP_2));
        assert_eq!(reply.headers()["x-request-id"].len(), 36);
        assert!(text(reply).await.ends_with(ending));
    }
    assert_eq!(gateway.ear.count("opened"), 1);
}

#[tokio::test]
async fn http_2_keeps_the_same_rules() {
    let gateway = Fixture::start();
    let mut sender = speak(&gateway).await;
    let mut ask = async |request| sender.send_request(request).await.unwrap().status().as_u16();
    assert_eq!(ask(request("GET", "http://api.test/nowhere", "")).await, 404);
    assert_eq!(ask(request("GET", "http://api.test/open//a", "")).await, 404);
    assert_eq!(ask(request("GET", "http://api.test/open/%2e%2e/a", "")).await, 400);
    let mut other = request("GET", "http://api.test/public", "");
    other.headers_mut().insert("host", "other".parse().unwrap());
    assert_eq!(ask(other).await, 400);
    let mut underscore = request("GET", "http://api.test/public", "");
    underscore.headers_mut().insert("x_key", "1".parse().unwrap());
    assert_eq!(ask(underscore).await, 400);
    let mut many = request("GET", "http://api.test/public", "");
    for _ in 0..17 {
        many.headers_mut().append("x", "1".parse().unwrap());
    }
    assert_eq!(ask(many).await, 431);
    let large: &'static str = "a".repeat(1_001).leak();
    assert_eq!(ask(request("POST", "http://api.test/public", large)).await, 413);
    assert_eq!(ask(request("GET", "http://api.test/public", "")).await, 200);
    assert_eq!(gateway.ear.count("request Forwarded"), 1);
}

#[tokio::test]
async fn a_head_request_over_http_2_gets_no_body() {
    let gateway = Fixture::start();
    let mut sender = speak(&gateway).await;
    let reply = sender.send_request(request("HEAD", "http://api.test/public", "")).await.unwrap();
    assert_eq!(reply.status(), 200);
    assert_eq!(text(reply).await, "");
}

#[tokio::test]
async fn draining_tells_an_http_2_client_to_go() {
    let gateway = Fixture::with(|config| config.server.drain_timeout = BOUND * 100);
    let mut sender = speak(&gateway).await;
    let reply = sender.send_request(request("GET", "http://api.test/public", "")).await.unwrap();
    assert_eq!(reply.status(), 200);
    tokio::time::timeout(BOUND, gateway.running.drain()).await.unwrap();
    assert!(sender.send_request(request("GET", "http://api.test/public", "")).await.is_err());
}

async fn tls(gateway: &Fixture, certificate: Vec<u8>, alpn: &[&[u8]]) -> TlsStream<TcpStream> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from(certificate)).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let socket = TcpStream::connect(gateway.address()).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, socket).await.unwrap()
}

#[tokio::test]
async fn tls_offers_http_2_first() {
    let (_dir, files, root) = certificate();
    let gateway = Fixture::with(|config| config.listeners[0].tls = Some(files));
    let session = tls(&gateway, root, &[b"http/1.1", b"h2"]).await;
    assert_eq!(session.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(session)).await.unwrap();
    tokio::spawn(connection);
    let reply = sender.send_request(request("GET", "https://localhost/public", "")).await.unwrap();
    assert_eq!(reply.status(), 200);
    drop((reply, sender));
}

#[tokio::test]
async fn tls_serves_http_1_to_whoever_asks_for_it_or_for_nothing() {
    let (_dir, files, root) = certificate();
    let gateway = Fixture::with(|config| config.listeners[0].tls = Some(files));
    for alpn in [&[&b"http/1.1"[..]][..], &[]] {
        let session = tls(&gateway, root.clone(), alpn).await;
        let (mut sender, connection) = http1::handshake(TokioIo::new(session)).await.unwrap();
        tokio::spawn(connection);
        let mut get = request("GET", "/public", "");
        get.headers_mut().insert("host", "localhost".parse().unwrap());
        let reply = sender.send_request(get).await.unwrap();
        assert_eq!(reply.status(), 200);
        assert!(text(reply).await.starts_with("GET /public"));
    }
}
