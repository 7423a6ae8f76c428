//! How long it takes after a fault was set right until all is served again.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::time::Duration;

use countersign::clock::Micros;

use crate::clients::Class;
use crate::nemesis::{Fault, Kind};
use crate::traffic::{Answer, Sent};
use crate::witness::Witness;

/// After each fault.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recoveries {
    /// Since the fault was undone.
    undone: Vec<Recovery>,
    /// Since the cluster itself served all slots again as well; none where there is no cluster.
    healed: Vec<Recovery>,
}

#[derive(Clone, Copy, Debug)]
struct Recovery {
    kind: Kind,
    since: Micros,
    /// `None` where the next fault came before all was served.
    span: Option<Duration>,
}

impl Recoveries {
    /// After each fault, when by every gateway and of every account a request had been served that was signed since.
    pub(crate) fn of(sent: &[Sent], faults: &[Fault], witness: Option<&Witness>) -> Self {
        let mut all = Self::default();
        for (place, fault) in faults.iter().enumerate() {
            let until = faults.get(place + 1).map_or(Micros(u64::MAX), |next| next.began);
            let after =
                |since| Recovery { kind: fault.kind, since, span: recovered(sent, since, until) };
            all.undone.push(after(fault.undone));
            let healed = witness.map(|seen| seen.healed(fault.began, fault.undone, until));
            all.healed.extend(healed.map(after));
        }
        all
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.undone.extend(other.undone);
        self.healed.extend(other.healed);
    }

    /// How many there are, and after how many of them the next fault came before all was served.
    pub(crate) fn cut_short(&self) -> (usize, usize) {
        (self.undone.len(), self.undone.iter().filter(|after| after.span.is_none()).count())
    }

    /// Each by itself, for whoever looks into one.
    pub(crate) fn each(&self) -> String {
        let mut text = String::new();
        for Recovery { kind, since, span } in self.undone.iter().chain(&self.healed) {
            writeln!(text, "  {kind:?}, healed at {since}: served after {span:?}").unwrap();
        }
        text
    }

    /// Since faults were undone; and since a cluster was healed itself, where there is one.
    pub(crate) fn told(&self) -> String {
        let undone = told(&self.undone);
        if self.healed.is_empty() {
            return undone;
        }
        let healed = told(&self.healed);
        format!("since the fault was undone {undone}; since the cluster itself serves {healed}")
    }
}

/// Half of them at most, and all: together, and after each kind of fault.
fn told(each: &[Recovery]) -> String {
    let mut by_kind: BTreeMap<Kind, Vec<Duration>> = BTreeMap::new();
    let (mut all, mut unknown) = (Vec::new(), 0);
    for Recovery { kind, since: _, span } in each {
        by_kind.entry(*kind).or_default().extend(*span);
        all.extend(*span);
        unknown += usize::from(span.is_none());
    }
    let within = all.iter().filter(|span| **span <= Duration::from_secs(2)).count();
    let mut text = format!(
        "p50 {} max {} ms ({within} of {} within 2 s, {unknown} cut short)",
        part(&mut all, 1, 2),
        part(&mut all, 1, 1),
        all.len()
    );
    for (kind, mut spans) in by_kind.into_iter().filter(|(_, spans)| !spans.is_empty()) {
        let (half, most) = (part(&mut spans, 1, 2), part(&mut spans, 1, 1));
        write!(text, ", {kind:?} {half}/{most}").unwrap();
    }
    text
}

/// How long after `healed` the last of all gateways and accounts was served; `None` where that came after `until`.
fn recovered(sent: &[Sent], healed: Micros, until: Micros) -> Option<Duration> {
    let mut gateways: HashMap<usize, Option<Micros>> = HashMap::new();
    let mut accounts: HashMap<&str, Option<Micros>> = HashMap::new();
    let since = sent.partition_point(|sent| sent.at < healed);
    let signed = sent[since..].iter().take_while(|sent| sent.at < until);
    for sent in signed.filter(|sent| sent.class == Class::Honest) {
        let served = match sent.answered {
            Some((at, Answer::Served)) => Some(at),
            Some((_, Answer::ServedAlone | Answer::Refused(_) | Answer::Lost)) | None => None,
        };
        let gateway = sent.gateway.map(|gateway| gateways.entry(gateway).or_default());
        for first in gateway.into_iter().chain([accounts.entry(&sent.key).or_default()]) {
            *first = first.or(served);
        }
    }
    let all = gateways.values().chain(accounts.values());
    let last = all.copied().collect::<Option<Vec<Micros>>>()?.into_iter().max()?;
    (last <= until).then(|| last.since(healed))
}

/// The time that so great a part of them lie within, in milliseconds.
fn part(spans: &mut [Duration], of: usize, all: usize) -> u128 {
    spans.sort_unstable();
    let place = (spans.len() * of / all).min(spans.len().saturating_sub(1));
    spans.get(place).map_or(0, Duration::as_millis)
}
