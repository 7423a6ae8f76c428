//! Secrets: what a key signs or verifies with. They print nothing, and only the signature check opens them.

use std::fmt;

use ed25519_dalek::{SigningKey, VerifyingKey};
use hmac::{Hmac, KeyInit};
use ring::signature::RsaKeyPair;
use sha2::{Digest, Sha256, Sha384, Sha512};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::der;
use crate::checks::signature::Opener;

/// How a key signs. The key record fixes it; a request never chooses.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Algorithm {
    /// HMAC with SHA-256.
    HmacSha256,
    /// HMAC with SHA-384.
    HmacSha384,
    /// HMAC with SHA-512.
    HmacSha512,
    /// Ed25519, verified strictly: no small-order keys, no second spelling of a signature.
    Ed25519,
    /// RSASSA-PKCS1-v1_5 with SHA-256, 2048 bits or more.
    RsaSha256,
}

impl Algorithm {
    /// Every algorithm, with the name that recipes and configuration use.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::HmacSha256, "hmac-sha256"),
        (Self::HmacSha384, "hmac-sha384"),
        (Self::HmacSha512, "hmac-sha512"),
        (Self::Ed25519, "ed25519"),
        (Self::RsaSha256, "rsa-sha256"),
    ];

    /// The algorithm called `name`.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(algorithm, _)| *algorithm)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(algorithm, _)| *algorithm == self).map_or("", |(_, name)| name)
    }

    /// Whether both sides hold the same secret.
    pub const fn is_symmetric(self) -> bool {
        match self {
            Self::HmacSha256 | Self::HmacSha384 | Self::HmacSha512 => true,
            Self::Ed25519 | Self::RsaSha256 => false,
        }
    }

    /// The length of a signature in bytes, where it is the same for every key.
    pub const fn signature_len(self) -> Option<usize> {
        match self {
            Self::HmacSha256 => Some(32),
            Self::HmacSha384 => Some(48),
            Self::HmacSha512 | Self::Ed25519 => Some(64),
            Self::RsaSha256 => None,
        }
    }
}

/// Why something is no usable secret.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BadSecret {
    /// Empty.
    Empty,
    /// Neither PEM nor DER of the kind that the algorithm needs.
    Unreadable,
    /// An Ed25519 public key of small order: anyone could sign for it.
    WeakKey,
    /// An RSA modulus shorter than 2048 or longer than 8192 bits, or an exponent below 3.
    RsaSize,
}

impl fmt::Display for BadSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "it is empty",
            Self::Unreadable => "it is no PEM or DER key of the kind that the algorithm needs",
            Self::WeakKey => "it is a weak Ed25519 public key (small order)",
            Self::RsaSize => {
                "its RSA modulus is not 2048 to 8192 bits long, or its exponent is below 3"
            }
        })
    }
}

impl std::error::Error for BadSecret {}

/// What a gateway holds of a key: the prepared MAC key, or the public half.
///
/// The text of a shared secret is not kept: an HMAC key is absorbed into its two hash states at once.
pub struct Secret(Material);

pub(crate) enum Material {
    HmacSha256(Hmac<Sha256>),
    HmacSha384(Box<Hmac<Sha384>>),
    HmacSha512(Box<Hmac<Sha512>>),
    Ed25519(Box<VerifyingKey>),
    /// PKCS#1 `RSAPublicKey`, checked when made.
    Rsa(Box<[u8]>),
}

impl Secret {
    /// Reads what the configuration or registry holds: the secret bytes of an HMAC key, or the public key (PEM
    /// or DER) of an asymmetric one. A private key is taken for its public half.
    pub fn read(algorithm: Algorithm, bytes: &[u8]) -> Result<Self, BadSecret> {
        let (key, first) = (bytes, bytes.first());
        first.ok_or(BadSecret::Empty)?;
        let unreadable = |_| BadSecret::Unreadable;
        Ok(Self(match algorithm {
            Algorithm::HmacSha256 => {
                Material::HmacSha256(Hmac::new_from_slice(key).map_err(unreadable)?)
            }
            Algorithm::HmacSha384 => {
                Material::HmacSha384(Box::new(Hmac::new_from_slice(key).map_err(unreadable)?))
            }
            Algorithm::HmacSha512 => {
                Material::HmacSha512(Box::new(Hmac::new_from_slice(key).map_err(unreadable)?))
            }
            Algorithm::Ed25519 => {
                let point = der::ed25519_public(key).ok_or(BadSecret::Unreadable)?;
                let public = VerifyingKey::from_bytes(&point).map_err(|_| BadSecret::Unreadable)?;
                if public.is_weak() {
                    return Err(BadSecret::WeakKey);
                }
                Material::Ed25519(Box::new(public))
            }
            Algorithm::RsaSha256 => {
                let public = der::rsa_public(key).ok_or(BadSecret::Unreadable)?;
                der::rsa_is_strong(&public).ok_or(BadSecret::RsaSize)?;
                Material::Rsa(public)
            }
        }))
    }

