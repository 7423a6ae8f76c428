//! What a code opens, how often, and what is left of it for a backend.

use countersign::admit::{Bounds, CHALLENGE, CodePlace, SecondFactor};
use countersign::clock::Micros;
use countersign::denial::{Condition, Denial, Excess};
use countersign::dialect::Facts;
use countersign::key::Factor;
use http::{HeaderName, HeaderValue, Method, StatusCode};

use crate::support::{AWAY, FACTOR32, OTP, START, STEP, World, code_at, wrong_at};

fn world() -> World {
    World::new(&Bounds::default())
}

#[test]
fn a_right_code_opens_the_route_once_however_often_the_request_is_signed() {
    let mut world = world();
    let code = world.code();
    let first = world.sign().with_code(&code);
    assert_eq!(world.ask(&first), Ok(()));
    for from in [crate::support::HOME, AWAY] {
        let again = world.sign().with_code(&code);
        assert_eq!(world.admit(from, &again).unwrap_err(), Denial::CodeSpent, "{from}");
    }
    let other_key = world.sign_as("two", &Method::POST, "/withdraw", "a=1", "").with_code(&code);
    assert_eq!(world.ask(&other_key), Err(Denial::CodeSpent), "it is the account's, not the key's");
    world.gate.clock.advance(STEP);
    let next = world.sign().with_code(&world.code());
    assert_eq!(world.ask(&next), Ok(()));
}

#[test]
fn a_code_is_good_from_one_step_before_its_own_to_one_after() {
    let start = START.0 / 30_000_000 * 30_000_000;
    let code = code_at(START);
    for (at, is_good) in [
        (start - 30_000_001, false),
        (start - 30_000_000, true),
        (start + 59_999_999, true),
        (start + 60_000_000, false),
    ] {
        let mut world = world();
        world.gate.clock.set(Micros(at));
        let sent = world.sign().with_code(&code);
        let expected = if is_good { Ok(()) } else { Err(Denial::BadCode) };
        assert_eq!(world.ask(&sent), expected, "{at}");
    }
}

#[test]
fn an_earlier_code_than_the_last_one_used_is_used_up() {
    let mut world = world();
    let early = code_at(START - STEP);
    let sent = world.sign().with_code(&world.code());
    assert_eq!(world.ask(&sent), Ok(()));
    let sent = world.sign().with_code(&early);
    assert_eq!(world.ask(&sent), Err(Denial::CodeSpent));
}

#[test]
fn a_wrong_code_burns_the_request() {
    let mut world = world();
    let sent = world.sign();
    let wrong = wrong_at(START, 0);
    assert_eq!(world.ask(&sent.clone().with_code(&wrong)), Err(Denial::BadCode));
    let right = sent.with_code(&world.code());
    assert_eq!(world.ask(&right), Err(Denial::Replayed), "a capture is good for one guess");
    let fresh = world.sign().with_code(&world.code());
    assert_eq!(world.ask(&fresh), Ok(()), "and that code was not spent");
}

#[test]
fn without_a_code_nothing_is_recorded() {
    let mut world = world();
    let sent = world.sign();
    assert_eq!(world.ask(&sent), Err(Denial::MissingCode));
    assert_eq!(world.ask(&sent.clone().with_code("")), Err(Denial::MissingCode));
    assert_eq!(world.gate.store.records(), 0);
    assert_eq!(world.ask(&sent.with_code(&world.code())), Ok(()));
}

#[test]
fn an_account_without_a_factor_is_told_so_once_its_signature_holds() {
    let mut world = world();
    let mut sent = world.sign_as("bare", &Method::POST, "/withdraw", "a=1", "").with_code("123456");
    assert_eq!(world.ask(&sent), Err(Denial::NoFactor));
    sent.query = sent.query.map(|query| query.replace("a=1", "a=2"));
    assert_eq!(world.ask(&sent), Err(Denial::BadSignature));
    let mut sent = world.sign();
    sent.query = sent.query.map(|query| query.replace("amount=1", "amount=2"));
    assert_eq!(world.ask(&sent.with_code("000000")), Err(Denial::BadSignature));
}

