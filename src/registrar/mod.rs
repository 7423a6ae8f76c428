//! The acts of the control plane: what may be done to keys, accounts, applications, switches and second factors, each
//! written to the registry with who did it and why.
//!
//! What is decided is decided by [`lifecycle`](crate::key::lifecycle); here it is read, written by compare-and-set,
//! and tried again where somebody else wrote in between.

mod accounts;
mod applications;
mod clear;
mod error;
mod factors;
mod import;
mod keys;
mod material;
mod rewrap;
mod sweep;
mod switches;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::clock::{Clock, Micros};
use crate::key::sealing::MasterKeys;
use crate::registry::book::{Change, Kind, Note, Query, Record, Registry, RegistryError, Write};
use crate::registry::opened::Names;

pub use applications::{ApplicationChanges, NewApplication};
pub use clear::Clear;
pub use error::{Invalid, RegistrarError};
pub use factors::{Enrolment, is_removed};
pub use import::{Export, Import};
pub use keys::{Issued, KeyFilter, NewKey, Recovery};
pub use rewrap::Rewrapped;
pub use sweep::{Lost, Sweep, Sweeping, Swept};
pub use switches::ALL as EVERYTHING;

/// Who acts. The admin API knows them by their token or certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Actor {
    /// The name that the history keeps.
    pub name: String,
}

/// An act: who, why, and what it was decided on.
#[derive(Clone, Copy, Debug)]
pub struct Act<'a> {
    /// Who.
    pub actor: &'a Actor,
    /// Why, in their words.
    pub reason: Option<&'a str>,
    /// The version of the record that they saw; the act fails where it is another by now. Without one it is tried
    /// again on what stands there.
    pub version: Option<u64>,
}

impl<'a> Act<'a> {
    /// An act of `actor` on whatever version stands there.
    pub const fn by(actor: &'a Actor) -> Self {
        Self { actor, reason: None, version: None }
    }

    /// The same with its reason.
    #[must_use]
    pub const fn because(self, reason: Option<&'a str>) -> Self {
        Self { reason, ..self }
    }

    /// The same on this version alone.
    #[must_use]
    pub const fn at(self, version: Option<u64>) -> Self {
        Self { version, ..self }
    }

    fn note(&self, action: &str, at: Micros) -> Note {
        Note {
            at,
            actor: self.actor.name.clone(),
            action: action.to_owned(),
            reason: self.reason.map(ToOwned::to_owned),
        }
    }
}

/// A record with what it says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Kept<T> {
    /// Its name.
    pub id: String,
    /// Its version.
    pub version: u64,
    /// The registry's revision that brought it.
    pub revision: u64,
    /// What it says.
    pub says: T,
}

/// A part of a list, and where the next begins.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Page<T> {
    /// The records.
    pub items: Vec<Kept<T>>,
    /// The id to list on after; `None` at the end.
    pub next: Option<String>,
}

/// Performs acts on a registry.
#[derive(Clone)]
pub struct Registrar {
    registry: Arc<dyn Registry>,
    masters: MasterKeys,
    names: Arc<Names>,
    clock: Arc<dyn Clock>,
    unbound_trade: Option<Duration>,
}

impl fmt::Debug for Registrar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registrar").field("registry", &self.registry).finish_non_exhaustive()
    }
}

impl Registrar {
    /// A registrar of what `registry` keeps. Keys that are bound to no network lose `trade` after `unbound_trade`;
    /// never where it is `None`.
    pub fn new(
        registry: Arc<dyn Registry>,
        masters: MasterKeys,
        names: Arc<Names>,
        clock: Arc<dyn Clock>,
        unbound_trade: Option<Duration>,
    ) -> Self {
        Self { registry, masters, names, clock, unbound_trade }
    }

    /// The registry.
    pub fn registry(&self) -> &Arc<dyn Registry> {
        &self.registry
    }

    /// The master keys.
    pub fn masters(&self) -> &MasterKeys {
        &self.masters
    }

    /// What the configuration calls things.
    pub fn names(&self) -> &Arc<Names> {
        &self.names
    }

