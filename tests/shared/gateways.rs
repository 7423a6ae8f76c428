//! Two gateways on one Redis: what one let through, the other does not.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use countersign::clock::{Clock, SystemClock};
use countersign::config::{Config, Contents, Lookup};
use countersign::dialect::{Credentials, Draft, builtin};
use countersign::key::{Algorithm, Signer};
use countersign::service::Service;
use http::Method;
use zeroize::Zeroizing;

use crate::server::RedisServer;

const SECRET: &str = "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fAT";

/// An environment that holds the one secret.
struct Environment;

impl Lookup for Environment {
    fn variable(&self, name: &str) -> Option<Zeroizing<String>> {
        (name == "S").then(|| SECRET.to_owned().into())
    }

    fn file(&self, _: &Path) -> std::io::Result<Contents> {
        Err(std::io::ErrorKind::NotFound.into())
    }
}

fn gateway(redis: &RedisServer, backend: SocketAddr) -> Service {
    let port = redis.port;
    let text = format!(
        r#"version = 1
[[listener]]
name = "public"
address = "127.0.0.1:0"
[admin]
address = "127.0.0.1:0"
[store]
kind = "redis"
[store.redis]
servers = ["127.0.0.1:{port}"]
deadline = "1s"
[[upstream]]
name = "exchange"
backends = ["{backend}"]
identity_key = "none"
[[limit]]
name = "account"
quota = 6
per = "1h"
[[route]]
name = "order-place"
methods = ["POST"]
path = "/api/v3/order"
upstream = "exchange"
dialect = "binance"
permission = "trade"
[[key]]
id = "one"
account = "alice"
dialect = "binance"
secret = {{ env = "S" }}
permissions = ["trade"]
limits = ["account"]
"#
    );
    let loaded = Config::parse(&text, Path::new("gateway.toml"), &Environment).unwrap();
    Service::start(loaded.config).unwrap()
}

/// A backend that counts what it gets.
pub(crate) fn backend() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, count) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&count);
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let (mut socket, counted) = (socket.unwrap(), Arc::clone(&counted));
            std::thread::spawn(move || {
                let mut held = [0; 4_096];
                // Each order is short enough to come at once.
                while socket.read(&mut held).is_ok_and(|length| length > 0) {
                    counted.fetch_add(1, Ordering::SeqCst);
                    let reply = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
                    if socket.write_all(reply).is_err() {
                        break;
                    }
                }
            });
        }
    });
    (address, count)
}

/// An order, signed now.
fn order(number: u32) -> Vec<u8> {
    let dialect = builtin("binance").unwrap().unwrap();
    let signer = Signer::read(Algorithm::HmacSha256, SECRET.as_bytes()).unwrap();
    let by = Credentials { key_id: "one", signer: &signer, passphrase: None };
    let draft = Draft {
        method: Method::POST,
        path: "/api/v3/order",
        query: "",
        body: &format!("symbol=BTCUSDT&n={number}"),
        host: "h",
        window_ms: None,
        lead_ms: 0,
        nonce: None,
    };
    let sent = dialect.sign(&draft, &by, SystemClock::start().now()).unwrap();
    let mut bytes =
        format!("POST {} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n", sent.target).into_bytes();
    for (name, value) in &sent.headers {
        bytes.extend(format!("{name}: ").bytes());
        bytes.extend(value.as_bytes());
        bytes.extend(b"\r\n");
    }
    bytes.extend(format!("content-length: {}\r\n\r\n{}", sent.body.len(), sent.body).bytes());
    bytes
}

pub(crate) fn status(gateway: &Service, request: &[u8]) -> u16 {
    let mut socket = TcpStream::connect(gateway.listeners[0]).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    socket.write_all(request).unwrap();
    let mut reply = String::new();
    socket.read_to_string(&mut reply).unwrap();
    reply.split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn two_gateways_let_an_order_through_once_and_count_one_limit() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let redis = RedisServer::start(&[]);
    let (address, delivered) = backend();
    let gateways = [gateway(&redis, address), gateway(&redis, address)];
    for gateway in &gateways {
        let ready = async { tokio::time::timeout(Duration::from_secs(30), gateway.ready()).await };
        runtime.block_on(ready).unwrap();
    }
    // A lookup may be under way still; the first order that passes begins the count.
    let begun = Instant::now();
    let mut number = 0;
    while status(&gateways[0], &order(number)) != 200 {
        number += 1;
        assert!(begun.elapsed() < Duration::from_secs(30));
    }
    assert_eq!(delivered.load(Ordering::SeqCst), 1);
    for round in 1..6 {
        let once = order(1_000 + round);
        let [first, second] = [&gateways[round as usize % 2], &gateways[(round as usize + 1) % 2]];
        assert_eq!(status(first, &once), 200, "{round}");
        assert_ne!(status(second, &once), 200, "{round}");
        assert_ne!(status(first, &once), 200, "{round}");
    }
    for gateway in &gateways {
        assert_eq!(status(gateway, &order(2_000)), 429, "six an hour, of both together");
    }
    assert_eq!(delivered.load(Ordering::SeqCst), 6);
    for gateway in gateways {
        runtime.block_on(gateway.drain_unless(std::future::pending()));
    }
}
