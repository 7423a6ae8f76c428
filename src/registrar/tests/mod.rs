//! The acts of the control plane, over a registry in memory.

mod applications;
mod book;
mod embedded;
mod factors;
mod keys;
mod secrecy;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::*;
use crate::clock::ManualClock;
use crate::dialect::{Dialect, builtin};
use crate::key::master::MasterKey;
use crate::key::{Algorithm, Key, PermissionNames, Signer, Venue};
use crate::registry::opened::KeyOpener;
use crate::store::Limit;
use book::Memory;

const START: Micros = Micros(1_700_000_000_000_000);
const HOUR: Duration = Duration::from_hours(1);

/// A registrar with all that it works with.
struct World {
    registrar: Registrar,
    registry: Arc<Memory>,
    clock: Arc<ManualClock>,
    opener: KeyOpener,
    actor: Actor,
}

impl World {
    fn new() -> Self {
        let master = MasterKey::random().unwrap();
        Self::over(Arc::default(), MasterKeys::new("a", [(Arc::from("a"), master)]).unwrap())
    }

    fn over(registry: Arc<Memory>, masters: MasterKeys) -> Self {
        let clock = Arc::new(ManualClock::at(START));
        let names = Arc::new(names());
        let opener = KeyOpener { masters: masters.clone(), names: Arc::clone(&names) };
        let unbound = Some(90 * 24 * HOUR);
        let shared: Arc<dyn Registry> = registry.clone();
        let registrar = Registrar::new(shared, masters, names, clock.clone(), unbound);
        Self { registrar, registry, clock, opener, actor: Actor { name: "ops".into() } }
    }

    fn act(&self) -> Act<'_> {
        Act::by(&self.actor)
    }

    /// The key that a gateway makes of what the registry says now.
    fn open(&self, id: &str) -> Result<Key, String> {
        wait(async {
            let find = |kind, id: Option<String>| async move {
                self.registry.find(kind, &id?).await.unwrap()
            };
            let key = find(Kind::Key, Some(id.to_owned())).await.unwrap();
            let account = find(Kind::Account, key.account.clone()).await;
            let application = find(Kind::Application, key.application.clone()).await;
            let factor = find(Kind::Factor, key.account.clone()).await;
            self.opener.open_key(&key, account.as_ref(), application.as_ref(), factor.as_ref())
        })
    }

    fn dialect(&self, name: &str) -> &Dialect {
        &self.opener.names.dialects[name]
    }

    fn issue(&self, new: NewKey) -> Issued {
        wait(self.registrar.issue(&self.act(), new)).unwrap()
    }

    /// Whether what `secret` signs is accepted under `key`.
    fn signs(
        &self,
        dialect: &str,
        algorithm: Algorithm,
        secret: &Clear,
        key: &crate::key::Secret,
    ) -> bool {
        let signer = self.dialect(dialect).read_signer(algorithm, secret.reveal().as_bytes());
        let signature = crate::checks::signature::sign(&signer.unwrap(), b"message").unwrap();
        crate::checks::signature::tests::accepts(key, b"message", &signature.1)
    }
}

fn names() -> Names {
    let mut dialects = HashMap::new();
    for name in ["binance", "bitget", "kraken", "kucoin"] {
        let dialect = builtin(name).unwrap().unwrap();
        dialects.insert(Arc::clone(dialect.name()), Arc::new(dialect));
    }
    let mut permissions = PermissionNames::default();
    permissions.declare("margin").unwrap();
    let limit = Limit { quota: 100, period: Duration::from_secs(10) };
    Names {
        dialects,
        permissions: Arc::new(permissions),
        limits: [(Arc::from("orders"), limit.into())].into(),
        routes: [(Arc::from("order-place"), vec![3]), (Arc::from("account"), vec![7, 1])].into(),
        venues: vec![Venue(Arc::from("main"))],
    }
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(future)
}

fn new_key(dialect: &str, permissions: &[&str]) -> NewKey {
    NewKey {
        account: "acme".into(),
        dialect: dialect.into(),
        permissions: texts(permissions),
        ..NewKey::default()
    }
}

