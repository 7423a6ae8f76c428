//! Rate limits: one theoretical arrival time for each subject, charged together or not at all.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrayvec::ArrayVec;

use super::arrival::{Arrival, Rate};
use super::chains::{self, Chains, Hash, Heads, MOST_SLOTS, Mixer, Padded, SHARDS};
use super::refusal::Refusal;
use super::windows::{self, Beyond, MANY, Share, Windows};
use crate::clock::Micros;
use crate::store::{Cost, Levels, MAX_COSTS, Subject, Window};

/// What every subject has spent.
#[derive(Debug)]
pub(super) struct Limits {
    mixer: Mixer,
    shards: Box<[Padded<Mutex<Shard>>]>,
    heads: Box<[Heads]>,
    live: AtomicUsize,
    capacity: usize,
    /// Up to how many subjects of a shard paid-off ones are left where they are: a small part of its room.
    few: usize,
    swept_at: AtomicU64,
    windows: Windows,
}

/// A charge that fits. What it touches stays locked until it is committed or dropped; dropping spends nothing.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    limits: &'a Limits,
    costs: &'a [Cost],
    /// In ascending order of shards, so that two plans never wait for each other.
    shards: Held<'a>,
    /// The subjects of the costs that are buckets, each once.
    steps: ArrayVec<Step, MAX_COSTS>,
    levels: Levels,
    /// The costs that are windows, where there are any.
    windows: Option<windows::Plan<'a>>,
    reserved: usize,
    /// How many subjects may be held with it.
    share: Share,
    now: Micros,
}

type Held<'a> = ArrayVec<(usize, MutexGuard<'a, Shard>), MAX_COSTS>;

/// One subject of a plan, and where its arrival moves.
#[derive(Clone, Copy, Debug)]
struct Step {
    subject: Subject,
    hash: Hash,
    slot: Option<u32>,
    arrival: Arrival,
}

#[derive(Debug)]
struct Shard {
    cells: Chains<Cell>,
    /// The next slot to look at for a cell that is paid off.
    hand: u32,
    /// The latest arrival that was ever dropped: an absent subject counts as having it, so that a charge with an
    /// earlier `now` than the one that swept gains nothing.
    dropped: Micros,
}

#[derive(Clone, Copy, Debug)]
struct Cell {
    subject: Subject,
    /// [`FREE`] in slots that hold none.
    arrival: Arrival,
}

impl Limits {
    pub(super) fn new(mixer: Mixer, capacity: usize, windows: usize) -> Self {
        let shard = || Shard {
            cells: Chains::reserve(capacity.div_ceil(SHARDS).min(MOST_SLOTS), None),
            hand: 0,
            dropped: Micros(0),
        };
        let shards: Box<[_]> = (0..SHARDS).map(|_| Padded(Mutex::new(shard()))).collect();
        let heads = shards.iter().map(|shard| lock(shard).cells.heads().clone()).collect();
        let capacity = capacity.min(SHARDS * MOST_SLOTS);
        let (live, swept_at) = (AtomicUsize::new(0), AtomicU64::new(0));
        let (few, windows) = (capacity / SHARDS / 256, Windows::new(mixer, windows));
        Self { mixer, shards, heads, live, capacity, few, swept_at, windows }
    }

    /// A plan that holds nothing yet.
    #[inline]
    pub(super) fn plan<'a>(&'a self, now: Micros, costs: &'a [Cost]) -> Plan<'a> {
        Plan {
            limits: self,
            costs,
            shards: ArrayVec::new(),
            steps: ArrayVec::new(),
            levels: Levels::default(),
            windows: None,
            reserved: 0,
            share: Share::Whole,
            now,
        }
    }

    /// A plan for what nobody has signed. It leaves a quarter of the room, so that a flood from many addresses
    /// takes it from no key.
    pub(super) fn plan_unsigned<'a>(&'a self, now: Micros, costs: &'a [Cost]) -> Plan<'a> {
        let mut plan = self.plan(now, costs);
        plan.share = Share::Unsigned;
        plan
    }

