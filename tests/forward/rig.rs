//! A gate, a clock and one worker's upstreams, around which each test builds its case.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use countersign::admit::{Ask, Decoys, Effect, Gate, Guard, Permit, Route, Scratch};
use countersign::clock::{ManualClock, Micros};
use countersign::config::Upstream;
use countersign::dialect::{Credentials, Draft, Inbound, builtin};
use countersign::gateway::backends::SharedBackends;
use countersign::gateway::forward::{ForwardFault, Received, Upstreams};
use countersign::gateway::reply::ReplyBody;
use countersign::gateway::routes::{Entry, Target};
use countersign::key::{
    Algorithm, Allowlist, Key, Passphrase, Permission, PermissionNames, Permissions, Secret,
    Signer, State, Tag, Venue,
};
use countersign::registry::fixed::FixedKeys;
use countersign::store::{Charge, Cost, Levels, Repeat, Store, Verdict};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response};
use http_body_util::BodyExt;

pub(crate) const SECRET: &[u8] = b"a secret of the client";
pub(crate) const PASSPHRASE: &str = "open-sesame";
pub(crate) const IDENTITY_KEY: &[u8] = b"shared by gateway and backends";
pub(crate) const START: Micros = Micros::from_millis(1_700_000_000_000);

/// Remembers nothing: every request is new.
#[derive(Debug)]
pub(crate) struct Forgetful;

impl Store for Forgetful {
    async fn spend(&self, _charge: &Charge) -> Verdict {
        Verdict::New(Levels::default())
    }

    async fn pay(&self, _now: Micros, _costs: &[Cost]) -> Verdict {
        Verdict::New(Levels::default())
    }
}

pub(crate) struct Rig {
    gate: Gate<FixedKeys, Forgetful, Arc<ManualClock>>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) shared: Arc<SharedBackends>,
    pub(crate) upstreams: Upstreams,
    rules: Arc<[Upstream]>,
}

/// A request as a client sends it.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) ask: Ask,
}

impl Call {
    pub(crate) fn public(method: Method, target: &str, body: &str) -> Self {
        let body = Bytes::copy_from_slice(body.as_bytes());
        Self { method, target: target.into(), headers: HeaderMap::new(), body, ask: Ask::Public }
    }

    pub(crate) fn get() -> Self {
        Self::public(Method::GET, "/time", "")
    }

    pub(crate) fn post() -> Self {
        Self::public(Method::POST, "/orders", "side=buy")
    }

    /// Signed as a client of `dialect` does.
    pub(crate) fn signed(dialect: &str, method: Method, target: &str, body: &str) -> Self {
        let key_id = &*key_id(dialect);
        let dialect = Arc::new(builtin(dialect).unwrap().unwrap());
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let draft = Draft {
            method,
            path,
            query,
            body,
            host: "api.example",
            window_ms: Some(5_000),
            lead_ms: 5_000,
            nonce: None,
        };
        let signer = Signer::read(Algorithm::HmacSha256, SECRET).unwrap();
        let passphrase = dialect.has_passphrase().then_some(PASSPHRASE);
        let by = Credentials { key_id, signer: &signer, passphrase };
        let request = dialect.sign(&draft, &by, START).unwrap();
        Self {
            method: request.method,
            target: request.target,
            headers: request.headers.into_iter().collect(),
            body: request.body.into(),
            ask: Ask::Signed(dialect),
        }
    }

    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        let value = HeaderValue::from_str(value).unwrap();
        self.headers.append(HeaderName::from_static(name), value);
        self
    }
}

pub(crate) fn upstream(backends: &[&str]) -> Upstream {
    Upstream {
        name: "orders".into(),
        backends: backends.iter().map(|backend| backend.parse().unwrap()).collect(),
        identity_key: Some(Secret::read(Algorithm::HmacSha256, IDENTITY_KEY).unwrap()),
        host: None,
        connect_timeout: Duration::from_secs(5),
        response_timeout: Duration::from_secs(5),
        idle_timeout: Duration::from_secs(30),
        max_connections: 16,
        eject_after: 3,
        eject_for: Duration::from_secs(10),
        forward_headers: Vec::new(),
    }
}

impl Rig {
    pub(crate) fn new(backends: &[&str]) -> Self {
        Self::with(upstream(backends))
    }

    pub(crate) fn with(upstream: Upstream) -> Self {
        let clock = Arc::new(ManualClock::at(START));
        let rules: Arc<[Upstream]> = Arc::from(vec![upstream]);
        let shared = Arc::new(SharedBackends::new(&rules));
        let gate = Gate {
            keys: ["binance", "bybit", "bitget", "native"].map(key).into_iter().collect(),
            store: Forgetful,
            clock: Arc::clone(&clock),
            decoys: Decoys::new().unwrap(),
            guard: Guard::default(),
            switches: Arc::default(),
        };
        let upstreams = worker(&rules, &shared, &clock);
        Self { gate, clock, shared, upstreams, rules }
    }

