//! How full the limits of a key and its account are, for whoever is refused by a limit that more accounts share.
//!
//! That one is counted here, so that the servers would not be asked. They are asked for the others all the same, in the
//! call that every request makes, beside a cost that never fits: so it is refused there, recorded nowhere and charged to
//! nobody.

use std::time::Duration;

use super::RedisStore;
use super::judge::command;
use super::keys::{Keys, signed_at};
use super::packed::{Said, Spend};
use crate::clock::{Clock, Micros};
use crate::store::{Charge, Cost, Limit, MAX_COSTS, Subject, Verdict};

impl<C: Clock> RedisStore<C> {
    /// How full `own` limits are, the first that a request is charged to, by their places, where it is refused for one
    /// after them. Empty where the servers cannot be asked, or are asked by too many.
    pub(super) async fn beside(&self, charge: &Charge, own: &[Cost]) -> Vec<(usize, u32)> {
        if own.is_empty() {
            return Vec::new();
        }
        let Ok(_seat) = self.asking.try_acquire() else { return Vec::new() };
        self.ask_beside(charge, own).await.unwrap_or_default()
    }

    async fn ask_beside(&self, charge: &Charge, own: &[Cost]) -> Option<Vec<(usize, u32)>> {
        let fence = self.fence(charge, self.margins)?;
        let costs: Vec<Cost> = own
            .iter()
            .take(MAX_COSTS - 1)
            .map(|cost| Cost { weight: 0, ..*cost })
            .chain([NEVER])
            .collect();
        let spend = Spend::new(charge, self.token(), fence);
        let keys = Keys::of(charge.account, signed_at(charge));
        let command = command(&keys, &spend, &costs);
        let votes = if let Some(cluster) = &self.cluster {
            let (route, sent, bytes) =
                self.ask_primary(cluster, charge.account, Micros(0), |_| command.clone()).await?;
            self.believe(&route.server, &bytes, &costs, sent).into_iter().collect()
        } else {
            let counters = self.counters_of(charge, fence)?;
            let asks = counters.iter().map(|place| (*place, command.clone()));
            let votes = self.ask_each(asks, &costs).await;
            votes.into_iter().map(|(_, vote)| vote).collect::<Vec<_>>()
        };
        fullest(votes.into_iter().map(|vote| vote.said))
    }
}

/// Each limit as full as the fullest has it.
fn fullest(votes: impl Iterator<Item = Said>) -> Option<Vec<(usize, u32)>> {
    let mut all: Option<Vec<(usize, u32)>> = None;
    for said in votes {
        let Said::Over(Verdict::Over { cost: _, retry_after: _, level: _, beside }) = said else {
            continue;
        };
        match &mut all {
            None => all = Some(beside.into()),
            Some(all) => {
                let both = all.iter_mut().zip(&beside);
                both.for_each(|((_, level), (_, other))| *level = (*level).max(*other));
            }
        }
    }
    all
}

/// What fits into no limit at any time.
const NEVER: Cost = Cost::of_key(
    Subject(0x9E37_79B9_7F4A_7C15),
    Limit { quota: 1, period: Duration::from_secs(1) },
    2,
);
/// How many may ask at a time: a flood that is refused takes little of what others need.
pub(super) const ASKING: usize = 8;
