//! Which requests under way are to be cut: those that have a key, as it was, that has ended.

use std::sync::atomic::Ordering;

use countersign::registry::Keys as _;
use countersign::registry::book::Kind;
use countersign::registry::records::{ApplicationRecord, KeyRecord, Life};

use crate::book::Book;
use crate::world::{START, World, json, record};

fn book() -> Book {
    let book = Book::default();
    for n in 0..3 {
        book.put_key(&n.to_string(), &record(&format!("account {n}")));
    }
    book
}

#[tokio::test]
async fn a_key_in_use_that_is_revoked_has_ended_and_one_that_nobody_has_has_not() {
    let world = World::over(book()).await;
    let endings = world.keys.endings().unwrap();
    let (mine, other) = (world.find("0").await.unwrap().unwrap(), world.find("1").await.unwrap());
    drop(world.find("2").await);
    let before = endings.count();
    world.book.set_state("2", Life::Revoked);
    world.applied(4).await;
    assert_eq!(endings.count(), before, "nobody has it");
    for (revision, life) in [(5, Life::Revoked), (6, Life::Revoked)] {
        world.book.set_state("0", life);
        world.applied(revision).await;
    }
    assert_eq!(endings.count(), before + 1);
    assert!(endings.holds(&mine) && !endings.holds(&other.unwrap()));
    assert_eq!(world.cuts.load(Ordering::SeqCst), 1);
    let again = world.find("0").await.unwrap().unwrap();
    assert!(!endings.holds(&again), "what is looked up now is refused by its state");
}

#[tokio::test]
async fn a_suspended_key_and_one_of_a_frozen_account_have_ended_and_a_changed_one_lives_on() {
    let world = World::over(book()).await;
    let endings = world.keys.endings().unwrap();
    let mut all = Vec::new();
    for id in ["0", "1", "2"] {
        all.push(world.find(id).await.unwrap().unwrap());
    }
    world.book.put_key("0", &KeyRecord { label: "mine".into(), ..record("account 0") });
    world.book.set_state("1", Life::Suspended);
    world.book.freeze("account 2", true);
    world.applied(6).await;
    assert_eq!([false, true, true], [&all[0], &all[1], &all[2]].map(|key| endings.holds(key)));
    // What was replaced is not lost sight of.
    world.book.set_state("0", Life::Revoked);
    world.applied(7).await;
    assert!(endings.holds(&all[0]));
}

#[tokio::test]
async fn of_an_application_that_lost_its_keys_the_newer_ones_live_on() {
    let book = book();
    let says = |compromised| ApplicationRecord {
        contact: String::new(),
        permissions: vec![],
        allowlist: vec![],
        stopped: false,
        compromised,
        epoch: 0,
    };
    let of = |created| KeyRecord { application: Some("bot".into()), created, ..record("a") };
    book.put(Kind::Application, "bot", ("", Some("bot")), json(&says(None)));
    book.put_key("old", &of(START));
    book.put_key("new", &of(START + crate::world::SECOND));
    let world = World::over(book).await;
    let (old, new) = (world.find("old").await.unwrap().unwrap(), world.find("new").await.unwrap());
    world.book.put(Kind::Application, "bot", ("", Some("bot")), json(&says(Some(START))));
    world.applied(7).await;
    let endings = world.keys.endings().unwrap();
    assert!(endings.holds(&old) && !endings.holds(&new.unwrap()));
}

#[tokio::test]
async fn a_key_that_made_room_while_it_was_in_use_ends_all_the_same() {
    let book = Book::default();
    for n in 0..4_000 {
        book.put_key(&n.to_string(), &record("a"));
    }
    let world = World::over(book).await;
    let mut all = Vec::new();
    for n in 0..4_000 {
        all.push(world.find(&n.to_string()).await.unwrap().unwrap());
    }
    assert!(world.counts().held < 2_000);
    world.book.freeze("a", true);
    world.applied(4_001).await;
    let endings = world.keys.endings().unwrap();
    assert!(all.iter().all(|key| endings.holds(key)));
    world.stop_following();
}
