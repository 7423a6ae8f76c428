//! Nonces as callers of the store see them: unique ones, growing ones with a window, and those beside a stamp; across
//! threads, restarts, crashes and broken disks.

use std::fs;
use std::path::Path;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;

use proptest::prelude::*;

use super::tests::{
    BIRTH, MICRO, SECOND, block_on, in_dir, kill, new, open, small, spend, spend_while_persisting,
    stamped, with_cost,
};
use super::unique_log::{Entry, Fault, HEAD, RECORD, UNIQUE, record};
use super::*;
use crate::store::Repeat;

const NOW: Micros = Micros(BIRTH.0 + 2_000_000);

fn unique_of(key: u8, nonce: u64) -> Charge {
    let digest = (u128::from(key) << 64 | u128::from(nonce)).to_le_bytes();
    Charge { time: SignedTime::Unique { key: [key; 16], nonce: digest }, ..stamped(nonce, NOW) }
}

fn unique(nonce: u64) -> Charge {
    unique_of(7, nonce)
}

fn growing(nonce: u64, window: u64, now: Micros) -> Charge {
    Charge { time: SignedTime::Growing { key: [7; 16], nonce, window }, ..stamped(nonce, now) }
}

fn paired(identity: u64, nonce: u64, now: Micros) -> Charge {
    let nonce = (u128::from(nonce) | 1 << 127).to_le_bytes();
    Charge { nonce: Some(Identity(nonce)), ..stamped(identity, now) }
}

