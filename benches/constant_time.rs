//! Whether time tells what must stay hidden: `cargo bench --bench constant_time`, or with `-- SAMPLES`.
//!
//! Each line pits two classes of requests against each other, drawn at random, a million samples each, and prints
//! Welch's t of their times, uncropped and with the slowest tenth cut off as dudect does. The controls are the same
//! work with the fault put in on purpose; they must stand out.
#![expect(
    clippy::cast_precision_loss,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a bench may panic, and its figures are estimates"
)]

use std::hint::black_box;
use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign::admit::{Ask, Decoys, Effect, Gate, Guard, Route, Scratch};
use countersign::clock::{ManualClock, Micros};
use countersign::dialect::{Credentials, Dialect, Draft, Inbound, builtin};
use countersign::key::{
    Algorithm, Allowlist, Key, Permission, Permissions, Secret, Signer, State, Tag, Venue,
};
use countersign::registry::fixed::FixedKeys;
use countersign::store::Repeat;
use countersign::store::memory::{MemoryStore, Options};
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderValue, Method};
use sha2::Sha256;

const NOW: Micros = Micros(1_700_000_000_000_000);
const HMAC_SECRET: &[u8] = b"s3cretZyXwVu9876543210fedcbaFEDCBA9876543210";
const ED25519_SEED: [u8; 32] = [7; 32];
const KNOWN: &str = "k3yAbCdEf0123456789ABCDEFabcdef0123456789";
const REVOKED: &str = "r3vOkEd00123456789ABCDEFabcdef0123456789A";
const UNKNOWN: &str = "n0nExIsTn0123456789ABCDEFabcdef0123456789";

/// A request of one class, copied afresh for every sample so that both classes lie in memory alike.
#[derive(Clone)]
struct Sample {
    query: String,
    headers: HeaderMap,
}

struct Bench {
    gate: Gate<FixedKeys, MemoryStore, ManualClock>,
    route: Route,
    dialect: Arc<Dialect>,
    algorithm: Algorithm,
    scratch: Scratch,
}

impl Bench {
    fn new(algorithm: Algorithm) -> Self {
        let dialect = Arc::new(builtin("binance").unwrap().unwrap());
        let secret = secret_of(algorithm);
        let mut keys = FixedKeys::default();
        for (id, state) in [(KNOWN, State::Active), (REVOKED, State::Revoked)] {
            keys.insert(Key {
                id: id.into(),
                tag: Tag::of(id),
                account: id.into(),
                account_tag: Tag::of(id),
                venue: Venue("main".into()),
                dialect: Arc::clone(dialect.name()),
                secret: Secret::read(algorithm, &secret).unwrap(),
                passphrase: None,
                permissions: Permissions::NONE.with(Permission::TRADE),
                allowlist: Allowlist::default(),
                state,
                expires: None,
                limits: Arc::from([]),
            });
        }
        let store =
            MemoryStore::open(&Options { max_records: 1_000, ..Options::default() }, NOW).unwrap();
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
            lead: Duration::from_mins(1),
            repeat: Repeat::Never,
            address_limit: None,
        };
        let gate = Gate {
            keys,
            store,
            clock: ManualClock::at(NOW),
            decoys: Decoys::new().unwrap(),
            guard: Guard::default(),
        };
        Self { gate, route, dialect, algorithm, scratch: Scratch::new() }
    }

    /// A request signed at `at`, its signature then spoilt by `spoil`.
    fn sample(&self, key_id: &str, at: Micros, spoil: impl Fn(&mut [u8])) -> Sample {
        let secret = secret_of(self.algorithm);
        let signer = Signer::read(self.algorithm, &secret).unwrap();
        let by = Credentials { key_id, signer: &signer, passphrase: None };
        let draft = Draft {
            method: Method::GET,
            path: "/api/v3/order",
            query: "symbol=BTCUSDT&orderId=1234567890123456789",
            body: "",
            host: "h",
            window_ms: None,
            lead_ms: 0,
        };
        let request = self.dialect.sign(&draft, &by, at).unwrap();
        let (_, query) = request.target.split_once('?').unwrap();
        let (before, text) = query.split_once("signature=").unwrap();
        let (encode, mut bytes): (Encode, _) = if self.algorithm.is_symmetric() {
            (
                |b| data_encoding::HEXLOWER.encode(b),
                data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap(),
            )
        } else {
            let plain = text.replace("%2B", "+").replace("%2F", "/").replace("%3D", "=");
            // Bytes above 0xfb could need escapes of another length: both classes get every byte escaped alike.
            (escaped, data_encoding::BASE64.decode(plain.as_bytes()).unwrap())
        };
        spoil(&mut bytes);
        let query = format!("{before}signature={}", encode(&bytes));
        let mut headers = HeaderMap::new();
        headers.insert("x-mbx-apikey", HeaderValue::from_str(key_id).unwrap());
        Sample { query, headers }
    }

    /// Nanoseconds to refuse one request.
    fn time(&mut self, sample: &Sample) -> f64 {
        let sample = black_box(sample.clone());
        let request = Inbound {
            method: &Method::GET,
            path: "/api/v3/order",
            query: Some(&sample.query),
            host: "h",
            headers: &sample.headers,
            body: b"",
            peer: std::net::Ipv4Addr::LOCALHOST.into(),
        };
        let start = Instant::now();
        let verdict = now_or_never(self.gate.admit(&request, &self.route, &mut self.scratch));
        let taken = start.elapsed();
        assert!(black_box(verdict).is_err());
        taken.as_nanos() as f64
    }
}

