//! Growing numbers in a cluster: none passes twice, whichever node is the primary by now.

use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign::store::redis::{ClusterOptions, FUNCTION, Local, Options, Topology, Weakened};
use countersign::store::{Charge, Identity, Store as _, Verdict};

use crate::fault_proxy::{FaultProxy, Mode};
use crate::marks::{Book, beyond, number, other};
use crate::members::{Gateway, accounts_of};
use crate::nodes::Nodes;
use crate::{BOUND, HOUR, SKEW, limited};

/// A gateway that keeps its reservations there.
fn keeping(gateway: Gateway, book: &Arc<Book>) -> Gateway {
    gateway.store.keep_marks(Arc::<Book>::clone(book), HOUR);
    gateway
}

fn weakened(nodes: &Nodes, book: &Arc<Book>, weakened: Weakened) -> Gateway {
    keeping(Gateway::with(nodes, weakened, |port| port, Duration::from_secs(2)), book)
}

fn gateway(nodes: &Nodes, book: &Arc<Book>) -> Gateway {
    weakened(nodes, book, Weakened::default())
}

fn of(account: u64, n: u64) -> Charge {
    let once = number(n);
    let Identity(mut identity) = once.identity;
    identity[12..14].copy_from_slice(&u16::try_from(account).unwrap().to_le_bytes());
    Charge { account, epoch: 0, identity: Identity(identity), ..once }
}

