//! Defeats weak and private keys where they come in: what an operator or holder uploads, before it is kept.

use std::fmt;

use super::{Algorithm, BadSecret, Secret, Signer, der};

/// Why an uploaded public key is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BadUpload {
    /// It is a private key, or holds one.
    Private,
    /// It is not one public key as PEM, with nothing around it.
    NotPem,
    /// It cannot be used, or is weak.
    Bad(BadSecret),
}

impl fmt::Display for BadUpload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Private => f.write_str("it is a private key"),
            Self::NotPem => f.write_str("it is not one public key as PEM"),
            Self::Bad(why) => why.fmt(f),
        }
    }
}

impl std::error::Error for BadUpload {}

/// The PEM of a public key that may be kept.
///
/// More is asked of it than of one that a request is verified with: an RSA exponent of 65537 or more that is odd, a
/// modulus that is odd, and an Ed25519 point in its one canonical form.
pub fn public_half(algorithm: Algorithm, text: &str) -> Result<String, BadUpload> {
    let text = text.trim();
    if Secret::is_plainly_private(text.as_bytes()) {
        return Err(BadUpload::Private);
    }
    let inner = text.strip_prefix("-----BEGIN ").and_then(|rest| rest.split_once("-----"));
    let (label, rest) = inner.ok_or(BadUpload::NotPem)?;
    let body = rest.strip_suffix("-----").and_then(|rest| rest.strip_suffix(label));
    let body = body.and_then(|rest| rest.strip_suffix("-----END ")).ok_or(BadUpload::NotPem)?;
    if !matches!(label, "PUBLIC KEY" | "RSA PUBLIC KEY") || body.contains("-----") {
        return Err(BadUpload::NotPem);
    }
    // A private key under a public label would be kept whole.
    if Signer::read(algorithm, text.as_bytes()).is_ok() {
        return Err(BadUpload::Private);
    }
    Secret::read(algorithm, text.as_bytes()).map_err(BadUpload::Bad)?;
    let sound = match algorithm {
        Algorithm::Ed25519 => der::ed25519_public(text.as_bytes()).is_some_and(|point| {
            let [first, .., last] = point;
            let middle = point.iter().skip(1).take(30).all(|byte| *byte == 0xff);
            !(middle && first >= 0xed && last & 0x7f == 0x7f)
        }),
        Algorithm::RsaSha256 | Algorithm::RsaPssSha512 => {
            der::rsa_public(text.as_bytes()).is_some_and(|key| der::rsa_is_fit_for_keeping(&key))
        }
        Algorithm::EcdsaP256Sha256
        | Algorithm::HmacSha256
        | Algorithm::HmacSha384
        | Algorithm::HmacSha512 => true,
    };
    if sound { Ok(format!("{text}\n")) } else { Err(BadUpload::Bad(BadSecret::WeakKey)) }
}

/// Whether a shared secret that was made elsewhere can hold 128 bits: by its length, its alphabet, and its not
/// repeating. What a person thought up may pass; what is plainly too little does not.
pub fn is_strong(secret: &[u8]) -> bool {
    let kept = || secret.iter().filter(|byte| **byte != b'-');
    let all = |of: fn(&u8) -> bool| kept().all(of);
    let bits_each = if all(u8::is_ascii_digit) {
        3.3
    } else if all(u8::is_ascii_hexdigit) {
        4.0
    } else if all(u8::is_ascii_lowercase) || all(u8::is_ascii_uppercase) {
        4.7
    } else if all(|byte| matches!(byte, 0x20..=0x7e)) {
        5.9
    } else {
        8.0
    };
    let length = u32::try_from(kept().count().min(4_096)).unwrap_or_default();
    let mut distinct: Vec<u8> = kept().copied().collect();
    distinct.sort_unstable();
    distinct.dedup();
    let repeats = (1..=secret.len() / 2)
        .any(|period| secret.iter().zip(secret.iter().skip(period)).all(|(a, b)| a == b));
    let mut steps: Vec<u8> =
        secret.iter().zip(secret.iter().skip(1)).map(|(a, b)| b.wrapping_sub(*a)).collect();
    steps.sort_unstable();
    let most = steps.chunk_by(|a, b| a == b).map(<[u8]>::len).max().unwrap_or_default();
    let counts = most * 2 > steps.len();
    f64::from(length) * bits_each >= 128.0 && distinct.len() >= 8 && !repeats && !counts
}

#[cfg(test)]
mod tests {
    use data_encoding::BASE64;

    use super::*;

    fn pem(label: &str, der: &[u8]) -> String {
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----", BASE64.encode(der))
    }

    fn ed25519(point: &[u8; 32]) -> String {
        let spki =
            [&[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00], &point[..]];
        pem("PUBLIC KEY", &spki.concat())
    }

    fn good() -> String {
        let pair = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
        ed25519(pair.verifying_key().as_bytes())
    }

