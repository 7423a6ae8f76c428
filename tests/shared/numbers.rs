//! Whole gateways in front of a dialect that signs a growing number and no time, over Redis and PostgreSQL.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use countersign::clock::{Clock, SystemClock};
use countersign::config::{Config, Contents, Lookup};
use countersign::dialect::{Credentials, Draft, builtin};
use countersign::key::Algorithm;
use countersign::registry::postgres::Postgres;
use countersign::service::Service;
use http::Method;
use zeroize::Zeroizing;

use crate::gateways::{backend, status};
use crate::nodes::Nodes;
use crate::postgres::{Server, blocking, patient};
use crate::server::RedisServer;

const SECRET: &str =
    "kQH5HW/8p1uGOVjbgWA7FunAmGO8lsSUXNsu3eow76sz84Q18fWxnyRzBHCd3pd5nE9qa99HAZtuZuj6F1huXg==";

/// An environment that holds the secret, and where the registry is.
struct Environment(String);

impl Lookup for Environment {
    fn variable(&self, name: &str) -> Option<Zeroizing<String>> {
        match name {
            "S" => Some(SECRET.to_owned().into()),
            "R" => Some(self.0.clone().into()),
            _ => None,
        }
    }

    fn file(&self, _: &Path) -> std::io::Result<Contents> {
        Err(std::io::ErrorKind::NotFound.into())
    }
}

fn text(servers: &str, backend: SocketAddr, registry: &str, dialect: &str) -> String {
    format!(
        r#"version = 1
[[listener]]
name = "public"
address = "127.0.0.1:0"
[admin]
address = "127.0.0.1:0"
[store]
kind = "redis"
[store.redis]
{servers}
deadline = "1s"
[registry]
{registry}
[[upstream]]
name = "exchange"
backends = ["{backend}"]
identity_key = "none"
[[route]]
name = "order-place"
methods = ["POST"]
path = "/0/private/AddOrder"
upstream = "exchange"
dialect = "{dialect}"
permission = "trade"
[[key]]
id = "one"
account = "alice"
dialect = "{dialect}"
secret = {{ env = "S" }}
permissions = ["trade"]
"#
    )
}

const TABLES: &str =
    "kind = \"postgres\"\nurl = { env = \"R\" }\ntimeout = \"30s\"\nconnect_timeout = \"30s\"";

/// What says that there is one server, at this port.
fn at(port: u16) -> String {
    format!("servers = [\"127.0.0.1:{port}\"]")
}

fn gateway(servers: &str, backend: SocketAddr, url: &str) -> Service {
    let text = text(servers, backend, TABLES, "kraken");
    let environment = Environment(url.to_owned());
    let loaded = Config::parse(&text, Path::new("gateway.toml"), &environment).unwrap();
    Service::start(loaded.config).unwrap()
}

