//! A step is spent once, in whatever order and on however many threads the store is asked.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use countersign::clock::Micros;
use countersign::store::memory::{MemoryStore, Options};
use countersign::store::{
    Charge, Cost, Identity, Limit, Repeat, SignedTime, Store as _, Subject, Verdict,
};
use proptest::prelude::*;

use crate::support::{START, now_or_never};

fn store() -> MemoryStore {
    let options = Options { max_records: 10_000, ..Options::default() };
    MemoryStore::open(&options, START - Duration::from_secs(600)).unwrap()
}

fn present() -> u64 {
    START.0 / 30_000_000
}

fn charge(request: u64, account: u64, step: Option<u64>, limited: bool) -> Charge {
    let mut identity = [0; 16];
    identity[..8].copy_from_slice(&request.to_le_bytes());
    let limit = Limit { quota: 3, period: Duration::from_secs(3_600) };
    let cost = Cost::of_key(Subject(account), limit, 1);
    Charge {
        now: START,
        identity: Identity(identity),
        nonce: None,
        account,
        key: [0; 16],
        epoch: 0,
        step,
        time: SignedTime::Stamp(START),
        keep_until: START + Duration::from_secs(60),
        route: 0,
        repeat: Repeat::Never,
        costs: limited.then_some(cost).into_iter().collect(),
    }
}

/// What the store should say, worked out from everything that was said before.
#[derive(Default)]
struct Model {
    seen: HashSet<u64>,
    last: HashMap<u64, u64>,
    spent: HashMap<u64, u32>,
}

impl Model {
    fn spend(
        &mut self,
        request: u64,
        account: u64,
        step: Option<u64>,
        limited: bool,
    ) -> &'static str {
        if self.seen.contains(&request) {
            return "seen";
        }
        if step.is_some_and(|step| self.last.get(&account).is_some_and(|last| *last >= step)) {
            return "step spent";
        }
        let spent = self.spent.entry(account).or_default();
        if limited && *spent >= 3 {
            return "over";
        }
        *spent += u32::from(limited);
        self.seen.insert(request);
        self.last.extend(step.map(|step| (account, step)));
        "new"
    }
}

fn word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::New(_) => "new",
        Verdict::Seen => "seen",
        Verdict::Low => "low",
        Verdict::StepSpent => "step spent",
        Verdict::Over { .. } => "over",
        Verdict::Fenced { .. } => "fenced",
        Verdict::Outdated => "outdated",
        Verdict::Full => "full",
        Verdict::Unavailable => "unavailable",
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Seen before step, step before limit, and nothing of it spent unless all of it is.
    #[test]
    fn any_run_of_charges_is_judged_as_the_model_judges_it(
        run in prop::collection::vec(
            (0..12u64, 0..3u64, prop::option::of(0..4u64), any::<bool>()), 1..60,
        ),
    ) {
        let (store, mut model) = (store(), Model::default());
        for (request, account, ahead, limited) in run {
            let step = ahead.map(|ahead| present() - 1 + ahead);
            let verdict = now_or_never(store.spend(&charge(request, account, step, limited)));
            prop_assert_eq!(word(&verdict), model.spend(request, account, step, limited));
        }
    }
}

#[test]
fn of_many_threads_with_one_code_exactly_one_gets_through() {
    for round in 0..50u64 {
        let store = store();
        let passed: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8u64)
                .map(|thread| {
                    let store = &store;
                    scope.spawn(move || {
                        let step = Some(present());
                        let charge = charge(thread, round, step, false);
                        matches!(now_or_never(store.spend(&charge)), Verdict::New(_))
                    })
                })
                .collect();
            threads.into_iter().map(|thread| usize::from(thread.join().unwrap())).sum()
        });
        assert_eq!(passed, 1);
    }
}

#[test]
fn a_store_that_was_just_born_takes_no_code_that_one_before_it_may_have_taken() {
    let options = Options { max_records: 10, ..Options::default() };
    let born = START - Duration::from_secs(5);
    let store = MemoryStore::open(&options, born).unwrap();
    let verdict = now_or_never(store.spend(&charge(1, 1, Some(present()), false)));
    let Verdict::Fenced { retry_after } = verdict else { panic!("{verdict:?}") };
    assert!(retry_after <= Duration::from_secs(60), "{retry_after:?}");
    let later = START + retry_after;
    let of = |step| Charge {
        now: later,
        time: SignedTime::Stamp(later),
        ..charge(1, 1, Some(step), false)
    };
    let step = later.0 / 30_000_000;
    assert_eq!(word(&now_or_never(store.spend(&of(step)))), "new");
    let without = charge(2, 1, None, false);
    assert_eq!(word(&now_or_never(store.spend(&without))), "new", "no other request waits");
    assert_eq!(Micros(step * 30_000_000), later, "it waits for the whole step to come");
}
