//! The audit trail: who did what, from where, and what became of it, in files whose alteration shows.
//!
//! ```text
//! workers --Recorder--> batches ┐
//! admin acts, intents ----------┼-> Writer: one thread -> lines, each linked to the one before -> segments
//! unproven refusals, in sums ---┘            |            signed checkpoints now and then
//!                                            └-> Unusual -> events, metric, webhook
//! ```
//!
//! There is a record of every request that proved who sent it, of every WebSocket that one opened, and of every admin act; what nobody has proved is
//! told in sums. Acts, and intents on routes that ask for them, are on the disk before they are answered; records of
//! requests follow within two seconds. [`verify()`] names the first line that was altered, removed or put in;
//! [`search()`] and [`Tail`] read the files, of a running gateway too.

mod chain;
mod checkpoint;
mod head;
mod read;
mod record;
mod recorder;
mod seen;
mod segments;
mod text;
mod unproven;
mod unusual;
mod verify;
mod webhook;
mod writer;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::clock::Clock;
use crate::metrics::AuditMeter;

pub use checkpoint::PublicKey;
pub(crate) use head::ELSEWHERE;
pub use head::Noted;
pub use read::{Activity, Filter, Tail, activity, search};
pub use record::{Act, Closing, Ending, Request, VERSION};
pub use recorder::Recorder;
pub use segments::OpenError;
pub use text::{moment_text, parse_moment};
pub use unusual::Kind;
pub use verify::{Broken, Flaw, Verified, VerifyError, public_key, verify, verify_up_to};
pub(crate) use webhook::connector;
pub use webhook::{Webhook, secret as webhook_secret};

use segments::Segments;
use webhook::Outbox;
use writer::{Item, Shared, Writer};

/// How a trail is kept.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Its directory.
    pub dir: PathBuf,
    /// The size of a segment, in bytes, from which the next one is begun.
    pub segment_bytes: u64,
    /// The age of a segment from which the next one is begun.
    pub segment_age: Duration,
    /// How many segments are kept; all when 0.
    pub keep: usize,
    /// How often what came is signed.
    pub checkpoint: Duration,
    /// How long a key must be unused for its next use to be unusual.
    pub idle: Duration,
    /// Who is told what is unusual.
    pub webhook: Option<Webhook>,
    /// Where it is kept as well how far the trail has come: a file elsewhere than in `dir`.
    pub head: Option<PathBuf>,
}

impl Rules {
    /// The rules of a trail in `dir` of which nothing else is said.
    pub fn of(dir: PathBuf) -> Self {
        Self {
            dir,
            segment_bytes: 64 << 20,
            segment_age: Duration::from_hours(24),
            keep: 0,
            checkpoint: Duration::from_secs(10),
            idle: Duration::from_hours(30 * 24),
            webhook: None,
            head: None,
        }
    }
}

/// What a route asks of the trail.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Demand {
    /// Whether its requests are refused while the trail cannot be written.
    pub required: bool,
    /// Whether a record of the intent is on the disk before a request is forwarded.
    pub intent: bool,
}

/// What was to be recorded is not, or nobody knows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Unrecorded;

impl fmt::Display for Unrecorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the audit trail cannot be written")
    }
}

impl std::error::Error for Unrecorded {}

/// A trail that is being written.
pub struct Trail {
    queue: SyncSender<Item>,
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
    dir: PathBuf,
    public: PublicKey,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl fmt::Debug for Trail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trail").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl Trail {
    /// Opens the trail and starts to write. `routes` are the names of all routes, in order.
    pub fn start(
        rules: Rules,
        routes: Arc<[Arc<str>]>,
        clock: Arc<dyn Clock>,
        meter: AuditMeter,
    ) -> Result<Self, OpenError> {
        let dir = rules.dir.clone();
        let opened = Segments::open(&dir, rules.head.clone(), clock.now())?;
        let public = opened.0.sealer.public();
        let unwritable = |error| OpenError::Unwritable(dir.clone(), error);
        let outbox = match &rules.webhook {
            Some(webhook) => {
                Some(Outbox::start(webhook, Arc::clone(&clock), &meter).map_err(unwritable)?)
            }
            None => None,
        };
        let (queue, items) = sync_channel(QUEUE);
        let shared = Arc::new(Shared::new(meter));
        let writer =
            Writer::new(rules, routes, Arc::clone(&clock), Arc::clone(&shared), opened, outbox);
        let thread = std::thread::Builder::new().name("audit".into());
        let thread = thread.spawn(move || writer.run(&items)).map_err(unwritable)?;
        let thread = Mutex::new(Some(thread));
        Ok(Self { queue, shared, clock, dir, public, thread })
    }

    /// What one worker tells the trail with.
    pub fn recorder(&self) -> Recorder {
        Recorder::new(self.queue.clone(), Arc::clone(&self.shared))
    }

    /// Records an act; returns once it is on the disk.
    pub async fn act(&self, act: &Act<'_>) -> Result<(), Unrecorded> {
        let mut piece = Vec::new();
        act.write(self.clock.now(), &mut piece);
        let (then, written) = oneshot::channel();
        self.queue.try_send(Item::Act(piece, then)).map_err(|_| Unrecorded)?;
        let written = tokio::time::timeout(recorder::PATIENCE, written).await;
        written.ok().and_then(Result::ok).unwrap_or(Err(Unrecorded))
    }

    /// Whether the last write succeeded.
    pub fn is_writing(&self) -> bool {
        self.shared.is_writing()
    }

    /// Returns once all that was handed over before is written, or cannot be.
    pub fn settle(&self) {
        let (told, done) = sync_channel(1);
        if self.queue.send(Item::Settle(told)).is_ok() {
            // An error means that the writer has ended: then there is nothing to wait for.
            let _ = done.recv();
        }
    }

    /// Where its files are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What its checkpoints are verified with.
    pub fn public_key(&self) -> PublicKey {
        self.public
    }

    /// Writes what is left, signs it, and ends. What is told afterwards is lost.
    pub fn close(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && self.queue.send(Item::Close).is_ok()
        {
            // It can only have ended by a panic, and then there is nothing left to wait for.
            let _ = thread.join();
        }
    }
}

impl Drop for Trail {
    fn drop(&mut self) {
        self.close();
    }
}

/// Batches on their way to the writer at a time.
const QUEUE: usize = 256;

/// Reads the files of segments in order.
fn segments(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let numbers = segments::numbers(dir)?;
    Ok(numbers.into_iter().map(|number| (number, segments::path(dir, number))).collect())
}

#[cfg(test)]
mod tests;
