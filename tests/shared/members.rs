//! Gateways over a cluster, and what they are asked.

use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign::clock::SystemClock;
use countersign::store::redis::{Local, Options, RedisStore, Topology, Weakened};
use countersign::store::{Charge, Identity, Store, Verdict};
use tokio::task::JoinHandle;

use crate::nodes::Nodes;
use crate::{BOUND, SKEW, charge, local};

pub(crate) const LEASE: Duration = Duration::from_secs(1);

/// A gateway's store, and what looks after it.
pub(crate) struct Gateway {
    pub(crate) store: Arc<RedisStore<SystemClock>>,
    watch: JoinHandle<()>,
}

impl Gateway {
    pub(crate) fn start(nodes: &Nodes) -> Self {
        Self::with(nodes, Weakened::default(), |port| port, Duration::from_millis(400))
    }

    pub(crate) fn with(
        nodes: &Nodes,
        weakened: Weakened,
        name: impl Fn(u16) -> u16 + Send + Sync + 'static,
        deadline: Duration,
    ) -> Self {
        let seeds: Vec<u16> =
            nodes.ports().into_iter().map(&name).filter(|port| *port > 1).collect();
        Self::of(Options {
            servers: Nodes::seeds(&seeds),
            topology: Topology::Cluster(Nodes::options(name)),
            deadline,
            future_skew: SKEW,
            clock_bound: BOUND,
            max_in_flight: 1_000,
            local: Local::default(),
            weakened,
        })
    }

    pub(crate) fn of(options: Options) -> Self {
        let store = Arc::new(RedisStore::new(options, local(), SystemClock::start()).unwrap());
        let watched = Arc::clone(&store);
        Self { store, watch: tokio::spawn(async move { watched.watch().await }) }
    }

    /// Waits until a fresh request of each of these accounts passes.
    pub(crate) async fn until_served(&self, accounts: &[u64]) {
        for account in accounts {
            self.passes(*account).await;
        }
    }

    /// A request of an account that it accepted: the first that it did, for on a busy machine one may not be answered in
    /// time.
    pub(crate) async fn passes(&self, account: u64) -> Charge {
        let begun = Instant::now();
        loop {
            let once = fresh(account);
            let verdict = self.store.spend(&once).await;
            if matches!(verdict, Verdict::New(_)) {
                return once;
            }
            let troubles = self.store.troubles();
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "{account}: {verdict:?} {troubles:?}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What is said of a request as soon as anything is.
    pub(crate) async fn says(&self, once: &Charge) -> Verdict {
        let begun = Instant::now();
        loop {
            let verdict = self.store.spend(once).await;
            if verdict != Verdict::Unavailable || begun.elapsed() > Duration::from_secs(30) {
                return verdict;
            }
        }
    }

    pub(crate) async fn accepts(&self, once: &Charge) -> bool {
        matches!(self.store.spend(once).await, Verdict::New(_))
    }

    /// Whether it accepts it at any time while it may come to do so.
    pub(crate) async fn ever_accepts(&self, once: &Charge, span: Duration) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < span {
            if self.accepts(once).await {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        false
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

/// A request of an account that never was before, signed now.
pub(crate) fn fresh(account: u64) -> Charge {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    let number = u128::from(NUMBER.fetch_add(1, Ordering::Relaxed));
    let mut identity = number.to_le_bytes();
    identity.reverse();
    identity.rotate_left(8);
    Charge { account, epoch: 0, identity: Identity(identity), ..charge(0) }
}

/// Accounts whose tags lie on the primary at `place`, of three with a third of the slots each.
pub(crate) fn accounts_of(place: u16) -> Vec<u64> {
    let slot = |tag: u64| {
        let sum = tag.to_string().bytes().fold(0_u16, |sum, byte| {
            (0..8).fold(sum ^ u16::from(byte) << 8, |sum, _| {
                if sum & 0x8000 == 0 { sum << 1 } else { sum << 1 ^ 0x1021 }
            })
        });
        sum % 16_384
    };
    let share = 16_384 / 3;
    (0..1_024).filter(|tag| (slot(*tag) / share).min(2) == place).take(5).collect()
}

/// What is signed now is judged by a primary that was born now.
pub(crate) fn fence() -> Duration {
    LEASE + SKEW + BOUND * 2
}
