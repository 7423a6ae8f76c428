//! Notices what is unusual for a key: a new network, a jump in refusals, use after long idleness, a permission probed.
//!
//! What is known of keys is bounded: of those used longest ago nothing is, and their next use is their first.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use foldhash::fast::RandomState;

use super::Rules;
use super::record::{Entry, Texts, address, begin, count, escaped, plain};
use super::seen;
use crate::clock::Micros;
use crate::denial::Denial;
use crate::metrics::AuditMeter;

/// What can be unusual.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Used from a /24, or a /48 of IPv6, that it was not seen from.
    NewNetwork,
    /// Refused far more often than before.
    Refusals,
    /// Used after a long time without use.
    Idle,
    /// Used for what it is not permitted.
    Probed,
}

impl Kind {
    /// Each with its name in the trail and in metrics.
    pub const ALL: [(Self, &'static str); 4] = [
        (Self::NewNetwork, "new_network"),
        (Self::Refusals, "refusals_jump"),
        (Self::Idle, "use_after_idleness"),
        (Self::Probed, "permission_probed"),
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        let [new_network, refusals, idle, probed] = Self::ALL;
        match self {
            Self::NewNetwork => new_network.1,
            Self::Refusals => refusals.1,
            Self::Idle => idle.1,
            Self::Probed => probed.1,
        }
    }
}

/// What is known of one key.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Known {
    /// When it was used last.
    pub(super) last: Micros,
    /// Where from, the latest last.
    pub(super) networks: ArrayVec<u64, 8>,
    pub(super) minute: u64,
    pub(super) refusals: u32,
    /// What is usual in a minute, times 16.
    pub(super) usual: u32,
    pub(super) told: [Micros; Kind::ALL.len()],
}

/// What is known of all keys.
#[derive(Debug)]
pub(super) struct Unusual {
    /// Keys used of late, and those before them, of which the ones that are used again move up.
    young: HashMap<u64, Known, RandomState>,
    old: HashMap<u64, Known, RandomState>,
    most: usize,
    idle: Duration,
    kept: Instant,
    file: Option<PathBuf>,
}

impl Unusual {
    /// What an earlier process knew.
    pub(super) fn open(rules: &Rules) -> Self {
        let file = rules.dir.join(seen::FILE);
        let old = seen::read(&file, MOST_KEYS).into_iter().collect();
        Self { old, ..Self::new(rules.idle, MOST_KEYS, Some(file)) }
    }

    fn new(idle: Duration, most: usize, file: Option<PathBuf>) -> Self {
        let (young, old) = (HashMap::default(), HashMap::default());
        Self { young, old, most, idle, kept: Instant::now(), file }
    }

    /// Looks at a request; appends a record of each thing that is unusual about it, and says whether there was one.
    pub(super) fn look(
        &mut self,
        entry: &Entry,
        texts: &Texts<'_>,
        meter: &AuditMeter,
        out: &mut Vec<u8>,
    ) -> bool {
        let denial = entry.denial().and_then(|place| Denial::REASONS.get(place).copied());
        let idle = self.idle;
        let known = self.known(entry.tag.short());
        let found = known.judge(entry.at, network(entry.peer), denial, idle);
        for kind in &found {
            meter.unusual(*kind);
            begin("event", entry.at, out);
            plain("event", kind.name(), out);
            escaped("key", texts.key, out);
            escaped("account", texts.account, out);
            address("address", entry.peer, out);
            match kind {
                Kind::NewNetwork => escaped("network", &network_text(entry.peer), out),
                Kind::Refusals => count("refusals_in_a_minute", u64::from(known.refusals), out),
                Kind::Idle | Kind::Probed => {}
            }
            out.push(b'\n');
        }
        !found.is_empty()
    }

    fn known(&mut self, key: u64) -> &mut Known {
        if !self.young.contains_key(&key) {
            if self.young.len() >= self.most / 2 {
                self.old = std::mem::take(&mut self.young);
            }
            let before = self.old.remove(&key).unwrap_or_default();
            self.young.insert(key, before);
        }
        self.young.entry(key).or_default()
    }

    /// Writes down what is known, now and then.
    pub(super) fn keep(&mut self, rules: &Rules) {
        if self.kept.elapsed() >= KEPT_EVERY {
            self.close(rules);
        }
    }

    /// Writes down what is known. Where that fails the next process knows less.
    pub(super) fn close(&mut self, _rules: &Rules) {
        self.kept = Instant::now();
        if let Some(file) = &self.file
            && let Err(error) = seen::write(file, self.young.iter().chain(&self.old))
        {
            tracing::warn!(%error, "what is usual for keys cannot be written down");
        }
    }
}

impl Known {
    /// What is unusual about a use at `at` from `network`.
    fn judge(
        &mut self,
        at: Micros,
        network: u64,
        denial: Option<&str>,
        idle: Duration,
    ) -> ArrayVec<Kind, 4> {
        let mut found = ArrayVec::new();
        let is_first = self.networks.is_empty();
        if !is_first && at.since(self.last) >= idle {
            found.push(Kind::Idle);
        }
        if self.is_new(network) && !is_first {
            found.push(Kind::NewNetwork);
        }
        if self.has_jumped(at, denial.is_some()) {
            found.push(Kind::Refusals);
        }
        if denial == Some("not_permitted") {
            found.push(Kind::Probed);
        }
        self.last = self.last.max(at);
        found.retain(|kind| self.may_tell(*kind, at));
        found
    }

