//! What limits count, for whom and in which lane: from the configuration's words to the verdict.
#![cfg(feature = "server")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test fails"
)]

use std::cell::{Cell, RefCell};
use std::io;
use std::path::Path;
use std::time::Duration;

use countersign::admit::{Decoys, Gate, Guard, Permit, Scratch};
use countersign::clock::{Clock as _, ManualClock, Micros};
use countersign::config::{Config, Contents, Lookup};
use countersign::denial::{Denial, Shadowed};
use countersign::dialect::{Credentials, Draft, Inbound, builtin};
use countersign::key::{Algorithm, Signer};
use countersign::registry::fixed::FixedKeys;
use countersign::store::Store;
use countersign::store::memory::{MemoryStore, Options};
use http::{HeaderMap, Method};
use zeroize::Zeroizing;

const START: Micros = Micros(1_760_000_040_000_000);
const SECRET: &str = "hunter2-hunter2-hunter2-hunter2-hunter2";
const HEAD: &str = r#"
    version = 1
    [[listener]]
    name = "public"
    address = "127.0.0.1:0"
    [[upstream]]
    name = "exchange"
    backends = ["127.0.0.1:9"]
    identity_key = "none"
"#;
const ROUTES: &str = r#"
    [[route]]
    name = "place"
    methods = ["POST"]
    path = "/order"
    upstream = "exchange"
    dialect = "binance"
    permission = "trade"
    orders = 1
    [[route]]
    name = "batch"
    methods = ["POST"]
    path = "/batch"
    upstream = "exchange"
    dialect = "binance"
    permission = "trade"
    orders = { array = "batchOrders" }
    [[route]]
    name = "cancel"
    methods = ["DELETE"]
    path = "/order"
    upstream = "exchange"
    dialect = "binance"
    effect = "cancel"
    [[route]]
    name = "cancel-replace"
    methods = ["POST"]
    path = "/order/cancelReplace"
    upstream = "exchange"
    dialect = "binance"
    permission = "trade"
    orders = 1
"#;

struct Environment;

impl Lookup for Environment {
    fn variable(&self, name: &str) -> Option<Zeroizing<String>> {
        (name == "SECRET").then(|| Zeroizing::new(SECRET.to_owned()))
    }

    fn file(&self, _path: &Path) -> io::Result<Contents> {
        Err(io::ErrorKind::NotFound.into())
    }
}

/// A gateway's gate, as its configuration has it.
struct World {
    config: Config,
    gate: Gate<FixedKeys, MemoryStore, ManualClock>,
    sent: Cell<u64>,
    scratch: RefCell<Scratch>,
}

impl World {
    fn new(parts: &[&str]) -> Self {
        let text = [&[HEAD], parts].concat().join("\n");
        let loaded = Config::parse(&text, Path::new("gateway.toml"), &Environment);
        let mut config = loaded.unwrap_or_else(|refused| panic!("{refused}")).config;
        let options = Options { max_records: 10_000, ..Options::default() };
        let gate = Gate {
            keys: std::mem::take(&mut config.keys).into_iter().collect(),
            store: MemoryStore::open(&options, START - Duration::from_hours(1)).unwrap(),
            clock: ManualClock::at(START),
            decoys: Decoys::new().unwrap(),
            guard: Guard::default(),
            switches: std::sync::Arc::default(),
        };
        Self { config, gate, sent: Cell::new(0), scratch: RefCell::default() }
    }

    /// A request unlike every other, of a key from an address.
    fn ask(&self, key: &str, from: &str, method: &Method, target: &str) -> Result<Permit, Denial> {
        let query = target.split_once('?').map_or("", |(_, query)| query);
        let unique = if key.is_empty() { query.to_owned() } else { self.unlike(query) };
        self.send(key, from, method, target, &unique, "")
    }

    /// Parameters unlike all others.
    fn unlike(&self, parameters: &str) -> String {
        self.sent.set(self.sent.get() + 1);
        format!("{parameters}&n={}", self.sent.get()).trim_start_matches('&').to_owned()
    }

