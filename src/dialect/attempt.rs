//! The ways in which a client may have written what it signed, and the bytes of each.

use std::ops::Range;

use super::claim::Signed;
use super::json_rendering::Style;
use super::pairs::{Side, pairs};
use super::reading::percent_decoded;
use super::template::{self, Field, Sink, Values};
use super::{BodyKind, Claim, Dialect, Inbound, Message, Reading, Room, Scheme, lenient};
use crate::denial::Denial;

/// One way in which a client may have written what it signed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Attempt {
    pub(crate) reading: Reading,
    /// Whether the host is taken without its port.
    bare_host: bool,
    /// Whether JSON's literals are written as Python does.
    python: bool,
}

impl Attempt {
    /// As on the wire.
    pub(crate) const RAW: Self = Self { reading: Reading::Raw, bare_host: false, python: false };
}

impl Dialect {
    /// Every way in which a client of this dialect may have written what it signed, in the recipe's order.
    pub(crate) fn attempts<'a>(
        &'a self,
        claim: &'a Claim<'_>,
        request: &'a Inbound<'_>,
    ) -> impl Iterator<Item = Attempt> + 'a {
        let query = request.query.unwrap_or_default().as_bytes();
        let decodes = |reading: Reading| {
            reading.decodes_any(query) || reading.decodes_any(claim.form.as_bytes())
        };
        let differs = move |reading: &Reading| {
            *reading == Reading::Raw
                || decodes(*reading) && (!reading.sorts() || claim.order.moves())
        };
        // A host with a port may have been signed without it.
        let bare = claim.signs_host() && request.host.contains(':');
        // A token is signed as it is: which reading it means, its digest says.
        let fixed = matches!(claim.signed, Signed::Token(..));
        let readings = self.readings.iter().copied();
        let readings = readings.filter(move |of| *of == Reading::Raw || !fixed).filter(differs);
        let python = claim.has_literals();
        readings.flat_map(move |reading| {
            let whole = Attempt { reading, ..Attempt::RAW };
            let bare = bare.then_some(Attempt { bare_host: true, ..whole });
            let python = python.then_some(Attempt { python: true, ..whole });
            [Some(whole), bare, python].into_iter().flatten()
        })
    }

    /// The reading under which the signed bytes are this request's, once the signature holds under `reading`.
    ///
    /// Refuses what was read so that another request would be read as the same bytes.
    pub(crate) fn guard(
        &self,
        claim: &Claim<'_>,
        request: &Inbound<'_>,
        reading: Reading,
        room: &mut Vec<u8>,
    ) -> Result<Reading, Denial> {
        let query = request.query.unwrap_or_default();
        let (message, token) = match &claim.signed {
            Signed::Text(message) => (message, None),
            Signed::Token(message, rule, token) => (message, Some((rule, token))),
            Signed::Bytes(_) | Signed::Base(..) => return Ok(reading),
        };
        if let Some((style, object)) = message.params.zip(claim.object)
            && self.is_guarded()
        {
            self.guard_params(style, request.path, object, room)?;
        }
        let reading = match token {
            Some((rule, token)) => {
                let reading = rule.admits(token, request, &self.readings, room)?;
                if message.params.is_some() && self.is_guarded() {
                    refuse_without_value(query)?;
                }
                if self.is_guarded() {
                    self.refuse_out_of_set(query)?;
                }
                reading
            }
            None => reading,
        };
        if !self.is_guarded() {
            return Ok(reading);
        }
        if self.is_lenient() {
            let cut = |side| claim.cut.as_ref().filter(|(of, _)| *of == side).map(|(_, cut)| cut);
            for (text, side) in [(query, Side::Query), (claim.form, Side::Body)] {
                lenient::guard(reading, without(text, cut(side)))?;
            }
            return Ok(reading);
        }
        if reading == Reading::Raw && message.merged.is_none() {
            return Ok(reading);
        }
        reading.guard(query)?;
        reading.guard(claim.form)?;
        if reading.sorts() || message.merged.is_some() {
            claim.order.guard(message.merged.as_deref())?;
        }
        Ok(reading)
    }

    /// A query that begins like the JSON of a closed set could be signed like it, so it holds no other names.
    fn refuse_out_of_set(&self, query: &str) -> Result<(), Denial> {
        if self.sets.is_empty() {
            return Ok(());
        }
        let mut names = pairs(query).map(|(name, _)| percent_decoded(name.as_bytes()));
        let first: Vec<_> = names.next().into_iter().flatten().collect();
        let Some((_, set)) = self.sets.iter().find(|(name, _)| name.as_bytes() == first) else {
            return Ok(());
        };
        if names.all(|name| set.hold(&name.collect::<Vec<_>>())) {
            return Ok(());
        }
        Err(Denial::Ambiguous("a parameter stands beside others than the recipe says"))
    }

    /// The bytes that this request would have to sign, under each reading; none when it makes no claim.
    ///
    /// For people who look for a fault: the path of a request writes them straight into the MAC.
    pub fn signed_bytes(&self, request: &Inbound<'_>) -> Vec<(Reading, Vec<u8>)> {
        let mut room = Room::default();
        let Ok(claim) = self.claim(request, &mut room) else { return Vec::new() };
        let written = |attempt: Attempt| {
            let mut message = Vec::new();
            self.write_message(&claim, request, attempt, &mut message);
            (attempt.reading, message)
        };
        self.attempts(&claim, request).map(written).collect()
    }

    /// The template of what such a request signs, as the recipe has it.
    pub fn template(&self, request: &Inbound<'_>) -> Option<&str> {
        match &self.scheme {
            Scheme::Text(_) | Scheme::Token(_) => {
                self.message_for(request).map(|found| &*found.text)
            }
            Scheme::Signatures(rule) => Some(&rule.text),
        }
    }

    /// The message that such a request signs.
    pub(crate) fn message_for(&self, request: &Inbound<'_>) -> Option<&Message> {
        let body = self.body_kind(request.body);
        self.messages().iter().find(|message| message.is_for(request, body))
    }

    /// Writes the exact bytes that the client signed, if it wrote them this way.
    pub(crate) fn write_message(
        &self,
        claim: &Claim<'_>,
        request: &Inbound<'_>,
        attempt: Attempt,
        sink: &mut impl Sink,
    ) {
        let message = match &claim.signed {
            Signed::Text(message) => message,
            Signed::Bytes(bytes) => return sink.put(bytes),
            Signed::Token(.., token) => return sink.put(token.signed.as_bytes()),
            Signed::Base(rule, input) => return rule.write_base(input, request, sink),
        };
        let values = self.values(claim, request, attempt);
        template::write(&message.parts, &values, attempt.reading, sink);
    }

    /// The values of the fields of a message.
    #[expect(clippy::unused_self, reason = "the claim borrows its message from this dialect")]
    pub(super) fn values<'r>(
        &self,
        claim: &Claim<'r>,
        request: &Inbound<'r>,
        attempt: Attempt,
    ) -> Values<'r> {
        let query = request.query.unwrap_or_default();
        let cut = |side| claim.cut.as_ref().filter(|(of, _)| *of == side).map(|(_, cut)| cut);
        Values {
            timestamp: claim.time.map_or("", |time| time.text),
            key: claim.key_id,
            window: claim.window_text,
            nonce: claim.nonce.map_or("", |nonce| nonce.text),
            method: request.method.as_str(),
            host: if attempt.bare_host { without_port(request.host) } else { request.host },
            path: request.path,
            query: without(query, cut(Side::Query)),
            order: claim.order,
            content_type: claim.content_type,
            body: without_bytes(request.body, cut(Side::Body)),
            form: claim.body == BodyKind::Form,
            payload: claim.payload.text,
            object: claim.object,
            python: attempt.python,
        }
    }
}

