//! The numbers of one key that were accepted: defeats a second pass of each, while those that clients sent in parallel
//! may overtake one another.
//!
//! Of what does not pass, a copy of what did is told from a request that never passed, as long as that is remembered:
//! whoever sent the latter may sign it again.

/// Everything up to a floor, and the last few numbers that were accepted.
#[derive(Debug, Default)]
pub(super) struct Accepted {
    /// Nothing up to this passes.
    floor: u64,
    /// Of nothing up to this is it known whether it was accepted.
    forgotten: u64,
    /// What was accepted beyond that, in ascending order, each number with a print of its request.
    recent: Vec<(u64, u64)>,
}

impl Accepted {
    /// As if everything up to `floor` had been accepted.
    pub(super) const fn up_to(floor: u64) -> Self {
        Self { floor, forgotten: floor, recent: Vec::new() }
    }

    /// The highest number accepted.
    pub(super) fn highest(&self) -> u64 {
        self.recent.last().map_or(self.floor, |(number, _)| self.floor.max(*number))
    }

    /// Whether `number` may pass: above all, or new and at most `window` below the highest.
    pub(super) fn lets_pass(&self, number: u64, window: u64) -> bool {
        let highest = self.highest();
        number > highest
            || (number > self.floor && highest - number <= window && self.place_of(number).is_err())
    }

    /// Whether the request of this print may have passed with this number, as far as is remembered.
    pub(super) fn may_have_passed(&self, number: u64, print: u64) -> bool {
        let is_it = |place: usize| self.recent.get(place).is_some_and(|(_, of)| *of == print);
        number <= self.forgotten || self.place_of(number).is_ok_and(is_it)
    }

    /// Adds a number that may pass. Whatever is then no longer remembered lies at or below the floor.
    pub(super) fn add(&mut self, number: u64, window: u64, print: u64) {
        if let Err(place) = self.place_of(number) {
            self.recent.insert(place, (number, print));
        }
        let most = if window == 0 { REMEMBERED_TO_TELL } else { MOST_REMEMBERED };
        let lowest = self.highest().saturating_sub(window);
        let below =
            if window == 0 { 0 } else { self.recent.partition_point(|(one, _)| *one < lowest) };
        let gone = below.max(self.recent.len().saturating_sub(most));
        if let Some((last, _)) = self.recent.drain(..gone).next_back() {
            self.floor = self.floor.max(last);
            self.forgotten = self.forgotten.max(last);
        }
        if window == 0 {
            self.floor = self.highest();
        }
    }

    fn place_of(&self, number: u64) -> Result<usize, usize> {
        self.recent.binary_search_by_key(&number, |(one, _)| *one)
    }
}

/// How many numbers of one key are remembered above its floor.
pub(super) const MOST_REMEMBERED: usize = 64;
/// How many are where there is no window: only so that copies are told from what never passed.
const REMEMBERED_TO_TELL: usize = 8;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_number_at_the_end_of_the_window_passes_once_and_the_next_lower_never() {
        let mut accepted = Accepted::up_to(0);
        accepted.add(1_000, 10, 0);
        assert!(!accepted.lets_pass(989, 10));
        assert!(accepted.lets_pass(990, 10));
        accepted.add(990, 10, 0);
        assert!(!accepted.lets_pass(990, 10));
        assert!(!accepted.lets_pass(1_000, 10));
        assert!(accepted.lets_pass(999, 10));
        assert_eq!(accepted.highest(), 1_000);
    }

    #[test]
    fn a_wider_window_later_does_not_bring_back_what_was_dropped() {
        let mut accepted = Accepted::up_to(0);
        accepted.add(100, 5, 0);
        accepted.add(200, 5, 0);
        assert!(!accepted.lets_pass(100, u64::MAX));
        assert!(accepted.lets_pass(101, u64::MAX), "what never came was never lost");
    }

    #[test]
    fn beyond_the_most_remembered_the_oldest_bound_rises() {
        let mut accepted = Accepted::up_to(0);
        let even = |n: usize| 2 * u64::try_from(n).unwrap();
        for n in 1..=MOST_REMEMBERED {
            accepted.add(even(n), 1_000, 0);
        }
        assert!(accepted.lets_pass(1, 1_000));
        accepted.add(even(MOST_REMEMBERED + 1), 1_000, 0);
        assert!(!accepted.lets_pass(1, 1_000));
        assert!(!accepted.lets_pass(2, 1_000));
        assert!(accepted.lets_pass(3, 1_000));
        assert_eq!(accepted.recent.len(), MOST_REMEMBERED);
    }

    #[test]
    fn a_number_without_a_window_closes_it() {
        let mut accepted = Accepted::up_to(0);
        accepted.add(10, 5, 0);
        accepted.add(12, 0, 0);
        assert!(!accepted.lets_pass(11, 5));
    }

    #[test]
    fn what_never_passed_is_told_from_copies_as_long_as_they_are_remembered() {
        let mut accepted = Accepted::up_to(10);
        (1..=9).for_each(|n| accepted.add(10 + 2 * n, 0, n));
        assert!(accepted.may_have_passed(28, 9) && !accepted.may_have_passed(28, 8));
        assert!(accepted.may_have_passed(14, 2) && !accepted.may_have_passed(13, 1));
        // The oldest of nine is forgotten, with all below it.
        assert!(accepted.may_have_passed(12, 7) && accepted.may_have_passed(11, 7));
        assert!((0..=28).all(|number| !accepted.lets_pass(number, u64::MAX)));
    }

    proptest! {
        #[test]
        fn no_number_passes_twice_whatever_the_order_and_the_windows(
            start in prop_oneof![Just(0), Just(u64::MAX - 400), 0..u64::MAX - 400],
            sent in prop::collection::vec((0u64..400, prop_oneof![Just(0), 1..200u64, Just(u64::MAX)]), 1..400),
        ) {
            let mut accepted = Accepted::up_to(start);
            let mut passed = HashSet::new();
            for (offset, window) in sent {
                let (number, highest) = (start + offset, accepted.highest());
                if accepted.lets_pass(number, window) {
                    accepted.add(number, window, 0);
                    prop_assert!(passed.insert(number));
                    prop_assert!(number > start && number.saturating_add(window) >= highest);
                } else {
                    prop_assert!(number <= highest);
                }
                prop_assert!(accepted.recent.len() <= MOST_REMEMBERED);
                prop_assert_eq!(accepted.highest(), passed.iter().copied().max().unwrap_or(start));
            }
        }

        #[test]
        fn a_window_that_is_never_outgrown_loses_nothing(
            sent in prop::collection::vec(1u64..60, 1..200),
        ) {
            let (mut accepted, mut passed) = (Accepted::default(), HashSet::new());
            for number in sent {
                let passes = accepted.lets_pass(number, 60);
                prop_assert_eq!(passes, passed.insert(number));
                if passes {
                    accepted.add(number, 60, 0);
                }
            }
        }
    }
}
