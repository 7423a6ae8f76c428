//! The keys that an identity provider publishes (RFC 7517, RFC 8037): which of them may verify its tokens here.

use data_encoding::BASE64URL_NOPAD;
use serde::Deserialize;

use super::provider::{TokenAlgorithm, TokenKey};
use crate::key::Secret;

/// The keys of a published set that sign with one of `algorithms`; `None` where it is no set, or a dubious one.
///
/// What is of another kind or for another purpose is passed over, as the RFC has it. A key that does not say its
/// algorithm counts for every one of `algorithms` that it fits.
pub(super) fn keys(text: &[u8], algorithms: &[TokenAlgorithm]) -> Option<Vec<TokenKey>> {
    let set: Set = serde_json::from_slice(text).ok()?;
    if set.keys.len() > KEYS {
        return None;
    }
    let fitting = |entry: &serde_json::Value| {
        let Ok(jwk) = Jwk::deserialize(entry) else { return Vec::new() };
        let of = |algorithm: &TokenAlgorithm| {
            let secret = jwk.public(*algorithm)?;
            Some(TokenKey { id: jwk.kid.clone(), algorithm: *algorithm, public: secret })
        };
        algorithms.iter().filter_map(of).collect()
    };
    Some(set.keys.iter().flat_map(fitting).collect())
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    alg: Option<String>,
    #[serde(default)]
    r#use: Option<String>,
    #[serde(default)]
    key_ops: Option<Vec<String>>,
    #[serde(default)]
    crv: Option<String>,
    #[serde(default)]
    x: Option<String>,
    #[serde(default)]
    y: Option<String>,
    #[serde(default)]
    n: Option<String>,
    #[serde(default)]
    e: Option<String>,
    /// The private part: who publishes it has no secret left.
    #[serde(default)]
    d: Option<serde_json::Value>,
}

impl Jwk {
    /// What verifies with `algorithm`, where this key may.
    fn public(&self, algorithm: TokenAlgorithm) -> Option<Secret> {
        let verifies = self.r#use.as_deref().is_none_or(|purpose| purpose == "sig")
            && self.key_ops.as_ref().is_none_or(|all| all.iter().any(|one| one == "verify"));
        let named = self.alg.as_deref().is_none_or(|alg| algorithm.is_called(alg));
        if !verifies || !named || self.d.is_some() {
            return None;
        }
        let curve = |name: &str| (self.crv.as_deref()? == name).then_some(());
        let bytes = match (&*self.kty, algorithm) {
            ("RSA", TokenAlgorithm::Rs256 | TokenAlgorithm::Ps256 | TokenAlgorithm::Ps512) => {
                rsa(&decoded(self.n.as_ref())?, &decoded(self.e.as_ref())?)?
            }
            ("EC", TokenAlgorithm::Es256) => {
                curve("P-256")?;
                let (x, y) = (decoded(self.x.as_ref())?, decoded(self.y.as_ref())?);
                (x.len() == 32 && y.len() == 32).then(|| [&[4][..], &x, &y].concat())?
            }
            ("OKP", TokenAlgorithm::EdDsa) => {
                curve("Ed25519")?;
                decoded(self.x.as_ref()).filter(|x| x.len() == 32)?
            }
            _ => return None,
        };
        Secret::read(algorithm.key(), &bytes).ok()
    }
}

fn decoded(text: Option<&String>) -> Option<Vec<u8>> {
    BASE64URL_NOPAD.decode(text?.as_bytes()).ok()
}

/// A PKCS#1 `RSAPublicKey` of a modulus and an exponent, which must be odd, the latter 65537 or more (FIPS 186-5).
fn rsa(modulus: &[u8], exponent: &[u8]) -> Option<Vec<u8>> {
    let (modulus, exponent) = (integer(modulus)?, integer(exponent)?);
    (exponent.len() >= 5).then(|| element(0x30, &[modulus, exponent].concat()))?
}

/// A DER INTEGER of an odd number.
fn integer(bytes: &[u8]) -> Option<Vec<u8>> {
    let start = bytes.iter().position(|byte| *byte != 0)?;
    let (_, bytes) = bytes.split_at_checked(start)?;
    (bytes.last()? & 1 == 1).then_some(())?;
    let sign: &[u8] = if bytes.first()? & 0x80 == 0 { &[] } else { &[0] };
    element(0x02, &[sign, bytes].concat())
}

fn element(tag: u8, contents: &[u8]) -> Option<Vec<u8>> {
    let [high, low] = u16::try_from(contents.len()).ok()?.to_be_bytes();
    let head = match (high, low) {
        (0, ..=0x7f) => vec![tag, low],
        (0, _) => vec![tag, 0x81, low],
        _ => vec![tag, 0x82, high, low],
    };
    Some([head, contents.to_vec()].concat())
}

