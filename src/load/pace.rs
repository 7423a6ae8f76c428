//! When requests are due: at once in a closed loop, at fixed intervals in an open one.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use super::{Options, cpu};

/// Fixed intervals: request `n` is due `n / rate` seconds after the start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    rate: u64,
}

impl Schedule {
    pub(super) const fn new(rate: u64) -> Self {
        Self { rate }
    }

    /// How long after the start request `n` is due.
    pub(super) fn at(self, n: u64) -> Duration {
        let nanos = u128::from(n) * 1_000_000_000 / u128::from(self.rate.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// How many requests are due `after` the start.
    pub(super) fn due(self, after: Duration) -> u64 {
        let due = after.as_nanos().saturating_mul(u128::from(self.rate)) / 1_000_000_000;
        u64::try_from(due).unwrap_or(u64::MAX).saturating_add(1)
    }
}

/// A request that a worker is to send.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    /// Its number in this run, from 0.
    pub(super) n: u64,
    /// When it was due; latency counts from here.
    pub(super) due: Instant,
    /// Whether it is recorded.
    pub(super) measured: bool,
}

/// What all workers share about time and turns.
#[derive(Debug)]
pub(super) struct Plan {
    schedule: Option<Schedule>,
    warmup: Duration,
    duration: Option<Duration>,
    count: Option<u64>,
    start: OnceLock<Instant>,
    next: AtomicU64,
    measured: AtomicU64,
    stopped: AtomicBool,
    due: Semaphore,
}

impl Plan {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            schedule: options.rate.map(|rate| Schedule::new(rate.get())),
            warmup: options.warmup,
            duration: options.duration,
            count: options.count,
            start: OnceLock::new(),
            next: AtomicU64::new(0),
            measured: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            due: Semaphore::new(0),
        }
    }

    /// Sets the start to now. Everybody is connected.
    pub(super) fn begin(&self) {
        self.start.get_or_init(Instant::now);
    }

    pub(super) fn start(&self) -> Instant {
        *self.start.get_or_init(Instant::now)
    }

    /// When measuring starts.
    pub(super) fn measured_from(&self) -> Instant {
        self.start() + self.warmup
    }

    /// No more turns are given; what is under way is finished.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.due.close();
    }

    fn is_over(&self, now: Instant) -> bool {
        self.stopped.load(Ordering::Relaxed)
            || self.duration.is_some_and(|duration| now >= self.measured_from() + duration)
    }

    /// The next request to send, when it is due; `None` when the run is over.
    pub(super) async fn turn(&self) -> Option<Turn> {
        if self.schedule.is_some() {
            self.due.acquire().await.ok()?.forget();
        }
        let now = Instant::now();
        if self.is_over(now) {
            self.due.add_permits(usize::from(self.schedule.is_some()));
            return None;
        }
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        let due = self.schedule.map_or(now, |schedule| self.start() + schedule.at(n));
        let measured = due >= self.measured_from();
        if measured && self.count.is_some_and(|count| self.taken() >= count) {
            self.stop();
            return None;
        }
        Some(Turn { n, due, measured })
    }

    /// How many measured turns were taken before this one, which is taken too.
    fn taken(&self) -> u64 {
        self.measured.fetch_add(1, Ordering::Relaxed)
    }

    /// In an open loop, how many requests were due but never sent when the run was over.
    pub(super) fn unsent(&self) -> u64 {
        u64::try_from(self.due.available_permits()).unwrap_or(u64::MAX)
    }
}

/// Releases requests when they are due, from a thread of its own: timers of the runtime know whole milliseconds
/// only. `None` in a closed loop. The thread returns the CPU time it took.
pub(super) fn start(plan: &Arc<Plan>) -> Option<JoinHandle<Option<cpu::Share>>> {
    let schedule = plan.schedule?;
    let plan = Arc::clone(plan);
    Some(std::thread::spawn(move || {
        let mut released = 0_u64;
        let start = plan.start();
        let before = cpu::Reading::of_this_thread();
        loop {
            let now = Instant::now();
            if plan.is_over(now) {
                break;
            }
            let due = schedule.due(now - start);
            let more = due.saturating_sub(released).min(LARGEST_STEP);
            released += more;
            plan.due.add_permits(usize::try_from(more).unwrap_or_default());
            let next = (start + schedule.at(released)).saturating_duration_since(now);
            std::thread::sleep(next.clamp(SHORTEST_SLEEP, LONGEST_SLEEP));
        }
        plan.stop();
        before?.share_since()
    }))
}

const LARGEST_STEP: u64 = 1 << 20;
/// Below it the thread would take more CPU to wake than requests take to send; at high rates a few are released at once.
const SHORTEST_SLEEP: Duration = Duration::from_micros(100);
/// How long an interrupt may go unseen.
const LONGEST_SLEEP: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_loop_is_due_at_fixed_intervals() {
        let schedule = Schedule::new(4_000);
        assert_eq!(schedule.at(0), Duration::ZERO);
        assert_eq!(schedule.at(1), Duration::from_micros(250));
        assert_eq!(schedule.at(4_000), Duration::from_secs(1));
        assert_eq!(Schedule::new(3).at(2), Duration::from_nanos(666_666_666));
    }

    #[test]
    fn a_request_is_due_from_its_own_moment_on_and_not_before() {
        let schedule = Schedule::new(1_000);
        for n in 1..100 {
            let at = schedule.at(n);
            assert_eq!(schedule.due(at), n + 1);
            assert_eq!(schedule.due(at.saturating_sub(Duration::from_nanos(1))), n);
        }
    }

    #[test]
    fn the_ends_of_numbers_do_not_wrap() {
        let schedule = Schedule::new(u64::MAX);
        assert_eq!(schedule.due(Duration::MAX), u64::MAX);
        assert_eq!(Schedule::new(1).at(u64::MAX), Duration::from_nanos(u64::MAX));
    }
}
