//! Reads the backend's own record: what came twice, what came late, what came too often.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::time::Duration;

use countersign::clock::Micros;

use crate::backend::Arrival;
use crate::clients::Class;
use crate::nemesis::Fault;
use crate::settings::QUOTA;
use crate::traffic::{Answer, Phase, Sent};

/// What may pass between a gateway's last look at the clock and ours, on a busy machine.
const SLACK: Duration = Duration::from_millis(250);
/// A charge may reach the backend so much later than it was made: a gateway that stood still meanwhile.
pub(crate) const HELD: Duration = Duration::from_secs(1);
/// So long after it was set right a server may be asked again by the last gateway, which is when limits are back there.
const RETURNED: Duration = Duration::from_secs(4);

/// What is wrong.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verdicts {
    pub(crate) accepted_twice: usize,
    pub(crate) late: usize,
    pub(crate) over_limit: usize,
    examples: Vec<String>,
}

impl Verdicts {
    pub(crate) fn add(&mut self, other: Self) {
        self.accepted_twice += other.accepted_twice;
        self.late += other.late;
        self.over_limit += other.over_limit;
        self.examples.extend(other.examples);
        self.examples.truncate(EXAMPLES);
    }
}

/// How many are told.
const EXAMPLES: usize = 10;

/// What a record shows. What gateways may judge alone is counted apart, but for when it comes.
pub(crate) fn check(arrivals: &[Arrival], sent: &[Sent], faults: &[Fault]) -> Verdicts {
    let mut verdicts = Verdicts::default();
    let by_number: HashMap<u64, &Sent> = sent.iter().map(|sent| (sent.number, sent)).collect();
    let mut first: HashMap<u64, &Arrival> = HashMap::new();
    let mut by_account: BTreeMap<&str, Vec<Micros>> = BTreeMap::new();
    for arrival in arrivals {
        let was = by_number[&arrival.number];
        if was.class == Class::Alone {
            // One by each gateway may come.
        } else if let Some(first) = first.get(&arrival.number) {
            verdicts.accepted_twice += 1;
            let alike = first.what == arrival.what;
            verdicts.examples.push(format!(
                "number {} of {} at {} and at {} ({}), signed {}; faults: {}",
                arrival.number,
                arrival.account,
                first.at,
                arrival.at,
                if alike { "the same" } else { "in other words" },
                was.at,
                around(faults, first.at, arrival.at)
            ));
        } else {
            first.insert(arrival.number, arrival);
        }
        if arrival.at > was.good_until + SLACK {
            verdicts.late += 1;
            verdicts.examples.push(format!(
                "number {} {:?} after its end; faults: {}",
                arrival.number,
                arrival.at.since(was.good_until),
                around(faults, was.at, arrival.at)
            ));
        }
        if was.class == Class::Greedy {
            by_account.entry(&arrival.account).or_default().push(arrival.at);
        }
    }
    let moves = moves(faults);
    for (account, moments) in &by_account {
        let most = exceeded(moments, QUOTA, &moves);
        if let Some((over, from, to)) = most {
            verdicts.over_limit += over;
            verdicts.examples.push(format!(
                "{account} got {over} too many from {from} to {to}; faults: {}",
                around(faults, from, to)
            ));
        }
    }
    verdicts
}

/// When a store was lost or another took its place: once when it goes wrong, once when it is set right.
pub(crate) fn moves(faults: &[Fault]) -> Vec<Micros> {
    let moving = faults.iter().filter(|fault| fault.moves_limits);
    moving.flat_map(|fault| [fault.began, fault.undone]).collect()
}

/// By how much a bucket of `quota` a second was exceeded, at worst, with one burst more for each of `moves`, and when.
pub(crate) fn exceeded(
    moments: &[Micros],
    quota: u32,
    moves: &[Micros],
) -> Option<(usize, Micros, Micros)> {
    let (quota, begun) = (f64::from(quota), *moments.first()?);
    let refilled = |at: Micros| at.since(begun).as_secs_f64() * quota;
    let bursts = |is_before: &dyn Fn(Micros) -> bool| {
        quota * moves.iter().filter(|at| is_before(**at)).count() as f64
    };
    let mut worst = None;
    // From wherever least was spent before, by what may be spent.
    let mut least = (f64::INFINITY, begun);
    for (place, at) in moments.iter().enumerate() {
        let before = bursts(&|moved| moved + RETURNED < *at);
        let spent = place as f64 - before - refilled(*at);
        if spent < least.0 {
            least = (spent, *at);
        }
        let spent = (place + 1) as f64 - bursts(&|moved| moved <= *at) - refilled(*at);
        let over = spent - least.0 - quota * (1.0 + HELD.as_secs_f64());
        if over > worst.map_or(0.0, |(most, _, _)| most) {
            worst = Some((over, least.1, *at));
        }
    }
    worst.map(|(over, from, to)| (over.ceil() as usize, from, to))
}

fn around(faults: &[Fault], from: Micros, to: Micros) -> String {
    let near = faults
        .iter()
        .filter(|fault| fault.began <= to + HELD && fault.undone + Duration::from_secs(3) >= from);
    near.map(|fault| format!("{:?} {}..{}", fault.kind, fault.began, fault.undone))
        .collect::<Vec<_>>()
        .join(", ")
}

impl fmt::Display for Verdicts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for example in self.examples.iter().take(EXAMPLES) {
            writeln!(f, "  {example}")?;
        }
        Ok(())
    }
}

/// How many honest requests were sent in a phase, and how many were served; what became of some others.
pub(crate) fn served(
    arrivals: &[Arrival],
    sent: &[Sent],
    phase: Phase,
) -> (usize, usize, Vec<Sent>) {
    let came: HashSet<u64> = arrivals.iter().map(|arrival| arrival.number).collect();
    let mut counts = (0, 0, Vec::new());
    for sent in sent.iter().filter(|sent| sent.class == Class::Honest && phase.holds(sent.at)) {
        counts.0 += 1;
        let is_served = match sent.answered {
            Some((_, Answer::Served | Answer::ServedAlone)) => true,
            // The attacker's copy came first.
            Some((_, Answer::Refused(_))) => came.contains(&sent.number),
            Some((_, Answer::Lost)) | None => false,
        };
        if is_served {
            counts.1 += 1;
        } else {
            counts.2.push(sent.clone());
        }
    }
    counts
}
