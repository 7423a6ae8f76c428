//! What outlives the process: the mark of the fence, the reservations of growing numbers, the log of unique nonces;
//! and the thread that writes them, the first two ahead of need.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::OpenError;
use super::fence::{Fence, PERSIST_EVERY};
use super::marks::Marks;
use super::replay::Highest;
use super::state::{Log, StateDir};
use super::unique::Unique;
use crate::clock::Micros;

/// Fence, marks and nonces, and where they are written down.
#[derive(Debug)]
pub(super) struct Durable {
    pub(super) fence: Fence,
    pub(super) marks: Marks,
    pub(super) unique: Unique,
    dir: Option<StateDir>,
    log: Mutex<Option<Log>>,
    failures: AtomicU64,
    bell: Mutex<Bell>,
    rung: Condvar,
}

#[derive(Debug, Default)]
struct Bell {
    asked: bool,
    stop: bool,
}

impl Durable {
    pub(super) fn new(fence: Fence, marks: Marks, unique: Unique, dir: Option<StateDir>) -> Self {
        Self {
            fence,
            marks,
            unique,
            dir,
            log: Mutex::new(None),
            failures: AtomicU64::new(0),
            bell: Mutex::new(Bell::default()),
            rung: Condvar::new(),
        }
    }

    /// Writes the first mark: until then nothing is judged.
    pub(super) fn begin(&self, now: Micros) -> Result<(), OpenError> {
        let Some(dir) = &self.dir else { return Ok(()) };
        let unwritable = |source| OpenError::Unwritable { path: dir.path().to_owned(), source };
        self.persist_mark(dir, now).map_err(unwritable)?;
        self.marks.flush(dir, &mut lock(&self.log)).map_err(unwritable)
    }

    /// Writes the mark that covers what may be accepted from `now` on, and what was asked for.
    ///
    /// Where the disk does not take it, the fence and the reservations stay as they were, and are soon used up.
    pub(super) fn persist(&self, now: Micros) {
        let Some(dir) = &self.dir else { return };
        self.count(&self.persist_mark(dir, now));
        self.flush(dir);
    }

    /// Leaves exactly what was accepted. Nothing may be judged any more.
    pub(super) fn close(&self, highest: Highest) {
        let Some(dir) = &self.dir else { return };
        let mark = self.fence.with_earlier(highest.stamp, highest.deadline);
        // If this fails, what was persisted ahead stays, which covers more.
        self.count(&dir.write_mark(mark));
        self.count(&self.marks.close(dir));
        self.count(&self.unique.close());
    }

    pub(super) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Wakes the writer before its time.
    pub(super) fn ring(&self) {
        lock(&self.bell).asked = true;
        self.rung.notify_one();
    }

    fn persist_mark(&self, dir: &StateDir, now: Micros) -> io::Result<()> {
        let mark = self.fence.cover(now);
        dir.write_mark(mark)?;
        self.fence.allow_up_to(mark);
        Ok(())
    }

    /// Writes the reservations asked for and the nonces that wait.
    fn flush(&self, dir: &StateDir) {
        if self.marks.are_asked() {
            self.count(&self.marks.flush(dir, &mut lock(&self.log)));
        }
        self.count(&self.unique.flush(dir));
    }

    fn count(&self, written: &io::Result<()>) {
        if written.is_err() {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits for the bell, at most for `span`; true if it is time to stop.
    fn wait(&self, span: Duration) -> bool {
        let idle = |bell: &mut Bell| !bell.asked && !bell.stop;
        let (mut bell, _) = self
            .rung
            .wait_timeout_while(lock(&self.bell), span, idle)
            .unwrap_or_else(PoisonError::into_inner);
        bell.asked = false;
        bell.stop
    }
}

/// The thread that persists; dropping it stops it and waits for its end.
#[derive(Debug)]
pub(super) struct Writer {
    durable: Arc<Durable>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(durable: &Arc<Durable>, birth: Micros) -> Result<Self, OpenError> {
        let started = Instant::now();
        let shared = Arc::clone(durable);
        let thread = thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || {
                let mut due = PERSIST_EVERY;
                loop {
                    if shared.wait(due.saturating_sub(started.elapsed())) {
                        break;
                    }
                    if let Some(dir) = &shared.dir
                        && started.elapsed() < due
                    {
                        shared.flush(dir);
                    } else {
                        shared.persist(birth + started.elapsed());
                        due = started.elapsed() + PERSIST_EVERY;
                    }
                }
            })
            .map_err(OpenError::Thread)?;
        Ok(Self { durable: Arc::clone(durable), thread: Some(thread) })
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        lock(&self.durable.bell).stop = true;
        self.durable.rung.notify_one();
        if let Some(thread) = self.thread.take() {
            // It can only have ended by a panic, and then there is nothing left to stop.
            let _ended = thread.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
