//! What an account may ask about itself, and order.

use serde_json::{Value, json};

use crate::clock::Micros;

use super::books::{Books, Which};
use super::fault::Fault;
use super::market::ASSETS;
use super::order::{Order, Wish};
use super::params::Params;

/// A request for one account.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Private {
    Account,
    Coins,
    PlaceOrder,
    TestOrder,
    Order,
    CancelOrder,
    OpenOrders,
    CancelOpenOrders,
    AllOrders,
    Trades,
    ListenKey,
    KeepListenKey,
}

impl Private {
    pub(super) fn find(method: &str, path: &str) -> Option<Self> {
        match (method, path) {
            ("GET", "/api/v3/account") => Some(Self::Account),
            ("GET", "/sapi/v1/capital/config/getall") => Some(Self::Coins),
            ("POST", "/api/v3/order") => Some(Self::PlaceOrder),
            ("POST", "/api/v3/order/test") => Some(Self::TestOrder),
            ("GET", "/api/v3/order") => Some(Self::Order),
            ("DELETE", "/api/v3/order") => Some(Self::CancelOrder),
            ("GET", "/api/v3/openOrders") => Some(Self::OpenOrders),
            ("DELETE", "/api/v3/openOrders") => Some(Self::CancelOpenOrders),
            ("GET", "/api/v3/allOrders") => Some(Self::AllOrders),
            ("GET", "/api/v3/myTrades") => Some(Self::Trades),
            ("POST", "/api/v3/userDataStream") => Some(Self::ListenKey),
            ("PUT" | "DELETE", "/api/v3/userDataStream") => Some(Self::KeepListenKey),
            _ => None,
        }
    }

    pub(super) fn answer(
        self,
        books: &mut Books,
        account: &str,
        params: &Params,
        now: Micros,
    ) -> Result<Value, Fault> {
        match self {
            Self::Account => Ok(balances(books, account, now)),
            Self::Coins => Ok(coins(books, account)),
            Self::PlaceOrder => {
                let order = books.place(account, Wish::read(params)?, now)?;
                Ok(order.receipt(params.text("newOrderRespType")))
            }
            Self::TestOrder => Wish::read(params).map(|_| json!({})),
            Self::Order => Ok(named(books, account, params, Fault::NoSuchOrder)?.report()),
            Self::CancelOrder => cancel(books, account, params, now),
            Self::OpenOrders => {
                let market = params.market()?.map(|market| market.symbol);
                let here =
                    |order: &&Order| market.is_none_or(|symbol| symbol == order.wish.market.symbol);
                Ok(books.open_orders(account).filter(here).map(Order::report).collect())
            }
            Self::CancelOpenOrders => cancel_all(books, account, params, now),
            Self::AllOrders => all_orders(books, account, params),
            Self::Trades => trades(books, account, params),
            Self::ListenKey => Ok(json!({ "listenKey": books.listen_key(account) })),
            Self::KeepListenKey => match params.required("listenKey")? {
                key if key == books.listen_key(account) => Ok(json!({})),
                _ => Err(Fault::NoSuchListenKey),
            },
        }
    }
}

fn balances(books: &Books, account: &str, now: Micros) -> Value {
    let balances = books.balances(account);
    let balances: Vec<_> = balances
        .iter()
        .map(|(asset, balance)| json!({ "asset": asset, "free": balance.free, "locked": balance.locked }))
        .collect();
    json!({
        "makerCommission": 0, "takerCommission": 0, "buyerCommission": 0, "sellerCommission": 0,
        "commissionRates":
            { "maker": "0.00000000", "taker": "0.00000000", "buyer": "0.00000000", "seller": "0.00000000" },
        "canTrade": true, "canWithdraw": false, "canDeposit": false, "brokered": false,
        "requireSelfTradePrevention": false, "preventSor": false, "updateTime": now.as_millis(),
        "accountType": "SPOT", "balances": balances, "permissions": ["SPOT"],
    })
}