#[test]
fn nothing_is_spent_where_a_limit_refuses() {
    let mut world = world();
    let tight =
        |world: &World, query: &str| world.sign_as("tight", &Method::POST, "/withdraw", query, "");
    let sent = tight(&world, "n=1").with_code(&world.code());
    assert_eq!(world.ask(&sent), Ok(()));
    world.gate.clock.advance(STEP);
    let first = tight(&world, "n=2").with_code(&world.code());
    assert_eq!(world.ask(&first), Ok(()));
    // The step of now is spent; the one to come is not.
    let next = code_at(world.now() + STEP);
    let second = tight(&world, "n=3").with_code(&next);
    assert!(matches!(world.ask(&second), Err(Denial::Limited(_))));
    world.gate.clock.advance(std::time::Duration::from_secs(10));
    assert_eq!(world.ask(&second), Ok(()), "the same bytes and the same code may come again");
}

#[test]
fn a_replay_spends_no_code_and_says_nothing_of_it() {
    let mut world = world();
    let sent = world.sign();
    assert_eq!(world.ask(&sent.clone().with_code(&world.code())), Ok(()));
    let next = code_at(START + STEP);
    for code in [&next, &wrong_at(START, 5)] {
        assert_eq!(world.ask(&sent.clone().with_code(code)), Err(Denial::Replayed), "{code}");
    }
    let fresh = world.sign().with_code(&next);
    assert_eq!(world.ask(&fresh), Ok(()));
}

#[test]
fn a_code_may_stand_once() {
    let mut world = world();
    let mut sent = world.sign().with_code("000000");
    sent.headers.append(HeaderName::from_static(OTP), HeaderValue::from_static("111111"));
    assert!(matches!(world.ask(&sent), Err(Denial::Malformed(_))));
    let mut world = World::by_parameter();
    for query in ["otp=000000&otp=111111", "%6ftp=000000"] {
        let sent = world.sign_as("one", &Method::POST, "/withdraw", query, "");
        assert!(matches!(world.ask(&sent), Err(Denial::Malformed(_))), "{query}");
    }
}

#[test]
fn no_code_reaches_a_backend_in_a_parameter() {
    let code = code_at(START);
    let at_places = [
        format!("otp={code}&a=1&b=2"),
        format!("a=1&otp={code}&b=2"),
        format!("a=1&b=2&otp={code}"),
    ];
    for text in at_places {
        let mut world = World::by_parameter();
        let sent = world.sign_as("one", &Method::POST, "/withdraw", &text, "");
        let permit = world.admit(AWAY, &sent).unwrap();
        let query = permit.outgoing().query(sent.query.as_deref()).unwrap();
        assert!(query.starts_with("a=1&b=2&") && !query.contains("otp"), "{query}");
        assert!(!query.contains("signature"), "{query}");

        let mut world = World::by_parameter();
        let sent = world.sign_as("one", &Method::POST, "/withdraw", "", &text);
        let permit = world.admit(AWAY, &sent).unwrap();
        let body = permit.outgoing().body(&sent.body.clone().into());
        let body = std::str::from_utf8(&body).unwrap();
        assert!(body.starts_with("a=1&b=2&") && !body.contains("otp"), "{body}");
        assert!(!body.contains("signature"), "{body}");
    }
    let mut world = World::by_parameter();
    let moved = world.sign_as("one", &Method::POST, "/withdraw", "otp=000000&a=1", "");
    let moved = crate::support::Sent {
        query: moved.query.map(|query| query.replace("000000", &code)),
        ..moved
    };
    assert_eq!(world.ask(&moved), Err(Denial::BadSignature), "in a parameter it is signed");
}

