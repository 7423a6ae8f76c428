//! No secret is ever at rest, printed or exported in clear.

use std::fmt::{Debug, Write as _};

use data_encoding::{BASE32_NOPAD, BASE64, BASE64URL_NOPAD, HEXLOWER, HEXUPPER};

use super::*;
use crate::registry::records::{KeyRecord, SecretMaterial};

/// Every way in which a secret could be found written.
fn spellings(secret: &str) -> Vec<Vec<u8>> {
    let mut all = vec![secret.as_bytes().to_vec()];
    let decoded = [HEXLOWER.decode(secret.as_bytes()), BASE64.decode(secret.as_bytes())];
    let texts: Vec<Vec<u8>> =
        decoded.into_iter().flatten().chain([secret.as_bytes().to_vec()]).collect();
    for bytes in texts {
        for coding in [BASE64, BASE64URL_NOPAD, HEXLOWER, HEXUPPER, BASE32_NOPAD] {
            // Without its end, which depends on what follows.
            let written = coding.encode(&bytes);
            all.push(written.as_bytes()[..written.len() - 6].to_vec());
        }
        all.push(format!("{bytes:?}").trim_matches(['[', ']']).as_bytes().to_vec());
        all.push(bytes);
    }
    all
}

fn assert_absent(secret: &str, all: &[u8]) {
    for spelling in spellings(secret) {
        assert!(
            memchr::memmem::find(all, &spelling).is_none(),
            "{}",
            String::from_utf8_lossy(&spelling)
        );
    }
}

/// Everything about a run in which secrets are made and brought in.
struct Run {
    world: World,
    secrets: Vec<String>,
    printed: String,
}

impl Run {
    fn saw(&mut self, issued: &Issued) {
        let all = issued.secret.iter().chain(&issued.passphrase);
        self.secrets.extend(all.map(|secret| secret.reveal().to_owned()));
        self.print(issued);
    }

    fn print(&mut self, what: impl Debug) {
        write!(self.printed, "{what:?} ").unwrap();
    }
}

#[test]
fn no_secret_is_found_in_the_registry_in_debug_output_errors_or_exports() {
    let mut run = Run { world: World::new(), secrets: Vec::new(), printed: String::new() };
    let (registrar, actor) = (run.world.registrar.clone(), run.world.actor.clone());
    let act = Act::by(&actor);
    for n in 0..60 {
        let dialect = ["binance", "kraken", "bitget", "kucoin"][n % 4];
        let issued = run.world.issue(new_key(dialect, &["read"]));
        run.saw(&issued);
        let id = issued.key.id;
        let rotated = wait(registrar.rotate(&act, &id, HOUR, None)).unwrap();
        run.saw(&rotated);
        let export = wait(registrar.export(&id)).unwrap();
        run.print(&export);
        run.printed.push_str(&serde_json::to_string(&export).unwrap());
        let lost = wait(registrar.compromised(&act, &id, None)).unwrap();
        run.saw(&lost.replacement.unwrap());
        let key = run.world.open(&id).unwrap();
        run.print(&(key.secret, key.passphrase, lost.revoked));
        let marked = format!("imported-secret-{n:04}-{:016x}", n.wrapping_mul(0x9e37_79b9_7f4a));
        run.secrets.push(marked.clone());
        let import = Import {
            id: format!("imported-{n}"),
            terms: new_key(if n % 3 == 0 { "kraken" } else { "binance" }, &["read"]),
            secret: Some(Clear::from(marked)),
            passphrase: None,
        };
        run.print(&import);
        match wait(registrar.import(&act, import)) {
            Ok(issued) => run.print(&issued),
            Err(error) => run.print((error.to_string(), &error)),
        }
        let enrolment = wait(registrar.enrol(&act, &format!("account-{n}"), "x")).unwrap();
        run.print(&enrolment);
        run.secrets.push(enrolment.secret.reveal().to_owned());
        run.secrets.extend(enrolment.recovery.iter().map(|code| code.reveal().to_owned()));
    }
    run.print((&run.world.registrar.clone(), &run.world.opener.clone()));
    let mut all = run.world.registry.everything();
    all.extend(run.printed.as_bytes());
    assert!(run.secrets.len() > 800 && all.len() > 500_000);
    for secret in &run.secrets {
        assert_absent(secret, &all);
    }
}

