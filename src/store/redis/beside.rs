//! How full the limits of a key and its account are, for whoever is refused by a limit that more accounts share.
//!
//! That one is counted here, so that the servers would not be asked. They are asked for the others all the same, in the
//! call that every request makes, beside a cost that never fits: so it is refused there, recorded nowhere and charged to
//! nobody.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

use super::RedisStore;
use super::judge::command;
use super::keys::{Keys, signed_at};
use super::packed::{Said, Spend};
use crate::clock::{Clock, Micros};
use crate::store::{Charge, Cost, Limit, MAX_COSTS, Subject, Verdict};

/// Who asks: so few that a flood that is refused takes little of what others need.
#[derive(Debug)]
pub(super) struct Asking {
    seats: Semaphore,
    /// In which second how many asked, which are the last sixteen bits.
    asked: AtomicU64,
}

impl Default for Asking {
    fn default() -> Self {
        Self { seats: Semaphore::new(AT_A_TIME), asked: AtomicU64::new(0) }
    }
}

impl Asking {
    /// A seat for one who asks at `now`, if there is one.
    fn seat(&self, now: Micros) -> Option<SemaphorePermit<'_>> {
        let second = (now.0 / 1_000_000) << 16;
        let seat = self.seats.try_acquire().ok()?;
        let next = |asked: u64| {
            let before = asked.checked_sub(second).filter(|before| *before <= A_SECOND);
            Some(second + before.unwrap_or(0) + 1).filter(|_| before != Some(A_SECOND))
        };
        self.asked.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).ok().map(|_| seat)
    }
}

impl<C: Clock> RedisStore<C> {
    /// How full `own` limits are, the first that a request is charged to, by their places, where it is refused for one
    /// after them. Empty where the servers cannot be asked, or are asked by too many.
    pub(super) async fn beside(&self, charge: &Charge, own: &[Cost]) -> Vec<(usize, u32)> {
        if own.is_empty() {
            return Vec::new();
        }
        let Some(_seat) = self.asking.seat(charge.now) else { return Vec::new() };
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
        let command = command(&keys, charge, &spend, &costs);
        let votes = if let Some(cluster) = &self.cluster {
            let (route, sent, bytes) = self
                .ask_primary(cluster, charge.account, |_| Micros(0), |_| command.clone())
                .await?;
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
const AT_A_TIME: usize = 8;
/// A hundredth of what a server can do.
const A_SECOND: u64 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_ask_at_a_time_and_so_many_a_second() {
        let (asking, now) = (Asking::default(), Micros(1_999_999));
        let seats: Vec<_> = (0..AT_A_TIME).map(|_| asking.seat(now).unwrap()).collect();
        assert!(asking.seat(now).is_none());
        drop(seats);
        for _ in AT_A_TIME as u64..A_SECOND {
            assert!(asking.seat(now).is_some());
        }
        assert!(asking.seat(now).is_none());
        assert!(asking.seat(now + Duration::from_micros(1)).is_some());
        assert_eq!(asking.asked.load(Ordering::Relaxed), (2 << 16) + 1);
    }
}
