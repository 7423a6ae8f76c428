//! The tables of PostgreSQL are made by the operator's command, once, and never by a gateway.

use countersign::registry::book::{Registry as _, RegistryError};
use countersign::registry::postgres::Postgres;
use tokio_postgres::NoTls;

use super::server::{Server, blocking, open, patient};

#[tokio::test]
async fn a_gateway_makes_no_tables_but_says_who_does() {
    let server = Server::shared();
    let options = patient(&server.empty_database().await);
    let refused = open(&options).await.unwrap_err();
    let RegistryError::Format(why) = &refused else { panic!("{refused}") };
    assert!(why.contains("countersign registry migrate"), "{why}");
    assert_eq!(blocking(&options, |options| Postgres::format(&options)).await.unwrap(), (0, 3));
    let made = blocking(&options, |options| Postgres::migrate(&options)).await.unwrap();
    assert_eq!((made.from, made.to, made.steps.len()), (0, 3, 3));
    assert_eq!(blocking(&options, |options| Postgres::format(&options)).await.unwrap(), (3, 3));
    let again = blocking(&options, |options| Postgres::migrate(&options)).await.unwrap();
    assert_eq!((again.from, again.to, again.steps.len()), (3, 3, 0));
    assert_eq!(open(&options).await.unwrap().revision().await.unwrap(), 0);
}

#[tokio::test]
async fn several_who_migrate_at_once_take_each_step_once() {
    let server = Server::shared();
    let options = patient(&server.empty_database().await);
    let all: Vec<_> = (0..6)
        .map(|_| {
            let options = options.clone();
            tokio::task::spawn_blocking(move || Postgres::migrate(&options).unwrap())
        })
        .collect();
    let mut taken = 0;
    for one in all {
        taken += one.await.unwrap().steps.len();
    }
    assert_eq!(taken, 3);
}

#[tokio::test]
async fn tables_of_a_newer_format_are_refused_and_never_taken_back() {
    let server = Server::shared();
    let url = server.empty_database().await;
    let options = patient(&url);
    blocking(&options, |options| Postgres::migrate(&options)).await.unwrap();
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    let driver = tokio::spawn(connection);
    client.batch_execute("UPDATE countersign.meta SET format = 4").await.unwrap();
    for refused in [
        open(&options).await.map(drop).unwrap_err(),
        blocking(&options, |options| Postgres::migrate(&options)).await.map(drop).unwrap_err(),
    ] {
        let RegistryError::Format(why) = &refused else { panic!("{refused}") };
        assert!(why.contains("newer countersign"), "{why}");
    }
    let row = client.query_one("SELECT format FROM countersign.meta", &[]).await.unwrap();
    assert_eq!(row.get::<_, i32>(0), 4);
    drop(client);
    driver.await.unwrap().unwrap();
}
