//! Tokens of the operator's identity provider (RFC 7519, RFC 9068): who signed them, for whom, until when.
//!
//! A token names its key and algorithm only to agree with the configuration. `WebAuthn` and the like happen there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use serde::Deserialize;
use serde_json::Value;

use super::caller::Role;
use super::key_set::KeySet;
use crate::checks::signature;
use crate::clock::Micros;
use crate::key::{Algorithm, Secret};

/// An identity provider whose tokens are accepted.
#[derive(Debug)]
pub struct Provider {
    /// The issuer its tokens name.
    pub issuer: String,
    /// The audience they must name.
    pub audience: String,
    /// What it signs with, as the configuration says.
    pub keys: Vec<TokenKey>,
    /// What it signs with, as it publishes itself.
    pub set: Option<Arc<KeySet>>,
    /// The claim that holds the caller's roles: text, or a list of texts.
    pub role_claim: String,
    /// What each of its roles allows here.
    pub roles: BTreeMap<String, Role>,
}

/// What a provider signs with.
#[derive(Debug)]
pub struct TokenKey {
    /// The name that tokens give it, where it has one.
    pub id: Option<String>,
    /// The one algorithm that counts with it.
    pub algorithm: TokenAlgorithm,
    /// Its public half.
    pub public: Secret,
}

/// How tokens may be signed (RFC 7518, RFC 8037). There is none with a shared secret, and none without a signature.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TokenAlgorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// RSASSA-PSS with SHA-512.
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl TokenAlgorithm {
    /// Every one of them.
    pub const ALL: [Self; 5] = [Self::Rs256, Self::Ps256, Self::Ps512, Self::Es256, Self::EdDsa];

    /// Its name in tokens.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Ps256 => "PS256",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }

    /// Whether tokens and sets of keys call it so. RFC 9864 gives the one curve of `EdDSA` here a name of its own.
    pub(super) fn is_called(self, name: &str) -> bool {
        name == self.name() || (self == Self::EdDsa && name == "Ed25519")
    }

    /// The one that keys of the configuration name so; `None` for those with a shared secret.
    pub const fn of(algorithm: Algorithm) -> Option<Self> {
        match algorithm {
            Algorithm::HmacSha256 | Algorithm::HmacSha384 | Algorithm::HmacSha512 => None,
            Algorithm::Ed25519 => Some(Self::EdDsa),
            Algorithm::RsaSha256 => Some(Self::Rs256),
            Algorithm::RsaPssSha512 => Some(Self::Ps512),
            Algorithm::EcdsaP256Sha256 => Some(Self::Es256),
        }
    }

    /// What its keys are read as.
    pub(super) const fn key(self) -> Algorithm {
        match self {
            Self::Rs256 | Self::Ps256 => Algorithm::RsaSha256,
            Self::Ps512 => Algorithm::RsaPssSha512,
            Self::Es256 => Algorithm::EcdsaP256Sha256,
            Self::EdDsa => Algorithm::Ed25519,
        }
    }
}

impl TokenKey {
    pub(super) fn verifies(&self, message: &[u8], offered: &[u8]) -> bool {
        match self.algorithm {
            TokenAlgorithm::Ps256 => signature::verify_ps256(&self.public, message, offered),
            TokenAlgorithm::Rs256
            | TokenAlgorithm::Ps512
            | TokenAlgorithm::Es256
            | TokenAlgorithm::EdDsa => signature::verify(&self.public, message, offered),
        }
    }

    /// Whether a token with this head may be signed with it.
    fn is_of(&self, head: &Head) -> bool {
        (self.id.is_none() || self.id == head.kid) && self.algorithm.is_called(&head.alg)
    }
}

/// Clocks of provider and gateway may differ by this much.
const LEEWAY: Duration = Duration::from_secs(30);
/// The longest life of a token that is accepted: one that is stolen ends soon.
const LIFE: Duration = Duration::from_hours(24);

