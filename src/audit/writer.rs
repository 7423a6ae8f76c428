//! The thread that writes: it numbers, links, syncs and seals what all others tell.
//!
//! Whatever fails is tried again. Until it succeeds what came is kept, up to a bound; what is dropped beyond it is
//! counted, and the trail says so as soon as it can.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::record::{begin, count, plain};
use super::recorder::Batch;
use super::segments::{Found, Segments};
use super::unproven::Refused;
use super::unusual::Unusual;
use super::webhook::Outbox;
use super::{Rules, Unrecorded};
use crate::clock::{Clock, Micros};
use crate::metrics::AuditMeter;

/// What the writer is told.
pub(super) enum Item {
    /// By a worker.
    Batch(Batch),
    /// By whoever acts, who waits until it is on the disk.
    Act(Vec<u8>, oneshot::Sender<Result<(), Unrecorded>>),
    /// Say when all that was told before is written.
    Settle(SyncSender<()>),
    /// End, when that is done.
    Close,
}

/// What the writer and those who tell it things share.
#[derive(Debug)]
pub(super) struct Shared {
    writing: AtomicBool,
    spare: Mutex<Vec<Batch>>,
    pub(super) meter: AuditMeter,
}

impl Shared {
    pub(super) fn new(meter: AuditMeter) -> Self {
        Self { writing: AtomicBool::new(true), spare: Mutex::default(), meter }
    }

    /// Whether the last write succeeded.
    pub(super) fn is_writing(&self) -> bool {
        self.writing.load(Ordering::Relaxed)
    }

    /// An empty batch.
    pub(super) fn spare(&self) -> Batch {
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
        spare.unwrap_or_else(Batch::new)
    }

    fn give_back(&self, mut batch: Batch) {
        batch.clear();
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < SPARE {
            spare.push(batch);
        }
    }
}

/// The writer, on its thread.
pub(super) struct Writer {
    pub(super) rules: Rules,
    pub(super) routes: Arc<[Arc<str>]>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) shared: Arc<Shared>,
    segments: Segments,
    unusual: Unusual,
    outbox: Option<Outbox>,
    /// Records that wait to be written, each ended by a newline, and those that somebody waits for.
    pieces: Vec<u8>,
    urgent: Vec<u8>,
    waiting: Vec<oneshot::Sender<Result<(), Unrecorded>>>,
    /// Memory for lines.
    lines: Vec<u8>,
    refused: Refused,
    refused_since: Micros,
    lost: u64,
    unsynced: bool,
    synced: Instant,
    sealed: (u64, Instant),
    began: Instant,
}

impl Writer {
    pub(super) fn new(
        rules: Rules,
        routes: Arc<[Arc<str>]>,
        clock: Arc<dyn Clock>,
        shared: Arc<Shared>,
        (segments, found): (Segments, Found),
        outbox: Option<Outbox>,
    ) -> Self {
        let (now, at) = (clock.now(), Instant::now());
        let mut writer = Self {
            unusual: Unusual::open(&rules),
            rules,
            routes,
            clock,
            shared,
            sealed: (segments.link.count, at),
            segments,
            outbox,
            pieces: Vec::new(),
            urgent: Vec::new(),
            waiting: Vec::new(),
            lines: Vec::new(),
            refused: Refused::new(SOURCES),
            refused_since: now,
            lost: 0,
            unsynced: false,
            synced: at,
            began: at,
        };
        writer.event("started", &[], now);
        if found.torn > 0 {
            writer.event("torn_line_cut", &[("bytes", found.torn)], now);
        }
        if let Some((segment, line)) = found.broken {
            writer.event("chain_broken", &[("segment", segment), ("line", line)], now);
        }
        if let Some((written, left)) = found.cut {
            tracing::error!(written, left, "the end of the audit trail was cut off");
            writer.event("end_cut", &[("written", written), ("left", left)], now);
        }
        writer
    }

