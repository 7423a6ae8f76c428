//! What a backend is told of a request, and how it checks that.
//!
//! Two header fields go with each forwarded request, and none of a client's own `countersign-*` ever does:
//!
//! ```text
//! countersign-identity: v=1; request=<id>; proof=<proof>; key=<key id>; account=<account>; venue=<venue>; permissions=<names>; client=<address>; deadline=<ms>; body=<digest>
//! countersign-mac: <64 lower hexadecimal digits>
//! ```
//!
//! One line, the parts in this order, parted by `; `. `proof` is `signature`, `key` (the client named a key and proved
//! nothing, as on routes that ask for a key id alone) or `none` (a public route). In `request`, `key`, `account`,
//! `venue` and the names of permissions, which `+` joins, every byte but `A-Z a-z 0-9 . _ ~ -` is written as `%XX`. On
//! routes without a key, `key`, `account` and `permissions` are `-`. `deadline` is the end of the signature's validity
//! in milliseconds since the Unix epoch, or `-`. `body` is the SHA-256 of the body as forwarded, in lower hexadecimal,
//! for an empty body too.
//!
//! The MAC is HMAC-SHA256 under the key that the upstream shares with its backends, over `countersign-1` LF method LF
//! target LF value of `countersign-identity`, where the target is path and query exactly as in the request line.
//!
//! A backend calls [`verify`] on each request it gets for somebody's data, and trusts nothing else about the sender:
//!
//! ```
//! use countersign::clock::Micros;
//! use countersign::identity::{self, IDENTITY_HEADER, MAC_HEADER};
//! use http::{HeaderMap, HeaderValue};
//!
//! let key = [7; 32]; // shared by gateway and backend
//! let value = "v=1; request=r-1; proof=signature; key=k%2F1; account=alice; venue=spot; permissions=read+trade; client=192.0.2.1; \
//!     deadline=-; body=e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
//! let mut headers = HeaderMap::new();
//! headers.insert(IDENTITY_HEADER, HeaderValue::from_static(value));
//! let mac = identity::mac(&key, "GET", "/api/v3/account", value.as_bytes());
//! headers.insert(MAC_HEADER, HeaderValue::from_str(&mac)?);
//!
//! let sender = identity::verify(&key, "GET", "/api/v3/account", &headers, b"", Micros::from_millis(0))?;
//! assert_eq!(sender.proof, identity::Proof::Signature);
//! assert_eq!(sender.account.as_deref(), Some("alice"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::error::Error;
use std::fmt::{self, Write as _};
use std::net::IpAddr;

use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderValue};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::clock::Micros;

/// Carries the identity.
pub const IDENTITY_HEADER: &str = "countersign-identity";

/// Carries the MAC over method, target and identity.
pub const MAC_HEADER: &str = "countersign-mac";

/// What the gateway proved of the sender.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Proof {
    /// The holder of the key signed this request.
    Signature,
    /// The request named a key; whoever knows its id could have sent it.
    Key,
    /// Nothing.
    None,
}

impl Proof {
    const ALL: [(Self, &'static str); 3] =
        [(Self::Signature, "signature"), (Self::Key, "key"), (Self::None, "none")];

    /// How the identity names it.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(proof, _)| *proof == self).map_or("", |(_, name)| name)
    }

    fn read(name: &str) -> Result<Self, Refusal> {
        let found = Self::ALL.iter().find(|(_, known)| *known == name);
        found.map(|(proof, _)| *proof).ok_or(Refusal::Garbled("proof"))
    }
}

/// Who sent a request, as the gateway proved it. Its `Display` is the value of [`IDENTITY_HEADER`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Identity {
    /// The gateway's id of the request.
    pub request: String,
    /// What was proved.
    pub proof: Proof,
    /// The key that signed, or was named; none on a public route.
    pub key: Option<String>,
    /// The account the key acts for; none on a public route.
    pub account: Option<String>,
    /// The venue the route belongs to.
    pub venue: Option<String>,
    /// The permissions of the key.
    pub permissions: Vec<String>,
    /// The client's address.
    pub client: IpAddr,
    /// After this moment the client no longer expects execution; in milliseconds since the epoch.
    pub deadline_ms: Option<u64>,
    /// SHA-256 of the body as forwarded.
    pub body: [u8; 32],
}

