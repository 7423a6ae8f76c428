//! Whether time tells what must stay hidden: `benches/constant_time.sh`, or with the number of samples and with words of
//! the lines that are wanted.
//!
//! Each line pits two classes of requests against each other, drawn at random, a million samples each, and prints
//! Welch's t of their times, uncropped and with the slowest tenth cut off as dudect does. Every sample is a new message
//! under another key id: time may depend on the bytes that a client sends, which it knows, and only what is left when
//! these vary alike in both classes is a secret. The script also builds the same code with faults put in on purpose;
//! that control must stand out. (There is none for the bytes of an Ed25519 signature: nothing secret is compared.)
#![expect(
    clippy::cast_possible_truncation,
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
use http::{HeaderMap, HeaderValue, Method};

const NOW: Micros = Micros(1_700_000_000_000_000);
const HMAC_SECRET: &[u8] = b"s3cretZyXwVu9876543210fedcbaFEDCBA9876543210";
const ED25519_SEED: [u8; 32] = [7; 32];
/// As many keys as lie in the near caches, and so many that most do not.
const FEW: usize = 64;
const MANY: usize = 1 << 18;

/// Whose key a request names.
#[derive(Clone, Copy)]
enum Whose {
    Known,
    Revoked,
    Nobody,
}

/// What a request is like; all else about it is drawn afresh for each sample.
#[derive(Clone, Copy)]
struct Class {
    whose: Whose,
    at: Micros,
    /// The byte of the signature that is wrong, if any.
    wrong: Option<usize>,
}

/// A request as it lies in memory when the check begins.
struct Request {
    query: String,
    headers: HeaderMap,
}

struct Bench {
    gate: Gate<FixedKeys, MemoryStore, ManualClock>,
    route: Route,
    dialect: Arc<Dialect>,
    signer: Signer,
    scratch: Scratch,
    dice: Dice,
    keys: usize,
    symmetric: bool,
}

impl Bench {
    /// `count` keys of each of these kinds, in no order: neither kind lies otherwise in memory than the other.
    fn new(algorithm: Algorithm, count: usize, kinds: &[Kind]) -> Self {
        let dialect = Arc::new(builtin("binance").unwrap().unwrap());
        let secret = secret_of(algorithm);
        let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
        let mut all: Vec<_> = (0..count).flat_map(|n| kinds.iter().map(move |k| (k, n))).collect();
        for last in (1..all.len()).rev() {
            all.swap(last, dice.roll() as usize % (last + 1));
        }
        let key_of = |((kind, state), number): (&Kind, usize)| {
            let id = id(kind, number);
            Key {
                id: id.as_str().into(),
                tag: Tag::of(&id),
                account: id.as_str().into(),
                account_tag: Tag::of(&id),
                venue: Venue("main".into()),
                dialect: Arc::clone(dialect.name()),
                secret: Secret::read(algorithm, &secret).unwrap(),
                passphrase: None,
                permissions: Permissions::NONE.with(Permission::TRADE),
                allowlist: Allowlist::default(),
                state: *state,
                expires: None,
                limits: Arc::default(),
                epoch: 0,
                bindings: None,
            }
        };
        let keys: FixedKeys = all.into_iter().map(key_of).collect();
        let store =
            MemoryStore::open(&Options { max_records: 1_000, ..Options::default() }, NOW).unwrap();
        let gate = Gate {
            keys,
            store,
            clock: ManualClock::at(NOW),
            decoys: Decoys::new().unwrap(),
            // Wrong signatures are what is measured here: none may be one too many.
            guard: Guard::off(),
            switches: Arc::default(),
        };
        Self {
            gate,
            route: order(&dialect),
            dialect,
            signer: Signer::read(algorithm, &secret).unwrap(),
            scratch: Scratch::new(),
            dice,
            keys: count,
            symmetric: algorithm.is_symmetric(),
        }
    }

    /// A request that nobody has sent before. What is drawn, and how often, is the same for every class.
    fn request(&mut self, class: Class) -> Request {
        let (order, number) = (self.dice.roll(), self.dice.roll() as usize);
        let key_id = match class.whose {
            Whose::Known => id(KNOWN.0, number % self.keys),
            Whose::Revoked => id(REVOKED.0, number % self.keys),
            Whose::Nobody => id("n", number),
        };
        let by = Credentials { key_id: &key_id, signer: &self.signer, passphrase: None };
        let draft = Draft {
            method: Method::GET,
            path: "/api/v3/order",
            query: &format!("symbol=BTCUSDT&orderId={order:020}"),
            body: "",
            host: "h",
            window_ms: None,
            lead_ms: 0,
            nonce: None,
        };
        let request = self.dialect.sign(&draft, &by, class.at).unwrap();
        let (_, query) = request.target.split_once('?').unwrap();
        let (before, text) = query.split_once("signature=").unwrap();
        let (encode, mut bytes): (Encode, _) = if self.symmetric {
            (
                |b| data_encoding::HEXLOWER.encode(b),
                data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap(),
            )
        } else {
            let plain = text.replace("%2B", "+").replace("%2F", "/").replace("%3D", "=");
            // Some bytes need escapes and some do not: every byte is escaped alike.
            (escaped, data_encoding::BASE64.decode(plain.as_bytes()).unwrap())
        };
        // Every class spoils a byte; one that is right spoils it twice.
        for _ in 0..if class.wrong.is_some() { 1 } else { 2 } {
            bytes[class.wrong.unwrap_or_default()] ^= 1;
        }
        let query = format!("{before}signature={}", encode(&bytes));
        let mut headers = HeaderMap::new();
        headers.insert("x-mbx-apikey", HeaderValue::from_str(&key_id).unwrap());
        Request { query, headers }
    }

