//! A gateway as a process of its own, on a fixed address, so that it can be killed and come back.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::clients::{Client, GROWING, GROWING_SECRET, LEAD, PASSPHRASE, SECRET, STYLES};
use crate::free_port::free_port;
use crate::redis_server::signal;

/// Honest keys of each dialect.
const KEYS: usize = 4;
/// Keys that always want more than their limit.
const GREEDY: usize = 3;
/// Their limit, in a second.
pub(crate) const QUOTA: u32 = 10;

pub(crate) fn honest() -> Vec<Client> {
    let numbered = |style| (0..KEYS).map(move |n| (style, n));
    let all = STYLES.into_iter().flat_map(numbered);
    all.map(|(style, n)| Client::new(style, format!("{}-{n}", style.dialect))).collect()
}

pub(crate) fn greedy() -> Vec<Client> {
    (0..GREEDY).map(|n| Client::new(STYLES[0], format!("greedy-{n}"))).collect()
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
    vec![Client::growing("growing".to_owned())]
}

/// What is beside [`configuration`] where there is a registry that all gateways share: keys that sign growing numbers.
fn with_growing() -> String {
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
    text + &routes_and_keys()
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
    for (clients, limit) in [(honest(), "wide"), (greedy(), "tight")] {
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
    }
    text
}

#[derive(Debug)]
pub(crate) struct GatewayProcess {
    pub(crate) port: u16,
    admin: u16,
    config: std::path::PathBuf,
    registry: String,
    child: Option<Child>,
}

impl GatewayProcess {
    pub(crate) fn start(
        folder: &Path,
        servers: &Reach,
        backend: SocketAddr,
        deadline_ms: u64,
        registry: &str,
    ) -> Self {
        let (port, admin) = (free_port(), free_port());
        let config = folder.join(format!("{port}.toml"));
        let mut text = configuration(port, admin, servers, backend, deadline_ms);
        if !registry.is_empty() {
            text += &with_growing();
        }
        std::fs::write(&config, text).unwrap();
        let registry = registry.to_owned();
        let mut gateway = Self { port, admin, config, registry, child: None };
        gateway.restart();
        gateway
    }

    pub(crate) fn restart(&mut self) {
        self.kill();
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.config.with_extension("log"))
            .unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        command.env_clear().env("S", SECRET).env("P", PASSPHRASE);
        command.env("G", GROWING_SECRET).env("R", &self.registry);
        command.args(["serve", "--log-format", "text", "--config"]).arg(&self.config);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().unwrap());
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Asks it to end, and waits until it has: whether it says that all went well.
    pub(crate) fn end(&mut self) -> bool {
        self.signal("TERM");
        self.child.take().is_some_and(|mut child| child.wait().unwrap().success())
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(self.child.as_ref().unwrap().id(), name);
    }

    /// Whether it says that it is ready.
    pub(crate) fn is_ready(&self) -> bool {
        let ask = || -> std::io::Result<bool> {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.admin));
            let mut socket = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
            socket.set_read_timeout(Some(Duration::from_secs(1)))?;
            socket.write_all(b"GET /readyz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")?;
            let mut reply = String::new();
            socket.read_to_string(&mut reply)?;
            Ok(reply.starts_with("HTTP/1.1 200"))
        };
        ask().unwrap_or(false)
    }

    pub(crate) fn wait_until_ready(&self) {
        let begun = Instant::now();
        while !self.is_ready() {
            assert!(begun.elapsed() < Duration::from_mins(1), "{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.config.with_extension("log")).unwrap_or_default()
    }
}

impl Drop for GatewayProcess {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
