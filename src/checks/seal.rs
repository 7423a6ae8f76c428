//! Defeats forged replies, for clients that check who answers: a reply is signed with the secret of its request's key.

use std::fmt;

use data_encoding::HEXLOWER;
use hmac::{Hmac, Mac};
use http::{HeaderName, HeaderValue};
use sha2::Sha256;

use crate::dialect::{Claim, ReplyRule};

/// What signs the one reply to one proven request. It holds a state of the MAC, not the secret.
pub struct Seal {
    mac: Hmac<Sha256>,
    header: HeaderName,
    signs_type: bool,
}

impl Seal {
    /// Begins the MAC with what the request says.
    pub(super) fn new(mut mac: Hmac<Sha256>, rule: &ReplyRule, claim: &Claim<'_>) -> Box<Self> {
        rule.write_start(claim, &mut mac);
        Box::new(Self { mac, header: rule.header.clone(), signs_type: rule.signs_type })
    }

    /// The header field that signs a reply of this content type (empty where it has none) and whole body.
    pub fn sign(mut self, content_type: &[u8], body: &[u8]) -> (HeaderName, HeaderValue) {
        if self.signs_type {
            self.mac.update(content_type);
        }
        self.mac.update(body);
        let text = HEXLOWER.encode(&self.mac.finalize().into_bytes());
        // Hexadecimal digits are a header's.
        let value = HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""));
        (self.header, value)
    }
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seal({})", self.header)
    }
}
