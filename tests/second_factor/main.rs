//! Codes of second factors and challenges, through the whole path of a request; the codes are computed by another
//! implementation of RFC 6238 than the gateway's.
#![expect(
    clippy::duration_suboptimal_units,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic is how a test fails; seconds throughout"
)]

mod challenges;
mod codes;
mod guesses;
mod steps;
mod support;
