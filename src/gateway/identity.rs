//! Writes what a backend is told of a request: the format of [`crate::identity`], into one reused buffer.

use std::io::Write as _;
use std::net::IpAddr;
use std::ops::Range;

use bytes::BufMut;
use sha2::{Digest, Sha256};

use super::hex;
use super::holders::Holders;
use crate::checks::signature::sha256_mac;
use crate::clock::Micros;
use crate::identity::Proof;
use crate::key::{Key, PermissionNames, Secret};
use crate::lanes;

/// What the gateway says of one request.
pub(super) struct Statement<'a> {
    pub(super) request_id: &'a [u8],
    pub(super) proof: Proof,
    pub(super) key: Option<&'a Key>,
    pub(super) venue: &'a str,
    pub(super) holders: &'a Holders,
    pub(super) client: IpAddr,
    pub(super) deadline: Option<Micros>,
    pub(super) body: &'a [u8],
}

impl Statement<'_> {
    /// Writes the value of `countersign-identity`; and tells where in `out` the client's address stands.
    pub(super) fn write(&self, out: &mut Vec<u8>) -> Range<usize> {
        out.put_slice(b"v=1; request=");
        encode(self.request_id, out);
        out.put_slice(b"; proof=");
        out.put_slice(self.proof.name().as_bytes());
        if let Some(key) = self.key {
            self.holders.write(key, self.venue, out);
        } else {
            out.put_slice(b"; key=-; account=-; venue=");
            encode(self.venue.as_bytes(), out);
            out.put_slice(b"; permissions=-");
        }
        out.put_slice(b"; client=");
        let start = out.len();
        write_address(self.client, out);
        let client = start..out.len();
        out.put_slice(b"; deadline=");
        match self.deadline {
            None => out.put_u8(b'-'),
            Some(deadline) => write_number(deadline.as_millis(), out),
        }
        out.put_slice(b"; body=");
        if self.body.is_empty() {
            out.put_slice(EMPTY_DIGEST);
        } else {
            out.put_slice(hex::pairs(&Sha256::digest(self.body).into()).as_flattened());
        }
        client
    }
}

/// Writes an address as `Display` does; an IPv4 address without the machinery of formatting.
fn write_address(address: IpAddr, out: &mut Vec<u8>) {
    match address {
        IpAddr::V4(address) => {
            for (place, octet) in address.octets().into_iter().enumerate() {
                if place > 0 {
                    out.put_u8(b'.');
                }
                write_number(octet, out);
            }
        }
        // Writing to a buffer in memory cannot fail.
        IpAddr::V6(address) => drop(write!(out, "{address}")),
    }
}

/// Writes a number in decimal digits.
fn write_number(number: impl itoa::Integer, out: &mut Vec<u8>) {
    out.put_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// The value of `countersign-mac`; `None` when `secret` is no HMAC-SHA256 key.
pub(super) fn mac(
    secret: &Secret,
    method: &str,
    target: &[u8],
    identity: &[u8],
) -> Option<[[u8; 2]; 32]> {
    sha256_mac(secret, &pieces(method, target, identity)).map(|mac| hex::pairs(&mac))
}

fn pieces<'a>(method: &'a str, target: &'a [u8], identity: &'a [u8]) -> [&'a [u8]; 6] {
    [b"countersign-1\n", method.as_bytes(), b"\n", target, b"\n", identity]
}

/// What is said of the holder of a key: the same in all its requests.
pub(super) fn write_holder(
    key: &Key,
    venue: &str,
    permissions: &PermissionNames,
    out: &mut Vec<u8>,
) {
    out.put_slice(b"; key=");
    encode_name(&key.id, out);
    out.put_slice(b"; account=");
    encode_name(&key.account, out);
    out.put_slice(b"; venue=");
    encode(venue.as_bytes(), out);
    out.put_slice(b"; permissions=");
    for (place, name) in permissions.names(key.permissions).enumerate() {
        if place > 0 {
            out.put_u8(b'+');
        }
        encode(name.as_bytes(), out);
    }
}

fn encode_name(text: &str, out: &mut Vec<u8>) {
    // A name that is a lone `-` must not say "none".
    if text == "-" { out.put_slice(b"%2D") } else { encode(text.as_bytes(), out) }
}

