//! The shared store: replay and limits in Redis, so that any number of gateways are as one.
//!
//! One server, or a quorum of three or five that know nothing of each other: then a request passes when most of them
//! say that it is new, and none of those that count its account's limits is against it. Or a cluster, where all of an
//! account lies on one primary, which is trusted while most nodes confirm it. Each call is one function of the library in
//! `function/`, which decides at once; what fails, or does not answer in time, counts as a refusal.

mod asks;
mod backlog;
mod beside;
mod cluster;
mod counters;
mod floors;
mod judge;
mod keys;
mod lease;
mod local;
mod marks;
mod numbers;
mod options;
mod own;
mod packed;
mod primary;
mod probe;
mod route;
mod server;
mod slots;
mod spanning;
mod tab;
mod tabs;
mod taken_back;
mod tally;
mod trouble;
mod twins;
mod view;

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use redis::cmd;
use tokio::time::Instant;

use self::backlog::Backlog;
use self::cluster::Cluster;
use self::keys::Keys;
use self::local::Alone;
use self::marks::Marks;
use self::own::{Added, Own};
use self::packed::{Margins, Payer};
use self::probe::Among;
use self::server::Server;
use self::tabs::Tabs;
use self::twins::Twins;
use super::memory::MemoryStore;
use super::{Charge, Cost, Receipt, Store, Verdict};
use crate::clock::{Clock, Micros};
use crate::metrics::{Metrics, VerdictMeter};

pub use self::local::Local;
pub use self::options::{Address, ClusterOptions, Naming, Options, Reaching, Topology, Weakened};
pub use self::trouble::{Ailment, Trouble};

/// The library that every server runs.
#[doc(hidden)]
pub const FUNCTION: &str = concat!(
    include_str!("function/store.lua"),
    include_str!("function/limits.lua"),
    include_str!("function/spend.lua"),
    include_str!("function/marks.lua"),
);

/// Remembers in Redis.
#[derive(Debug)]
pub struct RedisStore<C> {
    /// Those that decide by majority; none where there is a cluster.
    servers: Box<[Arc<Server>]>,
    twins: Twins,
    cluster: Option<Cluster>,
    /// Counts the limits that span accounts, for this gateway alone.
    local: MemoryStore,
    /// What of those limits is settled with the servers.
    tabs: Tabs,
    /// Who may ask for the others where one of them refuses.
    asking: beside::Asking,
    /// What this gateway let through itself.
    own: Own,
    /// What it judges alone, and what of that the servers do not know of yet.
    alone: Alone,
    backlog: Arc<Backlog>,
    clock: C,
    deadline: Duration,
    margins: Margins,
    /// Tells this gateway's calls from those of others, together with the number of each.
    gateway: u16,
    calls: AtomicU32,
    /// How many servers decide.
    majority: usize,
    /// How many of them count the limits of an account.
    counters: usize,
    /// Up to when it is known what became of every key, in microseconds.
    informed: AtomicU64,
    verdicts: OnceLock<VerdictMeter>,
    /// Where growing numbers are reserved; without it none is judged.
    marks: OnceLock<Marks>,
}

impl<C: Clock> RedisStore<C> {
    /// A store that is not asked before [`RedisStore::look`] has found its servers in order.
    ///
    /// `local` counts the limits that span accounts. Each gateway lets a thirty-second of them run up before the servers
    /// have agreed, so that all together admit at most the limit and that much each; while the servers do not answer,
    /// each grants the whole.
    pub fn new(options: Options, local: MemoryStore, clock: C) -> Result<Self, getrandom::Error> {
        let (gateway, first_call) = numbers_of_calls(getrandom::u64()?);
        let connect_timeout = options.deadline.max(Duration::from_secs(1));
        let Weakened { votes, counters, .. } = options.weakened;
        let majority = votes.unwrap_or(options.servers.len() / 2 + 1);
        let counters = counters.unwrap_or(majority);
        let lease = match &options.topology {
            Topology::Independent => Duration::ZERO,
            Topology::Cluster(of_cluster) => of_cluster.lease,
        };
        let margins = Margins { skew: options.future_skew, bound: options.clock_bound, lease };
        let backlog = Arc::new(Backlog::new(margins));
        let most = options.max_in_flight;
        let server = |at: Address| {
            let weakened = options.weakened.clone();
            let backlog = Arc::clone(&backlog);
            Arc::new(Server::new(
                at.name,
                at.client,
                connect_timeout,
                most,
                false,
                weakened,
                backlog,
            ))
        };
        let (servers, cluster) = match options.topology {
            Topology::Independent => (options.servers.into_iter().map(server).collect(), None),
            Topology::Cluster(of_cluster) => {
                let weakened = options.weakened.clone();
                let seeds = options.servers;
                let backlog = Arc::clone(&backlog);
                let cluster =
                    Cluster::new(seeds, of_cluster, connect_timeout, most, weakened, backlog);
                (Box::default(), Some(cluster))
            }
        };
        Ok(Self {
            majority,
            counters,
            twins: Twins::default(),
            cluster,
            informed: AtomicU64::new(u64::MAX),
            verdicts: OnceLock::new(),
            marks: OnceLock::new(),
            servers,
            local,
            own: Own::new(clock.now()),
            alone: Alone::new(options.local),
            backlog,
            tabs: Tabs::default(),
            asking: beside::Asking::default(),
            clock,
            deadline: options.deadline,
            margins,
            gateway,
            calls: AtomicU32::new(first_call),
        })
    }

