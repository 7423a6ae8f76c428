//! Defeats a flood under a valid key: each request is charged to the limits of its key and its address.

use std::hash::{BuildHasher, Hash};
use std::net::IpAddr;
use std::sync::LazyLock;
use std::time::Duration;

use arrayvec::ArrayVec;
use foldhash::quality::RandomState;

use crate::denial::{Denial, Excess};
use crate::key::Key;
use crate::store::{Cost, Levels, Limit, MAX_COSTS, Subject};

/// How full the limits are that a request was charged to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Standing {
    costs: ArrayVec<Cost, MAX_COSTS>,
    levels: Levels,
}

impl Standing {
    pub(crate) fn new(costs: ArrayVec<Cost, MAX_COSTS>, levels: Levels) -> Self {
        Self { costs, levels }
    }

    /// Each limit with the units spent of it; the key's own come first.
    pub fn limits(&self) -> impl Iterator<Item = (Limit, u32)> {
        self.costs.iter().zip(&self.levels).map(|(cost, level)| (cost.limit, *level))
    }
}

/// Whose allowance a cost is taken from, where that is counted in this process alone; hashed with a seed of it.
#[derive(Hash)]
enum Owner<'a> {
    Address(IpAddr),
    /// Whoever names a key at an address, without proof.
    Claimant(&'a [u8; 16], usize, IpAddr),
}

/// Who is to pay.
pub(crate) enum Payer<'k> {
    /// Nobody but the address.
    Anyone,
    /// Who has proved to hold the key.
    Holder(&'k Key),
    /// Who names the key from there. It gets an allowance of the key's size for itself: key ids are public, and
    /// the holder's must not be spent by strangers.
    Claimant(&'k Key, IpAddr),
}

/// The costs of one request: `weight` units of each of the key's limits, and of the address's.
pub(crate) fn costs(
    payer: &Payer<'_>,
    address: Option<(IpAddr, Limit)>,
    weight: u32,
) -> ArrayVec<Cost, MAX_COSTS> {
    let mut costs = ArrayVec::new();
    let (key, from) = match payer {
        Payer::Anyone => (None, None),
        Payer::Holder(key) => (Some(key), None),
        Payer::Claimant(key, from) => (Some(key), Some(network(*from))),
    };
    if let Some(key) = key {
        for (place, limit) in key.limits.iter().take(MAX_COSTS - 1).enumerate() {
            let subject = match from {
                None => own(key, place),
                Some(from) => subject(&Owner::Claimant(&key.tag.0, place, from)),
            };
            costs.push(Cost { subject, limit: *limit, weight, spans_accounts: from.is_some() });
        }
    }
    if let Some((address, limit)) = address {
        let subject = subject(&Owner::Address(network(address)));
        costs.push(Cost { subject, limit, weight, spans_accounts: true });
    }
    costs
}

/// What the store says of a limit that does not hold.
pub(crate) fn exceeded(
    costs: &[Cost],
    place: usize,
    address: bool,
    level: u32,
    retry_after: Duration,
) -> Denial {
    let Some(cost) = costs.get(place) else { return Denial::Unavailable };
    let excess = Excess { retry_after, level, quota: cost.limit.quota, period: cost.limit.period };
    if address && place + 1 == costs.len() {
        Denial::AddressLimited(excess)
    } else {
        Denial::Limited(excess)
    }
}

/// A key's own allowance, under the same name on every gateway.
fn own(key: &Key, place: usize) -> Subject {
    // Odd, so that the allowances of one key differ, whatever its tag.
    let place = u64::try_from(place).unwrap_or(u64::MAX).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    Subject(key.tag.short() ^ place)
}

fn subject(owner: &Owner<'_>) -> Subject {
    static SEED: LazyLock<RandomState> = LazyLock::new(RandomState::default);
    Subject(SEED.hash_one(owner))
}

/// The unit that an address is limited by: an IPv4 address, or the /64 of an IPv6 one, which one subscriber owns.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_subscriber_counts_as_one_and_a_mapped_address_as_the_ipv4_one() {
        let net = |text: &str| network(text.parse().unwrap());
        assert_eq!(net("2001:db8:1:2::1"), net("2001:db8:1:2:ffff::9"));
        assert_ne!(net("2001:db8:1:2::1"), net("2001:db8:1:3::1"));
        assert_eq!(net("::ffff:192.0.2.1"), net("192.0.2.1"));
        assert_ne!(net("192.0.2.1"), net("192.0.2.2"));
    }
}
