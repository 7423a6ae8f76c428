//! Defeats a replay across a restart: refuses whatever an earlier process, whose memory is lost, could have accepted.
//!
//! A request is judged only if its signed time lies above everything that could be accepted before this store was
//! born, and not above what the state directory says may have been accepted (see [`Fence::cover`]).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Options;
use crate::clock::Micros;
use crate::store::SignedTime;

/// The moments between which signed times are judged.
#[derive(Debug)]
pub(super) struct Fence {
    birth: Micros,
    skew: Duration,
    bound: Duration,
    /// Stamps up to this moment are refused for as long as this store lives.
    stamp_floor: Micros,
    /// What an earlier process may have accepted, from the state directory.
    earlier: Mark,
    /// What the state directory says this process may accept; all there is without one.
    stamp_ceiling: AtomicU64,
    deadline_ceiling: AtomicU64,
    /// The furthest lead known of, in microseconds.
    lead: AtomicU64,
    /// The latest moment heard of, to the nearest [`HEARING`].
    latest: AtomicU64,
}

/// Signed times up to which something may have been accepted.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Mark {
    pub(super) stamp: Micros,
    pub(super) deadline: Micros,
}

impl Fence {
    pub(super) fn new(birth: Micros, options: &Options, earlier: Mark) -> Self {
        let (skew, bound) = (options.future_skew, options.clock_bound);
        let floor = earlier.stamp.max(birth + skew + bound * 2);
        Self {
            birth,
            skew,
            bound,
            stamp_floor: end_of(floor, options.stamp_unit),
            earlier,
            stamp_ceiling: AtomicU64::new(u64::MAX),
            deadline_ceiling: AtomicU64::new(u64::MAX),
            lead: AtomicU64::new(micros(options.longest_lead)),
            latest: AtomicU64::new(birth.0),
        }
    }

    /// How long to wait before signing again, if a request signed for `time` cannot be judged at `now`.
    pub(super) fn refuses(&self, now: Micros, time: SignedTime) -> Option<Duration> {
        self.hear(now);
        match time {
            SignedTime::Stamp(at) => {
                let (floor, ceiling) = (self.stamp_floor(), &self.stamp_ceiling);
                if at <= floor {
                    // A client signs its present, so what counts is when the present lies above the floor.
                    return Some(Micros(floor.0.saturating_add(1)).since(now).max(SOONEST));
                }
                above(at, now + self.skew, ceiling)
            }
            SignedTime::Deadline { at, lead } => {
                if micros(lead) > self.lead.load(Ordering::Relaxed) {
                    self.lead.fetch_max(micros(lead), Ordering::Relaxed);
                }
                let floor = self.earlier.deadline.max(self.birth + lead + self.bound * 2);
                if at <= floor {
                    // The same client will sign a deadline that is later by as long as it waits.
                    return Some(Micros(floor.0.saturating_add(1)).since(at));
                }
                above(at, now + lead, &self.deadline_ceiling)
            }
            SignedTime::Growing { key: _, nonce: _, window: _ }
            | SignedTime::Unique { key: _, nonce: _ } => None,
        }
    }

    /// Takes note of how late it is, so that the marks keep up where the clock was followed ahead.
    fn hear(&self, now: Micros) {
        if now.0 > self.latest.load(Ordering::Relaxed).saturating_add(HEARING) {
            self.latest.fetch_max(now.0, Ordering::Relaxed);
        }
    }

    /// The latest moment that it was asked about, to the nearest [`HEARING`].
    pub(super) fn heard(&self) -> Micros {
        Micros(self.latest.load(Ordering::Relaxed))
    }

    /// Stamps up to this moment are refused for as long as this store lives.
    pub(super) fn stamp_floor(&self) -> Micros {
        self.stamp_floor
    }

    /// The mark to persist at `now`, so that everything acceptable until so far `ahead` of now lies under it.
    pub(super) fn cover(&self, now: Micros, ahead: Duration) -> Mark {
        let now = now.max(self.heard());
        let lead = Duration::from_micros(self.lead.load(Ordering::Relaxed));
        self.with_earlier(now + self.skew + ahead, now + lead + ahead)
    }

