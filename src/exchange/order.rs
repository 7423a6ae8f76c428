//! One order: what was asked, what became of it, and its JSON forms.

use std::sync::Arc;

use serde_json::{Value, json};

use super::amount::Amount;
use super::fault::Fault;
use super::market::Market;
use super::params::Params;

/// What a client asks for.
pub(super) struct Wish {
    pub(super) market: &'static Market,
    pub(super) side: Side,
    pub(super) kind: Kind,
    /// Chosen by the client, or by the exchange when it is not.
    pub(super) client_id: Option<Arc<str>>,
    pub(super) quantity: Amount,
    /// Of a market order that names what it spends, not what it buys.
    pub(super) quote_quantity: Amount,
}

impl Wish {
    /// Reads and checks the parameters of a new order against the market's filters.
    pub(super) fn read(params: &Params) -> Result<Self, Fault> {
        let market = params.required_market()?;
        let side = Side::read(params.required("side")?)?;
        let kind = Kind::read(params)?;
        let quote_quantity = match kind {
            Kind::Market if params.text("quantity").is_none() => params
                .amount("quoteOrderQty")?
                .ok_or(Fault::MissingEither("quantity", "quoteOrderQty"))?,
            Kind::Market | Kind::Limit(..) | Kind::LimitMaker(_) => Amount::ZERO,
        };
        let quantity = match quote_quantity {
            Amount::ZERO => params.required_amount("quantity")?,
            spent => spent.buys(market.price, market.step).ok_or(Fault::Filter("LOT_SIZE"))?,
        };
        market.check(quantity, kind.price())?;
        let client_id = params.text("newClientOrderId").map(client_id).transpose()?;
        Ok(Self { market, side, kind, client_id, quantity, quote_quantity })
    }

    /// Whether it would fill at once.
    pub(super) fn is_marketable(&self) -> bool {
        match (self.kind.price(), self.side) {
            (None, _) => true,
            (Some(limit), Side::Buy) => limit >= self.market.price,
            (Some(limit), Side::Sell) => limit <= self.market.price,
        }
    }

    /// What it costs when it trades at `price`: asset and amount.
    pub(super) fn cost_at(&self, price: Amount) -> Result<(&'static str, Amount), Fault> {
        match self.side {
            Side::Buy => Ok((
                self.market.quote,
                self.quantity.at(price).ok_or(Fault::Filter("PRICE_FILTER"))?,
            )),
            Side::Sell => Ok((self.market.base, self.quantity)),
        }
    }

    /// What it brings when it trades at `price`: asset and amount.
    pub(super) fn yield_at(&self, price: Amount) -> Result<(&'static str, Amount), Fault> {
        match self.side {
            Side::Buy => Ok((self.market.base, self.quantity)),
            Side::Sell => Ok((
                self.market.quote,
                self.quantity.at(price).ok_or(Fault::Filter("PRICE_FILTER"))?,
            )),
        }
    }
}

/// An order the exchange has taken.
pub(super) struct Order {
    pub(super) id: u64,
    pub(super) client_id: Arc<str>,
    pub(super) wish: Wish,
    pub(super) state: State,
    /// When it came, in milliseconds since the epoch.
    pub(super) placed_ms: u64,
    /// When it last changed.
    pub(super) updated_ms: u64,
}

/// What became of an order. There are no partial fills here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum State {
    /// Waits, holding this much back.
    Open { asset: &'static str, locked: Amount },
    /// Traded in full at the market's price, for this much of the quote asset.
    Filled { trade: u64, quote: Amount },
    /// Cancelled by its owner.
    Cancelled,
    /// Could not fill at once, as it had to.
    Expired,
}

impl Order {
    pub(super) const fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    /// As `GET /api/v3/order` tells it.
    pub(super) fn report(&self) -> Value {
        let mut report = self.common(&self.client_id);
        set(&mut report, "time", self.placed_ms.into());
        set(&mut report, "updateTime", self.updated_ms.into());
        set(&mut report, "isWorking", true.into());
        set(&mut report, "stopPrice", json!(Amount::ZERO));
        set(&mut report, "icebergQty", json!(Amount::ZERO));
        report
    }

    /// As `POST /api/v3/order` answers, in as much detail as `newOrderRespType` asks for.
    pub(super) fn receipt(&self, detail: Option<&str>) -> Value {
        if detail == Some("ACK") {
            return json!({
                "symbol": self.wish.market.symbol, "orderId": self.id, "orderListId": -1,
                "clientOrderId": *self.client_id, "transactTime": self.updated_ms,
            });
        }
        let mut receipt = self.common(&self.client_id);
        set(&mut receipt, "transactTime", self.updated_ms.into());
        if detail != Some("RESULT") {
            set(&mut receipt, "fills", self.fills());
        }
        receipt
    }

    /// As `DELETE /api/v3/order` answers.
    pub(super) fn cancellation(&self, cancel_id: &str) -> Value {
        let mut cancellation = self.common(cancel_id);
        set(&mut cancellation, "origClientOrderId", json!(*self.client_id));
        set(&mut cancellation, "transactTime", self.updated_ms.into());
        cancellation
    }

