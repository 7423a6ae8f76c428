//! Tokens (RFC 7515, RFC 7519) in the `Authorization` header: who signed, until when, and for which request.
//!
//! A token names its algorithm only to agree with the key's: the key record decides. What could bring a key along,
//! or ask for processing that is not understood here, is refused. Encodings have one spelling.

use std::ops::Range;

use arrayvec::ArrayVec;

use super::base64::Alphabet;
use super::json::{self, Flaw, Kind, Node, Value};
use super::json_rendering::Style;
use super::json_text::Text;
use super::{Encoding, Time, TimeUnit};
use crate::clock::Micros;
use crate::denial::{Credential, Denial};
use crate::key::Algorithm;

/// What the tokens of a dialect hold.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    /// The members of the header that mean something, and those of the payload.
    pub(super) members: [Members; 2],
    /// The algorithms that keys may have.
    pub(super) algorithms: Box<[Algorithm]>,
    /// How the time is written, where there is one.
    pub(super) unit: TimeUnit,
    /// How clients write a JSON body before they take its digest.
    pub(super) body: Option<Style>,
    /// Members of the payload that clients write and nobody reads.
    pub(super) constants: Box<[(Box<str>, Box<str>)]>,
}

/// Members by name.
pub(super) type Members = Box<[(Box<str>, Member)]>;

/// What a member of a token's header or payload is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Member {
    Algorithm,
    Type,
    Key,
    /// The key id once more, which must be the same.
    SecondKey,
    Nonce,
    /// The moment of signing, or after which it is void.
    Time,
    NotBefore,
    IssuedAt,
    /// `METHOD host/path`.
    Request,
    /// A list of one such text.
    Requests,
    /// The digest of the parameters, in hexadecimal.
    Digest,
    /// Its algorithm, by name.
    DigestAlgorithm,
    /// What no token may hold: another key, or more processing.
    Forbidden,
}

/// A token that was read. Nothing of it is proved.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token<'r> {
    /// Header and payload as sent: what is signed.
    pub(crate) signed: &'r str,
    /// The signature as sent.
    pub(crate) signature: &'r str,
    /// What the token says it is signed with.
    pub(crate) algorithm: Algorithm,
    pub(crate) key_id: &'r str,
    pub(crate) nonce: Option<&'r str>,
    /// The moment of signing, or after which it is void.
    pub(crate) time: Option<Time<'r>>,
    /// The moment before which it is no good.
    pub(crate) not_before: Option<Micros>,
    /// The request that it is for: `METHOD host/path`.
    pub(super) request: Option<&'r str>,
    /// The SHA-512 digest of the request's parameters.
    pub(super) digest: Option<[u8; 64]>,
}

