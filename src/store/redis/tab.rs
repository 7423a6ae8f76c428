//! What one subject has run up here of a limit that more accounts share.
//!
//! What does not pass after all is given back: while the store was not asked for it, nothing of it was. Else it is lent
//! out, to whoever comes next, and soon given back to the store, so that requests which are refused by something else
//! take nothing from those that would pass.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::packed::Settled;
use super::server::Server;
use crate::clock::Micros;
use crate::store::Cost;

/// What one subject has run up here.
#[derive(Debug, Default)]
pub(super) struct Tab {
    state: Mutex<State>,
    /// Rung when the store has answered.
    pub(super) settled: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Units that the store was not asked for yet.
    owed: u32,
    /// When what is owed would be back if the store had been asked: then nothing is owed.
    lapses: Micros,
    /// Units that it is being asked for, and those beside them for who waits.
    asked: u32,
    asked_for_waiting: u32,
    /// Units that those want who wait for the store, and how many of them are asked for at a time.
    wanted: u32,
    at_a_time: u32,
    /// Units that the store has granted and nobody used, and until when somebody may.
    spare: u32,
    spare_until: Micros,
    /// Who granted last.
    granted: Option<Granted>,
    /// Until when nothing more fits.
    closed_until: Micros,
    /// Until when this gateway counts for itself, since the store did not answer.
    alone_until: Micros,
}

/// The servers that granted something, and what each said.
pub(super) type Granted = Arc<[(Arc<Server>, Vec<u8>)]>;

/// What becomes of a cost that is put on a tab.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Attempt {
    /// It is on the tab.
    Taken,
    /// This gateway counts for itself.
    Alone,
    /// The store has no more.
    Over(Duration),
    /// The store must answer first.
    Wait,
}

/// What is to be told to the store.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Units that it is to be asked for.
    pub(super) ask: Option<u32>,
    /// Units that it gets back, and from whom it had them.
    pub(super) back: Option<(u32, Granted)>,
}

impl Tab {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tries to put a cost on it.
    pub(super) fn attempt(&self, cost: &Cost, now: Micros) -> (Attempt, Told) {
        let mut state = self.lock();
        state.lapses = state.lapses.max(now + cost.limit.period);
        if now < state.alone_until {
            return (Attempt::Alone, Told::default());
        }
        let back = state.take_lapsed(now);
        if state.spare >= cost.weight {
            state.spare -= cost.weight;
            return (Attempt::Taken, Told { ask: None, back });
        }
        let batch = batch(cost);
        let run_up = state.owed.saturating_add(state.asked);
        if now < state.closed_until {
            let wait = state.closed_until.since(now);
            return (Attempt::Over(wait), Told { ask: None, back });
        }
        // What did not fit before comes first.
        let fits = state.closed_until == Micros(0)
            && (run_up == 0 || run_up.saturating_add(cost.weight) <= batch);
        if fits {
            state.owed = state.owed.saturating_add(cost.weight);
        }
        let is_due = state.owed > batch / 2 || !fits;
        let wanted = state.wanted.saturating_add(if fits { 0 } else { cost.weight });
        let ask = if is_due { state.ask(wanted, cost.limit.quota) } else { None };
        if !fits && ask.is_none() && state.asked_in_all() == 0 {
            // Nothing is owed any more.
            state.closed_until = Micros(0);
            state.owed = cost.weight;
            return (Attempt::Taken, Told { ask: None, back });
        }
        (if fits { Attempt::Taken } else { Attempt::Wait }, Told { ask, back })
    }

    /// Notes that somebody waits who wants so many units, until that is dropped.
    pub(super) fn wait(self: &Arc<Self>, units: u32) -> Waiting {
        let mut state = self.lock();
        state.wanted = state.wanted.saturating_add(units);
        drop(state);
        Waiting { tab: Arc::clone(self), units }
    }

    /// Whether this gateway counts for itself.
    pub(super) fn is_alone(&self, now: Micros) -> bool {
        now < self.lock().alone_until
    }

    /// Takes a cost off again.
    pub(super) fn give_back(&self, cost: &Cost, now: Micros) {
        let mut state = self.lock();
        if now < state.alone_until {
            return;
        }
        let beyond = cost.weight.saturating_sub(state.owed);
        state.owed = state.owed.saturating_sub(cost.weight);
        if beyond > 0 {
            if state.spare == 0 {
                state.spare_until = now + LENT;
            }
            state.spare = state.spare.saturating_add(beyond);
        }
    }

