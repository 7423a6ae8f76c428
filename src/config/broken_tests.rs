//! Everything that can be wrong with a configuration, and what is said of it.

use std::path::Path;

use super::broken_routes_tests::ROUTES;
use super::tests::{GOOD, World, changed, good, parsed};
use super::*;

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
fn whatever_is_wrong_is_said_with_its_place_and_cure() {
    let mut wrong = Vec::new();
    for (from, to, said) in BROKEN.iter().chain(ROUTES) {
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
    assert!(refused("bytes.toml", world).starts_with("bytes.toml:1:1: the file is no UTF-8 text"));
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
