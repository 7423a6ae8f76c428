//! HTTP message signatures (RFC 9421), with the parts that must be covered fixed by the recipe and not by the client.
//!
//! `Signature-Input` is read strictly, so that what a client sent is its own canonical text: it is signed as the line
//! `"@signature-params"` without being written anew.

use std::time::Duration;

use http::{HeaderName, Method};

use super::component::{Component, Covered, DERIVED, write_derived, write_field};
use super::fields::{Scanner, Value};
use super::template::Sink;
use super::{Inbound, Time};
use crate::clock::Micros;
use crate::denial::{Credential, Denial};

/// What a recipe asks of a signature.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    /// The application tag that a signature for this dialect carries; without one, the only signature counts.
    pub(super) tag: Option<Box<str>>,
    /// The scheme that clients use, as they see it: another hop may end TLS.
    pub(super) scheme: &'static str,
    /// What every signature covers, beside the digest of a body.
    pub(super) required: Covered,
    /// What a signature may cover.
    pub(super) allowed: Covered,
    /// The header fields that a signature may cover; the first is `content-digest`.
    pub(super) fields: Box<[HeaderName]>,
    /// Those of them that reach the backend, so that they must be covered where they are sent.
    pub(super) forwarded: Box<[HeaderName]>,
    /// What must be covered, for people.
    pub(super) text: Box<str>,
}

/// The digest of the body, which every rule lets a signature cover.
pub(super) const DIGEST: Component = Component::Field(0);

/// What one signature says of itself: a member of `Signature-Input`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Input<'r> {
    label: &'r str,
    /// The list and its parameters as sent, which is what is signed of them.
    pub(crate) text: &'r str,
    /// The components between the parentheses.
    list: &'r str,
    parameters: Parameters<'r>,
    pub(crate) covered: Covered,
}

/// The parameters of a signature (RFC 9421, section 2.3), as sent.
#[derive(Clone, Copy, Debug, Default)]
struct Parameters<'r> {
    created: Option<Time<'r>>,
    expires: Option<u64>,
    key_id: Option<&'r str>,
    algorithm: Option<&'r str>,
    nonce: Option<&'r str>,
    tag: Option<&'r str>,
    /// Something else, or one of these as another type.
    stray: bool,
}

