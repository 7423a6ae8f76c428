//! While the store cannot be asked: what routes that say `local` let through, what it costs, and that it is made good.

use std::sync::Arc;

use countersign::clock::SystemClock;
use countersign::store::redis::{Local, Options, RedisStore, Weakened};
use countersign::store::{Charge, Identity, Repeat, Store, Verdict};

use crate::server::RedisServer;
use crate::{charge, levels, limited, local, now, options, past_fence};

/// The route that is judged alone, of gateways that are so many.
const READ: u16 = 5;
const GATEWAYS: u32 = 3;

fn store(servers: &[&RedisServer], weakened: Weakened) -> Arc<RedisStore<SystemClock>> {
    let rules = Local { gateways: GATEWAYS, routes: vec![READ] };
    let options = Options { local: rules, weakened, ..options(servers) };
    Arc::new(RedisStore::new(options, local(), SystemClock::start()).unwrap())
}

async fn gateway(servers: &[&RedisServer]) -> Arc<RedisStore<SystemClock>> {
    let store = store(servers, Weakened::default());
    assert_eq!(store.look().await, []);
    store
}

fn read(identity: u8) -> Charge {
    Charge { route: READ, ..charge(identity) }
}

/// Whether it passed, judged by the gateway alone.
fn passed_alone(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::New(levels) if levels.is_local)
}

fn passed_with_the_store(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::New(levels) if !levels.is_local)
}

/// Asks until the store is not asked any more.
async fn until_it_gives_up(store: &RedisStore<SystemClock>) {
    for n in 200..250 {
        if !store.is_usable() {
            return;
        }
        assert_eq!(store.spend(&charge(n)).await, Verdict::Unavailable);
    }
    panic!("it is asked again and again");
}

#[tokio::test]
async fn while_the_store_is_gone_local_routes_are_judged_alone_and_all_others_refused() {
    let mut server = RedisServer::start(&[]);
    let store = gateway(&[&server]).await;
    past_fence().await;
    let before = read(1);
    assert!(passed_with_the_store(&store.spend(&before).await));
    server.kill();
    assert!(passed_alone(&store.spend(&read(2)).await));
    until_it_gives_up(&store).await;
    let once = read(3);
    assert!(passed_alone(&store.spend(&once).await));
    assert_eq!(store.spend(&once).await, Verdict::Seen);
    assert_eq!(store.spend(&Charge { route: 1, ..once.clone() }).await, Verdict::Seen);
    assert_eq!(store.spend(&before).await, Verdict::Seen, "it passed before the store was gone");
    assert_eq!(store.spend(&charge(4)).await, Verdict::Unavailable);
    let with_code = Charge { step: Some(9), ..read(5) };
    assert_eq!(
        store.spend(&with_code).await,
        Verdict::Unavailable,
        "a code is good once, everywhere"
    );
    let poll = Charge { repeat: Repeat::SameRoute, ..read(6) };
    assert!(passed_alone(&store.spend(&poll).await));
    assert!(passed_alone(&store.spend(&poll).await));
}

#[tokio::test]
async fn a_nonce_passes_once_alone_whatever_comes_with_it() {
    let mut server = RedisServer::start(&[]);
    let store = gateway(&[&server]).await;
    past_fence().await;
    let with = |identity, nonce| Charge { nonce: Some(Identity([nonce; 16])), ..read(identity) };
    assert!(passed_with_the_store(&store.spend(&with(1, 100)).await));
    server.kill();
    assert!(passed_alone(&store.spend(&with(2, 101)).await));
    assert_eq!(store.spend(&with(3, 101)).await, Verdict::Seen);
    assert_eq!(store.spend(&with(4, 100)).await, Verdict::Seen);
}

