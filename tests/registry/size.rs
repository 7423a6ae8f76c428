//! A million keys: how long a start takes, how much room they need, and how fast one is found. Prints what it measures:
//!
//! ```text
//! cargo test --release --test registry a_million -- --ignored --nocapture --test-threads 1
//! ```

use std::path::Path;
use std::time::{Duration, Instant};

use countersign::registry::book::{Kind, Registry, Write};
use countersign::registry::embedded::Embedded;

use super::program::Gateway;
use super::server::{Server, open};
use super::support::{note, say};

const KEYS: usize = 1_000_000;
const FINDS: usize = 20_000;
/// Keys that one commit makes.
const TOGETHER: usize = 2_000;

#[tokio::test]
#[ignore = "it measures, and takes minutes"]
async fn a_million_keys_in_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("registry.redb");
    let store = Embedded::open(&path).unwrap();
    fill(&store, "file").await;
    drop(store);
    let began = Instant::now();
    let store = Embedded::open(&path).unwrap();
    started(&store, "file", began).await;
    say(&format!("file: {} bytes per key", bytes_below(&path) / KEYS as u64));
    finds(&store, "file").await;
    drop(store);
    serve(directory.path(), "file", "path = \"registry.redb\"");
}

#[tokio::test]
#[ignore = "it measures, and takes minutes"]
async fn a_million_keys_in_postgresql() {
    let server = Server::start(&["shared_buffers=256MB"]);
    let (store, options) = server.registry().await;
    let url = server.url("db0");
    fill(&store, "postgresql").await;
    drop(store);
    let began = Instant::now();
    let store = open(&options).await.unwrap();
    started(&store, "postgresql", began).await;
    say(&format!(
        "postgresql: {} bytes per key, with its log",
        bytes_below(&server.data()) / KEYS as u64
    ));
    finds(&store, "postgresql").await;
    drop(store);
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("url"), url).unwrap();
    serve(directory.path(), "postgresql", "kind = \"postgres\"\nurl = { file = \"url\" }");
}

/// The whole program, from its start to readiness, as often as it takes to see what is usual.
fn serve(directory: &Path, name: &str, registry: &str) {
    let config = directory.join("gateway.toml");
    std::fs::write(&config, format!("{CONFIG}\n[registry]\n{registry}\n")).unwrap();
    for _ in 0..STARTS {
        let gateway = Gateway::start(&config);
        say(&format!("{name}: ready {:?} after the start of the process", gateway.ready()));
    }
}

const STARTS: usize = 5;
const CONFIG: &str = r#"
version = 1
[[listener]]
name = "public"
address = "127.0.0.1:0"
[admin]
address = "127.0.0.1:0"
[audit]
enabled = false
[[upstream]]
name = "exchange"
backends = ["127.0.0.1:9"]
identity_key = "none"
[[route]]
name = "orders"
methods = ["GET"]
path = "/orders"
upstream = "exchange"
dialect = "binance"
permission = "read"
"#;

async fn fill(store: &dyn Registry, name: &str) {
    let began = Instant::now();
    for first in (0..KEYS).step_by(TOGETHER) {
        if first > 0 && first.is_multiple_of(KEYS / 10) {
            say(&format!("{name}: {first} keys made in {:?}", began.elapsed()));
        }
        let writes = (first..first + TOGETHER).map(|number| record(number, None)).collect();
        store.commit(writes, note(0)).await.unwrap();
    }
    say(&format!("{name}: {KEYS} keys made in {:?}", began.elapsed()));
    let began = Instant::now();
    for first in (0..KEYS / 10).step_by(500) {
        let writes = (first..first + 500).map(|number| record(number, Some(1))).collect();
        store.commit(writes, note(1)).await.unwrap();
    }
    say(&format!("{name}: {} keys changed in {:?}, 500 at a time", KEYS / 10, began.elapsed()));
}

/// As the registrar's look: spread over all ids, with a sealed secret in it.
fn record(number: usize, replaces: Option<u64>) -> Write {
    Write {
        kind: Kind::Key,
        id: id(number),
        replaces,
        account: Some(format!("account-{}", number / 10)),
        application: (number.is_multiple_of(10)).then(|| "bot".to_owned()),
        body: format!("{{\"number\":{number},\"filler\":\"{}\"}}", "x".repeat(600)).into_bytes(),
    }
}

fn id(number: usize) -> String {
    format!("csk_{:016x}{number:016}", (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

async fn started(store: &dyn Registry, name: &str, began: Instant) {
    let opened = began.elapsed();
    let (tags, _) = store.key_tags().await.unwrap();
    assert_eq!(tags.len(), KEYS);
    say(&format!(
        "{name}: open after {opened:?}, with the tags of all keys after {:?}",
        began.elapsed()
    ));
}

async fn finds(store: &dyn Registry, name: &str) {
    let mut took: Vec<Duration> = Vec::with_capacity(FINDS);
    for number in 0..FINDS {
        let id = id(number.wrapping_mul(7_919) % KEYS);
        let began = Instant::now();
        assert!(store.find(Kind::Key, &id).await.unwrap().is_some());
        took.push(began.elapsed());
    }
    took.sort();
    let at = |per_mille: usize| took[FINDS * per_mille / 1_000];
    say(&format!(
        "{name}: a key is found in p50 {:?}, p99 {:?}, p99.9 {:?}",
        at(500),
        at(990),
        at(999)
    ));
}

fn bytes_below(path: &Path) -> u64 {
    if path.is_file() {
        return path.metadata().unwrap().len();
    }
    std::fs::read_dir(path).unwrap().map(|entry| bytes_below(&entry.unwrap().path())).sum()
}
