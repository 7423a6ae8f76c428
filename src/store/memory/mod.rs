//! The embedded store: replay set, limits and marks in memory, fenced against what an earlier process accepted.
//!
//! Locks are taken in one order: replay shards by rising number, or a key's mark, or a shard of unique nonces; then
//! the steps of second factors; then shards of limits by rising number; then a shard of account counts or what waits for the disk; each for nanoseconds
//! and never across an await.

mod accounts;
mod arrival;
mod chains;
mod durable;
mod fence;
mod highest;
mod limits;
pub(super) mod marks;
mod open_error;
mod options;
mod pace;
mod pair;
mod refusal;
mod replay;
mod span;
mod state;
mod steps;
mod unique;
mod unique_log;
mod window;
mod windows;

use std::future::poll_fn;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[cfg(feature = "server")]
pub(super) use self::arrival::Rate;
use self::chains::Mixer;
use self::durable::{Durable, Writer};
use self::fence::{Fence, Mark};
use self::limits::{Limits, Plan};
use self::marks::{Judged, Keeping, Marks};
pub use self::open_error::OpenError;
pub use self::options::Options;
use self::pair::Pair;
use self::replay::{ReplaySet, Standing};
use self::state::StateDir;
use self::steps::Steps;
use self::unique::{Batch, Unique};
use super::{Charge, Cost, Identity, Levels, Receipt, SignedTime, Store, Verdict};
use crate::clock::Micros;

/// How much is held, of how much there may be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Fill {
    /// What is held; it may be more than there may be now, where there was more room before.
    pub live: usize,
    /// The most there may be.
    pub capacity: usize,
}

/// Remembers in this process.
///
/// Exact and bounded: when full it refuses, and never forgets what is live. Dropping it, after the last charge, leaves
/// exact marks in the state directory; a process that is killed leaves marks that lie about two seconds ahead, and up to
/// nine where its disk or its processor had lately been that slow.
#[derive(Debug)]
pub struct MemoryStore {
    replay: ReplaySet,
    limits: Limits,
    steps: Steps,
    durable: Arc<Durable>,
    /// The threads that write, where there is a state directory.
    writer: Option<Writer>,
    /// Set by tests alone: dies without leaving exact marks, as a killed process does.
    killed: bool,
}

impl MemoryStore {
    /// Opens the store at `now`, the moment of its birth: nothing signed before it is judged.
    ///
    /// Takes its memory at once, locks the state directory, and starts the threads that write there.
    pub fn open(options: &Options, now: Micros) -> Result<Self, OpenError> {
        let born = Instant::now();
        let mut store = Self::open_without_writer(options, now)?;
        if options.state_dir.is_some() {
            store.writer = Some(Writer::start(&store.durable, now, born)?);
        }
        Ok(store)
    }

    /// Requests remembered, expired ones that were not yet cleared away included.
    pub fn records(&self) -> usize {
        self.replay.live()
    }

    /// The most requests remembered at once.
    pub fn capacity(&self) -> usize {
        self.replay.capacity()
    }

    /// Subjects of limits held, paid-off ones that were not yet dropped included.
    pub fn subjects(&self) -> usize {
        self.limits.live()
    }

    /// Whether a stamp signed at `now` would be judged.
    pub fn fence_passed(&self, now: Micros) -> bool {
        now >= self.ready_at()
    }

    /// Whether the state directory, if there is one, has taken the mark without which nothing signed at `now` is judged.
    pub fn is_noted(&self, now: Micros) -> bool {
        self.durable.fence.is_noted(now)
    }

    /// When the first stamp that is judged can be signed.
    pub fn ready_at(&self) -> Micros {
        self.durable.fence.stamp_floor() + Duration::from_micros(1)
    }

    /// Keys that sign with growing numbers, remembered for ever.
    pub fn marks(&self) -> Fill {
        self.durable.marks.fill()
    }

    /// Nonces without a clock, remembered for ever.
    pub fn unique(&self) -> Fill {
        self.durable.unique.fill()
    }

    /// Bytes taken by records, account counts, limits and nonces.
    pub fn memory_bytes(&self) -> usize {
        self.replay.memory_bytes() + self.limits.memory_bytes() + self.durable.unique.memory_bytes()
    }

    /// How often the state directory did not take a write. While it does not, the store soon refuses.
    pub fn write_failures(&self) -> u64 {
        self.durable.failures()
    }

    /// Charges limits alone, for what another store remembers; where room is lacking, once more.
    #[cfg(feature = "server")]
    pub(super) fn charge(&self, now: Micros, costs: &[Cost]) -> Verdict {
        let attempt = || pay(self.limits.plan(now, costs));
        let settled = attempt();
        if settled == Verdict::Full { attempt() } else { settled }
    }

