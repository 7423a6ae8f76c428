//! What is traded: assets, markets with their fixed reference prices, and their filters.

use serde_json::{Value, json};

use super::amount::Amount;
use super::books::MAX_OPEN;
use super::fault::Fault;

/// An asset.
pub(super) struct Asset {
    pub(super) code: &'static str,
    pub(super) name: &'static str,
    /// What every account starts with.
    pub(super) opening: Amount,
}

/// A pair of assets that trade.
pub(super) struct Market {
    pub(super) symbol: &'static str,
    pub(super) base: &'static str,
    pub(super) quote: &'static str,
    /// The reference price: everything marketable fills at it.
    pub(super) price: Amount,
    /// The smallest step of prices.
    pub(super) tick: Amount,
    /// The smallest step of quantities, and the smallest quantity.
    pub(super) step: Amount,
}

/// Every asset.
pub(super) const ASSETS: &[Asset] = &[
    Asset { code: "BTC", name: "Bitcoin", opening: Amount::whole(100) },
    Asset { code: "ETH", name: "Ethereum", opening: Amount::whole(1_000) },
    Asset { code: "BNB", name: "BNB", opening: Amount::whole(5_000) },
    Asset { code: "USDT", name: "TetherUS", opening: Amount::whole(10_000_000) },
];

/// Every market. Tick times step is at least 1e-8, so that every product of price and quantity is exact.
pub(super) const MARKETS: &[Market] = &[
    Market {
        symbol: "BTCUSDT",
        base: "BTC",
        quote: "USDT",
        price: Amount::whole(60_000),
        tick: Amount::units(1_000_000),
        step: Amount::units(1_000),
    },
    Market {
        symbol: "ETHUSDT",
        base: "ETH",
        quote: "USDT",
        price: Amount::whole(3_000),
        tick: Amount::units(1_000_000),
        step: Amount::units(10_000),
    },
    Market {
        symbol: "BNBUSDT",
        base: "BNB",
        quote: "USDT",
        price: Amount::whole(600),
        tick: Amount::units(1_000_000),
        step: Amount::units(100_000),
    },
];

/// The market called `symbol`.
pub(super) fn find(symbol: &str) -> Option<&'static Market> {
    MARKETS.iter().find(|market| market.symbol == symbol)
}

impl Market {
    /// Whether `quantity`, at the limit `price` if there is one, passes the filters.
    pub(super) fn check(&self, quantity: Amount, price: Option<Amount>) -> Result<(), Fault> {
        if price.is_some_and(|price| {
            price < self.tick || price > MAX_PRICE || !price.is_multiple_of(self.tick)
        }) {
            return Err(Fault::Filter("PRICE_FILTER"));
        }
        if quantity < self.step || quantity > MAX_QUANTITY || !quantity.is_multiple_of(self.step) {
            return Err(Fault::Filter("LOT_SIZE"));
        }
        match quantity.at(price.unwrap_or(self.price)) {
            Some(notional) if (MIN_NOTIONAL..=MAX_NOTIONAL).contains(&notional) => Ok(()),
            Some(_) | None => Err(Fault::Filter("NOTIONAL")),
        }
    }

    /// Its entry in `exchangeInfo`.
    pub(super) fn info(&self) -> Value {
        json!({
            "symbol": self.symbol, "status": "TRADING",
            "baseAsset": self.base, "baseAssetPrecision": 8, "baseCommissionPrecision": 8,
            "quoteAsset": self.quote, "quotePrecision": 8, "quoteAssetPrecision": 8, "quoteCommissionPrecision": 8,
            "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET"],
            "icebergAllowed": false, "ocoAllowed": false, "otoAllowed": false, "opoAllowed": false,
            "quoteOrderQtyMarketAllowed": true, "allowTrailingStop": false, "cancelReplaceAllowed": false,
            "amendAllowed": false, "pegInstructionsAllowed": false,
            "isSpotTradingAllowed": true, "isMarginTradingAllowed": false,
            "filters": self.filters(),
            "permissions": [], "permissionSets": [["SPOT"]],
            "defaultSelfTradePreventionMode": "NONE", "allowedSelfTradePreventionModes": ["NONE"],
        })
    }

    fn filters(&self) -> Value {
        json!([
            { "filterType": "PRICE_FILTER", "minPrice": self.tick, "maxPrice": MAX_PRICE, "tickSize": self.tick },
            { "filterType": "LOT_SIZE", "minQty": self.step, "maxQty": MAX_QUANTITY, "stepSize": self.step },
            { "filterType": "ICEBERG_PARTS", "limit": 10 },
            { "filterType": "MARKET_LOT_SIZE", "minQty": self.step, "maxQty": MAX_QUANTITY, "stepSize": self.step },
            {
                "filterType": "NOTIONAL", "minNotional": MIN_NOTIONAL, "applyMinToMarket": true,
                "maxNotional": MAX_NOTIONAL, "applyMaxToMarket": true, "avgPriceMins": 0,
            },
            { "filterType": "MAX_NUM_ORDERS", "maxNumOrders": MAX_OPEN },
        ])
    }
}

const MAX_PRICE: Amount = Amount::whole(1_000_000);
const MAX_QUANTITY: Amount = Amount::whole(9_000);
const MIN_NOTIONAL: Amount = Amount::whole(5);
const MAX_NOTIONAL: Amount = Amount::whole(9_000_000);
