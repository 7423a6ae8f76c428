//! The accepted path of `admit` allocates nothing, once a worker's memory has grown to its messages.
#![expect(
    clippy::duration_suboptimal_units,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic is how a test fails; seconds throughout"
)]

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use countersign::admit::{Ask, Decoys, Effect, Gate, Guard, Route, Scratch};
use countersign::clock::{Clock as _, ManualClock, Micros};
use countersign::dialect::{
    BUILTIN, Credentials, Dialect, Draft, Facts, Inbound, SecretForm, TimeKind, builtin,
};
use countersign::key::{
    Algorithm, Allowlist, Key, Permission, Permissions, Signer, State, Tag, Venue,
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
        let record = dialect.read_secret(algorithm, verifier).unwrap();
        keys.insert(Key {
            id: KEY_ID.into(),
            tag: Tag::of(KEY_ID),
            account: "a".into(),
            account_tag: Tag::of("a"),
            venue: venue.clone(),
            dialect: Arc::clone(dialect.name()),
            passphrase: dialect
                .has_passphrase()
                .then(|| dialect.read_passphrase("open sesame", &record)),
            secret: record,
            permissions: Permissions::NONE.with(Permission::TRADE),
            allowlist: Allowlist::new(["127.0.0.0/8".parse().unwrap()]),
            state: State::Active,
            expires: Some(NOW + Duration::from_secs(86_400)),
            limits: Arc::from([limit(100_000, 60).into(), limit(10_000, 1).into()]),
            epoch: 0,
            bindings: None,
        });
        let options = Options { max_records: 10_000, volatile_marks: true, ..Options::default() };
        let gate = Gate {
            keys,
            store: MemoryStore::open(&options, NOW - Duration::from_secs(600)).unwrap(),
            clock: ManualClock::at(NOW),
            decoys: Decoys::new().unwrap(),
            guard: Guard::default(),
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
            key_max_age: Duration::from_secs(30),
            lead: Duration::from_secs(60),
            repeat: Repeat::Never,
            address_limit: Some(limit(100_000, 60)),
            symbol: None,
            charges: None,
            second_factor: None,
        };
        let signer = dialect.read_signer(algorithm, secret).unwrap();
        Self { dialect, signer, gate, route }
    }

    /// The `n`-th request, unlike every other; `None` where no client of the dialect sends one by this method.
    fn request(&self, method: &Method, n: u64) -> Option<Received> {
        let form = format!("symbol=BTCUSDT&quantity=0.01&n={n}");
        let json = match &**self.dialect.name() {
            "cryptocom" => format!(r#"{{"params":{{"price":"0.01","quantity":"{n}"}}}}"#),
            _ => format!(r#"{{"symbol":"BTCUSDT","qty":"0.01","n":"{n}"}}"#),
        };
        // What a dialect does not carry it refuses to sign.
        let ways = match *method {
            Method::GET => [(&*form, ""), ("", "")],
            _ => [("", &*form), ("", &*json)],
        };
        let passphrase = self.dialect.has_passphrase().then_some("open sesame");
        let by = Credentials { key_id: KEY_ID, signer: &self.signer, passphrase };
        // Times and nonces differ too, as some dialects demand.
        let at = match &**self.dialect.name() {
            // Its times are whole seconds, and it signs no body that could tell two requests apart.
            "htx" => self.gate.clock.now() - Duration::from_secs(n),
            _ => self.gate.clock.now() + Duration::from_millis(n),
        };
        let signed = ways.iter().find_map(|(query, body)| {
            let draft = Draft {
                method: method.clone(),
                path: self.path(),
                query,
                body,
                host: "api.example",
                window_ms: None,
                lead_ms: 5_000,
                nonce: None,
            };
            self.dialect.sign(&draft, &by, at).ok()
        })?;
        Some(Received {
            method: signed.method,
            query: signed.target.split_once('?').map(|(_, query)| query.to_owned()),
            headers: signed.headers.into_iter().collect(),
            body: signed.body,
        })
    }

    /// A path that the dialect's clients use.
    fn path(&self) -> &'static str {
        match &**self.dialect.name() {
            "phemex" => "/spot/orders",
            "coinbase_legacy" => "/v2/orders",
            "cryptocom" => "/exchange/v1/private/create-order",
            _ => "/api/v3/order",
        }
    }

    /// How many allocations admitting a run of new requests makes, after one run to warm up.
    fn allocations(&self, method: &Method) -> Option<u64> {
        let mut scratch = Scratch::new();
        // Where nothing but a nonce tells requests apart, each part of the store takes its memory with its first one.
        let warm = if self.dialect.time_kind() == TimeKind::None { 4_000 } else { REQUESTS };
        let run = |from, to| (from..to).map(|n| self.request(method, n)).collect();
        let (warm, counted): (Option<Vec<_>>, Option<Vec<_>>) =
            (run(0, warm), run(warm, warm + REQUESTS));
        self.admit_all(&warm?, &mut scratch);
        let counted = counted?;
        Some(allocation_counter::measure(|| self.admit_all(&counted, &mut scratch)).count_total)
    }

    fn admit_all(&self, requests: &[Received], scratch: &mut Scratch) {
        for request in requests {
            let inbound = Inbound {
                method: &request.method,
                path: self.path(),
                query: request.query.as_deref(),
                host: "api.example",
                headers: (&request.headers).into(),
                body: request.body.as_bytes(),
                peer: std::net::Ipv4Addr::LOCALHOST.into(),
            };
            let permit = now_or_never(self.gate.admit(&inbound, &self.route, scratch));
            permit.unwrap_or_else(|denial| panic!("{}: {denial:?}", self.dialect.name()));
            assert_eq!(scratch.standing().limits().count(), 3);
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
            let secret: &[u8] = match dialect.secret_form() {
                SecretForm::Text => b"s3cretZyXwVu9876543210fedcbaFEDC",
                SecretForm::Base64 => b"czNjcmV0WnlYd1Z1OTg3NjU0MzIxMGZlZGNiYUZFREM=",
            };
            for method in [Method::GET, Method::POST] {
                let party = Party::new(name, algorithm, secret, secret);
                let Some(allocations) = party.allocations(&method) else { continue };
                // What stands in for the body is copied from the payload, or written anew and then shared.
                let each = match *name {
                    // For Bitstamp it is what signs the reply.
                    "gemini" | "whitebit" | "bitstamp" => 1,
                    "cryptocom" => 2,
                    "upbit" if method == Method::POST => 2,
                    _ => 0,
                };
                if *name == "upbit" {
                    // A nonce without a clock is handed to the thread that writes it to the disk, and waited for.
                    assert!(allocations <= 4 * REQUESTS, "{allocations}");
                } else {
                    assert_eq!(
                        allocations,
                        each * REQUESTS,
                        "{name} {} {method}",
                        algorithm.name()
                    );
                }
                judged += 1;
            }
        }
    }
    assert!(judged >= 30, "{judged}");
}

