//! What a hostile client tries of two gateways over one server: a code or a copy at both at once, weights beyond all
//! bounds, a key that is rotated meanwhile.

use std::sync::{Arc, Barrier};
use std::time::Duration;

use countersign::clock::SystemClock;
use countersign::store::redis::RedisStore;
use countersign::store::{
    Charge, Cost, Identity, Limit, Repeat, Scope, Store, Subject, Verdict, Window,
};

use crate::server::RedisServer;
use crate::{HOUR, charge, gateway, later_step, levels, past_fence};

type Gateway = Arc<RedisStore<SystemClock>>;

/// What each gateway says of its own charge when all come at the same moment.
fn at_once(gateways: &[Gateway], charges: &[Charge]) -> Vec<Verdict> {
    let together = Barrier::new(charges.len());
    std::thread::scope(|scope| {
        let send = |(place, charge): (usize, &Charge)| {
            let (store, together) = (Arc::clone(&gateways[place % gateways.len()]), &together);
            let charge = charge.clone();
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                together.wait();
                runtime.unwrap().block_on(store.spend(&charge))
            })
        };
        let asked: Vec<_> = charges.iter().enumerate().map(send).collect();
        asked.into_iter().map(|one| one.join().unwrap()).collect()
    })
}

fn passed(verdicts: &[Verdict]) -> usize {
    verdicts.iter().filter(|verdict| matches!(verdict, Verdict::New(_))).count()
}

#[tokio::test]
async fn at_two_gateways_at_once_a_copy_passes_once_by_whatever_route_and_a_code_once() {
    let server = RedisServer::start(&[]);
    let gateways = [gateway(&[&server]).await, gateway(&[&server]).await];
    past_fence().await;
    let first_step = later_step();
    for round in 0..40_u8 {
        // One sends it as a write, another as a read that may repeat on its own route, by routes of their own.
        let once = charge(round);
        let copies: Vec<Charge> = (0..4)
            .map(|route| {
                let repeat = if route % 2 == 0 { Repeat::Never } else { Repeat::SameRoute };
                Charge { route, repeat, ..once.clone() }
            })
            .collect();
        let verdicts = at_once(&gateways, &copies);
        assert_eq!(passed(&verdicts), 1, "{verdicts:?}");
        assert!(verdicts.iter().all(|verdict| matches!(verdict, Verdict::New(_) | Verdict::Seen)));
        // Requests of their own, and one code.
        let step = Some(first_step + u64::from(round) * 2);
        let coded: Vec<Charge> = (0..4)
            .map(|n| Charge { step, identity: Identity([n; 16]), key: [round; 16], ..charge(n) })
            .map(|one| Charge {
                identity: Identity([one.identity.0[0] + 100 + (round % 30) * 5; 16]),
                ..one
            })
            .collect();
        let verdicts = at_once(&gateways, &coded);
        assert_eq!(passed(&verdicts), 1, "{verdicts:?}");
    }
}

#[tokio::test]
async fn weights_beyond_all_bounds_are_over_and_nothing_weighs_nothing() {
    let server = RedisServer::start(&[]);
    let store = gateway(&[&server]).await;
    past_fence().await;
    let mut number = 0;
    for window in [Window::Bucket, Window::Sliding, Window::Fixed] {
        // Of the largest, what is spent of a bucket comes back within a moment.
        for (quota, slack) in [(1, 0), (7, 0), (1_000_000_000, 20_000_000)] {
            for scope in [Scope::Key, Scope::Account] {
                number += 1;
                let hours = if window == Window::Bucket { 24 } else { 200_000 };
                let limit = Limit { quota, period: hours * HOUR };
                let of = |identity: u64, weight| {
                    let cost =
                        Cost { window, scope, ..Cost::of_key(Subject(number), limit, weight) };
                    let identity = u128::from(number) << 32 | u128::from(identity) | 1 << 100;
                    let identity = Identity(identity.to_le_bytes());
                    Charge { identity, costs: [cost].into_iter().collect(), ..charge(0) }
                };
                let said = format!("{window:?} {quota} {scope:?}");
                for weight in [quota + 1, u32::MAX] {
                    let over = store.spend(&of(1, weight)).await;
                    assert!(
                        matches!(over, Verdict::Over { cost: 0, level: 0, retry_after, .. } if retry_after > Duration::ZERO),
                        "{said} {weight}: {over:?}"
                    );
                }
                assert_eq!(levels(&store.spend(&of(1, quota)).await), [quota], "{said}");
                let is_spent = |level: u32| level <= quota && level >= quota - slack;
                for (identity, weight) in [(2, quota), (3, u32::MAX)] {
                    let over = store.spend(&of(identity, weight)).await;
                    assert!(
                        matches!(over, Verdict::Over { level, .. } if is_spent(level)),
                        "{said}: {over:?}"
                    );
                }
                let weightless = store.spend(&of(4, 0)).await;
                assert!(is_spent(levels(&weightless)[0]), "{said}: {weightless:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_key_that_is_rotated_while_copies_are_sent_lets_none_of_the_old_epoch_through_after_it() {
    let server = RedisServer::start(&[]);
    let gateways = [gateway(&[&server]).await, gateway(&[&server]).await];
    past_fence().await;
    for round in 0..20_u8 {
        let key = [round + 1; 16];
        let old: Vec<Charge> = (0..8)
            .map(|n| Charge { key, ..charge(round.wrapping_mul(9).wrapping_add(n)) })
            .collect();
        let raise = Arc::clone(&gateways[1]);
        let (verdicts, after) = std::thread::scope(|scope| {
            let sent = scope.spawn(|| at_once(&gateways, &old));
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let (account, store) = (old[0].account, &gateways[0]);
            let after = scope.spawn(move || {
                runtime.block_on(async {
                    assert_eq!(raise.raise(account, key, 2).await, 1);
                    let identity =
                        Identity([250, round, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]);
                    let late = Charge { key, identity, ..charge(0) };
                    (store.spend(&late).await, store.spend(&Charge { epoch: 2, ..late }).await)
                })
            });
            (sent.join().unwrap(), after.join().unwrap())
        });
        assert!(
            verdicts.iter().all(|verdict| matches!(verdict, Verdict::New(_) | Verdict::Outdated)),
            "{verdicts:?}"
        );
        assert_eq!(after.0, Verdict::Outdated);
        assert!(matches!(after.1, Verdict::New(_)), "{:?}", after.1);
    }
}
