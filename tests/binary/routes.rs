//! Public, key and signed routes as the configuration has them, and what of a request reaches the backend.

use http::Method;

use crate::backend::Backend;
use crate::client::{Answer, Call, Client, now, send, send_chunked};
use crate::program::Served;
use crate::world::{File, VARIABLES, base, client, key};

const ROUTES: &str = r#"
[[route]]
name = "time"
methods = ["GET"]
path = "/api/v3/time"
answer = "time-binance"

[[route]]
name = "first"
methods = ["GET"]
path = "/api/v3/depth"
upstream = "exchange"
ask = "public"

[[route]]
name = "listen"
methods = ["POST"]
path = "/api/v3/userDataStream"
upstream = "exchange"
ask = "key"
dialect = "binance"
effect = "read"

[[route]]
name = "either"
methods = ["DELETE"]
path = "/api/v3/order"
upstream = "exchange"
dialect = "binance"
effect = "cancel"
permission = ["cancel", "trade"]

[[route]]
name = "order"
methods = ["POST"]
path = "/api/v3/order"
upstream = "exchange"
dialect = "binance"
permission = "trade"
body_cap = "1KiB"

[[route]]
name = "rest"
methods = ["GET"]
path = "/api/v3/**"
upstream = "exchange"
dialect = "binance"
"#;

struct Gateway {
    served: Served,
    backend: Backend,
    _file: File,
}

impl Gateway {
    fn start() -> Self {
        let backend = Backend::start();
        let mut more = ROUTES.to_owned();
        for (id, extra) in [
            ("good", ""),
            ("reader", "permissions = [\"read\"]"),
            ("canceller", "permissions = [\"cancel\"]"),
            ("bound", "allowlist = [\"203.0.113.7\"]"),
            ("revoked", "state = \"revoked\""),
        ] {
            more.push_str(&key("binance", id, extra));
        }
        let server = "trusted_proxies = [\"127.0.0.1/32\"]";
        let file = File::new(&base(server, &[backend.address], &more));
        Self { served: Served::ready(&file.path(), &VARIABLES), backend, _file: file }
    }

    fn ask(&self, call: &Call) -> Answer {
        send(self.served.address(), call)
    }

    fn count(&self) -> usize {
        self.backend.seen().len()
    }
}

fn by(key: &str) -> Client<'_> {
    client("binance", key)
}

#[test]
fn the_first_route_that_matches_counts_and_nothing_else_passes() {
    let gateway = Gateway::start();
    assert_eq!(gateway.ask(&Call::get("/api/v3/depth?symbol=BTCUSDT")).status, 200);
    let seen = gateway.backend.last();
    assert_eq!(seen.line, "GET /api/v3/depth?symbol=BTCUSDT HTTP/1.1");
    assert_eq!((seen.identity("key"), seen.identity("account")), ("-".into(), "-".into()));

    let unsigned = gateway.ask(&Call::get("/api/v3/trades"));
    assert_eq!(unsigned.status, 401, "{unsigned:?}");
    for call in [
        Call::get("/nowhere"),
        Call::get("/api/v3/"),
        Call::get("/api/v3"),
        Call::new(Method::POST, "/api/v3/depth"),
        Call::new(Method::HEAD, "/api/v3/depth"),
        Call::get("/API/v3/depth"),
        Call::get("/api/v3/depth/../order"),
    ] {
        let answer = gateway.ask(&call);
        assert!([400, 401, 404].contains(&answer.status), "{call:?} {answer:?}");
    }
    assert_eq!(gateway.ask(&Call::get("/nowhere")).status, 404);
    assert_eq!(gateway.count(), 1);
}

#[test]
fn the_time_is_told_without_a_backend() {
    let gateway = Gateway::start();
    let before = now().as_millis();
    let answer = gateway.ask(&Call::get("/api/v3/time"));
    let told: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    let told = told["serverTime"].as_u64().unwrap();
    // Both clocks were read once at their start, so they may be apart by what was slewed in between.
    assert!((before - 1_000..=now().as_millis() + 1_000).contains(&told), "{told}");
    assert_eq!((answer.status, gateway.count()), (200, 0));
}

#[test]
fn a_key_id_alone_opens_a_key_route_and_the_backend_learns_whose() {
    let gateway = Gateway::start();
    let ask = |key: &str| {
        gateway.ask(&Call::new(Method::POST, "/api/v3/userDataStream").with("X-MBX-APIKEY", key))
    };
    assert_eq!(ask("good").status, 200);
    let seen = gateway.backend.last();
    assert_eq!(seen.identity("key"), "good");
    assert_eq!(seen.identity("permissions"), "read+trade");
    assert_eq!(seen.field("x-mbx-apikey"), Some("good"));
    assert!(seen.field("countersign-mac").is_some_and(|mac| mac.len() == 64));
    let (unknown, revoked) = (ask("nobody"), ask("revoked"));
    assert_eq!(unknown.clone().masked(), revoked.masked());
    assert!(unknown.status >= 400, "{unknown:?}");
    assert_ne!(ask("canceller").status, 200);
    let nameless = gateway.ask(&Call::new(Method::POST, "/api/v3/userDataStream"));
    assert_eq!(nameless.status, 401);
    assert_eq!(gateway.count(), 1);
}

