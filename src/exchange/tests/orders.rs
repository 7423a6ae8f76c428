//! Orders: what rests, fills, is cancelled and is refused.

use super::*;

#[test]
fn a_limit_order_rests_locks_and_is_cancelled() {
    let exchange = Exchange::new(None);
    let (status, placed) = ask(&exchange, "POST", &format!("{RESTING}&newClientOrderId=mine"));
    assert_eq!((status, &placed["status"], &placed["fills"]), (200, &json!("NEW"), &json!([])));
    assert_eq!(placed["clientOrderId"], "mine");
    assert_eq!(
        free_and_locked(&exchange, "alice", "USDT"),
        ("9999950.00000000".into(), "50.00000000".into())
    );

    let (_, open) = ask(&exchange, "GET", "/api/v3/openOrders?symbol=BTCUSDT");
    assert_eq!((open.as_array().unwrap().len(), &open[0]["orderId"]), (1, &json!(1)));
    for which in ["orderId=1", "origClientOrderId=mine"] {
        let (status, order) =
            ask(&exchange, "GET", &format!("/api/v3/order?symbol=BTCUSDT&{which}"));
        assert_eq!(
            (status, &order["status"], &order["executedQty"]),
            (200, &json!("NEW"), &json!("0.00000000"))
        );
    }
    let (_, cancelled) = ask(&exchange, "DELETE", "/api/v3/order?symbol=BTCUSDT&orderId=1");
    assert_eq!(
        (&cancelled["status"], &cancelled["origClientOrderId"]),
        (&json!("CANCELED"), &json!("mine"))
    );
    assert_eq!(
        free_and_locked(&exchange, "alice", "USDT"),
        ("10000000.00000000".into(), "0.00000000".into())
    );
    assert_eq!(ask(&exchange, "GET", "/api/v3/openOrders"), (200, json!([])));
    assert_eq!(
        ask(&exchange, "GET", "/api/v3/allOrders?symbol=BTCUSDT").1[0]["status"],
        "CANCELED"
    );
}

#[test]
fn a_market_order_fills_at_the_reference_price() {
    let exchange = Exchange::new(None);
    let (status, filled) = ask(&exchange, "POST", AT_MARKET);
    assert_eq!(
        (status, &filled["status"], &filled["cummulativeQuoteQty"]),
        (200, &json!("FILLED"), &json!("120.00000000"))
    );
    assert_eq!(filled["fills"][0]["price"], "60000.00000000");
    assert_eq!(free_and_locked(&exchange, "alice", "BTC").0, "100.00200000");
    assert_eq!(free_and_locked(&exchange, "alice", "USDT").0, "9999880.00000000");
    let (_, trades) = ask(&exchange, "GET", "/api/v3/myTrades?symbol=BTCUSDT");
    assert_eq!((&trades[0]["qty"], &trades[0]["isBuyer"]), (&json!("0.00200000"), &json!(true)));

    let by_quote = "/api/v3/order?symbol=BTCUSDT&side=SELL&type=MARKET&quoteOrderQty=100";
    assert_eq!(ask(&exchange, "POST", by_quote).1["executedQty"], "0.00166000");
}

#[test]
fn marketable_is_at_the_reference_price_or_better() {
    let exchange = Exchange::new(None);
    let cases = [
        ("BUY", "60000.00", "FILLED"),
        ("BUY", "59999.99", "NEW"),
        ("SELL", "60000.00", "FILLED"),
        ("SELL", "60000.01", "NEW"),
    ];
    for (side, price, status) in cases {
        let order = format!(
            "/api/v3/order?symbol=BTCUSDT&side={side}&type=LIMIT&timeInForce=GTC&quantity=1&price={price}"
        );
        assert_eq!(ask(&exchange, "POST", &order).1["status"], status, "{side} {price}");
    }
    for time_in_force in ["IOC", "FOK"] {
        let order = RESTING.replace("GTC", time_in_force);
        assert_eq!(ask(&exchange, "POST", &order).1["status"], "EXPIRED");
    }
    let maker = "/api/v3/order?symbol=BTCUSDT&side=BUY&type=LIMIT_MAKER&quantity=1&price=60000";
    assert_eq!(
        ask(&exchange, "POST", maker),
        failure(-2010, "Order would immediately match and take.")
    );
}

