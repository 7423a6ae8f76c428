//! What a gateway is told: a listener, a route and keys for every case.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::json;

use crate::cases::{Case, PASSPHRASE};

/// Where the admin API is served.
pub(crate) const SOCKET: &str = "admin.sock";

/// Where records are.
pub(crate) enum Store {
    Memory,
    /// On one server at this port, with an audit trail; and keys in the registry.
    Redis(u16),
}

/// The address of a case: its own, by which its route is found.
pub(crate) fn host(place: usize) -> String {
    format!("127.0.0.{}", 10 + place)
}

/// The names and values of the variables that hold secrets.
pub(crate) fn variables(cases: &[Case]) -> Vec<(String, String)> {
    let secrets = cases.iter().enumerate();
    let secrets = secrets.map(|(place, case)| (format!("SECRET_{place}"), case.verifier()));
    let passphrase = ("PASSPHRASE".to_owned(), PASSPHRASE.to_owned());
    let identity =
        ("IDENTITY".to_owned(), "shared by the gateway and its backends, 32 bytes".to_owned());
    secrets.chain([passphrase, identity]).collect()
}

pub(crate) fn text(cases: &[Case], store: &Store, backend: SocketAddr, dir: &Path) -> String {
    let (store, audited) = match store {
        Store::Memory => (String::new(), false),
        Store::Redis(port) => (
            format!(
                "kind = \"redis\"\n[store.redis]\nservers = [\"127.0.0.1:{port}\"]\ndeadline = \"1s\""
            ),
            true,
        ),
    };
    let (state, socket) = (dir.join("state"), dir.join(SOCKET));
    let (state, socket) = (state.display(), socket.display());
    let mut text = format!(
        r#"version = 1
[server]
workers = 1
[admin]
address = "127.0.0.1:0"
socket = "{socket}"
# Wrong requests come from one address, and so do all others.
[guard]
exempt = ["127.0.0.0/8"]
[audit]
enabled = {audited}
[store]
state_dir = "{state}"
{store}
[[upstream]]
name = "exchange"
backends = ["{backend}"]
identity_key = {{ env = "IDENTITY" }}
[[limit]]
name = "account"
quota = 1000000000
per = "1m"
[[limit]]
name = "burst"
quota = 1000000000
per = "10s"
[[limit]]
name = "address"
quota = 1000000000
per = "1m"
scope = "address"
"#
    );
    for (place, case) in cases.iter().enumerate() {
        write_route(&mut text, place, case);
        if !audited {
            write_keys(&mut text, place, case);
        }
    }
    text
}

/// Every key as `countersign keys import --file` reads it, one a line.
pub(crate) fn lines(cases: &[Case]) -> String {
    let mut text = String::new();
    for case in cases {
        for (n, id) in case.key_ids().enumerate() {
            let dialect = case.dialect();
            let mut key = json!({
                "id": id,
                "account": format!("account-{n}"),
                "dialect": &**dialect.name(),
                "algorithm": case.algorithm.name(),
                "permissions": ["read", "trade"],
                "limits": ["account", "burst"],
            });
            key[case.kind()] = case.verifier().into();
            if dialect.has_passphrase() {
                key["passphrase"] = PASSPHRASE.into();
            }
            writeln!(text, "{key}").unwrap();
        }
    }
    text
}

fn write_route(text: &mut String, place: usize, case: &Case) {
    let (host, name) = (host(place), case.name());
    let dialect = case.dialect();
    let path = dialect.example().target.split('?').next().unwrap();
    write!(
        text,
        r#"
[[listener]]
name = "plain-{place}"
address = "{host}:0"
[[listener]]
name = "tls-{place}"
address = "{host}:0"
tls = {{ cert = "cert.pem", key = "key.pem" }}
[[route]]
name = "{name}"
host = "{host}"
methods = ["GET", "POST"]
path = "{path}"
upstream = "exchange"
dialect = "{}"
permission = "trade"
effect = "write"
# Little more than the load's deadlines lie ahead, so that they are soon known to be signed after the start.
lead = "11s"
address_limit = "address"
"#,
        dialect.name()
    )
    .unwrap();
}

fn write_keys(text: &mut String, place: usize, case: &Case) {
    let (dialect, kind) = (case.dialect(), case.kind());
    for (n, id) in case.key_ids().enumerate() {
        let passphrase =
            if dialect.has_passphrase() { "passphrase = { env = \"PASSPHRASE\" }\n" } else { "" };
        write!(
            text,
            r#"
[[key]]
id = "{id}"
account = "account-{n}"
dialect = "{}"
algorithm = "{}"
{kind} = {{ env = "SECRET_{place}" }}
{passphrase}permissions = ["read", "trade"]
limits = ["account", "burst"]
"#,
            dialect.name(),
            case.algorithm.name()
        )
        .unwrap();
    }
}
