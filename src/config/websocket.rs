//! `[websocket]`: how many WebSockets there may be, and how long they may stand idle.

use std::time::Duration;

use super::WebSocket;
use super::document::Table;
use super::load::section;
use super::problem::Fault;
use super::value::{span, whole};

impl WebSocket {
    /// What holds where nothing is said, beside so many connections.
    pub fn within(max_connections: usize) -> Self {
        let max_open = (max_connections / 2).max(1);
        Self { idle_timeout: Duration::from_mins(10), max_open, max_open_each: EACH.min(max_open) }
    }
}

pub(super) fn websocket(root: &Table<'_>, max_connections: usize) -> WebSocket {
    let default = WebSocket::within(max_connections);
    let Some(table) = section(root, "websocket") else { return default };
    let max_open = table.or("max_open", default.max_open, whole(1..=10_000_000));
    let rules = WebSocket {
        idle_timeout: table.or("idle_timeout", default.idle_timeout, span(SECOND..=DAY)),
        max_open,
        max_open_each: table.or("max_open_each", EACH.min(max_open), whole(1..=10_000_000)),
    };
    if max_open > max_connections
        && let Some(node) = table.find("max_open")
    {
        node.spot.error(Fault::cured(
            format!("more than all connections, which are {max_connections} at most"),
            "lower it, or raise `server.max_connections`: every WebSocket is one of them",
        ));
    }
    table.finish();
    rules
}

/// More than a usual client opens.
const EACH: usize = 100;
const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_hours(24);