fn assert_answers(
    exchange: &Exchange,
    cases: impl IntoIterator<Item = (&'static str, String, (u16, Value))>,
) {
    for (method, target, expected) in cases {
        assert_eq!(ask(exchange, method, &target), expected, "{method} {target}");
    }
}

#[test]
fn an_order_that_breaks_a_rule_is_refused_by_its_name() {
    let exchange = Exchange::new(None);
    let cases = [
        ("BTCUSDT", "XXX", failure(-1121, "Invalid symbol.")),
        ("BUY", "HOLD", failure(-1117, "Invalid side.")),
        ("LIMIT", "STOP_LOSS", failure(-1116, "Invalid orderType.")),
        ("GTC", "GTX", failure(-1115, "Invalid timeInForce.")),
        ("0.001", "0.000001", failure(-1013, "Filter failure: LOT_SIZE")),
        ("50000.00", "50000.001", failure(-1013, "Filter failure: PRICE_FILTER")),
        ("50000.00", "0", failure(-1013, "Filter failure: PRICE_FILTER")),
        ("50000.00", "4999.99", failure(-1013, "Filter failure: NOTIONAL")),
        ("0.001", "180.00001", failure(-1013, "Filter failure: NOTIONAL")),
        (
            "quantity",
            "amount",
            failure(
                -1102,
                "Mandatory parameter 'quantity' was not sent, was empty/null, or malformed.",
            ),
        ),
        (
            "quantity",
            "newClientOrderId=%20&quantity",
            failure(
                -1100,
                "Illegal characters found in parameter 'newClientOrderId'; legal range is '^[\\.A-Z\\:/a-z0-9_-]{1,36}$'.",
            ),
        ),
    ];
    assert_answers(
        &exchange,
        cases.map(|(from, to, answer)| ("POST", RESTING.replace(from, to), answer)),
    );
    assert_eq!(ask(&exchange, "GET", "/api/v3/allOrders?symbol=BTCUSDT"), (200, json!([])));
    for (from, to) in [("50000.00", "5000"), ("0.001", "180")] {
        assert_eq!(ask(&exchange, "POST", &RESTING.replace(from, to)).0, 200, "{to}");
    }
}

#[test]
fn too_little_balance_and_a_doubled_client_order_id_are_refused() {
    let exchange = Exchange::new(None);
    let sell = |quantity| {
        format!("/api/v3/order?symbol=BTCUSDT&side=SELL&type=MARKET&quantity={quantity}")
    };
    let insufficient = failure(-2010, "Account has insufficient balance for requested action.");
    assert_answers(&exchange, [("POST", sell("100.00001"), insufficient.clone())]);
    assert_eq!(ask(&exchange, "POST", &sell("100")).0, 200);
    assert_answers(&exchange, [("POST", sell("0.001"), insufficient)]);

    let order = format!("{RESTING}&newClientOrderId=a");
    assert_eq!(ask(&exchange, "POST", &order).0, 200);
    assert_answers(&exchange, [("POST", order, failure(-2010, "Duplicate order sent."))]);
}

#[test]
fn an_order_that_is_not_there_is_refused() {
    let exchange = Exchange::new(None);
    assert_eq!(ask(&exchange, "POST", RESTING).0, 200);
    let (none, unknown) =
        (failure(-2013, "Order does not exist."), failure(-2011, "Unknown order sent."));
    let both = failure(
        -1102,
        "Param 'origClientOrderId' or 'orderId' must be sent, but both were empty/null!",
    );
    let garbled = failure(
        -1100,
        "Illegal characters found in parameter 'orderId'; legal range is '^[0-9]{1,20}$'.",
    );
    let cases = [
        ("GET", "order?symbol=BTCUSDT&orderId=99", none.clone()),
        ("GET", "order?symbol=ETHUSDT&orderId=1", none),
        ("GET", "order?symbol=BTCUSDT", both),
        ("GET", "order?symbol=BTCUSDT&orderId=-1", garbled),
        ("DELETE", "order?symbol=BTCUSDT&orderId=99", unknown.clone()),
        ("DELETE", "openOrders?symbol=ETHUSDT", unknown),
        ("GET", "klines?symbol=BTCUSDT&interval=7m", failure(-1120, "Invalid interval.")),
        ("PUT", "userDataStream?listenKey=x", failure(-1125, "This listenKey does not exist.")),
    ];
    assert_answers(
        &exchange,
        cases.map(|(method, rest, answer)| (method, format!("/api/v3/{rest}"), answer)),
    );
}

#[test]
fn a_client_order_id_is_free_again_when_its_order_is_closed() {
    let exchange = Exchange::new(None);
    let order = format!("{RESTING}&newClientOrderId=a");
    assert_eq!(ask(&exchange, "POST", &order).0, 200);
    assert_eq!(ask_as(&exchange, "bob", "POST", &order).0, 200);
    assert_eq!(ask(&exchange, "DELETE", "/api/v3/order?symbol=BTCUSDT&origClientOrderId=a").0, 200);
    assert_eq!(ask(&exchange, "POST", &order).0, 200);
    assert_eq!(
        ask(&exchange, "GET", "/api/v3/order?symbol=BTCUSDT&origClientOrderId=a").1["orderId"],
        3
    );
}

#[test]
fn parameters_come_by_query_or_by_form() {
    let exchange = Exchange::new(None);
    let form = RESTING.split_once('?').unwrap().1.replace("50000.00", "50000%2E00");
    let reply = exchange.handle(&parts("POST", "/api/v3/order"), form.as_bytes(), NOW);
    assert_eq!((reply.status, &reply.body["price"]), (StatusCode::OK, &json!("50000.00000000")));
    let reply = exchange.handle(&parts("POST", "/api/v3/order?price=49999"), form.as_bytes(), NOW);
    assert_eq!(reply.body["price"], "49999.00000000", "the query comes first");
}

#[test]
fn answers_are_as_detailed_as_asked() {
    let exchange = Exchange::new(None);
    let with = |detail| ask(&exchange, "POST", &format!("{AT_MARKET}&newOrderRespType={detail}")).1;
    assert!(with("ACK").get("status").is_none());
    assert!(with("RESULT").get("status").is_some() && with("RESULT").get("fills").is_none());
    assert!(with("FULL").get("fills").is_some());
    assert_eq!(ask(&exchange, "POST", &RESTING.replace("order?", "order/test?")), (200, json!({})));
    assert_eq!(ask(&exchange, "GET", "/api/v3/openOrders"), (200, json!([])));
}
