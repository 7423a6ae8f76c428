//! What wrong credentials cost the address they come from: waiting, while right ones are served.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Micros;

/// Wrong credentials by address, or /64 of IPv6. Bounded.
#[derive(Debug, Default)]
pub(super) struct Throttle(Mutex<HashMap<IpAddr, Failures>>);

#[derive(Clone, Copy, Debug)]
struct Failures {
    since: Micros,
    count: u32,
}

/// What one more wrong credential comes to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Failure {
    /// How many there were in this window, with this one.
    pub(super) count: u32,
    /// How long to wait, where there were too many.
    pub(super) wait: Option<Duration>,
}

/// So many in a window are borne.
pub(super) const BORNE: u32 = 10;
/// How long a window is.
pub(super) const WINDOW: Duration = Duration::from_mins(1);
/// Addresses that are remembered; further ones share one place.
const ADDRESSES: usize = 10_000;

impl Throttle {
    /// Counts a wrong credential from `address`.
    pub(super) fn fail(&self, address: Option<IpAddr>, now: Micros) -> Failure {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut place = place(address);
        if all.len() >= ADDRESSES && !all.contains_key(&place) {
            all.retain(|_, failures| now.since(failures.since) < WINDOW);
            if all.len() >= ADDRESSES {
                place = SHARED;
            }
        }
        let failures = all.entry(place).or_insert(Failures { since: now, count: 0 });
        if now.since(failures.since) >= WINDOW {
            *failures = Failures { since: now, count: 0 };
        }
        failures.count = failures.count.saturating_add(1);
        let left = WINDOW.saturating_sub(now.since(failures.since));
        Failure { count: failures.count, wait: (failures.count > BORNE).then_some(left) }
    }

    /// Whether so many wrong ones came from `address` that nothing costly is checked for it.
    pub(super) fn is_spent(&self, address: Option<IpAddr>, now: Micros) -> bool {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let spent = |place: &IpAddr| {
            all.get(place).is_some_and(|failures| {
                failures.count >= BORNE && now.since(failures.since) < WINDOW
            })
        };
        spent(&place(address))
    }
}

impl Failure {
    /// Whether this one is worth a record: the first, the tenth, the hundredth … of a window, so that a flood leaves
    /// few.
    pub(super) fn is_noted(self) -> bool {
        let mut count = self.count;
        while count >= 10 && count.is_multiple_of(10) {
            count /= 10;
        }
        count == 1
    }
}

/// No client can have this address.
const SHARED: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

fn place(address: Option<IpAddr>) -> IpAddr {
    match address.map(|address| address.to_canonical()) {
        Some(IpAddr::V6(v6)) => {
            let network = u128::from(v6) >> 64 << 64;
            IpAddr::V6(network.into())
        }
        Some(v4) => v4,
        None => SHARED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::unnecessary_wraps, reason = "what is asked about may be no address")]
    fn from(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn the_eleventh_in_a_minute_waits_for_its_end() {
        let throttle = Throttle::default();
        let start = Micros(1_000_000);
        for count in 1..=BORNE {
            assert_eq!(throttle.fail(from("192.0.2.1"), start), Failure { count, wait: None });
        }
        assert!(throttle.is_spent(from("::ffff:192.0.2.1"), start));
        let later = start + Duration::from_secs(20);
        let failure = throttle.fail(from("192.0.2.1"), later);
        assert_eq!(failure.wait, Some(Duration::from_secs(40)));
        assert_eq!(throttle.fail(from("192.0.2.2"), later).wait, None, "another address");
        let next = start + WINDOW;
        assert!(!throttle.is_spent(from("192.0.2.1"), next));
        assert_eq!(throttle.fail(from("192.0.2.1"), next), Failure { count: 1, wait: None });
    }

    #[test]
    fn neighbours_in_one_64_share_a_count() {
        let throttle = Throttle::default();
        throttle.fail(from("2001:db8::1"), Micros(0));
        assert_eq!(throttle.fail(from("2001:db8::ffff"), Micros(0)).count, 2);
        assert_eq!(throttle.fail(from("2001:db8:0:1::1"), Micros(0)).count, 1);
    }

    #[test]
    fn a_flood_of_addresses_takes_no_more_memory_than_there_is() {
        let throttle = Throttle::default();
        for n in 0..u32::try_from(ADDRESSES).unwrap() + 50 {
            throttle.fail(Some(IpAddr::V4(n.into())), Micros(0));
        }
        assert_eq!(throttle.0.lock().unwrap().len(), ADDRESSES + 1);
        throttle.fail(from("203.0.113.1"), Micros(0) + WINDOW);
        assert_eq!(throttle.0.lock().unwrap().len(), 1);
    }

    #[test]
    fn a_flood_leaves_few_records() {
        let noted = (1..=1_000).filter(|count| Failure { count: *count, wait: None }.is_noted());
        assert_eq!(noted.collect::<Vec<_>>(), [1, 10, 100, 1_000]);
    }
}