#[test]
fn one_permission_of_the_list_is_enough() {
    let gateway = Gateway::start();
    for (id, cancels, trades) in [("good", 200, 200), ("canceller", 200, 401), ("reader", 401, 401)]
    {
        let cancel = by(id).sign(Method::DELETE, "/api/v3/order?orderId=1", "");
        assert_eq!(gateway.ask(&cancel).status, cancels, "{id}");
        let trade = by(id).sign(Method::POST, "/api/v3/order", "symbol=BTCUSDT");
        assert_eq!(gateway.ask(&trade).status, trades, "{id}");
    }
}

#[test]
fn a_body_beyond_the_cap_is_refused_and_one_at_the_cap_is_not() {
    let gateway = Gateway::start();
    let sized = |size: usize| {
        let signed = |fill: usize| {
            by("good").sign(Method::POST, "/api/v3/order", &format!("a={}", "x".repeat(fill)))
        };
        let spare = size - signed(0).body.len();
        let call = signed(spare);
        assert_eq!(call.body.len(), size);
        call
    };
    assert_eq!(gateway.ask(&sized(1_024)).status, 200);
    assert_eq!(gateway.ask(&sized(1_025)).status, 413);
    assert_eq!(send_chunked(gateway.served.address(), &sized(1_024), 100).status, 200);
    assert_eq!(send_chunked(gateway.served.address(), &sized(1_025), 100).status, 413);
    assert_eq!(gateway.count(), 2);
}

#[test]
fn a_chunked_body_arrives_with_its_exact_length_and_without_the_signature() {
    let gateway = Gateway::start();
    let order = "symbol=BTCUSDT&side=BUY";
    let call = by("good").sign(Method::POST, "/api/v3/order", order);
    let answer = send_chunked(gateway.served.address(), &call, 7);
    assert_eq!(answer.status, 200, "{answer:?}");
    let seen = gateway.backend.last();
    assert!(seen.body.starts_with(order) && !seen.body.contains("signature"), "{seen:?}");
    assert_eq!(seen.field("content-length"), Some(&*seen.body.len().to_string()));
    assert_eq!(seen.field("transfer-encoding"), None);
    assert_eq!(seen.field("x-request-id"), answer.field("x-request-id"));
}

#[test]
fn what_clients_say_of_themselves_does_not_reach_the_backend() {
    let gateway = Gateway::start();
    let call = by("good")
        .sign(Method::GET, "/api/v3/account", "")
        .with("countersign-identity", "v=1; key=admin")
        .with("countersign-mac", "00")
        .with("x-request-id", "mine")
        .with("Cookie", "a=b");
    let answer = gateway.ask(&call);
    assert_eq!(answer.status, 200, "{answer:?}");
    let seen = gateway.backend.last();
    assert_eq!(seen.identity("key"), "good");
    assert_ne!(seen.field("x-request-id"), Some("mine"));
    assert_eq!(seen.field("cookie"), None);
}

#[test]
fn the_address_that_a_trusted_proxy_names_decides_an_allowlisted_key() {
    let gateway = Gateway::start();
    let named = |addresses: &str| {
        let call =
            by("bound").sign(Method::GET, &format!("/api/v3/account?n={}", addresses.len()), "");
        let call =
            if addresses.is_empty() { call } else { call.with("X-Forwarded-For", addresses) };
        gateway.ask(&call)
    };
    assert_eq!(named("203.0.113.7").status, 200);
    assert_eq!(gateway.backend.last().identity("client"), "203.0.113.7");
    assert_eq!(named("198.51.100.1, 203.0.113.7").status, 200);
    // What a client wrote before its proxy's own entry counts for nothing.
    for refused in ["203.0.113.7, 198.51.100.1", "198.51.100.1", ""] {
        let answer = named(refused);
        assert_eq!((answer.status, answer.body.contains("-2015")), (401, true), "{refused}");
    }
}

#[test]
fn nobody_is_believed_about_addresses_unless_configured() {
    let backend = Backend::start();
    let more = format!("{ROUTES}{}", key("binance", "bound", "allowlist = [\"203.0.113.7\"]"));
    let file = File::new(&base("", &[backend.address], &more));
    let served = Served::ready(&file.path(), &VARIABLES);
    let call = by("bound").sign(Method::GET, "/api/v3/account", "");
    let answer = send(served.address(), &call.with("X-Forwarded-For", "203.0.113.7"));
    assert_eq!((answer.status, backend.seen().len()), (401, 0), "{answer:?}");
}
