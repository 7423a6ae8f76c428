//! The limits that span accounts: counted here, and settled with the servers on tabs.

use super::RedisStore;
use super::tabs::{Tabs, Taken};
use crate::clock::{Clock, Micros};
use crate::store::memory::MemoryStore;
use crate::store::{Cost, Levels, Scope, Subject, Verdict};

impl<C: Clock> RedisStore<C> {
    /// Charges the limits that span accounts: here, and on their tabs. Dropping what comes with it gives them back.
    #[expect(clippy::wildcard_enum_match_arm, reason = "whatever is not new is handed on as it is")]
    pub(super) async fn share<'a>(
        &'a self,
        now: Micros,
        costs: &'a [Cost],
    ) -> Result<(Levels, Refund<'a, C>), Verdict> {
        let levels = match self.local.charge(now, costs) {
            Verdict::New(levels) => levels,
            refused => return Err(refused),
        };
        let (at, clock) = (levels.at, &self.clock);
        let mut refund =
            Refund { local: &self.local, tabs: &self.tabs, clock, at, costs, on_tab: 0 };
        for (place, cost) in costs.iter().enumerate() {
            let Subject(subject) = cost.subject;
            let keepers = is_shared(cost).then(|| self.keepers(subject, Micros(u64::MAX)));
            if let Some(keepers) = keepers.filter(|keepers| !keepers.is_empty()) {
                match self.tabs.take(cost, &keepers, now, self.deadline).await {
                    Taken::OnTab => refund.on_tab |= 1 << place,
                    Taken::Alone => {}
                    Taken::Over(retry_after) => {
                        let level = cost.limit.quota;
                        let mut beside = given_back(&levels, costs, 0);
                        beside.retain(|(other, _)| *other != place);
                        let beside = beside.into();
                        return Err(Verdict::Over { cost: place, retry_after, level, beside });
                    }
                }
            }
        }
        Ok((levels, refund))
    }
}

/// How full limits are once what was charged here is given back, each by its place, which begins at `first`.
pub(super) fn given_back(levels: &Levels, costs: &[Cost], first: usize) -> Vec<(usize, u32)> {
    let left = levels.iter().zip(costs).map(|(level, cost)| level.saturating_sub(cost.weight));
    (first..).zip(left).collect()
}

/// Gives back what was charged here, unless the request passes.
pub(super) struct Refund<'a, C: Clock> {
    local: &'a MemoryStore,
    tabs: &'a Tabs,
    clock: &'a C,
    at: Micros,
    costs: &'a [Cost],
    /// Which of the costs are on their tabs, as bits.
    on_tab: u8,
}

impl<C: Clock> Refund<'_, C> {
    pub(super) fn keep(mut self) {
        self.costs = &[];
    }
}

impl<C: Clock> Drop for Refund<'_, C> {
    fn drop(&mut self) {
        if !self.costs.is_empty() {
            let now = self.clock.now();
            self.local.refund(self.at, now, self.costs);
            for (place, cost) in self.costs.iter().enumerate() {
                if self.on_tab >> place & 1 == 1 {
                    self.tabs.give_back(cost, now);
                }
            }
        }
    }
}

/// Whether all gateways count it together.
fn is_shared(cost: &Cost) -> bool {
    matches!(cost.scope, Scope::Address | Scope::Global) && !cost.shadow && cost.weight > 0
}
