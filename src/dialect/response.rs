//! What signs a reply, for exchanges whose clients check who answers.

use http::HeaderName;
use serde::Deserialize;

use super::template::{self, Field, Part, Sink};
use super::{Claim, Dialect};
use crate::key::Algorithm;

/// `[response]` as a recipe has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawResponse {
    pub(super) header: String,
    text: String,
}

/// How replies are signed: in lower hexadecimal, with the HMAC-SHA256 key that signed the request.
#[derive(Clone, Debug)]
pub(crate) struct ReplyRule {
    pub(crate) header: HeaderName,
    pub(crate) text: Box<str>,
    /// What stands before the content type and body of the reply: texts of the request.
    start: Box<[Part]>,
    /// Whether the content type stands before the body.
    pub(crate) signs_type: bool,
}

impl ReplyRule {
    /// Writes what a reply's signed text begins with.
    pub(crate) fn write_start(&self, claim: &Claim<'_>, sink: &mut impl Sink) {
        for part in &self.start {
            sink.put(match part {
                Part::Literal(text) => text.as_bytes(),
                Part::Field(Field::Nonce) => claim.nonce.map_or("", |nonce| nonce.text).as_bytes(),
                Part::Field(Field::Timestamp) => claim.time.map_or("", |time| time.text).as_bytes(),
                Part::Field(_)
                | Part::Merged(_)
                | Part::Member(_)
                | Part::Params(_)
                | Part::Digest(..) => b"",
            });
        }
    }

    /// What it begins with, in parts.
    #[cfg(feature = "server")]
    pub(crate) fn start(&self) -> &[Part] {
        &self.start
    }
}

impl Dialect {
    /// The header field that signs replies, and the text that it signs, where clients check one.
    pub fn signs_replies(&self) -> Option<(&HeaderName, &str)> {
        self.replies.as_ref().map(|rule| (&rule.header, &*rule.text))
    }
}

pub(super) fn compile(raw: &RawResponse, dialect: &Dialect) -> Result<ReplyRule, String> {
    let header = HeaderName::from_bytes(raw.header.as_bytes())
        .map_err(|_| format!("response: `{}` is no header name", raw.header))?;
    if dialect.algorithms().any(|algorithm| algorithm != Algorithm::HmacSha256) {
        return Err("response: replies are signed with HMAC-SHA256 keys alone".into());
    }
    let parts = template::parse(&raw.text).map_err(|error| format!("response: {error}"))?;
    let [start @ .., Part::Field(Field::Body)] = &*parts else {
        return Err("response: the text ends with `{body}`".into());
    };
    let (start, signs_type) = match start {
        [start @ .., Part::Field(Field::ContentType)] => (start, true),
        start => (start, false),
    };
    let known = |part: &Part| match part {
        Part::Literal(_) => true,
        Part::Field(Field::Nonce) => dialect.nonce.is_some(),
        Part::Field(Field::Timestamp) => dialect.time.is_some(),
        Part::Field(_) | Part::Merged(_) | Part::Member(_) | Part::Params(_) | Part::Digest(..) => {
            false
        }
    };
    if let Some(other) = start.iter().find(|part| !known(part)) {
        return Err(format!(
            "response: {other} cannot stand there: only `{{nonce}}` and `{{timestamp}}` of the request, then \
             `{{content-type}}` and `{{body}}` of the reply"
        ));
    }
    let binds = |part: &Part| matches!(part, Part::Field(_));
    if !start.iter().any(binds) {
        return Err(
            "response: nothing of the request is signed, so that a reply could answer another"
                .into(),
        );
    }
    let start = start.into();
    Ok(ReplyRule { header, text: raw.text.as_str().into(), start, signs_type })
}
