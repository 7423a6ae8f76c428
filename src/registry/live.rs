//! What the workers and the follower share of a registry: the keys that were looked up, which ids there can be, and how
//! current that is.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::endings::Endings;
use super::filter::Filter;
use super::flights::{Flights, Found, Joined, Wanted};
use super::gossip::{Word, of_secret};
use super::held::Held;
use super::negatives::Negatives;
use super::{Looked, Nearest, Unavailable};
use crate::clock::{Clock, Micros};
use crate::key::{Key, KeyId, Tag};

/// A registry as the workers see it.
pub(super) struct Live {
    held: Held,
    pub(super) filter: Filter,
    pub(super) negatives: Negatives,
    flights: Flights,
    pub(super) endings: Arc<Endings>,
    /// Keys that are held no longer, and that requests under way may have.
    adrift: Mutex<Vec<Arc<Key>>>,
    /// The last moment at which nothing had changed that is not applied; 0 before the first.
    known_as_of: AtomicU64,
    revision: AtomicU64,
    /// Whether the registry answered when it was last asked.
    reached: AtomicBool,
    clock: Arc<dyn Clock>,
    loaded: AtomicU64,
    absent: AtomicU64,
    filtered: AtomicU64,
    unavailable: AtomicU64,
}

/// How the cache of a registry's keys stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Counts {
    /// Keys held.
    pub held: usize,
    /// Ids that there are; `None` as long as that is not known.
    pub known: Option<usize>,
    /// Lookups that found their key in memory.
    pub hits: u64,
    /// Those that got it from the registry.
    pub loaded: u64,
    /// Those for which the registry has no usable key.
    pub absent: u64,
    /// Those of ids that do not exist, as was known in memory.
    pub filtered: u64,
    /// Those that were refused, for want of an answer or of knowledge that is current enough.
    pub unavailable: u64,
    /// How old the knowledge of keys is; `None` where there never was any.
    pub age: Option<Duration>,
    /// The registry's revision up to which everything is applied.
    pub revision: u64,
}

impl Live {
    pub(super) fn new(capacity: usize, clock: Arc<dyn Clock>, flights: Flights) -> Self {
        Self {
            held: Held::new(capacity),
            filter: Filter::default(),
            negatives: Negatives::default(),
            flights,
            endings: Arc::default(),
            adrift: Mutex::default(),
            known_as_of: AtomicU64::new(0),
            revision: AtomicU64::new(0),
            reached: AtomicBool::new(false),
            clock,
            loaded: AtomicU64::new(0),
            absent: AtomicU64::new(0),
            filtered: AtomicU64::new(0),
            unavailable: AtomicU64::new(0),
        }
    }

    /// The key named `id`, as [`Keys::look`](super::Keys::look) has it.
    ///
    /// A key that is not held is looked up in the registry, which takes longer than to know of an id that there is no key:
    /// whoever knows an id can tell by the first request for it in a while that it exists, and nothing of its secret.
    pub(super) async fn look(&self, id: &str, max_age: Duration) -> Result<Looked, Unavailable> {
        if self.age() > max_age {
            count(&self.unavailable);
            return Err(Unavailable);
        }
        let hash = self.held.hash(id);
        let is_denied = self.negatives.holds(hash);
        let nearest = self.held.find(id, hash, is_denied);
        // One way for both, since whoever proves nothing could time them.
        if is_denied | nearest.as_ref().is_some_and(Nearest::is_named) {
            return Ok(nearest);
        }
        // Whatever is created from here on makes a note of its absence void.
        let generation = self.negatives.generation();
        let tag = Tag::of(id);
        let known = self.filter.may_hold(tag.short());
        if known == Some(false) {
            count(&self.filtered);
            self.negatives.note(hash, generation);
            return Ok(nearest);
        }
        // Held for as long as that takes it would look like one in use.
        drop(nearest);
        let found = Box::pin(self.ask(Wanted { id: id.into(), tag }, known.is_some())).await;
        match &found {
            Ok(Some(_)) => count(&self.loaded),
            Ok(None) => {
                count(&self.absent);
                self.negatives.note(hash, generation);
            }
            Err(Unavailable) => count(&self.unavailable),
        }
        found.map(|found| found.map(Nearest::named))
    }

    /// Has the control plane look a key up, once for all who want it, and waits no longer than may be.
    async fn ask(&self, wanted: Wanted, filtered: bool) -> Found {
        if !self.reached.load(Ordering::Acquire) {
            return Err(Unavailable);
        }
        let Joined(answer) = self.flights.join(wanted, filtered)?;
        match tokio::time::timeout(LOOKUP_DEADLINE, answer).await {
            Ok(Ok(found)) => found,
            Ok(Err(_)) | Err(_) => Err(Unavailable),
        }
    }

