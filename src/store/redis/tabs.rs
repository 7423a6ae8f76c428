//! Limits that more accounts share, as an address's: each gateway lets a bounded part of them run up, and settles it
//! with the store behind the requests' backs.
//!
//! A tab holds no more than a batch, a thirty-second of the quota, or one request that weighs more; who comes beside waits
//! until the store has granted that too. What was settled never exceeds the quota, so that all gateways together admit at
//! most the quota and one batch each. While the store does not answer, each gateway counts for itself.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use foldhash::fast::RandomState;
use redis::cmd;
use tokio::time::Instant;

use super::keys::generation_of;
use super::packed::{self, Settled};
use super::server::Server;
use super::tab::{Attempt, Granted, Tab, Told};
use crate::clock::Micros;
use crate::store::{Cost, Scope, Subject};

/// The tabs of one gateway.
#[derive(Debug, Default)]
pub(super) struct Tabs {
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    tabs: HashMap<Subject, Arc<Tab>, RandomState>,
    /// Whose those are that are closed again, the one looked at longest ago first.
    order: VecDeque<Subject>,
}

/// What became of a charge.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Taken {
    /// It is on the tab.
    OnTab,
    /// This gateway counts for itself.
    Alone,
    /// The store has no more, or did not come to it in time.
    Over(Duration),
}

impl Tabs {
    /// Puts a cost on its subject's tab, and waits only while that is full.
    pub(super) async fn take(
        &self,
        cost: &Cost,
        keepers: &[Arc<Server>],
        begun_at: Micros,
        patience: Duration,
    ) -> Taken {
        let Some(tab) = self.tab(cost, begun_at) else { return Taken::Alone };
        let begun = Instant::now();
        let mut was_answered = false;
        loop {
            let now = begun_at + begun.elapsed();
            let answered = tab.settled.notified();
            let mut answered = std::pin::pin!(answered);
            answered.as_mut().enable();
            let (attempt, Told { ask, back }) = tab.attempt(cost, now);
            if let Some((units, granted)) = back {
                tokio::spawn(unsettle(granted, *cost, units, patience));
            }
            if let Some(units) = ask {
                let (tab, keepers) = (Arc::clone(&tab), keepers.to_vec());
                // Others wait for it too, so it has its own time.
                tokio::spawn(settle(tab, keepers, *cost, units, now, patience));
            }
            match attempt {
                Attempt::Taken => return Taken::OnTab,
                Attempt::Alone => return Taken::Alone,
                Attempt::Over(wait) => return Taken::Over(wait),
                Attempt::Wait => {}
            }
            let _waiting = tab.wait(cost.weight);
            match tokio::time::timeout_at(begun + patience, answered).await {
                Ok(()) => was_answered = true,
                // The store answers, and there are too many before this one.
                Err(_) if was_answered && !tab.is_alone(now) => return Taken::Over(SOON),
                Err(_) => return Taken::Alone,
            }
        }
    }

    /// Takes a cost off again that is on its tab.
    pub(super) fn give_back(&self, cost: &Cost, now: Micros) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tab) = open.tabs.get(&cost.subject) {
            tab.give_back(cost, now);
        }
    }

    /// The tab of a cost's subject; `None` where there are too many that are in use. What all share always has one: of
    /// addresses there may come any number.
    fn tab(&self, cost: &Cost, now: Micros) -> Option<Arc<Tab>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tab) = open.tabs.get(&cost.subject) {
            return Some(Arc::clone(tab));
        }
        if cost.scope != Scope::Global {
            open.sweep_some(now);
            if open.tabs.len() >= MOST {
                return None;
            }
            open.order.push_back(cost.subject);
        }
        Some(Arc::clone(open.tabs.entry(cost.subject).or_default()))
    }
}

