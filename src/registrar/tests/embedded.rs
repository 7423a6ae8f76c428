//! The same acts over the registry that one machine has.

use super::*;
use crate::key::State;
use crate::registry::embedded::Embedded;

fn world() -> (Registrar, KeyOpener, Arc<dyn Registry>, Actor) {
    let master = MasterKey::random().unwrap();
    let masters = MasterKeys::new("a", [(Arc::from("a"), master)]).unwrap();
    let names = Arc::new(names());
    let opener = KeyOpener { masters: masters.clone(), names: Arc::clone(&names) };
    let registry: Arc<dyn Registry> = Arc::new(Embedded::in_memory().unwrap());
    let clock = Arc::new(ManualClock::at(START));
    let registrar = Registrar::new(Arc::clone(&registry), masters, names, clock, None);
    (registrar, opener, registry, Actor { name: "ops".into() })
}

#[test]
fn a_key_lives_and_dies_in_the_embedded_registry() {
    let (registrar, opener, registry, actor) = world();
    let act = Act::by(&actor);
    wait(async {
        let issued = registrar.issue(&act, new_key("bitget", &["read", "trade"])).await.unwrap();
        let id = &issued.key.id;
        let rotated = registrar.rotate(&act, id, HOUR, None).await.unwrap();
        assert_eq!((rotated.key.version, rotated.key.revision), (2, 2));
        let found = registry.find(Kind::Key, id).await.unwrap().unwrap();
        assert_eq!(
            (found.version, found.revision),
            (2, 2),
            "what was answered is what stands there"
        );
        assert!(
            opener.open_key(&found, None, None, None).unwrap().bindings.unwrap().outgoing.is_some()
        );
        let stale = registrar.revoke(&act.at(Some(1)), id).await.unwrap_err();
        assert!(matches!(
            stale,
            RegistrarError::Registry(RegistryError::Conflict { version: Some(2), .. })
        ));
        let recovery = registrar.compromised(&act, id, None).await.unwrap();
        let made = recovery.replacement.unwrap().key;
        for (id, state) in [(id, State::Revoked), (&made.id, State::Active)] {
            let found = registry.find(Kind::Key, id).await.unwrap().unwrap();
            assert_eq!(opener.open_key(&found, None, None, None).unwrap().state, state);
            assert_eq!(found.revision, made.revision, "one commit");
        }
        let history = registrar.history(Kind::Key, id, None, 10).await.unwrap();
        let actions: Vec<_> = history.iter().map(|change| &*change.note.action).collect();
        assert_eq!(actions, ["keys.compromised", "keys.rotate", "keys.create"]);
    });
}

#[test]
fn an_application_loses_its_keys_in_the_embedded_registry() {
    let (registrar, _, _, actor) = world();
    let act = Act::by(&actor);
    wait(async {
        let name = "bots".to_owned();
        let permissions = texts(&["read"]);
        let bots = NewApplication { name, permissions, ..NewApplication::default() };
        registrar.create_application(&act, bots).await.unwrap();
        for n in 0..KEYS {
            let new = NewKey {
                account: format!("account-{}", n % 7),
                application: Some("bots".into()),
                ..new_key("binance", &["read"])
            };
            registrar.issue(&act, new).await.unwrap();
        }
        let sweep = Sweep { replace: true, resume: false };
        let mut told = 0;
        let swept = registrar.application_compromised(&act, "bots", sweep, |sweeping| {
            if let Sweeping::Revoked(lost) = sweeping {
                told += lost.len();
            }
        });
        let swept = swept.await.unwrap();
        assert_eq!((swept.revoked, swept.replaced, told), (KEYS, KEYS, 1_100));
        assert_eq!(swept.accounts.len(), 7);
        let resume = Sweep { resume: true, ..sweep };
        let again = registrar.application_compromised(&act, "bots", resume, |_| ()).await.unwrap();
        assert_eq!(again.revoked, 0);
    });
}

/// More than two batches.
const KEYS: u64 = 1_100;