fn volatile() -> Options {
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

    #[test]
    fn no_growing_number_passes_twice_through_any_sequence_of_crashes_closes_and_windows(
        steps in prop::collection::vec(
            (0u8..12, 1u64..400, prop_oneof![Just(0), 1..300u64, Just(u64::MAX)]),
            1..150,
        ),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let options = in_dir(dir.path());
        let mut store = open(&options, BIRTH);
        let mut passed = vec![0u32; 100_000];
        let mut highest = 0;
        for (what, offset, window) in steps {
            match what {
                0 => {
                    drop(store);
                    store = open(&options, BIRTH);
                }
                1 => {
                    kill(store);
                    store = open(&options, BIRTH);
                }
                _ => {
                    // Around the highest that passed, and beyond what a crash may have reserved.
                    let nonce = (highest + offset).saturating_sub(if what < 10 { 200 } else { 0 });
                    let charge = growing(nonce, window, NOW);
                    let verdict = spend_while_persisting(&store, &charge);
                    if verdict == new(&[]) {
                        passed[usize::try_from(nonce).unwrap()] += 1;
                        prop_assert!(nonce.saturating_add(window) >= highest);
                        highest = highest.max(nonce);
                    }
                }
            }
        }
        prop_assert!(passed.iter().all(|times| *times <= 1));
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

#[test]
fn numbers_that_overtake_one_another_within_the_window_pass_once_each() {
    let store = open(&volatile(), BIRTH);
    for (nonce, verdict) in [
        (1_000, new(&[])),
        (990, new(&[])),
        (989, Verdict::Low),
        (990, Verdict::Seen),
        (1_000, Verdict::Seen),
        (995, new(&[])),
        (1_001, new(&[])),
        (990, Verdict::Seen),
    ] {
        assert_eq!(spend(&store, &growing(nonce, 10, NOW)), verdict, "{nonce}");
    }
    assert_eq!(spend(&store, &growing(999, 0, NOW)), Verdict::Low, "no window, no overtaking");
}

#[test]
fn after_a_restart_no_window_reaches_below_the_mark() {
    let dir = tempfile::tempdir().unwrap();
    let options = in_dir(dir.path());
    let store = open(&options, BIRTH);
    assert_eq!(spend_while_persisting(&store, &growing(1_000, 500, NOW)), new(&[]));
    assert_eq!(spend(&store, &growing(900, 500, NOW)), new(&[]));
    drop(store);
    let store = open(&options, BIRTH);
    for refused in [900, 999, 1_000] {
        assert_eq!(spend(&store, &growing(refused, 500, NOW)), Verdict::Seen);
    }
    assert_eq!(spend_while_persisting(&store, &growing(1_100, 500, NOW)), new(&[]));
    assert_eq!(spend(&store, &growing(1_001, 500, NOW)), new(&[]));
    assert_eq!(spend(&store, &growing(1_000, 500, NOW)), Verdict::Seen);
    kill(store);
    let store = open(&options, BIRTH);
    let reserved = 1_100 + 256;
    assert_eq!(spend(&store, &growing(reserved, 500, NOW)), Verdict::Seen);
    assert_eq!(spend_while_persisting(&store, &growing(reserved + 400, 500, NOW)), new(&[]));
    assert_eq!(spend(&store, &growing(reserved, 500, NOW)), Verdict::Seen);
    assert_eq!(spend(&store, &growing(reserved + 1, 500, NOW)), new(&[]));
}

#[test]
fn a_number_within_the_window_that_is_over_its_limit_may_come_again() {
    let store = open(&volatile(), BIRTH);
    assert_eq!(spend(&store, &with_cost(growing(10, 5, NOW), 1, 1)), new(&[1]));
    let late = with_cost(growing(9, 5, NOW), 1, 1);
    assert!(matches!(spend(&store, &late), Verdict::Over { .. }));
    let late = Charge { now: NOW + SECOND, ..late };
    assert_eq!(spend(&store, &late), new(&[1]));
    assert_eq!(spend(&store, &late), Verdict::Seen);
}

/// Clocks of clients, in ticks per microsecond or microseconds per tick.
fn ticks(at: Micros) -> [u64; 4] {
    [at.0 / 1_000_000, at.0 / 1_000, at.0, at.0 * 1_000]
}

#[test]
fn in_every_unit_a_slip_beyond_the_largest_jump_is_refused_and_changes_nothing() {
    for present in ticks(NOW) {
        let store = open(&volatile(), BIRTH);
        assert_eq!(spend(&store, &growing(present, 0, NOW)), new(&[]));
        let most = (NOW + Duration::from_hours(1)).0 * 1_000;
        let wait = Verdict::Fenced { retry_after: MICRO };
        assert_eq!(spend(&store, &growing(most + 1, 0, NOW)), wait);
        assert!(matches!(spend(&store, &growing(u64::MAX, 0, NOW)), Verdict::Fenced { .. }));
        assert_eq!(spend(&store, &growing(present + 1, 0, NOW)), new(&[]), "its own clock goes on");
        assert_eq!(spend(&store, &growing(most, 0, NOW)), new(&[]), "the furthest that passes");
    }
}

#[test]
fn after_the_furthest_slip_and_any_restart_an_owner_goes_on_in_nanoseconds_after_the_largest_jump()
{
    for crash in [false, true] {
        for present in ticks(NOW) {
            let dir = tempfile::tempdir().unwrap();
            let options = in_dir(dir.path());
            let store = open(&options, BIRTH);
            assert_eq!(spend_while_persisting(&store, &growing(present, 0, NOW)), new(&[]));
            let most = (NOW + Duration::from_hours(1)).0 * 1_000;
            assert_eq!(spend_while_persisting(&store, &growing(most, 0, NOW)), new(&[]));
            if crash {
                kill(store);
            } else {
                drop(store);
            }
            let store = open(&options, BIRTH);
            let end = NOW + Duration::from_hours(1);
            for own in ticks(end) {
                assert_eq!(spend(&store, &growing(own, 0, end)), Verdict::Seen);
            }
            let after = end + MICRO;
            let [.., nanoseconds] = ticks(after);
            let verdict = spend_while_persisting(&store, &growing(nanoseconds, 0, after));
            assert_eq!(verdict, new(&[]), "crash: {crash}, clock: {present}");
            let fresh = SignedTime::Growing { key: [8; 16], nonce: present, window: 0 };
            let fresh = Charge { time: fresh, ..growing(present, 0, after) };
            let verdict = spend_while_persisting(&store, &fresh);
            assert_eq!(verdict, new(&[]), "a new secret starts afresh");
        }
    }
}

#[test]
fn a_slip_within_its_own_unit_costs_as_long_as_it_was_ahead() {
    let ahead = Duration::from_mins(30);
    for unit in 0..4 {
        let store = open(&volatile(), BIRTH);
        assert_eq!(spend(&store, &growing(ticks(NOW + ahead)[unit], 0, NOW)), new(&[]));
        let back = NOW + ahead;
        assert_eq!(spend(&store, &growing(ticks(back)[unit], 0, back)), Verdict::Seen);
        let on = back + SECOND;
        assert_eq!(spend(&store, &growing(ticks(on)[unit], 0, on)), new(&[]));
    }
}

#[test]
fn other_content_under_a_nonce_that_was_used_is_refused_until_it_has_expired() {
    let store = open(&small(), BIRTH);
    let first = with_cost(paired(1, 1, NOW), 10, 1);
    assert_eq!(spend(&store, &first), new(&[1]));
    assert_eq!(spend(&store, &first), Verdict::Seen);
    let mut other = with_cost(paired(2, 1, NOW), 10, 1);
    assert_eq!(spend(&store, &other), Verdict::Seen);
    let same = with_cost(paired(1, 2, NOW), 10, 1);
    assert_eq!(spend(&store, &same), Verdict::Seen);
    assert_eq!(spend(&store, &with_cost(paired(3, 3, NOW), 10, 1)), new(&[2]));
    assert_eq!(store.records(), 4, "nothing was recorded of what was refused");
    other.time = SignedTime::Stamp(NOW + SECOND * 5);
    (other.now, other.keep_until) = (NOW + SECOND * 5, NOW + SECOND * 10);
    assert_eq!(spend(&store, &other), Verdict::Seen, "the first one could still be accepted");
    (other.now, other.time) = (NOW + SECOND * 6, SignedTime::Stamp(NOW + SECOND * 6));
    assert_eq!(spend(&store, &other), new(&[1]));
}

#[test]
fn a_nonce_is_known_again_whenever_other_content_under_it_was_signed() {
    // Large enough that what is signed at other times lies elsewhere.
    let store = open(&Options { max_records: 200_000, ..small() }, BIRTH);
    for nonce in 0..100 {
        assert_eq!(spend(&store, &paired(nonce, nonce, NOW)), new(&[]));
        for later in 1..40 {
            let signed = NOW + MICRO * 125_000 * later;
            let other = paired(1_000 + u64::from(later), nonce, signed);
            assert_eq!(spend(&store, &other), Verdict::Seen, "{nonce} {later}");
        }
        let same = Charge { now: NOW + SECOND * 5, ..paired(nonce, nonce + 1_000, NOW) };
        assert_eq!(spend(&store, &same), Verdict::Seen, "{nonce}");
    }
}

#[test]
fn what_carries_a_nonce_never_repeats() {
    let store = open(&small(), BIRTH);
    let read = Charge { repeat: Repeat::SameRoute, ..paired(1, 1, NOW) };
    assert_eq!(spend(&store, &read), new(&[]));
    assert_eq!(spend(&store, &read), Verdict::Seen);
    assert_eq!(spend(&store, &Charge { nonce: None, ..read }), Verdict::Seen);
}

#[test]
fn a_request_and_its_nonce_are_recorded_both_or_neither() {
    for (all, each) in [(1, 5_000), (10_000, 1)] {
        let options = Options { max_records: all, max_records_per_account: each, ..small() };
        let store = open(&options, BIRTH);
        assert_eq!(spend(&store, &with_cost(paired(1, 1, NOW), 10, 1)), Verdict::Full);
        assert_eq!(store.records(), 0);
        assert_eq!(spend(&store, &with_cost(stamped(1, NOW), 10, 1)), new(&[1]), "nothing charged");
    }
    let store = open(&small(), BIRTH);
    let over = with_cost(paired(1, 1, NOW), 1, 2);
    assert!(matches!(spend(&store, &over), Verdict::Over { .. }));
    assert_eq!(store.records(), 0);
    assert_eq!(spend(&store, &with_cost(paired(1, 1, NOW), 1, 1)), new(&[1]));
}

#[test]
fn room_for_two_is_made_of_what_has_expired() {
    for (all, each) in [(2, 5_000), (10_000, 2)] {
        let options = Options { max_records: all, max_records_per_account: each, ..small() };
        let store = open(&options, BIRTH);
        assert_eq!(spend(&store, &paired(1, 1, NOW)), new(&[]));
        assert_eq!(spend(&store, &paired(2, 2, NOW)), Verdict::Full);
        let later = NOW + SECOND * 6;
        assert_eq!(spend(&store, &paired(2, 2, later)), new(&[]));
    }
}

#[test]
fn of_many_requests_under_one_nonce_at_once_exactly_one_is_new() {
    const NONCES: u64 = 1_000;
    let store = open(&small(), BIRTH);
    let passed: Vec<AtomicUsize> = (0..NONCES).map(|_| AtomicUsize::new(0)).collect();
    thread::scope(|scope| {
        for thread in 0..4 {
            let (store, passed) = (&store, &passed);
            scope.spawn(move || {
                for step in 0..NONCES {
                    // Half of the threads run the other way; identities meet other nonces in mixed orders.
                    let nonce = if thread % 2 == 0 { step } else { NONCES - 1 - step };
                    let charge = paired(NONCES * thread + (step * 7) % NONCES, nonce, NOW);
                    let verdict = spend(store, &charge);
                    let new = matches!(verdict, Verdict::New(_));
                    assert!(new || verdict == Verdict::Seen, "{verdict:?}");
                    let nonce = usize::try_from(nonce).unwrap();
                    passed[nonce].fetch_add(usize::from(new), Ordering::Relaxed);
                }
            });
        }
    });
    assert!(passed.iter().all(|times| times.load(Ordering::Relaxed) == 1));
    assert_eq!(store.records(), 2_000);
}

#[test]
fn a_charge_with_a_nonce_allocates_nothing() {
    let store = open(&small(), BIRTH);
    let allocated = allocation_counter::measure(|| {
        for step in 0..1_000 {
            assert_eq!(spend(&store, &with_cost(paired(step, step, NOW), 1_000_000, 0)), new(&[0]));
        }
    });
    assert_eq!(allocated.count_total, 0);
}
