//! Judges recorded requests without a gateway: one JSON object a line, as in `tests/vectors/`.
//!
//! Each request is judged by itself, at its own `now_ms`, under the key it names; nothing is remembered between
//! two of them, so a repetition is not a replay here.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::Deserialize;

use crate::admit::{Ask, Decoys, Effect, Gate, Guard, Route, Scratch};
use crate::clock::{ManualClock, Micros};
use crate::denial::Denial;
use crate::dialect::{Dialect, Explained, Inbound, Reading};
use crate::key::{Algorithm, Allowlist, Key, Permission, Permissions, State, Tag, Venue};
use crate::registry::fixed::FixedKeys;
use crate::store::{Charge, Cost, Levels, Repeat, Store, Verdict};

/// A recorded request.
#[derive(Clone, Deserialize)]
pub struct Recorded {
    /// The dialect it is signed in.
    pub dialect: String,
    /// The method.
    pub method: String,
    /// Path and query, as on the wire.
    pub target: String,
    /// Header fields.
    pub headers: BTreeMap<String, String>,
    /// The body.
    #[serde(default)]
    pub body: String,
    /// The key id.
    pub key: String,
    /// The shared secret, or the key pair's PEM.
    pub secret: String,
    /// The passphrase.
    pub passphrase: Option<String>,
    /// The server's clock, in milliseconds since the epoch.
    pub now_ms: u64,
    /// The key's algorithm.
    pub algorithm: String,
    /// What is expected: `valid`, `invalid`, `valid-if-lenient`, or nothing.
    pub expect: Option<String>,
    /// What is expected of a strict verifier, where it differs.
    pub strict_expect: Option<String>,
}

/// What a recording expects.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Expected<'r> {
    /// Nothing.
    Nothing,
    /// That the request is accepted.
    Accepted,
    /// That it is refused.
    Refused,
    /// This word, which says neither.
    Unknown(&'r str),
}

impl Recorded {
    /// What the recording expects of a verifier that is lenient, or that is not.
    pub fn expected(&self, lenient: bool) -> Expected<'_> {
        let strict = self.strict_expect.as_deref().filter(|_| !lenient);
        match strict.or(self.expect.as_deref()) {
            None => Expected::Nothing,
            Some("valid") => Expected::Accepted,
            Some("valid-if-lenient") if lenient => Expected::Accepted,
            Some("valid-if-lenient" | "invalid") => Expected::Refused,
            Some(word) => Expected::Unknown(word),
        }
    }
}

impl fmt::Debug for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { dialect, method, target, .. } = self;
        // A recording may come from anybody, and this goes to terminals.
        let shown = |text: &'_ str| text.escape_debug().to_string();
        write!(f, "{} {} {}", shown(dialect), shown(method), shown(target))
    }
}

/// Why a recording cannot be judged at all.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Unjudged {
    /// No dialect has this name.
    Dialect(String),
    /// A field holds what no request or key can be; the text says which.
    Field(&'static str),
}

impl fmt::Display for Unjudged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dialect(name) => write!(f, "no dialect is called \"{name}\""),
            Self::Field(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Unjudged {}

/// What became of a recorded request.
#[derive(Clone, Debug)]
pub struct Judged {
    /// Why it was refused; `Ok` when it was accepted.
    pub verdict: Result<Accepted, Denial>,
    /// The bytes that the server takes for signed, under each reading of the query that the dialect has.
    pub signed_bytes: Vec<(Reading, Vec<u8>)>,
    /// The template they were built from.
    pub template: Option<String>,
    /// The parts of those bytes, in the same order.
    pub parts: Vec<(Reading, Vec<Explained>)>,
}

/// What would be forwarded of an accepted request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Accepted {
    /// The query.
    pub query: Option<String>,
    /// The body.
    pub body: bytes::Bytes,
}

/// Judges recorded requests.
#[derive(Debug)]
pub struct Judge {
    gate: Gate<FixedKeys, Forgetful, ManualClock>,
    dialects: BTreeMap<String, Arc<Dialect>>,
    scratch: Scratch,
}

impl Judge {
    /// A judge who knows these dialects.
    pub fn new(dialects: impl IntoIterator<Item = Arc<Dialect>>) -> Result<Self, getrandom::Error> {
        let gate = Gate {
            keys: FixedKeys::default(),
            store: Forgetful,
            clock: ManualClock::default(),
            decoys: Decoys::new()?,
            guard: Guard::off(),
            switches: Arc::default(),
        };
        let dialects = dialects.into_iter().map(|d| (d.name().to_string(), d)).collect();
        Ok(Self { gate, dialects, scratch: Scratch::new() })
    }

