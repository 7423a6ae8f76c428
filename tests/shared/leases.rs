//! For whom a lease is waited: for whoever goes by a primary that was replaced, and for nobody where a primary forgot and
//! is the primary still.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use countersign::store::redis::{Local, Options, Topology, Weakened};
use countersign::store::{Charge, SignedTime, Store as _, Verdict};

use crate::fault_proxy::{FaultProxy, Mode};
use crate::members::{Gateway, LEASE, accounts_of, fence, fresh};
use crate::nodes::Nodes;
use crate::{BOUND, SKEW, now};

#[tokio::test]
async fn a_primary_that_forgot_is_asked_again_without_a_lease() {
    let mut nodes = Nodes::start();
    let (first, second) = (Gateway::start(&nodes), Gateway::start(&nodes));
    let (mine, yours) = (accounts_of(0)[0], accounts_of(1)[0]);
    for gateway in [&first, &second] {
        gateway.until_served(&[mine, yours]).await;
    }
    let flushed = first.passes(mine).await;
    nodes.all[0].run(&["FLUSHALL"]);
    no_lease_is_waited_for(&second, mine).await;
    assert!(!first.ever_accepts(&flushed, fence()).await);
    assert!(!second.ever_accepts(&flushed, fence()).await);

    let lost = first.passes(yours).await;
    // So that nobody takes its place.
    for node in &nodes.all {
        node.run(&["CONFIG", "SET", "cluster-node-timeout", "60000"]);
    }
    nodes.all[1].restart();
    no_lease_is_waited_for(&second, yours).await;
    assert!(!first.ever_accepts(&lost, fence()).await);
    assert!(!second.ever_accepts(&lost, fence()).await);
}

/// Until an account is served, nobody is told to wait for longer than signed times and clocks may lie apart.
async fn no_lease_is_waited_for(gateway: &Gateway, account: u64) {
    let begun = Instant::now();
    loop {
        match gateway.store.spend(&fresh(account)).await {
            Verdict::New(_) => return,
            Verdict::Fenced { retry_after } => assert!(retry_after < SKEW + BOUND * 3),
            // As long as the cluster does not let it be asked.
            Verdict::Unavailable => {}
            other => panic!("{other:?}"),
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", gateway.store.troubles());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// How far stamps may lie ahead, and clocks apart.
#[derive(Clone, Copy)]
struct Allowed {
    skew: Duration,
    bound: Duration,
}

/// So little that what a lease lasts is all that matters; and as much as a lease lasts.
const LITTLE: Allowed = Allowed { skew: SKEW, bound: BOUND };
const MUCH: Allowed = Allowed { skew: LEASE, bound: Duration::from_millis(50) };

/// What the requests of a test sign.
#[derive(Clone, Copy)]
enum Signed {
    Stamps,
    Deadlines,
}

impl Signed {
    /// From as far ahead as a gateway takes to less: what is too late by the lease it waits with.
    fn times(self, allowed: Allowed) -> Vec<SignedTime> {
        let stamp = |part| SignedTime::Stamp(now() + allowed.skew * part / 10);
        match self {
            Self::Stamps => (0..=10).rev().map(stamp).collect(),
            Self::Deadlines => vec![SignedTime::Deadline { at: now() + LEAD, lead: LEAD }],
        }
    }
}

/// How long before its deadline a request is signed.
const LEAD: Duration = Duration::from_mins(1);

fn start(
    nodes: &Nodes,
    Allowed { skew, bound }: Allowed,
    weakened: Weakened,
    name: impl Fn(u16) -> u16 + Send + Sync + 'static,
) -> Gateway {
    let seeds: Vec<u16> = nodes.ports().into_iter().map(&name).collect();
    Gateway::of(Options {
        servers: Nodes::seeds(&seeds),
        topology: Topology::Cluster(Nodes::options(name)),
        deadline: Duration::from_millis(100),
        future_skew: skew,
        clock_bound: bound,
        max_in_flight: 1_000,
        local: Local::default(),
        weakened,
    })
}

/// A gateway hears of no other node when a primary is replaced that has not noticed, and goes by that one for the rest of
/// its lease: how much of what it accepts meanwhile the successor accepts as well, by the word of another gateway.
async fn accepted_twice(
    signed: Signed,
    allowed: Allowed,
    before: Weakened,
    after: Weakened,
) -> usize {
    let nodes = Nodes::start();
    let account = accounts_of(0)[0];
    let mut links = HashMap::new();
    for port in nodes.ports().into_iter().skip(1) {
        links.insert(port, FaultProxy::start(port).await);
    }
    let at: HashMap<u16, u16> = links.iter().map(|(port, link)| (*port, link.port)).collect();
    let name = move |port| at.get(&port).copied().unwrap_or(port);
    let first = start(&nodes, allowed, before, name);
    let second = start(&nodes, allowed, after, |port| port);
    first.until_served(&[account]).await;
    second.until_served(&[account]).await;

    nodes.all[0].run(&["CONFIG", "SET", "cluster-node-timeout", "600000"]);
    nodes.bus.cut(&[0]);
    for link in links.values() {
        link.set(Mode::HoldAll);
    }
    nodes.all[3].run(&["CLUSTER", "FAILOVER", "TAKEOVER"]);
    let mut accepted = Vec::new();
    let begun = Instant::now();
    while begun.elapsed() < LEASE * 2 {
        for time in signed.times(allowed) {
            let once = Charge { time, ..fresh(account) };
            if first.accepts(&once).await {
                accepted.push(once);
                break;
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!accepted.is_empty(), "its lease is not over at once");
    second.until_served(&[account]).await;
    let mut twice = 0;
    for once in &accepted {
        twice += usize::from(matches!(second.says(once).await, Verdict::New(_)));
    }
    println!("by its lease {} were accepted, and {twice} of them twice", accepted.len());
    twice
}

#[tokio::test]
async fn what_passed_by_a_predecessors_lease_its_successor_does_not_accept() {
    for signed in [Signed::Stamps, Signed::Deadlines] {
        for allowed in [LITTLE, MUCH] {
            let none = Weakened::default;
            assert_eq!(accepted_twice(signed, allowed, none(), none()).await, 0);
        }
    }
}

#[tokio::test]
async fn control_a_successor_that_waits_for_no_lease_accepts_again() {
    let unwaited = Weakened { lease_unwaited: true, ..Weakened::default() };
    until_found(Signed::Stamps, LITTLE, &Weakened::default(), &unwaited).await;
    until_found(Signed::Deadlines, MUCH, &Weakened::default(), &unwaited).await;
}

#[tokio::test]
async fn control_what_passed_by_a_lease_however_old_its_word_is_accepted_again() {
    let reach_off = Weakened { reach_off: true, ..Weakened::default() };
    until_found(Signed::Stamps, MUCH, &reach_off, &Weakened::default()).await;
    until_found(Signed::Deadlines, MUCH, &reach_off, &Weakened::default()).await;
}

/// On a busy machine all may be noticed so late that the lease is over.
async fn until_found(signed: Signed, allowed: Allowed, before: &Weakened, after: &Weakened) {
    let mut tries = 0..5;
    while accepted_twice(signed, allowed, before.clone(), after.clone()).await == 0 {
        assert!(tries.next().is_some(), "nothing was ever accepted twice");
    }
}
