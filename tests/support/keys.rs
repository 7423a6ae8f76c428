//! Keys of every algorithm, made anew for each run; key pairs in the forms in which exchanges hand them out.

use std::process::Command;
use std::sync::OnceLock;

use countersign::dialect::{Dialect, SecretForm};
use countersign::key::Algorithm;
use countersign::snippet::Language;

const TEXT: &str =
    "a secret that is longer than one block of SHA-256, so that it is hashed before it is used";
const OTHER_TEXT: &str = "another secret";
const BASE64: &str = "c2VjcmV0IG9mIHRoZSBzbmlwcGV0cw==";
const OTHER_BASE64: &str = "c2VjcmV0IG9mIHNvbWVib2R5IGVsc2U=";

/// A secret or a private key, and one that is not it.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) own: String,
    pub(crate) other: String,
}

impl Pair {
    /// What a client of the dialect would hold.
    pub(crate) fn of(dialect: &Dialect, algorithm: Algorithm, language: Language) -> Self {
        // Keys for tokens come in SEC 1, which ring does not read.
        let older = dialect.name().starts_with("coinbase") && language != Language::Rust;
        match (algorithm, dialect.secret_form()) {
            (Algorithm::HmacSha256 | Algorithm::HmacSha384 | Algorithm::HmacSha512, form) => {
                let (own, other) = match form {
                    SecretForm::Text => (TEXT, OTHER_TEXT),
                    SecretForm::Base64 => (BASE64, OTHER_BASE64),
                };
                Self { own: own.to_owned(), other: other.to_owned() }
            }
            (Algorithm::Ed25519, _) => made(&ED25519, "genpkey -algorithm ed25519"),
            (Algorithm::RsaSha256, _) => made(&PKCS1, "genrsa -traditional 2048"),
            (Algorithm::RsaPssSha512, _) => {
                made(&PKCS8, "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048")
            }
            (Algorithm::EcdsaP256Sha256, _) if older => {
                made(&SEC1, "ecparam -genkey -name prime256v1 -noout")
            }
            (Algorithm::EcdsaP256Sha256, _) => {
                made(&P256, "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256")
            }
        }
    }
}

static ED25519: OnceLock<Pair> = OnceLock::new();
static PKCS1: OnceLock<Pair> = OnceLock::new();
static PKCS8: OnceLock<Pair> = OnceLock::new();
static SEC1: OnceLock<Pair> = OnceLock::new();
static P256: OnceLock<Pair> = OnceLock::new();

/// Two keys of openssl's making.
fn made(once: &OnceLock<Pair>, command: &str) -> Pair {
    let make = || {
        let ran = Command::new("openssl").args(command.split(' ')).output();
        let ran = ran.expect("openssl makes the key pairs of this test");
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8(ran.stdout).unwrap()
    };
    once.get_or_init(|| Pair { own: make(), other: make() }).clone()
}