/// An order with this number as its nonce.
fn order(number: u64) -> Vec<u8> {
    let dialect = builtin("kraken").unwrap().unwrap();
    let signer = dialect.read_signer(Algorithm::HmacSha512, SECRET.as_bytes()).unwrap();
    let by = Credentials { key_id: "one", signer: &signer, passphrase: None };
    let number = number.to_string();
    let draft = Draft {
        method: Method::POST,
        path: "/0/private/AddOrder",
        query: "",
        body: "pair=XBTUSD&type=buy&ordertype=limit&volume=0.01&price=20000.5",
        host: "h",
        window_ms: None,
        lead_ms: 0,
        nonce: Some(&number),
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

fn milliseconds() -> u64 {
    SystemClock::start().now().as_millis()
}

#[test]
fn an_order_with_a_growing_nonce_passes_once_over_two_gateways_and_after_a_loss() {
    let redis = RedisServer::start(&[]);
    passes_once(&at(redis.port), || drop(redis.run(&["FLUSHALL"])));
}

#[test]
fn an_order_with_a_growing_nonce_passes_once_over_a_cluster_whose_primaries_are_all_replaced() {
    let nodes = Nodes::start();
    let servers =
        nodes.ports().iter().map(|port| format!("\"127.0.0.1:{port}\"")).collect::<Vec<_>>();
    let servers = format!("topology = \"cluster\"\nservers = [{}]", servers.join(", "));
    passes_once(&servers, || {
        for replica in 3..6 {
            drop(nodes.all[replica].run(&["CLUSTER", "FAILOVER", "TAKEOVER"]));
        }
    });
}

/// Orders pass once each over two gateways, and none again after the servers lose what they knew.
fn passes_once(servers: &str, lose: impl FnOnce()) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let tables = Server::start(&["fsync=off"]);
    let url = runtime.block_on(tables.empty_database());
    let (address, delivered) = backend();
    runtime.block_on(blocking(&patient(&url), |options| Postgres::migrate(&options))).unwrap();
    let gateways = [(); 2].map(|()| gateway(servers, address, &url));
    for gateway in &gateways {
        let ready = async { tokio::time::timeout(Duration::from_secs(30), gateway.ready()).await };
        runtime.block_on(ready).unwrap();
    }
    let count = || delivered.load(Ordering::SeqCst);
    // The backend's answer is the only one with this body; the exchange refuses with 200 as well.
    let passes = |gateway: &Service, order: &[u8]| {
        let before = count();
        status(gateway, order);
        count() > before
    };
    // A lookup may be under way still; the first order that passes begins the count.
    let begun = Instant::now();
    while !passes(&gateways[0], &order(milliseconds())) {
        assert!(begun.elapsed() < Duration::from_secs(30));
    }
    let mut last = Vec::new();
    for round in 0..5 {
        let once = order(milliseconds() + 1);
        std::thread::sleep(Duration::from_millis(5));
        let [first, second] = [&gateways[round % 2], &gateways[(round + 1) % 2]];
        assert!(passes(first, &once), "{round}");
        assert!(!passes(second, &once), "{round}");
        assert!(!passes(first, &once), "{round}");
        last = once;
    }
    lose();
    // What lies far enough ahead passes once the servers know of the loss; what came before never.
    let begun = Instant::now();
    let mut ahead = 20_000;
    while !passes(&gateways[1], &order(milliseconds() + ahead)) {
        assert!(!passes(&gateways[0], &last) && !passes(&gateways[1], &last));
        assert!(begun.elapsed() < Duration::from_secs(30));
        ahead += 10;
    }
    assert!(!passes(&gateways[0], &last));
    for gateway in gateways {
        runtime.block_on(gateway.drain_unless(std::future::pending()));
    }
}

#[test]
fn without_a_registry_that_gateways_share_numbers_are_refused_at_load_and_unique_nonces_always() {
    let address = ([127, 0, 0, 1], 1).into();
    let environment = Environment("postgres://u@127.0.0.1/d?sslmode=disable".to_owned());
    let refusal = |servers: &str, registry: &str, dialect: &str| {
        let text = text(servers, address, registry, dialect);
        let loaded = Config::parse(&text, Path::new("gateway.toml"), &environment);
        loaded.map_or_else(|refused| refused.to_string(), |_| String::new())
    };
    let clustered = format!("topology = \"cluster\"\n{}", at(1));
    for servers in [at(1), clustered] {
        for registry in ["", "path = \"registry.redb\""] {
            let said = refusal(&servers, registry, "kraken");
            let cause = "dialect kraken signs no time, and its growing numbers need a registry that all gateways share";
            assert!(said.contains(cause) && said.contains("kind = \"postgres\""), "{said}");
        }
        assert_eq!(refusal(&servers, TABLES, "kraken"), "");
        for registry in ["", TABLES] {
            let said = refusal(&servers, registry, "upbit");
            assert!(said.contains("dialect upbit signs no time"), "{said}");
            assert!(said.contains("kind = \"memory\""), "{said}");
        }
    }
}
