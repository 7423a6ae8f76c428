//! Records that the API keeps itself: bans and approvals.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::call::Call;
use super::problem::Problem;
use crate::registry::book::{Kind, Note, Record, RegistryError, Write};

/// A record with what it says.
#[derive(Clone, Debug)]
pub(super) struct Entry<T> {
    pub(super) id: String,
    pub(super) version: u64,
    pub(super) says: T,
}

/// So many pages are looked at for those that still count.
pub(super) const PAGES: usize = 20;

pub(super) fn entry<T: DeserializeOwned>(record: &Record) -> Result<Entry<T>, Problem> {
    let damaged = || {
        let cause = format!("the record of {} {} cannot be read", record.kind.name(), record.id);
        RegistryError::Damaged(cause)
    };
    let says = serde_json::from_slice(&record.body).map_err(|_| damaged())?;
    Ok(Entry { id: record.id.clone(), version: record.version, says })
}

pub(super) async fn find<T: DeserializeOwned>(
    call: &Call,
    kind: Kind,
    id: &str,
) -> Result<Option<Entry<T>>, Problem> {
    let found = call.api.desk.registry().find(kind, id).await?;
    found.map(|record| entry(&record)).transpose()
}

/// Writes a record over the version that it `replaces`; the note is what was done, and why.
pub(super) async fn write<T: Serialize>(
    call: &Call,
    kind: Kind,
    id: &str,
    replaces: Option<u64>,
    says: T,
    (action, reason): (&str, Option<String>),
) -> Result<Entry<T>, Problem> {
    let body = serde_json::to_vec(&says)
        .map_err(|_| RegistryError::Damaged("a record could not be written".to_owned()))?;
    let (id, account, application) = (id.to_owned(), None, None);
    let write = Write { kind, id: id.clone(), replaces, account, application, body };
    let note = Note {
        at: call.at,
        actor: call.caller.actor.as_ref().into(),
        action: action.to_owned(),
        reason,
    };
    match call.api.desk.registry().commit(vec![write], note).await {
        Ok(_) => Ok(Entry { id, version: replaces.unwrap_or(0) + 1, says }),
        Err(RegistryError::Conflict { .. }) => {
            let detail = "Somebody else changed it at the same time.";
            Err(Problem::conflict(detail).cured("look at it again, then decide anew"))
        }
        Err(error) => Err(error.into()),
    }
}