    #[test]
    fn a_public_key_is_kept_and_a_private_one_is_not() {
        let kept = public_half(Algorithm::Ed25519, &format!("\n{}  \n", good())).unwrap();
        assert_eq!(kept, format!("{}\n", good()));
        let seed = [
            &[0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20][..],
            &[7; 32],
        ];
        let seed = seed.concat();
        for private in [
            pem("PRIVATE KEY", &seed),
            pem("PUBLIC KEY", &seed),
            format!("{}\n{}", pem("PRIVATE KEY", &seed), good()),
            pem("PUBLIC KEY", &[7; 32]),
        ] {
            assert_eq!(
                public_half(Algorithm::Ed25519, &private),
                Err(BadUpload::Private),
                "{private}"
            );
        }
    }

    #[test]
    fn what_is_not_one_public_key_as_pem_is_refused() {
        let twice = format!("{}\n{}", good(), good());
        for text in [
            "",
            "hunter2",
            good().strip_prefix('-').unwrap(),
            good().strip_suffix('-').unwrap(),
            &twice,
            &format!("hunter2 {}", good()),
        ] {
            assert_eq!(public_half(Algorithm::Ed25519, text), Err(BadUpload::NotPem), "{text}");
        }
    }

    #[test]
    fn points_for_which_anyone_could_sign_are_refused() {
        let mut order_eight = [0; 32];
        order_eight.copy_from_slice(
            &data_encoding::HEXLOWER
                .decode(b"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")
                .unwrap(),
        );
        let one = std::array::from_fn(|place| u8::from(place == 0));
        // The same point as `one`, as p + 1.
        let mut one_again = [0xff; 32];
        (one_again[0], one_again[31]) = (0xee, 0x7f);
        for point in [[0; 32], one, order_eight, one_again] {
            let refused = public_half(Algorithm::Ed25519, &ed25519(&point));
            assert!(matches!(refused, Err(BadUpload::Bad(_))), "{point:?}");
        }
    }

    #[test]
    fn no_second_spelling_of_a_point_is_kept() {
        for first in 0xed..=0xff {
            let mut point = [0xff; 32];
            (point[0], point[31]) = (first, 0x7f);
            assert!(matches!(
                public_half(Algorithm::Ed25519, &ed25519(&point)),
                Err(BadUpload::Bad(_))
            ));
        }
    }

    /// A PKCS#1 public key of a modulus that ends in `last`.
    fn rsa(bits: usize, last: u8, exponent: &[u8]) -> String {
        let mut modulus = vec![0xff; bits / 8];
        *modulus.last_mut().unwrap() = last;
        modulus.insert(0, 0);
        let length = u16::try_from(modulus.len()).unwrap().to_be_bytes();
        let mut inner = [&[0x02, 0x82][..], &length, &modulus].concat();
        inner.extend([0x02, u8::try_from(exponent.len()).unwrap()]);
        inner.extend(exponent);
        let length = u16::try_from(inner.len()).unwrap().to_be_bytes();
        pem("RSA PUBLIC KEY", &[&[0x30, 0x82][..], &length, &inner].concat())
    }

    #[test]
    fn rsa_keys_have_a_size_and_an_exponent_that_hold() {
        for (key, kept) in [
            (rsa(2048, 0xff, &[1, 0, 1]), true),
            (rsa(8192, 0xff, &[1, 0, 1]), true),
            (rsa(2040, 0xff, &[1, 0, 1]), false),
            (rsa(1024, 0xff, &[1, 0, 1]), false),
            (rsa(2048, 0xff, &[1]), false),
            (rsa(2048, 0xff, &[3]), false),
            (rsa(2048, 0xff, &[1, 0, 0]), false),
            (rsa(2048, 0xff, &[0, 0xff, 0xff]), false),
            (rsa(2048, 0xfe, &[1, 0, 1]), false),
        ] {
            for algorithm in [Algorithm::RsaSha256, Algorithm::RsaPssSha512] {
                assert_eq!(public_half(algorithm, &key).is_ok(), kept, "{key}");
            }
        }
    }

    #[test]
    fn a_point_off_its_curve_is_refused() {
        let spki = [
            0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06,
            0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
        ];
        let off = pem("PUBLIC KEY", &[&spki[..], &[9; 64]].concat());
        let refused = public_half(Algorithm::EcdsaP256Sha256, &off);
        assert_eq!(refused, Err(BadUpload::Bad(BadSecret::WeakKey)));
    }

    #[test]
    fn imported_secrets_must_be_able_to_hold_128_bits() {
        for (secret, strong) in [
            ("", false),
            ("hunter2", false),
            ("correcthorsebattery", false),
            ("0123456789abcdef0123456789abcdef", false),
            ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false),
            ("passwordpasswordpasswordpassword", false),
            ("abcdefghijklmnopqrstuvwxyzabcdef", false),
            ("48151623421081548151623421081542", false),
            ("d41d8cd98f00b204e9800998ecf8427", false),
            ("d41d8cd98f00b204e9800998ecf8427e", true),
            ("5e884898-da28-4715-b1d0-e56f8dc62927", true),
            ("vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvsw0MuIgwCIPy6utIco14y7Ju91duEh8A", true),
            (
                "kQH5HW/8p1uGOVjbgWA7FunAmGO8lsSUXNsu3eow76sz84Q18fWxnyRzBHCd3pd5nE9qa99HAZtuZuj6F1huXg==",
                true,
            ),
        ] {
            assert_eq!(is_strong(secret.as_bytes()), strong, "{secret}");
        }
    }
}
