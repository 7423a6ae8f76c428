//! Keys that were looked up, as many as there is room for: each in one of six places, found under a lock of its own.

use std::fmt;
use std::hash::BuildHasher;
use std::hint::{black_box, select_unpredictable};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use foldhash::fast::RandomState;

use super::fixed::is_named;
use super::{Looked, Nearest};
use crate::key::Key;

/// A bounded set of keys. Readers of one set of places do not wait for each other, and hardly ever for a writer, which
/// changes one place. What was not used lately makes room, but nothing that a request under way has.
pub(super) struct Held {
    sets: Box<[Set]>,
    seed: RandomState,
}

/// The places that a key may stand in, two cache lines.
#[derive(Default)]
#[repr(align(64))]
struct Set {
    places: RwLock<[Place; PLACES]>,
    /// Which of them were used since it was last looked for room: a bit each.
    used: AtomicU8,
    /// How often one was found here, and how often one was known not to exist.
    hits: AtomicU64,
    denied: AtomicU64,
}

#[derive(Default)]
struct Place {
    hash: u64,
    key: Option<Arc<Key>>,
}

const PLACES: usize = 6;

impl Held {
    /// Room for about `capacity` keys.
    pub(super) fn new(capacity: usize) -> Self {
        let sets = (capacity / 4).max(1).next_power_of_two();
        let sets = (0..sets).map(|_| Set::default()).collect();
        Self { sets, seed: RandomState::default() }
    }

    /// What `id` hashes to here.
    pub(super) fn hash(&self, id: &str) -> u64 {
        self.seed.hash_one(id)
    }

    /// The key named `id`, whose hash this is, or the one that was read instead; it is counted as known not to exist
    /// where `is_denied`.
    ///
    /// As in [`FixedKeys`](super::fixed::FixedKeys), another key in its place is read instead where there is one.
    pub(super) fn find(&self, id: &str, hash: u64, is_denied: bool) -> Looked {
        let set = self.set(hash)?;
        let places = read(&set.places);
        let best = places.iter().zip(0u8..).map(|(place, number)| {
            let (taken, alike) = (u8::from(place.key.is_some()), u8::from(place.hash == hash));
            (taken & alike) << 4 | taken << 3 | number
        });
        let best = best.max().unwrap_or_default();
        let number = best & 0x7;
        let place = places.get(usize::from(number));
        let Some(key) = place.and_then(|place| place.key.as_ref()) else {
            set.denied.fetch_add(u64::from(is_denied), Ordering::Relaxed);
            return None;
        };
        let known = black_box(is_named(key, id, best >> 4 == 1));
        let shared = Arc::clone(key);
        let bit = u8::from(known) << number;
        if set.used.load(Ordering::Relaxed) & bit != bit {
            set.used.fetch_or(bit, Ordering::Relaxed);
        }
        // On a line that this thread has just written to anyway.
        let counted = select_unpredictable(known, &set.hits, &set.denied);
        counted.fetch_add(u64::from(known | is_denied), Ordering::Relaxed);
        Some(Nearest::read(shared, known))
    }

    /// Adds a key, and gives back the one that makes room, or the key itself where nothing does.
    pub(super) fn insert(&self, key: Arc<Key>) -> Option<Arc<Key>> {
        let hash = self.hash(&key.id);
        let set = self.set(hash)?;
        let mut places = write(&set.places);
        let same = places.iter().position(|place| place.key.is_some() && place.hash == hash);
        let place = same.or_else(|| places.iter().position(|place| place.key.is_none()));
        let number = place.or_else(|| {
            let used = set.used.swap(0, Ordering::Relaxed);
            let idle = |number: &usize| {
                let key = places.get(*number).and_then(|place| place.key.as_ref());
                key.is_some_and(|key| Arc::strong_count(key) == 1)
            };
            let old = (0..PLACES).filter(idle).find(|number| used >> number & 1 == 0);
            old.or_else(|| (0..PLACES).find(idle))
        });
        match number.and_then(|number| places.get_mut(number)) {
            Some(place) => std::mem::replace(place, Place { hash, key: Some(key) }).key,
            None => Some(key),
        }
    }

    /// Removes the key named `id`.
    pub(super) fn remove(&self, id: &str) -> Option<Arc<Key>> {
        let hash = self.hash(id);
        let mut places = write(&self.set(hash)?.places);
        let named = |place: &&mut Place| place.key.as_ref().is_some_and(|key| *key.id == *id);
        places.iter_mut().find(named)?.key.take()
    }

    /// Removes every key of which `which` holds.
    pub(super) fn remove_all(&self, which: impl Fn(&Key) -> bool) -> Vec<Arc<Key>> {
        let mut removed = Vec::new();
        for set in &self.sets {
            let is_one = |place: &Place| place.key.as_ref().is_some_and(|key| which(key));
            if !read(&set.places).iter().any(is_one) {
                continue;
            }
            let mut places = write(&set.places);
            let those = places.iter_mut().filter(|place| is_one(place));
            removed.extend(those.filter_map(|place| place.key.take()));
        }
        removed
    }

    /// Shows each of them.
    pub(super) fn each(&self, mut show: impl FnMut(&Key)) {
        for set in &self.sets {
            read(&set.places)
                .iter()
                .filter_map(|place| place.key.as_ref())
                .for_each(|key| show(key));
        }
    }

    /// How many there are, how often one was found, and how often one was known not to exist.
    pub(super) fn counts(&self) -> (usize, u64, u64) {
        let taken =
            |set: &Set| read(&set.places).iter().filter(|place| place.key.is_some()).count();
        let total = |of: fn(&Set) -> &AtomicU64| {
            self.sets.iter().map(|set| of(set).load(Ordering::Relaxed)).sum()
        };
        (self.sets.iter().map(taken).sum(), total(|set| &set.hits), total(|set| &set.denied))
    }

    fn set(&self, hash: u64) -> Option<&Set> {
        let mask = u64::try_from(self.sets.len()).unwrap_or(u64::MAX).wrapping_sub(1);
        self.sets.get(usize::try_from(hash & mask).unwrap_or(0))
    }
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Held(of {})", self.sets.len() * PLACES)
    }
}
