//! Brings everything that is sealed under the current master key, while the gateways serve: then an earlier one can be
//! taken away.

use super::{Act, LONGEST_PAGE, Registrar, RegistrarError, TRIES, kept, written};
use crate::key::sealing::{Bound, SealError};
use crate::registry::book::{Kind, Query, Record, RegistryError, Write};
use crate::registry::records::{FactorRecord, KeyRecord, Sealed, SecretMaterial};

/// What a rewrapping came to.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Rewrapped {
    /// Records that were looked at.
    pub seen: u64,
    /// Records that were under another master key.
    pub rewrapped: u64,
    /// Records that do not open, each with the reason.
    pub failed: Vec<(String, SealError)>,
}

impl Registrar {
    /// Wraps the data key of each sealed text by the current master key. The texts stay as they are, and nobody's
    /// epoch rises. `progress` is told after each batch.
    pub async fn rewrap(
        &self,
        act: &Act<'_>,
        mut progress: impl FnMut(&Rewrapped) + Send,
    ) -> Result<Rewrapped, RegistrarError> {
        let mut done = Rewrapped::default();
        for kind in [Kind::Key, Kind::Factor] {
            let mut after = None;
            loop {
                let (batch, next) = self.rewrap_page(act, kind, after).await?;
                done.seen += batch.seen;
                done.rewrapped += batch.rewrapped;
                done.failed.extend(batch.failed);
                progress(&done);
                after = next;
                if after.is_none() {
                    break;
                }
            }
        }
        Ok(done)
    }

    /// How many records there are that hold sealed texts.
    pub async fn count_sealed(&self) -> Result<u64, RegistrarError> {
        let (tags, _) = self.registry.key_tags().await?;
        let mut count = u64::try_from(tags.len()).unwrap_or(u64::MAX);
        let mut after = None;
        loop {
            let (kind, account, application) = (Kind::Factor, None, None);
            let query = Query { kind, account, application, after, limit: LONGEST_PAGE };
            let page = self.registry.list(query).await?;
            count += u64::try_from(page.len()).unwrap_or(u64::MAX);
            after = page.last().filter(|_| page.len() == LONGEST_PAGE).map(|last| last.id.clone());
            if after.is_none() {
                return Ok(count);
            }
        }
    }

    async fn rewrap_page(
        &self,
        act: &Act<'_>,
        kind: Kind,
        after: Option<String>,
    ) -> Result<(Rewrapped, Option<String>), RegistrarError> {
        for _ in 0..TRIES {
            let (account, application) = (None, None);
            let query = Query { kind, account, application, after: after.clone(), limit: BATCH };
            let records = self.registry.list(query).await?;
            let next = records.last().filter(|_| records.len() == BATCH);
            let next = next.map(|last| last.id.clone());
            let (mut batch, mut writes) = (Rewrapped::default(), Vec::new());
            for record in &records {
                batch.seen += 1;
                match self.rewrap_record(record) {
                    Ok(write) => writes.extend(write),
                    Err(RegistrarError::Sealing(why)) => {
                        batch.failed.push((record.id.clone(), why));
                    }
                    Err(error) => return Err(error),
                }
            }
            batch.rewrapped = u64::try_from(writes.len()).unwrap_or(u64::MAX);
            if writes.is_empty() {
                return Ok((batch, next));
            }
            let note = act.note("registry.rewrap", self.clock.now());
            match self.registry.commit(writes, note).await {
                Ok(_) => return Ok((batch, next)),
                Err(RegistryError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(RegistrarError::Busy)
    }

    fn rewrap_record(&self, record: &Record) -> Result<Option<Write>, RegistrarError> {
        let rewrap = |place: Bound<'_>, sealed: &mut Sealed| -> Result<bool, RegistrarError> {
            let again = self.masters.rewrap(&place, sealed)?;
            let changed = again.is_some();
            if let Some(again) = again {
                *sealed = again;
            }
            Ok(changed)
        };
        let mut changed = false;
        if record.kind == Kind::Factor {
            let mut factor = kept::<FactorRecord>(record)?.says;
            let place = Bound::factor(&record.id, factor.created);
            changed |= rewrap(place, &mut factor.secret)?;
            return changed
                .then(|| written(record.kind, &record.id, Some(record.version), &factor))
                .transpose();
        }
        let mut key = kept::<KeyRecord>(record)?.says;
        for secret in &mut key.secrets {
            match &mut secret.material {
                SecretMaterial::Sealed(sealed) => {
                    let place = Bound::secret(&record.id, &key.account, secret.number);
                    changed |= rewrap(place, sealed)?;
                }
                SecretMaterial::Public(_) => {}
            }
        }
        if let Some(sealed) = &mut key.passphrase {
            changed |= rewrap(Bound::passphrase(&record.id, &key.account), sealed)?;
        }
        changed.then(|| written(record.kind, &record.id, Some(record.version), &key)).transpose()
    }
}

/// Records in one commit.
const BATCH: usize = 500;
