//! A registry in memory, in which others can be made to be faster.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::key::Tag;
use crate::registry::book::{
    Answer, Change, Kind, Note, Query, Record, Registry, RegistryError, Write,
};

/// Records with all their changes.
#[derive(Debug, Default)]
pub(super) struct Memory {
    inner: Mutex<Inner>,
    /// How often somebody else is faster from now on.
    pub(super) races: AtomicUsize,
    pub(super) commits: AtomicUsize,
}

#[derive(Debug, Default)]
struct Inner {
    records: BTreeMap<(Kind, String), Record>,
    changes: Vec<Change>,
}

impl Inner {
    fn commit(&mut self, writes: Vec<Write>, note: &Note) -> Result<u64, RegistryError> {
        let revision = self.changes.last().map_or(1, |last| last.record.revision + 1);
        for write in &writes {
            let stands = self.records.get(&(write.kind, write.id.clone()));
            let version = stands.map(|record| record.version);
            if version != write.replaces {
                return Err(RegistryError::Conflict {
                    kind: write.kind,
                    id: write.id.clone(),
                    version,
                });
            }
        }
        for write in writes {
            let Write { kind, id, replaces, account, application, body } = write;
            let version = replaces.unwrap_or(0) + 1;
            let record = Record { kind, id, version, revision, account, application, body };
            self.changes.push(Change { record: record.clone(), note: note.clone() });
            self.records.insert((kind, record.id.clone()), record);
        }
        Ok(revision)
    }
}

impl Memory {
    /// All that was ever written, with who did it and why.
    pub(super) fn everything(&self) -> Vec<u8> {
        let inner = self.inner.lock().unwrap();
        let mut all = Vec::new();
        for change in &inner.changes {
            all.extend(&change.record.body);
            all.extend(format!("{:?} {:?} ", change.record, change.note).as_bytes());
        }
        all
    }

    /// What was done, in order.
    pub(super) fn actions(&self) -> Vec<String> {
        let inner = self.inner.lock().unwrap();
        inner.changes.iter().map(|change| change.note.action.clone()).collect()
    }
}

fn answer<'a, T: Send + 'a>(found: Result<T, RegistryError>) -> Answer<'a, T> {
    Box::pin(std::future::ready(found))
}

impl Registry for Memory {
    fn find(&self, kind: Kind, id: &str) -> Answer<'_, Option<Record>> {
        answer(Ok(self.inner.lock().unwrap().records.get(&(kind, id.to_owned())).cloned()))
    }

    fn commit(&self, writes: Vec<Write>, note: Note) -> Answer<'_, u64> {
        self.commits.fetch_add(1, Ordering::Relaxed);
        let mut inner = self.inner.lock().unwrap();
        let race =
            self.races.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        let replaced = writes.iter().find(|write| write.replaces.is_some());
        if let (Ok(_), Some(write)) = (race, replaced) {
            let stands = inner.records[&(write.kind, write.id.clone())].clone();
            let Record { kind, id, version, account, application, body, .. } = stands;
            let again = Write { kind, id, replaces: Some(version), account, application, body };
            inner.commit(vec![again], &Note { action: "another".into(), ..note.clone() }).unwrap();
        }
        answer(inner.commit(writes, &note))
    }

    fn list(&self, query: Query) -> Answer<'_, Vec<Record>> {
        let inner = self.inner.lock().unwrap();
        let wanted = |record: &&Record| {
            record.kind == query.kind
                && (query.account.is_none() || record.account == query.account)
                && (query.application.is_none() || record.application == query.application)
                && query.after.as_ref().is_none_or(|after| record.id > *after)
        };
        answer(Ok(inner.records.values().filter(wanted).take(query.limit).cloned().collect()))
    }

    fn history(
        &self,
        kind: Kind,
        id: &str,
        before: Option<u64>,
        limit: usize,
    ) -> Answer<'_, Vec<Change>> {
        let inner = self.inner.lock().unwrap();
        let wanted = |change: &&Change| {
            let record = &change.record;
            record.kind == kind
                && record.id == id
                && before.is_none_or(|before| record.revision < before)
        };
        answer(Ok(inner.changes.iter().rev().filter(wanted).take(limit).cloned().collect()))
    }

    fn since(&self, revision: u64, limit: usize) -> Answer<'_, Vec<Change>> {
        let inner = self.inner.lock().unwrap();
        let later = inner.changes.iter().filter(|change| change.record.revision > revision);
        answer(Ok(later.take(limit).cloned().collect()))
    }

    fn revision(&self) -> Answer<'_, u64> {
        answer(Ok(self.inner.lock().unwrap().changes.last().map_or(0, |last| last.record.revision)))
    }

    fn changed(&self, _revision: u64) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(std::future::ready(()))
    }

    fn key_tags(&self) -> Answer<'_, (Vec<u64>, u64)> {
        let inner = self.inner.lock().unwrap();
        let keys = inner.records.keys().filter(|(kind, _)| *kind == Kind::Key);
        let tags = keys.map(|(_, id)| Tag::of(id).short()).collect();
        answer(Ok((tags, inner.changes.last().map_or(0, |last| last.record.revision))))
    }
}
