//! The admin API over real sockets, on a registry in memory.
#![cfg(all(feature = "server", unix))]
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![expect(clippy::panic, reason = "a panic is how a test fails")]
#![expect(clippy::indexing_slicing, reason = "a panic is how a test fails")]
#![expect(
    clippy::string_slice,
    clippy::format_push_string,
    clippy::type_complexity,
    reason = "tests read plainly"
)]

mod access;
mod approvals;
mod hostile;
mod key_sets;
mod life;
mod lists;
mod provider;
mod roles;
mod schemathesis;
mod secrets;
mod support;
