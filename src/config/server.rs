//! `[server]`, `[[listener]]` and `[store]`: sockets, time limits and memory.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::document::{Node, Table, text};
use super::load::{refuse_repeats, section};
use super::problem::{Fault, Reported};
use super::value::{address, name, network, size, span, whole};
use super::{Listener, Server, Store, TlsFiles, shared};
use crate::store::redis;

impl Default for Server {
    fn default() -> Self {
        Self {
            workers: 0,
            max_connections: 10_000,
            max_connections_per_address: None,
            trusted_proxies: Vec::new(),
            handshake_timeout: Duration::from_secs(5),
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            drain_timeout: Duration::from_secs(30),
            head_bytes: 32 << 10,
            header_fields: 64,
            h2_streams: 100,
        }
    }
}

impl Default for Store {
    fn default() -> Self {
        Self {
            state_dir: None,
            max_records: 2_000_000,
            max_records_per_account: 1_000_000,
            max_subjects: 1_000_000,
            max_marks: 1_000_000,
            max_unique: 10_000_000,
            max_unique_per_key: 5_000_000,
            max_jump: Duration::from_hours(1),
            volatile_marks: false,
        }
    }
}

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_hours(24);
const MINUTES_10: Duration = Duration::from_mins(10);

pub(super) fn server(root: &Table<'_>) -> Server {
    let default = Server::default();
    let Some(table) = section(root, "server") else { return default };
    let proxies = table.find("trusted_proxies").map(|node| node.texts(network));
    let server = Server {
        workers: table.or("workers", default.workers, whole(0..=1_024)),
        max_connections: table.or(
            "max_connections",
            default.max_connections,
            whole(1..=10_000_000),
        ),
        max_connections_per_address: NonZeroUsize::new(table.or(
            "max_connections_per_address",
            0,
            whole(0..=10_000_000),
        )),
        trusted_proxies: proxies.unwrap_or_default(),
        handshake_timeout: table.or(
            "handshake_timeout",
            default.handshake_timeout,
            span(MS..=MINUTES_10),
        ),
        head_timeout: table.or("head_timeout", default.head_timeout, span(MS..=MINUTES_10)),
        body_timeout: table.or("body_timeout", default.body_timeout, span(MS..=MINUTES_10)),
        idle_timeout: table.or("idle_timeout", default.idle_timeout, span(MS..=MINUTES_10)),
        drain_timeout: table.or("drain_timeout", default.drain_timeout, span(MS..=MINUTES_10)),
        head_bytes: table.or("head_bytes", default.head_bytes, size(8 << 10..=1 << 20)),
        header_fields: table.or("header_fields", default.header_fields, whole(8..=1_024)),
        h2_streams: table.or("h2_streams", default.h2_streams, whole(1..=10_000)),
    };
    table.finish();
    server
}

/// The listeners in order, `None` for each that is wrong.
pub(super) fn listeners(root: &Table<'_>) -> Vec<Option<Listener>> {
    let tables = root.tables("listener");
    if root.find("listener").is_none() || tables.is_empty() {
        root.spot.error(Fault::cured(
            "there is no listener",
            "add `[[listener]]` with `name` and `address`",
        ));
    }
    let (mut names, mut addresses) = (Vec::new(), Vec::new());
    let mut all = Vec::new();
    for table in tables {
        let listener = listener(&table, &mut names, &mut addresses);
        table.finish();
        all.push(listener);
    }
    all
}

fn listener<'a>(
    table: &Table<'a>,
    names: &mut Vec<&'a str>,
    addresses: &mut Vec<SocketAddr>,
) -> Option<Listener> {
    let name_node = table.need("name", "it labels metrics, as name = \"public\"");
    let address_node = table.need("address", "as address = \"0.0.0.0:8443\"");
    let tls_node = table.find("tls");
    let tls = tls_node.as_ref().map(tls);
    let name = name_node.and_then(|node| {
        node.read(|value| {
            let text = name(value)?;
            refuse_repeats(names, text, "listener").map(|()| text)
        })
    });
    let address = address_node.as_ref().and_then(|node| {
        node.read(|value| {
            let address = address(value)?;
            if let Some(other) = addresses.iter().find(|other| is_taken(address, **other)) {
                return Err(Fault::new(format!("another listener has {other} already")));
            }
            addresses.push(address);
            Ok(address)
        })
    });
    if let (Some(node), Some(address)) = (&address_node, address)
        && tls.is_none()
        && !address.ip().is_loopback()
    {
        node.spot
            .warn("this address takes requests unencrypted: give it `tls`, or put TLS before it");
    }
    Some(Listener {
        name: Arc::from(name?),
        address: address?,
        tls: tls.map_or(Some(None), |tls| tls.map(Some))?,
    })
}

/// Whether the system lets nobody listen at `wanted` where somebody listens at `other`.
pub(super) fn is_taken(wanted: SocketAddr, other: SocketAddr) -> bool {
    let [ours, theirs] = [wanted.ip(), other.ip()];
    // All of IPv6 is all of IPv4 too.
    let covers =
        |all: IpAddr, one: IpAddr| all.is_unspecified() && (all.is_ipv6() || one.is_ipv4());
    wanted.port() != 0
        && wanted.port() == other.port()
        && (ours == theirs || covers(ours, theirs) || covers(theirs, ours))
}

fn tls(node: &Node<'_>) -> Option<TlsFiles> {
    let table = node.table()?;
    let files = tls_files(&table);
    table.finish();
    files
}

