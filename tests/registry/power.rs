//! A power cut: what was written but not synchronised may be on the disk or not. No acknowledged change may hang on it.

use std::io;
use std::sync::{Arc, Mutex};

use countersign::registry::book::{Kind, Registry as _};
use countersign::registry::embedded::Embedded;

use super::support::{key, note, whole_history};

/// A disk with a cache of its own, which a power cut empties.
#[derive(Clone, Debug, Default)]
struct Disk(Arc<Mutex<Platters>>);

#[derive(Debug, Default)]
struct Platters {
    /// What would be there after a power cut, whatever else is.
    safe: Vec<u8>,
    /// What is read: the safe part with all that was written since.
    seen: Vec<u8>,
    /// Writes since the last synchronisation.
    cached: Vec<(usize, Vec<u8>)>,
    /// Whether it says that it synchronises and does not.
    lies: bool,
}

impl redb::StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap();
        out.copy_from_slice(&self.0.lock().unwrap().seen[start..start + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut platters = self.0.lock().unwrap();
        platters.seen.resize(usize::try_from(len).unwrap(), 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut platters = self.0.lock().unwrap();
        if !platters.lies {
            let Platters { safe, seen, .. } = &mut *platters;
            safe.clone_from(seen);
            platters.cached.clear();
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap();
        let mut platters = self.0.lock().unwrap();
        platters.seen[start..start + data.len()].copy_from_slice(data);
        platters.cached.push((start, data.to_vec()));
        Ok(())
    }
}

impl Disk {
    /// What a power cut leaves now: of the writes in the cache those that `reached` names.
    fn cut(&self, mut reached: impl FnMut() -> bool) -> Self {
        let platters = self.0.lock().unwrap();
        let mut safe = platters.safe.clone();
        safe.resize(platters.seen.len(), 0);
        for (start, data) in &platters.cached {
            if reached() && start + data.len() <= safe.len() {
                safe[*start..start + data.len()].copy_from_slice(data);
            }
        }
        Self(Arc::new(Mutex::new(Platters { seen: safe.clone(), safe, ..Platters::default() })))
    }
}

/// Commits and cuts the power after each: half of the cache is lost, or all of it on a disk that lies from some commit
/// on. Says how many acknowledged changes were found again, of how many.
async fn cut_again_and_again(lies_from: u64) -> (u64, u64) {
    const COMMITS: u64 = 40;
    let disk = Disk::default();
    let store = Embedded::on(disk.clone()).unwrap();
    let (mut found, mut coin) = (0, 0x9e37_79b9_7f4a_7c15_u64);
    for number in 0..COMMITS {
        disk.0.lock().unwrap().lies = number >= lies_from;
        let acknowledged = store.commit(vec![key(&number.to_string(), None)], note(number)).await;
        assert_eq!(acknowledged.unwrap(), number + 1);
        let left = disk.cut(|| {
            coin = coin
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            coin >> 63 == 1 && number < lies_from
        });
        let after = Embedded::on(left).unwrap();
        if after.find(Kind::Key, &number.to_string()).await.unwrap().is_some() {
            assert_eq!(whole_history(&after).await.len() as u64, number + 1);
            found += 1;
        }
    }
    (found, COMMITS)
}

#[tokio::test]
async fn no_power_cut_loses_what_was_acknowledged() {
    let (found, of) = cut_again_and_again(u64::MAX).await;
    assert_eq!(found, of);
}

/// The test above would notice: on a disk that does not synchronise, changes are lost.
#[tokio::test]
async fn a_disk_that_lies_does_lose_changes() {
    let (found, of) = cut_again_and_again(10).await;
    assert_eq!((found, of), (10, 40));
}