#[test]
fn an_export_says_all_but_what_is_secret() {
    let world = World::new();
    let issued = world.issue(new_key("bitget", &["read", "trade"]));
    let export =
        serde_json::to_value(wait(world.registrar.export(&issued.key.id)).unwrap()).unwrap();
    assert_eq!(export["id"], issued.key.id);
    assert_eq!(export["account"], "acme");
    assert_eq!(export["permissions"], serde_json::json!(["read", "trade"]));
    assert_eq!(export["secrets"][0]["number"], 1);
    for absent in ["passphrase", "public_key"] {
        assert!(export.get(absent).is_none(), "{export}");
    }
    let text = export.to_string();
    assert!(!text.contains("sealed") && !text.contains("wrapped"), "{text}");
}

#[test]
fn rewrapping_brings_everything_under_the_current_master_key_while_others_write() {
    let keys = ["a", "b"].map(|name| (Arc::from(name), MasterKey::random().unwrap()));
    let before = World::over(Arc::default(), MasterKeys::new("a", keys.clone()).unwrap());
    let mut ids = Vec::new();
    for n in 0..620 {
        let dialect = if n % 2 == 0 { "bitget" } else { "binance" };
        let id = before.issue(new_key(dialect, &["read"])).key.id;
        if n % 10 == 0 {
            wait(before.registrar.rotate(&before.act(), &id, HOUR, None)).unwrap();
        }
        ids.push(id);
    }
    let pair = NewKey { public_key: Some(public_pem(7)), ..new_key("binance", &["read"]) };
    before.issue(pair);
    wait(before.registrar.enrol(&before.act(), "acme", "x")).unwrap();

    let after = World::over(before.registry.clone(), MasterKeys::new("b", keys.clone()).unwrap());
    after.registry.races.store(3, Ordering::Relaxed);
    let mut told = 0;
    let done = wait(after.registrar.rewrap(&after.act(), |_| told += 1)).unwrap();
    assert_eq!((done.seen, done.rewrapped, done.failed.len()), (622, 621, 0));
    assert!(told >= 3);
    let again = wait(after.registrar.rewrap(&after.act(), |_| ())).unwrap();
    assert_eq!((again.seen, again.rewrapped), (622, 0));

    let [_, b] = keys;
    let alone = World::over(before.registry.clone(), MasterKeys::new("b", [b]).unwrap());
    for id in &ids {
        assert!(alone.open(id).is_ok());
        let key: KeyRecord = wait(alone.registrar.key(id)).unwrap().says;
        assert_eq!(key.epoch, 1, "nothing was taken");
    }
    let factor = wait(alone.registrar.factor("acme")).unwrap().unwrap();
    assert_eq!(factor.says.secret.master, "b");
}

#[test]
fn what_does_not_open_is_left_and_named_by_a_rewrapping() {
    let world = World::new();
    let (one, two) = (
        world.issue(new_key("binance", &["read"])).key,
        world.issue(new_key("binance", &["read"])).key,
    );
    // The secret of one in the record of the other.
    let mut swapped = one.says.clone();
    swapped.secrets[0].material = two.says.secrets[0].material.clone();
    assert!(matches!(swapped.secrets[0].material, SecretMaterial::Sealed(_)));
    let write = written(Kind::Key, &one.id, Some(1), &swapped).unwrap();
    wait(world.registry.commit(vec![write], world.act().note("tamper", START))).unwrap();
    assert!(world.open(&one.id).unwrap_err().contains("does not open"));
    assert!(world.open(&two.id).is_ok());

    let b = MasterKey::random().unwrap();
    let masters = MasterKeys::new("b", [(Arc::from("b"), b)]).unwrap();
    let other = World::over(world.registry.clone(), masters);
    let done = wait(other.registrar.rewrap(&other.act(), |_| ())).unwrap();
    assert_eq!((done.rewrapped, done.failed.len()), (0, 2));
    assert!(done.failed[0].1.to_string().contains("[sealing.keys]"));
}