impl Identity {
    /// Reads the value of [`IDENTITY_HEADER`]: every field once, in order. Proves nothing by itself.
    pub fn parse(value: &str) -> Result<Self, Refusal> {
        let mut fields = Fields(value.split("; "));
        if fields.next("v")? != "1" {
            return Err(Refusal::Garbled("v"));
        }
        let identity = Self {
            request: fields.name("request")?.ok_or(Refusal::Garbled("request"))?,
            proof: Proof::read(fields.next("proof")?)?,
            key: fields.name("key")?,
            account: fields.name("account")?,
            venue: fields.name("venue")?,
            permissions: permissions(fields.next("permissions")?)?,
            client: fields.next("client")?.parse().map_err(|_| Refusal::Garbled("client"))?,
            deadline_ms: deadline(fields.next("deadline")?)?,
            body: digest(fields.next("body")?)?,
        };
        match fields.0.next() {
            Some(_) => Err(Refusal::Garbled("end")),
            None => Ok(identity),
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v=1; request={}; proof={}", percent_encode(&self.request), self.proof.name())?;
        for (field, name) in
            [("key", &self.key), ("account", &self.account), ("venue", &self.venue)]
        {
            write!(
                f,
                "; {field}={}",
                name.as_deref().map_or_else(|| ABSENT.into(), percent_encode)
            )?;
        }
        let permissions =
            self.permissions.iter().map(|name| percent_encode(name)).collect::<Vec<_>>().join("+");
        write!(f, "; permissions={}", if permissions.is_empty() { ABSENT } else { &permissions })?;
        write!(f, "; client={}", self.client)?;
        write!(
            f,
            "; deadline={}",
            self.deadline_ms.map_or_else(|| ABSENT.into(), |ms| ms.to_string())
        )?;
        write!(f, "; body={}", HEXLOWER.encode(&self.body))
    }
}

/// Checks that the gateway that shares `key` sent this very request, in time, and says for whom.
///
/// `target` is path and query exactly as received, `body` the body exactly as received.
pub fn verify(
    key: &[u8],
    method: &str,
    target: &str,
    headers: &HeaderMap,
    body: &[u8],
    now: Micros,
) -> Result<Identity, Refusal> {
    let value = one(headers, IDENTITY_HEADER)?;
    let claimed = one(headers, MAC_HEADER)?;
    let right = mac(key, method, target, value.as_bytes());
    if !bool::from(right.as_bytes().ct_eq(claimed.as_bytes())) {
        return Err(Refusal::WrongMac);
    }
    let identity = Identity::parse(value.to_str().map_err(|_| Refusal::Garbled(IDENTITY_HEADER))?)?;
    if identity.body != body_digest(body) {
        return Err(Refusal::WrongBody);
    }
    if identity.deadline_ms.is_some_and(|deadline| now > Micros::from_millis(deadline)) {
        return Err(Refusal::Late);
    }
    Ok(identity)
}

/// The value of [`MAC_HEADER`]: lower hex HMAC-SHA256 over a version line, method, target and `identity`.
pub fn mac(key: &[u8], method: &str, target: &str, identity: &[u8]) -> String {
    // HMAC takes a key longer than its block for its digest, and pads with zeros (RFC 2104): given as a whole block,
    // the key cannot have a wrong length.
    let digest = Sha256::digest(key);
    let key = if key.len() > 64 { digest.as_slice() } else { key };
    let mut block = [0; 64];
    block.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
    let mut mac = Hmac::<Sha256>::new(&block.into());
    for part in [b"countersign-1\n", method.as_bytes(), b"\n", target.as_bytes(), b"\n", identity] {
        mac.update(part);
    }
    HEXLOWER.encode(&mac.finalize().into_bytes())
}

/// SHA-256 of a body, as [`Identity::body`] states it.
pub fn body_digest(body: &[u8]) -> [u8; 32] {
    Sha256::digest(body).into()
}

/// Why a backend turns a request away, in the order the checks run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// This header is missing.
    Missing(&'static str),
    /// This header stands twice.
    Twice(&'static str),
    /// Not sent by the gateway, or changed since.
    WrongMac,
    /// This field cannot be read, or stands in the wrong place.
    Garbled(&'static str),
    /// Another body than the one the gateway forwarded.
    WrongBody,
    /// The deadline has passed.
    Late,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(header) => write!(f, "{header} is missing"),
            Self::Twice(header) => write!(f, "{header} stands twice"),
            Self::WrongMac => f.write_str("the MAC does not hold"),
            Self::Garbled(field) => write!(f, "{field} cannot be read"),
            Self::WrongBody => f.write_str("the body is not the one that was forwarded"),
            Self::Late => f.write_str("the deadline has passed"),
        }
    }
}

impl Error for Refusal {}

/// The only value of header `name`.
fn one<'h>(headers: &'h HeaderMap, name: &'static str) -> Result<&'h HeaderValue, Refusal> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().ok_or(Refusal::Missing(name))?;
    if values.next().is_some() { Err(Refusal::Twice(name)) } else { Ok(value) }
}

