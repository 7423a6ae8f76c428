//! Keys that are bound to symbols: what they open, and that nothing a backend could read otherwise passes.

use std::net::IpAddr;
use std::sync::Arc;

use countersign::admit::{Ask, Decoys, Effect, Gate, Guard, Route, Scratch, SymbolPlace};
use countersign::clock::{Clock as _, ManualClock};
use countersign::denial::Denial;
use countersign::dialect::{Credentials, Dialect, Draft, Inbound, builtin};
use countersign::key::{
    Algorithm, Allowlist, Bindings, Key, Permission, Permissions, Secret, Signer, State, Symbols,
    Tag, Venue,
};
use countersign::registry::fixed::FixedKeys;
use countersign::store::Repeat;
use countersign::store::memory::{MemoryStore, Options};
use http::{HeaderMap, Method};

use crate::world::{SECOND, SECRET, START};

/// A gateway with one key and one route.
struct One {
    gate: Gate<FixedKeys, MemoryStore, ManualClock>,
    dialect: Arc<Dialect>,
    route: Route,
    path: &'static str,
}

impl One {
    fn new(dialect: &str, symbols: Option<&[&str]>, symbol: Option<SymbolPlace>) -> Self {
        let dialect = Arc::new(builtin(dialect).unwrap().unwrap());
        let venue = Venue("main".into());
        let symbols = symbols.map(|all| all.iter().copied().collect::<Symbols>());
        let key = Key {
            id: "one".into(),
            tag: Tag::of("one"),
            account: "a".into(),
            account_tag: Tag::of("a"),
            venue: venue.clone(),
            dialect: Arc::clone(dialect.name()),
            secret: Secret::read(Algorithm::HmacSha256, SECRET.as_bytes()).unwrap(),
            passphrase: None,
            permissions: Permissions::NONE.with(Permission::TRADE),
            allowlist: Allowlist::default(),
            state: State::Active,
            expires: None,
            limits: Arc::from([]),
            epoch: 1,
            bindings: Some(Box::new(Bindings { symbols, ..Bindings::default() })),
        };
        let options = Options { max_records: 1_000, ..Options::default() };
        let gate = Gate {
            keys: [key].into_iter().collect(),
            store: MemoryStore::open(&options, START - SECOND * 60).unwrap(),
            clock: ManualClock::at(START),
            decoys: Decoys::new().unwrap(),
            guard: Guard::off(),
            switches: Arc::default(),
        };
        let route = Route {
            name: "order".into(),
            id: 0,
            ask: Ask::Signed(Arc::clone(&dialect)),
            venue,
            permissions: Permissions::NONE.with(Permission::TRADE),
            effect: Effect::Write,
            weight: 1,
            body_cap: 1 << 16,
            key_max_age: SECOND,
            lead: SECOND * 60,
            repeat: Repeat::Never,
            address_limit: None,
            symbol,
            charges: None,
            second_factor: None,
        };
        Self { gate, dialect, route, path: "/api/v3/order" }
    }

