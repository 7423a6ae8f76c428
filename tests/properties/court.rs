//! The real path of a request, which tells what it was taken for as well.

use std::cell::Cell;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use countersign::admit::{Ask, Decoys, Effect, Gate, Guard, Permit, Route, Scratch};
use countersign::clock::{ManualClock, Micros};
use countersign::dialect::{Dialect, Inbound};
use countersign::key::{Algorithm, Allowlist, Key, Permission, Permissions, State, Tag, Venue};
use countersign::offline::Recorded;
use countersign::registry::fixed::FixedKeys;
use countersign::store::{Charge, Cost, Identity, Levels, Repeat, SignedTime, Store, Verdict};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

/// What would be forwarded of a request that is accepted.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Forwarded {
    pub(crate) query: String,
    pub(crate) body: bytes::Bytes,
    pub(crate) content_type: Option<&'static str>,
}

/// What became of a request.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It is accepted, and remembered under this identity: a digest of the key and the signed bytes.
    Accepted(Identity, Forwarded),
    /// It is refused.
    Refused,
    /// No such request can be sent.
    Unsendable,
}

/// One dialect's gate.
pub(crate) struct Court {
    gate: Gate<FixedKeys, Witness, ManualClock>,
    dialect: Arc<Dialect>,
    route: Route,
    scratch: Scratch,
    known: Option<(String, String, Option<String>)>,
}

impl Court {
    pub(crate) fn of(dialect: &Arc<Dialect>) -> Self {
        let gate = Gate {
            keys: FixedKeys::default(),
            store: Witness::default(),
            clock: ManualClock::default(),
            decoys: Decoys::new().unwrap(),
            guard: Guard::off(),
            switches: Arc::default(),
        };
        let route = Route {
            name: "any".into(),
            id: 0,
            ask: Ask::Signed(Arc::clone(dialect)),
            venue: Venue("any".into()),
            permissions: Permissions::NONE.with(Permission::READ),
            effect: Effect::Write,
            weight: 1,
            body_cap: 1 << 20,
            key_max_age: Duration::from_mins(5),
            lead: dialect.lead().unwrap_or(Duration::from_mins(1)),
            repeat: Repeat::Never,
            address_limit: None,
            symbol: None,
            charges: None,
            second_factor: None,
        };
        let dialect = Arc::clone(dialect);
        Self { gate, dialect, route, scratch: Scratch::new(), known: None }
    }

    /// Judges `request`, whatever dialect it says it is of.
    pub(crate) fn judge(&mut self, request: &Recorded) -> Outcome {
        let outcome = as_received(request, |inbound| self.judge_received(request, inbound));
        outcome.unwrap_or(Outcome::Unsendable)
    }

    fn judge_received(&mut self, request: &Recorded, inbound: &Inbound<'_>) -> Outcome {
        self.learn(request);
        self.gate.clock.set(Micros::from_millis(request.now_ms));
        self.gate.store.clear();
        let verdict = now_or_never(self.gate.admit(inbound, &self.route, &mut self.scratch));
        match verdict {
            Ok(permit) => {
                let spent = self.gate.store.spent.take().unwrap();
                if Algorithm::named(&request.algorithm).unwrap().is_symmetric() {
                    let foreseen = self.gate.store.foreseen.take().unwrap();
                    assert_eq!(foreseen, spent, "it is sought elsewhere than foreseen");
                }
                let (identity, ..) = spent;
                Outcome::Accepted(identity, forwarded(&permit, inbound.query, inbound.body))
            }
            Err(_) => Outcome::Refused,
        }
    }

    /// What would be forwarded, if the request is accepted. What no client can send counts as refused.
    pub(crate) fn forwards(&mut self, request: &Recorded) -> Option<Forwarded> {
        match self.judge(request) {
            Outcome::Accepted(_, forwarded) => Some(forwarded),
            Outcome::Refused | Outcome::Unsendable => None,
        }
    }

