//! Tokens of an identity provider at the admin API: an issuer of the test's own, with keys for ECDSA and RSA, and whoever
//! forges.

use std::sync::Arc;

use countersign::admin::{
    Access, AdminApi, AdminState, Desk, Door, Facts, LogAlone, Readiness, serve_at,
};
use countersign::clock::{Clock, ManualClock};
use countersign::config::{Config, DEMO, System};
use countersign::key::sealing::MasterKeys;
use countersign::metrics::{Labels, Metrics};
use countersign::registrar::Registrar;
use countersign::registry::embedded::Embedded;
use countersign::registry::opened::Names;
use data_encoding::BASE64URL_NOPAD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::support::{Answer, NOW};

/// An issuer with one key of each kind, and the gateway that knows their public halves.
struct Issuer {
    ecdsa: EcdsaKeyPair,
    rsa: RsaKeyPair,
    /// PEM of the public halves: what a forger knows too.
    public: [String; 2],
    address: std::net::SocketAddr,
    _directory: tempfile::TempDir,
}

impl Issuer {
    async fn start() -> Self {
        let made = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let random = SystemRandom::new();
        let scheme = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let ecdsa = EcdsaKeyPair::from_pkcs8(scheme, made.serialized_der(), &random).unwrap();
        // A key that the vectors of a dialect were made with.
        let vectors = include_str!("../vectors/bybit.jsonl");
        let vector = vectors.lines().find(|line| line.contains("rsa-sha256")).unwrap();
        let vector: Value = serde_json::from_str(vector).unwrap();
        let private = vector["secret"].as_str().unwrap().replace("-----BEGIN PRIVATE KEY-----", "");
        let private: String =
            private.replace("-----END PRIVATE KEY-----", "").split_whitespace().collect();
        let private = data_encoding::BASE64.decode(private.as_bytes()).unwrap();
        let rsa = RsaKeyPair::from_pkcs8(&private).unwrap();
        let public = [made.public_key_pem(), vector["public_key"].as_str().unwrap().to_owned()];
        let directory = tempfile::tempdir().unwrap();
        for (name, pem) in ["ec.pem", "rsa.pem"].iter().zip(&public) {
            std::fs::write(directory.path().join(name), pem).unwrap();
        }
        let address = serve(directory.path()).await;
        Self { ecdsa, rsa, public, address, _directory: directory }
    }

    fn sign(&self, head: &Value, claims: &Value) -> String {
        let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        let signed = format!("{}.{}", part(head), part(claims));
        let random = SystemRandom::new();
        let signature = if head["kid"] == "rsa" {
            let mut signature = vec![0; self.rsa.public().modulus_len()];
            let done = self.rsa.sign(&RSA_PKCS1_SHA256, &random, signed.as_bytes(), &mut signature);
            done.unwrap();
            signature
        } else {
            self.ecdsa.sign(&random, signed.as_bytes()).unwrap().as_ref().to_vec()
        };
        format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature))
    }

    /// Who the gateway takes the bearer for; a status where it takes them for nobody.
    async fn who(&self, token: &str) -> Result<(String, String), u16> {
        let ask = format!(
            "GET /v1/whoami HTTP/1.1\r\nhost: a\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\r\n"
        );
        let mut stream = tokio::net::TcpStream::connect(self.address).await.unwrap();
        stream.write_all(ask.as_bytes()).await.unwrap();
        let mut said = Vec::new();
        stream.read_to_end(&mut said).await.unwrap();
        let answer = Answer::read(&said);
        if answer.status != 200 {
            assert!(!answer.text.contains("kid") && !answer.text.contains("signature"));
            return Err(answer.status);
        }
        let text = |name: &str| answer.body[name].as_str().unwrap().to_owned();
        Ok((text("actor"), text("role")))
    }
}