    /// Another worker's view of the same backends.
    pub(crate) fn another_worker(&self) -> Upstreams {
        worker(&self.rules, &self.shared, &self.clock)
    }

    pub(crate) async fn send(&self, call: &Call) -> Result<Response<ReplyBody>, ForwardFault> {
        self.send_by(&self.upstreams, call).await
    }

    pub(crate) async fn send_by(
        &self,
        worker: &Upstreams,
        call: &Call,
    ) -> Result<Response<ReplyBody>, ForwardFault> {
        let (permit, entry) = self.permit(call).await;
        self.forward(worker, call, permit, &entry).await
    }

    /// What `call` is permitted to do, by the gate itself.
    pub(crate) async fn permit(&self, call: &Call) -> (Permit, Entry) {
        let (demand, target) = (route(call.ask.clone()), Target::Upstream(0));
        let entry = Entry { demand, target, audit: countersign::audit::Demand::default() };
        let (path, query) = split(&call.target);
        let inbound = Inbound {
            method: &call.method,
            path,
            query,
            host: "api.example",
            headers: (&call.headers).into(),
            body: &call.body,
            peer: "192.0.2.7".parse().unwrap(),
        };
        let permit = self.gate.admit(&inbound, &entry.demand, &mut Scratch::new()).await.unwrap();
        (permit, entry)
    }

    pub(crate) async fn forward(
        &self,
        worker: &Upstreams,
        call: &Call,
        permit: Permit,
        entry: &Entry,
    ) -> Result<Response<ReplyBody>, ForwardFault> {
        let (path, query) = split(&call.target);
        let received = Received {
            method: &call.method,
            path,
            query,
            host: "api.example",
            headers: (&call.headers).into(),
            body: call.body.clone(),
            client: "192.0.2.7".parse().unwrap(),
            request_id: b"0190-request",
            tls: true,
        };
        worker.forward(0, permit, entry, received).await
    }

    pub(crate) fn is_up(&self) -> Vec<bool> {
        self.shared.snapshot().map(|backend| backend.up).collect()
    }
}

fn worker(
    rules: &Arc<[Upstream]>,
    shared: &Arc<SharedBackends>,
    clock: &Arc<ManualClock>,
) -> Upstreams {
    let (rules, shared) = (Arc::clone(rules), Arc::clone(shared));
    Upstreams::new(rules, shared, Arc::new(PermissionNames::default()), Arc::clone(clock) as _)
}

fn split(target: &str) -> (&str, Option<&str>) {
    target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)))
}

fn route(ask: Ask) -> Route {
    Route {
        name: "orders".into(),
        id: 0,
        ask,
        venue: Venue("spot".into()),
        permissions: Permissions::NONE.with(Permission::TRADE),
        effect: Effect::Write,
        weight: 1,
        body_cap: 1 << 24,
        key_max_age: Duration::from_secs(1),
        lead: Duration::from_mins(1),
        repeat: Repeat::Never,
        address_limit: None,
        symbol: None,
        charges: None,
        second_factor: None,
    }
}

fn key_id(dialect: &str) -> String {
    ["key-", dialect].concat()
}

fn key(dialect: &str) -> Key {
    let id = key_id(dialect);
    Key {
        tag: Tag::of(&id),
        id: id.into(),
        account: "acct/7".into(),
        account_tag: Tag::of("acct/7"),
        venue: Venue("spot".into()),
        dialect: dialect.into(),
        secret: Secret::read(Algorithm::HmacSha256, SECRET).unwrap(),
        passphrase: (dialect == "bitget").then(|| Passphrase::new(PASSPHRASE)),
        permissions: [Permission::READ, Permission::TRADE].into_iter().collect(),
        allowlist: Allowlist::default(),
        state: State::Active,
        expires: None,
        limits: Arc::new([]),
        epoch: 0,
        bindings: None,
    }
}

/// The whole body, or how it broke off.
pub(crate) async fn body(reply: Response<ReplyBody>) -> Result<String, String> {
    let whole = reply.into_body().collect().await.map_err(|fault| fault.to_string())?;
    Ok(String::from_utf8(whole.to_bytes().into()).unwrap())
}

/// Runs a test as a worker runs: on one thread.
pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test)
}

/// Lets other tasks run until `holds`.
pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    let patience = Instant::now() + Duration::from_secs(10);
    while Instant::now() < patience {
        if holds() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("never came about: {what}");
}

/// The value of the only field called `name` in the raw request `text`.
pub(crate) fn only<'t>(text: &'t str, name: &str) -> &'t str {
    let all = every(text, name);
    assert_eq!(all.len(), 1, "{name} in\n{text}");
    all[0]
}

pub(crate) fn every<'t>(text: &'t str, name: &str) -> Vec<&'t str> {
    let head = text.split("\r\n\r\n").next().unwrap();
    let fields = head.split("\r\n").skip(1).map(|line| line.split_once(": ").unwrap());
    fields.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
}
