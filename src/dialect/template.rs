//! The text of what is signed: `"{timestamp}{method}{path}{?query}{body}"`, compiled to parts that write to a sink.

use std::fmt;

use data_encoding::HEXLOWER;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256, Sha384, Sha512};

use super::json::Object;
use super::json_rendering::Style;
use super::member::plain;
use super::reading::{Order, Reading};

/// Takes the signed bytes, piece by piece: a MAC, a digest, or a buffer.
pub(crate) trait Sink {
    fn put(&mut self, bytes: &[u8]);
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

impl Sink for Hmac<Sha256> {
    fn put(&mut self, bytes: &[u8]) {
        self.update(bytes);
    }
}

impl Sink for Hmac<Sha384> {
    fn put(&mut self, bytes: &[u8]) {
        self.update(bytes);
    }
}

impl Sink for Hmac<Sha512> {
    fn put(&mut self, bytes: &[u8]) {
        self.update(bytes);
    }
}

impl Sink for Sha256 {
    fn put(&mut self, bytes: &[u8]) {
        Digest::update(self, bytes);
    }
}

impl Sink for Sha512 {
    fn put(&mut self, bytes: &[u8]) {
        Digest::update(self, bytes);
    }
}

/// One field of a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Field {
    Timestamp,
    Key,
    Window,
    Nonce,
    Method,
    Host,
    Path,
    Query,
    /// The query with a `?` before it, or nothing when it is empty.
    MarkedQuery,
    /// The media type of a body, or nothing when there is none.
    ContentType,
    Body,
    /// The payload as it stands in its header.
    Payload,
}

impl Field {
    pub(super) const ALL: [(Self, &'static str); 12] = [
        (Self::Timestamp, "timestamp"),
        (Self::Key, "key"),
        (Self::Window, "window"),
        (Self::Nonce, "nonce"),
        (Self::Method, "method"),
        (Self::Host, "host"),
        (Self::Path, "path"),
        (Self::Query, "query"),
        (Self::MarkedQuery, "?query"),
        (Self::ContentType, "content-type"),
        (Self::Body, "body"),
        (Self::Payload, "payload"),
    ];
}

/// A digest inside a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Inner {
    Sha256,
    Sha512Hex,
}

impl Inner {
    const ALL: [(Self, &'static str); 2] =
        [(Self::Sha256, "sha256"), (Self::Sha512Hex, "sha512-hex")];
}

/// A piece of a message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Part {
    Literal(Box<str>),
    Field(Field),
    /// The query's pairs in order of their names, the signed time among them under this name.
    Merged(Box<str>),
    /// A member of the JSON body, of digits alone unless it names the path.
    Member(Box<str>),
    /// The JSON body, or in a dialect that has an envelope its `params`, by this exchange's rendering.
    Params(Style),
    Digest(Inner, Box<[Self]>),
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = |all: &[(Field, &'static str)], field: Field| {
            all.iter().find(|(known, _)| *known == field).map_or("", |(_, name)| *name)
        };
        match self {
            Self::Literal(text) => write!(f, "`{}`", text.escape_debug()),
            Self::Field(field) => write!(f, "`{{{}}}`", named(&Field::ALL, *field)),
            Self::Merged(name) => write!(f, "`{{query+{name}}}`"),
            Self::Member(name) => write!(f, "`{{field {name}}}`"),
            Self::Params(_) => f.write_str("`{params}`"),
            Self::Digest(..) => f.write_str("the digest"),
        }
    }
}

/// The values of the fields of one request, as slices of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Values<'r> {
    pub(crate) timestamp: &'r str,
    pub(crate) key: &'r str,
    pub(crate) window: &'r str,
    pub(crate) nonce: &'r str,
    pub(crate) method: &'r str,
    pub(crate) host: &'r str,
    pub(crate) path: &'r str,
    /// The query without the signature's pair, in two pieces.
    pub(crate) query: [&'r str; 2],
    /// The same pairs in order of their names.
    pub(crate) order: Order<'r>,
    pub(crate) content_type: &'r str,
    /// The body without the signature's pair, in two pieces.
    pub(crate) body: [&'r [u8]; 2],
    /// Whether the body is a form, which is read as the query is.
    pub(crate) form: bool,
    pub(crate) payload: &'r str,
    /// The JSON that is read by its members.
    pub(crate) object: Option<Object<'r>>,
    /// Whether the literals are written as Python does.
    pub(crate) python: bool,
}

/// Compiles the text of a template.
pub(super) fn parse(text: &str) -> Result<Box<[Part]>, String> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((literal, after)) = rest.split_once('{') {
        push_literal(&mut parts, literal);
        let end = closing(after).ok_or_else(|| format!("`{{{after}` is not closed by `}}`"))?;
        let (inside, after) = after.split_at_checked(end).unwrap_or((after, ""));
        parts.push(part(inside)?);
        rest = after.strip_prefix('}').unwrap_or(after);
    }
    push_literal(&mut parts, rest);
    Ok(parts.into())
}

fn push_literal(parts: &mut Vec<Part>, literal: &str) {
    if !literal.is_empty() {
        parts.push(Part::Literal(literal.into()));
    }
}

/// Where the brace that was opened before `text` is closed.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (place, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 0 => return Some(place),
            b'}' => depth -= 1,
            _ => {}
        }
    }
    None
}

