//! Defeats a flood under a valid key: each request is charged to the limits of its key, its account, its route and its
//! address.

use std::hash::{BuildHasher, Hash};
use std::net::IpAddr;
use std::sync::LazyLock;
use std::time::Duration;

use arrayvec::ArrayVec;
use foldhash::quality::RandomState;

use super::load::Load;
use super::meter::{Charged, Counts, Lane, Meter};
use crate::admit::{Effect, Route};
use crate::denial::{Denial, Excess};
use crate::key::{Key, MAX_KEY_LIMITS};
use crate::store::{Cost, Levels, Limit, MAX_COSTS, Receipt, Scope, Subject, Window};

/// The costs of one request.
pub(crate) type Costs = ArrayVec<Cost, MAX_COSTS>;

/// How full the limits are that a request was charged to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Standing(ArrayVec<Filled, MAX_COSTS>);

/// A limit that a request was charged to, as far as anybody is told of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Filled {
    /// How much.
    pub limit: Limit,
    /// The units spent of it.
    pub spent: u32,
    /// How it is counted.
    pub window: Window,
    /// What its units are.
    pub counts: Counts,
    /// Whether it is counted and not enforced.
    pub shadow: bool,
    /// The units that this request took of it.
    pub weight: u32,
    /// Whether they are given back, once the backend has answered.
    pub charged: Charged,
}

impl Filled {
    fn of(cost: &Cost, spent: u32) -> Self {
        let Cost { limit, window, counts, shadow, weight, charged, .. } = *cost;
        Self { limit, spent, window, counts, shadow, weight, charged }
    }
}

impl Standing {
    /// That of these costs; nothing else stands there yet.
    pub(crate) fn fill(&mut self, costs: &Costs, levels: &Levels) {
        let filled = costs.iter().zip(levels.iter());
        self.0.extend(filled.map(|(cost, level)| Filled::of(cost, *level)));
    }

