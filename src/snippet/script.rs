//! The steps that sign one request, in no language yet.

use crate::dialect::TimeUnit;
use crate::key::Algorithm;

/// A value that a script gives a name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Var {
    Key,
    Passphrase,
    Method,
    Host,
    Path,
    Query,
    Body,
    Payload,
    Timestamp,
    /// The moment of signing, where the timestamp is a deadline.
    Issued,
    /// The moment after which a signature is void.
    Expires,
    Nonce,
    Digest,
    Parameters,
    /// A JSON body's members up to where the signature joins them.
    Opening,
    /// The rest of that body.
    Content,
    /// The header and the payload of a token.
    Header,
    Claims,
    Token,
    Message,
    Signature,
}

impl Var {
    /// Its name, a word in every language.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Passphrase => "passphrase",
            Self::Method => "method",
            Self::Host => "host",
            Self::Path => "path",
            Self::Query => "query",
            Self::Body => "body",
            Self::Payload => "payload",
            Self::Timestamp => "timestamp",
            Self::Issued => "issued",
            Self::Expires => "expires",
            Self::Nonce => "nonce",
            Self::Digest => "digest",
            Self::Parameters => "parameters",
            Self::Opening => "opening",
            Self::Content => "content",
            Self::Header => "header",
            Self::Claims => "claims",
            Self::Token => "token",
            Self::Message => "message",
            Self::Signature => "signature",
        }
    }
}

/// A piece of text, or of bytes where it is [`Piece::Sha256`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Piece {
    /// As it stands.
    Text(String),
    /// A value.
    Var(Var),
    /// A value, percent-encoded.
    Escaped(Var),
    /// The pairs of a query in order of their names, with one more where it is given.
    Sorted(Var, Option<(String, Var)>),
    /// Names and values in a row, in order of the names, of this member of the JSON body.
    Rendered(String),
    /// The members of the JSON body as `name=value`, as they stand.
    Pairs,
    /// The 32 bytes of a SHA-256.
    Sha256(Vec<Self>),
    /// A SHA-256 in base64.
    Sha256Base64(Vec<Self>),
    /// A SHA-512 in hexadecimal.
    Sha512Hex(Vec<Self>),
    /// Text in base64.
    Base64(Vec<Self>),
    /// Text in base64 for URLs, without padding.
    Base64Url(Vec<Self>),
}

impl Piece {
    fn rename(&mut self, from: Var, to: Var) {
        match self {
            Self::Text(_) | Self::Rendered(_) | Self::Pairs => {}
            Self::Var(var) | Self::Escaped(var) | Self::Sorted(var, None) => rename(var, from, to),
            Self::Sorted(var, Some((_, value))) => {
                rename(var, from, to);
                rename(value, from, to);
            }
            Self::Sha256(inner)
            | Self::Sha256Base64(inner)
            | Self::Sha512Hex(inner)
            | Self::Base64(inner)
            | Self::Base64Url(inner) => {
                for piece in inner {
                    piece.rename(from, to);
                }
            }
        }
    }
}

fn rename(var: &mut Var, from: Var, to: Var) {
    if *var == from {
        *var = to;
    }
}

/// Pieces in a row.
pub(crate) type Pieces = Vec<Piece>;

/// How a nonce is made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fresh {
    /// The clock in milliseconds.
    Clock,
    /// A random UUID.
    Uuid,
}

/// One step before the message is put together.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Step {
    /// Gives a name to text.
    Let(Var, Pieces),
    /// The clock, this many milliseconds ahead.
    Clock(Var, TimeUnit, u64),
    /// A nonce.
    Nonce(Fresh),
    /// The passphrase, as a MAC of itself in base64.
    KeyedPassphrase,
}

/// How the signature is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Writing {
    Hex,
    Base64,
    Base64Url,
}

/// A program that signs one request and sends it.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a question of its own")]
pub(crate) struct Script {
    /// Whose dialect it is.
    pub(crate) title: String,
    /// Where to send it, without the path.
    pub(crate) base: String,
    pub(crate) method: String,
    pub(crate) has_passphrase: bool,
    /// Whether the secret is base64 of the MAC key.
    pub(crate) secret_in_base64: bool,
    pub(crate) algorithm: Algorithm,
    pub(crate) writing: Writing,
    /// What comes before the message.
    pub(crate) before: Vec<Step>,
    pub(crate) message: Pieces,
    /// What comes after the signature.
    pub(crate) after: Vec<Step>,
    /// Header fields, in order.
    pub(crate) headers: Vec<(String, Pieces)>,
    pub(crate) has_query: bool,
    pub(crate) has_body: bool,
    /// How to check who answered.
    pub(crate) reply: Option<ReplyCheck>,
}