impl Open {
    /// Closes what is idle among the next few. Never all at once, not even when full: whoever comes from many addresses
    /// would make every request wait for that.
    fn sweep_some(&mut self, now: Micros) {
        for _ in 0..LOOKED_AT.min(self.order.len()) {
            let Some(subject) = self.order.pop_front() else { return };
            let is_free = |tab: &Arc<Tab>| Arc::strong_count(tab) == 1 && tab.is_idle(now);
            if self.tabs.get(&subject).is_none_or(is_free) {
                self.tabs.remove(&subject);
            } else {
                self.order.push_back(subject);
            }
        }
    }
}

/// Asks those that count it. None of them may have too little; where one has, the others take it back.
async fn settle(
    tab: Arc<Tab>,
    keepers: Vec<Arc<Server>>,
    cost: Cost,
    units: u32,
    now: Micros,
    patience: Duration,
) {
    let (generation, packed) = packed(&cost, units);
    let mut command = cmd("FCALL");
    command.arg("countersign_2_settle").arg(1).arg(generation).arg(packed);
    let begun = Instant::now();
    let deadline = begun + patience;
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
    let granted: Granted = granted.into();
    tab.answered(settled, Arc::clone(&granted), now + begun.elapsed());
    if over.is_some() {
        unsettle(granted, cost, units, patience).await;
    }
}

/// Gives units back to those that granted them, or more.
async fn unsettle(granted: Granted, cost: Cost, units: u32, patience: Duration) {
    let (generation, packed) = packed(&cost, units);
    let deadline = Instant::now() + patience;
    for (server, answer) in granted.iter() {
        let mut command = cmd("FCALL");
        command.arg("countersign_2_unsettle").arg(1).arg(&generation).arg(&packed).arg(answer);
        // Where it fails, all have less to take for a while.
        let _ = server.call(&command, deadline).await;
    }
}

/// The key of the generation whose slot a cost's subject belongs to, and so many units of it.
fn packed(cost: &Cost, units: u32) -> (String, Vec<u8>) {
    let Subject(subject) = cost.subject;
    let whole = Cost { weight: units, shadow: false, scope: Scope::Key, ..*cost };
    (generation_of(subject), packed::costs(&[whole], None))
}

/// The most subjects with a tab; those beyond are counted here alone.
const MOST: usize = 65_536;
/// For each that is opened: so that those are found which are idle.
const LOOKED_AT: usize = 4;
/// After how long room may be found again where too many came at a time.
const SOON: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Limit;

    const NOW: Micros = Micros(1_000_000);

    fn cost(subject: u64) -> Cost {
        let limit = Limit { quota: 320, period: Duration::from_secs(1) };
        Cost { scope: Scope::Address, ..Cost::of_key(Subject(subject), limit, 1) }
    }

    #[test]
    fn a_tab_is_closed_once_what_is_owed_would_be_back_and_not_before() {
        let tabs = Tabs::default();
        let open = |subject, now| tabs.tab(&cost(subject), now).expect("there is room");
        let held = |subject| tabs.open.lock().unwrap().tabs.contains_key(&Subject(subject));
        assert_eq!(open(1, NOW).attempt(&cost(1), NOW).0, Attempt::Taken);
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
            let tab = tabs.tab(&cost(subject), NOW).expect("there is room");
            let _attempt = tab.attempt(&cost(subject), NOW);
        }
        assert!(tabs.tab(&cost(u64::MAX), NOW).is_none());
        let at = |place: usize| tabs.open.lock().unwrap().order.get(place).copied();
        let next = at(LOOKED_AT);
        assert!(tabs.tab(&cost(u64::MAX), NOW).is_none());
        assert_eq!(at(0), next);
        // Whoever comes from many addresses takes nothing from what all share.
        let global = Cost { scope: Scope::Global, ..cost(u64::MAX - 1) };
        assert!(tabs.tab(&global, NOW).is_some());
        let back = NOW + Duration::from_secs(1);
        assert!(tabs.tab(&cost(u64::MAX), back).is_some());
        for subject in 0..MOST as u64 {
            let _tab = tabs.tab(&cost(1 << 32 | subject), back);
        }
        assert!(tabs.open.lock().unwrap().tabs.contains_key(&global.subject), "it is idle");
    }
}
