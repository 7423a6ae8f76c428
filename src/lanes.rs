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
}
