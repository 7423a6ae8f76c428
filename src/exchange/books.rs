//! Every account and order, and what trading does to them; bounded in memory.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use crate::clock::Micros;

use super::account::{Account, Balances};
use super::fault::Fault;
use super::market::Market;
use super::order::{Kind, Order, State, TimeInForce, Wish};

/// Every account and order.
pub(super) struct Books {
    accounts: HashMap<Arc<str>, Account>,
    /// Closed orders, the first closed first: the first to be forgotten.
    closed: VecDeque<(Arc<str>, u64)>,
    orders: usize,
    max_orders: usize,
    last_order: u64,
    last_trade: u64,
    /// Makes ids that cannot be guessed.
    random: RandomState,
}

/// Which of its orders an account means.
#[derive(Clone, Copy)]
pub(super) enum Which<'p> {
    /// The exchange's id.
    Id(u64),
    /// The client's id.
    ClientId(&'p str),
}

impl Books {
    pub(super) fn new(max_orders: usize) -> Self {
        Self {
            accounts: HashMap::new(),
            closed: VecDeque::new(),
            orders: 0,
            max_orders,
            last_order: 0,
            last_trade: 0,
            random: RandomState::new(),
        }
    }

    /// What `account` has. One that never traded is not remembered, and has what every account starts with.
    pub(super) fn balances(&self, account: &str) -> Balances {
        self.accounts
            .get(account)
            .map_or_else(Balances::opening, |account| account.balances.clone())
    }

    /// Takes an order, or changes nothing.
    pub(super) fn place(&mut self, name: &str, wish: Wish, now: Micros) -> Result<&Order, Fault> {
        if self.orders >= self.max_orders && self.closed.is_empty() {
            return Err(Fault::Full);
        }
        let (name, account) = match self.accounts.get_key_value(name) {
            Some((name, account)) => (Arc::clone(name), Some(account)),
            None if self.accounts.len() >= MAX_ACCOUNTS || name.len() > MAX_NAME => {
                return Err(Fault::Full);
            }
            None => (name.into(), None),
        };
        if account.zip(wish.client_id.as_ref()).is_some_and(|(account, id)| account.has_open(id)) {
            return Err(Fault::DuplicateOrder);
        }
        if account.is_some_and(|account| account.open.len() >= MAX_OPEN) {
            return Err(Fault::Filter("MAX_NUM_ORDERS"));
        }
        let mut balances =
            account.map_or_else(Balances::opening, |account| account.balances.clone());
        let state = settle(&wish, &mut balances, self.last_trade + 1)?;

        // From here on nothing fails.
        self.make_room();
        self.last_order += 1;
        self.orders += 1;
        if matches!(state, State::Filled { .. }) {
            self.last_trade += 1;
        }
        let id = self.last_order;
        let client_id =
            wish.client_id.clone().unwrap_or_else(|| self.unguessable(&("order", id), 1).into());
        let at = now.as_millis();
        let order = Order { id, client_id, wish, state, placed_ms: at, updated_ms: at };
        if !order.is_open() {
            self.closed.push_back((Arc::clone(&name), id));
        }
        let account = self.accounts.entry(name).or_insert_with(Account::opening);
        account.balances = balances;
        account.add(order);
        account.orders.get(&id).ok_or(Fault::Full)
    }

    /// The order that `account` means.
    pub(super) fn find(&self, account: &str, market: &Market, which: Which<'_>) -> Option<&Order> {
        let account = self.accounts.get(account)?;
        let id = match which {
            Which::Id(id) => id,
            Which::ClientId(client_id) => *account.by_client_id.get(client_id)?,
        };
        account.orders.get(&id).filter(|order| order.wish.market.symbol == market.symbol)
    }

    /// Cancels an open order and sets free what it held back.
    pub(super) fn cancel(&mut self, name: &str, id: u64, now: Micros) -> Option<&Order> {
        let name = Arc::clone(self.accounts.get_key_value(name)?.0);
        let account = self.accounts.get_mut(&name)?;
        let order = account.orders.get_mut(&id)?;
        let State::Open { asset, locked } = order.state else { return None };
        account.balances.unlock(asset, locked);
        account.open.remove(&id);
        order.state = State::Cancelled;
        order.updated_ms = now.as_millis();
        self.closed.push_back((name, id));
        Some(order)
    }

    /// The orders of `account`, oldest first.
    pub(super) fn orders(&self, account: &str) -> impl DoubleEndedIterator<Item = &Order> {
        self.accounts.get(account).into_iter().flat_map(|account| account.orders.values())
    }

    /// The open orders of `account`, oldest first.
    pub(super) fn open_orders(&self, account: &str) -> impl Iterator<Item = &Order> {
        let account = self.accounts.get(account).into_iter();
        account.flat_map(|account| account.open.iter().filter_map(|id| account.orders.get(id)))
    }

    /// The account's listen key: always the same one, known to nobody else.
    pub(super) fn listen_key(&self, account: &str) -> String {
        self.unguessable(&("listen", account), 4)
    }

    /// A new id for a cancellation that has none.
    pub(super) fn cancel_id(&self, order: u64) -> String {
        self.unguessable(&("cancel", order), 1)
    }

    fn make_room(&mut self) {
        while self.orders >= self.max_orders
            && let Some((name, id)) = self.closed.pop_front()
        {
            if let Some(account) = self.accounts.get_mut(&name) {
                account.forget(id);
            }
            self.orders -= 1;
        }
    }

    fn unguessable(&self, of: &impl std::hash::Hash, words: u8) -> String {
        (0..words).fold(String::new(), |id, word| {
            id + &format!("{:016x}", self.random.hash_one((word, of)))
        })
    }
}

/// What becomes of a new order at once, and what that does to the balances.
fn settle(wish: &Wish, balances: &mut Balances, trade: u64) -> Result<State, Fault> {
    let price = wish.market.price;
    match (wish.kind, wish.is_marketable()) {
        (Kind::LimitMaker(_), true) => Err(Fault::WouldTake),
        (Kind::Market | Kind::Limit(..), true) => {
            balances.exchange(wish.cost_at(price)?, wish.yield_at(price)?)?;
            Ok(State::Filled {
                trade,
                quote: wish.quantity.at(price).ok_or(Fault::Filter("PRICE_FILTER"))?,
            })
        }
        (Kind::Limit(_, TimeInForce::ImmediateOrCancel | TimeInForce::FillOrKill), false) => {
            Ok(State::Expired)
        }
        (Kind::Market | Kind::Limit(..) | Kind::LimitMaker(_), false) => {
            let (asset, locked) = wish.cost_at(wish.kind.price().unwrap_or(price))?;
            balances.lock(asset, locked)?;
            Ok(State::Open { asset, locked })
        }
    }
}

const MAX_ACCOUNTS: usize = 100_000;
/// Bytes in the name of an account.
const MAX_NAME: usize = 256;
/// Open orders of one account; published as the filter `MAX_NUM_ORDERS`.
pub(super) const MAX_OPEN: usize = 10_000;