#[test]
fn ed25519_requests_are_admitted_without_an_allocation() {
    let private = ed25519_private_key();
    for method in [Method::GET, Method::POST] {
        let party = Party::new("binance", Algorithm::Ed25519, &private, &private);
        assert_eq!(party.allocations(&method), Some(0), "{method}");
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
        let each = party.allocations(&method).unwrap().div_ceil(REQUESTS);
        assert!(each <= RSA_VERIFICATION, "{method}: {each}");
    }
}

/// What ring takes and returns for one verification: numbers as long as the modulus.
const RSA_VERIFICATION: u64 = 5;

#[test]
fn telling_clients_how_full_a_limit_is_takes_no_memory() {
    let period = Duration::from_secs(60);
    let facts = Facts { used: 1_234_567, limit: 6_000_000, period, ..Facts::default() };
    for name in ["binance", "bybit", "kucoin", "gate"] {
        let dialect = builtin(name).unwrap().unwrap();
        let told = Cell::new(0);
        let tell = || {
            dialect.tell_on_all(std::slice::from_ref(&facts), |name, said| {
                drop(std::hint::black_box((name, said)));
                told.set(told.get() + 1);
            });
        };
        // The names are shared from their first use on.
        tell();
        assert!(told.get() > 0, "{name}");
        assert_eq!(allocation_counter::measure(tell).count_total, 0, "{name}");
    }
}

#[test]
fn the_counter_sees_an_allocation_where_there_is_one() {
    let secret = b"s3cret";
    let party = Party::new("binance", Algorithm::HmacSha256, secret, secret);
    let requests = vec![party.request(&Method::GET, 0).unwrap()];
    let mut scratch = Scratch::new();
    let seen = allocation_counter::measure(|| {
        party.admit_all(&requests, &mut scratch);
        drop(std::hint::black_box(vec![0_u8; 1]));
    });
    assert_eq!(seen.count_total, 1);
}
