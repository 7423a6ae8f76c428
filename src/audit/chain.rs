//! Defeats alteration: each line holds the SHA-256 of the hash before it and of its own text.
//!
//! A line is a JSON object whose last two members are `n`, its number, and `hash`, in hex. What is hashed is the 32
//! bytes of the hash before, then the line up to `,"hash":`.

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use super::text::number;

/// SHA-256.
pub(super) type Hash = [u8; 32];

/// Where a chain has come to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Link {
    /// How many lines there were.
    pub(super) count: u64,
    /// The hash of the last one.
    pub(super) hash: Hash,
}

/// What is before the first line.
pub(super) const ORIGIN: Link = Link { count: 0, hash: [0; 32] };

/// Why a line does not follow the one before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Flaw {
    /// It is no line of a trail.
    Form,
    /// Its hash is not that of its text and of the line before it.
    Hash,
    /// Its number is not the next one.
    Number,
}

impl Link {
    /// Appends `piece`, an object that lacks its end, as the next line.
    pub(super) fn append(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        let begin = out.len();
        out.extend_from_slice(piece);
        out.extend_from_slice(NUMBER);
        self.count += 1;
        number(self.count, out);
        self.hash = hash(&self.hash, out.get(begin..).unwrap_or_default());
        out.extend_from_slice(HASH);
        let mut digits = [0; 64];
        HEXLOWER.encode_mut(&self.hash, &mut digits);
        out.extend_from_slice(&digits);
        out.extend_from_slice(END);
    }

    /// Goes on to `line`, which has no newline, if it is the next one.
    pub(super) fn follow(&mut self, line: &[u8]) -> Result<(), Flaw> {
        let (text, stated) = split(line).ok_or(Flaw::Form)?;
        let found = hash(&self.hash, text);
        if found != stated {
            return Err(Flaw::Hash);
        }
        if numbered(text) != self.count.checked_add(1) {
            return Err(Flaw::Number);
        }
        *self = Self { count: self.count + 1, hash: found };
        Ok(())
    }

    /// What a line says of itself.
    pub(super) fn stated(line: &[u8]) -> Option<Self> {
        let (text, hash) = split(line)?;
        Some(Self { count: numbered(text)?, hash })
    }
}

fn hash(before: &Hash, text: &[u8]) -> Hash {
    Sha256::new().chain_update(before).chain_update(text).finalize().into()
}

/// The hashed text of a line, and the hash it states.
fn split(line: &[u8]) -> Option<(&[u8], Hash)> {
    let rest = line.strip_suffix(b"\"}")?;
    let (rest, digits) = rest.split_last_chunk::<64>()?;
    let text = rest.strip_suffix(HASH)?;
    let mut stated = [0; 32];
    HEXLOWER.decode_mut(digits, &mut stated).ok()?;
    Some((text, stated))
}

/// The number that the hashed text of a line ends with.
fn numbered(text: &[u8]) -> Option<u64> {
    let digits = text.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let (before, digits) = text.split_at_checked(text.len() - digits)?;
    before.strip_suffix(NUMBER)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The part of `bytes` that is whole lines.
pub(super) fn whole(bytes: &[u8]) -> &[u8] {
    let end = memchr::memrchr(b'\n', bytes).map_or(0, |last| last + 1);
    bytes.get(..end).unwrap_or_default()
}

/// The lines of what is whole, without their newlines.
pub(super) fn lines(whole: &[u8]) -> impl Iterator<Item = &[u8]> {
    let body = whole.strip_suffix(b"\n");
    body.into_iter().flat_map(|body| body.split(|byte| *byte == b'\n'))
}

/// What the head of a segment says was before it.
pub(super) fn before(head: &[u8]) -> Option<Link> {
    let (text, _) = split(head)?;
    let at = memchr::memmem::find(text, PREVIOUS)?;
    let (digits, _) = text.get(at + PREVIOUS.len()..)?.split_first_chunk::<64>()?;
    let mut hash = [0; 32];
    HEXLOWER.decode_mut(digits, &mut hash).ok()?;
    Some(Link { count: numbered(text)?.checked_sub(1)?, hash })
}

/// How the hash is written where it stands as text.
pub(super) fn hex(hash: &Hash) -> String {
    HEXLOWER.encode(hash)
}

const PREVIOUS: &[u8] = b",\"previous\":\"";
const NUMBER: &[u8] = b",\"n\":";
const HASH: &[u8] = b",\"hash\":\"";
const END: &[u8] = b"\"}\n";

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(count: usize) -> Vec<Vec<u8>> {
        let mut link = ORIGIN;
        let mut out = Vec::new();
        for place in 0..count {
            link.append(format!("{{\"v\":1,\"x\":{place}").as_bytes(), &mut out);
        }
        out.split_inclusive(|byte| *byte == b'\n')
            .map(|line| line[..line.len() - 1].to_vec())
            .collect()
    }

    fn first_flaw(lines: &[Vec<u8>]) -> Option<(usize, Flaw)> {
        let mut link = ORIGIN;
        lines.iter().enumerate().find_map(|(place, line)| Some((place, link.follow(line).err()?)))
    }

    #[test]
    fn every_line_is_json_and_follows_the_one_before() {
        let lines = lines(20);
        for line in &lines {
            serde_json::from_slice::<serde_json::Value>(line).unwrap();
        }
        assert_eq!(first_flaw(&lines), None);
        assert_eq!(Link::stated(&lines[4]).unwrap().count, 5);
    }

    #[test]
    fn every_flipped_bit_is_found_where_it_is() {
        let whole = lines(3);
        for place in 0..whole.len() {
            for byte in 0..whole[place].len() {
                for bit in 0..8 {
                    let mut flipped = whole.clone();
                    flipped[place][byte] ^= 1 << bit;
                    assert_eq!(first_flaw(&flipped).unwrap().0, place, "{byte} {bit}");
                }
            }
        }
    }

    #[test]
    fn a_line_removed_swapped_or_inserted_is_found_where_it_is() {
        let whole = lines(6);
        for place in 0..whole.len() - 1 {
            let mut removed = whole.clone();
            removed.remove(place);
            assert_eq!(first_flaw(&removed).unwrap(), (place, Flaw::Hash));
            let mut swapped = whole.clone();
            swapped.swap(place, place + 1);
            assert_eq!(first_flaw(&swapped).unwrap(), (place, Flaw::Hash));
            let mut doubled = whole.clone();
            doubled.insert(place, whole[place].clone());
            assert_eq!(first_flaw(&doubled).unwrap(), (place + 1, Flaw::Hash));
        }
    }
}
