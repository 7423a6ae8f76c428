//! A gateway with one route that asks for a second factor, and clients of it.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use countersign::admit::{
    Ask, Bounds, CHALLENGE, Challenges, CodePlace, Decoys, Effect, Gate, Guard, Permit, Route,
    Scratch, SecondFactor,
};
use countersign::clock::{Clock as _, ManualClock, Micros};
use countersign::denial::Denial;
use countersign::dialect::{Credentials, Dialect, Draft, Inbound, builtin};
use countersign::key::{
    Algorithm, Allowlist, Bindings, Factor, Key, Permission, Permissions, Secret, Signer, State,
    Tag, Venue,
};
use countersign::registry::fixed::FixedKeys;
use countersign::store::memory::{MemoryStore, Options};
use countersign::store::{Charge, Cost, Limit, Repeat, Store, Verdict};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

/// In the middle of a step.
pub(crate) const START: Micros = Micros(1_760_000_025_000_000);
pub(crate) const STEP: Duration = Duration::from_secs(30);
pub(crate) const HOME: &str = "203.0.113.9";
pub(crate) const AWAY: &str = "198.51.100.7";
pub(crate) const OTP: &str = "x-otp";
const FACTOR: &[u8] = b"12345678901234567890";
/// The same in base32.
pub(crate) const FACTOR32: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";

/// The code that an app shows at a moment.
pub(crate) fn code_at(at: Micros) -> String {
    let step = at.0 / 1_000_000 / 30;
    let mut mac = Hmac::<sha1::Sha1>::new_from_slice(FACTOR).unwrap();
    mac.update(&step.to_be_bytes());
    let mac = mac.finalize().into_bytes();
    let offset = usize::from(mac[19] & 0xf);
    let number = u32::from_be_bytes(mac[offset..offset + 4].try_into().unwrap()) & 0x7fff_ffff;
    format!("{:06}", number % 1_000_000)
}

/// A code that is good for no step near `at`.
pub(crate) fn wrong_at(at: Micros, number: u32) -> String {
    let near = [at - STEP, at, at + STEP].map(code_at);
    let codes = (number..number + 4).map(|n| format!("{:06}", n % 1_000_000));
    codes.into_iter().find(|code| !near.contains(code)).unwrap()
}

/// A request as it lies before the gateway.
#[derive(Clone)]
pub(crate) struct Sent {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: Option<String>,
    pub(crate) body: String,
    pub(crate) headers: HeaderMap,
}

impl Sent {
    pub(crate) fn with(mut self, name: &HeaderName, value: &str) -> Self {
        self.headers.insert(name, HeaderValue::from_str(value).unwrap());
        self
    }

    pub(crate) fn with_code(self, code: &str) -> Self {
        self.with(&HeaderName::from_static(OTP), code)
    }

    pub(crate) fn with_challenge(self, challenge: &str) -> Self {
        self.with(&CHALLENGE, challenge)
    }

    fn inbound(&self, from: &str) -> Inbound<'_> {
        Inbound {
            method: &self.method,
            path: &self.path,
            query: self.query.as_deref(),
            host: "h",
            headers: (&self.headers).into(),
            body: self.body.as_bytes(),
            peer: from.parse().unwrap(),
        }
    }
}

/// An embedded store, which may be as far as a shared one.
pub(crate) struct Near {
    store: MemoryStore,
    is_far: Cell<bool>,
}

impl Near {
    pub(crate) fn records(&self) -> usize {
        self.store.records()
    }
}

impl Store for Near {
    async fn spend(&self, charge: &Charge) -> Verdict {
        if self.is_far.get() {
            std::future::pending::<()>().await;
        }
        self.store.spend(charge).await
    }

    async fn pay(&self, now: Micros, costs: &[Cost]) -> Verdict {
        self.store.pay(now, costs).await
    }
}

pub(crate) struct World {
    pub(crate) gate: Gate<FixedKeys, Near, ManualClock>,
    pub(crate) dialect: Arc<Dialect>,
    pub(crate) route: Route,
    scratch: Scratch,
    sent: u64,
}

impl World {
    /// Keys "one" and "two" of one account, "bare" of an account without a factor; the code in a header field.
    pub(crate) fn new(bounds: &Bounds) -> Self {
        let dialect = Arc::new(builtin("binance").unwrap().unwrap());
        let venue = Venue("main".into());
        let key = |id, account, limits: &[Limit]| key(id, account, limits, &dialect);
        let tight = [Limit { quota: 1, period: Duration::from_secs(10) }];
        let options = Options { max_records: 100_000, ..Options::default() };
        let gate = Gate {
            keys: [
                key("one", "acme", &[]),
                key("two", "acme", &[]),
                key("tight", "acme", &tight),
                key("bare", "bare", &[]),
            ]
            .into_iter()
            .collect(),
            store: Near {
                store: MemoryStore::open(&options, START - STEP * 20).unwrap(),
                is_far: Cell::new(false),
            },
            clock: ManualClock::at(START),
            decoys: Decoys::new().unwrap(),
            guard: Guard::new(bounds),
            switches: Arc::default(),
        };
        let place = CodePlace::Header(HeaderName::from_static(OTP));
        let route = Route {
            name: "withdraw".into(),
            id: 0,
            ask: Ask::Signed(Arc::clone(&dialect)),
            venue,
            permissions: Permissions::NONE.with(Permission::WITHDRAW),
            effect: Effect::Write,
            weight: 1,
            body_cap: 1 << 16,
            key_max_age: Duration::from_secs(2),
            lead: Duration::from_secs(60),
            repeat: Repeat::Never,
            address_limit: None,
            symbol: None,
            charges: None,
            second_factor: Some(SecondFactor { place, challenges: None }),
        };
        Self { gate, dialect, route, scratch: Scratch::new(), sent: 0 }
    }

