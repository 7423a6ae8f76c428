//! Looks at many bytes of a text at a time.

/// Whether any byte of `text` is `odd`, which `x` must not be.
///
/// It stops at the first sixteen of which one is, and not within them: so the compiler looks at as many bytes at once.
#[inline]
pub(crate) fn any(text: &[u8], odd: impl Fn(u8) -> bool) -> bool {
    let holds_odd =
        |chunk: &[u8; LANES]| chunk.iter().fold(false, |found, byte| found | odd(*byte));
    // The last chunk overlaps the one before it; what is shorter than one is filled up.
    if let Some(last) = text.last_chunk() {
        return text.as_chunks().0.iter().any(holds_odd) || holds_odd(last);
    }
    let mut filled = [b'x'; LANES];
    if let Some(to) = filled.get_mut(..text.len()) {
        to.copy_from_slice(text);
    }
    holds_odd(&filled)
}

/// Writes the ASCII letters of `text` in lower case, eight bytes at a time.
#[cfg(feature = "server")]
pub(crate) fn lowercase(text: &mut [u8]) {
    let eight = |word: &mut [u8; 8]| *word = lowered(u64::from_ne_bytes(*word)).to_ne_bytes();
    let four = |word: &mut [u8; 4]| {
        let low = u64::from(u32::from_le_bytes(*word));
        word.copy_from_slice(lowered(low).to_le_bytes().first_chunk().unwrap_or(&[0; 4]));
    };
    // The last word overlaps the one before it: what is in lower case stays so.
    if let Some(last) = text.last_chunk_mut::<8>() {
        eight(last);
        text.as_chunks_mut().0.iter_mut().for_each(eight);
    } else if let Some(last) = text.last_chunk_mut::<4>() {
        four(last);
        text.first_chunk_mut().into_iter().for_each(four);
    } else {
        text.make_ascii_lowercase();
    }
}

/// The same eight bytes with their capitals in lower case.
#[cfg(feature = "server")]
const fn lowered(word: u64) -> u64 {
    const EACH: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = EACH << 7;
    // The highest bit of each byte is free to say whether the rest of it is beyond a bound.
    let rest = word & !HIGH;
    let from_a = rest + EACH * (0x80 - b'A' as u64);
    let past_z = rest + EACH * (0x7f - b'Z' as u64);
    let capitals = from_a & !past_z & !word & HIGH;
    word | capitals >> 2
}

const LANES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_odd_byte_is_found_wherever_it_stands() {
        for length in 0..70 {
            let mut text = vec![b'a'; length];
            assert!(!any(&text, |byte| byte == b'!'), "{length}");
            for place in 0..length {
                text[place] = b'!';
                assert!(any(&text, |byte| byte == b'!'), "{length} {place}");
                text[place] = b'a';
            }
        }
    }

    #[cfg(feature = "server")]
    #[test]
    fn capitals_are_lowered_and_nothing_else_is_changed() {
        for length in 0..40 {
            for byte in 0..=u8::MAX {
                for place in 0..length {
                    let mut text = vec![b'Q'; length];
                    text[place] = byte;
                    let expected = text.to_ascii_lowercase();
                    lowercase(&mut text);
                    assert_eq!(text, expected, "{byte} at {place} of {length}");
                }
            }
        }
    }
}
