//! Windows beside a list of everything that was ever admitted, and buckets beside an implementation by others.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock as _, FakeRelativeClock, Reference as _};
use governor::{Quota, RateLimiter};
use proptest::prelude::*;

use super::chains::Mixer;
use super::limits::Limits;
use super::refusal::Refusal;
use crate::clock::Micros;
use crate::store::{Cost, Levels, Limit, Subject, Window};

const START: Micros = Micros(1_760_000_000_000_000);
const MICRO: Duration = Duration::from_micros(1);

fn limits() -> Limits {
    Limits::new(Mixer::seeded().unwrap(), 1_000, 1_000)
}

fn spend(limits: &Limits, now: Micros, costs: &[Cost]) -> Result<Levels, Refusal> {
    let mut plan = limits.plan(now, costs);
    plan.hold().map(|()| plan.commit())
}

fn cost(window: Window, quota: u32, period: u64, weight: u32) -> Cost {
    let limit = Limit { quota, period: Duration::from_micros(period) };
    Cost { window, ..Cost::of_key(Subject(window as u64), limit, weight) }
}

/// Everything that was admitted, and when.
#[derive(Default)]
struct Book(Vec<(u64, u64)>);

impl Book {
    fn since(&self, from: u64) -> u64 {
        self.0.iter().filter(|(at, _)| *at >= from).map(|(_, weight)| weight).sum()
    }

    /// The most that any span of `period` saw.
    fn most_in_any(&self, period: u64) -> u64 {
        let ends = self.0.iter().map(|(at, _)| *at);
        let sum = |end: u64| -> u64 {
            let within = self.0.iter().filter(|(at, _)| *at <= end && *at + period > end);
            within.map(|(_, weight)| weight).sum()
        };
        ends.map(sum).max().unwrap_or(0)
    }
}

fn arrivals() -> impl Strategy<Value = (u32, u64, Vec<(u64, u32)>)> {
    (1_u32..60, 1_u64..3_000_000).prop_flat_map(|(quota, period)| {
        let gap = prop_oneof![4 => Just(0), 8 => 0..period / 8 + 2, 1 => 0..period * 2];
        let steps = prop::collection::vec((gap, 0..quota / 4 + 3), 1..200);
        (Just(quota), Just(period), steps)
    })
}

