//! The steps that sign one request, in no language yet.

use crate::dialect::TimeUnit;

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
    /// The moment after which a message signature is void.
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

/// The hash of a MAC.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Hash {
    Sha256,
    Sha384,
    Sha512,
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
    /// The hash of its MAC; `None` where it signs with an Ed25519 key.
    pub(crate) mac: Option<Hash>,
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
    pub(crate) fn comments(&self) -> [String; 3] {
        let names =
            if self.has_passphrase { "KEY, SECRET and PASSPHRASE" } else { "KEY and SECRET" };
        let secret = if self.mac.is_some() { "" } else { "; SECRET is the private key in PEM" };
        [
            self.title.clone(),
            "Signs one request, sends it, and prints the answer.".to_owned(),
            format!("{names} come from the environment{secret}."),
        ]
    }

    /// Whether any of the message's pieces is the bare bytes of a digest.
    pub(crate) fn signs_digest(&self) -> bool {
        self.message.iter().any(|piece| matches!(piece, Piece::Sha256(_)))
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
