//! The documented defaults, the examples and the demo are what they say.

use std::path::Path;
use std::time::Duration;

use http::Method;

use super::tests::{SECRET, World, good, parsed};
use super::*;
use crate::admit::{Ask, Effect};
use crate::gateway::routes::{Entry, Target};
use crate::key::Permission;

#[test]
fn the_documented_defaults_are_the_defaults() {
    let documented = good(DEFAULTS).config;
    let bare = good(
        r#"
        version = 1
        [[listener]]
        name = "public"
        address = "127.0.0.1:8080"
        [[upstream]]
        name = "exchange"
        backends = ["127.0.0.1:8000"]
        identity_key = "none"
        [[route]]
        name = "account"
        methods = ["GET"]
        path = "/api/v3/account"
        upstream = "exchange"
        dialect = "binance"
        "#,
    )
    .config;
    assert_eq!(documented.server, Server::default());
    assert_eq!(documented.store, Store::default());
    assert_eq!(format!("{:?}", documented.admin), format!("{:?}", bare.admin));
    assert_eq!(format!("{:?}", documented.upstreams), format!("{:?}", bare.upstreams));
    let demands = |config: &Config| format!("{:?}", config.routes.all());
    assert_eq!(demands(&documented), demands(&bare));
}

/// Uncomments every key of the documented defaults that is left out by default.
#[test]
fn every_documented_key_is_a_key() {
    let is_key = |line: &str| {
        let line = line.strip_prefix("# ").unwrap_or_default();
        let name = line.split_once(" = ").map_or("", |(name, _)| name);
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
        line.starts_with('[') || (!name.is_empty() && name.bytes().all(plain))
    };
    let text: Vec<_> = DEFAULTS
        .lines()
        .map(|line| if is_key(line) { line.trim_start_matches("# ") } else { line })
        .collect();
    let refused = parsed(&text.join("\n")).unwrap_err();
    let unknown = refused.errors.iter().find(|error| error.problem.contains("no such key"));
    assert_eq!(unknown, None);
}

/// Each name that the readers ask for.
#[test]
fn every_key_is_documented() {
    let sources = [
        include_str!("audit.rs"),
        include_str!("server.rs"),
        include_str!("registry.rs"),
        include_str!("admin.rs"),
        include_str!("limits.rs"),
        include_str!("charges.rs"),
        include_str!("upstreams.rs"),
        include_str!("dialects.rs"),
        include_str!("routes.rs"),
        include_str!("keys.rs"),
        include_str!("sealing.rs"),
    ];
    let documented = |name: &str| {
        DEFAULTS.lines().any(|line| line.trim_start_matches("# ").starts_with(&format!("{name} =")))
    };
    let mut count = 0;
    for source in sources {
        for call in ["table.need(", "table.find(", "table.or("] {
            for after in source.split(call).skip(1) {
                let name = after.trim_start().split('"').nth(1).unwrap();
                count += 1;
                assert!(
                    documented(name)
                        || [
                            "absent",
                            "array",
                            "parameter",
                            "steps",
                            "cert",
                            "client_ca",
                            "command",
                            "key",
                            "keys",
                            "redis",
                            "webhook"
                        ]
                        .contains(&name),
                    "{name}"
                );
            }
        }
    }
    assert!(count > 50, "{count}");
}

const EXAMPLE: &str = include_str!("../../config/example.toml");

fn production() -> World {
    let certificate = ("etc/tls/chain.pem", "-----BEGIN CERTIFICATE-----", false);
    let key = ("etc/tls/key.pem", "-----BEGIN PRIVATE KEY-----", false);
    let passphrase = ("/run/secrets/fund-withdraw", SECRET, false);
    World::with(
        &[("EXCHANGE_IDENTITY_KEY", SECRET), ("MARKET_MAKER_SECRET", SECRET)],
        &[certificate, key, passphrase],
    )
}