    /// Makes the key that the request names the one that is known.
    fn learn(&mut self, request: &Recorded) {
        let known = (request.key.clone(), request.secret.clone(), request.passphrase.clone());
        if self.known.as_ref() == Some(&known) {
            return;
        }
        let algorithm = Algorithm::named(&request.algorithm).unwrap();
        let secret = self.dialect.read_secret(algorithm, request.secret.as_bytes()).unwrap();
        let passphrase = request.passphrase.as_deref().filter(|_| self.dialect.has_passphrase());
        self.gate.keys.insert(Key {
            id: request.key.as_str().into(),
            tag: Tag::of(&request.key),
            account: "any".into(),
            account_tag: Tag::of("any"),
            venue: Venue("any".into()),
            dialect: Arc::clone(self.dialect.name()),
            passphrase: passphrase.map(|clear| self.dialect.read_passphrase(clear, &secret)),
            secret,
            permissions: Permissions::NONE.with(Permission::READ),
            allowlist: Allowlist::default(),
            state: State::Active,
            expires: None,
            limits: Arc::from([]),
            epoch: 0,
            bindings: None,
        });
        self.known = Some(known);
    }
}

fn forwarded(permit: &Permit, query: Option<&str>, body: &[u8]) -> Forwarded {
    let outgoing = permit.outgoing();
    Forwarded {
        query: outgoing.query(query).unwrap_or_default().into_owned(),
        body: outgoing.body(&bytes::Bytes::copy_from_slice(body)),
        content_type: outgoing.content_type(),
    }
}

/// Does something with the request as a gateway has it before it; `None` where no such request can be sent.
pub(crate) fn as_received<T>(
    request: &Recorded,
    then: impl FnOnce(&Inbound<'_>) -> T,
) -> Option<T> {
    let method = Method::from_bytes(request.method.as_bytes()).ok()?;
    let headers = headers(request)?;
    let host = headers.get("host").and_then(|host| host.to_str().ok()).unwrap_or("localhost");
    let (path, query) = match request.target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (&*request.target, None),
    };
    let body = request.body.as_bytes();
    let peer = Ipv4Addr::LOCALHOST.into();
    let inbound =
        Inbound { method: &method, path, query, host, headers: (&headers).into(), body, peer };
    Some(then(&inbound))
}

fn headers(request: &Recorded) -> Option<HeaderMap> {
    let mut headers = HeaderMap::with_capacity(request.headers.len());
    for (name, value) in &request.headers {
        // A header field that stands twice: its values are on lines of their own.
        for value in value.split('\n') {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).ok()?);
        }
    }
    Some(headers)
}

/// The embedded parts of a gate never wait.
fn now_or_never<T>(future: impl Future<Output = T>) -> T {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(done) => done,
        std::task::Poll::Pending => panic!("an embedded store waited"),
    }
}

/// A store that takes everything for new, and tells under which identity and time, and what was foreseen of it.
#[derive(Debug, Default)]
struct Witness {
    spent: Cell<Option<Sought>>,
    foreseen: Cell<Option<Sought>>,
}

/// What is looked for in a store: an identity, its time, an account.
type Sought = (Identity, Option<Micros>, u64);

impl Witness {
    fn clear(&self) {
        self.spent.set(None);
        self.foreseen.set(None);
    }
}

impl Store for Witness {
    fn foresee(&self, identity: Identity, signed_at: Option<Micros>, account: u64) {
        self.foreseen.set(Some((identity, signed_at, account)));
    }

    async fn spend(&self, charge: &Charge) -> Verdict {
        let signed_at = match charge.time {
            SignedTime::Stamp(at) | SignedTime::Deadline { at, lead: _ } => Some(at),
            SignedTime::Growing { key: _, nonce: _, window: _ }
            | SignedTime::Unique { key: _, nonce: _ } => None,
        };
        self.spent.set(Some((charge.identity, signed_at, charge.account)));
        Verdict::New(Levels::default())
    }

    async fn pay(&self, _now: Micros, _costs: &[Cost]) -> Verdict {
        Verdict::New(Levels::default())
    }
}
