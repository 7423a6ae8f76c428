//! Unique nonces as callers of the store see them: across threads, restarts, crashes and broken disks.

use std::fs;
use std::path::Path;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;

use proptest::prelude::*;

use super::tests::{
    BIRTH, SECOND, block_on, in_dir, kill, new, open, small, spend, spend_while_persisting,
    stamped, with_cost,
};
use super::unique_log::{Entry, Fault, HEAD, RECORD, UNIQUE, record};
use super::*;

pub(super) const NOW: Micros = Micros(BIRTH.0 + 2_000_000);

fn unique_of(key: u8, nonce: u64) -> Charge {
    let digest = (u128::from(key) << 64 | u128::from(nonce)).to_le_bytes();
    Charge { time: SignedTime::Unique { key: [key; 16], nonce: digest }, ..stamped(nonce, NOW) }
}

fn unique(nonce: u64) -> Charge {
    unique_of(7, nonce)
}

pub(super) fn volatile() -> Options {
    Options { volatile_marks: true, ..small() }
}

/// Polls once, as a client does that gives up before the disk is done.
fn begin_and_give_up(store: &MemoryStore, charge: &Charge) -> Option<Verdict> {
    match pin!(store.spend(charge)).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(verdict) => Some(verdict),
        Poll::Pending => None,
    }
}

fn log_of(dir: &Path) -> Vec<u8> {
    fs::read(dir.join(UNIQUE)).unwrap()
}

fn room_for(records: usize) -> usize {
    HEAD.len() + records * RECORD
}

#[test]
fn unique_nonces_need_a_place_where_they_are_kept() {
    assert_eq!(spend(&open(&small(), BIRTH), &unique(1)), Verdict::Unavailable);
}

#[test]
fn a_unique_nonce_passes_once_under_each_key() {
    let store = open(&volatile(), BIRTH);
    assert_eq!(spend(&store, &unique(1)), new(&[]));
    assert_eq!(spend(&store, &unique(1)), Verdict::Seen);
    let later = Charge { now: NOW + SECOND * 1_000_000, ..unique(1) };
    assert_eq!(spend(&store, &later), Verdict::Seen, "for ever");
    assert_eq!(spend(&store, &unique(2)), new(&[]));
    assert_eq!(spend(&store, &unique_of(8, 1)), new(&[]));
    assert_eq!((store.unique().live, store.records()), (3, 0));
}

#[test]
fn a_unique_nonce_is_accepted_only_once_the_disk_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&in_dir(dir.path()), BIRTH);
    let charge = unique(1);
    let mut waits = pin!(store.spend(&charge));
    let mut poll = || waits.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(poll().is_pending());
    assert_eq!(spend(&store, &unique(1)), Verdict::Seen, "while the first one waits");
    assert!(poll().is_pending());
    assert!(!dir.path().join(UNIQUE).exists());
    store.durable.write_nonces();
    assert_eq!(poll(), Poll::Ready(new(&[])));
    assert_eq!(log_of(dir.path()).len(), room_for(2), "one nonce, and the seal of a new log");
}

#[test]
fn those_who_wait_together_share_one_sync() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&in_dir(dir.path()), BIRTH);
    assert_eq!(spend_while_persisting(&store, &unique(0)), new(&[]));
    let charges: Vec<Charge> = (1..=100).map(unique).collect();
    let mut waiting: Vec<_> = charges.iter().map(|charge| Box::pin(store.spend(charge))).collect();
    let mut context = Context::from_waker(Waker::noop());
    assert!(waiting.iter_mut().all(|one| one.as_mut().poll(&mut context).is_pending()));
    store.durable.write_nonces();
    for one in &mut waiting {
        assert_eq!(one.as_mut().poll(&mut context), Poll::Ready(new(&[])));
    }
    let log = log_of(dir.path());
    assert_eq!(log.len(), room_for(102));
    let batches: Vec<&[u8]> = log[room_for(2)..].chunks(RECORD).map(|one| &one[24..28]).collect();
    assert!(batches.iter().all(|synced| *synced == 2u32.to_le_bytes()));
}

