//! Why a request cannot be signed.

use std::fmt;

use crate::denial::Denial;

/// Why a request cannot be signed.
#[derive(Clone, Debug, PartialEq)]
pub enum Unsignable {
    /// The key's algorithm is none of the dialect's.
    Algorithm,
    /// The dialect has a passphrase and none was given.
    NoPassphrase,
    /// A credential or the host is no header value.
    NotAHeaderValue,
    /// The draft breaks a rule of the dialect; the text says which.
    Draft(&'static str),
    /// No server of the dialect would take it, for this reason.
    Refused(Denial),
    /// The system gives no random bytes for a nonce.
    NoRandomness,
}

impl fmt::Display for Unsignable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoRandomness => "the system gives no random bytes",
            Self::Refused(denial) if denial.detail().is_empty() => denial.reason(),
            Self::Refused(denial) => denial.detail(),
            Self::Algorithm => "the dialect has no keys of this algorithm",
            Self::NoPassphrase => "the dialect needs a passphrase",
            Self::NotAHeaderValue => "the key id, passphrase or host cannot stand in a header",
            Self::Draft(text) => text,
        })
    }
}

impl std::error::Error for Unsignable {}
