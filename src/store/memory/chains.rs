//! Hash chains through one slab: nothing moves, and below its capacity nothing is allocated.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::OpenError;
use crate::cache;

/// No slot.
pub(super) const NIL: u32 = u32::MAX;

/// Values in a slab, found by hash.
#[derive(Debug)]
pub(super) struct Chains<T> {
    heads: Heads,
    nodes: Vec<Node<T>>,
    free: u32,
    live: usize,
}

/// Where the chains begin: a slot, and above it one bit for each eighth of hashes that the chain may hold. Most of what
/// is looked for is new, and is then known to be so without a look at any value.
///
/// Changed under the lock of the chains only; but whoever is about to take that lock can fetch
/// its chain's head before, and several of them at once.
#[derive(Clone, Debug)]
pub(super) struct Heads(Arc<[AtomicU32]>);

#[derive(Clone, Copy, Debug)]
struct Node<T> {
    next: u32,
    value: T,
}

impl<T: Copy> Chains<T> {
    /// Chains for about `expected` values, with memory reserved for a share that by chance is larger.
    ///
    /// With `fill`, every page of the slab is touched now, so that no insert pays for its first use.
    pub(super) fn reserve(expected: usize, fill: Option<T>) -> Self {
        // A binomial share exceeds six standard deviations less than once in 10^8 stores; if it does, the slab grows.
        let capacity = expected + 6 * expected.isqrt() + 4;
        let mut nodes = Vec::with_capacity(capacity);
        if let Some(value) = fill {
            nodes.resize(capacity, Node { next: NIL, value });
            nodes.clear();
        }
        let heads = Heads((0..expected.max(4)).map(|_| AtomicU32::new(EMPTY)).collect());
        Self { heads, nodes, free: NIL, live: 0 }
    }

    /// Where the chains begin, to be fetched without the lock.
    pub(super) fn heads(&self) -> &Heads {
        &self.heads
    }

    /// The slot of the first value under `hash` that `matches`; the latest inserted comes first.
    #[inline]
    pub(super) fn find(&self, hash: u32, matches: impl Fn(&T) -> bool) -> Option<u32> {
        let head = self.heads.of(hash)?.load(Ordering::Relaxed);
        let mut slot = if head & eighth(hash) == 0 { NIL } else { head & SLOT };
        while let Some(node) = self.nodes.get(index(slot)) {
            if matches(&node.value) {
                return Some(slot);
            }
            slot = node.next;
        }
        None
    }

    pub(super) fn at(&self, slot: u32) -> Option<&T> {
        self.nodes.get(index(slot)).map(|node| &node.value)
    }

    pub(super) fn at_mut(&mut self, slot: u32) -> Option<&mut T> {
        self.nodes.get_mut(index(slot)).map(|node| &mut node.value)
    }

    /// Adds a value; its slot stays the same until it is removed.
    pub(super) fn insert(&mut self, hash: u32, value: T) -> u32 {
        let head = self.heads.of(hash).map_or(EMPTY, |head| head.load(Ordering::Relaxed));
        let next = if head & SLOT == EMPTY { NIL } else { head & SLOT };
        let slot = if let Some(node) = self.nodes.get_mut(index(self.free)) {
            let slot = self.free;
            self.free = node.next;
            *node = Node { next, value };
            slot
        } else {
            self.nodes.push(Node { next, value });
            u32::try_from(self.nodes.len() - 1).unwrap_or(NIL)
        };
        if let Some(place) = self.heads.of(hash) {
            place.store(head & !SLOT | eighth(hash) | slot & SLOT, Ordering::Relaxed);
        }
        self.live += 1;
        slot
    }

    /// Takes the value out of `slot`, which must have been inserted under `hash`.
    pub(super) fn remove(&mut self, hash: u32, slot: u32) -> Option<T> {
        let node = *self.nodes.get(index(slot))?;
        let head = self.heads.of(hash)?;
        let first = head.load(Ordering::Relaxed);
        if first & SLOT == slot {
            // What may be in the chain is known again only once nothing is.
            let rest = if node.next == NIL { EMPTY } else { first & !SLOT | node.next };
            head.store(rest, Ordering::Relaxed);
        } else {
            let mut before = first & SLOT;
            loop {
                let previous = self.nodes.get_mut(index(before))?;
                if previous.next == slot {
                    previous.next = node.next;
                    break;
                }
                before = previous.next;
            }
        }
        self.nodes.get_mut(index(slot))?.next = self.free;
        self.free = slot;
        self.live -= 1;
        Some(node.value)
    }

    pub(super) fn live(&self) -> usize {
        self.live
    }