    /// What was looked up is given to whoever waits for it, and kept. False where the registry has changed in between:
    /// then it must be looked up again.
    pub(super) fn land(&self, tag: Tag, found: &Found) -> bool {
        self.flights.land(tag, found, |key| {
            if let Some(displaced) = self.held.insert(Arc::clone(key)) {
                self.cast_off(displaced);
            }
        })
    }

    /// Takes the key out, so that it is looked up anew, and gives back all of it that requests under way may have.
    pub(super) fn take(&self, id: &KeyId, tag: Tag) -> Vec<Arc<Key>> {
        self.flights.overtake(tag);
        let mut taken = self.take_adrift(|key| key.id == *id);
        taken.extend(self.held.remove(id));
        taken.retain(|key| Arc::strong_count(key) > 1);
        taken
    }

    /// The same for every key of which `which` holds.
    pub(super) fn take_all(&self, which: impl Fn(&Key) -> bool) -> Vec<Arc<Key>> {
        self.flights.overtake_all();
        let mut taken = self.take_adrift(&which);
        taken.extend(self.held.remove_all(which));
        taken.retain(|key| Arc::strong_count(key) > 1);
        taken
    }

    /// Keeps an eye on a key that is not held, as long as a request under way has it.
    pub(super) fn cast_off(&self, key: Arc<Key>) {
        let mut adrift = self.adrift.lock().unwrap_or_else(PoisonError::into_inner);
        adrift.retain(|key| Arc::strong_count(key) > 1);
        adrift.push(key);
    }

    fn take_adrift(&self, which: impl Fn(&Key) -> bool) -> Vec<Arc<Key>> {
        let mut adrift = self.adrift.lock().unwrap_or_else(PoisonError::into_inner);
        let (taken, rest) = adrift.drain(..).partition(|key| which(key));
        *adrift = rest;
        taken
    }

    /// Uses of secrets that were not told, at most `most`: those of one secret a minute apart.
    pub(super) fn take_uses(&self, most: usize) -> Vec<Word> {
        let mut uses = Vec::new();
        self.held.each(|key| {
            let outgoing = key.outgoing().map(|(secret, _)| secret);
            for secret in std::iter::once(&key.secret).chain(outgoing) {
                if uses.len() < most
                    && let Some((number, at)) = secret.take_use(COARSE)
                {
                    uses.push(Word { id: of_secret(&key.id, number), at, detail: 0 });
                }
            }
        });
        uses
    }

    /// Nothing is known any more.
    pub(super) fn forget(&self) {
        self.known_as_of.store(0, Ordering::Release);
        self.filter.forget();
        self.negatives.lapse();
        for key in self.take_all(|_| true) {
            self.cast_off(key);
        }
        self.flights.refill();
    }

    /// At `moment` nothing had changed that is not applied, which is everything up to `revision`.
    pub(super) fn confirm(&self, moment: Micros, revision: u64) {
        self.revision.store(revision, Ordering::Release);
        self.known_as_of.store(moment.0, Ordering::Release);
    }

    /// Whether the registry answers.
    pub(super) fn set_reached(&self, reached: bool) {
        self.reached.store(reached, Ordering::Release);
    }

    pub(super) fn now(&self) -> Micros {
        self.clock.now()
    }

    /// Whether all changes are known as of some moment, and keys can be looked up.
    pub(super) fn is_informed(&self) -> bool {
        self.known_as_of.load(Ordering::Acquire) > 0 && self.reached.load(Ordering::Acquire)
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    pub(super) fn age(&self) -> Duration {
        self.now().since(Micros(self.known_as_of.load(Ordering::Acquire)))
    }

    pub(super) fn counts(&self) -> Counts {
        let (held, hits, denied) = self.held.counts();
        let total = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let known_as_of = self.known_as_of.load(Ordering::Acquire);
        Counts {
            held,
            known: self.filter.len(),
            hits,
            loaded: total(&self.loaded),
            absent: total(&self.absent),
            filtered: denied + total(&self.filtered),
            unavailable: total(&self.unavailable),
            age: (known_as_of > 0).then(|| self.age()),
            revision: self.revision(),
        }
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Uses of one secret are told so many seconds apart.
const COARSE: u32 = 60;
/// The longest that a request waits for a key to be looked up, and a lookup for the registry.
pub(super) const LOOKUP_DEADLINE: Duration = Duration::from_secs(1);

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").field("held", &self.held).finish_non_exhaustive()
    }
}
