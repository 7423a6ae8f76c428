//! Redis Cluster: what one gateway accepted, none accepts again, whichever node is the primary by now.

use std::time::{Duration, Instant};

use countersign::store::redis::{FUNCTION, Trouble, Weakened};
use countersign::store::{Charge, Cost, Limit, SignedTime, Store as _, Subject, Verdict};

use crate::cluster::text;
use crate::members::{Gateway, LEASE, accounts_of, fence, fresh};
use crate::nodes::{Nodes, id};
use crate::{HOUR, later_step, now};

#[tokio::test]
async fn gateways_over_a_cluster_are_as_one() {
    let nodes = Nodes::start();
    let (first, second) = (Gateway::start(&nodes), Gateway::start(&nodes));
    let accounts: Vec<u64> = (0..3).flat_map(accounts_of).collect();
    first.until_served(&accounts).await;
    second.until_served(&accounts).await;
    assert_eq!(first.store.troubles(), []);
    for account in 0..300 {
        let once = first.passes(account).await;
        assert_eq!(second.says(&once).await, Verdict::Seen, "{account}");
    }
    // A limit of an account holds to the unit, whoever is asked.
    let mut passed = 0;
    for n in 0..40 {
        let mut one = fresh(accounts[0]);
        one.costs.push(Cost::of_key(Subject(77), Limit { quota: 25, period: HOUR }, 1));
        let verdict = [&first, &second][n % 2].says(&one).await;
        passed += u32::from(matches!(verdict, Verdict::New(_)));
    }
    assert_eq!(passed, 25);
    let step = later_step();
    // A key's epoch and a step of the second factor lie with the account.
    first.store.set_informed(now());
    second.store.set_informed(now());
    let known = Charge { epoch: 1, step: Some(step), ..fresh(accounts[5]) };
    assert!(matches!(first.says(&known).await, Verdict::New(_)));
    let again = Charge { step: Some(step), ..fresh(accounts[5]) };
    assert_eq!(second.says(&again).await, Verdict::StepSpent);
    assert_eq!(first.store.raise(accounts[5], known.key, 2).await, 1);
    let outdated = Charge { epoch: 1, ..fresh(accounts[5]) };
    assert_eq!(second.says(&outdated).await, Verdict::Outdated);
}

/// Lets the first primary accept something that its replica never hears of, and lets that one take its place.
async fn lose(nodes: &mut Nodes, gateway: &Gateway, account: u64) -> Charge {
    nodes.all[3].signal("STOP");
    nodes.all[0].run(&["CLIENT", "KILL", "TYPE", "replica"]);
    let once = gateway.passes(account).await;
    nodes.all[0].kill();
    nodes.all[3].signal("CONT");
    once
}

#[tokio::test]
async fn what_a_dead_primary_accepted_its_successor_does_not() {
    let mut nodes = Nodes::start();
    let (first, second) = (Gateway::start(&nodes), Gateway::start(&nodes));
    let (lost, others) = (accounts_of(0), accounts_of(1));
    for gateway in [&first, &second] {
        gateway.until_served(&lost[..2]).await;
        gateway.until_served(&others[..1]).await;
    }
    let once = lose(&mut nodes, &first, lost[0]).await;
    let killed = Instant::now();
    // The other primaries' accounts do not notice.
    first.until_served(&others[..1]).await;
    assert!(!first.accepts(&fresh(lost[0])).await);
    assert!(!second.ever_accepts(&once, Duration::from_secs(1)).await);
    nodes.until_primary(3, &[1, 2, 3, 4, 5]).await;
    let promoted = killed.elapsed();
    first.until_served(&others[..1]).await;
    second.until_served(&lost[..1]).await;
    println!("killed: promoted after {promoted:?}, served after {:?}", killed.elapsed());
    assert!(!second.ever_accepts(&once, fence()).await);
    first.until_served(&lost).await;

    // It comes back as a replica, and is made the primary again by hand.
    nodes.all[0].restart();
    nodes.until_replica(0).await;
    let once = first.passes(lost[1]).await;
    nodes.all[0].run(&["CLUSTER", "FAILOVER", "TAKEOVER"]);
    let moved = Instant::now();
    nodes.until_primary(0, &[0, 1, 2, 3, 4, 5]).await;
    assert!(!second.ever_accepts(&once, fence() + LEASE).await);
    second.until_served(&lost).await;
    println!("taken over: all served after {:?}", moved.elapsed());
}

