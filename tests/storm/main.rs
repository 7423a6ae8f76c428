//! The storm: three gateways as real processes over real Redis, honest clients, an attacker who repeats everything, and
//! one fault after another. A checker reads what reached the backend.
//!
//! `cargo test --release --test storm`: controls, twenty restarts, then a minute of faults over every topology.
//! `COUNTERSIGN_STORM_SECONDS` makes that minute longer or shorter, and `COUNTERSIGN_STORM_SEED` repeats a run's dice.
#![cfg(feature = "server")]
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::wildcard_enum_match_arm,
    clippy::panic,
    reason = "a panic is how a test fails, and this one tells its figures"
)]

mod alone;
mod backend;
mod checker;
mod clients;
#[path = "../support/cluster.rs"]
mod cluster;
mod controls;
mod dice;
mod disguise;
#[path = "../support/faketime.rs"]
mod faketime;
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
mod recovery;
mod redis_server;
mod report;
mod restarts;
mod settings;
mod sight;
mod traffic;
mod witness;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use countersign::clock::{Clock, SystemClock};
use dice::Dice;
use phases::{Pace, Storm, Terms};
use report::{ONE, QUORUM, Report};
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
    let report = Report::new();
    let longest = if seconds >= 300 { 6_000 } else { 2_500 };
    let terms = Terms { quick, seed, longest, report: &report };
    let holds = std::thread::scope(|scope| {
        scope.spawn(|| report.tell_now_and_then());
        all(&terms, seconds);
        report.end();
        let says = verdict(&terms, seconds);
        for wrong in &says {
            println!("wrong: {wrong}");
        }
        report.tell();
        says.is_empty()
    });
    assert!(holds, "the storm got through");
}

/// What is shown before, then the storms.
fn all(terms: &Terms<'_>, seconds: u64) {
    if is_wanted(CONTROLS) {
        attempt(terms, CONTROLS, || {
            sight::try_all();
            controls::refused_over_redis();
            controls::run(terms);
        });
    }
    let times = if terms.quick { 6 } else { 20 };
    if is_wanted(RESTARTS) {
        attempt(terms, RESTARTS, || restarts::run(terms, times));
    }

    let mut storms = storms();
    storms.retain(|(_, storm)| is_wanted(storm.name));
    let whole: u32 = storms.iter().map(|(part, _)| part).sum();
    let mut seeds = Dice(terms.seed);
    // Each begins afresh now and then, so that its record does not grow without end.
    let rounds = u32::try_from(seconds.div_ceil(ROUND)).unwrap().max(1);
    for _ in 0..rounds {
        for (part, storm) in &storms {
            let span = Duration::from_secs(seconds) * *part / whole / rounds;
            let seed = seeds.next();
            attempt(terms, storm.name, || storm.pass(terms, seed, span));
        }
    }
}

/// Each with the part of the time that it has, of all that are wanted.
fn storms() -> Vec<(u32, Storm)> {
    let (apart, at_once) = (Pace::Apart, Pace::AtOnce);
    let (three, five) = (Topology::Independent(3), Topology::Independent(5));
    vec![
        (15, Storm::new(ONE, Topology::Independent(1), apart)),
        (25, Storm::new(QUORUM, three, apart)),
        (15, Storm::new("quorum of 3, faults at once", three, at_once)),
        (10, Storm::new("quorum of 5", five, at_once)),
        (20, Storm::new("cluster of 6", Topology::Cluster, apart)),
        (15, Storm::new("cluster of 6, faults at once", Topology::Cluster, at_once)),
    ]
}

/// Whether the environment asks for what is called so, or for all.
fn is_wanted(stage: &str) -> bool {
    wanted().is_none_or(|names| names.iter().any(|name| name == stage))
}

/// What the environment asks for and is not there.
fn unknown() -> Vec<String> {
    let mut unknown = wanted().unwrap_or_default();
    let storms: Vec<_> = storms().into_iter().map(|(_, storm)| storm.name).collect();
    unknown.retain(|name| ![CONTROLS, RESTARTS].contains(&&**name) && !storms.contains(&&**name));
    unknown
}

fn wanted() -> Option<Vec<String>> {
    std::env::var(ONLY).ok().map(|names| names.split(';').map(str::to_owned).collect())
}

/// The names of what is to be done, with semicolons between them.
const ONLY: &str = "COUNTERSIGN_STORM_ONLY";
const CONTROLS: &str = "controls";
const RESTARTS: &str = "rolling restart";

/// Whatever fails in it, what comes later is done, and the figures are told.
fn attempt(terms: &Terms<'_>, stage: &'static str, run: impl FnOnce()) {
    terms.report.set_stage(stage);
    if catch_unwind(AssertUnwindSafe(run)).is_err() {
        terms.report.broke(stage);
    }
}

/// The longest that all storms may take together before they begin afresh, in seconds.
const ROUND: u64 = 600;

/// What is not as it should be.
fn verdict(terms: &Terms<'_>, seconds: u64) -> Vec<String> {
    let report = terms.report;
    // A build that is not optimised, among other tests, answers late more often than a server stands still.
    let least = if terms.quick { 90.0 } else { 98.0 };
    let told = [
        (unknown().is_empty(), format!("{ONLY} names what is not there: {:?}", unknown())),
        (report.broken().is_empty(), format!("did not come to an end: {}", report.broken())),
        (report.holds(), "something passed that should not, or was refused in calm".to_owned()),
        (
            !is_wanted(QUORUM) || report.percent() > least,
            format!("of a quorum more than {least} % must be served"),
        ),
        (
            terms.quick
                || [ONE, QUORUM].into_iter().all(|name| !is_wanted(name) || report.recovers(name)),
            "after a fault was set right it took more than two seconds until all were served"
                .to_owned(),
        ),
        (
            seconds < 60 || !is_wanted(QUORUM) || report.alone().unasked > 0,
            "nothing was judged alone, so nothing is known of that".to_owned(),
        ),
    ];
    told.into_iter().filter(|(is_so, _)| !is_so).map(|(_, wrong)| wrong).collect()
}
