//! PostgreSQL that restarts, stalls, or is gone.

use std::sync::Arc;
use std::time::Duration;

use countersign::registry::book::{Kind, Registry, RegistryError};
use countersign::registry::postgres::{Options, Postgres};

use super::server::{Server, blocking, open, patient};
use super::support::{key, note, whole_history};

/// What must come comes within this many attempts, each of which has its own bound.
const ATTEMPTS: u64 = 2_000;

/// As a gateway has them: it would rather refuse than wait.
fn impatient(mut options: Options) -> Options {
    options.connect_within(Duration::from_millis(500));
    options.timeout = Duration::from_millis(500);
    options
}

/// Asks until there is an answer, and says that until then nothing but `Unavailable` came.
async fn found_again(store: &dyn Registry, id: &str) -> u64 {
    for _ in 0..ATTEMPTS {
        match store.find(Kind::Key, id).await {
            Ok(found) => return found.expect("what was written stands").version,
            Err(RegistryError::Unavailable(_)) => {}
            Err(other) => panic!("{other}"),
        }
        let _again = tokio::time::timeout(Duration::from_millis(50), store.changed(u64::MAX)).await;
    }
    panic!("the registry did not come back");
}

fn is_unavailable<T: std::fmt::Debug>(outcome: &Result<T, RegistryError>) -> bool {
    matches!(outcome, Err(RegistryError::Unavailable(_)))
}

#[tokio::test]
async fn a_server_that_restarts_at_once_is_found_again_by_itself() {
    let server = Server::start(&[]);
    let (patient, options) = server.registry().await;
    drop(patient);
    let store = open(&impatient(options)).await;
    // A busy machine may need more than one attempt to be in time.
    let store = match store {
        Ok(store) => store,
        Err(error) => panic!("{error}"),
    };
    for round in 0..3_u64 {
        store_until_written(&store, round).await;
        server.stop_immediately();
        let gone = (
            store.find(Kind::Key, "one").await,
            store.commit(vec![key("one", Some(round + 1))], note(9)).await,
            store.key_tags().await,
        );
        assert!(
            is_unavailable(&gone.0) && is_unavailable(&gone.1) && is_unavailable(&gone.2),
            "{gone:?}"
        );
        server.run();
        assert_eq!(found_again(&store, "one").await, round + 1);
    }
    assert_eq!(whole_history(&store).await.len(), 3);
}

async fn store_until_written(store: &dyn Registry, version: u64) {
    for _ in 0..ATTEMPTS {
        match store.commit(vec![key("one", (version > 0).then_some(version))], note(version)).await
        {
            // The one before it was made after all.
            Ok(_) | Err(RegistryError::Conflict { .. }) => return,
            Err(RegistryError::Unavailable(_)) => {}
            Err(other) => panic!("{other}"),
        }
    }
    panic!("the registry takes no writes again");
}

#[tokio::test]
async fn a_server_that_stalls_is_unavailable_in_time_and_good_again_when_it_goes_on() {
    let server = Server::start(&["fsync=off"]);
    let (patient, options) = server.registry().await;
    store_until_written(&patient, 0).await;
    let store = open(&impatient(options)).await.unwrap();
    assert_eq!(found_again(&store, "one").await, 1);
    server.signal("-STOP");
    // None of these would ever end by itself.
    let stalled = (
        store.find(Kind::Key, "one").await,
        store.since(0, 10).await,
        store.commit(vec![key("two", None)], note(2)).await,
        store.commit(vec![key("two", None)], note(2)).await,
    );
    store.changed(1).await;
    server.signal("-CONT");
    assert!(is_unavailable(&stalled.0) && is_unavailable(&stalled.1), "{stalled:?}");
    assert!(is_unavailable(&stalled.2) && is_unavailable(&stalled.3), "{stalled:?}");
    assert_eq!(found_again(&store, "one").await, 1);
    whole_history(&patient).await;
}

#[tokio::test]
async fn a_connection_that_the_server_ends_costs_no_answer() {
    let server = Server::shared();
    let url = server.empty_database().await;
    let options = patient(&url);
    blocking(&options, |options| Postgres::migrate(&options)).await.unwrap();
    let store = open(&options).await.unwrap();
    store.commit(vec![key("one", None)], note(1)).await.unwrap();
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    let driver = tokio::spawn(connection);
    for version in 1..10 {
        let ended = client
            .query(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                 WHERE datname = current_database() AND application_name = 'countersign'",
                &[],
            )
            .await
            .unwrap();
        assert!(!ended.is_empty());
        assert_eq!(store.find(Kind::Key, "one").await.unwrap().unwrap().version, version);
        store.commit(vec![key("one", Some(version))], note(version)).await.unwrap();
    }
    drop(client);
    driver.await.unwrap().unwrap();
}

#[tokio::test]
async fn one_gateways_change_wakes_the_others() {
    let server = Server::shared();
    let (first, options) = server.registry().await;
    let second = open(&options).await.unwrap();
    for number in 1..=20_u64 {
        let writer: &dyn Registry = if number % 2 == 0 { &first } else { &second };
        let reader: &dyn Registry = if number % 2 == 0 { &second } else { &first };
        writer.commit(vec![key(&number.to_string(), None)], note(number)).await.unwrap();
        for _ in 0..ATTEMPTS {
            reader.changed(number - 1).await;
            if reader.since(number - 1, 10).await.unwrap().len() == 1 {
                break;
            }
        }
        assert_eq!(reader.revision().await.unwrap(), number);
    }
}

#[tokio::test]
async fn several_gateways_that_write_at_once_leave_no_gap() {
    let server = Server::shared();
    let (first, options) = server.registry().await;
    let stores = [
        Arc::new(first),
        Arc::new(open(&options).await.unwrap()),
        Arc::new(open(&options).await.unwrap()),
    ];
    let tasks: Vec<_> = (0..12_usize)
        .map(|number| {
            let store = Arc::clone(&stores[number % stores.len()]);
            tokio::spawn(async move {
                for version in 0..20 {
                    let write = key(&number.to_string(), (version > 0).then_some(version));
                    store.commit(vec![write], note(version)).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(whole_history(&*stores[0]).await.len(), 240);
    assert_eq!(stores[1].revision().await.unwrap(), 240);
}
