//! The ways exchanges sign requests, as data.
//!
//! A recipe (TOML, `config/dialects/`) says where each credential travels and which bytes are signed. It is
//! compiled once to a [`Dialect`]; the verifier, the signer, the refusals and the documentation all read it.

mod answer;
mod attempt;
mod base64;
mod builtin;
mod claim;
mod component;
mod content;
mod coverage;
mod encoding;
mod explain;
pub(crate) mod fields;
mod form;
mod header_fields;
pub(crate) mod json;
mod json_forward;
mod json_guard;
mod json_names;
mod json_print;
mod json_rendering;
mod json_scan;
pub(crate) mod json_text;
pub(crate) mod jwt;
mod jwt_claim;
mod jwt_request;
mod jwt_rule;
mod lenient;
mod member;
mod message;
mod outgoing;
mod pairs;
mod place;
mod raw;
mod reading;
mod recipe;
mod refusal;
mod reply_field;
mod response;
pub(crate) mod rfc9421;
mod seam;
mod secret;
mod sign;
mod signatures;
mod sole;
mod sound;
mod spelling;
mod stated;
pub(crate) mod template;
mod time;
mod told;
mod unguarded;
mod unsignable;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method};

pub use answer::Answer;
pub(crate) use attempt::Attempt;
pub use builtin::{BUILTIN, builtin};
pub(crate) use claim::Offered;
pub use claim::{Claim, Room};
pub use coverage::Coverage;
pub use encoding::Encoding;
pub use explain::Explained;
pub use form::BodyKind;
#[cfg(feature = "server")]
pub(crate) use header_fields::Field;
pub use header_fields::{FieldValue, Fields};
#[cfg(feature = "server")]
pub(crate) use json_rendering::Style;
#[cfg(feature = "server")]
pub(crate) use jwt_rule::Content;
pub(crate) use message::{Fate, Message};
pub(crate) use outgoing::CodeCut;
pub use outgoing::Outgoing;
pub(crate) use pairs::{Side, pairs, parameter, spells};
pub use place::Place;
pub use reading::Reading;
pub(crate) use reading::{hex_digit, percent_decoded};
pub use recipe::RecipeError;
pub use refusal::{Facts, Said};
pub(crate) use response::ReplyRule;
#[cfg(feature = "server")]
pub(crate) use sign::Marks;
pub use sign::{Credentials, Draft, SignedRequest};
pub(crate) use sole::{array_length, sole_member, sole_parameter};
pub(crate) use time::{ClockedRule, Nonce, NonceRule, TimeRule, WindowRule};
pub use time::{NonceKind, Time, TimeKind, TimeUnit};
pub use unsignable::Unsignable;

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
    pub headers: Fields<'r>,
    /// The whole body; empty when there is none or it has not been read yet.
    pub body: &'r [u8],
    /// The client's address: the socket's, or what a trusted proxy says.
    pub peer: IpAddr,
}

/// A request that clients of a dialect send, before it is signed: for its documentation.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Example {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub target: String,
    /// The body.
    pub body: String,
}

impl Default for Example {
    fn default() -> Self {
        Self { method: Method::GET, target: "/orders".to_owned(), body: String::new() }
    }
}

/// How the text of a shared secret becomes the bytes of a MAC key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SecretForm {
    /// As it is.
    Text,
    /// Decoded from base64.
    Base64,
}

/// What proves that the holder of a shared secret signed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Proof {
    /// A MAC of the message.
    Mac,
    /// The same, or a plain digest of the message with the secret behind it.
    MacOrSuffix,
}

/// Where the passphrase travels, and which header field says that it comes as a MAC of itself.
#[derive(Clone, Debug)]
pub(crate) struct PassphraseRule {
    pub(crate) place: Place,
    pub(crate) keyed: Option<KeyedRule>,
}

