//! Limits that more accounts share, as an address's: each gateway lets a bounded part of them run up, and settles it
//! with the store behind the requests' backs.
//!
//! A tab holds no more than a batch, a thirty-second of the quota, or one request that weighs more. What was settled
//! never exceeds the quota, so that all gateways together admit at most the quota and one batch each. While the store
//! does not answer, each gateway counts for itself.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use foldhash::fast::RandomState;
use redis::cmd;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::keys::generation_of;
use super::packed::{self, Settled};
use super::server::Server;
use crate::clock::Micros;
use crate::store::{Cost, Subject};

/// The tabs of one gateway.
#[derive(Debug, Default)]
pub(super) struct Tabs {
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    tabs: HashMap<Subject, Arc<Tab>, RandomState>,
    /// Whose they are, the one looked at longest ago first.
    order: VecDeque<Subject>,
}

/// What one subject has run up here.
#[derive(Debug, Default)]
struct Tab {
    state: Mutex<State>,
    /// Rung when the store has answered.
    settled: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Units that the store was not asked for yet.
    owed: u32,
    /// When what is owed would be back if the store had been asked: then nothing is owed.
    lapses: Micros,
    /// Units that it is being asked for.
    asked: u32,
    /// Until when nothing more fits.
    closed_until: Micros,
    /// Until when this gateway counts for itself, since the store did not answer.
    alone_until: Micros,
}

/// What became of a charge.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Taken {
    /// It is on the tab, or this gateway counts for itself.
    Yes,
    /// The store has no more.
    Over(Duration),
}

enum Attempt {
    Taken,
    Over(Duration),
    /// The store must answer first.
    Wait,
}

impl Tabs {
    /// Puts a cost on its subject's tab, and waits only while that is full.
    pub(super) async fn take(
        &self,
        cost: &Cost,
        keepers: &[Arc<Server>],
        now: Micros,
        deadline: Instant,
    ) -> Taken {
        let Some(tab) = self.tab(cost.subject, now) else { return Taken::Yes };
        loop {
            let answered = tab.settled.notified();
            let mut answered = std::pin::pin!(answered);
            answered.as_mut().enable();
            let (attempt, ask) = tab.attempt(cost, now);
            if let Some(units) = ask {
                tokio::spawn(settle(
                    Arc::clone(&tab),
                    keepers.to_vec(),
                    *cost,
                    units,
                    now,
                    deadline,
                ));
            }
            match attempt {
                Attempt::Taken => return Taken::Yes,
                Attempt::Over(wait) => return Taken::Over(wait),
                Attempt::Wait => {
                    if tokio::time::timeout_at(deadline, answered).await.is_err() {
                        return Taken::Yes;
                    }
                }
            }
        }
    }

    /// Takes a cost off again, where the store was not asked for it yet.
    pub(super) fn give_back(&self, cost: &Cost) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tab) = open.tabs.get(&cost.subject) {
            let mut state = tab.lock();
            state.owed = state.owed.saturating_sub(cost.weight);
        }
    }

    /// The tab of a subject; `None` where there are too many that are in use.
    fn tab(&self, subject: Subject, now: Micros) -> Option<Arc<Tab>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tab) = open.tabs.get(&subject) {
            return Some(Arc::clone(tab));
        }
        open.sweep_some(now);
        if open.tabs.len() >= MOST {
            return None;
        }
        open.order.push_back(subject);
        Some(Arc::clone(open.tabs.entry(subject).or_default()))
    }
}

impl Open {
    /// Closes what is idle among the next few. Never all at once, not even when full: whoever comes from many addresses
    /// would make every request wait for that.
    fn sweep_some(&mut self, now: Micros) {
        for _ in 0..LOOKED_AT.min(self.order.len()) {
            let Some(subject) = self.order.pop_front() else { return };
            let is_free = |tab: &Arc<Tab>| Arc::strong_count(tab) == 1 && tab.lock().is_idle(now);
            if self.tabs.get(&subject).is_none_or(is_free) {
                self.tabs.remove(&subject);
            } else {
                self.order.push_back(subject);
            }
        }
    }
}

