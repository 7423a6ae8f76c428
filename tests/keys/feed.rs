//! What changes in the registry, and when a gateway keeps to it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use countersign::clock::Micros;
use countersign::key::{Permission, Permissions, State};
use countersign::registry::book::Kind;
use countersign::registry::fixed::FixedKeys;
use countersign::registry::records::{ApplicationRecord, KeyRecord, Life};

use crate::book::Book;
use crate::world::{START, World, json, record};

fn book() -> Book {
    let book = Book::default();
    book.put_key("one", &record("a"));
    book.put_key("two", &record("b"));
    book
}

fn application(stopped: bool, compromised: Option<Micros>) -> Vec<u8> {
    json(&ApplicationRecord {
        contact: String::new(),
        permissions: vec!["read".into()],
        allowlist: vec![],
        stopped,
        compromised,
        epoch: 0,
    })
}

#[tokio::test]
async fn a_revocation_is_applied_without_being_asked_for() {
    let world = World::over(book()).await;
    assert_eq!(world.state("one").await, Some(State::Active));
    let revision = world.book.set_state("one", Life::Revoked);
    world.applied(revision).await;
    assert_eq!(world.state("one").await, Some(State::Revoked));
    assert_eq!(world.state("two").await, Some(State::Active));
}

#[tokio::test]
async fn a_registry_that_does_not_say_what_changes_is_asked_soon_anyway() {
    let world = World::over(book()).await;
    world.book.is_silent.store(true, Ordering::SeqCst);
    assert_eq!(world.state("one").await, Some(State::Active));
    let revision = world.book.set_state("one", Life::Suspended);
    world.applied(revision).await;
    assert_eq!(world.state("one").await, Some(State::Suspended));
}

#[tokio::test]
async fn a_new_key_is_found_though_its_id_was_just_denied() {
    let world = World::over(book()).await;
    for _ in 0..2 {
        assert_eq!(world.state("three").await, None);
    }
    let revision = world.book.put_key("three", &record("a"));
    world.applied(revision).await;
    assert_eq!(world.state("three").await, Some(State::Active));
}

#[tokio::test]
async fn a_frozen_account_takes_its_keys_along_and_no_others() {
    let world = World::over(book()).await;
    assert_eq!(world.state("one").await, Some(State::Active));
    assert_eq!(world.state("two").await, Some(State::Active));
    world.book.freeze("a", true);
    world.applied(3).await;
    assert_eq!(world.state("one").await, Some(State::Frozen));
    let finds = world.finds();
    assert_eq!(world.state("two").await, Some(State::Active));
    assert_eq!(world.finds(), finds, "it was not touched");
    world.book.freeze("a", false);
    world.applied(4).await;
    assert_eq!(world.state("one").await, Some(State::Active));
}

#[tokio::test]
async fn an_application_that_lost_its_keys_keeps_those_made_later() {
    let book = book();
    let of = |created| KeyRecord { application: Some("bot".into()), created, ..record("a") };
    book.put(Kind::Application, "bot", ("", Some("bot")), application(false, None));
    book.put_key("old", &of(START));
    book.put_key("new", &of(START + Duration::from_secs(1)));
    let world = World::over(book).await;
    for id in ["old", "new", "one"] {
        assert_eq!(world.state(id).await, Some(State::Active));
    }
    let lost = application(false, Some(START));
    let revision = world.book.put(Kind::Application, "bot", ("", Some("bot")), lost);
    world.applied(revision).await;
    assert_eq!(world.state("old").await, Some(State::Stopped));
    assert_eq!(world.state("new").await, Some(State::Active));
    let stopped = application(true, Some(START));
    let revision = world.book.put(Kind::Application, "bot", ("", Some("bot")), stopped);
    world.applied(revision).await;
    assert_eq!(world.state("new").await, Some(State::Stopped));
    assert_eq!(world.state("one").await, Some(State::Active));
}