fn encode(text: &[u8], out: &mut Vec<u8>) {
    if !lanes::any(text, is_reserved) {
        out.put_slice(text);
        return;
    }
    for byte in text.iter().copied() {
        if is_reserved(byte) {
            let mut digits = [0; 2];
            data_encoding::HEXUPPER.encode_mut(&[byte], &mut digits);
            out.put_u8(b'%');
            out.put_slice(&digits);
        } else {
            out.put_u8(byte);
        }
    }
}

/// Whether a byte does not stand for itself. Without a branch or a table, so that many are looked at at once.
fn is_reserved(byte: u8) -> bool {
    let plain = u8::from((byte | 0x20).wrapping_sub(b'a') <= b'z' - b'a')
        | u8::from(byte.wrapping_sub(b'0') <= b'9' - b'0')
        | u8::from(byte == b'.')
        | u8::from(byte == b'_')
        | u8::from(byte == b'~')
        | u8::from(byte == b'-');
    plain == 0
}

/// SHA-256 of nothing, in lower hexadecimal.
const EMPTY_DIGEST: &[u8; 64] = b"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[cfg(test)]
mod tests {
    use super::*;

    fn statement<'a>(holders: &'a Holders, body: &'a [u8]) -> Statement<'a> {
        Statement {
            request_id: b"01-a",
            proof: Proof::None,
            key: None,
            venue: "spot one",
            holders,
            client: "192.0.2.7".parse().unwrap(),
            deadline: None,
            body,
        }
    }

    #[test]
    fn numbers_and_addresses_are_written_as_they_are_displayed() {
        for number in [0, 9, 10, 100, 255, 1_700_000_000_000, u64::MAX] {
            let mut out = Vec::new();
            write_number(number, &mut out);
            assert_eq!(out, number.to_string().as_bytes());
        }
        for text in ["0.0.0.0", "192.0.2.17", "9.10.99.100", "255.255.255.255", "2001:db8::1", "::"]
        {
            let mut out = Vec::new();
            write_address(text.parse().unwrap(), &mut out);
            assert_eq!(out, text.as_bytes());
        }
    }

    #[test]
    fn a_public_request_is_stated_with_dashes() {
        let (holders, mut out) = (Holders::default(), Vec::new());
        statement(&holders, b"").write(&mut out);
        assert_eq!(
            std::str::from_utf8(&out).unwrap(),
            "v=1; request=01-a; proof=none; key=-; account=-; venue=spot%20one; permissions=-; client=192.0.2.7; \
             deadline=-; body=e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }

    #[test]
    fn the_digest_of_an_empty_body_is_the_one_that_is_computed() {
        let digest = Sha256::digest(b"").into();
        assert_eq!(hex::pairs(&digest).as_flattened(), EMPTY_DIGEST);
    }

    #[test]
    fn what_stands_for_itself_is_what_is_said_to() {
        for byte in 0..=u8::MAX {
            let plain = byte.is_ascii_alphanumeric() || b"._~-".contains(&byte);
            assert_eq!(is_reserved(byte), !plain, "{byte}");
        }
    }

    #[test]
    fn separators_in_names_are_encoded_so_that_no_part_can_be_forged() {
        let mut out = Vec::new();
        encode("a; key=b\r\n+%é".as_bytes(), &mut out);
        assert_eq!(out, b"a%3B%20key%3Db%0D%0A%2B%25%C3%A9");
    }

    #[test]
    fn what_is_written_here_is_what_backends_read() {
        let (holders, mut out) = (Holders::default(), Vec::new());
        statement(&holders, b"body").write(&mut out);
        let text = std::str::from_utf8(&out).unwrap();
        assert_eq!(crate::identity::Identity::parse(text).unwrap().to_string(), text);

        let secret = Secret::read(crate::key::Algorithm::HmacSha256, b"shared").unwrap();
        let mac = mac(&secret, "GET", b"/a?b=1", &out).unwrap();
        assert_eq!(
            crate::identity::mac(b"shared", "GET", "/a?b=1", &out).as_bytes(),
            mac.as_flattened()
        );
    }
}
