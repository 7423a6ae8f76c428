//! Two readings that an operator may switch on, for clients that spell their values otherwise than they sign them.
//!
//! Re-encoded: each name and value was signed as `encodeURIComponent` writes it, and a URL layer wrote it again.
//! Unencoded: each was signed bare. What was signed alone says what is forwarded, so that no two meanings share it:
//! a re-encoded text goes on as it was signed. An unencoded text is told from a percent-encoded one by a byte that no
//! encoding leaves. With such a byte it is taken literally, by one reader who splits at each `&` whose piece holds a `=`;
//! without, it passes only where it means the same to whoever decodes it.

use std::borrow::Cow;

use super::outgoing::joined;
use super::reading::{Reading, canonical};
use super::template::Sink;
use super::{Dialect, Message};
use crate::denial::Denial;

/// Refuses a query or form, without its signature, that shares the bytes signed under `reading` with another meaning.
pub(super) fn guard(reading: Reading, pieces: [&str; 2]) -> Result<(), Denial> {
    let text = joined(pieces);
    match reading {
        Reading::ReEncoded => Ok(()),
        Reading::Unencoded => guard_unencoded(&text),
        Reading::Raw
        | Reading::Decoded
        | Reading::FormDecoded
        | Reading::Sorted
        | Reading::DecodedSorted
        | Reading::FormDecodedSorted => guard_raw(&text),
    }
}

/// A text as it was sent is an unencoded one too where it is bare, and must then mean the same as one.
fn guard_raw(text: &str) -> Result<(), Denial> {
    if is_literal(text) && pieces(text).any(|pair| !pair.contains('=')) {
        return Err(Denial::Ambiguous("a bare text has a parameter without a value"));
    }
    Ok(())
}

fn guard_unencoded(text: &str) -> Result<(), Denial> {
    let refused = |rule| Err(Denial::Ambiguous(rule));
    let is_bare = Reading::Unencoded.bytes(text.as_bytes()).any(is_bare);
    for pair in pieces(text) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let mut name = Reading::Unencoded.bytes(name.as_bytes());
        if name.any(|byte| is_never_signed(byte) || is_doubtful(byte) || is_separator(byte)) {
            return refused("decoding a parameter's name moves a boundary");
        }
        if Reading::Unencoded.bytes(value.as_bytes()).any(is_never_signed) {
            return refused("a decoded value holds `%` or a control byte");
        }
        if !is_bare {
            let mut value = Reading::Unencoded.bytes(value.as_bytes());
            if value.any(|byte| byte == b'&' || is_doubtful(byte)) {
                return refused("a decoded value holds what could have been encoded");
            }
        } else if !pair.contains('=') || holds_a_pair(value) {
            return refused("a decoded value is signed like another parameter");
        }
    }
    Ok(())
}

/// Whether a reader who splits at each `&` whose piece holds a `=` finds a pair in this value.
fn holds_a_pair(value: &str) -> bool {
    let mut split = false;
    Reading::Unencoded.bytes(value.as_bytes()).any(|byte| {
        split |= byte == b'&';
        split && byte == b'='
    })
}

/// Whether a text as it was sent is also one that could have been signed unencoded, and no encoded one.
pub(super) fn is_literal(text: &str) -> bool {
    text.bytes().any(is_bare) && !text.contains('%')
}

/// What is forwarded of a query or form whose signature held under `reading`.
pub(super) fn forwarded(reading: Reading, text: &str) -> Cow<'_, str> {
    let bare = || Reading::Unencoded.bytes(text.as_bytes()).any(is_bare);
    match reading {
        Reading::ReEncoded => written(reading, text),
        Reading::Unencoded if !bare() => written(reading, text),
        Reading::Unencoded => canonical(Reading::FormDecoded, text),
        Reading::Raw
        | Reading::Decoded
        | Reading::FormDecoded
        | Reading::Sorted
        | Reading::DecodedSorted
        | Reading::FormDecodedSorted => canonical(reading, text),
    }
}

