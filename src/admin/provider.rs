//! Tokens of the operator's identity provider (RFC 7519, RFC 9068): who signed them, for whom, until when.
//!
//! A token names its key and algorithm only to agree with the configuration. `WebAuthn` and the like happen there.

use std::collections::BTreeMap;
use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use serde::Deserialize;
use serde_json::Value;

use super::caller::Role;
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
    /// What it signs with: the name of each key, where it has one, and its public half.
    pub keys: Vec<(Option<String>, Secret)>,
    /// The claim that holds the caller's roles: text, or a list of texts.
    pub role_claim: String,
    /// What each of its roles allows here.
    pub roles: BTreeMap<String, Role>,
}

/// Clocks of provider and gateway may differ by this much.
const LEEWAY: Duration = Duration::from_secs(30);
/// The longest life of a token that is accepted: one that is stolen ends soon.
const LIFE: Duration = Duration::from_hours(24);

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
        let (signed, signature) = split(token)?;
        let (head, claims) = signed.split_once('.')?;
        let head: Head = decoded(head)?;
        if head.crit.is_some() {
            return None;
        }
        let claims: Claims = decoded(claims)?;
        if claims.iss != self.issuer || !claims.aud.names(&self.audience) || !claims.is_current(now)
        {
            return None;
        }
        let signature = BASE64URL_NOPAD.decode(signature.as_bytes()).ok()?;
        let proves = |(name, key): &(Option<String>, Secret)| {
            let named = name.is_none() || *name == head.kid;
            named
                && jose_name(key.algorithm()) == Some(&*head.alg)
                && signature::verify(key, signed.as_bytes(), &signature)
        };
        self.keys.iter().any(proves).then_some(())?;
        let role = self.role(claims.rest.get(&self.role_claim)?)?;
        let plain = |c: char| !c.is_control();
        let subject = claims.sub;
        (!subject.is_empty() && subject.len() <= 200 && subject.chars().all(plain))
            .then_some((subject, role))
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

/// The name that RFC 7518 and RFC 8037 give an algorithm; those with a shared secret are nobody's business here.
fn jose_name(algorithm: Algorithm) -> Option<&'static str> {
    match algorithm {
        Algorithm::HmacSha256 | Algorithm::HmacSha384 | Algorithm::HmacSha512 => None,
        Algorithm::Ed25519 => Some("EdDSA"),
        Algorithm::RsaSha256 => Some("RS256"),
        Algorithm::RsaPssSha512 => Some("PS512"),
        Algorithm::EcdsaP256Sha256 => Some("ES256"),
    }
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
            keys: vec![(Some("k1".into()), Secret::read(Algorithm::Ed25519, &public).unwrap())],
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