#[test]
fn no_code_reaches_a_backend_in_a_member_of_json() {
    let code = code_at(START);
    for (sent, forwarded) in [
        (format!(r#"{{"otp":"{code}","a":1,"b":[2]}}"#), r#"{"a":1,"b":[2]}"#),
        (format!(r#"{{"a":1, "otp" : "{code}" , "b":[2]}}"#), r#"{"a":1, "b":[2]}"#),
        (format!(r#"{{"a":1,"b":[2],"otp":"{code}"}}"#), r#"{"a":1,"b":[2]}"#),
        (format!(r#"{{ "a":1 , "otp":"{code}" }}"#), r#"{ "a":1  }"#),
        (format!(r#"{{"otp":"{code}"}}"#), "{}"),
        (format!(r#"{{"o\u0074p":"{code}","a":1}}"#), r#"{"a":1}"#),
    ] {
        let mut world = World::by_member();
        let sent = world.sign_as("one", &Method::POST, "/withdraw", "", &sent);
        let permit = world.admit(AWAY, &sent).unwrap();
        let body = permit.outgoing().body(&sent.body.clone().into());
        assert_eq!(std::str::from_utf8(&body).unwrap(), forwarded);
    }
}

#[test]
fn a_code_in_json_is_one_text_in_one_spelling_and_is_judged_as_any_other() {
    let mut world = World::by_member();
    let ask = |world: &mut World, body: &str| {
        let sent = world.sign_as("one", &Method::POST, "/withdraw", "", body);
        world.ask(&sent)
    };
    for body in [
        r#"{"otp":123456,"a":1}"#.to_owned(),
        format!(r#"{{"otp":["{}"]}}"#, code_at(START)),
        format!(r#"{{"otp":"{}","OTP":"000000"}}"#, code_at(START)),
        r#"{"Otp":"000000"}"#.to_owned(),
        r#"{"otp":"\u0030\u0030"}"#.to_owned(),
    ] {
        assert!(matches!(ask(&mut world, &body), Err(Denial::Malformed(_))), "{body}");
    }
    assert_eq!(ask(&mut world, r#"{"a":1}"#), Err(Denial::MissingCode));
    assert_eq!(ask(&mut world, r#"{"a":1,"otp":""}"#), Err(Denial::MissingCode));
    let wrong = format!(r#"{{"a":1,"otp":"{}"}}"#, wrong_at(START, 7));
    assert_eq!(ask(&mut world, &wrong), Err(Denial::BadCode));
    let right = format!(r#"{{"a":1,"otp":"{}"}}"#, code_at(START));
    assert_eq!(ask(&mut world, &right), Ok(()));
    world.gate.clock.advance(std::time::Duration::from_millis(1));
    assert_eq!(ask(&mut world, &right.replace("\"a\":1", "\"a\":2")), Err(Denial::CodeSpent));
}

#[test]
fn a_code_that_was_used_elsewhere_is_wrong_and_so_is_every_earlier_one() {
    let factor = |spent| Factor::read(FACTOR32).unwrap().spent_up_to(spent);
    let step = START.0 / 30_000_000;
    let steps = [START - STEP, START, START + STEP].map(code_at);
    let found = |spent| steps.each_ref().map(|code| factor(spent).step_of(code, START));
    assert_eq!(found(None), [Some(step - 1), Some(step), Some(step + 1)]);
    assert_eq!(found(Some(step - 1)), [None, Some(step), Some(step + 1)]);
    assert_eq!(found(Some(step)), [None, None, Some(step + 1)]);
    assert_eq!(found(Some(step + 1)), [None; 3]);
}

#[test]
fn the_fields_of_code_and_challenge_are_credentials() {
    let otp = HeaderName::from_static(OTP);
    let factor = SecondFactor { place: CodePlace::Header(otp.clone()), challenges: None };
    assert!(factor.is_credential(&otp) && factor.is_credential(&CHALLENGE));
    assert!(!factor.is_credential(&http::header::ACCEPT));
}

#[test]
fn each_refusal_has_a_condition_and_an_answer_of_its_own_kind() {
    let world = world();
    let wait = STEP;
    let excess = Excess { retry_after: wait, level: 5, quota: 5, period: wait };
    for (denial, condition) in [
        (Denial::NoFactor, Condition::NoPermission),
        (Denial::MissingCode, Condition::MissingCode),
        (Denial::BadCode, Condition::BadCode),
        (Denial::CodeSpent, Condition::BadCode),
        (Denial::TooManyCodes(excess), Condition::IpRateLimited),
    ] {
        assert_eq!(denial.condition(true), condition);
        let answer = world.dialect.refuse(&denial, true, &Facts::of(&denial, START));
        assert_ne!(answer.status, StatusCode::OK, "{denial:?}");
        assert!(!answer.body.is_empty(), "{denial:?}");
    }
}