    /// Gives back what was charged to `costs` at `at`, for a request that did not pass after all. Of a bucket, what it
    /// has not got back by itself since then.
    pub(super) fn refund(&self, at: Micros, now: Micros, costs: &[Cost]) {
        for cost in costs {
            if cost.window != Window::Bucket {
                self.windows.refund(at, cost);
                continue;
            }
            let hash = self.mixer.of_8(cost.subject.0);
            let Some(shard) = self.shards.get(hash.shard()) else { continue };
            let mut shard = lock(shard);
            let slot = shard.cells.find(hash.chain(), |cell| cell.subject == cost.subject);
            if let Some(cell) = slot.and_then(|slot| shard.cells.at_mut(slot)) {
                let back = now.since(at);
                cell.arrival = cell.arrival.minus(cost.weight, Rate::of(cost.limit), back);
            }
        }
    }

    /// Drops what is paid off, everywhere; at most every [`SWEEP_EVERY`].
    pub(super) fn sweep(&self, now: Micros) {
        let last = self.swept_at.load(Ordering::Relaxed);
        if now < Micros(last) + SWEEP_EVERY {
            return;
        }
        if self.swept_at.compare_exchange(last, now.0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            for shard in &self.shards {
                let mut shard = lock(shard);
                let all = shard.cells.slots();
                let dropped = shard.sweep(now, all, self.mixer);
                self.live.fetch_sub(dropped, Ordering::Relaxed);
            }
            self.windows.sweep(now);
        }
    }

    /// Subjects held, paid-off ones that were not yet dropped included.
    pub(super) fn live(&self) -> usize {
        self.live.load(Ordering::Relaxed) + self.windows.live()
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let cells: usize = self.shards.iter().map(|shard| lock(shard).cells.memory_bytes()).sum();
        cells + size_of_val(&*self.shards) + self.windows.memory_bytes()
    }
}

