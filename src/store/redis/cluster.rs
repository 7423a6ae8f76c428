//! A cluster: each tag is asked of one primary, while that one holds its lease.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use super::backlog::Backlog;
use super::lease::{Standing, Votes};
use super::options::{Address, ClusterOptions, Weakened};
use super::route::Route;
use super::server::Server;
use super::trouble::Trouble;
use super::view::{Known, NodeId, Owner, View, tag_slots};
use crate::clock::{Clock, Micros};
use crate::metrics::ServerMeters;

/// The nodes of a cluster, and which of them is asked about what.
pub(super) struct Cluster {
    pub(super) options: ClusterOptions,
    /// The names of those that were told of in the configuration.
    seeds: Vec<String>,
    /// What every server is made with.
    connect_timeout: Duration,
    max_in_flight: usize,
    pub(super) weakened: Weakened,
    /// Always empty: no route of a cluster is judged by a gateway alone.
    backlog: Arc<Backlog>,
    slots: Vec<u16>,
    state: Mutex<State>,
    pub(super) routes: ArcSwap<Vec<Option<Route>>>,
    /// Rung when the routes were brought up to date.
    pub(super) changed: Notify,
    /// Rung when the nodes should be asked at once how things stand.
    pub(super) doubt: Notify,
    meters: OnceLock<ServerMeters>,
    /// Whether was said what of the nodes' settings is no good though nothing is accepted twice for it.
    pub(super) advised: AtomicBool,
}

struct State {
    votes: Votes,
    /// By the address that they are reached under.
    servers: Vec<Arc<Server>>,
    by_node: HashMap<NodeId, Arc<Server>>,
    births: Vec<Option<Birth>>,
}

/// That a server remembers what belongs to a tag, for as long as it is the tag's primary in that epoch.
#[derive(Clone, Copy, Debug)]
struct Birth {
    owner: Owner,
    born: Micros,
}

