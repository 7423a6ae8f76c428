//! Defeats secrets in logs: a text in clear that prints nothing and leaves memory when dropped.

use std::fmt;

use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

/// A secret in clear, on its way out to whom it was made for, or in to be sealed. Nothing serialises it by accident.
#[derive(Clone)]
pub struct Clear(Zeroizing<String>);

impl Clear {
    /// The text: to be shown once, or sealed.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Clear {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl From<Zeroizing<String>> for Clear {
    fn from(text: Zeroizing<String>) -> Self {
        Self(text)
    }
}

impl<'de> Deserialize<'de> for Clear {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from).map(Self::from)
    }
}

impl fmt::Debug for Clear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clear(..)")
    }
}
