//! Handles of the audit trail.

use prometheus::IntCounter;

use super::families::Families;
use crate::audit::Kind;

/// The metrics of the audit trail. Clones count together.
#[derive(Clone, Debug)]
pub struct AuditMeter {
    requests: IntCounter,
    acts: IntCounter,
    unproven: IntCounter,
    events: IntCounter,
    lost: IntCounter,
    refused: IntCounter,
    served: IntCounter,
    write_failures: IntCounter,
    unusual: [IntCounter; Kind::ALL.len()],
    delivered: IntCounter,
    undelivered: IntCounter,
}

impl AuditMeter {
    pub(super) fn new(families: &Families) -> Self {
        let records = |kind| families.audit_records.with_label_values(&[kind]);
        let hook = |outcome| families.audit_webhook.with_label_values(&[outcome]);
        Self {
            requests: records("request"),
            acts: records("act"),
            unproven: records("unproven"),
            events: records("event"),
            lost: families.audit_lost.clone(),
            refused: families.audit_unrecorded.with_label_values(&["refused"]),
            served: families.audit_unrecorded.with_label_values(&["served"]),
            write_failures: families.audit_write_failures.clone(),
            unusual: Kind::ALL
                .map(|(_, name)| families.unusual_activity.with_label_values(&[name])),
            delivered: hook("delivered"),
            undelivered: hook("lost"),
        }
    }

    /// Counts records of requests.
    pub fn requests(&self, count: usize) {
        self.requests.inc_by(u64::try_from(count).unwrap_or_default());
    }

    /// Counts records of acts.
    pub fn acts(&self, count: u64) {
        self.acts.inc_by(count);
    }

    /// Counts sums of unproven refusals.
    pub fn unproven(&self, count: u64) {
        self.unproven.inc_by(count);
    }

    /// Counts records that were dropped for want of room.
    pub fn lost(&self, count: u64) {
        self.lost.inc_by(count);
    }

    /// Counts a request that could not be recorded in time: refused, or served all the same.
    pub fn unrecorded(&self, refused: bool) {
        if refused { self.refused.inc() } else { self.served.inc() }
    }

    /// Counts a write that failed.
    pub fn write_failed(&self) {
        self.write_failures.inc();
    }

    /// Counts what was unusual for a key.
    pub fn unusual(&self, kind: Kind) {
        self.events.inc();
        let place = Kind::ALL.iter().position(|(known, _)| *known == kind);
        if let Some(counter) = place.and_then(|place| self.unusual.get(place)) {
            counter.inc();
        }
    }

    /// Counts a message to the webhook.
    pub fn webhook(&self, delivered: bool) {
        if delivered { self.delivered.inc() } else { self.undelivered.inc() }
    }

    /// Messages that the webhook took, and those it did not.
    #[cfg(test)]
    pub(crate) fn webhooks(&self) -> (u64, u64) {
        (self.delivered.get(), self.undelivered.get())
    }
}
