//! HTTP message signatures as a dialect: the recipe's `[signatures]` table, what a request claims, and the signer.

use std::fmt::Write as _;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;

use super::claim::{Claim, Payload, Signed};
use super::component::{Component, Covered, DERIVED, MOST_FIELDS};
use super::form::unsigned_type;
use super::reading::Order;
use super::rfc9421::{DIGEST, Rule};
use super::time::Nonce;
use super::{
    Attempt, Coverage, Credentials, Dialect, Draft, Encoding, Inbound, Place, Proof, Reading, Room,
    SignedRequest, TimeKind, TimeUnit, Unsignable,
};
use crate::checks::digest::{self, CONTENT_DIGEST};
use crate::checks::signature;
use crate::clock::Micros;
use crate::denial::{Credential, Denial};
use crate::key::Algorithm;

/// The recipe's `[signatures]` table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSignatures {
    tag: Option<String>,
    #[serde(default = "https")]
    scheme: String,
    /// Beside `content-digest`, which every signature over a body covers.
    cover: Vec<String>,
    #[serde(default)]
    may_cover: Vec<String>,
}

fn https() -> String {
    "https".to_owned()
}

/// Compiles the table; refuses a rule under which a request could be altered.
pub(super) fn compile(raw: &RawSignatures, dialect: &Dialect) -> Result<Rule, String> {
    refuse_unfit(dialect)?;
    let forwarded = &dialect.forward_headers;
    let mut rule = Rule {
        tag: raw.tag.as_deref().map(Into::into),
        scheme: match &*raw.scheme {
            "https" => "https",
            "http" => "http",
            other => return Err(format!("signatures: `{other}` is no scheme: https, http")),
        },
        required: Covered::default(),
        allowed: Covered::default().with(DIGEST),
        fields: [CONTENT_DIGEST].into(),
        forwarded: forwarded.clone(),
        text: Box::default(),
    };
    if raw.tag.as_ref().is_some_and(|tag| !tag.bytes().all(is_plain)) {
        return Err("signatures: a tag is of letters, digits, `-`, `_`, `.` and `:`".into());
    }
    for (names, must) in [(&raw.cover, true), (&raw.may_cover, false)] {
        for name in names {
            let component = name_component(&mut rule, name)?;
            rule.allowed = rule.allowed.with(component);
            if must {
                rule.required = rule.required.with(component);
            }
        }
    }
    let whole = rule.required.with_parts();
    for (component, name) in DERIVED.iter().take(4) {
        let needed = *component != Component::Authority;
        if needed && !whole.has(*component) && dialect.is_guarded() {
            return Err(format!("signatures: `cover` lacks {name}: it could be changed"));
        }
    }
    if let Some(name) = forwarded.iter().find(|name| !rule.fields.contains(name)) {
        return Err(format!(
            "signatures: {name} is forwarded, so it must be covered: name it in `may_cover`"
        ));
    }
    rule.text = text(&rule).into();
    Ok(rule)
}

/// Refuses a recipe that says of such signatures what cannot be.
fn refuse_unfit(dialect: &Dialect) -> Result<(), String> {
    let inputs = Place::Header(SIGNATURE_INPUT);
    let time = dialect.time.as_ref().map(|rule| (&rule.place, rule.kind, rule.unit));
    if dialect.key != inputs
        || time != Some((&inputs, TimeKind::Stamp, TimeUnit::Seconds))
        || dialect.signature != Place::Header(SIGNATURE)
    {
        return Err(
            "signatures: key and time, a stamp in seconds, travel in `header Signature-Input`, \
                    the signature in `header Signature`"
                .into(),
        );
    }
    let more = dialect.window.place.is_some()
        || dialect.nonce.is_some()
        || dialect.passphrase.is_some()
        || dialect.authorization.is_some()
        || dialect.payload.is_some()
        || dialect.proof != Proof::Mac;
    if more || *dialect.readings != [Reading::Raw] {
        return Err("signatures: there is one reading, \"raw\"; `expires` and `nonce` are parameters that clients may \
                    add, and no other credential is read"
            .into());
    }
    for (algorithm, encoding) in &dialect.encodings {
        let known = ALGORITHMS.iter().any(|(known, _)| known == algorithm);
        if *encoding != Encoding::Base64 || !known {
            return Err(format!(
                "signatures: {} does not sign messages in base64",
                algorithm.name()
            ));
        }
    }
    Ok(())
}

