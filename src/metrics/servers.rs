//! Handles of the shared store: one of each server, one of its verdicts.

use std::time::Duration;

use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
};

use super::families::Families;
use super::seconds;
use crate::store::Verdict;
use crate::store::redis::Ailment;

/// The metrics of one server of the shared store.
#[derive(Clone, Debug)]
pub struct ServerMeter {
    calls: Histogram,
    errors: [IntCounter; Ailment::ALL.len()],
    usable: IntGauge,
    births: IntCounter,
    clock: Gauge,
    local_records: [IntCounter; Written::ALL.len()],
}

/// What became of a record of a request that a gateway let through alone, when it was written to a server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Written {
    /// The server knows of it from now on.
    Now,
    /// It had passed at another gateway meanwhile.
    FoundElsewhere,
    /// The server refuses all that old in any case.
    Fenced,
}

impl Written {
    const ALL: [(Self, &'static str); 3] =
        [(Self::Now, "written"), (Self::FoundElsewhere, "found"), (Self::Fenced, "fenced")];
}

/// What a gateway said alone of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LocalOutcome {
    /// It passed.
    Accepted,
    /// It had passed here before.
    Seen,
    /// Over this gateway's share of a limit.
    Over,
    /// Signed before this gateway knew all that it lets through.
    Fenced,
    /// No room for what passes.
    Full,
    /// It cannot be judged here alone.
    Refused,
}

impl LocalOutcome {
    const ALL: [(Self, &'static str); 6] = [
        (Self::Accepted, "accepted"),
        (Self::Seen, "seen"),
        (Self::Over, "over"),
        (Self::Fenced, "fenced"),
        (Self::Full, "full"),
        (Self::Refused, "refused"),
    ];
}

/// What a gateway said alone.
#[derive(Clone, Debug)]
pub struct LocalMeter([IntCounter; LocalOutcome::ALL.len()]);

impl LocalMeter {
    pub(super) fn new(families: &Families) -> Self {
        let counter = |label| families.shared_store_local.with_label_values(&[label]);
        Self(LocalOutcome::ALL.map(|(_, label)| counter(label)))
    }

    /// Counts one.
    pub fn judged(&self, outcome: LocalOutcome) {
        let place = LocalOutcome::ALL.iter().position(|(known, _)| *known == outcome);
        if let Some(counter) = place.and_then(|place| self.0.get(place)) {
            counter.inc();
        }
    }
}

impl ServerMeter {
    /// A call took so long, whatever came of it.
    pub fn called(&self, span: Duration) {
        self.calls.observe(seconds(span));
    }

    /// Counts an error.
    pub fn failed(&self, ailment: Ailment) {
        let place = Ailment::ALL.iter().position(|(known, _)| *known == ailment);
        if let Some(counter) = place.and_then(|place| self.errors.get(place)) {
            counter.inc();
        }
    }

    /// Sets whether it is asked.
    pub fn set_usable(&self, usable: bool) {
        self.usable.set(i64::from(usable));
    }

    /// It remembers anew, or is known for the first time.
    pub fn born(&self) {
        self.births.inc();
    }

    /// Counts a record that was written to it.
    pub fn written(&self, written: Written) {
        let place = Written::ALL.iter().position(|(known, _)| *known == written);
        if let Some(counter) = place.and_then(|place| self.local_records.get(place)) {
            counter.inc();
        }
    }

    /// Sets how far its clock lies from ours, at least.
    pub fn set_clock(&self, apart: Duration) {
        self.clock.set(seconds(apart));
    }
}

/// The metrics of servers that become known while a gateway runs.
#[derive(Clone, Debug)]
pub struct ServerMeters {
    calls: HistogramVec,
    errors: IntCounterVec,
    usable: IntGaugeVec,
    births: IntCounterVec,
    clock: GaugeVec,
    local_records: IntCounterVec,
}

impl ServerMeters {
    pub(super) fn new(families: &Families) -> Self {
        Self {
            calls: families.shared_store_calls.clone(),
            errors: families.shared_store_errors.clone(),
            usable: families.shared_store_usable.clone(),
            births: families.shared_store_births.clone(),
            clock: families.shared_store_clock.clone(),
            local_records: families.shared_store_local_records.clone(),
        }
    }

    /// Those of one server.
    pub fn server(&self, name: &str) -> ServerMeter {
        let errors = |kind| self.errors.with_label_values(&[name, kind]);
        ServerMeter {
            calls: self.calls.with_label_values(&[name]),
            errors: Ailment::ALL.map(|(_, kind)| errors(kind)),
            usable: self.usable.with_label_values(&[name]),
            births: self.births.with_label_values(&[name]),
            clock: self.clock.with_label_values(&[name]),
            local_records: Written::ALL
                .map(|(_, label)| self.local_records.with_label_values(&[name, label])),
        }
    }

    /// Drops those of a server that is gone.
    pub fn forget(&self, name: &str) {
        // An error means that there are none.
        let _ = self.calls.remove_label_values(&[name]);
        for (_, kind) in Ailment::ALL {
            let _ = self.errors.remove_label_values(&[name, kind]);
        }
        let _ = self.usable.remove_label_values(&[name]);
        let _ = self.births.remove_label_values(&[name]);
        let _ = self.clock.remove_label_values(&[name]);
    }
}

/// What the shared store said.
#[derive(Clone, Debug)]
pub struct VerdictMeter([IntCounter; LABELS.len()]);

const LABELS: [&str; 9] =
    ["new", "seen", "low", "over", "fenced", "outdated", "step_spent", "full", "unavailable"];

impl VerdictMeter {
    pub(super) fn new(families: &Families) -> Self {
        Self(LABELS.map(|label| families.shared_store_verdicts.with_label_values(&[label])))
    }

    /// Counts one.
    pub fn counted(&self, verdict: &Verdict) {
        let place = match verdict {
            Verdict::New(_) => 0,
            Verdict::Seen => 1,
            Verdict::Low => 2,
            Verdict::Over { cost: _, retry_after: _, level: _, beside: _ } => 3,
            Verdict::Fenced { retry_after: _ } => 4,
            Verdict::Outdated => 5,
            Verdict::StepSpent => 6,
            Verdict::Full => 7,
            Verdict::Unavailable => 8,
        };
        if let Some(counter) = self.0.get(place) {
            counter.inc();
        }
    }
}
