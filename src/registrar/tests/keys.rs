//! The life of keys, to what a gateway makes of them.

use super::*;
use crate::key::State;
use crate::key::lifecycle::{Changes, Refusal};
use crate::registry::records::{KeyRecord, Life, SecretMaterial};

#[test]
fn what_is_issued_signs_and_a_gateway_accepts_it() {
    let world = World::new();
    for (dialect, algorithm, length) in [
        ("binance", Algorithm::HmacSha256, 64),
        ("kraken", Algorithm::HmacSha512, 88),
        ("bitget", Algorithm::HmacSha256, 64),
        ("kucoin", Algorithm::HmacSha256, 64),
    ] {
        let issued = world.issue(new_key(dialect, &["read", "margin"]));
        let secret = issued.secret.unwrap();
        assert_eq!(secret.reveal().len(), length, "{dialect}");
        let key = world.open(&issued.key.id).unwrap();
        assert!(crate::key::id::is_plausible(&key.id) && key.id.starts_with("csk_"));
        assert!(world.signs(dialect, algorithm, &secret, &key.secret), "{dialect}");
        assert_eq!(issued.passphrase.is_some(), world.dialect(dialect).has_passphrase());
        if let Some(passphrase) = issued.passphrase {
            let key_passphrase = key.passphrase.unwrap();
            assert!(key_passphrase.is(passphrase.reveal().as_bytes(), false));
            assert!(!key_passphrase.is(b"another", false));
        }
        let names: Vec<_> = world.opener.names.permissions.names(key.permissions).collect();
        assert_eq!((names, key.state, key.epoch), (vec!["read", "margin"], State::Active, 1));
        assert!(key.bindings.is_none());
    }
}

#[test]
fn what_binds_a_key_binds_what_a_gateway_makes_of_it() {
    let world = World::new();
    let new = NewKey {
        allowlist: vec!["203.0.113.7/32".parse().unwrap()],
        routes: texts(&["account", "order-place"]),
        limits: texts(&["orders"]),
        expires: Some(START + HOUR),
        ..new_key("binance", &["read", "withdraw"])
    };
    let key = world.open(&world.issue(new).key.id).unwrap();
    assert!(key.allowlist.permits("203.0.113.7".parse().unwrap()));
    assert!(!key.allowlist.permits("203.0.113.8".parse().unwrap()));
    assert_eq!(key.bindings.unwrap().routes.as_deref(), Some(&[1, 3, 7][..]));
    assert_eq!((key.limits.len(), key.expires), (1, Some(START + HOUR)));
    let unbound = world.open(&world.issue(new_key("binance", &["trade"])).key.id).unwrap();
    assert_eq!(unbound.bindings.unwrap().trade_until, Some(START + 90 * 24 * HOUR));
    let sooner = NewKey { trade_unbound_for: Some(HOUR), ..new_key("binance", &["trade"]) };
    assert_eq!(world.issue(sooner).key.says.trade_until, Some(START + HOUR));
}

#[test]
fn of_a_pair_the_public_half_alone_is_taken_and_kept() {
    let world = World::new();
    let new = NewKey { public_key: Some(public_pem(7)), ..new_key("binance", &["read"]) };
    let issued = world.issue(new);
    assert!(issued.secret.is_none());
    assert_eq!(issued.key.says.algorithm, "ed25519", "it says so itself");
    assert_eq!(issued.key.says.secrets[0].material, SecretMaterial::Public(public_pem(7)));
    let key = world.open(&issued.key.id).unwrap();
    let signer = Signer::read(Algorithm::Ed25519, &[7; 32]).unwrap();
    let signature = crate::checks::signature::sign(&signer, b"message").unwrap();
    assert!(crate::checks::signature::tests::accepts(&key.secret, b"message", &signature.1));

    let private = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH\n-----END PRIVATE KEY-----";
    for (public_key, algorithm, said) in [
        (Some(private), Some("ed25519"), Invalid::PrivateKey),
        (None, Some("ed25519"), Invalid::PublicKeyMissing),
        (Some(&*public_pem(7)), Some("hmac-sha256"), Invalid::PublicKeyUnwanted),
    ] {
        let new = NewKey {
            public_key: public_key.map(ToOwned::to_owned),
            algorithm: algorithm.map(ToOwned::to_owned),
            ..new_key("binance", &["read"])
        };
        let error = wait(world.registrar.issue(&world.act(), new)).unwrap_err();
        assert!(matches!(&error, RegistrarError::Invalid(found) if *found == said), "{error}");
    }
}

