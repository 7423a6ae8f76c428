//! Applications, and what becomes of their keys.

use super::*;
use crate::key::{Permission, State};
use crate::registry::records::Life;

fn with_application(world: &World, permissions: &[&str]) {
    let new = NewApplication {
        name: "bots".into(),
        contact: "bots@example.com".into(),
        permissions: texts(permissions),
        allowlist: vec!["10.0.0.0/8".parse().unwrap()],
    };
    wait(world.registrar.create_application(&world.act(), new)).unwrap();
}

fn key_of_bots() -> NewKey {
    NewKey { application: Some("bots".into()), ..new_key("binance", &["read", "trade"]) }
}

#[test]
fn an_application_bounds_its_keys_at_once() {
    let world = World::new();
    with_application(&world, &["read", "trade"]);
    let act = world.act();
    let id = world.issue(key_of_bots()).key.id;
    let bindings = world.open(&id).unwrap().bindings.unwrap();
    assert_eq!(bindings.application.as_deref(), Some("bots"));
    assert!(!bindings.application_allowlist.permits("192.0.2.1".parse().unwrap()));
    let less = ApplicationChanges { permissions: Some(texts(&["read"])), ..Default::default() };
    wait(world.registrar.update_application(&act, "bots", &less)).unwrap();
    let key = world.open(&id).unwrap();
    assert!(key.permissions.holds(Permission::READ) && !key.permissions.holds(Permission::TRADE));
    wait(world.registrar.stop(&act, "bots")).unwrap();
    assert_eq!(world.open(&id).unwrap().state, State::Stopped);
    wait(world.registrar.start(&act, "bots")).unwrap();
    assert_eq!(world.open(&id).unwrap().state, State::Active);

    let again = NewApplication { name: "bots".into(), ..NewApplication::default() };
    let error = wait(world.registrar.create_application(&act, again)).unwrap_err();
    assert!(matches!(error, RegistrarError::Exists(Kind::Application, _)));
    let beyond = NewKey { permissions: texts(&["transfer"]), ..key_of_bots() };
    assert!(wait(world.registrar.issue(&act, beyond)).is_err());
}

#[test]
fn a_key_whose_application_is_not_found_is_stopped() {
    let world = World::new();
    with_application(&world, &["read", "trade"]);
    let id = world.issue(key_of_bots()).key.id;
    let record = wait(world.registry.find(Kind::Key, &id)).unwrap().unwrap();
    let key = world.opener.open_key(&record, None, None, None).unwrap();
    assert_eq!(key.state, State::Stopped);
    assert!(key.permissions.is_empty());
}

#[test]
fn all_keys_of_an_application_that_lost_them_die_in_one_commit_and_are_then_dealt_with() {
    let world = World::new();
    with_application(&world, &["read", "trade"]);
    let mut ids = Vec::new();
    for n in 0..1_203 {
        let new = NewKey { account: format!("account-{}", n % 40), ..key_of_bots() };
        ids.push(world.issue(new).key.id);
    }
    let elsewhere = world.issue(new_key("binance", &["read"])).key.id;
    wait(world.registrar.revoke(&world.act(), &ids[0])).unwrap();
    let commits = world.registry.commits.load(Ordering::Relaxed);
    let mut batches = Vec::new();
    let sweep = Sweep { replace: true, resume: false };
    world.registry.races.store(2, Ordering::Relaxed);
    let act = world.act();
    let mut total = None;
    let swept = world.registrar.application_compromised(&act, "bots", sweep, |told| match told {
        Sweeping::Begun(count) => assert_eq!(total.replace(count), None, "told once"),
        Sweeping::Revoked(batch) => batches.push(batch),
    });
    let swept = wait(swept).unwrap();
    assert_eq!((swept.revoked, swept.replaced, swept.accounts.len()), (1_202, 1_202, 40));
    assert_eq!(total, Some(1_202));
    assert!(batches.len() >= 3);
    // One for the application, and one for each batch of it and of what replaces it, but for two lost races.
    assert!(world.registry.commits.load(Ordering::Relaxed) - commits <= 10);
    for lost in batches.iter().flatten() {
        assert_eq!(world.open(&lost.id).unwrap().state, State::Revoked);
        let made = lost.replacement.as_ref().unwrap();
        assert_eq!(made.key.says.account, lost.account);
    }
    let made = &batches[0][0].replacement.as_ref().unwrap();
    let key = world.open(&made.key.id).unwrap();
    assert_eq!(key.state, State::Active, "made after the application lost its keys");
    assert!(world.signs(
        "binance",
        Algorithm::HmacSha256,
        made.secret.as_ref().unwrap(),
        &key.secret
    ));
    assert_eq!(world.open(&elsewhere).unwrap().state, State::Active);
}

#[test]
fn a_sweep_that_broke_off_is_gone_on_with_and_spares_what_was_made_since() {
    let world = World::new();
    with_application(&world, &["read", "trade"]);
    let old = world.issue(key_of_bots()).key.id;
    let sweep = Sweep::default();
    let registrar = &world.registrar;
    let mark = |application: &mut crate::registry::records::ApplicationRecord| {
        application.compromised = Some(START);
    };
    wait(registrar.change_application(&world.act(), "apps.compromised", "bots", mark)).unwrap();
    assert_eq!(world.open(&old).unwrap().state, State::Stopped, "at once");
    world.clock.advance(HOUR);
    let new = world.issue(key_of_bots()).key.id;
    let resume = Sweep { resume: true, ..sweep };
    let swept =
        wait(registrar.application_compromised(&world.act(), "bots", resume, |_| ())).unwrap();
    assert_eq!((swept.revoked, swept.compromised), (1, START));
    assert_eq!(wait(registrar.key(&old)).unwrap().says.state, Life::Revoked);
    assert_eq!(world.open(&new).unwrap().state, State::Active);
    let swept =
        wait(registrar.application_compromised(&world.act(), "bots", sweep, |_| ())).unwrap();
    assert_eq!(swept.revoked, 1, "lost once more");
    assert_eq!(world.open(&new).unwrap().state, State::Revoked);
}
