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

/// What is said of a request, and then of the server, by a gateway whose clock lies so far from the server's, which
/// stands; the clocks are the bound apart, and a microsecond more, either way.
async fn said_at_the_bound(any_clock: bool) -> Vec<(Verdict, Vec<Trouble>)> {
    let server = RedisServer::start(&[]);
    let at = now();
    let ours = Arc::new(ManualClock::at(at));
    let weakened = Weakened { any_clock, ..standing(at) };
    let options = Options { weakened, ..options(&[&server]) };
    let store = RedisStore::new(options, local(), Arc::clone(&ours)).unwrap();
    // It is born where both stand, and long before what is asked below was signed.
    ours.set(at - BOUND);
    assert_eq!(store.look().await, []);
    let signed = at + SKEW + BOUND * 4;
    let micro = Duration::from_micros(1);
    let mut said = Vec::new();
    for (number, clock) in
        (1..).zip([at - BOUND, at + BOUND, at - BOUND - micro, at + BOUND + micro])
    {
        // One request that is not believed leaves the server in use; a look does not.
        ours.set(clock);
        let request = Charge {
            now: clock,
            identity: Identity([number; 16]),
            time: SignedTime::Stamp(signed),
            ..charge(0)
        };
        let verdict = store.spend(&request).await;
        let troubles = store.look().await.into_iter().map(|(_, trouble)| trouble).collect();
        said.push((verdict, troubles));
        ours.set(at);
        assert_eq!(store.look().await, [], "it agrees again");
    }
    said
}

#[tokio::test]
async fn a_clock_is_believed_up_to_the_bound_and_not_a_microsecond_beyond() {
    let said = said_at_the_bound(false).await;
    let (within, beyond) = said.split_at(2);
    for (verdict, troubles) in within {
        assert!(matches!(verdict, Verdict::New(_)) && troubles.is_empty(), "{said:?}");
    }
    for (verdict, troubles) in beyond {
        assert_eq!(*verdict, Verdict::Unavailable, "{said:?}");
        assert_eq!(*troubles, [Trouble::Clock(BOUND + Duration::from_micros(1))], "{said:?}");
    }
}

#[tokio::test]
async fn control_without_the_check_a_clock_is_believed_beyond_the_bound() {
    for (verdict, troubles) in said_at_the_bound(true).await {
        assert!(matches!(verdict, Verdict::New(_)), "{verdict:?}");
        assert_eq!(troubles, []);
    }
}

/// What a gateway finds of a server whose clock is so far off; and what it says of a request, and of its copy.
async fn said_of(off: &str, any_clock: bool) -> (Vec<Trouble>, [Verdict; 2]) {
    let server = RedisServer::with_clock(off);
    let store = || {
        let weakened = Weakened { any_clock, ..Weakened::default() };
        let options = Options { weakened, ..options(&[&server]) };
        RedisStore::new(options, local(), SystemClock::start()).unwrap()
    };
    // The second knows nothing of what the first accepts.
    let (first, second) = (store(), store());
    let troubles = first.look().await.into_iter().map(|(_, trouble)| trouble).collect();
    second.look().await;
    past_fence().await;
    let once = charge(1);
    (troubles, [first.spend(&once).await, second.spend(&once).await])
}

#[tokio::test]
async fn a_server_s_clock_just_within_the_bound_is_used_and_one_just_beyond_is_not() {
    // As near as two readings of real clocks allow.
    for off in ["+0.2", "-0.2"] {
        let (troubles, said) = said_of(off, false).await;
        assert_eq!(troubles, [], "{off}");
        assert!(matches!(said, [Verdict::New(_), Verdict::Seen]), "{off}: {said:?}");
    }
    for off in ["+0.3", "-0.3", "+60", "-60"] {
        let (troubles, said) = said_of(off, false).await;
        assert!(
            matches!(&*troubles, [Trouble::Clock(apart)] if *apart > BOUND),
            "{off}: {troubles:?}"
        );
        assert_eq!(said, [Verdict::Unavailable, Verdict::Unavailable], "{off}");
    }
}

