//! Configurations that are good, and everything that can be wrong with one.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Method;
use zeroize::Zeroizing;

use super::*;
use crate::admit::{Ask, BanBounds, CodePlace, Effect, SymbolPlace};
use crate::gateway::routes::{Entry, Target};
use crate::key::Permission;
use crate::store::{Limit, Repeat};

/// A world of its own: variables and files that exist nowhere else.
#[derive(Default)]
struct World {
    variables: HashMap<&'static str, String>,
    files: HashMap<PathBuf, (Vec<u8>, bool)>,
}

impl World {
    fn with(variables: &[(&'static str, &str)], files: &[(&str, &str, bool)]) -> Self {
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
}

const SECRET: &str = "hunter2-hunter2-hunter2-hunter2-hunter2";

fn world() -> World {
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
const GOOD: &str = r#"version = 1

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

fn parsed(text: &str) -> Result<Loaded, Refused> {
    Config::parse(text, Path::new("etc/gateway.toml"), &world())
}

fn good(text: &str) -> Loaded {
    parsed(text).unwrap_or_else(|refused| panic!("{refused}"))
}

fn changed(from: &str, to: &str) -> String {
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

/// What is changed, to what, and what is then said, from line and column on.
const BROKEN: &[(&str, &str, &str)] = &[
    ("version = 1", "version = 2", "1:11: version: 2 is not from 1 to 1"),
    ("version = 1", "", "1:1: `version` is missing (write `version = 1` at the top)"),
    (
        "workers = 2",
        "worker = 2",
        "4:1: server.worker: there is no such key (did you mean `workers`?)",
    ),
    (
        "workers = 2",
        "workers = \"2\"",
        "4:11: server.workers: expected a whole number, found a string",
    ),
    ("workers = 2", "workers = -1", "4:11: server.workers: -1 is not from 0 to 1024"),
    ("workers = 2", "head_bytes = \"32KB\"", "4:14: server.head_bytes: \"32KB\" is no size"),
    (
        "workers = 2",
        "head_bytes = \"1KiB\"",
        "4:14: server.head_bytes: \"1KiB\" is not from 8192 to 1048576 bytes",
    ),
    (
        "workers = 2",
        "head_timeout = 5",
        "4:16: server.head_timeout: expected a time span, found an integer (write",
    ),
    (
        "workers = 2",
        "head_timeout = \"0s\"",
        "4:16: server.head_timeout: \"0s\" is not from 1ms to 10m",
    ),
    (
        "workers = 2",
        "trusted_proxies = [\"10.0.0.1/8\"]",
        "4:20: server.trusted_proxies[0]: \"10.0.0.1/8\" has bits set behind its prefix (did you mean \"10.0.0.0/8\"?)",
    ),
    ("[server]", "[sever]", "3:2: sever: there is no such key (did you mean `server`?)"),
    (
        "\"127.0.0.1:8080\"",
        "\"localhost\"",
        "8:11: listener[0].address: \"localhost\" is no address and port",
    ),
    (
        "\"127.0.0.1:8080\"",
        "\"127.0.0.1:8080\"\ntls = { cert = \"chain.pem\" }",
        "9:7: listener[0].tls: `key` is missing",
    ),
    (
        "\"127.0.0.1:8080\"",
        "\"127.0.0.1:8080\"\ntls = { cert = \"none.pem\", key = \"key.pem\" }",
        "9:16: listener[0].tls.cert: etc/none.pem cannot be read",
    ),
    (
        "\"127.0.0.1:8080\"",
        "\"127.0.0.1:8080\"\ntls = { cert = \"key.pem\", key = \"key.pem\" }",
        "9:16: listener[0].tls.cert: etc/key.pem holds no PEM certificate",
    ),
    (
        "\"127.0.0.1:9180\"",
        "\"127.0.0.1:8080\"",
        "11:11: admin.address: a listener has 127.0.0.1:8080 already",
    ),
    ("max_records = 5000000", "kind = \"redis\"", "13:1: store: `redis` is missing"),
    (
        "max_records = 5000000",
        "max_records = 1000\nmax_records_per_account = 2000",
        "15:27: store.max_records_per_account: one account may take 2000 records, more than the 1000",
    ),
    (
        "state_dir = \"state\"",
        "[registry]\nkind = \"mysql\"",
        "16:8: registry.kind: no registry is called \"mysql\" (known: embedded, postgres)",
    ),
    (
        "state_dir = \"state\"",
        "[registry]\nurl = { file = \"url\" }",
        "16:7: registry.url: it has no meaning for a registry of kind \"embedded\" (leave it out",
    ),
    (
        "state_dir = \"state\"",
        "[registry]\nkind = \"postgres\"\npath = \"r\"\nurl = { file = \"url\" }",
        "17:8: registry.path: it has no meaning for a registry of kind \"postgres\"",
    ),
    (
        "state_dir = \"state\"",
        "[registry]\nkind = \"postgres\"",
        "15:1: registry: `url` is missing (write { env",
    ),
    (
        "state_dir = \"state\"",
        "[registry]\nkind = \"postgres\"\nurl = { file = \"secret\" }",
        "17:7: registry.url: this is no URL of PostgreSQL (as",
    ),
    (
        "state_dir = \"state\"",
        "[registry]\nkind = \"postgres\"\nurl = { file = \"remote\" }",
        "17:7: registry.url: the registry would be reached without TLS, or through one that proves nothing (give `ca`",
    ),
    (
        "state_dir = \"state\"",
        "[registry]\nkind = \"postgres\"\nurl = { file = \"remote\" }\nca = \"key.pem\"",
        "18:6: registry.ca: etc/key.pem holds a certificate that cannot be read",
    ),
    (
        "state_dir = \"state\"",
        "[registry]\nkind = \"postgres\"\nurl = { file = \"url\" }\nconnections = 17",
        "18:15: registry.connections: 17 is not from 1 to 16",
    ),
    (
        "state_dir = \"state\"",
        "[registry]\nkind = \"postgres\"\nurl = { file = \"url\" }\ntimeout = \"2m\"",
        "18:11: registry.timeout: \"2m\" is not from 10ms to 1m",
    ),
    (
        "max_records = 5000000",
        "max_unique = 1000\nmax_unique_per_key = 1001",
        "15:22: store.max_unique_per_key: one key may take 1001 nonces, more than the 1000",
    ),
    (
        "max_records = 5000000",
        "max_unique = 100000001",
        "14:14: store.max_unique: 100000001 is not from 1000 to 100000000",
    ),
    ("max_records = 5000000", "max_jump = \"25h\"", "14:12: store.max_jump: "),
    ("quota = 100\n", "quota = 0\n", "18:9: limit[0].quota: 0 is not from 1"),
    (
        "scope = \"address\"",
        "scope = \"address\"\n[[limit]]\nname = \"orders\"\nquota = 1\nper = \"1s\"",
        "27:8: limit[2].name: another limit is called \"orders\" already",
    ),
    (
        "scope = \"address\"",
        "scope = \"adress\"",
        "25:9: limit[1].scope: no scope is called \"adress\" (did you mean \"address\"?)",
    ),
    (
        "\"10.0.0.2:8000\"",
        "\"http://10.0.0.2\"",
        "29:31: upstream[0].backends[1]: \"http://10.0.0.2\" is no host and port",
    ),
    (
        "\"10.0.0.2:8000\"",
        "\"127.0.0.1:8000\"",
        "29:31: upstream[0].backends[1]: 127.0.0.1:8000 stands here twice",
    ),
    (
        "{ env = \"A_SECRET\" }",
        "{ env = \"NOT_SET\" }",
        "30:24: upstream[0].identity_key.env: the environment variable NOT_SET is not set, or is empty",
    ),
    (
        "{ env = \"A_SECRET\" }",
        "{ env = \"EMPTY_ONE\" }",
        "30:24: upstream[0].identity_key.env: the environment variable EMPTY_ONE is not set, or is empty",
    ),
    (
        "{ env = \"A_SECRET\" }",
        "{ file = \"short\" }",
        "30:16: upstream[0].identity_key: the key is shorter than 32 bytes",
    ),
    ("identity_key = { env = \"A_SECRET\" }", "", "27:1: upstream[0]: `identity_key` is missing"),
    (
        "identity_key = { env = \"A_SECRET\" }",
        "identity_key = \"none\"\nforward_headers = [\"countersign-mac\"]",
        "31:20: upstream[0].forward_headers[0]: this name is reserved",
    ),
    (
        "identity_key = { env = \"A_SECRET\" }",
        "identity_key = \"none\"\nforward_headers = [\"Host\"]",
        "31:20: upstream[0].forward_headers[0]: `host` is set by the gateway itself",
    ),
    (
        "methods = [\"POST\"]",
        "methods = [\"PSOT\"]",
        "34:12: route[0].methods[0]: no method is called \"PSOT\" (did you mean \"POST\"?)",
    ),
    (
        "methods = [\"POST\"]",
        "methods = [\"POST\", \"GET\"]",
        "32:1: route[0]: some of its methods read and some write",
    ),
    (
        "path = \"/api/v3/order\"",
        "path = \"/api/*/order\"",
        "35:8: route[0].path: \"/api/*/order\" is no path: `*` stands only in a trailing `/**`",
    ),
    (
        "path = \"/api/**\"",
        "path = \"/api/**\"\nhost = \"a:80\"",
        "45:8: route[1].host: a host is a name",
    ),
    (
        "path = \"/api/**\"\nupstream = \"exchange\"",
        "path = \"/api/**\"\nupstream = \"exchang\"",
        "45:12: route[1].upstream: no upstream is called \"exchang\" (did you mean \"exchange\"?)",
    ),
    (
        "path = \"/api/**\"\nupstream = \"exchange\"",
        "path = \"/api/**\"",
        "41:1: route[1]: neither `upstream` nor `answer` is given",
    ),
    (
        "path = \"/api/**\"\nupstream = \"exchange\"\ndialect = \"binance\"",
        "path = \"/api/**\"\nupstream = \"exchange\"\ndialect = \"binanse\"",
        "46:11: route[1].dialect: no dialect is called \"binanse\" (did you mean \"binance\"?)",
    ),
    (
        "path = \"/api/**\"\nupstream = \"exchange\"\ndialect = \"binance\"",
        "path = \"/api/**\"\nupstream = \"exchange\"",
        "41:1: route[1]: `dialect` is missing",
    ),
    (
        "path = \"/api/**\"\n",
        "path = \"/api/**\"\nask = \"public\"\n",
        "47:11: route[1].dialect: a public route checks no signature",
    ),
    (
        "path = \"/api/**\"\n",
        "path = \"/api/**\"\nreplay = \"repeat-same-route\"\n",
        "45:10: route[1].replay: dialect binance signs a time finer than seconds",
    ),
    (
        "permission = \"trade\"",
        "permission = \"trade\"\nreplay = \"repeat-same-route\"",
        "39:10: route[0].replay: identical bytes may come again only where nothing is changed",
    ),
    ("permission = \"trade\"", "", "32:1: route[0]: `permission` is missing"),
    (
        "dialect = \"binance\"\npermission = \"trade\"",
        "dialect = \"htx\"\npermission = \"withdraw\"",
        "32:1: route[0]: dialect htx does not sign the body",
    ),
    (
        "permission = \"trade\"",
        "permission = \"Trade!\"",
        "38:14: route[0].permission: \"Trade!\" is no permission",
    ),
    (
        "permission = \"trade\"",
        "permission = \"trade\"\nlead = \"2h\"",
        "39:8: route[0].lead: \"2h\" is not from 1ms to 1h",
    ),
    (
        "address_limit = \"per-address\"",
        "address_limit = \"orders\"",
        "39:17: route[0].address_limit: limit \"orders\" is counted for each key",
    ),
    (
        "address_limit = \"per-address\"",
        "address_limit = \"per-address\"\nweight = 1201",
        "39:17: route[0].address_limit: its quota of 1200 is less than the weight",
    ),
    (
        "name = \"rest\"",
        "name = \"order-place\"",
        "42:8: route[1].name: another route is called \"order-place\" already",
    ),
    (
        "methods = [\"GET\"]\npath = \"/api/**\"",
        "methods = [\"POST\"]\npath = \"/api/v3/order\"\npermission = \"trade\"",
        "41:1: route[1]: no request can reach this route: \"order-place\" comes first",
    ),
    (
        "secret = { file = \"secret\" }",
        "secret = \"hunter2\"",
        "52:10: key[0].secret: a secret does not stand in the configuration itself (write { env =",
    ),
    (
        "secret = { file = \"secret\" }",
        "secret = { file = \"nowhere\" }",
        "52:19: key[0].secret.file: this file cannot be read",
    ),
    (
        "secret = { file = \"secret\" }",
        "secret = { file = \"empty\" }",
        "52:19: key[0].secret.file: this file is empty",
    ),
    (
        "secret = { file = \"secret\" }",
        "secret = { file = \"secret\", env = \"A_SECRET\" }",
        "52:10: key[0].secret: `env` and `file` are both given",
    ),
    ("secret = { file = \"secret\" }", "", "48:1: key[0]: `secret` is missing"),
    (
        "secret = { file = \"secret\" }",
        "secret = { file = \"secret\" }\nalgorithm = \"hmac-sha512\"",
        "53:13: key[0].algorithm: dialect binance has no hmac-sha512 keys (it has",
    ),
    (
        "secret = { file = \"secret\" }",
        "secret = { file = \"secret\" }\nalgorithm = \"ed25519\"",
        "52:10: key[0].secret: ed25519 keys have a `public_key` instead",
    ),
    (
        "secret = { file = \"secret\" }",
        "public_key = \"-----BEGIN PRIVATE KEY-----\"\nalgorithm = \"ed25519\"",
        "52:14: key[0].public_key: a private key does not stand in the configuration",
    ),
    (
        "secret = { file = \"secret\" }",
        "public_key = \"hunter2\"\nalgorithm = \"ed25519\"",
        "52:14: key[0].public_key: it cannot be used",
    ),
    (
        "secret = { file = \"secret\" }",
        "secret = { file = \"secret\" }\npassphrase = { env = \"A_SECRET\" }",
        "53:14: key[0].passphrase: dialect binance has no passphrase",
    ),
    (
        "permissions = [\"read\", \"trade\"]",
        "permissions = [\"read\", \"trad\"]",
        "53:24: key[0].permissions[1]: no permission is called \"trad\" (did you mean \"trade\"?)",
    ),
    (
        "permissions = [\"read\", \"trade\"]\nallowlist = [\"203.0.113.7\", \"2001:db8::/32\"]",
        "permissions = [\"withdraw\"]",
        "53:15: key[0].permissions: a key that may withdraw has no `allowlist`",
    ),
    (
        "\"203.0.113.7\"",
        "\"0.0.0.0/0\"",
        "54:14: key[0].allowlist[0]: \"0.0.0.0/0\" is every address, so it protects nothing",
    ),
    (
        "\"203.0.113.7\"",
        "\"::ffff:0.0.0.0/96\"",
        "54:14: key[0].allowlist[0]: \"::ffff:0.0.0.0/96\" is every address",
    ),
    (
        "\"203.0.113.7\"",
        "\"203.0.113.256\"",
        "54:14: key[0].allowlist[0]: \"203.0.113.256\" is no address and no network",
    ),
    ("2030-01-31T00:00:00Z", "2030-01-31", "55:11: key[0].expires: it is no moment"),
    ("2030-01-31T00:00:00Z", "\"soon\"", "55:11: key[0].expires: it is no moment"),
    (
        "limits = [\"orders\"]",
        "limits = [\"order\"]",
        "56:11: key[0].limits[0]: no limit is called \"order\" (did you mean \"orders\"?)",
    ),
    (
        "limits = [\"orders\"]",
        "limits = [\"per-address\"]",
        "56:11: key[0].limits[0]: limit \"per-address\" is counted for each address",
    ),
    (
        "limits = [\"orders\"]",
        "venue = \"mian\"",
        "56:9: key[0].venue: no venue of a route is called \"mian\" (did you mean \"main\"?)",
    ),
    (
        "limits = [\"orders\"]",
        "state = \"dead\"",
        "56:9: key[0].state: no state is called \"dead\"",
    ),
    (
        "version = 1",
        "version = 1\n[dialect.own]\nrecipe = \"bad.toml\"",
        "bad.toml:2:1: unknown field `titl`",
    ),
    (
        "version = 1",
        "version = 1\n[dialect.own]\nrecipe = \"other.toml\"",
        "3:10: dialect.own.recipe: this recipe is called \"bybit\"",
    ),
    (
        "version = 1",
        "version = 1\n[dialect.own]",
        "2:1: dialect.own: no built-in dialect is called \"own\"",
    ),
    (
        "version = 1",
        "version = 1\n[dialect.seconds]\nrecipe = \"seconds.toml\"\nimitate = true",
        "4:11: dialect.seconds.imitate: the recipe has no words for an unknown key",
    ),
    (
        "version = 1",
        "version = 1\n[dialect.bybit]\nlenient = true",
        "3:11: dialect.bybit.lenient: the recipe of \"bybit\" has no lenient readings",
    ),
    (
        "version = 1",
        "version = 1\n[dialect.binance]\nlenient = true\nsplit_parameters = true",
        "3:11: dialect.binance.lenient: parameters split over query and body",
    ),
    ("id = \"key-1\"", "id = \"key 1\"", "49:6: key[0].id: this cannot be sent"),
    ("id = \"key-1\"", "id = 1", "49:6: key[0].id: expected a string, found an integer"),
    ("workers = 2", "workers = ", "4:"),
    (
        "state_dir = \"state\"\n",
        "[[route]]\nname = \"a\"\nmethods = [\"GET\"]\npath = \"/a\"\nupstream = \"exchange\"\ndialect = \"binance\"\npermission = \"read\"\naudit = \"required\"\n",
        "22:9: route[0].audit: no audit trail is kept that it could be written to",
    ),
    (
        "state_dir = \"state\"\n",
        "[[route]]\nname = \"a\"\nmethods = [\"GET\"]\npath = \"/a\"\nupstream = \"exchange\"\ndialect = \"binance\"\npermission = \"read\"\naudit_intent = true\n",
        "22:16: route[0].audit_intent: no audit trail is kept that it could be written to",
    ),
];

#[test]
fn the_trail_lies_in_the_state_directory_unless_it_is_said_where_or_that_there_is_none() {
    let trail = |text: &str| {
        let text = changed("[store]\n", text).replace("state_dir = \"state\"\n", "");
        let rules = good(&text).config.audit;
        rules.map(|rules| rules.dir.to_str().unwrap().to_owned())
    };
    assert_eq!(trail("[store]\n"), None);
    assert_eq!(trail("[store]\nstate_dir = \"s\"\n").unwrap(), "etc/s/audit");
    assert_eq!(trail("[audit]\ndir = \"a\"\n[store]\n").unwrap(), "etc/a");
    let both = "[audit]\ndir = \"a\"\n[store]\nstate_dir = \"s\"\n";
    assert_eq!(trail(both).unwrap(), "etc/a");
    assert_eq!(
        trail(&format!("[audit]\nenabled = false\n{both}").replacen(
            "[audit]\ndir = \"a\"\n",
            "",
            1
        )),
        None
    );
}

#[test]
fn a_route_asks_of_the_trail_what_it_says_or_what_all_do() {
    let demands = |audit: &str, route: &str| {
        let text = changed("[store]\n", &format!("[audit]\ndir = \"a\"\n{audit}\n[store]\n"));
        let text =
            text.replace("permission = \"trade\"", &format!("permission = \"trade\"\n{route}"));
        let config = good(&text).config;
        let demand = |entry: &Arc<Entry>| (entry.audit.required, entry.audit.intent);
        config.routes.all().iter().map(demand).collect::<Vec<_>>()
    };
    let (go_on, refuse) = ("", "on_error = \"refuse\"");
    assert_eq!(demands(go_on, ""), [(false, false), (false, false)]);
    assert_eq!(demands(refuse, ""), [(true, false), (true, false)]);
    assert_eq!(demands(go_on, "audit = \"required\""), [(true, false), (false, false)]);
    assert_eq!(demands(refuse, "audit = \"best_effort\""), [(false, false), (true, false)]);
    assert_eq!(demands(go_on, "audit_intent = true"), [(false, true), (false, false)]);
}

#[test]
fn a_webhook_is_signed_with_a_secret_that_is_never_repeated() {
    let webhook = |rest: &str| {
        let section = format!("[audit]\ndir = \"a\"\n[audit.webhook]\n{rest}\n[store]\n");
        parsed(&changed("[store]\n", &section))
    };
    let secret = "secret = { env = \"A_SECRET\" }";
    let config = webhook(&format!("url = \"https://h.example/x\"\n{secret}")).unwrap().config;
    let hook = config.audit.as_ref().unwrap().webhook.as_ref().unwrap();
    assert_eq!(hook.secret.as_slice(), SECRET.as_bytes());
    assert!(!format!("{config:?}").contains("h.example"));
    for (rest, said) in [
        (format!("url = \"ftp://hunter2\"\n{secret}"), "no http or https address"),
        (secret.to_owned(), "`url` is missing"),
        ("url = \"http://h\"".to_owned(), "`secret` is missing"),
        (
            "url = \"http://h\"\nsecret = \"hunter2\"".to_owned(),
            "does not stand in the configuration",
        ),
    ] {
        let refused = webhook(&rest).unwrap_err().to_string();
        assert!(refused.contains(said) && !refused.contains("hunter2"), "{refused}");
    }
}

#[test]
fn whatever_is_wrong_is_said_with_its_place_and_cure() {
    let mut wrong = Vec::new();
    for (from, to, said) in BROKEN {
        let Err(refused) = parsed(&changed(from, to)) else {
            wrong.push(format!("`{to}` passes"));
            continue;
        };
        let found = refused.to_string();
        let file = if said.starts_with(|c: char| c.is_ascii_digit()) {
            "etc/gateway.toml:"
        } else {
            "etc/"
        };
        // One slip is one error: nothing that follows from it alone is reported too.
        if !found.starts_with(&format!("{file}{said}")) || refused.errors.len() != 1 {
            wrong.push(format!("`{to}`\nexpected {said}\nfound    {found}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn every_problem_is_reported_in_one_go_in_the_order_of_the_file() {
    let text = changed("workers = 2", "wrkers = 2")
        .replace("quota = 100", "quota = 0")
        .replace("secret = { file = \"secret\" }", "secret = { env = \"NO_SUCH\" }")
        .replace("upstream = \"exchange\"\n", "");
    let refused = parsed(&text).unwrap_err();
    let lines: Vec<_> = refused.errors.iter().map(|error| error.line).collect();
    assert_eq!(refused.errors.len(), 5, "{refused}");
    assert!(lines.is_sorted(), "{lines:?}");
}

#[test]
fn a_missing_file_and_one_that_is_no_text_are_said_so() {
    let refused =
        |file: &str, world: World| Config::load(Path::new(file), &world).unwrap_err().to_string();
    assert!(
        refused("none.toml", World::default()).starts_with("none.toml: the file cannot be read")
    );
    let mut world = World::default();
    world.files.insert("bytes.toml".into(), (vec![0xff], false));
    assert!(refused("bytes.toml", world).starts_with("bytes.toml: the file is no UTF-8 text"));
}

#[test]
fn no_secret_is_ever_repeated() {
    let place = "secret = { file = \"secret\" }";
    for text in [
        "secret = \"hunter2\"",
        "secret = \"hunter2",
        "secrte = \"hunter2\"",
        "secret = [\"hunter2\"]",
        "secret = { env = \"hunter2\" }",
        "secret = { file = \"hunter2\" }",
        "secret = { value = \"hunter2\" }",
        "secret = { env = 5, x = \"hunter2\" }",
        "secret = { file = \"secret\", algorithm = \"hunter2\" }",
        "secret = \"hunter2\" \"",
        "secret = hunter2",
        "passphrase = \"hunter2\"",
        "public_key = \"hunter2\"\nalgorithm = \"rsa-sha256\"",
        "public_key = \"PRIVATE KEY hunter2\"\nalgorithm = \"rsa-sha256\"",
    ] {
        let refused = parsed(&changed(place, text)).unwrap_err();
        let printed = format!("{refused} {refused:?}");
        assert!(!printed.contains("hunter2"), "`{text}` prints {printed}");
    }
    let identity = changed("identity_key = { env = \"A_SECRET\" }", "identity_key = \"hunter2\"");
    assert!(!format!("{:?}", parsed(&identity).unwrap_err()).contains("hunter2"));
    assert!(!format!("{:?}", good(GOOD).config).contains("hunter2"));
}

#[test]
fn what_is_probably_not_meant_is_a_warning() {
    for (from, to, said) in [
        (
            "\"127.0.0.1:8080\"",
            "\"0.0.0.0:8080\"",
            "listener[0].address: this address takes requests unencrypted",
        ),
        (
            "\"127.0.0.1:8080\"",
            "\"0.0.0.0:8080\"\ntls = { cert = \"chain.pem\", key = \"key.pem\" }",
            "listener[0].tls.key: every user",
        ),
        ("\"127.0.0.1:9180\"", "\"0.0.0.0:9180\"", "admin.address: metrics and health"),
        (
            "version = 1",
            "version = 1\n[dialect.binance]\nimitate = true",
            "dialect.binance.imitate: strangers can find out which key ids exist",
        ),
        ("{ env = \"A_SECRET\" }", "\"none\"", "upstream[0].identity_key: backends cannot tell"),
        ("state_dir = \"state\"", "", "what the registry records ends with the gateway"),
        (
            "state_dir = \"state\"",
            "[registry]",
            "registry: what the registry records ends with the",
        ),
        (
            "state_dir = \"state\"",
            "[registry]\nkind = \"postgres\"\nurl = { file = \"open-remote\" }",
            "registry.url: what is asked of the registry travels unencrypted",
        ),
        ("file = \"secret\"", "file = \"open\"", "key[0].secret.file: every user"),
        (
            "id = \"key-1\"\naccount = \"acme\"\ndialect = \"binance\"",
            "id = \"key-1\"\naccount = \"acme\"\ndialect = \"bybit\"",
            "key[0].dialect: no route is for this dialect",
        ),
    ] {
        let warnings = good(&changed(from, to)).warnings;
        let warned = warnings.iter().any(|warning| warning.to_string().contains(said));
        assert!(warned && warnings.len() == 1, "`{to}`: {warnings:?}");
    }
}

#[test]
fn the_registry_is_kept_where_the_configuration_says() {
    let place = "state_dir = \"state\"";
    for (written, said) in [
        (place, "in etc/state/registry.redb"),
        ("", "in memory"),
        ("[registry]\npath = \"keys.redb\"", "in etc/keys.redb"),
        (
            "[registry]\nkind = \"postgres\"\nurl = { file = \"url\" }",
            "in PostgreSQL at localhost/keys",
        ),
    ] {
        let registry = good(&changed(place, written)).config.registry;
        assert_eq!(registry.to_string(), said);
        assert!(!format!("{registry:?}").contains("hunter2"), "{registry:?}");
    }
    let timed = "[registry]\nkind = \"postgres\"\nurl = { file = \"url\" }\nconnections = 3\ntimeout = \"750ms\"";
    let Location::Postgres(options) = good(&changed(place, timed)).config.registry else {
        panic!("it is in PostgreSQL")
    };
    let (waits, default) = ((options.timeout, options.connect_timeout), Duration::from_secs(2));
    assert_eq!((options.connections, waits), (3, (Duration::from_millis(750), default)));
}

#[test]
fn a_repeated_read_is_allowed_where_time_counts_seconds() {
    let own = "version = 1\n[dialect.seconds]\nrecipe = \"seconds.toml\"";
    let text = changed("version = 1", own).replace(
        "path = \"/api/**\"\nupstream = \"exchange\"\ndialect = \"binance\"",
        "path = \"/api/**\"\nupstream = \"exchange\"\ndialect = \"seconds\"\nreplay = \"repeat-same-route\"",
    );
    let config = good(&text).config;
    assert_eq!(config.routes.all()[1].demand.repeat, Repeat::SameRoute);
    let names: Vec<_> = config.dialects.iter().map(|dialect| &**dialect.name()).collect();
    assert_eq!(names, ["binance", "seconds"]);
}

#[test]
fn a_header_that_carries_a_credential_reaches_no_backend() {
    let forwards =
        "backends = [\"127.0.0.1:8000\", \"10.0.0.2:8000\"]\nforward_headers = [\"X-BAPI-SIGN\"]";
    let text = changed("backends = [\"127.0.0.1:8000\", \"10.0.0.2:8000\"]", forwards)
        .replace("dialect = \"binance\"", "dialect = \"bybit\"");
    let refused = parsed(&text).unwrap_err().to_string();
    assert!(refused.contains("`x-bapi-sign` carries a credential in dialect bybit"), "{refused}");
}

#[test]
fn the_guard_can_be_moved_and_taken_away() {
    let guard = |section: &str| {
        let text = changed("[admin]", &format!("[guard]\n{section}\n\n[admin]"));
        parsed(&text).unwrap_or_else(|refused| panic!("{refused}")).config.guard
    };
    assert_eq!(guard(""), Bounds::default());
    let minute = Duration::from_mins(1);
    let moved =
        guard("failures = 1000\nfailures_per = \"1s\"\npassphrases = 3\nproven_for = \"1m\"");
    assert_eq!(moved.failures, Some(Limit { quota: 1_000, period: Duration::from_secs(1) }));
    assert_eq!(moved.passphrases, Some(Limit { quota: 3, period: 10 * minute }));
    assert_eq!(moved.proven_for, minute);
    let none = guard("failures = 0\npassphrases = 0\nban_after = 0\ncodes = 0");
    assert_eq!((none.failures, none.passphrases), (None, None));
    assert_eq!((none.bans, none.codes), (None, None));
    let strict = guard(
        "ban_after = 3\nban_after_per = \"1m\"\nban_first = \"10m\"\nban_longest = \"1h\"\nban_forget = \"2h\"\n\
         max_bans = 7\nexempt = [\"10.0.0.0/8\", \"::1\"]\ncodes_per_account = 9\ncodes_known_for = \"24h\"",
    );
    let after = Limit { quota: 3, period: minute };
    let (first, longest, forget) = (10 * minute, 60 * minute, 120 * minute);
    assert_eq!(
        strict.bans,
        Some(BanBounds { after, first, longest, forget, most: 7, share: true })
    );
    assert_eq!(strict.exempt.len(), 2);
    assert_eq!(strict.codes_per_account.unwrap().quota, 9);
    assert_eq!(strict.codes_known_for, 24 * 60 * minute);
    let text = changed("[admin]", "[guard]\nban_first = \"2h\"\nban_longest = \"1h\"\n\n[admin]");
    let refused = parsed(&text).unwrap_err().to_string();
    assert!(refused.contains("guard.ban_longest: it is shorter than the first ban"), "{refused}");
    let text = changed("[admin]", "[guard]\nfailures = 1001\n\n[admin]");
    let refused = parsed(&text).unwrap_err().to_string();
    assert!(refused.contains("guard.failures: 1001 is not from 0 to 1000"), "{refused}");
}

#[test]
fn master_keys_come_from_where_the_configuration_says() {
    let key = "5c3d0f6b1a928e47d6f10b7e4c29a8533e6f71c0d2b4958a6710fe2c3b4d5a69";
    let own = || World::with(&[("MASTER", key)], &[("etc/master", key, false)]);
    let parsed = |section: &str| {
        let text = changed("[admin]", &format!("{section}\n[admin]"));
        let world = World {
            variables: [("A_SECRET", SECRET.to_owned())]
                .into_iter()
                .chain(own().variables)
                .collect(),
            files: world().files.into_iter().chain(own().files).collect(),
        };
        Config::parse(&text, Path::new("etc/gateway.toml"), &world)
    };
    let good = |section: &str| parsed(section).unwrap_or_else(|refused| panic!("{refused}")).config;
    assert!(good("").sealing.is_none());
    assert_eq!(good("").unbound_trade, Some(UNBOUND_TRADE));
    assert_eq!(good("[issue]\nunbound_trade = \"0s\"").unbound_trade, None);
    let month = good("[issue]\nunbound_trade = \"30d\"").unbound_trade;
    assert_eq!(month, Some(Duration::from_hours(30 * 24)));
    let section = "[sealing]\ncurrent = \"c\"\n[sealing.keys]\na = { env = \"MASTER\" }\n\
                   b = { file = \"master\" }\nc = { command = [\"unseal\", \"c\"] }";
    let config = good(section);
    let sealing = config.sealing.as_ref().unwrap();
    let names: Vec<_> = sealing.keys.iter().map(|(name, _)| &**name).collect();
    assert_eq!((&*sealing.current, names), ("c", vec!["a", "b", "c"]));
    assert!(!format!("{config:?}").contains(key));

    for (section, said) in [
        ("current = \"b\"\n[sealing.keys]\na = { env = \"MASTER\" }", "did you mean"),
        ("current = \"a\"", "`keys` is missing"),
        ("current = \"a\"\n[sealing.keys]\na = \"5c3d0f6b\"", "a secret does not stand"),
        ("current = \"a\"\n[sealing.keys]\na = { env = \"5c3d0f6b\" }", "is not set"),
        ("current = \"a\"\n[sealing.keys]\na = { env = \"A_SECRET\" }", "no master key"),
        ("current = \"a\"\n[sealing.keys]\na = { command = [] }", "it is empty"),
        (
            "current = \"a\"\n[sealing.keys]\na = { command = [\"x\"], env = \"MASTER\" }",
            "`command` is given as well",
        ),
        ("current = \"a\"\n[sealing.keys]\na = { comand = [\"x\"] }", "there is no such key"),
    ] {
        let refused = parsed(&format!("[sealing]\n{section}")).unwrap_err();
        let printed = format!("{refused} {refused:?}");
        assert!(printed.contains(said), "`{section}`: {printed}");
        assert!(!printed.contains("5c3d0f6b") && !printed.contains("hunter2"), "{printed}");
    }
}

#[test]
fn a_route_may_ask_for_a_second_factor() {
    let with = |factor: &str| {
        let address = "address_limit = \"per-address\"";
        parsed(&changed(address, &format!("{address}\nsecond_factor = {factor}")))
    };
    let asked = |factor: &str| {
        let loaded = with(factor).unwrap_or_else(|refused| panic!("{refused}"));
        loaded.config.routes.all()[0].demand.second_factor.clone().unwrap()
    };
    let header = asked("{ header = \"X-OTP\", challenge = true }");
    assert_eq!(header.place, CodePlace::Header("x-otp".parse().unwrap()));
    assert!(header.challenges.is_some());
    let parameter = asked("{ parameter = \"otp\" }");
    assert_eq!(parameter.place, CodePlace::Parameter("otp".into()));
    assert!(parameter.challenges.is_none());
    let member = asked("{ member = \"otp\" }");
    assert_eq!(member.place, CodePlace::Member("otp".into()));
    for (factor, problem) in [
        ("{ member = \"otp\", challenge = true }", "a challenge would hold for no other code"),
        ("{ member = \"a b\" }", "\"a b\" is no name of a parameter"),
        ("{}", "none of `header`, `parameter` and `member` is given"),
        (
            "{ header = \"a\", parameter = \"b\" }",
            "more than one of `header`, `parameter` and `member` is given",
        ),
        ("{ header = \"x otp\" }", "\"x otp\" is no header field"),
        ("{ header = \"Accept\" }", "`accept` has a meaning of its own"),
        ("{ header = \"x-forwarded-for\" }", "`x-forwarded-for` has a meaning of its own"),
        ("{ header = \"x-mbx-apikey\" }", "the dialect keeps a credential of its own there"),
        ("{ parameter = \"signature\" }", "the dialect keeps a credential of its own there"),
        ("{ parameter = \"a=b\" }", "\"a=b\" is no name of a parameter"),
        ("{ header = \"x-otp\", challenges = true }", "did you mean `challenge`?"),
        ("\"x-otp\"", "expected a table"),
    ] {
        let refused = with(factor).unwrap_err().to_string();
        assert!(refused.contains(problem), "{factor}: {refused}");
    }
    let public = changed(
        "dialect = \"binance\"\npermission = \"trade\"\naddress_limit",
        "ask = \"public\"\nsecond_factor = { header = \"x-otp\" }\naddress_limit",
    );
    let refused = parsed(&public).unwrap_err().to_string();
    assert!(refused.contains("only a signed request has an account"), "{refused}");
    let within = with("{ header = \"x-otp\", challenge = true }");
    assert!(within.is_ok());
    let within = changed(
        "dialect = \"binance\"\npermission = \"trade\"",
        "dialect = \"cryptocom\"\npermission = \"trade\"\nsecond_factor = { header = \"x-otp\", challenge = true }",
    );
    let refused = parsed(&within).unwrap_err().to_string();
    assert!(refused.contains("has its time or nonce within the content"), "{refused}");
}

#[test]
fn a_route_may_say_where_its_requests_name_a_symbol() {
    let with = |symbol: &str| {
        let path = "path = \"/api/v3/order\"";
        let segments = "path = \"/api/v3/{market}/{symbol}\"";
        parsed(&changed(path, &format!("{segments}\nsymbol = {symbol}")))
    };
    let place = |symbol: &str| {
        let loaded = with(symbol).unwrap_or_else(|refused| panic!("{refused}"));
        loaded.config.routes.all()[0].demand.symbol.clone().unwrap()
    };
    for (symbol, expected) in [
        ("{ parameter = \"symbol\" }", SymbolPlace::Parameter("symbol".into())),
        ("{ member = \"symbol\" }", SymbolPlace::Member(["symbol".into()].into())),
        ("{ member = \"a.b\" }", SymbolPlace::Member(["a".into(), "b".into()].into())),
        ("{ segment = \"market\" }", SymbolPlace::Segment(2)),
        ("{ segment = \"symbol\" }", SymbolPlace::Segment(3)),
    ] {
        assert_eq!(place(symbol), expected);
    }
    for (symbol, problem) in [
        ("{}", "it takes one of `parameter`, `member` and `segment`"),
        ("{ parameter = \"a\", member = \"b\" }", "it takes one of"),
        ("{ segment = \"pair\" }", "there is no segment \"{pair}\" in the `path`"),
        ("{ parameter = \"a=b\" }", "\"a=b\" is no name"),
        ("{ member = \"a..b\" }", "\"\" is no name"),
        ("{ param = \"symbol\" }", "there is no such key"),
        ("\"symbol\"", "expected a table"),
    ] {
        let refused = with(symbol).unwrap_err().to_string();
        assert!(refused.contains(problem), "{symbol}: {refused}");
    }
    let public = changed(
        "dialect = \"binance\"\npermission = \"trade\"\naddress_limit",
        "ask = \"public\"\nsymbol = { parameter = \"symbol\" }\naddress_limit",
    );
    let refused = parsed(&public).unwrap_err().to_string();
    assert!(refused.contains("a public route knows no key"), "{refused}");
}

#[test]
fn a_key_may_be_bound_to_symbols() {
    let with =
        |symbols: &str| parsed(&changed("limits = [\"orders\"]", &format!("symbols = {symbols}")));
    let loaded = with("[\"BTCUSDT\", \"ETH/USD\"]").unwrap_or_else(|refused| panic!("{refused}"));
    let bindings = loaded.config.keys[0].bindings.as_ref().unwrap();
    let symbols = bindings.symbols.as_ref().unwrap();
    assert!(symbols.hold("ETH/USD".bytes()) && !symbols.hold("ETHUSD".bytes()));
    assert!(good(GOOD).config.keys[0].bindings.is_none());
    for (symbols, problem) in [
        ("[]", "an empty list would mean every symbol"),
        ("[\"BTC USD\"]", "\"BTC USD\" is no symbol"),
    ] {
        let refused = with(symbols).unwrap_err().to_string();
        assert!(refused.contains(problem), "{symbols}: {refused}");
    }
}

#[test]
fn what_is_known_of_keys_may_be_a_second_old_at_least() {
    let with = |age: &str| {
        let address = "address_limit = \"per-address\"";
        parsed(&changed(address, &format!("{address}\nkey_max_age = \"{age}\"")))
    };
    assert!(with("1s").is_ok());
    for age in ["0s", "400ms", "999ms"] {
        let refused = with(age).unwrap_err().to_string();
        assert!(refused.contains("every half second") && refused.contains("\"1s\""), "{refused}");
    }
}

#[test]
fn the_key_of_challenges_is_a_secret() {
    let with = |key: &str| {
        parsed(&changed("[admin]", &format!("[second_factor]\nchallenge_key = {key}\n\n[admin]")))
    };
    assert!(with("{ env = \"A_SECRET\" }").is_ok());
    let short = with("{ file = \"short\" }").unwrap_err().to_string();
    assert!(short.contains("the key is shorter than 32 bytes"), "{short}");
    let plain = with(&format!("\"{SECRET}\"")).unwrap_err().to_string();
    assert!(!plain.contains("hunter2"), "{plain}");
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
