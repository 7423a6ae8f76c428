//! The steps that put a token together, before it is signed.

use super::plan::{DIGEST, HOST, ISSUED, MARKS, METHOD, PATH, plain};
use super::script::{Piece, Pieces, Step, Var};
use crate::dialect::jwt::Rule;
use crate::dialect::{Content, Dialect, Draft, TimeKind, TimeUnit};
use crate::key::Algorithm;

/// The steps after `before`, which read clock, nonce and parameters.
pub(super) fn steps(
    dialect: &Dialect,
    rule: &Rule,
    algorithm: Algorithm,
    draft: &Draft<'_>,
    mut before: Vec<Step>,
) -> Vec<Step> {
    let lead = u64::try_from(dialect.token_lead(draft).as_millis()).unwrap_or(u64::MAX);
    for step in &mut before {
        if let Step::Clock(_, _, ahead @ 1..) = step {
            *ahead = lead;
        }
    }
    let parameters = match (draft.query, draft.body) {
        ("", "") => None,
        ("", _) => Some(Piece::Pairs),
        _ => Some(Piece::Var(Var::Query)),
    };
    let digest = parameters.filter(|_| rule.digests());
    let has_digest = digest.is_some();
    if let Some(parameters) = digest {
        before.push(Step::Let(Var::Digest, vec![Piece::Sha512Hex(vec![parameters])]));
    }
    let deadline = dialect.time_kind() == TimeKind::Deadline;
    let [header, claims] = rule.halves(&Content {
        algorithm,
        key_id: MARKS.key_id,
        nonce: MARKS.nonce,
        issued: if deadline { ISSUED } else { MARKS.time },
        time: MARKS.time,
        request: &format!("{METHOD} {HOST}{PATH}"),
        digest: has_digest.then_some(DIGEST),
    });
    if claims.contains(ISSUED) {
        before.push(Step::Clock(Var::Issued, TimeUnit::Seconds, 0));
    }
    let encoded = |var| Piece::Base64Url(vec![Piece::Var(var)]);
    let dot = Piece::Text(".".to_owned());
    before.push(Step::Let(Var::Header, plain(&header)));
    before.push(Step::Let(Var::Claims, plain(&claims)));
    before.push(Step::Let(Var::Token, vec![encoded(Var::Header), dot, encoded(Var::Claims)]));
    before
}

/// Header fields in which the signature stands behind what it signs.
pub(super) fn headers(fields: Vec<(String, Pieces)>) -> Vec<(String, Pieces)> {
    let whole = |piece| {
        if piece == Piece::Var(Var::Signature) {
            vec![Piece::Var(Var::Token), Piece::Text(".".to_owned()), piece]
        } else {
            vec![piece]
        }
    };
    let fields = fields.into_iter();
    fields.map(|(name, value)| (name, value.into_iter().flat_map(whole).collect())).collect()
}