#[tokio::test]
async fn control_without_the_check_a_server_just_beyond_is_used_and_one_far_ahead_accepts_twice() {
    for off in ["+0.3", "-0.3", "-60"] {
        let (troubles, said) = said_of(off, true).await;
        assert_eq!(troubles, [], "{off}");
        assert!(matches!(said, [Verdict::New(_), Verdict::Seen]), "{off}: {said:?}");
    }
    // There records are over as soon as they are made.
    let (troubles, said) = said_of("+60", true).await;
    assert_eq!(troubles, []);
    assert!(matches!(said, [Verdict::New(_), Verdict::New(_)]), "{said:?}");
}

/// Two gateways over a server whose clock goes at another pace.
struct Drifting {
    _server: RedisServer,
    stores: [Arc<RedisStore<SystemClock>>; 2],
    number: u64,
}

impl Drifting {
    fn start(clock: &str, any_clock: bool) -> Self {
        const NARROW: Duration = Duration::from_millis(60);
        let server = RedisServer::with_clock(clock);
        let stores = [(); 2].map(|()| {
            let weakened = Weakened { any_clock, ..Weakened::default() };
            let options = Options { clock_bound: NARROW, weakened, ..options(&[&server]) };
            Arc::new(RedisStore::new(options, local(), SystemClock::start()).unwrap())
        });
        for store in &stores {
            let watched = Arc::clone(store);
            tokio::spawn(async move { watched.watch().await });
        }
        Self { _server: server, stores, number: 0 }
    }

    fn is_noticed(&self) -> bool {
        let is_off = |store: &Arc<RedisStore<SystemClock>>| {
            store.troubles().iter().any(|(_, trouble)| matches!(trouble, Trouble::Clock(_)))
        };
        self.stores.iter().all(is_off)
    }

    /// What is said of the copies of a request, at the other gateway and at the same, where it passed.
    async fn copies(&mut self) -> Option<[Verdict; 2]> {
        self.number += 1;
        let identity = Identity((u128::from(self.number) << 8).to_le_bytes());
        let once = Charge { identity, ..charge(0) };
        let [first, second] = &self.stores;
        let passed = matches!(first.spend(&once).await, Verdict::New(_));
        tokio::task::yield_now().await;
        if passed { Some([second.spend(&once).await, first.spend(&once).await]) } else { None }
    }
}

#[tokio::test]
async fn a_server_s_clock_that_goes_too_fast_ends_in_trouble_and_no_copy_passes_by_it() {
    let mut drifting = Drifting::start("+0 x1.01", false);
    let (begun, mut passed) = (Instant::now(), 0_u32);
    while !drifting.is_noticed() {
        assert!(begun.elapsed() < Duration::from_mins(2), "it is never noticed");
        let Some(copies) = drifting.copies().await else { continue };
        passed += 1;
        let is_refused = |copy: &Verdict| matches!(copy, Verdict::Seen | Verdict::Unavailable);
        assert!(copies.iter().all(is_refused), "{passed}: {copies:?}");
    }
    assert!(passed > 100, "{passed} passed while it was near");
    for store in &drifting.stores {
        assert!(!store.is_usable());
        let fresh = Charge { identity: Identity([0xEE; 16]), ..charge(0) };
        assert_eq!(store.spend(&fresh).await, Verdict::Unavailable);
    }
}

#[tokio::test]
async fn control_without_the_check_a_copy_passes_once_a_clock_has_gone_too_fast_for_long_enough() {
    // So fast that the test need not take hours.
    let mut drifting = Drifting::start("+0 x10", true);
    let begun = Instant::now();
    let passes = |copies: [Verdict; 2]| copies.iter().any(|copy| matches!(copy, Verdict::New(_)));
    while !drifting.copies().await.is_some_and(passes) {
        assert!(begun.elapsed() < Duration::from_mins(2), "no copy ever passes");
    }
    assert!(!drifting.is_noticed());
}
