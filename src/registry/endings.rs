//! Which keys have ended while requests under way had them, so that those requests can be cut.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::key::Key;

/// Keys that have ended while they were in use, each kept as long as it is.
///
/// Whoever has a key notes [`Endings::count`] before it looks the key up, and asks [`Endings::holds`] when the count
/// has changed: until then a request costs one read.
#[derive(Default)]
pub struct Endings {
    count: AtomicU64,
    keys: Mutex<Vec<Arc<Key>>>,
}

impl Endings {
    /// How many there were ever.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// Whether this very key, as it was looked up, is one of them.
    pub fn holds(&self, key: &Arc<Key>) -> bool {
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.iter().any(|ended| Arc::ptr_eq(ended, key))
    }

    /// `key` has ended: no lookup gives it out any more.
    #[cfg(feature = "server")]
    pub(super) fn add(&self, key: Arc<Key>) {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.retain(|ended| Arc::strong_count(ended) > 1);
        keys.push(key);
        self.count.fetch_add(1, Ordering::Release);
    }
}

impl fmt::Debug for Endings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endings({})", self.count())
    }
}
