//! The keys that an identity provider publishes: one of the test's own on TLS, which changes its keys, breaks, and lies.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

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
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsAcceptor;

use super::support::{Answer, NOW};

/// What the provider does when it is asked for its keys.
#[derive(Clone, Copy, Debug)]
enum Mood {
    Good,
    Failing,
    Elsewhere,
    Large,
    NoSet,
    Empty,
    Shared,
    Foreign,
    Plain,
}

struct Key {
    id: &'static str,
    pair: EcdsaKeyPair,
}

impl Key {
    fn new(id: &'static str) -> Self {
        let random = SystemRandom::new();
        let scheme = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let made = EcdsaKeyPair::generate_pkcs8(scheme, &random).unwrap();
        Self { id, pair: EcdsaKeyPair::from_pkcs8(scheme, made.as_ref(), &random).unwrap() }
    }

    fn published(&self) -> Value {
        let part =
            |from: usize| BASE64URL_NOPAD.encode(&self.pair.public_key().as_ref()[from..from + 32]);
        json!({"kty": "EC", "crv": "P-256", "use": "sig", "kid": self.id, "x": part(1), "y": part(33)})
    }

    fn token(&self, issuer: &str, head: &Value) -> String {
        let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        let now = NOW.0 / 1_000_000;
        let claims = json!({
            "iss": issuer, "sub": "ann", "aud": "countersign", "exp": now + 86_000, "groups": ["ops"],
        });
        let signed = format!("{}.{}", part(head), part(&claims));
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", BASE64URL_NOPAD.encode(signature.as_ref()))
    }
}

struct Provider {
    issuer: String,
    keys: Mutex<Vec<Value>>,
    mood: Mutex<Mood>,
    asked: AtomicUsize,
    directory: tempfile::TempDir,
}

impl Provider {
    async fn start() -> Arc<Self> {
        let directory = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(directory.path().join("ca.pem"), made.cert.pem()).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let ring = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(ring)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = tokio::net::TcpListener::bind("localhost:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let provider = Arc::new(Self {
            issuer: format!("https://localhost:{port}"),
            keys: Mutex::default(),
            mood: Mutex::new(Mood::Good),
            asked: AtomicUsize::new(0),
            directory,
        });
        let serving = Arc::clone(&provider);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (serving, acceptor) = (Arc::clone(&serving), acceptor.clone());
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    let mut read = Vec::new();
                    while !read.ends_with(b"\r\n\r\n") {
                        let Ok(byte) = stream.read_u8().await else { return };
                        read.push(byte);
                    }
                    let answer = serving.answer(&String::from_utf8(read).unwrap());
                    // Whoever refuses a large answer hangs up in the middle of it.
                    let _ = stream.write_all(answer.as_bytes()).await;
                    let _ = stream.shutdown().await;
                });
            }
        });
        provider
    }

    fn publish(&self, keys: &[&Key]) {
        *self.keys.lock().unwrap() = keys.iter().map(|key| key.published()).collect();
    }

    fn answer(&self, asked: &str) -> String {
        let mood = *self.mood.lock().unwrap();
        let answer = |head: &str, body: &str| {
            format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
        };
        if asked.starts_with("GET /.well-known/openid-configuration ") {
            let is_foreign = matches!(mood, Mood::Foreign);
            let issuer = if is_foreign { "https://evil.example" } else { &self.issuer };
            let scheme = if matches!(mood, Mood::Plain) { "http" } else { "https" };
            let keys = format!("{}/keys", self.issuer).replacen("https", scheme, 1);
            let body = json!({"issuer": issuer, "jwks_uri": keys}).to_string();
            return answer("200 OK", &body);
        }
        assert!(asked.starts_with("GET /keys "), "{asked}");
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mut keys = self.keys.lock().unwrap().clone();
        match mood {
            Mood::Failing => return answer("500 Oh", ""),
            Mood::Elsewhere => return answer("302 Found\r\nlocation: /keys", ""),
            Mood::NoSet => return answer("200 OK", "<html>"),
            Mood::Empty => keys.clear(),
            Mood::Shared => keys = vec![json!({"kty": "oct", "kid": "a", "k": "c2VjcmV0"})],
            Mood::Good | Mood::Large | Mood::Foreign | Mood::Plain => {}
        }
        let mut body = json!({ "keys": keys }).to_string();
        if matches!(mood, Mood::Large) {
            body.push_str(&" ".repeat(256 << 10));
        }
        answer("200 OK", &body)
    }
}

