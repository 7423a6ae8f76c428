//! Reads the few shapes in which Ed25519, P-256 and RSA keys travel: PEM or DER, PKCS#8, SPKI, PKCS#1 or SEC 1.

use data_encoding::BASE64;
use ed25519_dalek::SigningKey;
use ring::agreement::{self, ECDH_P256, EphemeralPrivateKey};
use ring::signature::{KeyPair as _, RsaKeyPair};
use zeroize::Zeroizing;

type Der = Zeroizing<Vec<u8>>;

/// The DER of the first key inside PEM armour, or the bytes themselves where there is none.
fn unarmoured(bytes: &[u8]) -> Option<Der> {
    let Some(text) = std::str::from_utf8(bytes).ok().filter(|text| text.contains("-----BEGIN"))
    else {
        return Some(Zeroizing::new(bytes.to_vec()));
    };
    let mut rest = text;
    loop {
        let (_, label) = rest.split_once("-----BEGIN ")?;
        let (label, after) = label.split_once("-----")?;
        let (body, after) = after.split_once("-----END ")?;
        // `openssl ecparam -genkey` writes the parameters of the curve before the key.
        if label.ends_with("KEY") {
            let body: Zeroizing<String> = Zeroizing::new(body.split_whitespace().collect());
            return BASE64.decode(body.as_bytes()).ok().map(Zeroizing::new);
        }
        rest = after;
    }
}

/// Whether `bytes` are plainly a private key: PEM that says so, or an Ed25519 pair in base64.
pub(super) fn is_plainly_private(bytes: &[u8]) -> bool {
    let mark = b"PRIVATE KEY";
    bytes.windows(mark.len()).any(|bytes| bytes == mark) || ed25519_pair(bytes).is_some()
}

/// The seed of an Ed25519 private key: PKCS#8 (RFC 8410), the 32 bytes themselves, or base64 of seed and point.
pub(super) fn ed25519_seed(bytes: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    if let Some(seed) = ed25519_pair(bytes) {
        return Some(seed);
    }
    let der = unarmoured(bytes)?;
    let seed = match der.strip_prefix(ED25519_PKCS8.as_slice()) {
        Some(rest) => rest.get(..32)?,
        None => &der,
    };
    Some(Zeroizing::new(seed.try_into().ok()?))
}

/// The seed out of base64 of seed and point, as Coinbase hands Ed25519 keys out; the point must be the seed's.
fn ed25519_pair(bytes: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let pair = (bytes.len() == 88).then(|| BASE64.decode(bytes).ok())?.map(Zeroizing::new)?;
    let (seed, point) = pair.split_first_chunk::<32>()?;
    let seed = Zeroizing::new(*seed);
    (SigningKey::from_bytes(&seed).verifying_key().as_bytes() == point).then_some(seed)
}

/// The point of an Ed25519 public key: SPKI (RFC 8410), the 32 bytes themselves, or the public half of a private
/// key.
pub(super) fn ed25519_public(bytes: &[u8]) -> Option<[u8; 32]> {
    if let Some(seed) = ed25519_pair(bytes) {
        return Some(SigningKey::from_bytes(&seed).verifying_key().to_bytes());
    }
    let der = unarmoured(bytes)?;
    if let Some(rest) = der.strip_prefix(ED25519_SPKI.as_slice()) {
        return rest.try_into().ok();
    }
    if der.starts_with(&ED25519_PKCS8) {
        let seed = ed25519_seed(&der)?;
        return Some(SigningKey::from_bytes(&seed).verifying_key().to_bytes());
    }
    der.as_slice().try_into().ok()
}

