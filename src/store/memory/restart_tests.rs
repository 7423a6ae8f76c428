//! Restarts, as callers of the store see them: nothing passes twice, whatever becomes of the process, its clock and its disk.

use std::fs;

use proptest::prelude::*;

use super::tests::{BIRTH, MICRO, SECOND, fenced, in_dir, kill, new, open, small, spend, stamped};
use super::*;

/// Accepts a request just before it dies, and delivers the same bytes to the next process at every moment until
/// they expire; tells how often they were accepted in all.
fn accepted_across_a_restart(options: &Options, born_again: Micros, skip_fence: bool) -> usize {
    let dying = BIRTH + SECOND * 10;
    let store = open(options, BIRTH);
    store.durable.persist(dying);
    let mut charge = stamped(1, dying);
    charge.time = SignedTime::Stamp(dying + options.future_skew);
    charge.keep_until = dying + options.future_skew + SECOND * 5;
    let mut accepted = usize::from(matches!(spend(&store, &charge), Verdict::New(_)));
    kill(store);
    let birth = if skip_fence { Micros(0) } else { born_again };
    let store = open(options, birth);
    for step in 0..200 {
        charge.now = born_again + Duration::from_millis(100) * step;
        store.durable.persist(charge.now);
        if charge.now <= charge.keep_until {
            accepted += usize::from(matches!(spend(&store, &charge), Verdict::New(_)));
        }
    }
    accepted
}

#[test]
fn nothing_is_accepted_twice_across_a_restart() {
    let dying = BIRTH + SECOND * 10;
    assert_eq!(accepted_across_a_restart(&small(), dying, false), 1);
    // The control: without the fence it is.
    assert_eq!(accepted_across_a_restart(&small(), dying, true), 2);
}

#[test]
fn nothing_is_accepted_twice_where_the_clock_was_set_back_across_a_restart() {
    let set_back = BIRTH + SECOND * 6;
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(accepted_across_a_restart(&in_dir(dir.path()), set_back, false), 1);
    // The control: without a state directory it is.
    assert_eq!(accepted_across_a_restart(&small(), set_back, false), 2);
}

#[test]
fn a_clean_close_leaves_the_exact_mark() {
    let dir = tempfile::tempdir().unwrap();
    let options = in_dir(dir.path());
    let now = BIRTH + SECOND * 10;
    let lead = SECOND * 30;
    let dated = |at| Charge { time: SignedTime::Deadline { at, lead }, ..stamped(2, now) };
    let store = open(&options, BIRTH);
    assert_eq!(spend(&store, &dated(now)), fenced(SECOND * 20 + MICRO), "its lead is now known");
    store.durable.persist(now);
    assert_eq!(spend(&store, &stamped(1, now)), new(&[]));
    assert_eq!(spend(&store, &dated(now + SECOND * 25)), new(&[]));
    drop(store);
    // The clock was set back, so that the marks alone decide.
    let store = open(&options, BIRTH - SECOND * 100);
    assert_eq!(store.ready_at(), now + MICRO);
    store.durable.persist(now);
    let again = Charge { identity: Identity([9; 16]), ..stamped(1, now) };
    assert_eq!(spend(&store, &again), fenced(MICRO));
    assert_eq!(spend(&store, &dated(now + SECOND * 25)), fenced(MICRO));
    store.durable.persist(now);
    assert_eq!(spend(&store, &stamped(3, now + MICRO)), new(&[]));
    assert_eq!(spend(&store, &dated(now + SECOND * 25 + MICRO)), new(&[]));
}

#[test]
fn marks_of_processes_that_did_nothing_are_handed_on() {
    let dir = tempfile::tempdir().unwrap();
    let options = in_dir(dir.path());
    let now = BIRTH + SECOND * 10;
    let store = open(&options, BIRTH);
    store.durable.persist(now);
    assert_eq!(spend(&store, &stamped(1, now)), new(&[]));
    drop(store);
    for _ in 0..3 {
        drop(open(&options, BIRTH - SECOND * 100));
    }
    assert_eq!(open(&options, BIRTH - SECOND * 100).ready_at(), now + MICRO);
}

