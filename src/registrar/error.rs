//! Why an act was not done, with its cure.

use std::fmt;

use crate::key::BadSecret;
use crate::key::lifecycle::Refusal;
use crate::key::sealing::SealError;
use crate::registry::book::{Kind, RegistryError};

/// Why an act was not done. Nothing was changed then, unless the registry broke off in between.
#[derive(Debug)]
pub enum RegistrarError {
    /// The registry: it does not answer, or a record has another version than the one demanded.
    Registry(RegistryError),
    /// There is no such record.
    NotFound(Kind, String),
    /// There is one of this name already.
    Exists(Kind, String),
    /// What was asked for is not possible as it is.
    Invalid(Invalid),
    /// The key's life does not allow it.
    Refused(Refusal),
    /// A secret could not be sealed or opened.
    Sealing(SealError),
    /// A record cannot be read; its line is 0 where it could not be written.
    Damaged {
        /// Which kind.
        kind: Kind,
        /// Which one.
        id: String,
        /// Where in its body.
        line: usize,
    },
    /// Others changed the record each time.
    Busy,
}

/// What is wrong with what was asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Invalid {
    /// A name that this gateway's configuration does not know: what it is, the name, and those it knows.
    Unknown {
        /// The field.
        field: &'static str,
        /// What stood there.
        name: String,
        /// What could stand there.
        known: Vec<String>,
    },
    /// A text that cannot stand in a request or would be ambiguous.
    Text(&'static str),
    /// The algorithm is none of the dialect's.
    Algorithm {
        /// What stood there.
        name: String,
        /// The dialect's.
        known: Vec<String>,
    },
    /// A pair is made by its holder: its public half is missing.
    PublicKeyMissing,
    /// Shared secrets are made here, or imported; there is no public half.
    PublicKeyUnwanted,
    /// It is the private half of a pair.
    PrivateKey,
    /// The public key cannot be used.
    BadPublicKey(BadSecret),
    /// The shared secret cannot be used in this dialect.
    BadSecret(BadSecret),
    /// The shared secret is too short or too regular to hold 128 bits.
    WeakSecret,
    /// A secret is missing.
    SecretMissing,
    /// The dialect has a passphrase.
    PassphraseMissing,
    /// The dialect has no passphrase.
    PassphraseUnwanted,
    /// The passphrase is shorter than 8 characters.
    WeakPassphrase,
    /// More limits than a key can have.
    TooManyLimits,
    /// What is no symbol, or more than 1,000 of them.
    Symbols,
    /// A network that is every address.
    EveryAddress,
    /// The id looks like one that is made here, and its checksum is wrong.
    Checksum,
    /// There is no second factor, or it is confirmed already.
    NoFactor,
    /// There is a second factor already.
    FactorExists,
    /// The code is wrong.
    WrongCode,
}

impl From<RegistryError> for RegistrarError {
    fn from(error: RegistryError) -> Self {
        Self::Registry(error)
    }
}

impl From<Invalid> for RegistrarError {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid(invalid)
    }
}

impl From<Refusal> for RegistrarError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<SealError> for RegistrarError {
    fn from(error: SealError) -> Self {
        Self::Sealing(error)
    }
}

impl From<getrandom::Error> for RegistrarError {
    fn from(_: getrandom::Error) -> Self {
        Self::Sealing(SealError::Random)
    }
}

impl fmt::Display for RegistrarError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(error) => error.fmt(f),
            Self::NotFound(kind, id) => write!(f, "there is no {} {id}", kind.name()),
            Self::Exists(kind, id) => write!(f, "there is a {} {id} already", kind.name()),
            Self::Invalid(invalid) => invalid.fmt(f),
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Sealing(error) => error.fmt(f),
            Self::Damaged { kind, id, line } => {
                write!(f, "the record of {} {id} cannot be read (line {line})", kind.name())
            }
            Self::Busy => f.write_str("others keep changing the record"),
        }
    }
}

impl std::error::Error for RegistrarError {}

