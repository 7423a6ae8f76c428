//! How signatures are written as text.

use super::base64::Alphabet;

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
            Self::Base64 => Alphabet::Standard.decode(text, buffer),
            Self::Base64Url => Alphabet::Url.decode(text, buffer),
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

/// Without a branch for any digit, so that the compiler decodes a row of them at once: the general decoder takes a tenth
/// of a whole check.
fn decode_hex(text: &[u8], buffer: &mut [u8]) -> Option<usize> {
    let (pairs, []) = text.as_chunks::<2>() else { return None };
    let buffer = buffer.get_mut(..pairs.len())?;
    let (rows, rest) = text.as_chunks();
    let (bytes, last) = buffer.as_chunks_mut();
    let mut wrong = [0; ROW];
    for (to, row) in bytes.iter_mut().zip(rows) {
        *to = bytes_of(row, &mut wrong);
    }
    if !rest.is_empty() {
        let mut row = [b'0'; ROW];
        row.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        let bytes = bytes_of(&row, &mut wrong);
        last.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    }
    (wrong == [0; ROW]).then_some(pairs.len())
}

/// What a row of digits means; marks what is no digit.
fn bytes_of(row: &[u8; ROW], wrong: &mut [u8; ROW]) -> [u8; ROW / 2] {
    let mut values = [0; ROW];
    for ((value, wrong), byte) in values.iter_mut().zip(wrong).zip(row) {
        let digit = byte.wrapping_sub(b'0');
        let letter = (byte | 0x20).wrapping_sub(b'a');
        let (is_digit, is_letter) = (digit < 10, letter < 6);
        *value = if is_digit { digit } else { letter.wrapping_add(10) };
        *wrong |= u8::from(!(is_digit | is_letter));
    }
    let mut bytes = [0; ROW / 2];
    for (byte, pair) in bytes.iter_mut().zip(values.as_chunks().0) {
        // Both nibbles at once: the other half of the pair goes.
        let pair = u16::from_le_bytes(*pair);
        [*byte, _] = (pair << 4 | pair >> 8).to_le_bytes();
    }
    bytes
}

/// Digits that are decoded at once.
const ROW: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_is_read_as_pairs_of_digits_in_either_case_and_nothing_else() {
        for (high, place) in (0..=u8::MAX).flat_map(|high| (0..9).map(move |place| (high, place))) {
            for low in [b'0', b'9', b'a', b'F', b'g', b'/', b'@', b':', b'`', b'G', 0x80, 0xff] {
                let mut text = *b"0123456789abcDEFfE";
                text[2 * place..2 * place + 2].copy_from_slice(&[high, low]);
                let mut buffer = [0; 9];
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
