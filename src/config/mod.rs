//! The configuration: what an operator writes, parsed into what cannot be wrong.

mod admin;
mod audit;
mod charges;
mod dialects;
mod document;
mod down;
mod guard;
mod keys;
mod lead;
mod limits;
mod load;
mod problem;
mod provider;
mod registry;
mod replay;
mod routes;
mod sealing;
mod second_factor;
mod secrets;
mod server;
mod shared;
mod symbol;
mod upstreams;
mod value;
mod websocket;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::uri::Authority;
use ipnet::IpNet;

use crate::admin::{Named, Provider, Token};
use crate::admit::{Bounds, Meter};
use crate::gateway::routes::Routes;
use crate::key::master::Sealing;
use crate::key::{Key, PermissionNames, Secret};
use crate::registry::Location;

pub use document::{Contents, Lookup, System};
pub use load::Loaded;
pub use problem::{ConfigError, Excerpt, Refused};
pub(crate) use value::{in_words, moment_of};

/// Every key with its default and what it means, as a configuration that parses.
pub const DEFAULTS: &str = include_str!("../../config/gateway.toml");
/// The configuration of `countersign demo`, whose addresses and keys the program fills in.
pub const DEMO: &str = include_str!("../../config/demo.toml");

/// After how long a key that is bound to no network loses `trade`, unless the configuration says otherwise.
pub const UNBOUND_TRADE: Duration = Duration::from_hours(90 * 24);

/// Everything a gateway needs to start.
#[derive(Debug)]
pub struct Config {
    /// Where clients connect.
    pub listeners: Vec<Listener>,
    /// Where metrics, health and the admin API are served, and who may call it.
    pub admin: Admin,
    /// What holds for every connection.
    pub server: Server,
    /// What holds for every WebSocket.
    pub websocket: WebSocket,
    /// What is remembered.
    pub store: Store,
    /// The audit trail, where one is kept.
    pub audit: Option<crate::audit::Rules>,
    /// Where it is remembered together with other gateways, if it is.
    pub shared: Option<crate::store::redis::Options>,
    /// Where the records of keys are kept.
    pub registry: Location,
    /// How many failures are borne.
    pub guard: Bounds,
    /// Where requests go, by name and in the order routes refer to them.
    pub upstreams: Arc<[Upstream]>,
    /// Which request goes where, and what it must show.
    pub routes: Arc<Routes>,
    /// Every dialect that a route uses, in the order of their metrics labels.
    pub dialects: Vec<Arc<crate::dialect::Dialect>>,
    /// The keys that the configuration holds.
    pub keys: Vec<Key>,
    /// The master keys that the registry's secrets lie under; the program sees to one itself where it is `None`.
    pub sealing: Option<Sealing>,
    /// After how long a key that is bound to no network loses `trade`; never where it is `None`.
    pub unbound_trade: Option<Duration>,
    /// The limits that keys and routes refer to.
    pub limits: Vec<NamedLimit>,
    /// The names of permissions.
    pub permissions: Arc<PermissionNames>,
}

/// A limit that keys or routes refer to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NamedLimit {
    /// Its name.
    pub name: Arc<str>,
    /// All that is said of it.
    pub meter: Meter,
}

/// A socket that clients connect to.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Its name in metrics.
    pub name: Arc<str>,
    /// Address and port; port 0 takes a free one.
    pub address: SocketAddr,
    /// Certificate chain and private key, PEM; plain when absent.
    pub tls: Option<TlsFiles>,
}

/// Where a certificate chain and its key lie.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// PEM file of the chain, leaf first.
    pub cert: PathBuf,
    /// PEM file of the private key.
    pub key: PathBuf,
}

/// Where metrics, health and the admin API are served, and who may call it.
#[derive(Debug)]
pub struct Admin {
    /// Where metrics and health are served; the API too, where somebody may call it over TCP.
    pub address: SocketAddr,
    /// Where the API is served to this machine's own users; nowhere when `None`.
    pub socket: Option<PathBuf>,
    /// TLS of the address; plain when absent.
    pub tls: Option<AdminTls>,
    /// Tokens that callers show.
    pub tokens: Vec<Token>,
    /// Names in client certificates.
    pub certificates: Vec<Named>,
    /// Identity providers whose tokens are accepted.
    pub providers: Vec<Provider>,
    /// Permissions that nobody grants alone.
    pub four_eyes: Vec<String>,
}

