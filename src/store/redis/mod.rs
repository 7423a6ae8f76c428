//! The shared store: replay and limits in Redis, so that any number of gateways are as one.
//!
//! One server, or a quorum of three or five that know nothing of each other: then a request passes when most of them
//! say that it is new, and an account's limits are kept by one of them. Or a cluster, where all of an account lies on one
//! primary, which is trusted while most nodes confirm it. Each call is one function of `function.lua`,
//! which decides at once; what fails, or does not answer in time, counts as a refusal.

mod asks;
mod backlog;
mod cluster;
mod keys;
mod lease;
mod local;
mod marks;
mod options;
mod own;
mod packed;
mod primary;
mod probe;
mod server;
mod slots;
mod spanning;
mod tabs;
mod tally;
mod trouble;
mod view;

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use redis::{Cmd, cmd};
use tokio::time::Instant;

use self::backlog::Backlog;
use self::cluster::Cluster;
use self::keys::{Keys, signed_at};
use self::local::Alone;
use self::marks::Marks;
use self::own::{Added, Own};
use self::packed::{Margins, Said, Spend, Token, Vote};
use self::probe::apart;
use self::server::{Fault, Server};
use self::tabs::Tabs;
use self::tally::Tally;
use super::memory::MemoryStore;
use super::{Charge, Cost, Receipt, SignedTime, Store, Verdict};
use crate::clock::{Clock, Micros};
use crate::key::factor::start_of;
use crate::metrics::{Metrics, VerdictMeter};

pub use self::local::Local;
pub use self::options::{Address, ClusterOptions, Naming, Options, Reaching, Topology, Weakened};
pub use self::trouble::{Ailment, Trouble};

/// The library that every server runs.
#[doc(hidden)]
pub const FUNCTION: &str = include_str!("function.lua");
const LIBRARY: &str = "countersign_1";

