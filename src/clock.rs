//! The only place that asks the time.

use std::fmt;
use std::ops::{Add, Sub};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
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
        Self(self.0.saturating_add(micros(span)))
    }
}

impl Sub<Duration> for Micros {
    type Output = Self;

    fn sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(micros(span)))
    }
}

/// Whole microseconds, as many as there can be at most; without the wide arithmetic of [`Duration::as_micros`].
fn micros(span: Duration) -> u64 {
    span.as_secs().saturating_mul(1_000_000).saturating_add(span.subsec_micros().into())
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

    /// Since when it can be relied on; `None` while it cannot: nothing is judged then, and nothing that was signed
    /// before is afterwards.
    fn sure_since(&self) -> Option<Micros> {
        Some(Micros(0))
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
    /// How far it was set ahead since, in microseconds.
    ahead: AtomicU64,
    /// Since when it can be relied on, in microseconds; [`DOUBTED`] while it cannot.
    sure_since: AtomicU64,
    /// How far the wall clock lay ahead of it when it was last looked at, in microseconds.
    apart: AtomicI64,
}

/// No moment: it is not sure.
const DOUBTED: u64 = u64::MAX;

impl SystemClock {
    /// Reads the wall clock once.
    pub fn start() -> Self {
        Self {
            wall_at_start: wall_time(),
            start: Instant::now(),
            ahead: AtomicU64::new(0),
            sure_since: AtomicU64::new(0),
            apart: AtomicI64::new(0),
        }
    }

    /// Compares it with the wall clock. A step of that stops whoever asks [`Clock::sure_since`], until it is steady
    /// again. Then a step ahead is followed; one back is waited out, since this clock never runs back.
    pub fn check(&self, steadiness: &mut Steadiness) -> Standing {
        let before = self.now();
        let wall = wall_time();
        self.compare(wall, (before, self.now()), steadiness)
    }

    /// How far the wall clock lay ahead of it when they were last compared, in seconds; negative where behind.
    pub fn apart(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "it is shown, and reckoned with nowhere")]
        let micros = self.apart.load(Ordering::Relaxed) as f64;
        micros / 1e6
    }

    /// By a look at the wall clock between two at ours. Whatever kept this thread waiting in between says nothing of the
    /// clocks: they are as far apart as they must be at least.
    fn compare(
        &self,
        wall: Micros,
        (before, after): (Micros, Micros),
        steadiness: &mut Steadiness,
    ) -> Standing {
        let ours = wall.clamp(before, after.max(before));
        let standing = steadiness.judge(wall, ours);
        let mut apart = wall.0.cast_signed().saturating_sub(ours.0.cast_signed());
        match standing {
            Standing::Sure => self.settle(),
            Standing::Doubted { .. } => self.sure_since.store(DOUBTED, Ordering::Release),
            Standing::Follow(step) => {
                let step = u64::try_from(step.as_micros()).unwrap_or(u64::MAX);
                self.ahead.fetch_add(step, Ordering::AcqRel);
                self.settle();
                apart = 0;
            }
        }
        self.apart.store(apart, Ordering::Relaxed);
        standing
    }

    /// It can be relied on from now on, if it could not before.
    fn settle(&self) {
        if self.sure_since.load(Ordering::Acquire) == DOUBTED {
            self.sure_since.store(self.now().0, Ordering::Release);
        }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Micros {
        self.both().0
    }

    fn both(&self) -> (Micros, Instant) {
        let instant = Instant::now();
        let since_start = self.wall_at_start + instant.duration_since(self.start);
        (Micros(since_start.0.saturating_add(self.ahead.load(Ordering::Relaxed))), instant)
    }

    fn sure_since(&self) -> Option<Micros> {
        let since = self.sure_since.load(Ordering::Acquire);
        (since != DOUBTED).then_some(Micros(since))
    }
}

/// What follows from a comparison of two clocks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    /// They agree.
    Sure,
    /// The wall clock was moved.
    Doubted {
        /// How far it is ahead of ours.
        ahead: Duration,
        /// How far it is behind.
        behind: Duration,
    },
    /// It has been ahead by so much for long enough.
    Follow(Duration),
}

/// Remembers how steady the wall clock is.
#[derive(Debug, Default)]
pub struct Steadiness {
    /// Since when, by our clock, they have been this far apart: wall and ours at that moment.
    since: Option<(Micros, Micros)>,
}

impl Steadiness {
    /// How far the clocks may lie apart.
    pub const BOUND: Duration = Duration::from_millis(500);
    /// How long a wall clock that was moved must go evenly until it is followed.
    pub const CALM: Duration = Duration::from_secs(5);
    /// How evenly.
    const EVEN: Duration = Duration::from_millis(50);

