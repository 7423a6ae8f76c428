//! The store as its callers see it: one verdict for replay and limits, across threads, restarts and broken disks.

use std::path::Path;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use super::growing_tests::growing;
use super::*;
use crate::store::{Cost, Identity, Limit, Repeat, Subject, Window};

pub(super) const BIRTH: Micros = Micros(1_760_000_000_000_000);
pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MICRO: Duration = Duration::from_micros(1);

pub(super) fn small() -> Options {
    Options {
        max_records: 10_000,
        max_records_per_account: 5_000,
        max_subjects: 1_000,
        stamp_unit: MICRO,
        ..Options::default()
    }
}

pub(super) fn in_dir(dir: &Path) -> Options {
    Options { state_dir: Some(dir.to_owned()), ..small() }
}

pub(super) fn open(options: &Options, now: Micros) -> MemoryStore {
    MemoryStore::open_without_writer(options, now).unwrap()
}

pub(super) fn kill(mut store: MemoryStore) {
    store.killed = true;
    drop(store);
}

/// A request signed and delivered at `now`.
pub(super) fn stamped(identity: u64, now: Micros) -> Charge {
    Charge {
        now,
        identity: Identity(u128::from(identity).to_le_bytes()),
        nonce: None,
        account: 1,
        key: [1; 16],
        epoch: 0,
        step: None,
        time: SignedTime::Stamp(now),
        keep_until: now + SECOND * 5,
        route: 1,
        repeat: Repeat::Never,
        costs: [].into_iter().collect(),
    }
}

pub(super) fn with_cost(mut charge: Charge, quota: u32, weight: u32) -> Charge {
    let limit = Limit { quota, period: SECOND };
    charge.costs.push(Cost::of_key(Subject(1), limit, weight));
    charge
}

/// The verdict of a charge that waits for nothing.
pub(super) fn spend(store: &MemoryStore, charge: &Charge) -> Verdict {
    match pin!(store.spend(charge)).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(verdict) => verdict,
        Poll::Pending => panic!("the charge waits for the disk"),
    }
}

/// The verdict of a charge that may wait for the disk, which the test's own hand writes.
pub(super) fn spend_while_persisting(store: &MemoryStore, charge: &Charge) -> Verdict {
    let mut spending = pin!(store.spend(charge));
    for _ in 0..10 {
        if let Poll::Ready(verdict) =
            spending.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        {
            return verdict;
        }
        store.durable.persist(charge.now);
        store.durable.write_nonces();
    }
    panic!("the charge waits for ever");
}

pub(super) fn new(levels: &[u32]) -> Verdict {
    Verdict::New(levels.iter().copied().collect())
}

pub(super) fn fenced(retry_after: Duration) -> Verdict {
    Verdict::Fenced { retry_after }
}

#[test]
fn what_is_foreseen_is_neither_kept_nor_told_apart_from_what_is_not() {
    let (told, untold) = (open(&small(), BIRTH), open(&small(), BIRTH));
    let now = BIRTH + SECOND * 60;
    for (store, is_told) in [(&told, true), (&untold, false)] {
        for number in 0..100 {
            let charge = with_cost(stamped(number, now), 60, 1);
            let tell = || {
                if is_told {
                    store.foresee(charge.identity, Some(now), charge.account);
                    store.foresee(charge.identity, None, number);
                }
            };
            let before = (store.replay.live(), store.limits.live(), store.memory_bytes());
            tell();
            assert_eq!((store.replay.live(), store.limits.live(), store.memory_bytes()), before);
            let expected = number < 60;
            for is_new in [expected, false] {
                let verdict = store.settle(&charge);
                let passed = matches!(verdict, Settled::Done(Verdict::New(_)));
                assert_eq!(passed, is_new, "{number} {is_told}");
                tell();
            }
        }
    }
    assert_eq!(told.replay.live(), untold.replay.live());
}

#[test]
fn a_request_is_new_once_and_seen_ever_after() {
    let store = open(&small(), BIRTH);
    let charge = with_cost(stamped(1, BIRTH + SECOND * 2), 10, 3);
    assert_eq!(spend(&store, &charge), new(&[3]));
    assert_eq!(spend(&store, &charge), Verdict::Seen);
    let next = with_cost(stamped(2, BIRTH + SECOND * 2), 10, 3);
    assert_eq!(spend(&store, &next), new(&[6]), "what was seen was not charged");
}