/// Remembers in Redis.
#[derive(Debug)]
pub struct RedisStore<C> {
    /// Those that decide by majority; none where there is a cluster.
    servers: Box<[Arc<Server>]>,
    cluster: Option<Cluster>,
    /// Counts the limits that span accounts, for this gateway alone.
    local: MemoryStore,
    /// What of those limits is settled with the servers.
    tabs: Tabs,
    /// What this gateway let through itself.
    own: Own,
    /// What it judges alone, and what of that the servers do not know of yet.
    alone: Alone,
    backlog: Arc<Backlog>,
    clock: C,
    deadline: Duration,
    margins: Margins,
    /// Tells this gateway's calls from those of others.
    gateway: u16,
    calls: AtomicU32,
    /// How many servers decide.
    majority: usize,
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
        let mut gateway = [0; 2];
        getrandom::fill(&mut gateway)?;
        let connect_timeout = options.deadline.max(Duration::from_secs(1));
        let Weakened { votes, .. } = options.weakened;
        let majority = votes.unwrap_or(options.servers.len() / 2 + 1);
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
            clock,
            deadline: options.deadline,
            margins,
            gateway: u16::from_le_bytes(gateway),
            calls: AtomicU32::new(0),
        })
    }

    /// Looks at every server once, and says what is wrong with those that are not used.
    pub async fn look(&self) -> Vec<(String, Trouble)> {
        if let Some(cluster) = &self.cluster {
            asks::look(cluster, &self.clock, self.margins.bound).await;
        }
        for server in &self.servers {
            probe::look(server, &mut None, &self.clock, self.margins.bound, None).await;
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
            looks.push(Box::pin(probe::watch(Arc::clone(server), clock, bound, None)));
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

    /// Whether enough servers are used to judge requests.
    pub fn is_usable(&self) -> bool {
        if let Some(cluster) = &self.cluster {
            return cluster.judged_since(self.clock.now()).is_some();
        }
        self.servers.iter().filter(|server| server.is_usable()).count() >= self.majority
    }

    /// What this gateway counts for itself.
    pub fn local(&self) -> &MemoryStore {
        &self.local
    }

    /// When the first stamp that is judged can be signed; `None` as long as too few servers are used.
    pub fn ready_at(&self) -> Option<Micros> {
        let passed = self.margins.of_stamps() + Duration::from_micros(1);
        if let Some(cluster) = &self.cluster {
            return Some(cluster.judged_since(self.clock.now())? + passed);
        }
        let used = self.servers.iter().filter(|server| server.is_usable());
        let mut births: Vec<Micros> = used.map(|server| server.born()).collect();
        births.sort_unstable();
        let born = births.get(self.majority - 1)?;
        Some(self.judged_from(*born))
    }

    /// The first stamp that is judged by whoever was born then.
    fn judged_from(&self, born: Micros) -> Micros {
        born + self.margins.of_stamps() + Duration::from_micros(1)
    }

    /// Raises what is known of a key's epoch, on every server that answers; how many did.
    pub async fn raise(&self, account: u64, key: [u8; 16], epoch: u64) -> usize {
        let mut command = cmd("FCALL");
        let keys = Keys::of(account, Micros(0), key);
        let key = key.first_chunk::<8>().copied().unwrap_or_default();
        command.arg("countersign_1_raise").arg(1).arg(&keys.account).arg(&key).arg(epoch);
        if let Some(cluster) = &self.cluster {
            return usize::from(self.ask_primary(cluster, account, &command).await.is_some());
        }
        let mut raised = 0;
        for server in &self.servers {
            let deadline = Instant::now() + self.deadline;
            raised += usize::from(server.call(&command, deadline).await.is_ok());
        }
        raised
    }

    /// What the servers say of a request, and of the limits of its account.
    async fn judge(&self, charge: &Charge, costs: &[Cost], token: Token) -> Verdict {
        let reserved = self.reserve(charge).await;
        if let Err(refused) = reserved {
            return refused;
        }
        let Some(fence) = self.fence(charge) else { return Verdict::Unavailable };
        let spend = Spend::new(charge, costs.len(), token, fence);
        if let Some(cluster) = &self.cluster {
            return self.judge_in(cluster, charge, costs, &spend).await;
        }
        let Some(owner) = self.owner_of(charge, fence) else { return Verdict::Unavailable };
        let tally = self.poll(charge, costs, owner, &spend).await;
        let verdict = tally.verdict(self.majority, charge, self.margins);
        let may_come_again = matches!(
            verdict,
            Verdict::Over { cost: _, retry_after: _, level: _ } | Verdict::StepSpent
        );
        if may_come_again && !tally.new.is_empty() {
            self.forget(charge, &spend, &tally.new).await;
        }
        if !tally.unmarked.is_empty() {
            self.mark_later(charge, &tally.unmarked);
        } else if tally.lacks_owner(self.majority) {
            self.ask_later(charge, owner);
        }
        verdict
    }

    /// The moment that a server must have been born before.
    fn fence(&self, charge: &Charge) -> Option<Micros> {
        // A server that lost its marks asks for them: it may be as young as it likes.
        let fence = match charge.time {
            SignedTime::Growing { key: _, nonce: _, window: _ } => Micros(u64::MAX),
            SignedTime::Stamp(_) | SignedTime::Deadline { .. } | SignedTime::Unique { .. } => {
                packed::fence(charge.time, self.margins)?
            }
        };
        // A code is accepted one step before its own: one that may have been spent before the birth counts as spent.
        let code = charge.step.map(|step| start_of(step.saturating_sub(1)));
        let fence = code.map_or(fence, |taken| fence.min(taken - self.margins.after_birth()));
        // A key of the configuration never changes; its epoch is 0.
        if charge.epoch == 0 {
            return Some(fence);
        }
        let informed = Micros(self.informed.load(Ordering::Relaxed));
        Some(fence.min(informed - self.margins.after_birth()))
    }

    /// Who keeps the account's limits: of the servers that are used, one that its number chooses, among those that
    /// remember long enough and answered last if there are any: a request whose limits nobody keeps is lost.
    fn owner(&self, account: u64, fence: Micros) -> Option<usize> {
        self.owner_among(account, |_, server| server.born() < fence)
    }

    /// The same, where only some remember long enough.
    fn owner_among(
        &self,
        account: u64,
        remembers: impl Fn(usize, &Server) -> bool,
    ) -> Option<usize> {
        let rank = |place: usize| {
            let mixed = (account ^ (place as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15))
                .wrapping_mul(0xD6E8_FEB8_6659_FD93);
            mixed ^ (mixed >> 32)
        };
        let usable = self.servers.iter().enumerate().filter(|(_, server)| server.is_usable());
        let ranked =
            usable.map(|(place, at)| (remembers(place, at), at.is_steady(), rank(place), place));
        ranked.max().map(|(_, _, _, place)| place)
    }

    /// Where the limits of an account, or of whatever many share, are kept.
    fn keeper(&self, account: u64, fence: Micros) -> Option<Arc<Server>> {
        if let Some(cluster) = &self.cluster {
            return Some(cluster.route(keys::tag(account), self.clock.now())?.server);
        }
        self.owner(account, fence).and_then(|place| self.servers.get(place)).map(Arc::clone)
    }

    fn token(&self) -> Token {
        let mut token = [0; 6];
        let call = self.calls.fetch_add(1, Ordering::Relaxed).to_le_bytes();
        let bytes = self.gateway.to_le_bytes().into_iter().chain(call);
        token.iter_mut().zip(bytes).for_each(|(place, byte)| *place = byte);
        Token(token)
    }

    /// Asks every server, and returns as soon as it is decided.
    async fn poll(&self, charge: &Charge, costs: &[Cost], owner: usize, spend: &Spend) -> Tally {
        let keys = Keys::of(charge.account, signed_at(charge), charge.key);
        let sent = self.clock.now();
        let deadline = Instant::now() + self.deadline;
        let with_costs = command(&keys, spend, &packed::costs(costs), packed::count(costs));
        let without = (self.servers.len() > 1).then(|| command(&keys, spend, &[], 0));
        let mut calls: Vec<(usize, Asked<'_>)> = Vec::new();
        for (place, server) in self.servers.iter().enumerate() {
            let command = without.as_ref().filter(|_| place != owner).unwrap_or(&with_costs);
            calls.push((place, Box::pin(server.call(command, deadline))));
        }
        let mut tally = Tally::default();
        poll_fn(|context| {
            calls.retain_mut(|(place, call)| {
                let Poll::Ready(answer) = call.as_mut().poll(context) else { return true };
                let asked = if *place == owner { costs } else { &[] };
                let believe =
                    |bytes: Vec<u8>| self.believe(self.servers.get(*place)?, &bytes, asked, sent);
                let vote = answer.ok().and_then(believe);
                tally.count(*place, *place == owner, vote, charge.now);
                false
            });
            if calls.is_empty() || tally.is_decided(self.majority) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
        tally
    }

    /// A vote, if it can be read and its server's clock agrees with ours.
    fn believe(&self, server: &Server, bytes: &[u8], costs: &[Cost], sent: Micros) -> Option<Vote> {
        let Ok(vote) = packed::read(bytes, costs) else {
            server.lapse(&Trouble::Refuses("an answer that cannot be read".into()));
            return None;
        };
        let apart = apart(vote.at, sent, self.clock.now());
        if apart > self.margins.bound {
            server.note(&Trouble::Clock(apart));
            server.judge(Some(&Trouble::Clock(apart)));
            return None;
        }
        server.thrive();
        match vote.said {
            Said::Fenced(born) => server.set_born(born),
            Said::Unborn => server.alarm.notify_one(),
            Said::New(_)
            | Said::Seen
            | Said::Over(_)
            | Said::Outdated
            | Said::StepSpent
            | Said::Low
            | Said::Unmarked(_)
            | Said::Marked(_) => {}
        }
        Some(vote)
    }

    /// Takes back what servers recorded of a request that does not pass and may come again.
    async fn forget(&self, charge: &Charge, spend: &Spend, places: &[usize]) {
        let keys = Keys::of(charge.account, signed_at(charge), charge.key);
        let mut command = cmd("FCALL");
        if let Some(growing) = &spend.growing {
            growing.forget(&mut command, &keys, spend);
        } else {
            command.arg("countersign_1_forget").arg(2).arg(&keys.generation).arg(&keys.records);
            command.arg(&spend.identity).arg(spend.nonce()).arg(&spend.record);
        }
        let deadline = Instant::now() + self.deadline;
        for server in places.iter().filter_map(|place| self.servers.get(*place)) {
            // Where it fails, the client's repetition is told for a duplicate.
            let _ = server.call(&command, deadline).await;
        }
    }
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
        let growing = marks::refund(receipt);
        let fence = match &growing {
            Some(_) => Some(Micros(u64::MAX)),
            None => packed::fence(receipt.time, self.margins),
        };
        let Some(fence) = fence else { return };
        let Some(server) = self.keeper(receipt.account, fence) else { return };
        let command = growing.unwrap_or_else(|| refund(receipt));
        let deadline = Instant::now() + self.deadline;
        tokio::spawn(async move {
            // Where it fails, it costs.
            let _ = server.call(&command, deadline).await;
        });
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
            Err(Verdict::Over { cost, retry_after, level }) => {
                return Verdict::Over { cost: cost + own.len(), retry_after, level };
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
            other => other,
        }
    }
}

fn refund(receipt: &Receipt) -> Cmd {
    let keys = Keys::of(receipt.account, keys::signed_time(receipt.time), receipt.key);
    let mut command = cmd("FCALL");
    command.arg("countersign_1_refund").arg(3);
    command.arg(&keys.records).arg(&keys.limits).arg(&keys.account);
    command.arg(&packed::field(receipt.identity.0)).arg(&receipt.route.to_le_bytes());
    command.arg(&receipt.at.0.to_le_bytes()).arg(packed::costs(&receipt.costs));
    command
}

/// A server that was asked.
type Asked<'a> = Pin<Box<dyn Future<Output = Result<Vec<u8>, Fault>> + 'a>>;

fn command(keys: &Keys, spend: &Spend, costs: &[u8], count: u8) -> Cmd {
    let mut head = spend.head;
    if let Some(last) = head.last_mut() {
        *last = count;
    }
    let mut command = cmd("FCALL");
    if let Some(growing) = &spend.growing {
        growing.spend(&mut command, keys, spend, &head, costs);
        return command;
    }
    command.arg("countersign_1_spend").arg(4);
    command.arg(&keys.generation).arg(&keys.records).arg(&keys.limits).arg(&keys.account);
    command.arg(&head).arg(&spend.identity).arg(spend.nonce()).arg(&spend.record).arg(costs);
    command
}
