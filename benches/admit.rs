//! What a checked request costs beside the bare MAC of the same bytes: `cargo bench --bench admit`.
//!
//! After Criterion's own figures come interleaved rounds, whose medians are compared in the last lines: the bare
//! MAC with a prepared key, `admit` with one key and an empty store, and `admit` with a million keys and a million
//! live replay records.
#![expect(
    clippy::cast_precision_loss,
    clippy::duration_suboptimal_units,
    clippy::indexing_slicing,
    clippy::needless_for_each,
    clippy::panic,
    clippy::similar_names,
    clippy::unwrap_used,
    reason = "a bench may panic, and its figures are estimates"
)]

use std::hint::black_box;
use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use countersign::admit::{Ask, Decoys, Effect, Gate, Guard, Meter, Route, Scratch};
use countersign::clock::{ManualClock, Micros};
use countersign::dialect::{Credentials, Dialect, Draft, Inbound, builtin};
use countersign::key::{
    Algorithm, Allowlist, Key, Passphrase, Permission, Permissions, Secret, Signer, State, Tag,
    Venue,
};
use countersign::registry::fixed::FixedKeys;
use countersign::store::memory::{MemoryStore, Options};
use countersign::store::{Charge, Identity, Limit, Repeat, SignedTime, Store};
use criterion::{BatchSize, Criterion};
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderValue, Method};
use sha2::Sha256;

/// As the binary has it: what it takes from the system lies on large pages, where there are any.
#[cfg(feature = "server")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SECRET: &[u8] = b"s3cretZyXwVu9876543210fedcbaFEDCBA9876543210";
const NOW: Micros = Micros(1_700_000_000_000_000);
const MANY: usize = 1_000_000;

type Bench = Gate<FixedKeys, MemoryStore, ManualClock>;

/// A request as it lies in memory when the check begins.
struct Owned {
    method: Method,
    path: &'static str,
    query: Option<String>,
    headers: HeaderMap,
    body: String,
    signed: Vec<u8>,
    at: Micros,
}

impl Owned {
    fn inbound(&self) -> Inbound<'_> {
        Inbound {
            method: &self.method,
            path: self.path,
            query: self.query.as_deref(),
            host: "api.example",
            headers: (&self.headers).into(),
            body: self.body.as_bytes(),
            peer: std::net::Ipv4Addr::LOCALHOST.into(),
        }
    }
}

struct Case {
    name: &'static str,
    dialect: Arc<Dialect>,
    route: Route,
    method: Method,
    path: &'static str,
    query: &'static str,
    body: &'static str,
}

impl Case {
    fn new(name: &'static str, dialect: &'static str, post: bool) -> Self {
        let dialect = Arc::new(builtin(dialect).unwrap().unwrap());
        let form = &**dialect.name() == "binance";
        let (query, body) = match (post, form) {
            (false, _) => (
                "symbol=BTCUSDT&orderId=1234567890123456789&origClientOrderId=x-TKT5PX2Ffc99df85",
                "",
            ),
            (true, true) => (
                "",
                "symbol=BTCUSDT&side=BUY&type=LIMIT&timeInForce=GTC&quantity=0.01&price=20000.5&newOrderRespType=FULL",
            ),
            (true, false) => (
                "",
                r#"{"symbol":"BTCUSDT","side":"Buy","orderType":"Limit","price":"20000.5","category":"spot","qty":"0.01","timeInForce":"gtc"}"#,
            ),
        };
        let route = Route {
            name: "order".into(),
            id: 0,
            ask: Ask::Signed(Arc::clone(&dialect)),
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
        };
        let method = if post { Method::POST } else { Method::GET };
        Self { name, dialect, route, method, path: "/api/v3/order", query, body }
    }

