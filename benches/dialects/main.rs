//! What a checked request costs in each dialect, beside the bare proof of the same bytes: `cargo bench --bench dialects`.
//!
//! Each round signs fresh requests, proves their signed bytes with a prepared key, and admits them, in turn. The table
//! holds the medians of all rounds. Of what is beyond 2.5 times the bare proof it says where the time goes beside that,
//! as far as that can be measured by itself: `claim` is finding and reading what the request claims, `message` writing
//! what is signed (here under every reading, and to memory), `key` finding the key, and `record` the replay store. The
//! rest is syntax, the signature's decoding, the decoy, the checks of the key, and what may be forwarded.
#![expect(
    clippy::cast_precision_loss,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a bench may panic, and its figures are estimates"
)]

mod bare;
#[path = "../../tests/support/example.rs"]
mod example;

use std::hint::black_box;
use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use bare::Bare;
use countersign::admit::{Ask, Decoys, Effect, Gate, Guard, Route, Scratch};
use countersign::clock::{ManualClock, Micros};
use countersign::dialect::{
    BUILTIN, Credentials, Dialect, Draft, Inbound, NonceKind, Room, SecretForm, TimeKind,
};
use countersign::key::{
    Algorithm, Allowlist, Key, Permission, Permissions, Signer, State, Tag, Venue,
};
use countersign::registry::Keys as _;
use countersign::registry::fixed::FixedKeys;
use countersign::store::memory::{MemoryStore, Options};
use countersign::store::{Charge, Identity, Repeat, SignedTime, Store as _, Verdict};
use example::with_id;
use http::{HeaderMap, HeaderValue, Method};

/// As the binary has it.
#[cfg(feature = "server")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NOW: Micros = Micros(1_700_000_000_000_000);
const KEY_ID: &str = "k3yAbCdEf0123456789ABCDEFabcdef0123456789";
const PASSPHRASE: &str = "passphrase";
const GOAL: f64 = 2.5;
/// Requests of one round.
const OF_EACH: u64 = 50;

/// A request as it lies in memory when the check begins.
struct Owned {
    method: Method,
    path: String,
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
            path: &self.path,
            query: self.query.as_deref(),
            host: "api.example",
            headers: (&self.headers).into(),
            body: self.body.as_bytes(),
            peer: std::net::Ipv4Addr::LOCALHOST.into(),
        }
    }
}

/// A dialect with a key in it.
struct Case {
    dialect: Arc<Dialect>,
    algorithm: Algorithm,
    signer: Signer,
    bare: Bare,
    route: Route,
    gate: Gate<FixedKeys, MemoryStore, ManualClock>,
}

impl Case {
    fn new(recipe: &str) -> Self {
        let dialect = Arc::new(Dialect::compile(recipe).unwrap());
        let symmetric = dialect.algorithms().find(|algorithm| algorithm.is_symmetric());
        let algorithm = symmetric.unwrap_or(Algorithm::Ed25519);
        let secret = match (symmetric, dialect.secret_form()) {
            // Seed and point of a pair that was made for tests.
            (None, _) => {
                "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8DoQe/884Qvh1w3RjnS8CZZ+TWMJulDV8d3IZkElUxuA=="
            }
            (Some(_), SecretForm::Text) => "s3cretZyXwVu9876543210fedcbaFEDCBA9876543210",
            (Some(_), SecretForm::Base64) => "c2VjcmV0IGJ5dGVzIG9mIGEga2V5IHRoYXQgaXMgbm9ib2R5J3M=",
        };
        let signer = dialect.read_signer(algorithm, secret.as_bytes()).unwrap();
        let venue = Venue("main".into());
        let record = dialect.read_secret(algorithm, secret.as_bytes()).unwrap();
        let mut keys = FixedKeys::default();
        keys.insert(Key {
            id: KEY_ID.into(),
            tag: Tag::of(KEY_ID),
            account: "a".into(),
            account_tag: Tag::of("a"),
            venue: venue.clone(),
            dialect: Arc::clone(dialect.name()),
            passphrase: dialect
                .has_passphrase()
                .then(|| dialect.read_passphrase(PASSPHRASE, &record)),
            secret: record,
            permissions: Permissions::NONE.with(Permission::TRADE),
            allowlist: Allowlist::default(),
            state: State::Active,
            expires: None,
            limits: Arc::from([]),
            epoch: 0,
            bindings: None,
        });
        let options = Options {
            max_records: 200_000,
            max_records_per_account: 200_000,
            max_unique: 200_000,
            max_unique_per_key: 200_000,
            volatile_marks: true,
            ..Options::default()
        };
        let gate = Gate {
            keys,
            store: MemoryStore::open(&options, NOW - Duration::from_mins(10)).unwrap(),
            clock: ManualClock::at(NOW),
            decoys: Decoys::new().unwrap(),
            guard: Guard::default(),
            switches: Arc::default(),
        };
        let route = route(&dialect, venue);
        let bare = Bare::of(algorithm, secret.as_bytes());
        Self { dialect, algorithm, signer, bare, route, gate }
    }

