//! How the servers of the shared store are reached.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redis::Client;

use super::local::Local;

/// How the shared store is reached, and what it withstands.
pub struct Options {
    /// The servers: one, three or five.
    pub servers: Vec<Address>,
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

/// Safeguards that are taken away, to show that a test notices: only code that makes [`Options`] by hand can.
#[doc(hidden)]
#[derive(Clone, Debug, Default)]
pub struct Weakened {
    /// Another library in the place of ours.
    pub function: Option<Arc<str>>,
    /// How many servers decide, in the place of most.
    pub votes: Option<usize>,
    /// Whether what a gateway let through alone stays there.
    pub keeps_local: bool,
    /// Whether a server may evict.
    pub may_evict: bool,
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
