//! The tables of the embedded registry, and what is read from and written to them.

use std::collections::HashMap;

use redb::{
    Database, ReadableDatabase as _, ReadableTable, Table, TableDefinition, WriteTransaction,
};

use super::fault::failed;
use crate::clock::Micros;
use crate::key::Tag;
use crate::registry::book::{Change, Kind, Note, Query, Record, RegistryError};
use crate::registry::plan::{Plan, Row, from_after, kind_named, whole_revisions};

type Names = (&'static str, &'static str);
/// Version, revision, account, application, body.
type Stored = (u64, u64, Option<&'static str>, Option<&'static str>, &'static [u8]);
/// Kind, id, version, account, application, body; then when, who, what and why.
type Past = (
    &'static str,
    &'static str,
    u64,
    Option<&'static str>,
    Option<&'static str>,
    &'static [u8],
    u64,
    &'static str,
    &'static str,
    Option<&'static str>,
);
/// Kind, account or application, id.
type IndexNames = (&'static str, &'static str, &'static str);
type Index = TableDefinition<'static, IndexNames, ()>;

const META: TableDefinition<'static, &str, u64> = TableDefinition::new("meta");
const RECORDS: TableDefinition<'static, Names, Stored> = TableDefinition::new("records");
const BY_ACCOUNT: Index = TableDefinition::new("by_account");
const BY_APPLICATION: Index = TableDefinition::new("by_application");
/// By revision and place.
const HISTORY: TableDefinition<'static, (u64, u32), Past> = TableDefinition::new("history");
/// Kind, id and revision lead to the place.
const RECORD_HISTORY: TableDefinition<'static, (&str, &str, u64), u32> =
    TableDefinition::new("record_history");
/// The tags of all keys in the order the keys were made, packed: a million of them are read in milliseconds.
const TAGS: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("tags");

const FORMAT: &str = "format";
const REVISION: &str = "revision";
const TAG_COUNT: &str = "tags";
const TAGS_PER_BLOCK: u64 = 512;

/// The format that a file has; 0 where it has none yet.
pub(super) fn format(tx: &WriteTransaction) -> Result<u64, RegistryError> {
    let meta = tx.open_table(META).map_err(failed)?;
    let format = meta.get(FORMAT).map_err(failed)?;
    Ok(format.map_or(0, |format| format.value()))
}

/// Makes every table of format 1.
pub(super) fn make(tx: &WriteTransaction) -> Result<(), RegistryError> {
    tx.open_table(RECORDS).map_err(failed)?;
    tx.open_table(BY_ACCOUNT).map_err(failed)?;
    tx.open_table(BY_APPLICATION).map_err(failed)?;
    tx.open_table(HISTORY).map_err(failed)?;
    tx.open_table(RECORD_HISTORY).map_err(failed)?;
    tx.open_table(TAGS).map_err(failed)?;
    let mut meta = tx.open_table(META).map_err(failed)?;
    for (name, value) in [(FORMAT, 1), (REVISION, 0), (TAG_COUNT, 0)] {
        meta.insert(name, value).map_err(failed)?;
    }
    Ok(())
}

/// The revision, and at which versions these records stand.
pub(super) fn standing<'n>(
    tx: &WriteTransaction,
    names: impl Iterator<Item = (Kind, &'n str)>,
) -> Result<Plan, RegistryError> {
    let records = tx.open_table(RECORDS).map_err(failed)?;
    let mut versions = HashMap::new();
    for (kind, id) in names {
        if let Some(found) = records.get((kind.name(), id)).map_err(failed)? {
            versions.insert((kind, id.to_owned()), found.value().0);
        }
    }
    let meta = tx.open_table(META).map_err(failed)?;
    Ok(Plan::new(number(&meta, REVISION)?, versions))
}

/// Writes down what a batch leaves.
pub(super) fn apply(tx: &WriteTransaction, plan: &Plan) -> Result<(), RegistryError> {
    let mut history = tx.open_table(HISTORY).map_err(failed)?;
    let mut record_history = tx.open_table(RECORD_HISTORY).map_err(failed)?;
    let mut standing = Standing::open(tx)?;
    let mut tags = Vec::new();
    for (row, stands) in plan.rows() {
        let (record, note) = (&row.record, &row.note);
        let kind = record.kind.name();
        let past = (
            kind,
            &*record.id,
            record.version,
            record.account.as_deref(),
            record.application.as_deref(),
            &*record.body,
            note.at.0,
            &*note.actor,
            &*note.action,
            note.reason.as_deref(),
        );
        history.insert((record.revision, row.place), past).map_err(failed)?;
        let name = (kind, &*record.id, record.revision);
        record_history.insert(name, row.place).map_err(failed)?;
        if stands {
            standing.put(row)?;
        }
        if row.makes_key() {
            tags.push(Tag::of(&record.id).short());
        }
    }
    let mut meta = tx.open_table(META).map_err(failed)?;
    meta.insert(REVISION, plan.revision()).map_err(failed)?;
    let count = number(&meta, TAG_COUNT)?;
    meta.insert(TAG_COUNT, add_tags(tx, count, &tags)?).map_err(failed)?;
    Ok(())
}

/// The tables of what stands. To open one costs about as much as to write a row.
struct Standing<'t> {
    records: Table<'t, Names, Stored>,
    /// By account, and by application.
    indexes: [Table<'t, IndexNames, ()>; 2],
}

impl<'t> Standing<'t> {
    fn open(tx: &'t WriteTransaction) -> Result<Self, RegistryError> {
        let records = tx.open_table(RECORDS).map_err(failed)?;
        let by_account = tx.open_table(BY_ACCOUNT).map_err(failed)?;
        let by_application = tx.open_table(BY_APPLICATION).map_err(failed)?;
        Ok(Self { records, indexes: [by_account, by_application] })
    }

    fn put(&mut self, row: &Row) -> Result<(), RegistryError> {
        let record = &row.record;
        let (kind, id) = (record.kind.name(), &*record.id);
        let are = [record.account.as_deref(), record.application.as_deref()];
        let [account, application] = are;
        let stored = (record.version, record.revision, account, application, &*record.body);
        let old = self.records.insert((kind, id), stored).map_err(failed)?;
        let old = old.as_ref().map(redb::AccessGuard::value);
        let were = old.map_or([None; 2], |(_, _, account, application, _)| [account, application]);
        for ((index, was), is) in self.indexes.iter_mut().zip(were).zip(are) {
            if was == is {
                continue;
            }
            if let Some(was) = was {
                index.remove((kind, was, id)).map_err(failed)?;
            }
            if let Some(is) = is {
                index.insert((kind, is, id), ()).map_err(failed)?;
            }
        }
        Ok(())
    }
}

/// Adds tags behind the `count` that there are, and says how many there are then.
fn add_tags(tx: &WriteTransaction, mut count: u64, tags: &[u64]) -> Result<u64, RegistryError> {
    let mut table = tx.open_table(TAGS).map_err(failed)?;
    let mut rest = tags;
    while !rest.is_empty() {
        let room = usize::try_from(TAGS_PER_BLOCK - count % TAGS_PER_BLOCK).unwrap_or(1);
        let (now, later) = rest.split_at(room.min(rest.len()));
        let block = count / TAGS_PER_BLOCK;
        let mut bytes =
            table.get(block).map_err(failed)?.map_or_else(Vec::new, |old| old.value().to_vec());
        bytes.extend(now.iter().flat_map(|tag| tag.to_le_bytes()));
        table.insert(block, &*bytes).map_err(failed)?;
        count += now.len() as u64;
        rest = later;
    }
    Ok(count)
}

pub(super) fn revision(db: &Database) -> Result<u64, RegistryError> {
    let tx = db.begin_read().map_err(failed)?;
    number(&tx.open_table(META).map_err(failed)?, REVISION)
}

pub(super) fn find(db: &Database, kind: Kind, id: &str) -> Result<Option<Record>, RegistryError> {
    let tx = db.begin_read().map_err(failed)?;
    let records = tx.open_table(RECORDS).map_err(failed)?;
    let found = records.get((kind.name(), id)).map_err(failed)?;
    Ok(found.map(|found| record(kind, id, found.value())))
}

pub(super) fn list(db: &Database, query: Query) -> Result<Vec<Record>, RegistryError> {
    let Query { kind, account, application, after, limit } = query;
    let from = from_after(after);
    let tx = db.begin_read().map_err(failed)?;
    let records = tx.open_table(RECORDS).map_err(failed)?;
    let mut found = Vec::new();
    let (index, holder) = match (&account, &application) {
        (Some(account), _) => (BY_ACCOUNT, account),
        (None, Some(application)) => (BY_APPLICATION, application),
        (None, None) => {
            for row in records.range((kind.name(), &*from)..).map_err(failed)?.take(limit) {
                let (name, stored) = row.map_err(failed)?;
                let (its_kind, id) = name.value();
                if its_kind != kind.name() {
                    break;
                }
                found.push(record(kind, id, stored.value()));
            }
            return Ok(found);
        }
    };
    let index = tx.open_table(index).map_err(failed)?;
    for row in index.range((kind.name(), &**holder, &*from)..).map_err(failed)? {
        let (name, ()) = row.map(|(name, nothing)| (name, nothing.value())).map_err(failed)?;
        let (its_kind, its_holder, id) = name.value();
        if found.len() >= limit || (its_kind, its_holder) != (kind.name(), holder) {
            break;
        }
        let stored = records.get((its_kind, id)).map_err(failed)?;
        let stored = stored.ok_or_else(|| missing("a record that an index names"))?;
        let record = record(kind, id, stored.value());
        if application.is_none() || record.application == application {
            found.push(record);
        }
    }
    Ok(found)
}

/// Accounts that have keys, found by leaping from one to the next.
pub(super) fn holders(
    db: &Database,
    after: Option<String>,
    limit: usize,
) -> Result<Vec<String>, RegistryError> {
    let tx = db.begin_read().map_err(failed)?;
    let index = tx.open_table(BY_ACCOUNT).map_err(failed)?;
    let kind = Kind::Key.name();
    let (mut found, mut from) = (Vec::new(), from_after(after));
    while found.len() < limit {
        let Some(row) = index.range((kind, &*from, "")..).map_err(failed)?.next() else { break };
        let name = row.map_err(failed)?.0;
        let (its_kind, account, _) = name.value();
        if its_kind != kind {
            break;
        }
        found.push(account.to_owned());
        from = from_after(Some(account.to_owned()));
    }
    Ok(found)
}

pub(super) fn history(
    db: &Database,
    kind: Kind,
    id: &str,
    before: u64,
    limit: usize,
) -> Result<Vec<Change>, RegistryError> {
    let tx = db.begin_read().map_err(failed)?;
    let places = tx.open_table(RECORD_HISTORY).map_err(failed)?;
    let history = tx.open_table(HISTORY).map_err(failed)?;
    let name = kind.name();
    let rows = places.range((name, id, 0)..(name, id, before)).map_err(failed)?;
    let mut changes = Vec::new();
    for row in rows.rev().take(limit) {
        let (name, place) = row.map_err(failed)?;
        let revision = name.value().2;
        let past = history.get((revision, place.value())).map_err(failed)?;
        let past = past.ok_or_else(|| missing("a row of the history"))?;
        changes.push(change(revision, past.value())?);
    }
    Ok(changes)
}

pub(super) fn since(
    db: &Database,
    revision: u64,
    limit: usize,
) -> Result<Vec<Change>, RegistryError> {
    let Some(first) = revision.checked_add(1) else { return Ok(Vec::new()) };
    let tx = db.begin_read().map_err(failed)?;
    let history = tx.open_table(HISTORY).map_err(failed)?;
    let rows = history.range((first, 0)..).map_err(failed)?;
    let changes = rows.map(|row| {
        let (name, past) = row.map_err(failed)?;
        change(name.value().0, past.value())
    });
    whole_revisions(changes, limit)
}

/// How many records of each kind there are.
pub(super) fn counts(db: &Database) -> Result<Vec<(Kind, u64)>, RegistryError> {
    let tx = db.begin_read().map_err(failed)?;
    let records = tx.open_table(RECORDS).map_err(failed)?;
    let mut counts: Vec<_> = Kind::ALL.iter().map(|(kind, _)| (*kind, 0)).collect();
    for row in records.iter().map_err(failed)? {
        let (name, _) = row.map_err(failed)?;
        let kind = kind_named(name.value().0)?;
        counts.iter_mut().filter(|(its, _)| *its == kind).for_each(|(_, count)| *count += 1);
    }
    Ok(counts)
}

pub(super) fn key_tags(db: &Database) -> Result<(Vec<u64>, u64), RegistryError> {
    let tx = db.begin_read().map_err(failed)?;
    let meta = tx.open_table(META).map_err(failed)?;
    let count = usize::try_from(number(&meta, TAG_COUNT)?).unwrap_or(0);
    let mut tags = Vec::with_capacity(count);
    for block in tx.open_table(TAGS).map_err(failed)?.iter().map_err(failed)? {
        let (_, block) = block.map_err(failed)?;
        let (whole, _) = block.value().as_chunks();
        tags.extend(whole.iter().map(|tag| u64::from_le_bytes(*tag)));
    }
    if tags.len() != count {
        return Err(missing("the tag of a key"));
    }
    Ok((tags, number(&meta, REVISION)?))
}

fn number(meta: &impl ReadableTable<&'static str, u64>, name: &str) -> Result<u64, RegistryError> {
    let found = meta.get(name).map_err(failed)?;
    found.map(|found| found.value()).ok_or_else(|| missing("a number of its own"))
}

fn record(kind: Kind, id: &str, stored: <Stored as redb::Value>::SelfType<'_>) -> Record {
    let (version, revision, account, application, body) = stored;
    Record {
        kind,
        id: id.to_owned(),
        version,
        revision,
        account: account.map(str::to_owned),
        application: application.map(str::to_owned),
        body: body.to_vec(),
    }
}

fn change(
    revision: u64,
    past: <Past as redb::Value>::SelfType<'_>,
) -> Result<Change, RegistryError> {
    let (kind, id, version, account, application, body, at, actor, action, reason) = past;
    let stored = (version, revision, account, application, body);
    let note = Note {
        at: Micros(at),
        actor: actor.to_owned(),
        action: action.to_owned(),
        reason: reason.map(str::to_owned),
    };
    Ok(Change { record: record(kind_named(kind)?, id, stored), note })
}

fn missing(what: &str) -> RegistryError {
    RegistryError::Damaged(format!("{what} is missing; restore the file from a backup"))
}
