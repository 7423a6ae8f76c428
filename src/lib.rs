//! An exchange-side API gateway: it decides in microseconds whether a signed request is genuine, fresh, new,
//! allowed and within its limits, and forwards those that are.
//!
//! ```text
//! bytes -> Inbound -> Claim -> Signed -> Permit -> forward -> Reply -> audit, metrics
//!          bounded    unproved  proved    proved    takes a Permit by value
//!          and parsed           who       may
//! ```
//!
//! Start at [`admit`]: one function, read aloud, is the specification. What it calls:
//!
//! - [`dialect`] reads who signed what, from a recipe; [`denial`] is every reason to turn a request away;
//! - `checks` holds one file per check; [`key`] what a key is, [`registry`] where keys come from;
//! - [`store`] remembers what was seen and spent; [`clock`] is the only place that asks the time;
//! - [`threats`] lists known attacks with what defeats each, and the test that shows it;
//! - [`identity`] is what a backend is told of a request, and how it checks that.
//!
//! Without the `server` feature this is the whole crate: a verifier to embed in a server of one's own.

pub mod admit;
mod cache;
mod checks;
pub mod clock;
pub mod denial;
pub mod dialect;
pub mod identity;
pub mod key;
mod lanes;
pub mod registry;
mod route;
pub mod store;
pub mod threats;

#[cfg(feature = "server")]
pub mod admin;
#[cfg(feature = "server")]
pub mod audit;
#[cfg(feature = "server")]
pub mod cli;
#[cfg(feature = "server")]
pub mod config;
#[cfg(feature = "server")]
pub mod exchange;
#[cfg(feature = "server")]
pub mod gateway;
#[cfg(feature = "server")]
pub mod load;
#[cfg(feature = "server")]
pub mod log;
#[cfg(feature = "server")]
pub mod metrics;
#[cfg(feature = "server")]
pub mod offline;
#[cfg(feature = "server")]
pub mod registrar;
#[cfg(feature = "server")]
pub mod service;
#[cfg(feature = "server")]
pub mod snippet;
