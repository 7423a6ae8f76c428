//! The practised recovery where an application lost its keys: all die in one commit, then each is revoked, and
//! replaced if that is wanted, with a list of whom to tell.

use std::collections::BTreeSet;

use super::keys::Issued;
use super::{Act, Kept, Registrar, RegistrarError, TRIES, kept, written};
use crate::clock::Micros;
use crate::key::lifecycle;
use crate::registry::book::{Kind, Query, RegistryError, Write};
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

/// What a sweep came to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Swept {
    /// Keys made no later are lost.
    pub compromised: Micros,
    /// How many were revoked now.
    pub revoked: u64,
    /// How many were replaced.
    pub replaced: u64,
    /// Whose they were: whom to tell.
    pub accounts: BTreeSet<String>,
}

impl Registrar {
    /// Deals with all keys of an application that lost them. After the first commit none of them is good; then they
    /// are revoked in batches, each of which `progress` gets once it is written.
    ///
    /// It can be broken off at any point, and gone on with by [`Sweep::resume`].
    pub async fn application_compromised(
        &self,
        act: &Act<'_>,
        name: &str,
        sweep: Sweep,
        mut progress: impl FnMut(Vec<Lost>) + Send,
    ) -> Result<Swept, RegistrarError> {
        let now = self.clock.now();
        let mark = |application: &mut ApplicationRecord| {
            let before = application.compromised.filter(|_| sweep.resume);
            application.compromised = Some(before.unwrap_or(now));
        };
        let application = self.change_application(act, "apps.compromised", name, mark).await?;
        let compromised = application.says.compromised.unwrap_or(now);
        let mut swept = Swept { compromised, revoked: 0, replaced: 0, accounts: BTreeSet::new() };
        let act = Act { version: None, ..*act };
        let mut after = None;
        loop {
            let batch = self.sweep_page(&act, name, &application.says, sweep, after).await?;
            for lost in &batch.lost {
                swept.revoked += 1;
                swept.replaced += u64::from(lost.replacement.is_some());
                swept.accounts.insert(lost.account.clone());
            }
            if !batch.lost.is_empty() {
                progress(batch.lost);
            }
            after = batch.next;
            if after.is_none() {
                return Ok(swept);
            }
        }
    }

    /// Deals with the keys of one page in one commit, as often as somebody else changes one of them meanwhile.
    async fn sweep_page(
        &self,
        act: &Act<'_>,
        name: &str,
        application: &ApplicationRecord,
        sweep: Sweep,
        after: Option<String>,
    ) -> Result<Batch, RegistrarError> {
        for _ in 0..TRIES {
            let records = self.registry.list(Query {
                kind: Kind::Key,
                account: None,
                application: Some(name.to_owned()),
                after: after.clone(),
                limit: BATCH,
            });
            let records = records.await?;
            let next = records.last().filter(|_| records.len() == BATCH);
            let next = next.map(|last| last.id.clone());
            let (mut lost, mut writes) = (Vec::new(), Vec::new());
            for record in &records {
                let key = kept::<KeyRecord>(record)?;
                lost.extend(self.sweep_key(key, application, sweep, &mut writes)?);
            }
            if writes.is_empty() {
                return Ok(Batch { lost, next });
            }
            match self.registry.commit(writes, act.note("apps.compromised", self.clock.now())).await
            {
                Ok(revision) => {
                    for made in lost.iter_mut().filter_map(|lost| lost.replacement.as_mut()) {
                        made.key.revision = revision;
                    }
                    return Ok(Batch { lost, next });
                }
                Err(RegistryError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(RegistrarError::Busy)
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

struct Batch {
    lost: Vec<Lost>,
    next: Option<String>,
}

/// Keys in one commit.
const BATCH: usize = 500;