#[test]
fn what_the_configuration_does_not_know_is_refused_with_what_it_knows() {
    let world = World::new();
    let good = || new_key("binance", &["read"]);
    let every = vec!["0.0.0.0/0".parse().unwrap()];
    for (new, cure) in [
        (NewKey { dialect: "binanse".into(), ..good() }, "kucoin"),
        (NewKey { venue: Some("other".into()), ..good() }, "main"),
        (NewKey { permissions: texts(&["raed"]), ..good() }, "read"),
        (NewKey { routes: texts(&["accounts"]), ..good() }, "account"),
        (NewKey { limits: texts(&["order"]), ..good() }, "orders"),
        (NewKey { algorithm: Some("hmac-sha512".into()), ..good() }, "hmac-sha256"),
        (NewKey { allowlist: every, ..good() }, "name the networks"),
        (NewKey { account: "a b".into(), ..good() }, "printable"),
        (NewKey { label: "a\u{1b}[2J".into(), ..good() }, "printable"),
        (NewKey { permissions: Vec::new(), ..good() }, "at least one"),
        (NewKey { expires: Some(START), ..good() }, "later moment"),
    ] {
        let error = wait(world.registrar.issue(&world.act(), new)).unwrap_err();
        let said = error.cure().unwrap_or_default();
        assert!(said.contains(cure), "{error}: {said}");
    }
    let new = NewKey { application: Some("nobody".into()), ..good() };
    let error = wait(world.registrar.issue(&world.act(), new)).unwrap_err();
    assert!(matches!(error, RegistrarError::NotFound(Kind::Application, _)));
    assert_eq!(world.registry.commits.load(Ordering::Relaxed), 0);
}

#[test]
fn both_secrets_sign_while_a_key_is_rotated() {
    let world = World::new();
    let first = world.issue(new_key("kucoin", &["read"]));
    let (id, old) = (first.key.id, first.secret.unwrap());
    let second = wait(world.registrar.rotate(&world.act(), &id, HOUR, None)).unwrap();
    let new = second.secret.unwrap();
    assert_eq!((&second.key.id, second.cut_off), (&id, Some(START + HOUR)));
    let key = world.open(&id).unwrap();
    let (outgoing, until) = key.bindings.unwrap().outgoing.unwrap();
    assert_eq!(until, START + HOUR);
    let signs = |secret, key| world.signs("kucoin", Algorithm::HmacSha256, secret, key);
    assert!(signs(&new, &key.secret) && signs(&old, &outgoing));
    assert!(!signs(&old, &key.secret) && !signs(&new, &outgoing));

    // The passphrase stays, and may come keyed by either.
    let (clear, passphrase) = (first.passphrase.unwrap(), key.passphrase.unwrap());
    assert!(second.passphrase.is_none() && passphrase.is(clear.reveal().as_bytes(), false));
    for secret in [&old, &new] {
        let read =
            world.dialect("kucoin").read_secret(Algorithm::HmacSha256, secret.reveal().as_bytes());
        let mac =
            crate::checks::signature::mac(&read.unwrap(), &[clear.reveal().as_bytes()]).unwrap();
        assert!(passphrase.is(data_encoding::BASE64.encode(&mac).as_bytes(), true));
    }
    let again = wait(world.registrar.rotate(&world.act(), &id, HOUR, None)).unwrap_err();
    assert!(matches!(again, RegistrarError::Refused(Refusal::Rotating(_))));
    world.clock.advance(HOUR);
    assert!(wait(world.registrar.rotate(&world.act(), &id, HOUR, None)).is_ok());
}

