//! Defeats a holder who opens WebSockets without end: how many there may be at a time, in all and of each.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::shares::{Share, Shares};
use crate::checks::limit::network;
use crate::denial::{Denial, Excess};
use crate::key::{Key, Tag};

/// The WebSockets that are open, over all workers.
pub(super) struct Tunnels {
    most: usize,
    most_each: usize,
    open: AtomicUsize,
    by_holder: Arc<Shares<Holder>>,
}

/// Whom a WebSocket counts for: the account of its key, or the address where no key was asked for.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Holder {
    Account(Tag),
    Address(IpAddr),
}

/// The place of one WebSocket, given back when dropped.
pub(super) struct Place {
    _open: Open,
    _share: Share<Holder>,
}

/// One of all that are open.
struct Open(Arc<Tunnels>);

impl Tunnels {
    pub(super) fn new(most: usize, most_each: usize) -> Self {
        Self { most, most_each, open: AtomicUsize::new(0), by_holder: Arc::default() }
    }

    /// A place for one more.
    pub(super) fn take(
        this: &Arc<Self>,
        key: Option<&Arc<Key>>,
        peer: IpAddr,
    ) -> Result<Place, Denial> {
        let holder = key
            .map_or_else(|| Holder::Address(network(peer)), |key| Holder::Account(key.account_tag));
        let more = |open| (open < this.most).then_some(open + 1);
        this.open
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .map_err(|_| Denial::Unavailable)?;
        let open = Open(Arc::clone(this));
        let share = Shares::take(&this.by_holder, holder, this.most_each).map_err(|own| {
            let count = |number| u32::try_from(number).unwrap_or(u32::MAX);
            let (level, quota) = (count(own), count(this.most_each));
            // Nobody knows when one of them will close.
            let excess = Excess { retry_after: A_WHILE, level, quota, period: A_WHILE };
            match holder {
                Holder::Account(_) => Denial::Limited(excess),
                Holder::Address(_) => Denial::AddressLimited(excess),
            }
        })?;
        Ok(Place { _open: open, _share: share })
    }
}

const A_WHILE: Duration = Duration::from_secs(10);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Tunnels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tunnels({} of {})", self.open.load(Ordering::Relaxed), self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    #[test]
    fn each_holder_and_all_together_have_a_bound_and_places_come_back() {
        let tunnels = Arc::new(Tunnels::new(3, 2));
        let first = Tunnels::take(&tunnels, None, at(1)).unwrap();
        let second = Tunnels::take(&tunnels, None, at(1)).unwrap();
        let third = Tunnels::take(&tunnels, None, at(1));
        assert!(matches!(third, Err(Denial::AddressLimited(excess)) if excess.quota == 2));
        let other = Tunnels::take(&tunnels, None, at(2)).unwrap();
        assert!(matches!(Tunnels::take(&tunnels, None, at(3)), Err(Denial::Unavailable)));
        drop(first);
        let again = Tunnels::take(&tunnels, None, at(1)).unwrap();
        drop((second, other, again));
        assert_eq!(tunnels.open.load(Ordering::Relaxed), 0);
    }
}
