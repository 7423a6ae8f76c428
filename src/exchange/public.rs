//! Market data: fixed, but of a plausible shape.

use serde_json::{Value, json};

use crate::clock::Micros;

use super::amount::Amount;
use super::fault::Fault;
use super::market::{MARKETS, Market};
use super::params::Params;

/// A request for market data.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Public {
    Ping,
    Time,
    ExchangeInfo,
    /// Markets the exchange does not have: futures and options.
    NoContracts,
    /// Pairs it does not lend for.
    NoMargin,
    Price,
    Statistics,
    BestPrices,
    Depth,
    Trades,
    AggregateTrades,
    AveragePrice,
    Candles,
}

impl Public {
    pub(super) fn find(method: &str, path: &str) -> Option<Self> {
        match (method, path) {
            ("GET", "/api/v3/ping" | "/fapi/v1/ping" | "/dapi/v1/ping" | "/eapi/v1/ping") => {
                Some(Self::Ping)
            }
            ("GET", "/api/v3/time" | "/fapi/v1/time" | "/dapi/v1/time" | "/eapi/v1/time") => {
                Some(Self::Time)
            }
            ("GET", "/api/v3/exchangeInfo") => Some(Self::ExchangeInfo),
            (
                "GET",
                "/fapi/v1/exchangeInfo" | "/dapi/v1/exchangeInfo" | "/eapi/v1/exchangeInfo",
            ) => Some(Self::NoContracts),
            (
                "GET",
                "/sapi/v1/margin/allPairs"
                | "/sapi/v1/margin/isolated/allPairs"
                | "/sapi/v1/margin/allAssets",
            ) => Some(Self::NoMargin),
            ("GET", "/api/v3/ticker/price") => Some(Self::Price),
            ("GET", "/api/v3/ticker/24hr") => Some(Self::Statistics),
            ("GET", "/api/v3/ticker/bookTicker") => Some(Self::BestPrices),
            ("GET", "/api/v3/depth") => Some(Self::Depth),
            ("GET", "/api/v3/trades") => Some(Self::Trades),
            ("GET", "/api/v3/aggTrades") => Some(Self::AggregateTrades),
            ("GET", "/api/v3/avgPrice") => Some(Self::AveragePrice),
            ("GET", "/api/v3/klines" | "/api/v3/uiKlines") => Some(Self::Candles),
            _ => None,
        }
    }

    pub(super) fn answer(self, params: &Params, now: Micros) -> Result<Value, Fault> {
        let ms = now.as_millis();
        match self {
            Self::Ping => Ok(json!({})),
            Self::Time => Ok(json!({ "serverTime": ms })),
            Self::ExchangeInfo => exchange_info(params, ms),
            Self::NoContracts => Ok(json!({
                "timezone": "UTC", "serverTime": ms, "rateLimits": [], "exchangeFilters": [], "assets": [],
                "symbols": [], "optionContracts": [], "optionAssets": [], "optionSymbols": [],
            })),
            Self::NoMargin => Ok(json!([])),
            Self::Price => {
                each(params, |market| json!({ "symbol": market.symbol, "price": market.price }))
            }
            Self::Statistics => each(params, |market| statistics(market, ms)),
            Self::BestPrices => each(params, best_prices),
            Self::Depth => depth(params),
            Self::Trades => trades(params, ms, |market, id, time, by_maker| {
                json!({
                    "id": id, "price": market.price, "qty": Amount::whole(1), "quoteQty": market.price,
                    "time": time, "isBuyerMaker": by_maker, "isBestMatch": true,
                })
            }),
            Self::AggregateTrades => trades(params, ms, |market, id, time, by_maker| {
                json!({
                    "a": id, "p": market.price, "q": Amount::whole(1), "f": id, "l": id,
                    "T": time, "m": by_maker, "M": true,
                })
            }),
            Self::AveragePrice => {
                let market = params.required_market()?;
                Ok(json!({ "mins": 5, "price": market.price, "closeTime": ms }))
            }
            Self::Candles => candles(params, ms),
        }
    }
}

/// One object for the symbol that is named, or a list of all.
fn each(params: &Params, form: impl Fn(&Market) -> Value) -> Result<Value, Fault> {
    Ok(match params.market()? {
        Some(market) => form(market),
        None => MARKETS.iter().map(form).collect(),
    })
}

