//! `[store.redis]`: the servers that several gateways remember in together.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::uri::Authority;
use redis::{Client, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo, TlsCertificates};

use super::document::{Node, Table, text};
use super::problem::{Fault, shown};
use super::secrets::secret;
use super::server::pem;
use super::value::{span, whole};
use crate::dialect::{Dialect, NonceKind, TimeKind};
use crate::registry::Location;
use crate::store::redis::{Address, ClusterOptions, Local, Options, Topology, Weakened};

/// The shared store, where one is asked for.
pub(super) fn redis(table: &Table<'_>) -> Option<Options> {
    let ms = Duration::from_millis(1);
    let cure = "as servers = [\"10.0.0.5:6379\"]; three or five independent ones are a quorum";
    let kind = table.find("topology").map(|node| node.read(topology));
    let kind = kind.map_or(Some(None), |given| given.map(Some));
    let servers = table.need("servers", cure);
    let servers = servers.and_then(|node| addresses(&node, kind?));
    let (username, password) = (table.find("username"), table.find("password"));
    let tls = table.find("tls").map(|node| tls(&node));
    let is_cluster = kind? == Some(Kind::Cluster);
    let lease = lease(table, is_cluster);
    let renamed = renamed(table, is_cluster);
    let options = Options {
        servers: Vec::new(),
        topology: Topology::Independent,
        deadline: table.or("deadline", Duration::from_millis(20), span(ms..=2_000 * ms)),
        future_skew: Duration::ZERO,
        clock_bound: table.or("clock_bound", Duration::from_millis(250), span(ms..=5_000 * ms)),
        max_in_flight: table.or("max_in_flight", 1_024, whole(1..=100_000)),
        local: Local { gateways: table.or("gateways", 0, whole(1..=1_000)), routes: Vec::new() },
        weakened: Weakened::default(),
    };
    table.finish();
    let settings = credentials(table, username.as_ref(), password.as_ref())?;
    let tls = tls.map_or(Some(None), |tls| tls.map(Some))?;
    let mut reached = Vec::new();
    for server in servers? {
        let client = client(&server, settings.clone(), tls.as_ref());
        let client =
            client.map_err(|error| Fault::new(format!("{server} cannot be used: {error}")));
        reached.push(Address { name: server.to_string(), client: table.spot.noted(client)? });
    }
    let topology = if is_cluster {
        Topology::Cluster(cluster(lease, renamed, settings, tls))
    } else {
        Topology::Independent
    };
    Some(Options { servers: reached, topology, ..options })
}

/// How servers stand to each other.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    One,
    Quorum,
    Cluster,
}

fn topology(value: &toml::de::DeValue<'_>) -> Result<Kind, Fault> {
    match text(value)? {
        "redis" => Ok(Kind::One),
        "quorum" => Ok(Kind::Quorum),
        "cluster" => Ok(Kind::Cluster),
        "sentinel" => Err(Fault::cured(
            "a primary that was cut off goes on answering there, and would accept twice",
            "use \"quorum\" with three or five servers that know nothing of each other, or \"cluster\"",
        )),
        other => Err(Fault::unknown("topology", other, ["redis", "quorum", "cluster"])),
    }
}

/// For how long a node counts as a primary after most said so.
fn lease(table: &Table<'_>, is_cluster: bool) -> Duration {
    let ms = Duration::from_millis(1);
    if !is_cluster && let Some(node) = table.find("lease") {
        node.spot.error(Fault::cured(
            "only the primaries of a cluster hold a lease",
            "take it away, or set topology = \"cluster\"",
        ));
    }
    table.or("lease", Duration::from_secs(1), span(200 * ms..=15_000 * ms))
}

/// Under which addresses nodes are reached, by those that they announce.
fn renamed(table: &Table<'_>, is_cluster: bool) -> HashMap<String, String> {
    let Some(node) = table.find("addresses") else { return HashMap::new() };
    if !is_cluster {
        node.spot.error(Fault::cured(
            "only the nodes of a cluster announce addresses",
            "take it away, or set topology = \"cluster\"",
        ));
    }
    let Some(given) = node.table() else { return HashMap::new() };
    let one = |(announced, mut reached): (&str, Node<'_>)| {
        reached.spot.secret = true;
        let announced = reached.spot.noted(address(announced))?.to_string();
        Some((announced, reached.read(|value| address(text(value)?))?.to_string()))
    };
    given.all().into_iter().filter_map(one).collect()
}

fn cluster(
    lease: Duration,
    renamed: HashMap<String, String>,
    settings: RedisConnectionInfo,
    tls: Option<TlsCertificates>,
) -> ClusterOptions {
    let by_name = tls.is_some();
    let name = move |host: &str, port: u16| {
        let announced =
            if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        renamed.get(&announced).cloned().unwrap_or(announced)
    };
    let reach = move |name: &str| {
        let server: Authority = name.parse().map_err(|_| {
            let what = (redis::ErrorKind::InvalidClientConfig, "it announces no host and port");
            redis::RedisError::from(what)
        })?;
        client(&server, settings.clone(), tls.as_ref())
    };
    ClusterOptions { lease, by_name, name: Box::new(name), reach: Box::new(reach) }
}

