//! The shared store against real servers: what one gateway accepted, no gateway accepts again.
#![cfg(feature = "server")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::format_push_string,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a panic is how a test fails, and some tell figures"
)]

mod alone;
mod answers;
#[path = "../support/cluster.rs"]
mod cluster;
mod cluster_numbers;
mod clusters;
mod counters;
mod deaf;
mod drift;
mod entry;
mod epochs;
#[path = "../support/faketime.rs"]
mod faketime;
#[expect(dead_code, reason = "other tests ask more of it")]
#[path = "../support/fault_proxy.rs"]
mod fault_proxy;
#[path = "../support/free_port.rs"]
mod free_port;
mod gateways;
mod guarded;
mod headers;
mod hostile;
mod leases;
mod limits;
mod local;
mod marks;
mod members;
mod nodes;
mod numbers;
mod outages;
#[expect(dead_code, reason = "other tests ask more of it")]
#[path = "../registry/server.rs"]
mod postgres;
mod process;
mod ready;
mod server;
mod time;
mod twins;

use std::sync::Arc;
use std::time::Duration;

use countersign::clock::{Clock, Micros, SystemClock};
use countersign::store::memory::{MemoryStore, Options as MemoryOptions};
use countersign::store::redis::{Local, Options, RedisStore, Topology, Trouble, Weakened};
use countersign::store::{
    Charge, Cost, Identity, Limit, Repeat, SignedTime, Store, Subject, Verdict,
};
use proptest::prelude::*;
use server::RedisServer;

const HOUR: Duration = Duration::from_hours(1);
const SKEW: Duration = Duration::from_millis(20);
const BOUND: Duration = Duration::from_millis(250);

fn options(servers: &[&RedisServer]) -> Options {
    Options {
        servers: servers.iter().map(|server| server.address()).collect(),
        deadline: Duration::from_millis(400),
        future_skew: SKEW,
        clock_bound: BOUND,
        max_in_flight: 1_000,
        local: Local::default(),
        topology: Topology::Independent,
        weakened: Weakened::default(),
    }
}

/// A gateway's store whose servers were born long enough ago.
async fn gateway(servers: &[&RedisServer]) -> Arc<RedisStore<SystemClock>> {
    let store = Arc::new(RedisStore::new(options(servers), local(), SystemClock::start()).unwrap());
    let troubles = store.look().await;
    assert_eq!(troubles, []);
    store
}

fn local() -> MemoryStore {
    let options = MemoryOptions { max_records: 1_000, ..MemoryOptions::default() };
    MemoryStore::open(&options, now()).unwrap()
}

/// Waits until a request that is signed now is judged.
async fn past_fence() {
    tokio::time::sleep(SKEW + BOUND * 2 + Duration::from_millis(10)).await;
}

fn now() -> Micros {
    SystemClock::start().now()
}

fn charge(identity: u8) -> Charge {
    let now = now();
    Charge {
        now,
        identity: Identity([identity; 16]),
        nonce: None,
        account: 7,
        key: [3; 16],
        epoch: 1,
        step: None,
        time: SignedTime::Stamp(now),
        keep_until: now + Duration::from_secs(5),
        route: 1,
        repeat: Repeat::Never,
        costs: [].into_iter().collect(),
    }
}

fn limited(mut charge: Charge, quota: u32, weight: u32) -> Charge {
    let limit = Limit { quota, period: HOUR };
    charge.costs.push(Cost::of_key(Subject(9), limit, weight));
    charge
}

