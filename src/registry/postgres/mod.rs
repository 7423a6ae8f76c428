//! The registry that several gateways share: tables in PostgreSQL.

mod fault;
mod gossip;
mod link;
mod marks;
mod migrate;
mod options;
mod reader;
mod schema;
mod statements;
mod watcher;
mod writer;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc as blocking;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};

use self::fault::{Failure, closed, late};
use self::link::{Link, Live, Once};
pub use self::options::{BadUrl, Options};
use self::watcher::Pulse;
use self::writer::{Request, WAITING};
use super::book::{Answer, Change, Kind, Note, Query, Record, Registry, RegistryError, Write};
use super::gossip::{Place, Topic, Word, latest};
use super::migrate::Migrated;
use super::plan::Commit;
use crate::clock::Micros;

/// A registry in PostgreSQL.
///
/// A thread of its own drives all connections, so it can be asked from any thread, with a runtime or without. A
/// connection that is lost comes back by itself, after waits that double up to a second. Every answer comes within
/// [`Options::timeout`], if only to say that there is none.
pub struct Postgres {
    shared: Arc<Shared>,
    commits: mpsc::Sender<Request>,
    pulse: watch::Receiver<Pulse>,
    runtime: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    options: Arc<Options>,
    readers: Vec<Link>,
    turn: AtomicUsize,
}

impl Postgres {
    /// Connects, and sees that the tables are of the format that this program knows: it never changes them.
    ///
    /// Blocks until then, at most as long as connecting may take.
    pub fn open(options: Options) -> Result<Self, RegistryError> {
        let options = Arc::new(options);
        let (pulse, known) = watch::channel(Pulse::default());
        let link = || Link::new(Arc::clone(&options), pulse.clone());
        let readers = (0..options.connections.max(1)).map(|_| link()).collect();
        let turn = AtomicUsize::new(0);
        let shared = Arc::new(Shared { options: Arc::clone(&options), readers, turn });
        let (commits, requests) = mpsc::channel(WAITING);
        let (stop, stopped) = oneshot::channel();
        let (opened, outcome) = blocking::sync_channel(1);
        let (asked, limit, writing, watching) =
            (Arc::clone(&shared), options.timeout, link(), link());
        let work = async move {
            let first = asked.ask(reader::revision).await;
            let good = first.as_ref().map(|revision| Pulse::reached(&pulse, *revision)).is_ok();
            drop(opened.send(first.map(|_| Handle::current())));
            if good {
                tokio::spawn(watcher::watch(Arc::new(watching), pulse.clone(), limit));
                tokio::spawn(writer::write(Arc::new(writing), pulse, requests, limit));
                // An end without word is the end too.
                drop(stopped.await);
            }
        };
        let thread = thread::Builder::new().name("registry".into()).spawn(move || {
            // Where there is no runtime, `outcome` tells.
            let runtime = Builder::new_current_thread().enable_all().build();
            drop(runtime.map(|runtime| runtime.block_on(work)));
        });
        let thread = thread.map_err(|error| {
            RegistryError::Unavailable(format!("a thread cannot be started: {error}"))
        })?;
        let runtime = outcome.recv().unwrap_or_else(|_| Err(closed()))?;
        let (stop, thread) = (Some(stop), Some(thread));
        Ok(Self { shared, commits, pulse: known, runtime, stop, thread })
    }

    /// Brings the tables to the newest format. Blocks; call it where nothing asynchronous runs.
    pub fn migrate(options: &Options) -> Result<Migrated, RegistryError> {
        wait_for(migrate::migrate(options))
    }

    /// The format of the tables, 0 where there are none, and the newest one. Blocks, as [`Self::migrate`] does.
    pub fn format(options: &Options) -> Result<(u64, u64), RegistryError> {
        let newest = u64::from(schema::FORMAT.unsigned_abs());
        let format = wait_for(async {
            let connection =
                Once::connect(options, options.timeout).await.map_err(Failure::told)?;
            let asked = timeout(options.timeout, migrate::format(&connection.client)).await;
            asked.map_err(|_| late(options.timeout))?.map_err(Failure::told)
        })?;
        Ok((u64::from(format.unsigned_abs()), newest))
    }

    /// How many records of each kind there are.
    pub fn counts(&self) -> Answer<'_, Vec<(Kind, u64)>> {
        let options = Arc::clone(&self.shared.options);
        self.on_runtime(async move { at_leisure(reader::counts(&options)).await })
    }

    /// Asks one of the connections that read.
    fn ask<T, F>(&self, question: impl Fn(Arc<Live>) -> F + Send + Sync + 'static) -> Answer<'_, T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Failure>> + Send,
    {
        let shared = Arc::clone(&self.shared);
        self.on_runtime(async move { shared.ask(question).await })
    }

    fn on_runtime<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, RegistryError>> + Send + 'static,
    ) -> Answer<'_, T> {
        let asked = self.runtime.spawn(work);
        Box::pin(async move { asked.await.unwrap_or_else(|_| Err(closed())) })
    }
}

