//! Keys of a registry as gateways see them: what is looked up, what is known of it, and how a revocation binds.
#![cfg(feature = "server")]
#![expect(clippy::format_push_string, reason = "tests read plainly")]
#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic is how a test fails"
)]

mod ages;
mod bans;
mod book;
mod bound;
mod cuts;
mod feed;
mod fleet;
mod gateways;
mod issued;
mod lookups;
#[expect(dead_code, reason = "what other tests do to a server is not done here")]
#[path = "../registry/server.rs"]
mod server;
mod streams;
mod symbols;
mod world;
