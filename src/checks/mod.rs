//! One file per check: from what is known to what is proved, or a [`Denial`](crate::denial::Denial).
//!
//! Each asks for just what it needs and touches nothing else; [`admit`](crate::admit) names them in order.

pub(crate) mod address;
pub(crate) mod decoy;
pub(crate) mod freshness;
pub(crate) mod guard;
pub(crate) mod limit;
pub(crate) mod passphrase;
pub(crate) mod permission;
pub(crate) mod replay;
pub(crate) mod signature;
pub(crate) mod state;
pub(crate) mod syntax;
