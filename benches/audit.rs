//! What a record of a request costs: processor time of the worker that tells it, and of the whole process, writing,
//! linking and syncing included. It prints both; there is nothing to compare them with but the request itself.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench prints, and a panic is how it fails"
)]

use std::net::Ipv4Addr;
use std::sync::Arc;

use countersign::audit::{Ending, Request, Rules, Trail};
use countersign::clock::{Clock as _, SystemClock};
use countersign::denial::Shadowed;
use countersign::gateway::observe::Outcome;
use countersign::key::{Algorithm, Allowlist, Key, Permissions, Secret, State, Tag, Venue};
use countersign::metrics::{Labels, Metrics};
use http::{Method, StatusCode};

const RECORDS: u64 = 1_000_000;

fn main() {
    let dir = tempfile::tempdir().unwrap();
    let labels = Labels { routes: &[], upstreams: &[], dialects: &[], stores: &[], listeners: &[] };
    let meter = Metrics::new(&labels).unwrap().audit().clone();
    let clock = Arc::new(SystemClock::start());
    let routes: Arc<[Arc<str>]> = Arc::from([Arc::from("order-place")]);
    let keys: Vec<_> = (0..1_000).map(key).collect();
    let trail = Trail::start(Rules::of(dir.path().into()), routes, clock.clone(), meter).unwrap();
    let recorder = trail.recorder();
    let before = (on_cpu("/proc/thread-self/schedstat"), of_process());
    for (n, key) in (0..RECORDS).zip(keys.iter().cycle()) {
        let request = Request {
            at: clock.now(),
            id: "018bcfe5-687b-7000-8000-0123456789ab",
            key,
            peer: Ipv4Addr::new(203, 0, 113, 7).into(),
            route: 0,
            method: &Method::POST,
            path: "/api/v3/order",
            signed: true,
        };
        let (outcome, status) = (Outcome::Forwarded, Some(StatusCode::OK));
        recorder.ended(
            &request,
            Ending {
                outcome,
                unheard: None,
                denial: None,
                shadowed: Shadowed::default(),
                is_local: false,
                status,
                took: 812,
            },
        );
        recorder.settle();
        if n % 4_096 == 0 {
            // As fast as it is written, so that nothing is dropped.
            recorder.flush();
            trail.settle();
        }
    }
    let worker = on_cpu("/proc/thread-self/schedstat") - before.0;
    drop(recorder);
    trail.close();
    let whole = of_process() - before.1;
    println!("{} ns a record on the worker, {} ns in all", worker / RECORDS, whole / RECORDS);
}

/// Nanoseconds on a processor.
fn on_cpu(file: &str) -> u64 {
    let text = std::fs::read_to_string(file).unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

/// The same of all threads that are alive, and of those that have ended: in ticks of 10 ms.
fn of_process() -> u64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let (_, rest) = text.rsplit_once(") ").unwrap();
    rest.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap() * 10_000_000).sum()
}

fn key(number: u32) -> Key {
    let id = format!("csk_{number:032}");
    Key {
        tag: Tag::of(&id),
        id: id.into(),
        account: format!("account-{number}").into(),
        account_tag: Tag::of("account"),
        venue: Venue("main".into()),
        dialect: "binance".into(),
        secret: Secret::read(Algorithm::HmacSha256, &[7; 32]).unwrap(),
        passphrase: None,
        permissions: Permissions::NONE,
        allowlist: Allowlist::default(),
        state: State::Active,
        expires: None,
        limits: Arc::from([]),
        epoch: 0,
        bindings: None,
    }
}