impl Rule {
    /// Reads a token strictly: three parts, each in the one encoding it has, every member that means something once.
    pub(crate) fn read<'r>(
        &self,
        text: &'r str,
        room: &'r mut Vec<u8>,
        nodes: &mut Vec<Node>,
    ) -> Result<Token<'r>, Denial> {
        let parts = Parts::of(text)?;
        room.clear();
        let halves = [decode(parts.header, room)?, decode(parts.payload, room)?];
        let mut found = Found::default();
        for (members, half) in self.members.iter().zip(halves) {
            found.scan(members, room, half, nodes)?;
        }
        found.unescape(room)?;
        self.token(&parts, &found, room)
    }

    fn token<'r>(
        &self,
        parts: &Parts<'r>,
        found: &Found,
        room: &'r [u8],
    ) -> Result<Token<'r>, Denial> {
        let garbled = Denial::Garbled(Credential::Signature);
        let text = |member| found.text(member, room);
        let needed = |member, credential| match text(member) {
            None | Some("") if self.has(member) => Err(Denial::Missing(credential)),
            some => Ok(some),
        };
        if text(Member::Type).is_some_and(|kind| !kind.eq_ignore_ascii_case("JWT")) {
            return Err(garbled);
        }
        let named = |of: &&Algorithm| text(Member::Algorithm) == Some(jose_name(**of));
        let algorithm = self.algorithms.iter().find(named).copied().ok_or(garbled)?;
        let key_id = needed(Member::Key, Credential::Key)?.unwrap_or_default();
        if self.has(Member::SecondKey) && text(Member::SecondKey) != Some(key_id) {
            return Err(Denial::Garbled(Credential::Key));
        }
        let request = match (text(Member::Request), text(Member::Requests)) {
            (Some(_), Some(_)) => return Err(garbled),
            (one, of_list) => one.or(of_list),
        };
        let moment = |member| text(member).map(|text| UNIT.read(text)).transpose();
        let time = needed(Member::Time, Credential::Time)?;
        let time = time.map(|text| self.unit.read(text).map(|at| Time { text, at }));
        Ok(Token {
            signed: parts.signed,
            signature: parts.signature,
            algorithm,
            key_id,
            nonce: needed(Member::Nonce, Credential::Nonce)?,
            time: time.transpose()?,
            not_before: moment(Member::NotBefore)?.max(moment(Member::IssuedAt)?),
            request,
            digest: digest(text(Member::Digest), text(Member::DigestAlgorithm))?,
        })
    }

    /// Whether its tokens hold a digest of the parameters.
    pub(crate) fn digests(&self) -> bool {
        self.has(Member::Digest)
    }

    /// Whether tokens of this dialect have such a member.
    pub(super) fn has(&self, member: Member) -> bool {
        self.members.iter().flatten().any(|(_, known)| *known == member)
    }
}

/// The digest that a token holds of its request's parameters.
fn digest(text: Option<&str>, algorithm: Option<&str>) -> Result<Option<[u8; 64]>, Denial> {
    let garbled = Denial::Garbled(Credential::Signature);
    if algorithm.is_some_and(|name| name != DIGEST) {
        return Err(garbled);
    }
    let Some(text) = text else { return Ok(None) };
    let mut digest = [0; 64];
    if text.len() != 128 {
        return Err(garbled);
    }
    Encoding::Hex.decode(text.as_bytes(), &mut digest).ok_or(garbled)?;
    Ok(Some(digest))
}

/// The three parts of a token.
struct Parts<'r> {
    signed: &'r str,
    header: &'r str,
    payload: &'r str,
    signature: &'r str,
}

impl<'r> Parts<'r> {
    fn of(text: &'r str) -> Result<Self, Denial> {
        let parts = || {
            let (signed, signature) = text.rsplit_once('.')?;
            let (header, payload) = signed.split_once('.')?;
            let sound = text.len() <= LONGEST
                && [header, payload, signature].iter().all(|part| !part.is_empty());
            sound.then_some(Self { signed, header, payload, signature })
        };
        parts().ok_or(Denial::Garbled(Credential::Signature))
    }
}

/// Decodes one part behind what `room` holds. Padding and spare bits are refused, as is a further dot.
fn decode(part: &str, room: &mut Vec<u8>) -> Result<Range<usize>, Denial> {
    let garbled = Denial::Garbled(Credential::Signature);
    let start = room.len();
    room.resize(start + part.len() * 3 / 4, 0);
    let slot = room.get_mut(start..).ok_or(garbled)?;
    let length = Alphabet::Url.decode(part.as_bytes(), slot).ok_or(garbled)?;
    Ok(start..start + length)
}

/// Where in the room the members stand that mean something: texts without their quotes, numbers as written.
#[derive(Default)]
struct Found(ArrayVec<(Member, Range<usize>), { Member::COUNT }>);

impl Found {
    /// Finds the members of one half.
    fn scan(
        &mut self,
        members: &[(Box<str>, Member)],
        room: &[u8],
        half: Range<usize>,
        nodes: &mut Vec<Node>,
    ) -> Result<(), Denial> {
        let garbled = Denial::Garbled(Credential::Signature);
        let start = half.start;
        let document = json::object(room.get(half).unwrap_or_default(), nodes);
        let twice = Denial::Twice(Credential::Signature);
        let document =
            document.map_err(|flaw| if flaw == Flaw::NamedTwice { twice } else { garbled })?;
        for member in document.members() {
            let known = members.iter().find(|(name, _)| member.name == **name);
            let Some((_, meaning)) = known else { continue };
            let range = meaning.range(member.value).ok_or(Denial::Garbled(meaning.credential()))?;
            let place = (*meaning, start + range.start..start + range.end);
            self.0.try_push(place).map_err(|_| garbled)?;
        }
        Ok(())
    }

