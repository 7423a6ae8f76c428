//! Requests as clients of each recipe sign them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use countersign::clock::Micros;
use countersign::dialect::{BUILTIN, Credentials, Dialect, Draft, SecretForm, SignedRequest};
use countersign::key::{Algorithm, Signer};
use countersign::offline::Recorded;
use http::Method;
use proptest::prelude::*;

const SECRET: &str = "s3cretZyXwVu9876543210fedcbaFEDCBA9876543210";
const KEY: &str = "k3yAbCdEf0123456789ABCDEFabcdef0123456789";
const PASSPHRASE: &str = "Pass phr@se+1";
const NOW_MS: u64 = 1_700_000_000_000;

/// Every recipe, or those that `COUNTERSIGN_DIALECTS` names, separated by commas.
pub(crate) fn dialects() -> Vec<Arc<Dialect>> {
    let named = std::env::var("COUNTERSIGN_DIALECTS").ok();
    let wanted =
        |name: &str| named.as_ref().is_none_or(|all| all.split(',').any(|one| one == name));
    let all = BUILTIN.iter().filter(|(name, _)| wanted(name));
    all.map(|(_, recipe)| Arc::new(Dialect::compile(recipe).unwrap())).collect()
}

/// What real clients of a dialect sent.
pub(crate) fn recordings(dialect: &Dialect) -> Vec<Recorded> {
    let file = Path::new("tests/vectors").join(format!("{}.jsonl", dialect.name()));
    let text = std::fs::read_to_string(&file).unwrap();
    let read = |line: &str| {
        let mut request: Recorded = serde_json::from_str(line).unwrap();
        algorithm_of(&request).name().clone_into(&mut request.algorithm);
        request
    };
    text.lines().map(read).collect()
}

/// The algorithm that a recording names, in one of the words that there are for it.
fn algorithm_of(request: &Recorded) -> Algorithm {
    let name = request.algorithm.trim_end_matches("-pkcs1v15").trim_start_matches("kraken-sha256-");
    let name = match name {
        "jwt-hs256" => "hmac-sha256",
        "jwt-hs512" => "hmac-sha512",
        "jwt-es256" => "ecdsa-p256-sha256",
        "jwt-eddsa" => "ed25519",
        other => other,
    };
    Algorithm::named(name).unwrap()
}

/// Who signs in a dialect.
pub(crate) struct Client {
    pub(crate) dialect: Arc<Dialect>,
    pub(crate) algorithm: Algorithm,
    secret: String,
    signer: Signer,
}

impl Client {
    /// One with a shared secret, where the dialect has such.
    pub(crate) fn of(dialect: &Arc<Dialect>) -> Self {
        let symmetric = dialect.algorithms().find(|algorithm| algorithm.is_symmetric());
        let secret = match (symmetric, dialect.secret_form()) {
            // Seed and point of a pair that was made for tests.
            (None, _) => {
                "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8DoQe/884Qvh1w3RjnS8CZZ+TWMJulDV8d3IZkElUxuA=="
            }
            (Some(_), SecretForm::Text) => SECRET,
            (Some(_), SecretForm::Base64) => "c2VjcmV0IGJ5dGVzIG9mIGEga2V5IHRoYXQgaXMgbm9ib2R5J3M=",
        };
        Self::with(dialect, symmetric.unwrap_or(Algorithm::Ed25519), secret)
    }

    fn with(dialect: &Arc<Dialect>, algorithm: Algorithm, secret: &str) -> Self {
        let signer = dialect.read_signer(algorithm, secret.as_bytes()).unwrap();
        let dialect = Arc::clone(dialect);
        Self { dialect, algorithm, secret: secret.to_owned(), signer }
    }

    /// Those with RSA and ECDSA keys, as far as recordings hold some.
    pub(crate) fn with_costly_keys(dialect: &Arc<Dialect>) -> Vec<Self> {
        let mut found: BTreeMap<&str, Self> = BTreeMap::new();
        for request in recordings(dialect) {
            let algorithm = algorithm_of(&request);
            if !algorithm.is_symmetric() && algorithm != Algorithm::Ed25519 {
                found
                    .entry(algorithm.name())
                    .or_insert_with(|| Self::with(dialect, algorithm, &request.secret));
            }
        }
        found.into_values().collect()
    }

