//! Configurations: three exchanges' dialects and our own, keys of every kind, routes of every kind.

use std::net::SocketAddr;

use tempfile::TempDir;

use crate::client::Client;

pub(crate) const SECRET: &str = "a secret that only this client knows";
pub(crate) const PASSPHRASE: &str = "open sesame";
pub(crate) const IDENTITY: &str = "shared by the gateway and its backends, 32 bytes or more";
pub(crate) const VARIABLES: [(&str, &str); 3] =
    [("CLIENT_SECRET", SECRET), ("CLIENT_PASSPHRASE", PASSPHRASE), ("IDENTITY_KEY", IDENTITY)];

/// Where each dialect reads and writes.
pub(crate) const DIALECTS: [(&str, &str, &str); 3] = [
    ("binance", "/api/v3/account", "/api/v3/order"),
    ("bybit", "/v5/order/realtime", "/v5/order/create"),
    ("bitget", "/api/v2/spot/account/assets", "/api/v2/spot/trade/place-order"),
];

/// The same of our own dialect, of which no exchange's answers are recorded.
pub(crate) const NATIVE: (&str, &str, &str) = ("native", "/account", "/orders");

/// A file in a directory of its own.
pub(crate) struct File {
    directory: TempDir,
    text: String,
}

impl File {
    pub(crate) fn new(text: &str) -> Self {
        let file = Self { directory: tempfile::tempdir().unwrap(), text: text.to_owned() };
        file.write("gateway.toml", text);
        file
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        let path = self.directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub(crate) fn path(&self) -> String {
        self.directory.path().join("gateway.toml").to_str().unwrap().to_owned()
    }

    /// The line, from 1, on which `text` first stands.
    pub(crate) fn line_of(&self, text: &str) -> usize {
        1 + self.text.lines().position(|line| line.contains(text)).unwrap()
    }
}

/// Sockets and one upstream; `more` follows. All tests fail from one address, and none of them is about that.
pub(crate) fn base(server: &str, backends: &[SocketAddr], more: &str) -> String {
    let backends: Vec<_> = backends.iter().map(|address| format!("\"{address}\"")).collect();
    format!(
        r#"version = 1

[server]
workers = 2
{server}

[[listener]]
name = "public"
address = "127.0.0.1:0"

[admin]
address = "127.0.0.1:0"

[guard]
exempt = ["127.0.0.0/8"]

[[upstream]]
name = "exchange"
backends = [{}]
identity_key = {{ env = "IDENTITY_KEY" }}
response_timeout = "1m"

{more}"#,
        backends.join(", ")
    )
}

/// A read and a write route of each dialect, and a key of each kind.
pub(crate) fn world(backends: &[SocketAddr]) -> String {
    let mut more = String::from(
        "[[limit]]\nname = \"small\"\nquota = 3\nper = \"1h\"\n\n[[route]]\nname = \"other\"\nmethods = [\"GET\"]\n\
         path = \"/other\"\nupstream = \"exchange\"\ndialect = \"binance\"\nvenue = \"elsewhere\"\n\n",
    );
    for (dialect, read, write) in DIALECTS.into_iter().chain([NATIVE]) {
        more.push_str(&route(dialect, "GET", read, "effect = \"read\""));
        more.push_str(&route(dialect, "POST", write, "permission = \"trade\""));
        for (kind, extra) in KINDS {
            more.push_str(&key(dialect, &format!("{dialect}-{kind}"), extra));
        }
    }
    base("", backends, &more)
}

/// What is particular about each key.
const KINDS: [(&str, &str); 8] = [
    ("good", ""),
    ("revoked", "state = \"revoked\""),
    ("suspended", "state = \"suspended\""),
    ("elsewhere", "venue = \"elsewhere\""),
    ("expired", "expires = 2020-01-31T00:00:00Z"),
    ("bound", "allowlist = [\"203.0.113.7\"]"),
    ("small", "limits = [\"small\"]"),
    ("reader", "permissions = [\"read\"]"),
];

pub(crate) fn route(dialect: &str, method: &str, path: &str, extra: &str) -> String {
    format!(
        "[[route]]\nname = \"{dialect}-{}\"\nmethods = [\"{method}\"]\npath = \"{path}\"\n\
         upstream = \"exchange\"\ndialect = \"{dialect}\"\n{extra}\n\n",
        method.to_lowercase()
    )
}

pub(crate) fn key(dialect: &str, id: &str, extra: &str) -> String {
    let passphrase =
        if dialect == "bitget" { "passphrase = { env = \"CLIENT_PASSPHRASE\" }" } else { "" };
    let permissions =
        if extra.contains("permissions") { "" } else { "permissions = [\"read\", \"trade\"]" };
    format!(
        "[[key]]\nid = \"{id}\"\naccount = \"{id}\"\ndialect = \"{dialect}\"\n\
         secret = {{ env = \"CLIENT_SECRET\" }}\n{passphrase}\n{permissions}\n{extra}\n\n"
    )
}

/// Who signs with the right secret under `key`.
pub(crate) fn client<'a>(dialect: &'a str, key: &'a str) -> Client<'a> {
    Client { dialect, key, secret: SECRET, passphrase: PASSPHRASE }
}

/// A body or query that no other request has.
pub(crate) fn order(dialect: &str, number: usize) -> String {
    if dialect == "binance" {
        format!("symbol=BTCUSDT&newClientOrderId={number}")
    } else {
        format!("{{\"symbol\":\"BTCUSDT\",\"clientOid\":\"{number}\"}}")
    }
}