impl Shared {
    /// Asks within the time there is. Where a connection proves to be gone, once more on a new one: reading twice
    /// does no harm.
    async fn ask<T, F>(&self, question: impl Fn(Arc<Live>) -> F) -> Result<T, RegistryError>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let until = Instant::now() + self.options.timeout;
        let mut again = true;
        loop {
            let live = timeout_at(until, self.live()).await;
            let (link, live) = live.map_err(|_| late(self.options.timeout))??;
            let (why, gone) = match timeout_at(until, question(Arc::clone(&live))).await {
                Ok(Ok(found)) => return Ok(found),
                Ok(Err(failure)) if !failure.ends_connection() => return Err(failure.told()),
                Ok(Err(failure)) => (failure.told(), true),
                Err(_) => (late(self.options.timeout), false),
            };
            link.give_up(&live, why.clone()).await;
            if !gone || !std::mem::take(&mut again) {
                return Err(why);
            }
        }
    }

    /// The next connection in turn that works: one that waits to be tried again does not keep the others from use.
    async fn live(&self) -> Result<(&Link, Arc<Live>), RegistryError> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.readers.len().max(1);
        let (before, from) = self.readers.split_at_checked(turn).unwrap_or_default();
        let mut last = closed();
        for link in from.iter().chain(before) {
            match link.live().await {
                Ok(live) => return Ok((link, live)),
                Err(why) => last = why,
            }
        }
        Err(last)
    }
}

impl Registry for Postgres {
    fn find(&self, kind: Kind, id: &str) -> Answer<'_, Option<Record>> {
        let id: Arc<str> = Arc::from(id);
        self.ask(move |live| reader::find(live, kind, Arc::clone(&id)))
    }

    fn commit(&self, writes: Vec<Write>, note: Note) -> Answer<'_, u64> {
        let until = Instant::now() + self.shared.options.timeout;
        Box::pin(async move {
            let (sender, answer) = oneshot::channel();
            let request = Request { commit: Commit { writes, note }, until, answer: sender };
            self.commits.send(request).await.map_err(|_| closed())?;
            answer.await.unwrap_or_else(|_| Err(closed()))
        })
    }

    fn list(&self, query: Query) -> Answer<'_, Vec<Record>> {
        let query = Arc::new(query);
        self.ask(move |live| reader::list(live, Arc::clone(&query)))
    }

    fn history(
        &self,
        kind: Kind,
        id: &str,
        before: Option<u64>,
        limit: usize,
    ) -> Answer<'_, Vec<Change>> {
        let (id, before): (Arc<str>, _) = (Arc::from(id), before.unwrap_or(u64::MAX));
        self.ask(move |live| reader::history(live, kind, Arc::clone(&id), before, limit))
    }

    fn since(&self, revision: u64, limit: usize) -> Answer<'_, Vec<Change>> {
        self.ask(move |live| reader::since(live, revision, limit))
    }

    fn revision(&self) -> Answer<'_, u64> {
        self.ask(reader::revision)
    }

    fn changed(&self, revision: u64) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        let mut known = self.pulse.clone();
        let beat = known.borrow().beat;
        Box::pin(async move {
            let worth_asking = |now: &Pulse| now.revision != revision || now.beat != beat;
            // Where the watcher has ended there is nothing to wait for.
            drop(known.wait_for(worth_asking).await);
        })
    }

    fn key_tags(&self) -> Answer<'_, (Vec<u64>, u64)> {
        let options = Arc::clone(&self.shared.options);
        self.on_runtime(async move { at_leisure(reader::key_tags(&options)).await })
    }

    fn holders(&self, after: Option<String>, limit: usize) -> Answer<'_, Vec<String>> {
        let after: Arc<str> = after.unwrap_or_default().into();
        self.ask(move |live| reader::holders(live, Arc::clone(&after), limit))
    }

    fn tell(&self, topic: Topic, words: Vec<Word>, forget: Option<Micros>) -> Answer<'_, ()> {
        let words: Arc<[Word]> = latest(words).into();
        self.ask(move |live| gossip::tell(live, topic, Arc::clone(&words), forget))
    }

    fn told(&self, topic: Topic, after: Place, limit: usize) -> Answer<'_, Vec<(Place, Word)>> {
        let after = Arc::new(after);
        self.ask(move |live| gossip::told(live, topic, Arc::clone(&after), limit))
    }

    fn told_of(&self, topic: Topic, ids: Vec<String>) -> Answer<'_, Vec<Word>> {
        let ids: Arc<[String]> = ids.into();
        self.ask(move |live| gossip::told_of(live, topic, Arc::clone(&ids)))
    }

    fn unsay(&self, topic: Topic, id: &str) -> Answer<'_, ()> {
        let id: Arc<str> = Arc::from(id);
        self.ask(move |live| gossip::unsay(live, topic, Arc::clone(&id)))
    }

    fn reserve(&self, mark: [u8; 16], least: u64, up_to: u64) -> Answer<'_, u64> {
        // It never falls, so reserving twice does no harm either.
        self.ask(move |live| marks::reserve(live, mark, least, up_to))
    }

    fn reserved(&self, mark: [u8; 16]) -> Answer<'_, u64> {
        self.ask(move |live| marks::reserved(live, mark))
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // If it panicked, it has said so.
            drop(thread.join());
        }
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let revision = self.pulse.borrow().revision;
        write!(f, "Postgres({}, revision {revision})", self.shared.options.place())
    }
}

/// Time for what reads a whole table, on a connection of its own.
const LEISURE: Duration = Duration::from_secs(30);

async fn at_leisure<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, RegistryError> {
    timeout(LEISURE, work).await.map_err(|_| late(LEISURE))?.map_err(Failure::told)
}

/// Waits for what needs a runtime where there is none.
fn wait_for<T>(work: impl Future<Output = Result<T, RegistryError>>) -> Result<T, RegistryError> {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| {
        RegistryError::Unavailable(format!("there are no sockets to be had: {error}"))
    })?;
    runtime.block_on(work)
}
