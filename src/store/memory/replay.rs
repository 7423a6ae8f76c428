//! Defeats a second delivery: an exact, sharded, bounded set of what was accepted, which never forgets early.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::accounts::{AccountSlot, Accounts};
use super::chains::{self, Chains, Heads, MOST_SLOTS, Mixer, NIL, Padded, SHARDS};
use super::highest::Highest;
use super::span::{Link, Regions, Spot};
use crate::clock::Micros;
use crate::store::{Charge, Identity, Repeat, SignedTime};

/// What was accepted, until it can no longer be accepted again.
#[derive(Debug)]
pub(super) struct ReplaySet {
    mixer: Mixer,
    regions: Regions,
    shards: Box<[Padded<Mutex<Shard>>]>,
    heads: Box<[Heads]>,
    accounts: Accounts,
    live: AtomicUsize,
    capacity: usize,
    swept_to: AtomicU32,
}

/// What the set knows of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Standing {
    /// Nothing.
    Unseen,
    /// It was seen, and may repeat on this route.
    Repeats,
    /// It was seen.
    Seen,
}

/// No room for another record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Full;

/// The part of the set that one request belongs to, locked.
#[derive(Debug)]
pub(super) struct Entered<'a> {
    set: &'a ReplaySet,
    shard: MutexGuard<'a, Shard>,
    spot: Spot,
}

#[derive(Debug)]
struct Shard {
    records: Chains<Record>,
    /// One list of records for each second of the next [`HORIZON`].
    wheel: Box<[u32]>,
    /// Records that expire beyond the wheel's horizon.
    far: BinaryHeap<Reverse<(u32, u32)>>,
    /// Whatever expires before this second was removed; what is on the wheel expires less than a horizon after it.
    cursor: u32,
    highest: Highest,
}

#[derive(Clone, Copy, Debug)]
struct Record {
    identity: [u8; 16],
    /// The next on the wheel, and its region.
    link: Link,
    account: AccountSlot,
    route: u16,
    /// The place on the wheel, and two flags.
    expiry: u16,
}

impl ReplaySet {
    pub(super) fn new(mixer: Mixer, capacity: usize, per_account: u32, birth: Micros) -> Self {
        let capacity = capacity.min(MOST_RECORDS);
        let expected = capacity.div_ceil(SHARDS);
        let shard = || Padded(Mutex::new(Shard::new(expected, second(birth))));
        let shards: Box<[_]> = (0..SHARDS).map(|_| shard()).collect();
        let heads = shards.iter().map(|shard| lock(shard).records.heads().clone()).collect();
        Self {
            mixer,
            regions: Regions::of(expected),
            shards,
            heads,
            accounts: Accounts::new(mixer, capacity, per_account),
            live: AtomicUsize::new(0),
            capacity,
            swept_to: AtomicU32::new(0),
        }
    }

    /// Starts to bring what belongs to a request and its account into the cache.
    pub(super) fn fetch(&self, spot: Spot, account: u64) {
        chains::fetch(&self.shards, &self.heads, spot.shard, spot.chain);
        self.accounts.fetch(account);
    }

