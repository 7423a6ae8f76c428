//! The arithmetic of limits: the generic cell rate algorithm over exact fractions, so that no rounding ever admits
//! more than the rate allows, nor less.

use std::time::Duration;

use crate::clock::Micros;
use crate::store::Limit;

/// A theoretical arrival time: when all that was admitted so far will have been paid off.
///
/// `whole + part / parts` microseconds, `part` below `parts`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Arrival {
    pub(super) whole: u64,
    part: u32,
    parts: u32,
}

/// A limit with its period in whole microseconds.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Rate {
    quota: u32,
    period: u64,
}

impl Rate {
    pub(in crate::store) fn of(limit: Limit) -> Self {
        let period = limit.period;
        let micros = period
            .as_secs()
            .saturating_mul(1_000_000)
            .saturating_add(u64::from(period.subsec_nanos().div_ceil(1_000)));
        Self { quota: limit.quota.max(1), period: micros.clamp(1, LONGEST_PERIOD) }
    }

    /// Units per period.
    #[cfg(feature = "server")]
    pub(in crate::store) fn quota(self) -> u32 {
        self.quota
    }

    /// The period in microseconds.
    #[cfg(feature = "server")]
    pub(in crate::store) fn period_micros(self) -> u64 {
        self.period
    }

    /// How far `weight` units move an arrival: microseconds, and parts of one.
    #[cfg(feature = "server")]
    pub(in crate::store) fn taken(self, weight: u32) -> (u64, u32) {
        let Arrival { whole, part, parts: _ } = Arrival::at(Micros(0)).plus(weight, self);
        (whole, part)
    }

    pub(super) fn period(self) -> Duration {
        Duration::from_micros(self.period)
    }

    /// Whether `weight` fits into an untouched allowance.
    pub(super) fn can_ever_fit(self, weight: u32) -> bool {
        weight <= self.quota
    }

    /// Whether an allowance that stands at `arrival` is within the quota at `now`.
    pub(super) fn holds(self, arrival: Arrival, now: Micros) -> bool {
        !arrival.is_after(Micros(now.0.saturating_add(self.period)))
    }

    /// After how long an allowance that would then stand at `arrival` is within the quota; zero when it is now.
    pub(super) fn wait(self, arrival: Arrival, now: Micros) -> Duration {
        arrival.reached_from(Micros(now.0.saturating_add(self.period)))
    }

    /// Units used at `now`, rounded up.
    pub(super) fn level(self, arrival: Arrival, now: Micros) -> u32 {
        let arrival = arrival.in_parts(self.quota);
        if !arrival.is_after(now) {
            return 0;
        }
        self.units(arrival.whole.saturating_sub(now.0), arrival.part)
    }

    /// The units that an arrival `ahead + part / quota` microseconds from now stands for, rounded up.
    pub(in crate::store) fn units(self, ahead: u64, part: u32) -> u32 {
        let (quota, part) = (u64::from(self.quota), u64::from(part));
        let scaled = ahead.checked_mul(quota).and_then(|whole| whole.checked_add(part));
        let in_wide = || {
            // A large quota over a long period.
            let scaled = u128::from(ahead) * u128::from(quota) + u128::from(part);
            u64::try_from(scaled.div_ceil(u128::from(self.period))).unwrap_or(u64::MAX)
        };
        let used = scaled.map_or_else(in_wide, |scaled| scaled.div_ceil(self.period));
        u32::try_from(used).unwrap_or(u32::MAX)
    }
}

impl Arrival {
    pub(super) const fn at(now: Micros) -> Self {
        Self { whole: now.0, part: 0, parts: 1 }
    }

    /// Whether it lies later than `now`: if not, the allowance is untouched.
    pub(super) const fn is_after(self, now: Micros) -> bool {
        self.whole > now.0 || (self.whole == now.0 && self.part > 0)
    }

    /// Itself, or `now` if that is later.
    pub(super) const fn or_now(self, now: Micros) -> Self {
        if self.is_after(now) { self } else { Self::at(now) }
    }

    /// Moved on by what `weight` units take at `rate`.
    pub(super) fn plus(self, weight: u32, rate: Rate) -> Self {
        let Self { whole, part, parts } = self.in_parts(rate.quota);
        let quota = u64::from(parts);
        let scaled = u64::from(weight)
            .checked_mul(rate.period)
            .and_then(|scaled| scaled.checked_add(u64::from(part)))
            .map(|scaled| (scaled / quota, scaled % quota));
        let (more, part) = scaled.unwrap_or_else(|| {
            let scaled = u128::from(weight) * u128::from(rate.period) + u128::from(part);
            let (more, part) = (scaled / u128::from(quota), scaled % u128::from(quota));
            (u64::try_from(more).unwrap_or(u64::MAX), u64::try_from(part).unwrap_or(0))
        });
        Self { whole: whole.saturating_add(more), part: u32::try_from(part).unwrap_or(0), parts }
    }