#[test]
fn a_unique_nonce_is_remembered_across_crashes_and_closes() {
    let dir = tempfile::tempdir().unwrap();
    let options = in_dir(dir.path());
    let store = open(&options, BIRTH);
    assert_eq!(spend_while_persisting(&store, &unique(1)), new(&[]));
    kill(store);
    let store = open(&options, BIRTH);
    assert_eq!(spend(&store, &unique(1)), Verdict::Seen);
    assert_eq!(spend_while_persisting(&store, &unique(2)), new(&[]));
    drop(store);
    for restarts in 0..3 {
        let store = open(&options, BIRTH);
        assert_eq!(spend(&store, &unique(1)), Verdict::Seen);
        assert_eq!(spend(&store, &unique(2)), Verdict::Seen);
        assert_eq!(store.unique().live, 2, "after {restarts} restarts");
    }
    assert_eq!(
        log_of(dir.path()).len(),
        room_for(4),
        "two nonces, two seals, whatever the restarts"
    );
}

#[test]
fn what_is_killed_between_write_and_sync_never_passed_and_passes_at_most_once_afterwards() {
    for left in [0, 1, RECORD - 1, RECORD, RECORD + 1, 2 * RECORD - 1, 2 * RECORD] {
        let dir = tempfile::tempdir().unwrap();
        let options = in_dir(dir.path());
        let store = open(&options, BIRTH);
        assert_eq!(spend_while_persisting(&store, &unique(0)), new(&[]));
        assert_eq!(begin_and_give_up(&store, &unique(1)), None);
        assert_eq!(begin_and_give_up(&store, &unique(2)), None);
        let batch: Vec<u8> =
            store.durable.unique.waiting().iter().flat_map(|entry| record(*entry, 2)).collect();
        kill(store);
        let log = [&log_of(dir.path()), &batch[..left]].concat();
        fs::write(dir.path().join(UNIQUE), log).unwrap();
        let store = open(&options, BIRTH);
        for (nonce, end) in [(1, RECORD), (2, 2 * RECORD)] {
            let verdict = spend_while_persisting(&store, &unique(nonce));
            let expected = if left < end { new(&[]) } else { Verdict::Seen };
            assert_eq!(verdict, expected, "nonce {nonce}, {left} bytes left");
        }
        kill(store);
        let store = open(&options, BIRTH);
        for nonce in 0..=2 {
            assert_eq!(spend(&store, &unique(nonce)), Verdict::Seen);
        }
    }
}

#[test]
fn without_a_log_a_unique_nonce_passes_again_after_a_restart() {
    // The control: what the log is there to prevent is seen where it is off.
    for _ in 0..2 {
        assert_eq!(spend(&open(&volatile(), BIRTH), &unique(1)), new(&[]));
    }
}

#[test]
fn a_unique_nonce_over_its_limit_may_come_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&in_dir(dir.path()), BIRTH);
    let first = with_cost(unique(1), 1, 1);
    assert_eq!(spend_while_persisting(&store, &first), new(&[1]));
    let mut second = with_cost(unique(2), 1, 1);
    assert!(matches!(spend(&store, &second), Verdict::Over { cost: 0, .. }));
    assert_eq!(store.unique().live, 1);
    assert!(store.durable.unique.waiting().is_empty());
    second.now = NOW + SECOND;
    assert_eq!(spend_while_persisting(&store, &second), new(&[1]));
}

#[test]
fn when_the_room_for_nonces_is_used_up_new_ones_are_refused_and_old_ones_still_known() {
    let options = Options { max_unique: 3, max_unique_per_key: 2, ..volatile() };
    let store = open(&options, BIRTH);
    assert_eq!(spend(&store, &unique(1)), new(&[]));
    assert_eq!(spend(&store, &unique(2)), new(&[]));
    let charged = with_cost(unique(3), 10, 1);
    assert_eq!(spend(&store, &charged), Verdict::Full, "its key has used up its share");
    assert_eq!(spend(&store, &with_cost(unique_of(8, 1), 10, 1)), new(&[1]), "nothing was charged");
    assert_eq!(spend(&store, &unique_of(9, 1)), Verdict::Full);
    for seen in [unique(1), unique(2), unique_of(8, 1)] {
        assert_eq!(spend(&store, &seen), Verdict::Seen);
    }
    assert_eq!(store.unique().live, 3);
}