impl Admin {
    /// At `address` alone, where nobody may call the API.
    pub const fn at(address: SocketAddr) -> Self {
        Self {
            address,
            socket: None,
            tls: None,
            tokens: Vec::new(),
            certificates: Vec::new(),
            providers: Vec::new(),
            four_eyes: Vec::new(),
        }
    }
}

/// TLS of the admin address.
#[derive(Clone, Debug)]
pub struct AdminTls {
    /// Certificate chain and key.
    pub files: TlsFiles,
    /// PEM file of the authorities that sign client certificates; none are asked for when absent.
    pub client_ca: Option<PathBuf>,
}

/// What holds for every connection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Server {
    /// Data-plane threads; one per core when 0.
    pub workers: usize,
    /// Connections at a time, over all listeners; fewer where the limit of open files leaves no room for as many.
    pub max_connections: usize,
    /// Connections at a time of one address, or /64 of IPv6, that is no trusted proxy; as many as there are when `None`.
    pub max_connections_per_address: Option<NonZeroUsize>,
    /// Proxies that are believed about the client's address.
    pub trusted_proxies: Vec<IpNet>,
    /// Time for the TLS handshake and for telling HTTP/1 from HTTP/2.
    pub handshake_timeout: Duration,
    /// Time for a request's head, from its first byte; over HTTP/2 `idle_timeout` bounds it.
    pub head_timeout: Duration,
    /// Time for a request's whole body.
    pub body_timeout: Duration,
    /// Time that a connection may stand idle.
    pub idle_timeout: Duration,
    /// Time that requests under way get when the gateway stops.
    pub drain_timeout: Duration,
    /// The largest head, in bytes.
    pub head_bytes: usize,
    /// The most header fields.
    pub header_fields: usize,
    /// Streams at a time on one HTTP/2 connection.
    pub h2_streams: u32,
}

/// What holds for every WebSocket.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WebSocket {
    /// How long one may stand idle.
    pub idle_timeout: Duration,
    /// How many there may be at a time.
    pub max_open: usize,
    /// How many of them may be of one account, or of one address on public routes.
    pub max_open_each: usize,
}

/// What is remembered, and where.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Store {
    /// Directory for the high-water mark, marks of growing numbers and unique nonces; locked while the gateway runs.
    pub state_dir: Option<PathBuf>,
    /// Replay records in all.
    pub max_records: usize,
    /// Replay records of one account.
    pub max_records_per_account: usize,
    /// Limits that are counted at a time.
    pub max_subjects: usize,
    /// Keys that sign with growing numbers.
    pub max_marks: usize,
    /// Nonces without a clock that may ever be accepted.
    pub max_unique: usize,
    /// Those of them that one secret of a key may use up.
    pub max_unique_per_key: usize,
    /// How far beyond the present, in nanoseconds since the epoch, a growing number may lie.
    pub max_jump: Duration,
    /// Keeps growing numbers and unique nonces in memory alone where there is no directory. No file can ask for it:
    /// it is for demonstrations.
    pub volatile_marks: bool,
}

/// A group of backends that serve the same requests.
#[derive(Debug)]
pub struct Upstream {
    /// Its name in metrics.
    pub name: Arc<str>,
    /// Host and port of each backend, plain HTTP/1.1.
    pub backends: Vec<Authority>,
    /// Signs who sent a request; `None` only where the operator wrote that he wants none.
    pub identity_key: Option<Secret>,
    /// The `Host` that backends see; the client's own when `None`.
    pub host: Option<http::HeaderValue>,
    /// Time to connect.
    pub connect_timeout: Duration,
    /// Time from sending the request to the head of the reply.
    pub response_timeout: Duration,
    /// Time that a connection may stand idle in the pool: less than the backends' own.
    pub idle_timeout: Duration,
    /// Connections to one backend at a time, over all workers.
    pub max_connections: usize,
    /// Failures in a row that eject a backend.
    pub eject_after: u32,
    /// How long an ejected backend gets no requests.
    pub eject_for: Duration,
    /// Header fields of the client that are passed on, beside those that always are.
    pub forward_headers: Vec<http::HeaderName>,
}

#[cfg(test)]
mod broken_routes_tests;
#[cfg(test)]
mod broken_tests;
#[cfg(test)]
mod demand_tests;
#[cfg(test)]
mod documented_tests;
#[cfg(test)]
mod files_tests;
#[cfg(test)]
mod part_tests;
#[cfg(test)]
mod tests;