/// When a passphrase comes as a MAC of itself under the key's secret, in base64: by the version of the key.
#[derive(Clone, Debug)]
pub(crate) struct KeyedRule {
    pub(crate) version: Place,
    /// The versions of keys whose passphrase is keyed.
    pub(crate) keyed: Box<[Box<str>]>,
    /// Those whose passphrase is not; as where no version is said.
    pub(crate) clear: Box<[Box<str>]>,
}

/// Which member of the signed JSON must name the path.
#[derive(Clone, Debug)]
pub(crate) struct PathRule {
    pub(crate) member: Place,
    /// What stands before it in the path.
    pub(crate) after: Box<str>,
}

/// The parameters that each method has.
pub(crate) type Names = Box<[(Box<str>, json_names::Names)]>;

/// Fixed texts, each with its place.
pub(crate) type Sends = Box<[(Place, Box<str>)]>;

/// How a dialect finds what is signed.
#[derive(Clone, Debug)]
pub(crate) enum Scheme {
    /// The text that a template makes of the request.
    Text(Box<[Message]>),
    /// A token, which says what it covers.
    Token(Box<jwt_claim::Tokens>),
    /// The base of an HTTP message signature.
    Signatures(Box<rfc9421::Rule>),
}

/// A compiled recipe: one exchange's way to sign. It holds no secret and never compares a signature.
#[derive(Clone)]
pub struct Dialect {
    name: Arc<str>,
    title: String,
    sources: Vec<String>,
    /// Names of header fields as the recipe writes them.
    spellings: spelling::Spellings,
    notes: Vec<String>,
    pub(crate) scheme: Scheme,
    pub(crate) key: Place,
    pub(crate) time: Option<TimeRule>,
    pub(crate) nonce: Option<NonceRule>,
    pub(crate) window: WindowRule,
    pub(crate) signature: Place,
    pub(crate) encodings: Box<[(Algorithm, Encoding)]>,
    secret: SecretForm,
    pub(crate) passphrase: Option<PassphraseRule>,
    /// Where requests state the algorithm of their key, where they do.
    algorithm: Option<stated::AlgorithmRule>,
    places: place::Places,
    authorization: Option<Box<str>>,
    pub(crate) readings: Box<[Reading]>,
    /// The readings that an operator may switch on.
    lenient: Box<[Reading]>,
    /// Whether pairs must be put in order, for some reading or message.
    sorts: bool,
    pub(crate) body: BodyKind,
    other_body: Option<BodyKind>,
    /// The header field that holds all that counts, as JSON in base64; the body is then ignored.
    payload: Option<HeaderName>,
    path_is: Option<PathRule>,
    /// The parameters that methods have, where the message does not separate them; `*` for all other methods.
    names: Names,
    no_names: json_names::Names,
    /// Parameters of which no other stands beside them: told by the one that comes first.
    sets: json_names::Sets,
    /// What clients send beside credentials, at fixed places.
    sends: Sends,
    pub(crate) proof: Proof,
    /// How replies are signed, where clients check it.
    pub(crate) replies: Option<ReplyRule>,
    /// The paths that may have a query, where the message does not tell where the path ends.
    paths: Box<[Box<str>]>,
    split_parameters: bool,
    /// Whether strangers are told which keys exist, as the exchange tells them.
    imitates: bool,
    example: Example,
    forward_headers: Box<[HeaderName]>,
    refusals: refusal::Refusals,
    /// The rules against ambiguity.
    rules: unguarded::Rules,
}

impl Dialect {
    /// Compiles the text of a recipe.
    pub fn compile(recipe: &str) -> Result<Self, RecipeError> {
        recipe::compile(recipe, unguarded::Rules::KEPT)
    }

    /// The same dialect, which accepts parameters split over query and body under one signature.
    ///
    /// Binance does; the boundary between the two is then unsigned.
    #[must_use]
    pub fn with_split_parameters(mut self) -> Self {
        self.split_parameters = true;
        self
    }

