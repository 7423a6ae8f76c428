//! What may reach the backend: the signed bytes alone decide it, and no credential goes along.

use std::borrow::Cow;
use std::ops::Range;

use super::attempt::without;
use super::pairs::Side;
use super::reading::{Reading, canonical, sorted};
use super::{BodyKind, Claim, Dialect, Inbound, json, lenient};
use crate::denial::Denial;

/// Where a one-time code stands that no backend sees.
#[derive(Clone, Debug)]
pub(crate) enum CodeCut {
    /// In this pair of a query or form.
    Pair(Side, Range<usize>),
    /// In the member of this name of a JSON object.
    Member(Box<str>),
}

/// What a proven request may forward. On a public route everything is as received.
#[derive(Clone, Debug, Default)]
pub struct Outgoing {
    cut: Option<(Side, Range<usize>)>,
    /// Where a one-time code stands, which is signed, and spent.
    code: Option<CodeCut>,
    encode: Option<Reading>,
    lenient: bool,
    sort: bool,
    body: Option<BodyKind>,
    /// What stands in for the body: the payload that was signed, or the one JSON for what was.
    payload: Option<bytes::Bytes>,
}

impl Outgoing {
    /// What may be forwarded of a request whose signature held under `reading`.
    ///
    /// A dialect with decoding readings takes what was signed literally. A raw match without `%` is then its own
    /// decoding and gets the same canonical encoding as every other spelling; one with `%` can be no other
    /// spelling's decoding, since decoded values that hold `%` are refused, and goes on as it is. Pairs whose order
    /// was not signed go on in order, and a one-time `code` does not go on.
    pub(crate) fn of(
        dialect: &Dialect,
        claim: &Claim<'_>,
        reading: Reading,
        request: &Inbound<'_>,
        code: Option<CodeCut>,
    ) -> Self {
        let escaped = |text: &str| memchr::memchr(b'%', text.as_bytes()).is_some();
        let query = request.query.unwrap_or_default();
        // The signature's own pair is not signed, so its spelling decides nothing.
        let cut = |side| claim.cut.as_ref().filter(|(of, _)| *of == side).map(|(_, range)| range);
        let sides = [(query, Side::Query), (claim.form, Side::Body)];
        let literal = if dialect.is_lenient() {
            let is_literal = |(text, side)| joined(without(text, cut(side)));
            reading.decodes() || sides.map(is_literal).iter().any(|text| lenient::is_literal(text))
        } else {
            let is_escaped = |(text, side)| without(text, cut(side)).into_iter().any(escaped);
            dialect.decodes() && (reading.decodes() || !sides.into_iter().any(is_escaped))
        };
        let payload = dialect.stand_in(claim);
        Self {
            cut: claim.cut.clone(),
            code,
            encode: literal.then_some(reading),
            lenient: dialect.is_lenient(),
            sort: reading.sorts() || claim.merges(),
            // A content type that was signed is the client's to say.
            body: (!claim.covers(&http::header::CONTENT_TYPE)).then_some(if payload.is_some() {
                BodyKind::Json
            } else {
                claim.body
            }),
            payload,
        }
    }

    /// What may be forwarded where a key was only named: all but a signature that nobody asked for. It was not
    /// spent here, so whoever read it behind us could spend it.
    pub(crate) fn unproven(dialect: &Dialect, request: &Inbound<'_>) -> Result<Self, Denial> {
        // What could not be searched for a signature does not go on.
        let form = std::str::from_utf8(request.body)
            .map_err(|_| Denial::Malformed("a body that is no UTF-8"))?;
        let cut = dialect.signature_pair(request.query.unwrap_or_default(), form)?;
        Ok(Self { cut, ..Self::default() })
    }

