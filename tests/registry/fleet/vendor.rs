//! A vendor that lost the keys of all its customers: the recovery as an operator runs it, timed. With many keys:
//!
//! ```text
//! cargo test --release --test registry a_vendor_of_many -- --ignored --nocapture --test-threads 1
//! ```

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use countersign::clock::Micros;
use countersign::key::sealing::Bound;
use countersign::registry::book::{Kind, Note, Query, Write};
use countersign::registry::records::{KeyRecord, Life, Sealed, SecretMaterial, SecretRecord};
use http::Method;
use serde_json::{Value, json};

use super::client::{Client, Signatory, command_line, post};
use super::site::{Site, until};
use crate::server::Server;
use crate::support::say;

/// Owners have so many each.
const EACH: usize = 2;
const MANY: usize = 100_000;
/// More than one page, and no whole number of them.
const FEW: usize = 1_234;
/// Keys that one commit makes.
const TOGETHER: usize = 1_000;
const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Gives the application so many keys, and another one a few.
fn fill(site: &Site, keys: usize) -> HashSet<String> {
    for name in ["gridbot", "other"] {
        post(site.admin(), "/v1/apps", &json!({"name": name, "permissions": ["read", "trade"]}));
    }
    let all: Vec<_> = (0..keys).map(|number| (format!("csk_{number:032}"), "gridbot")).collect();
    let others = (0..10).map(|number| (format!("csk_other{number:027}"), "other"));
    let all: Vec<_> = all.into_iter().chain(others).collect();
    let last = keys - 1;
    // Only the last one is used, so only that one has a secret of its own.
    let seal = |id: &str, account: &str| {
        site.masters.seal(&Bound::secret(id, account, 1), SECRET.as_bytes()).unwrap()
    };
    let any = seal("", "");
    for (first, together) in all.chunks(TOGETHER).enumerate() {
        let writes = together.iter().zip(first * TOGETHER..).map(|((id, application), number)| {
            let account = format!("account-{}", number / EACH);
            let sealed = if number == last { seal(id, &account) } else { any.clone() };
            write(sealed, id, application, &account)
        });
        let note = Note {
            at: Micros(1),
            actor: "test".into(),
            action: "keys.create".into(),
            reason: None,
        };
        site.wait(site.registry.commit(writes.collect(), note)).unwrap();
    }
    site.confirmed();
    all.into_iter().filter(|(_, name)| *name == "gridbot").map(|(id, _)| id).collect()
}

fn write(sealed: Sealed, id: &str, application: &str, account: &str) -> Write {
    let says = KeyRecord {
        format: 1,
        account: account.into(),
        application: Some(application.into()),
        label: "bot".into(),
        venue: "main".into(),
        dialect: "binance".into(),
        algorithm: "hmac-sha256".into(),
        secrets: vec![SecretRecord {
            number: 1,
            material: SecretMaterial::Sealed(sealed),
            created: Micros(1),
            until: None,
        }],
        passphrase: None,
        permissions: vec!["read".into(), "trade".into()],
        allowlist: vec!["127.0.0.1/32".parse().unwrap()],
        routes: vec![],
        symbols: vec![],
        limits: vec![],
        state: Life::Active,
        created: Micros(1),
        expires: None,
        trade_until: None,
        epoch: 1,
    };
    Write {
        kind: Kind::Key,
        id: id.into(),
        replaces: None,
        account: Some(account.into()),
        application: Some(application.into()),
        body: serde_json::to_vec(&says).unwrap(),
    }
}

