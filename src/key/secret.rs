//! Secrets: what a key signs or verifies with. They print nothing, and only the signature check opens them.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};

use ed25519_dalek::{SigningKey, VerifyingKey};
use hmac::{Hmac, KeyInit, Mac};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RsaKeyPair};
use sha2::{Digest, Sha256, Sha384, Sha512};
use zeroize::Zeroizing;

use super::algorithm::Algorithm;
use super::der::{self, Point};
use crate::cache;
use crate::checks::equal::equal;
use crate::checks::signature::Opener;
use crate::clock::Micros;

/// Why something is no usable secret.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BadSecret {
    /// Empty.
    Empty,
    /// Not the base64 that secrets of the dialect are.
    NotBase64,
    /// Neither PEM nor DER of the kind that the algorithm needs.
    Unreadable,
    /// A public key of small order, for which anyone could sign, or one that is not on its curve.
    WeakKey,
    /// An RSA modulus shorter than 2048 or longer than 8192 bits, or an exponent below 3.
    RsaSize,
}

impl fmt::Display for BadSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "it is empty",
            Self::NotBase64 => "it is no base64 text (standard alphabet, with padding), as this dialect's secrets are",
            Self::Unreadable => "it is no PEM or DER key of the kind that the algorithm needs",
            Self::WeakKey => "it is a weak public key: of small order, or not on its curve",
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
pub struct Secret {
    material: Material,
    tag: [u8; 16],
    /// The text itself, for the one dialect that puts it behind the message (`CoinEx`).
    suffix: Option<Zeroizing<Box<[u8]>>>,
    /// Which one of its key's; 0 where that is not said.
    number: u32,
    /// When it last proved a request, in seconds; 0 where it never did.
    used: AtomicU32,
    /// Up to when that was told, likewise.
    told: AtomicU32,
}

pub(crate) enum Material {
    HmacSha256(Hmac<Sha256>),
    HmacSha384(Box<Hmac<Sha384>>),
    HmacSha512(Box<Hmac<Sha512>>),
    Ed25519(Box<VerifyingKey>),
    /// PKCS#1 `RSAPublicKey`, checked when made.
    Rsa(Box<[u8]>),
    /// The same, for RSASSA-PSS.
    RsaPss(Box<[u8]>),
    /// An uncompressed point, on the curve.
    P256(Box<Point>),
}

impl Secret {
    /// Reads what the configuration or registry holds: the secret bytes of an HMAC key, or the public key (PEM
    /// or DER) of an asymmetric one. A private key is taken for its public half.
    pub fn read(algorithm: Algorithm, bytes: &[u8]) -> Result<Self, BadSecret> {
        let (key, first) = (bytes, bytes.first());
        first.ok_or(BadSecret::Empty)?;
        let unreadable = |_| BadSecret::Unreadable;
        let material = match algorithm {
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
            Algorithm::RsaSha256 => Material::Rsa(rsa_public(key)?),
            Algorithm::RsaPssSha512 => Material::RsaPss(rsa_public(key)?),
            Algorithm::EcdsaP256Sha256 => {
                let point = der::p256_public(key).ok_or(BadSecret::Unreadable)?;
                if !der::p256_is_on_curve(&point) {
                    return Err(BadSecret::WeakKey);
                }
                Material::P256(Box::new(point))
            }
        };
        let tag = material.tag();
        Ok(Self {
            material,
            tag,
            suffix: None,
            number: 0,
            used: AtomicU32::new(0),
            told: AtomicU32::new(0),
        })
    }

    /// The same as one of its key's, counted from 1.
    #[must_use]
    pub fn numbered(self, number: u32) -> Self {
        Self { number, ..self }
    }

    /// Remembers that it proved a request.
    pub(crate) fn note_use(&self, now: Micros) {
        let second = u32::try_from(now.0 / 1_000_000).unwrap_or(u32::MAX);
        // What all workers read is written once a second at most.
        if self.used.load(Ordering::Relaxed) != second {
            self.used.store(second, Ordering::Relaxed);
        }
    }