    /// Writes until it is told to end.
    pub(super) fn run(mut self, queue: &Receiver<Item>) {
        let mut done = Vec::new();
        loop {
            let mut over = false;
            match queue.recv_timeout(TICK) {
                Ok(item) => over = self.take(item, &mut done),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => over = true,
            }
            while !over && self.pieces.len() < MUCH {
                let Ok(item) = queue.try_recv() else { break };
                over = self.take(item, &mut done);
            }
            let now = self.clock.now();
            if over || now.since(self.refused_since) >= REFUSED_EVERY {
                self.tell_refused(now);
            }
            let written = self.write(now);
            self.answer(written);
            for told in done.drain(..) {
                // Whoever asked may have gone.
                let _: Result<(), _> = SyncSender::send(&told, ());
            }
            if over {
                self.close(now);
                return;
            }
            if written {
                self.keep_up(now);
            } else {
                // Nothing more is taken while nothing can be written: those who tell see their queue fill.
                while self.pieces.len() >= MOST && !self.write(self.clock.now()) {
                    std::thread::sleep(TICK);
                }
            }
        }
    }

    /// Takes one thing in; true if it is time to end.
    fn take(&mut self, item: Item, done: &mut Vec<SyncSender<()>>) -> bool {
        match item {
            Item::Batch(mut batch) => {
                let to = if batch.then.is_some() { &mut self.urgent } else { &mut self.pieces };
                let mut text = &*batch.text;
                for entry in &batch.entries {
                    let texts = entry.texts(&mut text);
                    entry.write(&texts, &self.routes, to);
                    to.push(b'\n');
                    if entry.ending.is_some() {
                        let begin = to.len();
                        if self.unusual.look(entry, &texts, &self.shared.meter, to)
                            && let Some(outbox) = &self.outbox
                        {
                            outbox.post(to.get(begin..).unwrap_or_default());
                        }
                    }
                }
                self.shared.meter.requests(batch.entries.len());
                self.refused.take(&mut batch.refused);
                self.lost += batch.lost;
                self.waiting.extend(batch.then.take());
                self.shared.give_back(batch);
            }
            Item::Act(piece, then) => {
                self.urgent.extend_from_slice(&piece);
                self.urgent.push(b'\n');
                self.waiting.push(then);
                self.shared.meter.acts(1);
            }
            Item::Settle(told) => done.push(told),
            Item::Close => return true,
        }
        false
    }

    fn event(&mut self, what: &str, counts: &[(&str, u64)], now: Micros) {
        begin("event", now, &mut self.pieces);
        plain("event", what, &mut self.pieces);
        for (name, value) in counts {
            count(name, *value, &mut self.pieces);
        }
        self.pieces.push(b'\n');
    }

    fn tell_refused(&mut self, now: Micros) {
        if !self.refused.is_empty() {
            let records = self.refused.write(self.refused_since, now, &mut self.pieces);
            self.shared.meter.unproven(records);
        }
        self.refused_since = now;
    }

    /// Writes all that waits. Where that fails it waits on, but for what somebody waits for.
    fn write(&mut self, now: Micros) -> bool {
        if self.lost > 0 && self.pieces.len() < MOST {
            let lost = std::mem::take(&mut self.lost);
            self.event("records_lost", &[("count", lost)], now);
        }
        let written = self.try_write(now);
        self.note(&written)
    }

    fn try_write(&mut self, now: Micros) -> io::Result<()> {
        if !self.shared.is_writing() && !self.segments.is_in_place() {
            self.segments.next(now)?;
        }
        if self.pieces.is_empty() && self.urgent.is_empty() && self.shared.is_writing() {
            return Ok(());
        }
        let (mut pieces, mut urgent) =
            (std::mem::take(&mut self.pieces), std::mem::take(&mut self.urgent));
        let mut left = &*pieces;
        let mut written = Ok(());
        while written.is_ok() && !left.is_empty() {
            written = self.write_some(&mut left, now);
        }
        let mut rest = &*urgent;
        while written.is_ok() && !rest.is_empty() {
            written = self.write_some(&mut rest, now);
        }
        let taken = pieces.len() - left.len();
        pieces.drain(..taken);
        urgent.clear();
        (self.pieces, self.urgent) = (pieces, urgent);
        written?;
        self.unsynced = true;
        if self.waiting.is_empty() && self.shared.is_writing() { Ok(()) } else { self.sync() }
    }

