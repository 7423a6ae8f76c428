//! What the gateways are told: routes, keys and limits of every class, and where the servers are.

use std::fmt::Write as _;
use std::net::SocketAddr;

use crate::clients::{ALONE, Class, Client, GROWING, LEAD, STYLES, Style};
use crate::world::GATEWAYS;

/// Honest keys of each dialect.
const KEYS: usize = 4;
/// Keys that always want more than their limit.
const GREEDY: usize = 3;
/// Their limit, in a second.
pub(crate) const QUOTA: u32 = 10;
/// The limit of those who may be judged alone, and what each gateway may spend of it alone.
pub(crate) const ALONE_QUOTA: u32 = 12;
pub(crate) const SHARE: u32 = ALONE_QUOTA / 3;
const _: () = assert!(GATEWAYS == 3, "of whom each has a third");

pub(crate) fn honest() -> Vec<Client> {
    let numbered = |style| (0..KEYS).map(move |n| (style, n));
    let all = STYLES.into_iter().flat_map(numbered);
    let client = |(style, n): (Style, usize)| {
        Client::new(style, Class::Honest, &format!("{}-{n}", style.dialect))
    };
    all.map(client).collect()
}

pub(crate) fn greedy() -> Vec<Client> {
    let client = |n| Client::new(STYLES[0], Class::Greedy, &format!("greedy-{n}"));
    (0..GREEDY).map(client).collect()
}

/// Those whose requests are judged by one gateway alone while the store cannot be asked.
pub(crate) fn alone() -> Vec<Client> {
    let client =
        |style: Style| Client::new(style, Class::Alone, &format!("{}-alone", style.dialect));
    ALONE.into_iter().map(client).collect()
}

/// How a gateway reaches the servers.
#[derive(Clone, Debug)]
pub(crate) struct Reach {
    pub(crate) ports: Vec<u16>,
    /// What the nodes of a cluster announce in their place; nothing where they are none.
    pub(crate) announced: Vec<u16>,
}

impl Reach {
    pub(crate) fn of(ports: Vec<u16>) -> Self {
        Self { ports, announced: Vec::new() }
    }

    /// Lines of `[store.redis]`.
    fn text(&self) -> String {
        let quoted = |port: &u16| format!("\"127.0.0.1:{port}\"");
        let servers: Vec<_> = self.ports.iter().map(quoted).collect();
        let mut text = format!("servers = [{}]\n", servers.join(", "));
        if !self.announced.is_empty() {
            text += "topology = \"cluster\"\n";
            let pairs = self.announced.iter().map(quoted).zip(&servers);
            let pairs: Vec<_> =
                pairs.map(|(announced, at)| format!("{announced} = {at}")).collect();
            writeln!(text, "addresses = {{ {} }}", pairs.join(", ")).unwrap();
        }
        text
    }
}

/// The key that signs growing numbers: no two of them may have one secret.
pub(crate) fn growing() -> Vec<Client> {
    vec![Client::growing("growing")]
}

/// What is beside [`configuration`] where there is a registry that all gateways share: keys that sign growing numbers.
pub(crate) fn with_growing() -> String {
    let mut text = "[registry]\nkind = \"postgres\"\nurl = { env = \"R\" }\n".to_owned();
    let dialect = GROWING.dialect;
    for (n, path) in GROWING.paths.iter().enumerate() {
        write!(
            text,
            "[[route]]\nname = \"{dialect}-{n}\"\nmethods = [\"POST\", \"PUT\"]\npath = \"{path}\"\n\
             upstream = \"exchange\"\ndialect = \"{dialect}\"\npermission = \"trade\"\neffect = \"write\"\n"
        )
        .unwrap();
    }
    for Client { key, .. } in growing() {
        write!(
            text,
            "[[key]]\nid = \"{key}\"\naccount = \"{key}\"\ndialect = \"{dialect}\"\nsecret = {{ env = \"G\" }}\n\
             permissions = [\"trade\"]\nlimits = [\"wide\"]\n"
        )
        .unwrap();
    }
    text
}

/// The configuration of one gateway.
pub(crate) fn configuration(
    listen: u16,
    admin: u16,
    servers: &Reach,
    backend: SocketAddr,
    deadline_ms: u64,
) -> String {
    let is_cluster = !servers.announced.is_empty();
    let servers = servers.text();
    let text = format!(
        r#"version = 1
[server]
workers = 1
drain_timeout = "5s"
[[listener]]
name = "public"
address = "127.0.0.1:{listen}"
[admin]
address = "127.0.0.1:{admin}"
[audit]
enabled = false
[store]
kind = "redis"
[store.redis]
{servers}deadline = "{deadline_ms}ms"
gateways = {GATEWAYS}
[guard]
exempt = ["127.0.0.0/8"]
[[upstream]]
name = "exchange"
backends = ["{backend}"]
identity_key = "none"
[[limit]]
name = "wide"
quota = 1000000
per = "1s"
[[limit]]
name = "tight"
quota = {QUOTA}
per = "1s"
"#
    );
    let text = text + &routes_and_keys();
    // The nodes of a cluster are not told what was judged without them.
    if is_cluster { text } else { text + &judged_alone() }
}

/// What gateways judge alone while the store cannot be asked.
fn judged_alone() -> String {
    let mut text = format!("[[limit]]\nname = \"shared\"\nquota = {ALONE_QUOTA}\nper = \"1s\"\n");
    for style in &ALONE {
        let (method, dialect) = (style.methods[0], style.dialect);
        let effect = if method == "GET" { "read" } else { "cancel" };
        let lead = LEAD.as_secs();
        for (n, path) in style.paths.iter().enumerate() {
            write!(
                text,
                "[[route]]\nname = \"{dialect}-{effect}-{n}\"\nmethods = [\"{method}\"]\npath = \"{path}\"\n\
                 upstream = \"exchange\"\ndialect = \"{dialect}\"\npermission = \"trade\"\neffect = \"{effect}\"\n\
                 when_store_down = \"local\"\nlead = \"{lead}s\"\n"
            )
            .unwrap();
        }
    }
    text + &keys(&alone(), "shared")
}

fn keys(clients: &[Client], limit: &str) -> String {
    let mut text = String::new();
    for Client { key, style, .. } in clients {
        write!(
            text,
            "[[key]]\nid = \"{key}\"\naccount = \"{key}\"\ndialect = \"{}\"\nsecret = {{ env = \"S\" }}\n\
             permissions = [\"trade\"]\nlimits = [\"{limit}\"]\n",
            style.dialect
        )
        .unwrap();
        if style.dialect == "kucoin" {
            text += "passphrase = { env = \"P\" }\n";
        }
    }
    text
}

fn routes_and_keys() -> String {
    let mut text = String::new();
    for style in &STYLES {
        for (n, path) in style.paths.iter().enumerate() {
            write!(
                text,
                "[[route]]\nname = \"{0}-{n}\"\nmethods = [\"POST\", \"PUT\", \"DELETE\"]\npath = \"{path}\"\n\
                 upstream = \"exchange\"\ndialect = \"{0}\"\npermission = \"trade\"\neffect = \"write\"\nlead = \"{1}s\"\n",
                style.dialect,
                LEAD.as_secs()
            )
            .unwrap();
        }
    }
    text + &keys(&honest(), "wide") + &keys(&greedy(), "tight")
}