/// How a signature's bytes are written.
type Encode = fn(&[u8]) -> String;

fn escaped(bytes: &[u8]) -> String {
    let text = data_encoding::BASE64.encode(bytes);
    text.bytes().flat_map(|byte| format!("%{byte:02X}").into_bytes()).map(char::from).collect()
}

fn secret_of(algorithm: Algorithm) -> Vec<u8> {
    if algorithm.is_symmetric() { HMAC_SECRET.to_vec() } else { ED25519_SEED_PKCS8.concat() }
}

const ED25519_SEED_PKCS8: [&[u8]; 2] = [
    &[
        0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04,
        0x20,
    ],
    &ED25519_SEED,
];

fn now_or_never<T>(future: impl Future<Output = T>) -> T {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(done) => done,
        std::task::Poll::Pending => panic!("an embedded store waited"),
    }
}

/// Pseudo-random bits: which class comes next must follow no pattern that a processor could learn.
struct Coin(u64);

impl Coin {
    fn toss(&mut self) -> bool {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 33 & 1 == 1
    }
}

/// Times both classes in random order, `samples` of each or nearly so.
fn duel(samples: usize, mut time: impl FnMut(bool) -> f64) -> [Vec<f64>; 2] {
    let mut coin = Coin(0x9E37_79B9_7F4A_7C15);
    let mut times = [Vec::with_capacity(samples), Vec::with_capacity(samples)];
    for _ in 0..samples / 50 {
        time(coin.toss());
    }
    for _ in 0..2 * samples {
        let class = coin.toss();
        let taken = time(class);
        times[usize::from(class)].push(taken);
    }
    times
}

/// Welch's t of two samples.
fn welch(a: &[f64], b: &[f64]) -> f64 {
    let moments = |x: &[f64]| {
        let n = x.len() as f64;
        let mean = x.iter().sum::<f64>() / n;
        (mean, x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0) / n)
    };
    let ((mean_a, var_a), (mean_b, var_b)) = (moments(a), moments(b));
    (mean_a - mean_b) / (var_a + var_b).sqrt()
}

/// Both classes without what lies above the pooled ninetieth percentile: interrupts, not work.
fn cropped([a, b]: &[Vec<f64>; 2]) -> [Vec<f64>; 2] {
    let mut pooled: Vec<f64> = a.iter().chain(b).copied().collect();
    pooled.sort_by(f64::total_cmp);
    let limit = pooled[pooled.len() * 9 / 10];
    [a, b].map(|x| x.iter().copied().filter(|v| *v <= limit).collect())
}

