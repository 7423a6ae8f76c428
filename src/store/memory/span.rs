//! Keeps what is signed at about the same time together in memory: honest requests are signed now, and what they look up
//! and leave behind then lies in a few pages that are in the caches, and goes together later.

use super::chains::{Hash, NIL};
use crate::clock::Micros;

/// How the chains of a part of the set are divided into regions of neighbours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Regions {
    /// There are 2^`bits` of them.
    bits: u32,
}

/// Where an identity belongs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Spot {
    pub(super) shard: usize,
    pub(super) region: u8,
    pub(super) chain: u32,
}

impl Regions {
    /// Regions of so many chains.
    pub(super) fn of(chains: usize) -> Self {
        Self { bits: (chains / REGION).checked_ilog2().unwrap_or(0).min(MOST_BITS) }
    }

    /// The spot of what was signed at `at`.
    pub(super) fn spot(self, hash: Hash, at: Micros) -> Spot {
        let slice = at.0 / SLICE;
        // By the golden ratio: slices in a row are spread evenly, and so are whole seconds.
        let spread = slice.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let region = u8::try_from(spread >> (64 - MOST_BITS) >> (MOST_BITS - self.bits));
        self.in_region(hash, region.unwrap_or(0))
    }

    /// The spot of what has no time of its own: anywhere.
    pub(super) fn timeless(self, hash: Hash) -> Spot {
        let region = u8::try_from(hash.chain() & ((1 << self.bits) - 1));
        self.in_region(hash, region.unwrap_or(0))
    }

    /// The chain of a hash in this region.
    pub(super) fn chain(self, hash: Hash, region: u8) -> u32 {
        hash.chain_in(region, self.bits)
    }

    fn in_region(self, hash: Hash, region: u8) -> Spot {
        Spot { shard: hash.shard(), region, chain: self.chain(hash, region) }
    }
}

/// The slot of the next record on a list, below 2^24, and above it the region of the one that holds it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link(u32);

impl Link {
    /// None follows.
    pub(super) fn to_none(region: u8) -> Self {
        Self(u32::from(region) << SLOT_BITS | SLOT)
    }

    /// The same with this slot next, or [`NIL`].
    pub(super) fn to(self, next: u32) -> Self {
        Self(self.0 & !SLOT | next & SLOT)
    }

    /// The slot of the next one, or [`NIL`].
    pub(super) fn next(self) -> u32 {
        if self.0 & SLOT == SLOT { NIL } else { self.0 & SLOT }
    }

    pub(super) fn region(self) -> u8 {
        u8::try_from(self.0 >> SLOT_BITS).unwrap_or(0)
    }
}

const SLOT_BITS: u32 = 24;
/// No slab has this slot.
const SLOT: u32 = (1 << SLOT_BITS) - 1;
/// Chains of a region, at least: few enough that most of their memory is used while it is in the caches.
const REGION: usize = 256;
/// So that a region fits beside a slot.
const MOST_BITS: u32 = 8;
/// What is signed within one lies together, in microseconds.
const SLICE: u64 = 250_000;

#[cfg(test)]
mod tests {
    use super::super::chains::Mixer;
    use super::*;

    const NOW: u64 = 1_760_000_000_000_000;

    fn region(regions: Regions, at: u64) -> u8 {
        regions.spot(Mixer::seeded().unwrap().of_8(at), Micros(at)).region
    }

    #[test]
    fn what_is_signed_in_one_slice_lies_in_one_region_of_the_chains() {
        let (regions, mixer) = (Regions::of(15_625), Mixer::seeded().unwrap());
        assert_eq!(regions.bits, 5);
        for word in 0..1_000 {
            let spot = regions.spot(mixer.of_8(word), Micros(NOW + word * 249));
            assert_eq!(spot.region, region(regions, NOW));
            assert_eq!(spot.chain >> (32 - 5), u32::from(spot.region));
            assert_eq!(regions.chain(mixer.of_8(word), spot.region), spot.chain);
        }
    }

    #[test]
    fn slices_and_whole_seconds_in_a_row_are_spread_over_all_regions() {
        for bits in 0..=MOST_BITS {
            let regions = Regions { bits };
            for step in [SLICE, 1_000_000] {
                let mut counts = vec![0; 1 << bits];
                for slice in 0..4 << bits {
                    counts[usize::from(region(regions, NOW + slice * step))] += 1;
                }
                assert!(counts.iter().all(|count| (2..=6).contains(count)), "{bits}: {counts:?}");
            }
        }
    }

    #[test]
    fn sets_of_every_size_have_regions_that_fit() {
        for (chains, bits) in [(0, 0), (4, 0), (511, 0), (512, 1), (15_625, 5), (1 << 23, 8)] {
            assert_eq!(Regions::of(chains).bits, bits, "{chains}");
        }
    }

    #[test]
    fn a_link_tells_region_and_slot_apart() {
        for (region, slot) in [(0, 0), (255, 0), (0, SLOT - 1), (255, SLOT - 1), (7, NIL)] {
            let link = Link::to_none(region);
            assert_eq!((link.region(), link.next()), (region, NIL));
            let link = link.to(slot);
            assert_eq!((link.region(), link.next()), (region, slot));
        }
    }
}