struct Site {
    provider: Arc<Provider>,
    clock: Arc<ManualClock>,
    address: SocketAddr,
}

impl Site {
    /// A gateway whose configuration says `jwks` so.
    async fn start(provider: &Arc<Provider>, jwks: &str) -> Self {
        let text = provider_text(&provider.issuer, jwks);
        let mut config = parse(&text, provider.directory.path()).unwrap();
        let clock = Arc::new(ManualClock::at(NOW));
        let shared: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
        let registrar = Registrar::new(
            Arc::new(Embedded::in_memory().unwrap()),
            MasterKeys::gather(None, None).unwrap(),
            Arc::new(Names::of(&config)),
            Arc::clone(&shared),
            None,
        );
        let facts =
            Facts { started: NOW, four_eyes: Vec::new(), issuer: "test".into(), gateway: None };
        let desk = Desk { clock: shared, registrar, trail: None, facts };
        let access =
            Access::new(Vec::new(), Vec::new(), std::mem::take(&mut config.admin.providers));
        let api = AdminApi::new(desk, access, Arc::new(LogAlone)).unwrap();
        let labels = Labels {
            routes: &[],
            upstreams: &[],
            dialects: &[],
            stores: &["memory"],
            listeners: &[],
        };
        let metrics = Arc::new(Metrics::new(&labels).unwrap());
        let state =
            AdminState::new(metrics, Readiness::starting(), Vec::new()).with_api(api.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve_at(Door::Tcp(listener), state, std::future::pending()));
        tokio::spawn(async move { api.follow_providers().await });
        Self { provider: Arc::clone(provider), clock, address }
    }

    /// The status that a token of `key` gets.
    async fn status(&self, key: &Key) -> u16 {
        self.status_of(&key.token(&self.provider.issuer, &json!({"alg": "ES256", "kid": key.id})))
            .await
    }

    async fn status_of(&self, token: &str) -> u16 {
        let ask = format!(
            "GET /v1/whoami HTTP/1.1\r\nhost: a\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\r\n"
        );
        let mut stream = tokio::net::TcpStream::connect(self.address).await.unwrap();
        stream.write_all(ask.as_bytes()).await.unwrap();
        let mut said = Vec::new();
        stream.read_to_end(&mut said).await.unwrap();
        Answer::read(&said).status
    }

    fn asked(&self) -> usize {
        self.provider.asked.load(Ordering::SeqCst)
    }
}

const DISCOVER: &str = "jwks = \"discover\"\nca = \"ca.pem\"\nalgorithms = [\"ES256\"]";
const MINUTE: Duration = Duration::from_mins(1);

fn provider_text(issuer: &str, jwks: &str) -> String {
    format!(
        "{DEMO}\n[[admin.provider]]\nissuer = \"{issuer}\"\naudience = \"countersign\"\nrole_claim = \"groups\"\n\
         roles = {{ ops = \"operator\" }}\n{jwks}\n"
    )
}

fn parse(text: &str, directory: &Path) -> Result<Config, String> {
    let parsed = Config::parse(text, &directory.join("gateway.toml"), &System);
    parsed.map(|loaded| loaded.config).map_err(|refused| refused.to_string())
}

