//! Both registries keep every promise of the trait, through restarts, crashes and lost connections.
#![cfg(feature = "server")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::format_push_string,
    reason = "a test fails by panicking, in its helpers too"
)]

mod embedded;
mod failing;
mod fleet;
mod kills;
mod marks;
mod migrations;
mod postgres;
mod power;
mod program;
mod promises;
mod rewrap;
mod server;
mod size;
mod support;
mod tls;
mod words;
