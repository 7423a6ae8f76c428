//! Growing numbers: defeats the replay of requests that carry no clock, by a mark for each key that only rises.
//!
//! What may be accepted is reserved on the disk ahead of need, in steps of the number's own magnitude: for a clock of
//! any unit about 13 seconds. After a crash the reservation is the mark, so numbers below it are lost to their key;
//! a clean close leaves the exact mark.
//!
//! Clients that send in parallel may be given a window: numbers below the highest that have not come yet. The numbers
//! accepted within it are remembered in memory alone, so that after a restart nothing passes below the mark.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::Fill;
use super::chains::{Mixer, Padded, SHARDS};
use super::state::{Log, Reservation, StateDir};
use super::window::Accepted;
use crate::clock::Micros;

/// The marks of all keys that sign with growing numbers.
#[derive(Debug)]
pub(super) struct Marks {
    mixer: Mixer,
    shards: Box<[Padded<Mutex<Keyed>>]>,
    keeping: Keeping,
    max_jump: Duration,
    live: AtomicUsize,
    capacity: usize,
    asked: Mutex<Vec<[u8; 16]>>,
    /// How often reservations were written, or could not be.
    flushes: AtomicU64,
    waiting: Mutex<Vec<Waker>>,
}

type Keyed = HashMap<[u8; 16], Mark, foldhash::fast::RandomState>;

/// Where marks outlive the process.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Keeping {
    /// In the state directory.
    Durable,
    /// Nowhere, and that was asked for.
    Volatile,
    /// Nowhere: such requests are refused.
    None,
}

/// What the marks say to a number.
#[derive(Debug)]
pub(super) enum Judged<'a> {
    /// It may be accepted; [`Raise::commit`] does.
    Grows(Raise<'a>),
    /// Not above the mark, and perhaps a copy of what was accepted.
    Stale,
    /// Not above the mark, and never accepted.
    Low,
    /// So far ahead that it could lock its owner out; acceptable after this long.
    TooFar(Duration),
    /// It must be reserved first: ask again once [`Marks::poll_flushed`] is ready for this count.
    Unreserved(u64),
    /// No room for another key.
    Full,
    /// Marks are not kept.
    Unkept,
}

/// A number above its mark, whose key stays locked.
#[derive(Debug)]
pub(super) struct Raise<'a> {
    marks: &'a Marks,
    keyed: MutexGuard<'a, Keyed>,
    key: [u8; 16],
    nonce: u64,
    window: u64,
    print: u64,
    /// The largest number that may be accepted now.
    most: u64,
}

#[derive(Debug, Default)]
struct Mark {
    accepted: Accepted,
    /// Numbers up to this one may be accepted: the disk knows.
    reserved: u64,
    /// What the disk was asked to know.
    asked: u64,
}

impl Marks {
    pub(super) fn new(mixer: Mixer, keeping: Keeping, capacity: usize, max_jump: Duration) -> Self {
        Self {
            mixer,
            shards: (0..SHARDS).map(|_| Padded(Mutex::new(Keyed::default()))).collect(),
            keeping,
            max_jump,
            live: AtomicUsize::new(0),
            capacity,
            asked: Mutex::new(Vec::new()),
            flushes: AtomicU64::new(0),
            waiting: Mutex::new(Vec::new()),
        }
    }

    /// Takes over what earlier processes reserved.
    pub(super) fn restore(&self, reservations: &[Reservation]) {
        for (key, up_to) in reservations {
            let Some(mut keyed) = self.keyed(*key) else { continue };
            let mark = keyed.entry(*key).or_insert_with(|| {
                self.live.fetch_add(1, Ordering::Relaxed);
                Mark::default()
            });
            let highest = mark.accepted.highest().max(*up_to);
            let accepted = Accepted::up_to(highest);
            *mark = Mark { accepted, reserved: highest, asked: highest };
        }
    }

    pub(super) fn fill(&self) -> Fill {
        Fill { live: self.live.load(Ordering::Relaxed), capacity: self.capacity }
    }