    /// `stamp` and `deadline`, or the marks of earlier processes where those are later.
    pub(super) fn with_earlier(&self, stamp: Micros, deadline: Micros) -> Mark {
        Mark { stamp: stamp.max(self.earlier.stamp), deadline: deadline.max(self.earlier.deadline) }
    }

    /// Whether the disk has noted that what is signed at `now` may be accepted; if not, the next mark will.
    pub(super) fn is_noted(&self, now: Micros) -> bool {
        self.hear(now);
        now.0 <= self.stamp_ceiling.load(Ordering::Acquire)
    }

    /// Judges what lies up to `mark`, and nothing above it. Only once it is on the disk.
    pub(super) fn allow_up_to(&self, mark: Mark) {
        self.stamp_ceiling.store(mark.stamp.0, Ordering::Release);
        self.deadline_ceiling.store(mark.deadline.0, Ordering::Release);
    }
}

/// The last moment that is written as `at` is in whole `unit`s. Clients leave off what is less than one, so a stamp made
/// right after `at` would name a moment before it.
fn end_of(at: Micros, unit: Duration) -> Micros {
    let unit = micros(unit).max(1);
    Micros((at.0 - at.0 % unit).saturating_add(unit - 1))
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

/// How long to wait if `at` lies above what is promised to be remembered, or above what the disk has noted.
fn above(at: Micros, promised: Micros, ceiling: &AtomicU64) -> Option<Duration> {
    if at > promised {
        // Later than any freshness rule that this fence was made for: accepting it would outlive the fence.
        return Some(at.since(promised));
    }
    (at.0 > ceiling.load(Ordering::Acquire)).then_some(PERSIST_EVERY)
}

/// How far ahead of need a mark is persisted, at least: as long as this the disk may take.
pub(super) const AHEAD: Duration = Duration::from_secs(1);
/// How often a mark is persisted.
pub(super) const PERSIST_EVERY: Duration = Duration::from_millis(250);
const SOONEST: Duration = Duration::from_micros(1);
/// 100 ms, in microseconds: far less than [`AHEAD`], and seldom enough not to be fought over.
const HEARING: u64 = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    const BIRTH: Micros = Micros(1_000_000_000);
    const SECOND: Duration = Duration::from_secs(1);
    const MICRO: Duration = Duration::from_micros(1);

    fn options(clock_bound: Duration, stamp_unit: Duration) -> Options {
        Options { future_skew: SECOND, clock_bound, stamp_unit, ..Options::default() }
    }

    fn fence() -> Fence {
        Fence::new(BIRTH, &options(Duration::from_millis(50), MICRO), Mark::default())
    }

    #[test]
    fn a_stamp_in_whole_units_is_judged_as_soon_as_the_fence_says_so() {
        for unit in [MICRO, Duration::from_millis(1), SECOND] {
            for birth in [BIRTH, BIRTH + MICRO, BIRTH + Duration::from_micros(999_999)] {
                let fence = Fence::new(birth, &options(Duration::ZERO, unit), Mark::default());
                let written = |now: Micros| {
                    let unit = u64::try_from(unit.as_micros()).unwrap();
                    SignedTime::Stamp(Micros(now.0 / unit * unit))
                };
                let ready = fence.stamp_floor() + MICRO;
                assert_eq!(fence.refuses(ready, written(ready)), None, "{unit:?}");
                let wait = fence.refuses(birth, written(birth)).unwrap();
                assert_eq!(birth + wait, ready, "what a client is told to wait is enough");
                assert!(ready <= birth + SECOND + unit, "{unit:?}: no longer than need be");
            }
        }
    }

    #[test]
    fn stamps_are_refused_up_to_birth_and_skew_and_twice_the_bound() {
        let floor = BIRTH + Duration::from_millis(1_100);
        let stamp = |at| fence().refuses(floor, SignedTime::Stamp(at));
        assert_eq!(stamp(floor), Some(MICRO));
        assert_eq!(stamp(floor + MICRO), None);
        assert_eq!(
            fence().refuses(BIRTH, SignedTime::Stamp(BIRTH)),
            Some(Duration::from_micros(1_100_001))
        );
    }

    #[test]
    fn stamps_ahead_of_the_promised_skew_are_refused() {
        let now = BIRTH + SECOND * 10;
        let stamp = |at| fence().refuses(now, SignedTime::Stamp(at));
        assert_eq!(stamp(now + SECOND), None);
        assert_eq!(stamp(now + SECOND + MICRO), Some(MICRO));
    }

    #[test]
    fn the_first_deadline_of_the_longest_lead_finds_a_mark() {
        let lead = SECOND * 60;
        let first = |longest_lead| {
            let options = Options { longest_lead, ..options(Duration::ZERO, MICRO) };
            let fence = Fence::new(BIRTH, &options, Mark::default());
            let now = BIRTH + lead * 2;
            fence.allow_up_to(fence.cover(now, AHEAD));
            fence.refuses(now, SignedTime::Deadline { at: now + lead, lead })
        };
        assert_eq!(first(lead), None);
        // Where it is not known of before, it waits for the next.
        assert_eq!(first(Duration::ZERO), Some(PERSIST_EVERY));
    }

    #[test]
    fn who_asks_whether_the_present_is_noted_is_heard() {
        let fence = fence();
        fence.allow_up_to(fence.cover(BIRTH, AHEAD));
        let now = BIRTH + SECOND * 10;
        assert!(!fence.is_noted(now));
        // Whoever writes marks may not have seen how far the clock was followed.
        fence.allow_up_to(fence.cover(BIRTH + SECOND, AHEAD));
        assert!(fence.is_noted(now));
    }

    #[test]
    fn deadlines_are_refused_up_to_birth_and_lead_and_twice_the_bound() {
        let lead = SECOND * 60;
        let floor = BIRTH + lead + Duration::from_millis(100);
        let deadline = |at| fence().refuses(BIRTH + SECOND, SignedTime::Deadline { at, lead });
        assert_eq!(deadline(floor), Some(MICRO));
        assert_eq!(deadline(floor + MICRO), None);
        assert_eq!(deadline(BIRTH + SECOND + lead), None);
        assert_eq!(deadline(BIRTH + SECOND + lead + MICRO), Some(MICRO));
    }

    #[test]
    fn what_an_earlier_process_may_have_accepted_is_refused() {
        let earlier = Mark { stamp: BIRTH + SECOND * 3_600, deadline: BIRTH + SECOND * 7_200 };
        let fence = Fence::new(BIRTH, &options(Duration::ZERO, MICRO), earlier);
        let now = earlier.stamp;
        assert_eq!(fence.refuses(now, SignedTime::Stamp(earlier.stamp)), Some(MICRO));
        assert_eq!(fence.refuses(now, SignedTime::Stamp(earlier.stamp + MICRO)), None);
        let lead = SECOND * 7_200;
        let deadline = |at| fence.refuses(now, SignedTime::Deadline { at, lead });
        assert_eq!(deadline(earlier.deadline), Some(MICRO));
        assert_eq!(deadline(earlier.deadline + MICRO), None);
    }

    #[test]
    fn nothing_above_the_persisted_mark_is_judged() {
        let fence = fence();
        let now = BIRTH + SECOND * 10;
        let lead = SECOND * 5;
        fence.allow_up_to(Mark { stamp: now, deadline: now + SECOND });
        let stamp = |at| fence.refuses(now, SignedTime::Stamp(at));
        assert_eq!((stamp(now), stamp(now + MICRO)), (None, Some(PERSIST_EVERY)));
        let deadline = |at| fence.refuses(now, SignedTime::Deadline { at, lead });
        assert_eq!(deadline(now + SECOND), None);
        assert_eq!(deadline(now + SECOND + MICRO), Some(PERSIST_EVERY));
        assert_eq!(fence.cover(now, AHEAD).deadline, now + lead + AHEAD);
    }
}
