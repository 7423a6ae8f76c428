//! Counts the tries for codes of second factors: for each account and address, and for each account in all.
//!
//! Six digits give way to a million guesses, and whoever stole a secret may own many addresses: so those that have shown
//! no right code lately share one bound for each account. An address that has shown one keeps its own tries, so that
//! nobody's guesses lock the owner out of where the owner is at home.

use std::hash::BuildHasher;
use std::sync::{Mutex, PoisonError};

use foldhash::quality::RandomState;

use super::Bounds;
use super::proven::{Pair, Proven};
use super::tally::Tally;
use crate::clock::Micros;
use crate::denial::Excess;

#[derive(Debug)]
pub(super) struct Codes {
    by_address: Option<Tally>,
    by_account: Option<Tally>,
    known: Proven,
    seed: RandomState,
    /// Held while a try is taken: of two at once only one may be the last. Codes come by hand, so nobody waits.
    turn: Mutex<()>,
}

impl Codes {
    pub(super) fn new(bounds: &Bounds) -> Self {
        let tally = |limit: Option<_>| limit.map(|limit| Tally::new(Some(limit), CELLS));
        Self {
            by_address: tally(bounds.codes),
            by_account: tally(bounds.codes_per_account),
            known: Proven::new(bounds.codes_known_for, LINES),
            seed: RandomState::default(),
            turn: Mutex::new(()),
        }
    }

    /// Takes one try, or says how long until there is one.
    pub(super) fn take(&self, holder: Pair, now: Micros) -> Result<(), Excess> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let subject = self.subject(holder);
        if let Some(tries) = &self.by_address {
            tries.take(subject, now)?;
        }
        match &self.by_account {
            Some(tries) if !self.known.holds(holder, now) => {
                tries.take(holder.key, now).inspect_err(|_| {
                    if let Some(tries) = &self.by_address {
                        tries.give_back(subject);
                    }
                })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Gives back what was taken, before [`Codes::shown`] changes what is known of the address.
    pub(super) fn give_back(&self, holder: Pair, now: Micros) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tries) = &self.by_address {
            tries.give_back(self.subject(holder));
        }
        if let Some(tries) = &self.by_account
            && !self.known.holds(holder, now)
        {
            tries.give_back(holder.key);
        }
    }

    /// Remembers that a right code was shown from there.
    pub(super) fn shown(&self, holder: Pair, now: Micros) {
        self.known.note(holder, now);
    }

    fn subject(&self, holder: Pair) -> u64 {
        self.seed.hash_one((holder.key, holder.address))
    }
}

const CELLS: usize = 1 << 12;
/// Lines: 512 KiB, and room for 65,536 accounts at home.
const LINES: usize = 1 << 13;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::Limit;

    const NOW: Micros = Micros(1_760_000_000_000_000);

    fn codes(by_address: u32, by_account: u32) -> Codes {
        let limit = |quota| Some(Limit { quota, period: Duration::from_hours(1) });
        Codes::new(&Bounds {
            codes: limit(by_address),
            codes_per_account: limit(by_account),
            codes_known_for: Duration::from_hours(1),
            ..Bounds::default()
        })
    }

    #[test]
    fn many_threads_at_once_get_as_many_tries_as_there_are() {
        let codes = codes(50, 1_000);
        let holder = Pair { key: 1, address: 2 };
        let taken: usize = std::thread::scope(|scope| {
            let tries = || (0..1_000).filter(|_| codes.take(holder, NOW).is_ok()).count();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(tries)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(taken, 50);
    }

    #[test]
    fn what_is_given_back_can_be_taken_again_however_often() {
        let codes = codes(2, 3);
        let holder = Pair { key: 1, address: 2 };
        for _ in 0..1_000 {
            codes.take(holder, NOW).unwrap();
            codes.give_back(holder, NOW);
        }
        assert!(codes.take(holder, NOW).is_ok());
        assert!(codes.take(holder, NOW).is_ok());
        assert!(codes.take(holder, NOW).is_err());
    }

    #[test]
    fn a_try_that_the_account_has_not_is_not_taken_from_the_address() {
        let codes = codes(5, 3);
        let from = |address| Pair { key: 1, address };
        for address in 0..3 {
            codes.take(from(address), NOW).unwrap();
        }
        for _ in 0..100 {
            assert!(codes.take(from(9), NOW).is_err());
        }
        codes.shown(from(9), NOW);
        let own = (0..10).filter(|_| codes.take(from(9), NOW).is_ok()).count();
        assert_eq!(own, 5);
    }
}
