//! A whole gateway whose store is killed: what it serves, what it refuses, and how it tells.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use countersign::clock::{Clock, SystemClock};
use countersign::config::{Config, Contents, Lookup};
use countersign::dialect::{Credentials, Draft, builtin};
use countersign::key::{Algorithm, Signer};
use countersign::service::Service;
use http::Method;
use tempfile::TempDir;
use zeroize::Zeroizing;

use crate::gateways::{backend, status};
use crate::server::RedisServer;

const SECRET: &str = "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fAT";

/// An environment that holds the one secret, which is the passphrase as well.
struct Environment;

impl Lookup for Environment {
    fn variable(&self, name: &str) -> Option<Zeroizing<String>> {
        (name == "S").then(|| SECRET.to_owned().into())
    }

    fn file(&self, _: &Path) -> std::io::Result<Contents> {
        Err(std::io::ErrorKind::NotFound.into())
    }
}

fn gateway(redis: &RedisServer, backend: SocketAddr, trail: &Path) -> Service {
    let (port, trail) = (redis.port, trail.display());
    let text = format!(
        r#"version = 1
[server]
workers = 1
[[listener]]
name = "public"
address = "127.0.0.1:0"
[admin]
address = "127.0.0.1:0"
[audit]
dir = "{trail}"
[store]
kind = "redis"
[store.redis]
servers = ["127.0.0.1:{port}"]
deadline = "200ms"
gateways = 2
[[upstream]]
name = "exchange"
backends = ["{backend}"]
identity_key = "none"
[[limit]]
name = "account"
quota = 8
per = "1h"
[[route]]
name = "account"
methods = ["GET"]
path = "/api/v5/account"
upstream = "exchange"
dialect = "okx"
when_store_down = "local"
[[route]]
name = "cancel"
methods = ["POST"]
path = "/api/v5/cancel"
upstream = "exchange"
dialect = "okx"
effect = "cancel"
when_store_down = "local"
[[route]]
name = "order"
methods = ["POST"]
path = "/api/v5/order"
upstream = "exchange"
dialect = "okx"
permission = "trade"
[[key]]
id = "one"
account = "alice"
dialect = "okx"
secret = {{ env = "S" }}
passphrase = {{ env = "S" }}
permissions = ["read", "trade"]
limits = ["account"]
"#
    );
    let loaded = Config::parse(&text, Path::new("gateway.toml"), &Environment).unwrap();
    Service::start(loaded.config).unwrap()
}

/// A request, signed now.
fn signed(method: &Method, path: &str, body: &str) -> Vec<u8> {
    let dialect = builtin("okx").unwrap().unwrap();
    let signer = Signer::read(Algorithm::HmacSha256, SECRET.as_bytes()).unwrap();
    let by = Credentials { key_id: "one", signer: &signer, passphrase: Some(SECRET) };
    let draft = Draft {
        method: method.clone(),
        path,
        query: "",
        body,
        host: "h",
        window_ms: None,
        lead_ms: 0,
        nonce: None,
    };
    let sent = dialect.sign(&draft, &by, SystemClock::start().now()).unwrap();
    let mut bytes =
        format!("{method} {} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n", sent.target)
            .into_bytes();
    for (name, value) in &sent.headers {
        bytes.extend(format!("{name}: ").bytes());
        bytes.extend(value.as_bytes());
        bytes.extend(b"\r\n");
    }
    bytes.extend(format!("content-length: {}\r\n\r\n{}", sent.body.len(), sent.body).bytes());
    bytes
}

fn read(number: u32) -> Vec<u8> {
    // No two of one millisecond are alike.
    signed(&Method::GET, &format!("/api/v5/account?n={number}"), "")
}

fn ask(address: SocketAddr, request: &[u8]) -> String {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    socket.write_all(request).unwrap();
    let mut reply = String::new();
    socket.read_to_string(&mut reply).unwrap();
    reply
}

fn admin(gateway: &Service, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    ask(gateway.admin, request.as_bytes())
}

#[test]
#[expect(clippy::too_many_lines, reason = "one outage, from its beginning to its end")]
fn with_its_store_gone_a_gateway_serves_reads_and_cancels_says_so_and_refuses_orders() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut redis = RedisServer::start(&[]);
    let folder = TempDir::new().unwrap();
    let (address, delivered) = backend();
    let gateway = gateway(&redis, address, folder.path());
    let ready = async { tokio::time::timeout(Duration::from_secs(30), gateway.ready()).await };
    runtime.block_on(ready).unwrap();
    let begun = Instant::now();
    let mut number = 0;
    while status(&gateway, &read(number)) != 200 {
        number += 1;
        assert!(begun.elapsed() < Duration::from_secs(30));
    }
    redis.kill();
    delivered.store(0, Ordering::SeqCst);

    let once = read(1_000);
    let reply = ask(gateway.listeners[0], &once);
    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    assert!(reply.contains("x-countersign-judged: local\r\n"), "{reply}");
    assert_ne!(status(&gateway, &once), 200, "a copy of it");
    let cancel = signed(&Method::POST, "/api/v5/cancel", r#"{"id":"1"}"#);
    assert_eq!(status(&gateway, &cancel), 200);
    for number in 0..4 {
        let order = signed(&Method::POST, "/api/v5/order", &format!(r#"{{"n":"{number}"}}"#));
        let reply = ask(gateway.listeners[0], &order);
        assert!(reply.starts_with("HTTP/1.1 503"), "{reply}");
        assert!(!reply.contains("x-countersign-judged"), "{reply}");
    }
    // Half of eight an hour, of which two are spent.
    for number in 2_000..2_002 {
        assert_eq!(status(&gateway, &read(number)), 200);
    }
    assert_eq!(status(&gateway, &read(3_000)), 429);
    assert_eq!(delivered.load(Ordering::SeqCst), 4);

    let metrics = admin(&gateway, "/metrics");
    for line in [
        "countersign_shared_store_local_total{outcome=\"accepted\"} 4",
        "countersign_shared_store_local_total{outcome=\"over\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    // It is looked at four times a second.
    let begun = Instant::now();
    while !admin(&gateway, "/readyz").starts_with("HTTP/1.1 503") {
        assert!(begun.elapsed() < Duration::from_secs(30));
    }
    redis.restart();
    let begun = Instant::now();
    let mut number = 4_000;
    loop {
        let reply = ask(
            gateway.listeners[0],
            &signed(&Method::POST, "/api/v5/order", &format!(r#"{{"n":"{number}"}}"#)),
        );
        if reply.starts_with("HTTP/1.1 200") {
            assert!(!reply.contains("x-countersign-judged"), "{reply}");
            break;
        }
        number += 1;
        assert!(begun.elapsed() < Duration::from_secs(30), "{reply}");
        std::thread::sleep(Duration::from_millis(20));
    }
    runtime.block_on(gateway.drain_unless(std::future::pending()));
    let mut judged = 0;
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let text = std::fs::read(entry.unwrap().path()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        judged += text.matches("\"judged\":\"local\"").count();
    }
    assert_eq!(judged, 4, "in the audit trail");
}
