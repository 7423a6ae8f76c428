//! A configuration that is good, and the world that it is read in.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Method;
use zeroize::Zeroizing;

use super::*;
use crate::admit::Effect;
use crate::key::Permission;

/// A world of its own: variables and files that exist nowhere else.
#[derive(Default)]
pub(super) struct World {
    pub(super) variables: HashMap<&'static str, String>,
    pub(super) files: HashMap<PathBuf, (Vec<u8>, bool)>,
}

impl World {
    pub(super) fn with(variables: &[(&'static str, &str)], files: &[(&str, &str, bool)]) -> Self {
        let variables = variables.iter().map(|(name, value)| (*name, (*value).to_owned()));
        let file = |(path, text, public): &(&str, &str, bool)| {
            (PathBuf::from(path), (text.as_bytes().to_vec(), *public))
        };
        Self { variables: variables.collect(), files: files.iter().map(file).collect() }
    }
}

impl Lookup for World {
    fn variable(&self, name: &str) -> Option<Zeroizing<String>> {
        self.variables.get(name).cloned().map(Zeroizing::new)
    }

    fn file(&self, path: &Path) -> io::Result<Contents> {
        let (bytes, public) = self.files.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Contents { bytes: Zeroizing::new(bytes.clone()), public: *public })
    }

    fn is_no_directory(&self, path: &Path) -> bool {
        self.files.contains_key(path)
    }
}

pub(super) const SECRET: &str = "hunter2-hunter2-hunter2-hunter2-hunter2";

pub(super) fn world() -> World {
    World::with(
        &[("A_SECRET", SECRET), ("EMPTY_ONE", "")],
        &[
            ("etc/secret", "hunter2-hunter2-hunter2-hunter2-hunter2\n", false),
            ("etc/open", SECRET, true),
            ("etc/short", "hunter2", false),
            ("etc/empty", "\n", false),
            ("etc/chain.pem", "-----BEGIN CERTIFICATE-----", true),
            ("etc/url", "postgres://ann:hunter2@localhost/keys\n", false),
            ("etc/remote", "postgres://ann:hunter2@db.example/keys", false),
            ("etc/open-remote", "postgres://ann:hunter2@db.example/keys?sslmode=disable", false),
            ("etc/key.pem", "-----BEGIN PRIVATE KEY-----", true),
            ("etc/bad.toml", "name = \"own\"\ntitl = 1\n", false),
            ("etc/other.toml", include_str!("../../config/dialects/bybit.toml"), false),
            ("etc/seconds.toml", SECONDS, false),
        ],
    )
}

const SECONDS: &str = r#"
name = "seconds"
title = "Seconds"
sources = []
readings = ["raw"]
body = "json"
key = { in = "header x-key" }
time = { in = "header x-time", kind = "stamp", unit = "s" }
window = { default_ms = 5000 }
signature = { in = "header x-sign", algorithms = { hmac-sha256 = "hex" } }
[[message]]
text = "{timestamp}{method}{path}{?query}{body}"
[refusals]
bad_signature = { status = 401, body = "no" }
"#;

/// A small good configuration, which each broken one changes in one place.
pub(super) const GOOD: &str = r#"version = 1

[server]
workers = 2

[[listener]]
name = "public"
address = "127.0.0.1:8080"

[admin]
address = "127.0.0.1:9180"

[store]
max_records = 5000000
state_dir = "state"
[[limit]]
name = "orders"
quota = 100
per = "10s"

[[limit]]
name = "per-address"
quota = 1200
per = "1m"
scope = "address"

[[upstream]]
name = "exchange"
backends = ["127.0.0.1:8000", "10.0.0.2:8000"]
identity_key = { env = "A_SECRET" }

[[route]]
name = "order-place"
methods = ["POST"]
path = "/api/v3/order"
upstream = "exchange"
dialect = "binance"
permission = "trade"
address_limit = "per-address"

[[route]]
name = "rest"
methods = ["GET"]
path = "/api/**"
upstream = "exchange"
dialect = "binance"

[[key]]
id = "key-1"
account = "acme"
dialect = "binance"
secret = { file = "secret" }
permissions = ["read", "trade"]
allowlist = ["203.0.113.7", "2001:db8::/32"]
expires = 2030-01-31T00:00:00Z
limits = ["orders"]
"#;

pub(super) fn parsed(text: &str) -> Result<Loaded, Refused> {
    Config::parse(text, Path::new("etc/gateway.toml"), &world())
}

/// What is wrong with a configuration of one upstream, with this store and these routes.
pub(super) fn problems_of(store: &str, routes: &str) -> Vec<String> {
    let text = format!(
        r#"version = 1
[[listener]]
name = "public"
address = "127.0.0.1:0"
[admin]
address = "127.0.0.1:0"
{store}
[[upstream]]
name = "exchange"
backends = ["127.0.0.1:1"]
identity_key = "none"
{routes}
"#
    );
    let refused = parsed(&text).err();
    refused.iter().flat_map(|refused| &refused.errors).map(ToString::to_string).collect()
}

pub(super) fn good(text: &str) -> Loaded {
    parsed(text).unwrap_or_else(|refused| panic!("{refused}"))
}

pub(super) fn changed(from: &str, to: &str) -> String {
    assert_eq!(GOOD.matches(from).count(), 1, "`{from}` must stand once in the good configuration");
    GOOD.replace(from, to)
}

#[test]
fn a_good_configuration_becomes_what_it_says() {
    let Loaded { config, warnings } = good(GOOD);
    assert!(warnings.is_empty(), "{warnings:?}");
    let key = &config.keys[0];
    assert!(
        key.permissions.holds(Permission::TRADE) && !key.permissions.holds(Permission::WITHDRAW)
    );
    assert!(key.allowlist.permits("203.0.113.7".parse().unwrap()));
    assert!(!key.allowlist.permits("203.0.113.8".parse().unwrap()));
    assert_eq!(key.expires.unwrap().as_millis(), 1_896_048_000_000);
    assert_eq!(
        (key.limits[0].limit.quota, key.limits[0].limit.period),
        (100, Duration::from_secs(10))
    );
    assert_eq!(config.upstreams[0].backends.len(), 2);
    assert!(config.upstreams[0].identity_key.is_some());
    assert_eq!(config.server, Server { workers: 2, ..Server::default() });

    let place = config.routes.find("h", &Method::POST, "/api/v3/order").unwrap();
    assert_eq!((place.demand.effect, place.demand.id), (Effect::Write, 0));
    assert_eq!(place.demand.key_max_age, Duration::from_secs(30));
    assert_eq!(place.demand.address_limit.unwrap().quota, 1_200);
    let rest = config.routes.find("h", &Method::GET, "/api/v3/order").unwrap();
    assert_eq!((&*rest.demand.name, rest.demand.effect), ("rest", Effect::Read));
    assert_eq!(rest.demand.key_max_age, Duration::from_mins(5));
    assert!(config.routes.find("h", &Method::DELETE, "/api/v3/order").is_none());
}
