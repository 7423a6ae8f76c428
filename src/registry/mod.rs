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

use std::hint::{black_box, select_unpredictable};
use std::sync::Arc;
use std::time::Duration;

use self::endings::Endings;
use crate::key::{Algorithm, Key, Secret, State};
#[cfg(feature = "server")]
pub use location::{Location, open};

/// The registry could not be asked, or its answer is older than the route allows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Unavailable;

/// What was read for an id: the key of that name, or one that was read in place of it since there is none.
///
/// Which of them it is decides what is taken of it, and not which way the work goes: so time does not tell. Nothing can
/// be done with a key that stands in but to let go of it, where that other one would have been let go of.
#[derive(Debug)]
pub struct Nearest {
    read: Arc<Key>,
    is_named: bool,
}

impl Nearest {
    /// The key of that name.
    pub fn named(key: Arc<Key>) -> Self {
        Self::read(key, true)
    }

    /// The key of that name where `is_named` says so.
    pub(crate) fn read(key: Arc<Key>, is_named: bool) -> Self {
        Self { read: key, is_named: black_box(is_named) }
    }

    /// Whether it is the key of that name.
    pub fn is_named(&self) -> bool {
        self.is_named
    }

    /// The key, if it is the one of that name.
    pub fn into_key(self) -> Option<Arc<Key>> {
        self.is_named.then_some(self.read)
    }

    /// Whether it is the key of that name and one of this dialect.
    pub(crate) fn is_of(&self, dialect: &Arc<str>) -> bool {
        // One name is compared with itself, and most often both are one.
        let own = black_box(select_unpredictable(self.is_named, &self.read.dialect, dialect));
        (Arc::ptr_eq(own, dialect) || own == dialect) & self.is_named
    }

    /// Whether it is the key of that name and in use.
    pub(crate) fn is_active(&self) -> bool {
        self.is_named && self.read.state == State::Active
    }

    /// The account of that key, or of the one that stands in, as a hash: to be looked for, and not told.
    pub(crate) fn account(&self) -> u64 {
        self.read.account_tag.short()
    }

    /// How that key signs, or the one that stands in.
    pub(crate) fn algorithm(&self) -> Algorithm {
        self.read.secret.algorithm()
    }

    /// What `of` finds among the key's secrets, where it is the key of that name and `which` holds; else `other`. And
    /// whether it is the key's.
    pub(crate) fn secret_or<'a>(
        &'a self,
        of: impl FnOnce(&'a Key) -> Option<&'a Secret>,
        which: bool,
        other: &'a Secret,
    ) -> (&'a Secret, bool) {
        let found = of(&self.read);
        let is_own = found.is_some() & which & self.is_named;
        let secret = select_unpredictable(is_own, found.unwrap_or(other), other);
        (black_box(secret), black_box(is_own))
    }
}

/// What a lookup for a request that has proved nothing comes to; `None` where there was nothing to read.
pub type Looked = Option<Nearest>;

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
        async move { Ok(self.find(id, max_age).await?.map(Nearest::named)) }
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
