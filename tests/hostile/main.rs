//! A catalogue of attacks, each tried over raw sockets on a whole gateway; a backend that records every byte judges.
#![cfg(feature = "server")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, in its helpers too"
)]

mod fronts;
mod meaning;
mod oracle;
mod replay;
mod smuggling;
mod spelling;
mod spending;
mod support;
