//! Defeats a swapped body: what a signed `content-digest` says (RFC 9530) must be true of the body that came.

use data_encoding::BASE64;
use http::HeaderName;
use sha2::{Digest, Sha256, Sha512};

use crate::denial::Denial;
use crate::dialect::fields::Scanner;
use crate::dialect::{Claim, Inbound};

/// The header field.
pub(crate) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");

/// Holds when the claim covers no digest, or the body is what the digest says.
///
/// That a body needs a digest that is covered is the claim's rule.
pub(crate) fn check(request: &Inbound<'_>, claim: &Claim<'_>) -> Result<(), Denial> {
    if claim.covers(&CONTENT_DIGEST) { verify(request) } else { Ok(()) }
}

/// Holds when every SHA-256 and SHA-512 digest that was sent is the body's. A field without either proves nothing;
/// other algorithms are passed over.
fn verify(request: &Inbound<'_>) -> Result<(), Denial> {
    let (mut sent, mut seen) = (false, [false; 2]);
    for line in request.headers.get_all(&CONTENT_DIGEST) {
        sent = true;
        let text = line.to_str().ok_or(Denial::Malformed(FORM))?;
        let mut scanner = Scanner::new(text);
        loop {
            let name =
                scanner.key().filter(|_| scanner.eat(b'=')).ok_or(Denial::Malformed(FORM))?;
            let value = scanner.bytes().ok_or(Denial::Malformed(FORM))?;
            let fits = match name {
                "sha-256" => fits(&mut seen, 0, value, &Sha256::digest(request.body))?,
                "sha-512" => fits(&mut seen, 1, value, &Sha512::digest(request.body))?,
                _ => true,
            };
            if !fits {
                return Err(Denial::Malformed("the body is not what its content-digest says"));
            }
            if !scanner.next_member().ok_or(Denial::Malformed(FORM))? {
                break;
            }
        }
    }
    if sent && seen == [false; 2] {
        return Err(Denial::Malformed("a content-digest without sha-256 or sha-512"));
    }
    Ok(())
}

/// The field as a client sends it for `body`.
pub(crate) fn write(body: &[u8]) -> String {
    format!("sha-256=:{}:", BASE64.encode(&Sha256::digest(body)))
}

/// Whether `value` is the base64 of `digest`, of which algorithm there may be one.
fn fits(seen: &mut [bool; 2], place: usize, value: &str, digest: &[u8]) -> Result<bool, Denial> {
    if seen.get_mut(place).is_none_or(|seen| std::mem::replace(seen, true)) {
        return Err(Denial::Malformed("a content-digest that holds one algorithm twice"));
    }
    let mut bytes = [0; 66];
    let length = BASE64.decode_len(value.len()).unwrap_or(usize::MAX);
    let room = bytes.get_mut(..length).filter(|_| length <= digest.len() + 2);
    let read = room.and_then(|room| BASE64.decode_mut(value.as_bytes(), room).ok());
    Ok(read.is_some_and(|length| bytes.get(..length) == Some(digest)))
}

const FORM: &str = "a content-digest that is no dictionary of byte sequences";

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, Method};

    use super::*;

    /// From RFC 9421, appendix B.2.
    const BODY: &[u8] = br#"{"hello": "world"}"#;
    const SHA256: &str = "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:";
    const SHA512: &str = "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:";

    fn verdict(lines: &[&str], body: &[u8]) -> Result<(), Denial> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(CONTENT_DIGEST, HeaderValue::from_str(line).unwrap());
        }
        let peer = std::net::Ipv4Addr::LOCALHOST.into();
        let (method, headers) = (&Method::POST, &headers);
        verify(&Inbound {
            method,
            path: "/",
            query: None,
            host: "h",
            headers: headers.into(),
            body,
            peer,
        })
    }

    #[test]
    fn a_digest_of_either_algorithm_holds_for_its_body_alone() {
        let both = [SHA256, ", ", SHA512].concat();
        for lines in [&[SHA256][..], &[SHA512], &[&both], &[SHA512, SHA256]] {
            assert_eq!(verdict(lines, BODY), Ok(()), "{lines:?}");
            for other in [&b""[..], b"{", br#"{"hello": "World"}"#, br#"{"hello": "world"} "#] {
                assert!(verdict(lines, other).is_err(), "{lines:?} {other:?}");
            }
        }
        assert_eq!(verdict(&[&write(BODY)], BODY), Ok(()));
        assert_eq!(write(BODY), SHA256);
    }

    #[test]
    fn every_known_digest_must_hold_and_one_must_be_there() {
        let wrong = SHA256.replace("X48", "X49");
        for lines in [
            &[&*wrong][..],
            &[SHA512, &wrong],
            &["unixsum=:ABCD:"],
            &[""],
            &[SHA256, SHA256],
            &[&[SHA512, ",", SHA512].concat()],
        ] {
            assert!(matches!(verdict(lines, BODY), Err(Denial::Malformed(_))), "{lines:?}");
        }
        assert_eq!(verdict(&["unixsum=:ABCD:", SHA256], BODY), Ok(()));
        assert_eq!(verdict(&[], BODY), Ok(()));
    }

    #[test]
    fn a_digest_in_another_spelling_is_refused() {
        let bare = SHA256.replace(':', "");
        for line in [
            &*SHA256.replace("BPE=", "BPF="),
            &SHA256.replace("BPE=", "BPE"),
            &SHA256.replace("BPE=", "BPE=AAAA"),
            &SHA256.replace("sha", "SHA"),
            &[SHA256, ";q=1"].concat(),
            &[SHA256, ","].concat(),
            &bare,
            "sha-256=::",
            "sha-256",
        ] {
            assert!(matches!(verdict(&[line], BODY), Err(Denial::Malformed(_))), "{line}");
        }
    }
}