#[test]
fn nonces_beyond_a_limit_that_was_lowered_are_still_known() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&in_dir(dir.path()), BIRTH);
    for nonce in 0..10 {
        assert_eq!(spend_while_persisting(&store, &unique(nonce)), new(&[]));
    }
    drop(store);
    let less = Options { max_unique: 5, max_unique_per_key: 5, ..in_dir(dir.path()) };
    let store = open(&less, BIRTH);
    for nonce in 0..10 {
        assert_eq!(spend(&store, &unique(nonce)), Verdict::Seen);
    }
    assert_eq!(spend(&store, &unique(10)), Verdict::Full);
    assert_eq!(spend(&store, &unique_of(8, 1)), Verdict::Full);
}

#[test]
fn a_nonce_whose_client_gave_up_waiting_never_passes() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&in_dir(dir.path()), BIRTH);
    assert_eq!(begin_and_give_up(&store, &unique(1)), None);
    assert_eq!(spend(&store, &unique(1)), Verdict::Seen);
    store.durable.write_nonces();
    assert_eq!(spend(&store, &unique(1)), Verdict::Seen);
}

#[test]
fn while_the_disk_is_gone_unique_nonces_are_refused_and_none_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&in_dir(dir.path()), BIRTH);
    assert_eq!(spend_while_persisting(&store, &unique(1)), new(&[]));
    fs::remove_dir_all(dir.path()).unwrap();
    assert_eq!(spend_while_persisting(&store, &unique(2)), Verdict::Unavailable);
    assert!(store.write_failures() > 0);
    assert_eq!(store.unique().live, 1, "what was refused takes no room");
    assert_eq!(spend(&store, &unique(1)), Verdict::Seen);
    fs::create_dir(dir.path()).unwrap();
    assert_eq!(spend_while_persisting(&store, &unique(2)), new(&[]));
    kill(store);
    let store = open(&in_dir(dir.path()), BIRTH);
    assert_eq!(spend(&store, &unique(1)), Verdict::Seen, "it was written again");
    assert_eq!(spend(&store, &unique(2)), Verdict::Seen);
}

#[test]
fn a_full_disk_and_a_failed_sync_refuse_and_are_counted_until_the_disk_is_back() {
    for fault in [Fault::DiskFull, Fault::SyncFails] {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&in_dir(dir.path()), BIRTH);
        assert_eq!(spend_while_persisting(&store, &unique(1)), new(&[]));
        store.durable.unique.fail(Some(fault));
        let failures = store.write_failures();
        let refused = with_cost(unique(2), 10, 1);
        assert_eq!(spend_while_persisting(&store, &refused), Verdict::Unavailable);
        assert_eq!(store.write_failures(), failures + 1);
        store.durable.unique.fail(None);
        assert_eq!(spend_while_persisting(&store, &unique(2)), new(&[]));
        assert_eq!(spend(&store, &unique(2)), Verdict::Seen);
        kill(store);
        let store = open(&in_dir(dir.path()), BIRTH);
        assert_eq!(store.unique().live, 2, "{fault:?}");
        assert_eq!(spend(&store, &unique(1)), Verdict::Seen);
        assert_eq!(spend(&store, &unique(2)), Verdict::Seen);
    }
}

#[test]
fn a_damaged_log_stops_the_start_and_says_the_cure() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&in_dir(dir.path()), BIRTH);
    for nonce in 0..3 {
        assert_eq!(spend_while_persisting(&store, &unique(nonce)), new(&[]));
    }
    drop(store);
    let mut log = log_of(dir.path());
    log[room_for(1) + 5] ^= 1;
    fs::write(dir.path().join(UNIQUE), &log).unwrap();
    let error = MemoryStore::open(&in_dir(dir.path()), BIRTH).unwrap_err();
    assert!(matches!(&error, OpenError::Corrupt { path } if path.ends_with(UNIQUE)), "{error}");
    assert!(error.to_string().contains("nonces alone new secrets"), "{error}");
}