/// What is said once the account's primary knows the mark.
async fn settled(gateway: &Gateway, once: &Charge) -> Verdict {
    let begun = Instant::now();
    loop {
        let verdict = gateway.store.spend(once).await;
        if !matches!(verdict, Verdict::Fenced { .. } | Verdict::Unavailable) {
            return verdict;
        }
        let troubles = gateway.store.troubles();
        assert!(begun.elapsed() < Duration::from_mins(1), "{verdict:?} {troubles:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The first number from this one on that passes.
async fn passing(gateway: &Gateway, account: u64, from: u64) -> u64 {
    let mut n = from;
    while !matches!(settled(gateway, &of(account, n)).await, Verdict::New(_)) {
        n += 1;
        assert!(n < from + 1_000);
    }
    n
}

#[tokio::test]
async fn a_number_passes_once_over_all_gateways_of_a_cluster() {
    let nodes = Nodes::of(3, 0);
    let book = Book::new();
    let (one, two) = (gateway(&nodes, &book), gateway(&nodes, &book));
    for account in [accounts_of(0)[0], accounts_of(1)[0], accounts_of(2)[0]] {
        let n = passing(&one, account, 10).await;
        assert_eq!(settled(&two, &of(account, n)).await, Verdict::Seen);
        assert_eq!(settled(&two, &other(&of(account, n))).await, Verdict::Low);
        assert_eq!(settled(&two, &of(account, n - 1)).await, Verdict::Low);
        let n = passing(&two, account, n + 1).await;
        assert_eq!(settled(&one, &of(account, n)).await, Verdict::Seen);
        // Limits are counted in the same call.
        let paid = limited(of(account, n + 1), 10, 8);
        assert!(matches!(settled(&one, &paid).await, Verdict::New(_)));
        let over = limited(of(account, n + 2), 10, 3);
        let said = settled(&two, &over).await;
        assert!(matches!(said, Verdict::Over { cost: 0, level: 8, .. }), "{said:?}");
        passing(&two, account, n + 3).await;
    }
}

/// Lets a primary that accepted a number die. What its successor says of that number; of the last that was reserved and
/// never came; and of the first beyond.
async fn after_a_failover(weak: Weakened) -> [Verdict; 3] {
    let mut nodes = Nodes::start();
    let book = Book::new();
    let (one, two) = (weakened(&nodes, &book, weak.clone()), weakened(&nodes, &book, weak.clone()));
    let account = accounts_of(0)[0];
    let n = passing(&one, account, 1).await;
    assert_eq!(settled(&two, &of(account, n)).await, Verdict::Seen);
    let above = beyond(&book).await;
    assert!(above > n + 1);
    nodes.all[0].kill();
    nodes.until_primary(3, &[1, 2, 3, 4, 5]).await;
    let again = settled(&two, &of(account, n)).await;
    let reserved = settled(&two, &of(account, above - 1)).await;
    [again, reserved, settled(&two, &of(account, above)).await]
}

#[tokio::test]
async fn after_a_failover_only_numbers_above_the_reservation_pass() {
    let said = after_a_failover(Weakened::default()).await;
    assert!(matches!(said, [Verdict::Seen, Verdict::Seen, Verdict::New(_)]), "{said:?}");
}

#[tokio::test]
async fn control_where_the_floor_is_ignored_a_number_passes_again_after_a_failover() {
    let floor = "local high, low = read('>I4I4', args[4])";
    assert_eq!(FUNCTION.matches(floor).count(), 1);
    let function = FUNCTION.replace(floor, "local high, low = 0, 0");
    let weak = Weakened { function: Some(function.into()), ..Weakened::default() };
    let said = after_a_failover(weak).await;
    assert!(matches!(said, [Verdict::New(_), ..]), "{said:?}");
}

/// So long a lease that a gateway goes by a predecessor while a successor is asked.
const LONG: Duration = Duration::from_secs(10);

/// A gateway whose nodes are reached by way of these ports, and hold so long a lease.
fn long(nodes: &Nodes, book: &Arc<Book>, ports: Vec<u16>, weakened: Weakened) -> Gateway {
    let own = nodes.ports();
    let seeds = Nodes::seeds(&ports);
    let name = move |port| own.iter().position(|one| *one == port).map_or(port, |at| ports[at]);
    let topology = Topology::Cluster(ClusterOptions { lease: LONG, ..Nodes::options(name) });
    let options = Options {
        servers: seeds,
        topology,
        deadline: Duration::from_secs(2),
        future_skew: SKEW,
        clock_bound: BOUND,
        max_in_flight: 1_000,
        local: Local::default(),
        weakened,
    };
    keeping(Gateway::of(options), book)
}

/// Whether a number passes twice that is reserved, and accepted by a predecessor under its lease, after a successor was
/// asked about its key; nothing where the gateway heard of the successor too soon.
async fn passes_twice(floor_at_once: bool) -> Option<bool> {
    let nodes = Nodes::start();
    for node in &nodes.all {
        drop(node.run(&["CONFIG", "SET", "cluster-node-timeout", "10000"]));
    }
    let book = Book::new();
    let account = accounts_of(0)[0];
    let mut links = Vec::new();
    for port in nodes.ports().into_iter().skip(1) {
        links.push(FaultProxy::start(port).await);
    }
    let own = nodes.ports();
    let linked = own.iter().take(1).copied().chain(links.iter().map(|link| link.port));
    let weak = || Weakened { floor_at_once, ..Weakened::default() };
    let first = long(&nodes, &book, linked.collect(), weak());
    passing(&first, account, 1).await;
    // Its primary is cut off from the others, and it hears of nobody else.
    nodes.bus.cut(&[0]);
    for link in &links {
        link.set(Mode::Reset);
    }
    drop(nodes.all[3].run(&["CLUSTER", "FAILOVER", "TAKEOVER"]));
    nodes.until_primary(3, &[1, 2, 3, 4, 5]).await;
    let second = long(&nodes, &book, own, weak());
    // The successor is asked, and knows the mark if it is told at once.
    let asked = of(account, 2);
    let begun = Instant::now();
    loop {
        let verdict = second.store.spend(&asked).await;
        match verdict {
            Verdict::Unavailable => {}
            Verdict::Fenced { .. } if floor_at_once => {}
            _ => break,
        }
        assert!(begun.elapsed() < LONG, "{verdict:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let beyond = beyond(&book).await;
    let once = of(account, beyond);
    if !matches!(first.store.spend(&once).await, Verdict::New(_)) {
        return None;
    }
    let again = settled(&second, &once).await;
    if !matches!(again, Verdict::New(_)) {
        // What was reserved meanwhile is below its floor, and what lies above it passes.
        passing(&second, account, crate::marks::beyond(&book).await).await;
    }
    Some(matches!(again, Verdict::New(_)))
}

async fn ever_passes_twice(floor_at_once: bool) -> bool {
    for _ in 0..5 {
        if let Some(passes) = passes_twice(floor_at_once).await {
            return passes;
        }
    }
    panic!("the predecessor never accepts it");
}

#[tokio::test]
async fn what_a_predecessor_accepts_under_its_lease_its_successor_does_not() {
    assert!(!ever_passes_twice(false).await);
}

#[tokio::test]
async fn control_where_the_floor_is_told_at_once_what_a_predecessor_accepts_passes_again() {
    assert!(ever_passes_twice(true).await);
}
