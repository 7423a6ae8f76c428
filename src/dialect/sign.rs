//! Signs a request as a client of the dialect would: the same recipe, read the other way.

use std::fmt::Write as _;
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::pairs::{Side, pairs};
use super::reading::sorted;
use super::{
    Attempt, BodyKind, Dialect, Encoding, Fate, Inbound, NonceRule, Place, Reading, Room, Scheme,
    TimeKind, Unsignable, json,
};
use crate::checks::signature;
use crate::clock::Micros;
use crate::key::{Algorithm, Signer};

/// A request that is to be signed.
#[derive(Clone, Debug)]
pub struct Draft<'a> {
    /// The method.
    pub method: Method,
    /// The path.
    pub path: &'a str,
    /// The query, percent-encoded, without its `?`.
    pub query: &'a str,
    /// The body: parameters or JSON, as the dialect has it.
    pub body: &'a str,
    /// The host that will be addressed.
    pub host: &'a str,
    /// The receive window to ask for, in milliseconds; the dialect's default when `None`.
    pub window_ms: Option<u64>,
    /// How long after signing a deadline lies, in milliseconds.
    pub lead_ms: u64,
    /// The nonce to send; a fresh one when `None`.
    pub nonce: Option<&'a str>,
}

/// Who signs.
#[derive(Clone, Copy, Debug)]
pub struct Credentials<'a> {
    /// The key id.
    pub key_id: &'a str,
    /// Its secret or private key.
    pub signer: &'a Signer,
    /// Its passphrase, where the dialect has one.
    pub passphrase: Option<&'a str>,
}

/// A signed request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SignedRequest {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub target: String,
    /// Header fields to send, `content-type` among them where there is a body.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body.
    pub body: String,
}

impl Dialect {
    /// Signs `draft` at `now`.
    ///
    /// What is signed is what [`Dialect::claim`] reads of the finished request, so both sides agree by construction.
    pub fn sign(
        &self,
        draft: &Draft<'_>,
        by: &Credentials<'_>,
        now: Micros,
    ) -> Result<SignedRequest, Unsignable> {
        let mut sheet = Sheet::new(self, draft);
        // A signature stands behind the token that it is of.
        let token = match &self.scheme {
            Scheme::Token(tokens) => self.new_token(&tokens.rule, draft, by, now)? + ".",
            Scheme::Text(_) => {
                self.put_credentials(&mut sheet, draft, by, now)?;
                String::new()
            }
            Scheme::Signatures(rule) => return self.sign_message(rule, draft, by, now),
        };
        if self.sorts {
            // What some clients sign in order and send otherwise is best sent in order too.
            sheet.query = sorted(&sheet.query);
        }
        let mut unsigned = sheet.clone();
        // Whatever stands where the signature will is not signed.
        unsigned.put(&self.signature, &[&token, "0"].concat())?;
        let unsigned = unsigned.finish();
        let headers: HeaderMap = unsigned.headers.into_iter().collect();
        let (path, query) = match unsigned.target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (&*unsigned.target, None),
        };
        let request = Inbound {
            method: &draft.method,
            path,
            query,
            host: draft.host,
            headers: (&headers).into(),
            body: unsigned.body.as_bytes(),
            peer: std::net::Ipv4Addr::LOCALHOST.into(),
        };
        let mut room = Room::default();
        let claim = self.claim(&request, &mut room).map_err(Unsignable::Refused)?;
        let mut message = Vec::new();
        let guarded = self.guard(&claim, &request, Reading::Raw, &mut message);
        guarded.map_err(Unsignable::Refused)?;
        message.clear();
        self.write_message(&claim, &request, Attempt::RAW, &mut message);
        let (algorithm, bytes) =
            signature::sign(by.signer, &message).ok_or(Unsignable::Algorithm)?;
        let encoding = self.encodings.iter().find(|(known, _)| *known == algorithm);
        let (_, encoding) = encoding.ok_or(Unsignable::Algorithm)?;
        sheet.put(&self.signature, &[token, encoding.encode(&bytes)].concat())?;
        Ok(sheet.finish())
    }

    fn put_credentials<'a>(
        &'a self,
        sheet: &mut Sheet<'a>,
        draft: &Draft<'_>,
        by: &Credentials<'_>,
        now: Micros,
    ) -> Result<(), Unsignable> {
        let time = self.time.as_ref().map(|rule| {
            let lead = Duration::from_millis(draft.lead_ms);
            rule.unit.write(if rule.kind == TimeKind::Deadline { now + lead } else { now })
        });
        let fresh = |rule: &NonceRule| match draft.nonce {
            Some(fixed) => Ok(fixed.to_owned()),
            None => rule.write(now).map_err(|_| Unsignable::NoRandomness),
        };
        let nonce = self.nonce.as_ref().map(fresh).transpose()?;
        let keyed = self.passphrase.as_ref().is_some_and(|rule| rule.keyed.is_some());
        let passphrase = match by.passphrase {
            Some(clear) if keyed => {
                let mac = signature::sign(by.signer, clear.as_bytes());
                let (_, mac) = mac.ok_or(Unsignable::Algorithm)?;
                Some(Encoding::Base64.encode(&mac))
            }
            clear => clear.map(str::to_owned),
        };
        sheet.fill(&Marks {
            key_id: by.key_id,
            time: time.as_deref().unwrap_or_default(),
            nonce: nonce.as_deref().unwrap_or_default(),
            passphrase: passphrase.as_deref(),
            algorithm: by.signer.algorithm(),
        })
    }

    /// The request that `draft` becomes, with the marks `marks` in place of its credentials; the last is the signature's,
    /// and is put only if it is not empty.
    #[cfg(feature = "server")]
    pub(crate) fn outline(
        &self,
        draft: &Draft<'_>,
        marks: &Marks<'_>,
        signature: &str,
    ) -> Result<SignedRequest, Unsignable> {
        let mut sheet = Sheet::new(self, draft);
        sheet.fill(marks)?;
        if !signature.is_empty() {
            sheet.put(&self.signature, signature)?;
        }
        Ok(sheet.finish())
    }
}

