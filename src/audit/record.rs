//! What the trail tells, and the form of each record.
//!
//! Every line is one JSON object that begins with `v` (the version of this form), `kind` and `time` (RFC 3339, in
//! UTC). Of a request no query, header or body is kept, since parameters may be private; of its path what
//! [`conceal`](super::text) leaves. No secret, one-time code or signature is ever given to this module.

use std::net::IpAddr;
use std::sync::Arc;

use arrayvec::ArrayString;
use http::{Method, StatusCode};

use super::text::{conceal, escape, moment, number};
use crate::clock::Micros;
use crate::denial::{Denial, Shadowed};
use crate::gateway::forward::ForwardFault;
use crate::gateway::observe::{Outcome, Parting, Passed};
use crate::key::{Key, Tag};

/// The version of the form of records.
pub const VERSION: u32 = 1;

/// A request that proved who sent it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'r> {
    /// When it came.
    pub at: Micros,
    /// Its id.
    pub id: &'r str,
    /// Whose it is.
    pub key: &'r Key,
    /// Where it came from.
    pub peer: IpAddr,
    /// Its route.
    pub route: u16,
    /// Its method.
    pub method: &'r Method,
    /// Its path, as received.
    pub path: &'r str,
    /// Whether a signature proved it; else a key id alone was asked for.
    pub signed: bool,
}

/// How a request ended.
#[derive(Clone, Copy, Debug)]
pub struct Ending {
    /// How.
    pub outcome: Outcome,
    /// Whether a backend may have got it, where it ended before the answer began.
    pub unheard: Option<ForwardFault>,
    /// Why it was refused, if it was: a place in [`Denial::REASONS`].
    pub denial: Option<usize>,
    /// What rules in shadow would have refused.
    pub shadowed: Shadowed,
    /// Whether the gateway judged it alone, since the shared store could not be asked.
    pub is_local: bool,
    /// What the client was told: the backend's status, if it answered.
    pub status: Option<StatusCode>,
    /// Time from head to end, in microseconds.
    pub took: u64,
}

/// How a WebSocket ended.
#[derive(Clone, Copy, Debug)]
pub struct Closing {
    /// Why.
    pub parting: Parting,
    /// What passed through it.
    pub passed: Passed,
    /// Time that it was open, in microseconds.
    pub took: u64,
}

/// A request on its way to the trail: of a size, its texts elsewhere.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) at: Micros,
    id: ArrayString<36>,
    pub(super) tag: Tag,
    epoch: u64,
    pub(super) peer: IpAddr,
    route: u16,
    method: &'static str,
    signed: bool,
    /// Lengths of key id, account, application and path.
    lengths: [u32; 4],
    /// `None` for one that is about to be forwarded, and for a WebSocket that it opened.
    pub(super) ending: Option<Ending>,
    /// How the WebSocket ended that it opened.
    closing: Option<Closing>,
}

/// The texts of an entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Texts<'t> {
    pub(super) key: &'t str,
    pub(super) account: &'t str,
    application: &'t str,
    path: &'t str,
}

impl Entry {
    /// The entry of a request, whose texts are added to `text`.
    pub(super) fn of(request: &Request<'_>, ending: Option<Ending>, text: &mut String) -> Self {
        let key = request.key;
        let application =
            key.bindings.as_ref().and_then(|bindings| bindings.application.as_deref());
        let texts = [&*key.id, &*key.account, application.unwrap_or_default(), request.path];
        for part in texts {
            text.push_str(part);
        }
        Self {
            at: request.at,
            id: ArrayString::from(request.id).unwrap_or_default(),
            tag: key.tag,
            epoch: key.epoch,
            peer: request.peer,
            route: request.route,
            method: name(request.method),
            signed: request.signed,
            lengths: texts.map(|part| u32::try_from(part.len()).unwrap_or_default()),
            ending,
            closing: None,
        }
    }

    /// The same for the WebSocket that the request opened.
    pub(super) fn closed(self, closing: Closing) -> Self {
        Self { closing: Some(closing), ..self }
    }

    /// Takes the texts of this entry off the beginning of `text`.
    pub(super) fn texts<'t>(&self, text: &mut &'t str) -> Texts<'t> {
        let [key, account, application, path] = self.lengths.map(|length| {
            let length = usize::try_from(length).unwrap_or_default();
            let (part, rest) = text.split_at_checked(length).unwrap_or_default();
            *text = rest;
            part
        });
        Texts { key, account, application, path }
    }

    /// Whether a check refused it, and which: a place in [`Denial::REASONS`].
    pub(super) fn denial(&self) -> Option<usize> {
        self.ending.and_then(|ending| ending.denial)
    }

    /// Appends its record, without its end.
    pub(super) fn write(&self, texts: &Texts<'_>, routes: &[Arc<str>], out: &mut Vec<u8>) {
        let kind = match (&self.closing, &self.ending) {
            (Some(_), _) => "websocket",
            (None, Some(_)) => "request",
            (None, None) => "intent",
        };
        begin(kind, self.at, out);
        plain("request", &self.id, out);
        escaped("key", texts.key, out);
        escaped("account", texts.account, out);
        if !texts.application.is_empty() {
            escaped("application", texts.application, out);
        }
        count("epoch", self.epoch, out);
        address("address", self.peer, out);
        let route = routes.get(usize::from(self.route));
        plain("route", route.map_or("-", |route| route), out);
        plain("method", self.method, out);
        out.extend(b",\"path\":\"");
        conceal(texts.path, out);
        out.push(b'"');
        if !self.signed {
            plain("proof", "key_id", out);
        }
        if let Some(Closing { parting, passed, took }) = self.closing {
            plain("closed", parting.label(), out);
            count("bytes_up", passed.up, out);
            count("bytes_down", passed.down, out);
            count("took_us", took, out);
        }
        let Some(ending) = &self.ending else { return };
        plain("verdict", verdict(ending.outcome), out);
        if let Some(reason) = ending.reason() {
            plain("reason", reason, out);
        }
        if !ending.shadowed.is_empty() {
            let names = ending.shadowed.places().filter_map(|place| Denial::REASONS.get(place));
            plain("shadow", &names.copied().collect::<Vec<_>>().join(" "), out);
        }
        if ending.is_local {
            plain("judged", "local", out);
        }
        if let Some(status) = ending.status {
            count("status", u64::from(status.as_u16()), out);
        }
        count("took_us", ending.took, out);
    }
}