    /// Nanoseconds to refuse one request.
    fn time(&mut self, class: Class) -> f64 {
        let request = black_box(self.request(class));
        let inbound = Inbound {
            method: &Method::GET,
            path: "/api/v3/order",
            query: Some(&request.query),
            host: "h",
            headers: &request.headers,
            body: b"",
            peer: std::net::Ipv4Addr::LOCALHOST.into(),
        };
        let start = Instant::now();
        let verdict = now_or_never(self.gate.admit(&inbound, &self.route, &mut self.scratch));
        let taken = start.elapsed();
        assert!(black_box(verdict).is_err());
        taken.as_nanos() as f64
    }
}

fn order(dialect: &Arc<Dialect>) -> Route {
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
        lead: Duration::from_mins(1),
        repeat: Repeat::Never,
        address_limit: None,
        symbol: None,
        charges: None,
        second_factor: None,
    }
}

/// An id as long as any other, and of digits as varied.
fn id(kind: &str, number: usize) -> String {
    let digits = (number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    format!("{kind}{digits:020}0123456789ABCDEFabcdef01234567890123456")
}

/// How ids of keys begin that are in this state.
type Kind = (&'static str, State);

const KNOWN: Kind = ("k", State::Active);
const REVOKED: Kind = ("r", State::Revoked);

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

/// Pseudo-random numbers: which class comes next must follow no pattern that a processor could learn.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 8
    }

    fn toss(&mut self) -> bool {
        self.roll() >> 25 & 1 == 1
    }
}

/// Times both classes in random order, `samples` of each or nearly so.
fn duel(samples: usize, mut time: impl FnMut(bool) -> f64) -> [Vec<f64>; 2] {
    let mut coin = Dice(0xD1B5_4A32_D192_ED03);
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

/// The lines that are asked for, with so many samples of each class.
struct Asked {
    samples: usize,
    words: Vec<String>,
}

impl Asked {
    /// Takes the time of each class, if this line is asked for.
    fn duel(&self, name: &str, bench: impl FnOnce() -> Bench, [a, b]: [Class; 2]) {
        if self.words.iter().all(|word| name.contains(word)) {
            let mut bench = bench();
            let times = duel(self.samples, |class| bench.time(if class { b } else { a }));
            report(name, &times);
        }
    }
}

fn pairs(algorithm: Algorithm, asked: &Asked) {
    // In an Ed25519 signature S, the second half, is spoilt: a spoilt R is most often no point, and refused early.
    let (first, last) = if algorithm.is_symmetric() { (0, 31) } else { (32, 62) };
    let wrong = |whose, wrong| Class { whose, at: NOW, wrong: Some(wrong) };
    let stale = |wrong| Class { whose: Whose::Known, at: NOW - Duration::from_mins(1), wrong };
    let duel = |pair: &str, kinds: &[Kind], classes| {
        let name = format!("{}: {pair}", algorithm.name());
        asked.duel(&name, || Bench::new(algorithm, FEW, kinds), classes);
    };
    let known = wrong(Whose::Known, first);
    duel("wrong first byte : wrong last byte", &[KNOWN], [known, wrong(Whose::Known, last)]);
    duel("wrong, known key : unknown key", &[KNOWN], [known, wrong(Whose::Nobody, first)]);
    duel(
        "wrong, known key : revoked key",
        &[KNOWN, REVOKED],
        [known, wrong(Whose::Revoked, first)],
    );
    duel("stale, right : wrong signature", &[KNOWN], [stale(None), stale(Some(first))]);
}

/// The first request for a key for a while, whose record then is in no near cache.
fn cold_pair(asked: &Asked) {
    let classes =
        [Whose::Known, Whose::Nobody].map(|whose| Class { whose, at: NOW, wrong: Some(0) });
    let name = "hmac-sha256: wrong, known key : unknown key, not lately used";
    asked.duel(name, || Bench::new(Algorithm::HmacSha256, MANY, &[KNOWN]), classes);
}

fn main() {
    // `cargo test --benches` only wants to see that it runs.
    let trial = !std::env::args().any(|argument| argument == "--bench");
    let (numbers, mut words): (Vec<_>, Vec<_>) =
        std::env::args().skip(1).partition(|argument| argument.parse::<usize>().is_ok());
    words.retain(|word| !word.starts_with("--"));
    let samples = numbers.last().map_or(1_000_000, |number| number.parse().unwrap());
    let asked = Asked { samples: if trial { 1_000 } else { samples }, words };
    pairs(Algorithm::HmacSha256, &asked);
    if !trial {
        cold_pair(&asked);
    }
    pairs(Algorithm::Ed25519, &asked);
}
