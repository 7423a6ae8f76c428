//! Under which keys a request's records and epoch lie.

use super::packed::field;
use crate::clock::Micros;
use crate::store::{Charge, Identity, SignedTime};

/// The keys of one call, all in one hash slot.
pub(super) struct Keys {
    pub(super) generation: String,
    pub(super) records: String,
    pub(super) account: String,
}

impl Keys {
    pub(super) fn of(account: u64, signed: Micros) -> Self {
        let tag = tag(account);
        Self {
            generation: generation_key(tag),
            records: format!("c2:{{{tag}}}:r{}", signed.0 / SPAN),
            account: format!("c2:{{{tag}}}:a{account:x}"),
        }
    }

    /// Where a nonce lies: for itself, since other content may come under it that was signed at another time, whose
    /// records lie elsewhere.
    pub(super) fn nonce(&self, Identity(nonce): Identity) -> Vec<u8> {
        let generation = self.generation.bytes();
        generation.chain(*b":").chain(field(nonce)).collect()
    }
}

/// The key of the generation of an account's tag.
pub(super) fn generation_of(account: u64) -> String {
    generation_key(tag(account))
}

/// Where a tag's generation lies.
pub(super) fn generation_key(tag: u64) -> String {
    format!("c2:{{{tag}}}:g")
}

/// The part that an account, or a subject that many share, belongs to.
pub(super) fn tag(account: u64) -> u64 {
    account % TAGS
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
pub(super) const TAGS: u64 = 1_024;
/// Records whose signed time lies in one span of this length share a key. Redis packs those of most keys into a list that it
/// searches from one end to the other for each request: longer spans cost time, shorter ones memory.
const SPAN: u64 = 2_000_000;

#[cfg(test)]
mod tests {
    use super::super::slots::{slot, slot_of_key};
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn all_keys_of_a_call_share_a_slot(account: u64, signed: u64) {
            let Keys { generation, records, account: of_account } = Keys::of(account, Micros(signed));
            let wanted = slot(tag(account).to_string().as_bytes());
            for key in [&generation, &records, &of_account] {
                prop_assert_eq!(slot_of_key(key), wanted, "{}", key);
            }
            prop_assert_eq!(generation, generation_key(tag(account)));
        }
    }
}