    /// The same dialect, which also accepts what clients sign otherwise than they send it, where it cannot mean
    /// anything else; `None` where the recipe has no such readings.
    ///
    /// What was signed bare is then no longer accepted where it could be another text's decoding.
    #[must_use]
    pub fn with_leniency(mut self) -> Option<Self> {
        if self.lenient.is_empty() {
            return None;
        }
        let all = self.readings.iter().chain(&self.lenient);
        self.readings = all.copied().collect();
        Some(self)
    }

    /// The same dialect, which tells an unknown or revoked key apart from a wrong signature, as its exchange does.
    ///
    /// Whoever guesses or finds key ids then learns which of them exist.
    #[must_use]
    pub fn with_imitation(mut self) -> Self {
        self.imitates = true;
        self
    }

    /// The name used in configuration and metrics.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Whether the claim may stand in the body, so that the head alone decides little.
    pub fn claims_in_body(&self) -> bool {
        let has_forms = [Some(self.body), self.other_body].contains(&Some(BodyKind::Form));
        self.places().any(|(_, place)| match place {
            Place::Param(_) => has_forms,
            Place::Field(_) => self.payload.is_none(),
            Place::Header(_)
            | Place::After(..)
            | Place::Auth(_)
            | Place::TokenHeader(_)
            | Place::TokenPayload(_) => false,
        })
    }

    /// Whether the key id stands in the head.
    pub(crate) fn names_key_in_head(&self) -> bool {
        self.key.header().is_some()
    }

    /// What its signed time means.
    pub fn time_kind(&self) -> TimeKind {
        self.time.as_ref().map_or(TimeKind::None, |time| time.kind)
    }

    /// What its nonce is good for, where it has one.
    pub fn nonce_kind(&self) -> Option<NonceKind> {
        self.nonce.as_ref().map(|nonce| nonce.kind)
    }

    /// How far below the highest number of its key a growing nonce may lie; zero where it must exceed all before.
    pub fn nonce_window(&self) -> u64 {
        self.nonce.as_ref().map_or(0, |nonce| nonce.window)
    }

    /// The member of the JSON by which clients say that their growing nonce is a clock in milliseconds, and how far it
    /// may then be from the server's; where the dialect has such.
    pub fn clocked_nonce(&self) -> Option<(&str, Duration)> {
        let rule = self.nonce.as_ref()?.clocked.as_ref()?;
        Some((&rule.member, rule.within))
    }

    /// Whether some reading of it decodes.
    fn decodes(&self) -> bool {
        self.readings.iter().any(|reading| reading.decodes())
    }

    /// Whether its operator switched readings on.
    pub(crate) fn is_lenient(&self) -> bool {
        self.readings.last().is_some_and(|reading| reading.is_lenient())
    }

    /// The furthest ahead that its clients put a deadline, where the recipe says it: what a route accepts unless its
    /// configuration says otherwise.
    pub fn lead(&self) -> Option<Duration> {
        self.time.as_ref().and_then(|time| time.lead)
    }

    /// Whether it has requests whose pairs are put in order.
    #[cfg(feature = "server")]
    pub(crate) fn sorts(&self) -> bool {
        self.sorts
    }

    /// The header fields that hold credentials and never reach a backend.
    pub fn credential_headers(&self) -> impl Iterator<Item = &HeaderName> {
        let passphrase = self.passphrase.as_ref().map(|rule| &rule.place);
        // What names the key of a message signature is of no use without the signature.
        let input = match self.scheme {
            Scheme::Text(_) | Scheme::Token(_) => None,
            Scheme::Signatures(_) => Some(&self.key),
        };
        let places = [Some(&self.signature), passphrase, input].into_iter().flatten();
        places.filter_map(Place::header).chain(&self.payload)
    }

    /// Every message with the requests it is for.
    pub(crate) fn messages(&self) -> &[Message] {
        match &self.scheme {
            Scheme::Text(messages) => messages,
            Scheme::Token(tokens) => &tokens.messages,
            Scheme::Signatures(_) => &[],
        }
    }
}

impl fmt::Debug for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dialect({})", self.name)
    }
}
