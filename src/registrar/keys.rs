//! What is done to keys: issue, show, change, rotate, suspend, resume, revoke, expire, and replace what was lost.

use std::time::Duration;

use ipnet::IpNet;

use super::material::{fresh, fresh_passphrase, label, symbols};
use super::{
    Act, Clear, Invalid, Kept, LONGEST_PAGE, Page, Registrar, RegistrarError, TRIES, demanded,
    written,
};
use crate::clock::Micros;
use crate::key::lifecycle::{self, Changes, Refusal, Surroundings};
use crate::key::sealing::Bound;
use crate::key::{Algorithm, id};
use crate::registry::book::{Kind, Query, RegistryError};
use crate::registry::records::{ApplicationRecord, KeyRecord, Life};

/// What a key is to be.
#[derive(Clone, Debug, Default)]
pub struct NewKey {
    /// Who holds it.
    pub account: String,
    /// The application it is made for.
    pub application: Option<String>,
    /// What its holder calls it.
    pub label: String,
    /// Where it is valid; `main` when `None`.
    pub venue: Option<String>,
    /// The dialect it signs in.
    pub dialect: String,
    /// Its algorithm by name; the dialect's HMAC, or what `public_key` is, when `None`.
    pub algorithm: Option<String>,
    /// What it may do, by name.
    pub permissions: Vec<String>,
    /// Where from; anywhere when empty.
    pub allowlist: Vec<IpNet>,
    /// The routes it may use, by name; all when empty.
    pub routes: Vec<String>,
    /// The symbols it may trade; all when empty.
    pub symbols: Vec<String>,
    /// Its limits, by name.
    pub limits: Vec<String>,
    /// When it ends by itself.
    pub expires: Option<Micros>,
    /// The public half of the holder's pair, as PEM.
    pub public_key: Option<String>,
    /// After how long it loses `trade` if it is bound to no network; never later than what holds for all keys.
    pub trade_unbound_for: Option<Duration>,
}

/// A key that was just made or rotated. What is secret in it is here once, and never again.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The record.
    pub key: Kept<KeyRecord>,
    /// The secret, where it was made here.
    pub secret: Option<Clear>,
    /// The passphrase, where it was made here.
    pub passphrase: Option<Clear>,
    /// When the secret before stops being good, where it was rotated.
    pub cut_off: Option<Micros>,
}

/// What became of a key that was lost.
#[derive(Clone, Debug)]
pub struct Recovery {
    /// The key, revoked.
    pub revoked: Kept<KeyRecord>,
    /// The one in its place; `None` where it has expired, or its holder's new public key was not given.
    pub replacement: Option<Issued>,
}

/// Which keys to list.
#[derive(Clone, Debug, Default)]
pub struct KeyFilter {
    /// Only those of this account.
    pub account: Option<String>,
    /// Only those of this application.
    pub application: Option<String>,
    /// Only those in this state.
    pub state: Option<Life>,
    /// Only those after this id.
    pub after: Option<String>,
    /// At most so many; up to [`LONGEST_PAGE`].
    pub limit: usize,
}

impl Registrar {
    /// Makes a key.
    pub async fn issue(&self, act: &Act<'_>, new: NewKey) -> Result<Issued, RegistrarError> {
        let (dialect, terms) = self.terms(&new)?;
        let material = fresh(&dialect, terms.algorithm, new.public_key.as_deref())?;
        let passphrase = fresh_passphrase(&dialect)?;
        let application = self.application_of(terms.application.as_deref()).await?;
        for _ in 0..TRIES {
            let id = id::fresh()?;
            let around = Surroundings {
                unbound_trade: self.unbound_trade_of(new.trade_unbound_for),
                ..self.around(application.as_ref())
            };
            let sealed = self.seal_material(&material, &Bound::secret(&id, &terms.account, 1))?;
            let sealed_passphrase =
                self.seal_passphrase(passphrase.as_ref(), &id, &terms.account)?;
            let record = lifecycle::issue(terms.clone(), sealed, sealed_passphrase, &around)?;
            if let Some(key) =
                self.replace(act, "keys.create", Kind::Key, &id, None, record).await?
            {
                let secret = material.into_secret();
                return Ok(Issued { key, secret, passphrase, cut_off: None });
            }
        }
        Err(RegistrarError::Busy)
    }

    /// A key as it stands.
    pub async fn key(&self, id: &str) -> Result<Kept<KeyRecord>, RegistrarError> {
        let found = self.find(Kind::Key, id).await?;
        found.ok_or_else(|| RegistrarError::NotFound(Kind::Key, id.to_owned()))
    }