    /// Signs the `n`-th request, unlike every other: the recipe's example with one more parameter.
    fn sign(&self, n: u64) -> Owned {
        let example = self.dialect.example();
        let (target, body) = with_id(example, &format!("{n:09}"));
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let at = NOW + Duration::from_millis(n);
        let passphrase = self.dialect.has_passphrase().then_some(PASSPHRASE);
        let by = Credentials { key_id: KEY_ID, signer: &self.signer, passphrase };
        let draft = Draft {
            method: example.method.clone(),
            path,
            query,
            body: &body,
            host: "api.example",
            window_ms: None,
            lead_ms: 5_000,
            nonce: None,
        };
        let signed = self.dialect.sign(&draft, &by, at);
        let signed = signed.unwrap_or_else(|error| panic!("{}: {error}", self.dialect.name()));
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
            path: path.to_owned(),
            query,
            headers,
            body: signed.body,
            signed: vec![],
            at,
        };
        owned.signed = self.dialect.signed_bytes(&owned.inbound()).swap_remove(0).1;
        owned
    }

    /// Under a name of its own, for tools that count instructions.
    #[inline(never)]
    fn admit(&self, request: &Owned, scratch: &mut Scratch) {
        self.gate.clock.set(request.at);
        let permit = now_or_never(self.gate.admit(&request.inbound(), &self.route, scratch));
        black_box(permit).unwrap_or_else(|denial| panic!("{}: {denial:?}", self.dialect.name()));
    }

    /// What the `n`-th request of this dialect asks of the store, under another key and account.
    fn charge(&self, n: u64, at: Micros) -> Charge {
        let mut identity = [0; 16];
        identity[..8].copy_from_slice(&n.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes());
        let key = [1; 16];
        let time = match (self.dialect.time_kind(), self.dialect.nonce_kind()) {
            (TimeKind::Stamp, _) => SignedTime::Stamp(at),
            (TimeKind::Deadline, _) => {
                SignedTime::Deadline { at: at + Duration::from_secs(5), lead: self.route.lead }
            }
            (TimeKind::None, Some(NonceKind::Unique)) => {
                SignedTime::Unique { key, nonce: identity }
            }
            (TimeKind::None, _) => SignedTime::Growing { key, nonce: at.as_millis(), window: 0 },
        };
        Charge {
            now: at,
            identity: Identity(identity),
            nonce: None,
            account: 1,
            key,
            epoch: 0,
            step: None,
            time,
            keep_until: at + Duration::from_secs(5),
            route: 0,
            repeat: Repeat::Never,
            costs: ArrayVec::new(),
        }
    }

    /// What the stages take by themselves, on requests that are proved already.
    fn stages(&self, requests: &[Owned], r: u64) -> [f64; STAGES.len()] {
        let mut room = Room::default();
        let claim = round(requests, |request| {
            black_box(self.dialect.claim(&request.inbound(), &mut room)).unwrap();
        });
        let message = round(requests, |request| {
            black_box(self.dialect.signed_bytes(&request.inbound()));
        });
        let key = round(requests, |_| {
            let found = self.gate.keys.find(black_box(KEY_ID), self.route.key_max_age);
            black_box(now_or_never(found)).unwrap();
        });
        let mut n = r * OF_EACH;
        let record = round(requests, |request| {
            n += 1;
            let verdict = now_or_never(self.gate.store.spend(&self.charge(n, request.at)));
            assert!(matches!(verdict, Verdict::New(_)), "{verdict:?}");
        });
        [claim, message, key, record]
    }

    /// In turn, on the same requests.
    fn measure(&self, rounds: u64) -> Measured {
        let mut scratch = Scratch::new();
        let [mut bare, mut admit] = [const { Vec::new() }; 2];
        let mut stages = [const { Vec::new() }; STAGES.len()];
        let mut length = 0;
        for r in 0..rounds {
            let sign = |n: u64| self.sign(r * 2 * OF_EACH + n);
            let warm: Vec<_> = (0..OF_EACH).map(sign).collect();
            let mine: Vec<_> = (OF_EACH..2 * OF_EACH).map(sign).collect();
            length = mine[0].signed.len();
            round(&mine, |request| self.bare.prove(&request.signed));
            round(&warm, |request| self.admit(request, &mut scratch));
            bare.push(round(&mine, |request| self.bare.prove(&request.signed)));
            admit.push(round(&mine, |request| self.admit(request, &mut scratch)));
            let times = self.stages(&mine, r);
            stages.iter_mut().zip(times).for_each(|(all, time)| all.push(time));
        }
        let (bare, admit) = (median(bare), median(admit));
        Measured { bare, admit, stages: stages.map(median), length }
    }
}