struct Fields<'v>(std::str::Split<'v, &'static str>);

impl<'v> Fields<'v> {
    fn next(&mut self, field: &'static str) -> Result<&'v str, Refusal> {
        let (name, value) =
            self.0.next().and_then(|pair| pair.split_once('=')).ok_or(Refusal::Garbled(field))?;
        if name == field && !value.is_empty() { Ok(value) } else { Err(Refusal::Garbled(field)) }
    }

    fn name(&mut self, field: &'static str) -> Result<Option<String>, Refusal> {
        let value = self.next(field)?;
        if value == ABSENT { Ok(None) } else { text(field, value).map(Some) }
    }
}

fn text(field: &'static str, value: &str) -> Result<String, Refusal> {
    percent_decode(value)
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or(Refusal::Garbled(field))
}

fn permissions(value: &str) -> Result<Vec<String>, Refusal> {
    if value == ABSENT {
        return Ok(Vec::new());
    }
    value.split('+').map(|name| text("permissions", name)).collect()
}

fn deadline(value: &str) -> Result<Option<u64>, Refusal> {
    match value {
        ABSENT => Ok(None),
        _ => value.parse().map(Some).map_err(|_| Refusal::Garbled("deadline")),
    }
}

fn digest(value: &str) -> Result<[u8; 32], Refusal> {
    let bytes = HEXLOWER.decode(value.as_bytes()).map_err(|_| Refusal::Garbled("body"))?;
    bytes.try_into().map_err(|_| Refusal::Garbled("body"))
}

/// `text` with every byte outside `[A-Za-z0-9._~-]` as `%XX`; a lone `-` too, as that says "none".
fn percent_encode(text: &str) -> String {
    if text == ABSENT {
        return "%2D".into();
    }
    let mut encoded = String::with_capacity(text.len());
    for &byte in text.as_bytes() {
        if byte.is_ascii_alphanumeric() || b"._~-".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}"); // a String takes everything
        }
    }
    encoded
}

/// The bytes behind `%XX`; none when two hex digits do not follow.
pub(crate) fn percent_decode(text: &str) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        decoded.push(match byte {
            b'%' => hex_digit(rest.next()?)? << 4 | hex_digit(rest.next()?)?,
            _ => byte,
        });
    }
    Some(decoded)
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