/// Refuses dialects whose requests the shared store cannot judge: those without a time, but for numbers that grow where
/// there is a registry that all gateways share.
pub(super) fn refuse_timeless(
    root: &Table<'_>,
    dialects: &[Arc<Dialect>],
    registry: Option<&Location>,
) {
    for dialect in dialects.iter().filter(|dialect| dialect.time_kind() == TimeKind::None) {
        let name = dialect.name();
        let alone = "serve it from a gateway with kind = \"memory\" and a state_dir";
        let fault = match (dialect.nonce_kind(), registry) {
            (Some(NonceKind::Growing), Some(Location::Postgres(_)) | None) => continue,
            (Some(NonceKind::Growing), Some(Location::Memory | Location::File(_))) => {
                let problem = format!(
                    "dialect {name} signs no time, and its growing numbers need a registry that all gateways share"
                );
                let cure = "set kind = \"postgres\" under [registry]";
                Fault::cured(problem, format!("{cure}, or {alone}"))
            }
            (Some(NonceKind::Unique | NonceKind::None) | None, _) => {
                let problem = format!(
                    "dialect {name} signs no time, and its nonces cannot be kept in a shared store"
                );
                Fault::cured(problem, alone)
            }
        };
        root.spot.error(fault);
    }
}

fn addresses(node: &Node<'_>, kind: Option<Kind>) -> Option<Vec<Authority>> {
    let mut found: Vec<Authority> = Vec::new();
    let mut all_read = true;
    for mut item in node.items()? {
        // Credentials may stand there by mistake.
        item.spot.secret = true;
        let server = item.read(|value| {
            let server = address(text(value)?)?;
            if found.iter().any(|other| is_same(other, &server)) {
                return Err(Fault::cured(
                    format!("{server} stands here twice"),
                    "one server has one vote: give each once",
                ));
            }
            Ok(server)
        });
        all_read &= server.is_some();
        found.extend(server);
    }
    if !all_read {
        return None;
    }
    let (is_right, cure) = match kind {
        None => (
            matches!(found.len(), 1 | 3 | 5),
            "give one, or three or five that know nothing of each other: most of them decide",
        ),
        Some(Kind::One) => (found.len() == 1, "give one, or set topology to what they are"),
        Some(Kind::Quorum) => (
            matches!(found.len(), 3 | 5),
            "give three or five that know nothing of each other: most of them decide",
        ),
        Some(Kind::Cluster) => (
            (1..=100).contains(&found.len()),
            "give a few nodes of the cluster: they tell of the others",
        ),
    };
    if !is_right {
        node.spot.error(Fault::cured(format!("there are {} servers", found.len()), cure));
        return None;
    }
    Some(found)
}

/// Whether two addresses are spellings of one.
fn is_same(a: &Authority, b: &Authority) -> bool {
    a.host().eq_ignore_ascii_case(b.host()) && a.port_u16() == b.port_u16()
}

/// A host and its port, and nothing else; what is wrong is not repeated where it may hold a password.
fn address(text: &str) -> Result<Authority, Fault> {
    if text.contains('@') {
        return Err(Fault::cured(
            "credentials do not stand in an address",
            "write host:port, with `username` and password = { env = \"NAME\" } or { file = \"path\" } beside \
             `servers`; change the password if others saw it",
        ));
    }
    if text.contains('/') {
        return Err(Fault::cured(
            format!("\"{}\" is a URL or names a database", shown(text)),
            "write host:port, as \"10.0.0.5:6379\": the database is always 0, and `tls` stands beside `servers`",
        ));
    }
    let is_whole = |server: &Authority| {
        !server.host().is_empty() && server.port_u16().is_some_and(|port| port > 0)
    };
    text.parse::<Authority>().ok().filter(is_whole).ok_or_else(|| {
        Fault::cured(
            format!("\"{}\" is no host and port", shown(text)),
            "write host:port, as \"10.0.0.5:6379\"; credentials stand beside it",
        )
    })
}

fn credentials(
    table: &Table<'_>,
    username: Option<&Node<'_>>,
    password: Option<&Node<'_>>,
) -> Option<RedisConnectionInfo> {
    let mut settings = RedisConnectionInfo::default();
    if let Some(node) = username {
        settings = settings.set_username(node.read(text)?);
        if password.is_none() {
            node.spot.error(Fault::cured(
                "a user is named and no password, so nobody would log in",
                "add password = { env = \"NAME\" } or { file = \"path\" }, or leave `username` out for a server \
                 that asks for none",
            ));
            return None;
        }
    }
    if let Some(node) = password {
        let password = secret(node)?;
        let clear =
            std::str::from_utf8(&password).map_err(|_| Fault::new("the password is no UTF-8 text"));
        settings = settings.set_password(table.spot.noted(clear)?);
    }
    Some(settings)
}

