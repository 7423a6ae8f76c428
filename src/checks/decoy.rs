//! Defeats the search for keys by time: unknown keys are checked against secrets of nobody.

use std::hash::BuildHasher;

use ed25519_dalek::SigningKey;
use foldhash::quality::RandomState;
use ring::agreement::{ECDH_P256, EphemeralPrivateKey};

use crate::key::{Algorithm, Secret};

/// Secrets that nobody holds, one for each shape that a signature can have.
#[derive(Debug)]
pub struct Decoys {
    by_shape: Box<[(Shape, Secret)]>,
    seed: RandomState,
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
                Algorithm::EcdsaP256Sha256 => {
                    let secret = point_of_nobody().map(|point| Secret::read(algorithm, &point));
                    let secret = secret.and_then(Result::ok);
                    by_shape.extend(secret.map(|secret| ((algorithm, 64), secret)));
                }
                Algorithm::RsaSha256 | Algorithm::RsaPssSha512 => {
                    for length in RSA_LENGTHS {
                        let secret = Secret::read(algorithm, &random_modulus(length)?);
                        by_shape.extend(secret.ok().map(|secret| ((algorithm, length), secret)));
                    }
                }
            }
        }
        Ok(Self { by_shape: by_shape.into(), seed: RandomState::default() })
    }

    /// One of `count`, at random but for ever the same for one key id.
    pub(super) fn draw(&self, key_id: &str, count: usize) -> usize {
        let drawn = usize::try_from(self.seed.hash_one(key_id) >> 32).unwrap_or_default();
        drawn.checked_rem(count).unwrap_or_default()
    }

    /// The algorithm of one of them, whichever.
    pub(super) fn any(&self) -> Option<Algorithm> {
        self.by_shape.first().map(|((algorithm, _), _)| *algorithm)
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

/// A P-256 point whose scalar is forgotten at once.
fn point_of_nobody() -> Option<Vec<u8>> {
    let random = ring::rand::SystemRandom::new();
    let scalar = EphemeralPrivateKey::generate(&ECDH_P256, &random).ok()?;
    scalar.compute_public_key().ok().map(|point| point.as_ref().to_vec())
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_decoy_for_every_algorithm_and_length() {
        let decoys = Decoys::new().unwrap();
        for (algorithm, name) in Algorithm::ALL {
            let lengths =
                algorithm.signature_len().map_or(RSA_LENGTHS.to_vec(), |exact| vec![exact]);
            for length in lengths {
                let known = decoys.by_shape.iter().any(|(shape, _)| *shape == (algorithm, length));
                assert!(known, "{name} {length}");
                assert_eq!(decoys.of((algorithm, length)).unwrap().algorithm(), algorithm);
            }
        }
    }

    #[test]
    fn one_key_id_always_draws_the_same_and_many_draw_all() {
        let decoys = Decoys::new().unwrap();
        assert_eq!(decoys.draw("somebody", 2), decoys.draw("somebody", 2));
        let drawn: Vec<_> = (0..64).map(|n| decoys.draw(&n.to_string(), 2)).collect();
        assert!(drawn.contains(&0) && drawn.contains(&1));
        assert_eq!(decoys.draw("nothing to draw from", 0), 0);
    }
}
