//! Sliding and fixed windows: what each subject spent in the spans that still count, charged together or not at all.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrayvec::ArrayVec;

use super::chains::{Chains, Hash, MOST_SLOTS, Mixer, Padded, SHARDS};
use super::refusal::Refusal;
use crate::clock::Micros;
use crate::store::grid::{Grid, MOST_SPANS};
use crate::store::{Cost, MAX_COSTS, Subject, Window};

/// What every subject spent of its windows.
#[derive(Debug)]
pub(super) struct Windows {
    mixer: Mixer,
    shards: Box<[Padded<Mutex<Shard>>]>,
    live: AtomicUsize,
    capacity: usize,
}

/// The windows of a charge that fits. What it touches stays locked until it is committed or dropped.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    windows: &'a Windows,
    /// In ascending order, so that two plans never wait for each other.
    shards: ArrayVec<(usize, MutexGuard<'a, Shard>), MAX_COSTS>,
    steps: ArrayVec<Step, MAX_COSTS>,
    reserved: usize,
}

/// One subject of a plan, and what is added to its present span.
#[derive(Clone, Copy, Debug)]
struct Step {
    subject: Subject,
    hash: Hash,
    slot: Option<u32>,
    grid: Grid,
    span: u64,
    added: u32,
}

/// By how much a window does not hold a cost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Beyond {
    pub(super) never: bool,
    pub(super) wait: Duration,
    pub(super) level: u32,
}

#[derive(Debug)]
struct Shard {
    cells: Chains<Cell>,
    /// The next slot to look at for a cell that is over.
    hand: u32,
    /// When the latest cell that was ever dropped was over: what is absent is charged no earlier, so that a charge
    /// with an earlier `now` than the one that swept gains nothing.
    dropped: Micros,
}

#[derive(Clone, Copy, Debug)]
struct Cell {
    subject: Subject,
    /// When all of it is over; [`NEVER`] in slots that hold none.
    over: Micros,
    newest: u64,
    spans: [u32; MOST_SPANS],
}

impl Windows {
    pub(super) fn new(mixer: Mixer, capacity: usize) -> Self {
        let shard = || Shard {
            cells: Chains::reserve(capacity.div_ceil(SHARDS).min(MOST_SLOTS), None),
            hand: 0,
            dropped: Micros(0),
        };
        let shards = (0..SHARDS).map(|_| Padded(Mutex::new(shard()))).collect();
        let capacity = capacity.min(SHARDS * MOST_SLOTS);
        Self { mixer, shards, live: AtomicUsize::new(0), capacity }
    }

    /// A plan that holds nothing yet.
    #[inline]
    pub(super) fn plan(&self) -> Plan<'_> {
        Plan { windows: self, shards: ArrayVec::new(), steps: ArrayVec::new(), reserved: 0 }
    }

    /// Gives back what was charged at `at`, exactly where it was counted, as far as that still counts.
    pub(super) fn refund(&self, at: Micros, cost: &Cost) {
        let Some(grid) = Grid::of(cost.window, cost.limit) else { return };
        let hash = self.mixer.of_8(cost.subject.0);
        let Some(shard) = self.shards.get(hash.shard()) else { return };
        let mut shard = lock(shard);
        let slot = shard.cells.find(hash.chain(), |cell| cell.subject == cost.subject);
        let Some(cell) = slot.and_then(|slot| shard.cells.at_mut(slot)) else { return };
        let span = grid.span(at);
        if span <= cell.newest
            && span.saturating_add(grid.kept) > cell.newest
            && let Some(units) = cell.spans.get_mut(Grid::place(span))
        {
            *units = units.saturating_sub(cost.weight);
        }
    }

    /// Drops what is over, everywhere.
    pub(super) fn sweep(&self, now: Micros) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            let all = shard.cells.slots();
            let dropped = shard.sweep(now, all, self.mixer);
            self.live.fetch_sub(dropped, Ordering::Relaxed);
        }
    }

    /// Subjects held, those that are over and were not yet dropped included.
    pub(super) fn live(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let cells: usize = self.shards.iter().map(|shard| lock(shard).cells.memory_bytes()).sum();
        cells + size_of_val(&*self.shards)
    }
}

