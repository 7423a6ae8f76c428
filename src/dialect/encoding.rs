//! How signatures are written as text.

use super::hex_digit;

/// How a signature is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Encoding {
    /// Hexadecimal, either case.
    Hex,
    /// Base64, standard alphabet with padding.
    Base64,
    /// Base64 for URLs without padding (RFC 4648, section 5).
    Base64Url,
}

impl Encoding {
    /// Decodes a signature into `buffer`; its length in bytes, or `None` when the text is of another alphabet.
    pub(crate) fn decode(self, text: &[u8], buffer: &mut [u8]) -> Option<usize> {
        match self {
            Self::Hex => decode_hex(text, buffer),
            Self::Base64 => {
                let length = data_encoding::BASE64.decode_len(text.len()).ok()?;
                let buffer = buffer.get_mut(..length)?;
                data_encoding::BASE64.decode_mut(text, buffer).ok()
            }
            Self::Base64Url => {
                let length = data_encoding::BASE64URL_NOPAD.decode_len(text.len()).ok()?;
                let buffer = buffer.get_mut(..length)?;
                data_encoding::BASE64URL_NOPAD.decode_mut(text, buffer).ok()
            }
        }
    }

    /// The most bytes that `length` bytes of text can hold; padding leaves up to two fewer.
    pub(crate) const fn longest(self, length: usize) -> usize {
        match self {
            Self::Hex => length / 2,
            Self::Base64 => length / 4 * 3,
            Self::Base64Url => length * 3 / 4,
        }
    }

    /// Writes a signature as text.
    pub(crate) fn encode(self, signature: &[u8]) -> String {
        match self {
            Self::Hex => data_encoding::HEXLOWER.encode(signature),
            Self::Base64 => data_encoding::BASE64.encode(signature),
            Self::Base64Url => data_encoding::BASE64URL_NOPAD.encode(signature),
        }
    }
}

/// Pairs of digits in one pass, without a branch for each: the general decoder takes a tenth of a whole check.
#[expect(clippy::indexing_slicing, reason = "a byte never lies beyond a table of 256")]
fn decode_hex(text: &[u8], buffer: &mut [u8]) -> Option<usize> {
    let (pairs, []) = text.as_chunks() else { return None };
    let buffer = buffer.get_mut(..pairs.len())?;
    let mut all = 0;
    for (byte, [high, low]) in buffer.iter_mut().zip(pairs) {
        let (high, low) = (DIGITS[usize::from(*high)], DIGITS[usize::from(*low)]);
        all |= high | low;
        *byte = high << 4 | low;
    }
    (all != NO_DIGIT).then_some(pairs.len())
}

/// Set in no digit's value, and all of them in what is no digit.
const NO_DIGIT: u8 = u8::MAX;

/// The value of each byte as a hexadecimal digit.
#[expect(
    clippy::indexing_slicing,
    reason = "worked out by the compiler, which would not compile it"
)]
const DIGITS: [u8; 256] = {
    let mut digits = [NO_DIGIT; 256];
    let mut byte = 0_u8;
    while byte < u8::MAX {
        if let Some(digit) = hex_digit(byte) {
            digits[byte as usize] = digit;
        }
        byte += 1;
    }
    digits
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_is_read_as_pairs_of_digits_in_either_case_and_nothing_else() {
        for high in 0..=u8::MAX {
            for low in [b'0', b'9', b'a', b'F', b'g', b'/', b'@', 0xff] {
                let text = [b'0', b'1', high, low];
                let mut buffer = [0; 4];
                let read = decode_hex(&text, &mut buffer).map(|length| buffer[..length].to_vec());
                let expected = data_encoding::HEXLOWER_PERMISSIVE.decode(&text).ok();
                assert_eq!(read, expected, "{text:?}");
            }
        }
        assert_eq!(decode_hex(b"012", &mut [0; 4]), None);
        assert_eq!(decode_hex(b"0123", &mut [0; 1]), None);
        assert_eq!(decode_hex(b"", &mut []), Some(0));
    }
}
