//! What each recipe's rules refuse, and what they let pass beside it.
#![expect(
    clippy::duration_suboptimal_units,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic is how a test fails"
)]

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use countersign::admit::{Ask, Decoys, Effect, Gate, Guard, Route, Scratch};
use countersign::clock::{ManualClock, Micros};
use countersign::dialect::{
    BUILTIN, Credentials, Dialect, Draft, Facts, Inbound, SecretForm, builtin,
};
use countersign::key::{Algorithm, Allowlist, Key, Permission, Permissions, State, Tag, Venue};
use countersign::offline::{Accepted, Judge, Recorded};
use countersign::registry::fixed::FixedKeys;
use countersign::store::Repeat;
use countersign::store::memory::{MemoryStore, Options};
use http::{HeaderMap, HeaderName, Method};

const KEY: &str = "k3yAbCdEf0123456789ABCDEFabcdef0123456789";
const NOW_MS: u64 = 1_700_000_000_000;
const PASSPHRASE: &str = "Pass phr@se+1";

/// A request of `dialect` as its client signs it: `METHOD /path?query` and a body.
fn signed(dialect: &str, request: &str, body: &str) -> Recorded {
    signed_with(dialect, request, body, None)
}

fn signed_with(dialect: &str, request: &str, body: &str, nonce: Option<u64>) -> Recorded {
    let nonce = nonce.map(|nonce| nonce.to_string());
    let dialect = builtin(dialect).unwrap().unwrap();
    let (method, target) = request.split_once(' ').unwrap();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let algorithm = dialect.algorithms().find(|algorithm| algorithm.is_symmetric()).unwrap();
    let secret = match dialect.secret_form() {
        SecretForm::Text => "s3cretZyXwVu9876543210fedcbaFEDC",
        SecretForm::Base64 => "c2VjcmV0IGJ5dGVzIG9mIGEga2V5",
    };
    let signer = dialect.read_signer(algorithm, secret.as_bytes()).unwrap();
    let passphrase = dialect.has_passphrase().then_some(PASSPHRASE);
    let draft = Draft {
        method: Method::from_bytes(method.as_bytes()).unwrap(),
        path,
        query,
        body,
        host: "api.example",
        window_ms: None,
        lead_ms: 5_000,
        nonce: nonce.as_deref(),
    };
    let by = Credentials { key_id: KEY, signer: &signer, passphrase };
    let request = dialect.sign(&draft, &by, Micros::from_millis(NOW_MS));
    let request = request.unwrap_or_else(|error| panic!("{}: {error}", dialect.name()));
    let text = |value: &http::HeaderValue| value.to_str().unwrap().to_owned();
    let sent = request.headers.iter().map(|(name, value)| (name.to_string(), text(value)));
    let host = ("host".to_owned(), "api.example".to_owned());
    Recorded {
        dialect: dialect.name().to_string(),
        method: request.method.to_string(),
        target: request.target,
        headers: sent.chain([host]).collect::<BTreeMap<_, _>>(),
        body: request.body,
        key: KEY.to_owned(),
        secret: secret.to_owned(),
        passphrase: passphrase.map(str::to_owned),
        now_ms: NOW_MS,
        algorithm: algorithm.name().to_owned(),
        expect: None,
        strict_expect: None,
    }
}

fn judge(request: &Recorded) -> Result<Accepted, &'static str> {
    let compiled = BUILTIN.iter().map(|(_, recipe)| Arc::new(Dialect::compile(recipe).unwrap()));
    let mut judge = Judge::new(compiled).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let judged = runtime.block_on(judge.judge(request)).unwrap();
    judged.verdict.map_err(|denial| denial.reason())
}

fn route(dialect: &Arc<Dialect>) -> Route {
    Route {
        name: "order".into(),
        id: 0,
        ask: Ask::Signed(Arc::clone(dialect)),
        venue: Venue("main".into()),
        permissions: Permissions::NONE.with(Permission::TRADE),
        effect: Effect::Write,
        weight: 1,
        body_cap: 1 << 16,
        key_max_age: Duration::from_secs(30),
        lead: Duration::from_secs(60),
        repeat: Repeat::Never,
        address_limit: None,
        symbol: None,
        charges: None,
        second_factor: None,
    }
}

