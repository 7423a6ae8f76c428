mod orders;

use super::*;

use ::http::{HeaderValue, Request};
use proptest::prelude::*;

use crate::identity::MAC_HEADER;

const KEY: [u8; 32] = [5; 32];
const NOW: Micros = Micros::from_millis(1_700_000_000_000);

fn parts(method: &str, target: &str) -> Parts {
    Request::builder()
        .method(method)
        .uri(target)
        .header("host", "exchange")
        .body(())
        .unwrap()
        .into_parts()
        .0
}

/// Asks without a key, as `account`.
fn ask_as(exchange: &Exchange, account: &str, method: &str, target: &str) -> (u16, Value) {
    let mut parts = parts(method, target);
    let value = identity(account, b"").to_string();
    parts.headers.insert(IDENTITY_HEADER, HeaderValue::from_str(&value).unwrap());
    let reply = exchange.handle(&parts, b"", NOW);
    (reply.status.as_u16(), reply.body)
}

fn ask(exchange: &Exchange, method: &str, target: &str) -> (u16, Value) {
    ask_as(exchange, "alice", method, target)
}

fn identity(account: &str, body: &[u8]) -> Identity {
    Identity {
        request: "r-1".into(),
        proof: identity::Proof::Signature,
        key: Some("k-1".into()),
        account: Some(account.into()),
        venue: Some("spot".into()),
        permissions: vec!["read".into()],
        client: std::net::IpAddr::from([127, 0, 0, 1]),
        deadline_ms: Some(NOW.as_millis()),
        body: identity::body_digest(body),
    }
}

fn vouched(method: &str, target: &str, body: &[u8]) -> Parts {
    let mut parts = parts(method, target);
    let value = identity("alice", body).to_string();
    let mac = identity::mac(&KEY, method, target, value.as_bytes());
    parts.headers.insert(IDENTITY_HEADER, HeaderValue::from_str(&value).unwrap());
    parts.headers.insert(MAC_HEADER, HeaderValue::from_str(&mac).unwrap());
    parts
}

fn failure(code: i32, message: &str) -> (u16, Value) {
    (400, json!({ "code": code, "msg": message }))
}

fn free_and_locked(exchange: &Exchange, account: &str, asset: &str) -> (String, String) {
    let (_, body) = ask_as(exchange, account, "GET", "/api/v3/account");
    let balances = body["balances"].as_array().unwrap();
    let balance = balances.iter().find(|balance| balance["asset"] == asset).unwrap();
    (balance["free"].as_str().unwrap().into(), balance["locked"].as_str().unwrap().into())
}

const RESTING: &str = "/api/v3/order?symbol=BTCUSDT&side=BUY&type=LIMIT&timeInForce=GTC&quantity=0.001&price=50000.00";
const AT_MARKET: &str = "/api/v3/order?symbol=BTCUSDT&side=BUY&type=MARKET&quantity=0.002";