impl Plan<'_> {
    /// Starts to bring what it will touch into the cache.
    pub(super) fn fetch(&mut self) {
        for cost in self.costs.iter().filter(|cost| cost.window == Window::Bucket).take(MAX_COSTS) {
            if self.steps.iter().any(|step| step.subject == cost.subject) {
                continue;
            }
            let hash = self.limits.mixer.of_8(cost.subject.0);
            let Limits { shards, heads, .. } = self.limits;
            chains::fetch(shards, heads, hash.shard(), hash.chain());
            self.steps.push(Step { subject: cost.subject, hash, slot: None, arrival: FREE });
        }
    }

    /// Works out, once, what the costs would leave, and holds what they touch; nothing is spent until [`Plan::commit`].
    pub(super) fn hold(&mut self) -> Result<(), Refusal> {
        if self.steps.is_empty() {
            self.fetch();
        }
        self.lock_shards();
        self.look_up();
        self.levels.at = self.now;
        if self.costs.iter().any(|cost| cost.window != Window::Bucket) {
            let mut windows = self.limits.windows.plan();
            self.levels.at = windows.hold(self.costs, self.now);
            self.windows = Some(windows);
        }
        let mut worst: Option<(bool, Duration, u32, usize)> = None;
        for (cost, wanted) in self.costs.iter().enumerate() {
            let over = self.add(wanted).map(|(never, wait, level)| (never, wait, level, cost));
            if let Some(over) = over
                && worst.is_none_or(|(never, wait, ..)| (over.0, over.1) > (never, wait))
            {
                worst = Some(over);
            }
        }
        match worst {
            Some((_, retry_after, level, cost)) => {
                let beside = self.beside(cost);
                Err(Refusal::Over { cost, retry_after, level, beside })
            }
            None => self.reserve(),
        }
    }

    /// Spends it, and tells how full each limit is.
    pub(super) fn commit(&mut self) -> Levels {
        let limits = self.limits;
        // Those that are there first: adding a new one sweeps, and might take a slot that is still to be written.
        for &Step { subject: _, hash, slot, arrival } in &self.steps {
            if let Some(slot) = slot
                && let Some(shard) = shard_of(&mut self.shards, hash)
                && let Some(cell) = shard.cells.at_mut(slot)
            {
                cell.arrival = arrival;
            }
        }
        for &Step { subject, hash, slot, arrival } in &self.steps {
            if slot.is_none()
                && let Some(shard) = shard_of(&mut self.shards, hash)
            {
                // As long as there are few, none is in the way: it may be charged again before long.
                if shard.cells.live() >= limits.few {
                    let dropped = shard.sweep(self.now, A_FEW, limits.mixer);
                    limits.live.fetch_sub(dropped, Ordering::Relaxed);
                }
                shard.cells.insert(hash.chain(), Cell { subject, arrival });
            }
        }
        if let Some(windows) = &mut self.windows {
            windows.commit(self.levels.at);
        }
        self.reserved = 0;
        std::mem::take(&mut self.levels)
    }

    /// How full all limits but the one that refuses are, where nothing is spent.
    fn beside(&mut self, refusing: usize) -> Box<[(usize, u32)]> {
        if self.costs.len() < 2 {
            return Box::default();
        }
        self.look_up();
        self.levels.clear();
        if let Some(windows) = &mut self.windows {
            windows.spend_nothing();
        }
        for cost in self.costs {
            // What takes nothing fits.
            let _fits = self.add(&Cost { weight: 0, ..*cost });
        }
        let levels = self.levels.iter().copied().enumerate();
        levels.filter(|(place, _)| *place != refusing).collect()
    }

    /// Adds one cost; if it is over, whether for ever, for how long, and the level before.
    fn add(&mut self, cost: &Cost) -> Option<(bool, Duration, u32)> {
        let added = match &mut self.windows {
            Some(windows) if cost.window != Window::Bucket => {
                windows.add(cost, self.levels.at, self.now)
            }
            Some(_) | None => self.fill(cost)?,
        };
        match added {
            Ok(level) => self.levels.push(level),
            Err(Beyond { never: _, wait: _, level }) if cost.shadow => {
                let beyond = level.saturating_add(cost.weight);
                self.levels.push(beyond.max(cost.limit.quota.saturating_add(1)));
            }
            Err(Beyond { never, wait, level }) => return Some((never, wait, level)),
        }
        None
    }

    /// Adds one cost to its bucket.
    fn fill(&mut self, cost: &Cost) -> Option<Result<u32, Beyond>> {
        let (now, rate) = (self.now, Rate::of(cost.limit));
        let step = self.steps.iter_mut().find(|step| step.subject == cost.subject)?;
        let before = step.arrival;
        let after = before.or_now(now).plus(cost.weight, rate);
        if !cost.shadow {
            // Where it does not fit nothing is spent, and what comes after it waits for both.
            step.arrival = after;
        }
        if !rate.can_ever_fit(cost.weight) {
            let (wait, level) = (rate.period(), rate.level(before, now));
            return Some(Err(Beyond { never: true, wait, level }));
        }
        if cost.weight > 0 && !rate.holds(after, now) {
            let (wait, level) = (rate.wait(after, now), rate.level(before, now));
            return Some(Err(Beyond { never: false, wait, level }));
        }
        if cost.shadow {
            step.arrival = after;
        }
        Some(Ok(rate.level(after, now)))
    }

    /// Finds how full each bucket is.
    fn look_up(&mut self) {
        for step in &mut self.steps {
            let Some(shard) = shard_of(&mut self.shards, step.hash) else { continue };
            let chain = step.hash.chain();
            step.slot = shard.cells.find(chain, |cell| cell.subject == step.subject);
            let cell = step.slot.and_then(|slot| shard.cells.at(slot));
            step.arrival = cell.map_or(Arrival::at(shard.dropped), |cell| cell.arrival);
        }
    }

    /// Takes room for the subjects that are new.
    fn reserve(&mut self) -> Result<(), Refusal> {
        let new = self.steps.iter().filter(|step| step.slot.is_none()).count();
        if new > 0 {
            self.reserved = new;
            let before = self.limits.live.fetch_add(new, Ordering::Relaxed);
            if before + new > self.share.of(self.limits.capacity) {
                self.make_room();
                return Err(Refusal::Full);
            }
        }
        let (share, at) = (self.share, self.levels.at);
        self.windows.as_mut().map_or(Ok(()), |windows| windows.reserve(share, at))
    }

    /// Drops some of what is paid off, for those who come next: where nothing is added, nothing else does.
    fn make_room(&mut self) {
        let (now, limits) = (self.now, self.limits);
        let dropped = self.shards.iter_mut().map(|(_, shard)| shard.sweep(now, MANY, limits.mixer));
        limits.live.fetch_sub(dropped.sum(), Ordering::Relaxed);
    }

    fn lock_shards(&mut self) {
        let wanted = self.steps.iter().map(|step| step.hash.shard());
        let mut wanted: ArrayVec<usize, MAX_COSTS> = wanted.collect();
        wanted.sort_unstable();
        for index in wanted {
            if self.shards.last().is_none_or(|(last, _)| *last != index)
                && let Some(shard) = self.limits.shards.get(index)
            {
                self.shards.push((index, lock(shard)));
            }
        }
    }
}

