//! What a route may ask for, and what a key may be bound to.

use super::tests::{GOOD, SECRET, changed, good, parsed};
use crate::admit::{CodePlace, SymbolPlace};

#[test]
fn a_route_may_ask_for_a_second_factor() {
    let with = |factor: &str| {
        let address = "address_limit = \"per-address\"";
        parsed(&changed(address, &format!("{address}\nsecond_factor = {factor}")))
    };
    let asked = |factor: &str| {
        let loaded = with(factor).unwrap_or_else(|refused| panic!("{refused}"));
        loaded.config.routes.all()[0].demand.second_factor.clone().unwrap()
    };
    let header = asked("{ header = \"X-OTP\", challenge = true }");
    assert_eq!(header.place, CodePlace::Header("x-otp".parse().unwrap()));
    assert!(header.challenges.is_some());
    let parameter = asked("{ parameter = \"otp\" }");
    assert_eq!(parameter.place, CodePlace::Parameter("otp".into()));
    assert!(parameter.challenges.is_none());
    let member = asked("{ member = \"otp\" }");
    assert_eq!(member.place, CodePlace::Member("otp".into()));
    for (factor, problem) in [
        ("{ member = \"otp\", challenge = true }", "a challenge would hold for no other code"),
        ("{ member = \"a b\" }", "\"a b\" is no name of a parameter"),
        ("{}", "none of `header`, `parameter` and `member` is given"),
        (
            "{ header = \"a\", parameter = \"b\" }",
            "more than one of `header`, `parameter` and `member` is given",
        ),
        ("{ header = \"x otp\" }", "\"x otp\" is no header field"),
        ("{ header = \"Accept\" }", "`accept` has a meaning of its own"),
        ("{ header = \"x-forwarded-for\" }", "`x-forwarded-for` has a meaning of its own"),
        ("{ header = \"x-mbx-apikey\" }", "the dialect keeps a credential of its own there"),
        ("{ parameter = \"signature\" }", "the dialect keeps a credential of its own there"),
        ("{ parameter = \"a=b\" }", "\"a=b\" is no name of a parameter"),
        ("{ header = \"x-otp\", challenges = true }", "did you mean `challenge`?"),
        ("\"x-otp\"", "expected a table"),
    ] {
        let refused = with(factor).unwrap_err().to_string();
        assert!(refused.contains(problem), "{factor}: {refused}");
    }
    let public = changed(
        "dialect = \"binance\"\npermission = \"trade\"\naddress_limit",
        "ask = \"public\"\nsecond_factor = { header = \"x-otp\" }\naddress_limit",
    );
    let refused = parsed(&public).unwrap_err().to_string();
    assert!(refused.contains("only a signed request has an account"), "{refused}");
    let within = with("{ header = \"x-otp\", challenge = true }");
    assert!(within.is_ok());
    let within = changed(
        "dialect = \"binance\"\npermission = \"trade\"",
        "dialect = \"cryptocom\"\npermission = \"trade\"\nsecond_factor = { header = \"x-otp\", challenge = true }",
    );
    let refused = parsed(&within).unwrap_err().to_string();
    assert!(refused.contains("has its time or nonce within the content"), "{refused}");
}

#[test]
fn a_route_may_say_where_its_requests_name_a_symbol() {
    let with = |symbol: &str| {
        let path = "path = \"/api/v3/order\"";
        let segments = "path = \"/api/v3/{market}/{symbol}\"";
        parsed(&changed(path, &format!("{segments}\nsymbol = {symbol}")))
    };
    let place = |symbol: &str| {
        let loaded = with(symbol).unwrap_or_else(|refused| panic!("{refused}"));
        loaded.config.routes.all()[0].demand.symbol.clone().unwrap()
    };
    for (symbol, expected) in [
        ("{ parameter = \"symbol\" }", SymbolPlace::Parameter("symbol".into())),
        ("{ member = \"symbol\" }", SymbolPlace::Member(["symbol".into()].into())),
        ("{ member = \"a.b\" }", SymbolPlace::Member(["a".into(), "b".into()].into())),
        ("{ segment = \"market\" }", SymbolPlace::Segment(2)),
        ("{ segment = \"symbol\" }", SymbolPlace::Segment(3)),
    ] {
        assert_eq!(place(symbol), expected);
    }
    for (symbol, problem) in [
        ("{}", "it takes one of `parameter`, `member` and `segment`"),
        ("{ parameter = \"a\", member = \"b\" }", "it takes one of"),
        ("{ segment = \"pair\" }", "there is no segment \"{pair}\" in the `path`"),
        ("{ parameter = \"a=b\" }", "\"a=b\" is no name"),
        ("{ member = \"a..b\" }", "\"\" is no name"),
        ("{ param = \"symbol\" }", "there is no such key"),
        ("\"symbol\"", "expected a table"),
    ] {
        let refused = with(symbol).unwrap_err().to_string();
        assert!(refused.contains(problem), "{symbol}: {refused}");
    }
    let public = changed(
        "dialect = \"binance\"\npermission = \"trade\"\naddress_limit",
        "ask = \"public\"\nsymbol = { parameter = \"symbol\" }\naddress_limit",
    );
    let refused = parsed(&public).unwrap_err().to_string();
    assert!(refused.contains("a public route knows no key"), "{refused}");
}

#[test]
fn a_key_may_be_bound_to_symbols() {
    let with =
        |symbols: &str| parsed(&changed("limits = [\"orders\"]", &format!("symbols = {symbols}")));
    let loaded = with("[\"BTCUSDT\", \"ETH/USD\"]").unwrap_or_else(|refused| panic!("{refused}"));
    let bindings = loaded.config.keys[0].bindings.as_ref().unwrap();
    let symbols = bindings.symbols.as_ref().unwrap();
    assert!(symbols.hold("ETH/USD".bytes()) && !symbols.hold("ETHUSD".bytes()));
    assert!(good(GOOD).config.keys[0].bindings.is_none());
    for (symbols, problem) in [
        ("[]", "an empty list would mean every symbol"),
        ("[\"BTC USD\"]", "\"BTC USD\" is no symbol"),
    ] {
        let refused = with(symbols).unwrap_err().to_string();
        assert!(refused.contains(problem), "{symbols}: {refused}");
    }
}

#[test]
fn what_is_known_of_keys_may_be_a_second_old_at_least() {
    let with = |age: &str| {
        let address = "address_limit = \"per-address\"";
        parsed(&changed(address, &format!("{address}\nkey_max_age = \"{age}\"")))
    };
    assert!(with("1s").is_ok());
    for age in ["0s", "400ms", "999ms"] {
        let refused = with(age).unwrap_err().to_string();
        assert!(refused.contains("every half second") && refused.contains("\"1s\""), "{refused}");
    }
}

#[test]
fn the_key_of_challenges_is_a_secret() {
    let with = |key: &str| {
        parsed(&changed("[admin]", &format!("[second_factor]\nchallenge_key = {key}\n\n[admin]")))
    };
    assert!(with("{ env = \"A_SECRET\" }").is_ok());
    let short = with("{ file = \"short\" }").unwrap_err().to_string();
    assert!(short.contains("the key is shorter than 32 bytes"), "{short}");
    let plain = with(&format!("\"{SECRET}\"")).unwrap_err().to_string();
    assert!(!plain.contains("hunter2"), "{plain}");
}