    /// Signs the `n`-th request, unlike every other.
    fn sign(&self, n: u64, key_id: &str) -> Owned {
        let signer = Signer::read(Algorithm::HmacSha256, SECRET).unwrap();
        let query =
            if self.query.is_empty() { String::new() } else { format!("{}&n={n:09}", self.query) };
        let body = match self.body.strip_suffix('}') {
            Some(open) => format!("{open},\"n\":\"{n:09}\"}}"),
            None if self.body.is_empty() => String::new(),
            None => format!("{}&newClientOrderId={n:09}", self.body),
        };
        let at = NOW + Duration::from_millis(n);
        let passphrase = self.dialect.has_passphrase().then_some("passphrase");
        let by = Credentials { key_id, signer: &signer, passphrase };
        let draft = Draft {
            method: self.method.clone(),
            path: self.path,
            query: &query,
            body: &body,
            host: "api.example",
            window_ms: Some(5_000),
            lead_ms: 5_000,
            nonce: None,
        };
        let signed = self.dialect.sign(&draft, &by, at).unwrap();
        let mut headers: HeaderMap = signed.headers.into_iter().collect();
        for (name, value) in [
            ("host", "api.example"),
            ("user-agent", "python-requests/2.34.2"),
            ("accept-encoding", "gzip, deflate"),
            ("accept", "*/*"),
            ("connection", "keep-alive"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let query = signed.target.split_once('?').map(|(_, query)| query.to_owned());
        let mut owned = Owned {
            method: signed.method,
            path: self.path,
            query,
            headers,
            body: signed.body,
            signed: vec![],
            at,
        };
        let mut bytes = self.dialect.signed_bytes(&owned.inbound());
        owned.signed = bytes.swap_remove(0).1;
        owned
    }

    fn key(&self, id: &str, venue: &Venue, limits: &Arc<[Meter]>) -> Key {
        Key {
            id: id.into(),
            tag: Tag::of(id),
            account: id.into(),
            account_tag: Tag::of(id),
            venue: venue.clone(),
            dialect: Arc::clone(self.dialect.name()),
            secret: Secret::read(Algorithm::HmacSha256, SECRET).unwrap(),
            passphrase: self.dialect.has_passphrase().then(|| Passphrase::new("passphrase")),
            permissions: Permissions::NONE.with(Permission::TRADE),
            allowlist: Allowlist::default(),
            state: State::Active,
            expires: None,
            limits: Arc::clone(limits),
            epoch: 0,
            bindings: None,
        }
    }
}

/// A gate that knows one key, or many with as many live records.
fn gate(case: &Case, keys: usize, records: usize) -> Bench {
    let room = if records == 0 { 100_000 } else { 2 * MANY };
    let options =
        Options { max_records: room, max_records_per_account: 1_000_000, ..Options::default() };
    let store = MemoryStore::open(&options, NOW - Duration::from_secs(10)).unwrap();
    let mut known = FixedKeys::default();
    let venue = Venue("main".into());
    // Shared, as the configuration does for keys with the same limits.
    let limits = Arc::from([Limit { quota: 100_000_000, period: Duration::from_secs(60) }.into()]);
    (0..keys).for_each(|n| known.insert(case.key(&key_id(n), &venue, &limits)));
    for n in 0..records {
        let mut identity = [0; 16];
        identity[..8]
            .copy_from_slice(&(n as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes());
        let charge = Charge {
            now: NOW,
            identity: Identity(identity),
            nonce: None,
            account: (n % keys) as u64,
            key: [1; 16],
            epoch: 0,
            step: None,
            time: SignedTime::Stamp(NOW),
            keep_until: NOW + Duration::from_secs(3_600),
            route: 0,
            repeat: Repeat::Never,
            costs: ArrayVec::new(),
        };
        now_or_never(store.spend(&charge));
    }
    Gate {
        keys: known,
        store,
        clock: ManualClock::at(NOW),
        decoys: Decoys::new().unwrap(),
        guard: Guard::default(),
        switches: Arc::default(),
    }
}

fn key_id(n: usize) -> String {
    format!("k3yAbCdEf0123456789ABCDEFabcdef{n:010}")
}

/// Under a name of its own, for tools that count instructions.
#[inline(never)]
fn admit(gate: &Bench, case: &Case, request: &Owned, scratch: &mut Scratch) {
    // A thousand requests a second: five thousand live records, for a window of 5 s.
    gate.clock.set(request.at);
    let permit = now_or_never(gate.admit(&request.inbound(), &case.route, scratch));
    black_box(permit).expect("an honest request is admitted");
}

fn bare(prepared: &Hmac<Sha256>, request: &Owned) {
    let mut mac = prepared.clone();
    mac.update(black_box(&request.signed));
    black_box(mac.finalize());
}

/// Embedded stores and keys in memory never wait.
fn now_or_never<T>(future: impl Future<Output = T>) -> T {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(done) => done,
        std::task::Poll::Pending => panic!("an embedded store waited"),
    }
}

fn cases() -> [Case; 6] {
    [
        Case::new("binance GET", "binance", false),
        Case::new("binance POST", "binance", true),
        Case::new("bybit GET", "bybit", false),
        Case::new("bybit POST", "bybit", true),
        Case::new("bitget GET", "bitget", false),
        Case::new("bitget POST", "bitget", true),
    ]
}

fn criterion_groups(criterion: &mut Criterion) {
    let prepared = Hmac::<Sha256>::new_from_slice(SECRET).unwrap();
    for case in cases() {
        let mut group = criterion.benchmark_group(case.name);
        group.sample_size(20).measurement_time(Duration::from_secs(2));
        let gate = gate(&case, 1, 0);
        let mut scratch = Scratch::new();
        let mut n = 0;
        let mut next = || {
            n += 1;
            case.sign(n, &key_id(0))
        };
        group.bench_function("bare MAC", |bencher| {
            bencher.iter_batched_ref(
                &mut next,
                |request| bare(&prepared, request),
                BatchSize::NumIterations(50),
            );
        });
        group.bench_function("admit", |bencher| {
            bencher.iter_batched_ref(
                &mut next,
                |request| admit(&gate, &case, request, &mut scratch),
                BatchSize::NumIterations(50),
            );
        });
        group.finish();
    }
}

/// Nanoseconds per request of one round.
fn round(requests: &[Owned], mut each: impl FnMut(&Owned)) -> f64 {
    let start = Instant::now();
    requests.iter().for_each(&mut each);
    start.elapsed().as_nanos() as f64 / requests.len() as f64
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = status.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4_096
}

/// Medians of the bare MAC and of `admit`, measured in turn on the same requests.
///
/// Few requests at a time, so that they stay in the caches, where a server that has just read one has it.
fn rounds(rounds: u64, case: &Case, gate: &Bench, key: impl Fn(u64) -> usize) -> [f64; 2] {
    let prepared = Hmac::<Sha256>::new_from_slice(SECRET).unwrap();
    let mut scratch = Scratch::new();
    let [mut macs, mut checks] = [const { Vec::new() }; 2];
    for r in 0..rounds {
        let sign = |n: u64| case.sign(r * 100 + n, &key_id(key(r * 100 + n)));
        let [warm, mine]: [Vec<_>; 2] =
            [(0..50).map(sign).collect(), (50..100).map(sign).collect()];
        mine.iter().for_each(|request| bare(&prepared, request));
        round(&warm, |request| admit(gate, case, request, &mut scratch));
        macs.push(round(&mine, |request| bare(&prepared, request)));
        checks.push(round(&mine, |request| admit(gate, case, request, &mut scratch)));
    }
    [macs, checks].map(median)
}

fn compare(count: u64) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\nmedians of {count} interleaved rounds, ns per request").unwrap();
    for case in cases() {
        let one = gate(&case, 1, 0);
        let [bare, hot] = rounds(count, &case, &one, |_| 0);
        drop(one);
        let before = resident_bytes();
        let many = gate(&case, MANY, MANY);
        let grown = resident_bytes() - before;
        // Which key comes next follows no pattern that a processor could fetch ahead.
        let scattered = |n: u64| (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as usize % MANY;
        let [bare_cold, cold] = rounds(count, &case, &many, scattered);
        writeln!(
            out,
            "{:13} bare MAC {bare:6.0}   hot {hot:6.0} (+{:5.0}, {:.2}x; goal +400)   1M keys, 1M records {cold:6.0} (+{:5.0}; goal +1500)",
            case.name,
            hot - bare,
            hot / bare,
            cold - bare_cold,
        )
        .unwrap();
        if case.name == "binance GET" {
            let (store, places) = (many.store.memory_bytes(), many.store.capacity());
            writeln!(
                out,
                "{:13} resident bytes: {} a key (goal 600); a place for a record with its account and limit {} (goal 64, and 36 for the limit)",
                "",
                grown.saturating_sub(store) / MANY,
                store / places,
            )
            .unwrap();
        }
    }
}

fn main() {
    // `cargo test --benches` only wants to see that it runs.
    let trial = !std::env::args().any(|argument| argument == "--bench");
    let mut criterion = Criterion::default().configure_from_args();
    criterion_groups(&mut criterion);
    criterion.final_summary();
    let profiled = std::env::args().any(|argument| argument == "--profile-time");
    if !trial && !profiled {
        compare(1_001);
    }
}