/// The component called `name`; a header field gets the next place among the rule's fields.
fn name_component(rule: &mut Rule, name: &str) -> Result<Component, String> {
    let quoted = format!("\"{name}\"");
    if let Some((component, _)) = DERIVED.iter().find(|(_, known)| *known == quoted) {
        return Ok(*component);
    }
    let field = HeaderName::from_bytes(name.as_bytes()).ok().filter(|field| field.as_str() == name);
    let field = field.ok_or_else(|| {
        let known: Vec<_> = DERIVED.iter().map(|(_, name)| name.trim_matches('"')).collect();
        format!(
            "signatures: `{name}` is no component: {}, or a header field in lower case",
            known.join(", ")
        )
    })?;
    let place = rule.fields.iter().position(|known| *known == field).unwrap_or(rule.fields.len());
    if place == rule.fields.len() {
        if place == MOST_FIELDS {
            return Err(format!("signatures: more than {} header fields", MOST_FIELDS - 1));
        }
        rule.fields = rule.fields.iter().cloned().chain([field]).collect();
    }
    u8::try_from(place).map(Component::Field).map_err(|_| "signatures: too many fields".to_owned())
}

/// What a signature must cover, as `Signature-Input` has it.
fn text(rule: &Rule) -> String {
    let mut text = list(rule, true);
    text.push_str(";created;keyid");
    if let Some(tag) = &rule.tag {
        // Writing to a String cannot fail.
        let _ = write!(text, ";tag=\"{tag}\"");
    }
    text
}

/// The list of the components that must be covered.
fn list(rule: &Rule, has_body: bool) -> String {
    let derived = DERIVED.iter().filter(|(component, _)| rule.required.has(*component));
    let mut names: Vec<_> = derived.map(|(_, name)| (*name).to_owned()).collect();
    for (place, field) in (0..).zip(&rule.fields) {
        let component = Component::Field(place);
        if rule.required.has(component) || component == DIGEST && has_body {
            names.push(format!("\"{field}\""));
        }
    }
    format!("({})", names.join(" "))
}

const fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':')
}