#[tokio::test]
async fn each_gateway_spends_its_share_of_a_limit_and_no_more() {
    let mut server = RedisServer::start(&[]);
    let store = gateway(&[&server]).await;
    past_fence().await;
    server.kill();
    // A third of eleven, rounded down; what is told is what is left here.
    for (n, level) in [(1, 9), (2, 10), (3, 11)] {
        assert_eq!(levels(&store.spend(&limited(read(n), 11, 1)).await), [level]);
    }
    let over = store.spend(&limited(read(4), 11, 1)).await;
    assert!(matches!(over, Verdict::Over { cost: 0, level: 11, .. }), "{over:?}");
    // What does not fit into a share may fit once the store is back: that is no matter of waiting.
    assert_eq!(store.spend(&limited(read(5), 11, 4)).await, Verdict::Unavailable);
    assert_eq!(store.spend(&limited(read(6), 2, 1)).await, Verdict::Unavailable);
    assert!(passed_alone(&store.spend(&limited(read(7), 3, 0)).await));
}

#[tokio::test]
async fn a_gateway_that_has_just_begun_judges_nothing_alone_that_is_older() {
    let mut server = RedisServer::start(&[]);
    server.kill();
    let store = store(&[&server], Weakened::default());
    let early = read(1);
    let fenced = store.spend(&early).await;
    assert!(matches!(fenced, Verdict::Fenced { .. }), "{fenced:?}");
    past_fence().await;
    assert!(matches!(store.spend(&early).await, Verdict::Fenced { .. }));
    assert!(passed_alone(&store.spend(&read(1)).await));
}

/// What another gateway says of a copy of what passed alone, once the store is back.
async fn copy_elsewhere(weakened: Weakened) -> Verdict {
    let server = RedisServer::start(&[]);
    let (first, second) = (store(&[&server], weakened), gateway(&[&server]).await);
    assert_eq!(first.look().await, []);
    past_fence().await;
    server.signal("STOP");
    until_it_gives_up(&first).await;
    let once = read(1);
    assert!(passed_alone(&first.spend(&once).await));
    server.signal("CONT");
    assert_eq!(first.spend(&charge(2)).await, Verdict::Unavailable, "it was not looked at yet");
    assert_eq!(first.look().await, []);
    // The other one stood before the same server.
    drop(second.look().await);
    let copy = second.spend(&once).await;
    assert!(passed_with_the_store(&first.spend(&charge(3)).await));
    copy
}

#[tokio::test]
async fn what_passed_alone_is_written_before_the_store_is_asked_again() {
    assert_eq!(copy_elsewhere(Weakened::default()).await, Verdict::Seen);
}

/// The control: without it a copy passes.
#[tokio::test]
async fn what_is_not_written_back_passes_at_another_gateway() {
    let weakened = Weakened { keeps_local: true, ..Weakened::default() };
    assert!(passed_with_the_store(&copy_elsewhere(weakened).await));
}

#[tokio::test]
async fn a_call_that_is_not_answered_in_time_is_made_good_as_soon_as_it_can() {
    let server = RedisServer::start(&[]);
    let (first, second) = (gateway(&[&server]).await, gateway(&[&server]).await);
    past_fence().await;
    let watching = tokio::spawn({
        let first = Arc::clone(&first);
        async move { first.watch().await }
    });
    let once = read(1);
    server.signal("STOP");
    assert!(passed_alone(&first.spend(&once).await));
    server.signal("CONT");
    let mut seen = Verdict::Unavailable;
    for _ in 0..500 {
        drop(second.look().await);
        seen = second.spend(&Charge { now: now(), ..once.clone() }).await;
        if seen != Verdict::Unavailable {
            break;
        }
    }
    assert_eq!(seen, Verdict::Seen);
    watching.abort();
}

#[tokio::test]
async fn a_quorum_that_lost_its_majority_learns_all_that_passed_meanwhile() {
    let servers = [(); 3].map(|()| RedisServer::start(&[]));
    let [a, b, c] = &servers;
    let (first, second) = (gateway(&[a, b, c]).await, gateway(&[a, b, c]).await);
    past_fence().await;
    a.signal("STOP");
    b.signal("STOP");
    until_it_gives_up(&first).await;
    let all: Vec<Charge> = (1..100).map(read).collect();
    for once in &all {
        assert!(passed_alone(&first.spend(once).await));
    }
    a.signal("CONT");
    b.signal("CONT");
    assert_eq!(first.look().await, []);
    drop(second.look().await);
    for once in &all {
        assert_eq!(second.spend(once).await, Verdict::Seen);
    }
    assert!(passed_with_the_store(&first.spend(&charge(150)).await));
}
