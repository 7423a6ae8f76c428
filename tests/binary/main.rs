//! The program itself, started as a child: what its commands say, and the promises that need the whole of it.
#![cfg(feature = "server")]
#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic is how a test fails"
)]

mod answers;
mod audit;
mod backend;
mod client;
mod counts;
mod demo;
mod honest;
mod keys;
mod offline;
mod program;
mod routes;
mod serve;
mod spread;
mod world;
