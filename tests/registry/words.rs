//! What gateways tell each other through a registry, asked of each store.

use std::sync::Arc;

use countersign::clock::Micros;
use countersign::registry::book::{Kind, Registry, Write};
use countersign::registry::embedded::Embedded;
use countersign::registry::gossip::{Place, Topic, Word};

use super::server::Server;
use super::support::{key, note};

fn word(id: &str, at: u64, detail: u32) -> Word {
    Word { id: id.into(), at: Micros(at), detail }
}

/// Every word of a topic, asked for in pieces.
async fn heard(store: &dyn Registry, topic: Topic, mut after: Place) -> (Vec<Word>, Place) {
    let mut words = Vec::new();
    for _ in 0..1_000 {
        let told = store.told(topic, after.clone(), 2).await.unwrap();
        let Some((last, _)) = told.last() else { return (words, after) };
        assert!(*last > after, "it goes on");
        after = last.clone();
        words.extend(told.into_iter().map(|(_, word)| word));
    }
    panic!("it does not end")
}

async fn words_are_told_in_turn_once_until_they_change_or_are_taken_back(store: &dyn Registry) {
    let (nothing, start) = heard(store, Topic::Ban, Place::default()).await;
    assert_eq!((nothing, &start), (vec![], &Place::default()));
    let many = vec![word("c", 5, 1), word("a", 5, 0), word("b", 5, u32::MAX), word("a", 4, 9)];
    store.tell(Topic::Ban, many, None).await.unwrap();
    store.tell(Topic::Use, vec![word("a", 50, 0)], None).await.unwrap();
    let (all, place) = heard(store, Topic::Ban, start).await;
    assert_eq!(all, [word("a", 5, 0), word("b", 5, u32::MAX), word("c", 5, 1)]);
    assert_eq!(heard(store, Topic::Ban, place.clone()).await.0, []);
    // What is no later than what is known says nothing.
    store
        .tell(Topic::Ban, vec![word("a", 5, 7), word("b", 4, 7), word("c", 6, 2)], None)
        .await
        .unwrap();
    assert_eq!(heard(store, Topic::Ban, place.clone()).await.0, [word("c", 6, 2)]);
    let ids = ["b", "c", "d"].map(str::to_owned).to_vec();
    let mut some = store.told_of(Topic::Ban, ids).await.unwrap();
    some.sort_by(|one, other| one.id.cmp(&other.id));
    assert_eq!(some, [word("b", 5, u32::MAX), word("c", 6, 2)]);
    store.unsay(Topic::Ban, "c").await.unwrap();
    store.unsay(Topic::Ban, "nobody").await.unwrap();
    assert_eq!(heard(store, Topic::Ban, place).await.0, []);
    // What is from before is forgotten, and nothing of another topic.
    store.tell(Topic::Ban, vec![word("d", 6, 0)], Some(Micros(6))).await.unwrap();
    assert_eq!(heard(store, Topic::Ban, Place::default()).await.0, [word("d", 6, 0)]);
    assert_eq!(heard(store, Topic::Use, Place::default()).await.0, [word("a", 50, 0)]);
    assert_eq!(store.revision().await.unwrap(), 0, "the history knows nothing of it");
}

async fn a_flood_of_words_fills_no_more_than_there_is_room(store: &dyn Registry) {
    let most = usize::try_from(Topic::Gateway.most().unwrap()).unwrap();
    for round in 0..3 {
        let words = (0..most / 2).map(|n| word(&format!("{round}/{n}"), 1, 0)).collect();
        store.tell(Topic::Gateway, words, None).await.unwrap();
    }
    let told = store.told(Topic::Gateway, Place::default(), 3 * most).await.unwrap();
    assert_eq!(told.len(), most);
    store.tell(Topic::Gateway, vec![], Some(Micros(2))).await.unwrap();
    store.tell(Topic::Gateway, vec![word("new", 2, 0)], None).await.unwrap();
    assert_eq!(heard(store, Topic::Gateway, Place::default()).await.0, [word("new", 2, 0)]);
}