    /// Locks what belongs to the charge's identity, whose spot it is, and clears away a little of what has expired there.
    pub(super) fn enter(&self, charge: &Charge, spot: Spot) -> Option<Entered<'_>> {
        let mut shard = lock(self.shards.get(spot.shard)?);
        self.sweep_some(&mut shard, second(charge.now), A_FEW);
        Some(Entered { set: self, shard, spot })
    }

    /// Clears away what has expired, until all of it is gone or there is `room` again.
    pub(super) fn sweep(&self, now: Micros, room: impl Fn(&Self) -> bool) {
        let now = second(now);
        if self.swept_to.load(Ordering::Relaxed) >= now {
            return;
        }
        for shard in &self.shards {
            while !self.sweep_some(&mut lock(shard), now, A_BATCH) {
                if room(self) {
                    return;
                }
            }
        }
        self.swept_to.fetch_max(now, Ordering::Relaxed);
    }

    /// Whether `account` could have another record.
    pub(super) fn has_room(&self, account: u64) -> bool {
        self.live() < self.capacity && self.accounts.has_room(account)
    }

    /// Records held, expired ones that were not yet cleared away included.
    pub(super) fn live(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(super) fn highest(&self) -> Highest {
        self.shards.iter().map(|shard| lock(shard).highest).fold(Highest::default(), |a, b| {
            Highest { stamp: a.stamp.max(b.stamp), deadline: a.deadline.max(b.deadline) }
        })
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let shards: usize = self.shards.iter().map(|shard| lock(shard).memory_bytes()).sum();
        shards + size_of_val(&*self.shards) + self.accounts.memory_bytes()
    }

    /// Removes up to `budget` expired records; true once none is left.
    fn sweep_some(&self, shard: &mut Shard, now: u32, budget: usize) -> bool {
        let mut removed = 0;
        let done = loop {
            match shard.next_expired(now) {
                Expired::Record(slot) if removed < budget => {
                    if let Some(record) = shard.remove(slot, self.mixer, self.regions) {
                        self.accounts.release(record.account);
                        removed += 1;
                    }
                }
                Expired::None => break true,
                Expired::Record(_) | Expired::Later => break false,
            }
        };
        if removed > 0 {
            self.live.fetch_sub(removed, Ordering::Relaxed);
        }
        done
    }

    /// Where the charge's identity belongs. Part of it is decided by when the request was signed, which is itself signed:
    /// so the same bytes always belong to the same place. A nonce may come again under another time.
    pub(super) fn spot(&self, charge: &Charge) -> Spot {
        let signed_at = match charge.time {
            SignedTime::Stamp(at) | SignedTime::Deadline { at, lead: _ } => Some(at),
            SignedTime::Growing { key: _, nonce: _, window: _ }
            | SignedTime::Unique { key: _, nonce: _ } => None,
        };
        self.spot_of(charge.identity, signed_at.filter(|_| charge.nonce != Some(charge.identity)))
    }

    /// The same for an identity that decides by itself, or with this time.
    pub(super) fn spot_of(&self, identity: Identity, signed_at: Option<Micros>) -> Spot {
        let hash = self.mixer.of_16(identity.0);
        signed_at.map_or_else(|| self.regions.timeless(hash), |at| self.regions.spot(hash, at))
    }

    /// Takes one place in the whole set and one of `account`.
    pub(super) fn take_place(&self, account: u64) -> Result<AccountSlot, Full> {
        let taken = self.live.fetch_add(1, Ordering::Relaxed);
        let slot = if taken < self.capacity { self.accounts.take(account) } else { None };
        slot.ok_or_else(|| {
            self.live.fetch_sub(1, Ordering::Relaxed);
            Full
        })
    }

    /// Gives a place back in which nothing was remembered.
    pub(super) fn give_back(&self, place: AccountSlot) {
        self.accounts.release(place);
        self.live.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Entered<'_> {
    /// Whether the request was seen before.
    pub(super) fn standing(&self, charge: &Charge) -> Standing {
        let shard = &*self.shard;
        let now = second(charge.now);
        if second(charge.keep_until) < now.max(shard.cursor) {
            // It expired while it waited its turn: a record of it may have been cleared away already, by a request
            // with a later clock.
            return Standing::Seen;
        }
        let matches =
            |record: &Record| record.identity == charge.identity.0 && shard.outlives(record, now);
        let Some(slot) = shard.records.find(self.spot.chain, matches) else {
            return Standing::Unseen;
        };
        let Some(record) = shard.records.at(slot) else { return Standing::Unseen };
        let repeats = charge.repeat == Repeat::SameRoute
            && record.expiry & REPEATS != 0
            && record.route == charge.route;
        match (repeats, repeats && shard.outlives(record, second(charge.keep_until))) {
            (false, _) => Standing::Seen,
            (true, true) => Standing::Repeats,
            // Recorded once more, to be remembered for longer; the newer record is found first.
            (true, false) => Standing::Unseen,
        }
    }

    /// Remembers the request until [`Charge::keep_until`], and a little longer.
    pub(super) fn record(&mut self, charge: &Charge) -> Result<(), Full> {
        let account = self.set.take_place(charge.account)?;
        self.insert(charge, account);
        Ok(())
    }

    /// Remembers it in a place that was taken for its account.
    pub(super) fn insert(&mut self, charge: &Charge, account: AccountSlot) {
        let flags = if charge.repeat == Repeat::SameRoute { REPEATS } else { 0 };
        let record = Record {
            identity: charge.identity.0,
            link: Link::to_none(self.spot.region),
            account,
            route: charge.route,
            expiry: flags,
        };
        let expires = second(charge.keep_until.max(charge.now));
        self.shard.insert(self.spot.chain, record, expires);
        self.shard.highest.raise(charge.time);
    }

    /// Turns to the identity of another charge, which must belong to the same part of the set.
    pub(super) fn turn_to(&mut self, charge: &Charge) {
        self.spot = self.set.spot(charge);
    }
}

impl Shard {
    fn new(expected: usize, birth: u32) -> Self {
        let fill = Record {
            identity: [0; 16],
            link: Link::to_none(0),
            account: AccountSlot(0),
            route: 0,
            expiry: 0,
        };
        Self {
            records: Chains::reserve(expected, Some(fill)),
            wheel: vec![NIL; HORIZON as usize].into(),
            far: BinaryHeap::new(),
            cursor: birth,
            highest: Highest::default(),
        }
    }

    fn insert(&mut self, chain: u32, record: Record, expires: u32) {
        let slot = self.records.insert(chain, record);
        self.file(slot, expires.max(self.cursor));
    }

    fn file(&mut self, slot: u32, expires: u32) {
        let Some(record) = self.records.at_mut(slot) else { return };
        record.expiry &= REPEATS;
        if expires.saturating_sub(self.cursor) >= HORIZON {
            record.expiry |= FAR;
            self.far.push(Reverse((expires, slot)));
            return;
        }
        let place = place(expires);
        record.expiry |= place;
        if let Some(head) = self.wheel.get_mut(usize::from(place)) {
            record.link = record.link.to(*head);
            *head = slot;
        }
    }

    /// The next record that expired before `now`, if any; moves the cursor on over seconds that hold none.
    fn next_expired(&mut self, now: u32) -> Expired {
        if self.records.live() == 0 {
            self.cursor = self.cursor.max(now);
        }
        for _ in 0..SECONDS_AT_ONCE {
            if self.cursor >= now {
                return Expired::None;
            }
            match self.wheel.get(usize::from(place(self.cursor))) {
                Some(&slot) if slot != NIL => return Expired::Record(slot),
                Some(_) | None => self.cursor += 1,
            }
            while let Some(&Reverse((expires, slot))) = self.far.peek()
                && expires.saturating_sub(self.cursor) < HORIZON
            {
                self.far.pop();
                self.file(slot, expires);
            }
        }
        Expired::Later
    }

    /// Takes out the first record of the second at the cursor.
    fn remove(&mut self, slot: u32, mixer: Mixer, regions: Regions) -> Option<Record> {
        let record = self.records.at(slot)?;
        let chain = regions.chain(mixer.of_16(record.identity), record.link.region());
        let head = self.wheel.get_mut(usize::from(place(self.cursor)))?;
        let record = self.records.remove(chain, slot);
        // Never the same slot twice, or a sweep would not end.
        *head = record.map_or(NIL, |record| record.link.next());
        record
    }

    /// Whether the record is kept through `second`.
    fn outlives(&self, record: &Record, second: u32) -> bool {
        if record.expiry & FAR != 0 {
            // Its exact end stands in the list of far ones, and that is beyond the wheel.
            return self.far_expiry_reaches(record, second);
        }
        let ahead = (record.expiry & PLACE).wrapping_sub(place(self.cursor)) & PLACE;
        self.cursor.saturating_add(u32::from(ahead)) >= second
    }

    fn far_expiry_reaches(&self, record: &Record, second: u32) -> bool {
        second.saturating_sub(self.cursor) < HORIZON
            || self.far.iter().any(|Reverse((expires, slot))| {
                *expires >= second
                    && self.records.at(*slot).is_some_and(|far| far.identity == record.identity)
            })
    }

    fn memory_bytes(&self) -> usize {
        self.records.memory_bytes()
            + size_of_val(&*self.wheel)
            + self.far.capacity() * size_of::<(u32, u32)>()
    }
}

enum Expired {
    Record(u32),
    /// None in the seconds looked at; more are left to look at.
    Later,
    None,
}

fn lock(shard: &Padded<Mutex<Shard>>) -> MutexGuard<'_, Shard> {
    shard.0.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whole seconds since the epoch; past 2106 all is one second, so that nothing is forgotten.
fn second(at: Micros) -> u32 {
    u32::try_from(at.0 / 1_000_000).unwrap_or(u32::MAX)
}

fn place(second: u32) -> u16 {
    u16::try_from(second % HORIZON).unwrap_or(0)
}

/// Seconds on the wheel: a power of two above two hours, so that a place fits beside two flags.
const HORIZON: u32 = 8_192;
const PLACE: u16 = 0x1fff;
const FAR: u16 = 0x4000;
const REPEATS: u16 = 0x8000;

/// So that slots fit where they are kept.
const MOST_RECORDS: usize = SHARDS * MOST_SLOTS;
/// Expired records that one request clears away: more than the one it may add, so that clearing keeps up.
const A_FEW: usize = 4;
/// Expired records that are cleared away under one hold of a lock when room is sought.
const A_BATCH: usize = 256;
/// Empty seconds that one look passes over.
const SECONDS_AT_ONCE: u32 = 512;

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use arrayvec::ArrayVec;
    use proptest::prelude::*;

    use super::*;
    use crate::store::Identity;

    const START: u64 = 1_760_000_000;

    fn set(capacity: usize, per_account: u32) -> ReplaySet {
        ReplaySet::new(Mixer::seeded().unwrap(), capacity, per_account, seconds(START))
    }

    fn seconds(at: u64) -> Micros {
        Micros(at * 1_000_000)
    }

    fn charge(identity: u64, now: Micros, keep_until: Micros) -> Charge {
        Charge {
            now,
            identity: Identity(u128::from(identity).to_le_bytes()),
            nonce: None,
            account: 1,
            key: [1; 16],
            epoch: 0,
            step: None,
            // Signed, and so the same whenever the same request comes.
            time: SignedTime::Stamp(Micros(START * 1_000_000 + identity * 70_000)),
            keep_until,
            route: 1,
            repeat: Repeat::Never,
            costs: ArrayVec::new(),
        }
    }

    /// The answer, and the record made if it was not seen; clears away as the store does.
    fn deliver(set: &ReplaySet, charge: &Charge) -> Result<Standing, Full> {
        let once = || {
            let mut entered = set.enter(charge, set.spot(charge)).unwrap();
            match entered.standing(charge) {
                Standing::Unseen => entered.record(charge).map(|()| Standing::Unseen),
                known @ (Standing::Repeats | Standing::Seen) => Ok(known),
            }
        };
        once().or_else(|Full| {
            set.sweep(charge.now, |set| set.has_room(charge.account));
            once()
        })
    }

    #[test]
    fn a_record_is_kept_through_its_second_and_gone_in_the_next() {
        for ahead in [0, 1, 59, 8_190, 8_191, 8_192, 8_193, 20_000, 100_000] {
            let set = set(100, 100);
            let keep = seconds(START + ahead);
            assert_eq!(deliver(&set, &charge(1, seconds(START), keep)), Ok(Standing::Unseen));
            let last = Micros(keep.0 + 999_999);
            assert_eq!(deliver(&set, &charge(1, last, last)), Ok(Standing::Seen), "{ahead}");
            let next = Micros(keep.0 + 1_000_000);
            assert_eq!(deliver(&set, &charge(1, next, next)), Ok(Standing::Unseen), "{ahead}");
        }
    }

    #[test]
    fn what_expired_while_it_waited_is_not_taken_for_new() {
        let set = set(100, 100);
        let slow = charge(1, seconds(START + 5), seconds(START + 5));
        assert_eq!(
            deliver(&set, &charge(1, seconds(START), slow.keep_until)),
            Ok(Standing::Unseen)
        );
        set.sweep(seconds(START + 6), |_| false);
        assert_eq!(set.live(), 0);
        assert_eq!(deliver(&set, &slow), Ok(Standing::Seen));
        let expired = charge(2, seconds(START + 8), seconds(START + 7));
        assert_eq!(deliver(&set, &expired), Ok(Standing::Seen));
    }

    #[test]
    fn the_whole_identity_is_compared() {
        let set = set(1_000, 1_000);
        for bit in 0..128 {
            let mut one = charge(0, seconds(START), seconds(START + 5));
            one.identity = Identity((1u128 << bit).to_le_bytes());
            assert_eq!(deliver(&set, &one), Ok(Standing::Unseen));
            assert_eq!(deliver(&set, &one), Ok(Standing::Seen));
        }
    }

    #[test]
    fn a_full_set_refuses_and_forgets_nothing_live() {
        let set = set(50, 100);
        let at = |identity| charge(identity, seconds(START), seconds(START + 5));
        for identity in 0..50 {
            assert_eq!(deliver(&set, &at(identity)), Ok(Standing::Unseen));
        }
        for identity in 50..200 {
            assert_eq!(deliver(&set, &at(identity)), Err(Full));
        }
        for identity in 0..50 {
            assert_eq!(deliver(&set, &at(identity)), Ok(Standing::Seen));
        }
        assert_eq!(set.live(), 50);
        let later = |identity| charge(identity, seconds(START + 6), seconds(START + 9));
        for identity in 100..150 {
            assert_eq!(deliver(&set, &later(identity)), Ok(Standing::Unseen));
        }
        assert_eq!(deliver(&set, &later(150)), Err(Full));
    }

    #[test]
    fn one_account_cannot_take_more_than_its_share() {
        let set = set(1_000, 3);
        let of = |account, identity, now| Charge {
            account,
            ..charge(identity, seconds(now), seconds(now + 5))
        };
        for identity in 0..3 {
            assert_eq!(deliver(&set, &of(1, identity, START)), Ok(Standing::Unseen));
        }
        assert_eq!(deliver(&set, &of(1, 3, START)), Err(Full));
        assert_eq!(deliver(&set, &of(2, 4, START)), Ok(Standing::Unseen));
        assert_eq!(deliver(&set, &of(1, 0, START)), Ok(Standing::Seen));
        assert_eq!(set.live(), 4);
        // Room comes back with expiry, wherever the expired records lie.
        for identity in 10..13 {
            assert_eq!(deliver(&set, &of(1, identity, START + 6)), Ok(Standing::Unseen));
        }
        assert_eq!(deliver(&set, &of(1, 13, START + 6)), Err(Full));
    }

    #[test]
    fn reads_repeat_on_their_own_route_only() {
        let set = set(100, 100);
        let read = |identity, route, repeat| Charge {
            route,
            repeat,
            ..charge(identity, seconds(START), seconds(START + 5))
        };
        assert_eq!(deliver(&set, &read(1, 1, Repeat::SameRoute)), Ok(Standing::Unseen));
        assert_eq!(deliver(&set, &read(1, 1, Repeat::SameRoute)), Ok(Standing::Repeats));
        assert_eq!(deliver(&set, &read(1, 2, Repeat::SameRoute)), Ok(Standing::Seen));
        assert_eq!(deliver(&set, &read(1, 1, Repeat::Never)), Ok(Standing::Seen));
        assert_eq!(deliver(&set, &read(2, 1, Repeat::Never)), Ok(Standing::Unseen));
        assert_eq!(deliver(&set, &read(2, 1, Repeat::SameRoute)), Ok(Standing::Seen));
        assert_eq!(set.live(), 2);
    }

    #[test]
    fn a_repetition_that_must_be_kept_longer_is() {
        let set = set(100, 100);
        let read = |route, now, keep| Charge {
            route,
            repeat: Repeat::SameRoute,
            ..charge(1, seconds(now), seconds(keep))
        };
        assert_eq!(deliver(&set, &read(1, START, START + 5)), Ok(Standing::Unseen));
        assert_eq!(deliver(&set, &read(1, START + 1, START + 60)), Ok(Standing::Unseen));
        assert_eq!(deliver(&set, &read(1, START + 2, START + 60)), Ok(Standing::Repeats));
        assert_eq!(deliver(&set, &read(2, START + 30, START + 60)), Ok(Standing::Seen));
    }

    #[test]
    fn a_million_records_take_less_than_64_bytes_each_even_if_each_has_its_own_account() {
        let set = set(1_000_000, 10);
        for identity in 0..1_000_000 {
            let one = Charge {
                account: identity,
                ..charge(identity, seconds(START), seconds(START + identity % 60))
            };
            assert_eq!(deliver(&set, &one), Ok(Standing::Unseen));
        }
        assert_eq!(set.live(), 1_000_000);
        let bytes = set.memory_bytes();
        assert!(bytes < 64_000_000, "{bytes}");
        set.sweep(seconds(START + 100), |_| false);
        assert_eq!(set.live(), 0);
        assert_eq!(set.memory_bytes(), bytes);
    }

    proptest! {
        #[test]
        fn the_set_agrees_with_a_plain_map(
            steps in prop::collection::vec((0u64..40, 0u64..6_000, 0u64..30_000, 0u64..3), 1..150),
        ) {
            let (capacity, per_account) = (12, 5);
            let set = set(capacity, per_account);
            let mut map: HashMap<u64, (u64, u64)> = HashMap::new();
            let mut now = START;
            for (identity, gap, keep, account) in steps {
                // Mostly short gaps, and some of hours.
                now += if gap < 5_000 { gap % 4 } else { gap * 3 };
                let keep = now + if keep < 20_000 { keep % 10 } else { keep };
                map.retain(|_, (until, _)| *until >= now);
                let of_account = map.values().filter(|(_, owner)| *owner == account).count();
                let expected = if map.contains_key(&identity) {
                    Ok(Standing::Seen)
                } else if map.len() == capacity || of_account == per_account as usize {
                    Err(Full)
                } else {
                    map.insert(identity, (keep, account));
                    Ok(Standing::Unseen)
                };
                let one = Charge { account, ..charge(identity, seconds(now), seconds(keep)) };
                prop_assert_eq!(deliver(&set, &one), expected);
            }
        }
    }
}