    /// Judges one request.
    pub async fn judge(&mut self, recorded: &Recorded) -> Result<Judged, Unjudged> {
        let dialect = self.dialects.get(&recorded.dialect);
        let dialect =
            Arc::clone(dialect.ok_or_else(|| Unjudged::Dialect(recorded.dialect.clone()))?);
        let method = Method::from_bytes(recorded.method.as_bytes())
            .map_err(|_| Unjudged::Field("`method` is no method"))?;
        let headers = headers(&recorded.headers)?;
        let host = headers.get(http::header::HOST).and_then(|host| host.to_str().ok());
        let (path, query) = match recorded.target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (&*recorded.target, None),
        };
        let request = Inbound {
            method: &method,
            path,
            query,
            host: host.unwrap_or("localhost"),
            headers: (&headers).into(),
            body: recorded.body.as_bytes(),
            peer: Ipv4Addr::LOCALHOST.into(),
        };
        self.gate.keys.insert(key(recorded, &dialect)?);
        self.gate.clock.set(Micros::from_millis(recorded.now_ms));
        let route = route(&dialect, &method);
        let verdict = self.gate.admit(&request, &route, &mut self.scratch).await;
        Ok(Judged {
            verdict: verdict.map(|permit| Accepted {
                query: permit.outgoing().query(query).map(std::borrow::Cow::into_owned),
                body: permit.outgoing().body(&bytes::Bytes::copy_from_slice(request.body)),
            }),
            signed_bytes: dialect.signed_bytes(&request),
            template: dialect.template(&request).map(str::to_owned),
            parts: dialect.explain(&request),
        })
    }
}

/// A route that asks for nothing but a good signature.
fn route(dialect: &Arc<Dialect>, method: &Method) -> Route {
    let effect = if *method == Method::GET { Effect::Read } else { Effect::Write };
    Route {
        name: "offline".into(),
        id: 0,
        ask: Ask::Signed(Arc::clone(dialect)),
        venue: Venue("offline".into()),
        permissions: Permissions::NONE.with(Permission::READ),
        effect,
        weight: 1,
        body_cap: 1 << 20,
        key_max_age: Duration::from_mins(5),
        lead: dialect.lead().unwrap_or(Duration::from_mins(1)),
        repeat: Repeat::Never,
        address_limit: None,
        symbol: None,
        charges: None,
        second_factor: None,
    }
}

fn key(recorded: &Recorded, dialect: &Dialect) -> Result<Key, Unjudged> {
    // Some recordings name the padding of RSA signatures too.
    let name = recorded.algorithm.trim_end_matches("-pkcs1v15");
    // And some the digest that Kraken signs a MAC of.
    let name = name.trim_start_matches("kraken-sha256-");
    // And some use the names that tokens have for them.
    let name = match name {
        "jwt-hs256" => "hmac-sha256",
        "jwt-hs512" => "hmac-sha512",
        "jwt-es256" => "ecdsa-p256-sha256",
        "jwt-eddsa" => "ed25519",
        other => other,
    };
    let algorithm = Algorithm::named(name).ok_or(Unjudged::Field("`algorithm` is not known"))?;
    let secret = dialect
        .read_secret(algorithm, recorded.secret.as_bytes())
        .map_err(|_| Unjudged::Field("`secret` is no secret of this algorithm"))?;
    let passphrase = recorded.passphrase.as_deref().filter(|_| dialect.has_passphrase());
    Ok(Key {
        id: recorded.key.as_str().into(),
        tag: Tag::of(&recorded.key),
        account: "offline".into(),
        account_tag: Tag::of("offline"),
        venue: Venue("offline".into()),
        dialect: Arc::clone(dialect.name()),
        passphrase: passphrase.map(|clear| dialect.read_passphrase(clear, &secret)),
        secret,
        permissions: Permissions::NONE.with(Permission::READ),
        allowlist: Allowlist::default(),
        state: State::Active,
        expires: None,
        limits: Arc::from([]),
        epoch: 0,
        bindings: None,
    })
}

fn headers(recorded: &BTreeMap<String, String>) -> Result<HeaderMap, Unjudged> {
    let mut headers = HeaderMap::with_capacity(recorded.len());
    for (name, value) in recorded {
        let name = HeaderName::from_bytes(name.as_bytes());
        let name = name.map_err(|_| Unjudged::Field("`headers` holds what is no header name"))?;
        let value = HeaderValue::from_str(value);
        let value =
            value.map_err(|_| Unjudged::Field("`headers` holds what is no header value"))?;
        headers.append(name, value);
    }
    Ok(headers)
}

/// A store that remembers nothing: recordings are judged one by one.
#[derive(Debug)]
struct Forgetful;

impl Store for Forgetful {
    async fn spend(&self, _charge: &Charge) -> Verdict {
        Verdict::New(Levels::default())
    }

    async fn pay(&self, _now: Micros, _costs: &[Cost]) -> Verdict {
        Verdict::New(Levels::default())
    }
}
