//! Requests over a cluster: one primary decides, and its word counts while it holds its lease.

use redis::Cmd;
use tokio::time::Instant;

use super::RedisStore;
use super::cluster::{Cluster, Route};
use super::judge::command;
use super::keys::{Keys, signed_at, tag};
use super::packed::{Said, Spend, Token};
use super::server::Fault;
use super::tally::Tally;
use crate::clock::{Clock, Micros};
use crate::store::{Charge, Cost, Verdict};

impl<C: Clock> RedisStore<C> {
    /// Whether the servers are nodes of a cluster.
    pub fn is_cluster(&self) -> bool {
        self.cluster.is_some()
    }

    /// How long ago most nodes of a cluster said who is the primary of what; `None` where it is too long to count.
    pub fn map_age(&self) -> Option<std::time::Duration> {
        self.cluster.as_ref()?.age(self.clock.now())
    }

    /// What the account's primary says of a request.
    pub(super) async fn judge_in(
        &self,
        cluster: &Cluster,
        charge: &Charge,
        costs: &[Cost],
        token: Token,
    ) -> Verdict {
        let Some(late) = self.fence(charge, self.margins) else { return Verdict::Unavailable };
        let keys = Keys::of(charge.account, signed_at(charge));
        let asked = |route: &Route| {
            let fence = self.fence_of(cluster, route, charge).unwrap_or(late);
            command(&keys, &Spend::new(charge, token, fence), costs)
        };
        let Some((route, sent, bytes)) = self.ask_primary(cluster, charge.account, asked).await
        else {
            return Verdict::Unavailable;
        };
        let vote = self.believe(&route.server, &bytes, costs, sent);
        let vote = vote.map(|mut vote| {
            if let Some(born) = birth(&vote.said, charge.now) {
                vote.said = Said::Fenced(cluster.counted_from(&route, born, self.clock.both()));
            }
            (vote, bytes)
        });
        let mut tally = Tally::default();
        tally.count(0, true, vote, charge.now);
        if let [(_, told)] = *tally.unmarked {
            return self.mark_in(charge, &route, told);
        }
        tally.verdict(1, charge, self.margins.without_lease())
    }

    /// The moment that the server of a route must have been born before, where that is all: nobody went by a
    /// predecessor any longer at a time that matters to this request. A primary that forgot and is the primary still
    /// makes nobody wait for a lease.
    fn fence_of(&self, cluster: &Cluster, route: &Route, charge: &Charge) -> Option<Micros> {
        let fence = self.fence(charge, self.margins.without_lease())?;
        (cluster.settled(route, self.clock.both()) < fence).then_some(fence)
    }

    /// Asks the primary of an account, and once more where it says that it is none any longer. What comes when the
    /// lease is over says nothing: the primary may have been stopped, or replaced, before it answered.
    pub(super) async fn ask_primary(
        &self,
        cluster: &Cluster,
        account: u64,
        command: impl Fn(&Route) -> Cmd,
    ) -> Option<(Route, Micros, Vec<u8>)> {
        let tag = tag(account);
        let deadline = Instant::now() + self.deadline;
        let mut sent = self.clock.now();
        let mut route = cluster.route(tag, sent)?;
        let mut answer = route.server.call(&command(&route), deadline).await;
        if answer == Err(Fault::Moved) {
            route = cluster.moved(tag, &route, || self.clock.now(), deadline).await?;
            sent = self.clock.now();
            answer = route.server.call(&command(&route), deadline).await;
        }
        let bytes = answer.ok()?;
        cluster.holds(tag, &route, self.clock.now()).then_some((route, sent, bytes))
    }
}

/// When a server was born that does not judge; one that has not been yet is born now.
fn birth(said: &Said, now: Micros) -> Option<Micros> {
    match said {
        Said::Fenced(born) => Some(*born),
        Said::Unborn => Some(now),
        Said::New(_)
        | Said::Seen
        | Said::Over(_)
        | Said::Full
        | Said::Outdated
        | Said::StepSpent
        | Said::Low
        | Said::Unmarked(_)
        | Said::Marked(_) => None,
    }
}
