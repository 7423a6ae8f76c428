//! One server under two names: it has one vote, and whoever configured that is told.

use std::sync::Arc;

use countersign::clock::SystemClock;
use countersign::store::redis::{Address, Options, RedisStore, Trouble, Weakened};
use countersign::store::{Store, Verdict};
use redis::Client;

use crate::server::RedisServer;
use crate::{charge, local, options, past_fence};

/// A quorum of a server, the same by its host's name, and another.
fn quorum(
    server: &RedisServer,
    other: &RedisServer,
    counts_twins: bool,
) -> Arc<RedisStore<SystemClock>> {
    let name = format!("localhost:{}", server.port);
    let client = Client::open(format!("redis://{name}")).unwrap();
    let mut options = options(&[server, other]);
    options.servers.insert(1, Address { name, client });
    let weakened = Weakened { counts_twins, ..Weakened::default() };
    let options = Options { weakened, ..options };
    Arc::new(RedisStore::new(options, local(), SystemClock::start()).unwrap())
}

#[tokio::test]
async fn one_server_under_two_names_has_one_vote() {
    let (server, mut other) = (RedisServer::start(&[]), RedisServer::start(&[]));
    let twin = format!("localhost:{}", server.port);
    let store = quorum(&server, &other, false);
    // However often they are looked at.
    for _ in 0..3 {
        assert_eq!(store.look().await, [(twin.clone(), Trouble::Twin)]);
    }
    let cure = Trouble::Twin.to_string();
    assert!(cure.contains("give each vote a server of its own"), "{cure}");
    past_fence().await;
    assert!(store.is_usable());
    assert!(matches!(store.spend(&charge(1)).await, Verdict::New(_)));
    // With the other gone there is no majority, whatever the number of names.
    other.kill();
    let troubles = store.look().await;
    assert!(
        matches!(&*troubles, [(name, Trouble::Twin), (_, Trouble::Unreachable(_))] if *name == twin),
        "{troubles:?}"
    );
    assert!(!store.is_usable());
    assert_eq!(store.spend(&charge(2)).await, Verdict::Unavailable);
}

#[tokio::test]
async fn without_that_one_server_is_a_majority_of_three() {
    let (server, mut other) = (RedisServer::start(&[]), RedisServer::start(&[]));
    other.kill();
    let store = quorum(&server, &other, true);
    assert_eq!(store.look().await.len(), 1);
    past_fence().await;
    assert!(store.is_usable());
    assert!(matches!(store.spend(&charge(1)).await, Verdict::New(_)));
}

#[tokio::test]
async fn a_restart_makes_no_second_vote() {
    let (mut server, other) = (RedisServer::start(&[]), RedisServer::start(&[]));
    let twin = format!("localhost:{}", server.port);
    let store = quorum(&server, &other, false);
    assert_eq!(store.look().await.len(), 1);
    // A process that is started anew is another one, and still one.
    server.restart();
    let troubles = store.look().await;
    assert_eq!(troubles, [(twin, Trouble::Twin)]);
}
