//! Defeats the second use of a one-time code: remembers the last step that each account has spent.
//!
//! One number for each account is exact: a step that is not later than the last one spent counts as spent. What that
//! gives away is the use of two neighbouring codes in the wrong order, which honest people have no need of; what it
//! saves is a set for each account that someone could fill. A number is kept while its step or an earlier one could
//! still be accepted, a minute and a half at most.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foldhash::quality::RandomState;

use crate::clock::Micros;
use crate::key::factor::{start_of, step_at};
use crate::store::{Charge, Verdict};

#[derive(Debug)]
pub(super) struct Steps {
    spent: Mutex<Spent>,
    /// The first step of which no earlier process can have taken the code.
    first: u64,
}

#[derive(Debug, Default)]
struct Spent {
    last: HashMap<u64, u64, RandomState>,
    /// The step at which room was last made.
    tidied: u64,
}

/// A step that is unspent as long as this is held. Locks nothing where a charge has no step.
#[must_use]
#[derive(Debug)]
pub(super) struct Unspent<'s>(Option<(MutexGuard<'s, Spent>, u64, u64)>);

impl Steps {
    /// Judges steps that cannot have been accepted until `floor`; all steps where there is none.
    pub(super) fn new(floor: Option<Micros>) -> Self {
        // A code is accepted one step before its own.
        let first = floor.map_or(0, |floor| step_at(floor).saturating_add(2));
        Self { spent: Mutex::default(), first }
    }

    /// Holds the step of the charge, if it has one, until it is spent or given up.
    pub(super) fn hold(&self, charge: &Charge) -> Result<Unspent<'_>, Verdict> {
        let Some(step) = charge.step else { return Ok(Unspent(None)) };
        if step < self.first {
            let retry_after = start_of(self.first).since(charge.now).max(SOONEST);
            return Err(Verdict::Fenced { retry_after });
        }
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        match spent.last.get(&charge.account).copied() {
            Some(last) if last >= step => return Err(Verdict::StepSpent),
            Some(_) => {}
            None if spent.has_room(charge.now) => {}
            None => return Err(Verdict::Full),
        }
        Ok(Unspent(Some((spent, charge.account, step))))
    }
}

impl Unspent<'_> {
    pub(super) fn spend(self) {
        if let Some((mut spent, account, step)) = self.0 {
            spent.last.insert(account, step);
        }
    }
}

impl Spent {
    /// Whether one more account fits, after forgetting steps that are over; tried once a step.
    fn has_room(&mut self, now: Micros) -> bool {
        let present = step_at(now);
        if self.last.len() >= MOST && self.tidied != present {
            self.tidied = present;
            self.last.retain(|_, step| step.saturating_add(1) >= present);
        }
        self.last.len() < MOST
    }
}

/// Accounts that can spend a code within a minute and a half: 6 MiB.
const MOST: usize = 1 << 18;
const SOONEST: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Identity, Repeat, SignedTime};

    const NOW: Micros = Micros(1_760_000_000_000_000);

    fn charge(account: u64, step: u64, now: Micros) -> Charge {
        Charge {
            now,
            identity: Identity([0; 16]),
            nonce: None,
            account,
            key: [0; 16],
            epoch: 0,
            step: Some(step),
            time: SignedTime::Stamp(now),
            keep_until: now,
            route: 0,
            repeat: Repeat::Never,
            costs: arrayvec::ArrayVec::new(),
        }
    }

    fn spend(steps: &Steps, account: u64, step: u64, now: Micros) -> Result<(), Verdict> {
        steps.hold(&charge(account, step, now)).map(Unspent::spend)
    }

    #[test]
    fn a_step_is_spent_once_and_takes_the_earlier_ones_with_it() {
        let steps = Steps::new(None);
        assert_eq!(spend(&steps, 1, 10, NOW), Ok(()));
        for step in 8..=10 {
            assert_eq!(spend(&steps, 1, step, NOW), Err(Verdict::StepSpent), "{step}");
        }
        assert_eq!(spend(&steps, 2, 10, NOW), Ok(()), "another account's is another");
        assert_eq!(spend(&steps, 1, 11, NOW), Ok(()));
    }

    #[test]
    fn what_is_held_and_given_up_is_not_spent() {
        let steps = Steps::new(None);
        drop(steps.hold(&charge(1, 10, NOW)).unwrap());
        assert_eq!(spend(&steps, 1, 10, NOW), Ok(()));
    }

    #[test]
    fn after_a_restart_codes_that_may_have_been_used_are_refused_for_a_minute_at_most() {
        let steps = Steps::new(Some(NOW));
        let present = step_at(NOW);
        for step in present - 1..=present + 1 {
            let Err(Verdict::Fenced { retry_after }) = spend(&steps, 1, step, NOW) else {
                panic!("an earlier process may have taken the code of step {step}")
            };
            assert!(retry_after <= Duration::from_mins(1), "{retry_after:?}");
            assert_eq!(step_at(NOW + retry_after), present + 2);
        }
        assert_eq!(spend(&steps, 1, present + 2, start_of(present + 2)), Ok(()));
    }

    #[test]
    fn room_is_made_of_steps_that_are_over_and_of_no_others() {
        let steps = Steps::new(None);
        let present = step_at(NOW);
        let most = u64::try_from(MOST).unwrap();
        for account in 0..most {
            assert_eq!(spend(&steps, account, present, NOW), Ok(()));
        }
        assert_eq!(spend(&steps, most, present, NOW), Err(Verdict::Full));
        let next = start_of(present + 1);
        assert_eq!(spend(&steps, most, present + 1, next), Err(Verdict::Full), "still good");
        let over = start_of(present + 2);
        assert_eq!(spend(&steps, most, present + 2, over), Ok(()));
    }
}
