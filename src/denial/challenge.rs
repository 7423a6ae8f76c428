//! What a client is asked to send back, together with a code of its second factor.

use std::fmt;

use data_encoding::BASE64URL_NOPAD;

/// What binds a code to one request. It holds no secret; what it says is in `checks`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Challenge(pub(crate) [u8; Self::LENGTH]);

impl Challenge {
    /// Its length in bytes: an end in 8, randomness in 12, a MAC in 16.
    pub(crate) const LENGTH: usize = 36;

    /// Reads the text that [`fmt::Display`] writes.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; Self::LENGTH];
        // Each length of text stands for one length of bytes, and no other text for the same ones.
        if BASE64URL_NOPAD.decode_len(text.len()) != Ok(Self::LENGTH) {
            return None;
        }
        BASE64URL_NOPAD.decode_mut(text.as_bytes(), &mut bytes).ok()?;
        Some(Self(bytes))
    }
}

impl fmt::Display for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64URL_NOPAD.encode(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_read_as_it_is_written_and_in_no_other_spelling() {
        let challenge = Challenge(std::array::from_fn(|at| u8::try_from(at * 7).unwrap()));
        let text = challenge.to_string();
        assert_eq!(text.len(), 48);
        assert_eq!(Challenge::parse(&text), Some(challenge));
        for other in [text.split_at(1).1, "", &format!("{text}A"), &text.replace('A', "+"), " "] {
            assert_eq!(Challenge::parse(other), None, "{other}");
        }
    }
}
