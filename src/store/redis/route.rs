//! Who is asked about a tag of a cluster, and for what: defeats a request that two of its primaries accept.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cluster::Cluster;
use super::server::Server;
use super::view::Owner;
use crate::clock::Micros;

/// Who is asked about a tag.
#[derive(Clone, Debug)]
pub(super) struct Route {
    pub(super) server: Arc<Server>,
    pub(super) owner: Owner,
    /// Until when it holds its lease: so long after most nodes were asked who named it.
    pub(super) until: Micros,
    /// Since when most nodes have named it without a break, as far as is known here.
    pub(super) since: Instant,
    /// When it began to remember; `None` as long as this gateway has not made sure that it does.
    pub(super) born: Option<Micros>,
}

impl Route {
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.owner == other.owner && Arc::ptr_eq(&self.server, &other.server)
    }
}

impl Cluster {
    /// Who is asked about a tag at `now`: its primary, if enough nodes confirm it and it remembers.
    pub(super) fn route(&self, tag: u64, now: Micros) -> Option<Route> {
        let routes = self.routes.load();
        let route = routes.get(usize::try_from(tag).ok()?)?.as_ref()?;
        (route.until > now && route.born.is_some()).then(|| route.clone())
    }

    /// The same, of nodes that were asked at `asked` of that moment or later. Where there is a route, but an older one,
    /// they are asked anew.
    pub(super) async fn confirmed(
        &self,
        tag: u64,
        asked: impl Fn(Micros) -> Micros,
        now: impl Fn() -> Micros,
        deadline: tokio::time::Instant,
    ) -> Option<Route> {
        let at = now();
        let route = self.route(tag, at)?;
        if self.is_confirmed(&route, asked(at)) {
            return Some(route);
        }
        self.until(tag, |route, now| self.is_confirmed(route, asked(now)), now, deadline).await
    }

    /// A node sent us elsewhere: waits until we know where.
    pub(super) async fn moved(
        &self,
        tag: u64,
        from: &Route,
        asked: impl Fn(Micros) -> Micros,
        now: impl Fn() -> Micros,
        deadline: tokio::time::Instant,
    ) -> Option<Route> {
        let is_wanted = |route: &Route, now: Micros| {
            !route.is_same(from) && self.is_confirmed(route, asked(now))
        };
        self.until(tag, is_wanted, now, deadline).await
    }

    fn is_confirmed(&self, route: &Route, asked: Micros) -> bool {
        route.until >= asked + self.options.lease || self.weakened.reach_off
    }

    /// Waits for such a route.
    async fn until(
        &self,
        tag: u64,
        is_wanted: impl Fn(&Route, Micros) -> bool,
        now: impl Fn() -> Micros,
        deadline: tokio::time::Instant,
    ) -> Option<Route> {
        let mut is_asked = false;
        loop {
            let changed = self.changed.notified();
            let mut changed = std::pin::pin!(changed);
            changed.as_mut().enable();
            let at = now();
            if let Some(route) = self.route(tag, at).filter(|route| is_wanted(route, at)) {
                return Some(route);
            }
            if !std::mem::replace(&mut is_asked, true) {
                self.doubt.notify_waiters();
            }
            tokio::time::timeout_at(deadline, changed).await.ok()?;
        }
    }

    /// Whether what the server of a route said by `now` counts, by nodes that were asked at `asked` of that moment or
    /// later: it may have stood still before it answered, or we.
    pub(super) fn holds(
        &self,
        tag: u64,
        route: &Route,
        asked: impl Fn(Micros) -> Micros,
        now: Micros,
    ) -> bool {
        let present = self.route(tag, now).filter(|present| present.is_same(route));
        present.is_some_and(|present| self.is_confirmed(&present, asked(now)))
    }

    /// Since when most nodes have named the owner of a route, told at `now`.
    ///
    /// None of them goes back, so whoever heard most of them name a predecessor had asked them before: that one's last
    /// lease began no later. It is reckoned back from now, so that a clock that was set ahead meanwhile makes it no
    /// earlier.
    pub(super) fn named_since(&self, route: &Route, now: (Micros, Instant)) -> Micros {
        if self.weakened.lease_unwaited {
            return Micros(0);
        }
        now.0 - now.1.saturating_duration_since(route.since)
    }

    /// The birth that counts, as if there had been no predecessor, where the server of a route was born at `born` and
    /// whatever followed one must lie so much later.
    pub(super) fn counted_from(
        &self,
        route: &Route,
        born: Micros,
        later: Duration,
        now: (Micros, Instant),
    ) -> Micros {
        born.max(self.named_since(route, now) + later).min(born + later)
    }

    /// Since when most tags are judged, as if none had had a predecessor: of those whose primary holds its lease, the one
    /// in the middle. With one primary lost the others' accounts are served, and a gateway is ready.
    pub(super) fn judged_since(&self, later: Duration, now: (Micros, Instant)) -> Option<Micros> {
        let routes = self.routes.load();
        let held =
            routes.iter().flatten().filter(|route| route.until > now.0 && route.server.is_usable());
        let counted = |route: &Route| Some(self.counted_from(route, route.born?, later, now));
        let mut births: Vec<Micros> = held.filter_map(counted).collect();
        births.sort_unstable();
        births.get(routes.len() / 2).copied()
    }

    /// How soon nodes are asked again how things stand: sooner where any tag is judged by nobody.
    pub(super) fn pace(&self, now: Micros) -> Duration {
        let routes = self.routes.load();
        let is_judged =
            |route: &Route| route.until > now && route.born.is_some() && route.server.is_usable();
        let is_calm = routes.iter().all(|route| route.as_ref().is_some_and(is_judged));
        self.options.lease / if is_calm { CALM } else { UNSETTLED }
    }
}

/// How often nodes are asked within a lease: while all tags are judged, and while any is not.
const CALM: u32 = 8;
const UNSETTLED: u32 = 16;
