//! What a request claims by its token, and tokens for requests that are to be signed.

use std::time::Duration;

use data_encoding::HEXLOWER;

use super::claim::{Claim, Payload, Signed, is_known};
use super::json::Node;
use super::jwt::{Rule, Token, UNIT};
use super::jwt_request::digest_of_query;
use super::jwt_rule::Content;
use super::place::Offers;
use super::reading::Order;
use super::{
    Credentials, Dialect, Draft, Inbound, Message, NonceKind, NonceRule, Reading, Room, TimeKind,
    Unsignable, member,
};
use crate::clock::Micros;
use crate::denial::{Credential, Denial};

/// The tokens of a dialect.
#[derive(Clone, Debug)]
pub(crate) struct Tokens {
    pub(crate) rule: Rule,
    /// What a token covers, as if it were a text of these fields. None is ever written of it.
    pub(super) messages: Box<[Message]>,
}

impl Dialect {
    /// Reads the token, and refuses what it cannot cover.
    pub(super) fn claim_token<'r>(
        &'r self,
        tokens: &'r Tokens,
        request: &Inbound<'r>,
        room: &'r mut Room,
    ) -> Result<Claim<'r>, Denial> {
        if !is_known(request.method) {
            return Err(Denial::Malformed("method"));
        }
        let query = request.query.unwrap_or_default();
        let message = tokens.messages.iter().find(|message| message.is_for(request, self.body));
        let message = message.ok_or(Denial::Malformed("method"))?;
        self.refuse_leftovers(message, request, query)?;
        let content_type = self.content_type(message, request, self.body)?;
        Self::form(request, self.body)?;
        let signs_json = message.params.is_some() && !request.body.is_empty();
        let Room { bytes, pairs: _, nodes, token: token_nodes } = room;
        let object = signs_json.then(|| member::object(request.body, nodes)).transpose()?;
        let token = self.token(&tokens.rule, request, bytes, token_nodes)?;
        let nonce = match self.nonce.as_ref().zip(token.nonce) {
            Some((rule, text)) => Some(rule.read(text, None)?),
            None => None,
        };
        Ok(Claim {
            key_id: token.key_id,
            time: token.time,
            window: self.window.default,
            window_text: "",
            nonce,
            signature: token.signature,
            algorithm: Some(token.algorithm),
            passphrase: None,
            cut: None,
            signed: Signed::Token(message, &tokens.rule, token),
            body: self.body,
            form: "",
            order: Order::NONE,
            content_type,
            payload: Payload::default(),
            object,
        })
    }

    /// The one token of a request.
    pub(super) fn token<'r>(
        &'r self,
        rule: &Rule,
        request: &Inbound<'r>,
        bytes: &'r mut Vec<u8>,
        nodes: &mut Vec<Node>,
    ) -> Result<Token<'r>, Denial> {
        let mut offers = Offers::default();
        self.places.in_headers(request, &mut offers)?;
        let text = offers.of(Credential::Signature);
        rule.read(text.ok_or(Denial::Missing(Credential::Signature))?, bytes, nodes)
    }

    /// Header and payload of a token for `draft`.
    pub(super) fn new_token(
        &self,
        rule: &Rule,
        draft: &Draft<'_>,
        by: &Credentials<'_>,
        now: Micros,
    ) -> Result<String, Unsignable> {
        let algorithm = by.signer.algorithm();
        if !rule.algorithms.contains(&algorithm) {
            return Err(Unsignable::Algorithm);
        }
        let nonce = self.token_nonce(draft, now)?;
        let digest = match (draft.query, draft.body) {
            _ if !rule.digests() => None,
            ("", "") => None,
            (query, "") => Some(digest_of_query(query, Reading::Raw)),
            ("", body) => Some(rule.digest_of_body(body.as_bytes()).map_err(Unsignable::Refused)?),
            _ => return Err(Unsignable::Draft("parameters are split over query and body")),
        };
        let lead = self.token_lead(draft);
        let time = if self.time_kind() == TimeKind::Deadline { now + lead } else { now };
        Ok(rule.write(&Content {
            algorithm,
            key_id: by.key_id,
            nonce: &nonce,
            issued: &UNIT.write(now),
            time: &rule.unit.write(time),
            request: &format!("{} {}{}", draft.method, draft.host, draft.path),
            digest: digest.map(|digest| HEXLOWER.encode(&digest)).as_deref(),
        }))
    }

    /// Its time may count whole seconds, so the nonce alone tells two requests apart.
    fn token_nonce(&self, draft: &Draft<'_>, now: Micros) -> Result<String, Unsignable> {
        let Some(rule) = &self.nonce else { return Ok(String::new()) };
        if let Some(fixed) = draft.nonce {
            return Ok(fixed.to_owned());
        }
        let rule = NonceRule { kind: NonceKind::Unique, ..rule.clone() };
        rule.write(now).map_err(|_| Unsignable::NoRandomness)
    }

    /// How long after signing a token is good: as the draft says, within what is allowed.
    pub(crate) fn token_lead(&self, draft: &Draft<'_>) -> Duration {
        let lead = Duration::from_millis(draft.lead_ms);
        self.lead().map_or(lead, |longest| lead.min(longest))
    }
}

impl Claim<'_> {
    /// The moment before which it is no good, where it says one.
    pub(crate) fn not_before(&self) -> Option<Micros> {
        match &self.signed {
            Signed::Token(.., token) => token.not_before,
            Signed::Text(_) | Signed::Bytes(_) | Signed::Base(..) => None,
        }
    }
}