impl RegistrarError {
    /// What to do instead, where that can be said.
    pub fn cure(&self) -> Option<String> {
        Some(match self {
            Self::Registry(RegistryError::Conflict { .. }) => {
                "read it again, and decide on what it says now".to_owned()
            }
            Self::Invalid(invalid) => invalid.cure(),
            Self::Refused(refusal) => refusal.cure().to_owned(),
            Self::Busy => "try again".to_owned(),
            Self::Exists(..) => "choose another name, or change the one there is".to_owned(),
            Self::Registry(
                RegistryError::Unavailable(_)
                | RegistryError::Format(_)
                | RegistryError::Damaged(_),
            )
            | Self::NotFound(..)
            | Self::Sealing(_)
            | Self::Damaged { .. } => return None,
        })
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { field, name, .. } => write!(f, "{field}: there is no \"{name}\""),
            Self::Text(field) => write!(f, "{field}: this text cannot be used"),
            Self::Algorithm { name, .. } => write!(f, "the dialect has no {name} keys"),
            Self::PublicKeyMissing => f.write_str("the public key is missing"),
            Self::PublicKeyUnwanted => f.write_str("a key with a shared secret has no public key"),
            Self::PrivateKey => f.write_str("this is a private key"),
            Self::BadPublicKey(why) => write!(f, "the public key cannot be used: {why}"),
            Self::BadSecret(why) => write!(f, "the secret cannot be used: {why}"),
            Self::WeakSecret => f.write_str("the secret is too short or too regular"),
            Self::SecretMissing => f.write_str("the secret is missing"),
            Self::PassphraseMissing => {
                f.write_str("the passphrase is missing: the dialect has one")
            }
            Self::PassphraseUnwanted => f.write_str("the dialect has no passphrase"),
            Self::WeakPassphrase => f.write_str("the passphrase is too short"),
            Self::TooManyLimits => f.write_str("too many limits"),
            Self::Symbols => {
                f.write_str("what stands in \"symbols\" is no symbol, or there are too many")
            }
            Self::EveryAddress => f.write_str("a network of the allowlist is every address"),
            Self::Checksum => f.write_str("the id begins with csk_, and its checksum is wrong"),
            Self::NoFactor => f.write_str("the account has no second factor that waits for a code"),
            Self::FactorExists => f.write_str("the account has a second factor already"),
            Self::WrongCode => f.write_str("the code is wrong"),
        }
    }
}

impl Invalid {
    /// What to do instead.
    pub fn cure(&self) -> String {
        let fixed = match self {
            Self::Unknown { known, .. } | Self::Algorithm { known, .. } => {
                return if known.is_empty() {
                    "the configuration of the gateway names none".to_owned()
                } else {
                    format!("known: {}", known.join(", "))
                };
            }
            Self::Text(_) => "use up to 256 printable ASCII characters without spaces",
            Self::PublicKeyMissing => {
                "make a pair, keep the private half, and send the public one as PEM"
            }
            Self::PublicKeyUnwanted => "leave it out, or name the algorithm of the pair",
            Self::PrivateKey => {
                "send its public half (`openssl pkey -pubout`), and make a new pair: this one was shown"
            }
            Self::BadPublicKey(_) => {
                "make a new pair: Ed25519, P-256, or RSA of 2048 to 8192 bits with an exponent of 65537"
            }
            Self::BadSecret(_) => "send it as the dialect writes it",
            Self::WeakSecret => "use 32 random bytes, or let one be made here",
            Self::SecretMissing => "send it, or let one be made here with `keys create`",
            Self::PassphraseMissing => "send it as well",
            Self::PassphraseUnwanted => "leave it out",
            Self::WeakPassphrase => "use 8 characters or more",
            Self::TooManyLimits => "a key has at most 5",
            Self::Symbols => {
                "name up to 1000 of up to 64 letters, digits and -_./:@ each, as BTCUSDT"
            }
            Self::EveryAddress => "name the networks that are meant, or leave the list out",
            Self::Checksum => "copy it again; ids from elsewhere may begin with anything else",
            Self::NoFactor => "enrol one first",
            Self::FactorExists => "remove it first",
            Self::WrongCode => "wait for the next code, and look at the clocks of both",
        };
        fixed.to_owned()
    }
}
