//! Bans: whom they stop, for how long, and what they tell.

use super::tests::{BAD, BOUNDS, GOOD, SECOND, START, World};
use super::*;
use crate::dialect::{Facts, builtin};
use crate::key::State;

const MINUTE: Duration = Duration::from_mins(1);
const BANS: BanBounds = BanBounds {
    after: Limit { quota: 5, period: Duration::from_mins(10) },
    first: Duration::from_mins(2),
    longest: Duration::from_hours(72),
    forget: Duration::from_hours(24),
    most: 100,
    share: true,
};

fn bounds() -> Bounds {
    Bounds { bans: Some(BANS), ..BOUNDS }
}

fn hmac() -> World {
    World::new("binance", Algorithm::HmacSha256, &bounds())
}

/// Fails until it is banned; for how long.
fn fail_until_banned(world: &mut World, from: &str) -> Duration {
    for _ in 0..100 {
        if let Err(Denial::Banned(excess)) = world.send(from, "one", false) {
            return excess.retry_after;
        }
    }
    panic!("it failed a hundred times")
}

fn is_banned(answer: &Result<(), Denial>) -> bool {
    matches!(answer, Err(Denial::Banned(_)))
}

#[test]
fn failures_are_first_refused_then_told_to_wait_then_banned() {
    let mut world = hmac();
    let mut heard = Vec::new();
    for _ in 0..18 {
        heard.push(world.send(BAD, "one", false).unwrap_err().reason());
    }
    let expected =
        [["bad_signature"; 10].as_slice(), &["too_many_failures"; 5], &["banned"; 3]].concat();
    assert_eq!(heard, expected);
    assert_eq!(world.send(GOOD, "one", false), Err(Denial::BadSignature), "it cost no other");
}

#[test]
fn a_ban_stops_only_what_proves_nothing() {
    let mut world = hmac();
    fail_until_banned(&mut world, BAD);
    for key in ["one", "two"] {
        assert_eq!(world.send(BAD, key, true), Ok(()), "a neighbour behind the same address");
    }
    assert!(is_banned(&world.send(BAD, "one", false)));

    let mut world = World::new("binance", Algorithm::Ed25519, &bounds());
    assert_eq!(world.send(BAD, "two", true), Ok(()));
    fail_until_banned(&mut world, BAD);
    let verified = world.scratch.verifications();
    assert!(is_banned(&world.send(BAD, "one", true)), "costly, and never proved from there");
    assert_eq!(world.scratch.verifications(), verified);
    assert_eq!(world.send(BAD, "two", true), Ok(()));
}

#[test]
fn what_is_spared_its_verification_leads_to_a_ban_too() {
    let mut world = World::new("binance", Algorithm::Ed25519, &bounds());
    assert_eq!(fail_until_banned(&mut world, BAD), MINUTE * 2);
    assert_eq!(world.scratch.verifications(), 10);
}

#[test]
fn each_ban_is_twice_as_long_as_the_last_up_to_three_days() {
    let mut world = hmac();
    let mut expected = MINUTE * 2;
    for _ in 0..16 {
        assert_eq!(fail_until_banned(&mut world, BAD), expected);
        world.gate.clock.advance(expected);
        let answer = world.send(BAD, "one", false);
        assert!(!is_banned(&answer), "it is over: {answer:?}");
        // Lived down, but not forgotten.
        world.gate.clock.advance(MINUTE * 10);
        expected = (expected * 2).min(Duration::from_hours(72));
    }
    assert_eq!(expected, Duration::from_hours(72));
}

#[test]
fn after_a_quiet_day_the_next_ban_is_the_first_again() {
    let day = 24 * 3_600;
    for (quiet, next) in [(SECOND * (day - 1), MINUTE * 4), (SECOND * day, MINUTE * 2)] {
        let mut world = hmac();
        fail_until_banned(&mut world, BAD);
        world.gate.clock.advance(MINUTE * 2 + quiet);
        assert_eq!(fail_until_banned(&mut world, BAD), next, "{quiet:?}");
    }
}

