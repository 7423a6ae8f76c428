//! Keeps one account from filling the store: counts the live records of each.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::chains::{self, Chains, Heads, Mixer, Padded, SHARDS};

/// Live records by account, exact.
#[derive(Debug)]
pub(super) struct Accounts {
    mixer: Mixer,
    shards: Box<[Padded<Mutex<Chains<Account>>>]>,
    heads: Box<[Heads]>,
    most: u32,
}

/// Where the count of a record's account is: the shard in the low bits, the slot above.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct AccountSlot(pub(super) u32);

/// The hash in two halves, so that a slot takes 16 bytes.
#[derive(Clone, Copy, Debug)]
struct Account {
    id: [u32; 2],
    records: u32,
}

impl Accounts {
    pub(super) fn new(mixer: Mixer, records: usize, most: u32) -> Self {
        let shard = || Padded(Mutex::new(Chains::reserve(records.div_ceil(SHARDS), None)));
        let shards: Box<[_]> = (0..SHARDS).map(|_| shard()).collect();
        let heads = shards.iter().map(|shard| lock(shard).heads().clone()).collect();
        Self { mixer, shards, heads, most }
    }

    /// Starts to bring what belongs to `account` into the cache.
    pub(super) fn fetch(&self, account: u64) {
        let hash = self.mixer.of_8(account);
        chains::fetch(&self.shards, &self.heads, hash.shard(), hash.chain());
    }

    pub(super) fn has_room(&self, account: u64) -> bool {
        let hash = self.mixer.of_8(account);
        let Some(counts) = self.shards.get(hash.shard()).map(lock) else { return false };
        let id = halves(account);
        let slot = counts.find(hash.chain(), |one| one.id == id);
        slot.and_then(|slot| counts.at(slot)).map_or(0, |one| one.records) < self.most
    }

    /// Counts one more record of `account`, unless it has the most it may.
    pub(super) fn take(&self, account: u64) -> Option<AccountSlot> {
        self.take_within(account, self.most)
    }

    /// Counts one more record of `account`, however many it has.
    pub(super) fn take_anyway(&self, account: u64) -> Option<AccountSlot> {
        self.take_within(account, u32::MAX)
    }

    /// Whose count it is.
    pub(super) fn account(&self, AccountSlot(place): AccountSlot) -> Option<u64> {
        let (shard, slot) = (place % SHARDS_U32, place / SHARDS_U32);
        let counts = lock(self.shards.get(shard as usize)?);
        counts.at(slot).map(|one| whole(one.id))
    }

    fn take_within(&self, account: u64, most: u32) -> Option<AccountSlot> {
        let hash = self.mixer.of_8(account);
        let mut counts = lock(self.shards.get(hash.shard())?);
        let id = halves(account);
        let slot = match counts.find(hash.chain(), |one| one.id == id) {
            Some(slot) => {
                let one = counts.at_mut(slot).filter(|one| one.records < most)?;
                one.records += 1;
                slot
            }
            None if most > 0 => counts.insert(hash.chain(), Account { id, records: 1 }),
            None => return None,
        };
        Some(AccountSlot(slot * SHARDS_U32 + u32::try_from(hash.shard()).unwrap_or(0)))
    }

    /// Counts one less.
    pub(super) fn release(&self, AccountSlot(place): AccountSlot) {
        let (shard, slot) = (place % SHARDS_U32, place / SHARDS_U32);
        let Some(mut counts) = self.shards.get(shard as usize).map(lock) else { return };
        let Some(one) = counts.at_mut(slot) else { return };
        one.records -= 1;
        if one.records == 0 {
            let hash = self.mixer.of_8(whole(one.id));
            counts.remove(hash.chain(), slot);
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let counts: usize = self.shards.iter().map(|shard| lock(shard).memory_bytes()).sum();
        counts + size_of_val(&*self.shards)
    }
}

fn lock(shard: &Padded<Mutex<Chains<Account>>>) -> MutexGuard<'_, Chains<Account>> {
    shard.0.lock().unwrap_or_else(PoisonError::into_inner)
}

fn halves(account: u64) -> [u32; 2] {
    let half = |word: u64| u32::try_from(word & u64::from(u32::MAX)).unwrap_or(0);
    [half(account), half(account >> 32)]
}

fn whole([low, high]: [u32; 2]) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

const SHARDS_U32: u32 = 1 << SHARDS.trailing_zeros();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_gets_its_most_and_no_more_until_one_is_released() {
        let accounts = Accounts::new(Mixer::seeded().unwrap(), 100, 2);
        let first = accounts.take(u64::MAX).unwrap();
        accounts.take(u64::MAX).unwrap();
        assert!(accounts.take(u64::MAX).is_none());
        assert!(!accounts.has_room(u64::MAX));
        assert!(accounts.take(1).is_some());
        accounts.release(first);
        assert!(accounts.has_room(u64::MAX));
        assert!(accounts.take(u64::MAX).is_some());
        assert!(accounts.take(u64::MAX).is_none());
    }

    #[test]
    fn an_account_without_records_takes_no_room() {
        let accounts = Accounts::new(Mixer::seeded().unwrap(), 100, 2);
        for account in 0..10_000 {
            let slot = accounts.take(account).unwrap();
            accounts.release(slot);
        }
        assert!(accounts.shards.iter().all(|shard| lock(shard).live() == 0));
        assert!(accounts.shards.iter().all(|shard| lock(shard).slots() <= 1));
    }
}