    /// Judges by one look at both clocks.
    pub fn judge(&mut self, wall: Micros, ours: Micros) -> Standing {
        let (ahead, behind) = (wall.since(ours), ours.since(wall));
        if ahead.max(behind) <= Self::BOUND {
            self.since = None;
            return Standing::Sure;
        }
        let (then_wall, then_ours) = *self.since.get_or_insert((wall, ours));
        let (wall_went, ours_went) = (wall.since(then_wall), ours.since(then_ours));
        if wall < then_wall || wall_went.abs_diff(ours_went) > Self::EVEN {
            self.since = Some((wall, ours));
        } else if ours_went >= Self::CALM && !ahead.is_zero() {
            self.since = None;
            return Standing::Follow(ahead);
        }
        Standing::Doubted { ahead, behind }
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

    fn sure_since(&self) -> Option<Micros> {
        (**self).sure_since()
    }
}

#[cfg(test)]
mod tests {
    use std::mem::discriminant;
    use std::ops::Range;

    use super::*;

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        assert_eq!(Micros(u64::MAX) + Duration::from_secs(1), Micros(u64::MAX));
        assert_eq!(Micros(1) - Duration::from_secs(1), Micros(0));
        for long in [Duration::MAX, Duration::from_micros(u64::MAX), Duration::from_secs(u64::MAX)]
        {
            assert_eq!(Micros(1) + long, Micros(u64::MAX));
            assert_eq!(Micros(u64::MAX - 1) - long, Micros(0));
        }
        let odd = Duration::new(1_234_567, 891_234_999);
        assert_eq!(Micros(5) + odd, Micros(1_234_567_891_239));
        assert_eq!(Micros(1).since(Micros(5)), Duration::ZERO);
    }

    const SECOND: u64 = 1_000_000;

    /// A wall clock that is `apart` from ours, looked at five times a second from `from` until it is settled or for a
    /// minute.
    fn settled(steadiness: &mut Steadiness, from: u64, apart: i64) -> (Standing, u64) {
        let mut ours = from;
        loop {
            let wall = Micros(ours.saturating_add_signed(apart));
            let standing = steadiness.judge(wall, Micros(ours));
            if !matches!(standing, Standing::Doubted { .. }) || ours > from + 60 * SECOND {
                return (standing, ours - from);
            }
            ours += SECOND / 5;
        }
    }

    #[test]
    fn a_step_ahead_is_doubted_until_it_has_been_steady_and_then_followed() {
        let mut steadiness = Steadiness::default();
        assert_eq!(steadiness.judge(Micros(100 * SECOND), Micros(100 * SECOND)), Standing::Sure);
        let step = 3 * i64::try_from(SECOND).unwrap();
        let (standing, after) = settled(&mut steadiness, 100 * SECOND, step);
        assert_eq!((standing, after), (Standing::Follow(Duration::from_secs(3)), 5 * SECOND));
    }

    #[test]
    fn a_step_back_is_doubted_until_the_wall_clock_has_caught_up() {
        let mut steadiness = Steadiness::default();
        let step = -3 * i64::try_from(SECOND).unwrap();
        let (standing, after) = settled(&mut steadiness, 100 * SECOND, step);
        assert!(matches!(standing, Standing::Doubted { behind, .. } if behind.as_secs() == 3));
        assert!(after > 60 * SECOND);
        // Ours would have to stand still for that: the wall clock has to be set right.
        let ours = Micros(200 * SECOND);
        assert_eq!(steadiness.judge(ours - Duration::from_millis(500), ours), Standing::Sure);
    }

    #[test]
    fn a_wall_clock_that_goes_unevenly_is_never_followed() {
        let mut steadiness = Steadiness::default();
        for n in 0..600 {
            let ours = Micros(100 * SECOND + n * SECOND / 5);
            // A tenth faster than ours, from three seconds ahead.
            let wall = ours + Duration::from_secs(3) + Duration::from_millis(n * 20);
            let standing = steadiness.judge(wall, ours);
            assert!(matches!(standing, Standing::Doubted { .. }), "{n}");
        }
    }

    /// Looks five times a second at a wall clock that goes so many millionths faster than ours: after how long each new
    /// standing came.
    fn drifting(millionths: i64, seconds: u64) -> Vec<(u64, Standing)> {
        let (mut steadiness, mut followed) = (Steadiness::default(), Duration::ZERO);
        let mut changes: Vec<(u64, Standing)> = Vec::new();
        for look in 0..seconds * 5 {
            let went = look * SECOND / 5;
            let drift = i64::try_from(went).unwrap() * millionths / 1_000_000;
            let ours = Micros(100 * SECOND + went) + followed;
            let wall = Micros((100 * SECOND + went).saturating_add_signed(drift));
            let standing = steadiness.judge(wall, ours);
            if let Standing::Follow(step) = standing {
                followed += step;
            }
            if changes.last().is_none_or(|(_, last)| discriminant(last) != discriminant(&standing))
            {
                changes.push((went, standing));
            }
        }
        changes
    }

