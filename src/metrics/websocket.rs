//! The handles of a route that opens WebSockets.

use prometheus::{IntCounter, IntGauge};

use super::families::Families;
use crate::gateway::observe::{Parting, Passed};

/// The metrics of the WebSockets of one route.
#[derive(Debug)]
pub struct WebSocketMeter {
    open: IntGauge,
    closed: [IntCounter; Parting::ALL.len()],
    up: IntCounter,
    down: IntCounter,
}

impl WebSocketMeter {
    pub(super) fn new(families: &Families, route: &str) -> Self {
        let bytes = |from| families.websocket_bytes.with_label_values(&[route, from]);
        Self {
            open: families.websockets.with_label_values(&[route]),
            closed: Parting::ALL
                .map(|(_, cause)| families.websockets_closed.with_label_values(&[route, cause])),
            up: bytes("client"),
            down: bytes("backend"),
        }
    }

    /// Counts one that was opened.
    pub fn opened(&self) {
        self.open.inc();
    }

    /// Counts what passed through one.
    pub fn passed(&self, passed: Passed) {
        self.up.inc_by(passed.up);
        self.down.inc_by(passed.down);
    }

    /// Counts one that was opened as closed.
    pub fn closed(&self, why: Parting) {
        self.open.dec();
        let counters = Parting::ALL.iter().zip(&self.closed);
        for (_, counter) in counters.filter(|((parting, _), _)| *parting == why) {
            counter.inc();
        }
    }
}
