//! The store of a running gateway: embedded, or shared with others.

use super::memory::MemoryStore;
use super::redis::RedisStore;
use super::{Charge, Cost, Identity, Receipt, Store, Verdict};
use crate::clock::{Clock, Micros};

/// One of the two stores.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one of it, and the embedded one is asked most"
)]
#[derive(Debug)]
pub enum LiveStore<C> {
    /// In this process.
    Embedded(MemoryStore),
    /// In Redis.
    Shared(Box<RedisStore<C>>),
}

impl<C: Clock> LiveStore<C> {
    /// What this process counts for itself: everything, or the limits that span accounts.
    pub fn local(&self) -> &MemoryStore {
        match self {
            Self::Embedded(store) => store,
            Self::Shared(store) => store.local(),
        }
    }

    /// When the first stamp that is judged can be signed; `None` as long as the servers do not say.
    pub fn ready_at(&self) -> Option<Micros> {
        match self {
            Self::Embedded(store) => Some(store.ready_at()),
            Self::Shared(store) => store.ready_at(),
        }
    }

    /// Whether a stamp signed at `now` would be judged.
    pub fn fence_passed(&self, now: Micros) -> bool {
        self.ready_at().is_some_and(|ready| now >= ready)
    }

    /// Whether the state directory, if there is one, has taken the mark without which nothing signed at `now` is judged.
    pub fn is_noted(&self, now: Micros) -> bool {
        self.local().is_noted(now)
    }

    /// Looks after what is shared, for as long as it is polled.
    pub async fn watch(&self) {
        match self {
            Self::Embedded(_) => std::future::pending().await,
            Self::Shared(store) => store.watch().await,
        }
    }
}

impl<C: Clock> Store for LiveStore<C> {
    #[inline]
    fn foresee(&self, identity: Identity, signed_at: Option<Micros>, account: u64) {
        match self {
            Self::Embedded(store) => store.foresee(identity, signed_at, account),
            Self::Shared(store) => store.foresee(identity, signed_at, account),
        }
    }

    async fn spend(&self, charge: &Charge) -> Verdict {
        match self {
            Self::Embedded(store) => store.spend(charge).await,
            // Boxed, so that requests of the embedded store have less to carry along.
            Self::Shared(store) => Box::pin(store.spend(charge)).await,
        }
    }

    fn give_back(&self, receipt: &Receipt, now: Micros) {
        match self {
            Self::Embedded(store) => store.give_back(receipt, now),
            Self::Shared(store) => store.give_back(receipt, now),
        }
    }

    async fn pay(&self, now: Micros, costs: &[Cost]) -> Verdict {
        match self {
            Self::Embedded(store) => store.pay(now, costs).await,
            Self::Shared(store) => store.pay(now, costs).await,
        }
    }
}
