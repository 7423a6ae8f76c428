//! Defeats a token's use for another request: its request line and digest must be this one's.

use sha2::{Digest, Sha512};

use super::attempt::without_port;
use super::jwt::{Member, Rule, Token};
use super::{Inbound, Reading, json};
use crate::denial::Denial;

impl Rule {
    /// Whether the token was made for this very request, under some reading of its query. `body` is the text that
    /// clients take the digest of, where there is a body.
    pub(crate) fn admits(
        &self,
        token: &Token<'_>,
        request: &Inbound<'_>,
        readings: &[Reading],
        body: &[u8],
    ) -> Result<Reading, Denial> {
        if self.has(Member::Request) && !token.request.is_some_and(|line| names(line, request)) {
            return Err(Denial::BadSignature);
        }
        if !self.has(Member::Digest) {
            return Ok(Reading::Raw);
        }
        let query = request.query.unwrap_or_default();
        match (token.digest, query.is_empty(), request.body.is_empty()) {
            (None, true, true) => Ok(Reading::Raw),
            (None, ..) => Err(Denial::Unsigned("the token has no digest of the parameters")),
            (Some(_), false, false) => {
                Err(Denial::Unsigned("parameters are split over query and body"))
            }
            (Some(digest), _, true) => {
                let differs = |reading: &&Reading| {
                    **reading == Reading::Raw || reading.decodes_any(query.as_bytes())
                };
                let mut possible = readings.iter().filter(differs);
                let found = possible.find(|reading| digest == digest_of_query(query, **reading));
                found.copied().ok_or(Denial::BadSignature)
            }
            (Some(digest), true, false) => {
                let signed = digest == <[u8; 64]>::from(Sha512::digest(body));
                if signed { Ok(Reading::Raw) } else { Err(Denial::BadSignature) }
            }
        }
    }

    /// The digest that the token holds, with the parameters that are digested if they are signed as they are.
    pub(super) fn digested(
        &self,
        token: &Token<'_>,
        request: &Inbound<'_>,
    ) -> Option<([u8; 64], Vec<u8>)> {
        let mut parameters = Vec::new();
        match request.query {
            Some(query) if !query.is_empty() => parameters.extend_from_slice(query.as_bytes()),
            _ => {
                let nodes = &mut Vec::new();
                self.body?.write(json::object(request.body, nodes).ok()?, &mut parameters);
            }
        }
        Some((token.digest?, parameters))
    }

    /// The digest of a JSON body, as the client writes it for signing.
    pub(super) fn digest_of_body(&self, body: &[u8]) -> Result<[u8; 64], Denial> {
        let style = self.body.ok_or(Denial::Unsigned("a body, which no token signs"))?;
        let nodes = &mut Vec::new();
        let object = json::object(body, nodes).map_err(|flaw| Denial::Malformed(flaw.reason()))?;
        let mut digest = Sha512::new();
        style.write(object, &mut digest);
        Ok(digest.finalize().into())
    }
}

/// The digest of a query, read this way.
pub(super) fn digest_of_query(query: &str, reading: Reading) -> [u8; 64] {
    let mut digest = Sha512::new();
    reading.write(query.as_bytes(), &mut digest);
    digest.finalize().into()
}

/// Whether `line` is `METHOD host/path` of this request, its path and host as the client sent them.
fn names(line: &str, request: &Inbound<'_>) -> bool {
    let target = line.strip_prefix(request.method.as_str()).and_then(|rest| rest.strip_prefix(' '));
    let host = target.and_then(|target| target.strip_suffix(request.path));
    host.is_some_and(|host| {
        let is = |of: &str| host.eq_ignore_ascii_case(of);
        // A host with a `/` would take some of the path for its own.
        !host.contains('/') && (is(request.host) || is(without_port(request.host)))
    })
}