/// A set may hold so many keys: each token that names none of them might be held against all.
const KEYS: usize = 64;

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;
    use ring::rsa::PublicKeyComponents;
    use ring::signature::{RSA_PKCS1_SHA256, RSA_PSS_SHA256, RSA_PSS_SHA512, RsaKeyPair};
    use serde_json::{Value, json};

    use super::*;

    const ALL: [TokenAlgorithm; 5] = TokenAlgorithm::ALL;

    fn read(set: &Value, algorithms: &[TokenAlgorithm]) -> Option<Vec<TokenKey>> {
        keys(set.to_string().as_bytes(), algorithms)
    }

    /// The key pair that the vectors of a dialect were made with, and its public half as a set has it.
    fn rsa_pair() -> (RsaKeyPair, Value) {
        let vectors = include_str!("../../tests/vectors/bybit.jsonl");
        let vector = vectors.lines().find(|line| line.contains("rsa-sha256")).unwrap();
        let vector: Value = serde_json::from_str(vector).unwrap();
        let pem = vector["secret"].as_str().unwrap();
        let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        let pair = RsaKeyPair::from_pkcs8(&data_encoding::BASE64.decode(body.as_bytes()).unwrap());
        let pair = pair.unwrap();
        let part = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
        let public = PublicKeyComponents::<Vec<u8>>::from(pair.public());
        let jwk = json!({"kty": "RSA", "kid": "r", "n": part(&public.n), "e": part(&public.e)});
        (pair, jwk)
    }

    fn ed25519(x: &str) -> Value {
        json!({"kty": "OKP", "crv": "Ed25519", "kid": "e", "x": x})
    }

    /// RFC 8037, appendix A.
    const POINT: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

    #[test]
    fn a_key_verifies_under_the_algorithms_that_are_allowed_and_no_other() {
        let (pair, jwk) = rsa_pair();
        let random = SystemRandom::new();
        let schemes: [(_, &'static dyn ring::signature::RsaEncoding); 3] = [
            (TokenAlgorithm::Rs256, &RSA_PKCS1_SHA256),
            (TokenAlgorithm::Ps256, &RSA_PSS_SHA256),
            (TokenAlgorithm::Ps512, &RSA_PSS_SHA512),
        ];
        for (signed, scheme) in schemes {
            let mut signature = vec![0; pair.public().modulus_len()];
            pair.sign(scheme, &random, b"message", &mut signature).unwrap();
            for allowed in ALL {
                let found = read(&json!({"keys": [jwk]}), &[allowed]).unwrap();
                let holds = found.iter().any(|key| key.verifies(b"message", &signature));
                assert_eq!(holds, allowed == signed, "{signed:?} {allowed:?}");
            }
        }
    }

    #[test]
    fn what_says_another_purpose_or_algorithm_is_passed_over() {
        let (_, rsa) = rsa_pair();
        for (name, value, counted) in [
            ("use", json!("sig"), 3),
            ("use", json!("enc"), 0),
            ("key_ops", json!(["verify"]), 3),
            ("key_ops", json!(["encrypt"]), 0),
            ("alg", json!("RS256"), 1),
            ("alg", json!("PS256"), 1),
            ("alg", json!("HS256"), 0),
            ("alg", json!("none"), 0),
            ("alg", json!("RSA-OAEP"), 0),
            ("d", json!("AQ"), 0),
            ("kty", json!("oct"), 0),
            ("kid", json!(7), 0),
            ("e", json!("Aw"), 0),
            ("e", json!("AQ"), 0),
            ("n", json!("AQAB"), 0),
            ("n", json!("="), 0),
        ] {
            let mut jwk = rsa.clone();
            jwk[name] = value.clone();
            let found = read(&json!({"keys": [jwk, ed25519(POINT)]}), &ALL).unwrap();
            assert_eq!(found.len(), counted + 1, "{name} {value}");
        }
    }

    #[test]
    fn a_shared_secret_is_never_a_key() {
        let oct =
            json!({"kty": "oct", "kid": "k", "k": "c2VjcmV0c2VjcmV0c2VjcmV0", "alg": "HS256"});
        assert!(read(&json!({"keys": [oct]}), &ALL).unwrap().is_empty());
    }

    #[test]
    fn points_that_are_weak_or_on_no_curve_are_passed_over() {
        let zero = BASE64URL_NOPAD.encode(&[0; 32]);
        let one = BASE64URL_NOPAD.encode(&[1; 32]);
        let ec = |x: &str, y: &str| json!({"kty": "EC", "crv": "P-256", "x": x, "y": y});
        let other = json!({"kty": "OKP", "crv": "X25519", "x": POINT});
        let mut weak = vec![ed25519(&zero), ec(&one, &one), ec(&one, ""), other];
        assert!(read(&json!({ "keys": weak }), &ALL).unwrap().is_empty());
        // RFC 7515, appendix A.3.
        weak.push(ec(
            "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
        ));
        assert_eq!(read(&json!({ "keys": weak }), &ALL).unwrap().len(), 1);
    }

    #[test]
    fn a_set_has_an_end_and_what_is_none_is_refused() {
        let full = |count: usize| json!({"keys": vec![ed25519(POINT); count]});
        assert_eq!(read(&full(KEYS), &ALL).unwrap().len(), KEYS);
        for wrong in [full(KEYS + 1), json!([]), json!({}), json!({"keys": {}}), json!(null)] {
            assert!(read(&wrong, &ALL).is_none(), "{wrong}");
        }
        assert!(keys(b"<html>", &ALL).is_none());
    }
}