    /// Signs the wish as a client would; `None` where the dialect cannot carry it.
    pub(crate) fn signed(&self, wish: &(Method, String, String)) -> Option<Recorded> {
        let (method, pairs, json) = wish;
        let json = &in_envelope(&self.dialect, pairs).unwrap_or_else(|| json.clone());
        let json_later = pairs.len() % 2 == 0;
        // What a dialect cannot carry it refuses to sign, so the first that it takes is its way.
        let mut ways = if *method == Method::GET {
            vec![(&**pairs, ""), ("", "")]
        } else if *method == Method::DELETE {
            vec![(&**pairs, ""), ("", &**pairs), ("", &**json)]
        } else if json_later {
            vec![("", &**pairs), ("", &**json), (&**pairs, "")]
        } else {
            vec![("", &**json), ("", &**pairs), (&**pairs, "")]
        };
        if takes_only_forms(&self.dialect) {
            ways.retain(|(_, body)| !body.starts_with('{'));
        }
        let tries = ways.iter().map(|way| (method, *way));
        // Some dialects sign nothing but a body.
        let mut tries =
            tries.chain([(&Method::POST, ("", &**pairs)), (&Method::POST, ("", &**json))]);
        tries.find_map(|(method, (query, body))| self.sign(method, query, body))
    }

    /// Signs just this; `None` where the dialect cannot carry it.
    pub(crate) fn sign(&self, method: &Method, query: &str, body: &str) -> Option<Recorded> {
        let passphrase = self.dialect.has_passphrase().then_some(PASSPHRASE);
        let by = Credentials { key_id: KEY, signer: &self.signer, passphrase };
        let draft = Draft {
            method: method.clone(),
            path: path(&self.dialect),
            query,
            body,
            host: "api.example",
            window_ms: None,
            lead_ms: 5_000,
            nonce: None,
        };
        let signed = self.dialect.sign(&draft, &by, Micros::from_millis(NOW_MS)).ok()?;
        Some(self.recorded(signed))
    }

    fn recorded(&self, signed: SignedRequest) -> Recorded {
        let text = |value: &http::HeaderValue| value.to_str().unwrap().to_owned();
        let sent = signed.headers.iter().map(|(name, value)| (name.to_string(), text(value)));
        let host = ("host".to_owned(), "api.example".to_owned());
        Recorded {
            dialect: self.dialect.name().to_string(),
            method: signed.method.to_string(),
            target: signed.target,
            headers: sent.chain([host]).collect::<BTreeMap<_, _>>(),
            body: signed.body,
            key: KEY.to_owned(),
            secret: self.secret.clone(),
            passphrase: self.dialect.has_passphrase().then(|| PASSPHRASE.to_owned()),
            now_ms: NOW_MS,
            algorithm: self.algorithm.name().to_owned(),
            expect: None,
            strict_expect: None,
        }
    }
}

/// What a client may wish to send: a method, and parameters for query or body.
pub(crate) fn wish() -> impl Strategy<Value = (Method, String, String)> {
    wish_of("([A-Za-z0-9._~,:/-]|%20|%2B|%3D|%C3%A9|\\+){0,12}")
}

/// The same, with more of what lenient readings take for spellings of each other.
pub(crate) fn bare_wish() -> impl Strategy<Value = (Method, String, String)> {
    wish_of("([A-Za-z0-9,']|%20|%2B|%3D|%27|%26|%2C|\\+|;| | & |&|=|=b|%C3%A9){0,8}")
}

fn wish_of(value: &'static str) -> impl Strategy<Value = (Method, String, String)> {
    let name = "[a-zA-Z][a-zA-Z0-9]{0,8}";
    let pairs = prop::collection::vec((name, value), 0..5).prop_map(|pairs| {
        pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
    });
    let json =
        prop::collection::vec((name, "[A-Za-z0-9 .+&=?{}é-]{0,12}"), 0..5).prop_map(|pairs| {
            let all: Vec<_> =
                pairs.iter().map(|(name, value)| format!("\"{name}\":\"{value}\"")).collect();
            format!("{{{}}}", all.join(","))
        });
    (prop::sample::select(vec![Method::GET, Method::POST, Method::DELETE]), pairs, json)
}

/// The values of the pairs as parameters that Crypto.com has.
fn in_envelope(dialect: &Dialect, pairs: &str) -> Option<String> {
    if &**dialect.name() != "cryptocom" {
        return None;
    }
    let names = ["client_oid", "instrument_name", "price", "quantity", "side"];
    let values = pairs.split('&').filter_map(|pair| pair.split_once('='));
    let members =
        names.iter().zip(values).map(|(name, (_, value))| format!("\"{name}\":\"{value}\""));
    Some(format!("{{\"params\":{{{}}}}}", members.collect::<Vec<_>>().join(",")))
}

/// Whether JSON would be taken for one odd parameter.
fn takes_only_forms(dialect: &Dialect) -> bool {
    ["binance", "mexc", "bitstamp"].contains(&&**dialect.name())
}

/// A path that the dialect's clients use.
fn path(dialect: &Dialect) -> &'static str {
    match &**dialect.name() {
        "phemex" => "/spot/orders",
        "cryptocom" => "/exchange/v1/private/create-order",
        _ => "/api/order",
    }
}