    /// Looks at every server once, and says what is wrong with those that are not used.
    pub async fn look(&self) -> Vec<(String, Trouble)> {
        if let Some(cluster) = &self.cluster {
            asks::look(cluster, &self.clock, self.margins.bound).await;
        }
        for server in &self.servers {
            let among = Among::Independent(&self.twins);
            probe::look(server, &mut None, &self.clock, self.margins.bound, among).await;
        }
        self.troubles()
    }

    /// Looks at every server now and then, for as long as it is polled.
    pub async fn watch(&self) {
        let mut looks: Vec<Pin<Box<dyn Future<Output = ()> + Send + '_>>> = Vec::new();
        let (clock, bound) = (&self.clock, self.margins.bound);
        if let Some(cluster) = &self.cluster {
            looks.push(Box::pin(asks::watch(cluster, clock, bound)));
        }
        for server in &self.servers {
            let among = Among::Independent(&self.twins);
            looks.push(Box::pin(probe::watch(Arc::clone(server), clock, bound, among)));
        }
        poll_fn(|context| {
            for look in &mut looks {
                // It never ends.
                let _pending = look.as_mut().poll(context);
            }
            Poll::<()>::Pending
        })
        .await;
    }

    /// Counts in `metrics` from now on.
    pub fn set_meters(&self, metrics: &Metrics) {
        for server in &self.servers {
            server.set_meter(metrics.server(&server.name));
        }
        if let Some(cluster) = &self.cluster {
            cluster.set_meters(metrics.servers());
        }
        // An error means that there is one already.
        let _ = self.verdicts.set(metrics.verdicts());
        self.alone.set_meter(metrics.local());
    }

    /// What became of every key of the registry is known up to `at`. A server that was born later may have forgotten
    /// that a key was revoked, so it judges none of them until more is known.
    pub fn set_informed(&self, at: Micros) {
        self.informed.store(at.0, Ordering::Relaxed);
    }

    /// What is wrong with each server that is not used.
    pub fn troubles(&self) -> Vec<(String, Trouble)> {
        let trouble = |server: &Arc<Server>| Some((server.name.clone(), server.trouble()?));
        if let Some(cluster) = &self.cluster {
            return cluster.troubles(self.clock.now());
        }
        self.servers.iter().filter_map(trouble).collect()
    }

    /// Whether, by what was found at a look, so many servers can only be cured by an operator that the others are too few
    /// to judge requests, however long they are waited for. One that cannot be reached may come back by itself.
    pub fn is_beyond_waiting(&self, found: &[(String, Trouble)]) -> bool {
        if let Some(cluster) = &self.cluster {
            return cluster.is_beyond_waiting();
        }
        let incurable = found.iter().filter(|(_, trouble)| trouble.needs_operator()).count();
        self.servers.len().saturating_sub(incurable) < self.majority
    }

    /// Whether enough servers are used to judge requests.
    pub fn is_usable(&self) -> bool {
        if let Some(cluster) = &self.cluster {
            return cluster.judged_since(Duration::ZERO, self.clock.both()).is_some();
        }
        self.servers.iter().filter(|server| server.is_usable()).count() >= self.majority
    }

    /// What this gateway counts for itself.
    pub fn local(&self) -> &MemoryStore {
        &self.local
    }

    /// When the first stamp that is judged can be signed; `None` as long as too few servers are used.
    pub fn ready_at(&self) -> Option<Micros> {
        if let Some(cluster) = &self.cluster {
            let judged =
                cluster.judged_since(self.margins.after_a_predecessor(), self.clock.both());
            return Some(self.judged_from(judged?));
        }
        let used = self.servers.iter().filter(|server| server.is_usable());
        let mut births: Vec<Micros> = used.map(|server| server.born()).collect();
        births.sort_unstable();
        let born = births.get(self.majority - 1)?;
        Some(self.judged_from(*born))
    }

