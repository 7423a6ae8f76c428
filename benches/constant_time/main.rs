//! Whether time tells what must stay hidden: `benches/constant_time.sh`, or with the number of samples and with words of
//! the lines that are wanted.
//!
//! Each line pits two classes of requests against each other, drawn at random, a million samples each, and prints
//! Welch's t of their times, uncropped and with the slowest tenth cut off as dudect does. Every sample is a new message
//! under another key id: time may depend on the bytes that a client sends, which it knows, and only what is left when
//! these vary alike in both classes is a secret.
//!
//! Where things lie in memory differs from process to process, and with it which of two classes is faster by a cycle or
//! so. So the samples come from several processes, and each line has the mean difference with its standard error over
//! them. Two controls say what that is worth. Below each pair that names keys stands the same of classes that differ in
//! nothing secret, keys of two kinds that are all known, or all unknown: what these differ by is the floor below which
//! the method sees nothing. And the script builds the same code with faults put in on purpose, which must stand out.
//! (There is none for the bytes of an Ed25519 signature: nothing secret is compared.)
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a bench may panic, and its figures are estimates"
)]

mod welch;

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
use welch::{Dice, Found, Moments, cropped, duel, report};

const NOW: Micros = Micros(1_700_000_000_000_000);
const HMAC_SECRET: &[u8] = b"s3cretZyXwVu9876543210fedcbaFEDCBA9876543210";
const ED25519_SEED: [u8; 32] = [7; 32];
/// How many processes share the samples of a line.
const PROCESSES: usize = 10;
/// As many keys as lie in the near caches, and so many that most do not.
const FEW: usize = 64;
const MANY: usize = 1 << 18;

/// Whose key a request names.
#[derive(Clone, Copy)]
enum Whose {
    Known,
    KnownToo,
    Revoked,
    Nobody,
    NobodyToo,
    /// One of as many ids as there are keys.
    NobodyOften,
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
            Whose::KnownToo => id(KNOWN_TOO.0, number % self.keys),
            Whose::Revoked => id(REVOKED.0, number % self.keys),
            Whose::Nobody => id("n", number),
            Whose::NobodyToo => id("m", number),
            Whose::NobodyOften => id("n", number % self.keys),
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
            headers: (&request.headers).into(),
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
const KNOWN_TOO: Kind = ("j", State::Active);
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

/// A line: the two classes, and the keys there are.
struct Pair {
    name: String,
    algorithm: Algorithm,
    keys: usize,
    kinds: &'static [Kind],
    classes: [Class; 2],
}

impl Pair {
    fn measure(&self, samples: usize) -> Found {
        let mut bench = Bench::new(self.algorithm, self.keys, self.kinds);
        let [a, b] = self.classes;
        let times = duel(samples, |class| bench.time(if class { b } else { a }));
        let [c, d] = cropped(&times);
        [&times[0], &times[1], &c, &d].map(|times| Moments::of(times))
    }
}

fn pairs(algorithm: Algorithm) -> Vec<Pair> {
    // In an Ed25519 signature S, the second half, is spoilt: a spoilt R is most often no point, and refused early.
    let (first, last) = if algorithm.is_symmetric() { (0, 31) } else { (32, 62) };
    let wrong = |whose| Class { whose, at: NOW, wrong: Some(first) };
    let stale = |wrong| Class { whose: Whose::Known, at: NOW - Duration::from_mins(1), wrong };
    let known = wrong(Whose::Known);
    let with_last = Class { wrong: Some(last), ..known };
    let pair = |keys, name: &str, kinds, classes| {
        let name = format!("{}: {name}", algorithm.name());
        Pair { name, algorithm, keys, kinds, classes }
    };
    let mut all = vec![
        pair(FEW, "wrong first byte : wrong last byte", &[KNOWN], [known, with_last]),
        pair(
            FEW,
            "wrong, known key : revoked key",
            &[KNOWN, REVOKED],
            [known, wrong(Whose::Revoked)],
        ),
        pair(FEW, "stale, right : wrong signature", &[KNOWN], [stale(None), stale(Some(first))]),
    ];
    let colds = [(FEW, ""), (MANY, ", not lately used")];
    // What is verified at a greater cost hides what memory costs.
    for (keys, cold) in colds.into_iter().take(if algorithm.is_symmetric() { 2 } else { 1 }) {
        let pair = |name: &str, kinds, classes: [Whose; 2]| {
            pair(keys, &format!("{name}{cold}"), kinds, classes.map(wrong))
        };
        all.extend([
            pair("wrong, known key : unknown key", &[KNOWN], [Whose::Known, Whose::Nobody]),
            pair(
                "wrong, known key : as many unknown keys",
                &[KNOWN],
                [Whose::Known, Whose::NobodyOften],
            ),
            pair(
                "  floor: known key : known key",
                &[KNOWN, KNOWN_TOO],
                [Whose::Known, Whose::KnownToo],
            ),
            pair("  floor: unknown key : unknown key", &[KNOWN], [Whose::Nobody, Whose::NobodyToo]),
        ]);
    }
    all
}

/// One of the processes: `--alone NAME SAMPLES`.
fn alone(name: &str, samples: usize) {
    let all = [Algorithm::HmacSha256, Algorithm::Ed25519].into_iter().flat_map(pairs);
    let found = all.filter(|pair| pair.name == name).map(|pair| pair.measure(samples));
    let mut out = std::io::stdout().lock();
    for moments in found.flatten() {
        writeln!(out, "{}", moments.told()).unwrap();
    }
}

/// What a process of its own finds out about this pair.
fn apart(name: &str, samples: usize) -> Found {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    let told = command.args(["--alone", name, &samples.to_string()]).output().unwrap();
    let text = String::from_utf8(told.stdout).unwrap();
    let numbers: Vec<f64> = text.split_whitespace().map(|number| number.parse().unwrap()).collect();
    let moments: Vec<_> = numbers.chunks_exact(3).map(Moments::read).collect();
    moments.try_into().unwrap_or_else(|_| panic!("{name}: a process told {text:?}"))
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, name, samples, ..] = &*arguments
        && flag == "--alone"
    {
        return alone(name, samples.parse().unwrap());
    }
    // `cargo test --benches` only wants to see that it runs.
    let trial = !arguments.iter().any(|argument| argument == "--bench");
    let (numbers, mut words): (Vec<_>, Vec<_>) =
        arguments.into_iter().partition(|argument| argument.parse::<usize>().is_ok());
    words.retain(|word| !word.starts_with("--"));
    let samples = numbers.last().map_or(1_000_000, |number| number.parse().unwrap());
    for pair in [Algorithm::HmacSha256, Algorithm::Ed25519].into_iter().flat_map(pairs) {
        if trial && pair.keys == FEW {
            report(&pair.name, &[pair.measure(500), pair.measure(500)]);
        } else if !trial && words.iter().all(|word| pair.name.contains(word)) {
            let found: Vec<_> =
                (0..PROCESSES).map(|_| apart(&pair.name, samples / PROCESSES)).collect();
            report(&pair.name, &found);
        }
    }
}