impl Drop for Plan<'_> {
    fn drop(&mut self) {
        if self.reserved > 0 {
            self.limits.live.fetch_sub(self.reserved, Ordering::Relaxed);
        }
    }
}

impl Shard {
    /// Looks at the next `slots` slots and drops what is paid off; tells how many.
    fn sweep(&mut self, now: Micros, slots: usize, mixer: Mixer) -> usize {
        let mut dropped = 0;
        for _ in 0..slots.min(self.cells.slots()) {
            if self.hand as usize >= self.cells.slots() {
                self.hand = 0;
            }
            let slot = self.hand;
            self.hand += 1;
            let Some(&Cell { subject, arrival }) = self.cells.at(slot) else { continue };
            if arrival == FREE || arrival.is_after(now) {
                continue;
            }
            if self.cells.remove(mixer.of_8(subject.0).chain(), slot).is_some() {
                dropped += 1;
                self.dropped = self.dropped.max(Micros(arrival.whole));
                if let Some(cell) = self.cells.at_mut(slot) {
                    cell.arrival = FREE;
                }
            }
        }
        dropped
    }
}

fn shard_of<'a>(held: &'a mut Held<'_>, hash: Hash) -> Option<&'a mut Shard> {
    let index = hash.shard();
    held.iter_mut().find(|(at, _)| *at == index).map(|(_, shard)| &mut **shard)
}

fn lock(shard: &Padded<Mutex<Shard>>) -> MutexGuard<'_, Shard> {
    shard.0.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a slot that holds no subject says: an arrival that never comes is never swept.
