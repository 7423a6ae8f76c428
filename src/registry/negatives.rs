//! Ids that were just found not to exist, so that asking again costs no more than asking for a key.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// A bounded number of notes, each of which a newer one may displace. All lapse with every change of a key, so that none
/// outlives the creation of what it denies.
pub(super) struct Negatives {
    notes: Box<[AtomicU64]>,
    generation: AtomicU64,
}

const NOTES: u64 = 1 << 14;

impl Default for Negatives {
    fn default() -> Self {
        let notes = (0..NOTES).map(|_| AtomicU64::new(0)).collect();
        Self { notes, generation: AtomicU64::new(1) }
    }
}

impl Negatives {
    /// To be read before it is looked for what is then noted as missing.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// What hashes to `hash` does not exist, as it was found since `generation` was read.
    pub(super) fn note(&self, hash: u64, generation: u64) {
        if let Some(note) = self.at(hash) {
            note.store(mixed(hash, generation), Ordering::Release);
        }
    }

    /// Whether that is noted, and nothing has changed since.
    pub(super) fn holds(&self, hash: u64) -> bool {
        let generation = self.generation();
        self.at(hash).is_some_and(|note| note.load(Ordering::Acquire) == mixed(hash, generation))
    }

    /// Something has changed, and whoever looks finds it changed.
    pub(super) fn lapse(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    fn at(&self, hash: u64) -> Option<&AtomicU64> {
        self.notes.get(usize::try_from(hash >> 32 & (NOTES - 1)).ok()?)
    }
}

/// Odd, so that every generation makes another note of each hash.
fn mixed(hash: u64, generation: u64) -> u64 {
    hash ^ generation.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl fmt::Debug for Negatives {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Negatives(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_holds_until_something_changes() {
        let negatives = Negatives::default();
        let generation = negatives.generation();
        negatives.note(7 << 40, generation);
        assert!(negatives.holds(7 << 40) && !negatives.holds(8 << 40));
        negatives.lapse();
        assert!(!negatives.holds(7 << 40));
        negatives.note(7 << 40, generation);
        assert!(!negatives.holds(7 << 40), "it was looked for before the change");
    }
}