/// Runs the command, says how long it took, and sees that all of it was done.
fn recover(site: &Site, name: &str, keys: usize, replace: bool) {
    let lost = fill(site, keys);
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name).display().to_string();
    let (owners, new) = (file("owners.tsv"), file("new.jsonl"));
    // The one that is revoked last.
    let victim = lost.iter().max().unwrap();
    let signatory = Signatory::of([(&**victim, SECRET)]);
    let mut client = Client::to(site.gateways.last().unwrap().service.listeners[0]);
    assert_eq!(client.send(&signatory, victim, (&Method::GET, "/orders")), Some(200));
    let mut arguments =
        vec!["apps", "compromised", "gridbot", "--yes", "--json", "--notify", &owners];
    if replace {
        arguments.extend(["--replace", &new]);
    }
    let began = Instant::now();
    let (told, took, died) = std::thread::scope(|scope| {
        let dying = scope.spawn(|| {
            until("the last key is good no longer", || {
                client.send(&signatory, victim, (&Method::GET, "/orders")) == Some(400)
            });
            began.elapsed()
        });
        let told = command_line(site.admin(), &arguments);
        (told, began.elapsed(), dying.join().unwrap())
    });
    let confirmed = site.confirmed().saturating_duration_since(began);
    let per_second = u128::try_from(keys).unwrap() * 1_000 / took.as_millis().max(1);
    let with = if replace { "with" } else { "without" };
    say(&format!(
        "{name}: {keys} keys, {with} replacement: {took:.2?} ({per_second} keys/s); the last of them was refused \
         after {died:.1?}; every gateway has applied all of it after {confirmed:.2?}"
    ));
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["revoked"], keys, "{:.300}", told.to_string());
    all_are_revoked(site, &lost);
    all_are_told(&owners, &lost);
    if replace {
        all_are_replaced(site, &new, &lost);
    }
}

fn all_are_revoked(site: &Site, lost: &HashSet<String>) {
    let (mut after, mut revoked) = (None, 0);
    loop {
        let query =
            Query { kind: Kind::Key, account: None, application: None, after, limit: TOGETHER };
        let page = site.wait(site.registry.list(query)).unwrap();
        for record in &page {
            let says: KeyRecord = serde_json::from_slice(&record.body).unwrap();
            assert_eq!(says.state == Life::Revoked, lost.contains(&record.id), "{}", record.id);
            revoked += usize::from(says.state == Life::Revoked);
        }
        after = page.last().map(|record| record.id.clone());
        if page.len() < TOGETHER {
            break;
        }
    }
    assert_eq!(revoked, lost.len());
}

fn all_are_told(owners: &str, lost: &HashSet<String>) {
    let text = std::fs::read_to_string(owners).unwrap();
    let rows = text.lines().map(|line| line.split_once('\t').unwrap());
    let told: HashMap<_, Vec<_>> =
        rows.map(|(owner, keys)| (owner, keys.split(',').collect())).collect();
    assert_eq!(told.len(), lost.len().div_ceil(EACH));
    assert_eq!(told.values().flatten().filter(|key| lost.contains(**key)).count(), lost.len());
}

/// One new key for each, of which some are tried on the last gateway.
fn all_are_replaced(site: &Site, new: &str, lost: &HashSet<String>) {
    let text = std::fs::read_to_string(new).unwrap();
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ids = |name: &str| -> HashSet<_> {
        rows.iter().map(|row| row[name].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids("lost"), *lost);
    assert_eq!(ids("id").len(), lost.len());
    let mut client = Client::to(site.gateways.last().unwrap().service.listeners[0]);
    for row in rows.iter().step_by(rows.len() / 10) {
        let (id, secret) = (row["id"].as_str().unwrap(), row["secret"].as_str().unwrap());
        let signatory = Signatory::of([(id, secret)]);
        assert_eq!(client.send(&signatory, id, (&Method::GET, "/orders")), Some(200));
    }
}

fn in_a_file(keys: usize, replace: bool) {
    let directory = tempfile::tempdir().unwrap();
    let site = Site::over_file(&directory.path().join("registry.redb"));
    recover(&site, "file", keys, replace);
    site.end();
}

fn in_postgresql(keys: usize, replace: bool, server: Server) {
    let site = Site::over_postgres(3, std::sync::Arc::new(server));
    recover(&site, "postgresql, 3 gateways", keys, replace);
    site.end();
}

#[test]
fn a_vendor_s_keys_are_revoked_in_a_file() {
    in_a_file(FEW, false);
}

#[test]
fn a_vendor_s_keys_are_replaced_in_a_file() {
    in_a_file(FEW, true);
}

#[test]
fn a_vendor_s_keys_are_replaced_in_postgresql() {
    in_postgresql(FEW, true, Server::start(&["fsync=off"]));
}

#[test]
#[ignore = "it measures, and takes minutes"]
fn a_vendor_of_many_is_dealt_with_in_a_file() {
    for replace in [false, true] {
        in_a_file(MANY, replace);
    }
}

#[test]
#[ignore = "it measures, and takes minutes"]
fn a_vendor_of_many_is_dealt_with_in_postgresql() {
    for replace in [false, true] {
        in_postgresql(MANY, replace, Server::start(&["shared_buffers=256MB"]));
    }
}
