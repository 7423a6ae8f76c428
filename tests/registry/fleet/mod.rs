//! Whole gateways over one registry, each with its own connections, cache, follower and admin API: when a revocation
//! binds, how old knowledge may grow, how soon a new key is good, how long a vendor's recovery takes.

mod ages;
mod bind;
pub(crate) mod client;
mod confirm;
mod issue;
pub(crate) mod site;
mod vendor;
mod wire;
