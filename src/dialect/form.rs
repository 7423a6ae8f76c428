//! What a body is: parameters or JSON, told by its first byte and never by an unsigned header alone.

use http::Method;
use http::header::CONTENT_TYPE;

use super::{Dialect, Fate, Inbound, Message};
use crate::denial::Denial;
use crate::lanes;

/// What bodies hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BodyKind {
    /// Parameters, as in a query.
    Form,
    /// JSON: an object or an array.
    Json,
}

impl BodyKind {
    /// The media type that a backend is told.
    pub(crate) const fn media_type(self) -> &'static str {
        match self {
            Self::Form => "application/x-www-form-urlencoded",
            Self::Json => "application/json",
        }
    }
}

/// The bodies that a message is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum BodyIs {
    /// None at all.
    Empty,
    /// One of this kind.
    A(BodyKind),
}

impl Message {
    /// Whether it is what such a request signs.
    pub(super) fn is_for(&self, request: &Inbound<'_>, body: BodyKind) -> bool {
        let fits = match self.body {
            None => true,
            Some(BodyIs::Empty) => request.body.is_empty(),
            Some(BodyIs::A(kind)) => !request.body.is_empty() && kind == body,
        };
        fits && self.methods.as_ref().is_none_or(|all| all.contains(request.method))
            && self.under.as_ref().is_none_or(|prefix| request.path.starts_with(&**prefix))
    }
}

impl Dialect {
    /// What this body is, where the dialect has two kinds; a form begins with no brace.
    pub(super) fn body_kind(&self, body: &[u8]) -> BodyKind {
        match self.other_body {
            Some(other) if is_json(body) != (self.body == BodyKind::Json) => other,
            Some(_) | None => self.body,
        }
    }

    /// The form body as text, where it is one; empty otherwise.
    pub(super) fn form<'r>(request: &Inbound<'r>, kind: BodyKind) -> Result<&'r str, Denial> {
        match kind {
            BodyKind::Form => {
                // Unlike a target, a body may hold raw spaces and UTF-8: ccxt sends withdrawals so.
                let text = std::str::from_utf8(request.body).ok();
                let is_control = |byte: u8| byte.is_ascii_control();
                text.filter(|text| !lanes::any(text.as_bytes(), is_control)).ok_or(
                    Denial::Malformed("a form body that is no UTF-8, or holds control bytes"),
                )
            }
            BodyKind::Json if request.body.is_empty() || is_json(request.body) => Ok(""),
            BodyKind::Json => Err(Denial::Malformed("a body that is no JSON object or array")),
        }
    }

    /// The content type where there is a body. It is unsigned, so only the one that the body's first byte says may
    /// come; where it is signed, without parameters.
    pub(super) fn content_type<'r>(
        &self,
        message: &Message,
        request: &Inbound<'r>,
        kind: BodyKind,
    ) -> Result<&'r str, Denial> {
        if request.body.is_empty() || self.payload.is_some() {
            return Ok("");
        }
        let sent = unsigned_type(request, kind)?;
        if message.signs_type && sent != kind.media_type() {
            return Err(Denial::Unsigned(OTHER_TYPE));
        }
        Ok(sent)
    }

    /// Whatever the message does not cover must not be there, but for what the recipe lets pass.
    pub(super) fn refuse_leftovers(
        &self,
        message: &Message,
        request: &Inbound<'_>,
        query: &str,
    ) -> Result<(), Denial> {
        if !self.is_guarded() {
            return Ok(());
        }
        if !query.is_empty() && message.query == Fate::Refused {
            return Err(Denial::Unsigned("a query, which this method does not sign"));
        }
        if request.body.is_empty() || self.payload.is_some() {
            return Ok(());
        }
        if matches!(*request.method, Method::GET | Method::HEAD) {
            return Err(Denial::Unsigned("a body on a GET"));
        }
        if message.entity == Fate::Refused {
            return Err(Denial::Unsigned("a body, which this method does not sign"));
        }
        Ok(())
    }
}

fn is_json(body: &[u8]) -> bool {
    matches!(body.first(), Some(b'{' | b'['))
}
/// The content type of a body of that kind, which may be left out; any other is refused.
pub(super) fn unsigned_type<'r>(request: &Inbound<'r>, kind: BodyKind) -> Result<&'r str, Denial> {
    let mut sent = request.headers.get_all(&CONTENT_TYPE);
    let Some(value) = sent.next() else { return Ok("") };
    if sent.next().is_some() {
        return Err(Denial::Unsigned(OTHER_TYPE));
    }
    // Most say it just so.
    if value.as_bytes() == kind.media_type().as_bytes() {
        return Ok(kind.media_type());
    }
    let essence = value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
    if essence.trim_ascii().eq_ignore_ascii_case(kind.media_type().as_bytes()) {
        return Ok(value.to_str().unwrap_or_default());
    }
    Err(Denial::Unsigned(OTHER_TYPE))
}

const OTHER_TYPE: &str = "the content type is not the dialect's, and no signature covers it";

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    #[test]
    fn a_form_body_is_utf_8_without_control_bytes_wherever_they_stand() {
        let (headers, peer) = (HeaderMap::new(), [192, 0, 2, 1].into());
        let is_form = |body: &[u8]| {
            let (method, path, host) = (&Method::POST, "/a", "a");
            let request =
                Inbound { method, path, query: None, host, headers: (&headers).into(), body, peer };
            Dialect::form(&request, BodyKind::Form).is_ok()
        };
        for length in 1..40 {
            let mut body = vec![b'a'; length];
            for place in 0..length {
                for byte in 0..=u8::MAX {
                    body[place] = byte;
                    let fits = byte.is_ascii() && !byte.is_ascii_control();
                    assert_eq!(is_form(&body), fits, "{byte} at {place} of {length}");
                }
                body[place] = b'a';
            }
        }
        assert!(is_form(b"") && is_form("note=\u{e9} \u{20ac}".as_bytes()));
    }
}
