//! One topology: calm, then the storm, then whether all is well again.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::alone::Alone;
use crate::backend::Arrival;
use crate::checker::{Verdicts, check, served};
use crate::clients::Class;
use crate::dice::Dice;
use crate::nemesis::{Fault, Kind, inflict};
use crate::recovery::Recoveries;
use crate::report::Report;
use crate::traffic::{Answer, Load, Phase, Sent};
use crate::witness::Witness;
use crate::world::{Topology, World};

/// What holds for a whole run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms<'r> {
    /// With little to compute with.
    pub(crate) quick: bool,
    pub(crate) seed: u64,
    /// The longest that a fault lasts, in milliseconds.
    pub(crate) longest: u64,
    pub(crate) report: &'r Report,
}

/// Whether the next fault waits until the last one is over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Pace {
    Apart,
    AtOnce,
}

/// A storm that may pass over such servers again and again.
#[derive(Debug)]
pub(crate) struct Storm {
    pub(crate) name: &'static str,
    topology: Topology,
    pace: Pace,
    /// The kinds of fault that are still to come before any comes again.
    left: Mutex<Vec<Kind>>,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) attempts: usize,
    pub(crate) verdicts: Verdicts,
    pub(crate) faults: usize,
    pub(crate) alone: Alone,
    kinds: BTreeMap<Kind, usize>,
    pub(crate) recoveries: Recoveries,
    /// Honest requests, and how many of them were served.
    calm: (usize, usize),
    storm: (usize, usize),
    after: (usize, usize),
}

impl Figures {
    /// Of honest requests, how many were served in the storm.
    pub(crate) fn percent(&self) -> f64 {
        share(self.storm)
    }

    /// Whether nothing came twice, late or too often, and all was served before and after.
    pub(crate) fn holds(&self) -> bool {
        let Verdicts { accepted_twice: 0, late: 0, over_limit: 0, .. } = self.verdicts else {
            return false;
        };
        self.alone.holds() && self.calm.0 == self.calm.1 && self.after.0 == self.after.1
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.attempts += other.attempts;
        self.verdicts.add(other.verdicts);
        self.faults += other.faults;
        self.alone.add(&other.alone);
        for (kind, count) in other.kinds {
            *self.kinds.entry(kind).or_default() += count;
        }
        self.recoveries.add(other.recoveries);
        for (mine, others) in [
            (&mut self.calm, other.calm),
            (&mut self.storm, other.storm),
            (&mut self.after, other.after),
        ] {
            *mine = (mine.0 + others.0, mine.1 + others.1);
        }
    }
}

fn share((sent, served): (usize, usize)) -> f64 {
    100.0 * served as f64 / sent.max(1) as f64
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verdicts { accepted_twice, late, over_limit, .. } = &self.verdicts;
        let kinds: Vec<_> =
            self.kinds.iter().map(|(kind, count)| format!("{kind:?} {count}")).collect();
        write!(
            f,
            "attempts {}, accepted twice {accepted_twice}, late {late}, over limit {over_limit}; honest served: calm {:.2} %, \
             storm {:.2} % of {}, after {:.2} %; recovery {}; faults {}: {}",
            self.attempts,
            share(self.calm),
            share(self.storm),
            self.storm.0,
            share(self.after),
            self.recoveries.told(),
            self.faults,
            kinds.join(", ")
        )
    }
}

impl Storm {
    pub(crate) fn new(name: &'static str, topology: Topology, pace: Pace) -> Self {
        Self { name, topology, pace, left: Mutex::default() }
    }