/// A JSON string that holds `&` is signed like a query with a parameter that has no value: there is none.
fn refuse_without_value(query: &str) -> Result<(), Denial> {
    let whole = (!query.is_empty()).then_some(query);
    if whole.into_iter().flat_map(|query| query.split('&')).all(|pair| pair.contains('=')) {
        return Ok(());
    }
    Err(Denial::Ambiguous("a parameter without a value, as a JSON string could hold"))
}

impl Claim<'_> {
    /// Whether the order of the query's pairs is not signed.
    pub(super) fn merges(&self) -> bool {
        match self.signed {
            Signed::Text(message) => message.merged.is_some(),
            Signed::Bytes(_) | Signed::Token(..) | Signed::Base(..) => false,
        }
    }

    /// Whether Python's clients may have signed other literals than stand in the JSON.
    fn has_literals(&self) -> bool {
        let renders = match self.signed {
            Signed::Text(message) => message.params == Some(Style::CryptoCom),
            Signed::Bytes(_) | Signed::Token(..) | Signed::Base(..) => false,
        };
        renders && self.object.is_some_and(|object| object.value().holds_truth())
    }

    fn signs_host(&self) -> bool {
        match self.signed {
            Signed::Text(message) => template::mentions(&message.parts, Field::Host),
            Signed::Bytes(_) | Signed::Token(..) | Signed::Base(..) => false,
        }
    }
}

pub(super) fn without_port(host: &str) -> &str {
    // An IPv6 address in brackets holds colons of its own.
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        Some(_) | None => host,
    }
}

/// `text` without the pair at `cut`, nor the `&` that joined it, in two pieces.
pub(super) fn without<'r>(text: &'r str, cut: Option<&Range<usize>>) -> [&'r str; 2] {
    let Some(cut) = cut else { return [text, ""] };
    let before = text.get(..cut.start).unwrap_or_default();
    let after = text.get(cut.end..).unwrap_or_default();
    match before.strip_suffix('&') {
        // The `&` after the pair, if any, goes on joining what stays.
        Some(before) => [before, after],
        None => [before, after.strip_prefix('&').unwrap_or(after)],
    }
}

fn without_bytes<'r>(bytes: &'r [u8], cut: Option<&Range<usize>>) -> [&'r [u8]; 2] {
    let Some(cut) = cut else { return [bytes, b""] };
    let before = bytes.get(..cut.start).unwrap_or_default();
    let after = bytes.get(cut.end..).unwrap_or_default();
    match before.strip_suffix(b"&") {
        Some(before) => [before, after],
        None => [before, after.strip_prefix(b"&").unwrap_or(after)],
    }
}