impl Tab {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tries to put a cost on it, and says how many units the store is to be asked for.
    fn attempt(&self, cost: &Cost, now: Micros) -> (Attempt, Option<u32>) {
        let mut state = self.lock();
        state.lapses = state.lapses.max(now + cost.limit.period);
        if now < state.alone_until {
            return (Attempt::Taken, None);
        }
        let batch = batch(cost);
        let run_up = state.owed.saturating_add(state.asked);
        if now < state.closed_until {
            return (Attempt::Over(state.closed_until.since(now)), None);
        }
        // What did not fit before comes first.
        let fits = state.closed_until == Micros(0)
            && (run_up == 0 || run_up.saturating_add(cost.weight) <= batch);
        if fits {
            state.owed = state.owed.saturating_add(cost.weight);
        }
        let is_due = state.owed > batch / 2 || !fits;
        let ask = (state.asked == 0 && state.owed > 0 && is_due).then(|| {
            state.asked = std::mem::take(&mut state.owed);
            state.asked
        });
        if !fits && ask.is_none() && state.asked == 0 {
            // Nothing is owed any more.
            state.closed_until = Micros(0);
            state.owed = cost.weight;
            return (Attempt::Taken, None);
        }
        (if fits { Attempt::Taken } else { Attempt::Wait }, ask)
    }

    fn answered(&self, settled: Option<Settled>, now: Micros) {
        let mut state = self.lock();
        let asked = std::mem::take(&mut state.asked);
        match settled {
            Some(Settled::Granted) => state.closed_until = Micros(0),
            Some(Settled::Over(wait)) => {
                state.owed = state.owed.saturating_add(asked);
                state.closed_until = now + wait.max(Duration::from_micros(1));
            }
            Some(Settled::Full) | None => {
                *state = State { alone_until: now + ALONE, ..State::default() };
            }
        }
        drop(state);
        self.settled.notify_waiters();
    }
}

impl State {
    fn is_idle(&self, now: Micros) -> bool {
        let is_settled = self.owed == 0 || self.lapses <= now;
        is_settled && self.asked == 0 && self.closed_until <= now && self.alone_until <= now
    }
}

/// The most that one gateway lets run up of a limit, but for a single request that weighs more.
fn batch(cost: &Cost) -> u32 {
    (cost.limit.quota / BATCHES).max(1)
}

/// Asks those that count it. None of them may have too little; where one has, the others take it back.
async fn settle(
    tab: Arc<Tab>,
    keepers: Vec<Arc<Server>>,
    cost: Cost,
    units: u32,
    now: Micros,
    deadline: Instant,
) {
    let Subject(subject) = cost.subject;
    let whole = Cost { weight: units, shadow: false, scope: crate::store::Scope::Key, ..cost };
    let packed = packed::costs(&[whole], None);
    let mut command = cmd("FCALL");
    command.arg("countersign_2_settle").arg(1).arg(generation_of(subject)).arg(&packed);
    let begun = Instant::now();
    let calls = keepers.iter().map(|server| {
        let (server, command) = (Arc::clone(server), command.clone());
        tokio::spawn(async move { server.call(&command, deadline).await })
    });
    let calls: Vec<_> = calls.collect();
    let (mut granted, mut over, mut is_full) = (Vec::new(), None, false);
    for (call, server) in calls.into_iter().zip(&keepers) {
        let Ok(Ok(answer)) = call.await else { continue };
        match packed::settled(&answer) {
            Ok(Settled::Granted) => granted.push((Arc::clone(server), answer)),
            Ok(Settled::Over(wait)) => over = over.max(Some(wait)),
            Ok(Settled::Full) => is_full = true,
            Err(_) => {}
        }
    }
    let settled = match over {
        Some(wait) => Some(Settled::Over(wait)),
        None if !granted.is_empty() => Some(Settled::Granted),
        None => is_full.then_some(Settled::Full),
    };
    tab.answered(settled, now + begun.elapsed());
    if over.is_none() {
        return;
    }
    for (server, answer) in granted {
        let mut command = cmd("FCALL");
        command.arg("countersign_2_unsettle").arg(1).arg(generation_of(subject));
        command.arg(&packed).arg(answer);
        // Where it fails, the others have less to give for a while.
        let _ = server.call(&command, Instant::now() + deadline.duration_since(begun)).await;
    }
}