    /// How this key signs.
    pub fn algorithm(&self) -> Algorithm {
        match &self.0 {
            Material::HmacSha256(_) => Algorithm::HmacSha256,
            Material::HmacSha384(_) => Algorithm::HmacSha384,
            Material::HmacSha512(_) => Algorithm::HmacSha512,
            Material::Ed25519(_) => Algorithm::Ed25519,
            Material::Rsa(_) => Algorithm::RsaSha256,
        }
    }

    /// Opens it, for the signature check alone: nobody else can make an [`Opener`].
    pub(crate) fn open(&self, _by: &Opener) -> &Material {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// The half that signs: held by clients, the load tester and whoever signs for backends.
pub struct Signer(SignerMaterial);

pub(crate) enum SignerMaterial {
    Mac(Secret),
    Ed25519(Box<SigningKey>),
    Rsa(Box<RsaKeyPair>),
}

impl Signer {
    /// Reads the secret bytes of an HMAC key, or a private key in PEM or PKCS#8 DER.
    pub fn read(algorithm: Algorithm, bytes: &[u8]) -> Result<Self, BadSecret> {
        Ok(Self(match algorithm {
            Algorithm::HmacSha256 | Algorithm::HmacSha384 | Algorithm::HmacSha512 => {
                SignerMaterial::Mac(Secret::read(algorithm, bytes)?)
            }
            Algorithm::Ed25519 => {
                let seed = der::ed25519_seed(bytes).ok_or(BadSecret::Unreadable)?;
                SignerMaterial::Ed25519(Box::new(SigningKey::from_bytes(&seed)))
            }
            Algorithm::RsaSha256 => {
                let der = der::unarmoured(bytes).ok_or(BadSecret::Unreadable)?;
                let pair = RsaKeyPair::from_pkcs8(&der).or_else(|_| RsaKeyPair::from_der(&der));
                SignerMaterial::Rsa(Box::new(pair.map_err(|_| BadSecret::Unreadable)?))
            }
        }))
    }

    /// Opens it, for the signature check alone.
    pub(crate) fn open(&self, _by: &Opener) -> &SignerMaterial {
        &self.0
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer(..)")
    }
}

/// A passphrase, kept as its SHA-256 digest.
pub struct Passphrase([u8; 32]);

impl Passphrase {
    /// Takes a passphrase in clear.
    pub fn new(clear: &str) -> Self {
        let clear = Zeroizing::new(clear.as_bytes().to_vec());
        Self(Sha256::digest(&*clear).into())
    }

    /// Whether `offered` is the passphrase, in constant time.
    pub(crate) fn is(&self, offered: &[u8]) -> bool {
        let offered: [u8; 32] = Sha256::digest(offered).into();
        self.0.ct_eq(&offered).into()
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_print_nothing() {
        let secret = Secret::read(Algorithm::HmacSha256, b"hunter2hunter2").unwrap();
        let signer = Signer::read(Algorithm::HmacSha256, b"hunter2hunter2").unwrap();
        let printed = format!("{secret:?} {signer:?} {:?}", Passphrase::new("hunter2hunter2"));
        assert_eq!(printed, "Secret(..) Signer(..) Passphrase(..)");
    }

    #[test]
    fn an_empty_secret_is_refused() {
        for (algorithm, name) in Algorithm::ALL {
            assert!(matches!(Secret::read(algorithm, b""), Err(BadSecret::Empty)), "{name}");
        }
    }

    #[test]
    fn small_order_ed25519_keys_are_refused() {
        let mut identity = [0; 32];
        identity[0] = 1;
        assert!(matches!(Secret::read(Algorithm::Ed25519, &identity), Err(BadSecret::WeakKey)));
        assert!(matches!(Secret::read(Algorithm::Ed25519, &[0; 32]), Err(BadSecret::WeakKey)));
    }
}
