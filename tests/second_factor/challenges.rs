//! A challenge holds for what it was made for, and for nothing else.

use std::time::Duration;

use countersign::denial::{Challenge, Denial};
use http::Method;

use crate::support::{STEP, Sent, World, wrong_at};

fn challenged(world: &mut World, sent: &Sent) -> Challenge {
    match world.ask(sent) {
        Err(Denial::Challenged(challenge)) => challenge,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_freshly_signed_repetition_with_code_and_challenge_passes() {
    let mut world = World::strict();
    // The dialect lets its parameters stand in one place only.
    let first = world.sign_as("one", &Method::POST, "/withdraw", "", "amount=1&to=me");
    let challenge = challenged(&mut world, &first).to_string();
    assert_eq!(world.gate.store.records(), 0, "nothing was looked at, nothing recorded");
    world.gate.clock.advance(Duration::from_secs(40));
    let again = world.sign_as("one", &Method::POST, "/withdraw", "", "amount=1&to=me");
    let again = again.with_challenge(&challenge).with_code(&world.code());
    assert_eq!(world.ask(&again), Ok(()));
    assert_eq!(world.ask(&again), Err(Denial::Replayed));
}

#[test]
fn a_challenge_cannot_be_moved_to_another_request_or_key() {
    let mut world = World::strict();
    let at = |key: &str, method: &Method, path: &str, query: &str, body: &str| {
        (key.to_owned(), method.clone(), path.to_owned(), query.to_owned(), body.to_owned())
    };
    let meant = at("one", &Method::POST, "/withdraw", "amount=1&to=me", "");
    let signed = |world: &World, (key, method, path, query, body): &(_, _, _, _, _)| {
        let (key, path): (&String, &String) = (key, path);
        let (query, body): (&String, &String) = (query, body);
        world.sign_as(key, method, path, query, body)
    };
    let first = signed(&world, &meant);
    let challenge = challenged(&mut world, &first).to_string();
    for other in [
        at("two", &Method::POST, "/withdraw", "amount=1&to=me", ""),
        at("one", &Method::PUT, "/withdraw", "amount=1&to=me", ""),
        at("one", &Method::POST, "/withdraw/all", "amount=1&to=me", ""),
        at("one", &Method::POST, "/withdraw", "amount=2&to=me", ""),
        at("one", &Method::POST, "/withdraw", "to=me&amount=1", ""),
        at("one", &Method::POST, "/withdraw", "", "amount=1&to=me"),
        at("one", &Method::POST, "/withdraw", "amount=1&to=me&more=1", ""),
    ] {
        let sent = signed(&world, &other).with_challenge(&challenge).with_code(&world.code());
        challenged(&mut world, &sent);
    }
    let sent = signed(&world, &meant).with_challenge(&challenge).with_code(&world.code());
    assert_eq!(world.ask(&sent), Ok(()), "and the code was not spent by any of that");
}

#[test]
fn a_challenge_is_over_after_two_minutes_and_not_before() {
    for (later, is_good) in [(119_999_999, true), (120_000_000, false)] {
        let later = Duration::from_micros(later);
        let mut world = World::strict();
        let first = world.sign_as("one", &Method::POST, "/withdraw", "a=1", "");
        let challenge = challenged(&mut world, &first).to_string();
        world.gate.clock.advance(later);
        let again = world.sign_as("one", &Method::POST, "/withdraw", "a=1", "");
        let again = again.with_challenge(&challenge).with_code(&world.code());
        assert_eq!(world.ask(&again).is_ok(), is_good, "{later:?}");
    }
}

#[test]
fn a_challenge_from_the_time_to_come_is_none() {
    let mut world = World::strict();
    let first = world.sign_as("one", &Method::POST, "/withdraw", "a=1", "");
    world.gate.clock.advance(STEP);
    let later = world.sign_as("one", &Method::POST, "/withdraw", "a=1", "");
    let challenge = challenged(&mut world, &later).to_string();
    world.gate.clock.set(crate::support::START);
    let sent = first.with_challenge(&challenge).with_code(&world.code());
    challenged(&mut world, &sent);
}

#[test]
fn a_code_is_not_looked_at_without_its_challenge() {
    let mut world = World::strict();
    let right = world.code();
    for code in [&right, &wrong_at(world.now(), 0)] {
        for n in 0..100 {
            let sent = world.sign_as("one", &Method::POST, "/withdraw", &format!("n={n}"), "");
            challenged(&mut world, &sent.with_code(code));
        }
    }
    let first = world.sign_as("one", &Method::POST, "/withdraw", "a=1", "");
    let challenge = challenged(&mut world, &first).to_string();
    let sent = world.sign_as("one", &Method::POST, "/withdraw", "a=1", "");
    let sent = sent.with_challenge(&challenge).with_code(&right);
    assert_eq!(world.ask(&sent), Ok(()), "no try was used up");
}

#[test]
fn every_bit_of_a_challenge_counts() {
    let mut world = World::strict();
    let first = world.sign_as("one", &Method::POST, "/withdraw", "a=1", "");
    let text = challenged(&mut world, &first).to_string();
    let bytes = data_encoding::BASE64URL_NOPAD.decode(text.as_bytes()).unwrap();
    for bit in 0..bytes.len() * 8 {
        let mut wrong = bytes.clone();
        wrong[bit / 8] ^= 1 << (bit % 8);
        let wrong = data_encoding::BASE64URL_NOPAD.encode(&wrong);
        let sent = world.sign_as("one", &Method::POST, "/withdraw", "a=1", "");
        let sent = sent.with_challenge(&wrong).with_code(&world.code());
        challenged(&mut world, &sent);
    }
}

#[test]
fn another_process_knows_a_challenge_only_with_the_same_key() {
    let shared = |key: &[u8]| countersign::admit::Challenges::shared(key).unwrap();
    for (key, is_known) in [([1; 32], true), ([2; 32], false)] {
        let mut one = World::strict();
        let mut other = World::strict();
        for (world, key) in [(&mut one, [1; 32]), (&mut other, key)] {
            let factor = world.route.second_factor.as_mut().unwrap();
            factor.challenges = Some(shared(&key).into());
        }
        let sent = sign_query(&one);
        let challenge = challenged(&mut one, &sent).to_string();
        let sent = sign_query(&other).with_challenge(&challenge).with_code(&other.code());
        assert_eq!(other.ask(&sent).is_ok(), is_known);
    }
}

fn sign_query(world: &World) -> Sent {
    world.sign_as("one", &Method::POST, "/withdraw", "a=1", "")
}