    #[test]
    fn a_wall_clock_that_drifts_away_slowly_is_doubted_past_half_a_second_and_followed_ahead_alone()
    {
        // 500 millionths, the most that a kernel slews by: half a second in 1,000.
        let changes = drifting(500, 1_100);
        let [
            (_, Standing::Sure),
            (doubted, Standing::Doubted { ahead, .. }),
            (end, Standing::Follow(step)),
            (_, Standing::Sure),
        ] = &*changes
        else {
            panic!("{changes:?}")
        };
        assert_eq!((*doubted, *end), (1_000_200_000, 1_005_200_000));
        assert_eq!(*ahead, Duration::from_micros(500_100));
        assert_eq!(*step, Duration::from_micros(502_600));
        let changes = drifting(-500, 1_100);
        assert!(
            matches!(&*changes, [(_, Standing::Sure), (1_000_200_000, Standing::Doubted { .. })]),
            "{changes:?}"
        );
    }

    #[test]
    fn half_a_second_apart_is_borne_and_no_more() {
        for (apart, sure) in
            [(500_000, true), (500_001, false), (-500_000, true), (-500_001, false)]
        {
            let ours = Micros(100 * SECOND);
            let wall = Micros(ours.0.saturating_add_signed(apart));
            let standing = Steadiness::default().judge(wall, ours);
            assert_eq!(standing == Standing::Sure, sure, "{apart}");
        }
    }

    #[test]
    fn a_thread_that_waited_between_two_looks_sees_no_step() {
        let clock = SystemClock::start();
        let before = clock.now();
        let after = before + Duration::from_secs(3);
        for (wall, is_sure) in [
            (before - Duration::from_micros(500_001), false),
            (before - Duration::from_millis(500), true),
            (before + Duration::from_millis(1_500), true),
            (after + Duration::from_millis(500), true),
            (after + Duration::from_micros(500_001), false),
        ] {
            let standing = clock.compare(wall, (before, after), &mut Steadiness::default());
            assert_eq!(standing == Standing::Sure, is_sure, "{wall}");
        }
    }

    /// Twenty seconds, looked at five times in each: the machine's clock lies `apart` for some of the looks. Tells of
    /// each look since when ours is sure, and what it says.
    fn through(apart: i64, looks: Range<u64>) -> Vec<(Option<Micros>, Micros)> {
        let clock = SystemClock::start();
        let mut steadiness = Steadiness::default();
        let mut seen: Vec<(Option<Micros>, Micros)> = Vec::new();
        for look in 0..100 {
            // Time passes; what passes of itself meanwhile is nothing beside the bounds.
            clock.ahead.fetch_add(SECOND / 5, Ordering::Relaxed);
            let step = if looks.contains(&look) { apart } else { 0 };
            let wall = clock.wall_at_start.0 + (look + 1) * SECOND / 5;
            let wall = Micros(wall.saturating_add_signed(step));
            let _standing = clock.compare(wall, (clock.now(), clock.now()), &mut steadiness);
            assert!(
                seen.last().is_none_or(|(_, last)| clock.now() > *last),
                "{apart}: it ran back"
            );
            seen.push((clock.sure_since(), clock.now()));
        }
        seen
    }

    const HOUR: i64 = 3_600_000_000;

    #[test]
    fn a_step_of_the_machine_s_clock_that_is_set_right_leaves_nothing_but_the_moment_it_was() {
        for apart in [-HOUR, -1_000_000, -600_000, 600_000, 1_000_000, HOUR] {
            let seen = through(apart, 10..30);
            assert!(seen[..10].iter().all(|(since, _)| *since == Some(Micros(0))), "{apart}");
            assert!(seen[10..30].iter().all(|(since, _)| since.is_none()), "{apart}");
            let (since, now) = seen[30];
            assert!(now.since(since.unwrap()) < Duration::from_millis(200), "{apart}");
            assert!(seen[30..].iter().all(|(later, _)| *later == since), "{apart}");
        }
        // The control: what is within the bound is borne.
        for apart in [-400_000, 0, 400_000] {
            let seen = through(apart, 10..30);
            assert!(seen.iter().all(|(since, _)| *since == Some(Micros(0))), "{apart}");
        }
    }

    #[test]
    fn a_step_ahead_that_lasts_is_followed_and_one_back_stops_all_for_as_long() {
        for apart in [600_000, 1_000_000, HOUR] {
            let seen = through(apart, 10..100);
            let doubted = seen.iter().filter(|(since, _)| since.is_none()).count();
            assert_eq!(doubted, 25, "{apart}: five seconds");
            let ((_, before), (since, after)) = (seen[34], seen[35]);
            assert!(since.is_some_and(|since| since > before), "{apart}");
            let step = Duration::from_micros(apart.unsigned_abs());
            assert!(after.since(before) >= step, "{apart}");
        }
        for apart in [-600_000, -1_000_000, -HOUR] {
            let seen = through(apart, 10..100);
            assert!(seen[10..].iter().all(|(since, _)| since.is_none()), "{apart}");
        }
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
