//! The data plane's end of the trail: gathers what a worker has to tell, and hands it over without waiting.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::Unrecorded;
use super::record::{Closing, Ending, Entry, Request};
use super::unproven::Refused;
use super::writer::{Item, Shared};

/// What one worker has gathered.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) entries: Vec<Entry>,
    /// The texts of all entries, one after the other.
    pub(super) text: String,
    pub(super) refused: Refused,
    /// Records for which there was no room.
    pub(super) lost: u64,
    /// Who waits until this is on the disk.
    pub(super) then: Option<oneshot::Sender<Result<(), Unrecorded>>>,
}

impl Batch {
    pub(super) fn new() -> Self {
        Self {
            entries: Vec::with_capacity(BATCH),
            text: String::with_capacity(BATCH * 128),
            refused: Refused::new(SOURCES),
            lost: 0,
            then: None,
        }
    }

    /// Empty again, its memory kept.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.text.clear();
        self.lost = 0;
    }

    fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.refused.is_empty() && self.lost == 0
    }
}

/// Records the requests of one worker, on its thread.
pub struct Recorder {
    queue: SyncSender<Item>,
    shared: Arc<Shared>,
    batch: RefCell<Batch>,
    /// Whether the last hand-over found no room.
    stuck: Cell<bool>,
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("stuck", &self.stuck).finish_non_exhaustive()
    }
}

impl Recorder {
    pub(super) fn new(queue: SyncSender<Item>, shared: Arc<Shared>) -> Self {
        Self { queue, shared, batch: RefCell::new(Batch::new()), stuck: Cell::new(false) }
    }

    /// Records a request that has ended.
    pub fn ended(&self, request: &Request<'_>, ending: Ending) {
        self.record(|text| Entry::of(request, Some(ending), text));
    }

    /// Records a WebSocket that has ended; `request` is the one that opened it, and when it was open.
    pub fn closed(&self, request: &Request<'_>, closing: Closing) {
        self.record(|text| Entry::of(request, None, text).closed(closing));
    }

    fn record(&self, entry: impl FnOnce(&mut String) -> Entry) {
        let mut batch = self.batch.borrow_mut();
        if batch.entries.len() >= BACKLOG {
            batch.lost += 1;
            self.shared.meter.lost(1);
            return;
        }
        let batch = &mut *batch;
        let entry = entry(&mut batch.text);
        batch.entries.push(entry);
    }

    /// Counts a refusal of what nobody has proved; `denial` is a place in
    /// [`Denial::REASONS`](crate::denial::Denial::REASONS).
    pub fn refused(&self, peer: IpAddr, denial: usize) {
        self.batch.borrow_mut().refused.count(peer, denial);
    }

    /// Hands over what was gathered, if there is enough of it.
    pub fn settle(&self) {
        let gathered = self.batch.borrow().entries.len();
        if gathered >= BATCH && gathered.is_multiple_of(BATCH) {
            self.flush();
        }
    }

    /// Hands over what was gathered. Where the writer has fallen far behind it is kept, up to a bound.
    pub fn flush(&self) {
        let mut batch = self.batch.borrow_mut();
        if batch.is_empty() {
            return;
        }
        let full = std::mem::replace(&mut *batch, self.shared.spare());
        match self.queue.try_send(Item::Batch(full)) {
            Ok(()) => self.stuck.set(false),
            Err(TrySendError::Full(item) | TrySendError::Disconnected(item)) => {
                self.stuck.set(true);
                if let Item::Batch(full) = item {
                    *batch = full;
                }
            }
        }
    }

    /// Whether what is told here gets written: whoever may do nothing unrecorded asks first.
    pub fn is_recording(&self) -> bool {
        !self.stuck.get() && self.shared.is_writing()
    }

    /// Returns once it is on the disk that this request is about to be forwarded.
    pub async fn intend(&self, request: &Request<'_>) -> Result<(), Unrecorded> {
        let mut batch = self.shared.spare();
        let entry = Entry::of(request, None, &mut batch.text);
        batch.entries.push(entry);
        let (then, written) = oneshot::channel();
        batch.then = Some(then);
        self.queue.try_send(Item::Batch(batch)).map_err(|_| Unrecorded)?;
        tokio::time::timeout(PATIENCE, written)
            .await
            .ok()
            .and_then(Result::ok)
            .unwrap_or(Err(Unrecorded))
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Requests that are handed over together.
const BATCH: usize = 256;
/// Requests that a worker keeps while the writer takes none.
const BACKLOG: usize = 16 * BATCH;
/// Sources whose unproven refusals one worker counts apart between two flushes.
const SOURCES: usize = 512;
/// The longest that a request waits for a disk.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