/// A gateway with the provider as a configuration names it.
async fn serve(directory: &std::path::Path) -> std::net::SocketAddr {
    let text = format!(
        "{DEMO}\n
        [[admin.provider]]
        issuer = \"https://id.example\"
        audience = \"countersign\"
        role_claim = \"groups\"
        roles = {{ ops = \"operator\", sec = \"security\" }}
        [[admin.provider.key]]
        id = \"ec\"
        algorithm = \"ecdsa-p256-sha256\"
        public_key = {{ file = \"ec.pem\" }}
        [[admin.provider.key]]
        id = \"rsa\"
        algorithm = \"rsa-sha256\"
        public_key = {{ file = \"rsa.pem\" }}
        "
    );
    let config = Config::parse(&text, &directory.join("gateway.toml"), &System);
    let mut config = config.unwrap_or_else(|refused| panic!("{refused}")).config;
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(NOW));
    let registrar = Registrar::new(
        Arc::new(Embedded::in_memory().unwrap()),
        MasterKeys::gather(None, None).unwrap(),
        Arc::new(Names::of(&config)),
        Arc::clone(&clock),
        None,
    );
    let facts = Facts { started: NOW, four_eyes: Vec::new(), issuer: "test".into(), gateway: None };
    let desk = Desk { clock, registrar, trail: None, facts };
    let providers = std::mem::take(&mut config.admin.providers);
    let access = Access::new(Vec::new(), Vec::new(), providers);
    let api = AdminApi::new(desk, access, Arc::new(LogAlone)).unwrap();
    let labels =
        Labels { routes: &[], upstreams: &[], dialects: &[], stores: &["memory"], listeners: &[] };
    let metrics = Arc::new(Metrics::new(&labels).unwrap());
    let state = AdminState::new(metrics, Readiness::starting(), Vec::new()).with_api(api);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve_at(Door::Tcp(listener), state, std::future::pending()));
    address
}

fn claims() -> Value {
    let now = NOW.0 / 1_000_000;
    json!({
        "iss": "https://id.example", "sub": "ann", "aud": "countersign", "exp": now + 600,
        "iat": now, "groups": ["ops"],
    })
}

fn heads() -> [Value; 2] {
    [json!({"alg": "ES256", "kid": "ec"}), json!({"alg": "RS256", "kid": "rsa"})]
}

#[tokio::test]
async fn a_token_of_either_kind_says_who_calls() {
    let issuer = Issuer::start().await;
    for head in heads() {
        let who = issuer.who(&issuer.sign(&head, &claims())).await;
        assert_eq!(who, Ok(("oidc:ann".to_owned(), "operator".to_owned())), "{head}");
    }
}

#[tokio::test]
async fn wrong_claims_are_refused_though_the_signature_holds() {
    let now = NOW.0 / 1_000_000;
    for (name, value) in [
        ("aud", json!("another")),
        ("aud", json!(["another", "one"])),
        ("iss", json!("https://id.example/")),
        ("exp", json!(now - 31)),
        ("exp", json!(null)),
        ("nbf", json!(now + 60)),
        ("groups", json!(["guests"])),
        ("sub", json!("")),
    ] {
        // Each with a gateway of its own, so that none is only kept waiting.
        let issuer = Issuer::start().await;
        for head in heads() {
            let mut claims = claims();
            claims[name] = value.clone();
            assert_eq!(issuer.who(&issuer.sign(&head, &claims)).await, Err(401), "{name} {head}");
            claims[name] = self::claims()[name].clone();
            if claims[name].is_null() {
                claims.as_object_mut().unwrap().remove(name);
            }
            assert!(issuer.who(&issuer.sign(&head, &claims)).await.is_ok(), "the control: {name}");
        }
    }
}

#[tokio::test]
async fn a_forger_who_knows_the_public_keys_is_refused() {
    let issuer = Issuer::start().await;
    let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let mut forged = Vec::new();
    // No signature at all.
    for alg in ["none", "None", "NONE", ""] {
        let signed = format!("{}.{}", part(&json!({"alg": alg, "kid": "ec"})), part(&claims()));
        forged.push(format!("{signed}."));
    }
    // The public key taken for a shared secret, in each form that a forger might try.
    for (kid, pem) in ["ec", "rsa"].iter().zip(&issuer.public) {
        let signed = format!("{}.{}", part(&json!({"alg": "HS256", "kid": kid})), part(&claims()));
        for secret in [pem.as_bytes(), pem.trim_end().as_bytes()] {
            let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
            let tag = ring::hmac::sign(&key, signed.as_bytes());
            forged.push(format!("{signed}.{}", BASE64URL_NOPAD.encode(tag.as_ref())));
        }
    }
    for token in forged {
        let refused = issuer.who(&token).await;
        assert!(matches!(refused, Err(401 | 429)), "{refused:?}: {token}");
    }
}

#[tokio::test]
async fn a_key_that_is_not_named_so_proves_nothing() {
    for head in [
        json!({"alg": "ES256", "kid": "unknown"}),
        json!({"alg": "ES256"}),
        json!({"alg": "RS256", "kid": "ec"}),
        json!({"alg": "ES256", "kid": "rsa"}),
        json!({"alg": "ES256", "kid": "ec", "crit": ["exp"]}),
    ] {
        let issuer = Issuer::start().await;
        assert_eq!(issuer.who(&issuer.sign(&head, &claims())).await, Err(401), "{head}");
    }
    // Nor does another issuer's, by the same name.
    let (ours, theirs) = (Issuer::start().await, Issuer::start().await);
    let [head, _] = heads();
    assert_eq!(ours.who(&theirs.sign(&head, &claims())).await, Err(401));
    assert!(ours.who(&ours.sign(&head, &claims())).await.is_ok());
}