#[test]
fn a_key_is_suspended_resumed_revoked_and_never_comes_back() {
    let world = World::new();
    let id = world.issue(new_key("binance", &["read"])).key.id;
    let act = world.act();
    let registrar = &world.registrar;
    wait(registrar.suspend(&act, &id)).unwrap();
    assert_eq!(world.open(&id).unwrap().state, State::Suspended);
    wait(registrar.resume(&act, &id)).unwrap();
    assert_eq!(world.open(&id).unwrap().state, State::Active);
    let revoked = wait(registrar.revoke(&act, &id)).unwrap();
    assert_eq!((revoked.says.epoch, revoked.version), (3, 4));
    assert_eq!(world.open(&id).unwrap().state, State::Revoked);
    let gone = |result: Result<Kept<KeyRecord>, RegistrarError>| {
        matches!(result, Err(RegistrarError::Refused(Refusal::Revoked)))
    };
    assert!(gone(wait(registrar.resume(&act, &id))) && gone(wait(registrar.revoke(&act, &id))));
    assert!(gone(wait(registrar.expire(&act, &id))));
    let all = Changes { permissions: Some(texts(&["trade"])), ..Changes::default() };
    assert!(gone(wait(registrar.update(&act, &id, &all))));
    let missing = wait(registrar.revoke(&act, "csk_nobody")).unwrap_err();
    assert!(matches!(missing, RegistrarError::NotFound(Kind::Key, _)));
}

#[test]
fn a_lost_key_is_replaced_in_one_commit() {
    let world = World::new();
    let new = NewKey {
        allowlist: vec!["203.0.113.7/32".parse().unwrap()],
        limits: texts(&["orders"]),
        label: "bot".into(),
        ..new_key("bitget", &["read", "withdraw"])
    };
    let lost = world.issue(new);
    let act = world.act().because(Some("found on a forum"));
    let recovery = wait(world.registrar.compromised(&act, &lost.key.id, None)).unwrap();
    let made = recovery.replacement.unwrap();
    assert_eq!(recovery.revoked.says.state, Life::Revoked);
    assert_eq!(recovery.revoked.revision, made.key.revision);
    assert_eq!(world.registry.commits.load(Ordering::Relaxed), 2);
    assert_ne!(made.key.id, lost.key.id);
    assert_ne!(made.secret.as_ref().unwrap().reveal(), lost.secret.unwrap().reveal());
    assert_ne!(made.passphrase.unwrap().reveal(), lost.passphrase.unwrap().reveal());
    let bare = |key: &KeyRecord| KeyRecord { secrets: Vec::new(), passphrase: None, ..key.clone() };
    assert_eq!(bare(&made.key.says), bare(&lost.key.says));
    let key = world.open(&made.key.id).unwrap();
    assert!(world.signs("bitget", Algorithm::HmacSha256, &made.secret.unwrap(), &key.secret));
    assert_eq!(world.open(&lost.key.id).unwrap().state, State::Revoked);
    let again = wait(world.registrar.compromised(&act, &lost.key.id, None)).unwrap_err();
    assert!(matches!(again, RegistrarError::Refused(Refusal::Revoked)));
}

#[test]
fn a_lost_pair_is_revoked_even_where_nothing_can_replace_it() {
    let world = World::new();
    let new = || NewKey { public_key: Some(public_pem(7)), ..new_key("binance", &["read"]) };
    let (one, two) = (world.issue(new()).key.id, world.issue(new()).key.id);
    let recovery = wait(world.registrar.compromised(&world.act(), &one, None)).unwrap();
    assert!(recovery.replacement.is_none() && recovery.revoked.says.state == Life::Revoked);
    let pem = public_pem(8);
    let recovery = wait(world.registrar.compromised(&world.act(), &two, Some(&pem))).unwrap();
    let made = recovery.replacement.unwrap().key.says;
    assert_eq!(made.secrets[0].material, SecretMaterial::Public(pem));
    let ending = NewKey { expires: Some(START + HOUR), ..new_key("binance", &["read"]) };
    let ending = world.issue(ending).key.id;
    world.clock.advance(HOUR);
    assert!(
        wait(world.registrar.compromised(&world.act(), &ending, None))
            .unwrap()
            .replacement
            .is_none()
    );
}