impl Rule {
    /// The signature that counts: what it says of itself, and its base64.
    pub(crate) fn read<'r>(
        &self,
        request: &Inbound<'r>,
        inputs: &'r str,
        signatures: &'r str,
    ) -> Result<(Input<'r>, &'r str), Denial> {
        let mut input = self.input(inputs)?;
        let signature = self.signature(signatures, input.label)?;
        if input.parameters.stray {
            return Err(Denial::Malformed("a signature parameter that is not known here"));
        }
        if self.tag.is_none() && input.parameters.tag.is_some_and(|tag| tag.starts_with(OURS)) {
            return Err(Denial::Malformed("the signature's tag is for another dialect"));
        }
        input.covered = self.covered(input.list)?;
        self.demand(input.covered, request)?;
        Ok((input, signature))
    }

    /// The key id alone, of the signature that counts.
    pub(crate) fn key_id<'r>(&self, inputs: &'r str) -> Result<&'r str, Denial> {
        self.input(inputs)?.key_id()
    }

    /// The member that carries the rule's tag, or the only one.
    fn input<'r>(&self, inputs: &'r str) -> Result<Input<'r>, Denial> {
        let mut scanner = Scanner::new(inputs);
        let (mut found, mut members): (Option<Input<'r>>, _) = (None, 0_usize);
        loop {
            let input = member(&mut scanner).ok_or(Denial::Malformed(INPUT))?;
            members += 1;
            let counts = self.tag.is_none() || input.parameters.tag == self.tag.as_deref();
            if counts && found.replace(input).is_some() {
                return Err(Denial::Malformed("more than one signature that could count"));
            }
            if !scanner.next_member().ok_or(Denial::Malformed(INPUT))? {
                break;
            }
        }
        let found = found.ok_or(Denial::Malformed("no signature with this dialect's tag"))?;
        if members == 1 {
            return Ok(found);
        }
        let mut scanner = Scanner::new(inputs);
        let mut named = 0;
        while let Some(input) = member(&mut scanner) {
            named += usize::from(input.label == found.label);
            if scanner.next_member() != Some(true) {
                break;
            }
        }
        if named == 1 { Ok(found) } else { Err(Denial::Malformed("a label stands twice")) }
    }

    /// The base64 of the signature with this label.
    fn signature<'r>(&self, signatures: &'r str, label: &str) -> Result<&'r str, Denial> {
        let mut scanner = Scanner::new(signatures);
        let mut found = None;
        loop {
            let key = scanner.key().filter(|_| scanner.eat(b'='));
            let read = key.and_then(|key| Some((key, scanner.bytes()?)));
            let (key, bytes) = read.ok_or(Denial::Malformed(SIGNATURE))?;
            if key == label {
                if found.replace(bytes).is_some() {
                    return Err(Denial::Malformed("a label stands twice"));
                }
            } else if self.tag.is_none() {
                return Err(Denial::Malformed("more than one signature that could count"));
            }
            if !scanner.next_member().ok_or(Denial::Malformed(SIGNATURE))? {
                break;
            }
        }
        found.filter(|bytes| !bytes.is_empty()).ok_or(Denial::Missing(Credential::Signature))
    }

    /// The components of a list, each of them known, allowed, without parameters, and there once.
    fn covered(&self, list: &str) -> Result<Covered, Denial> {
        let mut covered = Covered::default();
        for name in names(list) {
            let component = self.component(name).filter(|found| self.allowed.has(*found));
            let component = component.ok_or(Denial::Malformed(
                "a covered component that is not known here, or that has parameters",
            ))?;
            if covered.has(component) {
                return Err(Denial::Malformed("a component is covered twice"));
            }
            covered = covered.with(component);
        }
        Ok(covered)
    }

    fn component(&self, name: &str) -> Option<Component> {
        if let Some((component, _)) = DERIVED.iter().find(|(_, known)| *known == name) {
            return Some(*component);
        }
        let name = name.strip_prefix('"')?.strip_suffix('"')?;
        let place = self.fields.iter().position(|field| field.as_str() == name)?;
        u8::try_from(place).ok().map(Component::Field)
    }

    fn header(&self, component: Component) -> Option<&HeaderName> {
        match component {
            Component::Field(place) => self.fields.get(usize::from(place)),
            Component::Method
            | Component::Authority
            | Component::Path
            | Component::Query
            | Component::TargetUri
            | Component::RequestTarget => None,
        }
    }

    /// Refuses a signature that covers less than it must, or what is not there.
    fn demand(&self, covered: Covered, request: &Inbound<'_>) -> Result<(), Denial> {
        let all = covered.with_parts();
        for (component, less) in LESS {
            if self.required.has(component) && !all.has(component) {
                return Err(Denial::Unsigned(less));
            }
        }
        for (place, name) in (0..).zip(&self.fields) {
            let component = Component::Field(place);
            if !covered.has(component) {
                if self.required.has(component) {
                    return Err(Denial::Unsigned(
                        "the signature does not cover a header field that it must",
                    ));
                }
                if self.forwarded.contains(name) && request.headers.contains(name) {
                    return Err(Denial::Unsigned(
                        "the signature does not cover a header field that the backend would get",
                    ));
                }
                continue;
            }
            let mut lines = 0_usize;
            for line in request.headers.get_all(name) {
                lines += 1;
                line.to_str()
                    .ok_or(Denial::Malformed("a covered header field is not plain ASCII"))?;
            }
            if lines == 0 {
                return Err(Denial::Malformed("a covered header field is not there"));
            }
            if lines > 1 && SINGLE.contains(name) {
                return Err(Denial::Malformed("a header field that holds one value stands twice"));
            }
        }
        if !request.body.is_empty() {
            if matches!(*request.method, Method::GET | Method::HEAD) {
                return Err(Denial::Unsigned("a body on a GET"));
            }
            if !covered.has(DIGEST) {
                return Err(Denial::Unsigned(
                    "the signature does not cover content-digest, and there is a body",
                ));
            }
        }
        Ok(())
    }

    /// Whether this signature covers the header field `name`.
    pub(crate) fn covers(&self, covered: Covered, name: &HeaderName) -> bool {
        (0..)
            .zip(&self.fields)
            .any(|(place, field)| field == name && covered.has(Component::Field(place)))
    }

    /// Writes the signature base (RFC 9421, section 2.5).
    pub(crate) fn write_base(
        &self,
        input: &Input<'_>,
        request: &Inbound<'_>,
        sink: &mut impl Sink,
    ) {
        for name in names(input.list) {
            sink.put(name.as_bytes());
            sink.put(b": ");
            match self.component(name) {
                Some(field @ Component::Field(_)) => {
                    if let Some(header) = self.header(field) {
                        write_field(header, request.headers, sink);
                    }
                }
                Some(derived) => write_derived(derived, request, self.scheme, sink),
                None => {}
            }
            sink.put(b"\n");
        }
        sink.put(b"\"@signature-params\": ");
        sink.put(input.text.as_bytes());
    }
}