/// What a request is filled in with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Marks<'a> {
    pub(crate) key_id: &'a str,
    pub(crate) time: &'a str,
    pub(crate) nonce: &'a str,
    pub(crate) passphrase: Option<&'a str>,
    pub(crate) algorithm: Algorithm,
}

/// The request while it is filled in.
#[derive(Clone)]
struct Sheet<'a> {
    draft: &'a Draft<'a>,
    query: String,
    body: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Where parameters go: to the body where the draft has one and the dialect has forms.
    side: Side,
    kind: BodyKind,
    /// Members to put before those of the draft.
    members: Vec<(&'a str, String)>,
    dialect: &'a Dialect,
}

impl<'a> Sheet<'a> {
    fn new(dialect: &'a Dialect, draft: &'a Draft<'a>) -> Self {
        let kind = dialect.body_kind(draft.body.as_bytes());
        let in_body = kind == BodyKind::Form && dialect.takes_forms(draft);
        Self {
            draft,
            query: draft.query.to_owned(),
            body: draft.body.to_owned(),
            headers: Vec::new(),
            side: if in_body { Side::Body } else { Side::Query },
            kind: if dialect.payload.is_some() { BodyKind::Json } else { kind },
            members: Vec::new(),
            dialect,
        }
    }

    /// Puts everything but the signature.
    fn fill(&mut self, values: &Marks<'_>) -> Result<(), Unsignable> {
        let (dialect, draft) = (self.dialect, self.draft);
        self.put(&dialect.key, values.key_id)?;
        if let Some(rule) = &dialect.algorithm {
            self.put(&rule.place, rule.name(values.algorithm).ok_or(Unsignable::Algorithm)?)?;
        }
        for (place, text) in &dialect.sends {
            self.put_unless_there(place, text)?;
        }
        if let Some(rule) = &dialect.path_is {
            let path = draft.path.strip_prefix(&*rule.after).unwrap_or(draft.path);
            self.put_unless_there(&rule.member, path)?;
        }
        if let Some(rule) = &dialect.time {
            self.put(&rule.place, values.time)?;
        }
        if let Some(rule) = &dialect.nonce {
            self.put(&rule.place, values.nonce)?;
        }
        if let (Some(place), Some(window)) = (&dialect.window.place, draft.window_ms) {
            self.put(place, &window.to_string())?;
        }
        if let Some(rule) = &dialect.passphrase {
            self.put(&rule.place, values.passphrase.ok_or(Unsignable::NoPassphrase)?)?;
            if let Some(keyed) = &rule.keyed {
                self.put(&keyed.version, keyed.keyed.first().map_or("", |text| text))?;
            }
        }
        Ok(())
    }

