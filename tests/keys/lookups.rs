//! What reaches the registry, and how often.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use countersign::key::State;
use countersign::registry::Unavailable;
use countersign::registry::fixed::FixedKeys;
use countersign::registry::records::Life;
use tokio::sync::Semaphore;

use crate::book::Book;
use crate::world::{World, record};

fn keys(count: usize) -> Book {
    let book = Book::default();
    for n in 0..count {
        book.put_key(&n.to_string(), &record("a"));
    }
    book
}

#[tokio::test]
async fn a_key_is_asked_for_once() {
    let world = World::over(keys(3)).await;
    for _ in 0..10 {
        assert_eq!(world.state("1").await, Some(State::Active));
    }
    assert_eq!(world.finds(), 1);
    let counts = world.counts();
    assert_eq!((counts.hits, counts.loaded, counts.held), (9, 1, 1));
}

#[tokio::test]
async fn a_key_that_is_held_and_an_id_known_not_to_exist_are_found_without_an_allocation() {
    let world = World::over(keys(3)).await;
    for id in ["1", "nobody's"] {
        let expected = world.state(id).await;
        let seen = allocation_counter::measure(|| {
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            let found = std::pin::pin!(world.find(id)).poll(&mut context);
            let std::task::Poll::Ready(Ok(found)) = found else { panic!("it waited") };
            assert_eq!(found.map(|key| key.state), expected);
        });
        assert_eq!(seen.count_total, 0, "{id}");
    }
}

#[tokio::test]
async fn ids_that_do_not_exist_never_reach_the_registry_however_many_are_tried() {
    let world = World::over(keys(10)).await;
    for n in 0..100_000 {
        assert_eq!(world.state(&format!("made up {n}")).await, None);
    }
    assert_eq!(world.finds(), 0);
    assert_eq!(world.counts().filtered, 100_000);
}

#[tokio::test]
async fn before_it_is_known_which_ids_there_are_a_bounded_number_of_lookups_is_made() {
    let told = Arc::new(Semaphore::new(0));
    let world = World::begin(keys(10).telling_ids_behind(&told), FixedKeys::default());
    world.until(|counts| counts.age.is_some()).await;
    assert_eq!(world.state("1").await, Some(State::Active), "keys are served meanwhile");
    let mut refused = 0;
    for n in 0..20_000 {
        match world.find(&format!("made up {n}")).await {
            Ok(found) => assert!(found.is_none()),
            Err(Unavailable) => refused += 1,
        }
    }
    assert_eq!(world.finds(), 4_096);
    assert_eq!(refused, 20_000 - 4_095);
    told.add_permits(1);
    world.until(|counts| counts.known == Some(10)).await;
    assert_eq!(world.state("made up 19999").await, None);
    assert_eq!(world.state("2").await, Some(State::Active));
}

#[tokio::test]
async fn many_who_want_one_key_make_one_lookup() {
    let gate = Arc::new(Semaphore::new(0));
    let world = World::over(keys(2).behind(&gate)).await;
    let world = Arc::new(world);
    let wanting: Vec<_> = (0..100)
        .map(|_| {
            let world = Arc::clone(&world);
            tokio::spawn(async move { world.state("1").await })
        })
        .collect();
    while world.finds() == 0 {
        tokio::task::yield_now().await;
    }
    gate.add_permits(100);
    for one in wanting {
        assert_eq!(one.await.unwrap(), Some(State::Active));
    }
    assert_eq!(world.finds(), 1);
}

#[tokio::test]
async fn a_registry_that_does_not_answer_holds_nobody_up_for_ever() {
    let gate = Arc::new(Semaphore::new(0));
    let world = World::over(keys(2).behind(&gate)).await;
    assert_eq!(world.find("1").await.map(|_| ()), Err(Unavailable));
}

#[tokio::test]
async fn a_key_that_is_revoked_while_it_is_looked_up_is_not_kept_as_it_was() {
    let gate = Arc::new(Semaphore::new(0));
    let world = World::over(keys(2).behind(&gate)).await;
    let world = Arc::new(world);
    let wanting = Arc::clone(&world);
    let wanting = tokio::spawn(async move { wanting.state("1").await });
    // The registry has read the key as active, and its answer is on its way.
    while world.finds() == 0 {
        tokio::task::yield_now().await;
    }
    let revision = world.book.set_state("1", Life::Revoked);
    world.applied(revision).await;
    gate.add_permits(100);
    assert_eq!(wanting.await.unwrap(), Some(State::Revoked), "it was looked up again");
    assert_eq!(world.state("1").await, Some(State::Revoked));
    assert_eq!(world.finds(), 2);
}

#[tokio::test]
async fn a_record_that_cannot_be_used_here_is_no_key_until_it_changes() {
    let book = keys(1);
    book.put(countersign::registry::book::Kind::Key, "odd", ("a", None), b"{}".to_vec());
    let world = World::over(book).await;
    for _ in 0..10 {
        assert_eq!(world.state("odd").await, None);
    }
    assert_eq!(world.finds(), 1);
    let revision = world.book.put_key("odd", &record("a"));
    world.applied(revision).await;
    assert_eq!(world.state("odd").await, Some(State::Active));
}

#[tokio::test]
async fn more_keys_than_there_is_room_for_are_all_found() {
    let world = World::over(keys(5_000)).await;
    for _ in 0..2 {
        for n in 0..5_000 {
            assert_eq!(world.state(&n.to_string()).await, Some(State::Active));
        }
    }
    assert!(world.counts().held <= 1_536, "{}", world.counts().held);
}

#[tokio::test]
async fn while_the_registry_is_gone_what_is_held_is_served_and_nothing_is_asked_for() {
    let world = World::over(keys(2)).await;
    assert_eq!(world.state("0").await, Some(State::Active));
    world.book.is_down.store(true, Ordering::SeqCst);
    assert_eq!(world.find("1").await.map(|_| ()), Err(Unavailable));
    assert_eq!(world.state("0").await, Some(State::Active));
}