/// A token, parted.
struct Read<'t> {
    head: Head,
    claims: Claims,
    signed: &'t [u8],
    signature: Vec<u8>,
}

#[derive(Deserialize)]
struct Head {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    crit: Option<Value>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    exp: u64,
    #[serde(default)]
    nbf: Option<u64>,
    #[serde(default)]
    iat: Option<u64>,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Provider {
    /// Whose token it is and what it allows; `None` where it is not good here and now, whatever the cause.
    pub fn identify(&self, token: &[u8], now: Micros) -> Option<(String, Role)> {
        let Read { head, claims, signed, signature } = self.read(token, now)?;
        let proves = |key: &TokenKey| key.is_of(&head) && key.verifies(signed, &signature);
        let set = || self.set.as_ref().is_some_and(|set| set.any(now, proves));
        (self.keys.iter().any(proves) || set()).then_some(())?;
        let role = self.role(claims.rest.get(&self.role_claim)?)?;
        let plain = |c: char| !c.is_control();
        let subject = claims.sub;
        (!subject.is_empty() && subject.len() <= 200 && subject.chars().all(plain))
            .then_some((subject, role))
    }

    /// The published keys, where they are to be read anew before the token is judged: it names one that is not known.
    pub(super) fn unknown(&self, token: &[u8], now: Micros) -> Option<&KeySet> {
        let set = self.set.as_deref()?;
        let Read { head, .. } = self.read(token, now)?;
        let allowed = |one: &TokenAlgorithm| one.is_called(&head.alg) && set.allows(*one);
        let possible = head.kid.is_some() && TokenAlgorithm::ALL.iter().any(allowed);
        let known = |key: &TokenKey| key.is_of(&head);
        (possible && !self.keys.iter().any(known) && !set.any(now, known)).then_some(set)
    }

    /// The parts of a token that says it is this provider's, for us, and good now. Nothing in it is proved.
    fn read<'t>(&self, token: &'t [u8], now: Micros) -> Option<Read<'t>> {
        let (signed, signature) = split(token)?;
        let (head, claims) = signed.split_once('.')?;
        let head: Head = decoded(head)?;
        let claims: Claims = decoded(claims)?;
        let ours = claims.iss == self.issuer && claims.aud.names(&self.audience);
        (head.crit.is_none() && ours && claims.is_current(now)).then_some(())?;
        let signature = BASE64URL_NOPAD.decode(signature.as_bytes()).ok()?;
        Some(Read { head, claims, signed: signed.as_bytes(), signature })
    }

    /// The most that any of the named roles allows.
    fn role(&self, claim: &Value) -> Option<Role> {
        let one = |claim: &Value| claim.as_str().and_then(|name| self.roles.get(name)).copied();
        claim.as_array().map_or_else(|| one(claim), |all| all.iter().filter_map(one).max())
    }
}

impl Claims {
    fn is_current(&self, now: Micros) -> bool {
        let at = |seconds: u64| Micros(seconds.saturating_mul(1_000_000));
        let begun = [self.nbf, self.iat].into_iter().flatten().all(|from| at(from) <= now + LEEWAY);
        let end = at(self.exp);
        begun && now < end + LEEWAY && end.since(now) <= LIFE
    }
}

impl Audience {
    fn names(&self, audience: &str) -> bool {
        match self {
            Self::One(one) => one == audience,
            Self::Many(many) => many.iter().any(|one| one == audience),
        }
    }
}

/// What is signed, and the signature.
fn split(token: &[u8]) -> Option<(&str, &str)> {
    let text = std::str::from_utf8(token).ok()?;
    (text.matches('.').count() == 2).then(|| text.rsplit_once('.'))?
}