    /// Keys in the order of their ids. A page may be short and have more after it, where a state is asked for.
    pub async fn keys(&self, filter: KeyFilter) -> Result<Page<KeyRecord>, RegistrarError> {
        let limit = filter.limit.clamp(1, LONGEST_PAGE);
        let (mut items, mut after) = (Vec::new(), filter.after);
        for _ in 0..PAGES_LOOKED_AT {
            let page = self.page::<KeyRecord>(Query {
                kind: Kind::Key,
                account: filter.account.clone(),
                application: filter.application.clone(),
                after,
                limit: if filter.state.is_some() { LONGEST_PAGE } else { limit },
            });
            let page = page.await?;
            let wanted =
                |key: &Kept<KeyRecord>| filter.state.is_none_or(|state| key.says.state == state);
            items.extend(page.items.into_iter().filter(wanted));
            if items.len() > limit {
                items.truncate(limit);
                let next = items.last().map(|last| last.id.clone());
                return Ok(Page { items, next });
            }
            after = page.next;
            if after.is_none() || items.len() == limit {
                break;
            }
        }
        Ok(Page { items, next: after })
    }

    /// Changes what a key is called or bound to.
    pub async fn update(
        &self,
        act: &Act<'_>,
        id: &str,
        changes: &Changes,
    ) -> Result<Kept<KeyRecord>, RegistrarError> {
        let names = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
        label(changes.label.as_deref().unwrap_or_default())?;
        symbols(changes.symbols.as_deref().unwrap_or_default())?;
        self.known(
            &names(&changes.permissions),
            &names(&changes.routes),
            &names(&changes.limits),
            changes.allowlist.as_deref().unwrap_or_default(),
        )?;
        let next = |key: &KeyRecord, around: &Surroundings<'_>| {
            Ok(lifecycle::update(key, changes, around)?)
        };
        self.change_key(act, "keys.update", id, next).await
    }

    /// Gives a key another secret; the one before is good for `overlap` still. Its passphrase stays.
    pub async fn rotate(
        &self,
        act: &Act<'_>,
        id: &str,
        overlap: Duration,
        public_key: Option<&str>,
    ) -> Result<Issued, RegistrarError> {
        let key = self.key(id).await?;
        let dialect = self.dialect(&key.says.dialect)?;
        let material = fresh(&dialect, algorithm_of(&key.says)?, public_key)?;
        let next = |key: &KeyRecord, around: &Surroundings<'_>| {
            let number = lifecycle::next_number(key);
            let place = Bound::secret(id, &key.account, number);
            let sealed = self.seal_material(&material, &place)?;
            Ok(lifecycle::rotate(key, sealed, overlap, around)?)
        };
        let key = self.change_key(act, "keys.rotate", id, next).await?;
        let cut_off = key.says.secrets.get(1).and_then(|outgoing| outgoing.until);
        Ok(Issued { key, secret: material.into_secret(), passphrase: None, cut_off })
    }

    /// Sets a key aside.
    pub async fn suspend(
        &self,
        act: &Act<'_>,
        id: &str,
    ) -> Result<Kept<KeyRecord>, RegistrarError> {
        self.change_key(act, "keys.suspend", id, |key, _| Ok(lifecycle::suspend(key)?)).await
    }

    /// Takes a key that was set aside into use again.
    pub async fn resume(&self, act: &Act<'_>, id: &str) -> Result<Kept<KeyRecord>, RegistrarError> {
        let next = |key: &KeyRecord, around: &Surroundings<'_>| Ok(lifecycle::resume(key, around)?);
        self.change_key(act, "keys.resume", id, next).await
    }

    /// Ends a key for good.
    pub async fn revoke(&self, act: &Act<'_>, id: &str) -> Result<Kept<KeyRecord>, RegistrarError> {
        self.change_key(act, "keys.revoke", id, |key, _| Ok(lifecycle::revoke(key)?)).await
    }

    /// Lets a key expire now.
    pub async fn expire(&self, act: &Act<'_>, id: &str) -> Result<Kept<KeyRecord>, RegistrarError> {
        let next = |key: &KeyRecord, around: &Surroundings<'_>| Ok(lifecycle::expire(key, around)?);
        self.change_key(act, "keys.expire", id, next).await
    }

    /// Revokes a key that was lost, and puts one with the same bindings in its place, both in one commit. A key whose
    /// pair is its holder's gets a replacement only with `public_key`; it is revoked in any case.
    pub async fn compromised(
        &self,
        act: &Act<'_>,
        id: &str,
        public_key: Option<&str>,
    ) -> Result<Recovery, RegistrarError> {
        for _ in 0..TRIES {
            let key = self.key(id).await?;
            demanded(act, Kind::Key, id, Some(key.version))?;
            let application = self.application_of(key.says.application.as_deref()).await?;
            let around = self.around(application.as_ref());
            let revoked = lifecycle::revoke(&key.says)?;
            let replacement = self.replacement(&key.says, public_key, &around)?;
            let mut writes = vec![written(Kind::Key, id, Some(key.version), &revoked)?];
            if let Some(made) = &replacement {
                writes.push(written(Kind::Key, &made.key.id, None, &made.key.says)?);
            }
            let note = act.note("keys.compromised", around.now);
            let revision = match self.registry.commit(writes, note).await {
                Ok(revision) => revision,
                Err(RegistryError::Conflict { .. }) => continue,
                Err(error) => return Err(error.into()),
            };
            let revoked = Kept { version: key.version + 1, revision, says: revoked, ..key };
            let replacement =
                replacement.map(|made| Issued { key: Kept { revision, ..made.key }, ..made });
            return Ok(Recovery { revoked, replacement });
        }
        Err(RegistrarError::Busy)
    }

    /// The key in place of `lost`, not written yet.
    pub(super) fn replacement(
        &self,
        lost: &KeyRecord,
        public_key: Option<&str>,
        around: &Surroundings<'_>,
    ) -> Result<Option<Issued>, RegistrarError> {
        let algorithm = algorithm_of(lost)?;
        if !algorithm.is_symmetric() && public_key.is_none() {
            return Ok(None);
        }
        let dialect = self.dialect(&lost.dialect)?;
        let material = fresh(&dialect, algorithm, public_key)?;
        let passphrase = fresh_passphrase(&dialect)?;
        let id = id::fresh()?;
        let sealed = self.seal_material(&material, &Bound::secret(&id, &lost.account, 1))?;
        let sealed_passphrase = self.seal_passphrase(passphrase.as_ref(), &id, &lost.account)?;
        let says = match lifecycle::replacement(lost, sealed, sealed_passphrase, around) {
            Ok(says) => says,
            Err(Refusal::Expired) => return Ok(None),
            Err(refusal) => return Err(refusal.into()),
        };
        let key = Kept { id, version: 1, revision: 0, says };
        Ok(Some(Issued { key, secret: material.into_secret(), passphrase, cut_off: None }))
    }

    /// The application that a key names; there must be one.
    pub(super) async fn application_of(
        &self,
        name: Option<&str>,
    ) -> Result<Option<ApplicationRecord>, RegistrarError> {
        let Some(name) = name else { return Ok(None) };
        Ok(Some(self.application(name).await?.says))
    }

    pub(super) fn around<'a>(
        &self,
        application: Option<&'a ApplicationRecord>,
    ) -> Surroundings<'a> {
        Surroundings { now: self.clock.now(), application, unbound_trade: self.unbound_trade }
    }

    /// The shorter of what was asked for and what holds for all keys.
    pub(super) fn unbound_trade_of(&self, asked: Option<Duration>) -> Option<Duration> {
        match (asked, self.unbound_trade) {
            (Some(asked), Some(most)) => Some(asked.min(most)),
            (asked, most) => asked.or(most),
        }
    }

    async fn change_key(
        &self,
        act: &Act<'_>,
        action: &str,
        id: &str,
        mut next: impl FnMut(&KeyRecord, &Surroundings<'_>) -> Result<KeyRecord, RegistrarError>,
    ) -> Result<Kept<KeyRecord>, RegistrarError> {
        for _ in 0..TRIES {
            let key = self.key(id).await?;
            demanded(act, Kind::Key, id, Some(key.version))?;
            let application = self.application_of(key.says.application.as_deref()).await?;
            let says = next(&key.says, &self.around(application.as_ref()))?;
            if says == key.says {
                return Ok(key);
            }
            let done = self.replace(act, action, Kind::Key, id, Some(key.version), says).await?;
            if let Some(done) = done {
                return Ok(done);
            }
        }
        Err(RegistrarError::Busy)
    }
}

pub(super) fn algorithm_of(key: &KeyRecord) -> Result<Algorithm, Invalid> {
    let unknown = || Invalid::Algorithm { name: key.algorithm.clone(), known: Vec::new() };
    Algorithm::named(&key.algorithm).ok_or_else(unknown)
}

/// So many records are looked at for one page of those in a state.
const PAGES_LOOKED_AT: usize = 20;
