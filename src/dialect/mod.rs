//! The ways exchanges sign requests, as data.
//!
//! A recipe (TOML, `config/dialects/`) says where each credential travels and which bytes are signed. It is
//! compiled once to a [`Dialect`]; the verifier, the signer, the refusals and the documentation all read it.

mod builtin;
mod claim;
mod coverage;
mod outgoing;
mod place;
mod reading;
mod recipe;
mod refusal;
mod sign;
pub(crate) mod template;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

pub use builtin::{BUILTIN, builtin};
pub use claim::Claim;
pub use coverage::Coverage;
pub use outgoing::Outgoing;
pub use place::Place;
pub use reading::Reading;
pub(crate) use reading::{hex_digit, percent_decoded};
pub use recipe::RecipeError;
pub use refusal::Facts;
pub use sign::{Credentials, Draft, SignedRequest, Unsignable};
use template::{Part, Seams};

use crate::clock::Micros;
use crate::denial::{Condition, Denial};
use crate::key::Algorithm;

/// A request as it came in, within the size limits. Nothing of it is proved.
#[derive(Clone, Copy, Debug)]
pub struct Inbound<'r> {
    /// The method.
    pub method: &'r Method,
    /// The path, byte for byte as received.
    pub path: &'r str,
    /// The query, byte for byte as received, without its `?`; `None` when there was no `?`.
    pub query: Option<&'r str>,
    /// The host the client addressed, with its port if it named one.
    pub host: &'r str,
    /// Header fields.
    pub headers: &'r HeaderMap,
    /// The whole body; empty when there is none or it has not been read yet.
    pub body: &'r [u8],
    /// The client's address: the socket's, or what a trusted proxy says.
    pub peer: IpAddr,
}

/// An answer to a client.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// Header fields, `content-type` among them.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body.
    pub body: bytes::Bytes,
}

/// What a signed time means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TimeKind {
    /// The moment of signing.
    Stamp,
    /// The moment after which the request is void.
    Deadline,
}

/// How a signed time is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TimeUnit {
    /// Whole seconds.
    Seconds,
    /// Whole milliseconds.
    Millis,
    /// Milliseconds, or microseconds where the number is over 10^14 (Binance).
    MillisOrMicros,
}

/// Where the signed time travels and what it means.
#[derive(Clone, Debug)]
pub(crate) struct TimeRule {
    pub(crate) place: Place,
    pub(crate) kind: TimeKind,
    pub(crate) unit: TimeUnit,
    /// How far ahead of the server's clock a stamp may lie.
    pub(crate) future: Duration,
}

/// How long a stamp is good.
#[derive(Clone, Debug)]
pub(crate) struct WindowRule {
    pub(crate) place: Option<Place>,
    pub(crate) default: Duration,
    pub(crate) max: Duration,
}

/// How a signature is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Encoding {
    /// Hexadecimal, either case.
    Hex,
    /// Base64, standard alphabet with padding.
    Base64,
}

/// What bodies hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BodyKind {
    /// Parameters, as in a query.
    Form,
    /// JSON: an object or an array.
    Json,
}

/// What is signed, for some methods.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    /// The methods it holds for; all that no earlier message names, when `None`.
    pub(crate) methods: Option<Box<[Method]>>,
    pub(crate) text: Box<str>,
    pub(crate) parts: Box<[Part]>,
    pub(crate) signs_query: bool,
    pub(crate) signs_body: bool,
    pub(crate) seams: Seams,
}

/// A compiled recipe: one exchange's way to sign. It holds no secret and never compares a signature.
#[derive(Clone)]
pub struct Dialect {
    name: Arc<str>,
    title: String,
    sources: Vec<String>,
    notes: Vec<String>,
    pub(crate) key: Place,
    pub(crate) time: TimeRule,
    pub(crate) window: WindowRule,
    pub(crate) signature: Place,
    pub(crate) encodings: Box<[(Algorithm, Encoding)]>,
    pub(crate) passphrase: Option<Place>,
    messages: Box<[Message]>,
    pub(crate) readings: Box<[Reading]>,
    pub(crate) body: BodyKind,
    split_parameters: bool,
    forward_headers: Box<[HeaderName]>,
    refusals: refusal::Refusals,
}

impl Dialect {
    /// Compiles the text of a recipe.
    pub fn compile(recipe: &str) -> Result<Self, RecipeError> {
        recipe::compile(recipe)
    }

