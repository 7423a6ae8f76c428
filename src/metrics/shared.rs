//! Handles that all threads share: stores and listeners.

use prometheus::{IntCounter, IntGauge};

use super::families::Families;
use super::gauge;
use crate::gateway::observe::{End, TurnedAway};

/// Why a store kept a request from passing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StoreRefusal {
    /// No room for another record.
    Full,
    /// Signed before the store was sure to remember everything.
    Fenced,
    /// No answer in time.
    Unavailable,
}

/// The metrics of one store.
#[derive(Debug)]
pub struct StoreMeter {
    records: IntGauge,
    capacity: IntGauge,
    subjects: IntGauge,
    full: IntCounter,
    fenced: IntCounter,
    unavailable: IntCounter,
}

impl StoreMeter {
    pub(super) fn new(families: &Families, name: &str) -> Self {
        let refusals = |why| families.store_refusals.with_label_values(&[name, why]);
        Self {
            records: families.store_records.with_label_values(&[name]),
            capacity: families.store_capacity.with_label_values(&[name]),
            subjects: families.store_subjects.with_label_values(&[name]),
            full: refusals("full"),
            fenced: refusals("fenced"),
            unavailable: refusals("unavailable"),
        }
    }

    /// Sets how much it holds: records, the most it can hold of them, and allowances of rate limits.
    pub fn set_fill(&self, records: usize, capacity: usize, subjects: usize) {
        self.records.set(gauge(records));
        self.capacity.set(gauge(capacity));
        self.subjects.set(gauge(subjects));
    }

    /// Counts one refusal.
    pub fn refused(&self, why: StoreRefusal) {
        match why {
            StoreRefusal::Full => self.full.inc(),
            StoreRefusal::Fenced => self.fenced.inc(),
            StoreRefusal::Unavailable => self.unavailable.inc(),
        }
    }
}

/// The metrics of one listener.
#[derive(Debug)]
pub struct ListenerMeter {
    open: IntGauge,
    opened: IntCounter,
    closed: [IntCounter; End::ALL.len()],
    refused: [IntCounter; TurnedAway::ALL.len()],
}

impl ListenerMeter {
    pub(super) fn new(families: &Families, name: &str) -> Self {
        let refused = |cause| families.connections_refused.with_label_values(&[name, cause]);
        Self {
            open: families.connections.with_label_values(&[name]),
            opened: families.connections_opened.with_label_values(&[name]),
            closed: End::ALL
                .map(|(_, cause)| families.connections_closed.with_label_values(&[name, cause])),
            refused: TurnedAway::ALL.map(|(_, cause)| refused(cause)),
        }
    }

    /// Counts a connection that was opened.
    pub fn opened(&self) {
        self.opened.inc();
        self.open.inc();
    }

    /// Counts one that was opened as closed.
    pub fn closed(&self, why: End) {
        self.open.dec();
        let counters = End::ALL.iter().zip(&self.closed);
        for (_, counter) in counters.filter(|((end, _), _)| *end == why) {
            counter.inc();
        }
    }

    /// Counts one that was not let in.
    pub fn refused(&self, why: TurnedAway) {
        let counters = TurnedAway::ALL.iter().zip(&self.refused);
        for (_, counter) in counters.filter(|((reason, _), _)| *reason == why) {
            counter.inc();
        }
    }
}
