//! Credentials that stand in JSON: in members of the body, or of a payload that a header field holds in base64.

use bytes::Bytes;

use super::base64::Alphabet;
use super::claim::{Payload, Signed};
use super::json::{self, Kind, Member, Node, Object, Value};
use super::json_names::Names;
use super::json_rendering::{Style, is_signed_by_bingx};
use super::place::{Offers, Places};
use super::template::rendered;
use super::{Claim, Dialect, FieldValue, Inbound, Message, PathRule, Place};
use crate::denial::{Credential, Denial};

impl Places {
    /// Finds the named members of a JSON object, those of dialects with both kinds of bodies among them.
    pub(super) fn in_members<'r>(
        &self,
        object: Object<'r>,
        offers: &mut Offers<'r>,
    ) -> Result<(), Denial> {
        for member in object.members() {
            let wanted = self.fields.iter().chain(&self.params);
            let found = wanted.into_iter().find(|(_, wanted)| member.name == **wanted);
            let Some((credential, _)) = found else { continue };
            offers.put(*credential, plain(member.value).ok_or(Denial::Garbled(*credential))?)?;
        }
        Ok(())
    }
}

impl Dialect {
    /// The payload, decoded into `bytes`.
    pub(super) fn payload<'r>(
        &self,
        request: &Inbound<'r>,
        bytes: &'r mut Vec<u8>,
    ) -> Result<Option<Payload<'r>>, Denial> {
        let Some(name) = self.payload.as_ref() else { return Ok(None) };
        let mut sent = request.headers.get_all(name);
        let text = sent.next().and_then(FieldValue::to_str);
        let text = text.ok_or(Denial::Malformed("no payload in its header field"))?;
        if sent.next().is_some() {
            return Err(Denial::Malformed("two payloads"));
        }
        let garbled = Denial::Malformed("a payload that is no base64 of JSON");
        bytes.resize(text.len() / 4 * 3, 0);
        let length = Alphabet::Standard.decode(text.as_bytes(), bytes).ok_or(garbled)?;
        let json = bytes.get(..length).unwrap_or_default();
        Ok(Some(Payload { text, json }))
    }

    /// Whether the path is the one that a member names.
    pub(super) fn refuse_other_path(&self, path: &str, object: Object<'_>) -> Result<(), Denial> {
        let Some(PathRule { member: Place::Field(member), after }) = &self.path_is else {
            return Ok(());
        };
        let named = object.member(member).and_then(|member| plain(member.value));
        match (named, path.strip_prefix(&**after)) {
            (Some(named), Some(path)) if named == path => Ok(()),
            (Some(_) | None, _) => {
                Err(Denial::Unsigned("the path is not the one that the signed JSON names"))
            }
        }
    }
}

impl Dialect {
    /// Refuses members that the message does not sign, or that could run into one another in it.
    pub(super) fn refuse_other_members(
        &self,
        message: &Message,
        object: Object<'_>,
    ) -> Result<(), Denial> {
        let style = message.params.filter(|style| *style == Style::CryptoCom);
        if style.is_none() {
            return Ok(());
        }
        for member in object.members() {
            let of_message = message.members().find(|name| member.name == **name);
            let of_claim = self.places.fields.iter().any(|(_, name)| member.name == **name);
            if of_message.is_none() && !of_claim && member.name != *"params" {
                return Err(Denial::Unsigned("a member of the JSON that is not signed"));
            }
            if member.name == *"params" && member.value.object().is_none() {
                return Err(Denial::Malformed("`params` that are no object"));
            }
            let Some(name) = of_message else { continue };
            let text = plain(member.value).unwrap_or_default();
            let names_path = matches!(&self.path_is, Some(rule) if matches!(&rule.member, Place::Field(path) if **path == *name));
            let is_of_path = |byte: u8| byte.is_ascii_lowercase() || matches!(byte, b'/' | b'-');
            let sound = !text.is_empty()
                && text
                    .bytes()
                    .all(|byte| if names_path { is_of_path(byte) } else { byte.is_ascii_digit() });
            if !sound {
                return Err(Denial::Ambiguous("a member of the JSON that could run into the next"));
            }
        }
        Ok(())
    }

    /// The names of parameters that such a method has.
    pub(super) fn names_of(&self, method: &str) -> &Names {
        let of = |wanted: &str| self.names.iter().find(|(name, _)| **name == *wanted);
        of(method).or_else(|| of("*")).map_or(&self.no_names, |(_, names)| names)
    }