fn levels(verdict: &Verdict) -> Vec<u32> {
    match verdict {
        Verdict::New(levels) => levels.to_vec(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_one_gateway_accepted_no_gateway_accepts_again() {
    let server = RedisServer::start(&[]);
    let (first, second) = (gateway(&[&server]).await, gateway(&[&server]).await);
    past_fence().await;
    let once = charge(1);
    assert!(matches!(first.spend(&once).await, Verdict::New(_)));
    assert_eq!(second.spend(&once).await, Verdict::Seen);
    assert_eq!(first.spend(&once).await, Verdict::Seen);
    // Neither another route nor another moment makes it new.
    let moved = Charge { route: 2, now: now(), ..once.clone() };
    assert_eq!(second.spend(&moved).await, Verdict::Seen);
    assert!(matches!(second.spend(&charge(2)).await, Verdict::New(_)));
}

#[tokio::test]
async fn a_nonce_passes_once_whatever_comes_with_it() {
    let server = RedisServer::start(&[]);
    let store = gateway(&[&server]).await;
    past_fence().await;
    let nonce = Some(Identity([200; 16]));
    let one = Charge { nonce, ..charge(1) };
    assert!(matches!(store.spend(&one).await, Verdict::New(_)));
    let other = Charge { identity: Identity([2; 16]), ..one };
    assert_eq!(store.spend(&other).await, Verdict::Seen);
}

/// A request with this nonce, signed so much before the present.
fn signed_before(identity: u8, nonce: u8, age: Duration) -> Charge {
    let one = charge(identity);
    let time = SignedTime::Stamp(one.now - age);
    Charge { time, nonce: Some(Identity([nonce; 16])), ..one }
}

#[tokio::test]
async fn a_nonce_passes_once_whenever_what_comes_with_it_was_signed() {
    let servers = [(); 3].map(|()| RedisServer::start(&[]));
    let [one, quorum @ ..] = &servers;
    let [two, three] = quorum;
    for servers in [&[one][..], &[one, two, three]] {
        for server in servers {
            drop(server.run(&["FLUSHALL"]));
        }
        let (store, other) = (gateway(servers).await, gateway(servers).await);
        past_fence().await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        let first = signed_before(1, 200, Duration::ZERO);
        assert!(matches!(store.spend(&first).await, Verdict::New(_)));
        // Records that were signed two seconds apart lie apart.
        for (identity, age) in (2..).zip([0, 1_000, 2_000]) {
            let again = signed_before(identity, 200, Duration::from_millis(age));
            assert_eq!(other.spend(&again).await, Verdict::Seen, "{age}");
            let unlike = signed_before(identity, 200 + identity, Duration::from_millis(age));
            assert!(matches!(other.spend(&unlike).await, Verdict::New(_)), "{age}");
        }
        assert_eq!(other.spend(&first).await, Verdict::Seen);
    }
}

#[tokio::test]
async fn a_nonce_of_what_is_over_a_limit_may_come_again_and_lasts_as_long_as_its_request() {
    let servers = [(); 3].map(|()| RedisServer::start(&[]));
    let store = gateway(&servers.each_ref()).await;
    past_fence().await;
    let with = |identity, nonce| Charge { nonce: Some(Identity([nonce; 16])), ..charge(identity) };
    assert_eq!(levels(&store.spend(&limited(with(1, 100), 10, 8)).await), [8]);
    let over = limited(with(2, 101), 10, 3);
    for _ in 0..2 {
        assert!(matches!(store.spend(&over).await, Verdict::Over { .. }));
    }
    assert_eq!(levels(&store.spend(&limited(with(3, 101), 10, 2)).await), [10]);
    for server in &servers {
        let keys: Vec<Vec<u8>> =
            redis::from_redis_value(server.run(&["KEYS", "c2:{7}:g:*"])).unwrap();
        assert_eq!(keys.iter().filter(|key| key.ends_with(&[101; 14])).count(), 1);
        for key in keys {
            let mut connection = server.client().get_connection().unwrap();
            let left: i64 = redis::cmd("PTTL").arg(key).query(&mut connection).unwrap();
            assert!((10_000..16_000).contains(&left), "{left}");
        }
    }
}

#[tokio::test]
async fn a_read_repeats_on_its_own_route_and_pays_each_time() {
    let server = RedisServer::start(&[]);
    let store = gateway(&[&server]).await;
    past_fence().await;
    let poll = Charge { repeat: Repeat::SameRoute, ..limited(charge(1), 10, 4) };
    assert_eq!(levels(&store.spend(&poll).await), [4]);
    assert_eq!(levels(&store.spend(&poll).await), [8]);
    assert!(matches!(store.spend(&poll).await, Verdict::Over { cost: 0, level: 8, .. }));
    let elsewhere = Charge { route: 2, ..poll };
    assert_eq!(store.spend(&elsewhere).await, Verdict::Seen);
}

#[tokio::test]
async fn what_is_over_a_limit_is_not_recorded_and_may_come_again() {
    let server = RedisServer::start(&[]);
    let store = gateway(&[&server]).await;
    past_fence().await;
    assert_eq!(levels(&store.spend(&limited(charge(1), 10, 8)).await), [8]);
    let over = limited(charge(2), 10, 3);
    for _ in 0..2 {
        assert!(matches!(store.spend(&over).await, Verdict::Over { cost: 0, level: 8, .. }));
    }
    assert!(matches!(
        store.spend(&limited(over, 100, 3)).await,
        Verdict::Over { .. } | Verdict::New(_)
    ));
    assert_eq!(levels(&store.spend(&limited(charge(3), 10, 2)).await), [10]);
}

#[tokio::test]
async fn what_an_account_may_not_spend_is_not_taken_from_its_address() {
    let server = RedisServer::start(&[]);
    let store = gateway(&[&server]).await;
    past_fence().await;
    let from = |mut charge: Charge, quota| {
        let limit = Limit { quota, period: HOUR };
        charge.costs.push(Cost { spans_accounts: true, ..Cost::of_key(Subject(50), limit, 1) });
        charge
    };
    assert_eq!(levels(&store.spend(&from(limited(charge(1), 1, 1), 3)).await), [1, 1]);
    for n in 2..6 {
        let over = store.spend(&from(limited(charge(n), 1, 1), 3)).await;
        assert!(matches!(over, Verdict::Over { cost: 0, level: 1, .. }), "{over:?}");
    }
    let other = |n| from(Charge { account: 8, key: [4; 16], ..charge(n) }, 3);
    assert_eq!(levels(&store.spend(&other(10)).await), [2]);
    assert_eq!(levels(&store.spend(&other(11)).await), [3]);
    let over = store.spend(&other(12)).await;
    assert!(matches!(over, Verdict::Over { cost: 0, level: 3, .. }), "{over:?}");
}

#[tokio::test]
async fn a_key_that_was_revoked_meanwhile_is_refused_at_once() {
    let server = RedisServer::start(&[]);
    let store = gateway(&[&server]).await;
    past_fence().await;
    let known = charge(1);
    assert_eq!(store.raise(known.account, known.key, 2).await, 1);
    assert_eq!(store.spend(&known).await, Verdict::Outdated);
    assert!(matches!(store.spend(&Charge { epoch: 2, ..known.clone() }).await, Verdict::New(_)));
    // An earlier epoch never comes back.
    assert_eq!(store.raise(known.account, known.key, 1).await, 1);
    assert_eq!(
        store.spend(&Charge { identity: Identity([9; 16]), ..known }).await,
        Verdict::Outdated
    );
}

#[tokio::test]
async fn what_was_revoked_stays_so_after_a_restart_from_a_snapshot_and_after_whatever_is_forgotten()
{
    let mut server = RedisServer::start(&[]);
    let store = gateway(&[&server]).await;
    past_fence().await;
    let known = charge(1);
    assert!(matches!(store.spend(&known).await, Verdict::New(_)), "it was known before");
    assert_eq!(store.raise(known.account, known.key, 2).await, 1);
    assert_eq!(store.spend(&charge(2)).await, Verdict::Outdated);
    drop(server.run(&["SAVE"]));
    for (number, lose) in [(10, "restart"), (11, "library")] {
        match lose {
            "restart" => server.restart(),
            _ => drop(server.run(&["FUNCTION", "FLUSH"])),
        }
        let _troubles = store.look().await;
        assert_eq!(store.look().await, [], "{lose}");
        past_fence().await;
        assert_eq!(store.spend(&charge(3)).await, Verdict::Outdated, "{lose}");
        let of_present = Charge { epoch: 2, ..charge(number) };
        assert!(matches!(store.spend(&of_present).await, Verdict::New(_)), "{lose}");
    }
    // The control: nothing else remembers it.
    drop(server.run(&["FLUSHALL"]));
    assert_eq!(store.look().await, []);
    past_fence().await;
    assert!(matches!(store.spend(&charge(4)).await, Verdict::New(_)));
}

#[tokio::test]
async fn a_server_with_a_library_of_another_version_beside_ours_is_not_used() {
    let server = RedisServer::start(&[]);
    let store = gateway(&[&server]).await;
    let other =
        "#!lua name=countersign_1\nredis.register_function('other', function() return '' end)";
    drop(server.run(&["FUNCTION", "LOAD", other]));
    assert!(matches!(&store.look().await[..], [(_, Trouble::OtherLibrary)]));
    drop(server.run(&["FUNCTION", "DELETE", "countersign_1"]));
    assert_eq!(store.look().await, []);
}

#[tokio::test]
async fn a_step_of_the_second_factor_passes_once() {
    let server = RedisServer::start(&[]);
    let (first, second) = (gateway(&[&server]).await, gateway(&[&server]).await);
    past_fence().await;
    let step = later_step();
    let with = |identity, step| Charge { step: Some(step), ..charge(identity) };
    assert!(matches!(first.spend(&with(1, step)).await, Verdict::New(_)));
    assert_eq!(second.spend(&with(2, step)).await, Verdict::StepSpent);
    assert_eq!(second.spend(&with(3, step - 1)).await, Verdict::StepSpent);
    assert!(matches!(second.spend(&with(4, step + 1)).await, Verdict::New(_)));
}

/// A step whose code nobody can have taken yet.
fn later_step() -> u64 {
    now().0 / 30_000_000 + 10
}

#[tokio::test]
async fn a_code_that_may_have_been_taken_before_a_loss_is_not_taken_after_it() {
    let server = RedisServer::start(&[]);
    let store = gateway(&[&server]).await;
    let present = now().0 / 30_000_000;
    past_fence().await;
    for step in [present - 1, present, present + 1] {
        let with_code = Charge { step: Some(step), ..charge(u8::try_from(step % 200).unwrap()) };
        let verdict = store.spend(&with_code).await;
        assert!(
            matches!(verdict, Verdict::Fenced { retry_after } if retry_after <= Duration::from_mins(1)),
            "{verdict:?}"
        );
    }
    let with_code = Charge { step: Some(present + 3), ..charge(201) };
    assert!(matches!(store.spend(&with_code).await, Verdict::New(_)));
}

#[tokio::test]
async fn after_any_loss_nothing_that_may_have_been_accepted_passes() {
    let mut server = RedisServer::start(&[]);
    let (store, other) = (gateway(&[&server]).await, gateway(&[&server]).await);
    for (round, lose) in [(10, "flush"), (20, "restart"), (30, "library")] {
        past_fence().await;
        let once = charge(round);
        assert!(matches!(store.spend(&once).await, Verdict::New(_)), "{lose}");
        match lose {
            "flush" => drop(server.run(&["FLUSHALL"])),
            "restart" => server.restart(),
            _ => drop(server.run(&["FUNCTION", "FLUSH"])),
        }
        for _ in 0..3 {
            assert!(!matches!(other.spend(&once).await, Verdict::New(_)), "{lose}");
            assert_eq!(store.spend(&once).await, Verdict::Seen, "it knows without asking");
        }
        assert_eq!(store.look().await, [], "{lose}");
        assert_eq!(other.look().await, [], "{lose}");
        let again = other.spend(&once).await;
        assert!(matches!(again, Verdict::Fenced { .. } | Verdict::Seen), "{lose}: {again:?}");
        past_fence().await;
        assert!(matches!(store.spend(&charge(round + 3)).await, Verdict::New(_)), "{lose}");
        // Everything of this round is out of the way of the next.
        drop(server.run(&["FLUSHALL"]));
        assert_eq!(store.look().await, [], "{lose}");
    }
}

/// What a gateway would say whose message was on its way for an hour.
fn wake(server: &RedisServer, name: &str, known: &str) -> String {
    let long_ago = (now() - HOUR).0.to_string();
    let words = ["FCALL", "countersign_2_wake", "1", "c2:{7}:g", &long_ago, name, known, "0"];
    match server.run(&words) {
        redis::Value::BulkString(told) => String::from_utf8(told).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_a_gateway_said_before_a_loss_begins_nothing_after_it() {
    let server = RedisServer::start(&[]);
    let (first, store) = (gateway(&[&server]).await, gateway(&[&server]).await);
    past_fence().await;
    let once = charge(1);
    assert!(matches!(first.spend(&once).await, Verdict::New(_)));
    drop(server.run(&["FLUSHALL"]));
    // It was sent before the loss and comes after it: it names a generation that nobody knows of.
    assert!(wake(&server, "late", "").ends_with(" late"));
    assert!(matches!(store.spend(&once).await, Verdict::Fenced { .. }));
    assert!(wake(&server, "later", "other").ends_with(" late"), "another name confirms nothing");
    assert!(matches!(store.spend(&once).await, Verdict::Fenced { .. }));
    // Who looks confirms it, from now on.
    assert_eq!(store.look().await, []);
    assert!(matches!(store.spend(&once).await, Verdict::Fenced { .. }));
    past_fence().await;
    assert!(matches!(store.spend(&charge(2)).await, Verdict::New(_)));
    assert!(matches!(store.spend(&once).await, Verdict::Fenced { .. }));
}

#[tokio::test]
async fn what_was_evicted_or_deleted_by_hand_is_noticed_at_the_next_request() {
    let server = RedisServer::start(&[]);
    let (first, store) = (gateway(&[&server]).await, gateway(&[&server]).await);
    past_fence().await;
    let once = charge(1);
    assert!(matches!(first.spend(&once).await, Verdict::New(_)));
    let bucket = format!("c2:{{7}}:r{}", once.now.0 / 2_000_000);
    assert_eq!(server.run(&["DEL", &bucket]), redis::Value::Int(1));
    let again = store.spend(&once).await;
    assert!(matches!(again, Verdict::Fenced { .. }), "{again:?}");
    assert_eq!(store.look().await, []);
    // With its record it is seen, and without it is fenced.
    assert!(!matches!(store.spend(&once).await, Verdict::New(_)));
    past_fence().await;
    assert!(matches!(store.spend(&charge(3)).await, Verdict::New(_)));
}

#[tokio::test]
async fn a_seal_that_is_gone_or_tells_no_time_is_noticed_at_the_next_request_and_replaced() {
    let server = RedisServer::start(&[]);
    let (first, store) = (gateway(&[&server]).await, gateway(&[&server]).await);
    for (round, spoil) in [(10, "DEL"), (20, "PERSIST")] {
        past_fence().await;
        let once = charge(round);
        assert!(matches!(first.spend(&once).await, Verdict::New(_)), "{spoil}");
        let redis::Value::BulkString(name) = server.run(&["GET", "c2:{7}:g"]) else {
            panic!("a generation has a name");
        };
        let seal = format!("c2:{{7}}:g{}", String::from_utf8(name).unwrap());
        assert_eq!(server.run(&[spoil, &seal]), redis::Value::Int(1));
        let again = store.spend(&once).await;
        assert!(matches!(again, Verdict::Fenced { .. }), "{spoil}: {again:?}");
        assert_eq!(store.look().await, [], "{spoil}");
        assert_eq!(server.run(&["EXISTS", &seal]), redis::Value::Int(0), "{spoil}");
        assert!(!matches!(store.spend(&once).await, Verdict::New(_)), "{spoil}");
        past_fence().await;
        assert!(matches!(store.spend(&charge(round + 1)).await, Verdict::New(_)), "{spoil}");
    }
}

#[tokio::test]
async fn after_a_loss_a_key_of_the_registry_counts_once_it_was_heard_of_again() {
    let server = RedisServer::start(&[]);
    let store = gateway(&[&server]).await;
    past_fence().await;
    store.set_informed(now());
    past_fence().await;
    drop(server.run(&["FLUSHALL"]));
    assert_eq!(store.look().await, []);
    past_fence().await;
    let of_registry = charge(1);
    assert!(matches!(store.spend(&of_registry).await, Verdict::Fenced { .. }));
    let of_configuration = Charge { epoch: 0, ..charge(2) };
    assert!(matches!(store.spend(&of_configuration).await, Verdict::New(_)));
    store.set_informed(now());
    assert!(matches!(store.spend(&of_registry).await, Verdict::New(_)));
}

#[tokio::test]
async fn an_evicting_policy_is_noticed_while_it_serves() {
    let server = RedisServer::start(&[]);
    let store = gateway(&[&server]).await;
    past_fence().await;
    assert!(matches!(store.spend(&charge(1)).await, Verdict::New(_)));
    drop(server.run(&["CONFIG", "SET", "maxmemory-policy", "volatile-ttl"]));
    assert!(matches!(&store.look().await[..], [(_, Trouble::Evicts(_))]));
    assert_eq!(store.spend(&charge(2)).await, Verdict::Unavailable);
    drop(server.run(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]));
    assert_eq!(store.look().await, []);
    assert!(matches!(store.spend(&charge(3)).await, Verdict::New(_)));
}

#[tokio::test]
async fn a_quorum_goes_on_without_one_server_and_stops_without_two() {
    let mut servers = [(); 3].map(|()| RedisServer::start(&[]));
    let (first, store) = {
        let [a, b, c] = &servers;
        (gateway(&[a, b, c]).await, gateway(&[a, b, c]).await)
    };
    past_fence().await;
    let once = charge(1);
    assert!(matches!(first.spend(&once).await, Verdict::New(_)));
    servers[0].kill();
    assert_eq!(store.spend(&once).await, Verdict::Seen);
    for n in 10..20 {
        assert!(matches!(store.spend(&charge(n)).await, Verdict::New(_)), "{n}");
    }
    // It comes back empty, and remembers nothing: the others do.
    servers[0].restart();
    assert_eq!(store.look().await, []);
    assert_eq!(store.spend(&once).await, Verdict::Seen);
    assert!(matches!(store.spend(&charge(30)).await, Verdict::New(_)));
    servers[1].kill();
    servers[2].kill();
    assert!(!matches!(store.spend(&charge(31)).await, Verdict::New(_)));
    assert!(!matches!(store.spend(&once).await, Verdict::New(_)));
}

#[tokio::test]
async fn what_a_quorum_refuses_for_a_limit_may_come_again() {
    let servers = [(); 3].map(|()| RedisServer::start(&[]));
    let store = {
        let [a, b, c] = &servers;
        gateway(&[a, b, c]).await
    };
    past_fence().await;
    assert_eq!(levels(&store.spend(&limited(charge(1), 10, 8)).await), [8]);
    let over = limited(charge(2), 10, 3);
    for _ in 0..3 {
        assert!(matches!(store.spend(&over).await, Verdict::Over { .. }));
    }
    let mut fits = over.clone();
    fits.costs[0].weight = 2;
    assert_eq!(levels(&store.spend(&fits).await), [10]);
}

#[tokio::test]
async fn a_server_that_hangs_costs_no_more_than_the_deadline_and_is_used_again() {
    let server = RedisServer::start(&[]);
    let store = gateway(&[&server]).await;
    past_fence().await;
    let once = charge(1);
    assert!(matches!(store.spend(&once).await, Verdict::New(_)));
    server.signal("STOP");
    for n in 2..6 {
        assert_eq!(store.spend(&charge(n)).await, Verdict::Unavailable);
    }
    assert!(!store.is_usable());
    assert_eq!(store.spend(&charge(7)).await, Verdict::Unavailable);
    server.signal("CONT");
    assert_eq!(store.look().await, []);
    past_fence().await;
    assert!(matches!(store.spend(&charge(8)).await, Verdict::New(_)));
    assert_eq!(store.spend(&once).await, Verdict::Seen);
}

#[tokio::test]
async fn a_server_that_may_forget_or_cannot_write_is_not_used() {
    let evicting =
        RedisServer::start(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]);
    let store = RedisStore::new(options(&[&evicting]), local(), SystemClock::start()).unwrap();
    let troubles = store.look().await;
    assert!(
        matches!(&troubles[..], [(_, Trouble::Evicts(policy))] if policy == "allkeys-lru"),
        "{troubles:?}"
    );
    assert_eq!(store.spend(&charge(1)).await, Verdict::Unavailable);

    let clustered = RedisServer::start(&["--cluster-enabled", "yes"]);
    let store = RedisStore::new(options(&[&clustered]), local(), SystemClock::start()).unwrap();
    let troubles = store.look().await;
    assert!(
        matches!(&troubles[..], [(_, Trouble::Refuses(why))] if why.contains("runs as cluster")),
        "{troubles:?}"
    );

    let main = RedisServer::start(&[]);
    let replica = RedisServer::start(&["--replicaof", "127.0.0.1", &main.port.to_string()]);
    let store = RedisStore::new(options(&[&replica]), local(), SystemClock::start()).unwrap();
    assert!(matches!(&store.look().await[..], [(_, Trouble::Refuses(_))]));
    assert_eq!(store.spend(&charge(1)).await, Verdict::Unavailable);
}

#[tokio::test]
async fn a_full_server_refuses_and_takes_nothing_back() {
    let server = RedisServer::start(&["--maxmemory", "3mb", "--maxmemory-policy", "noeviction"]);
    let store = gateway(&[&server]).await;
    past_fence().await;
    let first = charge(1);
    assert!(matches!(store.spend(&first).await, Verdict::New(_)));
    drop(server.run(&["CONFIG", "SET", "maxmemory", "1"]));
    assert_eq!(store.spend(&charge(2)).await, Verdict::Unavailable);
    drop(server.run(&["CONFIG", "SET", "maxmemory", "0"]));
    assert_eq!(store.look().await, []);
    assert_eq!(store.spend(&first).await, Verdict::Seen);
    assert!(matches!(store.spend(&charge(3)).await, Verdict::New(_)));
}

#[test]
fn limits_agree_with_those_of_the_embedded_store() {
    let server = RedisServer::start(&[]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let store = runtime.block_on(async {
        let store = gateway(&[&server]).await;
        past_fence().await;
        store
    });
    let rounds = std::cell::Cell::new(0_u64);
    let one = (1_u32..6, 1_u32..40, prop::collection::vec((0_u32..8, any::<bool>()), 1..30));
    let config =
        ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |((count, quota, steps) in one)| {
        rounds.set(rounds.get() + 1);
        let round = rounds.get();
        let memory = MemoryStore::open(&MemoryOptions { max_records: 1_000, ..MemoryOptions::default() }, now() - HOUR).unwrap();
        for (place, (weight, _)) in steps.iter().enumerate() {
            let mut wanted = charge(0);
            wanted.account = round;
            wanted.key = (u128::from(round)).to_le_bytes();
            wanted.identity = Identity((u128::from(round) << 64 | place as u128 | 1 << 100).to_le_bytes());
            // A period so long that what passes between the two questions does not count.
            wanted.costs = (0..count).map(|n| Cost::of_key(
                Subject(u64::from(n) + round * 100),
                Limit { quota: quota + n * 3, period: 1_000 * HOUR },
                *weight,
            )).collect();
            let (ours, theirs) = runtime.block_on(async { (memory.spend(&wanted).await, store.spend(&wanted).await) });
            // How long to wait is not to the microsecond the same.
            let told = |said: Verdict| match said {
                Verdict::Over { cost, level, beside, .. } => Err((cost, level, beside)),
                other => Ok(other),
            };
            prop_assert_eq!(told(ours), told(theirs));
        }
    });
}