/// Judges with a memory, each request at its own time: what the client is told, if it is refused.
fn judge_in_turn(dialect: &str, requests: &[Recorded]) -> Vec<Option<String>> {
    let dialect = Arc::new(builtin(dialect).unwrap().unwrap());
    let first = requests.first().unwrap();
    let algorithm = Algorithm::named(&first.algorithm).unwrap();
    let mut keys = FixedKeys::default();
    keys.insert(Key {
        id: KEY.into(),
        tag: Tag::of(KEY),
        account: "a".into(),
        account_tag: Tag::of("a"),
        venue: Venue("main".into()),
        dialect: Arc::clone(dialect.name()),
        passphrase: None,
        secret: dialect.read_secret(algorithm, first.secret.as_bytes()).unwrap(),
        permissions: Permissions::NONE.with(Permission::TRADE),
        allowlist: Allowlist::default(),
        state: State::Active,
        expires: None,
        limits: Arc::from([]),
        epoch: 0,
        bindings: None,
    });
    let options = Options { volatile_marks: true, max_records: 1_000, ..Options::default() };
    let gate = Gate {
        keys,
        store: MemoryStore::open(&options, Micros::from_millis(NOW_MS - 600_000)).unwrap(),
        clock: ManualClock::at(Micros::from_millis(NOW_MS)),
        decoys: Decoys::new().unwrap(),
        guard: Guard::off(),
        switches: Arc::default(),
    };
    let route = route(&dialect);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut scratch = Scratch::new();
    let mut judged = |request: &Recorded| {
        let method = Method::from_bytes(request.method.as_bytes()).unwrap();
        let headers: HeaderMap = request
            .headers
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
            .collect();
        let inbound = Inbound {
            method: &method,
            path: &request.target,
            query: None,
            host: "api.example",
            headers: (&headers).into(),
            body: request.body.as_bytes(),
            peer: Ipv4Addr::LOCALHOST.into(),
        };
        gate.clock.set(Micros::from_millis(request.now_ms));
        let denial = runtime.block_on(gate.admit(&inbound, &route, &mut scratch)).err()?;
        let answer = dialect.refuse(&denial, true, &Facts::default());
        Some(format!("{} {}", answer.status.as_u16(), String::from_utf8_lossy(&answer.body)))
    };
    requests.iter().map(&mut judged).collect()
}