    /// Its number, and when it was last used, where that was at least `coarse` seconds after what was last given out
    /// here.
    pub fn take_use(&self, coarse: u32) -> Option<(u32, Micros)> {
        let (used, told) = (self.used.load(Ordering::Relaxed), self.told.load(Ordering::Relaxed));
        if self.number == 0 || used < told.saturating_add(coarse) {
            return None;
        }
        self.told.store(used, Ordering::Relaxed);
        Some((self.number, Micros(u64::from(used) * 1_000_000)))
    }

    /// Reads a shared secret that also signs as the suffix of a message, and keeps it.
    pub(crate) fn read_suffix(algorithm: Algorithm, bytes: &[u8]) -> Result<Self, BadSecret> {
        let suffix = algorithm.is_symmetric().then(|| Zeroizing::new(bytes.into()));
        Ok(Self { suffix, ..Self::read(algorithm, bytes)? })
    }

    /// Tells this secret from every other, and nothing of it: what is spent under a secret is remembered by it.
    pub(crate) const fn tag(&self) -> [u8; 16] {
        self.tag
    }

    /// Whether `bytes` are plainly a private key, of which a gateway needs the public half alone.
    pub fn is_plainly_private(bytes: &[u8]) -> bool {
        der::is_plainly_private(bytes)
    }

    /// How this key signs.
    pub fn algorithm(&self) -> Algorithm {
        match &self.material {
            Material::HmacSha256(_) => Algorithm::HmacSha256,
            Material::HmacSha384(_) => Algorithm::HmacSha384,
            Material::HmacSha512(_) => Algorithm::HmacSha512,
            Material::Ed25519(_) => Algorithm::Ed25519,
            Material::Rsa(_) => Algorithm::RsaSha256,
            Material::RsaPss(_) => Algorithm::RsaPssSha512,
            Material::P256(_) => Algorithm::EcdsaP256Sha256,
        }
    }

    /// Opens it, for the signature check alone: nobody else can make an [`Opener`].
    pub(crate) fn open(&self, _by: &Opener) -> &Material {
        &self.material
    }

    /// The text that is the suffix of a message, where it was kept; for the signature check alone.
    pub(crate) fn suffix(&self, _by: &Opener) -> Option<&[u8]> {
        self.suffix.as_ref().map(|suffix| &***suffix)
    }
}

impl Material {
    /// 16 bytes of a MAC of a fixed text, or of a digest of the public key.
    fn tag(&self) -> [u8; 16] {
        match self {
            Self::HmacSha256(mac) => tag_of(mac.clone()),
            Self::HmacSha384(mac) => tag_of((**mac).clone()),
            Self::HmacSha512(mac) => tag_of((**mac).clone()),
            Self::Ed25519(public) => first_half(&Sha256::digest(public.as_bytes())),
            Self::Rsa(public) | Self::RsaPss(public) => first_half(&Sha256::digest(public)),
            Self::P256(public) => first_half(&Sha256::digest(public.as_slice())),
        }
    }
}

fn tag_of(mut mac: impl Mac) -> [u8; 16] {
    mac.update(b"countersign secret tag");
    first_half(&mac.finalize().into_bytes())
}

