//! A disk that fails: nothing is answered that is not so, and what was acknowledged is there when it works again.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use countersign::registry::book::{Kind, Registry as _, RegistryError};
use countersign::registry::embedded::Embedded;

use super::support::{key, note, whole_history};

/// A disk of which parts can fail. What could not be brought to the platters is not tried again: the system shows some of
/// it on, and of the rest what was there before, as Linux does.
#[derive(Clone, Debug, Default)]
struct Disk(Arc<Parts>);

#[derive(Debug, Default)]
struct Parts {
    seen: Mutex<Vec<u8>>,
    platters: Mutex<Vec<u8>>,
    /// Written since the last time that was brought to the platters: where, and what.
    waiting: Mutex<Vec<(usize, Vec<u8>)>>,
    writes_fail: AtomicBool,
    /// How many times it is still brought to the platters before that fails once; never where it is 0.
    sync_fails_in: AtomicU64,
    /// Whether it says then that it did not fail.
    lies: AtomicBool,
    failed: AtomicBool,
    coin: AtomicU64,
}

impl Disk {
    fn fails(which: &AtomicBool) -> io::Result<()> {
        if which.load(Ordering::SeqCst) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn heads(&self) -> bool {
        let next = |coin: u64| {
            Some(
                coin.wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407),
            )
        };
        let coin = self.0.coin.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next).unwrap();
        coin >> 63 == 1
    }

    /// The power goes, and comes back.
    fn after_a_power_cut(&self) -> Self {
        let platters = self.0.platters.lock().unwrap().clone();
        let (seen, platters) = (Mutex::new(platters.clone()), Mutex::new(platters));
        Self(Arc::new(Parts { seen, platters, ..Parts::default() }))
    }
}

