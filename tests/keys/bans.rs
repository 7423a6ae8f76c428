//! Two gateways on one registry: who was banned by one is banned by both, and who proves something by neither.

use std::sync::Arc;
use std::time::Duration;

use countersign::clock::{Clock as _, Micros, SystemClock};
use countersign::registry::bans;
use countersign::registry::book::{Kind, Note, Registry, Write};
use countersign::registry::embedded::Embedded;
use countersign::registry::gossip::{Place, Topic, of_secret};
use countersign::registry::records::BanRecord;
use countersign::service::Service;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::fleet::{BOUND, Signatory, backend, gateway_with, status};
use crate::server::Server;
use crate::world::{json, record};

const GUARD: &str = "[guard]\nfailures = 2\nban_after = 1\n";
const HOME: &str = "127.0.0.1";

async fn commit(registry: &dyn Registry, kind: Kind, id: &str, body: Vec<u8>) {
    let write = Write {
        kind,
        id: id.into(),
        replaces: None,
        account: (kind == Kind::Key).then(|| "a".into()),
        application: None,
        body,
    };
    let note = Note { at: now(), actor: "ann".into(), action: "test".into(), reason: None };
    registry.commit(vec![write], note).await.unwrap();
}

fn now() -> Micros {
    SystemClock::start().now()
}

async fn send(service: &Service, request: &[u8]) -> u16 {
    let mut stream = TcpStream::connect(service.listeners[0]).await.unwrap();
    stream.write_all(request).await.unwrap();
    status(&mut stream).await.expect("it answers")
}

/// A request that nobody signed.
fn forged(signatory: &Signatory) -> Vec<u8> {
    let text = String::from_utf8(signatory.write("mine", "/api/v3/orders")).unwrap();
    let (before, signature) = text.split_once("signature=").unwrap();
    format!("{before}signature={}{}", "00".repeat(32), signature.split_at(64).1).into_bytes()
}

/// Fails until it is banned.
async fn fail(service: &Service, signatory: &Signatory) {
    for _ in 0..20 {
        if send(service, &forged(signatory)).await == 418 {
            return;
        }
    }
    panic!("it is not banned")
}

/// Whether `holds` comes about within `bound`.
async fn comes_about(bound: Duration, holds: impl Fn() -> bool) -> bool {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(bound, wait).await.is_ok()
}

fn is_banned(service: &Service) -> bool {
    !service.gate().guard.bans(service.gate().clock.now()).is_empty()
}

async fn end(services: impl IntoIterator<Item = Service>) {
    for service in services {
        service.drain_unless(std::future::ready(())).await;
    }
}

async fn bans_reach_the_other_gateway(registry: Arc<dyn Registry>) {
    commit(&*registry, Kind::Key, "mine", json(&record("a"))).await;
    let (backend, signatory) = (backend().await, Signatory::new());
    let one = gateway_with(Arc::clone(&registry), backend, GUARD).await;
    let other = gateway_with(Arc::clone(&registry), backend, GUARD).await;
    assert_eq!(send(&other, &forged(&signatory)).await, 400, "nobody is banned yet");
    fail(&one, &signatory).await;
    assert!(comes_about(BOUND, || is_banned(&other)).await);
    assert_eq!(send(&other, &forged(&signatory)).await, 418, "though it failed there only once");
    let proven = signatory.write("mine", "/api/v3/orders");
    assert_eq!(send(&other, &proven).await, 200, "a neighbour behind the same address");
    let counts = other.gate().guard.counts(now());
    assert_eq!((counts.active, counts.made, counts.learnt), (1, 0, 1));
    assert_eq!((counts.refused[0], counts.refused_by_hand), (1, 0));
    let counts = one.gate().guard.counts(now());
    assert_eq!((counts.active, counts.made, counts.learnt), (1, 1, 0), "its own is no news");

    // Who starts later hears of it too; who starts after it was lifted does not.
    let late = gateway_with(Arc::clone(&registry), backend, GUARD).await;
    assert!(comes_about(BOUND, || is_banned(&late)).await);
    registry.unsay(Topic::Ban, HOME).await.unwrap();
    let lifted = BanRecord { until: now(), lifted: true, reason: None, created: now() };
    commit(&*registry, Kind::Ban, &bans::id(HOME.parse().unwrap()), json(&lifted)).await;
    let all = [&one, &other, &late];
    assert!(comes_about(BOUND, || !all.iter().any(|service| is_banned(service))).await);
    assert_eq!(send(&other, &forged(&signatory)).await, 400);
    end([one, other, late]).await;
    let told = registry.told(Topic::Ban, Place::default(), 10).await.unwrap();
    assert_eq!(told, []);
}

#[tokio::test]
async fn a_ban_reaches_the_other_gateway_of_an_embedded_registry() {
    bans_reach_the_other_gateway(Arc::new(Embedded::in_memory().unwrap())).await;
}

#[tokio::test]
async fn a_ban_reaches_the_other_gateway_of_a_postgres_registry() {
    let server = Server::shared();
    let (registry, _) = server.registry().await;
    bans_reach_the_other_gateway(Arc::new(registry)).await;
}

#[tokio::test]
async fn without_sharing_a_ban_stays_where_it_was_made() {
    for (tells, hears) in [(true, false), (false, true)] {
        let registry: Arc<dyn Registry> = Arc::new(Embedded::in_memory().unwrap());
        let (backend, signatory) = (backend().await, Signatory::new());
        let guard = |shares: bool| format!("{GUARD}share_bans = {shares}\n");
        let one = gateway_with(Arc::clone(&registry), backend, &guard(tells)).await;
        let other = gateway_with(Arc::clone(&registry), backend, &guard(hears)).await;
        fail(&one, &signatory).await;
        assert!(!comes_about(Duration::from_millis(1_500), || is_banned(&other)).await);
        assert_eq!(send(&other, &forged(&signatory)).await, 400);
        end([one, other]).await;
    }
}

#[tokio::test]
async fn the_last_use_of_a_secret_is_known_to_the_registry() {
    let registry: Arc<dyn Registry> = Arc::new(Embedded::in_memory().unwrap());
    commit(&*registry, Kind::Key, "mine", json(&record("a"))).await;
    commit(&*registry, Kind::Key, "idle", json(&record("a"))).await;
    let (backend, signatory, before) = (backend().await, Signatory::new(), now());
    let one = gateway_with(Arc::clone(&registry), backend, "").await;
    assert_eq!(send(&one, &signatory.write("mine", "/api/v3/orders")).await, 200);
    assert_eq!(send(&one, &forged(&signatory)).await, 400);
    end([one]).await;
    let told = registry.told(Topic::Use, Place::default(), 10).await.unwrap();
    let [(_, word)] = &told[..] else { panic!("{told:?}") };
    assert_eq!(word.id, of_secret("mine", 1));
    assert!((before.0 / 1_000_000..=now().0 / 1_000_000).contains(&(word.at.0 / 1_000_000)));
    let gateways = registry.told(Topic::Gateway, Place::default(), 10).await.unwrap();
    assert_eq!(gateways.len(), 1);
    assert_eq!(registry.history(Kind::Key, "mine", None, 10).await.unwrap().len(), 1, "no change");
}
