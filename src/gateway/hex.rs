//! Lower hexadecimal digits, without a branch or a table: the compiler writes many at once.

/// The two digits of each byte.
#[inline]
pub(super) fn pairs<const N: usize>(bytes: &[u8; N]) -> [[u8; 2]; N] {
    let mut pairs = [[0; 2]; N];
    for (pair, byte) in pairs.iter_mut().zip(bytes) {
        *pair = [digit(byte >> 4), digit(byte & 0xf)];
    }
    pairs
}

fn digit(value: u8) -> u8 {
    value + b'0' + u8::from(value > 9) * (b'a' - b'0' - 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_the_digits_that_it_has_elsewhere() {
        for byte in 0..=u8::MAX {
            assert_eq!(pairs(&[byte]).as_flattened(), format!("{byte:02x}").as_bytes());
        }
    }
}