#[tokio::test]
async fn switches_are_kept_to_from_the_start_and_as_they_change() {
    let book = book();
    book.throw("withdraw", true);
    let world = World::over(book).await;
    let withdraw = Permissions::NONE.with(Permission::WITHDRAW);
    assert_eq!(world.switches.stopped(), withdraw);
    world.book.throw("trade", true);
    world.applied(4).await;
    assert_eq!(world.switches.stopped(), withdraw.with(Permission::TRADE));
    world.book.throw("all", true);
    world.applied(5).await;
    assert_eq!(world.switches.stopped(), Permissions::ALL);
    for name in ["all", "withdraw", "trade"] {
        world.book.throw(name, false);
    }
    world.applied(8).await;
    assert_eq!(world.switches.stopped(), Permissions::NONE);
}

#[tokio::test]
async fn a_switch_that_cannot_be_read_counts_as_thrown() {
    let world = World::over(book()).await;
    let revision = world.book.put(Kind::Switch, "all", ("", None), b"?".to_vec());
    world.applied(revision).await;
    assert_eq!(world.switches.stopped(), Permissions::ALL);
}

#[tokio::test]
async fn a_registry_restored_from_a_backup_is_learned_anew() {
    let world = World::over(book()).await;
    let backup = world.book.copy();
    world.book.put_key("three", &record("a"));
    world.applied(3).await;
    assert_eq!(world.state("three").await, Some(State::Active));
    world.book.restore(backup);
    world.until(|counts| counts.revision == 2).await;
    world.until(|counts| counts.known == Some(2)).await;
    assert_eq!(world.state("three").await, None, "it is gone");
    assert_eq!(world.state("one").await, Some(State::Active));
}

#[tokio::test]
async fn a_restored_registry_that_has_gone_on_since_is_noticed_by_what_stands_there() {
    let world = World::over(book()).await;
    let backup = world.book.copy();
    world.book.put_key("three", &record("a"));
    world.applied(3).await;
    assert_eq!(world.state("three").await, Some(State::Active));
    world.book.is_down.store(true, Ordering::SeqCst);
    world.book.restore(backup);
    for id in ["four", "five", "six"] {
        world.book.put_key(id, &record("b"));
    }
    world.book.is_down.store(false, Ordering::SeqCst);
    world.until(|counts| counts.revision == 5 && counts.known == Some(5)).await;
    assert_eq!(world.state("three").await, None, "it is gone");
    assert_eq!(world.state("four").await, Some(State::Active));
}

#[tokio::test]
async fn more_changes_than_are_read_at_a_time_are_all_applied() {
    let world = World::over(book()).await;
    world.book.is_down.store(true, Ordering::SeqCst);
    for n in 0..2_500 {
        world.book.put_key(&format!("k{n}"), &record("b"));
    }
    world.book.set_state("one", Life::Revoked);
    world.book.is_down.store(false, Ordering::SeqCst);
    world.applied(2_503).await;
    assert_eq!(world.state("one").await, Some(State::Revoked));
    assert_eq!(world.counts().known, Some(2_502));
}

#[tokio::test]
async fn an_empty_registry_is_followed_from_its_first_change() {
    let world = World::over(Book::default()).await;
    assert_eq!(world.state("one").await, None);
    let revision = world.book.put_key("one", &record("a"));
    world.applied(revision).await;
    assert_eq!(world.state("one").await, Some(State::Active));
}

#[tokio::test]
async fn ids_that_were_made_while_all_of_them_were_read_are_known() {
    let tags = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    let world = World::begin(book().telling_ids_behind(&tags), FixedKeys::default());
    world.until(|counts| counts.age.is_some()).await;
    let revision = world.book.put_key("three", &record("a"));
    world.applied(revision).await;
    tags.add_permits(1);
    world.until(|counts| counts.known == Some(3)).await;
    assert_eq!(world.state("three").await, Some(State::Active));
}