impl<'r> Input<'r> {
    /// Who signed: an id without `"` or `\`, so that what was sent is what it says.
    pub(crate) fn key_id(&self) -> Result<&'r str, Denial> {
        let id = self.parameters.key_id.filter(|id| !id.is_empty());
        let id = id.ok_or(Denial::Missing(Credential::Key))?;
        if id.contains('\\') { Err(Denial::Garbled(Credential::Key)) } else { Ok(id) }
    }

    /// When it was signed.
    pub(crate) fn created(&self) -> Result<Time<'r>, Denial> {
        self.parameters.created.ok_or(Denial::Missing(Credential::Time))
    }

    /// For how long it is good: until it expires, or for `default`.
    pub(crate) fn window(&self, default: Duration, most: Duration) -> Result<Duration, Denial> {
        let Some(expires) = self.parameters.expires else { return Ok(default) };
        let until = Micros(expires.saturating_mul(1_000_000));
        let window = until.since(self.created()?.at);
        if window.is_zero() {
            return Err(Denial::Malformed("the signature expires before it was created"));
        }
        if window > most { Err(Denial::WindowTooLarge) } else { Ok(window) }
    }

    /// The name of the algorithm that it says it was made with.
    pub(crate) fn algorithm(&self) -> Option<&'r str> {
        self.parameters.algorithm
    }

    /// Its nonce, as sent.
    pub(crate) fn nonce(&self) -> Option<&'r str> {
        self.parameters.nonce
    }
}

/// The components of a list, each with its quotes and parameters.
fn names(list: &str) -> impl Iterator<Item = &str> {
    list.split(' ').filter(|name| !name.is_empty())
}

/// One member of `Signature-Input`: `label=("a" "b");created=1`.
fn member<'r>(scanner: &mut Scanner<'r>) -> Option<Input<'r>> {
    let label = scanner.key()?;
    if !scanner.eat(b'=') {
        return None;
    }
    let start = *scanner;
    if !scanner.eat(b'(') {
        return None;
    }
    let inside = *scanner;
    let mut list = "";
    if !scanner.eat(b')') {
        loop {
            scanner.text()?;
            while scanner.eat(b';') {
                parameter(scanner)?;
            }
            list = scanner.since(&inside);
            if scanner.eat(b')') {
                break;
            }
            if !scanner.eat(b' ') {
                return None;
            }
        }
    }
    let mut parameters = Parameters::default();
    while scanner.eat(b';') {
        let before = *scanner;
        let (key, value) = parameter(scanner)?;
        let digits = scanner.since(&before).split_once('=').map_or("", |(_, digits)| digits);
        parameters.take(key, value, digits);
    }
    let text = scanner.since(&start);
    Some(Input { label, text, list, parameters, covered: Covered::default() })
}