#[test]
fn keys_are_listed_by_account_application_and_state_page_by_page() {
    let world = World::new();
    let mut ids: Vec<_> =
        (0..7).map(|_| world.issue(new_key("binance", &["read"])).key.id).collect();
    let other = NewKey { account: "other".into(), ..new_key("binance", &["read"]) };
    world.issue(other);
    ids.sort_unstable();
    for id in [&ids[1], &ids[4], &ids[6]] {
        wait(world.registrar.suspend(&world.act(), id)).unwrap();
    }
    let all = |state, limit| {
        let (mut found, mut after, mut pages) = (Vec::new(), None, 0);
        loop {
            let account = Some("acme".into());
            let filter = KeyFilter { account, state, after, limit, ..KeyFilter::default() };
            let page = wait(world.registrar.keys(filter)).unwrap();
            assert!(page.items.len() <= limit && pages < 20);
            found.extend(page.items.into_iter().map(|key| key.id));
            (after, pages) = (page.next, pages + 1);
            if after.is_none() {
                return found;
            }
        }
    };
    for limit in [1, 2, 3, 7, 100] {
        assert_eq!(all(None, limit), ids);
        assert_eq!(all(Some(Life::Suspended), limit), [&*ids[1], &*ids[4], &*ids[6]]);
        assert!(all(Some(Life::Revoked), limit).is_empty());
    }
}

#[test]
fn keys_from_elsewhere_come_in_with_their_id_and_secret() {
    let world = World::new();
    let secret = || {
        Some(Clear::from(
            "vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvsw0MuIgwCIPy6utIco14y7Ju91duEh8A".to_owned(),
        ))
    };
    let import = |id: &str, secret| Import {
        id: id.into(),
        terms: new_key("binance", &["read"]),
        secret,
        passphrase: None,
    };
    let good = "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j";
    let made = wait(world.registrar.import(&world.act(), import(good, secret()))).unwrap();
    assert!(made.secret.is_none());
    let key = world.open(good).unwrap();
    assert!(world.signs("binance", Algorithm::HmacSha256, &secret().unwrap(), &key.secret));
    let again = wait(world.registrar.import(&world.act(), import(good, secret()))).unwrap_err();
    assert!(matches!(again, RegistrarError::Exists(Kind::Key, _)));

    let weak = || Some(Clear::from("hunter2hunter2".to_owned()));
    let text = || Some(Clear::from("no-base64-hunter2-no-base64-hunter2-!".to_owned()));
    let passphrase = Some(Clear::from("long enough".to_owned()));
    for (import, said) in [
        (import("a b", secret()), Invalid::Text("id")),
        (import("csk_copied-wrongly", secret()), Invalid::Checksum),
        (import("weak", weak()), Invalid::WeakSecret),
        (import("none", None), Invalid::SecretMissing),
        (Import { passphrase, ..import("p", secret()) }, Invalid::PassphraseUnwanted),
        (
            Import { terms: new_key("bitget", &["read"]), ..import("b", secret()) },
            Invalid::PassphraseMissing,
        ),
        (
            Import { terms: new_key("kraken", &["read"]), ..import("k", text()) },
            Invalid::BadSecret(crate::key::BadSecret::NotBase64),
        ),
    ] {
        let error = wait(world.registrar.import(&world.act(), import)).unwrap_err();
        assert!(matches!(&error, RegistrarError::Invalid(found) if *found == said), "{error:?}");
        assert!(!format!("{error} {error:?} {:?}", error.cure()).contains("hunter2"));
    }
}

#[test]
fn what_the_configuration_lost_since_takes_from_a_key_and_never_gives() {
    let world = World::new();
    let new = NewKey {
        routes: texts(&["account"]),
        limits: texts(&["orders"]),
        ..new_key("binance", &["read", "margin"])
    };
    let id = world.issue(new).key.id;
    let without = |take: &dyn Fn(&mut Names)| {
        let mut names = names();
        take(&mut names);
        let names = Arc::new(names);
        let world = World {
            opener: KeyOpener { names, ..world.opener.clone() },
            ..World::over(world.registry.clone(), world.opener.masters.clone())
        };
        world.open(&id)
    };
    let key = without(&|names| names.routes.clear()).unwrap();
    assert_eq!(key.bindings.unwrap().routes.as_deref(), Some(&[][..]), "no route, not all");
    let key = without(&|names| names.limits.clear()).unwrap();
    assert_eq!(key.state, State::Stopped, "not unlimited");
    let key = without(&|names| names.permissions = Arc::default()).unwrap();
    assert_eq!(names().permissions.names(key.permissions).collect::<Vec<_>>(), ["read"]);
    let key = without(&|names| names.venues.clear()).unwrap();
    assert_eq!(&*key.venue.0, "main");
    assert!(without(&|names| names.dialects.clear()).is_err());
}
