//! Honest traffic is never refused: many workers on one key, at once and out of order.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use countersign::admit::{Ask, Decoys, Effect, Gate, Guard, Route, Scratch};
use countersign::clock::{Clock, SystemClock};
use countersign::denial::Denial;
use countersign::dialect::{Credentials, Dialect, Draft, Inbound, SignedRequest, builtin};
use countersign::key::{
    Algorithm, Allowlist, Key, Permission, Permissions, Secret, Signer, State, Tag, Venue,
};
use countersign::registry::fixed::FixedKeys;
use countersign::store::Repeat;
use countersign::store::memory::{MemoryStore, Options};
use http::{HeaderMap, Method};
use serde_json::Value;

use crate::demo::Demo;
use crate::program::{run, until};

const REQUESTS: usize = 1_000_000;
const WORKERS: usize = 50;
const THREADS: usize = 2;
const SECRET: &[u8] = b"shared by fifty workers";

struct Exchange {
    gate: Gate<FixedKeys, MemoryStore, SystemClock>,
    dialect: Arc<Dialect>,
    route: Route,
    signer: Signer,
}

impl Exchange {
    fn start() -> Self {
        let dialect = Arc::new(builtin("binance").unwrap().unwrap());
        let clock = SystemClock::start();
        let options = Options {
            max_records: 2 * REQUESTS,
            max_records_per_account: u32::MAX,
            ..Options::default()
        };
        let store = MemoryStore::open(&options, clock.now()).unwrap();
        until("the fence has passed", || store.fence_passed(clock.now()));
        let keys = [key(&dialect)].into_iter().collect();
        let gate = Gate {
            keys,
            store,
            clock,
            decoys: Decoys::new().unwrap(),
            guard: Guard::default(),
            switches: Arc::default(),
        };
        let route = route(&dialect);
        let signer = Signer::read(Algorithm::HmacSha256, SECRET).unwrap();
        Self { gate, dialect, route, signer }
    }

    fn sign(&self, worker: usize, number: usize) -> SignedRequest {
        let query = format!("symbol=BTCUSDT&worker={worker}&number={number}");
        let draft = Draft {
            method: Method::GET,
            path: "/api/v3/order",
            query: &query,
            body: "",
            host: "localhost",
            window_ms: Some(60_000),
            lead_ms: 0,
            nonce: None,
        };
        let by = Credentials { key_id: "key", signer: &self.signer, passphrase: None };
        self.dialect.sign(&draft, &by, self.gate.clock.now()).unwrap()
    }

    async fn ask(&self, signed: &SignedRequest, scratch: &mut Scratch) -> Result<(), Denial> {
        let headers: HeaderMap = signed.headers.iter().cloned().collect();
        let (path, query) = signed.target.split_once('?').unwrap();
        let inbound = Inbound {
            method: &signed.method,
            path,
            query: Some(query),
            host: "localhost",
            headers: (&headers).into(),
            body: signed.body.as_bytes(),
            peer: Ipv4Addr::LOCALHOST.into(),
        };
        self.gate.admit(&inbound, &self.route, scratch).await.map(drop)
    }
}

fn key(dialect: &Dialect) -> Key {
    Key {
        id: "key".into(),
        tag: Tag::of("key"),
        account: "account".into(),
        account_tag: Tag::of("account"),
        venue: Venue("main".into()),
        dialect: Arc::clone(dialect.name()),
        secret: Secret::read(Algorithm::HmacSha256, SECRET).unwrap(),
        passphrase: None,
        permissions: Permissions::NONE.with(Permission::READ),
        allowlist: Allowlist::default(),
        state: State::Active,
        expires: None,
        limits: Arc::from([]),
        epoch: 0,
        bindings: None,
    }
}

fn route(dialect: &Arc<Dialect>) -> Route {
    Route {
        name: "order".into(),
        id: 0,
        ask: Ask::Signed(Arc::clone(dialect)),
        venue: Venue("main".into()),
        permissions: Permissions::NONE.with(Permission::READ),
        effect: Effect::Read,
        weight: 1,
        body_cap: 0,
        key_max_age: Duration::from_mins(5),
        lead: Duration::from_mins(1),
        repeat: Repeat::Never,
        address_limit: None,
        symbol: None,
        charges: None,
        second_factor: None,
    }
}

#[test]
fn a_million_requests_of_fifty_workers_on_one_key_are_all_accepted() {
    let exchange = Exchange::start();
    let accepted = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (exchange, accepted) = (&exchange, &accepted);
            scope.spawn(move || accepted.fetch_add(work(exchange, thread), Ordering::Relaxed));
        }
    });
    assert_eq!(accepted.into_inner(), REQUESTS);
}

/// The requests of one thread's workers. Each worker signs before any of them sends, and they send in an order of
/// their own, so that later stamps arrive before earlier ones.
fn work(exchange: &Exchange, thread: usize) -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut scratch = Scratch::new();
    let workers: Vec<_> =
        (0..WORKERS / THREADS).map(|place| thread * WORKERS / THREADS + place).collect();
    let mut accepted = 0;
    for round in 0..REQUESTS / WORKERS {
        let mut signed: Vec<_> =
            workers.iter().map(|worker| exchange.sign(*worker, round)).collect();
        let turn = round % signed.len();
        signed.rotate_left(turn);
        if round % 2 == 1 {
            signed.reverse();
        }
        for request in &signed {
            let verdict = runtime.block_on(exchange.ask(request, &mut scratch));
            assert_eq!(verdict, Ok(()), "{request:?}");
            accepted += 1;
        }
    }
    accepted
}

#[test]
fn a_worker_that_sends_a_request_again_is_refused() {
    let exchange = Exchange::start();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut scratch = Scratch::new();
    for number in 0..1_000 {
        let request = exchange.sign(0, number);
        assert_eq!(runtime.block_on(exchange.ask(&request, &mut scratch)), Ok(()));
        let again = runtime.block_on(exchange.ask(&request, &mut scratch));
        assert_eq!(again, Err(Denial::Replayed));
    }
}

#[test]
fn fifty_workers_over_sockets_are_all_accepted() {
    let demo = Demo::start(&["--weight-limit", "400000000"]);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &demo.line).unwrap();
    let said = run(
        &[
            "load",
            "--demo-json",
            file.path().to_str().unwrap(),
            "--request",
            "GET /api/v3/account",
            "--connections",
            "50",
            "--count",
            "50000",
            "--warmup",
            "0s",
            "--json",
        ],
        &[],
    );
    assert_eq!(said.code, Some(0), "{said:?}");
    let report: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(report["requests"], 50_000, "{report}");
    assert_eq!(report["statuses"]["200"], 50_000, "{report}");
    assert_eq!(report["wrong_answers"], 0, "{report}");
}
