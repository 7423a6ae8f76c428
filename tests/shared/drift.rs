//! Servers whose clock is off or goes too fast: believed up to the bound and not beyond, and no copy passes by it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign::clock::{ManualClock, Micros, SystemClock};
use countersign::store::redis::{FUNCTION, Options, RedisStore, Trouble, Weakened};
use countersign::store::{Charge, Identity, SignedTime, Store, Verdict};

use crate::server::RedisServer;
use crate::{BOUND, SKEW, charge, local, now, options, past_fence};

/// A library whose clock stands.
fn standing(at: Micros) -> Weakened {
    let stands = format!("{{ {}, {} }}", at.0 / 1_000_000, at.0 % 1_000_000);
    let (asked, by_seal) = ("call('TIME')", "tick((NEVER_MS - left) * 1000)");
    assert!(FUNCTION.contains(asked) && FUNCTION.contains(by_seal));
    let function = FUNCTION.replace(asked, &stands).replace(by_seal, &format!("tick({})", at.0));
    Weakened { function: Some(function.into()), ..Weakened::default() }
}

#[tokio::test]
async fn a_clock_is_believed_up_to_the_bound_and_not_a_microsecond_beyond() {
    let server = RedisServer::start(&[]);
    let at = now();
    let ours = Arc::new(ManualClock::at(at));
    let options = Options { weakened: standing(at), ..options(&[&server]) };
    let store = RedisStore::new(options, local(), Arc::clone(&ours)).unwrap();
    // It is born where both stand, and long before what is asked below was signed.
    ours.set(at - BOUND);
    assert_eq!(store.look().await, []);
    let signed = at + SKEW + BOUND * 4;
    let micro = Duration::from_micros(1);
    let mut number = 0;
    for (clock, is_believed) in [
        (at - BOUND, true),
        (at + BOUND, true),
        (at - BOUND - micro, false),
        (at + BOUND + micro, false),
    ] {
        // One request that is not believed leaves the server in use; a look does not.
        ours.set(clock);
        number += 1;
        let request = Charge {
            now: clock,
            identity: Identity([number; 16]),
            time: SignedTime::Stamp(signed),
            ..charge(0)
        };
        let said = store.spend(&request).await;
        assert_eq!(matches!(said, Verdict::New(_)), is_believed, "{clock}: {said:?}");
        assert_eq!(said == Verdict::Unavailable, !is_believed, "{clock}: {said:?}");
        let troubles: Vec<Trouble> =
            store.look().await.into_iter().map(|(_, trouble)| trouble).collect();
        let expected = if is_believed { vec![] } else { vec![Trouble::Clock(BOUND + micro)] };
        assert_eq!(troubles, expected, "{clock}");
        ours.set(at);
        assert_eq!(store.look().await, [], "it agrees again");
    }
}

#[tokio::test]
async fn a_server_s_clock_just_within_the_bound_is_used_and_one_just_beyond_is_not() {
    // As near as two readings of real clocks allow.
    for (off, is_used) in [("+0.2", true), ("-0.2", true), ("+0.3", false), ("-0.3", false)] {
        let server = RedisServer::with_clock(off);
        let clock = SystemClock::start();
        let store = RedisStore::new(options(&[&server]), local(), clock).unwrap();
        let troubles = store.look().await;
        past_fence().await;
        let said = store.spend(&charge(1)).await;
        if is_used {
            assert_eq!(troubles, [], "{off}");
            assert!(matches!(said, Verdict::New(_)), "{off}: {said:?}");
            assert_eq!(store.spend(&charge(1)).await, Verdict::Seen, "{off}");
        } else {
            assert!(
                matches!(&*troubles, [(_, Trouble::Clock(apart))] if *apart > BOUND),
                "{off}: {troubles:?}"
            );
            assert_eq!(said, Verdict::Unavailable, "{off}");
        }
    }
}

#[tokio::test]
async fn a_server_s_clock_that_goes_too_fast_ends_in_trouble_and_no_copy_passes_by_it() {
    const NARROW: Duration = Duration::from_millis(60);
    let server = RedisServer::with_clock("+0 x1.01");
    let gateway = || {
        let options = Options { clock_bound: NARROW, ..options(&[&server]) };
        Arc::new(RedisStore::new(options, local(), SystemClock::start()).unwrap())
    };
    let (first, second) = (gateway(), gateway());
    for store in [&first, &second] {
        let watched = Arc::clone(store);
        tokio::spawn(async move { watched.watch().await });
    }
    let (begun, mut number, mut passed) = (Instant::now(), 0_u64, 0_u32);
    let is_off = |store: &RedisStore<SystemClock>| {
        store.troubles().iter().any(|(_, trouble)| matches!(trouble, Trouble::Clock(_)))
    };
    while !(is_off(&first) && is_off(&second)) {
        assert!(begun.elapsed() < Duration::from_mins(2), "it is never noticed");
        number += 1;
        let identity = Identity((u128::from(number) << 8).to_le_bytes());
        let once = Charge { identity, ..charge(0) };
        if matches!(first.spend(&once).await, Verdict::New(_)) {
            passed += 1;
            for store in [&second, &first] {
                let copy = store.spend(&once).await;
                assert!(matches!(copy, Verdict::Seen | Verdict::Unavailable), "{number}: {copy:?}");
            }
        }
        tokio::task::yield_now().await;
    }
    assert!(passed > 100, "{passed} passed while it was near");
    for store in [&first, &second] {
        assert!(!store.is_usable());
        let fresh = Charge { identity: Identity([0xEE; 16]), ..charge(0) };
        assert_eq!(store.spend(&fresh).await, Verdict::Unavailable);
    }
}
