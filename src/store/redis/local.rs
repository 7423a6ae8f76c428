//! What a gateway decides alone, for routes that state it, while the shared store cannot be asked.
//!
//! It knows what it let through itself, and may spend its share of each limit. What another gateway lets through
//! meanwhile it does not know: that is what such routes put up with.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::RedisStore;
use super::backlog::Pending;
use super::own::Added;
use super::packed::{self, Token};
use super::trouble::Trouble;
use crate::clock::{Clock, Micros};
use crate::metrics::{LocalMeter, LocalOutcome};
use crate::store::{Charge, Cost, Levels, MAX_COSTS, Subject, Verdict};

/// Which routes a gateway judges alone, and what it may spend then.
#[derive(Clone, Debug, Default)]
pub struct Local {
    /// How many gateways share the store: each may spend its part of every limit, rounded down.
    pub gateways: u32,
    /// The ids of the routes.
    pub routes: Vec<u16>,
}

/// How it stands with judging alone.
#[derive(Debug, Default)]
pub(super) struct Alone {
    rules: Local,
    meter: OnceLock<LocalMeter>,
    /// When a request was last let through so, in microseconds; 0 once the store has answered again for a while.
    last: AtomicU64,
    passed: AtomicU64,
}

/// After how long without a request that was let through alone the store counts as back.
const OVER: Duration = Duration::from_secs(5);

impl Alone {
    pub(super) fn new(rules: Local) -> Self {
        Self { rules, ..Self::default() }
    }

    pub(super) fn set_meter(&self, meter: LocalMeter) {
        // An error means that there is one already.
        let _ = self.meter.set(meter);
    }

    pub(super) fn is_for(&self, charge: &Charge) -> bool {
        self.rules.routes.contains(&charge.route) && charge.step.is_none()
    }

    fn count(&self, outcome: LocalOutcome) {
        if let Some(meter) = self.meter.get() {
            meter.judged(outcome);
        }
    }

    fn passed(&self, now: Micros) {
        self.passed.fetch_add(1, Ordering::Relaxed);
        if self.last.swap(now.0.max(1), Ordering::Relaxed) == 0 {
            tracing::error!(
                "the shared store cannot be asked: routes with when_store_down = \"local\" are judged by this gateway alone"
            );
        }
    }

    /// The store has answered.
    pub(super) fn answered(&self, now: Micros) {
        let last = self.last.load(Ordering::Relaxed);
        if last == 0 || now < Micros(last) + OVER {
            return;
        }
        if self.last.compare_exchange(last, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            let passed = self.passed.swap(0, Ordering::Relaxed);
            tracing::info!(passed, "the shared store judges all routes again");
        }
    }

    /// What this gateway may spend of each limit; `None` where a request weighs more than that, or there is no part.
    fn shares(&self, costs: &[Cost]) -> Option<Vec<Cost>> {
        let share = |cost: &Cost| {
            let mut cost = *cost;
            cost.limit.quota /= self.rules.gateways.max(1);
            if cost.weight > cost.limit.quota && !cost.shadow {
                return None;
            }
            cost.limit.quota = cost.limit.quota.max(1);
            // Counted apart from what is spent while the store answers.
            cost.subject = Subject(cost.subject.0.rotate_left(29) ^ 0x9E37_79B9_7F4A_7C15);
            Some(cost)
        };
        costs.iter().map(share).collect()
    }
}

impl<C: Clock> RedisStore<C> {
    /// Judges a request that the store gave no answer to.
    pub(super) fn judge_alone(&self, charge: &Charge, token: Token) -> Verdict {
        let verdict = self.decide_alone(charge, token);
        self.alone.count(match &verdict {
            Verdict::New(_) => LocalOutcome::Accepted,
            Verdict::Seen | Verdict::Low => LocalOutcome::Seen,
            Verdict::Over { cost: _, retry_after: _, level: _, beside: _ } => LocalOutcome::Over,
            Verdict::Fenced { retry_after: _ } => LocalOutcome::Fenced,
            Verdict::Full => LocalOutcome::Full,
            Verdict::Unavailable | Verdict::Outdated | Verdict::StepSpent => LocalOutcome::Refused,
        });
        verdict
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "whatever is not new is handed on as it is")]
    fn decide_alone(&self, charge: &Charge, token: Token) -> Verdict {
        if self.doubts_clock() {
            return Verdict::Unavailable;
        }
        let Some(fence) = packed::fence(charge.time, self.margins) else {
            return Verdict::Unavailable;
        };
        let born = self.own.complete_since();
        if born >= fence {
            let retry_after = self.judged_from(born).since(charge.now);
            return Verdict::Fenced { retry_after: retry_after.max(Duration::from_millis(1)) };
        }
        let Some(shares) = self.alone.shares(&charge.costs) else { return Verdict::Unavailable };
        // Whoever writes back finds all of it or nothing.
        let mut log = self.backlog.lock();
        if !log.has_room(charge.now) {
            return Verdict::Full;
        }
        let levels = match self.local.charge(charge.now, &shares) {
            Verdict::New(levels) => levels,
            refused => return refusal(refused, &shares, charge),
        };
        let refused = match self.own.add(charge) {
            Added::Now => {
                log.push(Pending::of(charge, token));
                None
            }
            Added::Before => Some(Verdict::Seen),
            Added::NoRoom => Some(Verdict::Full),
        };
        drop(log);
        if let Some(refused) = refused {
            self.local.refund(levels.at, self.clock.now(), &shares);
            return refused;
        }
        self.alone.passed(charge.now);
        for server in self.servers.iter().filter(|server| server.is_usable()) {
            server.behind.notify_one();
        }
        Verdict::New(of_whole(&levels, &shares, &charge.costs))
    }

    /// Whether it is rather our clock that is wrong.
    fn doubts_clock(&self) -> bool {
        let off = |trouble: Option<Trouble>| matches!(trouble, Some(Trouble::Clock(_)));
        self.servers.iter().filter(|server| off(server.trouble())).count() >= self.majority
    }
}

/// How full each limit is, where all but this gateway's share counts as spent.
fn of_whole(levels: &Levels, shares: &[Cost], costs: &[Cost]) -> Levels {
    let all = levels.iter().zip(shares).zip(costs);
    let whole = all.map(|((level, share), cost)| in_whole(*level, share, cost));
    let mut whole: Levels = whole.take(MAX_COSTS).collect();
    whole.at = levels.at;
    whole.is_local = true;
    whole
}

fn in_whole(level: u32, share: &Cost, cost: &Cost) -> u32 {
    level.saturating_add(cost.limit.quota.saturating_sub(share.limit.quota))
}

#[expect(clippy::wildcard_enum_match_arm, reason = "all others are handed on as they are")]
fn refusal(refused: Verdict, shares: &[Cost], charge: &Charge) -> Verdict {
    match refused {
        Verdict::Over { cost, retry_after, level, mut beside } => {
            let level = charge.costs.get(cost).map_or(level, |cost| cost.limit.quota);
            for (place, level) in &mut beside {
                if let Some((share, cost)) = shares.get(*place).zip(charge.costs.get(*place)) {
                    *level = in_whole(*level, share, cost);
                }
            }
            Verdict::Over { cost, retry_after, level, beside }
        }
        other => other,
    }
}
