//! What a request claims, read by its dialect: who signed what and when. All of it unproved.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use http::Method;

use super::json::{Node, Object};
use super::jwt::{self, Token};
use super::pairs::Side;
use super::place::Offers;
use super::reading::Order;
use super::rfc9421::{self, Input};
use super::time::{Nonce, Time, decimal_millis};
use super::{BodyKind, Dialect, Inbound, Message, Scheme, member, signatures};
use crate::denial::{Credential, Denial};
use crate::key::Algorithm;

/// What a request claims.
#[derive(Clone, Debug)]
pub struct Claim<'r> {
    /// Who says so.
    pub key_id: &'r str,
    /// When; `None` where the dialect signs no time.
    pub time: Option<Time<'r>>,
    /// For how long it wants to be good.
    pub window: Duration,
    pub(crate) window_text: &'r str,
    pub(crate) nonce: Option<Nonce<'r>>,
    pub(crate) signature: &'r str,
    /// The algorithm that it says it was made with; the key's decides.
    pub(crate) algorithm: Option<Algorithm>,
    pub(crate) passphrase: Option<Offered<'r>>,
    /// The pair that holds the signature, which is not signed itself.
    pub(crate) cut: Option<(Side, Range<usize>)>,
    pub(crate) signed: Signed<'r>,
    /// What the body is.
    pub(crate) body: BodyKind,
    /// The body as parameters; empty where it is none.
    pub(crate) form: &'r str,
    pub(crate) order: Order<'r>,
    pub(crate) content_type: &'r str,
    pub(crate) payload: Payload<'r>,
    /// The JSON of payload or body, where something is looked for in it.
    pub(crate) object: Option<Object<'r>>,
}

/// What the signature is over.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Signed<'r> {
    /// The text that a template makes of the request.
    Text(&'r Message),
    /// These bytes, as they are.
    #[expect(dead_code, reason = "for schemes that build what they sign themselves")]
    Bytes(&'r [u8]),
    /// Header and payload of this token, which its dialect's rule reads.
    Token(&'r Message, &'r jwt::Rule, Token<'r>),
    /// The base of an HTTP message signature.
    Base(&'r rfc9421::Rule, Input<'r>),
}

/// A passphrase as sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offered<'r> {
    pub(crate) text: &'r str,
    /// Whether it is the MAC of the passphrase under the key's secret, in base64, and not the passphrase itself.
    pub(crate) keyed: bool,
}

/// JSON that travels in a header field.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Payload<'r> {
    /// As it stands there.
    pub(crate) text: &'r str,
    /// Decoded.
    pub(crate) json: &'r [u8],
}

/// Memory for what a claim must decode or put in order before it can borrow it; a worker uses it again and again.
#[derive(Default)]
pub struct Room {
    pub(super) bytes: Vec<u8>,
    pub(super) pairs: Vec<(u32, u32)>,
    /// Of the JSON of body or payload.
    pub(super) nodes: Vec<Node>,
    /// Of that of a token.
    pub(super) token: Vec<Node>,
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Room(..)")
    }
}

