//! How the servers of the shared store are reached.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redis::{Client, RedisError};

use super::local::Local;

/// How the shared store is reached, and what it withstands.
pub struct Options {
    /// The servers: one, three or five; of a cluster those that are asked for the others.
    pub servers: Vec<Address>,
    /// How they stand to each other.
    pub topology: Topology,
    /// How long a call may take, connecting included.
    pub deadline: Duration,
    /// The furthest ahead of now that any freshness rule accepts a stamp.
    pub future_skew: Duration,
    /// How far the clocks of gateways and servers may lie apart.
    pub clock_bound: Duration,
    /// Calls under way, of each worker to each server; further ones are refused.
    pub max_in_flight: usize,
    /// What this gateway judges alone while the servers cannot be asked.
    pub local: Local,
    /// What a control of a test takes away. No configuration reaches it.
    #[doc(hidden)]
    pub weakened: Weakened,
}

/// How servers stand to each other.
pub enum Topology {
    /// They know nothing of each other: most of them decide.
    Independent,
    /// They are nodes of one cluster: what belongs to one account lies on one of its primaries.
    Cluster(ClusterOptions),
}

/// How the nodes of a cluster are reached, and for how long one is trusted.
pub struct ClusterOptions {
    /// For how long a node counts as a primary after most nodes said so.
    pub lease: Duration,
    /// Whether nodes are reached by the host names that they announce, where they do.
    pub by_name: bool,
    /// The address, as `host:port`, under which a node is reached that announces this host and port.
    pub name: Naming,
    /// How whoever is at such an address is reached.
    pub reach: Reaching,
}

/// Makes an address, as `host:port`, of an announced host and port.
pub type Naming = Box<dyn Fn(&str, u16) -> String + Send + Sync>;

/// Makes a client of an address, credentials and TLS included.
pub type Reaching = Box<dyn Fn(&str) -> Result<Client, RedisError> + Send + Sync>;

/// Safeguards that are taken away, to show that a test notices: only code that makes [`Options`] by hand can.
#[doc(hidden)]
#[expect(clippy::struct_excessive_bools, reason = "each takes one safeguard away, alone")]
#[derive(Clone, Debug, Default)]
pub struct Weakened {
    /// Another library in the place of ours.
    pub function: Option<Arc<str>>,
    /// How many servers decide, in the place of most.
    pub votes: Option<usize>,
    /// How many servers count the limits of an account, in the place of most.
    pub counters: Option<usize>,
    /// Whether what a gateway let through alone stays there.
    pub keeps_local: bool,
    /// Whether a server may evict.
    pub may_evict: bool,
    /// Whether a server may be older than version 7.
    pub may_be_old: bool,
    /// Whether a server's clock may be off, however far.
    pub any_clock: bool,
    /// Whether one server under two names counts twice.
    pub counts_twins: bool,
    /// Whether a primary of a cluster is told which growing numbers were accepted while its predecessor may go on.
    pub floor_at_once: bool,
    /// Whether a node of a cluster counts as a primary because one node, itself perhaps, ever said so.
    pub lease_off: bool,
    /// Whether a successor judges as if nobody could go by its predecessor any longer.
    pub lease_unwaited: bool,
    /// Whether by a lease may be accepted whatever its stamp.
    pub reach_off: bool,
}

/// One server.
pub struct Address {
    /// What it is called in logs and metrics.
    pub name: String,
    /// How it is reached, credentials and TLS included.
    pub client: Client,
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Address").field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("servers", &self.servers).finish_non_exhaustive()
    }
}