impl Dialect {
    /// Reads what one signature says, without believing it, and refuses what it does not cover.
    pub(super) fn claim_signature<'r>(
        &'r self,
        rule: &'r Rule,
        request: &Inbound<'r>,
    ) -> Result<Claim<'r>, Denial> {
        let [inputs, signatures] = lines(request, [&SIGNATURE_INPUT, &SIGNATURE])?;
        let (input, signature) = rule.read(request, inputs, signatures)?;
        let body = self.body_kind(request.body);
        if !request.body.is_empty() && !rule.covers(input.covered, &CONTENT_TYPE) {
            unsigned_type(request, body)?;
        }
        let key_id = input.key_id()?;
        Ok(Claim {
            key_id,
            time: Some(input.created()?),
            window: input.window(self.window.default, self.window.max)?,
            window_text: "",
            nonce: input.nonce().map(|text| Nonce { text, ..Nonce::default() }),
            signature,
            algorithm: input.algorithm().map(|name| self.offered(name)).transpose()?,
            passphrase: None,
            cut: None,
            signed: Signed::Base(rule, input),
            body,
            form: "",
            order: Order::NONE,
            content_type: "",
            payload: Payload::default(),
            object: None,
        })
    }

    /// What such signatures sign, whatever else a client lists.
    pub(super) fn cover_signatures(&self, rule: &Rule) -> Coverage {
        let whole = rule.required.with_parts();
        let content_type = if rule.covers(rule.allowed, &CONTENT_TYPE) {
            "the client's where it is covered; else any but the dialect's is refused, and the backend gets that"
        } else {
            self.content_type_note()
        };
        let parts = [
            ("method", whole.has(Component::Method), ""),
            ("host", whole.has(Component::Authority), "bound by the key's venue"),
            ("path", whole.has(Component::Path), ""),
            ("query", whole.has(Component::Query), ""),
            ("body", true, ""),
            ("time", true, ""),
            ("nonce", true, ""),
            ("window", true, ""),
            ("key id", true, ""),
            ("content type", false, content_type),
            (
                "other headers",
                false,
                "only those on the forward list reach the backend, and they must be covered",
            ),
        ];
        let (signed, unsigned): (Vec<(&str, bool, &str)>, Vec<_>) =
            parts.into_iter().partition(|(_, signed, _)| *signed);
        Coverage {
            methods: "any".to_owned(),
            text: rule.text.to_string(),
            signed: signed.iter().map(|(name, ..)| *name).collect(),
            unsigned: unsigned.iter().map(|(name, _, fate)| (*name, *fate)).collect(),
        }
    }

    /// The algorithm of that name in RFC 9421, section 6.2.2, if keys of this dialect may have it.
    fn offered(&self, name: &str) -> Result<Algorithm, Denial> {
        let algorithm = ALGORITHMS.iter().find(|(_, known)| *known == name).map(|(one, _)| *one);
        let offered = algorithm.filter(|one| self.algorithms().any(|other| other == *one));
        offered.ok_or(Denial::Malformed("an algorithm that this dialect does not have"))
    }

    /// Signs `draft` at `now`: the components that must be covered, and `expires` where a window is asked for.
    pub(super) fn sign_message(
        &self,
        rule: &Rule,
        draft: &Draft<'_>,
        by: &Credentials<'_>,
        now: Micros,
    ) -> Result<SignedRequest, Unsignable> {
        let created = now.as_millis() / 1_000;
        let mut input = list(rule, !draft.body.is_empty());
        // Writing to a String cannot fail.
        let _ = write!(input, ";created={created};keyid=\"{}\"", by.key_id);
        if let Some(window) = draft.window_ms {
            let _ = write!(input, ";expires={}", created.saturating_add(window.div_ceil(1_000)));
        }
        if let Some(nonce) = draft.nonce {
            let _ = write!(input, ";nonce=\"{nonce}\"");
        }
        if let Some(tag) = &rule.tag {
            let _ = write!(input, ";tag=\"{tag}\"");
        }
        let mut headers = HeaderMap::new();
        if !draft.body.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.body.media_type()));
            headers.insert(CONTENT_DIGEST, value(&digest::write(draft.body.as_bytes()))?);
        }
        headers.insert(SIGNATURE_INPUT, value(&format!("{LABEL}={input}"))?);
        // What our own reader would refuse is not signed; it reads this stand-in before there is a signature.
        headers.insert(SIGNATURE, HeaderValue::from_static("sig=:AA==:"));
        let request = Inbound {
            method: &draft.method,
            path: draft.path,
            query: (!draft.query.is_empty()).then_some(draft.query),
            host: draft.host,
            headers: (&headers).into(),
            body: draft.body.as_bytes(),
            peer: std::net::Ipv4Addr::LOCALHOST.into(),
        };
        let mut room = Room::default();
        let claim = self.claim(&request, &mut room).map_err(Unsignable::Refused)?;
        if claim.key_id != by.key_id {
            return Err(Unsignable::NotAHeaderValue);
        }
        let mut base = Vec::new();
        self.write_message(&claim, &request, Attempt::RAW, &mut base);
        let (algorithm, bytes) = signature::sign(by.signer, &base).ok_or(Unsignable::Algorithm)?;
        if !self.algorithms().any(|offered| offered == algorithm) {
            return Err(Unsignable::Algorithm);
        }
        let signature = value(&format!("{LABEL}=:{}:", Encoding::Base64.encode(&bytes)))?;
        headers.insert(SIGNATURE, signature);
        let mark = if draft.query.is_empty() { "" } else { "?" };
        Ok(SignedRequest {
            method: draft.method.clone(),
            target: [draft.path, mark, draft.query].concat(),
            headers: headers.into_iter().filter_map(|(name, value)| Some((name?, value))).collect(),
            body: draft.body.to_owned(),
        })
    }
}

/// The key id alone, of the signature that counts.
pub(super) fn key_id<'r>(rule: &Rule, request: &Inbound<'r>) -> Result<&'r str, Denial> {
    let inputs = lines(request, [&SIGNATURE_INPUT]);
    let [inputs] = inputs.map_err(|_| Denial::Missing(Credential::Key))?;
    rule.key_id(inputs)
}

/// The single line of each header field, in one pass: a look-up by hash costs more for each than all of this.
fn lines<'r, const N: usize>(
    request: &Inbound<'r>,
    names: [&HeaderName; N],
) -> Result<[&'r str; N], Denial> {
    let mut found = [None; N];
    for (name, value) in request.headers.iter() {
        for (_, line) in names.iter().zip(&mut found).filter(|(wanted, _)| **wanted == name) {
            let text = value.to_str().ok_or(Denial::Garbled(Credential::Signature))?;
            if line.replace(text).is_some() {
                return Err(Denial::Twice(Credential::Signature));
            }
        }
    }
    if found.contains(&None) {
        return Err(Denial::Missing(Credential::Signature));
    }
    Ok(found.map(Option::unwrap_or_default))
}

fn value(text: &str) -> Result<HeaderValue, Unsignable> {
    HeaderValue::from_str(text).map_err(|_| Unsignable::NotAHeaderValue)
}

/// The header field that says what is signed.
pub(super) const SIGNATURE_INPUT: HeaderName = HeaderName::from_static("signature-input");
/// The header field that holds the signature.
pub(super) const SIGNATURE: HeaderName = HeaderName::from_static("signature");

