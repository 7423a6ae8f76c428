//! Nonces beside a stamp, as callers of the store see them: across threads, and both recorded or neither.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::nonce_tests::NOW;
use super::tests::{BIRTH, MICRO, SECOND, new, open, small, spend, stamped, with_cost};
use super::*;
use crate::store::Repeat;

fn paired(identity: u64, nonce: u64, now: Micros) -> Charge {
    let nonce = (u128::from(nonce) | 1 << 127).to_le_bytes();
    Charge { nonce: Some(Identity(nonce)), ..stamped(identity, now) }
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
