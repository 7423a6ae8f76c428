//! Where the signed bytes come from: the parts of a message with the bytes of each, for people.

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};

use super::attempt::Attempt;
use super::claim::Signed;
use super::jwt::Token;
use super::template::{self, Inner, Part, Values};
use super::{Dialect, Inbound, Reading, Room, percent_decoded};

/// A part of what is signed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Explained {
    /// What it is: the field's name in the recipe, or a literal.
    pub part: String,
    /// Its bytes as they are signed.
    pub bytes: Vec<u8>,
    /// What it was made of: the input of a digest, or the JSON that is signed in base64.
    pub inner: Vec<Self>,
}

impl Dialect {
    /// The parts of what this request would have to sign, under each reading, in the order of
    /// [`Dialect::signed_bytes`]; none when it makes no claim. The bytes of the parts, in a row, are what is signed.
    pub fn explain(&self, request: &Inbound<'_>) -> Vec<(Reading, Vec<Explained>)> {
        let mut room = Room::default();
        let Ok(claim) = self.claim(request, &mut room) else { return Vec::new() };
        let explained = |attempt: Attempt| {
            let parts = match &claim.signed {
                Signed::Text(message) => {
                    let values = self.values(&claim, request, attempt);
                    parts(&message.parts, &values, attempt.reading)
                }
                Signed::Token(_, rule, token) => halves(token, rule.digested(token, request)),
                Signed::Bytes(_) | Signed::Base(..) => {
                    let mut bytes = Vec::new();
                    self.write_message(&claim, request, attempt, &mut bytes);
                    lines(&bytes, request.body)
                }
            };
            (attempt.reading, parts)
        };
        self.attempts(&claim, request).map(explained).collect()
    }

    /// The signature of this request as written; `None` when it makes no claim.
    pub fn signature(&self, request: &Inbound<'_>) -> Option<String> {
        let mut room = Room::default();
        let claim = self.claim(request, &mut room).ok()?;
        Some(percent_decoded(claim.signature.as_bytes()).map(char::from).collect())
    }
}

fn parts(all: &[Part], values: &Values<'_>, reading: Reading) -> Vec<Explained> {
    let explained = |part: &Part| {
        let mut bytes = Vec::new();
        template::write(std::slice::from_ref(part), values, reading, &mut bytes);
        let (name, inner) = match part {
            Part::Digest(digest, inner) => {
                (name(*digest).to_owned(), parts(inner, values, reading))
            }
            Part::Literal(_)
            | Part::Field(_)
            | Part::Merged(_)
            | Part::Member(_)
            | Part::Params(_) => (part.to_string().trim_matches('`').to_owned(), Vec::new()),
        };
        Explained { part: name, bytes, inner }
    };
    all.iter().map(explained).collect()
}

const fn name(digest: Inner) -> &'static str {
    match digest {
        Inner::Sha256 => "SHA-256, as bytes",
        Inner::Sha512Hex => "SHA-512, in hexadecimal",
    }
}

/// Header and payload of a token, each in base64, with the JSON that it is.
fn halves(token: &Token<'_>, digest: Option<([u8; 64], Vec<u8>)>) -> Vec<Explained> {
    let (header, payload) = token.signed.split_once('.').unwrap_or((token.signed, ""));
    let digest = digest.map(|(digest, parameters)| Explained {
        part: "SHA-512, in hexadecimal".to_owned(),
        bytes: HEXLOWER.encode(&digest).into(),
        inner: vec![Explained {
            part: "parameters".to_owned(),
            bytes: parameters,
            inner: Vec::new(),
        }],
    });
    let half = |name: &str, text: &str, inner: Option<Explained>| {
        let json = BASE64URL_NOPAD.decode(text.as_bytes()).unwrap_or_default();
        let inner = inner.into_iter().collect();
        let inner = Explained { part: "JSON".to_owned(), bytes: json, inner };
        Explained { part: format!("{name}, in base64url"), bytes: text.into(), inner: vec![inner] }
    };
    let dot = Explained { part: ".".to_owned(), bytes: b".".to_vec(), inner: Vec::new() };
    vec![half("header", header, None), dot, half("payload", payload, digest)]
}

/// The lines of a text, each with its line break, and what the digest among them is of.
fn lines(bytes: &[u8], body: &[u8]) -> Vec<Explained> {
    let line = |line: &[u8]| {
        let text = String::from_utf8_lossy(line);
        let name = text.split_once(": ").map_or("line", |(name, _)| name).to_owned();
        let of = Explained { part: "body".to_owned(), bytes: body.to_vec(), inner: Vec::new() };
        let inner = if name == "\"content-digest\"" { vec![of] } else { Vec::new() };
        Explained { part: name, bytes: line.to_vec(), inner }
    };
    bytes.split_inclusive(|byte| *byte == b'\n').map(line).collect()
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;
    use crate::clock::Micros;
    use crate::dialect::{BUILTIN, Credentials, Draft, builtin};
    use crate::key::Algorithm;

    const ED25519: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";

    #[test]
    fn the_parts_in_a_row_are_what_is_signed_in_every_dialect() {
        for (name, _) in BUILTIN {
            let dialect = builtin(name).unwrap().unwrap();
            let algorithm = dialect.algorithms().find(|one| one.is_symmetric());
            let algorithm = algorithm.unwrap_or(Algorithm::Ed25519);
            let secret = if algorithm.is_symmetric() { "c2VjcmV0" } else { ED25519 };
            let private = dialect.read_signer(algorithm, secret.as_bytes()).unwrap();
            let by = Credentials { key_id: "k", signer: &private, passphrase: Some("p") };
            let example = dialect.example();
            let (path, query) = example.target.split_once('?').unwrap_or((&example.target, ""));
            let draft = Draft {
                method: example.method.clone(),
                path,
                query,
                body: &example.body,
                host: "api.example",
                window_ms: dialect.asks_window().then_some(5_000),
                lead_ms: 5_000,
                nonce: None,
            };
            let signed = dialect.sign(&draft, &by, Micros::from_millis(1_700_000_000_000)).unwrap();
            let headers: HeaderMap = signed.headers.into_iter().collect();
            let request = Inbound {
                method: &signed.method,
                path,
                query: signed.target.split_once('?').map(|(_, query)| query),
                host: "api.example",
                headers: (&headers).into(),
                body: signed.body.as_bytes(),
                peer: std::net::Ipv4Addr::LOCALHOST.into(),
            };
            let whole = dialect.signed_bytes(&request);
            let explained = dialect.explain(&request);
            assert!(!whole.is_empty(), "{name}");
            assert_eq!(whole.len(), explained.len(), "{name}");
            for ((reading, whole), (of, parts)) in whole.iter().zip(&explained) {
                let joined: Vec<u8> = parts.iter().flat_map(|part| part.bytes.clone()).collect();
                assert_eq!((reading, whole), (of, &joined), "{name}");
            }
        }
    }
}
