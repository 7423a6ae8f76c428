//! Lookups under way: one for each id, however many want it, and none that a change has overtaken.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot};

use super::Unavailable;
use crate::key::{Key, KeyId, Tag};

/// What a lookup comes to.
pub(super) type Found = Result<Option<Arc<Key>>, Unavailable>;

/// What the control plane is to look up.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) id: KeyId,
    pub(super) tag: Tag,
}

/// The answer to come.
pub(super) struct Joined(pub(super) oneshot::Receiver<Found>);

/// The lookups under way.
pub(super) struct Flights {
    under_way: Mutex<HashMap<Tag, Flight>>,
    wanted: mpsc::UnboundedSender<Wanted>,
    /// How many more may begin before it is known which ids there are.
    unfiltered: AtomicUsize,
}

#[derive(Default)]
struct Flight {
    waiting: Vec<oneshot::Sender<Found>>,
    /// Whether what it looks for may have changed since it began.
    overtaken: bool,
}

impl Flights {
    /// What is wanted comes out at the other end.
    pub(super) fn new() -> (Self, mpsc::UnboundedReceiver<Wanted>) {
        let (wanted, receiver) = mpsc::unbounded_channel();
        let under_way = Mutex::default();
        (Self { under_way, wanted, unfiltered: MOST_UNFILTERED.into() }, receiver)
    }

    /// Waits with whoever else wants the same, or begins a lookup. `filtered` is whether the id is known to exist.
    pub(super) fn join(&self, wanted: Wanted, filtered: bool) -> Result<Joined, Unavailable> {
        let (sender, answer) = oneshot::channel();
        let mut flights = self.lock();
        if let Some(flight) = flights.get_mut(&wanted.tag) {
            flight.waiting.push(sender);
            return Ok(Joined(answer));
        }
        if flights.len() >= MOST || !(filtered || self.may_begin_unfiltered()) {
            return Err(Unavailable);
        }
        let tag = wanted.tag;
        self.wanted.send(wanted).map_err(|_| Unavailable)?;
        // Nobody can end it before: this is under the lock.
        flights.insert(tag, Flight { waiting: vec![sender], overtaken: false });
        Ok(Joined(answer))
    }

    /// Ends a lookup: `keep` is called before anybody gets what was found, and only where nothing has overtaken it. If
    /// something has, nothing ends, and it must be looked up again.
    pub(super) fn land(&self, tag: Tag, found: &Found, keep: impl FnOnce(&Arc<Key>)) -> bool {
        let mut flights = self.lock();
        let Some(flight) = flights.get_mut(&tag) else { return true };
        if found.is_ok() && std::mem::take(&mut flight.overtaken) {
            return false;
        }
        if let Ok(Some(key)) = found {
            keep(key);
        }
        let waiting = flights.remove(&tag).map(|flight| flight.waiting).unwrap_or_default();
        drop(flights);
        for sender in waiting {
            // An error means that nobody waits any more.
            let _ = sender.send(found.clone());
        }
        true
    }

    /// What this one looks for may have changed.
    pub(super) fn overtake(&self, tag: Tag) {
        if let Some(flight) = self.lock().get_mut(&tag) {
            flight.overtaken = true;
        }
    }

    /// What any of them looks for may have changed.
    pub(super) fn overtake_all(&self) {
        self.lock().values_mut().for_each(|flight| flight.overtaken = true);
    }

    /// It is about to be learned anew which ids there are.
    pub(super) fn refill(&self) {
        self.unfiltered.store(MOST_UNFILTERED, Ordering::Relaxed);
    }

    fn may_begin_unfiltered(&self) -> bool {
        let less = |left: usize| left.checked_sub(1);
        self.unfiltered.try_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Tag, Flight>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lookups of different ids at a time.
pub(super) const MOST: usize = 1_024;
/// Lookups before it is known which ids there are.
pub(super) const MOST_UNFILTERED: usize = 4_096;

impl fmt::Debug for Flights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Flights(..)")
    }
}