#[tokio::test]
async fn a_key_that_was_published_since_proves_at_once_and_one_that_was_withdrawn_no_more() {
    let provider = Provider::start().await;
    let named = DISCOVER.replace("discover", &format!("{}/keys", provider.issuer));
    for jwks in [DISCOVER, &named] {
        let (first, second) = (Key::new("first"), Key::new("second"));
        provider.publish(&[&first]);
        let site = Site::start(&provider, jwks).await;
        assert_eq!(site.status(&first).await, 200, "{jwks}");
        site.clock.advance(MINUTE);
        assert_eq!(site.status(&second).await, 401, "the control: {jwks}");
        site.clock.advance(MINUTE);
        provider.publish(&[&first, &second]);
        assert_eq!(site.status(&second).await, 200, "{jwks}");
        assert_eq!(site.status(&first).await, 200, "{jwks}");
        site.clock.advance(MINUTE);
        provider.publish(&[&second]);
        // What has keys read is a token that names one that is not known.
        assert_eq!(site.status(&Key::new("third")).await, 401);
        assert_eq!(site.status(&first).await, 401, "{jwks}");
        assert_eq!(site.status(&second).await, 200, "{jwks}");
    }
}

#[tokio::test]
async fn a_key_of_the_same_name_proves_nothing() {
    let provider = Provider::start().await;
    let key = Key::new("a");
    provider.publish(&[&key]);
    let site = Site::start(&provider, DISCOVER).await;
    assert_eq!(site.status(&Key::new("a")).await, 401);
    assert_eq!(site.status(&key).await, 200);
}

#[tokio::test]
async fn tokens_that_name_unknown_keys_have_them_read_once_a_minute() {
    let provider = Provider::start().await;
    let key = Key::new("known");
    provider.publish(&[&key]);
    let site = Site::start(&provider, DISCOVER).await;
    assert_eq!(site.status(&key).await, 200);
    site.clock.advance(MINUTE);
    let before = site.asked();
    for _ in 0..4 {
        assert_eq!(site.status(&Key::new("unknown")).await, 401);
    }
    assert_eq!(site.asked(), before + 1);
    site.clock.advance(MINUTE.saturating_sub(Duration::from_micros(1)));
    assert_eq!(site.status(&Key::new("unknown")).await, 401);
    assert_eq!(site.asked(), before + 1);
    site.clock.advance(Duration::from_micros(1));
    assert_eq!(site.status(&Key::new("unknown")).await, 401);
    assert_eq!(site.asked(), before + 2);
    // What could not be proved by any key has none read.
    site.clock.advance(MINUTE);
    let issuer = &provider.issuer;
    for token in [
        key.token("https://evil.example", &json!({"alg": "ES256", "kid": "unknown"})),
        key.token(issuer, &json!({"alg": "RS256", "kid": "unknown"})),
        key.token(issuer, &json!({"alg": "HS256", "kid": "unknown"})),
        key.token(issuer, &json!({"alg": "none", "kid": "unknown"})),
        key.token(issuer, &json!({"alg": "ES256"})),
    ] {
        assert_eq!(site.status_of(&token).await, 401, "{token}");
    }
    assert_eq!(site.asked(), before + 2);
}

#[tokio::test]
async fn keys_that_can_be_read_no_more_count_for_as_long_as_is_said() {
    let provider = Provider::start().await;
    let key = Key::new("a");
    provider.publish(&[&key]);
    let jwks = format!("{DISCOVER}\nrefresh = \"1m\"\nkeep = \"10m\"");
    let site = Site::start(&provider, &jwks).await;
    assert_eq!(site.status(&key).await, 200);
    *provider.mood.lock().unwrap() = Mood::Failing;
    site.clock.advance(10 * MINUTE);
    assert_eq!(site.status(&key).await, 200);
    site.clock.advance(Duration::from_micros(1));
    assert_eq!(site.status(&key).await, 401);
    *provider.mood.lock().unwrap() = Mood::Good;
    site.clock.advance(MINUTE);
    assert_eq!(site.status(&key).await, 200, "the control: once they can be read again");
}