/// A P-256 key pair, as its scalar and its uncompressed point: SEC 1 (RFC 5915) or PKCS#8, both with the point in
/// them. Whether the two belong together is for the signer to find out.
pub(super) fn p256_pair(bytes: &[u8]) -> Option<(Zeroizing<[u8; 32]>, Point)> {
    let der = unarmoured(bytes)?;
    let (whole, rest) = element(0x30, &der)?;
    let (version, after) = element(0x02, whole)?;
    if !rest.is_empty() {
        return None;
    }
    let after = match version {
        [1] => after,
        [0] => {
            let (algorithm, after) = element(0x30, after)?;
            (algorithm == P256_OIDS).then_some(())?;
            let (inner, _) = element(0x04, after)?;
            let (inner, rest) = element(0x30, inner)?;
            let (version, after) = element(0x02, inner)?;
            (version == [1] && rest.is_empty()).then_some(())?;
            after
        }
        _ => return None,
    };
    let (scalar, after) = element(0x04, after)?;
    let after = match element(0xa0, after) {
        Some((curve, after)) => (curve == P256_OID).then_some(after)?,
        None => after,
    };
    let (public, _) = element(0xa1, after)?;
    let (bits, _) = element(0x03, public)?;
    let point = bits.strip_prefix(&[0])?.try_into().ok()?;
    Some((Zeroizing::new(scalar.try_into().ok()?), point))
}

/// The uncompressed point of a P-256 public key: SPKI (RFC 5480), the 65 bytes themselves, or the public half of a
/// private key.
pub(super) fn p256_public(bytes: &[u8]) -> Option<Point> {
    if let Some((_, point)) = p256_pair(bytes) {
        return Some(point);
    }
    let der = unarmoured(bytes)?;
    der.strip_prefix(P256_SPKI.as_slice()).unwrap_or(&der).try_into().ok()
}

/// Whether the point is one of the curve. P-256 has no small subgroup, so no such point is weak.
pub(super) fn p256_is_on_curve(point: &Point) -> bool {
    // An agreement is the one thing that looks at a point alone.
    let random = ring::rand::SystemRandom::new();
    let peer = agreement::UnparsedPublicKey::new(&ECDH_P256, point);
    EphemeralPrivateKey::generate(&ECDH_P256, &random)
        .and_then(|own| agreement::agree_ephemeral(own, &peer, |_| ()))
        .is_ok()
}

/// An uncompressed P-256 point: 4, x, y.
pub(crate) type Point = [u8; 65];

/// An RSA key pair: PKCS#8 or PKCS#1.
pub(super) fn rsa_pair(bytes: &[u8]) -> Option<RsaKeyPair> {
    let der = unarmoured(bytes)?;
    let pair = RsaKeyPair::from_pkcs8(&der).or_else(|_| RsaKeyPair::from_der(&der));
    // A pair whose PKCS#8 says that it is for RSASSA-PSS alone, with parameters left open (RFC 4055).
    pair.ok().or_else(|| {
        let (whole, _) = element(0x30, &der)?;
        let (_, after) = element(0x02, whole)?;
        let (algorithm, after) = element(0x30, after)?;
        (algorithm == PSS_OID).then_some(())?;
        RsaKeyPair::from_der(element(0x04, after)?.0).ok()
    })
}

/// The PKCS#1 `RSAPublicKey` of an RSA key: from SPKI, PKCS#1, or the public half of a private key.
pub(super) fn rsa_public(bytes: &[u8]) -> Option<Box<[u8]>> {
    if let Some(pair) = rsa_pair(bytes) {
        return Some(pair.public_key().as_ref().into());
    }
    let der = unarmoured(bytes)?;
    let (whole, rest) = element(0x30, &der)?;
    if !rest.is_empty() {
        return None;
    }
    if element(0x02, whole).is_some() {
        return Some(der.as_slice().into());
    }
    let (algorithm, rest) = element(0x30, whole)?;
    (algorithm.starts_with(&RSA_OID) || algorithm == PSS_OID).then_some(())?;
    let (bits, _) = element(0x03, rest)?;
    bits.strip_prefix(&[0]).map(Into::into)
}

