//! How a key signs: the key record says, never a request.

/// How a key signs. The key record fixes it; a request never chooses.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Algorithm {
    /// HMAC with SHA-256.
    HmacSha256,
    /// HMAC with SHA-384.
    HmacSha384,
    /// HMAC with SHA-512.
    HmacSha512,
    /// Ed25519, verified strictly: no small-order keys, no second spelling of a signature.
    Ed25519,
    /// RSASSA-PKCS1-v1_5 with SHA-256, 2048 bits or more.
    RsaSha256,
    /// RSASSA-PSS with SHA-512 and 64 bytes of salt, 2048 bits or more.
    RsaPssSha512,
    /// ECDSA on P-256 with SHA-256, a signature of 64 bytes (r, s). Whoever holds (r, s) can write (r, n-s).
    EcdsaP256Sha256,
}

impl Algorithm {
    /// Every algorithm, with the name that recipes and configuration use.
    pub const ALL: [(Self, &'static str); 7] = [
        (Self::HmacSha256, "hmac-sha256"),
        (Self::HmacSha384, "hmac-sha384"),
        (Self::HmacSha512, "hmac-sha512"),
        (Self::Ed25519, "ed25519"),
        (Self::RsaSha256, "rsa-sha256"),
        (Self::RsaPssSha512, "rsa-pss-sha512"),
        (Self::EcdsaP256Sha256, "ecdsa-p256-sha256"),
    ];

    /// The algorithm called `name`.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(algorithm, _)| *algorithm)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(algorithm, _)| *algorithm == self).map_or("", |(_, name)| name)
    }

    /// Whether both sides hold the same secret.
    pub const fn is_symmetric(self) -> bool {
        match self {
            Self::HmacSha256 | Self::HmacSha384 | Self::HmacSha512 => true,
            Self::Ed25519 | Self::RsaSha256 | Self::RsaPssSha512 | Self::EcdsaP256Sha256 => false,
        }
    }

    /// The length of a signature in bytes, where it is the same for every key.
    pub const fn signature_len(self) -> Option<usize> {
        match self {
            Self::HmacSha256 => Some(32),
            Self::HmacSha384 => Some(48),
            Self::HmacSha512 | Self::Ed25519 | Self::EcdsaP256Sha256 => Some(64),
            Self::RsaSha256 | Self::RsaPssSha512 => None,
        }
    }

    /// Whether a signature can be of `length` bytes.
    pub(crate) fn fits(self, length: usize) -> bool {
        self.signature_len().map_or(length >= 256, |exact| length == exact)
    }
}
