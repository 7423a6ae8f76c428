//! A key from its issue to its loss: what the command line says is so on the data plane.

use http::Method;
use serde_json::Value;

use crate::client::{Client, send};
use crate::demo::Demo;
use crate::program::run;

const ORDER: &str = "symbol=BTCUSDT&side=BUY&type=LIMIT&timeInForce=GTC&quantity=0.01&price=2000";

#[test]
fn an_issued_key_trades_until_it_is_compromised_and_then_all_it_did_is_told() {
    let demo = Demo::start(&[]);
    let (admin, token) = (demo.text("admin"), demo.text("admin_token"));
    let variables = [("COUNTERSIGN_ADMIN", admin), ("COUNTERSIGN_ADMIN_TOKEN", token)];
    let keys = |arguments: &[&str]| -> Value {
        let done = run(&[&["keys"], arguments, &["--json"]].concat(), &variables);
        assert_eq!(done.code, Some(0), "{arguments:?}: {}", done.err);
        serde_json::from_str(&done.out).unwrap()
    };
    let issued = keys(&["create", "--account", "alice", "--permissions", "read,trade"]);
    let text = |name: &str| issued[name].as_str().unwrap();
    let client =
        Client { dialect: "binance", key: text("id"), secret: text("secret"), passphrase: "" };
    let order = |number: u32| {
        let body = format!("{ORDER}{number}");
        let order = client.sign(Method::POST, "/api/v3/order", &body);
        send(demo.address("gateway"), &order)
    };
    for number in 0..3 {
        let answer = order(number);
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    // At once: what workers have yet to hand to the trail is told too.
    let lost = keys(&["compromised", text("id"), "--since", "1h", "--yes"]);
    assert_eq!(lost["activity"][0]["count"], 3, "{lost}");
    assert_eq!(lost["activity"][0]["address"], "127.0.0.1", "{lost}");
    let refused = order(9);
    assert_eq!(refused.status, 400, "{refused:?}");
    let heir = &lost["replacement"];
    assert_ne!(heir["id"], issued["id"]);
    let heir = Client {
        dialect: "binance",
        key: heir["id"].as_str().unwrap(),
        secret: heir["secret"].as_str().unwrap(),
        passphrase: "",
    };
    let order = heir.sign(Method::POST, "/api/v3/order", &format!("{ORDER}7"));
    assert_eq!(send(demo.address("gateway"), &order).status, 200);
}
