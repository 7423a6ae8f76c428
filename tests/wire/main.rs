//! The front of the data plane over loopback sockets: what comes in, what is refused, how long anything may take.
#![cfg(feature = "server")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, in its helpers too"
)]

mod http1;
mod http2;
mod life;
mod replies;
mod signed;
mod support;
