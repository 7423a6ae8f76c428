//! Nonces without a clock: defeats the replay of requests that nothing dates, by remembering every nonce for ever.
//!
//! A nonce is accepted once the log in the state directory has it; those that come while the disk is busy share its
//! next sync. In memory a nonce takes 28 bytes, in the log 32.

use std::io;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::accounts::{AccountSlot, Accounts};
use super::chains::{Chains, Hash, Mixer, Padded, SHARDS};
use super::marks::Keeping;
use super::replay::Full;
use super::state::StateDir;
use super::unique_log::{Entry, UniqueLog};
use super::{Fill, OpenError};

/// All nonces that were ever accepted.
#[derive(Debug)]
pub(super) struct Unique {
    mixer: Mixer,
    shards: Box<[Padded<Mutex<Shard>>]>,
    keys: Accounts,
    keeping: Keeping,
    live: AtomicUsize,
    capacity: usize,
    queue: Mutex<Queue>,
    /// `None` where it must be begun anew: at the first nonce ever, and after a failure.
    log: Mutex<Option<UniqueLog>>,
}

/// Takes its memory with its first nonce: most gateways never see one.
type Shard = Option<Chains<Nonce>>;

#[derive(Clone, Copy, Debug)]
struct Nonce {
    digest: [u8; 16],
    /// [`FREE`] in slots that hold none.
    key: AccountSlot,
}

/// What is known of a nonce.
#[derive(Debug)]
pub(super) enum Judged<'a> {
    /// Nothing; [`Entering::record`] remembers it.
    Unseen(Entering<'a>),
    /// It was seen, or is just being written.
    Seen,
    /// Nonces are not kept.
    Unkept,
}

/// A nonce that is not known, whose part of the set stays locked.
#[derive(Debug)]
pub(super) struct Entering<'a> {
    unique: &'a Unique,
    shard: MutexGuard<'a, Shard>,
    hash: Hash,
    entry: Entry,
}

/// What the next sync is for.
#[derive(Debug, Default)]
struct Queue {
    entries: Vec<Entry>,
    batch: Arc<Batch>,
}

/// Nonces that share one sync.
#[derive(Debug, Default)]
pub(super) struct Batch {
    outcome: AtomicU8,
    waiting: Mutex<Vec<Waker>>,
}

impl Unique {
    pub(super) fn new(mixer: Mixer, keeping: Keeping, capacity: usize, per_key: u32) -> Self {
        Self {
            mixer,
            shards: (0..SHARDS).map(|_| Padded(Mutex::new(None))).collect(),
            keys: Accounts::new(mixer, KEYS_EXPECTED, per_key),
            keeping,
            live: AtomicUsize::new(0),
            capacity,
            queue: Mutex::new(Queue::default()),
            log: Mutex::new(None),
        }
    }

    /// Takes over what earlier processes accepted, even if that is more than there may be now.
    pub(super) fn restore(&self, dir: &StateDir) -> Result<(), OpenError> {
        *lock(&self.log) = UniqueLog::open(dir, |entry| {
            let Some((mut shard, hash)) = self.shard(entry.nonce) else { return };
            if find(&shard, hash, entry.nonce).is_none()
                && let Some(key) = self.keys.take_anyway(entry.key)
            {
                self.live.fetch_add(1, Ordering::Relaxed);
                self.insert(&mut shard, hash, Nonce { digest: entry.nonce, key });
            }
        })?;
        Ok(())
    }