    /// The same dialect, which accepts parameters split over query and body under one signature.
    ///
    /// Binance does; the boundary between the two is then unsigned.
    #[must_use]
    pub fn with_split_parameters(mut self) -> Self {
        self.split_parameters = true;
        self
    }

    /// The name used in configuration and metrics.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Whose dialect it is, for people.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// Where its rules come from.
    pub fn sources(&self) -> &[String] {
        &self.sources
    }

    /// What the recipe's author wants operators to know.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Whether a passphrase belongs to each key.
    pub fn has_passphrase(&self) -> bool {
        self.passphrase.is_some()
    }

    /// The algorithms its keys may have.
    pub fn algorithms(&self) -> impl Iterator<Item = Algorithm> {
        self.encodings.iter().map(|(algorithm, _)| *algorithm)
    }

    /// Whether the claim may stand in the body, so that the head alone decides little.
    pub fn claims_in_body(&self) -> bool {
        [&self.time.place, &self.signature].iter().any(|place| matches!(place, Place::Param(_)))
    }

    /// What its signed time means.
    pub fn time_kind(&self) -> TimeKind {
        self.time.kind
    }

    /// Whether its signed time counts whole seconds, so that honest clients may send identical bytes twice.
    pub fn counts_seconds(&self) -> bool {
        self.time.unit == TimeUnit::Seconds
    }

    /// How far ahead of the clock a stamp may lie.
    pub fn future(&self) -> Duration {
        self.time.future
    }

    /// The longest window a client may ask for.
    pub fn max_window(&self) -> Duration {
        self.window.max
    }

    /// The header fields that its clients need passed on, beside those that always are.
    pub fn forward_headers(&self) -> &[HeaderName] {
        &self.forward_headers
    }

    /// The header fields that hold credentials and never reach a backend.
    pub fn credential_headers(&self) -> impl Iterator<Item = &HeaderName> {
        [Some(&self.signature), self.passphrase.as_ref()].into_iter().flatten().filter_map(
            |place| match place {
                Place::Header(name) => Some(name),
                Place::Param(_) => None,
            },
        )
    }

    /// The refusal of a request in this dialect's words; a plain one where the recipe has none.
    pub fn refuse(&self, denial: &Denial, write: bool, facts: &Facts) -> Answer {
        let condition = denial.condition(write);
        self.refusals
            .answer(condition, facts)
            .or_else(|| self.refusals.answer(fallback(condition), facts))
            .unwrap_or_else(|| Answer {
                status: StatusCode::SERVICE_UNAVAILABLE,
                headers: Vec::new(),
                body: bytes::Bytes::new(),
            })
    }

    /// The header fields that every reply carries, as used limits.
    pub fn reply_headers(&self, facts: &Facts) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        self.refusals.reply_headers(facts)
    }

    /// The conditions that the recipe words, with status and body.
    pub fn worded(&self) -> impl Iterator<Item = (Condition, StatusCode, String)> {
        self.refusals.worded()
    }

    /// The message that requests of this method sign.
    pub(crate) fn message(&self, method: &Method) -> Option<&Message> {
        self.messages
            .iter()
            .find(|message| message.methods.as_ref().is_none_or(|methods| methods.contains(method)))
    }

    /// Every message with the methods it is for.
    pub(crate) fn messages(&self) -> &[Message] {
        &self.messages
    }
}

impl fmt::Debug for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dialect({})", self.name)
    }
}

/// What a dialect that has no word for a condition says instead: the nearest that its clients know.
const fn fallback(condition: Condition) -> Condition {
    match condition {
        Condition::MissingTimestamp
        | Condition::MalformedTimestamp
        | Condition::FutureTimestamp => Condition::StaleTimestamp,
        Condition::ReplayedRead => Condition::ReplayedWrite,
        Condition::IpRateLimited => Condition::RateLimited,
        Condition::WindowTooLarge | Condition::TooLarge | Condition::NotFound => {
            Condition::Malformed
        }
        Condition::ExpiredKey | Condition::IpNotAllowed => Condition::NoPermission,
        Condition::MissingPassphrase
        | Condition::BadPassphrase
        | Condition::Malformed
        | Condition::MissingKey
        | Condition::MissingSignature
        | Condition::StaleTimestamp
        | Condition::BadSignature
        | Condition::NoPermission
        | Condition::ReplayedWrite
        | Condition::RateLimited
        | Condition::Unavailable => Condition::BadSignature,
    }
}

/// A signed time, as text and as a moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Time<'r> {
    /// As sent, and as signed.
    pub text: &'r str,
    /// The moment it names.
    pub at: Micros,
}
