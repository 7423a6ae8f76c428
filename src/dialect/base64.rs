//! Base64 in one spelling: no white space, no spare bits, padding where the alphabet has it.

/// The two alphabets (RFC 4648, sections 4 and 5).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Alphabet {
    /// With `+` and `/`, padded.
    Standard,
    /// With `-` and `_`, not padded.
    Url,
}

impl Alphabet {
    /// Decodes `text` into `buffer`; its length in bytes, or `None` where it is not the one spelling of any bytes, or
    /// there is no room.
    pub(crate) fn decode(self, text: &[u8], buffer: &mut [u8]) -> Option<usize> {
        let table = self.table();
        let text = match self {
            Self::Standard => unpadded(text)?,
            Self::Url => text,
        };
        let (quads, rest) = text.as_chunks::<4>();
        let length = quads.len() * 3 + rest.len().saturating_sub(1);
        let (triples, end) = buffer.get_mut(..length)?.as_chunks_mut::<3>();
        let mut all = 0;
        for (triple, [a, b, c, d]) in triples.iter_mut().zip(quads) {
            let (a, b, c, d) =
                (value(table, *a), value(table, *b), value(table, *c), value(table, *d));
            all |= a | b | c | d;
            *triple = [a << 2 | b >> 4, b << 4 | c >> 2, c << 6 | d];
        }
        match (rest, end) {
            ([], []) => {}
            ([a, b], [first]) => {
                let (a, b) = (value(table, *a), value(table, *b));
                all |= a | b | spare(b & 0xf);
                *first = a << 2 | b >> 4;
            }
            ([a, b, c], [first, second]) => {
                let (a, b, c) = (value(table, *a), value(table, *b), value(table, *c));
                all |= a | b | c | spare(c & 0x3);
                *first = a << 2 | b >> 4;
                *second = b << 4 | c >> 2;
            }
            _ => return None,
        }
        (all & NO_DIGIT == 0).then_some(length)
    }

    const fn table(self) -> &'static [u8; 256] {
        match self {
            Self::Standard => &STANDARD,
            Self::Url => &URL,
        }
    }
}

/// Without its padding, which fills the last four up.
fn unpadded(text: &[u8]) -> Option<&[u8]> {
    if !text.len().is_multiple_of(4) {
        return None;
    }
    Some(match text {
        [text @ .., b'=', b'='] | [text @ .., b'='] => text,
        _ => text,
    })
}

/// Whether bits stand that no byte needs: then there would be two spellings.
const fn spare(bits: u8) -> u8 {
    if bits == 0 { 0 } else { NO_DIGIT }
}

#[expect(clippy::indexing_slicing, reason = "a byte never lies beyond a table of 256")]
const fn value(table: &[u8; 256], byte: u8) -> u8 {
    table[byte as usize]
}

/// Set in what is no digit, and in no digit's value.
const NO_DIGIT: u8 = 0x80;

const STANDARD: [u8; 256] = digits(*b"+/");
const URL: [u8; 256] = digits(*b"-_");

#[expect(
    clippy::indexing_slicing,
    reason = "worked out by the compiler, which would not compile it"
)]
const fn digits(last: [u8; 2]) -> [u8; 256] {
    let mut digits = [NO_DIGIT; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        digits[byte as usize] = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            _ if byte == last[0] => 62,
            _ if byte == last[1] => 63,
            _ => NO_DIGIT,
        };
        byte += 1;
    }
    digits
}

#[cfg(test)]
mod tests {
    use data_encoding::{BASE64, BASE64URL_NOPAD, Encoding};
    use proptest::prelude::*;

    use super::*;

    /// Both alphabets, each with the decoder that it must agree with.
    const BOTH: [(Alphabet, Encoding); 2] =
        [(Alphabet::Standard, BASE64), (Alphabet::Url, BASE64URL_NOPAD)];

    fn decoded(alphabet: Alphabet, text: &[u8]) -> Option<Vec<u8>> {
        let mut buffer = vec![0; text.len()];
        let length = alphabet.decode(text, &mut buffer)?;
        buffer.truncate(length);
        Some(buffer)
    }

    #[test]
    fn every_ending_is_taken_or_refused_as_the_standard_has_it() {
        let bytes = b"AQgwBD/+-_=\n. \x80\xff";
        for (alphabet, other) in BOTH {
            for before in ["", "AbC9"] {
                for length in 0..=4 {
                    for number in 0..bytes.len().pow(length) {
                        let digit = |place| bytes[number / bytes.len().pow(place) % bytes.len()];
                        let text: Vec<u8> = before.bytes().chain((0..length).map(digit)).collect();
                        assert_eq!(decoded(alphabet, &text), other.decode(&text).ok(), "{text:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert_eq!(Alphabet::Standard.decode(b"AAAA", &mut [0; 2]), None);
        assert_eq!(Alphabet::Url.decode(b"AAA", &mut [0; 1]), None);
        assert_eq!(Alphabet::Url.decode(b"AAA", &mut [0; 9]), Some(2));
    }

    proptest! {
        #[test]
        fn bytes_come_back_and_damaged_text_is_judged_alike(
            bytes in prop::collection::vec(any::<u8>(), 0..80),
            place in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            for (alphabet, other) in BOTH {
                let mut text = other.encode(&bytes).into_bytes();
                prop_assert_eq!(decoded(alphabet, &text), Some(bytes.clone()));
                if !text.is_empty() {
                    let place = place.index(text.len());
                    text[place] = byte;
                    // The other takes padding within, too, which would be a second spelling.
                    let one_spelling = |bytes: &Vec<u8>| other.encode(bytes).as_bytes() == text;
                    let taken = other.decode(&text).ok().filter(one_spelling);
                    prop_assert_eq!(decoded(alphabet, &text), taken);
                }
            }
        }
    }
}