#[test]
fn a_store_whose_disk_is_gone_soon_refuses() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&in_dir(dir.path()), BIRTH);
    let now = BIRTH + Duration::from_millis(1_500);
    assert_eq!(spend(&store, &stamped(1, now)), new(&[]));
    fs::remove_dir_all(dir.path()).unwrap();
    store.durable.persist(now);
    assert_eq!(store.write_failures(), 1);
    // What was noted ahead may still be used up: birth, skew and one second.
    let last = BIRTH + SECOND * 2;
    assert_eq!(spend(&store, &stamped(2, last)), new(&[]));
    assert_eq!(spend(&store, &stamped(3, last + MICRO)), fenced(Duration::from_millis(250)));
    fs::create_dir(dir.path()).unwrap();
    store.durable.persist(last);
    assert_eq!(spend(&store, &stamped(3, last + MICRO)), new(&[]));
}

#[test]
fn a_second_store_in_the_same_directory_is_refused_and_told_why() {
    let dir = tempfile::tempdir().unwrap();
    let options = in_dir(dir.path());
    let first = MemoryStore::open(&options, BIRTH).unwrap();
    let error = MemoryStore::open(&options, BIRTH).unwrap_err().to_string();
    assert!(error.contains(&dir.path().display().to_string()), "{error}");
    assert!(error.contains("in use by another process: stop that one"), "{error}");
    drop(first);
    drop(MemoryStore::open(&options, BIRTH).unwrap());
}

#[test]
fn a_damaged_or_unreadable_mark_stops_the_start_and_says_the_cure() {
    let dir = tempfile::tempdir().unwrap();
    let mark = dir.path().join("mark");
    fs::write(&mark, "stamp 1\n").unwrap();
    let error = MemoryStore::open(&in_dir(dir.path()), BIRTH).unwrap_err();
    assert!(matches!(&error, OpenError::Corrupt { path } if *path == mark), "{error}");
    assert!(error.to_string().contains("restore it from a backup"));
    fs::remove_file(&mark).unwrap();
    fs::create_dir(&mark).unwrap();
    let error = MemoryStore::open(&in_dir(dir.path()), BIRTH).unwrap_err();
    assert!(matches!(&error, OpenError::Unreadable { path, .. } if *path == mark), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_stamp_passes_twice_through_any_sequence_of_crashes_closes_and_clock_steps(
        steps in prop::collection::vec((0u8..8, 0u64..8, 0i64..3_000), 1..60),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let options = in_dir(dir.path());
        let mut store = Some(open(&options, BIRTH));
        let mut now = BIRTH;
        let mut sent: Vec<Charge> = Vec::new();
        let mut accepted = vec![0u32; 256];
        for (what, which, ms) in steps {
            let span = Duration::from_millis(ms.unsigned_abs());
            match what {
                0 => kill(store.take().unwrap()),
                1 => drop(store.take()),
                2 if sent.len() < 256 => {
                    let mut charge = stamped(sent.len() as u64, now);
                    charge.time = SignedTime::Stamp(now + span.min(options.future_skew));
                    charge.keep_until = now + SECOND * 10;
                    sent.push(charge);
                }
                _ => now = now + span,
            }
            if store.is_none() {
                // Between two processes the clock may be set to anything near.
                now = if which < 3 { now - span * 2 } else { now + span };
                store = Some(open(&options, now));
            }
            let live = store.as_ref().unwrap();
            live.durable.persist(now);
            for charge in &mut sent {
                charge.now = now;
                // What the freshness rule refuses never comes here.
                let SignedTime::Stamp(at) = charge.time else { continue };
                let fresh = at <= now + options.future_skew && now <= at + SECOND * 5;
                charge.keep_until = at + SECOND * 5;
                if fresh && matches!(spend(live, charge), Verdict::New(_)) {
                    let index = usize::try_from(u128::from_le_bytes(charge.identity.0)).unwrap();
                    accepted[index] += 1;
                }
            }
        }
        prop_assert!(accepted.iter().all(|count| *count <= 1));
    }
}
