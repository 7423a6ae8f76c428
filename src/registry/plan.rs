//! What a batch of commits comes to: each is judged against what the ones before it leave, the same way in every store.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::book::{Change, Kind, Note, Record, RegistryError, Write};

/// What [`Registry::commit`](super::book::Registry::commit) was asked for.
#[derive(Debug)]
pub(super) struct Commit {
    pub(super) writes: Vec<Write>,
    pub(super) note: Note,
}

/// A row of the history, in the order of revision and place.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) record: Record,
    /// Its place among the writes of its revision, from 0.
    pub(super) place: u32,
    pub(super) note: Arc<Note>,
}

/// The rows that a batch leaves.
#[derive(Debug)]
pub(super) struct Plan {
    revision: u64,
    versions: HashMap<(Kind, String), u64>,
    rows: Vec<Row>,
}

impl Plan {
    /// A plan on top of `revision`, where the records that the batch names stand at `versions`.
    pub(super) fn new(revision: u64, versions: HashMap<(Kind, String), u64>) -> Self {
        Self { revision, versions, rows: Vec::new() }
    }

    /// Adds all that a commit writes, or nothing, and says the revision it makes.
    pub(super) fn add(&mut self, commit: &Commit) -> Result<u64, RegistryError> {
        if commit.writes.is_empty() {
            return Ok(self.revision);
        }
        let mut named = HashSet::new();
        for write in &commit.writes {
            let mut version = self.versions.get(&(write.kind, write.id.clone())).copied();
            let twice = !named.insert((write.kind, &write.id));
            if twice {
                version = Some(version.unwrap_or(0) + 1);
            }
            if twice || version != write.replaces {
                return Err(RegistryError::Conflict {
                    kind: write.kind,
                    id: write.id.clone(),
                    version,
                });
            }
        }
        self.revision += 1;
        let note = Arc::new(commit.note.clone());
        for (write, place) in commit.writes.iter().zip(0..) {
            let record = record(write, self.revision);
            self.versions.insert((record.kind, record.id.clone()), record.version);
            self.rows.push(Row { record, place, note: Arc::clone(&note) });
        }
        Ok(self.revision)
    }

    /// The revision that the batch leaves.
    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    /// Every row, each with whether it is what stands in the end.
    pub(super) fn rows(&self) -> impl ExactSizeIterator<Item = (&Row, bool)> {
        self.rows.iter().map(|row| {
            let name = (row.record.kind, row.record.id.clone());
            (row, self.versions.get(&name) == Some(&row.record.version))
        })
    }
}

impl Row {
    /// Whether it makes a key, whose tag is new then.
    pub(super) fn makes_key(&self) -> bool {
        self.record.kind == Kind::Key && self.record.version == 1
    }
}

fn record(write: &Write, revision: u64) -> Record {
    Record {
        kind: write.kind,
        id: write.id.clone(),
        version: write.replaces.unwrap_or(0) + 1,
        revision,
        account: write.account.clone(),
        application: write.application.clone(),
        body: write.body.clone(),
    }
}

/// As many of `changes` as `limit` allows without parting a revision; all of the first in any case.
pub(super) fn whole_revisions(
    changes: impl IntoIterator<Item = Result<Change, RegistryError>>,
    limit: usize,
) -> Result<Vec<Change>, RegistryError> {
    let mut whole: Vec<Change> = Vec::new();
    if limit == 0 {
        return Ok(whole);
    }
    for change in changes {
        let change = change?;
        let revision = change.record.revision;
        if whole.len() >= limit
            && whole.first().is_some_and(|first| first.record.revision != revision)
        {
            whole.retain(|kept| kept.record.revision != revision);
            break;
        }
        whole.push(change);
    }
    Ok(whole)
}

/// The first id that follows `after` in the order of bytes.
pub(super) fn from_after(after: Option<String>) -> String {
    after.map_or_else(String::new, |mut id| {
        id.push('\0');
        id
    })
}

/// The kind that a store calls by this name.
pub(super) fn kind_named(name: &str) -> Result<Kind, RegistryError> {
    Kind::named(name).ok_or_else(|| {
        RegistryError::Damaged("it holds a record of a kind that does not exist".into())
    })
}
