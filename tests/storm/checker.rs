//! Reads the backend's own record: what came twice, what came late, what came too often.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::time::Duration;

use countersign::clock::Micros;

use crate::backend::Arrival;
use crate::gateway::QUOTA;
use crate::nemesis::Fault;
use crate::traffic::{Answer, Phase, Sent};

/// What may pass between a gateway's last look at the clock and ours, on a busy machine.
const SLACK: Duration = Duration::from_millis(250);
/// A charge may reach the backend so much later than it was made: a gateway that stood still meanwhile.
const HELD: Duration = Duration::from_secs(1);

/// What is wrong.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verdicts {
    pub(crate) accepted_twice: usize,
    pub(crate) late: usize,
    pub(crate) over_limit: usize,
    examples: Vec<String>,
}

/// What a record shows.
pub(crate) fn check(arrivals: &[Arrival], sent: &[Sent], faults: &[Fault]) -> Verdicts {
    let mut verdicts = Verdicts::default();
    let by_number: HashMap<u64, &Sent> = sent.iter().map(|sent| (sent.number, sent)).collect();
    let mut first: HashMap<u64, &Arrival> = HashMap::new();
    let mut by_account: BTreeMap<&str, Vec<Micros>> = BTreeMap::new();
    for arrival in arrivals {
        let was = by_number[&arrival.number];
        if let Some(first) = first.get(&arrival.number) {
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
        if was.is_greedy {
            by_account.entry(&arrival.account).or_default().push(arrival.at);
        }
    }
    for (account, moments) in &by_account {
        let most = exceeded(moments, faults);
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

/// By how much a bucket of [`QUOTA`] a second was exceeded, at worst, with one burst more for each time that a store was
/// lost or another took its place, and when.
fn exceeded(moments: &[Micros], faults: &[Fault]) -> Option<(usize, Micros, Micros)> {
    let mut worst = None;
    for (place, from) in moments.iter().enumerate() {
        for (count, to) in moments[place..].iter().enumerate() {
            let span = to.since(*from) + HELD;
            let refilled = span.as_secs_f64() * f64::from(QUOTA);
            let moving = faults.iter().filter(|fault| fault.moves_limits);
            // Once when it goes wrong, once when it is set right.
            let moves = moving
                .flat_map(|fault| [fault.began, fault.healed])
                .filter(|at| *at + HELD * 2 >= *from && *at <= *to)
                .count();
            let bursts = f64::from(QUOTA) * (1.0 + moves as f64);
            let over = (count + 1) as f64 - bursts - refilled;
            if over > worst.map_or(0.0, |(most, _, _)| most) {
                worst = Some((over, *from, *to));
            }
        }
    }
    worst.map(|(over, from, to)| (over.ceil() as usize, from, to))
}

fn around(faults: &[Fault], from: Micros, to: Micros) -> String {
    let near = faults
        .iter()
        .filter(|fault| fault.began <= to + HELD && fault.healed + Duration::from_secs(3) >= from);
    near.map(|fault| format!("{:?} {}..{}", fault.kind, fault.began, fault.healed))
        .collect::<Vec<_>>()
        .join(", ")
}

impl fmt::Display for Verdicts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for example in self.examples.iter().take(10) {
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
    for sent in sent.iter().filter(|sent| !sent.is_greedy && !sent.grows && phase.holds(sent.at)) {
        counts.0 += 1;
        let is_served = match sent.answered {
            Some((_, Answer::Served)) => true,
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

/// How long after each fault was set right the first request that was signed since was served.
pub(crate) fn recoveries(sent: &[Sent], faults: &[Fault]) -> Vec<Duration> {
    let mut all: Vec<Duration> = Vec::new();
    for (place, fault) in faults.iter().enumerate() {
        let until = faults.get(place + 1).map_or(Micros(u64::MAX), |next| next.began);
        let first = sent.iter().find_map(|sent| match sent.answered {
            Some((at, Answer::Served))
                if sent.at >= fault.healed && !sent.is_greedy && !sent.grows =>
            {
                Some(at)
            }
            Some(_) | None => None,
        });
        // Where the next one came before, it says nothing.
        all.extend(first.filter(|at| *at <= until).map(|at| at.since(fault.healed)));
    }
    all.sort_unstable();
    all
}
