//! Keys that are issued over the admin API of a running gateway, to what that gateway lets them do.

use std::net::SocketAddr;
use std::path::Path;

use countersign::clock::{Clock as _, SystemClock};
use countersign::config::{Config, System};
use countersign::dialect::{Credentials, Draft, builtin};
use countersign::key::{Algorithm, Signer};
use countersign::service::Service;
use http::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::fleet::{backend, status};

const TOKEN: &str = "csa_of_the_tests_of_the_tests_of_the_tests";

async fn gateway(backend: SocketAddr, directory: &Path) -> Service {
    let token = directory.join("token");
    std::fs::write(&token, TOKEN).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&token, mode).unwrap();
    let text = format!(
        r#"
        version = 1
        [server]
        workers = 1
        [[listener]]
        name = "public"
        address = "127.0.0.1:0"
        [admin]
        address = "127.0.0.1:0"
        [[admin.token]]
        name = "ann"
        role = "security"
        token = {{ file = "{}" }}
        [[limit]]
        name = "three"
        quota = 3
        per = "24h"
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
        symbol = {{ parameter = "symbol" }}
        "#,
        token.display()
    );
    let config = Config::parse(&text, Path::new("test.toml"), &System);
    let config = config.unwrap_or_else(|refused| panic!("{refused}")).config;
    let service = Service::start(config).unwrap();
    service.ready().await;
    service
}

/// Calls the admin API.
async fn call(service: &Service, method: &str, path: &str, body: &Value) -> Value {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let kind = if body.is_empty() { "" } else { "content-type: application/json\r\n" };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\nauthorization: Bearer {TOKEN}\r\n\
         {kind}content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(service.admin).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 20"), "{answer}");
    serde_json::from_str(body).unwrap()
}

/// What becomes of an order that the key signs.
async fn order(service: &Service, made: &Value, query: &str) -> u16 {
    let text = |name: &str| made[name].as_str().unwrap();
    let signer = Signer::read(Algorithm::HmacSha256, text("secret").as_bytes()).unwrap();
    let draft = Draft {
        method: Method::POST,
        path: "/api/v3/order",
        query,
        body: "",
        host: "h",
        window_ms: None,
        lead_ms: 5_000,
        nonce: None,
    };
    let dialect = builtin("binance").unwrap().unwrap();
    let by = Credentials { key_id: text("id"), signer: &signer, passphrase: None };
    let sent = dialect.sign(&draft, &by, SystemClock::start().now()).unwrap();
    let mut request = format!("POST {} HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n", sent.target);
    for (name, value) in &sent.headers {
        request += &format!("{name}: {}\r\n", value.to_str().unwrap());
    }
    let mut stream = TcpStream::connect(service.listeners[0]).await.unwrap();
    stream.write_all((request + "\r\n").as_bytes()).await.unwrap();
    status(&mut stream).await.expect("it answers")
}

#[tokio::test]
async fn limits_and_symbols_of_an_issued_key_bind_it_and_follow_its_changes() {
    let directory = tempfile::tempdir().unwrap();
    let service = gateway(backend().await, directory.path()).await;
    let terms = |more: Value| {
        let mut terms = json!({"account": "ann", "dialect": "binance", "permissions": ["trade"]});
        terms.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        terms
    };
    let bound = terms(json!({"limits": ["three"], "symbols": ["BTCUSDT"]}));
    let bound = call(&service, "POST", "/v1/keys", &bound).await;
    assert_eq!(bound["key"]["symbols"], json!(["BTCUSDT"]));
    let other = terms(json!({"limits": ["three"]}));
    let other = call(&service, "POST", "/v1/keys", &other).await;
    let free = call(&service, "POST", "/v1/keys", &terms(json!({}))).await;

    // What is refused for its symbol spends nothing of the limit.
    for n in 0..5 {
        let eth = format!("symbol=ETHUSDT&n={n}");
        assert_eq!(order(&service, &bound, &eth).await, 401, "{n}");
    }
    let mut n = 100;
    let mut many = async |made: &Value, count: usize| {
        let mut statuses = Vec::new();
        for _ in 0..count {
            n += 1;
            statuses.push(order(&service, made, &format!("symbol=BTCUSDT&n={n}")).await);
        }
        statuses
    };
    assert_eq!(many(&bound, 5).await, [200, 200, 200, 429, 429]);
    assert_eq!(many(&other, 4).await, [200, 200, 200, 429], "each key has its own");
    assert_eq!(many(&free, 10).await, [200; 10], "control: without the limit none is refused");
    assert_eq!(order(&service, &free, "symbol=ETHUSDT&n=1").await, 200, "control: any symbol");

    // A change binds once the gateway has heard of it, which is before it answers the next request or soon after.
    let path = format!("/v1/keys/{}", bound["id"].as_str().unwrap());
    let wanted = json!({"limits": [], "symbols": ["ETHUSDT"]});
    let changed = call(&service, "PATCH", &path, &wanted).await;
    assert_eq!(changed["symbols"], json!(["ETHUSDT"]));
    let revision = call(&service, "GET", "/v1/gateway", &Value::Null).await["revision"].as_u64();
    let applied = async {
        while service.gate().keys.revision() < revision {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(crate::fleet::BOUND, applied).await.unwrap();
    assert_eq!(order(&service, &bound, "symbol=ETHUSDT&n=99").await, 200);
    assert_eq!(order(&service, &bound, "symbol=BTCUSDT&n=99").await, 401);
    service.drain_unless(std::future::ready(())).await;
}