const ABSENT: &str = "-";

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    const KEY: [u8; 32] = [9; 32];
    const TARGET: &str = "/api/v3/order?symbol=BTCUSDT";
    const BODY: &[u8] = b"side=BUY";
    const NOW: Micros = Micros::from_millis(1_000);

    fn identity() -> Identity {
        Identity {
            request: "0190-1".into(),
            proof: Proof::Signature,
            key: Some("k/1".into()),
            account: Some("Åse; x=y".into()),
            venue: Some("spot".into()),
            permissions: vec!["read".into(), "trade".into()],
            client: IpAddr::from([192, 0, 2, 1]),
            deadline_ms: Some(1_000),
            body: body_digest(BODY),
        }
    }

    fn signed(value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(IDENTITY_HEADER, HeaderValue::from_str(value).unwrap());
        headers.insert(
            MAC_HEADER,
            HeaderValue::from_str(&mac(&KEY, "POST", TARGET, value.as_bytes())).unwrap(),
        );
        headers
    }

    fn check(headers: &HeaderMap) -> Result<Identity, Refusal> {
        verify(&KEY, "POST", TARGET, headers, BODY, NOW)
    }

    #[test]
    fn the_mac_is_the_documented_one() {
        // Python: hmac.new(b"\x09"*32, b"countersign-1\nGET\n/\nv=1", "sha256").hexdigest()
        let expected = "d2ab70f9a2f753969e1de241feaa7a0201056ed54d0df0d4c78aded532bc285e";
        assert_eq!(mac(&KEY, "GET", "/", b"v=1"), expected);
    }

    #[test]
    fn what_is_written_is_read_back() {
        assert_eq!(check(&signed(&identity().to_string())), Ok(identity()));
        let public = Identity {
            key: None,
            account: None,
            permissions: vec![],
            deadline_ms: None,
            ..identity()
        };
        assert!(
            public.to_string().contains("; key=-; account=-; venue=spot; permissions=-; client=")
        );
        assert_eq!(check(&signed(&public.to_string())), Ok(public));
    }

    #[test]
    fn an_account_called_dash_is_not_taken_for_none() {
        let dash = Identity { account: Some("-".into()), ..identity() };
        assert_eq!(Identity::parse(&dash.to_string()), Ok(dash));
    }

    #[test]
    fn a_flipped_bit_in_any_part_is_refused() {
        let (value, sound) = (identity().to_string(), signed(&identity().to_string()));
        let mac = sound[MAC_HEADER].as_bytes().to_vec();
        for (header, bytes) in [(IDENTITY_HEADER, value.into_bytes()), (MAC_HEADER, mac)] {
            for at in 0..bytes.len() * 8 {
                let mut changed = bytes.clone();
                changed[at / 8] ^= 1 << (at % 8);
                let Ok(changed) = HeaderValue::from_bytes(&changed) else { continue };
                let mut headers = sound.clone();
                headers.insert(header, changed);
                assert_eq!(check(&headers), Err(Refusal::WrongMac), "bit {at} of {header}");
            }
        }
        for at in 0..TARGET.len() * 7 {
            let mut target = TARGET.as_bytes().to_vec();
            target[at / 7] ^= 1 << (at % 7);
            let target = String::from_utf8(target).unwrap();
            assert_eq!(verify(&KEY, "POST", &target, &sound, BODY, NOW), Err(Refusal::WrongMac));
        }
        for at in 0..BODY.len() * 8 {
            let mut body = BODY.to_vec();
            body[at / 8] ^= 1 << (at % 8);
            assert_eq!(verify(&KEY, "POST", TARGET, &sound, &body, NOW), Err(Refusal::WrongBody));
        }
        for at in 0..256 {
            let mut key = KEY;
            key[at / 8] ^= 1 << (at % 8);
            assert_eq!(verify(&key, "POST", TARGET, &sound, BODY, NOW), Err(Refusal::WrongMac));
        }
        assert_eq!(verify(&KEY, "PUT", TARGET, &sound, BODY, NOW), Err(Refusal::WrongMac));
    }

    #[test]
    fn a_header_that_is_missing_or_twice_is_refused() {
        for header in [IDENTITY_HEADER, MAC_HEADER] {
            let mut headers = signed(&identity().to_string());
            let value = headers[header].clone();
            headers.append(header, value);
            assert_eq!(check(&headers), Err(Refusal::Twice(header)));
            headers.remove(header);
            assert_eq!(check(&headers), Err(Refusal::Missing(header)));
        }
    }

    #[test]
    fn the_deadline_holds_to_the_microsecond() {
        let headers = signed(&identity().to_string());
        let at = |micros| verify(&KEY, "POST", TARGET, &headers, BODY, Micros(micros));
        assert_eq!(at(1_000_000), Ok(identity()));
        assert_eq!(at(1_000_001), Err(Refusal::Late));
    }

    #[test]
    fn fields_out_of_place_are_refused_even_when_the_mac_holds() {
        let sound = identity().to_string();
        let cases = [
            (sound.replace("v=1", "v=2"), "v"),
            (sound.replace("; client=192.0.2.1", ""), "client"),
            (sound.replace("192.0.2.1", "192.0.2"), "client"),
            (sound.replace("deadline=1000", "deadline=soon"), "deadline"),
            (sound.replace("key=k%2F1", "key=k%2"), "key"),
            (sound.replace("key=k%2F1", "key=k%FF"), "key"),
            (sound.replace("key=k%2F1", "key="), "key"),
            (sound.replace("account=", "konto="), "account"),
            (sound.clone() + "; more=1", "end"),
            (sound.replace("body=", "body=00"), "body"),
        ];
        for (value, field) in cases {
            assert_eq!(check(&signed(&value)), Err(Refusal::Garbled(field)), "{value}");
        }
    }

    proptest! {
        #[test]
        fn every_name_survives(key: String, account: String, permission: String) {
            prop_assume!(!key.is_empty() && !account.is_empty() && !permission.is_empty());
            let identity = Identity {
                key: Some(key), account: Some(account), permissions: vec![permission], ..identity()
            };
            prop_assert!(identity.to_string().is_ascii());
            prop_assert_eq!(Identity::parse(&identity.to_string()), Ok(identity));
        }

        #[test]
        fn no_text_makes_the_reader_panic(value: String) {
            let _ = Identity::parse(&value);
        }
    }
}