const GROWING: [(&str, &str, &str, [&str; 2]); 4] = [
    ("kraken", "/0/private/AddOrder", "a=1", ["EAPI:Invalid nonce", "duplicate"]),
    ("bitfinex", "/v2/auth/w/order/submit", r#"{"a":"1"}"#, ["nonce: small", "duplicate"]),
    ("gemini", "/v1/order/new", r#"{"a":"1"}"#, ["InvalidNonce", "Duplicate"]),
    ("whitebit", "/api/v4/order/new", r#"{"a":"1"}"#, ["Too many requests.", "Duplicate"]),
];

#[test]
fn a_number_that_was_outgrown_is_told_as_the_exchange_tells_it_and_only_a_copy_as_a_duplicate() {
    for (dialect, path, body, [low, copy]) in GROWING {
        let at = |nonce: u64| signed_with(dialect, &format!("POST {path}"), body, Some(nonce));
        let told = judge_in_turn(dialect, &[at(20), at(10), at(20), at(21), at(20)]);
        let [None, Some(outgrown), Some(again), None, Some(later)] = &told[..] else {
            panic!("{dialect}: {told:?}")
        };
        assert!(outgrown.contains(low) && !outgrown.contains(copy), "{dialect}: {outgrown}");
        assert!(again.contains(copy) && later == again, "{dialect}: {again}");
        // Other content under a number that was used is no copy.
        let other = body.replace('1', "2");
        let other = signed_with(dialect, &format!("POST {path}"), &other, Some(20));
        let told = judge_in_turn(dialect, &[at(20), other]);
        assert_eq!(told, [None, Some(outgrown.clone())], "{dialect}");
    }
}

#[test]
fn whitebit_numbers_that_are_said_to_be_clocks_pass_once_in_any_order_near_the_clock() {
    let at = |nonce: u64, flag: &str| {
        let body = format!(r#"{{"nonceWindow":{flag},"a":"1"}}"#);
        signed_with("whitebit", "POST /api/v4/order/new", &body, Some(nonce))
    };
    let clock = |offset: i64| at(NOW_MS.saturating_add_signed(offset), "true");
    let all: Vec<_> = [0, -4_000, 4_999, -5_000, -4_000, -5_001, 5_000, 0].map(clock).into();
    let passed: Vec<_> = judge_in_turn("whitebit", &all).iter().map(Option::is_none).collect();
    assert_eq!(passed, [true, true, true, true, false, false, false, false]);
    // The control: without the flag only what grows passes, near the clock or not.
    for flag in ["false", "\"true\"", "1"] {
        let told = judge_in_turn("whitebit", &[at(100, flag), at(99, flag), at(101, flag)]);
        let passed: Vec<_> = told.iter().map(Option::is_none).collect();
        assert_eq!(passed, [true, false, true], "{flag}");
    }
}

/// The verdict when the target is another under the same signature.
fn retargeted(request: &Recorded, target: &str) -> Result<Accepted, &'static str> {
    judge(&Recorded { target: target.to_owned(), ..request.clone() })
}

#[test]
fn phemex_takes_a_query_only_where_its_path_can_end_nowhere_else() {
    let request = signed("phemex", "GET /spot/orders?symbol=sBTCUSDT", "");
    assert!(judge(&request).is_ok());
    for target in ["/spot/orderss?ymbol=sBTCUSDT", "/spot/order?ssymbol=sBTCUSDT"] {
        assert_eq!(retargeted(&request, target).unwrap_err(), "ambiguous", "{target}");
    }
    for target in ["/spot/orderssymbol=sBTCUSDT", "/spot?/orderssymbol=sBTCUSDT"] {
        assert_eq!(retargeted(&request, target).unwrap_err(), "ambiguous", "{target}");
    }
}

#[test]
fn bitfinex_paths_end_in_no_digit_but_zero() {
    let request = signed("bitfinex", "POST /v2/auth/r/orders/tBTCF0:USTF0", "{}");
    assert!(judge(&request).is_ok());
    let nonce = &request.headers["bfx-nonce"];
    let mut moved = request.clone();
    let (first, rest) = nonce.split_at(1);
    moved.target = format!("{}{first}", request.target);
    moved.headers.insert("bfx-nonce".into(), rest.to_owned());
    assert_eq!(judge(&moved).unwrap_err(), "ambiguous");
    moved.target = request.target.trim_end_matches('0').to_owned();
    moved.headers.insert("bfx-nonce".into(), format!("0{nonce}"));
    assert_eq!(judge(&moved).unwrap_err(), "garbled_credential");
}

#[test]
fn a_host_may_be_signed_with_or_without_its_port_and_in_any_case() {
    for dialect in ["htx", "bitstamp"] {
        let body = if dialect == "htx" { r#"{"a":1}"# } else { "a=1" };
        let request = signed(dialect, "POST /v1/order", body);
        for (host, accepted) in [
            ("api.example", true),
            ("api.example:8443", true),
            ("API.example", true),
            ("api.example.evil", false),
            ("api.exampl", false),
        ] {
            let mut other = request.clone();
            other.headers.insert("host".into(), host.into());
            assert_eq!(judge(&other).is_ok(), accepted, "{dialect} {host}");
        }
    }
}

#[test]
fn kucoin_passphrases_come_as_the_version_of_the_key_says() {
    let request = signed("kucoin", "GET /api/v1/accounts?type=trade", "");
    let with = |version: Option<&str>, passphrase: Option<&str>| {
        let mut other = request.clone();
        other.headers.remove("kc-api-key-version");
        other.headers.extend(version.map(|v| ("kc-api-key-version".into(), v.to_owned())));
        other.headers.extend(passphrase.map(|p| ("kc-api-passphrase".into(), p.to_owned())));
        judge(&other).map(|_| ())
    };
    assert_eq!(with(Some("2"), None), Ok(()));
    assert_eq!(with(Some("3"), None), Ok(()));
    assert_eq!(with(Some("1"), Some(PASSPHRASE)), Ok(()));
    assert_eq!(with(None, Some(PASSPHRASE)), Ok(()));
    assert_eq!(with(Some("1"), None), Err("bad_passphrase"));
    assert_eq!(with(Some("2"), Some(PASSPHRASE)), Err("bad_passphrase"));
    assert_eq!(with(Some("9"), None), Err("garbled_credential"));
}

#[test]
fn pairs_whose_order_is_not_signed_go_on_in_order_and_stand_once() {
    let request = signed("poloniex", "GET /orders?a=1&z=2&b=3", "");
    for target in ["/orders?a=1&b=3&z=2", "/orders?z=2&b=3&a=1"] {
        let forwarded = retargeted(&request, target).unwrap();
        assert_eq!(forwarded.query.as_deref(), Some("a=1&b=3&z=2"), "{target}");
    }
    let twice = signed("poloniex", "GET /orders?a=1", "");
    assert!(retargeted(&twice, "/orders?a=1&a=1").is_err());
    let timed = "/orders?a=1&signTimestamp=1700000000000";
    assert!(retargeted(&twice, timed).is_err());
}

#[test]
fn a_payload_is_all_that_a_backend_sees_and_it_names_its_path() {
    for dialect in ["gemini", "whitebit"] {
        let request = signed(dialect, "POST /v1/order/new", r#"{"amount":"5"}"#);
        let other = Recorded { body: r#"{"amount":"500"}"#.to_owned(), ..request.clone() };
        let forwarded = judge(&other).unwrap();
        assert_eq!(forwarded, judge(&request).unwrap(), "{dialect}");
        assert!(std::str::from_utf8(&forwarded.body).unwrap().contains(r#""amount":"5"}"#));
        assert_eq!(retargeted(&request, "/v1/withdraw").unwrap_err(), "unsigned_part");
        assert_eq!(retargeted(&request, "/v1/order/new?a=1").unwrap_err(), "unsigned_part");
    }
}

#[test]
fn crypto_com_members_that_could_run_into_one_another_are_refused() {
    let body = r#"{"params":{"instrument_name":"BTC_USDT","price":"10"}}"#;
    let request = signed("cryptocom", "POST /exchange/v1/private/create-order", body);
    let forwarded = judge(&request).unwrap();
    let forwarded = std::str::from_utf8(&forwarded.body).unwrap().to_owned();
    assert!(!forwarded.contains("sig") && !forwarded.contains("api_key"), "{forwarded}");
    for (from, to) in [
        // names and values that move, members that nothing signs, and a path that is another
        (r#""price":"10""#, r#""pric":"e10""#),
        (r#""instrument_name":"BTC_USDT","price":"10""#, r#""instrument_name":"BTC_USDTprice10""#),
        (r#""method""#, r#""extra":"1","method""#),
        (r#""id":"1""#, r#""id":"1k3y""#),
        ("private/create-order", "private/create-orders"),
    ] {
        let body = request.body.replace(from, to);
        assert_ne!(body, request.body, "{from}");
        assert!(judge(&Recorded { body, ..request.clone() }).is_err(), "{from} {to}");
    }
    let spaced = request.body.replace("\":\"", "\" : \"").replace("\"10\"", "10");
    let spaced = judge(&Recorded { body: spaced, ..request }).unwrap();
    assert_eq!(std::str::from_utf8(&spaced.body).unwrap(), forwarded);
}

#[test]
fn bingx_json_is_never_signed_like_a_query_of_another_meaning() {
    let path = "/openApi/api/v3/subAccount";
    // As a query: pairs that are one value in JSON, and an escape that is none there.
    for (query, member) in [("a=1&b", r#""a":"1&b""#), ("a=x%20y", r#""a":"x%20y""#)] {
        let request = signed("bingx", &format!("POST {path}?{query}"), "");
        assert!(judge(&request).is_ok(), "{query}");
        let (_, signature) = request.target.split_once("&signature=").unwrap();
        let members = format!(r#"{member},"timestamp":"{NOW_MS}","signature":"{signature}""#);
        let mut other = Recorded { body: format!("{{{members}}}"), ..request.clone() };
        other.target = path.to_owned();
        assert_eq!(judge(&other).unwrap_err(), "ambiguous", "{query}");
    }
    let request = signed("bingx", &format!("POST {path}"), r#"{"tag":"x y","list":["a",1]}"#);
    let forwarded = judge(&request).unwrap();
    let expected = format!(r#"{{"list":["a",1],"tag":"x y","timestamp":"{NOW_MS}"}}"#);
    assert_eq!(forwarded.body, expected);
}

#[test]
fn upbit_json_is_never_signed_like_a_query_of_another_meaning() {
    let body = |value: &str| format!(r#"{{"a":"{value}"}}"#);
    let request = signed("upbit", "POST /v1/orders?a=%41", "");
    assert!(judge(&request).is_ok());
    let other = |target: &str, body: String| {
        judge(&Recorded { target: target.to_owned(), body, ..request.clone() })
    };
    assert_eq!(other("/v1/orders", body("%41")).unwrap_err(), "ambiguous");
    // What cannot be a query passes, and what could be JSON is none.
    for value in ["%4", "%41 x", "1&b"] {
        assert!(judge(&signed("upbit", "POST /v1/orders", &body(value))).is_ok(), "{value}");
    }
    let request = signed("upbit", "POST /v1/orders", &body("x y&b"));
    for target in ["/v1/orders?a=x%20y&b", "/v1/orders?a=x%20y%26b"] {
        let other = Recorded { target: target.to_owned(), body: String::new(), ..request.clone() };
        assert_eq!(judge(&other).unwrap_err(), "ambiguous", "{target}");
    }
}

#[test]
fn the_json_of_a_post_is_no_query_of_a_get() {
    for dialect in ["bybit", "mexc_contract"] {
        let body = r#"{"a":"1"}"#;
        let request = signed(dialect, "POST /order", body);
        assert!(judge(&request).is_ok(), "{dialect}");
        for query in [body, r#"%7B"a":"1"}"#] {
            let other = Recorded {
                method: "GET".to_owned(),
                target: format!("/order?{query}"),
                body: String::new(),
                ..request.clone()
            };
            let refused = judge(&other).unwrap_err();
            let decodes = dialect == "bybit" || query == body;
            let expected = if decodes { "ambiguous" } else { "bad_signature" };
            assert_eq!(refused, expected, "{dialect} {query}");
        }
        let honest = judge(&signed(dialect, "GET /order?a={1}&b=[2]", ""));
        assert!(honest.is_ok(), "{dialect}");
    }
}

#[test]
fn a_recipe_whose_fields_run_together_is_refused_with_the_reason() {
    let (_, bitmex) = BUILTIN.iter().find(|(name, _)| *name == "bitmex").unwrap();
    let message = "{method}{path}{?query}{timestamp}{body}";
    for (text, body) in [
        ("{method}{path}{?query}{timestamp}{body}", "form"),
        ("{path}{?query}{host}{timestamp}{body}", "json"),
        ("{body}{path}{timestamp}", "json"),
        ("{timestamp}{body}{path}", "json"),
    ] {
        let recipe = bitmex.replace(message, text).replace("\"json\"", &format!("\"{body}\""));
        let error = Dialect::compile(&recipe).unwrap_err().message;
        assert!(error.contains("nothing separates"), "{text}: {error}");
    }
    let unsigned = bitmex.replace("body = \"json\"", "body = \"json\"\nunsigned = [\"query\"]");
    let unsigned = unsigned.replace("{?query}", "");
    assert!(Dialect::compile(&unsigned).unwrap_err().message.contains("only read"));
}
