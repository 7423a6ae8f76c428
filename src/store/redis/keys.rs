//! Under which keys a request's records, limits and epoch lie.

use crate::clock::Micros;
use crate::store::{Charge, SignedTime};

/// The keys of one call, all in one hash slot.
pub(super) struct Keys {
    pub(super) generation: String,
    pub(super) records: String,
    pub(super) limits: String,
    pub(super) account: String,
}

impl Keys {
    pub(super) fn of(account: u64, signed: Micros, key: [u8; 16]) -> Self {
        let tag = account % TAGS;
        let payer = key.first_chunk().map_or(0, |half| u64::from_le_bytes(*half));
        Self {
            generation: generation_key(tag),
            records: format!("c1:{{{tag}}}:r{}", signed.0 / SPAN),
            limits: format!("c1:{{{tag}}}:m{payer:x}"),
            account: format!("c1:{{{tag}}}:a{account:x}"),
        }
    }
}

fn generation_key(tag: u64) -> String {
    format!("c1:{{{tag}}}:g")
}

/// The keys of every tag's generation.
pub(super) fn tag_keys() -> impl Iterator<Item = String> {
    (0..TAGS).map(generation_key)
}

/// The signed time, which chooses the key that records share: a repetition always meets its original there.
pub(super) fn signed_at(charge: &Charge) -> Micros {
    signed_time(charge.time)
}

/// The same of a time.
pub(super) fn signed_time(time: SignedTime) -> Micros {
    match time {
        SignedTime::Stamp(at) | SignedTime::Deadline { at, lead: _ } => at,
        SignedTime::Growing { key: _, nonce: _, window: _ }
        | SignedTime::Unique { key: _, nonce: _ } => Micros(0),
    }
}

/// Into how many parts accounts are dealt, each in one hash slot. It never changes: gateways that differ would accept
/// twice.
const TAGS: u64 = 1_024;
/// Records whose signed time lies in one span of this length share a key.
const SPAN: u64 = 4_000_000;