    /// Replaces texts that hold escapes by what they mean, which is never longer.
    fn unescape(&mut self, room: &mut [u8]) -> Result<(), Denial> {
        let garbled = Denial::Garbled(Credential::Signature);
        for (_, range) in &mut self.0 {
            let text = room.get_mut(range.clone()).unwrap_or_default();
            if memchr::memchr(b'\\', text).is_none() {
                continue;
            }
            let mut plain = ArrayVec::<u8, LONGEST_ESCAPED>::new();
            for char in Text::inside(std::str::from_utf8(text).unwrap_or_default()).chars() {
                let bytes = &mut [0; 4];
                let bytes = char.encode_utf8(bytes).as_bytes();
                plain.try_extend_from_slice(bytes).map_err(|_| garbled)?;
            }
            text.iter_mut().zip(&plain).for_each(|(to, from)| *to = *from);
            range.end = range.start + plain.len();
        }
        Ok(())
    }

    fn text<'r>(&self, member: Member, room: &'r [u8]) -> Option<&'r str> {
        let (_, range) = self.0.iter().find(|(known, _)| *known == member)?;
        std::str::from_utf8(room.get(range.clone())?).ok()
    }
}

impl Member {
    const COUNT: usize = 12;

    /// Where in its half the value of such a member stands; `None` when it is of no kind that the member can have.
    fn range(self, value: Value<'_>) -> Option<Range<usize>> {
        let inner = |value: Value<'_>| {
            let range = value.range();
            (value.kind() == Kind::String).then_some(range.start + 1..range.end - 1)
        };
        match self {
            Self::Forbidden => None,
            Self::Time | Self::NotBefore | Self::IssuedAt => {
                (value.kind() == Kind::Number).then(|| value.range())
            }
            Self::Requests => {
                let mut elements = value.elements();
                elements.next().and_then(inner).filter(|_| elements.next().is_none())
            }
            Self::Algorithm
            | Self::Type
            | Self::Key
            | Self::SecondKey
            | Self::Nonce
            | Self::Request
            | Self::Digest
            | Self::DigestAlgorithm => inner(value),
        }
    }

    /// What the client is told when it cannot be read.
    const fn credential(self) -> Credential {
        match self {
            Self::Key | Self::SecondKey => Credential::Key,
            Self::Time | Self::NotBefore | Self::IssuedAt => Credential::Time,
            Self::Nonce => Credential::Nonce,
            Self::Algorithm
            | Self::Type
            | Self::Request
            | Self::Requests
            | Self::Digest
            | Self::DigestAlgorithm
            | Self::Forbidden => Credential::Signature,
        }
    }
}

/// What tokens call an algorithm (RFC 7518, RFC 8037).
pub(super) const fn jose_name(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::HmacSha256 => "HS256",
        Algorithm::HmacSha384 => "HS384",
        Algorithm::HmacSha512 => "HS512",
        Algorithm::Ed25519 => "EdDSA",
        Algorithm::RsaSha256 => "RS256",
        Algorithm::RsaPssSha512 => "PS512",
        Algorithm::EcdsaP256Sha256 => "ES256",
    }
}

/// The longest token, in bytes.
const LONGEST: usize = 4_096;
/// The longest text that may be written with escapes, in bytes of what it means.
const LONGEST_ESCAPED: usize = 512;
/// What tokens call the digest of the parameters.
pub(super) const DIGEST: &str = "SHA512";
/// How tokens write the moments that RFC 7519 names.
pub(super) const UNIT: TimeUnit = TimeUnit::Seconds;

#[cfg(test)]
mod tests {
    use data_encoding::{BASE64URL_NOPAD, HEXLOWER_PERMISSIVE};
    use http::{HeaderMap, Method};
    use sha2::{Digest as _, Sha512};

