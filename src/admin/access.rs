//! From credentials to a caller: tokens, client certificates, identity providers, and the socket's peer.

use std::fmt;
use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::task::JoinSet;

use super::caller::{Caller, Peer, Proof, Role};
use super::provider::Provider;
use super::throttle::{Failure, Throttle};
use crate::clock::{Clock, Micros};

/// Who may call.
#[derive(Debug, Default)]
pub struct Access {
    /// Tokens of the configuration.
    pub tokens: Vec<Token>,
    /// Names in client certificates.
    pub certificates: Vec<Named>,
    /// Identity providers whose tokens are accepted.
    pub providers: Vec<Provider>,
    throttle: Throttle,
}

/// A token. Only its digest is kept.
#[derive(Clone, Eq, PartialEq)]
pub struct Token {
    /// Whose it is.
    pub name: Arc<str>,
    /// What it allows.
    pub role: Role,
    digest: [u8; 32],
}

/// A name in a client certificate, and what it allows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Named {
    /// The name: a DNS name, an e-mail address or a URI among the alternative names.
    pub name: String,
    /// What it allows.
    pub role: Role,
}

impl Token {
    /// A token called `name`.
    pub fn new(name: &str, role: Role, token: &[u8]) -> Self {
        Self { name: name.into(), role, digest: Sha256::digest(token).into() }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("name", &self.name)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

impl Access {
    /// Those who hold one of `tokens`, beside the peers of the unix socket.
    pub fn new(tokens: Vec<Token>, certificates: Vec<Named>, providers: Vec<Provider>) -> Self {
        Self { tokens, certificates, providers, throttle: Throttle::default() }
    }

    /// Whether anybody could call over TCP.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty() && self.certificates.is_empty() && self.providers.is_empty()
    }

    /// Follows what identity providers publish, for ever.
    pub(super) async fn follow(&self, clock: &Arc<dyn Clock>) {
        let mut sets = JoinSet::new();
        for set in self.providers.iter().filter_map(|provider| provider.set.clone()) {
            let clock = Arc::clone(clock);
            sets.spawn(async move { set.follow(&*clock).await });
        }
        while sets.join_next().await.is_some() {}
        std::future::pending::<()>().await;
    }

    /// Has a provider's keys read anew, where a token names one that may have been published since. What is wrong
    /// costs nothing here, and an address that has shown too much that was wrong learns nothing.
    pub(super) async fn learn(&self, peer: &Peer, fields: &HeaderMap, now: Micros) {
        let Some(token) = fields.get(AUTHORIZATION).and_then(bearer) else { return };
        if self.throttle.is_spent(peer.address, now) {
            return;
        }
        if let Some(set) = self.providers.iter().find_map(|one| one.unknown(token, now)) {
            set.ask(now).await;
        }
    }

    /// Who calls. A token that is sent counts alone, so that one may call with less than one could.
    pub(super) fn identify(
        &self,
        peer: &Peer,
        fields: &HeaderMap,
        now: Micros,
    ) -> Result<Caller, Failure> {
        let fail = || self.throttle.fail(peer.address, now);
        let caller = |actor: String, role, proof| Caller {
            actor: actor.into(),
            role,
            proof,
            address: peer.address,
        };
        let mut sent = fields.get_all(AUTHORIZATION).iter();
        let Some(authorization) = sent.next() else {
            if let Some(user) = peer.user {
                return Ok(caller(format!("uid:{user}"), Role::Security, Proof::Socket));
            }
            let named =
                self.certificates.iter().find(|known| peer.certificate.contains(&known.name));
            let named = named.ok_or_else(fail)?;
            return Ok(caller(format!("cert:{}", named.name), named.role, Proof::Certificate));
        };
        let token = bearer(authorization);
        let token = token.filter(|_| sent.next().is_none()).ok_or_else(fail)?;
        if let Some(known) = self.token(token) {
            return Ok(caller(known.name.as_ref().into(), known.role, Proof::Token));
        }
        // A right token costs little to find; a signature does not.
        if self.throttle.is_spent(peer.address, now) {
            return Err(fail());
        }
        let found = self.providers.iter().find_map(|provider| provider.identify(token, now));
        let (subject, role) = found.ok_or_else(fail)?;
        Ok(caller(format!("oidc:{subject}"), role, Proof::Provider))
    }

    /// Every known token is compared, whichever it is.
    fn token(&self, sent: &[u8]) -> Option<&Token> {
        let digest: [u8; 32] = Sha256::digest(sent).into();
        let mut found = None;
        for token in &self.tokens {
            if bool::from(token.digest.ct_eq(&digest)) {
                found = Some(token);
            }
        }
        found
    }
}

fn bearer(authorization: &HeaderValue) -> Option<&[u8]> {
    let (scheme, token) = authorization.as_bytes().split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access() -> Access {
        let tokens = vec![
            Token::new("ci", Role::Operator, b"right"),
            Token::new("eve", Role::Viewer, b"other"),
        ];
        let certificates = vec![Named { name: "alice@ops".into(), role: Role::Security }];
        Access::new(tokens, certificates, Vec::new())
    }

    fn with(values: &[&'static str]) -> HeaderMap {
        values.iter().map(|value| (AUTHORIZATION, HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn a_token_says_who_calls_and_anything_else_does_not() {
        let access = access();
        let peer = Peer::default();
        let known = access.identify(&peer, &with(&["Bearer right"]), Micros(0)).unwrap();
        assert_eq!((&*known.actor, known.role), ("ci", Role::Operator));
        let known = access.identify(&peer, &with(&["bEARER other"]), Micros(0)).unwrap();
        assert_eq!((&*known.actor, known.role), ("eve", Role::Viewer));
        for wrong in [
            &[][..],
            &[""],
            &["Bearer"],
            &["Bearer "],
            &["Bearer righ"],
            &["Bearer right "],
            &["Basic right"],
            &["right"],
            &["Bearer right", "Bearer right"],
        ] {
            access.identify(&peer, &with(wrong), Micros(0)).unwrap_err();
        }
    }

    #[test]
    fn a_right_token_is_served_however_many_wrong_ones_came() {
        let access = access();
        let peer = Peer { address: Some("192.0.2.1".parse().unwrap()), ..Peer::default() };
        let failures = (0..20).map(|_| access.identify(&peer, &with(&["Bearer x"]), Micros(0)));
        let last = failures.last().unwrap().unwrap_err();
        assert!(last.count == 20 && last.wait.is_some());
        assert!(access.identify(&peer, &with(&["Bearer right"]), Micros(0)).is_ok());
    }

    #[test]
    fn the_socket_and_a_certificate_need_no_token_but_one_that_is_sent_counts() {
        let access = access();
        let local = Peer { user: Some(1_000), ..Peer::default() };
        let caller = access.identify(&local, &with(&[]), Micros(0)).unwrap();
        assert_eq!((&*caller.actor, caller.role), ("uid:1000", Role::Security));
        let less = access.identify(&local, &with(&["Bearer other"]), Micros(0)).unwrap();
        assert_eq!(less.role, Role::Viewer);
        access.identify(&local, &with(&["Bearer wrong"]), Micros(0)).unwrap_err();

        let names: Arc<[String]> = Arc::from(["bob@ops".to_owned(), "alice@ops".to_owned()]);
        let peer = Peer { certificate: names, ..Peer::default() };
        assert_eq!(access.identify(&peer, &with(&[]), Micros(0)).unwrap().role, Role::Security);
        let peer = Peer { certificate: Arc::from(["bob@ops".to_owned()]), ..Peer::default() };
        access.identify(&peer, &with(&[]), Micros(0)).unwrap_err();
    }
}
