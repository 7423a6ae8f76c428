//! One account: what it has, what its open orders hold back, and its orders.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::amount::Amount;
use super::fault::Fault;
use super::market::ASSETS;
use super::order::Order;

/// An amount of one asset.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Balance {
    /// For new orders.
    pub(super) free: Amount,
    /// Held back by open orders.
    pub(super) locked: Amount,
}

/// The balances of one account.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Balances(BTreeMap<&'static str, Balance>);

impl Balances {
    /// What every account starts with.
    pub(super) fn opening() -> Self {
        Self(
            ASSETS
                .iter()
                .map(|asset| (asset.code, Balance { free: asset.opening, ..Balance::default() }))
                .collect(),
        )
    }

    pub(super) fn of(&self, asset: &str) -> Balance {
        self.0.get(asset).copied().unwrap_or_default()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&'static str, Balance)> {
        self.0.iter().map(|(&asset, &balance)| (asset, balance))
    }

    /// Gives `paid` for `received`, or changes nothing.
    pub(super) fn exchange(
        &mut self,
        paid: (&'static str, Amount),
        received: (&'static str, Amount),
    ) -> Result<(), Fault> {
        let rest = self.of(paid.0).free.minus(paid.1).ok_or(Fault::InsufficientBalance)?;
        let sum = self.of(received.0).free.plus(received.1).ok_or(Fault::Full)?;
        self.0.entry(paid.0).or_default().free = rest;
        self.0.entry(received.0).or_default().free = sum;
        Ok(())
    }

    /// Holds `amount` back, or changes nothing.
    pub(super) fn lock(&mut self, asset: &'static str, amount: Amount) -> Result<(), Fault> {
        let balance = self.of(asset);
        let free = balance.free.minus(amount).ok_or(Fault::InsufficientBalance)?;
        let locked = balance.locked.plus(amount).ok_or(Fault::Full)?;
        self.0.insert(asset, Balance { free, locked });
        Ok(())
    }

    /// Sets `amount` free again.
    pub(super) fn unlock(&mut self, asset: &'static str, amount: Amount) {
        let balance = self.of(asset);
        if let (Some(free), Some(locked)) =
            (balance.free.plus(amount), balance.locked.minus(amount))
        {
            self.0.insert(asset, Balance { free, locked });
        }
    }
}

/// One account.
pub(super) struct Account {
    pub(super) balances: Balances,
    pub(super) orders: BTreeMap<u64, Order>,
    pub(super) open: BTreeSet<u64>,
    /// The newest order of each client order id. An open one is always the newest, as its id cannot be used again.
    pub(super) by_client_id: HashMap<Arc<str>, u64>,
}

impl Account {
    pub(super) fn opening() -> Self {
        Self {
            balances: Balances::opening(),
            orders: BTreeMap::new(),
            open: BTreeSet::new(),
            by_client_id: HashMap::new(),
        }
    }

    pub(super) fn has_open(&self, client_id: &str) -> bool {
        self.by_client_id.get(client_id).is_some_and(|id| self.open.contains(id))
    }

    pub(super) fn add(&mut self, order: Order) {
        self.by_client_id.insert(Arc::clone(&order.client_id), order.id);
        if order.is_open() {
            self.open.insert(order.id);
        }
        self.orders.insert(order.id, order);
    }

    /// Forgets a closed order.
    pub(super) fn forget(&mut self, id: u64) {
        if let Some(order) = self.orders.remove(&id)
            && self.by_client_id.get(&order.client_id) == Some(&id)
        {
            self.by_client_id.remove(&order.client_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::exchange::order::{State, Wish};
    use crate::exchange::params::Params;

    fn cancelled(id: u64) -> Order {
        let target =
            "/?symbol=BTCUSDT&side=BUY&type=LIMIT_MAKER&quantity=1&price=50000".parse().unwrap();
        let wish = Wish::read(&Params::read(&target, b"")).unwrap();
        Order {
            id,
            client_id: "a".into(),
            wish,
            state: State::Cancelled,
            placed_ms: 0,
            updated_ms: 0,
        }
    }

    #[test]
    fn a_forgotten_order_leaves_nothing_and_takes_nothing_of_a_newer_one() {
        let mut account = Account::opening();
        account.add(cancelled(1));
        account.add(cancelled(2));
        account.forget(1);
        assert_eq!(account.by_client_id.get("a"), Some(&2));
        account.forget(2);
        assert!(account.by_client_id.is_empty() && account.orders.is_empty());
    }
}
