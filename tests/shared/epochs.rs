//! A gateway that hears nothing of the registry is refused in the shared store, because another one has told it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign::clock::{Clock as _, SystemClock};
use countersign::config::{Config, System};
use countersign::dialect::{Credentials, Draft, builtin};
use countersign::key::sealing::MasterKeys;
use countersign::key::{Algorithm, Signer};
use countersign::registrar::{Act, Actor, Issued, NewApplication, NewKey, Registrar};
use countersign::registry::book::Registry;
use countersign::registry::embedded::Embedded;
use countersign::registry::opened::{KeyOpener, Names};
use countersign::service::{Service, Source};
use http::Method;

use crate::deaf::Deaf;
use crate::gateways::{backend, status};
use crate::server::RedisServer;

fn config(redis: &RedisServer, backend: SocketAddr) -> Config {
    let port = redis.port;
    let text = format!(
        r#"version = 1
[server]
workers = 1
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
[[route]]
name = "order-place"
methods = ["POST"]
path = "/api/v3/order"
upstream = "exchange"
dialect = "binance"
permission = "trade"
key_max_age = "1h"
"#
    );
    Config::parse(&text, Path::new("gateway.toml"), &System).unwrap().config
}

/// An order, signed now.
fn order(issued: &Issued, number: u32) -> Vec<u8> {
    let secret = issued.secret.as_ref().unwrap();
    let signer = Signer::read(Algorithm::HmacSha256, secret.reveal().as_bytes()).unwrap();
    let by = Credentials { key_id: &issued.key.id, signer: &signer, passphrase: None };
    let draft = Draft {
        method: Method::POST,
        path: "/api/v3/order",
        query: &format!("n={number}"),
        body: "",
        host: "h",
        window_ms: None,
        lead_ms: 0,
        nonce: None,
    };
    let dialect = builtin("binance").unwrap().unwrap();
    let sent = dialect.sign(&draft, &by, SystemClock::start().now()).unwrap();
    let mut text = format!("POST {} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n", sent.target);
    for (name, value) in &sent.headers {
        text += &format!("{name}: {}\r\n", value.to_str().unwrap());
    }
    (text + "content-length: 0\r\n\r\n").into_bytes()
}

/// Sends orders until one has this status.
fn comes_to(gateway: &Service, key: &Issued, number: &mut u32, wanted: u16) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(20) {
        *number += 1;
        if status(gateway, &order(key, *number)) == wanted {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}

/// Keys of ann, of bob for an application, and of cat.
async fn issue(registrar: &Registrar, act: &Act<'_>) -> [Issued; 3] {
    let bots = NewApplication {
        name: "bots".into(),
        permissions: vec!["trade".into()],
        ..NewApplication::default()
    };
    registrar.create_application(act, bots).await.unwrap();
    let issue = async |account: &str, application: Option<&str>| {
        let new = NewKey {
            account: account.into(),
            application: application.map(str::to_owned),
            dialect: "binance".into(),
            permissions: vec!["trade".into()],
            ..NewKey::default()
        };
        registrar.issue(act, new).await.unwrap()
    };
    [issue("ann", None).await, issue("bob", Some("bots")).await, issue("cat", None).await]
}

#[test]
fn a_frozen_account_and_a_stopped_application_bind_where_nobody_hears_of_them() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let redis = RedisServer::start(&[]);
    let (address, _) = backend();
    let registry: Arc<dyn Registry> = Arc::new(Embedded::in_memory().unwrap());
    let masters = MasterKeys::gather(None, None).unwrap();
    let names = Arc::new(Names::of(&config(&redis, address)));
    let opener = KeyOpener { masters: masters.clone(), names: Arc::clone(&names) };
    let clock = Arc::new(SystemClock::start());
    let registrar = Registrar::new(Arc::clone(&registry), masters, names, clock, None);
    let deaf = Arc::new(Deaf::to(Arc::clone(&registry)));
    let start = |registry: Arc<dyn Registry>| {
        let service = Service::start_over(
            config(&redis, address),
            Some(Source::of(registry, opener.clone())),
        );
        let service = service.unwrap();
        let ready = async { tokio::time::timeout(Duration::from_secs(30), service.ready()).await };
        runtime.block_on(ready).unwrap();
        service
    };
    let (hears, does_not) = (start(registry), start(Arc::<Deaf>::clone(&deaf)));

    let actor = Actor { name: "ann".into() };
    let act = Act::by(&actor);
    let keys = runtime.block_on(issue(&registrar, &act));
    let mut number = 0;
    for key in &keys {
        for gateway in [&hears, &does_not] {
            assert!(comes_to(gateway, key, &mut number, 200));
        }
    }
    deaf.stop_hearing();
    runtime.block_on(registrar.freeze(&act, "ann")).unwrap();
    runtime.block_on(registrar.stop(&act, "bots")).unwrap();
    for key in &keys[..2] {
        assert!(comes_to(&does_not, key, &mut number, 400), "the store knows");
    }
    number += 1;
    assert_eq!(status(&does_not, &order(&keys[2], number)), 200, "control: nobody else is stopped");

    // Whoever hears of it lets them go on when they may.
    runtime.block_on(registrar.unfreeze(&act, "ann")).unwrap();
    runtime.block_on(registrar.start(&act, "bots")).unwrap();
    for key in &keys {
        assert!(comes_to(&hears, key, &mut number, 200));
    }
    for gateway in [hears, does_not] {
        runtime.block_on(gateway.drain_unless(std::future::ready(())));
    }
}