#[test]
fn market_data_has_its_shape() {
    let exchange = Exchange::new(Some(KEY)); // market data asks for no identity
    let get = |target| {
        let reply = exchange.handle(&parts("GET", target), b"", NOW);
        assert_eq!(reply.status, StatusCode::OK, "{target}");
        reply.body
    };
    assert_eq!(get("/api/v3/ping"), json!({}));
    assert_eq!(get("/api/v3/time"), json!({ "serverTime": 1_700_000_000_000_u64 }));
    assert_eq!(
        get("/api/v3/ticker/price?symbol=BTCUSDT"),
        json!({ "symbol": "BTCUSDT", "price": "60000.00000000" })
    );
    assert_eq!(get("/api/v3/ticker/price").as_array().unwrap().len(), 3);
    assert_eq!(get("/api/v3/ticker/24hr?symbol=ETHUSDT")["lastPrice"], "3000.00000000");
    assert_eq!(get("/api/v3/ticker/bookTicker?symbol=BNBUSDT")["bidPrice"], "599.99000000");
    assert_eq!(
        get("/api/v3/depth?symbol=BTCUSDT&limit=2")["asks"][1],
        json!(["60000.02000000", "2.00000000"])
    );
    assert_eq!(get("/api/v3/trades?symbol=BTCUSDT&limit=3")[2]["time"], 1_700_000_000_000_u64);
    assert_eq!(get("/api/v3/aggTrades?symbol=BTCUSDT&limit=3")[0]["T"], 1_699_999_998_000_u64);
    assert_eq!(get("/api/v3/avgPrice?symbol=BTCUSDT")["price"], "60000.00000000");
    let candles = get("/api/v3/klines?symbol=BTCUSDT&interval=1m&limit=2");
    assert_eq!(
        (&candles[0][0], &candles[1][0]),
        (&json!(1_699_999_920_000_u64), &json!(1_699_999_980_000_u64))
    );
    for path in ["/fapi/v1/exchangeInfo", "/dapi/v1/exchangeInfo", "/eapi/v1/exchangeInfo"] {
        assert_eq!(get(path)["symbols"], json!([]));
    }
    for path in [
        "/sapi/v1/margin/allPairs",
        "/sapi/v1/margin/isolated/allPairs",
        "/sapi/v1/margin/allAssets",
    ] {
        assert_eq!(get(path), json!([]));
    }
    let info = get("/api/v3/exchangeInfo");
    assert_eq!(info["symbols"].as_array().unwrap().len(), 3);
    let names: Vec<_> = info["symbols"][0]["filters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| &f["filterType"])
        .collect();
    assert_eq!(
        names,
        [
            "PRICE_FILTER",
            "LOT_SIZE",
            "ICEBERG_PARTS",
            "MARKET_LOT_SIZE",
            "NOTIONAL",
            "MAX_NUM_ORDERS"
        ]
    );
}

#[test]
fn steps_and_ticks_make_every_product_exact() {
    for market in market::MARKETS {
        assert!(market.step.at(market.tick).is_some(), "{}", market.symbol);
        assert!(market.price.is_multiple_of(market.tick), "{}", market.symbol);
    }
}

#[test]
fn an_account_sees_its_own_orders_only() {
    let exchange = Exchange::new(None);
    assert_eq!(ask(&exchange, "POST", RESTING).0, 200);
    assert_eq!(ask_as(&exchange, "bob", "GET", "/api/v3/openOrders"), (200, json!([])));
    assert_eq!(
        ask_as(&exchange, "bob", "GET", "/api/v3/order?symbol=BTCUSDT&orderId=1"),
        failure(-2013, "Order does not exist.")
    );
    assert_eq!(
        ask_as(&exchange, "bob", "DELETE", "/api/v3/order?symbol=BTCUSDT&orderId=1"),
        failure(-2011, "Unknown order sent.")
    );
    assert_eq!(free_and_locked(&exchange, "bob", "USDT").1, "0.00000000");
}

#[test]
fn listen_keys_belong_to_one_account() {
    let exchange = Exchange::new(None);
    let (_, mine) = ask(&exchange, "POST", "/api/v3/userDataStream");
    let keep = format!("/api/v3/userDataStream?listenKey={}", mine["listenKey"].as_str().unwrap());
    assert_eq!(ask(&exchange, "PUT", &keep), (200, json!({})));
    assert_eq!(ask(&exchange, "DELETE", &keep), (200, json!({})));
    assert_eq!(
        ask_as(&exchange, "bob", "PUT", &keep),
        failure(-1125, "This listenKey does not exist.")
    );
}

#[test]
fn the_oldest_closed_order_makes_room_and_open_ones_never() {
    let exchange = Exchange::new(None).with_room_for(3);
    assert_eq!(ask(&exchange, "POST", RESTING).1["orderId"], 1);
    for id in 2..10 {
        assert_eq!(ask(&exchange, "POST", AT_MARKET).1["orderId"], id);
    }
    let ids = |exchange: &Exchange| -> Vec<u64> {
        let (_, orders) = ask(exchange, "GET", "/api/v3/allOrders?symbol=BTCUSDT");
        orders.as_array().unwrap().iter().map(|order| order["orderId"].as_u64().unwrap()).collect()
    };
    assert_eq!(ids(&exchange), [1, 8, 9]);
    assert_eq!(ask(&exchange, "POST", RESTING).0, 200);
    assert_eq!(ask(&exchange, "POST", RESTING).0, 200);
    assert_eq!(ids(&exchange), [1, 10, 11]);
    assert_eq!(ask(&exchange, "POST", RESTING).0, 503);
    assert_eq!(ask(&exchange, "POST", AT_MARKET).0, 503);
    assert_eq!(ask(&exchange, "DELETE", "/api/v3/order?symbol=BTCUSDT&orderId=1").0, 200);
    assert_eq!(ask(&exchange, "POST", AT_MARKET).0, 200);
    assert_eq!(ids(&exchange), [10, 11, 12]);
}

#[test]
fn one_account_has_so_many_open_orders_and_no_more() {
    let exchange = Exchange::new(None);
    for _ in 0..10_000 {
        assert_eq!(ask(&exchange, "POST", RESTING).0, 200);
    }
    assert_eq!(ask(&exchange, "POST", RESTING), failure(-1013, "Filter failure: MAX_NUM_ORDERS"));
    assert_eq!(ask_as(&exchange, "bob", "POST", RESTING).0, 200);
    let (_, cancelled) = ask(&exchange, "DELETE", "/api/v3/openOrders?symbol=BTCUSDT");
    assert_eq!(cancelled.as_array().unwrap().len(), 10_000);
    assert_eq!(
        free_and_locked(&exchange, "alice", "USDT"),
        ("10000000.00000000".into(), "0.00000000".into())
    );
}

#[test]
fn an_endless_account_name_is_not_remembered() {
    let exchange = Exchange::new(None);
    for (length, status) in [(256, 200), (257, 503)] {
        assert_eq!(ask_as(&exchange, &"a".repeat(length), "POST", RESTING).0, status, "{length}");
    }
}

#[test]
fn pages_hold_the_newest_unless_a_start_is_named() {
    let exchange = Exchange::new(None);
    for _ in 0..5 {
        assert_eq!(ask(&exchange, "POST", AT_MARKET).0, 200);
    }
    let ids = |query: &str| -> Vec<u64> {
        let (_, orders) =
            ask(&exchange, "GET", &format!("/api/v3/myTrades?symbol=BTCUSDT&limit=2{query}"));
        orders.as_array().unwrap().iter().map(|order| order["id"].as_u64().unwrap()).collect()
    };
    assert_eq!(ids(""), [4, 5]);
    assert_eq!(ids("&fromId=2"), [2, 3]);
    assert_eq!(ids("&startTime=1700000000000"), [1, 2]);
    assert_eq!(ids("&startTime=1700000000001"), [0; 0]);
    assert_eq!(ids("&endTime=1699999999999"), [0; 0]);
}

#[test]
fn private_data_needs_an_identity_that_the_gateway_vouches_for() {
    let exchange = Exchange::new(Some(KEY));
    let refused = Reply {
        status: StatusCode::FORBIDDEN,
        body: json!({ "code": -2015, "msg": "Invalid API-key, IP, or permissions for action." }),
    };
    let form = RESTING.split_once('?').unwrap().1.as_bytes();
    let sound = vouched("POST", "/api/v3/order?recvWindow=5", form);
    let mut unsigned = sound.clone();
    unsigned.headers.remove(MAC_HEADER);
    assert_eq!(exchange.handle(&unsigned, form, NOW), refused);
    assert_eq!(exchange.handle(&parts("POST", "/api/v3/order"), form, NOW), refused);
    assert_eq!(exchange.handle(&sound, b"symbol=BTCUSDT", NOW), refused);
    assert_eq!(exchange.handle(&sound, form, NOW + std::time::Duration::from_micros(1)), refused);
    let mut elsewhere = sound.clone();
    elsewhere.uri = "/api/v3/order?recvWindow=6".parse().unwrap();
    assert_eq!(exchange.handle(&elsewhere, form, NOW), refused);
    assert_eq!(exchange.handle(&sound, form, NOW).status, StatusCode::OK);
}

#[test]
fn a_public_identity_opens_no_account() {
    let exchange = Exchange::new(Some(KEY));
    let value = Identity { account: None, key: None, ..identity("", b"") }.to_string();
    let mut parts = parts("GET", "/api/v3/account");
    let mac = identity::mac(&KEY, "GET", "/api/v3/account", value.as_bytes());
    parts.headers.insert(IDENTITY_HEADER, HeaderValue::from_str(&value).unwrap());
    parts.headers.insert(MAC_HEADER, HeaderValue::from_str(&mac).unwrap());
    assert_eq!(exchange.handle(&parts, b"", NOW).status, StatusCode::FORBIDDEN);
}

#[test]
fn what_is_no_route_is_echoed() {
    let exchange = Exchange::new(Some(KEY));
    let seen = exchange.handle(&vouched("POST", "/x?a=%20", b"hi"), b"hi", NOW).body;
    assert_eq!(
        (&seen["method"], &seen["target"], &seen["host"], &seen["body"]),
        (&json!("POST"), &json!("/x?a=%20"), &json!("exchange"), &json!("hi"))
    );
    assert_eq!(seen["identity_verified"], true);
    assert_eq!(
        (&seen["identity"]["account"], &seen["identity"]["client"]),
        (&json!("alice"), &json!("127.0.0.1"))
    );

    let strange = exchange.handle(&parts("POST", "/x"), b"\xff\x00", NOW).body;
    assert_eq!((&strange["body"], &strange["identity_verified"]), (&json!("/wA="), &json!(false)));
    let believed = Exchange::new(None).handle(&vouched("GET", "/x", b""), b"", NOW).body;
    assert_eq!(
        (&believed["identity_verified"], &believed["identity"]["account"]),
        (&json!(null), &json!("alice"))
    );
}

fn action() -> impl Strategy<Value = (String, String)> {
    let market =
        prop::sample::select(vec![("BTCUSDT", 60_000_u64), ("ETHUSDT", 3_000), ("BNBUSDT", 600)]);
    let side = prop::sample::select(vec!["BUY", "SELL"]);
    let place = (market, side, 1..400_u64, 50..150_u64).prop_map(
        |((symbol, price), side, quantity, percent)| {
            let limit = format!("type=LIMIT&timeInForce=GTC&price={}", price * percent / 100);
            let kind = if percent.is_multiple_of(3) { "type=MARKET" } else { &limit };
            (
                "POST".into(),
                format!("/api/v3/order?symbol={symbol}&side={side}&quantity={quantity}&{kind}"),
            )
        },
    );
    let cancel = (1..60_u64, prop::sample::select(vec!["BTCUSDT", "ETHUSDT", "BNBUSDT"])).prop_map(
        |(id, symbol)| ("DELETE".into(), format!("/api/v3/order?symbol={symbol}&orderId={id}")),
    );
    prop_oneof![3 => place, 1 => cancel]
}

fn units(value: &Value) -> i128 {
    value.as_str().unwrap().replace('.', "").parse().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn balances_are_the_opening_ones_plus_the_fills(actions in prop::collection::vec(action(), 1..60)) {
        let exchange = Exchange::new(None);
        let opening = ask(&exchange, "GET", "/api/v3/account").1;
        for (method, target) in &actions {
            let (status, _) = ask(&exchange, method, target);
            prop_assert!(status == 200 || status == 400);
        }
        let mut expected: std::collections::BTreeMap<_, _> = opening["balances"].as_array().unwrap().iter()
            .map(|balance| (balance["asset"].as_str().unwrap(), (units(&balance["free"]), 0)))
            .collect();
        for market in market::MARKETS {
            let target = format!("/api/v3/myTrades?symbol={}&limit=1000", market.symbol);
            for trade in ask(&exchange, "GET", &target).1.as_array().unwrap() {
                let sign = if trade["isBuyer"] == true { 1 } else { -1 };
                expected.get_mut(market.base).unwrap().0 += sign * units(&trade["qty"]);
                expected.get_mut(market.quote).unwrap().0 -= sign * units(&trade["quoteQty"]);
            }
            let target = format!("/api/v3/openOrders?symbol={}", market.symbol);
            for order in ask(&exchange, "GET", &target).1.as_array().unwrap() {
                let (asset, locked) = match order["side"].as_str().unwrap() {
                    "BUY" => (market.quote, units(&order["price"]) * units(&order["origQty"]) / 100_000_000),
                    _ => (market.base, units(&order["origQty"])),
                };
                let balance = expected.get_mut(asset).unwrap();
                *balance = (balance.0 - locked, balance.1 + locked);
            }
        }
        for balance in ask(&exchange, "GET", "/api/v3/account").1["balances"].as_array().unwrap() {
            let stated = (units(&balance["free"]), units(&balance["locked"]));
            prop_assert_eq!(expected[balance["asset"].as_str().unwrap()], stated);
            prop_assert!(stated.0 >= 0);
        }
    }

    #[test]
    fn no_request_makes_the_exchange_panic(
        method in prop::sample::select(vec!["GET", "POST", "PUT", "DELETE"]),
        path in prop::sample::select(vec!["order", "openOrders", "allOrders", "myTrades", "depth", "userDataStream"]),
        body: Vec<u8>,
        value: String,
    ) {
        let exchange = Exchange::new(None);
        let encoded = value.bytes().fold(String::new(), |text, byte| text + &format!("%{byte:02x}"));
        for name in ["symbol", "orderId", "limit", "quantity"] {
            let target = format!("/api/v3/{path}?{name}={encoded}&symbol=BTCUSDT&side=BUY&type=MARKET");
            let _ = exchange.handle(&parts(method, &target), &body, NOW);
        }
    }
}