#[tokio::test]
async fn control_without_the_fence_a_successor_accepts_again() {
    let mut nodes = Nodes::start();
    let line = "  if born >= fence then";
    assert_eq!(FUNCTION.matches(line).count(), 1);
    let function = Some(FUNCTION.replace(line, "  if false then").into());
    let weakened = Weakened { function, ..Weakened::default() };
    let start = || Gateway::with(&nodes, weakened.clone(), |port| port, Duration::from_millis(400));
    let (first, second) = (start(), start());
    let lost = accounts_of(0);
    first.until_served(&lost[..1]).await;
    second.until_served(&lost[..1]).await;
    let once = lose(&mut nodes, &first, lost[0]).await;
    assert!(second.ever_accepts(&once, Duration::from_secs(20)).await);
}

/// Whether what a successor accepted is accepted by the stopped primary as well, once that wakes with the question still
/// before it. Without a lease the gateway that asked it hears of no other node, and goes by what it knew.
async fn wakes_and_accepts(lease_off: bool) -> bool {
    let nodes = Nodes::start();
    let only = nodes.all[0].port;
    let weakened = Weakened { lease_off, ..Weakened::default() };
    let name = move |port| if !lease_off || port == only { port } else { 1 };
    let first = Gateway::with(&nodes, weakened, name, Duration::from_secs(40));
    let second = Gateway::start(&nodes);
    let account = accounts_of(0)[0];
    first.until_served(&[account]).await;
    second.until_served(&[account]).await;
    // Signed so late, and with a deadline in the place of a stamp, that neither the successor's fence nor the lease has
    // anything to say of when.
    let at = now() + Duration::from_secs(30);
    let time = SignedTime::Deadline { at, lead: Duration::ZERO };
    let once = Charge { time, keep_until: at, ..fresh(account) };
    nodes.all[0].signal("STOP");
    let meanwhile = async {
        nodes.until_primary(3, &[1, 2, 3, 4, 5]).await;
        second.until_served(&[account]).await;
        assert!(second.accepts(&once).await);
        nodes.all[0].signal("CONT");
    };
    let (accepts, ()) = tokio::join!(first.accepts(&once), meanwhile);
    accepts
}

#[tokio::test]
async fn what_a_stopped_primary_says_when_it_wakes_does_not_count() {
    assert!(!wakes_and_accepts(false).await);
}

#[tokio::test]
async fn control_without_a_lease_what_it_says_when_it_wakes_is_accepted_again() {
    let mut tries = 0..5;
    // It may hear of its successor before it reads the question.
    while !wakes_and_accepts(true).await {
        assert!(tries.next().is_some(), "the primary that woke never accepted it");
    }
}

#[tokio::test]
async fn what_a_primary_accepted_before_it_handed_over_passes_no_more() {
    let nodes = Nodes::start();
    let (first, second) = (Gateway::start(&nodes), Gateway::start(&nodes));
    let (mine, yours) = (accounts_of(0), accounts_of(1));
    for gateway in [&first, &second] {
        gateway.until_served(&[mine[0], yours[0]]).await;
    }
    let once = first.passes(mine[0]).await;
    nodes.hand_over(3).await;
    let moved = Instant::now();
    assert!(!second.accepts(&once).await);
    first.until_served(&yours[..1]).await;
    second.until_served(&mine[..1]).await;
    println!("handed over: served after {:?}", moved.elapsed());
    assert!(!second.ever_accepts(&once, fence()).await);
    first.until_served(&mine).await;
    nodes.until_replica(0).await;
}

/// Whether a gateway that reaches no node but a primary that was cut off accepts what another accepted of its successor.
async fn cut_off_accepts(lease_off: bool) -> bool {
    let nodes = Nodes::start();
    let second = Gateway::start(&nodes);
    let account = accounts_of(0)[0];
    second.until_served(&[account]).await;
    let only = nodes.all[0].port;
    let weakened = Weakened { lease_off, ..Weakened::default() };
    let name = move |port| if port == only { port } else { 1 };
    let beside = Gateway::with(&nodes, weakened, name, Duration::from_millis(400));
    if lease_off {
        beside.until_served(&[account]).await;
    }
    // It takes its time to notice.
    nodes.all[0].run(&["CONFIG", "SET", "cluster-node-timeout", "600000"]);
    nodes.bus.cut(&[0]);
    nodes.until_primary(3, &[1, 2, 3, 4, 5]).await;
    // Until then the other may go by its lease of the old one.
    tokio::time::sleep(fence() + LEASE).await;
    second.until_served(&[account]).await;
    let once = second.passes(account).await;
    let replication = text(&nodes.all[0].run(&["INFO", "replication"]));
    assert!(replication.contains("role:master"), "it does not know better");
    let accepts = beside.ever_accepts(&once, Duration::from_secs(3)).await;
    // Healed, it is a replica, and all is served on.
    nodes.bus.cut(&[]);
    nodes.until_replica(0).await;
    second.until_served(&[account]).await;
    accepts
}