proptest! {
    #[test]
    fn no_span_of_a_period_sees_more_than_a_sliding_quota((quota, period, steps) in arrivals()) {
        let (limits, mut book, mut now) = (limits(), Book::default(), START);
        let width = period.div_ceil(15);
        for (gap, weight) in steps {
            now = now + Duration::from_micros(gap);
            let before = book.since(now.0.saturating_sub(period) + 1);
            // The oldest that may still count: fifteen whole spans before the present one.
            let oldest = (now.0 / width).saturating_sub(15) * width;
            match spend(&limits, now, &[cost(Window::Sliding, quota, period, weight)]) {
                Ok(levels) => {
                    prop_assert!(weight == 0 || before + u64::from(weight) <= u64::from(quota));
                    prop_assert_eq!(u64::from(levels[0]), book.since(oldest) + u64::from(weight));
                    book.0.push((now.0, u64::from(weight)));
                }
                Err(Refusal::Over { level, .. }) => {
                    prop_assert!(book.since(oldest) + u64::from(weight) > u64::from(quota));
                    prop_assert_eq!(u64::from(level), book.since(oldest));
                }
                Err(Refusal::Full) => prop_assert!(false),
            }
        }
        prop_assert!(book.most_in_any(period) <= u64::from(quota));
    }

    #[test]
    fn a_fixed_window_admits_exactly_what_is_left_of_its_quota((quota, period, steps) in arrivals()) {
        let (limits, mut book, mut now) = (limits(), Book::default(), START);
        for (gap, weight) in steps {
            now = now + Duration::from_micros(gap);
            let spent = book.since(now.0 / period * period);
            let fits = weight == 0 || spent + u64::from(weight) <= u64::from(quota);
            let answer = spend(&limits, now, &[cost(Window::Fixed, quota, period, weight)]);
            prop_assert_eq!(answer.is_ok(), fits, "{} {} {:?}", spent, weight, answer);
            if let Ok(levels) = answer {
                prop_assert_eq!(u64::from(levels[0]), spent + u64::from(weight));
                book.0.push((now.0, u64::from(weight)));
            }
        }
    }

    #[test]
    fn a_refused_charge_fits_after_exactly_the_wait_it_was_told(
        (quota, period, steps) in arrivals(), weight in 1_u32..40, sliding: bool,
    ) {
        let window = if sliding { Window::Sliding } else { Window::Fixed };
        let (limits, mut now) = (limits(), START);
        for (gap, weight) in steps {
            now = now + Duration::from_micros(gap);
            let _ignored = spend(&limits, now, &[cost(window, quota, period, weight)]);
        }
        let wanted = [cost(window, quota, period, weight)];
        if let Err(Refusal::Over { retry_after, .. }) = spend(&limits, now, &wanted) {
            if weight > quota {
                prop_assert_eq!(retry_after, Duration::from_micros(period));
            } else {
                prop_assert!(retry_after > Duration::ZERO);
                prop_assert!(spend(&limits, now + retry_after - MICRO, &wanted).is_err());
                prop_assert!(spend(&limits, now + retry_after, &wanted).is_ok());
            }
        }
    }

    #[test]
    fn a_charge_that_comes_late_is_counted_where_the_others_are(
        quota in 1_u32..20,
        period in 15_u64..100_000,
        sliding: bool,
        arrivals in prop::collection::vec((0_u64..400_000, 1_u32..4, 0_u64..40), 1..150),
    ) {
        let window = if sliding { Window::Sliding } else { Window::Fixed };
        let (limits, mut book) = (limits(), Book::default());
        for (at, weight, other) in arrivals {
            let now = START + Duration::from_micros(at);
            let one = cost(window, quota, period, weight);
            // Others come and go, so that cells are dropped and found absent.
            let _ignored = spend(&limits, now, &[Cost { subject: Subject(100 + other), ..one }]);
            if let Ok(levels) = spend(&limits, now, &[one]) {
                prop_assert!(levels.at >= now);
                book.0.push((levels.at.0, u64::from(weight)));
            }
        }
        if sliding {
            prop_assert!(book.most_in_any(period) <= u64::from(quota));
        } else {
            for (at, _) in book.0.clone() {
                let (from, end) = (at / period * period, at / period * period + period);
                prop_assert!(book.since(from) - book.since(end) <= u64::from(quota));
            }
        }
    }

    #[test]
    fn a_bucket_agrees_with_governor(
        quota in 1_u32..50,
        steps in prop::collection::vec((0_u64..400, 1_u32..8), 1..150),
    ) {
        // A period that the quota divides: governor counts in whole nanoseconds.
        let period = Duration::from_millis(10) * quota;
        let clock = FakeRelativeClock::default();
        let rate = Quota::with_period(Duration::from_millis(10)).unwrap();
        let theirs = RateLimiter::direct_with_clock(
            rate.allow_burst(NonZeroU32::new(quota).unwrap()),
            clock.clone(),
        );
        let ours = limits();
        let begun = clock.now();
        for (gap, weight) in steps {
            clock.advance(Duration::from_micros(gap * 100));
            let now = START + Duration::from_nanos(clock.now().duration_since(begun).as_u64());
            let cost = cost(Window::Bucket, quota, u64::try_from(period.as_micros()).unwrap(), weight);
            let allowed = matches!(theirs.check_n(NonZeroU32::new(weight).unwrap()), Ok(Ok(())));
            prop_assert_eq!(spend(&ours, now, &[cost]).is_ok(), allowed);
        }
    }

    #[test]
    fn what_is_given_back_never_lets_a_window_see_more_than_its_quota(
        quota in 1_u32..20,
        period in 15_u64..1_000_000,
        sliding: bool,
        steps in prop::collection::vec((0_u64..60_000, 1_u32..4, any::<prop::sample::Index>(), 0_u8..3), 1..150),
    ) {
        let window = if sliding { Window::Sliding } else { Window::Fixed };
        let (limits, mut now) = (limits(), START);
        // What was admitted and not given back, and what may be given back yet.
        let (mut book, mut open) = (Book::default(), Vec::new());
        for (gap, weight, which, act) in steps {
            now = now + Duration::from_micros(gap);
            if act == 0 && !open.is_empty() {
                let (at, weight) = open.remove(which.index(open.len()));
                limits.refund(Micros(at), now, &[cost(window, quota, period, weight)]);
                let place = book.0.iter().position(|one| *one == (at, u64::from(weight)));
                book.0.remove(place.unwrap());
            } else if let Ok(levels) = spend(&limits, now, &[cost(window, quota, period, weight)]) {
                book.0.push((levels.at.0, u64::from(weight)));
                open.push((levels.at.0, weight));
            }
            let bound = if sliding { book.most_in_any(period) } else { book.since(now.0 / period * period) };
            prop_assert!(bound <= u64::from(quota));
        }
    }

    #[test]
    fn what_a_bucket_gives_back_lets_no_span_see_more_than_rate_and_burst(
        quota in 1_u32..10,
        period in 1_000_u64..1_000_000,
        steps in prop::collection::vec((0_u64..200_000, 1_u32..4, any::<prop::sample::Index>(), 0_u8..3), 1..120),
    ) {
        let (limits, mut now) = (limits(), START);
        let (mut book, mut open) = (Book::default(), Vec::new());
        for (gap, weight, which, act) in steps {
            now = now + Duration::from_micros(gap);
            if act == 0 && !open.is_empty() {
                let (at, weight) = open.remove(which.index(open.len()));
                limits.refund(Micros(at), now, &[cost(Window::Bucket, quota, period, weight)]);
                let place = book.0.iter().position(|one| *one == (at, u64::from(weight)));
                book.0.remove(place.unwrap());
            } else if spend(&limits, now, &[cost(Window::Bucket, quota, period, weight)]).is_ok() {
                book.0.push((now.0, u64::from(weight)));
                open.push((now.0, weight));
            }
        }
        for from in 0..book.0.len() {
            let mut units = 0;
            for (at, weight) in &book.0[from..] {
                units += weight;
                let span = at - book.0[from].0;
                let most = u128::from(quota) * u128::from(span + period);
                prop_assert!(u128::from(units) * u128::from(period) <= most, "{} in {}", units, span);
            }
        }
    }
}