fn first_half(digest: &[u8]) -> [u8; 16] {
    digest.first_chunk().copied().unwrap_or_default()
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A PKCS#1 `RSAPublicKey` of decent size.
fn rsa_public(bytes: &[u8]) -> Result<Box<[u8]>, BadSecret> {
    let public = der::rsa_public(bytes).ok_or(BadSecret::Unreadable)?;
    der::rsa_is_strong(&public).ok_or(BadSecret::RsaSize)?;
    Ok(public)
}

/// The half that signs: held by clients, the load tester and whoever signs for backends.
pub struct Signer(SignerMaterial);

pub(crate) enum SignerMaterial {
    Mac(Secret),
    Ed25519(Box<SigningKey>),
    Rsa(Box<RsaKeyPair>),
    RsaPss(Box<RsaKeyPair>),
    P256(Box<EcdsaKeyPair>),
}

impl Signer {
    /// How it signs.
    pub fn algorithm(&self) -> Algorithm {
        match &self.0 {
            SignerMaterial::Mac(secret) => secret.algorithm(),
            SignerMaterial::Ed25519(_) => Algorithm::Ed25519,
            SignerMaterial::Rsa(_) => Algorithm::RsaSha256,
            SignerMaterial::RsaPss(_) => Algorithm::RsaPssSha512,
            SignerMaterial::P256(_) => Algorithm::EcdsaP256Sha256,
        }
    }

    /// Reads the secret bytes of an HMAC key, or a private key in PEM or DER.
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
                let pair = der::rsa_pair(bytes).ok_or(BadSecret::Unreadable)?;
                SignerMaterial::Rsa(Box::new(pair))
            }
            Algorithm::RsaPssSha512 => {
                let pair = der::rsa_pair(bytes).ok_or(BadSecret::Unreadable)?;
                SignerMaterial::RsaPss(Box::new(pair))
            }
            Algorithm::EcdsaP256Sha256 => {
                let (scalar, point) = der::p256_pair(bytes).ok_or(BadSecret::Unreadable)?;
                let pair = EcdsaKeyPair::from_private_key_and_public_key(
                    &ECDSA_P256_SHA256_FIXED_SIGNING,
                    &*scalar,
                    &point,
                    &SystemRandom::new(),
                );
                SignerMaterial::P256(Box::new(pair.map_err(|_| BadSecret::Unreadable)?))
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
///
/// It lies apart from its key, since most keys have none; only for whom the signature has proved is it looked at.
pub struct Passphrase(Box<Digests>);

/// One cache line.
#[repr(align(64))]
struct Digests {
    clear: [u8; 32],
    /// Of the other form in which it may come.
    keyed: Option<Box<Keyed>>,
}

struct Keyed {
    own: [u8; 32],
    /// The same under the secret that is on its way out.
    outgoing: Option<[u8; 32]>,
}

impl Passphrase {
    /// Takes a passphrase in clear.
    pub fn new(clear: &str) -> Self {
        let clear = Sha256::digest(clear).into();
        Self(Box::new(Digests { clear, keyed: None }))
    }

    /// Takes a passphrase in clear that may also come as its MAC under `secret`, in base64 (`KuCoin`).
    pub fn keyed(clear: &str, secret: &Secret) -> Self {
        let mut passphrase = Self::new(clear);
        let keyed = |own| Box::new(Keyed { own, outgoing: None });
        passphrase.0.keyed = mac_of(clear, secret).map(keyed);
        passphrase
    }

    /// The same passphrase, which may also come as its MAC under the secret that is on its way out.
    #[must_use]
    pub fn also_keyed(mut self, clear: &str, outgoing: &Secret) -> Self {
        if let Some(keyed) = &mut self.0.keyed {
            keyed.outgoing = mac_of(clear, outgoing);
        }
        self
    }

    /// Starts to bring it into the cache.
    pub(super) fn fetch(&self) {
        cache::fetch(&*self.0);
    }

    /// Whether `offered` is the passphrase, in the form that `keyed` says, in constant time.
    pub(crate) fn is(&self, offered: &[u8], keyed: bool) -> bool {
        let offered: [u8; 32] = Sha256::digest(offered).into();
        let is = |meant: &[u8; 32]| equal(meant, &offered);
        if !keyed {
            return is(&self.0.clear);
        }
        let is_either = |keyed: &Keyed| is(&keyed.own) | keyed.outgoing.as_ref().is_some_and(is);
        self.0.keyed.as_deref().is_some_and(is_either)
    }
}

/// The digest of a passphrase's MAC, in base64.
fn mac_of(clear: &str, secret: &Secret) -> Option<[u8; 32]> {
    let mac = crate::checks::signature::mac(secret, &[clear.as_bytes()])?;
    Some(Sha256::digest(&*Zeroizing::new(data_encoding::BASE64.encode(&mac))).into())
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::signature::sign;
    use crate::checks::signature::tests::accepts;

    #[test]
    fn secrets_print_nothing() {
        let secret = Secret::read(Algorithm::HmacSha256, b"hunter2hunter2").unwrap();
        let signer = Signer::read(Algorithm::HmacSha256, b"hunter2hunter2").unwrap();
        let printed = format!("{secret:?} {signer:?} {:?}", Passphrase::new("hunter2hunter2"));
        assert_eq!(printed, "Secret(..) Signer(..) Passphrase(..)");
    }

    #[test]
    fn a_passphrase_is_itself_or_its_mac_under_a_secret_that_is_good() {
        let read = |secret: &[u8]| Secret::read(Algorithm::HmacSha256, secret).unwrap();
        let [own, outgoing, other] =
            [b"0123456789abcdef", b"fedcba9876543210", b"aaaaaaaaaaaaaaaa"].map(|s| read(s));
        let mac = |secret| {
            let mac = crate::checks::signature::mac(secret, &[b"open"]).unwrap();
            data_encoding::BASE64.encode(&mac)
        };
        let [plain, keyed] = [Passphrase::new("open"), Passphrase::keyed("open", &own)];
        let rotated = Passphrase::keyed("open", &own).also_keyed("open", &outgoing);
        for (secret, good_for) in [(&own, [false, true, true]), (&outgoing, [false, false, true])] {
            let of = [&plain, &keyed, &rotated].map(|of| of.is(mac(secret).as_bytes(), true));
            assert_eq!(of, good_for);
        }
        for passphrase in [&plain, &keyed, &rotated] {
            assert!(passphrase.is(b"open", false));
            assert!(!passphrase.is(b"open", true) && !passphrase.is(mac(&own).as_bytes(), false));
            assert!(!passphrase.is(mac(&other).as_bytes(), true));
            assert!(
                ["", "ope", "opem", "Open", "open "]
                    .iter()
                    .all(|o| !passphrase.is(o.as_bytes(), false))
            );
        }
        let never_keyed = Passphrase::new("open").also_keyed("open", &outgoing);
        assert!(!never_keyed.is(mac(&outgoing).as_bytes(), true));
    }

    #[test]
    fn a_passphrase_is_one_cache_line() {
        assert_eq!((size_of::<Digests>(), size_of::<Option<Passphrase>>()), (64, 8));
    }

    #[test]
    fn an_empty_secret_is_refused() {
        for (algorithm, name) in Algorithm::ALL {
            assert!(matches!(Secret::read(algorithm, b""), Err(BadSecret::Empty)), "{name}");
        }
    }

    #[test]
    fn what_a_signer_signs_the_public_half_of_its_pem_verifies() {
        for (algorithm, pem, public) in [
            (Algorithm::EcdsaP256Sha256, P256_SEC1, P256_SPKI),
            (Algorithm::EcdsaP256Sha256, P256_PKCS8, P256_SPKI),
            (Algorithm::Ed25519, ED25519_PAIR, ED25519_SPKI),
        ] {
            let signer = Signer::read(algorithm, pem.as_bytes()).unwrap();
            let signature = sign(&signer, b"message").unwrap();
            for half in [pem, public] {
                let secret = Secret::read(algorithm, half.as_bytes()).unwrap();
                assert_eq!(secret.algorithm(), signature.0);
                let holds = |message: &[u8]| accepts(&secret, message, &signature.1);
                assert!(holds(b"message") && !holds(b"messag3"), "{half}");
            }
        }
    }

    #[test]
    fn the_parameters_before_an_elliptic_key_are_passed_over() {
        let parameters =
            "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
        let both = [parameters, P256_SEC1].concat();
        assert!(Signer::read(Algorithm::EcdsaP256Sha256, both.as_bytes()).is_ok());
        assert!(Secret::read(Algorithm::EcdsaP256Sha256, parameters.as_bytes()).is_err());
    }

    #[test]
    fn a_pair_whose_halves_do_not_belong_together_signs_nothing() {
        let other = P256_SEC1.replace("AwEHoUQDQgAE5E6F", "AwEHoUQDQgAE5E6G");
        assert_ne!(other, P256_SEC1);
        assert!(Signer::read(Algorithm::EcdsaP256Sha256, other.as_bytes()).is_err());
        let other = ED25519_PAIR.replacen("AAEC", "AAED", 1);
        assert!(Signer::read(Algorithm::Ed25519, other.as_bytes()).is_err());
    }

    #[test]
    fn a_point_off_the_curve_and_a_key_of_another_kind_are_refused() {
        let mut point = [7; 65];
        point[0] = 4;
        let read = |bytes: &[u8]| Secret::read(Algorithm::EcdsaP256Sha256, bytes).map(|_| ());
        assert_eq!(read(&point), Err(BadSecret::WeakKey));
        assert_eq!(read(&[4; 33]), Err(BadSecret::Unreadable));
        assert_eq!(read(ED25519_SPKI.as_bytes()), Err(BadSecret::Unreadable));
        let read = |bytes: &[u8]| Secret::read(Algorithm::Ed25519, bytes).map(|_| ());
        assert_eq!(read(P256_SPKI.as_bytes()), Err(BadSecret::Unreadable));
    }

    #[test]
    fn an_rsa_pair_signs_pss_whether_its_pkcs8_names_rsa_or_pss() {
        let recorded = include_str!("../../tests/vectors/binance.jsonl");
        let line = recorded.lines().find(|line| line.contains("rsa-sha256")).unwrap();
        let secret = line.split_once("\"secret\": \"").unwrap().1.split_once('"').unwrap().0;
        let body: String = secret.split("\\n").filter(|line| !line.contains("-----")).collect();
        let plain = data_encoding::BASE64.decode(body.as_bytes()).unwrap();
        // `rsaEncryption` with NULL becomes `id-RSASSA-PSS` with nothing: two bytes less.
        let mut pss = plain.clone();
        pss.splice(7..22, [&[0x30, 0x0b][..], &der::PSS_OID].concat());
        pss[3] -= 2;
        for pair in [plain, pss] {
            let signer = Signer::read(Algorithm::RsaPssSha512, &pair).unwrap();
            let secret = Secret::read(Algorithm::RsaPssSha512, &pair).unwrap();
            let (algorithm, signature) = sign(&signer, b"message").unwrap();
            assert_eq!(algorithm, Algorithm::RsaPssSha512);
            assert!(accepts(&secret, b"message", &signature));
            let other = Secret::read(Algorithm::RsaSha256, &pair).unwrap();
            assert!(!accepts(&other, b"message", &signature));
        }
    }

    #[test]
    fn private_keys_are_told_from_public_ones() {
        for private in [P256_SEC1, P256_PKCS8, ED25519_PAIR] {
            assert!(Secret::is_plainly_private(private.as_bytes()), "{private}");
        }
        for public in [P256_SPKI, ED25519_SPKI] {
            assert!(!Secret::is_plainly_private(public.as_bytes()), "{public}");
        }
    }

    #[test]
    fn small_order_ed25519_keys_are_refused() {
        let mut identity = [0; 32];
        identity[0] = 1;
        assert!(matches!(Secret::read(Algorithm::Ed25519, &identity), Err(BadSecret::WeakKey)));
        assert!(matches!(Secret::read(Algorithm::Ed25519, &[0; 32]), Err(BadSecret::WeakKey)));
    }

    // Made for tests and never used elsewhere.
    const P256_SEC1: &str = "-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIGDJucrbaecrTY98t8b88k9Y3QUVi3un9WfFFSTy4yUSoAoGCCqGSM49
AwEHoUQDQgAE5E6FPuLU09eMukL1Fu1nv0xWdIzhBHHuR/n2xM4sB4TJGeIkm1X9
qCSf0VFkvL6xdTnz97RUAHyxvWFD23+vJw==
-----END EC PRIVATE KEY-----
";
    const P256_PKCS8: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgYMm5yttp5ytNj3y3
xvzyT1jdBRWLe6f1Z8UVJPLjJRKhRANCAATkToU+4tTT14y6QvUW7We/TFZ0jOEE
ce5H+fbEziwHhMkZ4iSbVf2oJJ/RUWS8vrF1OfP3tFQAfLG9YUPbf68n
-----END PRIVATE KEY-----
";
    const P256_SPKI: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE5E6FPuLU09eMukL1Fu1nv0xWdIzh
BHHuR/n2xM4sB4TJGeIkm1X9qCSf0VFkvL6xdTnz97RUAHyxvWFD23+vJw==
-----END PUBLIC KEY-----
";
    const ED25519_PAIR: &str =
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8DoQe/884Qvh1w3RjnS8CZZ+TWMJulDV8d3IZkElUxuA==";
    const ED25519_SPKI: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAA6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=
-----END PUBLIC KEY-----
";
}