fn exchange_info(params: &Params, ms: u64) -> Result<Value, Fault> {
    let symbols: Vec<Value> = match params.market()? {
        Some(market) => vec![market.info()],
        None => MARKETS.iter().map(Market::info).collect(),
    };
    Ok(
        json!({ "timezone": "UTC", "serverTime": ms, "rateLimits": [], "exchangeFilters": [], "symbols": symbols }),
    )
}

fn statistics(market: &Market, ms: u64) -> Value {
    let (bid, ask) = level(market, 1);
    json!({
        "symbol": market.symbol, "priceChange": Amount::ZERO, "priceChangePercent": "0.000",
        "weightedAvgPrice": market.price, "prevClosePrice": market.price,
        "lastPrice": market.price, "lastQty": Amount::whole(1),
        "bidPrice": bid, "bidQty": Amount::whole(1), "askPrice": ask, "askQty": Amount::whole(1),
        "openPrice": market.price, "highPrice": market.price, "lowPrice": market.price,
        "volume": Amount::whole(1_000), "quoteVolume": Amount::whole(1_000).at(market.price),
        "openTime": ms.saturating_sub(DAY_MS), "closeTime": ms, "firstId": 1, "lastId": 1_000, "count": 1_000,
    })
}

fn best_prices(market: &Market) -> Value {
    let (bid, ask) = level(market, 1);
    let one = Amount::whole(1);
    json!({ "symbol": market.symbol, "bidPrice": bid, "bidQty": one, "askPrice": ask, "askQty": one })
}

fn depth(params: &Params) -> Result<Value, Fault> {
    let market = params.required_market()?;
    let levels = 1..=u32::try_from(params.limit()?.min(LEVELS)).unwrap_or(1);
    let (bids, asks): (Vec<_>, Vec<_>) = levels
        .map(|distance| {
            let (bid, ask) = level(market, distance);
            (json!([bid, Amount::whole(distance)]), json!([ask, Amount::whole(distance)]))
        })
        .unzip();
    Ok(json!({ "lastUpdateId": 1, "bids": bids, "asks": asks }))
}

/// One trade a second up to now, in the form that market, id, time and side give.
fn trades(
    params: &Params,
    ms: u64,
    form: impl Fn(&Market, u64, u64, bool) -> Value,
) -> Result<Value, Fault> {
    let market = params.required_market()?;
    let count = params.limit()?.min(LEVELS) as u64;
    Ok((1..=count)
        .map(|id| form(market, id, ms.saturating_sub((count - id) * 1_000), id.is_multiple_of(2)))
        .collect())
}

/// Flat candles up to now, in the list form of `klines`.
fn candles(params: &Params, ms: u64) -> Result<Value, Fault> {
    let market = params.required_market()?;
    let interval = match params.required("interval")? {
        "1m" => MINUTE_MS,
        "5m" => 5 * MINUTE_MS,
        "15m" => 15 * MINUTE_MS,
        "1h" => 60 * MINUTE_MS,
        "4h" => 240 * MINUTE_MS,
        "1d" => DAY_MS,
        _ => return Err(Fault::UnknownInterval),
    };
    let (price, volume) = (market.price, Amount::whole(1));
    let candle = |ago: u64| {
        let open = (ms - ms % interval).saturating_sub(ago * interval);
        json!([
            open,
            price,
            price,
            price,
            price,
            volume,
            open + interval - 1,
            price,
            1,
            volume,
            price,
            "0"
        ])
    };
    Ok((0..params.limit()? as u64).rev().map(candle).collect())
}

/// Bid and ask, `distance` ticks from the reference price.
fn level(market: &Market, distance: u32) -> (Amount, Amount) {
    let away =
        (0..distance).try_fold(Amount::ZERO, |sum, _| sum.plus(market.tick)).unwrap_or_default();
    (market.price.minus(away).unwrap_or_default(), market.price.plus(away).unwrap_or_default())
}

const LEVELS: usize = 100;
const MINUTE_MS: u64 = 60_000;
const DAY_MS: u64 = 1_440 * MINUTE_MS;
