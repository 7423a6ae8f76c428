//! Every dialect under every algorithm, with keys, and what its clients ask.

use std::io::Write as _;
use std::process::{Command, Stdio};

use countersign::clock::Micros;
use countersign::dialect::{BUILTIN, Credentials, Dialect, Draft, NonceKind, TimeKind};
use countersign::key::Algorithm;
use countersign::load::ClientKey;
use countersign::snippet::Language;

use crate::Wire;
use crate::example::with_id;
use crate::keys::Pair;

/// Keys of a case, that sign in turn.
const KEYS: usize = 4;
pub(crate) const PASSPHRASE: &str = "a passphrase of 23 bytes";

/// One dialect and one algorithm.
pub(crate) struct Case {
    dialect: Dialect,
    pub(crate) algorithm: Algorithm,
    secret: String,
}

pub(crate) fn all() -> Vec<Case> {
    let dialects = BUILTIN.iter().map(|(_, recipe)| Dialect::compile(recipe).unwrap());
    let case = |dialect: Dialect| {
        let algorithms: Vec<_> = dialect.algorithms().collect();
        algorithms.into_iter().map(move |algorithm| Case {
            dialect: dialect.clone(),
            algorithm,
            secret: Pair::of(&dialect, algorithm, Language::Rust).own,
        })
    };
    dialects.flat_map(case).collect()
}

impl Case {
    pub(crate) fn name(&self) -> String {
        format!("{}-{}", self.dialect.name(), self.algorithm.name())
    }

    pub(crate) fn dialect(&self) -> Dialect {
        self.dialect.clone()
    }

    /// What the gateway is given of a key.
    pub(crate) fn kind(&self) -> &'static str {
        if self.algorithm.is_symmetric() { "secret" } else { "public_key" }
    }

    /// What the gateway checks with: the secret, or the public half.
    pub(crate) fn verifier(&self) -> String {
        if self.algorithm.is_symmetric() { self.secret.clone() } else { public_half(&self.secret) }
    }

    pub(crate) fn key_ids(&self) -> impl Iterator<Item = String> {
        // What one has sent is remembered of its secret, which all have in common: numbers would have to grow over all.
        let keys = if self.grows() { 1 } else { KEYS };
        // As long as those of Binance.
        (0..keys).map(|n| format!("{:0<62}{n:02}", self.name()))
    }

    pub(crate) fn client_keys(&self) -> Vec<ClientKey> {
        self.key_ids().map(|id| self.client_key(id)).collect()
    }

    /// Keys that the gateway does not know.
    pub(crate) fn strangers(&self) -> Vec<ClientKey> {
        self.key_ids().map(|id| self.client_key(id.replace("00", "11"))).collect()
    }

    fn client_key(&self, id: String) -> ClientKey {
        let passphrase = Some(PASSPHRASE.to_owned());
        let (secret, algorithm) = (self.secret.as_bytes(), self.algorithm.name());
        ClientKey::new(&self.dialect, id, secret, passphrase, Some(algorithm)).unwrap()
    }

    /// Whether a moment is signed, and not only a nonce.
    pub(crate) fn signs_time(&self) -> bool {
        self.dialect.time_kind() != TimeKind::None
    }

    /// Whether it is served so: tokens of Coinbase name `https` in what they sign.
    pub(crate) fn travels(&self, wire: Wire) -> bool {
        wire != Wire::Plain || &**self.dialect.name() != "coinbase_jwt"
    }

    /// Signatures of key pairs take longer to make than all else, and numbers that grow have to wait for each other.
    pub(crate) fn share(&self, requests: u64) -> u64 {
        if self.algorithm.is_symmetric() && !self.grows() { requests } else { requests.div_ceil(8) }
    }

    /// Numbers that must grow are sent one after the other.
    pub(crate) fn connections(&self) -> usize {
        if self.grows() { 1 } else { 16 }
    }

    fn grows(&self) -> bool {
        self.dialect.nonce_kind() == Some(NonceKind::Growing)
    }

    /// Mostly right, as traffic is.
    pub(crate) fn mix(&self) -> &'static str {
        if self.signs_time() {
            "valid=17,bad-sig=1,stale=1,replay=1"
        } else {
            "valid=18,bad-sig=1,replay=1"
        }
    }

    /// What the dialect can carry, each with a place for what makes it unlike all others: the recipe's own example, a
    /// query, a form, and JSON.
    pub(crate) fn requests(&self) -> Vec<(String, String)> {
        let example = self.dialect.example();
        let path = example.target.split('?').next().unwrap();
        let mut ways = vec![
            (format!("GET {path}?symbol=BTCUSDT&limit=100&id={{id}}"), String::new()),
            (
                format!("POST {path}"),
                "symbol=BTCUSDT&side=BUY&type=LIMIT&quantity=0.01&price=20000.5&id={id}".to_owned(),
            ),
            (
                format!("POST {path}"),
                "{\"symbol\":\"BTCUSDT\",\"side\":\"BUY\",\"qty\":0.01,\"id\":\"{id}\"}".to_owned(),
            ),
        ];
        // Crypto.com signs what stands in an object of its own, and nothing else.
        let has_own = &**self.dialect.name() == "cryptocom";
        ways.retain(|(head, body)| !has_own && self.carries(head, body));
        let (target, body) = with_id(example, "{id}");
        ways.push((format!("{} {target}", example.method), body));
        ways
    }

    /// Clients refuse to sign what would not be understood.
    fn carries(&self, head: &str, body: &str) -> bool {
        let (method, target) = head.split_once(' ').unwrap();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let signer = self.dialect.read_signer(self.algorithm, self.secret.as_bytes()).unwrap();
        let by = Credentials { key_id: "key", signer: &signer, passphrase: Some(PASSPHRASE) };
        let draft = Draft {
            method: method.parse().unwrap(),
            path,
            query,
            body,
            host: "127.0.0.1",
            window_ms: None,
            lead_ms: 5_000,
            nonce: None,
        };
        self.dialect.sign(&draft, &by, Micros::from_millis(1_700_000_000_000)).is_ok()
    }
}

/// The public half of a private key.
fn public_half(private: &str) -> String {
    let mut openssl = Command::new("openssl");
    openssl.args(["pkey", "-pubout"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut ran = openssl.spawn().expect("openssl tells the public half");
    ran.stdin.take().unwrap().write_all(private.as_bytes()).unwrap();
    let told = ran.wait_with_output().unwrap();
    assert!(told.status.success());
    String::from_utf8(told.stdout).unwrap()
}
