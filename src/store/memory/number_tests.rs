//! Growing numbers with a window, as callers of the store see them: across slips of clocks, restarts and crashes.

use proptest::prelude::*;

use super::nonce_tests::{NOW, volatile};
use super::tests::{
    BIRTH, MICRO, SECOND, in_dir, kill, new, open, spend, spend_while_persisting, stamped,
    with_cost,
};
use super::*;

fn growing(nonce: u64, window: u64, now: Micros) -> Charge {
    Charge { time: SignedTime::Growing { key: [7; 16], nonce, window }, ..stamped(nonce, now) }
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

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