    /// Refuses JSON of which another of other meaning could be signed by the same text.
    pub(super) fn guard_params(
        &self,
        style: Style,
        path: &str,
        object: Object<'_>,
        room: &mut Vec<u8>,
    ) -> Result<(), Denial> {
        let after = self.path_is.as_ref().map_or("", |rule| &*rule.after);
        let names = self.names_of(path.strip_prefix(after).unwrap_or(path));
        let (style, params) = rendered(style, false, Some(object));
        let Some(params) = params else { return Ok(()) };
        style.guard(params, names, &self.sets, room).map_err(Denial::Ambiguous)?;
        if self.other_body.is_none() {
            return Ok(());
        }
        // A query or form could be signed by the same text: there `%` is an escape, and each `&` parts two pairs.
        let signed = params.members().filter(is_signed_by_bingx);
        let joints = memchr::memchr_iter(b'&', room).count();
        if memchr::memchr(b'%', room).is_some() || joints + 1 > signed.count().max(1) {
            return Err(Denial::Ambiguous("a JSON string holds `%` or `&`, as a query could"));
        }
        Ok(())
    }

    /// What goes on in place of the body: the payload, or the one JSON for what was signed by its members.
    pub(super) fn stand_in(&self, claim: &Claim<'_>) -> Option<Bytes> {
        if self.payload.is_some() {
            return Some(Bytes::copy_from_slice(claim.payload.json));
        }
        let message = match &claim.signed {
            Signed::Text(message) | Signed::Token(message, ..) => message,
            Signed::Bytes(_) | Signed::Base(..) => return None,
        };
        self.canonical_json(message, claim.object?).map(Bytes::from)
    }

    /// The one JSON for what was signed, without key and signature.
    fn canonical_json(&self, message: &Message, object: Object<'_>) -> Option<Vec<u8>> {
        let style = message.params?;
        let mut out = Vec::with_capacity(object.value().raw().len() + 16);
        let (style, params) = rendered(style, false, Some(object));
        let (Style::CryptoCom | Style::CryptoComPython) = style else {
            style.forward(object, &mut out);
            return Some(out);
        };
        out.push(b'{');
        let is_kept = |member: &Member<'_>| {
            let is_credential = |(credential, name): &(Credential, Box<str>)| {
                member.name == **name
                    && matches!(credential, Credential::Key | Credential::Signature)
            };
            member.name != *"params" && !self.places.fields.iter().any(is_credential)
        };
        for member in object.sorted().iter().filter(is_kept) {
            let text = plain(member.value).unwrap_or_default();
            out.push(b'"');
            member.name.write(&mut out);
            out.extend_from_slice(b"\":\"");
            out.extend_from_slice(text.as_bytes());
            out.extend_from_slice(b"\",");
        }
        out.extend_from_slice(b"\"params\":");
        match params {
            Some(params) => style.forward(params, &mut out),
            None => out.extend_from_slice(b"{}"),
        }
        out.push(b'}');
        Some(out)
    }
}

/// Reads a body that must be an object.
pub(super) fn object<'r>(bytes: &'r [u8], nodes: &'r mut Vec<Node>) -> Result<Object<'r>, Denial> {
    json::object(bytes, nodes).map_err(|flaw| Denial::Malformed(flaw.reason()))
}

/// The text of a string without escapes, or of a number as written.
pub(super) fn plain(value: Value<'_>) -> Option<&str> {
    match value.kind() {
        Kind::String => value.text()?.plain(),
        Kind::Number => Some(value.raw()),
        Kind::Object | Kind::Array | Kind::True | Kind::False | Kind::Null => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_read_as_text_or_number_and_nothing_else() {
        let place = Place::parse("field nonce").unwrap();
        let places = Places::new([(Credential::Nonce, &place)].into_iter(), None);
        let read = |json: &'static str| {
            let mut offers = Offers::default();
            let nodes = &mut Vec::new();
            places.in_members(object(json.as_bytes(), nodes)?, &mut offers)?;
            Ok::<_, Denial>(offers.of(Credential::Nonce).map(str::to_owned))
        };
        assert_eq!(read(r#"{"nonce":"17"}"#), Ok(Some("17".into())));
        assert_eq!(read(r#"{"a":{"nonce":1},"nonce":18}"#), Ok(Some("18".into())));
        assert_eq!(read(r#"{"Nonce":18}"#), Ok(None));
        for json in [r#"{"nonce":[1]}"#, r#"{"nonce":"\u0031"}"#, r#"{"nonce":1,"nonce":1}"#, "[]"]
        {
            assert!(read(json).is_err(), "{json}");
        }
    }
}