impl redb::StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.seen.lock().unwrap().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap();
        out.copy_from_slice(&self.0.seen.lock().unwrap()[start..start + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        Self::fails(&self.0.writes_fail)?;
        self.0.seen.lock().unwrap().resize(usize::try_from(len).unwrap(), 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let waiting = std::mem::take(&mut *self.0.waiting.lock().unwrap());
        let mut platters = self.0.platters.lock().unwrap();
        let mut seen = self.0.seen.lock().unwrap();
        let left = self.0.sync_fails_in.load(Ordering::SeqCst);
        self.0.sync_fails_in.store(left.saturating_sub(1), Ordering::SeqCst);
        if left == 1 {
            self.0.failed.store(true, Ordering::SeqCst);
            for (start, data) in waiting {
                if self.heads() && start + data.len() <= platters.len() {
                    let before = &platters[start..start + data.len()];
                    seen[start..start + data.len()].copy_from_slice(before);
                }
            }
            let lies = self.0.lies.load(Ordering::SeqCst);
            return if lies { Ok(()) } else { Err(io::Error::other("a bad disk")) };
        }
        platters.resize(seen.len(), 0);
        for (start, data) in waiting {
            if start + data.len() <= platters.len() {
                platters[start..start + data.len()].copy_from_slice(&data);
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        Self::fails(&self.0.writes_fail)?;
        let start = usize::try_from(offset).unwrap();
        self.0.seen.lock().unwrap()[start..start + data.len()].copy_from_slice(data);
        self.0.waiting.lock().unwrap().push((start, data.to_vec()));
        Ok(())
    }
}

fn is_unavailable<T>(outcome: &Result<T, RegistryError>) -> bool {
    matches!(outcome, Err(RegistryError::Unavailable(_)))
}

/// Writes records from `first` on, some large enough to need room, and says how many were acknowledged.
async fn write(store: &Embedded, first: u64, count: u64) -> u64 {
    for number in first..first + count {
        let mut write = key(&number.to_string(), None);
        write.body = vec![b'x'; 20_000];
        if store.commit(vec![write], note(number)).await.is_err() {
            return number - first;
        }
    }
    count
}

/// Asks until it answers, as whoever follows it does.
async fn back(store: &Embedded) {
    for _ in 0..10_000 {
        if store.revision().await.is_ok() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    panic!("it does not come back");
}

#[tokio::test]
async fn a_disk_that_was_full_is_written_to_again_once_there_is_room() {
    let disk = Disk::default();
    let store = Embedded::on(disk.clone()).unwrap();
    assert_eq!(write(&store, 0, 20).await, 20);
    disk.0.writes_fail.store(true, Ordering::SeqCst);
    assert_eq!(write(&store, 100, 1).await, 0);
    for _ in 0..3 {
        assert!(is_unavailable(&store.commit(vec![key("refused", None)], note(1)).await));
    }
    disk.0.writes_fail.store(false, Ordering::SeqCst);
    back(&store).await;
    assert!(store.find(Kind::Key, "19").await.unwrap().is_some());
    assert_eq!(write(&store, 20, 20).await, 20);
    let left = Embedded::on(disk.after_a_power_cut()).unwrap();
    for number in 0..40 {
        assert!(left.find(Kind::Key, &number.to_string()).await.unwrap().is_some(), "{number}");
    }
    whole_history(&left).await;
}

#[tokio::test]
async fn whoever_follows_hears_of_what_came_after_the_failure() {
    let disk = Disk::default();
    let store = Embedded::on(disk.clone()).unwrap();
    write(&store, 0, 2).await;
    disk.0.writes_fail.store(true, Ordering::SeqCst);
    assert_eq!(write(&store, 100, 1).await, 0);
    disk.0.writes_fail.store(false, Ordering::SeqCst);
    back(&store).await;
    let known = store.revision().await.unwrap();
    let changed = store.changed(known);
    write(&store, 2, 1).await;
    tokio::time::timeout(std::time::Duration::from_mins(1), changed).await.unwrap();
    assert_eq!(store.since(known, 9).await.unwrap().len(), 1);
}

/// Commits on a disk that fails once to keep what it has taken, at one point after another, and cuts the power later, or
/// as soon as the store is back. Says how many acknowledged or visible changes were missing then, and in how many runs the
/// disk did fail.
async fn fail_to_keep(lies: bool) -> (u64, u64) {
    let (mut missing, mut failures) = (0, 0);
    for run in 0..96 {
        let disk = Disk::default();
        disk.0.coin.store(run, Ordering::SeqCst);
        let store = Embedded::on(disk.clone()).unwrap();
        let mut there: Vec<u64> = (0..3).collect();
        assert_eq!(write(&store, 0, 3).await, 3);
        disk.0.lies.store(lies, Ordering::SeqCst);
        disk.0.sync_fails_in.store(1 + run / 2 % 8, Ordering::SeqCst);
        let more = if run % 2 == 0 { 1 } else { 4 };
        for number in 10..14 {
            if write(&store, number, 1).await == 1 {
                there.push(number);
            } else {
                back(&store).await;
                // Whoever asks sees it, or not, and that stays so.
                if store.find(Kind::Key, &number.to_string()).await.unwrap().is_some() {
                    there.push(number);
                }
            }
            if disk.0.failed.load(Ordering::SeqCst) && number >= 9 + more {
                break;
            }
        }
        failures += u64::from(disk.0.failed.load(Ordering::SeqCst));
        let Ok(left) = Embedded::on(disk.after_a_power_cut()) else {
            missing += 1;
            continue;
        };
        for number in there {
            let found = left.find(Kind::Key, &number.to_string()).await;
            missing += u64::from(!matches!(found, Ok(Some(_))));
        }
        if !lies {
            whole_history(&left).await;
        }
    }
    (missing, failures)
}

#[tokio::test]
async fn a_disk_that_lost_what_it_had_taken_costs_nothing_that_was_acknowledged_or_seen() {
    let (missing, failures) = fail_to_keep(false).await;
    assert!(failures > 80, "{failures}");
    assert_eq!(missing, 0, "of {failures} runs");
}

/// The test above would notice.
#[tokio::test]
async fn a_disk_that_does_not_say_so_costs_some() {
    // What is left of such a disk may be no database any more.
    let outcome = tokio::spawn(fail_to_keep(true)).await;
    assert!(outcome.map_or(true, |(missing, _)| missing > 0));
}
