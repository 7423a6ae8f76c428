//! How old the knowledge of a key may be.

use std::sync::atomic::Ordering;
use std::time::Duration;

use countersign::clock::ManualClock;
use countersign::registry::cache::KeyCache;
use countersign::registry::fixed::FixedKeys;
use countersign::registry::{Keys as _, Unavailable};
use std::sync::Arc;

use crate::book::Book;
use crate::world::{SECOND, World, open_key, record};

const STEP: Duration = Duration::from_micros(1);

fn one_key() -> Book {
    let book = Book::default();
    book.put_key("one", &record("a"));
    book
}

#[tokio::test]
async fn a_registry_that_is_gone_closes_each_route_at_its_own_age_and_no_earlier() {
    let world = World::over(one_key()).await;
    assert!(world.find("one").await.unwrap().is_some());
    world.book.is_down.store(true, Ordering::SeqCst);
    let (withdraw, trade, read) = (SECOND * 2, SECOND * 30, SECOND * 300);
    for age in [withdraw, trade, read] {
        world.set_time(age);
        assert!(world.keys.find("one", age).await.unwrap().is_some(), "{age:?}");
        world.set_time(age + STEP);
        assert_eq!(world.keys.find("one", age).await.map(|_| ()), Err(Unavailable), "{age:?}");
        if age != read {
            assert!(world.keys.find("one", read).await.unwrap().is_some(), "reads go on");
        }
    }
    // An id that does not exist is answered no differently.
    assert!(matches!(world.keys.find("two", read).await, Err(Unavailable)));
}

#[tokio::test]
async fn once_the_registry_is_back_everything_is_current_again() {
    let world = World::over(one_key()).await;
    world.book.is_down.store(true, Ordering::SeqCst);
    world.set_time(SECOND * 3);
    assert_eq!(world.keys.find("one", SECOND * 2).await.map(|_| ()), Err(Unavailable));
    world.book.is_down.store(false, Ordering::SeqCst);
    world.until(|counts| counts.age == Some(Duration::ZERO)).await;
    assert!(world.keys.find("one", SECOND * 2).await.unwrap().is_some());
}

#[tokio::test]
async fn without_a_word_from_the_registry_no_key_of_it_is_known_however_old_it_may_be() {
    let book = one_key();
    book.is_down.store(true, Ordering::SeqCst);
    let world = World::begin(book, FixedKeys::default());
    assert_eq!(world.find("one").await.map(|_| ()), Err(Unavailable));
    assert!(!world.keys.is_informed());
    assert_eq!(world.counts().age, None);
}

#[tokio::test]
async fn keys_of_the_configuration_are_always_current() {
    let book = Book::default();
    book.put_key("one", &record("a"));
    let pages = countersign::registry::book::Registry::find(
        &book,
        countersign::registry::book::Kind::Key,
        "one",
    );
    let fixed = [open_key()(&pages.await.unwrap().unwrap(), None, None, None).unwrap()];
    let (keys, _end) =
        KeyCache::over(fixed.into_iter().collect(), 10, Arc::new(ManualClock::default()));
    assert!(keys.find("one", Duration::ZERO).await.unwrap().is_some());
    assert_eq!(keys.find("two", SECOND * 300).await.map(|_| ()), Err(Unavailable));
}