    /// Moved back by what `weight` units take at `rate`, but for what was paid off of them by itself: in `since` a
    /// bucket gets back no more than that time's worth, whoever it is for.
    pub(super) fn minus(self, weight: u32, rate: Rate, since: Duration) -> Self {
        let Self { whole, part, parts } = self.in_parts(rate.quota);
        let quota = u128::from(parts);
        let given = u128::from(weight) * u128::from(rate.period);
        let given = given.saturating_sub(since.as_micros() * quota);
        let left = (u128::from(whole) * quota + u128::from(part)).saturating_sub(given);
        let whole = u64::try_from(left / quota).unwrap_or(u64::MAX);
        Self { whole, part: u32::try_from(left % quota).unwrap_or(0), parts }
    }

    /// How long after `now` it lies, rounded up to whole microseconds.
    fn reached_from(self, now: Micros) -> Duration {
        let whole = self.whole.saturating_add(u64::from(self.part > 0));
        Duration::from_micros(whole.saturating_sub(now.0))
    }

    /// The same moment in other fractions; rounded up where they do not divide, once after a change of quota.
    fn in_parts(self, parts: u32) -> Self {
        if self.parts == parts || self.part == 0 {
            return Self { parts, ..self };
        }
        let part = (u64::from(self.part) * u64::from(parts)).div_ceil(u64::from(self.parts));
        if part >= u64::from(parts) {
            return Self { whole: self.whole.saturating_add(1), part: 0, parts };
        }
        Self { whole: self.whole, part: u32::try_from(part).unwrap_or(0), parts }
    }
}

/// About 136 years, so that all sums of an allowance fit into 64 bits.
const LONGEST_PERIOD: u64 = 1 << 52;

#[cfg(test)]
mod tests {
    use super::*;

    fn sevenths() -> Rate {
        Rate::of(Limit { quota: 7, period: Duration::from_secs(1) })
    }

    #[test]
    fn seven_sevenths_of_a_second_are_one_second() {
        let mut arrival = Arrival::at(Micros(5));
        for _ in 0..7 {
            arrival = arrival.plus(1, sevenths());
        }
        assert_eq!((arrival.whole, arrival.part), (1_000_005, 0));
    }

    #[test]
    fn a_wait_ends_at_the_first_microsecond_that_fits() {
        let now = Micros(10);
        let arrival = Arrival::at(now).plus(8, sevenths());
        let wait = sevenths().wait(arrival, now);
        assert_eq!(wait, Duration::from_micros(142_858));
        assert_eq!(sevenths().wait(arrival, now + wait), Duration::ZERO);
        assert_eq!(
            sevenths().wait(arrival, now + wait - Duration::from_micros(1)),
            Duration::from_micros(1)
        );
    }

    #[test]
    fn levels_round_up() {
        let now = Micros(0);
        let arrival = Arrival::at(now).plus(3, sevenths());
        let levels: Vec<u32> = [0, 1, 142_857, 142_858, 428_571, 428_572]
            .map(|at| sevenths().level(arrival, Micros(at)))
            .to_vec();
        assert_eq!(levels, [3, 3, 3, 2, 1, 0]);
    }

    #[test]
    fn other_fractions_never_lie_earlier() {
        let arrival = Arrival::at(Micros(0)).plus(1, sevenths());
        let thirds = arrival.in_parts(3);
        assert_eq!((thirds.whole, thirds.part, thirds.parts), (142_857, 1, 3));
        let halves = Arrival { whole: 1, part: 6, parts: 7 }.in_parts(2);
        assert_eq!((halves.whole, halves.part, halves.parts), (2, 0, 2));
    }

    #[test]
    fn the_largest_limits_do_not_overflow() {
        let rate = Rate::of(Limit { quota: u32::MAX, period: Duration::MAX });
        let arrival = Arrival::at(Micros(u64::MAX / 2)).plus(u32::MAX, rate);
        assert_eq!(arrival.whole, u64::MAX / 2 + (1 << 52));
        assert_eq!(Arrival::at(Micros(u64::MAX)).plus(u32::MAX, rate).whole, u64::MAX);
        assert_eq!(rate.level(arrival, Micros(0)), u32::MAX);
    }
}
