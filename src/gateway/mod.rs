//! The data plane: listener, wire (hyper to [`Inbound`](crate::dialect::Inbound)), forward, upstream pool, drain.
//!
//! ```text
//! listener -> worker -> connection -> serve: wire -> client -> screen -> body -> admit -> forward -> exit
//! binds,      one per   TLS, HTTP/1   one function, one exit
//! deals       core      or HTTP/2
//! ```

mod answer;
mod back;
pub mod backends;
mod body;
mod client;
mod connection;
mod date;
mod exit;
pub mod forward;
mod front;
mod hops;
mod identity;
mod listener;
pub mod observe;
pub mod pattern;
mod plain;
mod pool;
mod pulse;
mod refusal;
pub mod reply;
mod reply_head;
mod reply_rest;
mod request;
mod request_id;
pub mod routes;
mod running;
mod serve;
mod spread;
mod stream;
mod time;
mod tls;
mod wire;
mod worker;

pub use listener::BindError;
pub use request::REQUEST_ID;
pub use request_id::RequestId;
pub use running::{Gateway, Running, StartError, serve};
pub use tls::TlsError;