fn part(inside: &str) -> Result<Part, String> {
    if let Some((digest, text)) = inside.split_once(':') {
        let known = Inner::ALL.iter().find(|(_, name)| *name == digest);
        let names = || Inner::ALL.map(|(_, name)| name).join(", ");
        let (digest, _) = known.ok_or_else(|| format!("`{digest}` is no digest: {}", names()))?;
        let inner = parse(text)?;
        // A digest of a digest would be counted as signed, and no exchange signs one.
        if inner.iter().any(|part| matches!(part, Part::Digest(..))) {
            return Err(format!("`{inside}`: a digest may not stand inside another"));
        }
        return Ok(Part::Digest(*digest, inner));
    }
    if let Some(name) = inside.strip_prefix("query+") {
        return Ok(Part::Merged(name.into()));
    }
    if let Some(name) = inside.strip_prefix("field ") {
        return Ok(Part::Member(name.into()));
    }
    if let Some(name) = inside.strip_prefix("params ") {
        let style = Style::named(name).filter(|style| *style != Style::CryptoComPython);
        return style.map(Part::Params).ok_or_else(|| format!("`{name}` is no rendering of JSON"));
    }
    let field = Field::ALL.iter().find(|(_, name)| *name == inside);
    field.map(|(field, _)| Part::Field(*field)).ok_or_else(|| {
        let known: Vec<_> = Field::ALL.iter().map(|(_, name)| *name).collect();
        format!("`{inside}` is no field: {}", known.join(", "))
    })
}

/// Writes the signed bytes.
pub(crate) fn write(parts: &[Part], values: &Values<'_>, reading: Reading, sink: &mut impl Sink) {
    for part in parts {
        match part {
            Part::Digest(Inner::Sha256, inner) => {
                let mut digest = Sha256::new();
                inner.iter().for_each(|part| write_flat(part, values, reading, &mut digest));
                sink.put(&digest.finalize());
            }
            Part::Digest(Inner::Sha512Hex, inner) => {
                let mut digest = Sha512::new();
                inner.iter().for_each(|part| write_flat(part, values, reading, &mut digest));
                let mut text = [0; 128];
                HEXLOWER.encode_mut(&digest.finalize(), &mut text);
                sink.put(&text);
            }
            Part::Literal(_)
            | Part::Field(_)
            | Part::Merged(_)
            | Part::Member(_)
            | Part::Params(_) => write_flat(part, values, reading, sink),
        }
    }
}

/// The inside of a digest holds no other: [`parse`] refuses one there.
fn write_flat(part: &Part, values: &Values<'_>, reading: Reading, sink: &mut impl Sink) {
    match part {
        Part::Literal(text) => sink.put(text.as_bytes()),
        Part::Field(field) => write_field(*field, values, reading, sink),
        Part::Merged(name) => {
            values.order.write(reading, Some((name, values.timestamp)), sink);
        }
        Part::Member(name) => {
            let member = values.object.and_then(|object| object.member(name));
            sink.put(member.and_then(|member| plain(member.value)).unwrap_or_default().as_bytes());
        }
        Part::Params(style) => {
            let (style, object) = rendered(*style, values.python, values.object);
            if let Some(object) = object {
                style.write(object, sink);
            }
        }
        Part::Digest(..) => {}
    }
}