impl Plan<'_> {
    /// Holds what the windows among `costs` touch. The moment at which they are charged: `now`, or a later one where
    /// another charge has come to that already, so that nothing is counted in a span that is past.
    pub(super) fn hold(&mut self, costs: &[Cost], now: Micros) -> Micros {
        self.lock_shards(costs);
        let mut at = now;
        for cost in costs {
            let Some(grid) = Grid::of(cost.window, cost.limit) else { continue };
            if self.steps.iter().any(|step| step.subject == cost.subject) {
                continue;
            }
            let hash = self.windows.mixer.of_8(cost.subject.0);
            let Some(shard) = self.shard(hash) else { continue };
            let slot = shard.cells.find(hash.chain(), |cell| cell.subject == cost.subject);
            let held = slot.and_then(|slot| shard.cells.at(slot));
            at = at.max(held.map_or(shard.dropped, |cell| grid.start(cell.newest)));
            let subject = cost.subject;
            self.steps.push(Step { subject, hash, slot, grid, span: 0, added: 0 });
        }
        for step in &mut self.steps {
            step.span = step.grid.span(at);
        }
        at
    }

    /// Adds one cost at the moment that [`Plan::hold`] told; the level then, or by how much it is beyond its quota.
    pub(super) fn add(&mut self, cost: &Cost, at: Micros, now: Micros) -> Result<u32, Beyond> {
        let quota = cost.limit.quota.max(1);
        let place = self.steps.iter().position(|step| step.subject == cost.subject);
        let step = place.and_then(|place| self.steps.get(place)).copied();
        let (Some(place), Some(step)) = (place, step) else {
            let wait = cost.limit.period;
            return Err(Beyond { never: true, wait, level: 0 });
        };
        let held = self.shard(step.hash).zip(step.slot);
        let cell = held.and_then(|(shard, slot)| shard.cells.at(slot)).copied();
        let spent = cell.map_or(0, |cell| cell.spent(step.grid, step.span));
        let level = spent.saturating_add(u64::from(step.added));
        let told = u32::try_from(level).unwrap_or(u32::MAX);
        if cost.weight > quota {
            return Err(Beyond { never: true, wait: cost.limit.period, level: told });
        }
        let after = level + u64::from(cost.weight);
        if cost.weight > 0 && after > u64::from(quota) {
            let until = wait(cell.as_ref(), &step, u64::from(cost.weight), u64::from(quota));
            let wait = until.max(at).since(now);
            return Err(Beyond { never: false, wait, level: told });
        }
        if let Some(step) = self.steps.get_mut(place) {
            step.added = step.added.saturating_add(cost.weight);
        }
        Ok(u32::try_from(after).unwrap_or(u32::MAX))
    }

    /// Forgets what was added.
    pub(super) fn spend_nothing(&mut self) {
        self.steps.iter_mut().for_each(|step| step.added = 0);
    }

    /// Takes room for the subjects that are new, at the moment that [`Plan::hold`] told; or makes some for those who come
    /// next.
    pub(super) fn reserve(&mut self, share: Share, at: Micros) -> Result<(), Refusal> {
        let new = self.steps.iter().filter(|step| step.slot.is_none()).count();
        if new > 0 {
            self.reserved = new;
            let before = self.windows.live.fetch_add(new, Ordering::Relaxed);
            if before + new > share.of(self.windows.capacity) {
                let windows = self.windows;
                let shards = self.shards.iter_mut();
                let dropped = shards.map(|(_, shard)| shard.sweep(at, MANY, windows.mixer));
                windows.live.fetch_sub(dropped.sum(), Ordering::Relaxed);
                return Err(Refusal::Full);
            }
        }
        Ok(())
    }

    /// Spends it.
    pub(super) fn commit(&mut self, at: Micros) {
        let windows = self.windows;
        let steps = std::mem::take(&mut self.steps);
        // Those that are there first: adding a new one sweeps, and might take a slot that is still to be written.
        for step in &steps {
            let held = self.shard(step.hash).zip(step.slot);
            if let Some(cell) = held.and_then(|(shard, slot)| shard.cells.at_mut(slot)) {
                cell.add(step);
            }
        }
        for step in steps.iter().filter(|step| step.slot.is_none()) {
            let mut cell =
                Cell { subject: step.subject, over: at, newest: step.span, spans: [0; MOST_SPANS] };
            cell.add(step);
            if let Some(shard) = self.shard(step.hash) {
                let dropped = shard.sweep(at, A_FEW, windows.mixer);
                shard.cells.insert(step.hash.chain(), cell);
                windows.live.fetch_sub(dropped, Ordering::Relaxed);
            }
        }
        self.reserved = 0;
    }

    fn shard(&mut self, hash: Hash) -> Option<&mut Shard> {
        let index = hash.shard();
        self.shards.iter_mut().find(|(at, _)| *at == index).map(|(_, shard)| &mut **shard)
    }

    fn lock_shards(&mut self, costs: &[Cost]) {
        let mut wanted: ArrayVec<usize, MAX_COSTS> = ArrayVec::new();
        for cost in costs.iter().filter(|cost| cost.window != Window::Bucket).take(MAX_COSTS) {
            wanted.push(self.windows.mixer.of_8(cost.subject.0).shard());
        }
        wanted.sort_unstable();
        for index in wanted {
            if self.shards.last().is_none_or(|(last, _)| *last != index)
                && let Some(shard) = self.windows.shards.get(index)
            {
                self.shards.push((index, lock(shard)));
            }
        }
    }
}

