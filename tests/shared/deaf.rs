//! A registry that at some point says no more what changes, as if nothing did; or says nothing at all until it is let.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use countersign::registry::book::{Answer, Change, Kind, Note, Query, Record, Registry, Write};
use tokio::sync::watch;

#[derive(Debug)]
pub(crate) struct Deaf {
    to: Arc<dyn Registry>,
    hears_nothing: AtomicBool,
    heard: AtomicU64,
    answers: watch::Sender<bool>,
}

impl Deaf {
    pub(crate) fn to(to: Arc<dyn Registry>) -> Self {
        let (answers, _) = watch::channel(true);
        Self { to, hears_nothing: AtomicBool::new(false), heard: AtomicU64::new(0), answers }
    }

    /// One that tells nothing of which keys there are before [`Deaf::answer`].
    pub(crate) fn held(to: Arc<dyn Registry>) -> Self {
        let held = Self::to(to);
        held.answers.send_replace(false);
        held
    }

    pub(crate) fn answer(&self) {
        self.answers.send_replace(true);
    }

    async fn allowed(&self) {
        let mut answers = self.answers.subscribe();
        // An error means that nobody is left to allow it.
        let _ = answers.wait_for(|may| *may).await;
    }

    pub(crate) fn stop_hearing(&self) {
        self.hears_nothing.store(true, Ordering::SeqCst);
    }

    /// The last revision that is told of.
    fn limit(&self, revision: u64) -> u64 {
        if self.hears_nothing.load(Ordering::SeqCst) {
            return self.heard.load(Ordering::SeqCst);
        }
        self.heard.fetch_max(revision, Ordering::SeqCst).max(revision)
    }
}

impl Registry for Deaf {
    fn find(&self, kind: Kind, id: &str) -> Answer<'_, Option<Record>> {
        self.to.find(kind, id)
    }

    fn commit(&self, writes: Vec<Write>, note: Note) -> Answer<'_, u64> {
        self.to.commit(writes, note)
    }

    fn list(&self, query: Query) -> Answer<'_, Vec<Record>> {
        self.to.list(query)
    }

    fn history(
        &self,
        kind: Kind,
        id: &str,
        before: Option<u64>,
        limit: usize,
    ) -> Answer<'_, Vec<Change>> {
        self.to.history(kind, id, before, limit)
    }

    fn since(&self, revision: u64, limit: usize) -> Answer<'_, Vec<Change>> {
        Box::pin(async move {
            self.allowed().await;
            let mut changes = self.to.since(revision, limit).await?;
            let last = changes.last().map_or(0, |change| change.record.revision);
            let most = self.limit(last);
            changes.retain(|change| change.record.revision <= most);
            Ok(changes)
        })
    }

    fn revision(&self) -> Answer<'_, u64> {
        Box::pin(async move {
            self.allowed().await;
            Ok(self.limit(self.to.revision().await?))
        })
    }

    fn changed(&self, _: u64) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(tokio::time::sleep(std::time::Duration::from_millis(5)))
    }

    fn key_tags(&self) -> Answer<'_, (Vec<u64>, u64)> {
        Box::pin(async move {
            self.allowed().await;
            self.to.key_tags().await
        })
    }
}