    /// The store has answered what it was asked for.
    pub(super) fn answered(&self, settled: Option<Settled>, granted: Granted, now: Micros) {
        let mut state = self.lock();
        let asked = std::mem::take(&mut state.asked);
        let for_waiting = std::mem::take(&mut state.asked_for_waiting);
        match settled {
            Some(Settled::Granted) => {
                state.closed_until = Micros(0);
                state.granted = Some(granted);
                state.at_a_time = state.at_a_time.saturating_mul(2).clamp(1, MOST_AT_A_TIME);
                if for_waiting > 0 {
                    state.spare = state.spare.saturating_add(for_waiting);
                    state.spare_until = now + LENT;
                }
            }
            Some(Settled::Over(wait)) => {
                state.owed = state.owed.saturating_add(asked);
                if for_waiting > 0 {
                    // Less may fit.
                    state.at_a_time = for_waiting / 4;
                } else {
                    state.closed_until = now + wait.max(Duration::from_micros(1));
                }
            }
            Some(Settled::Full) | None => {
                let wanted = state.wanted;
                *state = State { alone_until: now + ALONE, wanted, ..State::default() };
            }
        }
        drop(state);
        self.settled.notify_waiters();
    }

    /// Whether it says nothing any more.
    pub(super) fn is_idle(&self, now: Micros) -> bool {
        let state = self.lock();
        let is_settled = (state.owed == 0 && state.spare == 0) || state.lapses <= now;
        is_settled
            && state.asked_in_all() == 0
            && state.closed_until <= now
            && state.alone_until <= now
    }
}

impl State {
    fn asked_in_all(&self) -> u32 {
        self.asked.saturating_add(self.asked_for_waiting)
    }

    /// What the store is to be asked for, unless it is being asked: what is owed, and some of what is wanted.
    fn ask(&mut self, wanted: u32, quota: u32) -> Option<u32> {
        if self.asked_in_all() > 0 {
            return None;
        }
        // A quota that was lowered meanwhile may be less than what is owed.
        self.asked = self.owed.min(quota);
        self.owed -= self.asked;
        self.asked_for_waiting = wanted.min(self.at_a_time).min(quota - self.asked);
        Some(self.asked_in_all()).filter(|asked| *asked > 0)
    }

    /// What nobody used in time.
    fn take_lapsed(&mut self, now: Micros) -> Option<(u32, Granted)> {
        if self.spare == 0 || now < self.spare_until {
            return None;
        }
        let units = std::mem::take(&mut self.spare);
        self.granted.clone().map(|granted| (units, granted))
    }
}

/// Somebody who waits for the store.
#[derive(Debug)]
pub(super) struct Waiting {
    tab: Arc<Tab>,
    units: u32,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut state = self.tab.lock();
        state.wanted = state.wanted.saturating_sub(self.units);
    }
}

/// The most that one gateway lets run up of a limit, but for a single request that weighs more.
fn batch(cost: &Cost) -> u32 {
    (cost.limit.quota / BATCHES).max(1)
}

