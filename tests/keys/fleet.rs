//! Gateways in this process that share one registry, a backend behind them, and clients that sign.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use countersign::clock::{Clock, SystemClock};
use countersign::config::{Config, System};
use countersign::dialect::{Credentials, Dialect, Draft, builtin};
use countersign::key::{Algorithm, Signer};
use countersign::registry::book::Registry;
use countersign::service::{Service, Source};
use http::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::world::{SECRET, open_key};

/// Only a failure waits so long.
pub(crate) const BOUND: Duration = Duration::from_secs(20);

/// A gateway over `registry` that sends everything to `backend`.
pub(crate) async fn gateway(registry: Arc<dyn Registry>, backend: SocketAddr) -> Service {
    gateway_with(registry, backend, "").await
}

/// The same with some more of a configuration.
pub(crate) async fn gateway_with(
    registry: Arc<dyn Registry>,
    backend: SocketAddr,
    more: &str,
) -> Service {
    let text = format!(
        r#"
        version = 1
        {more}
        [server]
        workers = 1
        [[listener]]
        name = "public"
        address = "127.0.0.1:0"
        [admin]
        address = "127.0.0.1:0"
        [[upstream]]
        name = "exchange"
        backends = ["{backend}"]
        identity_key = "none"
        response_timeout = "30s"
        [[route]]
        name = "orders"
        methods = ["GET"]
        path = "/api/v3/{{what}}"
        upstream = "exchange"
        dialect = "binance"
        permission = "read"
        effect = "read"
        "#
    );
    let config = Config::parse(&text, Path::new("test.toml"), &System);
    let config = config.unwrap_or_else(|refused| panic!("{refused}")).config;
    let service = Service::start_over(config, Some(Source { registry, open: open_key() })).unwrap();
    service.ready().await;
    let informed = async {
        while !service.gate().keys.is_informed() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(BOUND, informed).await.expect("it reaches the registry");
    service
}

/// Answers everything at once, but for paths that end in `hang`, and in `stall` after the first bytes of the body.
pub(crate) async fn backend() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(answer(socket));
        }
    });
    address
}

async fn answer(mut socket: TcpStream) {
    let mut come = Vec::new();
    while let Ok(1..) = socket.read_buf(&mut come).await {
        if !come.ends_with(b"\r\n\r\n") {
            continue;
        }
        let head = String::from_utf8(std::mem::take(&mut come)).unwrap();
        let path = head.split(['?', ' ']).nth(1).unwrap();
        let reply = match path.rsplit('/').next().unwrap() {
            "hang" => continue,
            "stall" => "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nfirst bytes",
            _ => "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
        };
        if socket.write_all(reply.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Signs requests, each unlike every other.
pub(crate) struct Signatory {
    dialect: Dialect,
    signer: Signer,
    clock: SystemClock,
    sent: AtomicU64,
}

impl Signatory {
    pub(crate) fn new() -> Self {
        Self {
            dialect: builtin("binance").unwrap().unwrap(),
            signer: Signer::read(Algorithm::HmacSha256, SECRET.as_bytes()).unwrap(),
            clock: SystemClock::start(),
            sent: AtomicU64::new(0),
        }
    }

    /// Target and header fields of a new request to `path`.
    pub(crate) fn sign(&self, key_id: &str, path: &str) -> (String, Vec<(String, String)>) {
        let number = self.sent.fetch_add(1, Ordering::Relaxed);
        let draft = Draft {
            method: Method::GET,
            path,
            query: &format!("n={number}"),
            body: "",
            host: "h",
            window_ms: None,
            lead_ms: 5_000,
            nonce: None,
        };
        let by = Credentials { key_id, signer: &self.signer, passphrase: None };
        let signed = self.dialect.sign(&draft, &by, self.clock.now()).unwrap();
        let text = |(name, value): (http::HeaderName, http::HeaderValue)| {
            (name.to_string(), value.to_str().unwrap().to_owned())
        };
        (signed.target, signed.headers.into_iter().map(text).collect())
    }

    /// The same as bytes of HTTP/1.1.
    pub(crate) fn write(&self, key_id: &str, path: &str) -> Vec<u8> {
        let (target, headers) = self.sign(key_id, path);
        let mut text = format!("GET {target} HTTP/1.1\r\nhost: h\r\n");
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        (text + "\r\n").into()
    }
}

/// The status of the next answer on a connection; its body is read.
pub(crate) async fn status(stream: &mut TcpStream) -> Option<u16> {
    let mut held = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&held).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.to_lowercase();
            let length = length.split("content-length: ").nth(1).unwrap();
            let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
            if body.len() >= length {
                return head.split(' ').nth(1).unwrap().parse().ok();
            }
        }
        if stream.read_buf(&mut held).await.ok()? == 0 {
            return None;
        }
    }
}
