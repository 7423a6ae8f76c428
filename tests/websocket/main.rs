//! WebSockets through a whole gateway: how they are opened, what passes, and when they end.
#![cfg(feature = "server")]
#![expect(clippy::format_push_string, reason = "tests read plainly")]
#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic is how a test fails"
)]

mod backend;
#[path = "../keys/book.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod book;
mod cuts;
mod ends;
#[path = "../keys/fleet.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod fleet;
mod libraries;
mod opening;
mod passing;
mod site;
mod wire;
#[path = "../keys/world.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod world;
