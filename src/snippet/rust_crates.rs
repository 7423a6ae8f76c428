//! The crates that programs in Rust need, and what they import of them.

use std::fmt::Write as _;

use super::script::Script;
use crate::key::Algorithm;

/// The lines of a manifest that name them.
pub(super) fn crates(script: &Script, main: &str) -> String {
    let mut all = vec!["data-encoding = \"2\"", "ureq = \"3\""];
    if main.contains("uuid(") {
        all.push("getrandom = \"0.4\"");
    }
    if main.contains("rendered(") {
        all.push("serde_json = \"1\"");
    }
    if main.contains("pairs(") {
        all.push(ORDERED_JSON);
    }
    match script.algorithm {
        Algorithm::HmacSha256 | Algorithm::HmacSha384 | Algorithm::HmacSha512 => {
            all.push("hmac = \"0.13\"");
        }
        Algorithm::Ed25519 => {
            all.push("ed25519-dalek = { version = \"3\", features = [\"pem\"] }");
        }
        Algorithm::RsaSha256 | Algorithm::RsaPssSha512 | Algorithm::EcdsaP256Sha256 => {
            all.extend(["pem = \"4\"", "ring = { version = \"0.17\", features = [\"std\"] }"]);
        }
    }
    if main.contains("Sha256::") || main.contains("Sha512::") || script.has_mac() {
        all.push("sha2 = \"0.11\"");
    }
    all.sort_unstable();
    all.join("\n// ")
}

/// What a program imports, of those that its text mentions.
pub(super) fn imports(script: &Script, text: &str, out: &mut String) {
    let encodings: Vec<_> = ["BASE64", "BASE64URL_NOPAD", "HEXLOWER"]
        .into_iter()
        .filter(|name| text.contains(&format!("{name}.")))
        .collect();
    let digests = ["Sha256", "Sha384", "Sha512"]
        .into_iter()
        .filter(|name| text.contains(&format!("{name}>")) || text.contains(&format!("{name}::")));
    let digests: Vec<_> =
        text.contains("::digest(").then_some("Digest").into_iter().chain(digests).collect();
    out.push_str("use std::env;\n");
    if text.contains("SystemTime::") {
        out.push_str("use std::time::{SystemTime, UNIX_EPOCH};\n");
    }
    let _ = writeln!(out, "\nuse data_encoding::{};", list(&encodings));
    out.push_str(match script.algorithm {
        Algorithm::HmacSha256 | Algorithm::HmacSha384 | Algorithm::HmacSha512 => {
            "use hmac::{Hmac, KeyInit, Mac};\n"
        }
        Algorithm::Ed25519 => {
            "use ed25519_dalek::pkcs8::DecodePrivateKey;\nuse ed25519_dalek::{Signer, SigningKey};\n"
        }
        Algorithm::RsaSha256 => {
            "use ring::rand::SystemRandom;\nuse ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};\n"
        }
        Algorithm::RsaPssSha512 => {
            "use ring::rand::SystemRandom;\nuse ring::signature::{RSA_PSS_SHA512, RsaKeyPair};\n"
        }
        Algorithm::EcdsaP256Sha256 => {
            "use ring::rand::SystemRandom;\n\
             use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};\n"
        }
    });
    if !digests.is_empty() {
        let _ = writeln!(out, "use sha2::{};", list(&digests));
    }
    out.push('\n');
}

/// Names to import, in braces where there are several.
fn list(names: &[&str]) -> String {
    match names {
        [one] => (*one).to_owned(),
        several => format!("{{{}}}", several.join(", ")),
    }
}

/// Members stay in their order.
const ORDERED_JSON: &str = "serde_json = { version = \"1\", features = [\"preserve_order\"] }";
