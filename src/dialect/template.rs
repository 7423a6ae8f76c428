//! The text of what is signed: `"{timestamp}{method}{path}{?query}{body}"`, compiled to parts that write to a sink.

use data_encoding::HEXLOWER;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256, Sha384, Sha512};

use super::reading::Reading;

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
    Method,
    Host,
    Path,
    Query,
    /// The query with a `?` before it, or nothing when it is empty.
    MarkedQuery,
    Body,
}

impl Field {
    pub(super) const ALL: [(Self, &'static str); 9] = [
        (Self::Timestamp, "timestamp"),
        (Self::Key, "key"),
        (Self::Window, "window"),
        (Self::Method, "method"),
        (Self::Host, "host"),
        (Self::Path, "path"),
        (Self::Query, "query"),
        (Self::MarkedQuery, "?query"),
        (Self::Body, "body"),
    ];

    /// Whether it is a number, which the first digits of what follows could lengthen.
    const fn is_number(self) -> bool {
        matches!(self, Self::Timestamp | Self::Window)
    }

    /// Whether the client may write whatever it likes there.
    const fn is_free(self) -> bool {
        matches!(self, Self::Path | Self::Query | Self::MarkedQuery | Self::Body)
    }
}

/// A digest inside a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Inner {
    Sha256,
    Sha512Hex,
}

/// A piece of a message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Part {
    Literal(Box<str>),
    Field(Field),
    Digest(Inner, Box<[Self]>),
}

/// The values of the fields of one request, as slices of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Values<'r> {
    pub(crate) timestamp: &'r str,
    pub(crate) key: &'r str,
    pub(crate) window: &'r str,
    pub(crate) method: &'r str,
    pub(crate) host: &'r str,
    pub(crate) path: &'r str,
    /// The query without the signature's pair, in two pieces.
    pub(crate) query: [&'r str; 2],
    /// The body without the signature's pair, in two pieces.
    pub(crate) body: [&'r [u8]; 2],
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
        let digest = match digest {
            "sha256" => Inner::Sha256,
            "sha512-hex" => Inner::Sha512Hex,
            _ => return Err(format!("`{digest}` is no digest: sha256, sha512-hex")),
        };
        let inner = parse(text)?;
        // A digest of a digest would be counted as signed, and no exchange signs one.
        if inner.iter().any(|part| matches!(part, Part::Digest(..))) {
            return Err(format!("`{inside}`: a digest may not stand inside another"));
        }
        return Ok(Part::Digest(digest, inner));
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
            Part::Literal(text) => sink.put(text.as_bytes()),
            Part::Field(field) => write_field(*field, values, reading, sink),
            Part::Digest(Inner::Sha256, inner) => {
                let mut digest = Sha256::new();
                write_flat(inner, values, reading, &mut digest);
                sink.put(&digest.finalize());
            }
            Part::Digest(Inner::Sha512Hex, inner) => {
                let mut digest = Sha512::new();
                write_flat(inner, values, reading, &mut digest);
                let mut text = [0; 128];
                HEXLOWER.encode_mut(&digest.finalize(), &mut text);
                sink.put(&text);
            }
        }
    }
}

/// The inside of a digest holds literals and fields only: [`parse`] refuses another digest there.
fn write_flat(parts: &[Part], values: &Values<'_>, reading: Reading, sink: &mut impl Sink) {
    for part in parts {
        match part {
            Part::Literal(text) => sink.put(text.as_bytes()),
            Part::Field(field) => write_field(*field, values, reading, sink),
            Part::Digest(..) => {}
        }
    }
}

fn write_field(field: Field, values: &Values<'_>, reading: Reading, sink: &mut impl Sink) {
    match field {
        Field::Timestamp => sink.put(values.timestamp.as_bytes()),
        Field::Key => sink.put(values.key.as_bytes()),
        Field::Window => sink.put(values.window.as_bytes()),
        Field::Method => sink.put(values.method.as_bytes()),
        Field::Host => sink.put(values.host.as_bytes()),
        Field::Path => sink.put(values.path.as_bytes()),
        Field::Query => values.query.iter().for_each(|piece| reading.write(piece, sink)),
        Field::MarkedQuery => {
            if values.query.iter().any(|piece| !piece.is_empty()) {
                sink.put(b"?");
                values.query.iter().for_each(|piece| reading.write(piece, sink));
            }
        }
        Field::Body => values.body.iter().for_each(|piece| sink.put(piece)),
    }
}

/// What has no separator in a message, so that bytes could move from one field to the next.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Seams {
    /// A number is followed by the query: it must not begin with a digit.
    pub(crate) number_then_query: bool,
    /// A number is followed by the body: it must not begin with a digit.
    pub(crate) number_then_body: bool,
    /// The path or query runs into the body.
    pub(crate) text_then_body: bool,
}

impl Seams {
    /// Looks at each pair of neighbours, inside digests too.
    pub(super) fn of(parts: &[Part]) -> Self {
        let mut seams = Self::default();
        for part in parts {
            let Part::Digest(_, inner) = part else { continue };
            let within = Self::of(inner);
            seams.number_then_query |= within.number_then_query;
            seams.number_then_body |= within.number_then_body;
            seams.text_then_body |= within.text_then_body;
        }
        for (part, next) in parts.iter().zip(parts.iter().skip(1)) {
            let (Part::Field(field), Part::Field(next)) = (part, next) else { continue };
            seams.number_then_query |= field.is_number() && *next == Field::Query;
            seams.number_then_body |= field.is_number() && *next == Field::Body;
            seams.text_then_body |= field.is_free() && *next == Field::Body;
        }
        seams
    }
}

/// Whether `field` stands anywhere in `parts`, inside digests too.
pub(super) fn mentions(parts: &[Part], field: Field) -> bool {
    parts.iter().any(|part| match part {
        Part::Literal(_) => false,
        Part::Field(found) => *found == field,
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
        method: "POST",
        host: "api.example",
        path: "/order",
        query: ["a=1", ""],
        body: [b"{}", b""],
    };

    fn written(text: &str, values: &Values<'_>) -> String {
        let mut out = Vec::new();
        write(&parse(text).unwrap(), values, Reading::Raw, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_template_writes_its_fields_and_literals_in_order() {
        let text = "{timestamp}{method}{path}{?query}{body}|{key}\n{window}";
        assert_eq!(written(text, &VALUES), "1700000000000POST/order?a=1{}|key\n5000");
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

    #[test]
    fn seams_are_seen_where_no_literal_separates() {
        let seams = |text| Seams::of(&parse(text).unwrap());
        assert!(seams("{timestamp}{key}{window}{query}").number_then_query);
        assert!(seams("{path}{?query}{body}").text_then_body);
        assert!(seams("{path}{sha256:{window}{body}}").number_then_body);
        assert_eq!(seams("{method}\n{path}\n{query}\n{body}"), Seams::default());
    }
}
