//! Defeats a flood that would fill the disk: refusals that nobody has proved are told in sums, of a bounded number.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use foldhash::fast::RandomState;

use super::record::{begin, count, escaped, plain};
use crate::clock::Micros;
use crate::denial::Denial;

/// An address, or the /64 of one of IPv6.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Source {
    V4(Ipv4Addr),
    V6(u64),
    /// All those for which there was no room.
    Others,
}

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self::V4(v4),
            IpAddr::V6(v6) => Self::V6(u64::try_from(v6.to_bits() >> 64).unwrap_or_default()),
        }
    }
}

impl Source {
    fn text(self) -> String {
        match self {
            Self::V4(v4) => v4.to_string(),
            Self::V6(half) => {
                format!("{}/64", Ipv6Addr::from_bits(u128::from(half) << 64))
            }
            Self::Others => "others".to_owned(),
        }
    }
}

/// How many refusals of each reason came from each of a bounded number of sources.
#[derive(Debug)]
pub(super) struct Refused {
    sums: HashMap<(Source, u8), u64, RandomState>,
    most: usize,
}

impl Refused {
    /// Room for `most` pairs of source and reason, and one more for each reason.
    pub(super) fn new(most: usize) -> Self {
        Self { sums: HashMap::default(), most }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sums.is_empty()
    }

    /// Counts one refusal; `denial` is a place in [`Denial::REASONS`].
    pub(super) fn count(&mut self, peer: IpAddr, denial: usize) {
        self.add(peer.into(), u8::try_from(denial).unwrap_or(u8::MAX), 1);
    }

    /// Takes over what `other` has counted.
    pub(super) fn take(&mut self, other: &mut Self) {
        for ((source, denial), sum) in other.sums.drain() {
            self.add(source, denial, sum);
        }
    }

    fn add(&mut self, source: Source, denial: u8, sum: u64) {
        if let Some(known) = self.sums.get_mut(&(source, denial)) {
            *known += sum;
            return;
        }
        let source = if self.sums.len() < self.most { source } else { Source::Others };
        *self.sums.entry((source, denial)).or_default() += sum;
    }

    /// Appends a record of each sum, each ended by a newline, and forgets them. They were counted since `since`.
    pub(super) fn write(&mut self, since: Micros, now: Micros, out: &mut Vec<u8>) -> u64 {
        let mut sums: Vec<_> = self.sums.drain().collect();
        sums.sort_by_key(|((_, denial), sum)| (std::cmp::Reverse(*sum), *denial));
        let records = u64::try_from(sums.len()).unwrap_or_default();
        for ((source, denial), sum) in sums {
            begin("unproven", now, out);
            escaped("address", &source.text(), out);
            let reason = Denial::REASONS.get(usize::from(denial)).copied();
            plain("reason", reason.unwrap_or("-"), out);
            count("count", sum, out);
            count("window_ms", now.as_millis().saturating_sub(since.as_millis()), out);
            out.push(b'\n');
        }
        records
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_beyond_the_bound_are_summed_up_and_none_is_lost() {
        let mut refused = Refused::new(10);
        for n in 0..100_000_u32 {
            refused.count(Ipv4Addr::from_bits(n).into(), 14);
        }
        let mut out = Vec::new();
        assert_eq!(refused.write(Micros(0), Micros(5_000_000), &mut out), 11);
        let sum: u64 = String::from_utf8(out)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(&format!("{line}}}")).unwrap())
            .map(|record| record["count"].as_u64().unwrap())
            .sum();
        assert_eq!(sum, 100_000);
        assert!(refused.is_empty());
    }

    #[test]
    fn addresses_of_one_network_of_ipv6_are_one_source() {
        let mut refused = Refused::new(10);
        for address in ["2001:db8:1:2::1", "2001:db8:1:2:ffff::9", "2001:db8:1:3::1"] {
            refused.count(address.parse().unwrap(), 0);
        }
        refused.count("::ffff:192.0.2.1".parse().unwrap(), 0);
        let mut out = Vec::new();
        assert_eq!(refused.write(Micros(0), Micros(1), &mut out), 3);
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.contains(r#""address":"2001:db8:1:2::/64","reason":"no_route","count":2"#),
            "{text}"
        );
        assert!(text.contains(r#""address":"192.0.2.1""#), "{text}");
    }
}
