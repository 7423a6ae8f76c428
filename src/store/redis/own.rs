//! What this gateway let through itself: its repetitions are refused without asking anyone.
//!
//! It is exact and bounded. Where the store answers nothing depends on it: what finds no room is asked about as ever.
//! Where the store cannot be asked, it alone judges what was signed after it began to be complete.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::clock::Micros;
use crate::store::{Charge, Identity, Repeat};

/// The set, in parts with a lock each.
#[derive(Debug)]
pub(super) struct Own {
    parts: [Mutex<Part>; PARTS],
    /// The most that a part holds.
    most: usize,
    /// Since when nothing was left out, in microseconds.
    complete_since: AtomicU64,
}

#[derive(Debug, Default)]
struct Part {
    /// By which route each came.
    held: HashMap<Identity, u16>,
    /// Until when each may come again, the one looked at longest ago first.
    ends: VecDeque<(Micros, Identity)>,
}

/// What became of a request that is added.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Added {
    /// It is held from now on.
    Now,
    /// It was held before, and may not repeat.
    Before,
    /// There is no room.
    NoRoom,
}

impl Own {
    /// A set that knows of all that this gateway lets through from `born` on.
    pub(super) fn new(born: Micros) -> Self {
        Self::of(MOST, born)
    }

    fn of(most: usize, born: Micros) -> Self {
        let parts = std::array::from_fn(|_| Mutex::default());
        Self { parts, most, complete_since: AtomicU64::new(born.0) }
    }

    /// Since when it holds all that was let through.
    pub(super) fn complete_since(&self) -> Micros {
        Micros(self.complete_since.load(Ordering::Acquire))
    }

    /// Whether a request is one of these, and may not repeat.
    pub(super) fn has(&self, charge: &Charge) -> bool {
        let holds = |identity| {
            self.part(identity, |part| part.held.get(&identity).is_some_and(is_spent(charge)))
        };
        holds(charge.identity) || charge.nonce.is_some_and(holds)
    }

    /// Adds one that passes, if it is none of these.
    pub(super) fn add(&self, charge: &Charge) -> Added {
        let added = self.put(charge.identity, charge);
        match (added, charge.nonce) {
            (Added::Now, Some(nonce)) => self.put(nonce, charge),
            (Added::Now | Added::Before | Added::NoRoom, _) => added,
        }
    }

    fn put(&self, identity: Identity, charge: &Charge) -> Added {
        let added = self.part(identity, |part| {
            part.sweep_some(charge.now);
            match part.held.get(&identity) {
                Some(held) if is_spent(charge)(held) => Added::Before,
                Some(_) => Added::Now,
                None if part.held.len() >= self.most => Added::NoRoom,
                None => {
                    part.held.insert(identity, charge.route);
                    part.ends.push_back((charge.keep_until, identity));
                    Added::Now
                }
            }
        });
        if added == Added::NoRoom {
            self.complete_since.fetch_max(charge.now.0, Ordering::AcqRel);
        }
        added
    }

    fn part<T>(&self, identity: Identity, work: impl FnOnce(&mut Part) -> T) -> T {
        let Identity([first, ..]) = identity;
        let [.., last] = &self.parts;
        let part = self.parts.get(usize::from(first) % PARTS).unwrap_or(last);
        work(&mut part.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Part {
    /// Drops what is past among the next few. Never all at once, not even when full: a request would wait for that.
    fn sweep_some(&mut self, now: Micros) {
        for _ in 0..LOOKED_AT.min(self.ends.len()) {
            match self.ends.pop_front() {
                Some((until, past)) if until < now => drop(self.held.remove(&past)),
                Some(live) => self.ends.push_back(live),
                None => {}
            }
        }
    }
}

/// Whether what is held forbids this request.
fn is_spent(charge: &Charge) -> impl Fn(&u16) -> bool {
    |route| charge.repeat == Repeat::Never || *route != charge.route
}

const PARTS: usize = 16;
/// About 16 MB in all.
const MOST: usize = 16_384;
/// For each that is added: so at most a quarter of what is held is past, where windows are alike.
const LOOKED_AT: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::SignedTime;

    fn charge(number: u8, now: u64) -> Charge {
        Charge {
            now: Micros(now),
            identity: Identity([number; 16]),
            nonce: None,
            account: 1,
            key: [0; 16],
            epoch: 0,
            step: None,
            time: SignedTime::Stamp(Micros(now)),
            keep_until: Micros(now + 100),
            route: 1,
            repeat: Repeat::Never,
            costs: [].into_iter().collect(),
        }
    }

    #[test]
    fn what_was_let_through_is_known_and_a_read_may_repeat_on_its_route() {
        let own = Own::new(Micros(1));
        let once = charge(1, 10);
        assert!(!own.has(&once));
        own.add(&once);
        assert!(own.has(&once));
        let read = Charge { repeat: Repeat::SameRoute, ..once };
        assert!(!own.has(&read));
        assert!(own.has(&Charge { route: 2, ..read }));
    }

    #[test]
    fn a_full_set_makes_room_of_what_is_past_and_never_of_what_is_not() {
        let own = Own::of(2, Micros(1));
        // All of one part.
        for (number, now) in [(0, 10), (16, 20), (32, 30)] {
            own.add(&charge(number, now));
        }
        assert!(own.has(&charge(0, 31)) && own.has(&charge(16, 31)));
        assert!(!own.has(&charge(32, 31)), "there was no room");
        own.add(&charge(48, 115));
        assert!(!own.has(&charge(0, 116)) && own.has(&charge(16, 116)));
        assert!(own.has(&charge(48, 116)));
    }

    #[test]
    fn a_full_set_looks_at_few_for_each_that_is_added() {
        let mut part = Part::default();
        for number in 0..100_u8 {
            let identity = Identity([number; 16]);
            part.held.insert(identity, 1);
            // Those that end early lie behind those that end late.
            part.ends.push_back((Micros(if number < 50 { 200 } else { 100 }), identity));
        }
        for added in 1..=25 {
            part.sweep_some(Micros(150));
            let dropped = (LOOKED_AT * added).saturating_sub(50);
            assert_eq!((part.held.len(), part.ends.len()), (100 - dropped, 100 - dropped));
        }
        part.sweep_some(Micros(200));
        assert_eq!(part.held.len(), 50, "at its last moment it is live");
        part.sweep_some(Micros(201));
        assert_eq!(part.held.len(), 50 - LOOKED_AT);
    }
}
