//! What the tokens of a dialect hold, as its recipe says, and tokens made from the same recipe.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use data_encoding::BASE64URL_NOPAD;
use http::Method;
use http::header::AUTHORIZATION;
use serde::Deserialize;

use super::json_rendering::Style;
use super::jwt::{DIGEST, Member, Rule, UNIT, jose_name};
use super::jwt_claim::Tokens;
use super::raw::RawPart;
use super::template::{Field, Part};
use super::{Dialect, Encoding, Fate, Message, Place};
use crate::denial::Credential;
use crate::key::Algorithm;

/// The table `[token]`: what its members mean, beside those that other tables name as places.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawToken {
    #[serde(default)]
    header: BTreeMap<String, RawMember>,
    #[serde(default)]
    payload: BTreeMap<String, RawMember>,
    /// How clients write a JSON body before they take its digest.
    body: Option<String>,
    /// Members of the payload that clients write and nobody reads.
    #[serde(default)]
    constants: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawMember {
    KeyAgain,
    NotBefore,
    IssuedAt,
    Request,
    Requests,
    Digest,
    DigestAlgorithm,
}

/// Compiles the table, with the places that the dialect's other tables name.
pub(super) fn compile(
    raw: &RawToken,
    unsigned: &[RawPart],
    dialect: &Dialect,
) -> Result<Tokens, String> {
    let half = |raw: &BTreeMap<String, RawMember>| {
        raw.iter().map(|(name, raw)| (name.as_str().into(), raw.meaning())).collect::<Vec<_>>()
    };
    let (mut header, mut payload) = (half(&raw.header), half(&raw.payload));
    for (credential, place) in dialect.places() {
        let meaning = match credential {
            Credential::Key => Member::Key,
            Credential::Time => Member::Time,
            Credential::Nonce => Member::Nonce,
            Credential::Signature => continue,
            Credential::Window | Credential::Passphrase | Credential::Algorithm => {
                return Err(format!("token: a token has no {}", credential.name()));
            }
        };
        match place {
            Place::TokenHeader(name) => header.push((name.clone(), meaning)),
            Place::TokenPayload(name) => payload.push((name.clone(), meaning)),
            Place::Header(_)
            | Place::After(..)
            | Place::Param(_)
            | Place::Field(_)
            | Place::Auth(_) => return Err(format!("`{place}` is no place in a token")),
        }
    }
    header.push(("alg".into(), Member::Algorithm));
    header.push(("typ".into(), Member::Type));
    header.extend(FORBIDDEN.map(|name| (name.into(), Member::Forbidden)));
    let rule = Rule {
        members: [header.into(), payload.into()],
        algorithms: dialect.algorithms().collect(),
        unit: dialect.time.as_ref().map_or(UNIT, |time| time.unit),
        body: raw.body.as_deref().map(style).transpose()?,
        constants: raw
            .constants
            .iter()
            .map(|(name, text)| (name.as_str().into(), text.as_str().into()))
            .collect(),
    };
    refuse_unsound(&rule, dialect)?;
    let messages = messages(&rule, unsigned, dialect)?;
    Ok(Tokens { rule, messages })
}

fn style(name: &str) -> Result<Style, String> {
    Style::named(name).ok_or_else(|| format!("token: `{name}` is no way to write a JSON body"))
}

fn refuse_unsound(rule: &Rule, dialect: &Dialect) -> Result<(), String> {
    let all = || rule.members.iter().flatten();
    for (name, meaning) in all().filter(|(_, meaning)| *meaning != Member::Forbidden) {
        if all().filter(|(_, other)| other == meaning).count() > 1 {
            return Err(format!("token: `{name}` and another member mean the same"));
        }
    }
    for half in &rule.members {
        let twice =
            |(name, _): &&(_, _)| half.iter().filter(|(other, _)| other == name).count() > 1;
        if let Some((name, _)) = half.iter().find(twice) {
            return Err(format!("token: `{name}` means two things"));
        }
    }
    let has = |member| rule.has(member);
    if (has(Member::DigestAlgorithm) || rule.body.is_some()) && !has(Member::Digest) {
        return Err("token: how a digest is made, but no member is the digest".into());
    }
    if dialect.readings.iter().any(|reading| reading.sorts()) {
        return Err("readings: a token's digest is of pairs as they stand".into());
    }
    let signature = matches!(&dialect.signature, Place::After(name, _) if *name == AUTHORIZATION);
    let encoded = dialect.encodings.iter().all(|(_, encoding)| *encoding == Encoding::Base64Url);
    if !signature || !encoded {
        return Err(
            "signature: of a token it stands in `header Authorization after \"Bearer\"`, in base64url"
                .into(),
        );
    }
    Ok(())
}