    fn send(
        &self,
        key: &str,
        from: &str,
        method: &Method,
        target: &str,
        query: &str,
        body: &str,
    ) -> Result<Permit, Denial> {
        let path = target.split_once('?').map_or(target, |(path, _)| path);
        let entry = self.config.routes.find("h", method, path).expect("a route");
        let is_public = key.is_empty();
        let (mut headers, mut sent_query, mut sent_body) =
            (HeaderMap::new(), query.to_owned(), body.to_owned());
        if !is_public {
            let signer = Signer::read(Algorithm::HmacSha256, SECRET.as_bytes()).unwrap();
            let by = Credentials { key_id: key, signer: &signer, passphrase: None };
            let draft = Draft {
                method: method.clone(),
                path,
                query,
                body,
                host: "h",
                window_ms: None,
                lead_ms: 5_000,
                nonce: None,
            };
            let dialect = builtin("binance").unwrap().unwrap();
            let made = dialect.sign(&draft, &by, self.gate.clock.now()).unwrap();
            sent_query =
                made.target.split_once('?').map(|(_, query)| query.to_owned()).unwrap_or_default();
            sent_body = made.body;
            headers = made.headers.into_iter().collect();
        }
        let inbound = Inbound {
            method,
            path,
            query: Some(&*sent_query),
            host: "h",
            headers: (&headers).into(),
            body: sent_body.as_bytes(),
            peer: from.parse().unwrap(),
        };
        let mut scratch = self.scratch.borrow_mut();
        let admitted = std::pin::pin!(self.gate.admit(&inbound, &entry.demand, &mut scratch));
        match admitted.poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
            std::task::Poll::Ready(verdict) => verdict,
            std::task::Poll::Pending => panic!("an embedded store waited"),
        }
    }

    /// What is used of each limit after a request that passes.
    fn used(&self, key: &str, method: &Method, target: &str) -> Vec<u32> {
        self.ask(key, HOME, method, target).unwrap();
        self.levels()
    }

    /// What is used of each limit after the last request.
    fn levels(&self) -> Vec<u32> {
        self.scratch.borrow().standing().limits().map(|(_, level)| level).collect()
    }
}

const HOME: &str = "203.0.113.9";

fn key(id: &str, account: &str, limits: &str) -> String {
    format!(
        r#"
        [[key]]
        id = "{id}"
        account = "{account}"
        dialect = "binance"
        secret = {{ env = "SECRET" }}
        permissions = ["read", "trade", "cancel"]
        limits = {limits}
        "#
    )
}

fn limit(name: &str, quota: u32, rest: &str) -> String {
    format!("[[limit]]\nname = \"{name}\"\nquota = {quota}\nper = \"10s\"\n{rest}\n")
}