impl Dialect {
    /// Reads who signed what, without believing it, and refuses what the signature would not cover.
    pub fn claim<'r>(
        &'r self,
        request: &Inbound<'r>,
        room: &'r mut Room,
    ) -> Result<Claim<'r>, Denial> {
        match &self.scheme {
            Scheme::Text(messages) => self.claim_text(messages, request, room),
            Scheme::Token(tokens) => self.claim_token(tokens, request, room),
            Scheme::Signatures(rule) => self.claim_signature(rule, request),
        }
    }

    /// The key id alone, for routes that ask for no more.
    pub fn key_id<'r>(
        &'r self,
        request: &Inbound<'r>,
        room: &'r mut Room,
    ) -> Result<&'r str, Denial> {
        match &self.scheme {
            Scheme::Token(tokens) => {
                let Room { bytes, pairs: _, nodes: _, token } = room;
                return self.token(&tokens.rule, request, bytes, token).map(|token| token.key_id);
            }
            Scheme::Signatures(rule) => return signatures::key_id(rule, request),
            Scheme::Text(_) => {}
        }
        let kind = self.body_kind(request.body);
        let form = if kind == BodyKind::Form { request.body } else { b"" };
        let form = std::str::from_utf8(form).unwrap_or_default();
        let Room { bytes, pairs: _, nodes, token: _ } = room;
        let mut offers = Offers::default();
        self.offers(request, kind, form, (bytes, nodes), &mut offers)?;
        let id = offers.of(Credential::Key).filter(|id| !id.is_empty());
        id.ok_or(Denial::Missing(Credential::Key))
    }

    /// The pair that holds a signature, where it is a parameter.
    pub(super) fn signature_pair(
        &self,
        query: &str,
        form: &str,
    ) -> Result<Option<(Side, Range<usize>)>, Denial> {
        let mut offers = Offers::default();
        self.places.in_params(query, form, &mut offers)?;
        Ok(offers.cut)
    }

    fn claim_text<'r>(
        &'r self,
        messages: &'r [Message],
        request: &Inbound<'r>,
        room: &'r mut Room,
    ) -> Result<Claim<'r>, Denial> {
        let query = request.query.unwrap_or_default();
        let body = self.body_kind(request.body);
        if !is_known(request.method) {
            return Err(Denial::Malformed("method"));
        }
        let message = messages.iter().find(|message| message.is_for(request, body));
        let message = message.ok_or(Denial::Malformed("method"))?;
        self.refuse_leftovers(message, request, query)?;
        let content_type = self.content_type(message, request, body)?;
        let form = Self::form(request, body)?;
        let may_split = self.split_parameters && !self.is_lenient() || !self.is_guarded();
        if !query.is_empty() && !form.is_empty() && message.joins && !may_split {
            return Err(Denial::Unsigned("parameters are split over query and body"));
        }
        let Room { bytes, pairs, nodes, token: _ } = room;
        let mut offers = Offers::default();
        let (payload, object) = self.offers(request, body, form, (bytes, nodes), &mut offers)?;
        if let Some(object) = object {
            self.refuse_other_path(request.path, object)?;
            self.refuse_other_members(message, object)?;
        }
        let of_body = query.is_empty() && !form.is_empty();
        let (text, side) = if of_body { (form, Side::Body) } else { (query, Side::Query) };
        let cut = offers.cut.as_ref().filter(|(of, _)| *of == side).map(|(_, range)| range);
        let order = if self.sorts { Order::of(text, cut, of_body, pairs) } else { Order::NONE };
        let details = Details { message, body, form, order, content_type, payload, object };
        let mut claim = self.assemble(&offers, &details, request);
        // Left where it was made: it is large.
        if claim.is_ok()
            && let Err(denial) = self.refuse_seams(message, request, body)
        {
            claim = Err(denial);
        }
        claim
    }

    /// Reads each credential where the recipe says, once.
    fn offers<'r>(
        &'r self,
        request: &Inbound<'r>,
        kind: BodyKind,
        form: &'r str,
        (bytes, nodes): (&'r mut Vec<u8>, &'r mut Vec<Node>),
        offers: &mut Offers<'r>,
    ) -> Result<(Payload<'r>, Option<Object<'r>>), Denial> {
        self.places.in_headers(request, offers)?;
        self.places.in_params(request.query.unwrap_or_default(), form, offers)?;
        let payload = self.payload(request, bytes)?;
        let json = match &payload {
            Some(payload) => Some(payload.json),
            None => Some(request.body).filter(|body| self.reads_members(kind) && !body.is_empty()),
        };
        let object = json.map(|json| member::object(json, nodes)).transpose()?;
        if let Some(object) = object {
            self.places.in_members(object, offers)?;
        }
        Ok((payload.unwrap_or_default(), object))
    }

    /// Whether something must be looked for in bodies of this kind that are JSON.
    fn reads_members(&self, kind: BodyKind) -> bool {
        kind == BodyKind::Json
            && (self.path_is.is_some()
                || !self.places.fields.is_empty()
                || self.other_body.is_some() && !self.places.params.is_empty())
    }

    fn assemble<'r>(
        &'r self,
        offers: &Offers<'r>,
        details: &Details<'r>,
        request: &Inbound<'r>,
    ) -> Result<Claim<'r>, Denial> {
        let sent = |credential| offers.of(credential).filter(|text| !text.is_empty());
        let need = |credential| sent(credential).ok_or(Denial::Missing(credential));
        let key_id = need(Credential::Key)?;
        let time_text = self.time.as_ref().map(|_| need(Credential::Time)).transpose()?;
        let nonce_text = self.nonce.as_ref().map(|_| need(Credential::Nonce)).transpose()?;
        let passphrase = match &self.passphrase {
            Some(rule) => Some(Offered {
                text: need(Credential::Passphrase)?,
                keyed: rule.is_keyed(request)?,
            }),
            None => None,
        };
        let time = match self.time.as_ref().zip(time_text) {
            Some((rule, text)) => Some(Time { text, at: rule.unit.read(text)? }),
            None => None,
        };
        let nonce = match self.nonce.as_ref().zip(nonce_text) {
            Some((rule, text)) => Some(rule.read(text, details.object)?),
            None => None,
        };
        let window_text = offers.of(Credential::Window);
        Ok(Claim {
            key_id,
            time,
            window: self.window(window_text)?,
            window_text: window_text.unwrap_or_default(),
            nonce,
            signature: need(Credential::Signature)?,
            algorithm: self.stated_algorithm(sent(Credential::Algorithm))?,
            passphrase,
            cut: offers.cut.clone(),
            signed: Signed::Text(details.message),
            body: details.body,
            form: details.form,
            order: details.order,
            content_type: details.content_type,
            payload: details.payload,
            object: details.object,
        })
    }

    fn window(&self, text: Option<&str>) -> Result<Duration, Denial> {
        let Some(text) = text.filter(|text| !text.is_empty()) else {
            return Ok(self.window.default);
        };
        let window = Duration::from_micros(decimal_millis(text)?);
        if window > self.window.max { Err(Denial::WindowTooLarge) } else { Ok(window) }
    }
}

/// What was read of a request beside its credentials.
struct Details<'r> {
    message: &'r Message,
    body: BodyKind,
    form: &'r str,
    order: Order<'r>,
    content_type: &'r str,
    payload: Payload<'r>,
    object: Option<Object<'r>>,
}

impl Claim<'_> {
    /// Whether it covers the header field `name`.
    pub(crate) fn covers(&self, name: &http::HeaderName) -> bool {
        match &self.signed {
            Signed::Text(_) | Signed::Bytes(_) | Signed::Token(..) => false,
            Signed::Base(rule, input) => rule.covers(input.covered, name),
        }
    }
}

/// Methods of capital letters of which none begins another, so that none can be lengthened by what stands beside.
pub(super) fn is_known(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET
            | Method::POST
            | Method::DELETE
            | Method::PUT
            | Method::PATCH
            | Method::HEAD
            | Method::OPTIONS
    )
}
