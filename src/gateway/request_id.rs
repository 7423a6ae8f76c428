//! The id of a request: 48 bits of milliseconds, then bits that no other request of this gateway has (RFC 9562,
//! version 7).

use std::cell::Cell;
use std::fmt;

use http::HeaderValue;

use super::hex;
use crate::clock::Micros;

/// The id of a request, as text of 36 bytes.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct RequestId([u8; 36]);

impl RequestId {
    /// As text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// As ASCII.
    pub const fn as_bytes(&self) -> &[u8; 36] {
        &self.0
    }

    /// As a header's value.
    pub fn value(&self) -> HeaderValue {
        HeaderValue::from_bytes(&self.0).unwrap_or(HeaderValue::from_static("-"))
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Makes ids on one worker. No secret: nothing is proved by knowing one.
#[derive(Debug)]
pub(crate) struct RequestIds {
    seed: u64,
    made: Cell<u64>,
}

impl RequestIds {
    pub(crate) fn new() -> Result<Self, getrandom::Error> {
        Ok(Self { seed: getrandom::u64()?, made: Cell::new(0) })
    }

    pub(crate) fn next(&self, now: Micros) -> RequestId {
        let count = self.made.get().wrapping_add(1);
        self.made.set(count);
        // Two mixes, each one to one in the count: one worker never makes an id twice, and two workers meet only
        // where 74 bits do.
        let high = mixed(self.seed ^ count);
        let low = mixed(self.seed.rotate_left(32) ^ ODD ^ count);
        let bits = u128::from(now.as_millis() & 0xffff_ffff_ffff) << 80
            | 0x7 << 76
            | u128::from(high & 0xfff) << 64
            | 0b10 << 62
            | u128::from(low >> 2);
        RequestId(text(bits))
    }
}

const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Spreads the bits of a counter evenly (a finaliser of splitmix64).
const fn mixed(count: u64) -> u64 {
    let mut bits = count.wrapping_mul(ODD);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

fn text(bits: u128) -> [u8; 36] {
    let mut text = [b'-'; 36];
    for (digits, place) in hex::pairs(&bits.to_be_bytes()).into_iter().zip(PLACES) {
        if let Some(to) = text.get_mut(place..).and_then(<[u8]>::first_chunk_mut) {
            *to = digits;
        }
    }
    text
}

/// Where the digits of each byte stand.
const PLACES: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn an_id_is_a_uuid_of_version_seven_that_sorts_by_time() {
        let ids = RequestIds::new().unwrap();
        let (early, late) = (ids.next(Micros::from_millis(1)), ids.next(Micros::from_millis(2)));
        assert!(early.as_str() < late.as_str());
        assert!(early.as_str().starts_with("00000000-0001-7"));
        assert!(matches!(early.as_str().as_bytes()[19], b'8' | b'9' | b'a' | b'b'));
        assert_eq!(early.as_str().split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
    }

    #[test]
    fn no_id_comes_twice_in_one_millisecond() {
        let ids = RequestIds::new().unwrap();
        let mut seen = HashSet::new();
        for _ in 0..100_000 {
            assert!(seen.insert(ids.next(Micros(7)).0));
        }
    }
}
