//! What a signature looks like before it is checked: its bytes, and which algorithm's they could be.

use std::hint::select_unpredictable;

use super::decoy::{Decoys, Shape};
use crate::denial::{Credential, Denial};
use crate::dialect::{Claim, Dialect, Encoding};
use crate::key::Algorithm;

/// The longest signature: RSA with 8192 bits.
pub(super) const LONGEST: usize = 1_024;

/// Of the algorithms that have signatures of this look, and that the request may state: the key's, if the key is
/// known and it is one of them. For a key that has none the id draws one, always the same, so that the work done for
/// it looks like that for a key.
pub(super) fn settle(
    dialect: &Dialect,
    encoding: Encoding,
    length: usize,
    (own, is_known): (Algorithm, bool),
    claim: &Claim<'_>,
    decoys: &Decoys,
) -> Option<Shape> {
    let stated = claim.algorithm;
    let alike = || {
        let alike = |(algorithm, of): &&(Algorithm, Encoding)| {
            *of == encoding
                && algorithm.fits(length)
                && stated.is_none_or(|stated| stated == *algorithm)
        };
        dialect.encodings.iter().filter(alike).map(|(algorithm, _)| *algorithm)
    };
    // Through all of them, whether it is found at once or there is no key: time must not tell which.
    #[expect(clippy::needless_bitwise_bool, reason = "`||` would stop where it is found")]
    let (count, first, is_alike) =
        alike().fold((0, None, false), |(count, first, found), algorithm| {
            (count + 1, first.or(Some(algorithm)), found | (algorithm == own))
        });
    // Most dialects have no two algorithms of one look; the draw is made whether the key is known or not.
    let drawn = if count > 1 { alike().nth(decoys.draw(claim.key_id, count)) } else { first };
    let settled = select_unpredictable(is_alike & is_known, Some(own), drawn);
    settled.map(|algorithm| (algorithm, length))
}

/// Decodes the signature by the first of the dialect's encodings that gives an algorithm's length.
pub(super) fn decode<'b>(
    dialect: &Dialect,
    text: &str,
    unescaped: &mut [u8; 2 * LONGEST],
    buffer: &'b mut [u8; LONGEST],
) -> Result<(Encoding, &'b [u8]), Denial> {
    let text = if memchr::memchr(b'%', text.as_bytes()).is_some() {
        unescape(text, unescaped)?
    } else {
        text.as_bytes()
    };
    for (algorithm, encoding) in &dialect.encodings {
        // By the text's length alone most encodings are out: no need to decode for them.
        let longest = encoding.longest(text.len());
        let possible = match algorithm.signature_len() {
            Some(exact) => (exact..=exact + 2).contains(&longest),
            None => longest >= 256,
        };
        if !possible {
            continue;
        }
        let Some(length) = encoding.decode(text, buffer) else { continue };
        if algorithm.fits(length) {
            return Ok((*encoding, buffer.get(..length).unwrap_or_default()));
        }
    }
    Err(Denial::Garbled(Credential::Signature))
}

/// A parameter's value with its `%XX` decoded; `+` stays, since base64 has it.
fn unescape<'b>(text: &str, buffer: &'b mut [u8; 2 * LONGEST]) -> Result<&'b [u8], Denial> {
    let mut length = 0;
    for byte in crate::dialect::percent_decoded(text.as_bytes()) {
        let slot = buffer.get_mut(length).ok_or(Denial::Garbled(Credential::Signature))?;
        *slot = byte;
        length += 1;
    }
    Ok(buffer.get(..length).unwrap_or_default())
}