fn written(reading: Reading, text: &str) -> Cow<'_, str> {
    let mut out = Vec::with_capacity(text.len() + 16);
    reading.write(text.as_bytes(), &mut out);
    // Both readings that come here write ASCII alone.
    Cow::Owned(String::from_utf8(out).unwrap_or_default())
}

/// Writes each name and value of `text` as `encodeURIComponent` does. A `&` ends a pair and the first `=` a name.
pub(super) fn re_encode(text: &[u8], sink: &mut impl Sink) {
    let mut in_value = false;
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        match byte {
            b'&' => {
                in_value = false;
                sink.put(b"&");
                rest = after;
            }
            b'=' if !in_value => {
                in_value = true;
                sink.put(b"=");
                rest = after;
            }
            _ => {
                let end = |byte: &u8| *byte == b'&' || *byte == b'=' && !in_value;
                let length = rest.iter().position(end).unwrap_or(rest.len());
                let (part, after) = rest.split_at_checked(length).unwrap_or((rest, &[]));
                encode(part, sink);
                rest = after;
            }
        }
    }
}

fn encode(part: &[u8], sink: &mut impl Sink) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |half: u8| DIGITS.get(usize::from(half)).copied().unwrap_or_default();
    for byte in Reading::ReEncoded.bytes(part) {
        if is_unreserved(byte) {
            sink.put(&[byte]);
        } else {
            sink.put(&[b'%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
}

/// Whether writing `text` again could give another text.
pub(super) fn re_encodes(text: &[u8]) -> bool {
    !text.iter().all(|byte| is_unreserved(*byte) || matches!(byte, b'&'))
}

fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let whole = (!text.is_empty()).then_some(text);
    whole.into_iter().flat_map(|text| text.split('&'))
}

/// What `encodeURIComponent` leaves.
const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'-' | b'_' | b'.' | b'!' | b'~' | b'*' | b'\'' | b'(' | b')')
}

/// Bytes that stand in no query: whatever encodes one encodes them.
const fn is_bare(byte: u8) -> bool {
    !(is_unreserved(byte)
        || is_separator(byte)
        || is_doubtful(byte)
        || matches!(byte, b'%' | b'$' | b',' | b':' | b'@' | b'/' | b'?'))
}

/// Bytes that decoders read in two ways: a space or `+`, and a separator or `;`.
const fn is_doubtful(byte: u8) -> bool {
    matches!(byte, b'+' | b';')
}

const fn is_separator(byte: u8) -> bool {
    matches!(byte, b'&' | b'=')
}

const fn is_never_signed(byte: u8) -> bool {
    byte == b'%' || byte.is_ascii_control()
}

