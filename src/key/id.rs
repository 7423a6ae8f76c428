//! Key ids, kept in the key itself, so that comparing one takes no step to another place in memory; and the form of
//! those that are made here, which leak scanners find and which cannot be guessed at.

use std::fmt;
use std::ops::Deref;

use arrayvec::ArrayString;

/// The public name of a key: text of any length.
#[derive(Clone, Eq, PartialEq)]
pub struct KeyId(Text);

#[derive(Clone, Eq, PartialEq)]
enum Text {
    Short(ArrayString<SHORT>),
    Long(Box<str>),
}

/// As long as the ids that exchanges give out, of up to 64 characters.
const SHORT: usize = 64;

impl From<&str> for KeyId {
    fn from(text: &str) -> Self {
        Self(ArrayString::from(text).map_or_else(|_| Text::Long(text.into()), Text::Short))
    }
}

impl From<String> for KeyId {
    fn from(text: String) -> Self {
        Self::from(&*text)
    }
}

impl Deref for KeyId {
    type Target = str;

    fn deref(&self) -> &str {
        match &self.0 {
            Text::Short(text) => text,
            Text::Long(text) => text,
        }
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&**self, f)
    }
}

/// A new id: `csk_`, 26 random letters and digits (154 bits), and 6 that are their checksum.
pub fn fresh() -> Result<String, getrandom::Error> {
    with_checksum(KEY_PREFIX)
}

/// Whether a key of this id can exist: one in the form of those made here must have the right checksum. Of ids that
/// were imported nothing can be said but that clients can send them.
pub fn is_plausible(id: &str) -> bool {
    match id.strip_prefix(KEY_PREFIX) {
        Some(_) => has_checksum(KEY_PREFIX, id),
        None => is_sendable(id),
    }
}

/// Whether it can stand in a header or parameter: up to 256 printable ASCII characters without spaces.
pub fn is_sendable(id: &str) -> bool {
    (1..=256).contains(&id.len()) && id.bytes().all(|byte| matches!(byte, 0x21..=0x7e))
}

/// `prefix`, 26 random letters and digits, and the checksum of all that: for ids and tokens that scanners can find.
pub fn with_checksum(prefix: &str) -> Result<String, getrandom::Error> {
    let mut text = String::with_capacity(prefix.len() + RANDOM + CHECK);
    text.push_str(prefix);
    while text.len() < prefix.len() + RANDOM {
        let mut bytes = zeroize::Zeroizing::new([0; 64]);
        getrandom::fill(&mut *bytes)?;
        // Six bits that are below 62 are a digit; others are thrown away, so that every digit is as likely.
        let digits = bytes.iter().filter_map(|byte| BASE62.get(usize::from(byte & 63)));
        let missing = prefix.len() + RANDOM - text.len();
        text.extend(digits.take(missing).map(|digit| char::from(*digit)));
    }
    let check = checksum(text.as_bytes());
    text.extend(check.map(char::from));
    Ok(text)
}

/// Whether a text has the form and checksum of [`with_checksum`].
pub fn has_checksum(prefix: &str, text: &str) -> bool {
    let right_length = text.len() == prefix.len() + RANDOM + CHECK && text.starts_with(prefix);
    let Some((body, check)) = text.as_bytes().split_last_chunk::<CHECK>() else { return false };
    right_length
        && text.bytes().skip(prefix.len()).all(|byte| byte.is_ascii_alphanumeric())
        && checksum(body) == *check
}

/// The CRC-32 of what precedes, in base 62, the highest digit first.
fn checksum(bytes: &[u8]) -> [u8; CHECK] {
    let crc = !bytes.iter().fold(u32::MAX, |crc, byte| {
        let place = usize::from(crc.to_le_bytes()[0] ^ byte);
        crc >> 8 ^ CRC.get(place).copied().unwrap_or_default()
    });
    let mut rest = crc;
    let mut digits = [b'0'; CHECK];
    for digit in digits.iter_mut().rev() {
        let place = usize::try_from(rest % 62).unwrap_or_default();
        *digit = BASE62.get(place).copied().unwrap_or(b'0');
        rest /= 62;
    }
    digits
}

/// What every id made here begins with.
pub const KEY_PREFIX: &str = "csk_";
const RANDOM: usize = 26;
const CHECK: usize = 6;
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// CRC-32 as of zlib, a byte at a time.
#[expect(clippy::indexing_slicing, reason = "a constant: past the end it does not compile")]
const CRC: [u32; 256] = {
    let mut table = [0; 256];
    let (mut place, mut byte) = (0, 0_u32);
    while place < 256 {
        let (mut crc, mut bit) = (byte, 0);
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
            bit += 1;
        }
        table[place] = crc;
        place += 1;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_crc_that_everybody_computes() {
        // CRC-32 of "123456789" is cbf43926.
        let value = checksum(b"123456789").iter().fold(0_u64, |sum, digit| {
            let place = BASE62.iter().position(|known| known == digit).unwrap();
            sum * 62 + u64::try_from(place).unwrap()
        });
        assert_eq!(value, 0xcbf4_3926);
    }

    #[test]
    fn an_id_made_here_is_plausible_and_no_neighbour_of_it_is() {
        for _ in 0..100 {
            let id = fresh().unwrap();
            assert!(is_plausible(&id) && id.len() == 36, "{id}");
            for place in KEY_PREFIX.len()..id.len() {
                for other in [b'0', b'z', b'-'] {
                    let mut bytes = id.clone().into_bytes();
                    if std::mem::replace(&mut bytes[place], other) != other {
                        assert!(!is_plausible(std::str::from_utf8(&bytes).unwrap()));
                    }
                }
            }
            assert!(
                !is_plausible(id.strip_suffix(|_: char| true).unwrap())
                    && !is_plausible(&format!("{id}0"))
            );
        }
    }

    #[test]
    fn ids_made_elsewhere_are_plausible_if_they_can_be_sent() {
        for (id, plausible) in [
            ("vmPUZE6mv9SD5VNHk4HlWFsOr", true),
            ("a", true),
            ("", false),
            ("a b", false),
            ("é", false),
        ] {
            assert_eq!(is_plausible(id), plausible, "{id}");
        }
        assert!(is_plausible(&"k".repeat(256)) && !is_plausible(&"k".repeat(257)));
    }

    #[test]
    fn every_digit_comes_up_in_ids() {
        let all: String = (0..200)
            .map(|_| fresh().unwrap().chars().skip(4).take(26).collect::<String>())
            .collect();
        assert!(BASE62.iter().all(|digit| all.contains(char::from(*digit))));
    }

    #[test]
    fn an_id_of_any_length_is_kept_whole() {
        for length in [0, 1, SHORT - 1, SHORT, SHORT + 1, 500] {
            let text = "k".repeat(length);
            assert_eq!(*KeyId::from(&*text), *text);
            assert_eq!(KeyId::from(text.clone()), KeyId::from(&*text));
            assert_ne!(KeyId::from(&*text), KeyId::from(text + "k"));
        }
    }
}