    /// Writes as many of `pieces` as this segment has room for, and takes them off.
    fn write_some(&mut self, pieces: &mut &[u8], now: Micros) -> io::Result<()> {
        let is_old = self.began.elapsed() >= self.rules.segment_age;
        if is_old || self.segments.length >= self.rules.segment_bytes {
            self.segments.rotate(now, self.rules.keep)?;
            self.began = Instant::now();
            self.sealed = (self.segments.link.count, self.began);
        }
        let room = self.rules.segment_bytes.saturating_sub(self.segments.length);
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        self.lines.clear();
        let (mut link, mut rest) = (self.segments.link, *pieces);
        while self.lines.len() < room
            && let Some(end) = memchr::memchr(b'\n', rest)
        {
            let (piece, after) = rest.split_at(end);
            link.append(piece, &mut self.lines);
            rest = after.get(1..).unwrap_or_default();
        }
        self.segments.append(&self.lines, link)?;
        // What has no end is no record, and there is none such.
        *pieces = if self.lines.is_empty() { &[] } else { rest };
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.segments.sync()?;
        self.unsynced = false;
        self.synced = Instant::now();
        Ok(())
    }

    /// Syncs and seals when it is time.
    fn keep_up(&mut self, now: Micros) {
        let count = self.segments.link.count;
        let (sealed, at) = self.sealed;
        let mut kept = Ok(());
        if count > sealed && at.elapsed() >= self.rules.checkpoint {
            kept = self.seal(now);
            self.sealed = (self.segments.link.count, Instant::now());
        } else if self.unsynced && self.synced.elapsed() >= SYNC_EVERY {
            kept = self.sync();
        }
        self.note(&kept);
        self.unusual.keep(&self.rules);
    }

    /// Signs what was written, and keeps elsewhere how far that is.
    fn seal(&mut self, now: Micros) -> io::Result<()> {
        self.segments.seal(now)?;
        self.sync()?;
        self.segments.keep_head();
        Ok(())
    }

    /// Ends the trail with a checkpoint.
    fn close(&mut self, now: Micros) {
        self.event("stopped", &[], now);
        if self.write(now) {
            let sealed = self.seal(now);
            self.note(&sealed);
        }
        self.unusual.close(&self.rules);
    }

    fn answer(&mut self, written: bool) {
        for then in self.waiting.drain(..) {
            // Whoever asked may have gone.
            let _ = then.send(if written { Ok(()) } else { Err(Unrecorded) });
        }
    }

    /// Lets everyone know whether writing succeeds.
    fn note(&mut self, outcome: &io::Result<()>) -> bool {
        let was_writing = self.shared.writing.swap(outcome.is_ok(), Ordering::Relaxed);
        match outcome {
            Ok(()) if !was_writing => tracing::warn!("the audit trail is written again"),
            Ok(()) => {}
            Err(error) => {
                self.shared.meter.write_failed();
                if was_writing {
                    tracing::error!(%error, "the audit trail cannot be written");
                }
            }
        }
        outcome.is_ok()
    }
}

/// How often it looks what time it is.
const TICK: Duration = Duration::from_millis(100);
/// How long a request's record may be on its way from the writer to the disk.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// How often unproven refusals are summed up.
const REFUSED_EVERY: Duration = Duration::from_secs(10);
/// Sources of unproven refusals that are told apart in that time.
const SOURCES: usize = 256;
/// Bytes that are written together.
const MUCH: usize = 1 << 20;
/// Bytes that are kept while nothing can be written.
const MOST: usize = 16 << 20;
/// Batches that are kept to be used again.
const SPARE: usize = 64;