/// What signs a reply: a MAC, in hexadecimal, of these pieces, then of the reply's content type, then of its body.
#[derive(Clone, Debug)]
pub(crate) struct ReplyCheck {
    /// The header field that holds it.
    pub(crate) header: String,
    pub(crate) start: Pieces,
    pub(crate) signs_type: bool,
}

impl Script {
    /// What the first lines say.
    pub(crate) fn comments(&self) -> Vec<String> {
        let names =
            if self.has_passphrase { "KEY, SECRET and PASSPHRASE" } else { "KEY and SECRET" };
        let secret = match self.algorithm {
            Algorithm::HmacSha256 | Algorithm::HmacSha384 | Algorithm::HmacSha512 => "",
            Algorithm::Ed25519 => "SECRET is the Ed25519 private key in PEM.",
            Algorithm::RsaSha256 | Algorithm::RsaPssSha512 => {
                "SECRET is the RSA private key in PEM."
            }
            Algorithm::EcdsaP256Sha256 => "SECRET is the P-256 private key in PEM.",
        };
        let mut lines = vec![
            self.title.clone(),
            "Signs one request, sends it, and prints the answer.".to_owned(),
            format!("{names} come from the environment."),
        ];
        if !secret.is_empty() {
            lines.push(secret.to_owned());
        }
        lines
    }

    /// Whether it signs with a secret that both sides hold.
    pub(crate) fn has_mac(&self) -> bool {
        self.algorithm.is_symmetric()
    }

    /// Whether any of the message's pieces is the bare bytes of a digest.
    pub(crate) fn signs_digest(&self) -> bool {
        self.message.iter().any(|piece| matches!(piece, Piece::Sha256(_)))
    }

    /// What holds the message: a value that is all of it, or one of its own.
    pub(crate) fn message_var(&self) -> Var {
        match &*self.message {
            [Piece::Var(var)] => *var,
            _ => Var::Message,
        }
    }

    /// Calls `from` `to` from now on.
    pub(crate) fn rename(&mut self, from: Var, to: Var) {
        let steps = self.before.iter_mut().chain(&mut self.after).flat_map(|step| match step {
            Step::Let(_, pieces) => pieces.iter_mut(),
            Step::Clock(var, ..) => {
                rename(var, from, to);
                [].iter_mut()
            }
            Step::Nonce(_) | Step::KeyedPassphrase => [].iter_mut(),
        });
        let headers = self.headers.iter_mut().flat_map(|(_, pieces)| pieces);
        let reply = self.reply.iter_mut().flat_map(|reply| &mut reply.start);
        for piece in steps.chain(&mut self.message).chain(headers).chain(reply) {
            piece.rename(from, to);
        }
    }

    /// Whether the passphrase is sent as a MAC of itself.
    pub(crate) fn keys_passphrase(&self) -> bool {
        self.before.contains(&Step::KeyedPassphrase)
    }

    /// Whether `var` is given a value more than once.
    pub(crate) fn changes(&self, var: Var) -> bool {
        let gives = |step: &&Step| matches!(step, Step::Let(named, _) if *named == var);
        self.before.iter().chain(&self.after).filter(gives).count() > 1
    }
}

/// What a program says of a reply that fails its check.
pub(crate) const UNSIGNED: &str = "the reply is not signed by who has the secret";

/// The name of the hash that the algorithm signs with, as most libraries have it.
pub(crate) const fn hash(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::HmacSha256
        | Algorithm::RsaSha256
        | Algorithm::EcdsaP256Sha256
        | Algorithm::Ed25519 => "sha256",
        Algorithm::HmacSha384 => "sha384",
        Algorithm::HmacSha512 | Algorithm::RsaPssSha512 => "sha512",
    }
}

