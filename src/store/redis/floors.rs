//! Growing numbers in a cluster: defeats a second pass of each through a failover.
//!
//! A primary knows marks, and is told the floor of one that it does not know, as a server of its own is (`marks.rs` says
//! why that is safe). But a predecessor may go on accepting, and gateways may go by it, until its lease is over; and what it
//! accepts then may have been reserved only a moment before. So the reservation that becomes a floor is read once the
//! primary was born so long ago that nobody goes by a predecessor any longer: whatever one accepted was reserved before it
//! did, so it lies at or below the floor. Until then the primary accepts no number of the key. A primary that becomes one
//! again begins anew, whatever it remembers.

use std::sync::Arc;
use std::time::Duration;

use redis::Cmd;

use super::RedisStore;
use super::cluster::Cluster;
use super::keys::tag;
use super::marks::{Known, Marks, Name};
use super::numbers::ask_mark;
use super::packed::{Said, Token};
use super::route::Route;
use super::tally::MARKED;
use crate::clock::{Clock, Micros};
use crate::store::{Charge, Verdict};

impl<C: Clock> RedisStore<C> {
    /// Sees to it that an account's primary knows a mark; whether it does.
    pub(super) async fn know_in(
        &self,
        cluster: &Cluster,
        marks: &Marks,
        known: &Known,
        account: u64,
        name: Name,
    ) -> bool {
        let token = self.token();
        let ask = ask_mark(account, name, token, None);
        let told = match self.ask_mark_in(cluster, account, &ask).await {
            Some((_, Said::Marked(_))) => return true,
            Some((route, Said::Unmarked(told))) if self.until_alone(&route).is_zero() => told,
            Some(_) | None => return false,
        };
        let Ok(reserved) = name.reserved(&*marks.registry).await else { return false };
        let floor = known.learn(reserved);
        let ask = ask_mark(account, name, token, Some((told, floor)));
        matches!(self.ask_mark_in(cluster, account, &ask).await, Some((_, Said::Marked(_))))
    }

    /// Has a primary know a mark that it told it does not, behind the request's back, if it may by now; and what is said
    /// to the request.
    pub(super) fn mark_in(&self, charge: &Charge, route: &Route, told: Token) -> Verdict {
        let wait = self.until_alone(route);
        if wait.is_zero() {
            self.mark_later(charge, vec![(0, Arc::clone(&route.server), told)]);
        }
        Verdict::Fenced { retry_after: wait.max(MARKED) }
    }

    /// What is said to a number that could not be reserved: where the account's primary is too young, until when.
    pub(super) fn unreserved(&self, charge: &Charge) -> Verdict {
        let now = self.clock.now();
        let route =
            self.cluster.as_ref().and_then(|cluster| cluster.route(tag(charge.account), now));
        match route.map(|route| self.until_alone(&route)) {
            Some(retry_after) if !retry_after.is_zero() => Verdict::Fenced { retry_after },
            Some(_) | None => Verdict::Unavailable,
        }
    }

    async fn ask_mark_in(
        &self,
        cluster: &Cluster,
        account: u64,
        ask: &Cmd,
    ) -> Option<(Route, Said)> {
        let (route, sent, bytes) =
            self.ask_primary(cluster, account, |_| Micros(0), |_| ask.clone()).await?;
        let vote = self.believe(&route.server, &bytes, &[], sent)?;
        Some((route, vote.said))
    }

    /// For how long some gateway may still go by a predecessor of a primary.
    fn until_alone(&self, route: &Route) -> Duration {
        if route.server.weakened.floor_at_once {
            return Duration::ZERO;
        }
        let after = self.margins.after_birth() + Duration::from_micros(1);
        route.born.map_or(after, |born| (born + after).since(self.clock.now()))
    }
}
