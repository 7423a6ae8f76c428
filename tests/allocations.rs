//! The accepted path of `admit` allocates nothing, once a worker's memory has grown to its messages.
#![expect(
    clippy::duration_suboptimal_units,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic is how a test fails; seconds throughout"
)]

use std::sync::Arc;
use std::time::Duration;

use countersign::admit::{Ask, Decoys, Effect, Gate, Guard, Route, Scratch};
use countersign::clock::{Clock as _, ManualClock, Micros};
use countersign::dialect::{BUILTIN, Credentials, Dialect, Draft, Inbound, builtin};
use countersign::key::{
    Algorithm, Allowlist, Key, Passphrase, Permission, Permissions, Secret, Signer, State, Tag,
    Venue,
};
use countersign::registry::fixed::FixedKeys;
use countersign::store::memory::{MemoryStore, Options};
use countersign::store::{Limit, Repeat};
use http::{HeaderMap, Method};

const NOW: Micros = Micros(1_700_000_000_000_000);
const REQUESTS: u64 = 50;
const KEY_ID: &str = "k3yAbCdEf0123456789ABCDEFabcdef0123456789";

/// A dialect, and a key of one algorithm in it.
struct Party {
    dialect: Arc<Dialect>,
    signer: Signer,
    gate: Gate<FixedKeys, MemoryStore, ManualClock>,
    route: Route,
}

/// A signed request as it lies in memory when the check begins.
struct Received {
    method: Method,
    query: Option<String>,
    headers: HeaderMap,
    body: String,
}

impl Party {
    fn new(dialect: &str, algorithm: Algorithm, secret: &[u8], verifier: &[u8]) -> Self {
        let dialect = Arc::new(builtin(dialect).unwrap().unwrap());
        let limit = |quota, seconds| Limit { quota, period: Duration::from_secs(seconds) };
        let venue = Venue("main".into());
        let mut keys = FixedKeys::default();
        keys.insert(Key {
            id: KEY_ID.into(),
            tag: Tag::of(KEY_ID),
            account: "a".into(),
            account_tag: Tag::of("a"),
            venue: venue.clone(),
            dialect: Arc::clone(dialect.name()),
            secret: Secret::read(algorithm, verifier).unwrap(),
            passphrase: dialect.has_passphrase().then(|| Passphrase::new("open sesame")),
            permissions: Permissions::NONE.with(Permission::TRADE),
            allowlist: Allowlist::new(["127.0.0.0/8".parse().unwrap()]),
            state: State::Active,
            expires: Some(NOW + Duration::from_secs(86_400)),
            limits: Arc::from([limit(10_000, 60), limit(1_000, 1)]),
        });
        let options = Options { max_records: 10_000, ..Options::default() };
        let gate = Gate {
            keys,
            store: MemoryStore::open(&options, NOW - Duration::from_secs(600)).unwrap(),
            clock: ManualClock::at(NOW),
            decoys: Decoys::new().unwrap(),
            guard: Guard::default(),
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
            key_max_age: Duration::from_secs(30),
            lead: Duration::from_secs(60),
            repeat: Repeat::Never,
            address_limit: Some(limit(100_000, 60)),
        };
        Self { dialect, signer: Signer::read(algorithm, secret).unwrap(), gate, route }
    }