async fn who_tells_at_the_same_time_loses_nothing(store: Arc<dyn Registry>) {
    let tellers: Vec<_> = (0..8)
        .map(|teller| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for n in 0..20 {
                    let words = vec![word(&format!("{teller}/{n}"), 1, 0), word("all", n, teller)];
                    store.tell(Topic::Ban, words, None).await.unwrap();
                }
            })
        })
        .collect();
    // Who hears meanwhile misses none either.
    let (mut place, mut seen) = (Place::default(), std::collections::BTreeSet::new());
    while seen.len() < 161 {
        let told = store.told(Topic::Ban, place.clone(), 10).await.unwrap();
        place = told.last().map_or(place, |(last, _)| last.clone());
        seen.extend(told.into_iter().map(|(_, word)| word.id));
        if told_all(&tellers) && seen.len() < 161 {
            let (rest, _) = heard(&*store, Topic::Ban, place.clone()).await;
            seen.extend(rest.into_iter().map(|word| word.id));
            break;
        }
    }
    for teller in tellers {
        teller.await.unwrap();
    }
    assert_eq!(seen.len(), 161);
}

fn told_all(tellers: &[tokio::task::JoinHandle<()>]) -> bool {
    tellers.iter().all(tokio::task::JoinHandle::is_finished)
}

async fn holders_of_keys_are_listed_once_each_and_go_on_behind_the_cursor(store: &dyn Registry) {
    let of = |id: &str, kind, account: Option<&str>| Write {
        kind,
        account: account.map(str::to_owned),
        ..key(id, None)
    };
    let writes = vec![
        of("1", Kind::Key, Some("bolt")),
        of("2", Kind::Key, Some("acme")),
        of("3", Kind::Key, Some("acme")),
        of("4", Kind::Key, Some("a\u{10ffff}")),
        of("5", Kind::Key, None),
        of("frozen", Kind::Account, Some("frozen")),
    ];
    store.commit(writes, note(1)).await.unwrap();
    let holders = |after: Option<&str>, limit| store.holders(after.map(str::to_owned), limit);
    assert_eq!(holders(None, 10).await.unwrap(), ["acme", "a\u{10ffff}", "bolt"]);
    assert_eq!(holders(None, 2).await.unwrap(), ["acme", "a\u{10ffff}"]);
    assert_eq!(holders(Some("acme"), 1).await.unwrap(), ["a\u{10ffff}"]);
    assert_eq!(holders(Some("bolt"), 1).await.unwrap(), <[&str; 0]>::default());
    assert_eq!(holders(None, 0).await.unwrap(), <[&str; 0]>::default());
}

#[tokio::test]
async fn the_embedded_registry_passes_words_on() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("registry.redb");
    let store = Embedded::open(&file).unwrap();
    words_are_told_in_turn_once_until_they_change_or_are_taken_back(&store).await;
    a_flood_of_words_fills_no_more_than_there_is_room(&store).await;
    drop(store);
    // They are there after a restart.
    let store = Embedded::open(&file).unwrap();
    assert_eq!(heard(&store, Topic::Ban, Place::default()).await.0, [word("d", 6, 0)]);
    who_tells_at_the_same_time_loses_nothing(Arc::new(Embedded::in_memory().unwrap())).await;
    holders_of_keys_are_listed_once_each_and_go_on_behind_the_cursor(&store).await;
}

#[tokio::test]
async fn postgres_passes_words_on() {
    let server = Server::shared();
    let (store, _) = server.registry().await;
    words_are_told_in_turn_once_until_they_change_or_are_taken_back(&store).await;
    a_flood_of_words_fills_no_more_than_there_is_room(&store).await;
    holders_of_keys_are_listed_once_each_and_go_on_behind_the_cursor(&store).await;
    let (store, _) = server.registry().await;
    who_tells_at_the_same_time_loses_nothing(Arc::new(store)).await;
}