    fn is_new(&mut self, network: u64) -> bool {
        let known = self.networks.iter().position(|known| *known == network);
        if known.is_none() && self.networks.is_full() {
            self.networks.remove(0);
        }
        if let Some(place) = known {
            self.networks.remove(place);
        }
        self.networks.push(network);
        known.is_none()
    }

    /// Whether the refusals of this minute are many, and many more than is usual.
    fn has_jumped(&mut self, at: Micros, refused: bool) -> bool {
        let minute = at.0 / 60_000_000;
        if minute > self.minute {
            let passed = u32::try_from(minute - self.minute).unwrap_or(u32::MAX).min(MOST_MINUTES);
            self.usual = (self.usual * 15 + self.refusals * 16) / 16;
            for _ in 1..passed {
                self.usual = self.usual * 15 / 16;
            }
            (self.minute, self.refusals) = (minute, 0);
        }
        self.refusals = self.refusals.saturating_add(u32::from(refused)).min(1 << 20);
        refused && self.refusals >= MANY && self.refusals >= self.usual.saturating_mul(5) / 16
    }

    /// The same is not told twice in ten minutes, so that a key cannot fill the trail.
    fn may_tell(&mut self, kind: Kind, at: Micros) -> bool {
        let place = Kind::ALL.iter().position(|(known, _)| *known == kind).unwrap_or_default();
        let Some(told) = self.told.get_mut(place) else { return false };
        if told.0 > 0 && at.since(*told) < QUIET {
            return false;
        }
        *told = at;
        true
    }
}

/// The /24 of an address, or the /48 of one of IPv6, as a number of its own.
fn network(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(v4) => u64::from(v4.to_bits() >> 8),
        IpAddr::V6(v6) => 1 << 63 | u64::try_from(v6.to_bits() >> 80).unwrap_or_default(),
    }
}

fn network_text(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(v4) => format!("{}/24", Ipv4Addr::from_bits(v4.to_bits() & 0xffff_ff00)),
        IpAddr::V6(v6) => format!("{}/48", Ipv6Addr::from_bits(v6.to_bits() >> 80 << 80)),
    }
}

/// Keys of which something is known.
const MOST_KEYS: usize = 200_000;
/// How often what is known is written down.
const KEPT_EVERY: Duration = Duration::from_mins(10);
/// For how long the same of one key is not told again.
const QUIET: Duration = Duration::from_mins(10);
/// Refusals in a minute below which there is no jump.
const MANY: u32 = 20;
/// Minutes after which nothing is left of what was usual.
const MOST_MINUTES: u32 = 120;

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_hours(720);
    const DAY: Micros = Micros(86_400_000_000);

    fn at(address: &str) -> u64 {
        network(address.parse().unwrap())
    }

    #[test]
    fn a_new_network_is_told_once_and_a_known_one_never() {
        let mut known = Known::default();
        let mut judge = |hours: u64, address| {
            known.judge(DAY + Duration::from_hours(hours), at(address), None, IDLE).to_vec()
        };
        assert_eq!(judge(0, "192.0.2.1"), []);
        assert_eq!(judge(0, "192.0.2.200"), []);
        assert_eq!(judge(1, "192.0.3.1"), [Kind::NewNetwork]);
        assert_eq!(judge(1, "192.0.3.9"), []);
        assert_eq!(judge(2, "2001:db8:1::1"), [Kind::NewNetwork]);
        assert_eq!(judge(3, "2001:db8:1:ffff::1"), []);
        assert_eq!(judge(3, "192.0.2.1"), []);
    }

    #[test]
    fn use_after_idleness_is_told_at_the_edge() {
        for (gap, told) in
            [(IDLE.saturating_sub(Duration::from_micros(1)), vec![]), (IDLE, vec![Kind::Idle])]
        {
            let mut known = Known::default();
            known.judge(DAY, 1, None, IDLE);
            assert_eq!(known.judge(DAY + gap, 1, None, IDLE).to_vec(), told);
        }
    }

    #[test]
    fn refusals_are_told_when_they_jump_and_not_when_they_are_usual() {
        let mut known = Known::default();
        let mut told = Vec::new();
        for n in 0..MANY {
            let found = known.judge(DAY, 1, Some("replayed"), IDLE);
            told.extend(found.into_iter().map(|kind| (n, kind)));
        }
        assert_eq!(told, [(MANY - 1, Kind::Refusals)]);

        let mut steady =
            Known { usual: 16 * MANY, networks: [1].into_iter().collect(), ..Known::default() };
        steady.minute = DAY.0 / 60_000_000;
        for _ in 0..2 * MANY {
            assert!(steady.judge(DAY, 1, Some("limited"), IDLE).is_empty());
        }
    }

    #[test]
    fn a_probe_is_told_and_not_again_for_a_while() {
        let mut known = Known::default();
        let mut judge =
            |at: Micros| known.judge(at, 1, Some("not_permitted"), IDLE).contains(&Kind::Probed);
        assert!(judge(DAY));
        assert!(!judge(DAY + QUIET - Duration::from_micros(1)));
        assert!(judge(DAY + QUIET));
    }

    #[test]
    fn what_is_known_is_bounded_and_lost_for_those_used_longest_ago() {
        let mut unusual = Unusual::new(IDLE, 100, None);
        for key in 0..10_000 {
            unusual.known(key).networks.push(1);
            unusual.known(7).last = DAY;
            assert!(unusual.young.len() + unusual.old.len() <= 101);
        }
        assert_eq!(unusual.known(7).last, DAY);
        assert!(unusual.known(100).networks.is_empty());
    }
}