    /// The code travels in a parameter called "otp".
    pub(crate) fn by_parameter() -> Self {
        let mut world = Self::new(&Bounds::default());
        let place = CodePlace::Parameter("otp".into());
        world.route.second_factor = Some(SecondFactor { place, challenges: None });
        world
    }

    /// The code travels in a member called "otp" of a body of JSON.
    pub(crate) fn by_member() -> Self {
        let mut world = Self::new(&Bounds::default());
        world.dialect = Arc::new(builtin("bitmex").unwrap().unwrap());
        world.route.ask = Ask::Signed(Arc::clone(&world.dialect));
        let place = CodePlace::Member("otp".into());
        world.route.second_factor = Some(SecondFactor { place, challenges: None });
        world.gate.keys = [key("one", "acme", &[], &world.dialect)].into_iter().collect();
        world
    }

    /// The code counts only with a challenge.
    pub(crate) fn strict() -> Self {
        let mut world = Self::new(&Bounds::default());
        let place = CodePlace::Header(HeaderName::from_static(OTP));
        let challenges = Some(Arc::new(Challenges::new().unwrap()));
        world.route.second_factor = Some(SecondFactor { place, challenges });
        world
    }

    pub(crate) fn now(&self) -> Micros {
        self.gate.clock.now()
    }

    /// The code of this moment.
    pub(crate) fn code(&self) -> String {
        code_at(self.now())
    }

    /// A request unlike every other, freshly signed by key "one".
    pub(crate) fn sign(&mut self) -> Sent {
        self.sent += 1;
        let query = format!("amount=1&n={}", self.sent);
        self.sign_as("one", &Method::POST, "/withdraw", &query, "")
    }

    pub(crate) fn sign_as(
        &self,
        key_id: &str,
        method: &Method,
        path: &str,
        query: &str,
        body: &str,
    ) -> Sent {
        let signer = Signer::read(Algorithm::HmacSha256, b"secret").unwrap();
        let draft = Draft {
            method: method.clone(),
            path,
            query,
            body,
            host: "h",
            window_ms: Some(60_000),
            lead_ms: 5_000,
            nonce: None,
        };
        let by = Credentials { key_id, signer: &signer, passphrase: None };
        let request = self.dialect.sign(&draft, &by, self.now()).unwrap();
        Sent {
            method: request.method,
            path: path.to_owned(),
            query: request.target.split_once('?').map(|(_, query)| query.to_owned()),
            body: request.body,
            headers: request.headers.into_iter().collect(),
        }
    }

    pub(crate) fn admit(&mut self, from: &str, sent: &Sent) -> Result<Permit, Denial> {
        now_or_never(self.gate.admit(&sent.inbound(from), &self.route, &mut self.scratch))
    }

    /// Goes away while the store is asked.
    pub(crate) fn leave(&mut self, from: &str, sent: &Sent) {
        self.gate.store.is_far.set(true);
        let inbound = sent.inbound(from);
        let admitted = self.gate.admit(&inbound, &self.route, &mut self.scratch);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(std::pin::pin!(admitted).poll(&mut context).is_pending());
        self.gate.store.is_far.set(false);
    }

    /// What becomes of a request from home.
    pub(crate) fn ask(&mut self, sent: &Sent) -> Result<(), Denial> {
        self.admit(HOME, sent).map(|_| ())
    }
}

fn key(id: &str, account: &str, limits: &[Limit], dialect: &Dialect) -> Key {
    Key {
        id: id.into(),
        tag: Tag::of(id),
        account: account.into(),
        account_tag: Tag::of(account),
        venue: Venue("main".into()),
        dialect: Arc::clone(dialect.name()),
        secret: Secret::read(Algorithm::HmacSha256, b"secret").unwrap(),
        passphrase: None,
        permissions: Permissions::NONE.with(Permission::WITHDRAW),
        allowlist: Allowlist::default(),
        state: State::Active,
        expires: None,
        limits: limits.iter().map(|limit| (*limit).into()).collect(),
        epoch: 0,
        bindings: (account != "bare").then(|| {
            let factor = Some(Arc::new(Factor::read(FACTOR32).unwrap()));
            Box::new(Bindings { factor, ..Bindings::default() })
        }),
    }
}

/// An embedded store never waits.
pub(crate) fn now_or_never<T>(future: impl Future<Output = T>) -> T {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(done) => done,
        std::task::Poll::Pending => panic!("an embedded store waited"),
    }
}
