//! One topology: calm, then the storm, then whether all is well again.

use std::collections::{BTreeMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::backend::Arrival;
use crate::checker::{Verdicts, check, recoveries, served};
use crate::dice::Dice;
use crate::nemesis::{Fault, Kind, inflict};
use crate::traffic::{Answer, Load, Phase, Sent};
use crate::world::{Topology, World};

/// What holds for a whole run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// With little to compute with.
    pub(crate) quick: bool,
    pub(crate) seed: u64,
    /// The longest that a fault lasts, in milliseconds.
    pub(crate) longest: u64,
}

/// Whether the next fault waits until the last one is over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Pace {
    Apart,
    AtOnce,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) attempts: usize,
    pub(crate) verdicts: Verdicts,
    pub(crate) faults: usize,
    calm: (usize, usize),
    storm: (usize, usize),
    after: (usize, usize),
}

impl Figures {
    /// Of honest requests, how many were served in the storm.
    pub(crate) fn percent(&self) -> f64 {
        100.0 * self.storm.1 as f64 / self.storm.0.max(1) as f64
    }

    /// Whether nothing came twice, late or too often, and all was served before and after.
    pub(crate) fn holds(&self) -> bool {
        let Verdicts { accepted_twice: 0, late: 0, over_limit: 0, .. } = self.verdicts else {
            return false;
        };
        self.calm.0 == self.calm.1 && self.after.0 == self.after.1
    }
}

/// Lets a storm of `span` pass over such servers.
pub(crate) fn storm(
    terms: &Terms,
    name: &str,
    topology: Topology,
    pace: Pace,
    span: Duration,
) -> Figures {
    let mut world = World::start(topology, if terms.quick { 600 } else { 100 });
    let load = if terms.quick {
        Load { honest: 60, greedy: 60, most_replays: 8 }
    } else {
        Load { honest: 200, greedy: 60, most_replays: 8 }
    };
    let ports = world.ports();
    let traffic = world.begin(&ports, load, terms.seed);
    let calm = during(&world, (span / 5).min(Duration::from_secs(10)));
    let faults = Mutex::new(Vec::new());
    let storm = {
        let from = world.now();
        let end = Instant::now() + span * 4 / 5;
        let two = if pace == Pace::AtOnce { 2 } else { 1 };
        std::thread::scope(|scope| {
            for n in 0..two {
                let (world, faults) = (&world, &faults);
                scope.spawn(move || {
                    rage(world, Dice(terms.seed ^ (n + 1)), (terms.longest, pace), end, faults);
                });
            }
        });
        Phase { from, to: world.now() }
    };
    world.mend();
    // All is set right: from now on it may take this long. In a cluster others must notice that a node is lost, and wait
    // for the leases of those who have not.
    let is_cluster = topology == Topology::Cluster;
    sleep(Duration::from_secs(if is_cluster { 7 } else { 2 }));
    let after = during(&world, Duration::from_millis(1_500));
    traffic.honest.store(false, Ordering::SeqCst);
    sleep(Duration::from_millis(if terms.quick { 2_500 } else { 6_000 }));
    traffic.stopped.store(true, Ordering::SeqCst);
    sleep(Duration::from_millis(200));

    let mut faults = faults.into_inner().unwrap();
    faults.sort_by_key(|fault: &Fault| fault.began);
    let (arrivals, sent) = (world.backend.arrivals(), traffic.sent());
    let count = |phase| served(&arrivals, &sent, phase);
    let (before, within, since) = (count(calm), count(storm), count(after));
    let figures = Figures {
        attempts: usize::try_from(traffic.attempts.load(Ordering::SeqCst)).unwrap(),
        verdicts: check(&arrivals, &sent, &faults),
        faults: faults.len(),
        calm: (before.0, before.1),
        storm: (within.0, within.1),
        after: (since.0, since.1),
    };
    tell(name, &figures, &faults, &sent);
    tell_growing(&arrivals, &sent, [calm, storm]);
    for (when, missed) in [("calm", &before.2), ("after", &since.2)] {
        for sent in missed.iter().take(5) {
            println!("  not served when {when}: {sent:?}");
        }
    }
    if !figures.holds() || std::env::var_os("COUNTERSIGN_STORM_LOGS").is_some() {
        print!("{}", figures.verdicts);
        println!("{}", world.logs());
    }
    figures
}

fn during(world: &World, span: Duration) -> Phase {
    let from = world.now();
    sleep(span);
    Phase { from, to: world.now() }
}

/// One fault after another until `end`.
fn rage(
    world: &World,
    mut dice: Dice,
    (longest, pace): (u64, Pace),
    end: Instant,
    faults: &Mutex<Vec<Fault>>,
) {
    let mut left: Vec<Kind> = Vec::new();
    while Instant::now() < end {
        if left.is_empty() {
            // Every kind comes up before one does again.
            left = Kind::of(world.topology);
        }
        let kind = left.swap_remove(dice.below(left.len()));
        let fault = inflict(world, kind, longest, &mut dice);
        faults.lock().unwrap().push(fault);
        // A server that was lost counts again once everything signed before is out of date.
        sleep(match (pace, world.topology) {
            (Pace::Apart, Topology::Independent(_)) => dice.ms(1_800..2_600),
            // In a cluster not before its leases are over as well.
            (Pace::Apart, Topology::Cluster) => dice.ms(4_500..6_000),
            (Pace::AtOnce, _) => dice.ms(0..1_500),
        });
    }
}

fn tell(name: &str, figures: &Figures, faults: &[Fault], sent: &[Sent]) {
    let mut kinds: BTreeMap<Kind, usize> = BTreeMap::new();
    for fault in faults {
        *kinds.entry(fault.kind).or_default() += 1;
    }
    let kinds: Vec<_> = kinds.iter().map(|(kind, count)| format!("{kind:?} {count}")).collect();
    let all = recoveries(sent, faults);
    let at = |part: usize| all.get(part).map_or(0, Duration::as_millis);
    let share = |(sent, served): (usize, usize)| 100.0 * served as f64 / sent.max(1) as f64;
    println!(
        "{name}: attempts {}, accepted twice {}, late {}, over limit {}; honest served: calm {:.2} %, storm {:.2} % of {}, \
         after {:.2} %; recovery p50 {} ms, max {} ms; faults {}: {}",
        figures.attempts,
        figures.verdicts.accepted_twice,
        figures.verdicts.late,
        figures.verdicts.over_limit,
        share(figures.calm),
        share(figures.storm),
        figures.storm.0,
        share(figures.after),
        at(all.len() / 2),
        at(all.len().saturating_sub(1)),
        figures.faults,
        kinds.join(", ")
    );
}

/// What became of growing numbers, which are counted apart: among what came twice, and not among what must be served.
fn tell_growing(arrivals: &[Arrival], sent: &[Sent], phases: [Phase; 2]) {
    let came: HashSet<u64> = arrivals.iter().map(|arrival| arrival.number).collect();
    for (name, phase) in ["calm", "storm"].into_iter().zip(phases) {
        let mut told: BTreeMap<String, usize> = BTreeMap::new();
        for sent in sent.iter().filter(|sent| sent.grows && phase.holds(sent.at)) {
            let what = match sent.answered {
                _ if came.contains(&sent.number) => "passed".to_owned(),
                Some((_, Answer::Refused(status))) => format!("refused with {status}"),
                Some((_, Answer::Served | Answer::Lost)) | None => "lost".to_owned(),
            };
            *told.entry(what).or_default() += 1;
        }
        println!("  growing numbers, {name}: {told:?}");
    }
}
