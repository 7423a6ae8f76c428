//! Defeats a slow disk or a starved thread: how far ahead the next mark reaches, by how late marks lately were.
//!
//! A mark that reaches further costs nothing while the gateway runs. After a kill its successor refuses for as much
//! longer, and so it reaches far only where marks came late.

use std::time::Duration;

use super::fence::AHEAD;

/// How long marks have to last.
#[derive(Debug)]
pub(super) struct Pace {
    ahead: Duration,
    /// When the mark in force was made, since the start.
    made: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { ahead: AHEAD, made: Duration::ZERO }
    }
}

impl Pace {
    /// How far ahead the next mark is to reach.
    pub(super) fn ahead(&self) -> Duration {
        self.ahead
    }

    /// A mark that was made at `made` is in force at `now`, both since the start: so long the last one had to last. The
    /// next is made for twice that, and for less again bit by bit.
    pub(super) fn written(&mut self, made: Duration, now: Duration) {
        let lasted = now.saturating_sub(self.made);
        self.made = made;
        self.ahead = (lasted * 2).max(self.ahead * 31 / 32).clamp(AHEAD, FURTHEST);
    }
}

/// The furthest: so much longer, at most, a successor refuses.
const FURTHEST: Duration = Duration::from_secs(8);

#[cfg(test)]
mod tests {
    use super::super::fence::{Fence, Mark, PERSIST_EVERY};
    use super::*;
    use crate::clock::Micros;
    use crate::store::SignedTime;
    use crate::store::memory::Options;

    const MS: Duration = Duration::from_millis(1);
    const BIRTH: Micros = Micros(1_000_000_000);

    #[test]
    fn who_writes_in_time_reserves_no_more_than_ever() {
        for (slow, ahead) in [(MS * 125, AHEAD), (MS * 126, AHEAD + MS * 4)] {
            let mut pace = Pace::default();
            let mut now = Duration::ZERO;
            for _ in 0..1_000 {
                let made = now + PERSIST_EVERY;
                now = made + slow;
                pace.written(made, now);
            }
            assert_eq!(pace.ahead(), ahead);
        }
    }

    #[test]
    fn who_writes_late_reserves_twice_as_far_up_to_a_bound_and_less_again_once_in_time() {
        let mut pace = Pace::default();
        pace.written(MS * 250, MS * 501);
        assert_eq!(pace.ahead(), MS * 1_002);
        pace.written(MS * 3_000, MS * 3_250);
        assert_eq!(pace.ahead(), MS * 6_000);
        pace.written(MS * 30_000, MS * 30_001);
        assert_eq!(pace.ahead(), FURTHEST);
        let mut made = MS * 30_000;
        let mut marks = 0;
        while pace.ahead() > AHEAD {
            made += PERSIST_EVERY;
            pace.written(made, made + MS);
            marks += 1;
        }
        assert_eq!(marks, 66, "about seventeen seconds in time");
    }

    /// How many of the stamps of clients that sign their present are refused, while each mark takes so long.
    fn refused(slow: Duration, adapts: bool) -> u32 {
        let fence = Fence::new(BIRTH, &Options::default(), Mark::default());
        fence.allow_up_to(fence.cover(BIRTH, AHEAD));
        let mut pace = Pace::default();
        let (mut made, mut refused) = (PERSIST_EVERY, 0);
        let mut mark = fence.cover(BIRTH + made, pace.ahead());
        for tick in 0..60_000 {
            let now = MS * tick;
            if now >= made + slow {
                fence.allow_up_to(mark);
                if adapts {
                    pace.written(made, now);
                }
                made = now + PERSIST_EVERY;
                mark = fence.cover(BIRTH + made, pace.ahead());
            }
            let present = BIRTH + now;
            if present > fence.stamp_floor() && now > slow * 3 {
                refused += u32::from(fence.refuses(present, SignedTime::Stamp(present)).is_some());
            }
        }
        refused
    }

    #[test]
    fn a_writer_that_is_always_late_refuses_no_honest_request_once_that_is_known() {
        for slow in [1, 500, 1_500, 3_000] {
            assert_eq!(refused(MS * slow, true), 0, "{slow}");
        }
        // The control: with marks that never reach further, a good part is.
        let without = refused(MS * 3_000, false);
        assert!(without > 20_000, "{without} of about 50,000");
    }
}