/// The style and the object that it renders: Crypto.com has an envelope, and signs its `params`.
pub(super) fn rendered(
    style: Style,
    python: bool,
    object: Option<Object<'_>>,
) -> (Style, Option<Object<'_>>) {
    let params = || object?.member("params")?.value.object();
    match style {
        Style::CryptoCom | Style::CryptoComPython if python => (Style::CryptoComPython, params()),
        Style::CryptoCom | Style::CryptoComPython => (Style::CryptoCom, params()),
        Style::BingX | Style::Upbit => (style, object),
    }
}

fn write_field(field: Field, values: &Values<'_>, reading: Reading, sink: &mut impl Sink) {
    match field {
        Field::Timestamp => sink.put(values.timestamp.as_bytes()),
        Field::Key => sink.put(values.key.as_bytes()),
        Field::Window => sink.put(values.window.as_bytes()),
        Field::Nonce => sink.put(values.nonce.as_bytes()),
        Field::Method => sink.put(values.method.as_bytes()),
        Field::Host => write_host(values.host, sink),
        Field::Path => sink.put(values.path.as_bytes()),
        Field::Query => write_query(values, reading, sink),
        Field::MarkedQuery => {
            if values.query.iter().any(|piece| !piece.is_empty()) {
                sink.put(b"?");
                write_query(values, reading, sink);
            }
        }
        Field::ContentType => {
            if values.body.iter().any(|piece| !piece.is_empty()) {
                sink.put(values.content_type.as_bytes());
            }
        }
        Field::Body if reading.sorts() && values.order.of_body => {
            values.order.write(reading, None, sink);
        }
        Field::Body if values.form => {
            values.body.iter().for_each(|piece| reading.write(piece, sink));
        }
        Field::Body => values.body.iter().for_each(|piece| sink.put(piece)),
        Field::Payload => sink.put(values.payload.as_bytes()),
    }
}

fn write_query(values: &Values<'_>, reading: Reading, sink: &mut impl Sink) {
    if reading.sorts() && !values.order.of_body {
        values.order.write(reading, None, sink);
    } else {
        values.query.iter().for_each(|piece| reading.write(piece.as_bytes(), sink));
    }
}

/// In lower case, as every client signs it, however it spells the header field.
fn write_host(host: &str, sink: &mut impl Sink) {
    if !host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return sink.put(host.as_bytes());
    }
    for byte in host.bytes() {
        sink.put(&[byte.to_ascii_lowercase()]);
    }
}

/// Whether `field` stands anywhere in `parts`, inside digests too.
pub(crate) fn mentions(parts: &[Part], field: Field) -> bool {
    parts.iter().any(|part| match part {
        Part::Field(found) => *found == field,
        Part::Merged(_) => matches!(field, Field::Query | Field::Timestamp),
        Part::Literal(_) | Part::Member(_) | Part::Params(_) => false,
        Part::Digest(_, inner) => mentions(inner, field),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUES: Values<'static> = Values {
        timestamp: "1700000000000",
        key: "key",
        window: "5000",
        nonce: "7",
        method: "POST",
        host: "api.example",
        path: "/order",
        query: ["a=1", ""],
        order: Order::NONE,
        content_type: "application/json",
        body: [b"{}", b""],
        form: false,
        payload: "e30=",
        object: None,
        python: false,
    };

    fn written(text: &str, values: &Values<'_>) -> String {
        let mut out = Vec::new();
        write(&parse(text).unwrap(), values, Reading::Raw, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_template_writes_its_fields_and_literals_in_order() {
        let text =
            "{timestamp}{method}{path}{?query}{body}|{key}\n{window}{nonce}{content-type}{payload}";
        assert_eq!(
            written(text, &VALUES),
            "1700000000000POST/order?a=1{}|key\n50007application/jsone30="
        );
        let empty = Values { query: ["", ""], ..VALUES };
        assert_eq!(written("{path}{?query}", &empty), "/order");
    }

    #[test]
    fn a_digest_stands_where_the_template_puts_it() {
        let empty = Values { body: [b"", b""], ..VALUES };
        let text = written("{sha512-hex:{body}}", &empty);
        assert!(text.starts_with("cf83e1357eefb8bd") && text.len() == 128, "{text}");
    }

    #[test]
    fn a_template_with_an_unknown_field_or_an_open_brace_is_refused() {
        for text in ["{nothing}", "{body", "{md5:{body}}", "a{b", "{sha256:{sha512-hex:{body}}}"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