impl Cluster {
    pub(super) fn new(
        seeds: Vec<Address>,
        options: ClusterOptions,
        connect_timeout: Duration,
        max_in_flight: usize,
        weakened: Weakened,
        backlog: Arc<Backlog>,
    ) -> Self {
        let slots = tag_slots();
        let names = seeds.iter().map(|seed| seed.name.clone()).collect();
        let servers = seeds.into_iter().map(|seed| {
            let (name, client, weakened) = (seed.name, seed.client, weakened.clone());
            let backlog = Arc::clone(&backlog);
            Arc::new(Server::new(
                name,
                client,
                connect_timeout,
                max_in_flight,
                true,
                weakened,
                backlog,
            ))
        });
        let state = State {
            votes: Votes::new(options.lease, weakened.lease_off),
            servers: servers.collect(),
            by_node: HashMap::new(),
            births: vec![None; slots.len()],
        };
        Self {
            routes: ArcSwap::from_pointee(vec![None; slots.len()]),
            state: Mutex::new(state),
            options,
            seeds: names,
            connect_timeout,
            max_in_flight,
            weakened,
            backlog,
            slots,
            changed: Notify::new(),
            doubt: Notify::new(),
            meters: OnceLock::new(),
            advised: AtomicBool::new(false),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn lease(&self) -> Duration {
        self.options.lease
    }

    /// Every node that is known.
    pub(super) fn servers(&self) -> Vec<Arc<Server>> {
        self.state().servers.clone()
    }

    pub(super) fn set_meters(&self, meters: ServerMeters) {
        for server in self.servers() {
            server.set_meter(meters.server(&server.name));
        }
        // An error means that there are some already.
        let _ = self.meters.set(meters);
    }

    /// The tags that a server is the primary of at `now`.
    pub(super) fn held_by(&self, server: &Server, now: Micros) -> Vec<(u64, Owner)> {
        let routes = self.routes.load();
        let held = (0..).zip(routes.iter()).filter_map(|(tag, route)| {
            let route = route.as_ref()?;
            (std::ptr::eq(Arc::as_ptr(&route.server), server) && route.until > now)
                .then_some((tag, route.owner))
        });
        held.collect()
    }

    /// A server remembers what belongs to a tag since then; `None`: nobody knows.
    pub(super) fn set_born(&self, tag: u64, owner: Owner, born: Option<Micros>) {
        let mut state = self.state();
        if let Some(place) = usize::try_from(tag).ok().and_then(|tag| state.births.get_mut(tag)) {
            *place = born.map(|born| Birth { owner, born });
        }
    }

    /// `server` said this when it was asked at `asked`.
    pub(super) fn hear(&self, server: &Server, asked: Micros, text: &str) -> Result<(), Trouble> {
        let view = View::read(text, &self.slots, self.options.by_name)
            .ok_or_else(|| Trouble::Refuses("an answer that cannot be read".to_owned()))?;
        let mut state = self.state();
        for node in &view.nodes {
            self.meet(&mut state, server, node);
        }
        state.votes.hear(asked, view);
        self.forget_gone(&mut state);
        Ok(())
    }

    /// Sees to it that there is a server for a node that one of them told of.
    fn meet(&self, state: &mut State, told: &Server, node: &Known) {
        let host = if node.host.is_empty() { told.host() } else { &node.host };
        if node.port == 0 {
            return;
        }
        let name = (self.options.name)(host, node.port);
        if state.by_node.get(&node.id).is_some_and(|known| known.name == name) {
            return;
        }
        let known = state.servers.iter().find(|server| server.name == name).map(Arc::clone);
        let known = known.or_else(|| {
            let client = match (self.options.reach)(&name) {
                Ok(client) if state.servers.len() < MOST => client,
                Ok(_) => {
                    tracing::error!(%name, "a node of the shared store is left out: there are too many");
                    return None;
                }
                Err(error) => {
                    tracing::error!(%name, %error, "a node of the shared store cannot be reached");
                    return None;
                }
            };
            let (timeout, most) = (self.connect_timeout, self.max_in_flight);
            let (weakened, backlog) = (self.weakened.clone(), Arc::clone(&self.backlog));
            let server = Server::new(name, client, timeout, most, true, weakened, backlog);
            if let Some(meters) = self.meters.get() {
                server.set_meter(meters.server(&server.name));
            }
            let server = Arc::new(server);
            state.servers.push(Arc::clone(&server));
            Some(server)
        });
        if let Some(server) = known {
            state.by_node.insert(node.id, server);
        }
    }

    /// Drops the nodes that no other speaks of any longer.
    fn forget_gone(&self, state: &mut State) {
        let State { votes, servers, by_node, births: _ } = state;
        by_node.retain(|id, _| votes.knows(*id));
        servers.retain(|server| {
            let is_kept = self.seeds.contains(&server.name)
                || by_node.values().any(|known| Arc::ptr_eq(known, server));
            if let Some(meters) = self.meters.get().filter(|_| !is_kept) {
                meters.forget(&server.name);
            }
            is_kept
        });
    }

    /// Brings the routes up to date with what was heard.
    pub(super) fn publish(&self, clock: &impl Clock) {
        let mut rung = Vec::new();
        {
            let state = self.state();
            // After all that was heard.
            let (now, instant) = clock.both();
            let is_whole = state.votes.primaries(now).is_some_and(|count| count >= PRIMARIES);
            let before = self.routes.load();
            let standings = state.votes.standings(self.slots.len(), now);
            let route = |(tag, standing): (usize, Option<Standing>)| {
                let standing = standing.filter(|_| is_whole)?;
                let server = Arc::clone(state.by_node.get(&standing.owner.id)?);
                let birth = state.births.get(tag).copied().flatten();
                let born =
                    birth.filter(|birth| birth.owner == standing.owner).map(|birth| birth.born);
                let (owner, until) = (standing.owner, standing.until);
                let route = Route { server, owner, until, since: instant, born };
                let before = before.get(tag).and_then(Option::as_ref);
                let before = before.filter(|before| before.until > now && before.is_same(&route));
                let since = before.map_or(instant, |before| before.since);
                Some(Route { since, ..route })
            };
            let routes: Vec<_> = standings.into_iter().enumerate().map(route).collect();
            for (now, before) in routes.iter().zip(before.iter()) {
                let Some(now) = now else { continue };
                let is_same = before.as_ref().is_some_and(|before| before.is_same(now));
                let is_rung = rung.iter().any(|server| Arc::ptr_eq(server, &now.server));
                if !is_same && now.born.is_none() && !is_rung {
                    rung.push(Arc::clone(&now.server));
                }
            }
            drop(before);
            // Under the lock, so that no older routes take the place of newer ones.
            self.routes.store(Arc::new(routes));
        }
        self.changed.notify_waiters();
        // It is to be made sure that they remember.
        for server in rung {
            server.alarm.notify_one();
        }
    }

    /// How long ago most nodes were asked who is the primary of what, and answered; `None` where that is too long.
    pub(super) fn age(&self, now: Micros) -> Option<Duration> {
        self.state().votes.asked(now).map(|asked| now.since(asked))
    }

    /// What is wrong with it as a whole, and with each node that is not used.
    pub(super) fn troubles(&self, now: Micros) -> Vec<(String, Trouble)> {
        let state = self.state();
        let found = state.votes.primaries(now).filter(|found| *found < PRIMARIES);
        let whole = found.map(|found| ("cluster".to_owned(), Trouble::FewPrimaries(found)));
        let of = |server: &Arc<Server>| Some((server.name.clone(), server.trouble()?));
        whole.into_iter().chain(state.servers.iter().filter_map(of)).collect()
    }

    /// Whether so many tags lie on primaries that only an operator can cure that those of the others are too few.
    pub(super) fn is_beyond_waiting(&self) -> bool {
        let lost =
            |server: &Server| server.trouble().is_some_and(|trouble| trouble.needs_operator());
        let routes = self.routes.load();
        let tags = routes.iter().flatten().filter(|route| lost(&route.server)).count();
        tags >= routes.len() - routes.len() / 2 || self.servers().iter().all(|server| lost(server))
    }

    /// Whether a node that says so is the primary of anything, by its own word or another's.
    pub(super) fn claims(&self, server: &Server, now: Micros) -> bool {
        let state = self.state();
        let id = state.by_node.iter().find(|(_, known)| std::ptr::eq(Arc::as_ptr(known), server));
        let Some((id, _)) = id else { return false };
        state
            .votes
            .fresh(now)
            .any(|(_, view)| view.owners.iter().flatten().any(|owner| owner.id == *id))
    }

    /// Whether the nodes' settings were not advised on yet.
    pub(super) fn is_to_advise(&self) -> bool {
        !self.advised.swap(true, Ordering::Relaxed)
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("servers", &self.servers()).finish_non_exhaustive()
    }
}

/// The fewest nodes with slots: with fewer no failover comes about when one is lost.
const PRIMARIES: usize = 3;
/// The most nodes, so that their metrics are bounded.
const MOST: usize = 256;