impl Drop for Plan<'_> {
    fn drop(&mut self) {
        if self.reserved > 0 {
            self.windows.live.fetch_sub(self.reserved, Ordering::Relaxed);
        }
    }
}

/// How much of the room a charge may use.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Share {
    /// All of it.
    Whole,
    /// All but a quarter, so that a flood from many addresses takes it from no key.
    Unsigned,
}

impl Share {
    pub(super) const fn of(self, capacity: usize) -> usize {
        match self {
            Self::Whole => capacity,
            Self::Unsigned => capacity - capacity / 4,
        }
    }
}

impl Cell {
    /// What was spent in the spans that count during `span`.
    fn spent(&self, grid: Grid, span: u64) -> u64 {
        (0..grid.kept)
            .filter_map(|back| span.checked_sub(back))
            .map(|counted| u64::from(self.spent_in(grid, counted)))
            .sum()
    }

    fn spent_in(&self, grid: Grid, span: u64) -> u32 {
        let is_held = span <= self.newest && span.saturating_add(grid.kept) > self.newest;
        let units = self.spans.get(Grid::place(span)).copied();
        if is_held { units.unwrap_or(0) } else { 0 }
    }

    fn add(&mut self, step: &Step) {
        let Step { grid, span, added, .. } = *step;
        let first = self.newest.saturating_add(1).max(span.saturating_sub(MOST_SPANS as u64 - 1));
        for entered in first..=span {
            if let Some(units) = self.spans.get_mut(Grid::place(entered)) {
                *units = 0;
            }
        }
        self.newest = self.newest.max(span);
        if added > 0
            && let Some(units) = self.spans.get_mut(Grid::place(span))
        {
            *units = units.saturating_add(added);
            self.over = grid.over(span);
        }
    }
}

impl Shard {
    /// Looks at the next `slots` slots and drops what is over; tells how many.
    fn sweep(&mut self, now: Micros, slots: usize, mixer: Mixer) -> usize {
        let mut dropped = 0;
        for _ in 0..slots.min(self.cells.slots()) {
            if self.hand as usize >= self.cells.slots() {
                self.hand = 0;
            }
            let slot = self.hand;
            self.hand += 1;
            let Some(&Cell { subject, over, .. }) = self.cells.at(slot) else { continue };
            if over > now {
                continue;
            }
            if self.cells.remove(mixer.of_8(subject.0).chain(), slot).is_some() {
                dropped += 1;
                self.dropped = self.dropped.max(over);
                if let Some(cell) = self.cells.at_mut(slot) {
                    cell.over = NEVER;
                }
            }
        }
        dropped
    }
}

/// When `weight` fits, if nothing else comes: when enough of the oldest spans are over.
fn wait(cell: Option<&Cell>, step: &Step, weight: u64, quota: u64) -> Micros {
    let Step { grid, span, .. } = *step;
    let mut left = u64::from(step.added) + weight;
    // Backwards: the first span that does not fit beside the later ones must be over.
    for back in 0..grid.kept {
        let Some(counted) = span.checked_sub(back) else { break };
        left += u64::from(cell.map_or(0, |cell| cell.spent_in(grid, counted)));
        if left > quota {
            return grid.over(counted);
        }
    }
    Micros(0)
}

fn lock(shard: &Padded<Mutex<Shard>>) -> MutexGuard<'_, Shard> {
    shard.0.lock().unwrap_or_else(PoisonError::into_inner)
}

const NEVER: Micros = Micros(u64::MAX);
/// Cells that a charge of a new subject looks at: more than the one it adds, so that sweeping keeps up.
const A_FEW: usize = 2;
/// Cells of each shard that a charge looks at which finds no room.
pub(super) const MANY: usize = 64;