/// Refuses lenient readings where they would not be alone with the text as sent.
pub(super) fn refuse_unfit(dialect: &Dialect) -> Result<(), String> {
    if dialect.lenient.is_empty() {
        return Ok(());
    }
    let joins = |message: &Message| message.joins;
    if *dialect.readings != [Reading::Raw]
        || dialect.other_body.is_some()
        || dialect.messages().is_empty()
        || !dialect.messages().iter().all(joins)
    {
        return Err(
            "lenient: only for a dialect that signs `{query}{body}` of forms, read `raw` alone"
                .into(),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::dialect::percent_decoded;

    const READINGS: [Reading; 3] = [Reading::Raw, Reading::ReEncoded, Reading::Unencoded];

    fn signed(reading: Reading, text: &str) -> String {
        let mut out = Vec::new();
        reading.write(text.as_bytes(), &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    fn sent(reading: Reading, text: &str) -> Option<String> {
        guard(reading, [text, ""]).ok()?;
        let as_it_is = reading == Reading::Raw && !is_literal(text);
        Some(if as_it_is { text.to_owned() } else { forwarded(reading, text).into_owned() })
    }

    #[test]
    fn each_reading_writes_what_its_clients_sign() {
        for (reading, wire, text) in [
            (Reading::ReEncoded, "id=a+b%2Bc%27%28x%29*", "id=a%20b%2Bc'(x)*"),
            (Reading::ReEncoded, "a=x==&b,=%zz", "a=x%3D%3D&b%2C=%25zz"),
            (Reading::Unencoded, "id=my-id+1%2B2", "id=my-id 1+2"),
        ] {
            assert_eq!(signed(reading, wire), text);
        }
    }

    #[test]
    fn what_is_signed_bare_goes_on_encoded() {
        for (wire, forwarded) in [
            ("id=my-id+1%2B2", "id=my-id%201%2B2"),
            ("name=my+wallet+%26+co&a=1", "name=my%20wallet%20%26%20co&a=1"),
            ("list=%5B1,%202%5D", "list=%5B1,%202%5D"),
            ("s=%40%27", "s=@'"),
        ] {
            assert_eq!(sent(Reading::Unencoded, wire).as_deref(), Some(forwarded), "{wire}");
        }
    }

    #[test]
    fn what_could_have_been_signed_for_another_meaning_is_refused() {
        for wire in [
            "a=1%2B2",
            "a=1%26b",
            "a=1+%26b%3D2",
            "a%3Db=+",
            "a%26=+",
            "a+&b=1",
            "a=%2541",
            "a=%3B",
            "a=+%0A",
        ] {
            assert_eq!(sent(Reading::Unencoded, wire), None, "{wire}");
        }
        for wire in ["a=x y&flag", "a=x y&&b=1", "a=é&"] {
            assert_eq!(sent(Reading::Raw, wire), None, "{wire}");
        }
        assert_eq!(sent(Reading::Raw, "a=x y+;").as_deref(), Some("a=x%20y%2B%3B"));
        for wire in ["a=x+y&flag", "a=x%2By z+", "a=1;b=2", "", "&"] {
            assert_eq!(sent(Reading::Raw, wire).as_deref(), Some(wire));
        }
    }

    /// What a text means to whoever decodes forms; `+` and `;` are left as they are, since decoders differ on them.
    fn meaning(text: &str) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        let decoded = |text: &str| percent_decoded(text.as_bytes()).collect::<Vec<_>>();
        pieces(text)
            .map(|pair| match pair.split_once('=') {
                Some((name, value)) => (decoded(name), Some(decoded(value))),
                None => (decoded(pair), None),
            })
            .collect()
    }

    /// Every text of up to `longest` of these tokens, read every way: what shares signed bytes is forwarded as one.
    #[test]
    fn no_signed_text_has_two_meanings() {
        let tokens = [
            "a", "=", "&", " ", "+", "%20", "%2B", "%26", "%3D", "%25", ";", "%3B", "'", "%27",
            "é", "%41", "b=", "&b=1",
        ];
        let mut seen: HashMap<String, (String, String)> = HashMap::new();
        let mut texts = vec![String::new()];
        let (mut passed, mut shared) = (0, 0);
        for _ in 0..5 {
            let grown: Vec<_> = texts
                .iter()
                .flat_map(|text| tokens.map(|token| format!("{text}{token}")))
                .collect();
            texts = grown;
            for wire in texts.iter().map(|text| format!("a={text}")).chain(texts.iter().cloned()) {
                for reading in READINGS {
                    let Some(sent) = sent(reading, &wire) else { continue };
                    passed += 1;
                    let (first, forwarded) = seen
                        .entry(signed(reading, &wire))
                        .or_insert_with(|| (wire.clone(), sent.clone()));
                    shared += usize::from(*first != wire);
                    assert_eq!(*forwarded, sent, "{first} and {wire}, {}", reading.name());
                    if reading != Reading::Raw {
                        let spaces = wire.replace('+', "%20");
                        assert_eq!(meaning(&sent), meaning(&spaces), "{wire}");
                    }
                }
            }
            if texts.len() > 5_000 {
                break;
            }
        }
        assert!(passed > 10_000 && shared > 1_000, "{passed} {shared}");
    }
}
