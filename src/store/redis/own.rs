//! What this gateway let through itself: its repetitions are refused without asking anyone.
//!
//! It is exact and bounded, and nothing depends on it: what finds no room is asked about as ever.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::clock::Micros;
use crate::store::{Charge, Identity, Repeat};

/// The set, in parts with a lock each.
#[derive(Debug)]
pub(super) struct Own {
    parts: [Mutex<Part>; PARTS],
    /// The most that a part holds.
    most: usize,
}

#[derive(Debug, Default)]
struct Part {
    /// Until when each may come again, and by which route it came.
    held: HashMap<Identity, (Micros, u16)>,
    swept: Micros,
}

impl Own {
    fn of(most: usize) -> Self {
        Self { parts: std::array::from_fn(|_| Mutex::default()), most }
    }

    /// Whether a request is one of these, and may not repeat.
    pub(super) fn has(&self, charge: &Charge) -> bool {
        self.part(charge, |part| {
            let found = part.held.get(&charge.identity);
            found.is_some_and(|(_, route)| charge.repeat == Repeat::Never || *route != charge.route)
        })
    }

    /// Adds one that passed.
    pub(super) fn add(&self, charge: &Charge) {
        self.part(charge, |part| {
            let is_due = part.held.len() >= self.most || charge.now > part.swept + SWEEP;
            // A full part is swept at most so often as time goes on.
            if is_due && charge.now > part.swept {
                part.held.retain(|_, (until, _)| *until >= charge.now);
                part.swept = charge.now;
            }
            if part.held.len() < self.most {
                part.held.insert(charge.identity, (charge.keep_until, charge.route));
            }
        });
    }

    fn part<T>(&self, charge: &Charge, work: impl FnOnce(&mut Part) -> T) -> T {
        let Identity([first, ..]) = charge.identity;
        let [.., last] = &self.parts;
        let part = self.parts.get(usize::from(first) % PARTS).unwrap_or(last);
        work(&mut part.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Default for Own {
    fn default() -> Self {
        Self::of(MOST)
    }
}

const PARTS: usize = 16;
/// About 12 MB in all.
const MOST: usize = 16_384;
const SWEEP: std::time::Duration = std::time::Duration::from_secs(5);

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
        let own = Own::default();
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
        let own = Own::of(2);
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
}
