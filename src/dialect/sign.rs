//! Signs a request as a client of the dialect would: the same recipe, read the other way.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::claim::Claim;
use super::place::{Side, pairs};
use super::{BodyKind, Dialect, Inbound, Place, Reading, Time, TimeKind};
use crate::checks::signature;
use crate::clock::Micros;
use crate::key::Signer;

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

/// Why a request cannot be signed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Unsignable {
    /// The key's algorithm is none of the dialect's.
    Algorithm,
    /// The dialect has a passphrase and none was given.
    NoPassphrase,
    /// A credential or the host is no header value.
    NotAHeaderValue,
    /// The draft breaks a rule of the dialect; the text says which.
    Draft(&'static str),
}

impl fmt::Display for Unsignable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Algorithm => "the dialect has no keys of this algorithm",
            Self::NoPassphrase => "the dialect needs a passphrase",
            Self::NotAHeaderValue => "the key id, passphrase or host cannot stand in a header",
            Self::Draft(text) => text,
        })
    }
}

impl std::error::Error for Unsignable {}

impl Dialect {
    /// Signs `draft` at `now`.
    pub fn sign(
        &self,
        draft: &Draft<'_>,
        by: &Credentials<'_>,
        now: Micros,
    ) -> Result<SignedRequest, Unsignable> {
        let moment = match self.time.kind {
            TimeKind::Stamp => now,
            TimeKind::Deadline => Micros(now.0.saturating_add(draft.lead_ms.saturating_mul(1_000))),
        };
        let mut sheet = Sheet::new(self, draft);
        let time = self.time.unit.write(moment);
        let window = draft.window_ms.map(|ms| ms.to_string());
        sheet.put(&self.key, by.key_id)?;
        sheet.put(&self.time.place, &time)?;
        if let (Some(place), Some(window)) = (&self.window.place, &window) {
            sheet.put(place, window)?;
        }
        if let Some(place) = &self.passphrase {
            sheet.put(place, by.passphrase.ok_or(Unsignable::NoPassphrase)?)?;
        }
        let claim = Claim {
            key_id: by.key_id,
            time: Time { text: &time, at: moment },
            window: self.window.default,
            window_text: window
                .as_deref()
                .filter(|_| self.window.place.is_some())
                .unwrap_or_default(),
            signature: "",
            passphrase: None,
            cut: None,
            message: self.message(&draft.method).ok_or(Unsignable::Draft("method"))?,
        };
        let signature = self.sign_sheet(&sheet, &claim, draft, by.signer)?;
        sheet.put(&self.signature, &signature)?;
        Ok(sheet.finish())
    }

    fn sign_sheet(
        &self,
        sheet: &Sheet<'_>,
        claim: &Claim<'_>,
        draft: &Draft<'_>,
        signer: &Signer,
    ) -> Result<String, Unsignable> {
        let headers = HeaderMap::new();
        let request = Inbound {
            method: &draft.method,
            path: draft.path,
            query: (!sheet.query.is_empty()).then_some(&*sheet.query),
            host: draft.host,
            headers: &headers,
            body: sheet.body.as_bytes(),
            peer: std::net::Ipv4Addr::LOCALHOST.into(),
        };
        let mut message = Vec::new();
        self.write_message(claim, &request, Reading::Raw, &mut message);
        let (algorithm, bytes) = signature::sign(signer, &message).ok_or(Unsignable::Algorithm)?;
        let encoding = self.encodings.iter().find(|(known, _)| *known == algorithm);
        encoding.map(|(_, encoding)| encoding.encode(&bytes)).ok_or(Unsignable::Algorithm)
    }
}

/// The request while it is filled in.
struct Sheet<'a> {
    draft: &'a Draft<'a>,
    query: String,
    body: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Where parameters go: to the body where the draft has one and the dialect has forms.
    side: Side,
    media_type: &'static str,
}

impl<'a> Sheet<'a> {
    fn new(dialect: &Dialect, draft: &'a Draft<'a>) -> Self {
        let in_body = dialect.body == BodyKind::Form && !draft.body.is_empty();
        Self {
            draft,
            query: draft.query.to_owned(),
            body: draft.body.to_owned(),
            headers: Vec::new(),
            side: if in_body { Side::Body } else { Side::Query },
            media_type: dialect.body.media_type(),
        }
    }

    fn put(&mut self, place: &Place, value: &str) -> Result<(), Unsignable> {
        match place {
            Place::Header(name) => {
                let value =
                    HeaderValue::from_str(value).map_err(|_| Unsignable::NotAHeaderValue)?;
                self.headers.push((name.clone(), value));
            }
            Place::Param(name) => {
                let text = match self.side {
                    Side::Query => &mut self.query,
                    Side::Body => &mut self.body,
                };
                if pairs(text).any(|(known, _)| known == &**name) {
                    return Err(Unsignable::Draft(
                        "the draft already holds a credential's parameter",
                    ));
                }
                if !text.is_empty() {
                    text.push('&');
                }
                text.push_str(name);
                text.push('=');
                text.push_str(&value.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D"));
            }
        }
        Ok(())
    }

    fn finish(mut self) -> SignedRequest {
        if !self.body.is_empty() {
            let value = HeaderValue::from_static(self.media_type);
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
