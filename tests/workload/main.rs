//! Something of everything that a gateway does, over sockets: every dialect under every algorithm, in plain, over TLS and
//! HTTP/2, with wrong requests among them, on records in memory and on Redis with an audit trail.
//!
//! As a test it shows that each is answered as it must be. `packaging/build` runs it longer over a build that counts what
//! runs how often, so that the next one is laid out for that: `COUNTERSIGN_PROGRAM` names the program, and
//! `COUNTERSIGN_WORKLOAD_REQUESTS` how many requests each case has.
#![cfg(feature = "server")]
#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic is how a test fails"
)]

mod cases;
#[path = "../support/example.rs"]
mod example;
#[path = "../support/free_port.rs"]
mod free_port;
#[expect(dead_code, reason = "other tests use keys that are wrong as well")]
#[path = "../support/keys.rs"]
mod keys;
mod program;
mod settings;

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use countersign::clock::{Clock, SystemClock};
use countersign::load::{self, Mix, Options, Target, Template, Unique};

use cases::Case;
use program::{Gateway, Redis};
use settings::Store;

/// How requests travel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Wire {
    Plain,
    Tls,
    Http2,
}

/// How many requests each case has over each wire.
fn requests() -> u64 {
    let asked = std::env::var("COUNTERSIGN_WORKLOAD_REQUESTS");
    asked.map_or(20, |asked| asked.parse().unwrap())
}

#[test]
fn every_dialect_is_served_on_records_in_memory() {
    let cases = cases::all();
    pass(&cases, &Store::Memory);
}

#[test]
fn every_dialect_that_signs_a_time_is_served_on_redis_with_an_audit_trail() {
    let redis = Redis::start();
    let mut cases = cases::all();
    cases.retain(Case::signs_time);
    pass(&cases, &Store::Redis(redis.port));
}

/// All cases over all wires, one after the other.
fn pass(cases: &[Case], store: &Store) {
    let gateway = Gateway::start(cases, store);
    for (place, case) in cases.iter().enumerate() {
        until_accepted(case, &gateway, place);
        let wires = [Wire::Plain, Wire::Tls, Wire::Http2];
        for wire in wires.into_iter().filter(|wire| case.travels(*wire)) {
            next_millisecond();
            let report = load::run(options(case, &gateway, place, wire)).unwrap();
            assert!(report.is_fine(), "{}, {wire:?}: {report}", case.name());
            assert_eq!(report.requests, case.share(requests()), "{}: {report}", case.name());
        }
        refuse_strangers(case, &gateway, place);
    }
    gateway.end();
}

/// Keys that nobody has are refused as wrong signatures are. A build that never saw one would lay their way out as the
/// slower.
fn refuse_strangers(case: &Case, gateway: &Gateway, place: usize) {
    let report = load::run(Options {
        keys: case.strangers(),
        mix: "bad-sig=1".parse().unwrap(),
        count: Some(case.share(requests()).div_ceil(4)),
        ..options(case, gateway, place, Wire::Tls)
    });
    let report = report.unwrap();
    assert!(report.is_fine(), "{}, unknown keys: {report}", case.name());
}

/// A deadline may have been signed before the gateway began: waits until it cannot.
fn until_accepted(case: &Case, gateway: &Gateway, place: usize) {
    let begun = Instant::now();
    let one = || Options {
        count: Some(1),
        mix: Mix::valid(),
        ..options(case, gateway, place, Wire::Tls)
    };
    loop {
        let report = load::run(one()).unwrap();
        if report.is_fine() {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{}: {report}", case.name());
    }
}

/// Each run has a clock of its own: numbers that count milliseconds go on in the next.
fn next_millisecond() {
    let clock = SystemClock::start();
    let now = clock.now().as_millis();
    while clock.now().as_millis() == now {
        std::thread::yield_now();
    }
}

fn options(case: &Case, gateway: &Gateway, place: usize, wire: Wire) -> Options {
    let (plain, tls) = gateway.addresses[place];
    let url = match wire {
        Wire::Plain => format!("http://{plain}"),
        Wire::Tls | Wire::Http2 => format!("https://{tls}"),
    };
    let is_http2 = matches!(wire, Wire::Http2);
    let template = |(request, body): (String, String)| Template::parse(&request, &body).unwrap();
    Options {
        target: Target::parse(&url, Some(gateway.certificate.as_bytes()), is_http2, false).unwrap(),
        dialect: case.dialect(),
        keys: case.client_keys(),
        requests: case.requests().into_iter().map(template).collect(),
        unique: Unique::Param,
        rate: None,
        connections: NonZeroUsize::new(case.connections()).unwrap(),
        threads: NonZeroUsize::MIN,
        duration: None,
        count: Some(case.share(requests())),
        warmup: Duration::ZERO,
        timeout: Duration::from_mins(1),
        mix: case.mix().parse::<Mix>().unwrap(),
    }
}
