//! Raises in the shared store what the registry says of epochs of keys, so that a gateway that has not heard of a
//! revocation, a frozen account or a stopped application yet is refused there.
//!
//! Every gateway does so, and what is missed binds by the feed: within the age that routes allow.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;
use tokio::sync::Semaphore;

use super::LiveGate;
use crate::key::Tag;
use crate::registry::book::{Kind, Query, Record, Registry, RegistryError};
use crate::registry::opened;
use crate::store::live::LiveStore;

/// What raises them, where there is a shared store.
#[derive(Clone)]
pub(super) struct Epochs {
    gate: Arc<LiveGate>,
    registry: Arc<dyn Registry>,
    /// How many may be raised at a time.
    turns: Arc<Semaphore>,
    /// Those of accounts and applications. They never fall.
    holders: Arc<Mutex<HashMap<(Kind, String), u64>>>,
}

/// A key whose epoch is to be raised.
struct Risen {
    id: String,
    account: String,
    application: Option<String>,
    epoch: u64,
}

impl Epochs {
    pub(super) fn new(gate: Arc<LiveGate>, registry: Arc<dyn Registry>) -> Self {
        let turns = Arc::new(Semaphore::new(AT_A_TIME));
        Self { gate, registry, turns, holders: Arc::default() }
    }

    /// Raises the epoch of a key. Called on the control plane; it does not wait.
    pub(super) fn raise(&self, record: &Record) {
        if self.is_shared() {
            match Risen::of(record) {
                Ok(risen) => drop(tokio::spawn(self.clone().raise_one(risen))),
                Err(error) => failed(&record.id, &error),
            }
        }
    }

    /// Raises those of all keys of an account or application, which has changed. It does not wait either.
    pub(super) fn raise_all(&self, record: &Record) {
        if self.is_shared() {
            let before = self.known(record.kind, &record.id);
            match epoch_in(record) {
                // Nothing was taken from its keys.
                Ok(epoch) if before.unwrap_or(0) >= epoch => {}
                Ok(epoch) => {
                    self.learn(record.kind, &record.id, epoch);
                    tokio::spawn(self.clone().raise_each(record.kind, record.id.clone()));
                }
                Err(error) => failed(&record.id, &error),
            }
        }
    }

    fn is_shared(&self) -> bool {
        matches!(self.gate.store, LiveStore::Shared(_))
    }

    async fn raise_each(self, kind: Kind, name: String) {
        let of = Some(name.clone());
        let (account, application) = if kind == Kind::Account { (of, None) } else { (None, of) };
        let mut query = Query { kind: Kind::Key, account, application, after: None, limit: PAGE };
        loop {
            let page = match self.registry.list(query.clone()).await {
                Ok(page) => page,
                Err(error) => return failed(&name, &error),
            };
            query.after = page.last().map(|last| last.id.clone());
            for record in &page {
                match Risen::of(record) {
                    Ok(risen) => self.clone().raise_one(risen).await,
                    Err(error) => failed(&record.id, &error),
                }
            }
            if page.len() < PAGE {
                return;
            }
        }
    }

    /// Raises one when it is its turn, and does not wait until the store has answered.
    async fn raise_one(self, risen: Risen) {
        // It is never closed.
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        let epoch = match self.whole(&risen).await {
            Ok(epoch) => epoch,
            Err(error) => return failed(&risen.id, &error),
        };
        tokio::spawn(async move {
            let LiveStore::Shared(store) = &self.gate.store else { return };
            let (account, key) = (Tag::of(&risen.account).short(), Tag::of(&risen.id));
            if store.raise(account, key.0, epoch).await == 0 {
                tracing::warn!("no server of the shared store heard of a key's new epoch");
            }
            drop(turn);
        });
    }

    /// The epoch that the key is admitted under.
    async fn whole(&self, risen: &Risen) -> Result<u64, RegistryError> {
        let account = self.find(Kind::Account, &risen.account).await?;
        let application = match &risen.application {
            Some(name) => self.find(Kind::Application, name).await?,
            None => 0,
        };
        Ok(risen.epoch + account + application)
    }

    async fn find(&self, kind: Kind, name: &str) -> Result<u64, RegistryError> {
        if let Some(known) = self.known(kind, name) {
            return Ok(known);
        }
        let found = self.registry.find(kind, name).await?;
        let epoch = found.as_ref().map(epoch_in).transpose()?.unwrap_or(0);
        Ok(self.learn(kind, name, epoch))
    }

    fn known(&self, kind: Kind, name: &str) -> Option<u64> {
        let holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        holders.get(&(kind, name.to_owned())).copied()
    }

    /// What was learnt in the meantime may be later.
    fn learn(&self, kind: Kind, name: &str, epoch: u64) -> u64 {
        let mut holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        if holders.len() >= MOST_HOLDERS {
            holders.clear();
        }
        let known = holders.entry((kind, name.to_owned())).or_default();
        *known = epoch.max(*known);
        *known
    }
}

impl Risen {
    fn of(record: &Record) -> Result<Self, RegistryError> {
        let says = opened::read(record).map_err(|why| RegistryError::Damaged(why.to_string()))?;
        let (account, application, epoch) = (says.account, says.application, says.epoch);
        Ok(Self { id: record.id.clone(), account, application, epoch })
    }
}

/// What the records of accounts and applications have in common.
#[derive(Deserialize)]
struct Holder {
    #[serde(default)]
    epoch: u64,
}

fn epoch_in(record: &Record) -> Result<u64, RegistryError> {
    let says: Result<Holder, _> = serde_json::from_slice(&record.body);
    let damaged = |why: serde_json::Error| {
        RegistryError::Damaged(format!("{} {}: line {}", record.kind.name(), record.id, why.line()))
    };
    says.map(|says| says.epoch).map_err(damaged)
}

fn failed(id: &str, error: &RegistryError) {
    tracing::error!(id, %error, "the shared store does not know all new epochs");
}

const PAGE: usize = 1_000;
/// Calls under way: 100,000 keys are raised within seconds, and requests find room beside them.
const AT_A_TIME: usize = 64;
const MOST_HOLDERS: usize = 10_000;