#[tokio::test]
async fn a_primary_that_was_cut_off_with_a_gateway_does_not_count() {
    assert!(!cut_off_accepts(false).await);
}

#[tokio::test]
async fn control_without_a_lease_a_primary_that_was_cut_off_accepts_again() {
    assert!(cut_off_accepts(true).await);
}

#[tokio::test]
async fn a_slot_that_moves_takes_its_records_along_or_is_fenced() {
    let nodes = Nodes::start();
    let (first, second) = (Gateway::start(&nodes), Gateway::start(&nodes));
    let (mine, yours) = (accounts_of(0), accounts_of(1));
    for gateway in [&first, &second] {
        gateway.until_served(&[mine[0], yours[0]]).await;
    }
    let once = first.passes(mine[0]).await;
    let slot = match nodes.all[0].run(&["CLUSTER", "KEYSLOT", &format!("{{{}}}", mine[0])]) {
        redis::Value::Int(slot) => slot.to_string(),
        other => panic!("{other:?}"),
    };
    let (from, to) = (id(&nodes.all[0]), id(&nodes.all[1]));
    nodes.all[1].run(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from]);
    nodes.all[0].run(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to]);
    let port = nodes.all[1].port.to_string();
    let redis::Value::Array(keys) = nodes.all[0].run(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"])
    else {
        panic!()
    };
    assert!(keys.len() >= 2, "{keys:?}");
    for key in &keys {
        nodes.all[0].run(&["MIGRATE", "127.0.0.1", &port, &text(key), "0", "1000"]);
        assert!(!second.accepts(&once).await);
    }
    // On its way, nobody serves it; and all others are served.
    first.until_served(&yours[..1]).await;
    assert_eq!(first.store.spend(&fresh(mine[0])).await, Verdict::Unavailable);
    for node in [1, 0, 2] {
        nodes.all[node].run(&["CLUSTER", "SETSLOT", &slot, "NODE", &to]);
    }
    let moved = Instant::now();
    assert!(!second.accepts(&once).await);
    second.until_served(&[mine[0]]).await;
    println!("moved: served after {:?}", moved.elapsed());
    assert!(!second.ever_accepts(&once, fence()).await);
    first.until_served(&[mine[0], mine[1], yours[0]]).await;
}

#[tokio::test]
async fn a_cluster_that_cannot_be_trusted_is_not_used_and_says_why() {
    let nodes = Nodes::of(2, 0);
    let gateway = Gateway::start(&nodes);
    let begun = Instant::now();
    while !gateway.store.troubles().iter().any(|(_, trouble)| *trouble == Trouble::FewPrimaries(2))
    {
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", gateway.store.troubles());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(gateway.store.spend(&fresh(1)).await, Verdict::Unavailable);

    let nodes = Nodes::of(3, 0);
    let gateway = Gateway::start(&nodes);
    gateway.until_served(&[accounts_of(0)[0], accounts_of(1)[0]]).await;
    let wrong = [
        (
            "maxmemory-policy",
            "allkeys-lru",
            "noeviction",
            Trouble::Evicts("allkeys-lru".to_owned()),
        ),
        (
            "cluster-node-timeout",
            "500",
            "1000",
            Trouble::LongLease(LEASE, Duration::from_millis(500)),
        ),
    ];
    for (name, bad, good, wanted) in wrong {
        nodes.all[0].run(&["CONFIG", "SET", name, bad]);
        // What is told once a connection is told on the next one.
        nodes.all[0].run(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        let begun = Instant::now();
        while !gateway.store.troubles().iter().any(|(_, trouble)| *trouble == wanted) {
            assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", gateway.store.troubles());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(gateway.store.spend(&fresh(accounts_of(0)[0])).await, Verdict::Unavailable);
        gateway.until_served(&accounts_of(1)[..1]).await;
        nodes.all[0].run(&["CONFIG", "SET", name, good]);
        let healed = Instant::now();
        gateway.until_served(&accounts_of(0)[..1]).await;
        println!("{name}: served {:?} after it was set right", healed.elapsed());
    }
}
