//! Defeats the search for keys by time: unknown keys are checked against secrets of nobody.

use ed25519_dalek::SigningKey;

use crate::key::{Algorithm, Secret};

/// Secrets that nobody holds, one for each shape that a signature can have.
#[derive(Debug)]
pub struct Decoys {
    by_shape: Box<[(Shape, Secret)]>,
}

/// What can be told of a signature by its look: the algorithm it could be of, and its length in bytes.
pub(super) type Shape = (Algorithm, usize);

impl Decoys {
    /// Makes one decoy for each algorithm and length, from random bytes.
    pub fn new() -> Result<Self, getrandom::Error> {
        let mut random = [0; 64];
        let mut by_shape = Vec::new();
        for (algorithm, _) in Algorithm::ALL {
            getrandom::fill(&mut random)?;
            match algorithm {
                Algorithm::HmacSha256 | Algorithm::HmacSha384 | Algorithm::HmacSha512 => {
                    let length = algorithm.signature_len().unwrap_or_default();
                    let secret = Secret::read(algorithm, &random);
                    by_shape.extend(secret.ok().map(|secret| ((algorithm, length), secret)));
                }
                Algorithm::Ed25519 => {
                    let seed: [u8; 32] = random.first_chunk().copied().unwrap_or_default();
                    let point = SigningKey::from_bytes(&seed).verifying_key().to_bytes();
                    let secret = Secret::read(algorithm, &point);
                    by_shape.extend(secret.ok().map(|secret| ((algorithm, 64), secret)));
                }
                Algorithm::RsaSha256 => {
                    for length in RSA_LENGTHS {
                        let secret = Secret::read(algorithm, &random_modulus(length)?);
                        by_shape.extend(secret.ok().map(|secret| ((algorithm, length), secret)));
                    }
                }
            }
        }
        Ok(Self { by_shape: by_shape.into() })
    }

    /// One of that shape, or at least of that algorithm.
    pub(super) fn of(&self, shape: Shape) -> Option<&Secret> {
        let exact = self.by_shape.iter().find(|(known, _)| *known == shape);
        let alike = || self.by_shape.iter().find(|((algorithm, _), _)| *algorithm == shape.0);
        exact.or_else(alike).map(|(_, secret)| secret)
    }
}

/// Lengths of RSA signatures in bytes, for keys of 2048, 3072 and 4096 bits.
const RSA_LENGTHS: [usize; 3] = [256, 384, 512];

/// A PKCS#1 public key whose modulus is random: verification with it costs the same, and nobody can sign for it.
fn random_modulus(length: usize) -> Result<Vec<u8>, getrandom::Error> {
    let mut modulus = vec![0; length + 1];
    getrandom::fill(modulus.get_mut(1..).unwrap_or_default())?;
    if let [_, first, .., last] = &mut *modulus {
        *first |= 0x80;
        *last |= 1;
    }
    let be = |n: usize| u16::try_from(n).unwrap_or(u16::MAX).to_be_bytes();
    let mut der =
        [&[0x30, 0x82][..], &be(modulus.len() + 4 + 5), &[0x02, 0x82], &be(modulus.len())].concat();
    der.extend(&modulus);
    der.extend([0x02, 0x03, 0x01, 0x00, 0x01]);
    Ok(der)
}