fn report(name: &str, times: &[Vec<f64>; 2]) {
    let [a, b] = cropped(times);
    let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{name:64} t {:9.2}   cropped t {:9.2}   means {:8.1} and {:8.1} ns   n {}",
        welch(&times[0], &times[1]),
        welch(&a, &b),
        mean(&a),
        mean(&b),
        times[0].len() + times[1].len(),
    )
    .unwrap();
}

fn admit_pairs(algorithm: Algorithm, samples: usize) {
    let mut bench = Bench::new(algorithm);
    let name = algorithm.name();
    let stale = NOW - Duration::from_mins(1);
    // In an Ed25519 signature S, the second half, is spoilt: a spoilt R is most often no point, and refused early.
    let (first, last) = if algorithm.is_symmetric() { (0, 31) } else { (32, 61) };
    let first_wrong = move |s: &mut [u8]| s[first] ^= 1;
    let last_wrong = move |s: &mut [u8]| s[last] ^= 1;
    let pairs = [
        (
            "wrong first byte : wrong last byte",
            bench.sample(KNOWN, NOW, first_wrong),
            bench.sample(KNOWN, NOW, last_wrong),
        ),
        (
            "wrong signature, known key : unknown key",
            bench.sample(KNOWN, NOW, first_wrong),
            bench.sample(UNKNOWN, NOW, first_wrong),
        ),
        (
            "wrong signature, known key : revoked key",
            bench.sample(KNOWN, NOW, first_wrong),
            bench.sample(REVOKED, NOW, first_wrong),
        ),
        (
            "stale, right signature : stale, wrong signature",
            bench.sample(KNOWN, stale, |_| ()),
            bench.sample(KNOWN, stale, first_wrong),
        ),
    ];
    for (pair, a, b) in pairs {
        let times = duel(samples, |class| bench.time(if class { &b } else { &a }));
        report(&format!("{name}: {pair}"), &times);
    }
}

/// The comparison as it must not be.
fn early_exit(mac: &[u8], offered: &[u8]) -> bool {
    for (ours, theirs) in mac.iter().zip(offered) {
        if black_box(ours) != black_box(theirs) {
            return false;
        }
    }
    true
}

fn controls(samples: usize) {
    let prepared = Hmac::<Sha256>::new_from_slice(HMAC_SECRET).unwrap();
    let message = [b'm'; 100];
    let mac: [u8; 32] = prepared.clone().chain_update(message).finalize().into_bytes().into();
    let spoilt = |place: usize| {
        let mut wrong = mac;
        wrong[place] ^= 1;
        wrong
    };
    let wrong = [spoilt(0), spoilt(31)];
    let times = duel(samples, |class| {
        let offered = black_box(wrong[usize::from(class)]);
        let start = Instant::now();
        let ours = prepared.clone().chain_update(black_box(message)).finalize().into_bytes();
        black_box(early_exit(&ours, &offered));
        start.elapsed().as_nanos() as f64
    });
    report("control, early exit: wrong first byte : wrong last byte", &times);

    let known = [KNOWN];
    let ids = [KNOWN, UNKNOWN];
    let times = duel(samples, |class| {
        let id = black_box(ids[usize::from(class)]);
        let start = Instant::now();
        if known.contains(&id) {
            black_box(prepared.clone().chain_update(black_box(message)).finalize().into_bytes());
        }
        start.elapsed().as_nanos() as f64
    });
    report("control, no decoy: known key : unknown key", &times);
}

fn main() {
    // `cargo test --benches` only wants to see that it runs.
    let trial = !std::env::args().any(|argument| argument == "--bench");
    let asked = std::env::args().filter_map(|argument| argument.parse().ok()).next_back();
    let samples = if trial { 1_000 } else { asked.unwrap_or(1_000_000) };
    controls(samples);
    admit_pairs(Algorithm::HmacSha256, samples);
    admit_pairs(Algorithm::Ed25519, samples);
}
