//! The keys that workers look up: those of the configuration, and those of a registry that were asked for lately.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::endings::Endings;
use super::fixed::FixedKeys;
use super::flights::{Flights, Wanted};
use super::gossip::Word;
use super::live::Live;
use super::{Keys, Looked, Nearest, Unavailable};
use crate::clock::Clock;
use crate::key::Key;

pub use super::live::Counts;

/// Keys of the configuration, which are always current, and those of a registry, if there is one.
///
/// A key of the registry is found in memory once it was asked for, and is current as long as a
/// [`Follower`](super::feed::Follower) has lately confirmed that nothing has changed.
#[derive(Debug, Default)]
pub struct KeyCache {
    fixed: FixedKeys,
    live: Option<Arc<Live>>,
}

/// The other end of a cache, for whoever follows the registry.
#[derive(Debug)]
pub struct Unfollowed {
    pub(super) live: Arc<Live>,
    pub(super) wanted: mpsc::UnboundedReceiver<Wanted>,
}

impl KeyCache {
    /// Those of the configuration alone.
    pub fn of(fixed: FixedKeys) -> Self {
        Self { fixed, live: None }
    }

    /// Those of the configuration, and about `capacity` of a registry's at a time. Until somebody follows the registry
    /// it gives out none of them.
    pub fn over(fixed: FixedKeys, capacity: usize, clock: Arc<dyn Clock>) -> (Self, Unfollowed) {
        let (flights, wanted) = Flights::new();
        let live = Arc::new(Live::new(capacity, clock, flights));
        (Self { fixed, live: Some(Arc::clone(&live)) }, Unfollowed { live, wanted })
    }

    /// How many keys the configuration holds.
    pub fn fixed(&self) -> usize {
        self.fixed.len()
    }

    /// Whether it is known what the registry holds, if there is one.
    pub fn is_informed(&self) -> bool {
        self.live.as_ref().is_none_or(|live| live.is_informed())
    }

    /// The registry's revision up to which every change is kept to; `None` where there is no registry.
    pub fn revision(&self) -> Option<u64> {
        self.live.as_ref().map(|live| live.revision())
    }

    /// Last uses of a registry's secrets that were not given out here before, at most `most` of them: to be told to
    /// the registry. Those of one secret lie a minute apart.
    pub fn take_uses(&self, most: usize) -> Vec<Word> {
        self.live.as_ref().map_or_else(Vec::new, |live| live.take_uses(most))
    }

    /// How it stands with a registry's keys; `None` where there is no registry.
    pub fn counts(&self) -> Option<Counts> {
        self.live.as_ref().map(|live| live.counts())
    }
}

impl Keys for KeyCache {
    async fn find(&self, id: &str, max_age: Duration) -> Result<Option<Arc<Key>>, Unavailable> {
        Ok(self.look(id, max_age).await?.and_then(Nearest::into_key))
    }

    async fn look(&self, id: &str, max_age: Duration) -> Result<Looked, Unavailable> {
        let fixed = self.fixed.named(id);
        match &self.live {
            Some(live) if !fixed.as_ref().is_some_and(Nearest::is_named) => {
                live.look(id, max_age).await
            }
            Some(_) | None => Ok(fixed),
        }
    }

    fn is_current(&self, max_age: Duration) -> bool {
        self.live.as_ref().is_none_or(|live| live.age() <= max_age)
    }

    fn endings(&self) -> Option<&Arc<Endings>> {
        self.live.as_ref().map(|live| &live.endings)
    }
}
