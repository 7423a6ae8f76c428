//! What outlives the process: the mark of the fence, the reservations of growing numbers, the log of unique nonces;
//! and the threads that write them, the first two ahead of need.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::OpenError;
use super::fence::{AHEAD, Fence, PERSIST_EVERY};
use super::highest::Highest;
use super::marks::Marks;
use super::pace::Pace;
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
    bell: Bell,
    nonce_bell: Bell,
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
            bell: Bell::default(),
            nonce_bell: Bell::default(),
        }
    }

    /// Writes the first mark: until then nothing is judged.
    pub(super) fn begin(&self, now: Micros) -> Result<(), OpenError> {
        let Some(dir) = &self.dir else { return Ok(()) };
        let unwritable = |source| OpenError::Unwritable { path: dir.path().to_owned(), source };
        self.persist_mark(dir, now, AHEAD).map_err(unwritable)?;
        self.marks.flush(dir, &mut lock(&self.log)).map_err(unwritable)
    }

    /// Writes the mark that covers what may be accepted from `now` on, and the reservations asked for.
    ///
    /// Where the disk does not take it, the fence and the reservations stay as they were, and are soon used up.
    #[cfg(test)]
    pub(super) fn persist(&self, now: Micros) {
        self.persist_ahead(now, AHEAD);
    }

    /// The same, with a mark so far `ahead`; whether the disk has it.
    fn persist_ahead(&self, now: Micros, ahead: Duration) -> bool {
        let Some(dir) = &self.dir else { return false };
        let written = self.persist_mark(dir, now, ahead);
        self.count(&written);
        self.flush(dir);
        written.is_ok()
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

    /// Has the reservations asked for written before it is time.
    pub(super) fn ring(&self) {
        self.bell.ring();
    }

    /// Has the nonces that wait written.
    pub(super) fn ring_for_nonces(&self) {
        self.nonce_bell.ring();
    }

    /// Writes the nonces that wait.
    pub(super) fn write_nonces(&self) {
        let Some(dir) = &self.dir else { return };
        self.count(&self.unique.flush(dir));
    }

    fn persist_mark(&self, dir: &StateDir, now: Micros, ahead: Duration) -> io::Result<()> {
        let mark = self.fence.cover(now, ahead);
        dir.write_mark(mark)?;
        self.fence.allow_up_to(mark);
        Ok(())
    }

    fn flush(&self, dir: &StateDir) {
        if self.marks.are_asked() {
            self.count(&self.marks.flush(dir, &mut lock(&self.log)));
        }
    }

    fn count(&self, written: &io::Result<()>) {
        if written.is_err() {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The threads that write; dropping it stops them and waits for their end.
#[derive(Debug)]
pub(super) struct Writer {
    durable: Arc<Durable>,
    threads: Vec<JoinHandle<()>>,
}

impl Writer {
    /// Starts one thread for what must be written in time, and one for nonces, whose log may be long to write anew.
    ///
    /// `born` is the moment of `birth`, which may be a while ago: a store takes all of its memory before it writes.
    pub(super) fn start(
        durable: &Arc<Durable>,
        birth: Micros,
        born: Instant,
    ) -> Result<Self, OpenError> {
        let mut writer = Self { durable: Arc::clone(durable), threads: Vec::new() };
        let shared = Arc::clone(durable);
        writer.spawn("store-writer", move || persist_in_time(&shared, birth, born))?;
        let shared = Arc::clone(durable);
        writer.spawn("nonce-writer", move || {
            while !shared.nonce_bell.wait(LONG) {
                shared.write_nonces();
            }
        })?;
        Ok(writer)
    }

    fn spawn(&mut self, name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), OpenError> {
        let thread = thread::Builder::new().name(name.into()).spawn(work);
        self.threads.push(thread.map_err(OpenError::Thread)?);
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.durable.bell.stop();
        self.durable.nonce_bell.stop();
        for thread in self.threads.drain(..) {
            // It can only have ended by a panic, and then there is nothing left to stop.
            let _ended = thread.join();
        }
    }
}

fn persist_in_time(durable: &Durable, birth: Micros, born: Instant) {
    let mut due = PERSIST_EVERY;
    let (mut present, mut pace) = (Present::new(birth), Pace::default());
    while !durable.bell.wait(due.saturating_sub(born.elapsed())) {
        if let Some(dir) = &durable.dir
            && born.elapsed() < due
        {
            durable.flush(dir);
        } else {
            let begun = born.elapsed();
            let now = present.after(begun, durable.fence.heard());
            if durable.persist_ahead(now, pace.ahead()) {
                pace.written(begun, born.elapsed());
            }
            due = born.elapsed() + PERSIST_EVERY;
        }
    }
}

/// What time it is by the clock that requests are judged by, for a thread that counts from the birth. That clock may have
/// been set forward since: what was once heard of it counts in silence too, or the first request after that would find no
/// mark.
#[derive(Debug)]
struct Present {
    birth: Micros,
    ahead: Duration,
}

impl Present {
    fn new(birth: Micros) -> Self {
        Self { birth, ahead: Duration::ZERO }
    }

    /// So long after the birth, when a request was last judged at the moment `heard`.
    fn after(&mut self, elapsed: Duration, heard: Micros) -> Micros {
        let counted = self.birth + elapsed;
        self.ahead = self.ahead.max(heard.since(counted));
        counted + self.ahead
    }
}

/// Wakes a thread that waits.
#[derive(Debug, Default)]
struct Bell {
    state: Mutex<Rung>,
    rung: Condvar,
}

#[derive(Debug, Default)]
struct Rung {
    asked: bool,
    stop: bool,
}

impl Bell {
    fn ring(&self) {
        lock(&self.state).asked = true;
        self.rung.notify_one();
    }

    fn stop(&self) {
        lock(&self.state).stop = true;
        self.rung.notify_one();
    }

    /// Waits until it rings, at most for `span`; true if it is time to stop.
    fn wait(&self, span: Duration) -> bool {
        let idle = |state: &mut Rung| !state.asked && !state.stop;
        let (mut state, _) = self
            .rung
            .wait_timeout_while(lock(&self.state), span, idle)
            .unwrap_or_else(PoisonError::into_inner);
        state.asked = false;
        state.stop
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Nothing is due then; it only has to be some span.
const LONG: Duration = Duration::from_hours(1);

#[cfg(test)]
mod tests {
    use super::super::Options;
    use super::super::fence::Mark;
    use super::*;
    use crate::store::SignedTime;

    const BIRTH: Micros = Micros(1_760_000_000_000_000);
    const MS: Duration = Duration::from_millis(1);

    /// How many of the requests are refused that come after silences of three seconds, by a clock that is set forward by
    /// so much soon after the birth, where marks are made for what `present` says.
    fn refused(forward: Duration, mut present: impl FnMut(Duration, Micros) -> Micros) -> usize {
        let fence = Fence::new(BIRTH, &Options::default(), Mark::default());
        let (mut refused, mut elapsed) = (0, Duration::ZERO);
        for round in 1..=20 {
            // The first request is heard: whether it is judged, or waits for the next mark.
            let judged = fence.refuses(BIRTH + elapsed + forward, stamp(elapsed + forward));
            refused += usize::from(round > 2 && judged.is_some());
            let silence = elapsed + MS * 3_000;
            while elapsed < silence {
                elapsed += PERSIST_EVERY;
                fence.allow_up_to(fence.cover(present(elapsed, fence.heard()), AHEAD));
            }
        }
        refused
    }

    fn stamp(at: Duration) -> SignedTime {
        SignedTime::Stamp(BIRTH + at)
    }

    #[test]
    fn a_clock_that_was_set_forward_is_followed_through_silence() {
        for forward in [0, 600, 2_500, 60_000] {
            let mut present = Present::new(BIRTH);
            assert_eq!(refused(MS * forward, |at, heard| present.after(at, heard)), 0, "{forward}");
        }
        // Who counts from the birth alone, as a control.
        assert_eq!(refused(MS * 2_500, |at, _| BIRTH + at), 18);
        assert_eq!(refused(Duration::ZERO, |at, _| BIRTH + at), 0);
    }
}
