//! Requests over a cluster: one primary decides, and its word counts while it holds its lease.

use redis::Cmd;
use tokio::time::Instant;

use super::RedisStore;
use super::cluster::Cluster;
use super::judge::command;
use super::keys::{Keys, signed_at, tag};
use super::packed::{Said, Spend, Token};
use super::route::Route;
use super::server::Fault;
use super::tally::Tally;
use crate::clock::{Clock, Micros};
use crate::store::{Charge, Cost, SignedTime, Verdict};

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
        let (all, own) = (self.margins, self.margins.without_lease());
        let (Some(late), Some(early)) = (self.fence(charge, all), self.fence(charge, own)) else {
            return Verdict::Unavailable;
        };
        let keys = Keys::of(charge.account, signed_at(charge));
        // Without a predecessor whom it matters to, nobody waits for a lease: a primary that forgot may be one still.
        let asked = |route: &Route| {
            let is_alone = cluster.named_since(route, self.clock.both()) < late;
            let fence = if is_alone { early } else { late };
            command(&keys, charge, &Spend::new(charge, token, fence), costs)
        };
        // What passes by an older word a successor could not tell from its own.
        let confirmed = |now: Micros| match charge.time {
            SignedTime::Stamp(at) => at - all.reach(),
            SignedTime::Deadline { .. } => now - all.for_deadlines(),
            SignedTime::Growing { .. } | SignedTime::Unique { .. } => Micros(0),
        };
        let answer = self.ask_primary(cluster, charge.account, confirmed, asked).await;
        let Some((route, sent, bytes)) = answer else { return Verdict::Unavailable };
        let vote = self.believe(&route.server, &bytes, costs, sent);
        let vote = vote.map(|mut vote| {
            if let Some(born) = birth(&vote.said, charge.now) {
                let (later, now) = (all.after_last_word(charge), self.clock.both());
                vote.said = Said::Fenced(cluster.counted_from(&route, born, later, now));
            }
            (vote, bytes)
        });
        let mut tally = Tally::default();
        tally.count(0, true, vote, charge.now);
        if let [(_, told)] = *tally.unmarked {
            return self.mark_in(charge, &route, told);
        }
        tally.verdict(1, charge, own)
    }

    /// Asks the primary of an account, which nodes have confirmed that were asked at `confirmed` of that moment or later;
    /// and once more where it says that it is none any longer. What comes when nodes have not confirmed it since then says
    /// nothing: the primary may have been stopped, or replaced, before it answered.
    pub(super) async fn ask_primary(
        &self,
        cluster: &Cluster,
        account: u64,
        confirmed: impl Fn(Micros) -> Micros,
        command: impl Fn(&Route) -> Cmd,
    ) -> Option<(Route, Micros, Vec<u8>)> {
        let (tag, now) = (tag(account), || self.clock.now());
        let deadline = Instant::now() + self.deadline;
        let mut route = cluster.confirmed(tag, &confirmed, now, deadline).await?;
        let mut sent = now();
        let mut answer = route.server.call(&command(&route), deadline).await;
        if answer == Err(Fault::Moved) {
            route = cluster.moved(tag, &route, &confirmed, now, deadline).await?;
            sent = now();
            answer = route.server.call(&command(&route), deadline).await;
        }
        let bytes = answer.ok()?;
        cluster.holds(tag, &route, &confirmed, now()).then_some((route, sent, bytes))
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
