//! The only place that asks the time.

use std::fmt;
use std::ops::{Add, Sub};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// A moment, in microseconds since the Unix epoch. Arithmetic saturates: no input can make it wrap.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    Eq,
    Hash,
    Ord,
    PartialEq,
    PartialOrd,
    serde::Deserialize,
    serde::Serialize,
)]
#[serde(transparent)]
pub struct Micros(pub u64);

impl Micros {
    /// The moment `ms` milliseconds after the epoch.
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms.saturating_mul(1_000))
    }

    /// Whole milliseconds since the epoch.
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000
    }

    /// How far `self` lies after `earlier`; zero when it does not.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Micros {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_micros()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Micros {
    type Output = Self;

    fn sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(span.as_micros()).unwrap_or(u64::MAX)))
    }
}

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

/// Tells the time. It never runs back.
pub trait Clock: Send + Sync {
    /// The current moment.
    fn now(&self) -> Micros;

    /// The current moment by this clock and by the monotonic one, for whoever needs both: mostly one look tells both.
    fn both(&self) -> (Micros, Instant) {
        (self.now(), Instant::now())
    }
}

/// The machine's clock: its wall time when made, advanced by the monotonic clock.
///
/// A step of the wall clock under a running process therefore neither revives a stale request nor
/// forgets a fresh one.
#[derive(Debug)]
pub struct SystemClock {
    wall_at_start: Micros,
    start: Instant,
}

impl SystemClock {
    /// Reads the wall clock once.
    pub fn start() -> Self {
        Self { wall_at_start: wall_time(), start: Instant::now() }
    }

    /// How far the machine's wall clock has moved away from this one, as (ahead, behind).
    pub fn drift(&self) -> (Duration, Duration) {
        let (wall, ours) = (wall_time(), self.now());
        (wall.since(ours), ours.since(wall))
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Micros {
        self.both().0
    }

    fn both(&self) -> (Micros, Instant) {
        let instant = Instant::now();
        (self.wall_at_start + instant.duration_since(self.start), instant)
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that may")]
fn wall_time() -> Micros {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Micros(u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX))
}

/// A clock that moves when told to: for tests, and for judging recorded requests.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// A clock that stands at `now`.
    pub const fn at(now: Micros) -> Self {
        Self(AtomicU64::new(now.0))
    }

    /// Moves to `now`, back too: only whoever owns the test or the recording does that.
    pub fn set(&self, now: Micros) {
        self.0.store(now.0, Ordering::Relaxed);
    }

    /// Moves on by `span`.
    pub fn advance(&self, span: Duration) {
        self.set(self.now() + span);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Micros {
        Micros(self.0.load(Ordering::Relaxed))
    }
}

impl<C: Clock + ?Sized> Clock for std::sync::Arc<C> {
    fn now(&self) -> Micros {
        (**self).now()
    }

    fn both(&self) -> (Micros, Instant) {
        (**self).both()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        assert_eq!(Micros(u64::MAX) + Duration::from_secs(1), Micros(u64::MAX));
        assert_eq!(Micros(1) - Duration::from_secs(1), Micros(0));
        assert_eq!(Micros(1).since(Micros(5)), Duration::ZERO);
    }

    #[test]
    fn the_system_clock_never_runs_back() {
        let clock = SystemClock::start();
        let mut last = clock.now();
        for _ in 0..10_000 {
            let now = clock.now();
            assert!(now >= last);
            last = now;
        }
    }
}
