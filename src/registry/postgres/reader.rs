//! What is asked of the tables.

use std::sync::Arc;

use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

use super::LEISURE;
use super::fault::Failure;
use super::link::{Live, Once};
use super::options::Options;
use super::statements::{COUNTS, KEY_TAGS};
use crate::clock::Micros;
use crate::registry::book::{Change, Kind, Note, Query, Record, RegistryError};
use crate::registry::plan::{from_after, kind_named, whole_revisions};

pub(super) async fn revision(live: Arc<Live>) -> Result<u64, Failure> {
    let row = live.client.query_one(&live.statements.revision, &[]).await?;
    Ok(unsigned(field(&row, 0)?)?)
}

pub(super) async fn find(
    live: Arc<Live>,
    kind: Kind,
    id: Arc<str>,
) -> Result<Option<Record>, Failure> {
    let found =
        live.client.query_opt(&live.statements.find, &[&kind.name(), &id.as_bytes()]).await?;
    Ok(found.map(|row| record(kind, &row)).transpose()?)
}

pub(super) async fn list(live: Arc<Live>, query: Arc<Query>) -> Result<Vec<Record>, Failure> {
    let Query { kind, account, application, after, limit } = &*query;
    let from = from_after(after.clone());
    let (name, from, limit) = (kind.name(), from.as_bytes(), signed(*limit as u64));
    let bytes = |text: &Option<String>| text.clone().map(String::into_bytes);
    let (account, application) = (bytes(account), bytes(application));
    let (client, all) = (&live.client, &live.statements);
    let rows = match (&account, &application) {
        (None, None) => client.query(&all.list, &[&name, &from, &limit]).await?,
        (Some(account), None) => {
            client.query(&all.list_account, &[&name, &from, &limit, account]).await?
        }
        (None, Some(application)) => {
            client.query(&all.list_application, &[&name, &from, &limit, application]).await?
        }
        (Some(account), Some(application)) => {
            client.query(&all.list_both, &[&name, &from, &limit, account, application]).await?
        }
    };
    Ok(rows.iter().map(|row| record(*kind, row)).collect::<Result<_, _>>()?)
}

pub(super) async fn holders(
    live: Arc<Live>,
    after: Arc<str>,
    limit: usize,
) -> Result<Vec<String>, Failure> {
    let (after, limit) = (after.as_bytes(), signed(limit as u64));
    let rows = live.client.query(&live.statements.holders, &[&after, &limit]).await?;
    Ok(rows.iter().map(|row| text(field(row, 0)?)).collect::<Result<_, _>>()?)
}

pub(super) async fn history(
    live: Arc<Live>,
    kind: Kind,
    id: Arc<str>,
    before: u64,
    limit: usize,
) -> Result<Vec<Change>, Failure> {
    let (before, limit) = (signed(before), signed(limit as u64));
    let rows = live
        .client
        .query(&live.statements.history, &[&kind.name(), &id.as_bytes(), &before, &limit])
        .await?;
    Ok(rows.iter().map(change).collect::<Result<_, _>>()?)
}

pub(super) async fn since(
    live: Arc<Live>,
    revision: u64,
    limit: usize,
) -> Result<Vec<Change>, Failure> {
    let one_more = signed((limit as u64).saturating_add(1));
    let rows = live.client.query(&live.statements.since, &[&signed(revision), &one_more]).await?;
    let changes = whole_revisions(rows.iter().map(change), limit)?;
    // Where one revision alone is more than was asked for, its rest was left off.
    match changes.first().filter(|_| changes.len() > limit) {
        None => Ok(changes),
        Some(first) => {
            let revision = signed(first.record.revision);
            let rows = live.client.query(&live.statements.of_revision, &[&revision]).await?;
            Ok(rows.iter().map(change).collect::<Result<_, _>>()?)
        }
    }
}

/// The tag of every key, and the revision, as of one moment.
pub(super) async fn key_tags(options: &Options) -> Result<(Vec<u64>, u64), Failure> {
    let connection = Once::connect(options, LEISURE).await?;
    let row = connection.client.query_one(KEY_TAGS, &[]).await?;
    let revision = unsigned(field(&row, 0)?)?;
    let packed: Option<&[u8]> = field(&row, 1)?;
    let (tags, _) = packed.unwrap_or_default().as_chunks();
    Ok((tags.iter().map(|tag| u64::from_be_bytes(*tag)).collect(), revision))
}

/// How many records of each kind there are.
pub(super) async fn counts(options: &Options) -> Result<Vec<(Kind, u64)>, Failure> {
    let connection = Once::connect(options, LEISURE).await?;
    let rows = connection.client.query(COUNTS, &[]).await?;
    let mut counts: Vec<_> = Kind::ALL.iter().map(|(kind, _)| (*kind, 0)).collect();
    for row in &rows {
        let kind = kind_named(field(row, 0)?)?;
        let of_kind = unsigned(field(row, 1)?)?;
        counts.iter_mut().filter(|(its, _)| *its == kind).for_each(|(_, count)| *count = of_kind);
    }
    Ok(counts)
}

fn record(kind: Kind, row: &Row) -> Result<Record, RegistryError> {
    Ok(Record {
        kind,
        id: text(field(row, 0)?)?,
        version: unsigned(field(row, 1)?)?,
        revision: unsigned(field(row, 2)?)?,
        account: field::<Option<&[u8]>>(row, 3)?.map(text).transpose()?,
        application: field::<Option<&[u8]>>(row, 4)?.map(text).transpose()?,
        body: field(row, 5)?,
    })
}

fn change(row: &Row) -> Result<Change, RegistryError> {
    let note = Note {
        at: Micros(unsigned(field(row, 7)?)?),
        actor: text(field(row, 8)?)?,
        action: text(field(row, 9)?)?,
        reason: field::<Option<&[u8]>>(row, 10)?.map(text).transpose()?,
    };
    Ok(Change { record: record(kind_named(field(row, 6)?)?, row)?, note })
}

pub(super) fn field<'r, T: FromSql<'r>>(row: &'r Row, place: usize) -> Result<T, RegistryError> {
    row.try_get(place).map_err(|error| {
        RegistryError::Damaged(format!("a column of its tables is not what it should be: {error}"))
    })
}

pub(super) fn text(bytes: &[u8]) -> Result<String, RegistryError> {
    String::from_utf8(bytes.to_vec())
        .map_err(|_| RegistryError::Damaged("a name in its tables is no text".into()))
}

pub(super) fn unsigned(number: i64) -> Result<u64, RegistryError> {
    u64::try_from(number)
        .map_err(|_| RegistryError::Damaged("a number in its tables is below 0".into()))
}

/// No number of ours is beyond what the server can hold; what is asked for may be.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
