//! Defeats forged addresses: the client's is the socket's, or what a trusted proxy says of it.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::request::FORWARDED_FOR;
use crate::denial::Denial;
use crate::dialect::Fields;

/// The most hops that are walked.
const MOST_HOPS: usize = 100;

/// The address of the client behind `peer`.
///
/// `X-Forwarded-For` is walked from its end, over all its lines, as long as each hop is a trusted proxy; the first
/// that is not is the client. No other header is believed.
pub(super) fn address(
    peer: IpAddr,
    headers: Fields<'_>,
    trusted: &[IpNet],
) -> Result<IpAddr, Denial> {
    let is_trusted = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
    let mut hop = peer.to_canonical();
    if !is_trusted(&hop) {
        return Ok(hop);
    }
    let lines: Vec<_> = headers.get_all(&FORWARDED_FOR).collect();
    let mut hops = lines.iter().rev().flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
    for told in hops.by_ref().take(MOST_HOPS) {
        // What a trusted proxy wrote must be readable, or nobody knows whom the limits would fall on.
        hop = read(told).ok_or(Denial::Malformed("X-Forwarded-For is not a list of addresses"))?;
        if !is_trusted(&hop) {
            return Ok(hop);
        }
    }
    match hops.next() {
        None => Ok(hop),
        Some(_) => Err(Denial::Malformed("X-Forwarded-For has too many hops")),
    }
}

/// An address as proxies write it: bare, in brackets, with a port, or mapped.
fn read(told: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(told).ok()?.trim_matches([' ', '\t']);
    let bare = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<IpAddr>().ok();
    text.parse::<IpAddr>()
        .ok()
        .or_else(|| text.parse::<SocketAddr>().ok().map(|socket| socket.ip()))
        .or_else(bare)
        .map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::*;

    fn seen(peer: &str, lines: &[&str]) -> Result<String, Denial> {
        let trusted = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("x-forwarded-for", HeaderValue::from_str(line).unwrap());
        }
        for name in ["x-real-ip", "forwarded", "cf-connecting-ip", "true-client-ip"] {
            headers.append(name, HeaderValue::from_static("192.0.2.66"));
        }
        address(peer.parse().unwrap(), (&headers).into(), &trusted).map(|found| found.to_string())
    }

    #[test]
    fn an_untrusted_peer_is_the_client_whatever_it_says() {
        assert_eq!(seen("203.0.113.5", &["192.0.2.1"]), Ok("203.0.113.5".into()));
        assert_eq!(seen("203.0.113.5", &["garbage"]), Ok("203.0.113.5".into()));
    }

    #[test]
    fn behind_trusted_proxies_the_last_untrusted_hop_is_the_client() {
        for (lines, client) in [
            (&["192.0.2.1"][..], "192.0.2.1"),
            (&["6.6.6.6, 192.0.2.1"], "192.0.2.1"),
            (&["6.6.6.6, 192.0.2.1, 10.0.0.9"], "192.0.2.1"),
            (&["6.6.6.6", "192.0.2.1 , 10.0.0.9"], "192.0.2.1"),
            (&["192.0.2.1", "10.0.0.9"], "192.0.2.1"),
            (&["junk, 192.0.2.1"], "192.0.2.1"),
            (&["192.0.2.1:5533"], "192.0.2.1"),
            (&["[2001:db8::1]:80"], "2001:db8::1"),
            (&["[2001:db8::1]"], "2001:db8::1"),
            (&["::ffff:192.0.2.1"], "192.0.2.1"),
            (&["10.0.0.9"], "10.0.0.9"),
            (&[], "10.0.0.1"),
        ] {
            assert_eq!(seen("10.0.0.1", lines), Ok(client.into()), "{lines:?}");
            assert_eq!(seen("::ffff:10.0.0.1", lines), Ok(client.into()), "{lines:?}");
        }
    }

    #[test]
    fn what_a_trusted_proxy_says_must_be_an_address() {
        for line in
            ["", "unknown", "192.0.2.1,", "192.0.2.1, junk", "1.2.3", "_hidden", "1.2.3.4.5"]
        {
            assert!(seen("10.0.0.1", &[line]).is_err(), "{line}");
        }
    }

    #[test]
    fn hops_have_an_upper_bound() {
        let line = |hops: usize| vec!["10.0.0.2"; hops].join(",");
        assert_eq!(seen("10.0.0.1", &[&line(MOST_HOPS)]), Ok("10.0.0.2".into()));
        assert!(seen("10.0.0.1", &[&line(MOST_HOPS + 1)]).is_err());
    }
}