    use super::super::jwt_rule::Content;
    use super::super::{Inbound, Reading, Scheme, builtin};
    use super::*;

    const COINBASE: &str = "coinbase_jwt";
    const UPBIT: &str = "upbit";

    fn rule(dialect: &str) -> Rule {
        let dialect = builtin(dialect).unwrap().unwrap();
        let Scheme::Token(tokens) = &dialect.scheme else { panic!("{dialect:?}") };
        tokens.rule.clone()
    }

    fn encoded(header: &str, payload: &str) -> String {
        let part = |text: &str| BASE64URL_NOPAD.encode(text.as_bytes());
        [&part(header), ".", &part(payload), ".c2ln"].concat()
    }

    /// The denial that reading such a token gives.
    fn denial(recipe: &str, token: &str) -> Option<Denial> {
        rule(recipe).read(token, &mut Vec::new(), &mut Vec::new()).err()
    }

    fn inbound<'r>(
        method: &'r Method,
        target: &'r str,
        body: &'r str,
        headers: &'r HeaderMap,
    ) -> Inbound<'r> {
        let (path, query) = target.split_once('?').map_or((target, None), |(p, q)| (p, Some(q)));
        Inbound {
            method,
            path,
            query,
            host: "api.example:8443",
            headers: headers.into(),
            body: body.as_bytes(),
            peer: std::net::Ipv4Addr::LOCALHOST.into(),
        }
    }

    const HS256: &str = r#"{"alg":"HS256","typ":"JWT"}"#;
    const BARE: &str = r#"{"access_key":"k","nonce":"n"}"#;

    #[test]
    fn what_a_token_says_is_read_from_both_halves() {
        let token = encoded(
            r#"{"alg":"ES256","typ":"JWT","kid":"org\/key \u00e9","nonce":"n1"}"#,
            r#"{"sub":"org/key é","exp":1700000120,"nbf":1700000000,"iat":1700000001,"uri":"GET h/p","other":[1]}"#,
        );
        let (rule, mut room) = (rule(COINBASE), Vec::new());
        let read = rule.read(&token, &mut room, &mut Vec::new()).unwrap();
        assert_eq!((read.key_id, read.nonce), ("org/key é", Some("n1")));
        assert_eq!(read.algorithm, Algorithm::EcdsaP256Sha256);
        assert_eq!(read.time.unwrap().at, Micros(1_700_000_120_000_000));
        assert_eq!(read.not_before, Some(Micros(1_700_000_001_000_000)));
        assert_eq!([read.signed, ".", read.signature].concat(), token);
    }

    #[test]
    fn a_token_has_one_spelling() {
        let good = encoded(HS256, BARE);
        assert_eq!(denial(UPBIT, &good), None);
        let garbled = Some(Denial::Garbled(Credential::Signature));
        let (header, rest) = good.split_once('.').unwrap();
        // A header of one byte more, and the same with spare bits set.
        let spaced = encoded(r#"{"alg":"HS256"} "#, BARE);
        let (before, after) = spaced.split_once("A.").unwrap();
        assert_eq!(denial(UPBIT, &spaced), None);
        for broken in [
            format!("{before}B.{after}"),
            format!("{before}A==.{after}"),
            format!("{header}=.{rest}"),
            format!("{header}+.{rest}"),
            good.replace('.', ".."),
            format!("{good}."),
            format!(".{good}"),
            format!("{header}.{}", rest.split_once('.').unwrap().0),
            format!(" {good}"),
            format!("{good}{}", "A".repeat(LONGEST)),
            String::new(),
            "...".into(),
        ] {
            assert_eq!(denial(UPBIT, &broken), garbled, "{broken}");
        }
    }

    #[test]
    fn an_algorithm_that_is_no_keys_and_a_header_that_brings_a_key_are_refused() {
        let garbled = Some(Denial::Garbled(Credential::Signature));
        for header in [
            r#"{"typ":"JWT"}"#,
            r#"{"alg":"none"}"#,
            r#"{"alg":"None"}"#,
            r#"{"alg":""}"#,
            r#"{"alg":null}"#,
            r#"{"alg":["HS256"]}"#,
            r#"{"alg":"hs256"}"#,
            r#"{"alg":"HS256","typ":"at+jwt"}"#,
            r#"{"alg":"HS256","crit":["exp"]}"#,
            r#"{"alg":"HS256","jwk":{}}"#,
            r#"{"alg":"HS256","j\u0077k":{}}"#,
            r#"{"alg":"HS256","jku":"https://evil.example"}"#,
            r#"{"alg":"HS256","x5c":[]}"#,
            r#"{"alg":"HS256","x5u":""}"#,
            r#"{"alg":"HS256","zip":"DEF"}"#,
            r#"{"alg":"HS256","b64":false}"#,
            r#"["alg"]"#,
            r#"{"alg":"HS256"}{}"#,
            r#"{"alg":"HS256""#,
        ] {
            assert_eq!(denial(UPBIT, &encoded(header, BARE)), garbled, "{header}");
        }
    }

    #[test]
    fn a_member_given_twice_is_refused_however_it_is_spelled() {
        let twice = Some(Denial::Twice(Credential::Signature));
        for payload in [
            r#"{"access_key":"k","nonce":"n","access_key":"k"}"#,
            r#"{"access_key":"k","nonce":"n","n\u006fnce":"m"}"#,
        ] {
            assert_eq!(denial(UPBIT, &encoded(HS256, payload)), twice, "{payload}");
        }
        let twice_alg = r#"{"alg":"HS256","alg":"none"}"#;
        assert_eq!(denial(UPBIT, &encoded(twice_alg, BARE)), twice);
    }

    #[test]
    fn what_is_missing_or_of_the_wrong_kind_is_named() {
        let key = r#"{"alg":"ES256","kid":"k","nonce":"n"}"#;
        for (header, payload, expected) in [
            (r#"{"alg":"ES256"}"#, r#"{"sub":"k","exp":1}"#, Denial::Missing(Credential::Key)),
            (key, r#"{"sub":"k","uri":"u"}"#, Denial::Missing(Credential::Time)),
            (key, r#"{"exp":1,"uri":"u"}"#, Denial::Garbled(Credential::Key)),
            (key, r#"{"sub":"l","exp":1}"#, Denial::Garbled(Credential::Key)),
            (key, r#"{"sub":"k","exp":"1"}"#, Denial::Garbled(Credential::Time)),
            (key, r#"{"sub":"k","exp":-1}"#, Denial::Garbled(Credential::Time)),
            (key, r#"{"sub":"k","exp":1e9}"#, Denial::Garbled(Credential::Time)),
            (key, r#"{"sub":"k","exp":1,"nbf":1.5}"#, Denial::Garbled(Credential::Time)),
            (key, r#"{"sub":"k","exp":1,"uris":[]}"#, Denial::Garbled(Credential::Signature)),
            (
                key,
                r#"{"sub":"k","exp":1,"uris":["a","b"]}"#,
                Denial::Garbled(Credential::Signature),
            ),
            (
                key,
                r#"{"sub":"k","exp":1,"uri":"a","uris":["a"]}"#,
                Denial::Garbled(Credential::Signature),
            ),
            (
                r#"{"alg":"ES256","kid":"k"}"#,
                r#"{"sub":"k","exp":1}"#,
                Denial::Missing(Credential::Nonce),
            ),
        ] {
            assert_eq!(denial(COINBASE, &encoded(header, payload)), Some(expected), "{payload}");
        }
    }

    #[test]
    fn a_token_is_for_one_method_host_and_path() {
        let (rule, headers) = (rule(COINBASE), HeaderMap::new());
        for (uri, good) in [
            ("POST api.example:8443/v3/orders", true),
            ("POST api.example/v3/orders", true),
            ("POST API.example/v3/orders", true),
            ("GET api.example/v3/orders", false),
            ("post api.example/v3/orders", false),
            ("POST api.example:443/v3/orders", false),
            ("POST other.example/v3/orders", false),
            ("POST api.example/v3/order", false),
            ("POST api.example/v3/orders?a=1", false),
            ("POST api.example/x/v3/orders", false),
            ("POST  api.example/v3/orders", false),
            ("POST /v3/orders", false),
            ("", false),
        ] {
            for name in [r#""uri":"U""#, r#""uris":["U"]"#] {
                let payload = format!(r#"{{"sub":"k","exp":1,{}}}"#, name.replace('U', uri));
                let token = encoded(r#"{"alg":"ES256","kid":"k","nonce":"n"}"#, &payload);
                let mut room = Vec::new();
                let token = rule.read(&token, &mut room, &mut Vec::new()).unwrap();
                let request = inbound(&Method::POST, "/v3/orders?a=1", "{}", &headers);
                let admitted = rule.admits(&token, &request, &[Reading::Raw], b"");
                assert_eq!(admitted.is_ok(), good, "{payload}");
            }
        }
    }

    #[test]
    fn the_digest_decides_the_reading_and_must_be_there() {
        let (rule, headers) = (rule(UPBIT), HeaderMap::new());
        let readings = [Reading::Raw, Reading::Decoded];
        let admitted = |target: &str, body: &str, digest: Option<[u8; 64]>| {
            let token = rule.write(&Content {
                algorithm: Algorithm::HmacSha512,
                key_id: "k",
                nonce: "n",
                issued: "0",
                time: "0",
                request: "",
                digest: digest.map(|digest| HEXLOWER_PERMISSIVE.encode(&digest)).as_deref(),
            });
            let (token, mut room) = ([&token, ".c2ln"].concat(), Vec::new());
            let token = rule.read(&token, &mut room, &mut Vec::new()).unwrap();
            // As clients write it: `name=value`, joined by `&`.
            let text = body.replace(['{', '}', '"'], "").replace(':', "=").replace(',', "&");
            let request = inbound(&Method::GET, target, body, &headers);
            rule.admits(&token, &request, &readings, text.as_bytes())
        };
        let of = |text: &str| Some(Sha512::digest(text).into());
        assert_eq!(admitted("/o", "", None), Ok(Reading::Raw));
        assert_eq!(admitted("/o?", "", None), Ok(Reading::Raw));
        assert_eq!(admitted("/o", "", of("")), Ok(Reading::Raw));
        assert_eq!(admitted("/o", "", of("a=1")), Err(Denial::BadSignature));
        assert_eq!(admitted("/o?a=%20", "", of("a=%20")), Ok(Reading::Raw));
        assert_eq!(admitted("/o?a=%20", "", of("a= ")), Ok(Reading::Decoded));
        assert_eq!(admitted("/o?a=1", "", of("a=2")), Err(Denial::BadSignature));
        assert_eq!(admitted("/o", r#"{"b":"x","a":1}"#, of("b=x&a=1")), Ok(Reading::Raw));
        assert_eq!(admitted("/o", r#"{"b":"x"}"#, of("b=y")), Err(Denial::BadSignature));
        for (target, body) in [("/o?a=1", ""), ("/o", r#"{"a":1}"#)] {
            assert!(matches!(admitted(target, body, None), Err(Denial::Unsigned(_))), "{target}");
        }
        let both = admitted("/o?a=1", r#"{"a":1}"#, of("a=1"));
        assert!(matches!(both, Err(Denial::Unsigned(_))));
    }

    #[test]
    fn no_token_makes_the_reader_fall() {
        let good = encoded(HS256, r#"{"access_key":"k\"\\/","nonce":"\u0041"}"#);
        let (rule, mut room) = (rule(UPBIT), Vec::new());
        for place in 0..good.len() {
            for byte in ['.', 'A', '_', '=', '\u{7f}'] {
                let mut bent = good.clone();
                bent.replace_range(place..=place, &byte.to_string());
                let _ = rule.read(&bent, &mut room, &mut Vec::new());
                let _ = rule.read(bent.split_at(place).1, &mut room, &mut Vec::new());
            }
        }
    }
}