const FREE: Arrival = Arrival::at(Micros(u64::MAX));
/// Cells that a charge of a new subject looks at: more than the one it adds, so that sweeping keeps up, and no more
/// than lie next to each other.
const A_FEW: usize = 2;
/// How often a full table is looked through.
const SWEEP_EVERY: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::Limit;

    const START: Micros = Micros(1_760_000_000_000_000);
    const MICRO: Duration = Duration::from_micros(1);

    fn limits(capacity: usize) -> Limits {
        Limits::new(Mixer::seeded().unwrap(), capacity, capacity)
    }

    fn limit(quota: u32, period_us: u64) -> Limit {
        Limit { quota, period: Duration::from_micros(period_us) }
    }

    fn cost(subject: u64, quota: u32, period_us: u64, weight: u32) -> Cost {
        Cost::of_key(Subject(subject), limit(quota, period_us), weight)
    }

    fn spend(limits: &Limits, now: Micros, costs: &[Cost]) -> Result<Levels, Refusal> {
        let mut plan = limits.plan(now, costs);
        plan.hold().map(|()| plan.commit())
    }

    /// A leaky bucket in whole numbers: `period` drops are one unit, and `quota` drops leak each microsecond.
    struct Bucket {
        drops: u128,
        at: Micros,
    }

    impl Bucket {
        fn leak(&mut self, now: Micros, limit: Limit) {
            let leaked = u128::from(limit.quota) * now.since(self.at).as_micros();
            self.drops = self.drops.saturating_sub(leaked);
            self.at = self.at.max(now);
        }

        fn admits(&mut self, now: Micros, limit: Limit, weight: u32) -> bool {
            self.leak(now, limit);
            let full = u128::from(limit.quota) * limit.period.as_micros();
            let wanted = self.drops + u128::from(weight) * limit.period.as_micros();
            if wanted <= full {
                self.drops = wanted;
            }
            wanted <= full
        }

        fn level(&self, limit: Limit) -> u128 {
            self.drops.div_ceil(limit.period.as_micros())
        }
    }

    proptest! {
        #[test]
        fn limits_agree_with_a_leaky_bucket_in_whole_numbers(
            quota in 1u32..50,
            period in 1_000u64..3_000_000,
            steps in prop::collection::vec((0u64..400_000, 0u32..20), 1..120),
        ) {
            let (limits, limit) = (limits(10), limit(quota, period));
            let mut bucket = Bucket { drops: 0, at: START };
            let mut now = START;
            for (gap, weight) in steps {
                now = now + Duration::from_micros(gap);
                let answer = spend(&limits, now, &[cost(1, quota, period, weight)]);
                prop_assert_eq!(answer.is_ok(), bucket.admits(now, limit, weight));
                if let Ok(levels) = answer {
                    prop_assert_eq!(u128::from(levels[0]), bucket.level(limit));
                }
            }
        }

        #[test]
        fn a_refused_charge_fits_after_exactly_the_wait_it_was_told(
            quota in 1u32..50,
            period in 1_000u64..3_000_000,
            weights in prop::collection::vec(1u32..50, 1..60),
            weight in 1u32..50,
        ) {
            let limits = limits(10);
            for one in weights {
                let _ignored = spend(&limits, START, &[cost(1, quota, period, one)]);
            }
            let wanted = [cost(1, quota, period, weight), cost(2, quota, period, weight)];
            if let Err(Refusal::Over { cost, retry_after, .. }) = spend(&limits, START, &wanted) {
                if weight > quota {
                    prop_assert_eq!(retry_after, Duration::from_micros(period));
                } else {
                    prop_assert_eq!(cost, 0);
                    prop_assert!(spend(&limits, START + retry_after - MICRO, &wanted).is_err());
                    prop_assert!(spend(&limits, START + retry_after, &wanted).is_ok());
                }
            }
        }

        #[test]
        fn no_span_admits_more_than_rate_and_burst_whatever_the_order_of_arrival(
            quota in 1u32..20,
            period in 1_000u64..1_000_000,
            arrivals in prop::collection::vec((0u64..2_000_000, 1u32..6, 0u64..200), 1..150),
        ) {
            // Other subjects come and go, so that cells are dropped and found absent.
            let limits = limits(100_000);
            let mut admitted: Vec<(u64, u64)> = Vec::new();
            for (at, weight, other) in arrivals {
                let now = START + Duration::from_micros(at);
                let _ignored = spend(&limits, now, &[cost(1_000 + other, 1, 1_000, 1)]);
                if spend(&limits, now, &[cost(1, quota, period, weight)]).is_ok() {
                    admitted.push((at, u64::from(weight)));
                }
            }
            admitted.sort_unstable();
            for from in 0..admitted.len() {
                let mut units = 0;
                for (at, weight) in &admitted[from..] {
                    units += weight;
                    let span = at - admitted[from].0;
                    prop_assert!(
                        u128::from(units) * u128::from(period)
                            <= u128::from(quota) * u128::from(span + period),
                        "{units} units in {span} us"
                    );
                }
            }
        }
    }

    #[test]
    fn a_rate_that_divides_unevenly_is_exact_in_the_long_run() {
        let limits = limits(10);
        let mut admitted = 0u32;
        for at in 0..30_000u64 {
            let now = START + Duration::from_millis(at);
            admitted += u32::from(spend(&limits, now, &[cost(1, 7, 1_000_000, 1)]).is_ok());
        }
        // Seven at once, then one each 142,857 1/7 us: 29.999 s hold 209 more.
        assert_eq!(admitted, 7 + 209);
    }

    fn over(cost: usize, retry_after: Duration, level: u32, beside: &[(usize, u32)]) -> Refusal {
        Refusal::Over { cost, retry_after, level, beside: beside.into() }
    }

    #[test]
    fn one_limit_that_is_over_leaves_the_others_untouched() {
        let limits = limits(10);
        let both = [cost(1, 10, 1_000_000, 4), cost(2, 1, 1_000_000, 1)];
        assert_eq!(spend(&limits, START, &both).unwrap()[..], [4, 1]);
        for _ in 0..5 {
            let over = over(1, Duration::from_secs(1), 1, &[(0, 4)]);
            assert_eq!(spend(&limits, START, &both).unwrap_err(), over);
        }
        assert_eq!(spend(&limits, START, &[cost(1, 10, 1_000_000, 6)]).unwrap()[..], [10]);
    }

    #[test]
    fn of_two_limits_that_are_over_the_longer_wait_is_told() {
        let limits = limits(10);
        let both = [cost(1, 1, 1_000_000, 1), cost(2, 1, 5_000_000, 1)];
        spend(&limits, START, &both).unwrap();
        let over = over(1, Duration::from_secs(5), 1, &[(0, 1)]);
        assert_eq!(spend(&limits, START, &both).unwrap_err(), over);
    }

    #[test]
    fn a_weight_above_the_quota_never_fits() {
        let limits = limits(10);
        let over = over(0, Duration::from_secs(1), 0, &[]);
        assert_eq!(spend(&limits, START, &[cost(1, 5, 1_000_000, 6)]).unwrap_err(), over);
        assert_eq!(limits.live(), 0);
    }

    #[test]
    fn a_subject_named_twice_is_charged_twice() {
        let limits = limits(10);
        let twice = [cost(1, 5, 1_000_000, 2), cost(1, 5, 1_000_000, 2)];
        assert_eq!(spend(&limits, START, &twice).unwrap()[..], [2, 4]);
        assert!(matches!(spend(&limits, START, &twice), Err(Refusal::Over { cost: 1, .. })));
        assert_eq!(limits.live(), 1);
    }

    #[test]
    fn a_smaller_quota_holds_at_once_and_a_larger_one_frees() {
        let limits = limits(10);
        spend(&limits, START, &[cost(1, 100, 1_000_000, 50)]).unwrap();
        // Half of the allowance is gone, whatever it is counted in.
        assert!(spend(&limits, START, &[cost(1, 10, 1_000_000, 6)]).is_err());
        assert_eq!(spend(&limits, START, &[cost(1, 10, 1_000_000, 5)]).unwrap()[..], [10]);
        assert!(spend(&limits, START, &[cost(1, 1_000, 1_000_000, 1)]).is_err());
    }

    #[test]
    fn a_subject_that_is_paid_off_is_charged_beside_new_ones_of_its_shard() {
        let limits = limits(100_000);
        let later = START + MICRO * 2_000_000;
        let old = |subject| cost(subject, 10, 1_000_000, 1);
        for subject in 0..2_000 {
            assert!(spend(&limits, START, &[old(subject)]).is_ok());
        }
        for subject in 0..2_000 {
            let new = old(10_000 + subject);
            assert_eq!(spend(&limits, later, &[new, old(subject)]).unwrap()[..], [1, 1]);
        }
        for subject in (0..2_000).chain(10_000..12_000) {
            assert_eq!(spend(&limits, later, &[old(subject)]).unwrap()[..], [2], "{subject}");
        }
    }

    #[test]
    fn a_full_table_refuses_unknown_subjects_until_one_is_paid_off() {
        let limits = limits(2);
        spend(&limits, START, &[cost(1, 1, 1_000_000, 1)]).unwrap();
        spend(&limits, START, &[cost(2, 1, 2_000_000, 1)]).unwrap();
        limits.sweep(START + Duration::from_secs(1) - MICRO);
        let new = [cost(3, 1, 1_000_000, 1)];
        assert_eq!(spend(&limits, START, &new).unwrap_err(), Refusal::Full);
        assert_eq!(limits.live(), 2);
        limits.sweep(START + Duration::from_millis(1_100));
        assert_eq!(limits.live(), 1);
        assert!(spend(&limits, START + Duration::from_millis(1_100), &new).is_ok());
    }

    #[test]
    fn subjects_that_come_and_go_take_no_more_room_than_those_that_are_live() {
        let limits = limits(100_000);
        for subject in 0..50_000u64 {
            let now = START + Duration::from_millis(subject);
            spend(&limits, now, &[cost(subject, 1, 100_000, 1)]).unwrap();
        }
        assert!(limits.live() < 100 * 8, "{}", limits.live());
    }
}