    /// Gives back what [`MemoryStore::charge`] took at `at`.
    #[cfg(feature = "server")]
    pub(super) fn refund(&self, at: Micros, now: Micros, costs: &[Cost]) {
        self.limits.refund(at, now, costs);
    }

    /// Clears away all that has expired: for exact figures after a lull. Charges clear away a little each.
    pub fn sweep(&self, now: Micros) {
        self.replay.sweep(now, |_| false);
        self.limits.sweep(now);
    }

    fn open_without_writer(options: &Options, now: Micros) -> Result<Self, OpenError> {
        let mixer = Mixer::seeded()?;
        let dir = options.state_dir.as_deref().map(StateDir::open).transpose()?;
        let keeping = match (&dir, options.volatile_marks) {
            (Some(_), _) => Keeping::Durable,
            (None, true) => Keeping::Volatile,
            (None, false) => Keeping::None,
        };
        let marks = Marks::new(mixer, keeping, options.max_marks, options.max_jump);
        let unique = Unique::new(mixer, keeping, options.max_unique, options.max_unique_per_key);
        let mut earlier = Mark::default();
        if let Some(dir) = &dir {
            earlier = dir.read_mark()?;
            marks.restore(&dir.read_reservations()?);
            unique.restore(dir)?;
        }
        let fence = Fence::new(now, options, earlier);
        let durable = Durable::new(fence, marks, unique, dir);
        durable.begin(now)?;
        let replay =
            ReplaySet::new(mixer, options.max_records, options.max_records_per_account, now);
        let limits = Limits::new(mixer, options.max_subjects, options.max_windows);
        let steps = Steps::new((!options.volatile_marks).then(|| durable.fence.stamp_floor()));
        let durable = Arc::new(durable);
        Ok(Self { replay, limits, steps, durable, writer: None, killed: false })
    }

    /// One charge; where room is lacking, once more after clearing away what has expired.
    fn settle(&self, charge: &Charge) -> Settled {
        if let Some(retry_after) = self.durable.fence.refuses(charge.now, charge.time) {
            return Settled::Done(Verdict::Fenced { retry_after });
        }
        let settled = self.attempt(charge);
        if !matches!(settled, Settled::Done(Verdict::Full)) {
            return settled;
        }
        let one = charge.nonce.is_none();
        self.replay.sweep(charge.now, |replay| one && replay.has_room(charge.account));
        self.limits.sweep(charge.now);
        self.attempt(charge)
    }

    fn attempt(&self, charge: &Charge) -> Settled {
        match charge.time {
            SignedTime::Stamp(_) | SignedTime::Deadline { at: _, lead: _ } => {
                Settled::Done(self.attempt_clocked(charge))
            }
            SignedTime::Growing { key, nonce, window } => {
                self.attempt_growing(charge, key, nonce, window)
            }
            SignedTime::Unique { key, nonce } => self.attempt_unique(charge, key, nonce),
        }
    }

    fn attempt_clocked(&self, charge: &Charge) -> Verdict {
        if let Some(nonce) = charge.nonce {
            return self.attempt_pair(charge, nonce);
        }
        let spot = self.replay.spot(charge);
        let mut plan = self.limits.plan(charge.now, &charge.costs);
        plan.fetch();
        let Some(mut entered) = self.replay.enter(charge, spot) else {
            return Verdict::Unavailable;
        };
        let standing = entered.standing(charge);
        if standing == Standing::Seen {
            return Verdict::Seen;
        }
        let step = match self.steps.hold(charge) {
            Ok(step) => step,
            Err(verdict) => return verdict,
        };
        if let Err(refusal) = plan.hold() {
            return refusal.into();
        }
        if standing == Standing::Unseen && entered.record(charge).is_err() {
            return Verdict::Full;
        }
        step.spend();
        Verdict::New(plan.commit())
    }

    fn attempt_pair(&self, charge: &Charge, nonce: Identity) -> Verdict {
        let Some(mut pair) = Pair::enter(&self.replay, charge, nonce) else {
            return Verdict::Unavailable;
        };
        if pair.was_seen() {
            return Verdict::Seen;
        }
        let step = match self.steps.hold(charge) {
            Ok(step) => step,
            Err(verdict) => return verdict,
        };
        let mut plan = self.limits.plan(charge.now, &charge.costs);
        if let Err(refusal) = plan.hold() {
            return refusal.into();
        }
        if pair.record(charge.account).is_err() {
            return Verdict::Full;
        }
        step.spend();
        Verdict::New(plan.commit())
    }