    fn send(&self, query: &str, body: &str) -> Result<(), Denial> {
        // Each is new.
        self.gate.clock.advance(std::time::Duration::from_millis(2));
        let signer = Signer::read(Algorithm::HmacSha256, SECRET.as_bytes()).unwrap();
        let draft = Draft {
            method: Method::POST,
            path: self.path,
            query,
            body,
            host: "h",
            window_ms: None,
            lead_ms: 5_000,
            nonce: None,
        };
        let by = Credentials { key_id: "one", signer: &signer, passphrase: None };
        let sent = self.dialect.sign(&draft, &by, self.gate.clock.now()).unwrap();
        let headers: HeaderMap = sent.headers.into_iter().collect();
        let inbound = Inbound {
            method: &sent.method,
            path: self.path,
            query: sent.target.split_once('?').map(|(_, query)| query),
            host: "h",
            headers: (&headers).into(),
            body: sent.body.as_bytes(),
            peer: IpAddr::from([203, 0, 113, 9]),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut scratch = Scratch::new();
        runtime.block_on(self.gate.admit(&inbound, &self.route, &mut scratch)).map(|_| ())
    }
}

const MINE: Option<&[&str]> = Some(&["BTCUSDT", "BTC/USD"]);

fn parameter() -> SymbolPlace {
    SymbolPlace::Parameter("symbol".into())
}

fn member(path: &str) -> SymbolPlace {
    SymbolPlace::Member(path.split('.').map(Box::from).collect())
}

/// None of these passes with a key that is bound, and each of them with one that is not: so it is the symbol that it
/// fails by.
fn refused(dialect: &str, place: SymbolPlace, sent: &[(&str, &str)]) {
    let (bound, free) =
        (One::new(dialect, MINE, Some(place.clone())), One::new(dialect, None, Some(place)));
    for (query, body) in sent {
        assert_eq!(bound.send(query, body), Err(Denial::SymbolRefused), "{query} {body}");
        assert_eq!(free.send(query, body), Ok(()), "{query} {body}");
    }
}

#[test]
fn a_parameter_names_one_of_the_keys_symbols_or_the_request_is_refused() {
    let one = One::new("binance", MINE, Some(parameter()));
    for (query, body) in
        [("symbol=BTCUSDT&side=BUY", ""), ("symbol=BTC%2FUSD", ""), ("", "side=BUY&symbol=BTCUSDT")]
    {
        assert_eq!(one.send(query, body), Ok(()), "{query} {body}");
    }
    refused(
        "binance",
        parameter(),
        &[
            ("symbol=ETHUSDT", ""),
            ("", "symbol=ETHUSDT"),
            ("symbol=btcusdt", ""),
            ("symbol=", ""),
            ("symbol", ""),
            ("side=BUY", ""),
            ("", "side=BUY"),
            ("symbol=BTCUSDT&symbol=BTCUSDT", ""),
            ("symbol=BTCUSDT&symbol=ETHUSDT", ""),
            ("symbol=BTCUSDT&Symbol=ETHUSDT", ""),
            ("symbol=BTCUSDT&s%79mbol=ETHUSDT", ""),
            ("symbol=BTCUSDT&symbol[]=ETHUSDT", ""),
            ("symbol=BTCUSDT&symbol%5B0%5D=ETHUSDT", ""),
            ("symbol=BTCUSDT&+symbol=ETHUSDT", ""),
            ("symbol=BTCUSDT&symbol%00=ETHUSDT", ""),
            ("symbol=BTCUSDT&%C5%BFymbol=ETHUSDT", ""),
            ("s%79mbol=BTCUSDT", ""),
            ("SYMBOL=BTCUSDT", ""),
            ("symbol=BTCUSDT+", ""),
            ("symbol=BTCUSDT%00", ""),
            ("symbols=BTCUSDT", ""),
        ],
    );
}

#[test]
fn every_member_of_the_name_is_one_of_the_keys_symbols_wherever_it_stands() {
    let one = One::new("bitmex", MINE, Some(member("symbol")));
    for body in [
        r#"{"symbol":"BTCUSDT","qty":"1"}"#,
        r#"{"s\u0079mbol":"BTC\/USD"}"#,
        r#"[{"symbol":"BTCUSDT"},{"symbol":"BTC/USD"}]"#,
    ] {
        assert_eq!(one.send("", body), Ok(()), "{body}");
    }
    refused(
        "bitmex",
        member("symbol"),
        &[
            ("", r#"{"symbol":"ETHUSDT"}"#),
            ("", r#"{"qty":"1"}"#),
            ("", r#"{"symbol":null}"#),
            ("", r#"{"symbol":["BTCUSDT","ETHUSDT"]}"#),
            ("", r#"{"symbol":{"symbol":"BTCUSDT"}}"#),
            ("", r#"{"symbol":"BTCUSDT","Symbol":"ETHUSDT"}"#),
            ("", "{\"symbol\":\"BTCUSDT\",\"\u{17f}ymbol\":\"ETHUSDT\"}"),
            ("", r#"{"symbol":"BTCUSDT","\u017fymbol":"ETHUSDT"}"#),
            ("", r#"{"symbol":"BTCUSDT","orders":[{"symbol":"ETHUSDT"}]}"#),
            ("", r#"{"orders":[{"symbol":"BTCUSDT"}]}"#),
            ("", r#"[{"symbol":"BTCUSDT"},{"qty":"1"}]"#),
            ("", r#"[{"symbol":"BTCUSDT"},{"symbol":"ETHUSDT"}]"#),
            ("", "[]"),
            ("symbol=ETHUSDT", r#"{"symbol":"BTCUSDT"}"#),
            ("", ""),
        ],
    );
    let batch = One::new("bitmex", MINE, Some(member("request.symbol")));
    assert_eq!(batch.send("", r#"{"request":[{"symbol":"BTCUSDT"}]}"#), Ok(()));
    refused(
        "bitmex",
        member("request.symbol"),
        &[
            ("", r#"{"request":[{"symbol":"BTCUSDT"},{"symbol":"ETHUSDT"}]}"#),
            ("", r#"{"request":[]}"#),
            ("", r#"{"symbol":"BTCUSDT"}"#),
        ],
    );
}

#[test]
fn a_list_of_symbols_in_one_member_is_gone_through_whole() {
    let one = One::new("bitmex", MINE, Some(member("symbols")));
    assert_eq!(one.send("", r#"{"symbols":["BTCUSDT","BTC/USD"]}"#), Ok(()));
    refused(
        "bitmex",
        member("symbols"),
        &[
            ("", r#"{"symbols":["BTCUSDT","ETHUSDT"]}"#),
            ("", r#"{"symbols":["BTCUSDT",1]}"#),
            ("", r#"{"symbols":["BTCUSDT",[]]}"#),
            ("", r#"{"symbols":[]}"#),
            ("", r#"{"symbols":"BTCUSDT","x":[{"symbols":["ETHUSDT"]}]}"#),
        ],
    );
}

#[test]
fn a_json_body_is_no_place_for_a_parameter_nor_the_other_way() {
    refused("bitmex", parameter(), &[("symbol=BTCUSDT", r#"{"symbol":"ETHUSDT"}"#)]);
    refused("binance", member("symbol"), &[("", "symbol=BTCUSDT"), ("symbol=BTCUSDT", "")]);
}

#[test]
fn a_segment_of_the_path_names_one_of_the_keys_symbols() {
    for (path, expected) in [
        ("/orders/BTCUSDT/new", Ok(())),
        ("/orders/ETHUSDT/new", Err(Denial::SymbolRefused)),
        ("/orders", Err(Denial::SymbolRefused)),
    ] {
        let mut one = One::new("binance", MINE, Some(SymbolPlace::Segment(1)));
        one.path = path;
        assert_eq!(one.send("n=1", ""), expected, "{path}");
    }
}

#[test]
fn where_the_route_says_nothing_of_symbols_such_a_key_reads_and_no_more() {
    for (effect, expected) in [
        (Effect::Read, Ok(())),
        (Effect::Cancel, Err(Denial::SymbolRefused)),
        (Effect::Write, Err(Denial::SymbolRefused)),
    ] {
        let mut one = One::new("binance", MINE, None);
        one.route.effect = effect;
        assert_eq!(one.send("symbol=BTCUSDT", ""), expected, "{effect:?}");
        one.route.ask = Ask::Key(Arc::clone(&one.dialect));
        // Who is only named is told nothing.
        let named = expected.map_err(|_| Denial::UnknownKey);
        assert_eq!(one.send("symbol=BTCUSDT", ""), named, "{effect:?}");
    }
}
