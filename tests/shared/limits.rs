//! Limits of accounts over several gateways: counted as one, in every kind of window, and as the embedded store counts.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use countersign::clock::{Micros, SystemClock};
use countersign::store::memory::{MemoryStore, Options as MemoryOptions};
use countersign::store::redis::{Address, FUNCTION, Options, RedisStore, Weakened};
use countersign::store::{Charge, Cost, Identity, Limit, Scope, Store, Subject, Verdict, Window};
use countersign::store::{Charged, Receipt};
use proptest::prelude::*;

use crate::fault_proxy::{FaultProxy, Mode};
use crate::server::RedisServer;
use crate::{HOUR, charge, gateway, levels, local, now, options, past_fence};

const KINDS: [Window; 3] = [Window::Bucket, Window::Sliding, Window::Fixed];

fn cost(window: Window, scope: Scope, limit: Limit, weight: u32) -> Cost {
    Cost { window, scope, ..Cost::of_key(Subject(window as u64 + 10), limit, weight) }
}

/// A request unlike every other.
fn request(number: u64, costs: &[Cost]) -> Charge {
    let identity = Identity((u128::from(number) | 1 << 100).to_le_bytes());
    Charge { identity, costs: costs.iter().copied().collect(), ..charge(0) }
}

#[tokio::test]
async fn two_keys_of_an_account_spend_what_is_the_accounts_and_each_what_is_its_own() {
    let server = RedisServer::start(&[]);
    let (first, second) = (gateway(&[&server]).await, gateway(&[&server]).await);
    past_fence().await;
    for window in KINDS {
        let limit = Limit { quota: 4, period: 200_000 * HOUR };
        let costs = [cost(window, Scope::Key, limit, 1), cost(window, Scope::Account, limit, 1)];
        let costs = costs
            .map(|one| Cost { subject: Subject(one.scope as u64 * 100 + window as u64), ..one });
        let number = window as u64 * 100;
        let of = |key: u8, n: u64| Charge { key: [key; 16], ..request(number + n, &costs) };
        assert_eq!(levels(&first.spend(&of(1, 1)).await), [1, 1], "{window:?}");
        assert_eq!(levels(&second.spend(&of(2, 2)).await), [1, 2], "{window:?}");
        assert_eq!(levels(&first.spend(&of(2, 3)).await), [2, 3], "{window:?}");
        assert_eq!(levels(&second.spend(&of(1, 4)).await), [2, 4], "{window:?}");
        let over = first.spend(&of(1, 5)).await;
        assert!(matches!(over, Verdict::Over { cost: 1, level: 4, .. }), "{window:?} {over:?}");
        let other = Charge { account: 8, ..of(3, 6) };
        assert_eq!(levels(&first.spend(&other).await), [1, 1], "{window:?}");
    }
}

#[tokio::test]
async fn a_limit_in_shadow_refuses_nothing_and_tells_what_did_not_fit() {
    let server = RedisServer::start(&[]);
    let store = gateway(&[&server]).await;
    past_fence().await;
    for window in KINDS {
        let limit = Limit { quota: 3, period: 200_000 * HOUR };
        let watched = Cost { shadow: true, ..cost(window, Scope::Key, limit, 2) };
        let enforced = Cost { subject: Subject(500), ..cost(window, Scope::Key, limit, 1) };
        let of = |n| Charge {
            key: [window as u8 + 1; 16],
            ..request(window as u64 * 10 + n, &[watched, enforced])
        };
        assert_eq!(levels(&store.spend(&of(1)).await), [2, 1], "{window:?}");
        assert_eq!(levels(&store.spend(&of(2)).await), [4, 2], "{window:?}");
        assert_eq!(levels(&store.spend(&of(3)).await), [4, 3], "{window:?}");
        assert!(matches!(store.spend(&of(4)).await, Verdict::Over { cost: 1, level: 3, .. }));
    }
}

