//! Second factors, enrolled and lost.

use data_encoding::BASE32_NOPAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;

use super::*;

/// What an authenticator app shows for this secret: RFC 6238, once more.
fn code(enrolment: &Enrolment, now: Micros) -> String {
    let secret = BASE32_NOPAD.decode(enrolment.secret.reveal().as_bytes()).unwrap();
    let mut mac = Hmac::<Sha1>::new_from_slice(&secret).unwrap();
    mac.update(&(now.as_millis() / 30_000).to_be_bytes());
    let mac = mac.finalize().into_bytes();
    let offset = usize::from(mac[19] & 15);
    let number = u32::from_be_bytes(*mac[offset..].first_chunk().unwrap()) & 0x7fff_ffff;
    format!("{:06}", number % 1_000_000)
}

#[test]
fn a_second_factor_is_enrolled_shown_and_confirmed_by_its_first_code() {
    let world = World::new();
    let (act, registrar) = (world.act(), &world.registrar);
    let enrolment = wait(registrar.enrol(&act, "acme", "An Exchange")).unwrap();
    let uri = enrolment.uri.reveal();
    assert!(uri.starts_with("otpauth://totp/An%20Exchange:acme?secret="), "{uri}");
    assert_eq!(enrolment.secret.reveal().len(), 32);
    assert_eq!(enrolment.recovery.len(), 10);
    assert!(!enrolment.factor.says.confirmed);
    let wrong = wait(registrar.confirm(&act, "acme", "000000x")).unwrap_err();
    assert!(matches!(wrong, RegistrarError::Invalid(Invalid::WrongCode)));
    let late = code(&enrolment, START - Duration::from_secs(90));
    assert!(wait(registrar.confirm(&act, "acme", &late)).is_err());
    let right = code(&enrolment, START);
    let id = world.issue(new_key("binance", &["read"])).key.id;
    assert!(world.open(&id).unwrap().bindings.is_none(), "it opens nothing yet");
    assert!(wait(registrar.confirm(&act, "acme", &right)).unwrap().says.confirmed);
    let factor = world.open(&id).unwrap().bindings.unwrap().factor.unwrap();
    assert_eq!(factor.step_of(&right, START), None, "it was used to confirm");
    let next = START + Duration::from_secs(30);
    assert!(factor.step_of(&code(&enrolment, next), START).is_some());
    let again = wait(registrar.confirm(&act, "acme", &right)).unwrap_err();
    assert!(matches!(again, RegistrarError::Invalid(Invalid::NoFactor)));
    let second = wait(registrar.enrol(&act, "acme", "An Exchange")).unwrap_err();
    assert!(matches!(second, RegistrarError::Invalid(Invalid::FactorExists)));
}

#[test]
fn a_recovery_code_replaces_a_lost_factor_once_and_in_its_account_alone() {
    let world = World::new();
    let (act, registrar) = (world.act(), &world.registrar);
    let recover = |account, code: &str| wait(registrar.recover(&act, account, code, "x"));
    let enrolment = wait(registrar.enrol(&act, "acme", "x")).unwrap();
    let recovery = enrolment.recovery[3].reveal().to_owned();
    assert!(recover("acme", &recovery).is_err(), "not confirmed yet");
    wait(registrar.confirm(&act, "acme", &code(&enrolment, START))).unwrap();
    let other = wait(registrar.enrol(&act, "other", "x")).unwrap();
    wait(registrar.confirm(&act, "other", &code(&other, START))).unwrap();
    for (account, wrong) in [("other", &*recovery), ("acme", "AAAA-AAAA-AAAA-AAAA"), ("acme", "")] {
        let wrong = recover(account, wrong).unwrap_err();
        assert!(matches!(wrong, RegistrarError::Invalid(Invalid::WrongCode)), "{account}");
    }
    let id = world.issue(new_key("binance", &["read"])).key.id;
    assert!(world.open(&id).unwrap().bindings.is_some());
    let typed = recovery.to_lowercase().replace('-', " ");
    let anew = recover("acme", &typed).unwrap();
    assert_ne!(anew.secret.reveal(), enrolment.secret.reveal());
    assert!(world.open(&id).unwrap().bindings.is_none(), "the lost one opens nothing from now on");
    let lost = code(&enrolment, START + Duration::from_secs(30));
    assert!(wait(registrar.confirm(&act, "acme", &lost)).is_err());
    wait(registrar.confirm(&act, "acme", &code(&anew, START))).unwrap();
    for spent in [&recovery, enrolment.recovery[4].reveal()] {
        let again = recover("acme", spent).unwrap_err();
        assert!(
            matches!(again, RegistrarError::Invalid(Invalid::WrongCode)),
            "all of them are spent"
        );
    }
}

#[test]
fn a_factor_that_was_taken_away_opens_nothing_and_makes_room_for_another() {
    let world = World::new();
    let (act, registrar) = (world.act(), &world.registrar);
    let enrolment = wait(registrar.enrol(&act, "acme", "x")).unwrap();
    wait(registrar.confirm(&act, "acme", &code(&enrolment, START))).unwrap();
    let removed = wait(registrar.remove_factor(&act, "acme")).unwrap();
    assert!(is_removed(&removed.says));
    assert_eq!(wait(registrar.remove_factor(&act, "acme")).unwrap(), removed);
    let right = code(&enrolment, START);
    assert!(wait(registrar.confirm(&act, "acme", &right)).is_err(), "its old secret is gone");
    assert!(wait(registrar.enrol(&act, "acme", "x")).is_ok());
    let none = wait(registrar.remove_factor(&act, "nobody")).unwrap_err();
    assert!(matches!(none, RegistrarError::NotFound(Kind::Factor, _)));
}
