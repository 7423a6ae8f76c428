//! What may reach the backend: the signed bytes alone decide it, and no credential goes along.

use std::borrow::Cow;
use std::ops::Range;

use super::claim::without;
use super::place::{self, Side};
use super::reading::{Reading, canonical};
use super::{BodyKind, Claim, Dialect, Inbound, Place};
use crate::denial::{Credential, Denial};

/// What a proven request may forward. On a public route everything is as received.
#[derive(Clone, Debug, Default)]
pub struct Outgoing {
    cut: Option<(Side, Range<usize>)>,
    encode: Option<Reading>,
    body: Option<BodyKind>,
}

impl Outgoing {
    /// What may be forwarded of a request whose signature held under `reading`.
    ///
    /// A dialect with decoding readings takes what was signed literally. A raw match without `%` is then its own
    /// decoding and gets the same canonical encoding as every other spelling; one with `%` can be no other
    /// spelling's decoding, since decoded values that hold `%` are refused, and goes on as it is.
    pub(crate) fn of(dialect: &Dialect, claim: &Claim<'_>, reading: Reading, query: &str) -> Self {
        let decodes = dialect.readings.len() > 1;
        let literal = decodes
            && (reading != Reading::Raw || memchr::memchr(b'%', query.as_bytes()).is_none());
        Self {
            cut: claim.cut.clone(),
            encode: literal.then_some(reading),
            body: Some(dialect.body),
        }
    }

    /// What may be forwarded where a key was only named: all but a signature that nobody asked for. It was not
    /// spent here, so whoever read it behind us could spend it.
    pub(crate) fn unproven(dialect: &Dialect, request: &Inbound<'_>) -> Result<Self, Denial> {
        let Place::Param(name) = &dialect.signature else { return Ok(Self::default()) };
        let body = std::str::from_utf8(request.body).unwrap_or_default();
        let query = request.query.unwrap_or_default();
        let [found] = place::find([Some((name, Credential::Signature))], query, body)?;
        Ok(Self { cut: found.map(|found| (found.side, found.pair)), ..Self::default() })
    }

    /// The query to forward, without its `?`; `None` when there is none.
    pub fn query<'r>(&self, received: Option<&'r str>) -> Option<Cow<'r, str>> {
        let received = received?;
        let [before, after] = without(received, self.cut_in(Side::Query));
        let kept = match (before, after) {
            (kept, "") | ("", kept) => Cow::Borrowed(kept),
            (before, after) => Cow::Owned([before, after].concat()),
        };
        if kept.is_empty() {
            return None;
        }
        match self.encode {
            None => Some(kept),
            Some(reading) => Some(match kept {
                Cow::Borrowed(kept) => canonical(reading, kept),
                Cow::Owned(kept) => Cow::Owned(canonical(reading, &kept).into_owned()),
            }),
        }
    }

    /// The body to forward.
    pub fn body(&self, received: &bytes::Bytes) -> bytes::Bytes {
        let Some(cut) = self.cut_in(Side::Body) else { return received.clone() };
        let text = std::str::from_utf8(received).unwrap_or_default();
        match without(text, Some(cut)) {
            [before, ""] => received.slice(..before.len()),
            ["", after] => received.slice(received.len() - after.len()..),
            [before, after] => [before, after].concat().into(),
        }
    }

    /// The content type to give a body that was signed; `None` to keep the client's, on unsigned routes.
    pub fn content_type(&self) -> Option<&'static str> {
        self.body.map(BodyKind::media_type)
    }

    fn cut_in(&self, side: Side) -> Option<&Range<usize>> {
        self.cut.as_ref().filter(|(found, _)| *found == side).map(|(_, range)| range)
    }
}