/// The label of the signatures that we make.
const LABEL: &str = "sig";

/// The names of the algorithms in RFC 9421; one of another name signs no message.
pub(super) const ALGORITHMS: [(Algorithm, &str); 5] = [
    (Algorithm::HmacSha256, "hmac-sha256"),
    (Algorithm::Ed25519, "ed25519"),
    (Algorithm::EcdsaP256Sha256, "ecdsa-p256-sha256"),
    (Algorithm::RsaPssSha512, "rsa-pss-sha512"),
    (Algorithm::RsaSha256, "rsa-v1_5-sha256"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::builtin;
    use crate::key::Signer;

    const NATIVE: &str = include_str!("../../config/dialects/native.toml");

    fn refusal(from: &str, to: &str) -> String {
        assert!(NATIVE.contains(from), "{from}");
        Dialect::compile(&NATIVE.replacen(from, to, 1)).unwrap_err().message
    }

    #[test]
    fn a_recipe_that_lets_a_part_be_changed_is_refused_with_the_reason() {
        for part in ["@method", "@path", "@query"] {
            let message = refusal(&format!("\"{part}\""), "\"@authority\"");
            assert!(message.contains(&format!("`cover` lacks \"{part}\"")), "{message}");
        }
        let whole = NATIVE.replacen("\"@path\", \"@query\"", "\"@request-target\"", 1);
        assert!(Dialect::compile(&whole).is_ok());
    }

    #[test]
    fn a_recipe_that_says_of_signatures_what_cannot_be_is_refused() {
        for (from, to, told) in [
            ("cover = [\"@method\"", "cover = [\"@methods\"", "`@methods` is no component"),
            ("may_cover = [\"content-type\"", "may_cover = [\"Content-Type\"", "no component"),
            ("tag = \"countersign-1\"", "tag = \"a\\\"b\"", "a tag is of"),
            ("[signatures]", "[signatures]\nscheme = \"ftp\"", "`ftp` is no scheme"),
            (
                "key = { in = \"header Signature-Input\"",
                "key = { in = \"header X-Key\"",
                "key and time",
            ),
            ("kind = \"stamp\"", "kind = \"deadline\"", "a stamp in seconds"),
            ("unit = \"s\"", "unit = \"ms\"", "a stamp in seconds"),
            (
                "signature = { in = \"header Signature\"",
                "signature = { in = \"header Sign\"",
                "the signature in",
            ),
            ("hmac-sha256 = \"base64\"", "hmac-sha256 = \"hex\"", "hmac-sha256"),
            ("hmac-sha256 = \"base64\"", "hmac-sha512 = \"base64\"", "hmac-sha512"),
            ("[\"raw\"]", "[\"raw\", \"decoded\"]", "one reading"),
            (
                "body = \"json\"",
                "body = \"json\"\nforward_headers = [\"x-broker\"]",
                "x-broker is forwarded",
            ),
        ] {
            let message = refusal(from, to);
            assert!(message.contains(told), "{message}");
        }
    }

    /// A signed request of the native dialect, as it is received.
    fn received<T>(query: &str, ask: impl FnOnce(&Dialect, &Inbound<'_>, HeaderMap) -> T) -> T {
        let dialect = builtin("native").unwrap().unwrap();
        let signer = Signer::read(Algorithm::HmacSha256, b"secret").unwrap();
        let method = http::Method::GET;
        let draft = Draft {
            method: method.clone(),
            path: "/a",
            query,
            body: "",
            host: "api.example",
            window_ms: None,
            lead_ms: 0,
            nonce: None,
        };
        let by = Credentials { key_id: "k", signer: &signer, passphrase: None };
        let sent = dialect.sign(&draft, &by, Micros::from_millis(1_700_000_000_123)).unwrap();
        let headers: HeaderMap = sent.headers.into_iter().collect();
        let peer = std::net::Ipv4Addr::LOCALHOST.into();
        let (path, host, method) = ("/a", "api.example", &method);
        let query = (!query.is_empty()).then_some(query);
        let request =
            Inbound { method, path, query, host, headers: (&headers).into(), body: b"", peer };
        ask(&dialect, &request, headers.clone())
    }

    #[test]
    fn what_is_signed_is_claimed_and_its_key_alone_is_read_too() {
        received("a=1", |dialect, request, _| {
            let mut room = Room::default();
            let claim = dialect.claim(request, &mut room).unwrap();
            assert_eq!((claim.key_id, claim.time.unwrap().text), ("k", "1700000000"));
            assert_eq!(dialect.key_id(request, &mut Room::default()), Ok("k"));
            let [(_, base)] = &dialect.signed_bytes(request)[..] else { panic!("one reading") };
            assert_eq!(
                String::from_utf8_lossy(base),
                "\"@method\": GET\n\"@authority\": api.example\n\"@path\": /a\n\"@query\": ?a=1\n\
                 \"@signature-params\": (\"@method\" \"@authority\" \"@path\" \"@query\");created=1700000000;keyid=\"k\";tag=\"countersign-1\""
            );
        });
    }

    #[test]
    fn a_second_line_of_a_signature_field_is_refused() {
        received("", |dialect, request, headers| {
            assert!(dialect.claim(request, &mut Room::default()).is_ok());
            for name in [SIGNATURE_INPUT, SIGNATURE] {
                let mut twice = headers.clone();
                twice.append(&name, headers[&name].clone());
                let again = Inbound { headers: (&twice).into(), ..*request };
                let refused = Denial::Twice(Credential::Signature);
                assert_eq!(dialect.claim(&again, &mut Room::default()).unwrap_err(), refused);
                let mut none = headers.clone();
                none.remove(&name);
                let again = Inbound { headers: (&none).into(), ..*request };
                let refused = Denial::Missing(Credential::Signature);
                assert_eq!(dialect.claim(&again, &mut Room::default()).unwrap_err(), refused);
            }
        });
    }

    #[test]
    fn a_draft_that_our_own_reader_would_refuse_is_not_signed() {
        let dialect = builtin("native").unwrap().unwrap();
        let signer = Signer::read(Algorithm::HmacSha512, b"secret").unwrap();
        let sign = |key_id: &str, body: &str, window_ms| {
            let method = http::Method::GET;
            let draft = Draft {
                method,
                path: "/a",
                query: "",
                body,
                host: "h",
                window_ms,
                lead_ms: 0,
                nonce: None,
            };
            let by = Credentials { key_id, signer: &signer, passphrase: None };
            dialect.sign(&draft, &by, Micros::from_millis(1_700_000_000_000)).unwrap_err()
        };
        assert_eq!(sign("k", "", None), Unsignable::Algorithm);
        assert_eq!(sign("k", "{}", None), Unsignable::Refused(Denial::Unsigned("a body on a GET")));
        assert!(matches!(sign("k", "", Some(61_000)), Unsignable::Refused(_)));
        for key_id in ["", "a\"", "a\\", "a\n", "\u{e9}"] {
            let refused = sign(key_id, "", None);
            assert!(
                matches!(refused, Unsignable::Refused(_) | Unsignable::NotAHeaderValue),
                "{key_id}"
            );
        }
    }

    #[test]
    fn everything_is_signed_in_native_and_all_but_the_host_must_be_in_rfc9421() {
        for (name, unsigned) in [
            ("native", &["content type", "other headers"][..]),
            ("rfc9421", &["host", "content type", "other headers"]),
        ] {
            let dialect = builtin(name).unwrap().unwrap();
            let [coverage] = &dialect.coverage()[..] else { panic!("{name}") };
            let left: Vec<_> = coverage.unsigned.iter().map(|(part, _)| *part).collect();
            assert_eq!(left, unsigned, "{name}");
            for part in ["method", "path", "query", "body", "time", "key id"] {
                assert!(coverage.signed.contains(&part), "{name} {part}");
            }
        }
    }

    #[test]
    fn no_signature_reaches_a_backend() {
        for name in ["native", "rfc9421"] {
            let dialect = builtin(name).unwrap().unwrap();
            let held: Vec<_> = dialect.credential_headers().collect();
            assert_eq!(held, [&SIGNATURE, &SIGNATURE_INPUT], "{name}");
        }
    }

    #[test]
    fn refusals_are_problem_details() {
        for name in ["native", "rfc9421"] {
            let dialect = builtin(name).unwrap().unwrap();
            for (condition, status, body) in dialect.worded() {
                let problem: serde_json::Value = serde_json::from_str(&body).unwrap();
                assert_eq!(problem["status"], status.as_u16(), "{name} {}", condition.name());
                let kind = format!("urn:countersign:problem:{}", condition.name());
                assert_eq!(problem["type"], kind, "{name}");
                assert!(problem["title"].is_string() && problem["detail"].is_string(), "{body}");
            }
            let answer =
                dialect.refuse(&Denial::BadSignature, true, &crate::dialect::Facts::default());
            let types: Vec<_> =
                answer.headers.iter().filter(|(name, _)| *name == CONTENT_TYPE).collect();
            assert_eq!(types.len(), 1);
            assert_eq!(types[0].1, "application/problem+json");
        }
    }
}