    /// The query to forward, without its `?`; `None` when there is none.
    pub fn query<'r>(&self, received: Option<&'r str>) -> Option<Cow<'r, str>> {
        let kept = self.kept(received?, Side::Query);
        if kept.is_empty() { None } else { Some(self.canonical(kept)) }
    }

    /// The body to forward.
    pub fn body(&self, received: &bytes::Bytes) -> bytes::Bytes {
        if let Some(CodeCut::Member(name)) = &self.code {
            let whole = self.payload.as_ref().unwrap_or(received);
            // It was found there before. Where it is not, nothing goes on rather than a code.
            return without_member(whole, name).unwrap_or_default();
        }
        if let Some(payload) = &self.payload {
            return payload.clone();
        }
        if self.code_in(Side::Body).is_some() {
            let text = std::str::from_utf8(received).unwrap_or_default();
            return self.canonical(self.kept(text, Side::Body)).into_owned().into();
        }
        let cut = self.cut_in(Side::Body);
        let reads = (self.encode.is_some() || self.sort) && self.body == Some(BodyKind::Form);
        if cut.is_none() && !reads {
            return received.clone();
        }
        let text = std::str::from_utf8(received).unwrap_or_default();
        match without(text, cut) {
            [before, ""] if !reads => received.slice(..before.len()),
            ["", after] if !reads => received.slice(received.len() - after.len()..),
            pieces if reads => self.canonical(joined(pieces)).into_owned().into(),
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

    fn code_in(&self, side: Side) -> Option<&Range<usize>> {
        match self.code.as_ref()? {
            CodeCut::Pair(of, range) if *of == side => Some(range),
            CodeCut::Pair(..) | CodeCut::Member(_) => None,
        }
    }

    /// What is left of a query or form without the pairs that no backend sees.
    fn kept<'r>(&self, text: &'r str, side: Side) -> Cow<'r, str> {
        let cut = self.cut_in(side);
        match (cut, self.code_in(side)) {
            (Some(cut), Some(code)) => {
                // The later one first: the place of the other stays what it was.
                let (first, second) =
                    if cut.start < code.start { (cut, code) } else { (code, cut) };
                let kept = joined(without(text, Some(second)));
                Cow::Owned(joined(without(&kept, Some(first))).into_owned())
            }
            (one, other) => joined(without(text, one.or(other))),
        }
    }

    fn canonical<'r>(&self, kept: Cow<'r, str>) -> Cow<'r, str> {
        let kept = if self.sort { Cow::Owned(sorted(&kept)) } else { kept };
        match (self.encode, kept) {
            (None, kept) => kept,
            (Some(reading), Cow::Borrowed(kept)) => self.respelled(reading, kept),
            (Some(reading), Cow::Owned(kept)) => {
                Cow::Owned(self.respelled(reading, &kept).into_owned())
            }
        }
    }

    fn respelled<'r>(&self, reading: Reading, kept: &'r str) -> Cow<'r, str> {
        if self.lenient { lenient::forwarded(reading, kept) } else { canonical(reading, kept) }
    }
}

/// A JSON object without one of its members, and without the comma beside it; else as it was written.
fn without_member(whole: &bytes::Bytes, name: &str) -> Option<bytes::Bytes> {
    let nodes = &mut Vec::new();
    let Range { start, end } = json::object(whole, nodes).ok()?.member(name)?.range;
    let (before, after) = (whole.get(..start)?, whole.get(end..)?);
    let pieces = if let Some((b',', after)) = after.trim_ascii_start().split_first() {
        [before, after.trim_ascii_start()]
    } else {
        // The last one: the comma is before it, if it is not the only one.
        let before = before.trim_ascii_end();
        [before.strip_suffix(b",").unwrap_or(before), after]
    };
    Some(pieces.concat().into())
}

pub(super) fn joined(pieces: [&str; 2]) -> Cow<'_, str> {
    match pieces {
        [kept, ""] | ["", kept] => Cow::Borrowed(kept),
        [before, after] => Cow::Owned([before, after].concat()),
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::dialect::{Fields, builtin};

    #[test]
    fn what_cannot_be_searched_for_a_signature_does_not_go_on_unsigned() {
        let dialect = builtin("binance").unwrap().unwrap();
        let cut = |body: &[u8]| {
            let request = Inbound {
                method: &Method::PUT,
                path: "/api/v3/userDataStream",
                query: None,
                host: "api.example",
                headers: Fields::default(),
                body,
                peer: std::net::Ipv4Addr::LOCALHOST.into(),
            };
            Outgoing::unproven(&dialect, &request).map(|outgoing| outgoing.cut)
        };
        assert_eq!(cut(b"listenKey=a"), Ok(None));
        assert_eq!(cut(b"a=1&signature=abcd&x="), Ok(Some((Side::Body, 4..18))));
        let refused = Denial::Malformed("a body that is no UTF-8");
        assert_eq!(cut(b"a=1&signature=abcd&x=\xff"), Err(refused));
    }
}