    /// Looks for `nonce`, a digest that includes its key; `key` says whose share it takes.
    pub(super) fn judge(&self, key: [u8; 16], nonce: [u8; 16]) -> Judged<'_> {
        if self.keeping == Keeping::None {
            return Judged::Unkept;
        }
        let Some((shard, hash)) = self.shard(nonce) else { return Judged::Unkept };
        if find(&shard, hash, nonce).is_some() {
            return Judged::Seen;
        }
        let entry = Entry { nonce, key: short(key) };
        Judged::Unseen(Entering { unique: self, shard, hash, entry })
    }

    /// Writes what is waiting to be written. What the disk did not take is forgotten again, and was not accepted.
    pub(super) fn flush(&self, dir: &StateDir) -> io::Result<()> {
        let Queue { entries, batch } = std::mem::take(&mut *lock(&self.queue));
        if entries.is_empty() {
            return Ok(());
        }
        let result = self.write(dir, &entries);
        if result.is_err() {
            for entry in entries {
                self.forget(entry);
            }
        }
        batch.end(result.is_ok());
        result
    }

    /// Leaves a log whose every damage will be noticed.
    pub(super) fn close(&self) -> io::Result<()> {
        lock(&self.log).as_mut().map_or(Ok(()), UniqueLog::seal)
    }

    pub(super) fn fill(&self) -> Fill {
        Fill { live: self.live.load(Ordering::Relaxed), capacity: self.capacity }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let shard =
            |shard: &Padded<Mutex<Shard>>| lock(&shard.0).as_ref().map_or(0, Chains::memory_bytes);
        let nonces: usize = self.shards.iter().map(shard).sum();
        nonces + size_of_val(&*self.shards) + self.keys.memory_bytes()
    }

    fn write(&self, dir: &StateDir, entries: &[Entry]) -> io::Result<()> {
        let mut log = lock(&self.log);
        match &mut *log {
            Some(log) if log.is_usable() => log.append(entries),
            // All that is held includes the entries.
            Some(_) | None => {
                *log = None;
                *log = Some(UniqueLog::begin(dir, self.all())?);
                Ok(())
            }
        }
    }

    /// All nonces, shard by shard, so that no lock is held while the disk is busy.
    fn all(&self) -> impl Iterator<Item = Entry> {
        self.shards.iter().flat_map(|shard| {
            let shard = lock(&shard.0);
            let slots = shard.as_ref().map_or(0, Chains::slots);
            let entries = (0..slots).filter_map(|slot| {
                let nonce = shard.as_ref()?.at(u32::try_from(slot).ok()?)?;
                let key = self.keys.account(nonce.key).filter(|_| nonce.key != FREE)?;
                Some(Entry { nonce: nonce.digest, key })
            });
            entries.collect::<Vec<_>>()
        })
    }

    fn forget(&self, entry: Entry) {
        let Some((mut shard, hash)) = self.shard(entry.nonce) else { return };
        let Some(slot) = find(&shard, hash, entry.nonce) else { return };
        let Some(nonces) = &mut *shard else { return };
        if let Some(nonce) = nonces.remove(hash.chain(), slot) {
            self.keys.release(nonce.key);
            self.live.fetch_sub(1, Ordering::Relaxed);
        }
        if let Some(freed) = nonces.at_mut(slot) {
            freed.key = FREE;
        }
    }

    fn insert(&self, shard: &mut Shard, hash: Hash, nonce: Nonce) {
        shard
            .get_or_insert_with(|| Chains::reserve(self.capacity.div_ceil(SHARDS), None))
            .insert(hash.chain(), nonce);
    }

    fn shard(&self, nonce: [u8; 16]) -> Option<(MutexGuard<'_, Shard>, Hash)> {
        let hash = self.mixer.of_16(nonce);
        Some((lock(&self.shards.get(hash.shard())?.0), hash))
    }

    /// What the writer would write next.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> Vec<Entry> {
        lock(&self.queue).entries.clone()
    }

    /// Lets the log fail, from now on or no longer.
    #[cfg(test)]
    pub(super) fn fail(&self, fault: Option<super::unique_log::Fault>) {
        if let Some(log) = &mut *lock(&self.log) {
            log.fault = fault;
        }
    }
}

impl Entering<'_> {
    /// Remembers the nonce. It is accepted only if the batch that this returns gets written; at once where nothing
    /// is kept on a disk.
    pub(super) fn record(mut self) -> Result<Option<Arc<Batch>>, Full> {
        let unique = self.unique;
        let taken = unique.live.fetch_add(1, Ordering::Relaxed);
        let key = if taken < unique.capacity { unique.keys.take(self.entry.key) } else { None };
        let Some(key) = key else {
            unique.live.fetch_sub(1, Ordering::Relaxed);
            return Err(Full);
        };
        unique.insert(&mut self.shard, self.hash, Nonce { digest: self.entry.nonce, key });
        if unique.keeping != Keeping::Durable {
            return Ok(None);
        }
        let mut queue = lock(&unique.queue);
        queue.entries.push(self.entry);
        Ok(Some(Arc::clone(&queue.batch)))
    }
}

impl Batch {
    /// Ready once the disk has the batch (true) or did not take it (false).
    pub(super) fn poll_end(&self, place: &mut Option<usize>, context: &Context<'_>) -> Poll<bool> {
        let mut waiting = lock(&self.waiting);
        match self.outcome.load(Ordering::Acquire) {
            WRITTEN => return Poll::Ready(true),
            FAILED => return Poll::Ready(false),
            _ => {}
        }
        if let Some(waker) = place.and_then(|place| waiting.get_mut(place)) {
            waker.clone_from(context.waker());
        } else {
            *place = Some(waiting.len());
            waiting.push(context.waker().clone());
        }
        Poll::Pending
    }

    fn end(&self, written: bool) {
        self.outcome.store(if written { WRITTEN } else { FAILED }, Ordering::Release);
        let waiting = std::mem::take(&mut *lock(&self.waiting));
        for waker in waiting {
            waker.wake();
        }
    }
}

fn find(shard: &Shard, hash: Hash, nonce: [u8; 16]) -> Option<u32> {
    shard.as_ref()?.find(hash.chain(), |known| known.digest == nonce)
}

fn short(key: [u8; 16]) -> u64 {
    key.first_chunk().copied().map_or(0, u64::from_le_bytes)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A slot whose nonce was forgotten.
const FREE: AccountSlot = AccountSlot(u32::MAX);
const WRITTEN: u8 = 1;
const FAILED: u8 = 2;
/// Keys beyond this many only make the chains of their counts longer.
const KEYS_EXPECTED: usize = 4_096;
