//! Defeats a holder who opens WebSockets without end: how many there may be at a time, in all and of each.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use foldhash::fast::RandomState;

use crate::checks::limit::network;
use crate::denial::{Denial, Excess};
use crate::key::{Key, Tag};

/// The WebSockets that are open, over all workers.
pub(super) struct Tunnels {
    most: usize,
    most_each: usize,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    all: usize,
    by_holder: HashMap<Holder, usize, RandomState>,
}

/// Whom a WebSocket counts for: the account of its key, or the address where no key was asked for.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Holder {
    Account(Tag),
    Address(IpAddr),
}

/// The place of one WebSocket, given back when dropped.
pub(super) struct Place {
    tunnels: Arc<Tunnels>,
    holder: Holder,
}

impl Tunnels {
    pub(super) fn new(most: usize, most_each: usize) -> Self {
        Self { most, most_each, open: Mutex::default() }
    }

    /// A place for one more.
    pub(super) fn take(
        this: &Arc<Self>,
        key: Option<&Arc<Key>>,
        peer: IpAddr,
    ) -> Result<Place, Denial> {
        let holder = key
            .map_or_else(|| Holder::Address(network(peer)), |key| Holder::Account(key.account_tag));
        let mut open = this.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.all >= this.most {
            return Err(Denial::Unavailable);
        }
        let own = open.by_holder.get(&holder).copied().unwrap_or(0);
        if own >= this.most_each {
            let count = |number| u32::try_from(number).unwrap_or(u32::MAX);
            let (level, quota) = (count(own), count(this.most_each));
            // Nobody knows when one of them will close.
            let excess = Excess { retry_after: A_WHILE, level, quota, period: A_WHILE };
            return Err(match holder {
                Holder::Account(_) => Denial::Limited(excess),
                Holder::Address(_) => Denial::AddressLimited(excess),
            });
        }
        open.all += 1;
        open.by_holder.insert(holder, own + 1);
        Ok(Place { tunnels: Arc::clone(this), holder })
    }
}

const A_WHILE: Duration = Duration::from_secs(10);

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.tunnels.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.all = open.all.saturating_sub(1);
        if let Some(own) = open.by_holder.get_mut(&self.holder) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                open.by_holder.remove(&self.holder);
            }
        }
    }
}

impl fmt::Debug for Tunnels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        write!(f, "Tunnels({} of {})", open.all, self.most)
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
        assert_eq!(tunnels.open.lock().unwrap().by_holder.len(), 0);
    }
}