/// What a token covers, as the texts that it stands for: a query that no token signs passes where it only asks.
fn messages(
    rule: &Rule,
    unsigned: &[RawPart],
    dialect: &Dialect,
) -> Result<Box<[Message]>, String> {
    let fields = [
        (Field::Key, true),
        (Field::Timestamp, dialect.time.is_some()),
        (Field::Nonce, dialect.nonce.is_some()),
        (Field::Method, rule.has(Member::Request)),
        (Field::Host, rule.has(Member::Request)),
        (Field::Path, rule.has(Member::Request)),
    ];
    let fate = |signed, part| match (signed, unsigned.contains(&part)) {
        (true, true) => Err("token: it signs what `unsigned` names".to_owned()),
        (true, false) => Ok(Fate::Signed),
        (false, true) => Ok(Fate::Passed),
        (false, false) => Ok(Fate::Refused),
    };
    let query = fate(rule.digests(), RawPart::Query)?;
    let entity = fate(rule.body.is_some(), RawPart::Body)?;
    let of = |methods: Option<Box<[Method]>>, query, entity| Message {
        methods,
        body: None,
        under: None,
        text: "HEADER.PAYLOAD of the token".into(),
        parts: fields
            .iter()
            .filter(|(_, has)| *has)
            .map(|(field, _)| Part::Field(*field))
            .collect(),
        query,
        entity,
        signs_type: false,
        signs_method: rule.has(Member::Request),
        joins: false,
        merged: None,
        params: rule.body,
        seams: Box::default(),
    };
    Ok(if query == Fate::Passed {
        let asks = Some(Box::from([Method::GET, Method::HEAD]));
        [of(asks, query, Fate::Refused), of(None, Fate::Refused, entity)].into()
    } else {
        [of(None, query, entity)].into()
    })
}

impl RawMember {
    const fn meaning(self) -> Member {
        match self {
            Self::KeyAgain => Member::SecondKey,
            Self::NotBefore => Member::NotBefore,
            Self::IssuedAt => Member::IssuedAt,
            Self::Request => Member::Request,
            Self::Requests => Member::Requests,
            Self::Digest => Member::Digest,
            Self::DigestAlgorithm => Member::DigestAlgorithm,
        }
    }
}

/// What a new token is to say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Content<'a> {
    pub(crate) algorithm: Algorithm,
    pub(crate) key_id: &'a str,
    pub(crate) nonce: &'a str,
    /// The moment of signing.
    pub(crate) issued: &'a str,
    /// The moment of signing, or after which it is void.
    pub(crate) time: &'a str,
    /// `METHOD host/path`.
    pub(crate) request: &'a str,
    /// Of the parameters, where there are any, in hexadecimal.
    pub(crate) digest: Option<&'a str>,
}

impl Rule {
    /// Header and payload of a new token: what is to be signed.
    pub(super) fn write(&self, content: &Content<'_>) -> String {
        self.halves(content).map(|half| BASE64URL_NOPAD.encode(half.as_bytes())).join(".")
    }

    /// Header and payload of a new token, as JSON.
    pub(crate) fn halves(&self, content: &Content<'_>) -> [String; 2] {
        let [header, payload] = &self.members;
        let header = self.half(header, content);
        let mut payload = self.half(payload, content);
        payload.extend(self.constants.iter().map(|(name, text)| member(name, &quoted(text))));
        [header, payload].map(|half| format!("{{{}}}", half.join(",")))
    }