/// Whether a PKCS#1 `RSAPublicKey` has 2048 to 8192 bits and an exponent of at least 3.
pub(super) fn rsa_is_strong(public: &[u8]) -> Option<()> {
    let (whole, _) = element(0x30, public)?;
    let (modulus, rest) = element(0x02, whole)?;
    let (exponent, _) = element(0x02, rest)?;
    let modulus = modulus.strip_prefix(&[0]).unwrap_or(modulus);
    let leading = usize::try_from(modulus.first()?.leading_zeros()).ok()?;
    let bits = modulus.len().checked_mul(8)?.checked_sub(leading)?;
    let at_least_three = exponent.len() > 1 || exponent.first().is_some_and(|e| *e >= 3);
    (at_least_three && (2048..=8192).contains(&bits)).then_some(())
}

/// Whether the modulus of a PKCS#1 `RSAPublicKey` is odd, and its exponent odd and no less than 65537 (FIPS 186-5).
#[cfg(feature = "server")]
pub(super) fn rsa_is_fit_for_keeping(public: &[u8]) -> bool {
    let numbers = || {
        let (modulus, rest) = element(0x02, element(0x30, public)?.0)?;
        Some((modulus, element(0x02, rest)?.0))
    };
    let is_odd = |number: &[u8]| number.last().is_some_and(|last| last & 1 == 1);
    numbers().is_some_and(|(modulus, exponent)| {
        let exponent = exponent.strip_prefix(&[0]).unwrap_or(exponent);
        is_odd(modulus) && is_odd(exponent) && exponent.len() >= 3
    })
}

/// The contents of the DER element with this tag at the front, and what follows it.
fn element(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x83 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    (found == tag).then_some(())?;
    rest.split_at_checked(length)
}

const ED25519_PKCS8: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];
const ED25519_SPKI: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// 1.2.840.113549.1.1.1, `rsaEncryption`.
const RSA_OID: [u8; 11] = [0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

/// 1.2.840.113549.1.1.10, `id-RSASSA-PSS`.
pub(super) const PSS_OID: [u8; 11] =
    [0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a];
/// 1.2.840.10045.3.1.7, `prime256v1`.
const P256_OID: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// `id-ecPublicKey` with `prime256v1`.
const P256_OIDS: [u8; 19] = [
    0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d,
    0x03, 0x01, 0x07,
];
const P256_SPKI: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_der_length_that_runs_past_the_end_is_no_element() {
        for broken in
            [&[0x30][..], &[0x30, 0x05, 1], &[0x30, 0x84, 0, 0, 0, 1, 1], &[0x30, 0x82, 1]]
        {
            assert_eq!(element(0x30, broken), None);
        }
        assert_eq!(element(0x30, &[0x30, 1, 7, 9]), Some((&[7][..], &[9][..])));
    }

    #[test]
    fn rsa_exponent_and_size_have_edges() {
        let key = |bits: usize, exponent: &[u8]| {
            let mut modulus = vec![0xff; bits / 8];
            modulus.insert(0, 0);
            let length = u16::try_from(modulus.len()).unwrap().to_be_bytes();
            let mut inner = [&[0x02, 0x82][..], &length, &modulus].concat();
            inner.extend([0x02, u8::try_from(exponent.len()).unwrap()]);
            inner.extend(exponent);
            let length = u16::try_from(inner.len()).unwrap().to_be_bytes();
            [&[0x30, 0x82][..], &length, &inner].concat()
        };
        for (bits, exponent, strong) in [
            (2040, &[3][..], false),
            (2048, &[3], true),
            (2048, &[1], false),
            (2048, &[1, 0, 1], true),
            (8192, &[1, 0, 1], true),
            (8200, &[1, 0, 1], false),
        ] {
            assert_eq!(
                rsa_is_strong(&key(bits, exponent)).is_some(),
                strong,
                "{bits} {exponent:?}"
            );
        }
    }
}
