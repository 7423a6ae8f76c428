//! Defeats a code that is led to another request than its holder meant: on the strictest routes a code counts only
//! together with a challenge, which is bound to one key, method, path and content, for two minutes.
//!
//! A challenge holds its end, random bytes, and a MAC over both, the key and the content. So nothing is remembered of
//! it, and whoever alters a bit of it has none.

use std::fmt;
use std::time::Duration;

use http::HeaderName;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::signature;
use crate::clock::Micros;
use crate::denial::{Challenge, Denial};
use crate::dialect::{Claim, Dialect, Inbound};
use crate::key::{Algorithm, BadSecret, Key, Secret};

/// The header field that a challenge travels in, there and back.
pub const CHALLENGE: HeaderName = HeaderName::from_static("x-countersign-challenge");

/// Makes challenges, and knows its own again.
pub struct Challenges {
    key: Secret,
}

impl Challenges {
    /// Of this process alone: after a restart each client is challenged once more.
    pub fn new() -> Result<Self, getrandom::Error> {
        let mut key = zeroize::Zeroizing::new([0; 32]);
        getrandom::fill(&mut *key)?;
        // Any 32 bytes are a key.
        Self::shared(&*key).map_err(|_| getrandom::Error::UNEXPECTED)
    }

    /// Of all gateways that hold this key, 32 bytes or more: a challenge of one holds at the others.
    pub fn shared(key: &[u8]) -> Result<Self, BadSecret> {
        Secret::read(Algorithm::HmacSha256, key).map(|key| Self { key })
    }

    /// A new challenge for whoever sends this.
    pub(crate) fn issue(&self, topic: &Topic, now: Micros) -> Result<Challenge, Denial> {
        let mut random = [0; RANDOM];
        getrandom::fill(&mut random).map_err(|_| Denial::Unavailable)?;
        let mut bytes = [0; Challenge::LENGTH];
        let end = (now + LIFE).0.to_be_bytes();
        bytes.iter_mut().zip(end.into_iter().chain(random)).for_each(|(to, from)| *to = from);
        let mac = self.mac(bytes.get(..OPEN).unwrap_or_default(), topic);
        let mac = mac.ok_or(Denial::Unavailable)?;
        bytes.iter_mut().skip(OPEN).zip(mac).for_each(|(to, from)| *to = from);
        Ok(Challenge(bytes))
    }

    /// Whether `challenge` was made here for this, and is still good.
    pub(crate) fn knows(&self, challenge: &Challenge, topic: &Topic, now: Micros) -> bool {
        let Some((open, offered)) = challenge.0.split_at_checked(OPEN) else { return false };
        let Some(mac) = self.mac(open, topic) else { return false };
        let end = open.first_chunk().map_or(Micros(0), |end| Micros(u64::from_be_bytes(*end)));
        // The second half is for a clock that was set back.
        let is_live = now < end && end <= now + LIFE;
        bool::from(mac.as_slice().ct_eq(offered)) && is_live
    }

    fn mac(&self, open: &[u8], topic: &Topic) -> Option<[u8; MAC]> {
        let mac = signature::mac(&self.key, &[b"countersign challenge 1\0", open, &topic.0])?;
        mac.first_chunk().copied()
    }
}

impl fmt::Debug for Challenges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Challenges(..)")
    }
}

/// What a challenge is bound to: the key, method and path, and all that is signed but for time, nonce and code, which
/// are others when the client signs again.
pub(crate) struct Topic([u8; 32]);

impl Topic {
    pub(crate) fn of(
        key: &Key,
        dialect: &Dialect,
        request: &Inbound<'_>,
        claim: &Claim<'_>,
        code: Option<&str>,
    ) -> Self {
        let mut digest = Sha256::new();
        let mut put = |part: &[u8]| {
            // Each with its length before it, so that no two contents are the same bytes.
            Digest::update(
                &mut digest,
                u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes(),
            );
            Digest::update(&mut digest, part);
        };
        for part in [&key.tag.0[..], &key.account_tag.0, key.venue.0.as_bytes()] {
            put(part);
        }
        put(request.method.as_str().as_bytes());
        put(request.path.as_bytes());
        dialect.content(request, claim, code, put);
        Self(digest.finalize().into())
    }
}

/// How long a challenge is good: time to look at a telephone.
pub(crate) const LIFE: Duration = Duration::from_mins(2);
/// Random bytes of each.
const RANDOM: usize = 12;
/// What of it is not the MAC: end and randomness.
const OPEN: usize = 8 + RANDOM;
/// Bytes of its MAC.
const MAC: usize = Challenge::LENGTH - OPEN;