/// Into how many batches a quota is divided.
const BATCHES: u32 = 32;
/// The most units that are asked for at a time for those who wait.
const MOST_AT_A_TIME: u32 = 1 << 16;
/// How long what was granted and not used waits for somebody who does: about as long as a request waits.
const LENT: Duration = Duration::from_millis(20);
/// How long a gateway counts for itself after the store did not answer.
const ALONE: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Limit, Subject};

    const NOW: Micros = Micros(1_000_000);

    fn cost(quota: u32, weight: u32) -> Cost {
        Cost::of_key(Subject(1), Limit { quota, period: Duration::from_secs(1) }, weight)
    }

    /// What becomes of a cost, and what the store is asked for.
    fn attempt(tab: &Tab, cost: &Cost, now: Micros) -> (Attempt, Option<u32>) {
        let (attempt, told) = tab.attempt(cost, now);
        (attempt, told.ask)
    }

    /// What is owed, and what is lent out.
    fn held(tab: &Tab) -> (u32, u32) {
        let state = tab.lock();
        (state.owed, state.spare)
    }

    fn answer(tab: &Tab, settled: Settled, now: Micros) {
        tab.answered(Some(settled), Arc::new([]), now);
    }

    #[test]
    fn a_tab_holds_a_batch_and_is_settled_from_its_half_on() {
        let tab = Tab::default();
        let mut asked = Vec::new();
        for _ in 0..10 {
            let (attempt, ask) = attempt(&tab, &cost(320, 1), NOW);
            assert_eq!(attempt, Attempt::Taken);
            asked.extend(ask);
        }
        assert_eq!(asked, [6]);
        assert_eq!(attempt(&tab, &cost(320, 1), NOW), (Attempt::Wait, None));
        answer(&tab, Settled::Granted, NOW);
        assert_eq!(attempt(&tab, &cost(320, 1), NOW), (Attempt::Taken, None));
    }

    #[test]
    fn what_the_store_has_no_more_of_is_refused_and_stays_owed() {
        let tab = Tab::default();
        assert_eq!(attempt(&tab, &cost(10, 1), NOW), (Attempt::Taken, Some(1)));
        answer(&tab, Settled::Over(Duration::from_millis(300)), NOW);
        let over = attempt(&tab, &cost(10, 1), NOW + Duration::from_millis(100));
        assert_eq!(over, (Attempt::Over(Duration::from_millis(200)), None));
        // Then what is owed comes first.
        let later = NOW + Duration::from_millis(300);
        assert_eq!(attempt(&tab, &cost(10, 1), later), (Attempt::Wait, Some(1)));
        answer(&tab, Settled::Granted, later);
        assert_eq!(attempt(&tab, &cost(10, 1), later), (Attempt::Taken, Some(1)));
    }

    #[test]
    fn a_request_that_weighs_more_than_a_batch_has_the_tab_for_itself() {
        let tab = Tab::default();
        assert_eq!(attempt(&tab, &cost(320, 50), NOW), (Attempt::Taken, Some(50)));
        assert_eq!(attempt(&tab, &cost(320, 50), NOW), (Attempt::Wait, None));
        answer(&tab, Settled::Granted, NOW);
        assert_eq!(attempt(&tab, &cost(320, 50), NOW), (Attempt::Taken, Some(50)));
    }

    #[test]
    fn those_who_wait_are_asked_for_together_and_fewer_at_a_time_where_they_do_not_fit() {
        let tab = Arc::new(Tab::default());
        let one = cost(60, 1);
        for _ in 0..4 {
            assert_eq!(attempt(&tab, &one, NOW), (Attempt::Taken, Some(1)));
            answer(&tab, Settled::Granted, NOW);
        }
        assert_eq!(attempt(&tab, &one, NOW), (Attempt::Taken, Some(1)));
        let mut waiting = Vec::new();
        for _ in 0..20 {
            assert_eq!(attempt(&tab, &one, NOW), (Attempt::Wait, None));
            waiting.push(tab.wait(1));
        }
        answer(&tab, Settled::Granted, NOW);
        // The first to come again is told of; sixteen at a time, after five grants.
        waiting.pop();
        assert_eq!(attempt(&tab, &one, NOW), (Attempt::Taken, Some(1 + 16)));
        answer(&tab, Settled::Granted, NOW);
        for _ in 0..16 {
            waiting.pop();
            assert_eq!(attempt(&tab, &one, NOW), (Attempt::Taken, None));
        }
        waiting.pop();
        assert_eq!(attempt(&tab, &one, NOW), (Attempt::Taken, Some(1 + 2)));
        answer(&tab, Settled::Over(Duration::from_millis(300)), NOW);
        // Without them it may fit.
        waiting.pop();
        assert_eq!(attempt(&tab, &one, NOW), (Attempt::Wait, Some(1)));
        answer(&tab, Settled::Over(Duration::from_millis(300)), NOW);
        let over = Attempt::Over(Duration::from_millis(300));
        assert_eq!(attempt(&tab, &one, NOW), (over, None));
        waiting.clear();
        assert_eq!(tab.lock().wanted, 0);
    }

    #[test]
    fn what_was_granted_and_not_used_is_lent_to_the_next_and_then_goes_back() {
        let (tab, one) = (Tab::default(), cost(320, 1));
        for _ in 0..6 {
            assert_eq!(attempt(&tab, &one, NOW).0, Attempt::Taken);
        }
        answer(&tab, Settled::Granted, NOW);
        assert_eq!(attempt(&tab, &one, NOW), (Attempt::Taken, None));
        // One of them the store was not asked for.
        for _ in 0..7 {
            tab.give_back(&one, NOW);
        }
        assert_eq!(held(&tab), (0, 6));
        for _ in 0..4 {
            assert_eq!(attempt(&tab, &one, NOW), (Attempt::Taken, None));
        }
        assert_eq!(held(&tab), (0, 2));
        let (taken, told) = tab.attempt(&one, NOW + LENT);
        assert_eq!(
            (taken, told.ask, told.back.map(|(units, _)| units)),
            (Attempt::Taken, None, Some(2))
        );
        assert_eq!(held(&tab), (1, 0));
    }

    #[test]
    fn more_than_a_quota_that_was_lowered_is_asked_for_in_parts() {
        let tab = Tab::default();
        for _ in 0..5 {
            assert_eq!(attempt(&tab, &cost(320, 1), NOW), (Attempt::Taken, None));
        }
        assert_eq!(attempt(&tab, &cost(2, 1), NOW), (Attempt::Wait, Some(2)));
        answer(&tab, Settled::Granted, NOW);
        assert_eq!(tab.lock().owed, 3);
    }

    #[test]
    fn without_an_answer_a_gateway_counts_for_itself_for_a_while() {
        let tab = Tab::default();
        assert_eq!(attempt(&tab, &cost(10, 1), NOW), (Attempt::Taken, Some(1)));
        tab.answered(None, Arc::new([]), NOW);
        for _ in 0..50 {
            assert_eq!(attempt(&tab, &cost(10, 1), NOW), (Attempt::Alone, None));
        }
        assert!(tab.is_alone(NOW) && !tab.is_alone(NOW + ALONE));
        assert_eq!(attempt(&tab, &cost(10, 1), NOW + ALONE), (Attempt::Taken, Some(1)));
    }
}
