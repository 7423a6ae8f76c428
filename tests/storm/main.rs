//! The storm: three gateways as real processes over real Redis, honest clients, an attacker who repeats everything, and
//! one fault after another. A checker reads what reached the backend.
//!
//! `cargo test --release --test storm` takes about a minute; `COUNTERSIGN_STORM_SECONDS` makes it longer or shorter, and
//! `COUNTERSIGN_STORM_SEED` repeats a run's dice.
#![cfg(feature = "server")]
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::wildcard_enum_match_arm,
    clippy::panic,
    reason = "a panic is how a test fails, and this one tells its figures"
)]

mod backend;
mod checker;
mod clients;
#[path = "../support/cluster.rs"]
mod cluster;
mod controls;
mod dice;
#[path = "../support/fault_proxy.rs"]
mod fault_proxy;
#[path = "../support/free_port.rs"]
mod free_port;
mod gateway;
mod nemesis;
mod phases;
#[expect(dead_code, reason = "other tests ask more of it")]
#[path = "../registry/server.rs"]
mod postgres;
mod redis_server;
mod restarts;
mod traffic;
mod world;

use std::time::Duration;

use countersign::clock::{Clock, SystemClock};
use phases::{Figures, Pace, Terms};
use world::Topology;

fn main() {
    // Somebody runs other tests by their name.
    let mut wanted = std::env::args().skip(1).filter(|argument| !argument.starts_with('-'));
    let is_listed = std::env::args().any(|argument| argument == "--list");
    if is_listed || wanted.any(|name| !"storm".contains(&name)) {
        return;
    }
    let number = |name: &str| std::env::var(name).ok().map(|value| value.parse::<u64>().unwrap());
    let quick = cfg!(debug_assertions);
    let seconds = number("COUNTERSIGN_STORM_SECONDS").unwrap_or(if quick { 20 } else { 60 });
    let seed = number("COUNTERSIGN_STORM_SEED").unwrap_or_else(|| SystemClock::start().now().0);
    println!("storm: {seconds} s; to repeat it: COUNTERSIGN_STORM_SEED={seed}");
    let all = Duration::from_secs(seconds);
    let terms = Terms { quick, seed, longest: if seconds >= 300 { 6_000 } else { 2_500 } };

    controls::refused_over_redis();
    controls::run(&terms);
    restarts::run(&terms, if quick { 6 } else { 20 });
    let (apart, at_once) = (Pace::Apart, Pace::AtOnce);
    let three = Topology::Independent(3);
    let one = phases::storm(&terms, "one server", Topology::Independent(1), apart, all / 4);
    let quorum = phases::storm(&terms, "quorum of 3", three, apart, all / 3);
    let rough = phases::storm(&terms, "quorum of 3, faults at once", three, at_once, all / 4);
    let cluster = phases::storm(&terms, "cluster of 6", Topology::Cluster, apart, all / 3);
    let wild =
        phases::storm(&terms, "cluster of 6, faults at once", Topology::Cluster, at_once, all / 4);

    let each = [&one, &quorum, &rough, &cluster, &wild];
    let sum = |of: fn(&Figures) -> usize| each.into_iter().map(of).sum::<usize>();
    let line = format!(
        "storm: attempts={} accepted_twice={} late={} over_limit={} honest_served_percent={:.2} faults={}",
        sum(|figures| figures.attempts),
        sum(|figures| figures.verdicts.accepted_twice),
        sum(|figures| figures.verdicts.late),
        sum(|figures| figures.verdicts.over_limit),
        quorum.percent(),
        sum(|figures| figures.faults),
    );
    let is_good = each.iter().all(|figures| figures.holds());
    // A build that is not optimised, among other tests, answers late more often than a server stands still.
    let least = if quick { 90.0 } else { 98.0 };
    let is_served = quorum.percent() > least;
    if !is_served {
        println!("of a quorum more than {least} % must be served");
    }
    println!("{line}");
    assert!(is_good && is_served, "the storm got through");
}