    /// Puts what is no credential, unless the draft holds it already.
    fn put_unless_there(&mut self, place: &'a Place, value: &str) -> Result<(), Unsignable> {
        let nodes = &mut Vec::new();
        let draft = json::object(self.draft.body.as_bytes(), nodes).ok();
        match place {
            Place::Field(name) if draft.is_some_and(|draft| draft.member(name).is_some()) => Ok(()),
            Place::Param(name) if pairs(&self.query).any(|(known, _)| *known == **name) => Ok(()),
            Place::Field(_)
            | Place::Param(_)
            | Place::Header(_)
            | Place::After(..)
            | Place::Auth(_)
            | Place::TokenHeader(_)
            | Place::TokenPayload(_) => self.put(place, value),
        }
    }

    fn put(&mut self, place: &'a Place, value: &str) -> Result<(), Unsignable> {
        match place {
            Place::Header(name) => self.put_header(name, value),
            Place::After(name, word) => self.put_header(name, &format!("{word} {value}")),
            Place::Param(name) if self.kind == BodyKind::Form || !self.takes_members() => {
                self.put_param(name, value)
            }
            Place::Param(name) | Place::Field(name) => {
                self.members.push((name, value.to_owned()));
                Ok(())
            }
            // Written with the token, which goes where the signature does.
            Place::TokenHeader(_) | Place::TokenPayload(_) => Ok(()),
            Place::Auth(name) => {
                let known = self.headers.iter_mut().find(|(name, _)| *name == AUTHORIZATION);
                let Some((_, items)) = known else {
                    let scheme = self.dialect.authorization.as_deref().unwrap_or_default();
                    let first = format!("{scheme} {name}={value}");
                    return self.put_header(&AUTHORIZATION, &first);
                };
                let before = items.to_str().unwrap_or_default();
                *items = header_value(&format!("{before},{name}={value}"))?;
                Ok(())
            }
        }
    }

    fn put_header(&mut self, name: &HeaderName, value: &str) -> Result<(), Unsignable> {
        self.headers.push((name.clone(), header_value(value)?));
        Ok(())
    }

    fn put_param(&mut self, name: &str, value: &str) -> Result<(), Unsignable> {
        let text = match self.side {
            Side::Query => &mut self.query,
            Side::Body => &mut self.body,
        };
        if pairs(text).any(|(known, _)| known == name) {
            return Err(Unsignable::Draft("the draft already holds a credential's parameter"));
        }
        if !text.is_empty() {
            text.push('&');
        }
        text.push_str(name);
        text.push('=');
        for byte in value.bytes() {
            if matches!(byte, b'+' | b'/' | b'=' | b':' | b'%' | b'&') {
                // Writing to a String cannot fail.
                let _ = write!(text, "%{byte:02X}");
            } else {
                text.push(char::from(byte));
            }
        }
        Ok(())
    }

    /// Whether parameters are members here: in the JSON of a dialect that also has forms.
    fn takes_members(&self) -> bool {
        self.dialect.other_body.is_some() && !self.draft.body.is_empty()
    }

    /// The draft's JSON with the members before its own.
    fn with_members(&self) -> String {
        let mut out = String::from("{");
        for (name, value) in &self.members {
            // Neither names nor values of credentials hold what must be escaped in JSON.
            let _ = write!(out, "\"{name}\":\"{value}\",");
        }
        let own = self.body.trim_start().strip_prefix('{').unwrap_or("}");
        if own.trim_start().starts_with('}') && out.ends_with(',') {
            out.pop();
        }
        out.push_str(own);
        out
    }

    fn finish(mut self) -> SignedRequest {
        if !self.members.is_empty() {
            self.body = self.with_members();
        }
        if let Some(name) = &self.dialect.payload
            && let Ok(value) = header_value(&Encoding::Base64.encode(self.body.as_bytes()))
        {
            self.headers.push((name.clone(), value));
        }
        if !self.body.is_empty() {
            let value = HeaderValue::from_static(self.kind.media_type());
            self.headers.push((http::header::CONTENT_TYPE, value));
        }
        let mark = if self.query.is_empty() { "" } else { "?" };
        SignedRequest {
            method: self.draft.method.clone(),
            target: [self.draft.path, mark, &self.query].concat(),
            headers: self.headers,
            body: self.body,
        }
    }
}

impl Dialect {
    /// Whether credentials that are parameters go to the form: where there is one, or where the query is refused.
    fn takes_forms(&self, draft: &Draft<'_>) -> bool {
        let signs_query = || self.messages().iter().any(|message| message.query == Fate::Signed);
        !draft.body.is_empty() || !signs_query()
    }
}

fn header_value(text: &str) -> Result<HeaderValue, Unsignable> {
    HeaderValue::from_str(text).map_err(|_| Unsignable::NotAHeaderValue)
}
