//! Defeats guessing a MAC byte by byte: how long a comparison takes tells nothing of where two MACs differ.

use std::hint::black_box;

use subtle::ConstantTimeEq as _;

use super::LEAKY;

/// Compares a MAC in constant time. The MAC itself is the digest of secret and signed bytes.
pub(super) fn same(mac: &[u8], offered: &[u8]) -> Option<[u8; 16]> {
    let equal = if LEAKY { equal_until_they_differ(mac, offered) } else { equal(mac, offered) };
    equal.then(|| mac.first_chunk().copied().unwrap_or_default())
}

/// Looks at every byte, eight at a time, and decides once.
pub(crate) fn equal(mac: &[u8], offered: &[u8]) -> bool {
    let ((macs, mac_rest), (offers, offer_rest)) = (mac.as_chunks(), offered.as_chunks());
    let words = macs.iter().zip(offers).fold(0, |differ, (a, b)| {
        black_box(differ | (u64::from_ne_bytes(*a) ^ u64::from_ne_bytes(*b)))
    });
    let is_same_length = mac.len() == offered.len();
    is_same_length && bool::from(words.ct_eq(&0) & mac_rest.ct_eq(offer_rest))
}

fn equal_until_they_differ(mac: &[u8], offered: &[u8]) -> bool {
    mac.len() == offered.len() && mac.iter().zip(offered).all(|(a, b)| black_box(a) == b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_in_any_bit_or_in_length_is_seen() {
        for length in [0, 1, 7, 8, 9, 32, 48, 64, 67] {
            let mac: Vec<u8> = (0..length).collect();
            assert!(equal(&mac, &mac));
            for bit in 0..mac.len() * 8 {
                let mut wrong = mac.clone();
                wrong[bit / 8] ^= 1 << (bit % 8);
                assert!(!equal(&mac, &wrong), "{length} {bit}");
            }
            assert!(!equal(&mac, &[&mac[..], &[0]].concat()));
        }
    }
}