/// Over the only limit.
pub(super) fn over(retry_after: Duration, level: u32) -> Verdict {
    Verdict::Over { cost: 0, retry_after, level, beside: Box::default() }
}

#[test]
fn what_is_over_its_limit_is_not_recorded_and_passes_after_the_wait() {
    let store = open(&small(), BIRTH);
    let now = BIRTH + SECOND * 2;
    assert_eq!(spend(&store, &with_cost(stamped(1, now), 4, 4)), new(&[4]));
    let wait = Duration::from_millis(500);
    let mut late = with_cost(stamped(2, now), 4, 2);
    assert_eq!(spend(&store, &late), over(wait, 4));
    late.now = now + wait - MICRO;
    assert_eq!(spend(&store, &late), over(MICRO, 3));
    late.now = now + wait;
    assert_eq!(spend(&store, &late), new(&[4]));
    assert_eq!(store.records(), 2);
}

#[test]
fn what_finds_no_room_is_not_charged() {
    let store = open(&Options { max_records: 1, ..small() }, BIRTH);
    let now = BIRTH + SECOND * 2;
    assert_eq!(spend(&store, &with_cost(stamped(1, now), 10, 1)), new(&[1]));
    for identity in 2..100 {
        assert_eq!(spend(&store, &with_cost(stamped(identity, now), 10, 1)), Verdict::Full);
    }
    let later = now + SECOND * 6;
    assert_eq!(spend(&store, &with_cost(stamped(2, later), 10, 1)), new(&[1]));
}

#[test]
fn an_unknown_subject_without_room_leaves_no_record() {
    let store = open(&Options { max_subjects: 0, ..small() }, BIRTH);
    let now = BIRTH + SECOND * 2;
    assert_eq!(spend(&store, &with_cost(stamped(1, now), 10, 1)), Verdict::Full);
    assert_eq!(store.records(), 0);
    assert_eq!(spend(&store, &stamped(1, now)), new(&[]));
}

#[test]
fn a_read_that_repeats_is_charged_each_time_and_recorded_once() {
    let store = open(&small(), BIRTH);
    let mut read = with_cost(stamped(1, BIRTH + SECOND * 2), 3, 1);
    read.repeat = Repeat::SameRoute;
    for level in 1..=3 {
        assert_eq!(spend(&store, &read), new(&[level]));
    }
    assert!(matches!(spend(&store, &read), Verdict::Over { .. }));
    assert_eq!(store.records(), 1);
}

#[test]
fn of_many_deliveries_at_once_exactly_one_is_new() {
    const THREADS: usize = 8;
    const REQUESTS: u64 = 2_000;
    let store = open(&small(), BIRTH);
    let accepted: Vec<AtomicUsize> = (0..REQUESTS).map(|_| AtomicUsize::new(0)).collect();
    let barrier = Barrier::new(THREADS);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (store, accepted, barrier) = (&store, &accepted, &barrier);
            scope.spawn(move || {
                barrier.wait();
                for step in 0..REQUESTS {
                    // Half of the threads run the other way, and all charge limits in mixed orders.
                    let identity = if thread % 2 == 0 { step } else { REQUESTS - 1 - step };
                    let mut charge = stamped(identity, BIRTH + SECOND * 2);
                    let limit = Limit { quota: 1_000_000, period: SECOND };
                    charge.costs = (0..4)
                        .map(|n| Subject((identity * 7 + n * (1 + thread as u64)) % 16))
                        .map(|subject| Cost::of_key(subject, limit, 1))
                        .collect();
                    let verdict = spend(store, &charge);
                    if matches!(verdict, Verdict::New(_)) {
                        let index = usize::try_from(identity).unwrap();
                        accepted[index].fetch_add(1, Ordering::Relaxed);
                    } else {
                        assert_eq!(verdict, Verdict::Seen);
                    }
                }
            });
        }
    });
    assert!(accepted.iter().all(|count| count.load(Ordering::Relaxed) == 1));
    assert_eq!(store.records(), 2_000);
    assert_eq!(store.subjects(), 16);
}