    /// The first stamp that is judged by whoever was born then and follows nobody.
    fn judged_from(&self, born: Micros) -> Micros {
        born + self.margins.without_lease().of_stamps() + Duration::from_micros(1)
    }

    /// Raises what is known of a key's epoch, on every server that answers; how many did.
    pub async fn raise(&self, account: u64, key: [u8; 16], epoch: u64) -> usize {
        let mut command = cmd("FCALL");
        let keys = Keys::of(account, Micros(0));
        command.arg("countersign_2_raise").arg(2).arg(&keys.generation).arg(&keys.account);
        command.arg(&Payer::of(account, key).key_tag()).arg(epoch);
        if let Some(cluster) = &self.cluster {
            return usize::from(
                self.ask_primary(cluster, account, |_| Micros(0), |_| command.clone())
                    .await
                    .is_some(),
            );
        }
        let mut raised = 0;
        for server in &self.servers {
            let deadline = Instant::now() + self.deadline;
            raised += usize::from(server.call(&command, deadline).await.is_ok());
        }
        raised
    }
}

/// What tells a gateway's calls from others', of so many random bits: its own number, and that of its first call.
///
/// Gateways draw the first without asking each other, so that some day two have the same. What one of them accepted the
/// other takes for its own retry where both come to the same number of a call, so they do not begin alike. None has the
/// number 0: calls with nothing but zeros stand for what was given back.
fn numbers_of_calls(random: u64) -> (u16, u32) {
    let [first, second, third, fourth, low, high, ..] = random.to_le_bytes();
    let gateway = u16::from_le_bytes([low, high]).max(1);
    (gateway, u32::from_le_bytes([first, second, third, fourth]))
}

impl<C: Clock> Store for RedisStore<C> {
    async fn spend(&self, charge: &Charge) -> Verdict {
        let verdict = self.settle(charge).await;
        let is_local = matches!(&verdict, Verdict::New(levels) if levels.is_local);
        if let Some(meter) = self.verdicts.get().filter(|_| !is_local) {
            meter.counted(&verdict);
        }
        verdict
    }

    fn give_back(&self, receipt: &Receipt, _now: Micros) {
        self.refund(receipt);
    }

    /// What nobody has proved is counted here alone: no server is written to for it.
    async fn pay(&self, now: Micros, costs: &[Cost]) -> Verdict {
        self.local.pay(now, costs).await
    }
}

impl<C: Clock> RedisStore<C> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "whatever is not new is handed on as it is")]
    async fn settle(&self, charge: &Charge) -> Verdict {
        if self.own.has(charge) {
            return Verdict::Seen;
        }
        let own =
            charge.costs.iter().position(|cost| cost.spans_accounts).unwrap_or(charge.costs.len());
        let (own, spanning) = charge.costs.split_at(own);
        let (mut charged, refund) = match self.share(charge.now, spanning).await {
            Ok(shared) => shared,
            Err(Verdict::Over { cost, retry_after, level, beside }) => {
                let spanning = beside.into_iter().map(|(place, level)| (place + own.len(), level));
                let beside = self.beside(charge, own).await.into_iter().chain(spanning).collect();
                return Verdict::Over { cost: cost + own.len(), retry_after, level, beside };
            }
            Err(refused) => return refused,
        };
        let token = self.token();
        let verdict = self.judge(charge, own, token).await;
        if verdict == Verdict::Unavailable {
            if !self.alone.is_for(charge) {
                return verdict;
            }
            let verdict = self.judge_alone(charge, token);
            if matches!(verdict, Verdict::New(_)) {
                refund.keep();
            }
            return verdict;
        }
        self.alone.answered(charge.now);
        match verdict {
            // It passed meanwhile, without the store.
            Verdict::New(_) if self.own.add(charge) == Added::Before => Verdict::Seen,
            Verdict::New(mut levels) => {
                refund.keep();
                levels.extend(charged.drain(..));
                Verdict::New(levels)
            }
            Verdict::Over { cost, retry_after, level, beside } => {
                let shared = spanning::given_back(&charged, spanning, own.len());
                let beside = beside.into_iter().chain(shared).collect();
                Verdict::Over { cost, retry_after, level, beside }
            }
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateways_that_draw_one_number_begin_with_calls_far_apart_and_none_is_what_was_given_back() {
        let of = |call: u32, gateway: u16| u64::from(call) | u64::from(gateway) << 32;
        assert_eq!(numbers_of_calls(of(7, 3)), (3, 7));
        assert_eq!(numbers_of_calls(of(1 << 31, 3)), (3, 1 << 31));
        assert_eq!(numbers_of_calls(0).0, 1);
        assert_eq!(numbers_of_calls(u64::MAX), (u16::MAX, u32::MAX));
    }
}