pub(super) fn tls_files(table: &Table<'_>) -> Option<TlsFiles> {
    let cert = table.need("cert", "the PEM file of the certificate chain, leaf first");
    let key = table.need("key", "the PEM file of the private key");
    let files = TlsFiles {
        cert: cert.and_then(|node| pem(&node, "CERTIFICATE-----", false))?,
        key: key.as_ref().and_then(|node| pem(node, "PRIVATE KEY-----", true))?,
    };
    fits(&key?, files)
}

/// The same files, where the key is that of the first certificate.
fn fits(node: &Node<'_>, files: TlsFiles) -> Option<TlsFiles> {
    let bytes = |path: &Path| node.spot.document.lookup.file(path).ok().map(|file| file.bytes);
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes(&files.cert)?).collect();
    let key = PrivateKeyDer::from_pem_slice(&bytes(&files.key)?);
    let (Ok(chain), Ok(key)) = (chain, key) else { return Some(files) };
    let paired = CertifiedKey::from_der(chain, key, &ring::default_provider());
    let paired = paired.map_err(|error| {
        let (cert, key) = (files.cert.display(), files.key.display());
        Fault::cured(
            format!("{key} with {cert}: {error}"),
            "the first certificate must be the one made for this key",
        )
    });
    node.spot.noted(paired)?;
    Some(files)
}

pub(super) fn pem(node: &Node<'_>, armour: &str, private: bool) -> Option<PathBuf> {
    let path = node.spot.document.path(node.read(text)?);
    let contents = node.read(|_| {
        node.spot.document.lookup.file(&path).map_err(|error| {
            Fault::cured(
                format!("{} cannot be read: {error}", path.display()),
                "paths are relative to the configuration's directory",
            )
        })
    })?;
    let holds = contents.bytes.windows(armour.len()).any(|bytes| bytes == armour.as_bytes());
    if !holds {
        let wanted = armour.trim_end_matches('-').to_lowercase();
        node.spot.error(Fault::new(format!("{} holds no PEM {wanted}", path.display())));
        return None;
    }
    if private && contents.public {
        node.spot
            .warn("every user of this machine can read the private key: take the permission away");
    }
    Some(path)
}

/// What is remembered, and the shared store where one is asked for; of one that is wrong it was said what.
pub(super) fn store(root: &Table<'_>) -> (Store, Result<Option<redis::Options>, Reported>) {
    let Some(table) = section(root, "store") else {
        let is_there = root.find("store").is_some();
        return (Store::default(), if is_there { Err(Reported) } else { Ok(None) });
    };
    let is_shared = table.find("kind").map_or(Some(false), |node| node.read(kind));
    let node = table.find("redis");
    let shared = match (is_shared, &node) {
        (Some(true) | None, Some(node)) => {
            let options = node.table().and_then(|table| shared::redis(&table));
            options.filter(|_| is_shared.is_some()).map(Some).ok_or(Reported)
        }
        (Some(true), None) => {
            let cure = "add `[store.redis]` with servers = [\"10.0.0.5:6379\"]";
            table.spot.error(Fault::cured("`redis` is missing", cure));
            Err(Reported)
        }
        (Some(false), Some(node)) => {
            node.spot
                .error(Fault::cured("the store is in memory", "set kind = \"redis\" beside it"));
            Err(Reported)
        }
        (Some(false), None) => Ok(None),
        (None, None) => Err(Reported),
    };
    (embedded(&table), shared)
}

/// Whether it is shared.
fn kind(value: &toml::de::DeValue<'_>) -> Result<bool, Fault> {
    match text(value)? {
        "memory" => Ok(false),
        "redis" => Ok(true),
        "cluster" | "quorum" => Err(Fault::cured(
            "it is a topology of Redis",
            "set kind = \"redis\" here, and topology under [store.redis]",
        )),
        "sentinel" => Err(Fault::cured(
            "a primary that was cut off goes on answering there, and would accept twice",
            "use kind = \"redis\" with one server, or with three or five that know nothing of each other",
        )),
        other => Err(Fault::unknown("store", other, ["memory", "redis"])),
    }
}

fn embedded(table: &Table<'_>) -> Store {
    let default = Store::default();
    let dir = table.find("state_dir");
    let dir = dir.and_then(|node| {
        let path = node.spot.document.path(node.read(text)?);
        if node.spot.document.lookup.is_no_directory(&path) {
            node.spot.error(Fault::cured(
                format!("{} is no directory", path.display()),
                "name a directory of its own; it is made where there is none",
            ));
        }
        Some(path)
    });
    let max_unique = table.or("max_unique", default.max_unique, whole(1_000..=100_000_000));
    let max_records = table.or("max_records", default.max_records, whole(1_000..=500_000_000));
    let store = Store {
        state_dir: dir,
        max_records,
        max_records_per_account: table.or(
            "max_records_per_account",
            default.max_records_per_account.min(max_records / 2),
            whole(100..=500_000_000),
        ),
        max_subjects: table.or("max_subjects", default.max_subjects, whole(1_000..=500_000_000)),
        max_marks: table.or("max_marks", default.max_marks, whole(100..=100_000_000)),
        max_unique,
        max_unique_per_key: table.or(
            "max_unique_per_key",
            max_unique / 2,
            whole(100..=100_000_000),
        ),
        max_jump: table.or("max_jump", default.max_jump, span(SECOND..=DAY)),
        volatile_marks: false,
    };
    if store.max_records_per_account > max_records
        && let Some(node) = table.find("max_records_per_account")
    {
        node.spot.error(Fault::new(format!(
            "one account may take {} records, more than the {max_records} there are",
            store.max_records_per_account
        )));
    }
    if store.max_unique_per_key > max_unique
        && let Some(node) = table.find("max_unique_per_key")
    {
        node.spot.error(Fault::new(format!(
            "one key may take {} nonces, more than the {max_unique} there are",
            store.max_unique_per_key
        )));
    }
    table.finish();
    store
}
