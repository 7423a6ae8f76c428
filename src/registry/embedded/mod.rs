//! The registry of one gateway: a file of its own, or memory alone.

mod fault;
mod file;
mod gossip;
mod marks;
mod shelf;
mod storage;
mod tables;
mod threads;

use std::fmt;
use std::path::Path;
use std::pin::Pin;

use redb::Database;
use tokio::sync::{oneshot, watch};

use self::shelf::{Opening, Shelf};
use self::storage::Watched;
use self::threads::Threads;
use super::book::{Answer, Change, Kind, Note, Query, Record, Registry, RegistryError, Write};
use super::gossip::{Place, Topic, Word, latest};
use super::migrate::Migrated;
use super::plan::Commit;
use crate::clock::Micros;

/// The newest format of the file.
pub const FORMAT: u64 = file::FORMAT;

/// A registry in one file that this process alone has open, or in memory.
///
/// What is committed is on the disk before it is answered. Commits that come at the same time share one wait for the
/// disk. It needs no runtime: its threads do what can block. A disk that fails makes it unavailable until it works again.
pub struct Embedded {
    threads: Threads,
    revision: watch::Receiver<u64>,
    migrated: Migrated,
}

impl Embedded {
    /// Opens the registry in `path`, which is made where there is none; the directory must be there.
    pub fn open(path: &Path) -> Result<Self, RegistryError> {
        let path = path.to_owned();
        Self::start(Box::new(move |health| file::open(&path, health)))
    }

    /// An empty registry that ends with it.
    pub fn in_memory() -> Result<Self, RegistryError> {
        Self::start(Box::new(|_| file::in_memory()))
    }

    /// The registry on storage of the caller's own, which is made there where there is none. Clones are the same storage:
    /// one is taken whenever it is opened again.
    pub fn on(storage: impl redb::StorageBackend + Clone) -> Result<Self, RegistryError> {
        Self::start(Box::new(move |health| file::on(Watched::new(storage.clone(), health))))
    }

    /// What was done to bring it up to date when it was opened.
    pub fn migrated(&self) -> &Migrated {
        &self.migrated
    }

    /// How many records of each kind there are.
    pub fn counts(&self) -> Answer<'_, Vec<(Kind, u64)>> {
        self.ask(tables::counts)
    }

    fn start(opening: Opening) -> Result<Self, RegistryError> {
        let (shelf, migrated) = Shelf::new(opening)?;
        let revision = shelf.revision();
        Ok(Self { threads: Threads::start(shelf)?, revision, migrated })
    }

    /// Has a thread read, and waits for what it found.
    fn ask<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Database) -> Result<T, RegistryError> + Send + 'static,
    ) -> Answer<'_, T> {
        let (sender, answer) = oneshot::channel();
        self.threads.ask(Box::new(move |shelf| drop(sender.send(shelf.with(read)))));
        Box::pin(async move { answer.await.unwrap_or_else(|_| Err(gone())) })
    }
}

impl Registry for Embedded {
    fn is_shared(&self) -> bool {
        false
    }

    fn find(&self, kind: Kind, id: &str) -> Answer<'_, Option<Record>> {
        let id = id.to_owned();
        self.ask(move |db| tables::find(db, kind, &id))
    }

    fn commit(&self, writes: Vec<Write>, note: Note) -> Answer<'_, u64> {
        Box::pin(async move {
            let (sender, answer) = oneshot::channel();
            let request = (Commit { writes, note }, sender);
            self.threads.commits().ok_or_else(gone)?.send(request).await.map_err(|_| gone())?;
            answer.await.unwrap_or_else(|_| Err(gone()))
        })
    }

    fn list(&self, query: Query) -> Answer<'_, Vec<Record>> {
        self.ask(move |db| tables::list(db, query))
    }

    fn history(
        &self,
        kind: Kind,
        id: &str,
        before: Option<u64>,
        limit: usize,
    ) -> Answer<'_, Vec<Change>> {
        let id = id.to_owned();
        self.ask(move |db| tables::history(db, kind, &id, before.unwrap_or(u64::MAX), limit))
    }

    fn since(&self, revision: u64, limit: usize) -> Answer<'_, Vec<Change>> {
        self.ask(move |db| tables::since(db, revision, limit))
    }

    fn revision(&self) -> Answer<'_, u64> {
        self.ask(tables::revision)
    }

    fn changed(&self, revision: u64) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        let mut known = self.revision.clone();
        Box::pin(async move {
            // Where the writer has ended there is nothing to wait for.
            drop(known.wait_for(|known| *known != revision).await);
        })
    }

    fn key_tags(&self) -> Answer<'_, (Vec<u64>, u64)> {
        self.ask(tables::key_tags)
    }

    fn holders(&self, after: Option<String>, limit: usize) -> Answer<'_, Vec<String>> {
        self.ask(move |db| tables::holders(db, after, limit))
    }

    fn tell(&self, topic: Topic, words: Vec<Word>, forget: Option<Micros>) -> Answer<'_, ()> {
        self.ask(move |db| gossip::tell(db, topic, &latest(words), forget))
    }

    fn told(&self, topic: Topic, after: Place, limit: usize) -> Answer<'_, Vec<(Place, Word)>> {
        self.ask(move |db| gossip::told(db, topic, &after, limit))
    }

    fn told_of(&self, topic: Topic, ids: Vec<String>) -> Answer<'_, Vec<Word>> {
        self.ask(move |db| gossip::told_of(db, topic, &ids))
    }

    fn unsay(&self, topic: Topic, id: &str) -> Answer<'_, ()> {
        let id = id.to_owned();
        self.ask(move |db| gossip::unsay(db, topic, &id))
    }

    fn reserve(&self, mark: [u8; 16], least: u64, up_to: u64) -> Answer<'_, u64> {
        self.ask(move |db| marks::reserve(db, mark, least, up_to))
    }

    fn reserved(&self, mark: [u8; 16]) -> Answer<'_, u64> {
        self.ask(move |db| marks::reserved(db, mark))
    }
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Embedded(revision {})", *self.revision.borrow())
    }
}

fn gone() -> RegistryError {
    RegistryError::Unavailable(
        "a thread of it has ended, as the log says; start the gateway again".into(),
    )
}