#[test]
fn a_steady_client_gets_fifteen_sixteenths_of_a_sliding_quota() {
    let limits = limits();
    let mut admitted = 0_u32;
    // 160 in 15 s, asked for a hundred times as often, for 20 periods.
    for at in 0..20 * 15_000 {
        let now = Micros(START.0 / 1_000_000 * 1_000_000) + Duration::from_millis(at);
        admitted +=
            u32::from(spend(&limits, now, &[cost(Window::Sliding, 160, 15_000_000, 1)]).is_ok());
    }
    assert!((20 * 150..=20 * 160 + 160).contains(&admitted), "{admitted}");
}

#[test]
fn a_limit_in_shadow_lets_pass_and_tells_what_did_not_fit() {
    for window in [Window::Bucket, Window::Sliding, Window::Fixed] {
        let limits = limits();
        let watched = Cost { shadow: true, ..cost(window, 3, 60_000_000, 2) };
        let enforced = Cost { subject: Subject(77), ..cost(window, 100, 60_000_000, 1) };
        let level = |limits: &Limits| spend(limits, START, &[watched, enforced]).unwrap().to_vec();
        assert_eq!(level(&limits), [2, 1], "{window:?}");
        // It would have been 4 of 3; what did not fit was not charged, so one more unit fits.
        assert_eq!(level(&limits), [4, 2], "{window:?}");
        let one = Cost { weight: 1, ..watched };
        assert_eq!(spend(&limits, START, &[one]).unwrap()[..], [3], "{window:?}");
        let large = Cost { weight: 9, ..watched };
        assert_eq!(spend(&limits, START, &[large]).unwrap()[..], [12], "{window:?}");
    }
}

#[test]
fn kinds_are_charged_together_or_not_at_all() {
    let limits = limits();
    let all = [
        cost(Window::Bucket, 5, 60_000_000, 1),
        cost(Window::Sliding, 4, 60_000_000, 1),
        cost(Window::Fixed, 3, 60_000_000, 1),
    ];
    for spent in 1..=3 {
        assert_eq!(spend(&limits, START, &all).unwrap()[..], [spent; 3]);
    }
    for _ in 0..3 {
        let over = spend(&limits, START, &all).unwrap_err();
        assert!(matches!(over, Refusal::Over { cost: 2, level: 3, .. }), "{over:?}");
    }
    assert_eq!(spend(&limits, START, &all[..2]).unwrap()[..], [4, 4]);
    let over = spend(&limits, START, &all[..2]).unwrap_err();
    assert!(matches!(over, Refusal::Over { cost: 1, level: 4, .. }), "{over:?}");
}

#[test]
fn windows_that_come_and_go_take_no_more_room_than_those_that_are_live() {
    let limits = Limits::new(Mixer::seeded().unwrap(), 0, 10_000);
    for subject in 0..30_000_u64 {
        let now = START + Duration::from_millis(subject);
        let one = Cost { subject: Subject(subject), ..cost(Window::Fixed, 1, 100_000, 1) };
        spend(&limits, now, &[one]).unwrap();
    }
    assert!(limits.live() < 100 * 8, "{}", limits.live());
    let limits = Limits::new(Mixer::seeded().unwrap(), 0, 1);
    let one = cost(Window::Fixed, 1, 1_000_000, 1);
    assert!(spend(&limits, START, &[one]).is_ok());
    let other = Cost { subject: Subject(99), ..one };
    assert_eq!(spend(&limits, START, &[other]).unwrap_err(), Refusal::Full);
    limits.sweep(START + Duration::from_secs(2));
    assert!(spend(&limits, START + Duration::from_secs(2), &[other]).is_ok());
}
