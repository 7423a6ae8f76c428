//! How many guesses there are: for one address, for all of them, and at the cost of nobody else.

use std::time::Duration;

use countersign::admit::Bounds;
use countersign::denial::Denial;
use countersign::store::Limit;

use crate::support::{AWAY, HOME, START, STEP, World, wrong_at};

const DAY: Duration = Duration::from_secs(24 * 3_600);

fn bounds() -> Bounds {
    Bounds {
        codes: Some(Limit { quota: 5, period: Duration::from_secs(600) }),
        codes_per_account: Some(Limit { quota: 30, period: DAY }),
        codes_known_for: DAY,
        ..Bounds::default()
    }
}

/// The guess numbered `n`, under a signature of its own.
fn guess(world: &mut World, from: &str, n: u32) -> Denial {
    let code = wrong_at(world.now(), n);
    let sent = world.sign().with_code(&code);
    world.admit(from, &sent).map(|_| ()).expect_err("a wrong code")
}

#[test]
fn of_a_hundred_thousand_guesses_only_as_many_as_borne_are_looked_at() {
    let mut world = World::new(&bounds());
    let mut looked_at = 0;
    for n in 0..100_000 {
        let denial = guess(&mut world, AWAY, n);
        looked_at += u32::from(denial == Denial::BadCode);
        assert!(matches!(denial, Denial::BadCode | Denial::TooManyCodes(_)), "{denial:?}");
    }
    assert_eq!(looked_at, 5);
    let right = world.sign().with_code(&world.code());
    let answer = world.admit(AWAY, &right).map(|_| ());
    assert!(matches!(answer, Err(Denial::TooManyCodes(_))), "{answer:?}: right or wrong");
}

#[test]
fn who_goes_away_while_the_store_is_asked_uses_up_no_try() {
    let mut world = World::new(&bounds());
    let captured = world.sign().with_code(&wrong_at(world.now(), 0));
    for n in 0..1_000 {
        world.leave(&format!("2001:db8:{:x}::1", n % 100), &captured);
    }
    // As many are left as there were.
    let mut looked_at = 0;
    for n in 0..3_000 {
        let from = format!("2001:db8:{:x}::1", n % 1_000);
        looked_at += u32::from(guess(&mut world, &from, n) == Denial::BadCode);
    }
    assert_eq!(looked_at, 30);
}

#[test]
fn many_addresses_share_the_bound_of_the_account() {
    let mut world = World::new(&bounds());
    let mut looked_at = 0;
    for n in 0..3_000 {
        let from = format!("2001:db8:{:x}::1", n % 1_000);
        looked_at += u32::from(guess(&mut world, &from, n) == Denial::BadCode);
    }
    assert_eq!(looked_at, 30);
}

#[test]
fn guesses_from_elsewhere_lock_nobody_out_of_home() {
    let mut world = World::new(&bounds());
    let sent = world.sign().with_code(&world.code());
    assert_eq!(world.ask(&sent), Ok(()));
    for n in 0..3_000 {
        guess(&mut world, &format!("2001:db8:{:x}::1", n % 1_000), n);
    }
    world.gate.clock.advance(STEP);
    let sent = world.sign().with_code(&world.code());
    assert_eq!(world.admit(HOME, &sent).map(|_| ()), Ok(()), "a right code was shown from there");
    world.gate.clock.advance(STEP);
    let sent = world.sign().with_code(&world.code());
    let answer = world.admit(AWAY, &sent).map(|_| ());
    assert!(matches!(answer, Err(Denial::TooManyCodes(_))), "{answer:?}");
}

#[test]
fn whoever_repeats_a_capture_uses_up_no_tries() {
    let mut world = World::new(&bounds());
    let capture = world.sign();
    assert_eq!(world.ask(&capture.clone().with_code(&world.code())), Ok(()));
    for n in 0..1_000 {
        let code = wrong_at(START, n);
        let answer = world.admit(AWAY, &capture.clone().with_code(&code)).map(|_| ());
        assert_eq!(answer, Err(Denial::Replayed));
    }
    world.gate.clock.advance(STEP);
    let sent = world.sign().with_code(&world.code());
    assert_eq!(world.admit(AWAY, &sent).map(|_| ()), Ok(()));
}

#[test]
fn a_stranger_without_the_secret_uses_up_nothing() {
    let mut world = World::new(&Bounds { failures: None, bans: None, ..bounds() });
    for n in 0..1_000 {
        let mut sent = world.sign().with_code(&wrong_at(START, n));
        sent.query = sent.query.map(|query| query.replace("amount=1", "amount=2"));
        assert_eq!(world.ask(&sent), Err(Denial::BadSignature));
    }
    let sent = world.sign().with_code(&world.code());
    assert_eq!(world.ask(&sent), Ok(()));
}

#[test]
fn tries_come_back_one_by_one_and_the_wait_that_is_told_is_enough() {
    let mut world = World::new(&bounds());
    for n in 0..5 {
        assert_eq!(guess(&mut world, AWAY, n), Denial::BadCode);
    }
    let Denial::TooManyCodes(excess) = guess(&mut world, AWAY, 5) else { panic!("none is left") };
    assert!(excess.retry_after <= Duration::from_secs(120), "{excess:?}");
    world.gate.clock.advance(excess.retry_after);
    assert_eq!(guess(&mut world, AWAY, 6), Denial::BadCode);
    assert!(matches!(guess(&mut world, AWAY, 7), Denial::TooManyCodes(_)));
}

#[test]
fn right_codes_use_up_no_tries() {
    let mut world = World::new(&bounds());
    for _ in 0..50 {
        let sent = world.sign().with_code(&world.code());
        assert_eq!(world.admit(AWAY, &sent).map(|_| ()), Ok(()));
        world.gate.clock.advance(STEP);
    }
}