#[tokio::test]
async fn a_provider_that_fails_or_lies_lets_nobody_in() {
    for mood in [
        Mood::Failing,
        Mood::Elsewhere,
        Mood::Large,
        Mood::NoSet,
        Mood::Empty,
        Mood::Shared,
        Mood::Foreign,
        Mood::Plain,
    ] {
        let provider = Provider::start().await;
        let key = Key::new("a");
        provider.publish(&[&key]);
        *provider.mood.lock().unwrap() = mood;
        let site = Site::start(&provider, DISCOVER).await;
        assert_eq!(site.status(&key).await, 401, "{mood:?}");
        *provider.mood.lock().unwrap() = Mood::Good;
        site.clock.advance(MINUTE);
        assert_eq!(site.status(&key).await, 200, "the control: {mood:?}");
    }
}

#[tokio::test]
async fn who_shows_another_certificate_is_not_believed() {
    let (provider, other) = (Provider::start().await, Provider::start().await);
    let key = Key::new("a");
    provider.publish(&[&key]);
    let ca = other.directory.path().join("ca.pem");
    std::fs::rename(provider.directory.path().join("ca.pem"), other.directory.path().join("right"))
        .unwrap();
    std::fs::copy(ca, provider.directory.path().join("ca.pem")).unwrap();
    let site = Site::start(&provider, DISCOVER).await;
    assert_eq!(site.status(&key).await, 401);
    assert_eq!(site.asked(), 0);
}

#[tokio::test]
async fn a_file_of_keys_is_read_again_when_it_was_changed() {
    let provider = Provider::start().await;
    let file = provider.directory.path().join("keys.json");
    let write = |keys: &[&Key]| {
        let keys: Vec<_> = keys.iter().map(|key| key.published()).collect();
        std::fs::write(&file, json!({ "keys": keys }).to_string()).unwrap();
    };
    let (first, second) = (Key::new("first"), Key::new("second"));
    write(&[&first]);
    let jwks = "jwks = { file = \"keys.json\" }\nalgorithms = [\"ES256\"]";
    let site = Site::start(&provider, jwks).await;
    assert_eq!(site.status(&first).await, 200);
    site.clock.advance(MINUTE);
    write(&[&second]);
    assert_eq!(site.status(&second).await, 200);
    assert_eq!(site.status(&first).await, 401);
}

#[test]
fn a_configuration_that_pins_nothing_or_trusts_a_plain_address_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(directory.path().join("ca.pem"), made.cert.pem()).unwrap();
    std::fs::write(directory.path().join("none.json"), "{\"keys\": []}").unwrap();
    let issuer = "https://id.example";
    parse(&provider_text(issuer, DISCOVER), directory.path()).unwrap();
    for (jwks, said) in [
        ("jwks = \"discover\"\nca = \"ca.pem\"", "`algorithms` is missing"),
        ("jwks = \"discover\"\nca = \"ca.pem\"\nalgorithms = []", "no algorithm is allowed"),
        ("jwks = \"discover\"\nca = \"ca.pem\"\nalgorithms = [\"none\"]", "\"none\""),
        ("jwks = \"discover\"\nca = \"ca.pem\"\nalgorithms = [\"HS256\"]", "\"HS256\""),
        (
            "jwks = \"http://id.example/k\"\nca = \"ca.pem\"\nalgorithms = [\"ES256\"]",
            "https address",
        ),
        ("jwks = \"discover\"\nca = \"none.pem\"\nalgorithms = [\"ES256\"]", "none.pem"),
        ("jwks = { file = \"gone.json\" }\nalgorithms = [\"ES256\"]", "cannot be read"),
        ("jwks = { file = \"none.json\" }\nalgorithms = [\"ES256\"]", "no key in it"),
        ("algorithms = [\"ES256\"]", "counts only for keys"),
        (&format!("{DISCOVER}\nrefresh = \"10m\"\nkeep = \"10m\""), "longer than `refresh`"),
        (&format!("{DISCOVER}\nrefresh = \"1s\""), "is not from"),
        ("", "no key to verify"),
    ] {
        let refused = parse(&provider_text(issuer, jwks), directory.path()).unwrap_err();
        assert!(refused.contains(said), "{jwks}: {refused}");
    }
    let plain = provider_text("http://id.example", DISCOVER);
    assert!(parse(&plain, directory.path()).unwrap_err().contains("https"));
}