    /// How many slots were ever used: every value lies below.
    pub(super) fn slots(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn memory_bytes(&self) -> usize {
        size_of_val(&*self.heads.0) + self.nodes.capacity() * size_of::<Node<T>>()
    }
}

/// Starts to bring one of the parts of a set, and the head of a chain in it, into the cache.
#[inline]
pub(super) fn fetch<T>(shards: &[Padded<T>], heads: &[Heads], shard: usize, chain: u32) {
    shards.get(shard).into_iter().for_each(cache::fetch);
    heads.get(shard).and_then(|heads| heads.of(chain)).into_iter().for_each(cache::fetch);
}

impl Heads {
    #[inline]
    fn of(&self, hash: u32) -> Option<&AtomicU32> {
        // Scaled, not masked: any number of chains is as good as a power of two.
        self.0.get(usize::try_from((u64::from(hash) * self.0.len() as u64) >> 32).unwrap_or(0))
    }
}

/// Hashes under a seed of this process: whoever holds a key can choose among signatures, and must not be able to
/// choose chains.
#[derive(Clone, Copy)]
pub(super) struct Mixer([u64; 4]);

impl Mixer {
    pub(super) fn seeded() -> Result<Self, OpenError> {
        let word = || getrandom::u64().map_err(|_| OpenError::Randomness);
        Ok(Self([word()?, word()?, word()?, word()? | 1]))
    }

    #[inline]
    pub(super) fn of_16(&self, bytes: [u8; 16]) -> Hash {
        let all = u128::from_le_bytes(bytes);
        self.of(low(all), low(all >> 64))
    }

    #[inline]
    pub(super) fn of_8(&self, word: u64) -> Hash {
        self.of(word, 0)
    }

    #[inline]
    fn of(&self, a: u64, b: u64) -> Hash {
        let [s0, s1, s2, s3] = self.0;
        Hash(folded(folded(a ^ s0, b ^ s1) ^ s2, s3))
    }
}

impl fmt::Debug for Mixer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mixer(..)")
    }
}

/// A seeded hash, split into the shard and the place in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hash(u64);

impl Hash {
    pub(super) fn shard(self) -> usize {
        usize::try_from(self.0 >> (64 - SHARD_BITS)).unwrap_or(0)
    }

    pub(super) fn chain(self) -> u32 {
        u32::try_from(self.0 & u64::from(u32::MAX)).unwrap_or(0)
    }

    /// The chain for this hash among those of `region`, where there are 2^`bits` regions: those of one region are
    /// neighbours.
    pub(super) fn chain_in(self, region: u8, bits: u32) -> u32 {
        let whole = u64::from(region) << 32 | u64::from(self.chain());
        u32::try_from(whole >> bits & u64::from(u32::MAX)).unwrap_or(0)
    }
}

/// Keeps neighbours off each other's cache lines; two lines, since processors fetch them in pairs.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Padded<T>(pub(super) T);

fn folded(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    low(product) ^ low(product >> 64)
}

fn low(word: u128) -> u64 {
    u64::try_from(word & u128::from(u64::MAX)).unwrap_or(0)
}

/// The bit of a head that stands for this hash.
const fn eighth(hash: u32) -> u32 {
    1 << (24 + hash % 8)
}

/// The bits of a head that hold a slot.
const SLOT: u32 = 0x00ff_ffff;
/// The head of a chain that holds nothing: no eighth, and a slot beyond every slab.
const EMPTY: u32 = SLOT;
/// The most values that one slab may be made for; by chance it may hold a few more.
pub(super) const MOST_SLOTS: usize = 1 << 23;

/// [`NIL`] lies beyond every slab.
const fn index(slot: u32) -> usize {
    slot as usize
}

const SHARD_BITS: u32 = 6;

/// How many locks share the work.
pub(super) const SHARDS: usize = 1 << SHARD_BITS;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_removed_is_gone_and_its_neighbours_in_the_chain_stay() {
        let mut chains = Chains::reserve(8, Some(0u32));
        let slots: Vec<u32> = (0..8).map(|value| chains.insert(7, value)).collect();
        for gone in [3, 7, 0] {
            assert_eq!(chains.remove(7, slots[gone as usize]), Some(gone));
            assert_eq!(chains.find(7, |value| *value == gone), None);
        }
        for stays in [1, 2, 4, 5, 6] {
            assert_eq!(chains.find(7, |value| *value == stays), Some(slots[stays as usize]));
        }
        assert_eq!(chains.live(), 5);
    }

    #[test]
    fn freed_slots_are_used_again_before_the_slab_grows() {
        let mut chains = Chains::reserve(4, None);
        for round in 0..1_000u32 {
            let slot = chains.insert(round, round);
            assert_eq!(chains.remove(round, slot), Some(round));
        }
        assert_eq!(chains.slots(), 1);
    }

    #[test]
    fn removing_under_the_wrong_hash_does_nothing() {
        let mut chains = Chains::reserve(1_000, None);
        let slot = chains.insert(0, 'a');
        assert_eq!(chains.remove(u32::MAX, slot), None);
        assert_eq!(chains.find(0, |_| true), Some(slot));
    }

    #[test]
    fn hashes_fill_shards_evenly() {
        let mixer = Mixer::seeded().unwrap();
        let mut counts = [0u32; SHARDS];
        for word in 0..64_000u64 {
            counts[mixer.of_8(word).shard()] += 1;
        }
        assert!(counts.iter().all(|count| (700..1_300).contains(count)), "{counts:?}");
    }
}
