//! What signs: for clients, the load tester, and what the gateway proves to backends.

use ed25519_dalek::Signer as _;
use hmac::Mac;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RSA_PSS_SHA512, RsaEncoding, RsaKeyPair};

use super::Opener;
use crate::key::{Algorithm, Material, Secret, Signer, SignerMaterial};

/// Signs `message`: for clients, the load tester, and what the gateway proves to backends.
pub(crate) fn sign(signer: &Signer, message: &[u8]) -> Option<(Algorithm, Vec<u8>)> {
    match signer.open(&Opener(())) {
        SignerMaterial::Mac(secret) => Some((secret.algorithm(), mac(secret, &[message])?)),
        SignerMaterial::Ed25519(key) => {
            Some((Algorithm::Ed25519, key.sign(message).to_bytes().to_vec()))
        }
        SignerMaterial::Rsa(pair) => {
            Some((Algorithm::RsaSha256, sign_rsa(pair, &RSA_PKCS1_SHA256, message)?))
        }
        SignerMaterial::RsaPss(pair) => {
            Some((Algorithm::RsaPssSha512, sign_rsa(pair, &RSA_PSS_SHA512, message)?))
        }
        SignerMaterial::P256(pair) => {
            let signature = pair.sign(&SystemRandom::new(), message).ok()?;
            Some((Algorithm::EcdsaP256Sha256, signature.as_ref().to_vec()))
        }
    }
}

fn sign_rsa(
    pair: &RsaKeyPair,
    encoding: &'static dyn RsaEncoding,
    message: &[u8],
) -> Option<Vec<u8>> {
    let mut out = vec![0; pair.public().modulus_len()];
    pair.sign(encoding, &SystemRandom::new(), message, &mut out).ok()?;
    Some(out)
}

/// The MAC of the pieces in a row; `None` for a secret that is no MAC key.
pub(crate) fn mac(secret: &Secret, pieces: &[&[u8]]) -> Option<Vec<u8>> {
    match secret.open(&Opener(())) {
        Material::HmacSha256(prepared) => {
            let mut mac = prepared.clone();
            for piece in pieces {
                mac.update(piece);
            }
            Some(mac.finalize().into_bytes().to_vec())
        }
        Material::HmacSha384(prepared) => {
            let mut mac = (**prepared).clone();
            for piece in pieces {
                mac.update(piece);
            }
            Some(mac.finalize().into_bytes().to_vec())
        }
        Material::HmacSha512(prepared) => {
            let mut mac = (**prepared).clone();
            for piece in pieces {
                mac.update(piece);
            }
            Some(mac.finalize().into_bytes().to_vec())
        }
        Material::Ed25519(_) | Material::Rsa(_) | Material::RsaPss(_) | Material::P256(_) => None,
    }
}

/// The MAC of the pieces in a row, for what is proved to backends; `None` for a secret that is no HMAC-SHA256 key.
#[cfg(feature = "server")]
pub(crate) fn sha256_mac(secret: &Secret, pieces: &[&[u8]]) -> Option<[u8; 32]> {
    match secret.open(&Opener(())) {
        Material::HmacSha256(prepared) => {
            let mut mac = prepared.clone();
            for piece in pieces {
                mac.update(piece);
            }
            Some(mac.finalize().into_bytes().into())
        }
        Material::HmacSha384(_)
        | Material::HmacSha512(_)
        | Material::Ed25519(_)
        | Material::Rsa(_)
        | Material::RsaPss(_)
        | Material::P256(_) => None,
    }
}
