//! Defeats a second delivery: the same signed bytes pass once, whatever the signature's spelling, method or path.

use arrayvec::ArrayVec;

use super::signature::Signed;
use crate::admit::Route;
use crate::clock::Micros;
use crate::dialect::{Claim, Dialect, TimeKind};
use crate::store::{Charge, Cost, MAX_COSTS, SignedTime};

/// What the store is to remember of a proven request, with what it costs.
pub(crate) fn charge(
    signed: &Signed,
    dialect: &Dialect,
    claim: &Claim<'_>,
    route: &Route,
    costs: ArrayVec<Cost, MAX_COSTS>,
    now: Micros,
) -> Charge {
    Charge {
        now,
        identity: signed.identity(),
        nonce: None,
        account: signed.key().account_tag.short(),
        time: match dialect.time_kind() {
            TimeKind::Stamp => SignedTime::Stamp(claim.time.at),
            TimeKind::Deadline => SignedTime::Deadline { at: claim.time.at, lead: route.lead },
        },
        keep_until: good_until(dialect, claim),
        route: route.id,
        repeat: route.repeat,
        costs,
    }
}

/// The last moment at which the signature can be accepted.
pub(crate) fn good_until(dialect: &Dialect, claim: &Claim<'_>) -> Micros {
    match dialect.time_kind() {
        TimeKind::Stamp => claim.time.at + claim.window,
        TimeKind::Deadline => claim.time.at,
    }
}
