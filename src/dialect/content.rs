//! What a request says, apart from its credentials: the same when a client signs it again.

use super::pairs::{name_of, split};
use super::{BodyKind, Claim, Dialect, Inbound, Place};

impl Dialect {
    /// Whether credentials stand apart from content: in header fields, tokens and parameters, not within JSON.
    pub fn tells_content_apart(&self) -> bool {
        self.payload.is_none()
            && self.places().all(|(_, place)| match place {
                Place::Header(_)
                | Place::After(..)
                | Place::Auth(_)
                | Place::TokenHeader(_)
                | Place::TokenPayload(_)
                | Place::Param(_) => true,
                Place::Field(_) => false,
            })
    }

    /// Writes, part by part, each pair of the query but credentials and `code`, and the body likewise.
    pub(crate) fn content(
        &self,
        request: &Inbound<'_>,
        claim: &Claim<'_>,
        code: Option<&str>,
        mut put: impl FnMut(&[u8]),
    ) {
        let is_credential = |pair: &str| {
            let name = name_of(pair);
            let placed = |place: &Place| matches!(place, Place::Param(known) if **known == *name);
            code == Some(name) || self.places().any(|(_, place)| placed(place))
        };
        let pairs = |text| split(text).map(|(_, pair)| pair).filter(|pair| !is_credential(pair));
        for pair in pairs(request.query.unwrap_or_default()) {
            put(pair.as_bytes());
        }
        // No pair holds a `&`: query and body cannot be taken for each other.
        if claim.body == BodyKind::Form {
            put(b"&form");
            for pair in pairs(claim.form) {
                put(pair.as_bytes());
            }
        } else {
            put(b"&json");
            put(request.body);
        }
    }
}
