//! The CPU time that generating load takes, as the kernel counts it for each thread.

use std::time::{Duration, Instant};

/// The CPU time that a thread took over some time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    pub(super) cpu: Duration,
    /// Ready to run, and waiting for a CPU.
    waited: Duration,
    of: Duration,
}

impl Share {
    /// Between 0 and 1: how busy the thread was.
    pub(super) fn busy(self) -> f64 {
        part(self.cpu, self.of)
    }

    /// Between 0 and 1: how long it waited for a CPU that others held.
    pub(super) fn waiting(self) -> f64 {
        part(self.waited, self.of)
    }
}

fn part(time: Duration, of: Duration) -> f64 {
    if of.is_zero() { 0.0 } else { time.as_secs_f64() / of.as_secs_f64() }
}

/// What the kernel counted of a thread, at a moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    used: Used,
    at: Instant,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Used {
    cpu: Duration,
    waited: Duration,
}

impl Reading {
    /// Reads the counters of this thread; `None` where the system has none.
    pub(super) fn of_this_thread() -> Option<Self> {
        let exact = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
        let used = exact
            .and_then(|text| from_schedstat(&text))
            .or_else(|| from_stat(&std::fs::read_to_string("/proc/thread-self/stat").ok()?));
        Some(Self { used: used?, at: Instant::now() })
    }

    /// What this same thread took since.
    pub(super) fn share_since(self) -> Option<Share> {
        let now = Self::of_this_thread()?;
        Some(Share {
            cpu: now.used.cpu.saturating_sub(self.used.cpu),
            waited: now.used.waited.saturating_sub(self.used.waited),
            of: now.at.saturating_duration_since(self.at),
        })
    }
}

/// The first two numbers: nanoseconds on a CPU, and ready to run without one.
fn from_schedstat(text: &str) -> Option<Used> {
    let mut fields = text.split_whitespace();
    let mut nanos = || fields.next()?.parse().ok().map(Duration::from_nanos);
    Some(Used { cpu: nanos()?, waited: nanos()? })
}

/// The 14th and 15th fields, user and system time in hundredths of a second. The name in parentheses may hold spaces.
fn from_stat(text: &str) -> Option<Used> {
    let (_, after_name) = text.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let cpu = Duration::from_millis(ticks()?.saturating_add(ticks()?).saturating_mul(10));
    Some(Used { cpu, waited: Duration::ZERO })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sources_are_read_even_with_a_strange_thread_name() {
        let (cpu, waited) = (Duration::from_nanos(1_500), Duration::from_nanos(20));
        assert_eq!(from_schedstat("1500 20 3\n"), Some(Used { cpu, waited }));
        let stat = "7 (a) b (c) R 1 7 7 0 -1 4194304 98 0 0 0 120 30 0 0 20 0 1 0 5 0 0";
        let (cpu, waited) = (Duration::from_millis(1_500), Duration::ZERO);
        assert_eq!(from_stat(stat), Some(Used { cpu, waited }));
        assert_eq!(from_schedstat(""), None);
        assert_eq!(from_stat("7 (a) R 1"), None);
    }

    #[test]
    fn a_thread_that_never_rested_is_wholly_busy() {
        let second = Duration::from_secs(1);
        let share = Share { cpu: second, waited: Duration::ZERO, of: second };
        assert!((share.busy() - 1.0).abs() < f64::EPSILON);
        assert!(share.waiting().abs() < f64::EPSILON);
        assert!(Share { of: Duration::ZERO, ..share }.busy().abs() < f64::EPSILON);
    }
}
