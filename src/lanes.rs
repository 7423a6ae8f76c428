//! Looks at the bytes of a text sixteen at a time.

/// Whether any byte of `text` is `odd`, which `x` must not be.
///
/// Nearly always none is. So there is no early exit, and a flag for each of sixteen lanes: the compiler looks at as many
/// bytes at once.
#[inline]
pub(crate) fn any(text: &[u8], odd: impl Fn(u8) -> bool) -> bool {
    let mut found = [0_u8; LANES];
    let mut note = |chunk: &[u8; LANES]| {
        for (flag, byte) in found.iter_mut().zip(chunk) {
            *flag |= u8::from(odd(*byte));
        }
    };
    text.as_chunks().0.iter().for_each(&mut note);
    // The last chunk overlaps the one before it; what is shorter than one is filled up.
    if let Some(last) = text.last_chunk() {
        note(last);
    } else {
        let mut filled = [b'x'; LANES];
        filled.iter_mut().zip(text).for_each(|(to, from)| *to = *from);
        note(&filled);
    }
    u128::from_ne_bytes(found) != 0
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