fn parameter<'r>(scanner: &mut Scanner<'r>) -> Option<(&'r str, Value<'r>)> {
    let key = scanner.key()?;
    let value = if scanner.eat(b'=') { scanner.value()? } else { Value::Other };
    Some((key, value))
}

impl<'r> Parameters<'r> {
    fn take(&mut self, key: &str, value: Value<'r>, written: &'r str) {
        let text = match key {
            "keyid" => &mut self.key_id,
            "alg" => &mut self.algorithm,
            "nonce" => &mut self.nonce,
            "tag" => &mut self.tag,
            _ => {
                let new = match (key, value) {
                    ("created", Value::Integer(seconds)) => {
                        let at = Micros(seconds.saturating_mul(1_000_000));
                        self.created.replace(Time { text: written, at }).is_none()
                    }
                    ("expires", Value::Integer(seconds)) => self.expires.replace(seconds).is_none(),
                    _ => false,
                };
                self.stray |= !new;
                return;
            }
        };
        let Value::Text(value) = value else {
            self.stray = true;
            return;
        };
        self.stray |= text.replace(value).is_some();
    }
}

/// Why a signature that leaves a part out is refused.
const LESS: [(Component, &str); 6] = [
    (Component::Method, "the signature does not cover @method"),
    (Component::Authority, "the signature does not cover @authority"),
    (Component::Path, "the signature does not cover @path"),
    (Component::Query, "the signature does not cover @query"),
    (Component::TargetUri, "the signature does not cover @target-uri"),
    (Component::RequestTarget, "the signature does not cover @request-target"),
];

const INPUT: &str =
    "a Signature-Input that is no dictionary of lists, each in its one canonical spelling";
const SIGNATURE: &str = "a Signature that is no dictionary of byte sequences";

/// Tags of our own profiles, which recipes that fix no tag leave alone.
const OURS: &str = "countersign-";

