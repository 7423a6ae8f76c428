//! A registry in memory that counts what it is asked, and fails or waits when told to.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use countersign::clock::Micros;
use countersign::registry::book::{
    Answer, Change, Kind, Note, Query, Record, Registry, RegistryError, Write,
};
use tokio::sync::{Notify, Semaphore};

#[derive(Clone, Debug, Default)]
pub(crate) struct Pages {
    records: BTreeMap<(Kind, String), Record>,
    history: Vec<Change>,
    revision: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Book {
    pages: Mutex<Pages>,
    written: Notify,
    /// How often a key was asked for.
    pub(crate) finds: AtomicUsize,
    /// Whether it answers nothing.
    pub(crate) is_down: AtomicBool,
    /// Whether it keeps silent about what changes.
    pub(crate) is_silent: AtomicBool,
    /// Where set, lookups of keys that have been made wait here before they are answered.
    gate: Option<Arc<Semaphore>>,
    /// Where set, ids are told only once there are permits.
    tags: Option<Arc<Semaphore>>,
}

impl Book {
    pub(crate) fn behind(self, gate: &Arc<Semaphore>) -> Self {
        Self { gate: Some(Arc::clone(gate)), ..self }
    }

    pub(crate) fn telling_ids_behind(self, tags: &Arc<Semaphore>) -> Self {
        Self { tags: Some(Arc::clone(tags)), ..self }
    }

    pub(crate) fn put(&self, kind: Kind, id: &str, of: (&str, Option<&str>), body: Vec<u8>) -> u64 {
        let mut pages = self.pages.lock().unwrap();
        pages.revision += 1;
        let version = pages.records.get(&(kind, id.to_owned())).map_or(0, |old| old.version) + 1;
        let record = Record {
            kind,
            id: id.into(),
            version,
            revision: pages.revision,
            account: Some(of.0.into()),
            application: of.1.map(Into::into),
            body,
        };
        let at = Micros(pages.revision);
        let note = Note { at, actor: "test".into(), action: "test".into(), reason: None };
        pages.records.insert((kind, id.into()), record.clone());
        pages.history.push(Change { record, note });
        let revision = pages.revision;
        drop(pages);
        self.written.notify_waiters();
        revision
    }

    pub(crate) fn copy(&self) -> Pages {
        self.pages.lock().unwrap().clone()
    }

    pub(crate) fn restore(&self, pages: Pages) {
        *self.pages.lock().unwrap() = pages;
    }

    fn up(&self) -> Result<(), RegistryError> {
        let down = self.is_down.load(Ordering::SeqCst);
        if down { Err(RegistryError::Unavailable("as the test asked".into())) } else { Ok(()) }
    }
}

impl Registry for Book {
    fn find(&self, kind: Kind, id: &str) -> Answer<'_, Option<Record>> {
        let id = id.to_owned();
        Box::pin(async move {
            self.up()?;
            let found = self.pages.lock().unwrap().records.get(&(kind, id)).cloned();
            if kind == Kind::Key {
                self.finds.fetch_add(1, Ordering::SeqCst);
                if let Some(gate) = &self.gate {
                    gate.acquire().await.unwrap().forget();
                }
            }
            Ok(found)
        })
    }

    fn commit(&self, _writes: Vec<Write>, _note: Note) -> Answer<'_, u64> {
        Box::pin(async { Err(RegistryError::Unavailable("tests write by `put`".into())) })
    }

    fn list(&self, query: Query) -> Answer<'_, Vec<Record>> {
        Box::pin(async move {
            self.up()?;
            let pages = self.pages.lock().unwrap();
            let of_kind = pages.records.values().filter(|record| record.kind == query.kind);
            let after =
                of_kind.filter(|record| query.after.as_ref().is_none_or(|id| record.id > *id));
            Ok(after.take(query.limit).cloned().collect())
        })
    }

    fn history(
        &self,
        kind: Kind,
        id: &str,
        before: Option<u64>,
        limit: usize,
    ) -> Answer<'_, Vec<Change>> {
        let id = id.to_owned();
        Box::pin(async move {
            self.up()?;
            let pages = self.pages.lock().unwrap();
            let latest_first = pages.history.iter().rev().filter(|change| {
                let record = &change.record;
                record.kind == kind
                    && *record.id == *id
                    && before.is_none_or(|revision| record.revision < revision)
            });
            Ok(latest_first.take(limit).cloned().collect())
        })
    }

    fn since(&self, revision: u64, limit: usize) -> Answer<'_, Vec<Change>> {
        Box::pin(async move {
            self.up()?;
            let pages = self.pages.lock().unwrap();
            let later = pages.history.iter().filter(|change| change.record.revision > revision);
            Ok(later.take(limit).cloned().collect())
        })
    }

    fn revision(&self) -> Answer<'_, u64> {
        Box::pin(async move {
            self.up()?;
            Ok(self.pages.lock().unwrap().revision)
        })
    }

    fn changed(&self, revision: u64) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            if self.is_silent.load(Ordering::SeqCst) {
                return std::future::pending().await;
            }
            let written = self.written.notified();
            if self.pages.lock().unwrap().revision > revision {
                return;
            }
            written.await;
        })
    }

    fn key_tags(&self) -> Answer<'_, (Vec<u64>, u64)> {
        Box::pin(async move {
            self.up()?;
            if let Some(gate) = &self.tags {
                gate.acquire().await.unwrap().forget();
            }
            let pages = self.pages.lock().unwrap();
            let keys = pages.records.keys().filter(|(kind, _)| *kind == Kind::Key);
            let tags = keys.map(|(_, id)| countersign::key::Tag::of(id).short()).collect();
            Ok((tags, pages.revision))
        })
    }
}
