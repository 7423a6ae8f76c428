//! The proof alone, that of which the checks are to be a small multiple.

use std::hint::black_box;

use countersign::key::Algorithm;
use ed25519_dalek::{Signature, VerifyingKey};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Sha256, Sha384, Sha512};

/// What proves the signed bytes alone.
pub(crate) enum Bare {
    Sha256(Hmac<Sha256>),
    Sha384(Hmac<Sha384>),
    Sha512(Hmac<Sha512>),
    Ed25519(Box<(VerifyingKey, Signature, Vec<u8>)>),
}

impl Bare {
    pub(crate) fn of(algorithm: Algorithm, secret: &[u8]) -> Self {
        match algorithm {
            Algorithm::HmacSha256 => Self::Sha256(Hmac::new_from_slice(secret).unwrap()),
            Algorithm::HmacSha384 => Self::Sha384(Hmac::new_from_slice(secret).unwrap()),
            Algorithm::HmacSha512 => Self::Sha512(Hmac::new_from_slice(secret).unwrap()),
            Algorithm::Ed25519 => {
                use ed25519_dalek::Signer as _;
                // The time depends on the length, which is that of a common token.
                let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
                let message = vec![b'x'; 500];
                let signature = key.sign(&message);
                Self::Ed25519(Box::new((key.verifying_key(), signature, message)))
            }
            Algorithm::RsaSha256 | Algorithm::RsaPssSha512 | Algorithm::EcdsaP256Sha256 => {
                panic!("{} has no bare proof here", algorithm.name())
            }
        }
    }

    pub(crate) fn prove(&self, signed: &[u8]) {
        fn mac<M: Mac + Clone>(prepared: &M, signed: &[u8]) {
            let mut mac = prepared.clone();
            mac.update(black_box(signed));
            black_box(mac.finalize());
        }
        match self {
            Self::Sha256(prepared) => mac(prepared, signed),
            Self::Sha384(prepared) => mac(prepared, signed),
            Self::Sha512(prepared) => mac(prepared, signed),
            Self::Ed25519(pair) => {
                let (key, signature, message) = &**pair;
                black_box(key.verify_strict(black_box(message), signature)).unwrap();
            }
        }
    }
}
