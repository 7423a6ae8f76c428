//! Requests over a cluster: one primary decides, and its word counts while it holds its lease.

use redis::Cmd;
use tokio::time::Instant;

use super::RedisStore;
use super::cluster::{Cluster, Route};
use super::judge::command;
use super::keys::{Keys, signed_at, tag};
use super::packed::Spend;
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
        spend: &Spend,
    ) -> Verdict {
        let keys = Keys::of(charge.account, signed_at(charge));
        let command = command(&keys, spend, costs);
        let Some((route, sent, bytes)) = self.ask_primary(cluster, charge.account, &command).await
        else {
            return Verdict::Unavailable;
        };
        let vote = self.believe(&route.server, &bytes, costs, sent).map(|vote| (vote, bytes));
        let mut tally = Tally::default();
        tally.count(0, true, vote, charge.now);
        if let [(_, told)] = *tally.unmarked {
            return self.mark_in(charge, &route, told);
        }
        tally.verdict(1, charge, self.margins)
    }

    /// Asks the primary of an account, and once more where it says that it is none any longer. What comes when the
    /// lease is over says nothing: the primary may have been stopped, or replaced, before it answered.
    pub(super) async fn ask_primary(
        &self,
        cluster: &Cluster,
        account: u64,
        command: &Cmd,
    ) -> Option<(Route, Micros, Vec<u8>)> {
        let tag = tag(account);
        let deadline = Instant::now() + self.deadline;
        let mut sent = self.clock.now();
        let mut route = cluster.route(tag, sent)?;
        let mut answer = route.server.call(command, deadline).await;
        if answer == Err(Fault::Moved) {
            route = cluster.moved(tag, &route, || self.clock.now(), deadline).await?;
            sent = self.clock.now();
            answer = route.server.call(command, deadline).await;
        }
        let bytes = answer.ok()?;
        cluster.holds(tag, &route, self.clock.now()).then_some((route, sent, bytes))
    }
}