fn coins(books: &Books, account: &str) -> Value {
    let balances = books.balances(account);
    let coin = |code: &str, name: &str| {
        let balance = balances.of(code);
        json!({
            "coin": code, "name": name, "free": balance.free, "locked": balance.locked,
            "freeze": "0", "withdrawing": "0", "ipoing": "0", "ipoable": "0", "storage": "0",
            "depositAllEnable": false, "withdrawAllEnable": false, "isLegalMoney": false, "trading": true,
            "networkList": [{
                "network": code, "coin": code, "name": name, "isDefault": true,
                "depositEnable": false, "withdrawEnable": false, "withdrawIntegerMultiple": "0.00000001",
                "withdrawFee": "0", "withdrawMin": "0.00000001", "withdrawMax": "9999999999.99999999",
                "minConfirm": 1, "unLockConfirm": 0, "sameAddress": false, "busy": false,
            }],
        })
    };
    ASSETS.iter().map(|asset| coin(asset.code, asset.name)).collect()
}

/// The order that `orderId` or `origClientOrderId` names.
fn named<'b>(
    books: &'b Books,
    account: &str,
    params: &Params,
    none: Fault,
) -> Result<&'b Order, Fault> {
    let market = params.required_market()?;
    let which = match (params.number("orderId")?, params.text("origClientOrderId")) {
        (Some(id), _) => Which::Id(id),
        (None, Some(client_id)) => Which::ClientId(client_id),
        (None, None) => return Err(Fault::MissingEither("origClientOrderId", "orderId")),
    };
    books.find(account, market, which).ok_or(none)
}

fn cancel(books: &mut Books, account: &str, params: &Params, now: Micros) -> Result<Value, Fault> {
    let id = named(books, account, params, Fault::NothingToCancel)?.id;
    let cancel_id =
        params.text("newClientOrderId").map_or_else(|| books.cancel_id(id), str::to_owned);
    let order = books.cancel(account, id, now).ok_or(Fault::NothingToCancel)?;
    Ok(order.cancellation(&cancel_id))
}

fn cancel_all(
    books: &mut Books,
    account: &str,
    params: &Params,
    now: Micros,
) -> Result<Value, Fault> {
    let market = params.required_market()?;
    let here = |order: &&Order| order.wish.market.symbol == market.symbol;
    let ids: Vec<_> = books.open_orders(account).filter(here).map(|order| order.id).collect();
    if ids.is_empty() {
        return Err(Fault::NothingToCancel);
    }
    let mut cancelled = Vec::with_capacity(ids.len());
    for id in ids {
        let cancel_id = books.cancel_id(id);
        cancelled
            .extend(books.cancel(account, id, now).map(|order| order.cancellation(&cancel_id)));
    }
    Ok(cancelled.into())
}

fn all_orders(books: &Books, account: &str, params: &Params) -> Result<Value, Fault> {
    let market = params.required_market()?;
    let (from, span, limit) = (params.number("orderId")?, Span::read(params)?, params.limit()?);
    let wanted = |order: &&Order| {
        order.wish.market.symbol == market.symbol
            && from.is_none_or(|from: u64| order.id >= from)
            && span.holds(order.placed_ms)
    };
    let found = books.orders(account).filter(wanted).map(Order::report);
    Ok(page(found, from.is_some() || span.starts(), limit))
}

fn trades(books: &Books, account: &str, params: &Params) -> Result<Value, Fault> {
    let market = params.required_market()?;
    let (order_id, from, span) =
        (params.number("orderId")?, params.number("fromId")?, Span::read(params)?);
    let wanted = |order: &&Order| {
        order.wish.market.symbol == market.symbol
            && order_id.is_none_or(|id: u64| order.id == id)
            && from.is_none_or(|from: u64| order.trade_id().is_some_and(|id| id >= from))
            && span.holds(order.updated_ms)
    };
    let found = books.orders(account).filter(wanted).filter_map(Order::trade);
    Ok(page(found, from.is_some() || span.starts(), params.limit()?))
}

/// The first rows when the client says where to start, else the newest; oldest first in both.
fn page(rows: impl DoubleEndedIterator<Item = Value>, from_start: bool, limit: usize) -> Value {
    if from_start {
        return rows.take(limit).collect();
    }
    let mut newest: Vec<_> = rows.rev().take(limit).collect();
    newest.reverse();
    newest.into()
}

/// The time a client asks about, in milliseconds since the epoch, both ends included.
struct Span {
    start: Option<u64>,
    end: Option<u64>,
}

impl Span {
    fn read(params: &Params) -> Result<Self, Fault> {
        Ok(Self { start: params.number("startTime")?, end: params.number("endTime")? })
    }

    fn starts(&self) -> bool {
        self.start.is_some()
    }

    fn holds(&self, ms: u64) -> bool {
        self.start.is_none_or(|start| ms >= start) && self.end.is_none_or(|end| ms <= end)
    }
}