fn decoded<T: for<'d> Deserialize<'d>>(part: &str) -> Option<T> {
    serde_json::from_slice(&BASE64URL_NOPAD.decode(part.as_bytes()).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer as _, SigningKey};
    use serde_json::json;

    use super::*;

    const NOW: Micros = Micros(1_800_000_000_000_000);

    fn signer() -> SigningKey {
        SigningKey::from_bytes(&[7; 32])
    }

    fn provider() -> Provider {
        let public = signer().verifying_key().to_bytes();
        Provider {
            issuer: "https://id.example".into(),
            audience: "countersign".into(),
            keys: vec![TokenKey {
                id: Some("k1".into()),
                algorithm: TokenAlgorithm::EdDsa,
                public: Secret::read(Algorithm::Ed25519, &public).unwrap(),
            }],
            set: None,
            role_claim: "groups".into(),
            roles: [("ops".into(), Role::Operator), ("sec".into(), Role::Security)].into(),
        }
    }

    fn claims() -> Value {
        let now = NOW.0 / 1_000_000;
        json!({
            "iss": "https://id.example", "sub": "ann", "aud": ["x", "countersign"], "exp": now + 60,
            "iat": now, "groups": ["staff", "ops"], "other": {"a": 1},
        })
    }

    fn token(head: &Value, claims: &Value) -> String {
        let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        let signed = format!("{}.{}", part(head), part(claims));
        let signature = signer().sign(signed.as_bytes()).to_bytes();
        format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature))
    }

    fn head() -> Value {
        json!({"alg": "EdDSA", "kid": "k1", "typ": "at+jwt"})
    }

    #[test]
    fn a_good_token_says_who_calls_and_what_they_may() {
        let good = token(&head(), &claims());
        let found = provider().identify(good.as_bytes(), NOW);
        assert_eq!(found, Some(("ann".to_owned(), Role::Operator)));
        let mut both = claims();
        both["groups"] = json!(["ops", "sec"]);
        both["aud"] = json!("countersign");
        let found = provider().identify(token(&head(), &both).as_bytes(), NOW);
        assert_eq!(found, Some(("ann".to_owned(), Role::Security)));
    }

    #[test]
    fn one_claim_that_is_wrong_voids_it() {
        let now = NOW.0 / 1_000_000;
        for (name, value) in [
            ("iss", json!("https://evil.example")),
            ("aud", json!("another")),
            ("aud", json!([])),
            ("exp", json!(now - 30)),
            ("exp", json!(now + 86_401)),
            ("exp", json!("soon")),
            ("nbf", json!(now + 31)),
            ("iat", json!(now + 31)),
            ("sub", json!("")),
            ("sub", json!("a\nb")),
            ("groups", json!(["staff"])),
            ("groups", json!(null)),
            ("groups", json!({"ops": true})),
        ] {
            let mut claims = claims();
            claims[name] = value;
            let token = token(&head(), &claims);
            assert_eq!(provider().identify(token.as_bytes(), NOW), None, "{name}: {claims}");
        }
    }

    #[test]
    fn the_head_chooses_neither_key_nor_algorithm() {
        for head in [
            json!({"alg": "none"}),
            json!({"alg": "none", "kid": "k1"}),
            json!({"alg": "HS256", "kid": "k1"}),
            json!({"alg": "ES256", "kid": "k1"}),
            json!({"alg": "EdDSA", "kid": "k2"}),
            json!({"alg": "EdDSA"}),
            json!({"alg": "EdDSA", "kid": "k1", "crit": ["b64"]}),
        ] {
            let token = token(&head, &claims());
            assert_eq!(provider().identify(token.as_bytes(), NOW), None, "{head}");
        }
    }

    #[test]
    fn every_byte_of_a_token_counts_and_no_text_is_trouble() {
        let good = token(&head(), &claims());
        for at in 0..good.len() {
            let mut bytes = good.clone().into_bytes();
            bytes[at] ^= 1;
            assert_eq!(provider().identify(&bytes, NOW), None, "{at}");
        }
        for wrong in ["", ".", "..", "...", "a.b.c", good.get(1..).unwrap(), &format!("{good}.")] {
            assert_eq!(provider().identify(wrong.as_bytes(), NOW), None, "{wrong}");
        }
        assert_eq!(provider().identify(&[0xff; 9], NOW), None);
    }
}
