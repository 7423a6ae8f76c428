//! How full limits are, as every reply tells it.

use std::time::Duration;

use arrayvec::ArrayVec;

use super::refusal;
use super::reply::{Reply, Value};
use super::routes::Entry;
use crate::admit::{Filled, Standing};
use crate::clock::Micros;
use crate::dialect::Facts;
use crate::store::{Charged, Counts, Window};

/// Tells the client how full its limits are, in the words of the route's dialect.
pub(super) fn tell(reply: &mut Reply, standing: &[Told], now: Micros, entry: &Entry) {
    let Some(dialect) = refusal::dialect(entry).filter(|_| !standing.is_empty()) else { return };
    let facts: ArrayVec<Facts, MOST_TOLD> = standing.iter().map(|told| told.facts(now)).collect();
    dialect.tell_on_all(&facts, |name, said| reply.set(name, Value::Said(said)));
}

/// How full a limit is: small, since a request that waits for its backend carries it along.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    used: u32,
    limit: u32,
    period_ms: u32,
    /// What the request took of it, which may be given back.
    weight: u32,
    counts: Counts,
    window: Window,
    charged: Charged,
}

impl Told {
    /// What the words of a dialect may mention of it.
    pub(super) fn facts(&self, now: Micros) -> Facts {
        Facts {
            now,
            used: self.used,
            limit: self.limit,
            period: Duration::from_millis(self.period_ms.into()),
            counts: self.counts,
            window: self.window,
            retry_after: Duration::ZERO,
        }
    }

    /// What is given back to a request that the backend answered with this status is told of as spent no more.
    pub(super) fn give_back(&mut self, status: u16) {
        if self.charged.gives_back(status) {
            self.used = self.used.saturating_sub(self.weight);
        }
    }
}

/// The most limits that a client is told of.
pub(super) const MOST_TOLD: usize = 6;

/// How full limits are; none in shadow is spoken of.
pub(super) fn standing(standing: &Standing) -> ArrayVec<Told, MOST_TOLD> {
    let enforced = standing.filled().iter().filter(|filled| !filled.shadow);
    let told = |filled: &Filled| Told {
        used: filled.spent,
        limit: filled.limit.quota,
        period_ms: u32::try_from(filled.limit.period.as_millis()).unwrap_or(u32::MAX),
        weight: filled.weight,
        counts: filled.counts,
        window: filled.window,
        charged: filled.charged,
    };
    enforced.map(told).take(MOST_TOLD).collect()
}
