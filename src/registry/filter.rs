//! Defeats a flood of made-up key ids: what is not in the registry is known in memory, and never asked for.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwapOption;

/// Every key's [`Tag::short`](crate::key::Tag::short): exact, but for two ids of 2^64 that share one.
///
/// Asking takes no lock. One thread writes.
#[derive(Default)]
pub(super) struct Filter {
    table: ArcSwapOption<Table>,
    /// What came before the table did. Whoever writes holds it.
    early: Mutex<Vec<u64>>,
}

/// A power of two of places, at most half of them taken; a tag stands at the first free one from its own on.
struct Table {
    places: Box<[AtomicU64]>,
    taken: AtomicUsize,
}

impl Filter {
    /// Whether there may be a key of this tag; `None` as long as that is not known.
    pub(super) fn may_hold(&self, tag: u64) -> Option<bool> {
        self.table.load().as_ref().map(|table| table.holds(tag))
    }

    /// There is a key of this tag.
    pub(super) fn insert(&self, tag: u64) {
        let mut early = self.early.lock().unwrap_or_else(PoisonError::into_inner);
        match &*self.table.load() {
            None => early.push(tag),
            Some(table) if table.has_room() => table.insert(tag),
            Some(table) => {
                let larger = Table::with_room(table.places.len());
                table.tags().for_each(|tag| larger.insert(tag));
                larger.insert(tag);
                self.table.store(Some(Arc::new(larger)));
            }
        }
    }

    /// Takes all tags there were, to which those are added that came meanwhile.
    pub(super) fn fill(&self, tags: &[u64]) {
        let mut early = self.early.lock().unwrap_or_else(PoisonError::into_inner);
        let table = Table::with_room(tags.len() + early.len());
        tags.iter().chain(&*early).for_each(|tag| table.insert(*tag));
        early.clear();
        early.shrink_to_fit();
        self.table.store(Some(Arc::new(table)));
    }

    /// Nothing is known any more.
    pub(super) fn forget(&self) {
        let mut early = self.early.lock().unwrap_or_else(PoisonError::into_inner);
        early.clear();
        self.table.store(None);
    }

    /// How many there are; `None` as long as that is not known.
    pub(super) fn len(&self) -> Option<usize> {
        self.table.load().as_ref().map(|table| table.len())
    }
}

impl Table {
    /// Room for more than `count`.
    fn with_room(count: usize) -> Self {
        let places = count.saturating_add(1).saturating_mul(2).max(LEAST).next_power_of_two();
        Self { places: (0..places).map(|_| AtomicU64::new(0)).collect(), taken: 0.into() }
    }

    fn has_room(&self) -> bool {
        self.len() * 2 < self.places.len()
    }

    fn len(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    fn holds(&self, tag: u64) -> bool {
        let tag = tag.max(1);
        self.from(tag)
            .map(|place| place.load(Ordering::Acquire))
            .take_while(|found| *found != 0)
            .any(|found| found == tag)
    }

    /// Writes are made one at a time.
    fn insert(&self, tag: u64) {
        let tag = tag.max(1);
        let place = self.from(tag).find(|place| {
            let found = place.load(Ordering::Acquire);
            found == 0 || found == tag
        });
        if let Some(place) = place
            && place.swap(tag, Ordering::AcqRel) == 0
        {
            self.taken.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn tags(&self) -> impl Iterator<Item = u64> {
        self.places.iter().map(|place| place.load(Ordering::Relaxed)).filter(|tag| *tag != 0)
    }

    /// Every place, from the tag's own on. Free is 0: the tag 0 stands as 1.
    fn from(&self, tag: u64) -> impl Iterator<Item = &AtomicU64> {
        let mask = self.places.len().wrapping_sub(1);
        let own = usize::try_from(tag & u64::try_from(mask).unwrap_or(u64::MAX)).unwrap_or(0);
        let (before, after) = self.places.split_at_checked(own).unwrap_or((&self.places, &[]));
        after.iter().chain(before)
    }
}

const LEAST: usize = 1_024;

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Filter({:?})", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_before_the_table_and_after_it_is_held_and_nothing_else() {
        let filter = Filter::default();
        filter.insert(7);
        assert_eq!((filter.may_hold(7), filter.may_hold(8), filter.len()), (None, None, None));
        filter.fill(&[1, 2, u64::MAX]);
        for tag in [1, 2, 7, u64::MAX] {
            assert_eq!(filter.may_hold(tag), Some(true), "{tag}");
        }
        assert_eq!(filter.may_hold(8), Some(false));
        filter.insert(8);
        filter.insert(8);
        assert_eq!((filter.may_hold(8), filter.len()), (Some(true), Some(5)));
        filter.forget();
        assert_eq!(filter.may_hold(8), None);
        filter.fill(&[3]);
        assert_eq!((filter.may_hold(3), filter.may_hold(8)), (Some(true), Some(false)));
    }

    #[test]
    fn it_grows_and_stays_exact_even_where_all_tags_want_one_place() {
        for step in [1, 1 << 20, 0x9e37_79b9_7f4a_7c15] {
            let filter = Filter::default();
            filter.fill(&[]);
            let tag = |n: u64| n.wrapping_mul(step);
            (1..2_000).for_each(|n| filter.insert(tag(n)));
            assert_eq!(filter.len(), Some(1_999));
            assert!((1..2_000).all(|n| filter.may_hold(tag(n)) == Some(true)), "{step}");
            assert!((2_000..4_000).all(|n| filter.may_hold(tag(n)) == Some(false)), "{step}");
        }
    }

    #[test]
    fn the_tag_of_zeros_is_a_tag() {
        let filter = Filter::default();
        filter.fill(&[]);
        assert_eq!(filter.may_hold(0), Some(false));
        filter.insert(0);
        assert_eq!(filter.may_hold(0), Some(true));
    }
}
