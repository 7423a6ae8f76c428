//! Where keys come from.

#[cfg(feature = "server")]
pub mod bans;
#[cfg(feature = "server")]
pub mod book;
#[cfg(feature = "server")]
pub mod cache;
#[cfg(feature = "server")]
pub mod embedded;
pub mod endings;
#[cfg(feature = "server")]
pub mod feed;
#[cfg(feature = "server")]
mod filter;
pub mod fixed;
#[cfg(feature = "server")]
mod flights;
#[cfg(feature = "server")]
pub mod gossip;
#[cfg(feature = "server")]
mod held;
#[cfg(feature = "server")]
mod live;
#[cfg(feature = "server")]
pub mod location;
#[cfg(feature = "server")]
mod looker;
#[cfg(feature = "server")]
pub mod migrate;
#[cfg(feature = "server")]
mod negatives;
#[cfg(feature = "server")]
mod news;
#[cfg(feature = "server")]
pub mod opened;
#[cfg(feature = "server")]
mod plan;
#[cfg(feature = "server")]
pub mod postgres;
#[cfg(feature = "server")]
pub mod records;

use std::sync::Arc;
use std::time::Duration;

use self::endings::Endings;
use crate::key::Key;
#[cfg(feature = "server")]
pub use location::{Location, open};

/// The registry could not be asked, or its answer is older than the route allows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Unavailable;

/// A key that was read in place of one that is not there. Nothing can be done with it but to let go of it where that one
/// would have been let go of: then that takes as long.
#[derive(Debug)]
pub struct StandIn {
    _read: Arc<Key>,
}

impl StandIn {
    pub(crate) fn of(key: Arc<Key>) -> Self {
        Self { _read: key }
    }
}

/// What a lookup for a request that has proved nothing comes to: the key, or what may have been read in its place.
pub type Looked = Result<Arc<Key>, Option<StandIn>>;

/// Looks keys up by their public id.
pub trait Keys {
    /// The key named `id`, known to be current no longer than `max_age` ago; `None` when there is none.
    ///
    /// Not required to be `Send`: each worker thread awaits its own requests.
    fn find(
        &self,
        id: &str,
        max_age: Duration,
    ) -> impl Future<Output = Result<Option<Arc<Key>>, Unavailable>>;

    /// The same for whoever has proved nothing, and must not learn by the time it takes whether there is such a key.
    fn look(
        &self,
        id: &str,
        max_age: Duration,
    ) -> impl Future<Output = Result<Looked, Unavailable>> {
        async move { Ok(self.find(id, max_age).await?.ok_or(None)) }
    }

    /// Whether what is known of keys is no older than this, or always current.
    fn is_current(&self, _max_age: Duration) -> bool {
        true
    }

    /// Where it is noted which keys have ended while they were in use; `None` where none ever does.
    fn endings(&self) -> Option<&Arc<Endings>> {
        None
    }
}