fn route(dialect: &Arc<Dialect>, venue: Venue) -> Route {
    Route {
        name: "order".into(),
        id: 0,
        ask: Ask::Signed(Arc::clone(dialect)),
        venue,
        permissions: Permissions::NONE.with(Permission::TRADE),
        effect: Effect::Write,
        weight: 1,
        body_cap: 1 << 16,
        key_max_age: Duration::from_secs(30),
        lead: dialect.lead().unwrap_or(Duration::from_mins(1)),
        repeat: Repeat::Never,
        address_limit: None,
        symbol: None,
        charges: None,
        second_factor: None,
    }
}

/// Medians in nanoseconds per request.
struct Measured {
    bare: f64,
    admit: f64,
    stages: [f64; STAGES.len()],
    /// How many bytes are signed.
    length: usize,
}

/// What is measured by itself, in the order of a request.
const STAGES: [&str; 4] = ["claim", "message", "key", "record"];

impl Measured {
    /// Where the time goes that the bare proof does not take.
    fn told(&self) -> String {
        let [claim, with_message, key, record] = self.stages;
        let stages = [claim, (with_message - claim).max(0.0), key, record];
        let beside = self.admit - self.bare;
        let rest = beside - stages.iter().sum::<f64>();
        let told = |(name, time): (&str, f64)| format!("{name} {time:.0}");
        let told: Vec<_> =
            STAGES.into_iter().zip(stages).chain([("rest", rest)]).map(told).collect();
        told.join(", ")
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

/// Embedded stores and keys in memory never wait.
fn now_or_never<T>(future: impl Future<Output = T>) -> T {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(done) => done,
        std::task::Poll::Pending => panic!("an embedded store waited"),
    }
}

fn main() {
    // `cargo test --benches` only wants to see that it runs.
    let trial = !std::env::args().any(|argument| argument == "--bench");
    let rounds = if trial { 2 } else { 401 };
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "medians of {rounds} interleaved rounds of {OF_EACH}, ns per request; goal: {GOAL}x"
    )
    .unwrap();
    let mut beyond = 0;
    for (name, recipe) in BUILTIN {
        if wanted.as_ref().is_some_and(|wanted| !name.contains(wanted.as_str())) {
            continue;
        }
        let case = Case::new(recipe);
        let measured = case.measure(rounds);
        let Measured { bare, admit, stages: _, length } = measured;
        let ratio = admit / bare;
        let why = if ratio > GOAL { measured.told() } else { String::new() };
        beyond += u32::from(ratio > GOAL);
        writeln!(
            out,
            "{name:17} {:11} {length:5} bytes signed   bare {bare:6.0}   admit {admit:6.0} (+{:5.0}, {ratio:5.2}x)   {why}",
            case.algorithm.name(),
            admit - bare,
        )
        .unwrap();
    }
    writeln!(out, "{beyond} of {} beyond {GOAL}x", BUILTIN.len()).unwrap();
}
