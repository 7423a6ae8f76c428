//! The practised recovery where an application lost its keys: all die in one commit, then each is revoked, and
//! replaced if that is wanted, with a list of whom to tell.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::keys::Issued;
use super::{Act, Kept, LONGEST_PAGE, Registrar, RegistrarError, TRIES, kept, written};
use crate::clock::Micros;
use crate::key::lifecycle;
use crate::registry::book::{Kind, Query, Record, RegistryError, Write};
use crate::registry::records::{ApplicationRecord, KeyRecord, Life};

/// How an application's keys are dealt with.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Sweep {
    /// Whether each key gets a replacement with the same bindings, but for those whose pair is their holder's.
    pub replace: bool,
    /// Goes on with a sweep that broke off: keys that were made since are not lost.
    pub resume: bool,
}

/// A key that was lost.
#[derive(Clone, Debug)]
pub struct Lost {
    /// The key.
    pub id: String,
    /// Whom to tell.
    pub account: String,
    /// What its holder calls it.
    pub label: String,
    /// The one in its place. Its secret is here once.
    pub replacement: Option<Issued>,
}

/// How a sweep goes on.
#[derive(Clone, Debug)]
pub enum Sweeping {
    /// None of the keys is good any more, and so many are to be revoked.
    Begun(u64),
    /// These are revoked.
    Revoked(Vec<Lost>),
}

/// What a sweep came to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Swept {
    /// Keys made no later are lost.
    pub compromised: Micros,
    /// The registry's revision that brought the last of it.
    pub revision: u64,
    /// How many were revoked now.
    pub revoked: u64,
    /// How many were replaced.
    pub replaced: u64,
    /// Whose they were: whom to tell.
    pub accounts: BTreeSet<String>,
}

impl Registrar {
    /// Deals with all keys of an application that lost them. After the first commit none of them is good; then they
    /// are counted, and revoked in batches, each of which `progress` gets once it is written.
    ///
    /// It can be broken off at any point, and gone on with by [`Sweep::resume`].
    pub async fn application_compromised(
        &self,
        act: &Act<'_>,
        name: &str,
        sweep: Sweep,
        mut progress: impl FnMut(Sweeping) + Send,
    ) -> Result<Swept, RegistrarError> {
        let now = self.clock.now();
        let mark = |application: &mut ApplicationRecord| {
            let before = application.compromised.filter(|_| sweep.resume);
            application.compromised = Some(before.unwrap_or(now));
        };
        let application = self.change_application(act, "apps.compromised", name, mark).await?;
        let compromised = application.says.compromised.unwrap_or(now);
        progress(Sweeping::Begun(self.count_lost(name, compromised).await?));
        let revision = application.revision;
        let mut swept =
            Swept { compromised, revision, revoked: 0, replaced: 0, accounts: BTreeSet::new() };
        let act = Act { version: None, ..*act };
        let mut page = self.page_of(name, None, BATCH).await?;
        loop {
            let end = page.last().filter(|_| page.len() == BATCH).map(|last| last.id.clone());
            // The next page is read while this one is written.
            let next = async {
                match end {
                    Some(end) => self.page_of(name, Some(end), BATCH).await.map(Some),
                    None => Ok(None),
                }
            };
            let written = self.sweep_page(&act, &application, sweep, page);
            let (lost, next) = tokio::join!(written, next);
            let (lost, revision) = lost?;
            swept.revision = swept.revision.max(revision);
            for lost in &lost {
                swept.revoked += 1;
                swept.replaced += u64::from(lost.replacement.is_some());
                swept.accounts.insert(lost.account.clone());
            }
            if !lost.is_empty() {
                progress(Sweeping::Revoked(lost));
            }
            match next? {
                Some(next) => page = next,
                None => return Ok(swept),
            }
        }
    }

    /// How many keys of an application made no later are yet to be revoked.
    async fn count_lost(&self, name: &str, compromised: Micros) -> Result<u64, RegistrarError> {
        let (mut count, mut after) = (0, None);
        loop {
            let page = self.page_of(name, after, LONGEST_PAGE).await?;
            for record in &page {
                let Kept { says: Brief { state, created }, .. } = kept(record)?;
                count += u64::from(created <= compromised && state != Life::Revoked);
            }
            after = page.last().filter(|_| page.len() == LONGEST_PAGE).map(|last| last.id.clone());
            if after.is_none() {
                return Ok(count);
            }
        }
    }

    async fn page_of(
        &self,
        name: &str,
        after: Option<String>,
        limit: usize,
    ) -> Result<Vec<Record>, RegistrarError> {
        let (kind, application) = (Kind::Key, Some(name.to_owned()));
        Ok(self.registry.list(Query { kind, account: None, application, after, limit }).await?)
    }

    /// Deals with the keys of one page in one commit, and answers its revision; as often as somebody else changes one of them meanwhile.
    async fn sweep_page(
        &self,
        act: &Act<'_>,
        application: &Kept<ApplicationRecord>,
        sweep: Sweep,
        mut page: Vec<Record>,
    ) -> Result<(Vec<Lost>, u64), RegistrarError> {
        for _ in 0..TRIES {
            let (mut lost, mut writes) = (Vec::new(), Vec::new());
            for record in &page {
                let key = kept::<KeyRecord>(record)?;
                lost.extend(self.sweep_key(key, &application.says, sweep, &mut writes)?);
            }
            if writes.is_empty() {
                return Ok((lost, 0));
            }
            match self.registry.commit(writes, act.note("apps.compromised", self.clock.now())).await
            {
                Ok(revision) => {
                    for made in lost.iter_mut().filter_map(|lost| lost.replacement.as_mut()) {
                        made.key.revision = revision;
                    }
                    return Ok((lost, revision));
                }
                Err(RegistryError::Conflict { kind: Kind::Key, id, .. }) => {
                    self.read_again(&mut page, &id).await?;
                }
                Err(RegistryError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(RegistrarError::Busy)
    }

    /// Has the key that somebody else changed as it stands now.
    async fn read_again(&self, page: &mut [Record], id: &str) -> Result<(), RegistrarError> {
        if let Some(stale) = page.iter_mut().find(|record| record.id == id)
            && let Some(now) = self.registry.find(Kind::Key, id).await?
        {
            *stale = now;
        }
        Ok(())
    }

    fn sweep_key(
        &self,
        key: Kept<KeyRecord>,
        application: &ApplicationRecord,
        sweep: Sweep,
        writes: &mut Vec<Write>,
    ) -> Result<Option<Lost>, RegistrarError> {
        let is_lost = application.compromised.is_some_and(|lost| key.says.created <= lost);
        if !is_lost || key.says.state == Life::Revoked {
            return Ok(None);
        }
        let revoked = lifecycle::revoke(&key.says)?;
        writes.push(written(Kind::Key, &key.id, Some(key.version), &revoked)?);
        let around = self.around(Some(application));
        // A key that cannot be replaced, as one whose dialect is gone, is revoked all the same.
        let replacement = if sweep.replace {
            self.replacement(&key.says, None, &around).unwrap_or_default()
        } else {
            None
        };
        if let Some(made) = &replacement {
            writes.push(written(Kind::Key, &made.key.id, None, &made.key.says)?);
        }
        let (account, label) = (key.says.account, key.says.label);
        Ok(Some(Lost { id: key.id, account, label, replacement }))
    }
}

/// What tells whether a key is yet to be revoked.
#[derive(Deserialize)]
struct Brief {
    state: Life,
    created: Micros,
}

/// Keys in one commit.
const BATCH: usize = 500;
