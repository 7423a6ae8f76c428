//! What a route demands of a request, and what it charges.

use std::sync::Arc;
use std::time::Duration;

use crate::admit::{Charges, SecondFactor, Shadow, SymbolPlace};
use crate::dialect::Dialect;
use crate::key::{Permissions, Venue};
use crate::store::{Limit, Repeat};

/// What a route asks of whoever calls it.
#[derive(Clone, Debug)]
pub enum Ask {
    /// Nothing.
    Public,
    /// A key id alone, as for Binance's listenKey.
    Key(Arc<Dialect>),
    /// A signature.
    Signed(Arc<Dialect>),
}

/// What a request does at the backend.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Effect {
    /// It changes nothing.
    Read,
    /// It only cancels.
    Cancel,
    /// It changes something: a second delivery would be a loss.
    Write,
}

/// What a route demands.
#[derive(Clone, Debug)]
pub struct Route {
    /// The name used in configuration and metrics.
    pub name: Arc<str>,
    /// Its place among the routes.
    pub id: u16,
    /// Whom it admits.
    pub ask: Ask,
    /// The group of routes whose keys are valid here.
    pub venue: Venue,
    /// The permissions of which the key must hold one; none are asked when empty.
    pub permissions: Permissions,
    /// What a call does.
    pub effect: Effect,
    /// What a call costs, in units.
    pub weight: u32,
    /// The largest body, in bytes.
    pub body_cap: usize,
    /// How old the knowledge of keys may be.
    pub key_max_age: Duration,
    /// The furthest ahead that a signed deadline may lie.
    pub lead: Duration,
    /// Whether identical signed bytes may come again here: only for reads, and only where the dialect's time
    /// counts whole seconds.
    pub repeat: Repeat,
    /// The limit that each client address is charged to, if any.
    pub address_limit: Option<Limit>,
    /// Where its requests name the symbol that they are for. A key that is bound to symbols opens no route that changes
    /// something and says none.
    pub symbol: Option<SymbolPlace>,
    /// What else it charges, if anything.
    pub charges: Option<Arc<Charges>>,
    /// The second factor that it asks for beside the signature, if any.
    pub second_factor: Option<SecondFactor>,
}

impl Route {
    pub(crate) fn shadow(&self) -> Shadow {
        self.charges.as_ref().map_or_else(Shadow::default, |charges| charges.shadow)
    }
}
