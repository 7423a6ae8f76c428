//! Who counts the limits of an account in a quorum: whatever a gateway cannot reach, limits hold.

use std::sync::Arc;

use countersign::clock::SystemClock;
use countersign::store::redis::{Address, FUNCTION, RedisStore, Weakened};
use countersign::store::{Charge, Cost, Identity, Limit, Store, Subject, Verdict, Window};
use redis::Client;

use crate::free_port::free_port;
use crate::server::RedisServer;
use crate::{HOUR, charge, local, options, past_fence};

type Gateway = Arc<RedisStore<SystemClock>>;

const QUOTA: u32 = 6;
const WINDOWS: [Window; 3] = [Window::Bucket, Window::Sliding, Window::Fixed];

/// A gateway that cannot reach some of the servers, though they run.
async fn cut_off_from(places: &[usize], servers: &[RedisServer], weakened: Weakened) -> Gateway {
    let all: Vec<&RedisServer> = servers.iter().collect();
    let mut options = options(&all);
    options.weakened = weakened;
    for place in places {
        let port = free_port();
        let client = Client::open(format!("redis://127.0.0.1:{port}")).unwrap();
        options.servers[*place] = Address { name: format!("127.0.0.1:{port}"), client };
    }
    let store = RedisStore::new(options, local(), SystemClock::start()).unwrap();
    let _cut_off = store.look().await;
    Arc::new(store)
}

/// A request unlike every other, of one of many accounts.
fn request(account: u64, number: u32, window: Window, weight: u32) -> Charge {
    let limit = Limit { quota: QUOTA, period: 200_000 * HOUR };
    let mut identity = [window as u8; 16];
    identity[..8].copy_from_slice(&account.to_le_bytes());
    identity[8..12].copy_from_slice(&number.to_le_bytes());
    let cost = Cost { window, ..Cost::of_key(Subject(window as u64 + 50), limit, weight) };
    let costs = [cost].into_iter().collect();
    let mut key = [9; 16];
    key[..8].copy_from_slice(&account.to_le_bytes());
    Charge { account, key, identity: Identity(identity), costs, ..charge(0) }
}

/// How many of an account's requests pass, while they come to each gateway in turn.
async fn admitted(gateways: &[Gateway], account: u64, window: Window) -> u32 {
    let mut passed = 0;
    for number in 0..QUOTA * 4 {
        let gateway = &gateways[number as usize % gateways.len()];
        match gateway.spend(&request(account, number, window, 1)).await {
            Verdict::New(_) => passed += 1,
            Verdict::Over { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    passed
}

fn start<const N: usize>() -> [RedisServer; N] {
    [(); N].map(|()| RedisServer::start(&[]))
}

/// What passes of each account over gateways that are cut off from these servers each, beside what may.
async fn over_gateways<const N: usize>(cut: &[&[usize]], weakened: &Weakened) -> Vec<u32> {
    let servers = start::<N>();
    let mut gateways = Vec::new();
    for places in cut {
        gateways.push(cut_off_from(places, &servers, weakened.clone()).await);
    }
    past_fence().await;
    let mut all = Vec::new();
    for account in 0..20 {
        for window in WINDOWS {
            all.push(admitted(&gateways, account, window).await);
        }
    }
    all
}

#[tokio::test]
async fn limits_are_exact_while_gateways_reach_different_servers() {
    let sound = Weakened::default();
    let exactly = vec![QUOTA; 60];
    assert_eq!(over_gateways::<3>(&[&[], &[0]], &sound).await, exactly);
    assert_eq!(over_gateways::<3>(&[&[1], &[2]], &sound).await, exactly);
    assert_eq!(over_gateways::<5>(&[&[0, 1], &[], &[]], &sound).await, exactly);
    assert_eq!(over_gateways::<5>(&[&[0, 1], &[2, 3]], &sound).await, exactly);
    // Of three that are each cut off from others any two have a server in common, and all none: half as much again.
    for apart in [
        over_gateways::<3>(&[&[0], &[1], &[2]], &sound).await,
        over_gateways::<5>(&[&[0, 1], &[], &[3]], &sound).await,
    ] {
        assert!(apart.iter().all(|passed| (QUOTA..=QUOTA * 3 / 2).contains(passed)), "{apart:?}");
    }
}

#[tokio::test]
async fn counted_by_one_server_alone_limits_would_be_spent_twice() {
    let weak = Weakened { counters: Some(1), ..Weakened::default() };
    let passed = over_gateways::<3>(&[&[], &[0]], &weak).await;
    assert!(passed.contains(&(QUOTA * 2)), "{passed:?}");
}

/// Whether servers that count hold nothing of what did not pass, though they were the only ones to say that it may.
async fn takes_back(weakened: &Weakened) -> bool {
    let servers = start::<3>();
    let whole = cut_off_from(&[], &servers, weakened.clone()).await;
    let mut partial = Vec::new();
    for place in 0..3 {
        partial.push(cut_off_from(&[place], &servers, weakened.clone()).await);
    }
    past_fence().await;
    let mut holds = true;
    for (account, gateway) in (0..8).zip(partial.iter().cycle()) {
        for window in WINDOWS {
            // All but one unit is spent where one of the servers that count does not hear of it.
            for number in 0..QUOTA - 1 {
                let passes = request(account, number, window, 1);
                assert!(matches!(gateway.spend(&passes).await, Verdict::New(_)));
                // A copy costs nothing there, however it would be charged.
                let copy = request(account, number, window, QUOTA);
                assert!(!matches!(whole.spend(&copy).await, Verdict::New(_)));
            }
            for number in 100..110 {
                let over = request(account, number, window, 2);
                assert!(!matches!(whole.spend(&over).await, Verdict::New(_)), "{window:?}");
            }
            let last = whole.spend(&request(account, 200, window, 1)).await;
            holds &= matches!(&last, Verdict::New(levels) if **levels == [QUOTA][..]);
        }
    }
    holds
}

#[tokio::test]
async fn what_one_refuses_another_that_counts_takes_back() {
    assert!(takes_back(&Weakened::default()).await);
    // The control: what was charged stays so.
    let call = "if #costs > 0 then unspend(";
    assert!(FUNCTION.contains(call));
    let function = Some(FUNCTION.replace(call, "if false then unspend(").into());
    assert!(!takes_back(&Weakened { function, ..Weakened::default() }).await);
}
