//! Defeats a second delivery: the same signed bytes pass once, whatever the signature's spelling, method or path.

use arrayvec::ArrayVec;
use sha2::{Digest, Sha256};

use super::signature::Signed;
use crate::admit::Route;
use crate::clock::Micros;
use crate::dialect::{Claim, Dialect, NonceKind, TimeKind};
use crate::store::{Charge, Identity, Repeat, SignedTime};

/// What the store is to remember of a proven request. It costs nothing yet.
pub(crate) fn charge(
    signed: &Signed,
    dialect: &Dialect,
    claim: &Claim<'_>,
    route: &Route,
    now: Micros,
) -> Charge {
    Charge {
        now,
        identity: signed.identity(),
        nonce: claim.time.and_then(|_| once(signed, dialect, claim)).map(Identity),
        account: signed.key().account_tag.short(),
        key: signed.key().tag.0,
        epoch: signed.key().epoch,
        step: None,
        time: signed_time(signed, dialect, claim, route),
        // What has no time is remembered by its nonce, for ever.
        keep_until: good_until(dialect, claim).unwrap_or(now),
        route: route.id,
        // Whoever sends a nonce says that no two requests of theirs are alike.
        repeat: if claim.nonce.is_some() { Repeat::Never } else { route.repeat },
        costs: ArrayVec::new(),
    }
}

/// When it says that it was signed, or ends, where that decides how long it is remembered.
pub(crate) fn signed_at(dialect: &Dialect, claim: &Claim<'_>) -> Option<Micros> {
    claim.time.filter(|_| dialect.time_kind() != TimeKind::None).map(|time| time.at)
}

fn signed_time(signed: &Signed, dialect: &Dialect, claim: &Claim<'_>, route: &Route) -> SignedTime {
    let at = claim.time.map(|time| time.at).unwrap_or_default();
    match dialect.time_kind() {
        TimeKind::Stamp => SignedTime::Stamp(at),
        TimeKind::Deadline => SignedTime::Deadline { at, lead: route.lead },
        // A recipe without a time has a nonce that grows or comes once, or it is refused at load.
        TimeKind::None => match once(signed, dialect, claim) {
            Some(nonce) => SignedTime::Unique { key: signed.secret().tag(), nonce },
            None => SignedTime::Growing {
                key: signed.secret().tag(),
                nonce: claim.nonce.map_or(0, |nonce| nonce.number),
                window: claim.nonce.map_or(0, |nonce| nonce.window),
            },
        },
    }
}

/// A digest of a nonce that may come once, and of the secret that signed it: an id is not always signed.
fn once(signed: &Signed, dialect: &Dialect, claim: &Claim<'_>) -> Option<[u8; 16]> {
    let nonce = claim.nonce.filter(|_| dialect.nonce_kind() == Some(NonceKind::Unique))?;
    let digest = Sha256::new().chain_update(signed.secret().tag()).chain_update(nonce.text);
    digest.finalize().first_chunk().copied()
}

/// The last moment at which the signature can be accepted; `None` where that is no matter of time.
pub(crate) fn good_until(dialect: &Dialect, claim: &Claim<'_>) -> Option<Micros> {
    let at = claim.time?.at;
    match dialect.time_kind() {
        TimeKind::Stamp => Some(at + claim.window),
        TimeKind::Deadline => Some(at),
        TimeKind::None => None,
    }
}
