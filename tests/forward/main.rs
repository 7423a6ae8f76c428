//! Forwarding, seen by a backend that records every byte: what reaches it, how often, and what comes back.
#![cfg(feature = "server")]
#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic is how a test fails"
)]

mod backend;
mod content;
mod delivery;
mod load;
mod replies;
mod rig;
