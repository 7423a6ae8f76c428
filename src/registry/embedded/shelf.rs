//! Defeats a disk that fails for a moment, as a full one does: the database is closed, and opened again as soon as that
//! goes; until then nothing is answered.
//!
//! It is opened as after a crash, and so shows a commit that failed either whole or not at all. That holds too where the
//! disk failed to keep what was written: each commit reaches the disk before the one place that makes it count is
//! changed, which reaches it on its own.

use std::fmt;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use redb::Database;
use tokio::sync::watch;

use super::storage::Health;
use super::tables;
use crate::registry::book::RegistryError;
use crate::registry::migrate::Migrated;

/// Opens the database, on storage whose health is noted.
pub(super) type Opening =
    Box<dyn Fn(&Health) -> Result<(Database, Migrated), RegistryError> + Send + Sync>;

/// The place of the database.
pub(super) struct Shelf {
    opening: Opening,
    state: RwLock<State>,
    /// The revision that was reached, as far as is known here.
    revision: watch::Sender<u64>,
}

enum State {
    Open(Database, Health),
    /// It is tried again from `until` on.
    Closed {
        until: Instant,
        wait: Duration,
        why: RegistryError,
    },
}

impl Shelf {
    /// Opens the database for the first time.
    pub(super) fn new(opening: Opening) -> Result<(Self, Migrated), RegistryError> {
        let health = Health::default();
        let (db, migrated) = opening(&health)?;
        let (revision, _) = watch::channel(tables::revision(&db)?);
        Ok((Self { opening, state: RwLock::new(State::Open(db, health)), revision }, migrated))
    }

    /// Works on the database.
    pub(super) fn with<T>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        self.mend();
        match &*self.read() {
            State::Open(db, _) => work(db),
            State::Closed { why, .. } => Err(why.clone()),
        }
    }

    /// Tells that `revision` was reached.
    pub(super) fn reached(&self, revision: u64) {
        self.revision.send_if_modified(|known| std::mem::replace(known, revision) != revision);
    }

    pub(super) fn revision(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// Opens it again where the storage failed and it is time.
    fn mend(&self) {
        if !self.read().is_due() {
            return;
        }
        let mut state = self.write();
        let wait = match &*state {
            due if !due.is_due() => return,
            State::Closed { wait, .. } => *wait,
            State::Open(..) => FIRST_WAIT,
        };
        // Its lock goes with it.
        *state = State::Closed { until: Instant::now(), wait, why: failed() };
        let health = Health::default();
        let opened = (self.opening)(&health)
            .and_then(|(db, _)| tables::revision(&db).map(|revision| (db, revision)));
        *state = match opened {
            Ok((db, revision)) => {
                tracing::warn!("the registry's storage failed; it works again");
                self.reached(revision);
                State::Open(db, health)
            }
            Err(why) => {
                tracing::error!(%why, "the registry's storage fails");
                State::Closed {
                    until: Instant::now() + wait,
                    wait: (wait * 2).min(LONGEST_WAIT),
                    why,
                }
            }
        };
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether something is to be done about it now.
    fn is_due(&self) -> bool {
        match self {
            Self::Open(_, health) => health.has_failed(),
            Self::Closed { until, .. } => Instant::now() >= *until,
        }
    }
}

impl fmt::Debug for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shelf(revision {})", *self.revision.borrow())
    }
}

fn failed() -> RegistryError {
    RegistryError::Unavailable("its storage failed, and is being opened again".into())
}

/// The pause after an attempt that failed; each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(1);