    /// As `GET /api/v3/myTrades` tells it, if it traded.
    pub(super) fn trade(&self) -> Option<Value> {
        let State::Filled { trade, quote } = self.state else { return None };
        let market = self.wish.market;
        Some(json!({
            "symbol": market.symbol, "id": trade, "orderId": self.id, "orderListId": -1,
            "price": market.price, "qty": self.wish.quantity, "quoteQty": quote,
            "commission": Amount::ZERO, "commissionAsset": self.wish.received_asset(),
            "time": self.updated_ms, "isBuyer": self.wish.side == Side::Buy, "isMaker": false, "isBestMatch": true,
        }))
    }

    pub(super) const fn trade_id(&self) -> Option<u64> {
        match self.state {
            State::Filled { trade, .. } => Some(trade),
            State::Open { .. } | State::Cancelled | State::Expired => None,
        }
    }

    fn common(&self, client_id: &str) -> Value {
        let (executed, quote) = match self.state {
            State::Filled { quote, .. } => (self.wish.quantity, quote),
            State::Open { .. } | State::Cancelled | State::Expired => (Amount::ZERO, Amount::ZERO),
        };
        json!({
            "symbol": self.wish.market.symbol, "orderId": self.id, "orderListId": -1, "clientOrderId": client_id,
            "price": self.wish.kind.price().unwrap_or(Amount::ZERO), "origQty": self.wish.quantity,
            "executedQty": executed, "origQuoteOrderQty": self.wish.quote_quantity, "cummulativeQuoteQty": quote,
            "status": self.status(), "timeInForce": self.wish.kind.time_in_force(), "type": self.wish.kind.name(),
            "side": self.wish.side.name(), "workingTime": self.placed_ms, "selfTradePreventionMode": "NONE",
        })
    }

    const fn status(&self) -> &'static str {
        match self.state {
            State::Open { .. } => "NEW",
            State::Filled { .. } => "FILLED",
            State::Cancelled => "CANCELED",
            State::Expired => "EXPIRED",
        }
    }

    fn fills(&self) -> Value {
        let State::Filled { trade, .. } = self.state else { return json!([]) };
        json!([{
            "price": self.wish.market.price, "qty": self.wish.quantity, "commission": Amount::ZERO,
            "commissionAsset": self.wish.received_asset(), "tradeId": trade,
        }])
    }
}

impl Wish {
    const fn received_asset(&self) -> &'static str {
        match self.side {
            Side::Buy => self.market.base,
            Side::Sell => self.market.quote,
        }
    }
}

/// Which way an order trades.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Side {
    Buy,
    Sell,
}

impl Side {
    fn read(text: &str) -> Result<Self, Fault> {
        match text {
            "BUY" => Ok(Self::Buy),
            "SELL" => Ok(Self::Sell),
            _ => Err(Fault::UnknownSide),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Buy => "BUY",
            Self::Sell => "SELL",
        }
    }
}

/// How an order trades, with its limit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Market,
    Limit(Amount, TimeInForce),
    LimitMaker(Amount),
}

impl Kind {
    fn read(params: &Params) -> Result<Self, Fault> {
        match params.required("type")? {
            "MARKET" => Ok(Self::Market),
            "LIMIT" => {
                let time_in_force = TimeInForce::read(params.required("timeInForce")?)?;
                Ok(Self::Limit(params.required_amount("price")?, time_in_force))
            }
            "LIMIT_MAKER" => Ok(Self::LimitMaker(params.required_amount("price")?)),
            _ => Err(Fault::UnknownType),
        }
    }

    pub(super) const fn price(self) -> Option<Amount> {
        match self {
            Self::Market => None,
            Self::Limit(price, _) | Self::LimitMaker(price) => Some(price),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Market => "MARKET",
            Self::Limit(..) => "LIMIT",
            Self::LimitMaker(_) => "LIMIT_MAKER",
        }
    }

    const fn time_in_force(self) -> &'static str {
        match self {
            Self::Market | Self::LimitMaker(_) | Self::Limit(_, TimeInForce::UntilCancelled) => {
                "GTC"
            }
            Self::Limit(_, TimeInForce::ImmediateOrCancel) => "IOC",
            Self::Limit(_, TimeInForce::FillOrKill) => "FOK",
        }
    }
}

/// How long a limit order waits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum TimeInForce {
    UntilCancelled,
    ImmediateOrCancel,
    FillOrKill,
}

impl TimeInForce {
    fn read(text: &str) -> Result<Self, Fault> {
        match text {
            "GTC" => Ok(Self::UntilCancelled),
            "IOC" => Ok(Self::ImmediateOrCancel),
            "FOK" => Ok(Self::FillOrKill),
            _ => Err(Fault::UnknownTimeInForce),
        }
    }
}

fn client_id(text: &str) -> Result<Arc<str>, Fault> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b".:/_-".contains(&byte);
    if text.len() <= 36 && text.bytes().all(legal) {
        Ok(text.into())
    } else {
        Err(Fault::Garbled("newClientOrderId", "^[\\.A-Z\\:/a-z0-9_-]{1,36}$"))
    }
}

fn set(object: &mut Value, name: &str, value: Value) {
    if let Value::Object(fields) = object {
        fields.insert(name.to_owned(), value);
    }
}