    /// `print` tells requests with the same number apart.
    pub(super) fn judge(
        &self,
        now: Micros,
        key: [u8; 16],
        nonce: u64,
        window: u64,
        print: u64,
    ) -> Judged<'_> {
        if self.keeping == Keeping::None {
            return Judged::Unkept;
        }
        let most = match furthest(now, self.max_jump, nonce) {
            Ok(most) => most,
            Err(wait) => return Judged::TooFar(wait),
        };
        let Some(mut keyed) = self.keyed(key) else { return Judged::Unkept };
        let reserved = if let Some(mark) = keyed.get(&key) {
            if !mark.accepted.lets_pass(nonce, window) {
                let passed = mark.accepted.may_have_passed(nonce, print);
                return if passed { Judged::Stale } else { Judged::Low };
            }
            mark.reserved
        } else {
            if nonce == 0 {
                return Judged::Low;
            }
            if self.live.fetch_add(1, Ordering::Relaxed) >= self.capacity {
                self.live.fetch_sub(1, Ordering::Relaxed);
                return Judged::Full;
            }
            keyed.insert(key, Mark::default());
            0
        };
        if self.keeping == Keeping::Durable && nonce > reserved {
            let flushes = self.flushes.load(Ordering::Acquire);
            self.ask(&mut keyed, key, nonce, most);
            return Judged::Unreserved(flushes);
        }
        Judged::Grows(Raise { marks: self, keyed, key, nonce, window, print, most })
    }

    /// Ready once reservations asked for before `since` was counted are written, or could not be.
    pub(super) fn poll_flushed(&self, since: u64, context: &Context<'_>) -> Poll<()> {
        // A flush under way may have begun before the question was asked: the second one surely has not.
        let flushed = || self.flushes.load(Ordering::Acquire) > since;
        if flushed() {
            return Poll::Ready(());
        }
        lock(&self.waiting).push(context.waker().clone());
        if flushed() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Whether anybody asked for a reservation.
    pub(super) fn are_asked(&self) -> bool {
        !lock(&self.asked).is_empty()
    }

    /// Writes what was asked for. `log` is `None` where it must be begun anew, as after a failure.
    pub(super) fn flush(&self, dir: &StateDir, log: &mut Option<Log>) -> io::Result<()> {
        let result = self.write(dir, log);
        if result.is_err() {
            *log = None;
        }
        self.flushes.fetch_add(1, Ordering::Release);
        for waker in std::mem::take(&mut *lock(&self.waiting)) {
            waker.wake();
        }
        result
    }

    /// Leaves the exact marks, so that nothing is lost to a clean restart.
    pub(super) fn close(&self, dir: &StateDir) -> io::Result<()> {
        dir.rewrite_log(&self.all(|mark| mark.accepted.highest())).map(drop)
    }

    fn write(&self, dir: &StateDir, log: &mut Option<Log>) -> io::Result<()> {
        let keys = std::mem::take(&mut *lock(&self.asked));
        let reservations: Vec<Reservation> =
            keys.iter().filter_map(|key| Some((*key, self.keyed(*key)?.get(key)?.asked))).collect();
        let live = self.live.load(Ordering::Relaxed);
        match log {
            Some(log) if dir.holds_log() && !log.is_bloated(live) => log.append(&reservations)?,
            Some(_) | None => *log = Some(dir.rewrite_log(&self.all(|mark| mark.asked))?),
        }
        for (key, up_to) in reservations {
            if let Some(mut keyed) = self.keyed(key)
                && let Some(mark) = keyed.get_mut(&key)
            {
                mark.reserved = mark.reserved.max(up_to);
            }
        }
        Ok(())
    }

    fn all(&self, number: impl Fn(&Mark) -> u64) -> Vec<Reservation> {
        let mut all = Vec::with_capacity(self.live.load(Ordering::Relaxed));
        for shard in &self.shards {
            all.extend(lock(&shard.0).iter().map(|(key, mark)| (*key, number(mark))));
        }
        all.retain(|(_, number)| *number > 0);
        all
    }

    /// Asks for numbers a step beyond `nonce`, but none that could not be accepted now: what is reserved is lost if
    /// the process dies.
    fn ask(&self, keyed: &mut Keyed, key: [u8; 16], nonce: u64, most: u64) {
        if let Some(mark) = keyed.get_mut(&key) {
            mark.asked = mark.asked.max(nonce.saturating_add(step(nonce)).min(most));
            lock(&self.asked).push(key);
        }
    }

    fn keyed(&self, key: [u8; 16]) -> Option<MutexGuard<'_, Keyed>> {
        self.shards.get(self.mixer.of_16(key).shard()).map(|shard| lock(&shard.0))
    }
}

impl Raise<'_> {
    /// Accepts the number; true if more was asked for.
    pub(super) fn commit(mut self) -> bool {
        let (nonce, most) = (self.nonce, self.most);
        let Some(mark) = self.keyed.get_mut(&self.key) else { return false };
        mark.accepted.add(nonce, self.window, self.print);
        let soon = nonce.saturating_add(step(nonce) / 2).min(most);
        let ask = self.marks.keeping == Keeping::Durable && soon > mark.reserved.max(mark.asked);
        if ask {
            self.marks.ask(&mut self.keyed, self.key, nonce, most);
        }
        ask
    }
}

/// The largest number that may be accepted now, unless `nonce` lies beyond it: then after how long it does no more.
///
/// Counted in nanoseconds, the finest clock that any client counts in: whatever a key's mark is, time in nanoseconds
/// passes it after `max_jump` at the latest, so that no slip locks its owner out for ever.
pub(in crate::store) fn furthest(
    now: Micros,
    max_jump: Duration,
    nonce: u64,
) -> Result<u64, Duration> {
    let most = u128::from((now + max_jump).0) * 1_000;
    if u128::from(nonce) > most {
        let beyond = (u128::from(nonce) - most).div_ceil(1_000);
        return Err(Duration::from_micros(u64::try_from(beyond).unwrap_or(u64::MAX)));
    }
    Ok(u64::try_from(most).unwrap_or(u64::MAX))
}

/// How far ahead numbers are reserved: of a clock in any unit from milliseconds on, about 13 seconds.
pub(in crate::store) const fn step(nonce: u64) -> u64 {
    let step = nonce >> 27;
    if step > LEAST_STEP { step } else { LEAST_STEP }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// For counters, and clocks that count seconds: what a crash may cost, and what one flush must last for.
const LEAST_STEP: u64 = 256;
