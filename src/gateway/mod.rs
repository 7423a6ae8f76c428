//! The data plane: from the listener, through the checks, to a backend and back.
//!
//! ```text
//! listener -> worker -> connection -> front -> serve: wire -> client -> screen -> body -> admit
//! binds,      one per   TLS, HTTP/1   plain     -> conclude: forward, or refusal
//! deals       core      or HTTP/2     or hyper     -> exit: one for all
//! ```
//!
//! Most requests of HTTP/1.1 are plain: [`front`] reads them with [`plain`] and writes the [`answer`]. Whatever is
//! odd, and HTTP/2, is hyper's to read. Both fronts share everything from [`mod@serve`] on. On the other side [`back`]
//! is a connection to a backend, whose replies [`reply_head`] and [`reply_rest`] read. Where both ends agree on a
//! [`websocket`], a [`tunnel`] passes its bytes on.

mod answer;
mod back;
pub mod backends;
mod body;
mod client;
mod conclude;
mod connection;
mod cut;
mod date;
mod desk;
mod exit;
pub mod files;
pub mod forward;
mod frames;
mod front;
mod hex;
mod holders;
mod hops;
mod identity;
mod io;
mod listener;
mod names;
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
pub(crate) mod request_id;
mod rooms;
pub mod routes;
mod running;
mod serve;
mod shares;
mod spread;
mod standing;
mod stream;
mod time;
pub(crate) mod tls;
mod tunnel;
mod tunnels;
mod way;
mod websocket;
mod wire;
mod worker;

pub use cut::Cutter;
pub use listener::BindError;
pub use request::REQUEST_ID;
pub use request_id::RequestId;
pub use running::{Gateway, Running, StartError, serve};
pub use tls::TlsError;
