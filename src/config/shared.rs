//! `[store.redis]`: the servers that several gateways remember in together.

use std::sync::Arc;
use std::time::Duration;

use http::uri::Authority;
use redis::{Client, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo, TlsCertificates};

use super::document::{Node, Table, text};
use super::problem::{Fault, shown};
use super::secrets::secret;
use super::server::pem;
use super::value::{span, whole};
use crate::dialect::{Dialect, TimeKind};
use crate::store::redis::{Address, Local, Options, Weakened};

/// The shared store, where one is asked for.
pub(super) fn redis(table: &Table<'_>) -> Option<Options> {
    let ms = Duration::from_millis(1);
    let cure = "as servers = [\"10.0.0.5:6379\"]; three or five independent ones are a quorum";
    let servers = table.need("servers", cure);
    let servers = servers.and_then(|node| addresses(&node));
    let (username, password) = (table.find("username"), table.find("password"));
    let tls = table.find("tls").map(|node| tls(&node));
    let options = Options {
        servers: Vec::new(),
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
    Some(Options { servers: reached, ..options })
}

/// Refuses dialects whose requests the shared store cannot judge.
pub(super) fn refuse_timeless(root: &Table<'_>, dialects: &[Arc<Dialect>]) {
    for dialect in dialects.iter().filter(|dialect| dialect.time_kind() == TimeKind::None) {
        root.spot.error(Fault::cured(
            format!(
                "dialect {} signs no time, and its nonces cannot be kept in a shared store",
                dialect.name()
            ),
            "serve it from a gateway with kind = \"memory\" and a state_dir",
        ));
    }
}

fn addresses(node: &Node<'_>) -> Option<Vec<Authority>> {
    let mut seen: Vec<Authority> = Vec::new();
    let found = node.texts(|text| {
        let server = text.parse::<Authority>().ok().filter(|server| server.port_u16().is_some());
        let server = server.filter(|server| !text.contains('@') && !server.host().is_empty());
        let server = server.ok_or_else(|| {
            Fault::cured(
                format!("\"{}\" is no host and port", shown(text)),
                "write host:port, as \"10.0.0.5:6379\"; credentials stand beside it",
            )
        })?;
        if seen.contains(&server) {
            return Err(Fault::new(format!("{server} stands here twice")));
        }
        seen.push(server.clone());
        Ok(server)
    });
    if !matches!(found.len(), 1 | 3 | 5) {
        node.spot.error(Fault::cured(
            format!("there are {} servers", found.len()),
            "give one, or three or five that know nothing of each other: most of them decide",
        ));
        return None;
    }
    Some(found)
}

fn credentials(
    table: &Table<'_>,
    username: Option<&Node<'_>>,
    password: Option<&Node<'_>>,
) -> Option<RedisConnectionInfo> {
    let mut settings = RedisConnectionInfo::default();
    if let Some(node) = username {
        settings = settings.set_username(node.read(text)?);
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