/// Into how many batches a quota is divided.
const BATCHES: u32 = 32;
/// The most subjects with a tab; those beyond are counted here alone.
const MOST: usize = 65_536;
/// For each that is opened: so that those are found which are idle.
const LOOKED_AT: usize = 4;
/// How long a gateway counts for itself after the store did not answer.
const ALONE: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Limit;

    const NOW: Micros = Micros(1_000_000);

    fn cost(quota: u32, weight: u32) -> Cost {
        Cost::of_key(Subject(1), Limit { quota, period: Duration::from_secs(1) }, weight)
    }

    #[test]
    fn a_tab_holds_a_batch_and_is_settled_from_its_half_on() {
        let tab = Tab::default();
        let mut asked = Vec::new();
        for _ in 0..10 {
            let (attempt, ask) = tab.attempt(&cost(320, 1), NOW);
            assert!(matches!(attempt, Attempt::Taken));
            asked.extend(ask);
        }
        assert_eq!(asked, [6]);
        assert!(matches!(tab.attempt(&cost(320, 1), NOW), (Attempt::Wait, None)));
        tab.answered(Some(Settled::Granted), NOW);
        assert!(matches!(tab.attempt(&cost(320, 1), NOW), (Attempt::Taken, None)));
    }

    #[test]
    fn what_the_store_has_no_more_of_is_refused_and_stays_owed() {
        let tab = Tab::default();
        assert!(matches!(tab.attempt(&cost(10, 1), NOW), (Attempt::Taken, Some(1))));
        tab.answered(Some(Settled::Over(Duration::from_millis(300))), NOW);
        let (over, ask) = tab.attempt(&cost(10, 1), NOW + Duration::from_millis(100));
        assert!(matches!(over, Attempt::Over(wait) if wait == Duration::from_millis(200)));
        assert_eq!(ask, None);
        // Then what is owed comes first.
        let later = NOW + Duration::from_millis(300);
        assert!(matches!(tab.attempt(&cost(10, 1), later), (Attempt::Wait, Some(1))));
        tab.answered(Some(Settled::Granted), later);
        assert!(matches!(tab.attempt(&cost(10, 1), later), (Attempt::Taken, Some(1))));
    }

    #[test]
    fn a_request_that_weighs_more_than_a_batch_has_the_tab_for_itself() {
        let tab = Tab::default();
        assert!(matches!(tab.attempt(&cost(320, 50), NOW), (Attempt::Taken, Some(50))));
        assert!(matches!(tab.attempt(&cost(320, 50), NOW), (Attempt::Wait, None)));
        tab.answered(Some(Settled::Granted), NOW);
        assert!(matches!(tab.attempt(&cost(320, 50), NOW), (Attempt::Taken, Some(50))));
    }

    #[test]
    fn a_tab_is_closed_once_what_is_owed_would_be_back_and_not_before() {
        let tabs = Tabs::default();
        let open = |subject, now| tabs.tab(Subject(subject), now).expect("there is room");
        let held = |subject| tabs.open.lock().unwrap().tabs.contains_key(&Subject(subject));
        assert!(matches!(open(1, NOW).attempt(&cost(320, 1), NOW), (Attempt::Taken, None)));
        let back = NOW + Duration::from_secs(1);
        open(2, back - Duration::from_micros(1));
        assert!(held(1), "it still owes");
        let used = open(2, back);
        open(3, back);
        assert!(!held(1));
        assert!(held(2), "it is in use");
        drop(used);
        open(4, back);
        assert!(!held(2), "nothing was ever owed");
    }

    #[test]
    fn tabs_that_are_all_in_use_leave_no_room_and_few_are_looked_at_for_that() {
        let tabs = Tabs::default();
        for subject in 0..MOST as u64 {
            let tab = tabs.tab(Subject(subject), NOW).expect("there is room");
            let _attempt = tab.attempt(&cost(320, 1), NOW);
        }
        assert!(tabs.tab(Subject(u64::MAX), NOW).is_none());
        let at = |place: usize| tabs.open.lock().unwrap().order.get(place).copied();
        let next = at(LOOKED_AT);
        assert!(tabs.tab(Subject(u64::MAX), NOW).is_none());
        assert_eq!(at(0), next);
        assert!(tabs.tab(Subject(u64::MAX), NOW + Duration::from_secs(1)).is_some());
    }

    #[test]
    fn without_an_answer_a_gateway_counts_for_itself_for_a_while() {
        let tab = Tab::default();
        assert!(matches!(tab.attempt(&cost(10, 1), NOW), (Attempt::Taken, Some(1))));
        tab.answered(None, NOW);
        for _ in 0..50 {
            assert!(matches!(tab.attempt(&cost(10, 1), NOW), (Attempt::Taken, None)));
        }
        assert!(matches!(tab.attempt(&cost(10, 1), NOW + ALONE), (Attempt::Taken, Some(1))));
    }
}
