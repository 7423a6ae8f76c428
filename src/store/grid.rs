//! The arithmetic of windows: spans of time counted from the epoch, and how many of them count together.

use std::time::Duration;

use super::{Limit, Window};
use crate::clock::Micros;

/// The spans that a windowed limit is counted in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Grid {
    /// The length of a span in microseconds.
    pub(super) width: u64,
    /// How many of them count: the present one and those before it.
    pub(super) kept: u64,
}

/// The most spans of one limit.
pub(super) const MOST_SPANS: usize = 16;

/// The spans of a sliding window without the present one, which together last a period.
const WHOLE_SPANS: u64 = MOST_SPANS as u64 - 1;

impl Grid {
    /// `None` for a bucket, which has no windows.
    pub(super) fn of(window: Window, limit: Limit) -> Option<Self> {
        let period = micros(limit.period);
        match window {
            Window::Bucket => None,
            Window::Sliding => {
                Some(Self { width: period.div_ceil(WHOLE_SPANS), kept: WHOLE_SPANS + 1 })
            }
            Window::Fixed => Some(Self { width: period, kept: 1 }),
        }
    }

    /// The span that a moment lies in.
    pub(super) fn span(self, at: Micros) -> u64 {
        at.0 / self.width
    }

    /// When a span begins.
    pub(super) fn start(self, span: u64) -> Micros {
        Micros(span.saturating_mul(self.width))
    }

    /// When what was spent in a span counts no longer.
    pub(super) fn over(self, span: u64) -> Micros {
        self.start(span.saturating_add(self.kept))
    }

    /// The place of a span among those that are kept.
    pub(super) fn place(span: u64) -> usize {
        usize::try_from(span % MOST_SPANS as u64).unwrap_or(0)
    }
}

/// Whole microseconds, rounded up, from 1 to about 136 years.
fn micros(period: Duration) -> u64 {
    let seconds = period.as_secs().saturating_mul(1_000_000);
    let micros = seconds.saturating_add(u64::from(period.subsec_nanos().div_ceil(1_000)));
    micros.clamp(1, 1 << 52)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spans_that_count_cover_a_period_before_any_moment_of_the_present_one() {
        for micros in [1, 14, 15, 16, 1_000, 10_000_000, 86_400_000_000] {
            let limit = Limit { quota: 1, period: Duration::from_micros(micros) };
            let sliding = Grid::of(Window::Sliding, limit).unwrap();
            assert!(sliding.width * (sliding.kept - 1) >= micros, "{micros}");
            let fixed = Grid::of(Window::Fixed, limit).unwrap();
            assert_eq!((fixed.width, fixed.kept), (micros, 1));
        }
        let limit = Limit { quota: 1, period: Duration::from_secs(1) };
        assert_eq!(Grid::of(Window::Bucket, limit), None);
    }

    #[test]
    fn a_fixed_minute_begins_with_a_minute() {
        let limit = Limit { quota: 1, period: Duration::from_mins(1) };
        let minute = Grid::of(Window::Fixed, limit).unwrap();
        let edge = Micros(1_760_000_040_000_000);
        assert_eq!(minute.start(minute.span(edge)), edge);
        assert_eq!(minute.over(minute.span(Micros(edge.0 - 1))), edge);
    }
}