#[test]
fn the_writer_serves_threads_that_send_unique_nonces_at_once() {
    const THREADS: u64 = 4;
    const NONCES: u64 = 300;
    let dir = tempfile::tempdir().unwrap();
    let store = MemoryStore::open(&in_dir(dir.path()), BIRTH).unwrap();
    let passed = AtomicUsize::new(0);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (store, passed) = (&store, &passed);
            scope.spawn(move || {
                for step in 0..NONCES {
                    let nonce = if thread % 2 == 0 { step } else { NONCES - 1 - step };
                    let charge = with_cost(unique(nonce), 1_000_000, 1);
                    let verdict = block_on(store.spend(&charge));
                    let new = matches!(verdict, Verdict::New(_));
                    assert!(new || verdict == Verdict::Seen, "{verdict:?}");
                    passed.fetch_add(usize::from(new), Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(passed.into_inner(), 300);
    assert_eq!((store.unique().live, store.write_failures()), (300, 0));
    drop(store);
    assert_eq!(open(&in_dir(dir.path()), BIRTH).unique().live, 300);
}

#[test]
fn many_nonces_are_read_again_and_take_28_bytes_of_memory_and_32_in_the_log() {
    const NONCES: u64 = 200_000;
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        max_unique: usize::try_from(NONCES).unwrap(),
        max_unique_per_key: u32::MAX,
        max_records: 100,
        ..in_dir(dir.path())
    };
    let mixed = |n: u64| u128::from(n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    let log =
        (0..NONCES).flat_map(|n| record(Entry { nonce: mixed(n).to_le_bytes(), key: n % 9 }, 0));
    fs::write(dir.path().join(UNIQUE), HEAD.iter().copied().chain(log).collect::<Vec<u8>>())
        .unwrap();
    let empty = open(&Options { state_dir: None, ..options.clone() }, BIRTH).memory_bytes();
    let store = open(&options, BIRTH);
    assert_eq!(store.unique().live, 200_000);
    let bytes = store.memory_bytes() - empty;
    assert!((200_000 * 28..200_000 * 32).contains(&bytes), "{bytes}");
    assert_eq!(log_of(dir.path()).len(), HEAD.len() + 200_000 * 32);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// At each crash, what had not been synced may be on the disk whole, in part, in the wrong order or not at all.
    #[test]
    fn no_unique_nonce_passes_twice_through_any_sequence_of_crashes_closes_and_torn_ends(
        steps in prop::collection::vec((0u8..12, 0u64..40, any::<u16>()), 1..80),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let options = in_dir(dir.path());
        let mut store = open(&options, BIRTH);
        let mut passed = [0u32; 40];
        for (what, nonce, torn) in steps {
            match what {
                0 => {
                    drop(store);
                    store = open(&options, BIRTH);
                }
                1 | 2 => {
                    let waiting = store.durable.unique.waiting();
                    kill(store);
                    tear(dir.path(), &waiting, torn);
                    store = open(&options, BIRTH);
                }
                3 => store.durable.write_nonces(),
                4 | 5 => {
                    let fault = if what == 4 { Fault::DiskFull } else { Fault::SyncFails };
                    store.durable.unique.fail(Some(fault));
                    let verdict = spend_while_persisting(&store, &unique(nonce));
                    passed[usize::try_from(nonce).unwrap()] += u32::from(verdict == new(&[]));
                    store.durable.unique.fail(None);
                }
                6..=8 => prop_assert!(begin_and_give_up(&store, &unique(nonce)) != Some(new(&[]))),
                _ => {
                    let verdict = spend_while_persisting(&store, &unique(nonce));
                    passed[usize::try_from(nonce).unwrap()] += u32::from(verdict == new(&[]));
                }
            }
        }
        prop_assert!(passed.iter().all(|times| *times <= 1), "{passed:?}");
    }
}

/// Leaves at the end of the log what a power failure may leave of a batch that was just being written.
fn tear(dir: &Path, waiting: &[Entry], torn: u16) {
    let Ok(mut log) = fs::read(dir.join(UNIQUE)) else { return };
    let synced = (log.len() - HEAD.len()) / RECORD;
    let batch = waiting.iter().flat_map(|entry| record(*entry, u32::try_from(synced).unwrap()));
    let mut batch: Vec<u8> = batch.collect();
    let place = usize::from(torn >> 2);
    match torn % 4 {
        0 => batch.truncate(place % (batch.len() + 1)),
        1 => batch.iter_mut().skip(place % 97).take(RECORD).for_each(|byte| *byte = 0),
        2 => batch.extend(std::iter::repeat_n(0, place % 97)),
        _ => {}
    }
    log.extend(batch);
    fs::write(dir.join(UNIQUE), log).unwrap();
}