/// The certificate of whoever signed the servers'; the machine's own roots where it is left out.
fn tls(node: &Node<'_>) -> Option<TlsCertificates> {
    let table = node.table()?;
    let ca = table.find("ca").map(|node| pem(&node, "CERTIFICATE-----", false));
    table.finish();
    let root_cert = match ca {
        None => None,
        Some(path) => {
            let contents = node.spot.document.lookup.file(&path?);
            let contents =
                contents.map_err(|error| Fault::new(format!("it cannot be read: {error}")));
            Some(node.spot.noted(contents)?.bytes.to_vec())
        }
    };
    Some(TlsCertificates { client_tls: None, root_cert })
}

fn client(
    server: &Authority,
    settings: RedisConnectionInfo,
    tls: Option<&TlsCertificates>,
) -> Result<Client, redis::RedisError> {
    let host = server.host().trim_matches(['[', ']']).to_owned();
    let port = server.port_u16().unwrap_or_default();
    match tls {
        None => {
            let info = ConnectionAddr::Tcp(host, port).into_connection_info()?;
            Client::open(info.set_redis_settings(settings))
        }
        Some(tls) => {
            let at = ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None };
            let info = at.into_connection_info()?.set_redis_settings(settings);
            Client::build_with_tls(info, tls.clone())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::{Config, Contents, Lookup};

    const SECRET: &str = "hunter2-hunter2";

    struct World;

    impl Lookup for World {
        fn variable(&self, name: &str) -> Option<zeroize::Zeroizing<String>> {
            (name == "THE_PASSWORD").then(|| SECRET.to_owned().into())
        }

        fn file(&self, path: &Path) -> std::io::Result<Contents> {
            let bytes = match path.to_str() {
                Some("password") => SECRET.as_bytes().to_vec().into(),
                Some("bytes") => vec![0xff; 8].into(),
                _ => return Err(std::io::ErrorKind::NotFound.into()),
            };
            Ok(Contents { bytes, public: false })
        }
    }

    /// What is wrong with these lines of `[store.redis]`, which begin with the eleventh; and all that is ever shown.
    fn wrong(lines: &str) -> (Vec<String>, String) {
        let text = format!(
            r#"version = 1
[admin]
address = "127.0.0.1:0"
[[listener]]
name = "public"
address = "127.0.0.1:0"
# ----
[store]
kind = "redis"
[store.redis]
{lines}
[[upstream]]
name = "exchange"
backends = ["127.0.0.1:1"]
identity_key = "none"
[[route]]
name = "one"
methods = ["GET"]
path = "/one"
upstream = "exchange"
dialect = "okx"
when_store_down = "local"
"#
        );
        match Config::parse(&text, Path::new("gateway.toml"), &World) {
            Ok(loaded) => (Vec::new(), format!("{:?}", loaded.config)),
            Err(refused) => {
                let errors = refused.errors.iter().map(ToString::to_string).collect();
                (errors, format!("{refused} {refused:?}"))
            }
        }
    }

    /// Lines, and how the one thing begins that is said of them.
    const BROKEN: &[(&str, &str)] = &[
        (
            "topology = \"sentinel\"\nservers = [\"a:1\"]",
            "11:12: store.redis.topology: a primary that was cut off goes on answering there, and would accept twice (use \"quorum\"",
        ),
        (
            "topology = \"qourum\"\nservers = [\"a:1\"]",
            "11:12: store.redis.topology: no topology is called \"qourum\" (did you mean \"quorum\"?)",
        ),
        (
            "topology = \"quorum\"\nservers = [\"a:1\", \"b:1\"]",
            "12:11: store.redis.servers: there are 2 servers (give three or five that know nothing",
        ),
        (
            "topology = \"quorum\"\nservers = [\"a:1\", \"b:1\", \"c:1\", \"d:1\"]",
            "12:11: store.redis.servers: there are 4 servers (give three or five",
        ),
        (
            "servers = [\"a:1\", \"b:1\"]",
            "11:11: store.redis.servers: there are 2 servers (give one, or three or five",
        ),
        (
            "topology = \"redis\"\nservers = [\"a:1\", \"b:1\", \"c:1\"]",
            "12:11: store.redis.servers: there are 3 servers (give one, or set topology",
        ),
        (
            "servers = [\"a:1\", \"b:1\", \"a:1\"]",
            "11:26: store.redis.servers[2]: a:1 stands here twice (one server has one vote",
        ),
        (
            "servers = [\"a:1\", \"b:1\", \"A:01\"]",
            "11:26: store.redis.servers[2]: A:01 stands here twice",
        ),
        (
            "servers = [\"10.0.0.5:6379/3\"]",
            "11:12: store.redis.servers[0]: \"10.0.0.5:6379/3\" is a URL or names a database (write host:port",
        ),
        (
            "servers = [\"rediss://10.0.0.5:6379\"]",
            "11:12: store.redis.servers[0]: \"rediss://10.0.0.5:6379\" is a URL or names a database (write host:port",
        ),
        (
            "servers = [\"a:1\"]\ngateways = 2\ndb = 3",
            "13:1: store.redis.db: there is no such key (known here:",
        ),
        ("servers = [\"a:0\"]", "11:12: store.redis.servers[0]: \"a:0\" is no host and port"),
        ("servers = [\"a\"]", "11:12: store.redis.servers[0]: \"a\" is no host and port"),
        (
            "servers = [\"a:1\"]\nusername = \"countersign\"",
            "12:12: store.redis.username: a user is named and no password",
        ),
        (
            "servers = [\"a:1\"]\npassword = { env = \"NOT_SET\" }",
            "12:20: store.redis.password.env: the environment variable NOT_SET is not set, or is empty (set it",
        ),
        (
            "servers = [\"a:1\"]\ntls = { ca = \"none.pem\" }",
            "12:14: store.redis.tls.ca: none.pem cannot be read",
        ),
        ("deadline = \"20ms\"", "10:1: store.redis: `servers` is missing (as servers = ["),
    ];

    #[test]
    fn what_is_wrong_with_the_shared_store_is_said_once_with_its_line_and_cure() {
        for (lines, said) in BROKEN {
            let (errors, _) = wrong(lines);
            assert!(
                matches!(&errors[..], [one] if one.starts_with(&format!("gateway.toml:{said}"))),
                "{lines}: {errors:#?}"
            );
        }
        let (errors, _) = wrong("servers = [\"a:1\"]\ngateways = 2");
        assert_eq!(errors, [""; 0], "the control");
    }

    #[test]
    fn no_password_of_the_shared_store_is_ever_repeated() {
        for lines in [
            "servers = [\"redis://u:hunter2@10.0.0.5:6379\"]",
            "servers = [\"u:hunter2@10.0.0.5:6379\"]",
            "servers = [\n  \"a:1\",\n  \":hunter2@10.0.0.5:6379\",\n  \"b:1\",\n]",
            "servers = [\"a:1\"]\npassword = \"hunter2\"",
            "servers = [\"a:1\"]\npassword = { value = \"hunter2\" }",
            "servers = [\"a:1\"]\npassword = { env = \"hunter2\" }",
            "servers = [\"a:1\"]\npassword = { file = \"hunter2\" }",
            "servers = [\"a:1\"]\npasswrod = \"hunter2\"",
            "topology = \"cluster\"\nservers = [\"a:1\"]\naddresses = { \"b:1\" = \"u:hunter2@c:1\" }",
        ] {
            let (errors, shown) = wrong(lines);
            assert!(!errors.is_empty(), "{lines}");
            assert!(!shown.contains("hunter2"), "{lines}: {shown}");
        }
        for given in ["{ env = \"THE_PASSWORD\" }", "{ file = \"password\" }"] {
            let lines =
                format!("servers = [\"a:1\"]\ngateways = 2\nusername = \"u\"\npassword = {given}");
            let (errors, shown) = wrong(&lines);
            assert_eq!(errors, [""; 0]);
            assert!(!shown.contains("hunter2"), "{shown}");
        }
        let (errors, _) = wrong("servers = [\"a:1\"]\npassword = { file = \"bytes\" }");
        assert!(matches!(&errors[..], [one] if one.contains("no UTF-8 text")), "{errors:?}");
    }

    #[test]
    fn a_kind_of_store_that_cannot_be_read_says_nothing_of_memory() {
        for kind in ["sentinel", "quorum", "rediss"] {
            let text = format!(
                "version = 1\n[store]\nkind = \"{kind}\"\n[store.redis]\nservers = [\"a:1\"]\n[[route]]\n\
                 name = \"one\"\nmethods = [\"GET\"]\npath = \"/\"\nupstream = \"e\"\ndialect = \"okx\"\n\
                 when_store_down = \"local\"\n[[upstream]]\nname = \"e\"\nbackends = [\"127.0.0.1:1\"]\n\
                 identity_key = \"none\"\n"
            );
            let refused = Config::parse(&text, Path::new("gateway.toml"), &World).unwrap_err();
            let said = refused.to_string();
            assert!(said.contains("gateway.toml:3:8: store.kind: "), "{said}");
            assert!(!said.contains("memory\""), "{said}");
            assert!(!said.contains("in memory"), "{said}");
        }
    }
}
