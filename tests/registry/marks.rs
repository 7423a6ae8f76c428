//! Up to where growing numbers are reserved, asked of each store.

use std::sync::Arc;

use countersign::registry::book::Registry;
use countersign::registry::embedded::Embedded;
use countersign::registry::postgres::Postgres;
use tokio_postgres::NoTls;

use super::server::{Server, blocking, open, patient};
use super::support::{key, note};

const ONE: [u8; 16] = [1; 16];
const OTHER: [u8; 16] = [0xff; 16];

async fn a_reservation_rises_when_it_is_short_and_never_falls(store: &dyn Registry) {
    assert_eq!(store.reserved(ONE).await.unwrap(), 0);
    assert_eq!(store.reserve(ONE, 0, 0).await.unwrap(), 0);
    assert_eq!(store.reserve(ONE, 10, 20).await.unwrap(), 20);
    // Enough is reserved up to 20, and no more from 21 on.
    assert_eq!(store.reserve(ONE, 20, 1_000).await.unwrap(), 20);
    assert_eq!(store.reserve(ONE, 21, 1_000).await.unwrap(), 1_000);
    assert_eq!(store.reserve(ONE, 5, 7).await.unwrap(), 1_000);
    assert_eq!(store.reserve(ONE, 1_001, 7).await.unwrap(), 1_000);
    assert_eq!(store.reserved(ONE).await.unwrap(), 1_000);
    assert_eq!(store.reserved(OTHER).await.unwrap(), 0, "each mark has its own");
    // A clock in nanoseconds.
    let nanoseconds = 1_763_000_000_000_000_123;
    assert_eq!(store.reserve(OTHER, nanoseconds, nanoseconds).await.unwrap(), nanoseconds);
    assert_eq!(store.reserved(OTHER).await.unwrap(), nanoseconds);
    assert_eq!(store.revision().await.unwrap(), 0, "the history knows nothing of it");
}

async fn whoever_reserves_at_the_same_time_is_told_no_less_than_what_was_told_before(
    store: Arc<dyn Registry>,
) {
    let all: Vec<_> = (0..8_u64)
        .map(|gateway| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let mut last = 0;
                for n in 1..=20 {
                    let wanted = n * 10 + gateway;
                    let told = store.reserve(ONE, wanted, wanted + 5).await.unwrap();
                    assert!(told >= wanted && told >= last, "{told} after {last}");
                    last = told;
                    assert!(store.reserved(ONE).await.unwrap() >= told);
                }
            })
        })
        .collect();
    for one in all {
        one.await.unwrap();
    }
    let most = store.reserved(ONE).await.unwrap();
    assert!((207..=212).contains(&most), "{most}");
}

#[tokio::test]
async fn the_embedded_registry_keeps_reservations() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("registry.redb");
    let store = Embedded::open(&file).unwrap();
    a_reservation_rises_when_it_is_short_and_never_falls(&store).await;
    drop(store);
    // They are there after a restart.
    let store = Embedded::open(&file).unwrap();
    assert_eq!(store.reserved(ONE).await.unwrap(), 1_000);
    let store = Arc::new(Embedded::in_memory().unwrap());
    whoever_reserves_at_the_same_time_is_told_no_less_than_what_was_told_before(store).await;
}

#[tokio::test]
async fn postgres_keeps_reservations() {
    let server = Server::shared();
    let (store, options) = server.registry().await;
    a_reservation_rises_when_it_is_short_and_never_falls(&store).await;
    let other = open(&options).await.unwrap();
    assert_eq!(other.reserved(ONE).await.unwrap(), 1_000, "another gateway reads the same");
    let (store, _) = server.registry().await;
    whoever_reserves_at_the_same_time_is_told_no_less_than_what_was_told_before(Arc::new(store))
        .await;
}

#[tokio::test]
async fn tables_of_the_format_before_are_brought_to_this_one_with_all_they_hold() {
    let server = Server::shared();
    let url = server.empty_database().await;
    let options = patient(&url);
    blocking(&options, |options| Postgres::migrate(&options)).await.unwrap();
    open(&options).await.unwrap().commit(vec![key("one", None)], note(1)).await.unwrap();
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    let driver = tokio::spawn(connection);
    let back = "DROP TABLE countersign.mark; UPDATE countersign.meta SET format = 2";
    client.batch_execute(back).await.unwrap();
    drop(client);
    driver.await.unwrap().unwrap();
    let refused = open(&options).await.map(drop).unwrap_err();
    assert!(refused.to_string().contains("countersign registry migrate"), "{refused}");
    let taken = blocking(&options, |options| Postgres::migrate(&options)).await.unwrap();
    assert_eq!((taken.from, taken.to, taken.steps.len()), (2, 3, 1));
    let registry = open(&options).await.unwrap();
    assert_eq!(registry.revision().await.unwrap(), 1);
    assert_eq!(registry.reserve(ONE, 1, 2).await.unwrap(), 2);
}
