//! Remembers what was lately proved from where.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::Micros;

/// Which keys were lately proved from which addresses.
///
/// A key has a line of eight places, by a seeded hash, which it shares with a few others. What is live is displaced by
/// nothing but more addresses of the same key, once those have three quarters of the line. A pair that finds no place goes
/// without: it is then treated like any other, which matters only while its address fails too often.
#[derive(Debug)]
pub(super) struct Proven {
    lines: Box<[Line]>,
    keep: u64,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Line([AtomicU64; PLACES]);

/// A key and an address, hashed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair {
    pub(super) key: u64,
    pub(super) address: u64,
}

impl Proven {
    /// Remembers each pair for `keep`, in so many lines; nothing at all where that is no time.
    pub(super) fn new(keep: Duration, lines: usize) -> Self {
        let lines = if keep.is_zero() { 0 } else { lines };
        Self { lines: (0..lines).map(|_| Line::default()).collect(), keep: keep.as_secs() }
    }

    /// Whether the pair was proved in the last `keep`.
    pub(super) fn holds(&self, pair: Pair, now: Micros) -> bool {
        self.line(pair).is_some_and(|line| {
            line.0.iter().map(load).any(|entry| entry.is_of(pair) && self.is_live(entry, now))
        })
    }

    /// Notes that the pair was proved.
    pub(super) fn note(&self, pair: Pair, now: Micros) {
        let Some(Line(places)) = self.line(pair) else { return };
        let new = Entry::new(pair, now);
        let known = places.iter().find(|place| load(place).is_of(pair));
        let free = || places.iter().find(|place| !self.is_live(load(place), now));
        let own = || {
            let own = places.iter().filter(|place| load(place).key() == new.key());
            let enough = own.clone().count() >= SHARE;
            own.min_by_key(|place| load(place).second()).filter(|_| enough)
        };
        if let Some(place) = known.or_else(own).or_else(free)
            && load(place) != new
        {
            place.store(new.0, Ordering::Relaxed);
        }
    }

    fn is_live(&self, entry: Entry, now: Micros) -> bool {
        entry.second() + self.keep >= now.0 / 1_000_000
    }

    fn line(&self, pair: Pair) -> Option<&Line> {
        self.lines.get((pair.key >> 32) as usize % self.lines.len().max(1))
    }
}

/// A pair in one word: the second at which it was proved, 16 bits of the key's hash and 16 of the address's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Entry(u64);

impl Entry {
    fn new(pair: Pair, now: Micros) -> Self {
        Self((now.0 / 1_000_000) << 32 | (pair.key & 0xffff) << 16 | pair.address & 0xffff)
    }

    fn is_of(self, pair: Pair) -> bool {
        self.0 & 0xffff_ffff == (pair.key & 0xffff) << 16 | pair.address & 0xffff
    }

    fn key(self) -> u64 {
        self.0 >> 16 & 0xffff
    }

    fn second(self) -> u64 {
        self.0 >> 32
    }
}

fn load(place: &AtomicU64) -> Entry {
    Entry(place.load(Ordering::Relaxed))
}

/// Places in a line: as many as a cache line holds.
const PLACES: usize = 8;
/// Places in a line that one key may take.
pub(super) const SHARE: usize = PLACES / 4 * 3;