    /// Changes of one record, the newest first.
    pub async fn history(
        &self,
        kind: Kind,
        id: &str,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<Change>, RegistrarError> {
        Ok(self.registry.history(kind, id, before, limit).await?)
    }

    async fn find<T: DeserializeOwned>(
        &self,
        kind: Kind,
        id: &str,
    ) -> Result<Option<Kept<T>>, RegistrarError> {
        self.registry.find(kind, id).await?.map(|record| kept(&record)).transpose()
    }

    async fn page<T: DeserializeOwned>(&self, query: Query) -> Result<Page<T>, RegistrarError> {
        let limit = query.limit.clamp(1, LONGEST_PAGE);
        let records = self.registry.list(Query { limit: limit + 1, ..query }).await?;
        let more = records.len() > limit;
        let items = records.iter().take(limit).map(kept).collect::<Result<Vec<_>, _>>()?;
        let next = items.last().filter(|_| more).map(|last| last.id.clone());
        Ok(Page { items, next })
    }

    /// Replaces one record by what `next` makes of it, as often as somebody else is faster. What says the same as
    /// before is not written.
    async fn change<T, N>(
        &self,
        act: &Act<'_>,
        action: &str,
        kind: Kind,
        id: &str,
        mut next: N,
    ) -> Result<Kept<T>, RegistrarError>
    where
        T: Serialize + DeserializeOwned + PartialEq,
        N: FnMut(Option<&Kept<T>>) -> Result<T, RegistrarError>,
    {
        for _ in 0..TRIES {
            let found = self.find::<T>(kind, id).await?;
            let version = found.as_ref().map(|found| found.version);
            demanded(act, kind, id, version)?;
            let says = next(found.as_ref())?;
            match found {
                Some(found) if found.says == says => return Ok(found),
                Some(_) | None => {}
            }
            if let Some(done) = self.replace(act, action, kind, id, version, says).await? {
                return Ok(done);
            }
        }
        Err(RegistrarError::Busy)
    }

    /// Writes one record; `None` where somebody else was faster.
    async fn replace<T: Serialize>(
        &self,
        act: &Act<'_>,
        action: &str,
        kind: Kind,
        id: &str,
        version: Option<u64>,
        says: T,
    ) -> Result<Option<Kept<T>>, RegistrarError> {
        let write = written(kind, id, version, &says)?;
        match self.registry.commit(vec![write], act.note(action, self.clock.now())).await {
            Ok(revision) => {
                let version = version.unwrap_or(0) + 1;
                Ok(Some(Kept { id: id.to_owned(), version, revision, says }))
            }
            Err(RegistryError::Conflict { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Fails where the act demands another version than the one that stands there.
fn demanded(
    act: &Act<'_>,
    kind: Kind,
    id: &str,
    stands: Option<u64>,
) -> Result<(), RegistrarError> {
    if act.version.is_none_or(|demanded| stands == Some(demanded)) {
        return Ok(());
    }
    Err(RegistryError::Conflict { kind, id: id.to_owned(), version: stands }.into())
}

fn kept<T: DeserializeOwned>(record: &Record) -> Result<Kept<T>, RegistrarError> {
    let says = serde_json::from_slice(&record.body).map_err(|error| {
        // The text of the error could quote the body.
        RegistrarError::Damaged { kind: record.kind, id: record.id.clone(), line: error.line() }
    })?;
    let (id, version, revision) = (record.id.clone(), record.version, record.revision);
    Ok(Kept { id, version, revision, says })
}

/// A write of what names its account and application in its body.
fn written<T: Serialize>(
    kind: Kind,
    id: &str,
    replaces: Option<u64>,
    says: &T,
) -> Result<Write, RegistrarError> {
    let unwritable = |_| RegistrarError::Damaged { kind, id: id.to_owned(), line: 0 };
    let value = serde_json::to_value(says).map_err(unwritable)?;
    let named = |name: &str| {
        let of_key = kind == Kind::Key;
        let found = value.get(name).filter(|_| of_key)?.as_str()?;
        Some(found.to_owned())
    };
    let account = match kind {
        Kind::Factor | Kind::Account => Some(id.to_owned()),
        Kind::Key | Kind::Application | Kind::Switch | Kind::Approval | Kind::Ban | Kind::Own => {
            named("account")
        }
    };
    let application = named("application");
    let body = serde_json::to_vec(&value).map_err(unwritable)?;
    Ok(Write { kind, id: id.to_owned(), replaces, account, application, body })
}

/// The most records of a page.
pub const LONGEST_PAGE: usize = 1_000;
/// How often somebody else may be faster.
const TRIES: usize = 16;

#[cfg(test)]
mod tests;