    /// That of some of the costs, by their places.
    pub(crate) fn fill_some(&mut self, costs: &Costs, levels: &[(usize, u32)]) {
        let known = levels.iter().filter_map(|(place, level)| Some((costs.get(*place)?, *level)));
        self.0.extend(known.take(MAX_COSTS).map(|(cost, level)| Filled::of(cost, level)));
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Each limit with the units spent of it; the key's own come first.
    pub fn limits(&self) -> impl Iterator<Item = (Limit, u32)> {
        self.0.iter().map(|filled| (filled.limit, filled.spent))
    }

    /// Each limit, with how it is counted; the key's own come first.
    pub fn filled(&self) -> &[Filled] {
        &self.0
    }
}

/// Says in the receipt of the same charge when it was counted; what did not fit in shadow was not.
pub(crate) fn complete(costs: &Costs, levels: &Levels, receipt: Option<&mut Receipt>) {
    let Some(receipt) = receipt else { return };
    receipt.at = levels.at;
    receipt.counted.clone_from(&levels.counted);
    if levels.is_local {
        // The store was charged nothing.
        receipt.costs.clear();
    }
    let was_charged = |wanted: &Cost| {
        let mut charged = costs.iter().zip(levels.iter());
        charged.any(|(cost, level)| cost == wanted && *level <= cost.limit.quota)
    };
    receipt.costs.retain(|cost| was_charged(cost));
}

/// What the limits in shadow would have refused.
pub(crate) fn beyond(costs: &Costs, levels: &Levels) -> impl Iterator<Item = Denial> {
    let charged = costs.iter().zip(levels.iter().copied()).enumerate();
    let beyond = charged.filter(|(_, (cost, level))| cost.shadow && *level > cost.limit.quota);
    beyond.map(|(place, (_, level))| exceeded(costs, place, level, Duration::ZERO))
}

/// Whose allowance a cost is taken from, where that is counted in this process alone; hashed with a seed of it.
#[derive(Hash)]
enum Owner<'a> {
    /// Whoever names a key at an address, without proof.
    Claimant(&'a [u8; 16], usize, IpAddr),
}

/// Who is to pay.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Payer<'k> {
    /// Nobody but the address.
    Anyone,
    /// Who has proved to hold the key.
    Holder(&'k Key),
    /// Who names the key from there. It gets an allowance of the key's size for itself: key ids are public, and
    /// the holder's must not be spent by strangers.
    Claimant(&'k Key),
}

/// Adds the costs of one request from `peer`: those of the key and its account come first, then those that more
/// accounts share.
pub(crate) fn charge(payer: Payer<'_>, route: &Route, peer: IpAddr, load: Load, costs: &mut Costs) {
    let key = match payer {
        Payer::Anyone => None,
        Payer::Holder(key) | Payer::Claimant(key) => Some(key),
    };
    if let Some(key) = key {
        let rides = route.effect == Effect::Cancel
            && key.limits.iter().any(|meter| meter.lane == Lane::Cancel);
        for (place, meter) in key.limits.iter().take(MAX_KEY_LIMITS).enumerate() {
            if (meter.lane == Lane::Cancel) == rides {
                of_key(payer, key, place, meter, peer, load, costs);
            }
        }
    }
    let charges = route.charges.as_deref();
    let meters = charges.map_or(&[][..], |charges| &*charges.meters);
    for (place, meter) in meters.iter().enumerate() {
        if let Some(key) = key.filter(|_| matches!(meter.scope, Scope::Key | Scope::Account)) {
            of_key(payer, key, MAX_KEY_LIMITS + place, meter, peer, load, costs);
        }
    }
    for meter in meters {
        let owner = match meter.scope {
            Scope::Key | Scope::Account => continue,
            Scope::Address => of_address(network(peer)) ^ meter.name,
            Scope::Global => meter.name,
        };
        put(meter, meter.subject(owner), true, load, costs);
    }
    if let Some(limit) = route.address_limit {
        let meter = Meter { scope: Scope::Address, ..Meter::from(limit) };
        let subject = meter.subject(of_address(network(peer)));
        put(&meter, subject, true, load, costs);
    }
}

/// What a key's own limit, its account's or one of the route for each of them costs. What is not proved is counted
/// apart, and here alone.
fn of_key(
    payer: Payer<'_>,
    key: &Key,
    place: usize,
    meter: &Meter,
    peer: IpAddr,
    load: Load,
    to: &mut Costs,
) {
    let is_proved = !matches!(payer, Payer::Claimant(_));
    let owner = match meter.scope {
        _ if !is_proved => of_process(&Owner::Claimant(&key.tag.0, place, network(peer))),
        Scope::Account => key.account_tag.short() ^ meter.name,
        Scope::Key | Scope::Address | Scope::Global if place < MAX_KEY_LIMITS => own(key, place),
        Scope::Key | Scope::Address | Scope::Global => key.tag.short() ^ meter.name,
    };
    put(meter, meter.subject(owner), !is_proved, load, to);
}

fn put(meter: &Meter, subject: Subject, spans_accounts: bool, load: Load, to: &mut Costs) {
    let weight = match meter.counts {
        Counts::Weight => load.weight,
        Counts::Orders if load.orders == 0 => return,
        Counts::Orders => load.orders,
    };
    let Meter { limit, window, scope, counts, charged, shadow, lane: _, name: _ } = *meter;
    let cost =
        Cost { subject, limit, weight, spans_accounts, window, scope, shadow, counts, charged };
    // Configuration sees to it that there is room.
    let _full = to.try_push(cost);
}

/// What the store says of a limit that does not hold.
pub(crate) fn exceeded(costs: &[Cost], place: usize, level: u32, retry_after: Duration) -> Denial {
    let Some(cost) = costs.get(place) else { return Denial::Unavailable };
    let excess = Excess { retry_after, level, quota: cost.limit.quota, period: cost.limit.period };
    match cost.scope {
        Scope::Address => Denial::AddressLimited(excess),
        Scope::Key | Scope::Account | Scope::Global if cost.counts == Counts::Orders => {
            Denial::OrdersLimited(excess)
        }
        Scope::Key | Scope::Account | Scope::Global => Denial::Limited(excess),
    }
}

/// A key's own allowance, under the same name on every gateway.
fn own(key: &Key, place: usize) -> u64 {
    // Odd, so that the allowances of one key differ, whatever its tag.
    let place = u64::try_from(place).unwrap_or(u64::MAX).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    key.tag.short() ^ place
}

/// An address's allowance, under the same name on every gateway. Whoever chooses among addresses can find two that share
/// one, and gains less by it.
fn of_address(network: IpAddr) -> u64 {
    let bits = match network {
        IpAddr::V4(v4) => u128::from(v4.to_bits()) | 0xffff << 32,
        IpAddr::V6(v6) => v6.to_bits(),
    };
    let half = |bits: u128| u64::try_from(bits & u128::from(u64::MAX)).unwrap_or(0);
    let mixed = u128::from(half(bits) ^ 0x9E37_79B9_7F4A_7C15)
        * u128::from(half(bits >> 64) ^ 0xD6E8_FEB8_6659_FD93);
    let folded = u128::from(half(mixed) ^ half(mixed >> 64)) * 0xA076_1D64_78BD_642F;
    half(folded) ^ half(folded >> 64)
}

fn of_process(owner: &Owner<'_>) -> u64 {
    static SEED: LazyLock<RandomState> = LazyLock::new(RandomState::default);
    SEED.hash_one(owner)
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