#[test]
fn cancels_ride_a_lane_of_their_own_that_cancel_replace_cannot_enter() {
    let world = World::new(&[
        &limit("weight", 3, ""),
        &limit("orders", 2, "counts = \"orders\"\nkind = \"fixed-window\"\nscope = \"account\""),
        &limit("cancels", 4, "lane = \"cancel\""),
        ROUTES,
        &key("a", "acme", r#"["weight", "orders", "cancels"]"#),
        &key("b", "acme", r#"["weight", "orders"]"#),
    ]);
    assert_eq!(world.used("a", &Method::POST, "/order"), [1, 1]);
    assert_eq!(world.used("a", &Method::POST, "/order/cancelReplace"), [2, 2]);
    for path in ["/order", "/order/cancelReplace"] {
        let over = world.ask("a", HOME, &Method::POST, path).unwrap_err();
        assert!(matches!(over, Denial::OrdersLimited(excess) if excess.level == 2), "{over:?}");
    }
    // Four cancels pass though orders are limited, and take nothing of what limits orders.
    for n in 1..=4 {
        assert_eq!(world.used("a", &Method::DELETE, "/order"), [n]);
    }
    let over = world.ask("a", HOME, &Method::DELETE, "/order").unwrap_err();
    assert!(matches!(over, Denial::Limited(excess) if excess.quota == 4), "{over:?}");
    // Without a lane, a cancel weighs like everything else.
    assert_eq!(world.used("b", &Method::DELETE, "/order"), [1]);
    // The account's orders are spent for its other key as well.
    let over = world.ask("b", HOME, &Method::POST, "/order").unwrap_err();
    assert!(matches!(over, Denial::OrdersLimited(_)), "{over:?}");
    // The window is aligned: it ends with its ten seconds, not ten seconds after the first order.
    let Denial::OrdersLimited(excess) = over else { panic!() };
    let micro = Duration::from_micros(1);
    world.gate.clock.advance(excess.retry_after.checked_sub(micro).unwrap());
    assert!(world.ask("b", HOME, &Method::POST, "/order").is_err());
    world.gate.clock.advance(Duration::from_micros(1));
    assert_eq!(world.gate.clock.now().0 % 10_000_000, 0);
    world.ask("b", HOME, &Method::POST, "/order").unwrap();
}

#[test]
fn a_batch_counts_each_of_its_orders_wherever_the_array_stands() {
    let world = World::new(&[
        &limit("orders", 9, "counts = \"orders\"\nkind = \"sliding-window\""),
        ROUTES,
        &key("a", "acme", r#"["orders"]"#),
    ]);
    assert_eq!(
        world.used("a", &Method::POST, "/batch?batchOrders=%5B%7B%22a%22%3A1%7D%2C%7B%7D%5D"),
        [2]
    );
    let form = world.unlike("batchOrders=[1,2,3]");
    world.send("a", HOME, &Method::POST, "/batch", "", &form).unwrap();
    assert_eq!(world.levels(), [5]);
    let twice = world.ask("a", HOME, &Method::POST, "/batch?batchOrders=[1]&batchOrders=[]");
    assert!(matches!(twice, Err(Denial::Malformed(_))), "{twice:?}");
    let spelled = world.ask("a", HOME, &Method::POST, "/batch?batch%4frders=[1]");
    assert!(matches!(spelled, Err(Denial::Malformed(_))), "{spelled:?}");
    let garbled = world.ask("a", HOME, &Method::POST, "/batch?batchOrders=%5B1");
    assert!(matches!(garbled, Err(Denial::Malformed(_))), "{garbled:?}");
    assert_eq!(world.used("a", &Method::POST, "/batch"), [6]);
    assert_eq!(world.used("a", &Method::POST, "/batch?batchOrders=%5B%5D"), [7]);
    let over =
        world.ask("a", HOME, &Method::POST, "/batch?batchOrders=%5B1%2C2%2C3%2C4%2C5%2C6%5D");
    assert!(matches!(over, Err(Denial::OrdersLimited(_))), "{over:?}");
}

const DEPTH: &str = r#"
    [[route]]
    name = "depth"
    methods = ["GET"]
    path = "/depth"
    upstream = "exchange"
    ask = "public"
    address_limit = "address"
    limits = ["all"]
    weight = 5
    weight_by = { parameter = "limit", steps = [[100, 5], [500, 25], [1000, 50], [5000, 250]] }
"#;

#[test]
fn what_a_request_weighs_is_read_from_the_one_parameter_that_the_backend_reads() {
    let world = World::new(&[
        &limit("address", 2_000, "scope = \"address\""),
        &limit("all", 3_000, "scope = \"global\"\nkind = \"fixed-window\""),
        DEPTH,
    ]);
    let mut spent = 0;
    for (query, weight) in [
        ("", 5),
        ("symbol=BTCUSDT&limit=100", 5),
        ("limit=101", 25),
        ("limit=500", 25),
        ("limit=5000", 250),
        ("limit=5001", 250),
        ("limit=00100", 5),
        ("limit=", 250),
        ("limit=-1", 250),
    ] {
        spent += weight;
        let permit = world.ask("", HOME, &Method::GET, &format!("/depth?{query}"));
        permit.unwrap_or_else(|denial| panic!("{query}: {denial:?} {spent}"));
        assert_eq!(world.levels()[0], spent, "{query}");
        world.gate.clock.advance(Duration::ZERO);
    }
    for query in ["limit=5&limit=5000", "l%69mit=5000", "limit=5&LIMIT=5000", "Limit=5000"] {
        let refused = world.ask("", HOME, &Method::GET, &format!("/depth?{query}"));
        assert!(matches!(refused, Err(Denial::Malformed(_))), "{query}");
    }
    // What is all's is spent by everybody.
    world.ask("", "192.0.2.1", &Method::GET, "/depth?limit=5000").unwrap();
    assert_eq!(world.levels(), [spent + 250, 250]);
}

#[test]
fn routes_that_name_a_limit_share_it_as_a_class_for_each_of_its_scope() {
    let route = |name: &str| {
        format!(
            r#"
            [[route]]
            name = "{name}"
            methods = ["GET"]
            path = "/{name}"
            upstream = "exchange"
            dialect = "binance"
            limits = ["class", "everyone"]
            "#
        )
    };
    let world = World::new(&[
        &limit("class", 3, "scope = \"account\"\nkind = \"sliding-window\""),
        &limit("everyone", 5, "scope = \"global\""),
        &route("one"),
        &route("two"),
        &key("a", "acme", "[]"),
        &key("b", "acme", "[]"),
        &key("c", "other", "[]"),
    ]);
    assert_eq!(world.used("a", &Method::GET, "/one"), [1, 1]);
    assert_eq!(world.used("b", &Method::GET, "/two"), [2, 2]);
    assert_eq!(world.used("a", &Method::GET, "/two"), [3, 3]);
    let over = world.ask("b", HOME, &Method::GET, "/one").unwrap_err();
    assert!(matches!(over, Denial::Limited(excess) if excess.quota == 3), "{over:?}");
    assert_eq!(world.used("c", &Method::GET, "/one"), [1, 4]);
    assert_eq!(world.used("c", &Method::GET, "/two"), [2, 5]);
    let over = world.ask("c", HOME, &Method::GET, "/one").unwrap_err();
    assert!(matches!(over, Denial::Limited(excess) if excess.quota == 5), "{over:?}");
}

#[test]
fn addresses_of_one_subscriber_share_a_window() {
    let world = World::new(
        &[
            &limit("address", 5, "scope = \"address\"\nkind = \"fixed-window\""),
            &limit("all", 2_000, "scope = \"global\""),
            DEPTH,
        ]
        .map(|part| {
            part.replace("steps = [[100, 5], [500, 25], [1000, 50], [5000, 250]]", "absent = 2")
        })
        .each_ref()
        .map(|part| &**part),
    );
    for from in ["2001:db8:1:2::1", "2001:db8:1:2:ffff::9"] {
        world.ask("", from, &Method::GET, "/depth").unwrap();
    }
    let over = world.ask("", "2001:db8:1:2::3", &Method::GET, "/depth").unwrap_err();
    assert!(matches!(over, Denial::AddressLimited(excess) if excess.level == 4), "{over:?}");
    world.ask("", "2001:db8:1:3::1", &Method::GET, "/depth").unwrap();
}

#[test]
fn rules_in_shadow_refuse_nothing_and_say_what_they_would_have() {
    let shadowed = r#"
        [[route]]
        name = "watched"
        methods = ["POST"]
        path = "/watched"
        upstream = "exchange"
        dialect = "binance"
        permission = "margin"
        second_factor = { header = "x-otp" }
        shadow = ["address", "permission", "second-factor"]
        [[route]]
        name = "enforced"
        methods = ["POST"]
        path = "/enforced"
        upstream = "exchange"
        dialect = "binance"
        permission = "margin"
    "#;
    let world = World::new(&[
        &limit("watched", 1, "shadow = true"),
        &limit("enforced", 3, ""),
        shadowed,
        &key("a", "acme", "[\"watched\", \"enforced\"]\nallowlist = [\"192.0.2.0/24\"]"),
    ]);
    let reasons = |shadowed: Shadowed| -> Vec<&str> {
        shadowed.places().map(|place| Denial::REASONS[place]).collect()
    };
    let first = world.ask("a", HOME, &Method::POST, "/watched").unwrap();
    assert_eq!(reasons(first.shadowed()), ["address_refused", "not_permitted", "no_factor"]);
    let second = world.ask("a", "192.0.2.1", &Method::POST, "/watched").unwrap();
    assert_eq!(reasons(second.shadowed()), ["not_permitted", "no_factor", "limited"]);
    let refused = world.ask("a", HOME, &Method::POST, "/enforced").unwrap_err();
    assert_eq!(refused, Denial::AddressRefused);
    let refused = world.ask("a", "192.0.2.1", &Method::POST, "/enforced").unwrap_err();
    assert_eq!(refused, Denial::NotPermitted);
    // What is switched off is off, in shadow too.
    world.gate.switches.set(countersign::key::Permissions::ALL);
    let refused = world.ask("a", HOME, &Method::POST, "/watched").unwrap_err();
    assert_eq!(refused, Denial::SwitchedOff);
    world.gate.switches.set(countersign::key::Permissions::NONE);
    // A limit that is enforced is.
    world.ask("a", HOME, &Method::POST, "/watched").unwrap();
    let refused = world.ask("a", HOME, &Method::POST, "/watched").unwrap_err();
    assert!(matches!(refused, Denial::Limited(excess) if excess.quota == 3), "{refused:?}");
}

#[test]
fn an_order_that_the_backend_accepts_is_given_back_where_only_refused_ones_cost() {
    let world = World::new(&[
        &limit("orders", 2, "counts = \"orders\"\nkind = \"fixed-window\"\ncharged = \"refused\""),
        &limit("weight", 100, ""),
        ROUTES,
        &key("a", "acme", r#"["orders", "weight"]"#),
    ]);
    let mut used = Vec::new();
    for status in [200, 201, 503, 400, 200] {
        let Ok(mut permit) = world.ask("a", HOME, &Method::POST, "/order") else { break };
        used.push(world.levels()[0]);
        let receipt = permit.take_receipt().unwrap();
        if let Some(receipt) = receipt.given_back(status) {
            world.gate.store.give_back(&receipt, world.gate.clock.now());
        }
        assert!(permit.take_receipt().is_none(), "it is given back once");
    }
    // Neither a refused order nor one of which nothing is known is given back.
    assert_eq!(used, [1, 1, 1, 2]);
    // What is charged to buckets is not given back.
    assert_eq!(world.used("a", &Method::DELETE, "/order"), [5]);
}

#[test]
fn what_would_limit_nothing_or_let_money_go_is_refused_at_load() {
    let route = |rest: &str| {
        format!(
            "[[route]]\nname = \"r\"\nmethods = [\"POST\"]\npath = \"/r\"\nupstream = \"exchange\"\n\
             dialect = \"binance\"\n{rest}\n"
        )
    };
    for (parts, problem) in [
        (
            [limit("a", 1, "charged = \"refused\""), route("permission = \"trade\"")],
            "cannot be told from",
        ),
        (
            [
                limit("a", 1, "lane = \"cancel\"\nscope = \"address\""),
                route("permission = \"trade\""),
            ],
            "only limits that keys name have a lane",
        ),
        (
            [limit("a", 1, "lane = \"cancel\""), route("permission = \"trade\"\nlimits = [\"a\"]")],
            "is a lane for cancels",
        ),
        (
            [limit("a", 1, ""), route("permission = \"withdraw\"\nshadow = [\"permission\"]")],
            "takes money out of accounts",
        ),
        ([limit("a", 1, ""), route("effect = \"cancel\"\norders = 1")], "places orders"),
        (
            [limit("a", 4, ""), route("permission = \"trade\"\nlimits = [\"a\"]\nweight = 5")],
            "less than the weight of one request, 5",
        ),
        (
            [
                limit("a", 4, "scope = \"global\""),
                route(
                    "permission = \"trade\"\nlimits = [\"a\"]\nweight_by = { parameter = \"n\", steps = [[9, 5]] }",
                ),
            ],
            "less than the weight of one request, 5",
        ),
        (
            [
                limit("a", 4, ""),
                route(
                    "permission = \"trade\"\nweight_by = { parameter = \"n\", steps = [[9, 5], [9, 6]] }",
                ),
            ],
            "ascend",
        ),
    ] {
        let text = format!("{HEAD}\n{}\n{}", parts[0], parts[1]);
        let refused = Config::parse(&text, Path::new("gateway.toml"), &Environment).unwrap_err();
        assert!(refused.to_string().contains(problem), "{refused}");
    }
}
