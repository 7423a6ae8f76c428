//! The threads that touch the file: one writes, batch by batch; the others read. So nothing asynchronous ever waits
//! for the disk.

use std::sync::{Arc, Mutex, PoisonError, mpsc as blocking};
use std::thread::{self, JoinHandle};

use redb::Database;
use tokio::sync::{mpsc, oneshot};

use super::fault::failed;
use super::shelf::Shelf;
use super::tables;
use crate::registry::book::RegistryError;
use crate::registry::plan::Commit;

/// A commit, and where its outcome goes.
pub(super) type Request = (Commit, oneshot::Sender<Result<u64, RegistryError>>);
/// Something to read.
pub(super) type Job = Box<dyn FnOnce(&Shelf) + Send>;

/// The threads; dropping them ends them, once what was asked is done.
#[derive(Debug)]
pub(super) struct Threads {
    queues: Option<(mpsc::Sender<Request>, blocking::Sender<Job>)>,
    all: Vec<JoinHandle<()>>,
}

impl Threads {
    pub(super) fn start(shelf: Shelf) -> Result<Self, RegistryError> {
        let shelf = Arc::new(shelf);
        let (commits, requests) = mpsc::channel(WAITING);
        let (questions, jobs) = blocking::channel();
        let mut threads = Self { queues: Some((commits, questions)), all: Vec::new() };
        let writer = Arc::clone(&shelf);
        threads.spawn("registry-write", move || write(&writer, requests))?;
        let jobs = Arc::new(Mutex::new(jobs));
        for _ in 0..READERS {
            let (shelf, jobs) = (Arc::clone(&shelf), Arc::clone(&jobs));
            threads.spawn("registry-read", move || read(&shelf, &jobs))?;
        }
        Ok(threads)
    }

    pub(super) fn commits(&self) -> Option<&mpsc::Sender<Request>> {
        self.queues.as_ref().map(|(commits, _)| commits)
    }

    pub(super) fn ask(&self, job: Job) {
        if let Some((_, questions)) = &self.queues {
            // Where nobody takes it, whoever waits for the answer sees that it was dropped.
            drop(questions.send(job));
        }
    }

    fn spawn(
        &mut self,
        name: &str,
        work: impl FnOnce() + Send + 'static,
    ) -> Result<(), RegistryError> {
        let started = thread::Builder::new().name(name.to_owned()).spawn(work);
        self.all.push(started.map_err(|error| {
            RegistryError::Unavailable(format!("a thread cannot be started: {error}"))
        })?);
        Ok(())
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.queues = None;
        for thread in self.all.drain(..) {
            // One that panicked has said so.
            drop(thread.join());
        }
    }
}

/// Commits that may wait before those who ask wait too.
const WAITING: usize = 1_024;
/// Commits that share one transaction, and so one wait for the disk.
const BATCH: usize = 1_024;
const READERS: usize = 4;

fn write(shelf: &Shelf, mut requests: mpsc::Receiver<Request>) {
    let mut batch = Vec::new();
    while requests.blocking_recv_many(&mut batch, BATCH) > 0 {
        let (commits, answers): (Vec<_>, Vec<_>) = batch.drain(..).unzip();
        let outcomes = match shelf.with(|db| commit(db, &commits)) {
            Ok((outcomes, now)) => {
                shelf.reached(now);
                outcomes
            }
            Err(error) => commits.iter().map(|_| Err(error.clone())).collect(),
        };
        for (answer, outcome) in answers.into_iter().zip(outcomes) {
            // Whoever asked may have gone.
            drop(answer.send(outcome));
        }
    }
}

/// What became of each commit.
type Outcomes = Vec<Result<u64, RegistryError>>;

/// Makes one transaction of the commits, and says what became of each and the revision then. No outcome is told
/// before all that it hangs on is on the disk.
fn commit(db: &Database, commits: &[Commit]) -> Result<(Outcomes, u64), RegistryError> {
    let mut tx = db.begin_write().map_err(failed)?;
    // Without it, opening after a crash would walk through all records.
    tx.set_quick_repair(true);
    let writes = commits.iter().flat_map(|commit| &commit.writes);
    let mut plan = tables::standing(&tx, writes.map(|write| (write.kind, &*write.id)))?;
    let outcomes = commits.iter().map(|commit| plan.add(commit)).collect();
    if plan.rows().len() == 0 {
        tx.abort().map_err(failed)?;
    } else {
        tables::apply(&tx, &plan)?;
        tx.commit().map_err(failed)?;
    }
    Ok((outcomes, plan.revision()))
}

fn read(shelf: &Shelf, jobs: &Mutex<blocking::Receiver<Job>>) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        job(shelf);
    }
}
