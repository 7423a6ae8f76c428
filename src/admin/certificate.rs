//! The names in a client certificate that was verified: its alternative names (RFC 5280, 4.2.1.6).

/// The DNS names, e-mail addresses and URIs among the alternative names of a certificate in DER; none where it cannot
/// be read.
pub(super) fn names(der: &[u8]) -> Vec<String> {
    found(der).unwrap_or_default()
}

fn found(der: &[u8]) -> Option<Vec<String>> {
    let (certificate, _) = element(der, SEQUENCE)?;
    let (mut fields, _) = element(certificate, SEQUENCE)?;
    while let Some((tag, content, rest)) = next(fields) {
        if tag == EXTENSIONS {
            return alternative(element(content, SEQUENCE)?.0);
        }
        fields = rest;
    }
    None
}

fn alternative(mut extensions: &[u8]) -> Option<Vec<String>> {
    while let Some((_, extension, rest)) = next(extensions) {
        let (name, value) = element(extension, OBJECT)?;
        if name == ALTERNATIVE_NAMES {
            let value = element(value, BOOLEAN).map_or(value, |(_, value)| value);
            return Some(texts(element(element(value, OCTETS)?.0, SEQUENCE)?.0));
        }
        extensions = rest;
    }
    None
}

fn texts(mut names: &[u8]) -> Vec<String> {
    let mut all = Vec::new();
    while let Some((tag, name, rest)) = next(names) {
        if TEXTS.contains(&tag)
            && name.iter().all(u8::is_ascii_graphic)
            && let Ok(text) = std::str::from_utf8(name)
        {
            all.push(text.to_owned());
        }
        names = rest;
    }
    all
}

fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    next(bytes).filter(|(found, ..)| *found == tag).map(|(_, content, rest)| (content, rest))
}

/// Tag, content and what follows.
fn next(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        0x81..=0x83 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let length = digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit));
            (length, rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

const SEQUENCE: u8 = 0x30;
const OBJECT: u8 = 0x06;
const BOOLEAN: u8 = 0x01;
const OCTETS: u8 = 0x04;
/// Context 3, explicit.
const EXTENSIONS: u8 = 0xa3;
/// 2.5.29.17
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1d, 0x11];
/// An e-mail address, a DNS name, a URI.
const TEXTS: [u8; 3] = [0x81, 0x82, 0x86];

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    fn certificate(names: Vec<SanType>) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn every_textual_name_is_found_and_an_address_is_none() {
        let der = certificate(vec![
            SanType::DnsName("ann.ops.example".try_into().unwrap()),
            SanType::Rfc822Name("ann@ops.example".try_into().unwrap()),
            SanType::IpAddress("192.0.2.1".parse().unwrap()),
            SanType::URI("spiffe://ops.example/ann".try_into().unwrap()),
        ]);
        assert_eq!(names(&der), ["ann.ops.example", "ann@ops.example", "spiffe://ops.example/ann"]);
        assert!(names(&certificate(Vec::new())).is_empty());
    }

    #[test]
    fn a_certificate_cut_or_changed_anywhere_is_no_trouble() {
        let der = certificate(vec![SanType::DnsName("ann".try_into().unwrap())]);
        for length in 0..der.len() {
            names(&der[..length]);
        }
        for at in 0..der.len() {
            for byte in [0, 0x7f, 0x80, 0x84, 0xff] {
                let mut changed = der.clone();
                changed[at] = byte;
                names(&changed);
            }
        }
    }
}