fn texts(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn public_pem(seed: u8) -> String {
    let pair = ed25519_dalek::SigningKey::from_bytes(&[seed; 32]);
    let spki = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    let der = [&spki[..], pair.verifying_key().as_bytes()].concat();
    format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        data_encoding::BASE64.encode(&der)
    )
}

#[test]
fn an_account_is_frozen_and_let_go_on() {
    let world = World::new();
    let id = world.issue(new_key("binance", &["read"])).key.id;
    let act = world.act();
    let frozen = wait(world.registrar.freeze(&act.because(Some("a court order")), "acme")).unwrap();
    assert_eq!((frozen.version, frozen.says.frozen), (1, true));
    assert_eq!(world.open(&id).unwrap().state, crate::key::State::Frozen);
    let change = &wait(world.registrar.history(Kind::Account, "acme", None, 9)).unwrap()[0];
    assert_eq!((&*change.note.actor, &*change.note.action), ("ops", "accounts.freeze"));
    assert_eq!(change.note.reason.as_deref(), Some("a court order"));
    wait(world.registrar.unfreeze(&act, "acme")).unwrap();
    assert_eq!(world.open(&id).unwrap().state, crate::key::State::Active);
    assert_eq!(wait(world.registrar.accounts(None, 10)).unwrap().items.len(), 1);
}

#[test]
fn a_switch_stops_a_permission_that_there_is() {
    let world = World::new();
    let act = world.act();
    for name in ["withdraw", "margin", EVERYTHING] {
        assert!(wait(world.registrar.throw(&act, name)).unwrap().says.thrown);
    }
    assert!(!wait(world.registrar.release(&act, "margin")).unwrap().says.thrown);
    let error = wait(world.registrar.throw(&act, "withdrwa")).unwrap_err();
    assert!(error.cure().unwrap().contains("withdraw"), "{error}");
    assert_eq!(wait(world.registrar.switches()).unwrap().items.len(), 3);
}

#[test]
fn an_act_on_an_earlier_version_is_not_done_and_says_which_stands_there() {
    let world = World::new();
    let key = world.issue(new_key("binance", &["read"])).key;
    let on_first = world.act().at(Some(1));
    wait(world.registrar.suspend(&on_first, &key.id)).unwrap();
    let error = wait(world.registrar.revoke(&on_first, &key.id)).unwrap_err();
    let RegistrarError::Registry(RegistryError::Conflict { version, .. }) = error else { panic!() };
    assert_eq!(version, Some(2));
    assert_eq!(world.registry.actions(), ["keys.create", "keys.suspend"]);
}

#[test]
fn what_others_change_meanwhile_is_not_undone() {
    let world = World::new();
    let key = world.issue(new_key("binance", &["read"])).key;
    world.registry.races.store(3, Ordering::Relaxed);
    let done = wait(world.registrar.suspend(&world.act(), &key.id)).unwrap();
    assert_eq!((done.version, done.says.epoch), (5, 2));
    world.registry.races.store(1_000, Ordering::Relaxed);
    let error = wait(world.registrar.resume(&world.act(), &key.id)).unwrap_err();
    assert!(matches!(error, RegistrarError::Busy));
    // Where a version is demanded, somebody else's being faster is the answer.
    world.registry.races.store(1, Ordering::Relaxed);
    let version = wait(world.registrar.key(&key.id)).unwrap().version;
    let error = wait(world.registrar.resume(&world.act().at(Some(version)), &key.id)).unwrap_err();
    assert!(matches!(error, RegistrarError::Registry(RegistryError::Conflict { .. })));
}

#[test]
fn an_act_that_changes_nothing_writes_nothing() {
    let world = World::new();
    let act = world.act();
    let key = world.issue(new_key("binance", &["read"])).key;
    let none = crate::key::lifecycle::Changes::default();
    assert_eq!(wait(world.registrar.update(&act, &key.id, &none)).unwrap(), key);
    wait(world.registrar.freeze(&act, "acme")).unwrap();
    wait(world.registrar.freeze(&act, "acme")).unwrap();
    assert_eq!(world.registry.commits.load(Ordering::Relaxed), 2);
}
