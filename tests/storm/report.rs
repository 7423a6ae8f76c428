//! What came of all storms so far, told while they go on and when all is over, however it ends.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::alone::Alone;
use crate::phases::Figures;
use crate::traffic::Traffic;

#[derive(Debug)]
pub(crate) struct Report {
    begun: Instant,
    stage: Mutex<String>,
    /// The traffic of the storm that is passing, and the faults of it.
    traffic: Mutex<Option<Arc<Traffic>>>,
    pub(crate) faults: AtomicUsize,
    storms: Mutex<BTreeMap<String, Figures>>,
    broken: Mutex<Vec<&'static str>>,
    is_over: Mutex<bool>,
    over: Condvar,
}

/// How often it is told how far it has come.
const NOW_AND_THEN: Duration = Duration::from_secs(30);
/// The storms whose faults come one after another; the second tells how many honest requests are served.
pub(crate) const ONE: &str = "one server";
pub(crate) const QUORUM: &str = "quorum of 3";

impl Report {
    pub(crate) fn new() -> Self {
        Self {
            begun: Instant::now(),
            stage: Mutex::default(),
            traffic: Mutex::default(),
            faults: AtomicUsize::new(0),
            storms: Mutex::default(),
            broken: Mutex::default(),
            is_over: Mutex::new(false),
            over: Condvar::new(),
        }
    }

    pub(crate) fn set_stage(&self, stage: &str) {
        stage.clone_into(&mut held(&self.stage));
    }

    pub(crate) fn set_traffic(&self, traffic: Option<Arc<Traffic>>) {
        self.faults.store(0, Ordering::SeqCst);
        *held(&self.traffic) = traffic;
    }

    /// A storm has passed; others of its name may come.
    pub(crate) fn add(&self, name: &str, figures: Figures) {
        held(&self.storms).entry(name.to_owned()).or_default().add(figures);
    }

    /// What did not come to its end.
    pub(crate) fn broke(&self, stage: &'static str) {
        self.set_traffic(None);
        held(&self.broken).push(stage);
    }

    pub(crate) fn broken(&self) -> String {
        held(&self.broken).join(", ")
    }

    pub(crate) fn end(&self) {
        *held(&self.is_over) = true;
        self.over.notify_all();
    }

    /// Tells how far it has come, until it ends.
    pub(crate) fn tell_now_and_then(&self) {
        let mut is_over = held(&self.is_over);
        while !*is_over {
            let (again, waited) = self
                .over
                .wait_timeout(is_over, NOW_AND_THEN)
                .unwrap_or_else(PoisonError::into_inner);
            is_over = again;
            if waited.timed_out() {
                let (seconds, all) = (self.begun.elapsed().as_secs(), self.all());
                let passing = held(&self.traffic).as_ref().map_or(0, |traffic| traffic.count());
                eprintln!(
                    "storm: {seconds} s, {}: attempts {}, faults {}, accepted twice {}, late {}, over limit {}, memory {}",
                    held(&self.stage),
                    all.attempts + passing,
                    all.faults + self.faults.load(Ordering::SeqCst),
                    all.verdicts.accepted_twice,
                    all.verdicts.late,
                    all.verdicts.over_limit,
                    memory()
                );
            }
        }
    }

    fn all(&self) -> Figures {
        let mut all = Figures::default();
        for figures in held(&self.storms).values() {
            all.add(figures.clone());
        }
        all
    }

    pub(crate) fn alone(&self) -> Alone {
        self.all().alone
    }

    /// Of honest requests to a quorum while one thing after another went wrong, how many were served.
    pub(crate) fn percent(&self) -> f64 {
        held(&self.storms).get(QUORUM).map_or(0.0, Figures::percent)
    }

    /// Whether those of this name were over their faults before the next ones came, but for a few.
    pub(crate) fn recovers(&self, name: &str) -> bool {
        held(&self.storms).get(name).is_some_and(|figures| {
            let (all, cut_short) = figures.recoveries.cut_short();
            cut_short <= 1 + all / 20
        })
    }

    pub(crate) fn holds(&self) -> bool {
        held(&self.storms).values().all(Figures::holds)
    }

    /// All that is to be known, and the one line last of all.
    pub(crate) fn tell(&self) {
        let storms = held(&self.storms).clone();
        for (name, figures) in &storms {
            println!("in all, {name}: {figures}");
        }
        let seconds = self.begun.elapsed().as_secs();
        println!("in all: {seconds} s; this test's own memory: {}", memory());
        println!("storm, judged alone: {}", self.alone());
        let all = self.all();
        println!(
            "storm: attempts={} accepted_twice={} late={} over_limit={} honest_served_percent={:.2} faults={}",
            all.attempts,
            all.verdicts.accepted_twice,
            all.verdicts.late,
            all.verdicts.over_limit,
            self.percent(),
            all.faults
        );
    }
}

/// Whatever was in it when somebody else failed.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What this process takes, and the most that it took.
fn memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or("unknown").trim().to_owned()
    };
    format!("{}, {} at most", field("VmRSS:"), field("VmHWM:"))
}