    fn half(&self, members: &[(Box<str>, Member)], content: &Content<'_>) -> Vec<String> {
        let written = |(name, meaning): &(Box<str>, Member)| {
            Some(member(name, &self.value(*meaning, content)?))
        };
        members.iter().filter_map(written).collect()
    }

    /// The value of a member as JSON; `None` where the token needs none.
    fn value(&self, meaning: Member, content: &Content<'_>) -> Option<String> {
        Some(match meaning {
            Member::Algorithm => quoted(jose_name(content.algorithm)),
            Member::Type => quoted("JWT"),
            Member::Key | Member::SecondKey => quoted(content.key_id),
            Member::Nonce => quoted(content.nonce),
            Member::Time => content.time.to_owned(),
            Member::NotBefore | Member::IssuedAt => content.issued.to_owned(),
            Member::Request => quoted(content.request),
            Member::Requests if self.has(Member::Request) => return None,
            Member::Requests => format!("[{}]", quoted(content.request)),
            Member::Digest => quoted(content.digest?),
            Member::DigestAlgorithm => content.digest.map(|_| quoted(DIGEST))?,
            Member::Forbidden => return None,
        })
    }
}

fn member(name: &str, value: &str) -> String {
    format!("{}:{value}", quoted(name))
}

/// A JSON string.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for char in text.chars() {
        match char {
            '"' | '\\' => out.extend(['\\', char]),
            '\0'..' ' => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{:04x}", u32::from(char));
            }
            _ => out.push(char),
        }
    }
    out.push('"');
    out
}

/// Header members that bring a key along or ask for processing (RFC 7515 section 4.1, RFC 7516, RFC 7797): tokens that
/// hold one are refused.
const FORBIDDEN: [&str; 10] =
    ["crit", "jwk", "jku", "x5c", "x5u", "x5t", "x5t#S256", "b64", "zip", "enc"];

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = include_str!("../../config/dialects/upbit.toml");

    fn refusal(from: &str, to: &str) -> String {
        assert!(GOOD.contains(from), "{from}");
        Dialect::compile(&GOOD.replace(from, to)).unwrap_err().message
    }

    #[test]
    fn a_token_that_would_be_good_for_ever_or_means_a_thing_twice_is_refused_with_the_reason() {
        let nonce = "nonce = { in = \"token payload nonce\", kind = \"unique\" }";
        assert!(refusal(nonce, "").contains("good for ever"));
        let more = nonce.replace("unique", "none");
        assert!(refusal(nonce, &more).contains("good for ever"));
        assert!(refusal("payload access_key", "payload nonce").contains("means two things"));
        let twice = refusal("query_hash_alg = \"digest-algorithm\"", "other = \"digest\"");
        assert!(twice.contains("mean the same"), "{twice}");
        assert!(refusal("query_hash = \"digest\", ", "").contains("no member is the digest"));
        assert!(refusal("body = \"upbit\"", "body = \"x\"").contains("`x`"));
        assert!(
            refusal("token payload access_key", "header x-key").contains("no place in a token")
        );
        assert!(
            refusal("[\"raw\", \"decoded\"]", "[\"raw\", \"sorted\"]").contains("as they stand")
        );
        let base64 = refusal("hmac-sha512 = \"base64url\"", "hmac-sha512 = \"base64\"");
        assert!(base64.contains("base64url"), "{base64}");
        let table =
            "[token]\npayload = { query_hash = \"digest\", query_hash_alg = \"digest-algorithm\" }";
        assert!(refusal(table, "[[message]]\ntext = \"{query}{body}\"\n[token]").contains("leave"));
    }

    #[test]
    fn texts_are_written_so_that_they_read_back() {
        for text in ["plain", "a\"b\\c", "\u{1}\n/é漢"] {
            let read: serde_json::Value = serde_json::from_str(&quoted(text)).unwrap();
            assert_eq!(read, text);
        }
    }
}