/// Texts that stand side by side as one.
pub(crate) fn joined(pieces: Pieces) -> Pieces {
    let mut all: Pieces = Vec::new();
    for piece in pieces {
        match (all.last_mut(), &piece) {
            (_, Piece::Text(text)) if text.is_empty() => {}
            (Some(Piece::Text(before)), Piece::Text(text)) => before.push_str(text),
            _ => all.push(piece),
        }
    }
    all
}

/// The pieces as one line of source where it fits, else as several: one for each line of the text, broken further where
/// an item of a list ends.
pub(crate) fn lines(pieces: &[Piece], write: impl Fn(&[Piece]) -> String) -> Vec<Pieces> {
    if fits(&write(pieces)) {
        return vec![pieces.to_vec()];
    }
    let fits = |line: &Pieces, more: &[Piece]| fits(&write(&joined([&**line, more].concat())));
    let mut all: Vec<Pieces> = Vec::new();
    for item in items(pieces) {
        match all.last_mut() {
            Some(line) if !is_whole(line, &item) && fits(line, &item) => line.extend(item),
            _ if fits(&Vec::new(), &item) => all.push(item),
            // Too long by itself: whatever does not fit begins the next line.
            _ => {
                all.push(Vec::new());
                for piece in item {
                    match all.last_mut() {
                        Some(line)
                            if line.is_empty() || fits(line, std::slice::from_ref(&piece)) =>
                        {
                            line.push(piece);
                        }
                        _ => all.push(vec![piece]),
                    }
                }
            }
        }
    }
    all.into_iter().map(joined).collect()
}

/// Whether nothing may follow in this line.
fn is_whole(line: &[Piece], next: &[Piece]) -> bool {
    let ends = match line.last() {
        Some(Piece::Text(text)) => text.ends_with('\n'),
        Some(last) => !is_plain(last),
        None => false,
    };
    ends || next.first().is_some_and(|first| !is_plain(first))
}

/// The items of lists, the lines, and what is worked out, each by itself.
fn items(pieces: &[Piece]) -> Vec<Pieces> {
    const ENDS: [char; 4] = [',', ';', '&', '\n'];
    let mut all: Vec<Pieces> = Vec::new();
    let mut ended = true;
    for piece in pieces {
        let parts: Pieces = if let Piece::Text(text) = piece {
            text.split_inclusive(ENDS).map(|part| Piece::Text(part.to_owned())).collect()
        } else {
            vec![piece.clone()]
        };
        for part in parts {
            let ends =
                if let Piece::Text(text) = &part { text.ends_with(ENDS) } else { !is_plain(&part) };
            match all.last_mut() {
                Some(item) if !ended && is_plain(&part) => item.push(part),
                _ => all.push(vec![part]),
            }
            ended = ends;
        }
    }
    all
}

/// Pieces in groups of what stands within one template, texts and values, and of what does not.
pub(crate) fn groups(pieces: &[Piece]) -> impl Iterator<Item = &[Piece]> {
    pieces.chunk_by(|one, other| is_plain(one) && is_plain(other))
}

/// Whether the pieces are text, with values in it or without.
pub(crate) fn is_text(pieces: &[Piece]) -> bool {
    pieces.iter().all(is_plain) && pieces.iter().any(|piece| matches!(piece, Piece::Text(_)))
}

/// Whether the pieces are text with values in it.
pub(crate) fn is_template(pieces: &[Piece]) -> bool {
    is_text(pieces) && pieces.iter().any(|piece| matches!(piece, Piece::Var(_)))
}

fn is_plain(piece: &Piece) -> bool {
    matches!(piece, Piece::Text(_) | Piece::Var(_))
}

/// Whether a line is no longer than lines should be.
pub(crate) fn fits(line: &str) -> bool {
    line.chars().count() <= WIDTH
}

const WIDTH: usize = 100;

/// Whether `text` is read best between marks that let its double quotes stand, as JSON is.
pub(crate) fn has_quotes(text: &str) -> bool {
    text.contains('"') && !text.chars().any(char::is_control)
}

/// A literal of Python and JavaScript. JSON's escapes are theirs too.
pub(crate) fn literal(text: &str) -> String {
    if has_quotes(&text.replace('\n', "")) && !text.contains(['\'', '\\']) {
        return format!("'{}'", text.replace('\n', "\\n"));
    }
    serde_json::Value::from(text).to_string()
}
