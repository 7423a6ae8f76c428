//! A gateway that is cut off from PostgreSQL: each class of route closes at its own age, and no other gateway does.

use std::time::{Duration, Instant};

use http::Method;

use super::client::{Client, Signatory};
use super::site::Site;
use super::wire::Way;
use crate::server::Server;
use crate::support::say;

const WITHDRAWALS: Duration = Duration::from_secs(2);
/// As the configuration of these gateways has it.
const TRADES: Duration = Duration::from_secs(3);

/// How long after the cut the last request was accepted, and the first one refused, for each class.
#[derive(Debug, Default)]
struct Class {
    last_accepted: Option<Duration>,
    first_refused: Option<Duration>,
}

fn cut_off(way: Way) {
    let site = Site::over_postgres(2, Server::shared());
    let (id, secret) = site.issue(&["read", "trade", "withdraw"]);
    site.confirmed();
    let signatory = Signatory::of([(&*id, &*secret)]);
    let mut clients: Vec<_> =
        site.gateways.iter().map(|one| Client::to(one.service.listeners[0])).collect();
    let routes = [
        (Method::POST, "/withdraw", Some(WITHDRAWALS)),
        (Method::POST, "/order", Some(TRADES)),
        (Method::GET, "/orders", None),
    ];
    for client in &mut clients {
        for (method, path, _) in &routes {
            assert_eq!(client.send(&signatory, &id, (method, path)), Some(200), "{path}");
        }
    }
    let wire = site.gateways[1].wire.as_ref().unwrap();
    wire.set(way);
    let cut = Instant::now();
    let mut classes = [const { Class { last_accepted: None, first_refused: None } }; 3];
    while cut.elapsed() < TRADES + Duration::from_millis(500) {
        for ((method, path, age), class) in routes.iter().zip(&mut classes) {
            let sent = cut.elapsed();
            match clients[1].send(&signatory, &id, (method, path)) {
                Some(200) => {
                    class.last_accepted = Some(sent);
                    // Nothing can have been known later than the cut.
                    assert!(age.is_none_or(|age| sent <= age), "{path} after {sent:?}");
                }
                Some(503) if age.is_some() => drop(class.first_refused.get_or_insert(sent)),
                other => panic!("{path}: {other:?} after {sent:?}"),
            }
            // A machine that stalls for seconds may close it for a moment; one that was cut off would stay closed.
            super::site::until("the other gateway serves", || {
                clients[0].send(&signatory, &id, (method, path)) == Some(200)
            });
        }
    }
    say(&format!("{way:?} for {:?}: {classes:?}", cut.elapsed()));
    let [withdrawals, trades, reads] = &classes;
    assert!(withdrawals.first_refused.is_some() && trades.first_refused.is_some());
    assert!(trades.last_accepted > withdrawals.last_accepted && reads.first_refused.is_none());
    wire.set(Way::Open);
    super::site::until("it is current again", || {
        clients[1].send(&signatory, &id, (&Method::POST, "/withdraw")) == Some(200)
    });
    site.end();
}

#[test]
fn a_gateway_whose_connections_are_closed_refuses_each_class_at_its_own_age() {
    cut_off(Way::Cut);
}

#[test]
fn a_gateway_whose_registry_says_nothing_any_more_refuses_each_class_at_its_own_age() {
    cut_off(Way::Silent);
}