impl Ending {
    fn reason(&self) -> Option<&'static str> {
        match (self.denial, self.outcome) {
            (Some(denial), _) => Denial::REASONS.get(denial).copied(),
            (None, Outcome::Failed(fault)) => Some(fault_name(fault)),
            (None, _) => self.unheard.map(fault_name),
        }
    }
}

/// An act of whoever administers.
#[derive(Clone, Copy, Debug)]
pub struct Act<'a> {
    /// Who acts: the name of a token, a certificate or a user of this machine.
    pub actor: &'a str,
    /// In what role.
    pub role: &'a str,
    /// What is done, as `key.revoke`.
    pub action: &'a str,
    /// To what: a kind and its id, as `key/csk_…`.
    pub target: &'a str,
    /// Whether it was done, refused, or failed.
    pub verdict: &'a str,
    /// Why, in the actor's words or in those of whoever refused it.
    pub reason: Option<&'a str>,
    /// Where from, where it came over a network.
    pub address: Option<IpAddr>,
}

impl Act<'_> {
    pub(super) fn write(&self, at: Micros, out: &mut Vec<u8>) {
        begin("act", at, out);
        for (name, text) in [
            ("actor", self.actor),
            ("role", self.role),
            ("action", self.action),
            ("target", self.target),
            ("verdict", self.verdict),
        ] {
            escaped(name, text, out);
        }
        if let Some(reason) = self.reason {
            escaped("reason", reason, out);
        }
        if let Some(peer) = self.address {
            address("address", peer, out);
        }
    }
}

/// Appends the beginning of a record.
pub(super) fn begin(kind: &str, at: Micros, out: &mut Vec<u8>) {
    out.extend(b"{\"v\":1,\"kind\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.extend(b"\",\"time\":\"");
    moment(at, out);
    out.push(b'"');
}

/// Appends a member whose text needs no escape.
pub(super) fn plain(name: &str, text: &str, out: &mut Vec<u8>) {
    member(name, out);
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

/// Appends a member whose text may hold anything.
pub(super) fn escaped(name: &str, text: &str, out: &mut Vec<u8>) {
    member(name, out);
    out.push(b'"');
    escape(text, out);
    out.push(b'"');
}

/// Appends a member that is a number.
pub(super) fn count(name: &str, value: u64, out: &mut Vec<u8>) {
    member(name, out);
    number(value, out);
}

/// Appends a member that is an address.
pub(super) fn address(name: &str, address: IpAddr, out: &mut Vec<u8>) {
    member(name, out);
    out.push(b'"');
    match address {
        IpAddr::V4(v4) => {
            for (place, octet) in v4.octets().into_iter().enumerate() {
                if place > 0 {
                    out.push(b'.');
                }
                number(u64::from(octet), out);
            }
        }
        IpAddr::V6(v6) => out.extend(v6.to_string().bytes()),
    }
    out.push(b'"');
}

fn member(name: &str, out: &mut Vec<u8>) {
    out.extend(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend(b"\":");
}

const fn verdict(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Forwarded => "forwarded",
        Outcome::Answered => "answered",
        Outcome::Denied => "refused",
        Outcome::Cut => "cut",
        Outcome::Failed(_) => "no_reply",
        Outcome::Aborted => "aborted",
        Outcome::Panicked => "panicked",
    }
}

const fn fault_name(fault: ForwardFault) -> &'static str {
    match fault {
        ForwardFault::NoBackend => "no_backend",
        ForwardFault::Unsent => "unsent",
        ForwardFault::TimedOut => "timed_out",
        ForwardFault::Unknown => "outcome_unknown",
        ForwardFault::Expired => "expired",
        ForwardFault::BadReply => "bad_reply",
    }
}

/// The name of a method that a route may have.
fn name(method: &Method) -> &'static str {
    const KNOWN: [&str; 7] = ["GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS"];
    KNOWN.into_iter().find(|known| *known == method.as_str()).unwrap_or("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_waited_for_is_told_as_sent_or_unsent() {
        for (unheard, reason) in [
            (Some(ForwardFault::Unknown), Some("outcome_unknown")),
            (Some(ForwardFault::Unsent), Some("unsent")),
            (None, None),
        ] {
            let ending = Ending {
                outcome: Outcome::Aborted,
                unheard,
                denial: None,
                shadowed: Shadowed::default(),
                is_local: false,
                status: None,
                took: 1,
            };
            assert_eq!(ending.reason(), reason);
        }
    }
}
