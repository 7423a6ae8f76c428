//! The credentials that a dialect asks for.

/// A credential that a dialect asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Credential {
    /// The key id.
    Key,
    /// The signed time.
    Time,
    /// The window that the client asks for.
    Window,
    /// The nonce.
    Nonce,
    /// The signature.
    Signature,
    /// The name of the algorithm that the signature was made with.
    Algorithm,
    /// The passphrase.
    Passphrase,
}

impl Credential {
    /// How many kinds there are.
    pub(crate) const COUNT: usize = 7;

    /// Its place in a list of all kinds.
    pub(crate) const fn index(self) -> usize {
        match self {
            Self::Key => 0,
            Self::Time => 1,
            Self::Window => 2,
            Self::Nonce => 3,
            Self::Signature => 4,
            Self::Passphrase => 5,
            Self::Algorithm => 6,
        }
    }

    /// Its name in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Time => "timestamp",
            Self::Window => "receive window",
            Self::Nonce => "nonce",
            Self::Signature => "signature",
            Self::Passphrase => "passphrase",
            Self::Algorithm => "algorithm",
        }
    }
}
