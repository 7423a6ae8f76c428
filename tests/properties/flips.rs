//! No bit of what is signed or claimed can change.

use std::io::Write as _;

use countersign::dialect::{Coverage, Dialect};
use countersign::offline::Recorded;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use crate::court::Court;
use crate::signing::{Client, dialects, wish};

/// Every way to flip one bit of what is signed or claimed: the query, the body, and each credential.
fn flips(dialect: &Dialect, request: &Recorded) -> Vec<Recorded> {
    let mut all = Vec::new();
    let passes = |part| passes(dialect, part);
    let path = request.target.split('?').next().unwrap().len();
    let in_query = |place: usize| place > path && !passes("query");
    for (place, bit) in bits(&request.target).filter(|(place, _)| in_query(*place)) {
        all.extend(
            flipped(&request.target, place, bit)
                .map(|target| Recorded { target, ..request.clone() }),
        );
    }
    for (place, bit) in bits(&request.body).filter(|_| !passes("body")) {
        all.extend(
            flipped(&request.body, place, bit).map(|body| Recorded { body, ..request.clone() }),
        );
    }
    for (name, value) in
        request.headers.iter().filter(|(name, _)| *name != "host" && *name != "content-type")
    {
        for (place, bit) in bits(value) {
            all.extend(flipped(value, place, bit).map(|value| {
                let mut flipped = request.clone();
                flipped.headers.insert(name.clone(), value);
                flipped
            }));
        }
    }
    all
}

/// Whether this part goes on as it came, though unsigned, on the paths that are tried here.
fn passes(dialect: &Dialect, part: &str) -> bool {
    let here = |cover: &&Coverage| !cover.methods.contains(" under ");
    dialect.coverage().iter().filter(here).any(|cover| lets_pass(cover, part))
}

/// Whether what the recipe says of this unsigned part is that it goes on as it came.
pub(crate) fn lets_pass(cover: &Coverage, part: &str) -> bool {
    cover.unsigned.iter().any(|(name, fate)| *name == part && fate.starts_with("forwarded"))
}

fn bits(text: &str) -> impl Iterator<Item = (usize, u8)> {
    (0..text.len()).flat_map(|place| (0..8).map(move |bit| (place, bit)))
}

fn flipped(text: &str, place: usize, bit: u8) -> Option<String> {
    let mut bytes = text.as_bytes().to_vec();
    bytes[place] ^= 1 << bit;
    String::from_utf8(bytes).ok()
}

/// How many mutations are tried of each dialect: 10,000, or as many as `COUNTERSIGN_MUTATIONS` says.
fn mutations() -> u64 {
    std::env::var("COUNTERSIGN_MUTATIONS").map_or(10_000, |text| text.parse().unwrap())
}

/// Tries this many flipped bits of what one client signs, at most [`OF_EACH`] of each request, and counts those refused
/// and those that were accepted since they change nothing of what is forwarded.
fn flip(client: &Client, wanted: u64) -> (u64, u64) {
    let dialect = &client.dialect;
    let mut court = Court::of(dialect);
    let mut runner = TestRunner::deterministic();
    let (mut refused, mut alike) = (0, 0);
    for _ in 0..wanted {
        let wish = wish().new_tree(&mut runner).unwrap().current();
        let Some(request) = client.signed(&wish) else { continue };
        let forwarded = court.forwards(&request);
        assert!(forwarded.is_some(), "{request:?} {}", request.body);
        let all = flips(dialect, &request);
        let first = any::<prop::sample::Index>().new_tree(&mut runner).unwrap().current();
        let step = (all.len() / OF_EACH).max(1);
        for flipped in all.iter().skip(first.index(step)).step_by(step) {
            match court.forwards(flipped) {
                None => refused += 1,
                Some(other) => {
                    assert_eq!(Some(&other), forwarded.as_ref(), "{flipped:?} {}", flipped.body);
                    alike += 1;
                }
            }
            if refused >= wanted {
                return (refused, alike);
            }
        }
    }
    panic!("{}: only {refused} mutations", dialect.name());
}

const OF_EACH: usize = 400;

fn flip_all(clients: impl IntoIterator<Item = Client>) {
    let mut err = std::io::stderr();
    let mut all = 0;
    for client in clients {
        let (refused, alike) = flip(&client, mutations());
        all += refused;
        let (name, algorithm) = (client.dialect.name(), client.algorithm.name());
        writeln!(err, "{name} {algorithm}: {refused} flipped bits refused, {alike} of no effect")
            .unwrap();
    }
    writeln!(err, "{all} flipped bits refused in all").unwrap();
}

#[test]
fn every_flipped_bit_is_refused_or_changes_nothing() {
    flip_all(dialects().iter().map(Client::of));
}

#[test]
fn every_flipped_bit_is_refused_or_changes_nothing_under_rsa_and_ecdsa_keys() {
    let clients: Vec<_> = dialects().iter().flat_map(Client::with_costly_keys).collect();
    let all = std::env::var("COUNTERSIGN_DIALECTS").is_err();
    assert!(!all || clients.len() >= 5, "{}", clients.len());
    flip_all(clients);
}
