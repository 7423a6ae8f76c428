//! Which servers count an account's limits: defeats a limit that is spent twice, since two gateways reach different ones.
//!
//! As many count as decide, a majority, and a request passes only if none of those that answer refuses. Two majorities
//! have a server in common: whichever of them a gateway cannot reach, one at least counts for it that counts for the
//! others as well.

use std::cmp::Reverse;
use std::sync::Arc;

use arrayvec::ArrayVec;

use super::RedisStore;
use super::keys::tag;
use super::server::Server;
use crate::clock::{Clock, Micros};

/// The places of the servers that count.
pub(super) type Counters = ArrayVec<usize, MOST>;

/// The most that count: a majority of five.
const MOST: usize = 3;

impl<C: Clock> RedisStore<C> {
    /// Who counts the account's limits: of the servers that are used, the first of an order that its number chooses,
    /// beginning with those that remember long enough and answered last. `None` while too few are used.
    pub(super) fn counters(&self, account: u64, fence: Micros) -> Option<Counters> {
        self.counters_among(account, |_, server| server.born() < fence)
    }

    /// The same, where only some remember long enough.
    pub(super) fn counters_among(
        &self,
        account: u64,
        remembers: impl Fn(usize, &Server) -> bool,
    ) -> Option<Counters> {
        let rank = |(place, server): (usize, &Arc<Server>)| {
            let rank = (remembers(place, server), server.is_steady(), rank(account, place));
            (Reverse(rank), place)
        };
        let used = self.servers.iter().enumerate().filter(|(_, server)| server.is_usable());
        let mut ranked: ArrayVec<_, { MOST * 2 }> = used.take(MOST * 2).map(rank).collect();
        ranked.sort_unstable();
        let wanted = self.counters.min(MOST);
        let counters: Counters = ranked.iter().take(wanted).map(|(_, place)| *place).collect();
        (counters.len() == wanted).then_some(counters)
    }

    /// Where the limits of an account, or of whatever many share, are counted; nowhere while too few are used.
    pub(super) fn keepers(&self, account: u64, fence: Micros) -> ArrayVec<Arc<Server>, MOST> {
        if let Some(cluster) = &self.cluster {
            let route = cluster.route(tag(account), self.clock.now());
            return route.into_iter().map(|route| route.server).collect();
        }
        let places = self.counters(account, fence).unwrap_or_default();
        places.iter().filter_map(|place| self.servers.get(*place)).map(Arc::clone).collect()
    }
}

/// The order in which servers count for an account.
fn rank(account: u64, place: usize) -> u64 {
    let mixed = (account ^ (place as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15))
        .wrapping_mul(0xD6E8_FEB8_6659_FD93);
    mixed ^ (mixed >> 32)
}
