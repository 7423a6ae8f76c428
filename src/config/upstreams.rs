//! `[[upstream]]`: groups of backends.

use std::sync::Arc;
use std::time::Duration;

use http::uri::Authority;
use http::{HeaderName, HeaderValue};

use super::Upstream;
use super::document::{Node, Table, text};
use super::load::refuse_repeats;
use super::problem::{Fault, Reported, shown};
use super::secrets::secret;
use super::value::{name, passed_on, span, whole};
use crate::dialect::Dialect;
use crate::key::{Algorithm, Secret};

/// An upstream under its name, which counts as known even where the rest is wrong.
pub(super) struct Named<'a> {
    pub(super) name: &'a str,
    pub(super) upstream: Option<Upstream>,
    forwards: Option<Node<'a>>,
}

impl Named<'_> {
    /// Refuses to pass on a header that carries a credential of a dialect in use.
    pub(super) fn refuse_credentials(&self, dialects: &[Arc<Dialect>]) {
        let (Some(upstream), Some(node)) = (&self.upstream, &self.forwards) else { return };
        for dialect in dialects {
            let held = |name: &&HeaderName| dialect.credential_headers().any(|held| held == *name);
            for name in upstream.forward_headers.iter().filter(held) {
                let dialect = dialect.name();
                node.spot.error(Fault::new(format!(
                    "`{name}` carries a credential in dialect {dialect}: no backend gets it"
                )));
            }
        }
    }
}

pub(super) fn upstreams<'a>(root: &Table<'a>) -> Vec<Named<'a>> {
    let mut names = Vec::new();
    let mut all = Vec::new();
    for table in root.tables("upstream") {
        let label = table.need("name", "routes refer to it");
        let (upstream, forwards) = upstream(&table);
        table.finish();
        let name = label.and_then(|node| {
            node.read(|value| {
                let text = name(value)?;
                refuse_repeats(&mut names, text, "upstream").map(|()| text)
            })
        });
        let Some(name) = name else { continue };
        let upstream = upstream.map(|upstream| Upstream { name: Arc::from(name), ..upstream });
        all.push(Named { name, upstream, forwards });
    }
    all
}

fn upstream<'a>(table: &Table<'a>) -> (Option<Upstream>, Option<Node<'a>>) {
    let ms = Duration::from_millis(1);
    let (minute, hour) = (Duration::from_mins(1), Duration::from_hours(1));
    let backends = table.need("backends", "as backends = [\"10.0.0.1:8000\"]");
    let backends = backends.and_then(|node| some_backends(&node));
    let identity_key = identity_key(table);
    let host = table.find("host").map(|node| node.read(host));
    let forwards = table.find("forward_headers");
    let forward_headers = forwards.as_ref().map(|node| node.texts(passed_on));
    let connect_timeout = table.or("connect_timeout", Duration::from_secs(1), span(ms..=minute));
    let response_timeout = table.or("response_timeout", Duration::from_secs(10), span(ms..=hour));
    let idle_timeout = table.or("idle_timeout", Duration::from_secs(4), span(ms..=hour));
    let max_connections = table.or("max_connections", 256, whole(1..=1_000_000));
    let eject_after = table.or("eject_after", 5, whole(1..=1_000_000));
    let eject_for = table.or("eject_for", Duration::from_secs(10), span(ms..=hour));
    let (Some(backends), Ok(identity_key), Some(host)) =
        (backends, identity_key, host.map_or(Some(None), |host| host.map(Some)))
    else {
        return (None, forwards);
    };
    let upstream = Upstream {
        name: Arc::from(""),
        backends,
        identity_key,
        host,
        connect_timeout,
        response_timeout,
        idle_timeout,
        max_connections,
        eject_after,
        eject_for,
        forward_headers: forward_headers.unwrap_or_default(),
    };
    (Some(upstream), forwards)
}

fn some_backends(node: &Node<'_>) -> Option<Vec<Authority>> {
    let mut seen: Vec<Authority> = Vec::new();
    let found = node.texts(|text| {
        let backend = backend(text)?;
        if seen.contains(&backend) {
            return Err(Fault::new(format!("{backend} stands here twice")));
        }
        seen.push(backend.clone());
        Ok(backend)
    });
    if node.value.as_array().is_some_and(|all| all.is_empty()) {
        node.spot.error(Fault::new("there is no backend"));
    }
    (!found.is_empty()).then_some(found)
}

fn backend(text: &str) -> Result<Authority, Fault> {
    let found = text.parse::<Authority>().ok();
    let found = found.filter(|found| {
        found.port_u16().is_some_and(|port| port > 0)
            && !found.host().is_empty()
            && !text.contains('@')
    });
    found.ok_or_else(|| {
        Fault::cured(
            format!("\"{}\" is no host and port", shown(text)),
            "write host:port without a scheme, as \"10.0.0.1:8000\"",
        )
    })
}

fn host(value: &toml::de::DeValue<'_>) -> Result<HeaderValue, Fault> {
    let text = text(value)?;
    let authority = text.parse::<Authority>().ok().filter(|_| !text.contains('@'));
    let value = authority.and_then(|_| HeaderValue::from_str(text).ok());
    value.ok_or_else(|| Fault::new(format!("\"{}\" is no host", shown(text))))
}

/// `None` only where the operator wrote "none".
fn identity_key(table: &Table<'_>) -> Result<Option<Secret>, Reported> {
    let cure = "write { env = \"NAME\" } or { file = \"path\" }, or \"none\" where backends need no proof of who sent a request";
    let node = table.need("identity_key", cure).ok_or(Reported)?;
    if node.value.as_str() == Some("none") {
        node.spot.warn(
            "backends cannot tell the gateway's requests from others': let nobody else reach them",
        );
        return Ok(None);
    }
    let bytes = secret(&node).ok_or(Reported)?;
    if bytes.len() < 32 {
        node.spot.error(Fault::cured(
            "the key is shorter than 32 bytes",
            "make one with `openssl rand -hex 32`",
        ));
        return Err(Reported);
    }
    let key = Secret::read(Algorithm::HmacSha256, &bytes);
    let key = key.map_err(|error| Fault::new(format!("the key cannot be used: {error}")));
    node.spot.noted(key).map(Some).ok_or(Reported)
}