    /// Lets it pass for `span`.
    pub(crate) fn pass(&self, terms: &Terms<'_>, seed: u64, span: Duration) {
        let Self { name, topology, .. } = *self;
        let mut world = World::start(topology, if terms.quick { 600 } else { 200 });
        let is_cluster = topology == Topology::Cluster;
        let witness = is_cluster.then(|| Witness::start(&world));
        let load = Load {
            honest: if terms.quick { 60 } else { 200 },
            greedy: 60,
            // The nodes of a cluster are not told what was judged without them.
            alone: if is_cluster { 0 } else { 30 },
            most_replays: 8,
        };
        let ports = world.ports();
        let traffic = world.begin(&ports, load, seed);
        terms.report.set_traffic(Some(std::sync::Arc::clone(&traffic)));
        let calm_for = (span / 5).min(Duration::from_secs(10));
        let calm = during(&world, calm_for);
        let (storm, faults) = self.rage(terms, &world, seed, span.saturating_sub(calm_for));
        // All is set right: from now on it may take this long. In a cluster others must notice that a node is lost, and
        // wait for the leases of those who have not.
        sleep(Duration::from_millis(match (is_cluster, self.pace) {
            (true, _) => 9_000,
            (false, Pace::Apart) => 2_000,
            // Whoever failed soon after it was taken back is not taken back at once.
            (false, Pace::AtOnce) => 3_500,
        }));
        let after = during(&world, Duration::from_millis(1_500));
        traffic.honest.store(false, Ordering::SeqCst);
        sleep(Duration::from_millis(if terms.quick { 2_500 } else { 6_000 }));
        traffic.stopped.store(true, Ordering::SeqCst);
        sleep(Duration::from_millis(200));

        let (arrivals, sent) = (world.backend.arrivals(), traffic.sent());
        let count = |phase| served(&arrivals, &sent, phase);
        let (before, within, since) = (count(calm), count(storm), count(after));
        let mut kinds = BTreeMap::new();
        for fault in &faults {
            *kinds.entry(fault.kind).or_default() += 1;
        }
        let figures = Figures {
            attempts: traffic.count(),
            verdicts: check(&arrivals, &sent, &faults),
            faults: faults.len(),
            alone: Alone::check(&arrivals, &sent, &traffic.judged(), &faults),
            kinds,
            recoveries: Recoveries::of(&sent, &faults, witness.as_ref()),
            calm: (before.0, before.1),
            storm: (within.0, within.1),
            after: (since.0, since.1),
        };
        println!("{name}: {figures}");
        println!("  judged alone: {}", figures.alone);
        tell_growing(&arrivals, &sent, [calm, storm]);
        for (when, missed) in [("calm", &before.2), ("after", &since.2)] {
            for sent in missed.iter().take(5) {
                println!("  not served when {when}: {sent:?}");
            }
        }
        if !figures.holds() || std::env::var_os("COUNTERSIGN_STORM_LOGS").is_some() {
            println!("  seed {seed}");
            print!("{}{}", figures.recoveries.each(), figures.verdicts);
            println!("{}", world.logs());
        }
        terms.report.set_traffic(None);
        terms.report.add(name, figures);
    }

    /// One fault after another for `span`, and at last all set right: when, and what they were.
    fn rage(
        &self,
        terms: &Terms<'_>,
        world: &World,
        seed: u64,
        span: Duration,
    ) -> (Phase, Vec<Fault>) {
        let faults = Mutex::new(Vec::new());
        let (from, end) = (world.now(), Instant::now() + span);
        let two = if self.pace == Pace::AtOnce { 2 } else { 1 };
        std::thread::scope(|scope| {
            for n in 0..two {
                let mut dice = Dice(seed ^ (n + 1));
                let faults = &faults;
                scope.spawn(move || {
                    while Instant::now() < end {
                        let kind = self.next(&mut dice);
                        let fault = inflict(world, kind, terms.longest, &mut dice);
                        faults.lock().unwrap().push(fault);
                        terms.report.faults.fetch_add(1, Ordering::SeqCst);
                        sleep(self.pause(&mut dice));
                    }
                });
            }
        });
        world.mend();
        let mut faults = faults.into_inner().unwrap();
        faults.sort_by_key(|fault: &Fault| fault.began);
        (Phase { from, to: world.now() }, faults)
    }

    fn next(&self, dice: &mut Dice) -> Kind {
        let mut left = self.left.lock().unwrap();
        if left.is_empty() {
            *left = Kind::of(self.topology);
            left.retain(|kind| is_wanted(*kind));
        }
        let place = dice.below(left.len());
        left.swap_remove(place)
    }

    /// A server that was lost counts again once everything signed before is out of date.
    fn pause(&self, dice: &mut Dice) -> Duration {
        dice.ms(match (self.pace, self.topology) {
            (Pace::Apart, Topology::Independent(_)) => 2_100..2_900,
            // In a cluster not before its leases are over as well.
            (Pace::Apart, Topology::Cluster) => 4_500..6_000,
            (Pace::AtOnce, _) => 0..1_500,
        })
    }
}

/// Whether it is among those that the environment asks for, or all are.
fn is_wanted(kind: Kind) -> bool {
    let named = std::env::var("COUNTERSIGN_STORM_FAULTS").ok();
    named.is_none_or(|names| names.split(',').any(|name| name == format!("{kind:?}")))
}

fn during(world: &World, span: Duration) -> Phase {
    let from = world.now();
    sleep(span);
    Phase { from, to: world.now() }
}

/// What became of growing numbers, which are counted apart: among what came twice, and not among what must be served.
fn tell_growing(arrivals: &[Arrival], sent: &[Sent], phases: [Phase; 2]) {
    let came: HashSet<u64> = arrivals.iter().map(|arrival| arrival.number).collect();
    for (name, phase) in ["calm", "storm"].into_iter().zip(phases) {
        let mut told: BTreeMap<String, usize> = BTreeMap::new();
        for sent in sent.iter().filter(|sent| sent.class == Class::Growing && phase.holds(sent.at))
        {
            let what = match sent.answered {
                _ if came.contains(&sent.number) => "passed".to_owned(),
                Some((_, Answer::Refused(status))) => format!("refused with {status}"),
                Some((_, Answer::Served | Answer::ServedAlone | Answer::Lost)) | None => {
                    "lost".to_owned()
                }
            };
            *told.entry(what).or_default() += 1;
        }
        if !told.is_empty() {
            println!("  growing numbers, {name}: {told:?}");
        }
    }
}