#[test]
fn threads_that_share_a_limit_never_exceed_it_together() {
    let store = open(&small(), BIRTH);
    let passed = AtomicUsize::new(0);
    thread::scope(|scope| {
        for thread in 0..4u64 {
            let (store, passed) = (&store, &passed);
            scope.spawn(move || {
                for step in 0..500 {
                    let charge = stamped(thread * 1_000 + step, BIRTH + SECOND * 2);
                    if matches!(spend(store, &with_cost(charge, 777, 1)), Verdict::New(_)) {
                        passed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(passed.into_inner(), 777);
    assert_eq!(store.records(), 777);
}

#[test]
fn an_accepted_charge_allocates_nothing() {
    let store = open(&small(), BIRTH);
    let allocated = allocation_counter::measure(|| {
        for step in 0..20_000u64 {
            let now = BIRTH + SECOND * 2 + Duration::from_millis(2) * u32::try_from(step).unwrap();
            let mut charge = with_cost(stamped(step, now), 1_000_000, 1);
            charge.account = step % 100;
            charge.costs.push(Cost { subject: Subject(2 + step), ..charge.costs[0] });
            assert_eq!(spend(&store, &charge), new(&[1, 1]));
        }
    });
    assert_eq!(allocated.count_total, 0);
    assert!(store.records() > 2_500);
}

#[test]
fn the_store_says_when_it_is_ready() {
    let store = open(&small(), BIRTH);
    let ready = BIRTH + SECOND + MICRO;
    assert_eq!(store.ready_at(), ready);
    assert!(!store.fence_passed(ready - MICRO));
    assert!(store.fence_passed(ready));
    assert_eq!(spend(&store, &stamped(1, ready - MICRO)), fenced(MICRO));
    assert_eq!(spend(&store, &stamped(1, ready)), new(&[]));
}

/// Parks the thread until woken, so that the writer's own thread sets the pace.
pub(super) fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread, AtomicBool);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.1.store(true, Ordering::Release);
            self.0.unpark();
        }
    }
    let woken = Arc::new(Unpark(thread::current(), AtomicBool::new(false)));
    let waker = Waker::from(Arc::clone(&woken));
    let mut future = pin!(future);
    for _ in 0..1_000 {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        while !woken.1.swap(false, Ordering::Acquire) {
            thread::park();
        }
    }
    panic!("woken a thousand times for nothing");
}

#[test]
fn the_writer_wakes_those_who_wait_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = MemoryStore::open(&in_dir(dir.path()), BIRTH).unwrap();
    for nonce in 1..2_000 {
        assert_eq!(block_on(store.spend(&growing(nonce, BIRTH))), new(&[]));
        assert_eq!(block_on(store.spend(&growing(nonce, BIRTH))), Verdict::Seen);
    }
    assert_eq!(store.write_failures(), 0);
}

#[test]
fn who_finds_no_room_among_limits_that_are_paid_off_makes_some_though_nothing_is_recorded() {
    for window in [Window::Bucket, Window::Sliding, Window::Fixed] {
        let store = open(&Options { max_subjects: 4_096, max_windows: 4_096, ..small() }, BIRTH);
        let limit = Limit { quota: 1, period: SECOND };
        let paid = |subject, now| {
            let cost = Cost { window, ..Cost::of_key(Subject(subject), limit, 1) };
            let costs = [cost];
            let mut paying = pin!(store.pay(now, &costs));
            let paid = paying.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert!(matches!(paid, Poll::Ready(Verdict::New(_) | Verdict::Full)), "{paid:?}");
            matches!(paid, Poll::Ready(Verdict::New(_)))
        };
        // From that many addresses, of whom a quarter of the room is kept free.
        assert!((0..3_072).all(|subject| paid(subject, BIRTH)), "{window:?}");
        assert!((3_072..6_000).all(|subject| !paid(subject, BIRTH)), "{window:?}");
        let later = BIRTH + SECOND * 3;
        let refused = (10_000..13_000).filter(|subject| !paid(*subject, later)).count();
        assert!(refused < 300, "{window:?}: {refused}");
    }
}

#[cfg(feature = "server")]
#[test]
fn what_another_store_remembers_finds_room_among_limits_that_are_paid_off() {
    for window in [Window::Bucket, Window::Sliding, Window::Fixed] {
        let store = open(&Options { max_subjects: 4_096, max_windows: 4_096, ..small() }, BIRTH);
        let limit = Limit { quota: 1, period: SECOND };
        let charge = |subject, now| {
            store.charge(now, &[Cost { window, ..Cost::of_key(Subject(subject), limit, 1) }])
        };
        for subject in 0..4_096 {
            assert_eq!(charge(subject, BIRTH), new(&[1]), "{window:?}");
        }
        assert_eq!(charge(4_096, BIRTH), Verdict::Full, "{window:?}");
        for subject in 5_000..7_000 {
            assert_eq!(charge(subject, BIRTH + SECOND * 3), new(&[1]), "{window:?}");
        }
    }
}
