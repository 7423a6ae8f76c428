//! The control plane's HTTP server: metrics, liveness and readiness to anybody who reaches it, and the admin API to
//! those who show who they are.
//!
//! A call goes this way: [`doors`] let a connection in, [`access`] says whose it is, [`operation`] declares what can be
//! asked for and who may, [`request`] reads it strictly, an operation does it at the [`desk`], [`record`] notes it.

mod access;
mod accounts;
mod answer;
mod api;
mod approvals;
mod apps;
mod bans;
mod call;
mod caller;
mod certificate;
mod confirm;
mod cursor;
mod desk;
mod doors;
mod factors;
mod fetch;
mod gateway;
mod idempotency;
mod jwks;
mod key_ask;
mod key_life;
mod key_set;
mod key_view;
mod keys;
mod ledger;
mod lines;
mod moment;
mod openapi;
mod operation;
mod problem;
mod provider;
mod readiness;
mod record;
mod registry;
mod request;
mod response;
mod server;
mod throttle;
mod trail;
mod uses;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::metrics::Metrics;

pub use access::{Access, Named, Token};
pub use api::{AdminApi, BODY_CAP};
pub use caller::{Caller, Peer, Proof, Role};
pub use desk::{Desk, Facts, ThisGateway};
pub use doors::{Door, Socket, acceptor};
pub use key_set::{KeySet, Source, Times, Unread};
pub use openapi::document;
pub use operation::{Operation, Verb};
pub use provider::{Provider, TokenAlgorithm, TokenKey};
pub use readiness::{NotReady, Readiness};
pub use record::{Activity, CallLog, Following, LogAlone, Logged, Noting, Sought, TrailReader};
pub use server::{serve, serve_at};

/// Everything the API can do.
pub fn operations() -> impl Iterator<Item = &'static Operation> {
    [
        keys::OPERATIONS,
        key_life::OPERATIONS,
        accounts::OPERATIONS,
        factors::OPERATIONS,
        apps::OPERATIONS,
        bans::OPERATIONS,
        approvals::OPERATIONS,
        trail::OPERATIONS,
        gateway::OPERATIONS,
        registry::OPERATIONS,
    ]
    .into_iter()
    .flatten()
}

/// Brings gauges up to date just before a scrape; must be quick and must not block.
pub type Collector = Box<dyn Fn() + Send + Sync>;

/// What the server answers from. Cheap to clone.
#[derive(Clone)]
pub struct AdminState {
    metrics: Arc<Metrics>,
    readiness: Readiness,
    collectors: Arc<[Collector]>,
    bounds: Bounds,
    api: Option<AdminApi>,
}

impl AdminState {
    /// Answers from `metrics` and `readiness`; each of `collectors` runs before every scrape.
    pub fn new(metrics: Arc<Metrics>, readiness: Readiness, collectors: Vec<Collector>) -> Self {
        Self {
            metrics,
            readiness,
            collectors: collectors.into(),
            bounds: Bounds::default(),
            api: None,
        }
    }

    /// The same with the admin API under `/v1`: over TCP where somebody may call it there, on a unix socket always.
    #[must_use]
    pub fn with_api(self, api: AdminApi) -> Self {
        Self { api: Some(api), ..self }
    }

    /// The same with other bounds.
    #[must_use]
    pub fn bounded(self, bounds: Bounds) -> Self {
        Self { bounds, ..self }
    }

    /// Everything in the text exposition format, up to date.
    fn exposition(&self) -> Result<String, crate::metrics::Error> {
        self.collectors.iter().for_each(|collect| collect());
        self.metrics.set_ready(self.readiness.is_ready());
        self.metrics.exposition()
    }
}

impl fmt::Debug for AdminState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminState").field("readiness", &self.readiness).finish_non_exhaustive()
    }
}

/// How much one client, and all of them, can take of this server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Bounds {
    /// Connections open at once; further ones are closed as they come.
    pub connections: usize,
    /// The longest wait for a head, on a new connection and between requests.
    pub head: Duration,
    /// The longest life of a connection.
    pub connection: Duration,
    /// How long answers under way may take at shutdown.
    pub drain: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections: 64,
            // Shorter than usual scrape intervals: a new connection for each costs nothing, an idle one holds a
            // place.
            head: Duration::from_secs(10),
            connection: Duration::from_mins(10),
            drain: Duration::from_secs(2),
        }
    }
}