/// Fields of which a second line would be another message to who reads but one.
static SINGLE: [HeaderName; 4] = [
    http::header::CONTENT_TYPE,
    http::header::CONTENT_LENGTH,
    http::header::DATE,
    http::header::HOST,
];

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::*;
    use crate::checks::signature::sign;
    use crate::checks::signature::tests::accepts;
    use crate::key::{Algorithm, Secret, Signer};

    /// The request of RFC 9421, appendix B.2.
    const HEADERS: [(&str, &str); 6] = [
        ("host", "example.com"),
        ("date", "Tue, 20 Apr 2021 02:07:55 GMT"),
        ("content-type", "application/json"),
        (
            "content-digest",
            "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:",
        ),
        ("content-length", "18"),
        ("x-many", "one"),
    ];

    /// A rule that demands nothing, as the examples of the RFC do.
    fn lax() -> Rule {
        let fields =
            ["content-digest", "content-type", "content-length", "date", "x-many", "x-none"];
        let fields: Box<[_]> = fields.into_iter().map(HeaderName::from_static).collect();
        let derived = DERIVED.iter().fold(Covered::default(), |all, (one, _)| all.with(*one));
        Rule {
            tag: None,
            scheme: "https",
            required: Covered::default(),
            allowed: (0..).zip(&fields).fold(derived, |all, (n, _)| all.with(Component::Field(n))),
            fields,
            forwarded: Box::default(),
            text: Box::default(),
        }
    }

    /// The rule of a recipe: method, path and query at least.
    fn strict() -> Rule {
        let required = [Component::Method, Component::Path, Component::Query];
        let required = required.into_iter().fold(Covered::default(), Covered::with);
        Rule { required, forwarded: [HeaderName::from_static("x-many")].into(), ..lax() }
    }

    fn ask<T>(body: &[u8], ask: impl FnOnce(&Inbound<'_>) -> T) -> T {
        let mut headers = HeaderMap::new();
        for (name, value) in HEADERS {
            headers.append(name, HeaderValue::from_static(value));
        }
        let (method, path, query) = (&Method::POST, "/foo", Some("param=Value&Pet=dog"));
        let peer = std::net::Ipv4Addr::LOCALHOST.into();
        ask(&Inbound {
            method,
            path,
            query,
            host: "example.com",
            headers: (&headers).into(),
            body,
            peer,
        })
    }

    fn base(input: &str) -> String {
        ask(b"", |request| {
            let rule = lax();
            let inputs = format!("sig={input}");
            let (input, _) = rule.read(request, &inputs, "sig=:AA==:").unwrap();
            let mut out = Vec::new();
            rule.write_base(&input, request, &mut out);
            String::from_utf8(out).unwrap()
        })
    }

    /// What the strict rule says of a signature over a request with a body.
    fn verdict(input: &str) -> Result<(), Denial> {
        let inputs = format!("sig={input}");
        ask(b"{}", |request| strict().read(request, &inputs, "sig=:AA==:").map(|_| ()))
    }

    const GOOD: &str =
        r#"("@method" "@path" "@query" "content-digest" "x-many");created=1618884473;keyid="k""#;

    #[test]
    fn the_examples_of_the_rfc_are_signed_byte_for_byte() {
        let secret = "uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ==";
        let secret = data_encoding::BASE64.decode(secret.as_bytes()).unwrap();
        let ed25519 = "MC4CAQAwBQYDK2VwBCIEIJ+DYvh6SEqVTm50DFtMDoQikTmiCqirVv9mWG9qfSnF";
        let ed25519 =
            format!("-----BEGIN PRIVATE KEY-----\n{ed25519}\n-----END PRIVATE KEY-----\n");
        for (algorithm, secret, input, expected, signature) in [
            (
                Algorithm::HmacSha256,
                &*secret,
                r#"("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret""#,
                "\"date\": Tue, 20 Apr 2021 02:07:55 GMT\n\"@authority\": example.com\n\"content-type\": application/json\n\
                 \"@signature-params\": (\"date\" \"@authority\" \"content-type\");created=1618884473;keyid=\"test-shared-secret\"",
                "pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=",
            ),
            (
                Algorithm::Ed25519,
                ed25519.as_bytes(),
                r#"("date" "@method" "@path" "@authority" "content-type" "content-length");created=1618884473;keyid="test-key-ed25519""#,
                "\"date\": Tue, 20 Apr 2021 02:07:55 GMT\n\"@method\": POST\n\"@path\": /foo\n\"@authority\": example.com\n\
                 \"content-type\": application/json\n\"content-length\": 18\n\
                 \"@signature-params\": (\"date\" \"@method\" \"@path\" \"@authority\" \"content-type\" \"content-length\")\
                 ;created=1618884473;keyid=\"test-key-ed25519\"",
                "wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==",
            ),
        ] {
            assert_eq!(base(input), expected);
            let signer = Signer::read(algorithm, secret).unwrap();
            let (_, made) = sign(&signer, expected.as_bytes()).unwrap();
            assert_eq!(data_encoding::BASE64.encode(&made), signature);
        }
    }

    #[test]
    fn the_random_signatures_of_the_rfc_hold() {
        for (input, algorithm, public, signature) in [
            (
                r#"();created=1618884473;keyid="test-key-rsa-pss";nonce="b3k2pp5k7z-50gnwp.yemd""#,
                Algorithm::RsaPssSha512,
                RSA_PSS,
                "d2pmTvmbncD3xQm8E9ZV2828BjQWGgiwAaw5bAkgibUopemLJcWDy/lkbbHAve4cRAtx31Iq786U7it++wgGxbtRxf8Udx7zFZsckzXaJMkA7ChG52eSkFxykJeNqsrWH5S+oxNFlD4dzVuwe8DhTSja8xxbR/Z2cOGdCbzR72rgFWhzx2VjBqJzsPLMIQKhO4DGezXehhWwE56YCE+O6c0mKZsfxVrogUvA4HELjVKWmAvtl6UnCh8jYzuVG5WSb/QEVPnP5TmcAnLH1g+s++v6d4s8m0gCw1fV5/SITLq9mhho8K3+7EPYTU8IU1bLhdxO5Nyt8C8ssinQ98Xw9Q==",
            ),
            (
                r#"("date" "@method" "@path" "@query" "@authority" "content-type" "content-digest" "content-length");created=1618884473;keyid="test-key-rsa-pss""#,
                Algorithm::RsaPssSha512,
                RSA_PSS,
                "bbN8oArOxYoyylQQUU6QYwrTuaxLwjAC9fbY2F6SVWvh0yBiMIRGOnMYwZ/5MR6fb0Kh1rIRASVxFkeGt683+qRpRRU5p2voTp768ZrCUb38K0fUxN0O0iC59DzYx8DFll5GmydPxSmme9v6ULbMFkl+V5B1TP/yPViV7KsLNmvKiLJH1pFkh/aYA2HXXZzNBXmIkoQoLd7YfW91kE9o/CCoC1xMy7JA1ipwvKvfrs65ldmlu9bpG6A9BmzhuzF8Eim5f8ui9eH8LZH896+QIF61ka39VBrohr9iyMUJpvRX2Zbhl5ZJzSRxpJyoEZAFL2FUo5fTIztsDZKEgM4cUA==",
            ),
            (
                // Section 4.3.
                r#"("@method" "@authority" "@path" "content-digest" "content-type" "content-length");created=1618884475;keyid="test-key-ecc-p256""#,
                Algorithm::EcdsaP256Sha256,
                ECC_P256,
                "X5spyd6CFnAG5QnDyHfqoSNICd+BUP4LYMz2Q0JXlb//4Ijpzp+kve2w4NIyqeAuM7jTDX+sNalzA8ESSaHD3A==",
            ),
        ] {
            let public =
                format!("-----BEGIN PUBLIC KEY-----\n{public}\n-----END PUBLIC KEY-----\n");
            let secret = Secret::read(algorithm, public.as_bytes()).unwrap();
            let signature = data_encoding::BASE64.decode(signature.as_bytes()).unwrap();
            assert!(accepts(&secret, base(input).as_bytes(), &signature), "{input}");
            let other = base(&input.replace("16188844", "16188845"));
            assert!(!accepts(&secret, other.as_bytes(), &signature), "{input}");
        }
    }

    #[test]
    fn a_signature_that_covers_less_than_the_server_asks_is_refused_with_what_is_missing() {
        assert_eq!(verdict(GOOD), Ok(()));
        for (left_out, missing) in [
            ("\"@method\" ", "@method"),
            ("\"@path\" ", "@path"),
            ("\"@query\" ", "@query"),
            ("\"content-digest\" ", "content-digest"),
            (" \"x-many\"", "a header field that the backend would get"),
        ] {
            let Err(Denial::Unsigned(reason)) = verdict(&GOOD.replace(left_out, "")) else {
                panic!("{left_out}");
            };
            assert!(reason.contains(missing), "{reason}");
        }
        assert!(verdict("();created=1;keyid=\"k\"").is_err());
    }

    #[test]
    fn a_whole_covers_for_its_parts_and_order_is_the_clients() {
        let one = r#"("content-digest" "@request-target" "x-many" "@method");created=1;keyid="k""#;
        assert_eq!(verdict(one), Ok(()));
        assert_eq!(verdict(&one.replace("@request-target", "@target-uri")), Ok(()));
        let order = r#"("x-many" "content-digest" "@query" "@path" "@method");created=1;keyid="k""#;
        assert_eq!(verdict(order), Ok(()));
        assert_ne!(base(order), base(GOOD));
    }

    #[test]
    fn components_that_are_unknown_or_twice_or_parametrised_are_refused() {
        for added in [
            "\"@method\"",
            "\"@status\"",
            "\"@query-param\";name=\"Pet\"",
            "\"@scheme\"",
            "\"@signature-params\"",
            "\"Content-Type\"",
            "\"authorization\"",
            "\"x-none\"",
            "\"content-type\";sf",
            "\"content-type\";bs",
            "\"content-digest\";key=\"sha-512\"",
            "\"date\";req",
            "\"date\";tr",
            "\"@authority\";req",
            "\"\"",
            "\"date content-type\"",
            "\"\\\"date\\\"\"",
            "\"date\" \"date\"",
        ] {
            let input = GOOD.replacen('(', &format!("({added} "), 1);
            assert!(matches!(verdict(&input), Err(Denial::Malformed(_))), "{input}");
        }
    }

    #[test]
    fn a_list_in_another_spelling_than_its_canonical_one_is_refused() {
        for (from, to) in [
            ("(\"", "( \""),
            ("\")", "\" )"),
            ("\" \"", "\"  \""),
            ("\" \"", "\"\t\""),
            ("\" \"", "\"\""),
            (";created", "; created"),
            (";created", " ;created"),
            ("created=", "created= "),
            ("created=", "created=0"),
            ("created=", "created=+"),
            ("created=", "Created="),
            ("\"@path\"", "@path"),
            ("\"@path\"", ":QHBhdGg=:"),
            ("(\"@method\"", "\"@method\""),
            (";keyid=\"k\"", ";keyid=\"k"),
            (";keyid=\"k\"", ";keyid=\"k\";"),
            (";keyid=\"k\"", ";keyid=\"k\","),
            (";keyid=\"k\"", ";keyid=\"\\k\""),
        ] {
            let input = GOOD.replacen(from, to, 1);
            assert_ne!(input, GOOD);
            assert!(matches!(verdict(&input), Err(Denial::Malformed(_))), "{input}");
        }
    }

    #[test]
    fn parameters_that_are_unknown_or_twice_or_of_another_type_are_refused() {
        for added in [
            ";created=1618884473",
            ";keyid=\"k\"",
            ";keyid=\"l\"",
            ";nonce=\"a\";nonce=\"b\"",
            ";nonce=1",
            ";nonce=a",
            ";tag=?1",
            ";tag",
            ";alg=hmac-sha256",
            ";expires=\"2618884473\"",
            ";expires=1.5",
            ";expires=-1",
            ";more",
            ";more=1",
            ";created",
        ] {
            let input = [GOOD, added].concat();
            assert!(matches!(verdict(&input), Err(Denial::Malformed(_))), "{input}");
        }
        let all = ";expires=1618884500;nonce=\"a\\\"b\\\\\";alg=\"ed25519\";tag=\"app\"";
        assert_eq!(verdict(&[GOOD, all].concat()), Ok(()));
    }

    #[test]
    fn quotes_in_a_nonce_or_key_id_add_no_parameter() {
        let nonce = r#"x\";keyid=\"other"#;
        let inputs = format!(r#"sig={GOOD};nonce="{nonce}""#);
        let told = ask(b"", |request| {
            let rule = lax();
            let (input, _) = rule.read(request, &inputs, "sig=:AA==:").unwrap();
            (input.key_id().unwrap().to_owned(), input.nonce().unwrap().to_owned())
        });
        assert_eq!(told, ("k".to_owned(), nonce.to_owned()));
        let escaped = format!("sig={}", GOOD.replace("\"k\"", r#""k\"""#));
        assert_eq!(lax().key_id(&escaped), Err(Denial::Garbled(Credential::Key)));
        assert_eq!(lax().key_id("sig=()"), Err(Denial::Missing(Credential::Key)));
        assert_eq!(lax().key_id("sig=();keyid=\"\""), Err(Denial::Missing(Credential::Key)));
    }

    #[test]
    fn one_signature_counts_by_its_tag_or_because_it_is_the_only_one() {
        let ours = format!("{GOOD};tag=\"ours\"");
        let tagged = Rule { tag: Some("ours".into()), ..strict() };
        let read = |rule: &Rule, inputs: &str, signatures: &str| {
            ask(b"", |request| {
                rule.read(request, inputs, signatures).map(|(_, base64)| base64.to_owned())
            })
        };
        let two = format!("a={GOOD}, b={ours}");
        assert_eq!(read(&tagged, &two, "a=:AA==:, b=:BB==:"), Ok("BB==".to_owned()));
        assert_eq!(read(&tagged, &two, "b=:BB==:,a=:AA==:"), Ok("BB==".to_owned()));
        for (rule, inputs, signatures) in [
            (&strict(), &*two, "a=:AA==:, b=:BB==:"),
            (&strict(), &format!("a={GOOD}"), "a=:AA==:, b=:BB==:"),
            (&tagged, &format!("a={ours}, b={ours}"), "a=:AA==:, b=:BB==:"),
            (&tagged, &format!("a={ours}, a={ours}"), "a=:AA==:"),
            (&tagged, &format!("b={GOOD}, b={ours}"), "b=:AA==:"),
            (&tagged, &format!("b={ours}, b={GOOD}"), "b=:AA==:"),
            (&tagged, &two, "a=:AA==:"),
            (&tagged, &two, "b=:AA==:, b=:BB==:"),
            (&tagged, &two, "b=AA"),
            (&tagged, &two, "b=:BB==:;x"),
            (&tagged, &two, "b=:BB==:,"),
            (&tagged, &two, "b=::"),
            (&tagged, &two, ""),
            (&tagged, &format!("a={GOOD}"), "a=:AA==:"),
            (&tagged, &format!("a={GOOD};tag=\"Ours\""), "a=:AA==:"),
            (&strict(), &format!("a={GOOD};tag=\"countersign-1\""), "a=:AA==:"),
            (&strict(), "", "a=:AA==:"),
            (&strict(), &format!("a={GOOD}"), "b=:AA==:"),
        ] {
            assert!(read(rule, inputs, signatures).is_err(), "{inputs} {signatures}");
        }
    }

    #[test]
    fn a_signature_is_good_until_it_expires_and_no_longer_than_the_recipe_lets_it() {
        let (default, most) = (Duration::from_secs(5), Duration::from_mins(1));
        for (expires, window) in [
            ("", Ok(default)),
            (";expires=1618884474", Ok(Duration::from_secs(1))),
            (";expires=1618884533", Ok(most)),
            (";expires=1618884534", Err(Denial::WindowTooLarge)),
            (";expires=999999999999999", Err(Denial::WindowTooLarge)),
        ] {
            let text = format!("sig={GOOD}{expires}");
            let input = lax().input(&text).unwrap().window(default, most);
            assert_eq!(input, window, "{expires}");
        }
        for expires in [";expires=1618884473", ";expires=1618884472", ";expires=0"] {
            let text = format!("sig={GOOD}{expires}");
            let window = lax().input(&text).unwrap().window(default, most);
            assert!(matches!(window, Err(Denial::Malformed(_))), "{expires}");
        }
        let timeless = lax().input("sig=();keyid=\"k\"").unwrap().created();
        assert_eq!(timeless, Err(Denial::Missing(Credential::Time)));
    }

    // The public keys of RFC 9421, appendix B.1.
    const RSA_PSS: &str = "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAr4tmm3r20Wd/PbqvP1s2\n+QEtvpuRaV8Yq40gjUR8y2Rjxa6dpG2GXHbPfvMs8ct+Lh1GH45x28Rw3Ry53mm+\noAXjyQ86OnDkZ5N8lYbggD4O3w6M6pAvLkhk95AndTrifbIFPNU8PPMO7OyrFAHq\ngDsznjPFmTOtCEcN2Z1FpWgchwuYLPL+Wokqltd11nqqzi+bJ9cvSKADYdUAAN5W\nUtzdpiy6LbTgSxP7ociU4Tn0g5I6aDZJ7A8Lzo0KSyZYoA485mqcO0GVAdVw9lq4\naOT9v6d+nb4bnNkQVklLQ3fVAvJm+xdDOp9LCNCN48V2pnDOkFV6+U9nV5oyc6XI\n2wIDAQAB";
    const ECC_P256: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEqIVYZVLCrPZHGHjP17CTW0/+D9Lf\nw0EkjqF7xB4FivAxzic30tMM4GF+hR6Dxh71Z50VGGdldkkDXZCnTNnoXQ==";
}