    fn attempt_growing(&self, charge: &Charge, key: [u8; 16], nonce: u64, window: u64) -> Settled {
        let print = charge.identity.0.first_chunk().copied().map_or(0, u64::from_le_bytes);
        let raise = match self.durable.marks.judge(charge.now, key, nonce, window, print) {
            Judged::Grows(raise) => raise,
            Judged::Unreserved(flushes) => {
                self.durable.ring();
                return Settled::AfterFlush(flushes);
            }
            Judged::Stale => return Settled::Done(Verdict::Seen),
            Judged::Low => return Settled::Done(Verdict::Low),
            Judged::TooFar(retry_after) => return Settled::Done(Verdict::Fenced { retry_after }),
            Judged::Full => return Settled::Done(Verdict::Full),
            Judged::Unkept => return Settled::Done(Verdict::Unavailable),
        };
        let step = match self.steps.hold(charge) {
            Ok(step) => step,
            Err(verdict) => return Settled::Done(verdict),
        };
        let mut plan = self.limits.plan(charge.now, &charge.costs);
        if let Err(refusal) = plan.hold() {
            return Settled::Done(refusal.into());
        }
        step.spend();
        if raise.commit() {
            self.durable.ring();
        }
        Settled::Done(Verdict::New(plan.commit()))
    }

    fn attempt_unique(&self, charge: &Charge, key: [u8; 16], nonce: [u8; 16]) -> Settled {
        let entering = match self.durable.unique.judge(key, nonce) {
            unique::Judged::Unseen(entering) => entering,
            unique::Judged::Seen => return Settled::Done(Verdict::Seen),
            unique::Judged::Unkept => return Settled::Done(Verdict::Unavailable),
        };
        let step = match self.steps.hold(charge) {
            Ok(step) => step,
            Err(verdict) => return Settled::Done(verdict),
        };
        let mut plan = self.limits.plan(charge.now, &charge.costs);
        if let Err(refusal) = plan.hold() {
            return Settled::Done(refusal.into());
        }
        let Ok(batch) = entering.record() else { return Settled::Done(Verdict::Full) };
        step.spend();
        let levels = plan.commit();
        let Some(batch) = batch else { return Settled::Done(Verdict::New(levels)) };
        self.durable.ring_for_nonces();
        Settled::Once(batch, levels)
    }
}

impl Store for MemoryStore {
    #[inline]
    fn foresee(&self, identity: Identity, signed_at: Option<Micros>, account: u64) {
        self.replay.fetch(self.replay.spot_of(identity, signed_at), account);
    }

    async fn spend(&self, charge: &Charge) -> Verdict {
        for _ in 0..FLUSHES_WAITED_FOR {
            match self.settle(charge) {
                Settled::Done(verdict) => return verdict,
                Settled::AfterFlush(since) => {
                    poll_fn(|context| self.durable.marks.poll_flushed(since, context)).await;
                }
                Settled::Once(batch, levels) => {
                    let mut place = None;
                    let written = poll_fn(|context| batch.poll_end(&mut place, context)).await;
                    return if written { Verdict::New(levels) } else { Verdict::Unavailable };
                }
            }
        }
        Verdict::Unavailable
    }

    fn give_back(&self, receipt: &Receipt, now: Micros) {
        self.limits.refund(receipt.at, now, &receipt.costs);
    }

    async fn pay(&self, now: Micros, costs: &[Cost]) -> Verdict {
        pay(self.limits.plan_unsigned(now, costs))
    }
}

/// Charges what a plan holds, if it does.
fn pay(mut plan: Plan<'_>) -> Verdict {
    match plan.hold() {
        Ok(()) => Verdict::New(plan.commit()),
        Err(refusal) => refusal.into(),
    }
}

impl Drop for MemoryStore {
    fn drop(&mut self) {
        self.writer = None;
        if !self.killed {
            self.durable.close(self.replay.highest());
        }
    }
}

/// How far a charge has come.
#[derive(Debug)]
enum Settled {
    Done(Verdict),
    /// It waits for the disk: more than this many flushes.
    AfterFlush(u64),
    /// It is recorded and charged, and passes once the disk has taken this.
    Once(Arc<Batch>, Levels),
}

/// A flush under way may have begun before the question; and for one that failed there is one more.
const FLUSHES_WAITED_FOR: u32 = 4;

#[cfg(test)]
mod growing_tests;
#[cfg(test)]
mod nonce_tests;
#[cfg(test)]
mod number_tests;
#[cfg(test)]
mod pair_tests;
#[cfg(test)]
mod restart_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod window_tests;
