//! Keys from the configuration: all in memory, always current.

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use dashmap::{DashMap, Entry};
use foldhash::fast::RandomState;

use super::{Keys, Unavailable};
use crate::key::Key;

/// A set of keys in memory.
#[derive(Debug, Default)]
pub struct FixedKeys(DashMap<ById, (), RandomState>);

impl FixedKeys {
    /// Adds a key, or replaces the one of the same id.
    pub fn insert(&self, key: Key) {
        // Not `insert`: that keeps the name it has, and here the name is the old key.
        match self.0.entry(ById(Arc::new(key))) {
            Entry::Occupied(old) => drop(old.replace_entry(())),
            Entry::Vacant(place) => drop(place.insert(())),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Key> for FixedKeys {
    fn from_iter<I: IntoIterator<Item = Key>>(keys: I) -> Self {
        let all = Self::default();
        keys.into_iter().for_each(|key| all.insert(key));
        all
    }
}

impl Keys for FixedKeys {
    async fn find(&self, id: &str, _max_age: Duration) -> Result<Option<Arc<Key>>, Unavailable> {
        Ok(self.0.get(id).map(|entry| Arc::clone(&entry.key().0)))
    }
}

/// A key under its own id, which is so held once and found without another step.
#[derive(Debug)]
struct ById(Arc<Key>);

impl Borrow<str> for ById {
    fn borrow(&self) -> &str {
        &self.0.id
    }
}

impl Hash for ById {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.id.hash(state);
    }
}

impl PartialEq for ById {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for ById {}