/// Four gateways that send as fast as they can, each on a thread of its own, and when each request was admitted by the
/// server's clock.
fn storm(
    stores: &[Arc<RedisStore<SystemClock>>],
    costs: &[Cost],
    each: u64,
    salt: u64,
) -> Vec<(Micros, u64)> {
    let send = |place: u64, store: &RedisStore<SystemClock>| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut admitted = Vec::new();
        for n in 0..each {
            let one = request(salt << 40 | place << 32 | n, costs);
            match runtime.block_on(store.spend(&one)) {
                Verdict::New(levels) => admitted.push((levels.at, u64::from(costs[0].weight))),
                Verdict::Over { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        admitted
    };
    let mut all: Vec<(Micros, u64)> = std::thread::scope(|scope| {
        let sending =
            (0..).zip(stores).map(|(place, store)| scope.spawn(move || send(place, store)));
        let sending: Vec<_> = sending.collect();
        sending.into_iter().flat_map(|sent| sent.join().unwrap()).collect()
    });
    all.sort_unstable();
    all
}

/// The most that any span of a period saw, in which a bucket may give what came back meanwhile as well.
fn most(window: Window, period: u64, admitted: &[(Micros, u64)]) -> u64 {
    let sum = |from: u64, end: u64| -> u64 {
        admitted.iter().filter(|(at, _)| at.0 >= from && at.0 < end).map(|(_, units)| units).sum()
    };
    let spans = admitted.iter().map(|(at, _)| match window {
        Window::Fixed => sum(at.0 / period * period, at.0 / period * period + period),
        Window::Bucket | Window::Sliding => sum(at.0, at.0 + period),
    });
    spans.max().unwrap_or(0)
}

#[tokio::test]
async fn four_gateways_together_admit_no_more_than_one_would() {
    let servers = [(); 4].map(|()| RedisServer::start(&[]));
    let (one, quorum) = servers.split_at(1);
    for servers in [one, quorum] {
        let servers: Vec<&RedisServer> = servers.iter().collect();
        let mut stores = Vec::new();
        for _ in 0..4 {
            stores.push(gateway(&servers).await);
        }
        past_fence().await;
        admits_no_more_and_little_less(&stores);
    }
}

fn admits_no_more_and_little_less(stores: &[Arc<RedisStore<SystemClock>>]) {
    for (salt, window) in (1..).zip(KINDS) {
        for (also, quota) in (1..).zip([7_u32, 60]) {
            let period = Duration::from_millis(150);
            let limit = Limit { quota, period };
            let one = cost(window, Scope::Account, limit, 1);
            let one = Cost { subject: Subject(salt * 1_000 + u64::from(quota)), ..one };
            let admitted = storm(stores, &[one], 400, salt << 8 | also);
            assert!(admitted.len() >= quota as usize, "{window:?}");
            let period = u64::try_from(period.as_micros()).unwrap();
            let allowed =
                if window == Window::Bucket { 2 * u64::from(quota) } else { u64::from(quota) };
            assert!(most(window, period, &admitted) <= allowed, "{window:?} {quota} {admitted:?}");
            // Of a bucket, exactly: whatever the span, its rate and one burst.
            for (from, (begun, _)) in admitted.iter().enumerate() {
                for (n, (at, _)) in admitted[from..].iter().enumerate() {
                    let most = u128::from(quota) * u128::from(at.0 - begun.0 + period);
                    let units = n as u128 + 1;
                    assert!(window != Window::Bucket || units * u128::from(period) <= most);
                }
            }
            if let (Window::Bucket, Some(((begun, _), (end, _)))) =
                (window, admitted.first().zip(admitted.last()))
            {
                let due = f64::from(quota) * (1.0 + end.since(*begun).as_secs_f64() / 0.15);
                println!("quota {quota}: {} of {due:.1} admitted", admitted.len());
            }
        }
    }
}

#[tokio::test]
async fn the_checker_of_windows_sees_what_four_gateways_admit_that_share_nothing() {
    let servers = [(); 4].map(|()| RedisServer::start(&[]));
    let mut stores = Vec::new();
    for server in &servers {
        stores.push(gateway(&[server]).await);
    }
    past_fence().await;
    let limit = Limit { quota: 7, period: HOUR };
    for (salt, window) in (1..).zip(KINDS) {
        let one = Cost { subject: Subject(salt), ..cost(window, Scope::Account, limit, 1) };
        let admitted = storm(&stores, &[one], 20, salt);
        let period = u64::try_from(HOUR.as_micros()).unwrap();
        assert_eq!(most(window, period, &admitted), 28, "{window:?}");
    }
}

#[tokio::test]
async fn a_loss_of_the_store_gives_one_allowance_more_and_no_second() {
    let mut server = RedisServer::start(&[]);
    let store = gateway(&[&server]).await;
    let limit = Limit { quota: 5, period: 200_000 * HOUR };
    let mut admitted = 0_u64;
    for loss in 0..3_u64 {
        past_fence().await;
        for n in 0..20 {
            let costs = KINDS.map(|window| cost(window, Scope::Account, limit, 1));
            let verdict = store.spend(&request(loss << 16 | n, &costs)).await;
            admitted += u64::from(matches!(verdict, Verdict::New(_)));
        }
        assert_eq!(admitted, 5 * (loss + 1));
        server.restart();
        let _troubles = store.look().await;
        let _troubles = store.look().await;
    }
}

#[tokio::test]
async fn limits_that_are_over_leave_the_servers_memory_and_a_full_one_refuses() {
    let few = FUNCTION
        .replace(
            "MOST_LIMITS, MOST_MARKS, MOST_KNOWN = 1000000,",
            "MOST_LIMITS, MOST_MARKS, MOST_KNOWN = 30,",
        )
        .replace("SWEEP, SWEPT_AT_ONCE = 10000000,", "SWEEP, SWEPT_AT_ONCE = 0,");
    assert_eq!(few.matches("= 30,").count() + few.matches("= 0, 10000\n").count(), 2);
    let server = RedisServer::start(&[]);
    let weakened = Weakened { function: Some(few.into()), ..Weakened::default() };
    let options = Options { weakened, ..options(&[&server]) };
    let store = RedisStore::new(options, local(), SystemClock::start()).unwrap();
    assert_eq!(store.look().await, []);
    past_fence().await;
    let mut number = 0;
    let mut spend = async |subject: u64, period| {
        number += 1;
        let limit = Limit { quota: 4, period };
        let costs = [KINDS[(subject % 3) as usize]]
            .map(|kind| Cost { subject: Subject(subject), ..cost(kind, Scope::Account, limit, 1) });
        store.spend(&request(number, &costs)).await
    };
    for subject in 0..30 {
        assert_eq!(levels(&spend(subject, HOUR).await), [1]);
    }
    // Those that are there go on; what finds no room is refused, and recorded as little as charged.
    assert_eq!(spend(30, HOUR).await, Verdict::Full);
    assert_eq!(levels(&spend(29, HOUR).await), [2]);
    drop(server.run(&["FLUSHALL"]));
    assert_eq!(store.look().await, []);
    past_fence().await;
    for subject in 0..30 {
        assert_eq!(levels(&spend(subject, Duration::from_millis(1)).await), [1]);
    }
    // All of them are over by now.
    past_fence().await;
    assert_eq!(store.look().await, []);
    assert_eq!(levels(&spend(30, HOUR).await), [1]);
}

/// Asks a server for a unit of a limit that more accounts share, which is `micros` long; whether there was room for it.
fn settles(connection: &mut redis::Connection, subject: u64, micros: u64) -> bool {
    let mut cost = subject.to_le_bytes().to_vec();
    cost.push(0);
    cost.extend(1_u32.to_le_bytes());
    cost.extend([micros, micros].map(u64::to_le_bytes).concat());
    cost.extend(0_u32.to_le_bytes());
    let mut settle = redis::cmd("FCALL");
    settle.arg("countersign_2_settle").arg(1).arg(format!("c2:{{{}}}:g", subject % 1_024));
    let said: Vec<u8> = settle.arg(cost).query(connection).unwrap();
    match said[0] {
        0 => true,
        10 => false,
        _ => panic!("{said:?}"),
    }
}

#[tokio::test]
async fn limits_that_all_share_leave_the_servers_memory_a_part_at_a_time() {
    let few = FUNCTION
        .replace("MOST_KNOWN = 1000000,", "MOST_KNOWN = 3000,")
        .replace("SWEPT_AT_ONCE = 10000000, 10000\n", "SWEPT_AT_ONCE = 0, 100\n");
    assert_eq!(few.matches("= 3000,").count() + few.matches("= 0, 100\n").count(), 2);
    let server = RedisServer::start(&[]);
    let weakened = Weakened { function: Some(few.into()), ..Weakened::default() };
    let options = Options { weakened, ..options(&[&server]) };
    let store = RedisStore::new(options, local(), SystemClock::start()).unwrap();
    assert_eq!(store.look().await, []);
    let mut connection = server.client().get_connection().unwrap();
    let fill = (0..3_000).filter(|subject| settles(&mut connection, *subject, 1_000)).count();
    assert_eq!(fill, 3_000, "and all of them are over");
    let mut room = 0;
    for look in 1..=80 {
        assert_eq!(store.look().await, []);
        // Those that come last for long, so that what is swept is what was over.
        let hour = 3_600_000_000;
        let from = 10_000 * look;
        let found = (from..from + 3_000).take_while(|s| settles(&mut connection, *s, hour)).count();
        assert!(found <= 103, "{look}: {found}");
        room += found;
    }
    assert_eq!(room, 3_000);
}

#[derive(Clone, Copy, Debug)]
struct Ask {
    window: Window,
    scope: Scope,
    shadow: bool,
    quota: u32,
    subject: u64,
}

fn asks() -> impl Strategy<Value = Vec<Ask>> {
    let window = prop_oneof![Just(Window::Bucket), Just(Window::Sliding), Just(Window::Fixed)];
    let scope = prop_oneof![Just(Scope::Key), Just(Scope::Account)];
    let one = (window, scope, prop::bool::weighted(0.2), 1_u32..40, 0_u64..6);
    let one = one.prop_map(|(window, scope, shadow, quota, subject)| Ask {
        window,
        scope,
        shadow,
        quota,
        subject,
    });
    prop::collection::vec(one, 1..6)
}

/// The costs of one request: each subject once, and each always counted in the same way.
fn costs_of(asks: &[Ask], known: &mut HashMap<u64, Ask>, round: u64, weight: u32) -> Vec<Cost> {
    let mut costs: Vec<Cost> = Vec::new();
    for ask in asks {
        let ask = *known.entry(ask.subject).or_insert(*ask);
        let subject = Subject(round << 16 | ask.subject);
        if costs.iter().any(|cost| cost.subject == subject) {
            continue;
        }
        // A period so long that what passes between the two questions does not count.
        let period = if ask.window == Window::Bucket { 1_000 * HOUR } else { 200_000 * HOUR };
        let limit = Limit { quota: ask.quota, period };
        costs.push(Cost {
            subject,
            shadow: ask.shadow,
            ..cost(ask.window, ask.scope, limit, weight)
        });
    }
    costs
}

#[test]
fn every_kind_agrees_with_the_embedded_store_whatever_is_asked_together() {
    let server = RedisServer::start(&[]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let store = runtime.block_on(async {
        let store = gateway(&[&server]).await;
        past_fence().await;
        store
    });
    let rounds = std::cell::Cell::new(0_u64);
    let steps = prop::collection::vec((asks(), 0_u32..12), 1..30);
    let config =
        ProptestConfig { cases: 80, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(steps in steps)| {
        rounds.set(rounds.get() + 1);
        let round = rounds.get();
        let options = MemoryOptions { max_records: 1_000, ..MemoryOptions::default() };
        let memory = MemoryStore::open(&options, now() - HOUR).unwrap();
        let mut known = HashMap::new();
        for (place, (asks, weight)) in (0_u64..).zip(steps) {
            let costs = costs_of(&asks, &mut known, round, weight);
            let wanted = Charge {
                account: round,
                key: u128::from(round).to_le_bytes(),
                ..request(round << 32 | place, &costs)
            };
            let (ours, theirs) =
                runtime.block_on(async { (memory.spend(&wanted).await, store.spend(&wanted).await) });
            let over = |verdict: &Verdict| match verdict {
                Verdict::Over { cost, level, .. } => Some((*cost, *level)),
                _ => None,
            };
            match (over(&ours), over(&theirs)) {
                // Of two that are over the longer wait is told: with equal ones, either.
                (Some(ours), Some(theirs)) if ours.0 == theirs.0 => prop_assert_eq!(ours, theirs),
                (Some(_), Some(_)) => {}
                _ => prop_assert_eq!(&ours, &theirs, "{:?}", wanted.costs),
            }
        }
    });
}

/// Asks until what is given back in the background has come.
async fn becomes(
    store: &RedisStore<SystemClock>,
    ask: impl Fn(u64) -> Charge,
    wanted: u32,
) -> bool {
    for n in 0..200 {
        if levels(&store.spend(&ask(n)).await) == [wanted] {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    false
}

#[tokio::test]
async fn what_is_given_back_is_given_back_once_to_whom_it_was_taken_from() {
    let server = RedisServer::start(&[]);
    let store = gateway(&[&server]).await;
    past_fence().await;
    let mut number = 0;
    for window in [Window::Sliding, Window::Fixed] {
        for scope in [Scope::Key, Scope::Account] {
            number += 100_000;
            let limit = Limit { quota: 9, period: 200_000 * HOUR };
            let one = Cost {
                subject: Subject(number),
                charged: Charged::Refused,
                ..cost(window, scope, limit, 3)
            };
            let paid = request(number, &[one]);
            let Verdict::New(now_at) = store.spend(&paid).await else { panic!() };
            assert_eq!(levels(&store.spend(&request(number + 1, &[one])).await), [6]);
            let mut receipt = Receipt::of(&paid).unwrap();
            receipt.at = now_at.at;
            assert!(receipt.clone().given_back(400).is_none());
            let receipt = receipt.given_back(200).unwrap();
            for _ in 0..3 {
                store.give_back(&receipt, now());
            }
            let look = Cost { weight: 0, ..one };
            let ask = |n| request(number + 10 + n, &[look]);
            assert!(becomes(&store, ask, 3).await, "{window:?} {scope:?}");
            // Every one of the three has been carried out by now: they came first.
            let later = |n| request(number + 1_000 + n, &[look]);
            assert_eq!(levels(&store.spend(&later(0)).await), [3]);
            // The record stays: what was given back is a replay all the same.
            assert_eq!(store.spend(&paid).await, Verdict::Seen);
            // What no longer is known is not given back.
            let mut unknown = receipt.clone();
            unknown.identity = Identity([77; 16]);
            store.give_back(&unknown, now());
            assert_eq!(levels(&store.spend(&later(1)).await), [3]);
            assert_eq!(levels(&store.spend(&later(2)).await), [3]);
        }
    }
}

#[tokio::test]
async fn what_all_share_is_exceeded_by_no_more_than_a_batch_of_each_gateway() {
    let server = RedisServer::start(&[]);
    let mut stores = Vec::new();
    for _ in 0..4 {
        stores.push(gateway(&[&server]).await);
    }
    past_fence().await;
    for (salt, window) in (1..).zip(KINDS) {
        for (also, (scope, quota)) in (1..).zip([(Scope::Address, 10_u32), (Scope::Global, 320)]) {
            let limit = Limit { quota, period: 200_000 * HOUR };
            let one = Cost { spans_accounts: true, ..cost(window, scope, limit, 1) };
            let one = Cost { subject: Subject(salt * 1_000 + also), ..one };
            let admitted = storm(&stores, &[one], 300, salt << 8 | also);
            let batch = usize::try_from(quota / 32).unwrap().max(1);
            let most = usize::try_from(quota).unwrap() + 4 * batch;
            // Without what is shared, four gateways would admit four times the quota.
            assert!(
                (quota as usize..=most).contains(&admitted.len()),
                "{window:?} {quota}: {}",
                admitted.len()
            );
        }
    }
}

/// How full the limits of a key and its account are told to be, where one that all share refuses.
fn told_beside(verdict: &Verdict) -> Vec<(usize, u32)> {
    match verdict {
        Verdict::Over { cost: 2, beside, .. } => beside.to_vec(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn who_is_refused_for_what_all_share_is_told_of_the_rest_and_pays_and_leaves_nothing() {
    let servers = [(); 3].map(|()| RedisServer::start(&[]));
    let [a, b, c] = &servers;
    for (round, servers) in (1..).zip([&[a][..], &[a, b, c]]) {
        let (store, other) = (gateway(servers).await, gateway(servers).await);
        past_fence().await;
        for (salt, window) in (1..).zip(KINDS) {
            let limit = Limit { quota: 50, period: 200_000 * HOUR };
            let small = Limit { quota: 4, ..limit };
            let own = cost(window, Scope::Key, limit, 3);
            let own = Cost { subject: Subject(round * 1_000 + salt), ..own };
            let of_account =
                Cost { scope: Scope::Account, subject: Subject(own.subject.0 + 100), ..own };
            let all = Cost { spans_accounts: true, ..cost(window, Scope::Global, small, 4) };
            let all = Cost { subject: Subject(own.subject.0 + 200), ..all };
            let of = |n, costs: &[Cost]| request(round << 32 | salt << 16 | n, costs);
            assert_eq!(levels(&store.spend(&of(1, &[own, of_account, all])).await), [3, 3, 4]);
            // What another gateway charged meanwhile is told as well.
            assert_eq!(levels(&other.spend(&of(2, &[own])).await), [6]);
            let refused = of(3, &[own, of_account, all]);
            for _ in 0..3 {
                let over = store.spend(&refused).await;
                assert_eq!(told_beside(&over), [(0, 6), (1, 3)], "{window:?} {over:?}");
            }
            // More than there ever is changes nothing of it.
            let never = Cost { weight: 60, ..own };
            let over = store.spend(&of(4, &[never, of_account, all])).await;
            assert_eq!(told_beside(&over), [(0, 6), (1, 3)], "{window:?} {over:?}");
            // The same bytes may come again, and nothing was charged.
            let again = Charge { costs: [own].into_iter().collect(), ..refused };
            assert_eq!(levels(&other.spend(&again).await), [9], "{window:?}");
        }
    }
}

#[tokio::test]
async fn control_with_a_library_that_refuses_for_no_limit_the_question_itself_is_recorded() {
    let server = RedisServer::start(&[]);
    let line = "if said then refused = refusal(";
    assert_eq!(FUNCTION.matches(line).count(), 1);
    let function = FUNCTION.replace(line, "if false then refused = refusal(");
    let weakened = Weakened { function: Some(function.into()), ..Weakened::default() };
    let options = Options { weakened, ..options(&[&server]) };
    let store = RedisStore::new(options, local(), SystemClock::start()).unwrap();
    assert_eq!(store.look().await, []);
    past_fence().await;
    let limit = Limit { quota: 4, period: 200_000 * HOUR };
    let own = cost(Window::Fixed, Scope::Key, limit, 1);
    let all = Cost { spans_accounts: true, ..cost(Window::Fixed, Scope::Global, limit, 4) };
    let all = Cost { subject: Subject(99), ..all };
    assert_eq!(levels(&store.spend(&request(1, &[own, all])).await), [1, 4]);
    let refused = request(2, &[own, all]);
    assert!(matches!(store.spend(&refused).await, Verdict::Over { cost: 1, .. }));
    let again = Charge { costs: [own].into_iter().collect(), ..refused };
    assert_eq!(store.spend(&again).await, Verdict::Seen);
}

#[tokio::test]
async fn what_nobody_has_signed_is_counted_by_each_gateway_and_written_to_no_server() {
    let server = RedisServer::start(&[]);
    let store = gateway(&[&server]).await;
    past_fence().await;
    let limit = Limit { quota: 10, period: 200_000 * HOUR };
    let shared = |subject| Cost {
        subject: Subject(subject),
        spans_accounts: true,
        ..cost(Window::Fixed, Scope::Address, limit, 1)
    };
    let calls = || {
        let info: String = redis::from_redis_value(server.run(&["INFO", "commandstats"])).unwrap();
        let line = info.lines().find_map(|line| line.strip_prefix("cmdstat_fcall:calls="));
        line.and_then(|line| line.split(',').next()).map_or(0, |calls| calls.parse().unwrap())
    };
    let before: u64 = calls();
    for spent in 1..=10 {
        assert_eq!(levels(&store.pay(now(), &[shared(0xAAAA)]).await), [spent]);
    }
    let over = store.pay(now(), &[shared(0xAAAA)]).await;
    assert!(matches!(over, Verdict::Over { .. }), "{over:?}");
    assert_eq!(calls(), before);
    // The control: what is signed is settled, behind whatever had been asked before.
    assert_eq!(levels(&store.spend(&request(1, &[shared(0xBBBB)])).await), [1]);
    let begun = std::time::Instant::now();
    while calls() < before + 2 {
        assert!(begun.elapsed() < Duration::from_secs(20), "never settled");
        tokio::task::yield_now().await;
    }
}

/// What each of so many requests comes to that one gateway has at a time.
async fn at_a_time(store: &RedisStore<SystemClock>, requests: &[Charge]) -> Vec<Verdict> {
    type Asked<'a> = Pin<Box<dyn Future<Output = Verdict> + 'a>>;
    let asked = requests.iter().map(|one| Box::pin(store.spend(one)) as Asked<'_>);
    let mut asked: Vec<_> = asked.collect();
    let mut verdicts = Vec::new();
    poll_fn(|context| {
        asked.retain_mut(|one| match one.as_mut().poll(context) {
            Poll::Ready(verdict) => {
                verdicts.push(verdict);
                false
            }
            Poll::Pending => true,
        });
        if asked.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    verdicts
}

/// A proxy in front of a port, on a thread of its own.
fn proxy_of(port: u16) -> FaultProxy {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            tell.send(FaultProxy::start(port).await).unwrap();
            std::future::pending::<()>().await;
        });
    });
    told.recv().unwrap()
}

fn passed(verdicts: &[Verdict]) -> usize {
    verdicts.iter().filter(|verdict| matches!(verdict, Verdict::New(_))).count()
}

#[tokio::test]
async fn what_all_share_holds_for_many_at_a_time_though_the_server_is_far_away() {
    let server = RedisServer::start(&[]);
    let proxy = proxy_of(server.port);
    let mut stores = Vec::new();
    for _ in 0..4 {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}", proxy.port)).unwrap();
        let servers = vec![Address { name: "far".to_owned(), client }];
        let deadline = Duration::from_millis(200);
        let options = Options { servers, deadline, ..options(&[&server]) };
        stores.push(Arc::new(RedisStore::new(options, local(), SystemClock::start()).unwrap()));
    }
    proxy.set(Mode::Delay(Duration::from_millis(8)));
    for store in &stores {
        assert_eq!(store.look().await, []);
    }
    past_fence().await;
    for (salt, window) in (1..).zip(KINDS) {
        for (also, (scope, quota)) in (1..).zip([(Scope::Address, 60_u32), (Scope::Global, 96)]) {
            let limit = Limit { quota, period: 200_000 * HOUR };
            let one = Cost { spans_accounts: true, ..cost(window, scope, limit, 1) };
            let one = Cost { subject: Subject(salt * 1_000 + also), ..one };
            let admitted: usize = std::thread::scope(|scope| {
                let send = |(place, store): (u64, &Arc<RedisStore<SystemClock>>)| {
                    let number = |n| salt << 48 | also << 44 | place << 32 | n;
                    let requests: Vec<_> = (0..100).map(|n| request(number(n), &[one])).collect();
                    let store = Arc::clone(store);
                    let runtime = tokio::runtime::Builder::new_current_thread();
                    let runtime = { runtime }.enable_all().build().unwrap();
                    scope.spawn(move || passed(&runtime.block_on(at_a_time(&store, &requests))))
                };
                let sending: Vec<_> = (0..).zip(&stores).map(send).collect();
                sending.into_iter().map(|sent| sent.join().unwrap()).sum()
            });
            let batch = usize::try_from(quota / 32).unwrap().max(1);
            let most = usize::try_from(quota).unwrap() + 4 * batch;
            assert!((most / 2..=most).contains(&admitted), "{window:?} {quota}: {admitted}");
        }
    }
}

#[tokio::test]
async fn what_a_limit_of_its_own_refuses_takes_nothing_of_what_all_share() {
    let server = RedisServer::start(&[]);
    let (first, second) = (gateway(&[&server]).await, gateway(&[&server]).await);
    past_fence().await;
    for (salt, window) in (1..).zip(KINDS) {
        let limit = Limit { quota: 320, period: 200_000 * HOUR };
        let none = Limit { quota: 1, ..limit };
        let own = Cost { subject: Subject(salt), ..cost(window, Scope::Account, none, 1) };
        let all = Cost { spans_accounts: true, ..cost(window, Scope::Global, limit, 1) };
        let all = Cost { subject: Subject(salt + 100), ..all };
        let greedy = |n: u64| request(salt << 32 | n, &[own, all]);
        let others = |n: u64| Charge { account: 8, ..request(salt << 32 | 1 << 20 | n, &[all]) };
        let mut number = 0;
        for _ in 0..100 {
            let requests: Vec<_> = (number..number + 30).map(greedy).collect();
            number += 30;
            assert!(passed(&at_a_time(&first, &requests).await) <= 1);
        }
        // What nobody used goes back with the next request, and comes before what that asks.
        tokio::time::sleep(Duration::from_millis(25)).await;
        for n in 0..2 {
            let _refused = first.spend(&greedy(number + n)).await;
        }
        let mut left = 0;
        while matches!(second.spend(&others(left)).await, Verdict::New(_)) {
            left += 1;
        }
        assert!(left >= 320 - 10 - 10, "{window:?}: {left}");
    }
}
