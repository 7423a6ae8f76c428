//! What the operations work on: the registrar and the registry behind it, the clock, the gateway's own facts.

use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

use crate::clock::{Clock, Micros};
use crate::registrar::Registrar;
use crate::registry::book::Registry;

use super::record::TrailReader;

/// What the operations work on.
pub struct Desk {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Performs acts on keys, accounts, applications and switches.
    pub registrar: Registrar,
    /// Reads the audit trail, where one is kept.
    pub trail: Option<Arc<dyn TrailReader>>,
    /// What the gateway says of itself.
    pub facts: Facts,
}

/// What the gateway says of itself.
#[derive(Clone, Debug)]
pub struct Facts {
    /// When it started.
    pub started: Micros,
    /// Permissions that nobody grants alone.
    pub four_eyes: Vec<String>,
    /// What authenticator apps show beside an account.
    pub issuer: String,
    /// How it keeps up with the registry, where it follows one.
    pub gateway: Option<ThisGateway>,
}

/// A gateway that follows a registry.
#[derive(Clone, Debug)]
pub struct ThisGateway {
    /// What other gateways know it by.
    pub name: String,
    /// The revision up to which it has applied everything.
    pub applied: watch::Receiver<u64>,
}

impl Desk {
    /// Where records are kept.
    pub(super) fn registry(&self) -> &Arc<dyn Registry> {
        self.registrar.registry()
    }

    /// Whether nobody grants this permission alone.
    pub(super) fn takes_two(&self, permission: &str) -> bool {
        self.facts.four_eyes.iter().any(|name| name == permission)
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").field("facts", &self.facts).finish_non_exhaustive()
    }
}
