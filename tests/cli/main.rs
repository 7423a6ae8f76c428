//! The command line of the admin API, against a stub that notes what it is asked and answers as it is told.
#![cfg(feature = "server")]
#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic is how a test fails"
)]

mod asks;
mod gateway;
mod reach;
mod secrets;
mod shows;
mod stub;
mod transcript;
