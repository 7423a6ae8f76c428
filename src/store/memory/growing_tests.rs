//! Growing numbers without a window, as callers of the store see them: in order, at their limits, across crashes.

use std::fs;

use super::tests::{
    BIRTH, MICRO, SECOND, fenced, in_dir, kill, new, open, over, small, spend,
    spend_while_persisting, stamped, with_cost,
};
use super::*;

pub(super) fn growing(nonce: u64, now: Micros) -> Charge {
    Charge { time: SignedTime::Growing { key: [7; 16], nonce, window: 0 }, ..stamped(nonce, now) }
}

#[test]
fn growing_numbers_need_a_place_where_marks_are_kept() {
    let store = open(&small(), BIRTH);
    assert_eq!(spend(&store, &growing(1, BIRTH)), Verdict::Unavailable);
}

#[test]
fn a_number_must_exceed_every_one_accepted_before() {
    let store = open(&Options { volatile_marks: true, ..small() }, BIRTH);
    for (nonce, verdict) in
        [(0, Verdict::Low), (5, new(&[])), (5, Verdict::Seen), (4, Verdict::Low), (6, new(&[]))]
    {
        assert_eq!(spend(&store, &growing(nonce, BIRTH)), verdict, "{nonce}");
    }
    assert_eq!(store.records(), 0);
    let other = Charge {
        time: SignedTime::Growing { key: [8; 16], nonce: 1, window: 0 },
        ..growing(1, BIRTH)
    };
    assert_eq!(spend(&store, &other), new(&[]), "each key has its own mark");
}

#[test]
fn a_number_over_its_limit_may_come_again() {
    let store = open(&Options { volatile_marks: true, ..small() }, BIRTH);
    assert_eq!(spend(&store, &with_cost(growing(1, BIRTH), 1, 1)), new(&[1]));
    assert_eq!(spend(&store, &with_cost(growing(2, BIRTH), 1, 1)), over(SECOND, 1));
    assert_eq!(spend(&store, &with_cost(growing(2, BIRTH + SECOND), 1, 1)), new(&[1]));
}

#[test]
fn no_number_locks_its_owner_out_for_longer_than_the_largest_jump() {
    let store = open(&Options { volatile_marks: true, ..small() }, BIRTH);
    let most = (BIRTH + Duration::from_hours(1)).0 * 1_000;
    assert!(matches!(spend(&store, &growing(u64::MAX, BIRTH)), Verdict::Fenced { .. }));
    assert_eq!(spend(&store, &growing(most + 1, BIRTH)), fenced(MICRO));
    assert_eq!(spend(&store, &growing(most, BIRTH)), new(&[]));
    let later = BIRTH + Duration::from_hours(1) + MICRO;
    assert_eq!(spend(&store, &growing(later.0 * 1_000, later)), new(&[]));
}

#[test]
fn keys_beyond_the_most_are_refused() {
    let store = open(&Options { volatile_marks: true, max_marks: 1, ..small() }, BIRTH);
    assert_eq!(spend(&store, &growing(1, BIRTH)), new(&[]));
    let other = Charge {
        time: SignedTime::Growing { key: [8; 16], nonce: 1, window: 0 },
        ..growing(1, BIRTH)
    };
    assert_eq!(spend(&store, &other), Verdict::Full);
    assert_eq!(spend(&store, &growing(2, BIRTH)), new(&[]));
}

#[test]
fn only_the_first_number_of_a_key_waits_for_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&in_dir(dir.path()), BIRTH);
    let milliseconds = BIRTH.as_millis();
    assert_eq!(spend_while_persisting(&store, &growing(milliseconds, BIRTH)), new(&[]));
    for step in 1..100 {
        let now = BIRTH + SECOND * u32::try_from(step).unwrap();
        assert_eq!(spend(&store, &growing(milliseconds + step * 1_000, now)), new(&[]));
        store.durable.persist(now);
    }
}

#[test]
fn a_number_accepted_before_a_crash_is_refused_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let options = in_dir(dir.path());
    let store = open(&options, BIRTH);
    assert_eq!(spend_while_persisting(&store, &growing(1_000, BIRTH)), new(&[]));
    assert_eq!(spend(&store, &growing(1_100, BIRTH)), new(&[]));
    kill(store);
    let store = open(&options, BIRTH);
    assert_eq!(spend(&store, &growing(1_100, BIRTH)), Verdict::Seen);
    assert_eq!(spend(&store, &growing(1_256, BIRTH)), Verdict::Seen, "lost with the reservation");
    assert_eq!(spend_while_persisting(&store, &growing(1_257, BIRTH)), new(&[]));
    drop(store);
    let store = open(&options, BIRTH);
    assert_eq!(spend(&store, &growing(1_257, BIRTH)), Verdict::Seen);
    let next = spend_while_persisting(&store, &growing(1_258, BIRTH));
    assert_eq!(next, new(&[]), "a clean close loses nothing");
}

#[test]
fn a_number_that_cannot_be_reserved_is_refused_until_the_disk_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&in_dir(dir.path()), BIRTH);
    fs::remove_dir_all(dir.path()).unwrap();
    let refused = spend_while_persisting(&store, &growing(1, BIRTH));
    assert_eq!(refused, Verdict::Unavailable);
    assert!(store.write_failures() > 0);
    fs::create_dir(dir.path()).unwrap();
    assert_eq!(spend_while_persisting(&store, &growing(1, BIRTH)), new(&[]));
}