#[test]
fn the_production_example_is_good_and_needs_no_warning() {
    let loaded = Config::parse(EXAMPLE, Path::new("etc/gateway.toml"), &production());
    let Loaded { config, warnings } = loaded.unwrap_or_else(|refused| panic!("{refused}"));
    assert!(warnings.is_empty(), "{warnings:?}");
    let withdraw =
        config.routes.find("h", &Method::POST, "/sapi/v1/capital/withdraw/apply").unwrap();
    assert_eq!(withdraw.demand.key_max_age, Duration::from_secs(2));
    assert!(withdraw.demand.permissions.holds(Permission::WITHDRAW));
}

#[test]
fn the_demo_routes_each_request_as_its_exchange_does() {
    let loaded = Config::parse(DEMO, Path::new("demo.toml"), &World::default());
    let config = loaded.unwrap_or_else(|refused| panic!("{refused}")).config;
    let find = |method: &str, path: &str| {
        config.routes.find("localhost:8080", &method.parse().unwrap(), path).map(AsRef::as_ref)
    };
    for (method, path, expected) in [
        ("GET", "/api/v3/time", "answered"),
        ("GET", "/fapi/v1/time", "answered"),
        ("GET", "/dapi/v1/time", "answered"),
        ("GET", "/v5/market/time", "answered"),
        ("GET", "/api/v2/public/time", "answered"),
        ("GET", "/api/v3/ping", "public"),
        ("GET", "/api/v3/exchangeInfo", "public"),
        ("GET", "/api/v3/ticker/24hr", "public"),
        ("GET", "/fapi/v1/exchangeInfo", "public"),
        ("GET", "/v5/market/tickers", "public"),
        ("GET", "/api/v2/spot/market/tickers", "public"),
        ("POST", "/api/v3/userDataStream", "key binance"),
        ("GET", "/api/v3/historicalTrades", "key binance"),
        ("POST", "/api/v3/order", "write binance"),
        ("DELETE", "/api/v3/order", "cancel binance"),
        ("GET", "/api/v3/order", "read binance"),
        ("POST", "/api/v3/order/test", "write binance"),
        ("GET", "/api/v3/account", "read binance"),
        ("POST", "/sapi/v1/capital/withdraw/apply", "write binance"),
        ("GET", "/sapi/v1/capital/config/getall", "read binance"),
        ("POST", "/fapi/v1/order", "write binance"),
        ("DELETE", "/dapi/v1/order", "cancel binance"),
        ("GET", "/fapi/v2/balance", "read binance"),
        ("POST", "/v5/order/create", "write bybit"),
        ("POST", "/v5/order/cancel", "cancel bybit"),
        ("GET", "/v5/order/realtime", "read bybit"),
        ("POST", "/api/v2/spot/trade/place-order", "write bitget"),
        ("POST", "/api/v2/spot/trade/cancel-order", "cancel bitget"),
        ("GET", "/api/v2/spot/account/assets", "read bitget"),
        ("GET", "/other", "none"),
        ("TRACE", "/api/v3/order", "none"),
    ] {
        assert_eq!(find(method, path).map_or("none".to_owned(), kind), expected, "{method} {path}");
    }
    let cancel = find("DELETE", "/api/v3/order").unwrap().demand.permissions;
    assert!(cancel.holds(Permission::CANCEL) && cancel.holds(Permission::TRADE));
}

fn kind(entry: &Entry) -> String {
    let effect = match entry.demand.effect {
        Effect::Read => "read",
        Effect::Cancel => "cancel",
        Effect::Write => "write",
    };
    match (&entry.target, &entry.demand.ask) {
        (Target::Time(_), _) => "answered".to_owned(),
        (Target::WebSocket(_), _) => "websocket".to_owned(),
        (Target::Upstream(_), Ask::Public) => "public".to_owned(),
        (Target::Upstream(_), Ask::Key(dialect)) => format!("key {}", dialect.name()),
        (Target::Upstream(_), Ask::Signed(dialect)) => format!("{effect} {}", dialect.name()),
    }
}