    /// The `n`-th request, unlike every other.
    fn request(&self, method: &Method, n: u64) -> Received {
        let form = format!("symbol=BTCUSDT&quantity=0.01&n={n}");
        let (query, body) = match *method {
            Method::GET => (form, String::new()),
            _ if &**self.dialect.name() == "binance" => (String::new(), form),
            _ => (String::new(), format!(r#"{{"symbol":"BTCUSDT","qty":"0.01","n":"{n}"}}"#)),
        };
        let draft = Draft {
            method: method.clone(),
            path: "/api/v3/order",
            query: &query,
            body: &body,
            host: "api.example",
            window_ms: None,
            lead_ms: 5_000,
        };
        let passphrase = self.dialect.has_passphrase().then_some("open sesame");
        let by = Credentials { key_id: KEY_ID, signer: &self.signer, passphrase };
        let signed = self.dialect.sign(&draft, &by, self.gate.clock.now()).unwrap();
        Received {
            method: signed.method,
            query: signed.target.split_once('?').map(|(_, query)| query.to_owned()),
            headers: signed.headers.into_iter().collect(),
            body: signed.body,
        }
    }

    /// How many allocations admitting a run of new requests makes, after one run to warm up.
    fn allocations(&self, method: &Method) -> u64 {
        let mut scratch = Scratch::new();
        let [warm, counted] = [0, REQUESTS]
            .map(|from| (from..from + REQUESTS).map(|n| self.request(method, n)).collect());
        self.admit_all(&warm, &mut scratch);
        allocation_counter::measure(|| self.admit_all(&counted, &mut scratch)).count_total
    }

    fn admit_all(&self, requests: &Vec<Received>, scratch: &mut Scratch) {
        for request in requests {
            let inbound = Inbound {
                method: &request.method,
                path: "/api/v3/order",
                query: request.query.as_deref(),
                host: "api.example",
                headers: &request.headers,
                body: request.body.as_bytes(),
                peer: std::net::Ipv4Addr::LOCALHOST.into(),
            };
            let permit = now_or_never(self.gate.admit(&inbound, &self.route, scratch));
            assert_eq!(permit.unwrap().standing().limits().count(), 3);
        }
    }
}

/// Embedded stores and keys in memory never wait.
fn now_or_never<T>(future: impl Future<Output = T>) -> T {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(done) => done,
        std::task::Poll::Pending => panic!("an embedded store waited"),
    }
}

/// An Ed25519 private key in PKCS#8, from a seed of sevens.
fn ed25519_private_key() -> Vec<u8> {
    let head = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    [&head[..], &[7; 32]].concat()
}

#[test]
fn hmac_requests_of_every_dialect_are_admitted_without_an_allocation() {
    let mut judged = 0;
    for (name, _) in BUILTIN {
        let dialect = builtin(name).unwrap().unwrap();
        for algorithm in dialect.algorithms().filter(|algorithm| algorithm.is_symmetric()) {
            let secret = b"s3cretZyXwVu9876543210fedcbaFEDC";
            for method in [Method::GET, Method::POST] {
                let party = Party::new(name, algorithm, secret, secret);
                assert_eq!(party.allocations(&method), 0, "{name} {} {method}", algorithm.name());
                judged += 1;
            }
        }
    }
    assert!(judged >= 6, "{judged}");
}

#[test]
fn ed25519_requests_are_admitted_without_an_allocation() {
    let private = ed25519_private_key();
    for method in [Method::GET, Method::POST] {
        let party = Party::new("binance", Algorithm::Ed25519, &private, &private);
        assert_eq!(party.allocations(&method), 0, "{method}");
    }
}

#[test]
fn rsa_requests_allocate_no_more_than_their_verification_does() {
    // The RSA key of a recorded request.
    let line =
        include_str!("vectors/binance.jsonl").lines().find(|line| line.contains("rsa-sha256"));
    let (_, secret) = line.unwrap().split_once("\"secret\": \"").unwrap();
    let private = secret.split_once('"').unwrap().0.replace("\\n", "\n").into_bytes();
    for method in [Method::GET, Method::POST] {
        let party = Party::new("binance", Algorithm::RsaSha256, &private, &private);
        let each = party.allocations(&method).div_ceil(REQUESTS);
        assert!(each <= RSA_VERIFICATION, "{method}: {each}");
    }
}

/// What ring takes and returns for one verification: numbers as long as the modulus.
const RSA_VERIFICATION: u64 = 5;

#[test]
fn the_counter_sees_an_allocation_where_there_is_one() {
    let secret = b"s3cret";
    let party = Party::new("binance", Algorithm::HmacSha256, secret, secret);
    let requests = vec![party.request(&Method::GET, 0)];
    let mut scratch = Scratch::new();
    let seen = allocation_counter::measure(|| {
        party.admit_all(&requests, &mut scratch);
        drop(std::hint::black_box(vec![0_u8; 1]));
    });
    assert_eq!(seen.count_total, 1);
}