#[test]
fn a_ban_ends_when_it_was_told_to_and_not_before() {
    let mut world = hmac();
    let told = fail_until_banned(&mut world, BAD);
    let end = START + told;
    world.gate.clock.set(end - Duration::from_micros(1));
    assert!(is_banned(&world.send(BAD, "one", false)));
    world.gate.clock.set(end);
    assert!(!is_banned(&world.send(BAD, "one", false)));
}

#[test]
fn a_banned_address_learns_nothing_of_keys() {
    for algorithm in [Algorithm::HmacSha256, Algorithm::Ed25519] {
        let mut world = World::new("binance", algorithm, &bounds());
        let mut dead = world.key("dead");
        dead.state = State::Revoked;
        world.gate.keys.insert(dead);
        let mut elsewhere = world.key("elsewhere");
        elsewhere.venue = crate::key::Venue("other".into());
        world.gate.keys.insert(elsewhere);
        fail_until_banned(&mut world, BAD);
        let mut answers = Vec::new();
        for (key, right) in [
            ("one", false),
            ("nobody", false),
            ("nobody", true),
            ("dead", false),
            ("dead", true),
            ("elsewhere", false),
            ("elsewhere", true),
        ] {
            let denial = world.send(BAD, key, right).unwrap_err();
            let facts = Facts::of(&denial, world.gate.clock.now());
            let answer = world.dialect.refuse(&denial, true, &facts);
            answers.push((answer.status, format!("{:?}", answer.headers), answer.body));
        }
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{algorithm:?} {answers:#?}");
    }
}

#[test]
fn a_dead_keys_right_signature_costs_the_address_what_a_wrong_one_does() {
    let heard = |right: bool| {
        let mut world = hmac();
        let mut dead = world.key("dead");
        dead.state = State::Revoked;
        world.gate.keys.insert(dead);
        let answer = |denial: Denial| (denial.condition(true), denial.retry_after());
        (0..20).map(|_| answer(world.send(BAD, "dead", right).unwrap_err())).collect::<Vec<_>>()
    };
    assert_eq!(heard(true), heard(false));
}

#[test]
fn proven_excess_is_no_failure() {
    let mut world = hmac();
    let tight = Limit { quota: 1, period: MINUTE };
    let mut key = world.key("busy");
    key.limits = std::sync::Arc::from([tight.into()]);
    world.gate.keys.insert(key);
    for _ in 0..100 {
        let answer = world.send(BAD, "busy", true);
        assert!(matches!(answer, Ok(()) | Err(Denial::Limited(_))), "{answer:?}");
    }
    assert!(world.gate.guard.bans(START).is_empty());
    assert_eq!(world.send(BAD, "one", false), Err(Denial::BadSignature));
}

#[test]
fn a_subscriber_of_ipv6_is_banned_as_one() {
    let mut world = hmac();
    fail_until_banned(&mut world, "2001:db8:0:1::7");
    assert!(is_banned(&world.send("2001:db8:0:1:ffff::9", "one", false)));
    assert!(!is_banned(&world.send("2001:db8:0:2::7", "one", false)));
    let bans = world.gate.guard.bans(START);
    assert_eq!(bans.len(), 1);
    assert_eq!(bans[0].network, "2001:db8:0:1::".parse::<IpAddr>().unwrap());
}

#[test]
fn bans_are_listed_made_by_hand_and_lifted() {
    let world = hmac();
    let guard = &world.gate.guard;
    let (bad, good): (IpAddr, IpAddr) = (BAD.parse().unwrap(), GOOD.parse().unwrap());
    guard.ban(bad, START + MINUTE);
    assert_eq!(
        guard.bans(START),
        [Ban { network: bad, until: START + MINUTE, level: 0, by_hand: true }]
    );
    assert!(guard.bans(START + MINUTE).is_empty(), "it is over");
    assert!(matches!(guard.welcomes(bad, &world.gate.clock), Err(Denial::Banned(_))));
    assert_eq!(guard.welcomes(good, &world.gate.clock), Ok(()));
    assert!(guard.fresh(10).is_empty(), "what is made by hand goes by the registry");
    assert!(guard.lift(bad));
    assert!(!guard.lift(bad));
    assert!(guard.bans(START).is_empty());
    assert_eq!(guard.welcomes(bad, &world.gate.clock), Ok(()));
}

#[test]
fn what_fails_too_often_still_reads_what_asks_for_no_proof() {
    let mut world = hmac();
    fail_until_banned(&mut world, BAD);
    assert_eq!(world.gate.guard.welcomes(BAD.parse().unwrap(), &world.gate.clock), Ok(()));
}

#[test]
fn who_is_lifted_starts_anew() {
    let mut world = hmac();
    fail_until_banned(&mut world, BAD);
    assert!(world.gate.guard.lift(BAD.parse().unwrap()));
    assert_eq!(world.send(BAD, "one", false), Err(Denial::BadSignature));
    assert_eq!(fail_until_banned(&mut world, BAD), MINUTE * 2);
}

#[test]
fn gateways_learn_bans_from_each_other_once_and_tell_them_no_further() {
    let mut one = hmac();
    let other = hmac();
    fail_until_banned(&mut one, BAD);
    let told = one.gate.guard.fresh(10);
    assert_eq!(told.len(), 1);
    assert!(one.gate.guard.fresh(10).is_empty());
    let guard = &other.gate.guard;
    guard.learn(&told, START);
    assert_eq!(guard.bans(START), told);
    assert!(guard.fresh(10).is_empty());
    // A clock that is off, or a hostile neighbour, bans for no longer than three days.
    let forever = Ban { until: Micros(u64::MAX), level: u8::MAX, ..told[0] };
    guard.learn(&[forever, Ban { until: START, ..told[0] }], START);
    assert_eq!(guard.bans(START)[0].until, START + BANS.longest);
    // And what was learned counts for the next one.
    let mut other = other;
    other.gate.clock.advance(BANS.longest);
    assert_eq!(fail_until_banned(&mut other, BAD), BANS.longest);
}

#[test]
fn a_flood_of_addresses_fills_no_more_than_the_room_there_is() {
    let world = hmac();
    let guard = &world.gate.guard;
    let fail = |n: u32, now: Micros| {
        let watch = guard.watch(IpAddr::from(n.to_be_bytes()), "one", now);
        (0..20).fold(None, |_, _| Some(watch.failed(Denial::BadSignature)))
    };
    for n in 1..=100 {
        assert!(matches!(fail(n, START), Some(Denial::Banned(_))), "{n}");
    }
    for n in 101..1_000 {
        assert!(matches!(fail(n, START), Some(Denial::TooManyFailures(_))), "{n}");
    }
    assert_eq!(guard.bans(START).len(), 100);
    // By hand there is always room; and what is over makes room for what is new.
    guard.ban(GOOD.parse().unwrap(), START + MINUTE);
    let later = START + MINUTE * 11;
    assert!(matches!(fail(2_000, later), Some(Denial::Banned(_))));
    assert_eq!(guard.bans(later).len(), 1);
}

#[test]
fn who_is_exempt_fails_at_no_cost() {
    let exempt = vec!["198.51.100.0/24".parse().unwrap()];
    let mut world = World::new("binance", Algorithm::Ed25519, &Bounds { exempt, ..bounds() });
    for _ in 0..50 {
        assert_eq!(world.send(BAD, "one", false), Err(Denial::BadSignature));
    }
    let told =
        Ban { network: BAD.parse().unwrap(), until: START + MINUTE, level: 0, by_hand: false };
    world.gate.guard.learn(&[told], START);
    assert!(world.gate.guard.bans(START).is_empty());
}

#[test]
fn every_dialect_tells_a_ban_with_418_or_403_and_how_long_it_lasts() {
    let excess = Excess { retry_after: MINUTE * 2, level: 5, quota: 5, period: MINUTE };
    let denial = Denial::Banned(excess);
    for (name, _) in crate::dialect::BUILTIN {
        let dialect = builtin(name).unwrap().unwrap();
        let answer = dialect.refuse(&denial, true, &Facts::of(&denial, START));
        assert!([403, 418].contains(&answer.status.as_u16()), "{name} {}", answer.status);
        let wait = answer.headers.iter().find(|(name, _)| name == http::header::RETRY_AFTER);
        assert_eq!(wait.unwrap().1, "120", "{name}");
    }
}
