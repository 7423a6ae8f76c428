//! How soon a new key is good, on every gateway.

use std::time::{Duration, Instant};

use http::Method;

use super::client::{Client, Signatory};
use super::site::Site;
use crate::server::Server;
use crate::support::say;

const ISSUES: usize = 10;

/// For each gateway, from the moment the key was asked for to the first answer that accepts it.
fn issue_and_use(site: &Site) -> (Duration, Vec<Duration>) {
    let began = Instant::now();
    let (id, secret) = site.issue(&["read"]);
    let issued = began.elapsed();
    let signatory = Signatory::of([(&*id, &*secret)]);
    let (id, signatory) = (&*id, &signatory);
    let first = std::thread::scope(|scope| {
        let asked: Vec<_> = site
            .gateways
            .iter()
            .map(|one| {
                let mut client = Client::to(one.service.listeners[0]);
                scope.spawn(move || {
                    super::site::until("the key is good", || {
                        client.send(signatory, id, (&Method::GET, "/orders")) == Some(200)
                    });
                    began.elapsed()
                })
            })
            .collect();
        asked.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    (issued, first)
}

fn tell(name: &str, site: &Site) {
    for number in 0..ISSUES {
        let (issued, first) = issue_and_use(site);
        let slowest = first.iter().max().unwrap();
        say(&format!(
            "{name}, issue {number}: answered after {issued:.1?}; first accepted after {first:.1?} on each gateway, \
             {:.1?} after the answer on the slowest",
            slowest.saturating_sub(issued)
        ));
    }
}

#[test]
fn a_new_key_is_good_on_three_gateways_over_postgresql() {
    let site = Site::over_postgres(3, Server::shared());
    tell("postgresql", &site);
    site.end();
}

#[test]
fn a_new_key_is_good_on_the_gateway_with_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let site = Site::over_file(&directory.path().join("registry.redb"));
    tell("file", &site);
    site.end();
}
